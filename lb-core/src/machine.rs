//! What a balancer needs of the machine that it starts on. A start stops at the first thing that is missing; who asks before
//! is told of everything.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use crate::config::{Bind, Config};
use crate::control::{connections_possible, explain_bind};
use crate::sys::ring::{self, Missing};
use crate::sys::{affinity, limits, socket};

/// Locked memory that the control plane insists on.
const LOCKED_MEMORY_MIN: u64 = 512 * 1024;

/// Something that keeps a balancer from starting. Displayed it is one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found}: {remedy}")]
pub struct Obstacle {
    /// What was found.
    pub found: String,
    /// What to do.
    pub remedy: String,
}

impl Obstacle {
    pub(crate) fn new(found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { found: found.into(), remedy: remedy.into() }
    }
}

/// One thing that a balancer needs of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelCheck {
    /// What is needed.
    pub name: &'static str,
    /// What is there, or what is missing.
    pub outcome: Result<String, Obstacle>,
}

/// Looks for everything that a balancer needs of the kernel, in the way that a start does. What can't be looked for because
/// of what is missing before is left out.
pub fn check_kernel() -> Vec<KernelCheck> {
    let mut checks = Vec::new();
    let mut check = |name, outcome: Result<String, Obstacle>| {
        let is_there = outcome.is_ok();
        checks.push(KernelCheck { name, outcome });
        is_there
    };
    let allowed = ring::try_plain().map(|()| "allowed".to_owned()).map_err(|error| explain(&error));
    if check("io_uring", allowed) {
        for (name, since, missing) in ring::features() {
            let outcome = match missing {
                None => Ok(format!("there (since Linux {since})")),
                Some(Missing::Failed(error)) if error.raw_os_error() != Some(libc::EINVAL) => Err(explain(&error)),
                Some(Missing::Failed(_)) => Err(too_old(&format!("{name} is missing"))),
                Some(Missing::Parts(parts)) => Err(too_old(&format!("{} are missing", parts.join(", ")))),
            };
            check(name, outcome);
        }
    }
    check("locked memory", check_locked_memory(limits::locked_memory()));
    checks
}

fn check_locked_memory(bytes: u64) -> Result<String, Obstacle> {
    match bytes {
        u64::MAX => Ok("no limit".to_owned()),
        LOCKED_MEMORY_MIN.. => Ok(format!("{} KiB may be locked", bytes / 1024)),
        _ => Err(Obstacle::new(
            format!("only {} KiB of memory may be locked, {} are needed", bytes / 1024, LOCKED_MEMORY_MIN / 1024),
            "raise LimitMEMLOCK= of the unit or `ulimit -l`",
        )),
    }
}

fn too_old(missing: &str) -> Obstacle {
    let release = release();
    Obstacle::new(
        format!("this kernel's io_uring is too old, {missing}"),
        format!("Linux 6.1 or newer is needed, this is {release}"),
    )
}

/// What a failure to set up a ring means to the operator.
pub(crate) fn explain(error: &io::Error) -> Obstacle {
    let failed = |why: &str, remedy: &str| Obstacle::new(format!("can't set up an io_uring ({error}), {why}"), remedy);
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => {
            let obstacle = Ban::read().explain(error.raw_os_error() == Some(libc::ENOSYS));
            Obstacle { found: format!("can't set up an io_uring ({error}), {}", obstacle.found), ..obstacle }
        }
        Some(libc::EINVAL) => failed("this kernel's is too old", "Linux 6.1 or newer is needed"),
        Some(libc::ENOMEM) => failed(
            "not enough memory may be locked for the rings",
            "raise LimitMEMLOCK= of the unit or `ulimit -l` to 8 MiB or more",
        ),
        Some(libc::EMFILE | libc::ENFILE) => {
            failed("no descriptors are left", "raise LimitNOFILE= of the unit or `ulimit -n`")
        }
        _ => failed("which is unexpected", "see whether the kernel's log says more"),
    }
}

/// What may forbid io_uring.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ban {
    /// The sysctl; kernels have it since 6.6 where they have io_uring.
    disabled: Option<u8>,
    /// Whether system calls go through a seccomp filter.
    is_filtered: bool,
    home: Home,
    release: String,
}

/// Who has set the filter up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    Docker,
    Podman,
    Kubernetes,
    /// A unit of systemd.
    Unit,
    Unknown,
}

const CALLS: &str = "io_uring_setup, io_uring_enter and io_uring_register";

impl Ban {
    fn read() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let is_set = |name: &str| std::env::var_os(name).is_some();
        let home = match () {
            () if is_set("KUBERNETES_SERVICE_HOST") => Home::Kubernetes,
            () if Path::new("/run/.containerenv").exists() => Home::Podman,
            () if Path::new("/.dockerenv").exists() => Home::Docker,
            () if is_set("INVOCATION_ID") => Home::Unit,
            () => Home::Unknown,
        };
        let status = read("/proc/self/status");
        let seccomp = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
        Self {
            disabled: read("/proc/sys/kernel/io_uring_disabled").trim().parse().ok(),
            is_filtered: seccomp.is_some_and(|mode| mode.trim() == "2"),
            home,
            release: release(),
        }
    }

    /// `is_unknown`: the kernel says that it has no such call, instead of that it is forbidden.
    fn explain(&self, is_unknown: bool) -> Obstacle {
        match (self.disabled, self.is_filtered, is_unknown) {
            (Some(2..), _, false) => Obstacle::new(
                "it is forbidden by the sysctl kernel.io_uring_disabled, which is 2",
                "set it to 0 with `sysctl -w kernel.io_uring_disabled=0` and in a file of /etc/sysctl.d",
            ),
            (Some(1), false, false) => Obstacle::new(
                "it is forbidden by the sysctl kernel.io_uring_disabled, which is 1: only root and one group may use it",
                "set it to 0, or the sysctl kernel.io_uring_group to the number of the group that lb runs as",
            ),
            (_, true, false) => Obstacle::new("it is forbidden by a seccomp filter", self.unfilter()),
            // A filter may answer so too, as Podman's does; a kernel with the sysctl has the calls.
            (disabled, true, true) if disabled.is_some() || self.home == Home::Podman => {
                Obstacle::new("it is hidden by a seccomp filter", self.unfilter())
            }
            (_, _, true) => Obstacle::new(
                "this kernel has none",
                format!("Linux 6.1 or newer with CONFIG_IO_URING is needed, this is {}", self.release),
            ),
            (_, false, false) => Obstacle::new(
                "it is forbidden here",
                format!(
                    "set the sysctl kernel.io_uring_disabled to 0, allow {CALLS} in the container's seccomp profile, or \
                     allow it in the policy of SELinux or AppArmor"
                ),
            ),
        }
    }

    /// How to get the calls through the filter.
    fn unfilter(&self) -> String {
        let profile = format!("a copy of its default profile to which {CALLS} are added");
        match self.home {
            Home::Docker => format!(
                "Docker's default profile has left them out since 25.0: `docker run --security-opt seccomp=FILE` with {profile}"
            ),
            Home::Podman => format!("`podman run --security-opt seccomp=FILE` with {profile}"),
            Home::Kubernetes => format!(
                "the default profile of containerd has left them out since 2.0: give the pod `seccompProfile: {{type: Localhost, \
                 localhostProfile: FILE}}` with {profile}"
            ),
            Home::Unit => {
                "add `SystemCallFilter=io_uring_setup io_uring_enter io_uring_register` to the unit".to_owned()
            }
            Home::Unknown => format!("allow {CALLS} in the profile of the container or the unit that lb runs in"),
        }
    }
}

/// The kernel's version, for people.
fn release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    release.map_or_else(|_| "of unknown version".to_owned(), |release| release.trim().to_owned())
}

/// How many connections descriptors are enough for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescriptorCheck {
    /// The most descriptors that the process may have.
    pub limit: u64,
    /// The most connections that are possible with them.
    pub connections: u32,
    /// What is to be said if the configuration wants more.
    pub warning: Option<String>,
}

/// Raises the soft limit of descriptors to the hard one, as a start does, and tells how far that goes.
pub fn check_descriptors(config: &Config) -> DescriptorCheck {
    let cores = affinity::allowed_cores().map_or(1, |cores| cores.len());
    let shards = config.shards.map_or(cores, usize::from).max(1);
    let limit = limits::raise_descriptors();
    let (connections, warning) = connections_possible(config, shards, limit);
    DescriptorCheck { limit, connections, warning }
}

/// Looks whether a frontend could accept on `addr` alone, as a start does.
///
/// # Errors
/// It could not.
pub fn check_bind(addr: SocketAddr) -> Result<(), Obstacle> {
    socket::bound(addr, false).map(drop).map_err(|error| explain_bind(Bind::Addr(addr), &error))
}

impl fmt::Display for KernelCheck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Ok(found) => write!(formatter, "{}: {found}", self.name),
            Err(obstacle) => write!(formatter, "{}: {obstacle}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(disabled: Option<u8>, is_filtered: bool, home: Home, is_unknown: bool) -> String {
        Ban { disabled, is_filtered, home, release: "6.8.0".to_owned() }.explain(is_unknown).to_string()
    }

    #[test]
    fn who_forbids_io_uring_is_named_and_how_to_allow_it() {
        for (disabled, is_filtered, home, is_unknown, who, how) in [
            (Some(2), true, Home::Docker, false, "kernel.io_uring_disabled, which is 2", "sysctl -w"),
            (Some(1), false, Home::Unit, false, "which is 1: only root and one group", "kernel.io_uring_group"),
            (Some(0), true, Home::Docker, false, "a seccomp filter", "docker run --security-opt"),
            (Some(0), true, Home::Kubernetes, false, "a seccomp filter", "localhostProfile"),
            (Some(0), true, Home::Unit, false, "a seccomp filter", "SystemCallFilter=io_uring_setup"),
            (None, true, Home::Unknown, false, "a seccomp filter", "io_uring_setup, io_uring_enter and"),
            (None, true, Home::Podman, true, "hidden by a seccomp filter", "podman run --security-opt"),
            (Some(0), true, Home::Docker, true, "hidden by a seccomp filter", "docker run"),
            (None, false, Home::Unknown, true, "this kernel has none", "6.1 or newer with CONFIG_IO_URING"),
            (Some(0), false, Home::Unknown, false, "forbidden here", "kernel.io_uring_disabled"),
        ] {
            let text = explained(disabled, is_filtered, home, is_unknown);
            assert!(text.contains(who) && text.contains(how), "{disabled:?} {is_filtered} {home:?}: {text}");
        }
    }

    #[test]
    fn little_locked_memory_is_an_obstacle() {
        let obstacle = check_locked_memory(64 * 1024).unwrap_err();
        assert_eq!(
            obstacle.to_string(),
            "only 64 KiB of memory may be locked, 512 are needed: raise LimitMEMLOCK= of the unit or `ulimit -l`"
        );
        assert!(check_locked_memory(LOCKED_MEMORY_MIN).is_ok() && check_locked_memory(u64::MAX).is_ok());
    }

    #[test]
    fn a_machine_on_which_tests_run_has_all_that_is_needed() {
        let checks = check_kernel();
        assert!(checks.len() >= 6, "{checks:?}");
        checks.iter().for_each(|check| assert!(check.outcome.is_ok(), "{check}"));
    }

    #[test]
    fn an_address_that_is_taken_or_of_another_host_is_an_obstacle() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap();
        assert_eq!(check_bind(addr).unwrap_err().found, format!("{addr} is in use by another program"));
        drop(taken);
        assert_eq!(check_bind(addr), Ok(()));
        assert!(check_bind("192.0.2.1:80".parse().unwrap()).unwrap_err().found.contains("not an address of this host"));
    }
}
