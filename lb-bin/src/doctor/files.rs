//! What a configuration names: addresses, certificates, files and folders.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use lb_core::config::{Bind, Config};
use lb_core::{Balancer, CertificateStatus, Obstacle};
use rustix::fs::{Access, AtFlags, CWD, accessat, statvfs};
use rustix::net::sockopt::socket_peercred;

use super::finding::{Finding, Verdict};
use super::holders::{Holder, holders, names};
use crate::config::{self, count};
use crate::paths::{self, with_suffix};
use crate::settings::{ConsoleSettings, MetricsAt, Settings};
use crate::state::Found;
use crate::{admin, certificates, console};

/// An address that is to be listened at.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// Who does: `frontend web`.
    pub(super) owner: String,
    pub(super) addr: SocketAddr,
    pub(super) outcome: Result<(), Obstacle>,
    pub(super) holders: Vec<Holder>,
}

/// The addresses of a configuration.
pub(super) fn wanted(config: &Config, settings: &Settings) -> Vec<(String, SocketAddr)> {
    let frontends = config.frontends.iter().filter_map(|frontend| match frontend.bind() {
        Bind::Addr(addr) => Some((format!("frontend {}", frontend.name()), addr)),
        Bind::Inherited(_) => None,
    });
    let metrics = settings.metrics.iter().filter_map(|at| match at {
        MetricsAt::Tcp(addr) => Some(("metrics".to_owned(), *addr)),
        MetricsAt::Unix(_) => None,
    });
    let console = settings.console.iter().map(|console: &ConsoleSettings| ("console".to_owned(), console.bind()));
    frontends.chain(metrics).chain(console).collect()
}

impl Address {
    pub(super) fn read((owner, addr): (String, SocketAddr)) -> Self {
        let outcome = lb_core::check_bind(addr);
        let holders = if outcome.is_err() { holders(addr) } else { Vec::new() };
        Self { owner, addr, outcome, holders }
    }

    /// `running` is the process of the balancer that answers at the admin socket: it may have what it is to have.
    pub(super) fn finding(&self, running: Option<u32>) -> Finding {
        let check = format!("address of {}", self.owner);
        let Some(obstacle) = self.obstacle() else {
            return Finding::ok(&check, format!("{} is free", self.addr));
        };
        match self.holders.iter().find(|holder| Some(holder.process) == running) {
            Some(holder) => {
                Finding::ok(&check, format!("the balancer of process {} has {}", holder.process, self.addr))
            }
            None => Finding::obstacle(&check, &obstacle),
        }
    }

    /// Why it can't be had, with the name of who has it.
    pub(super) fn obstacle(&self) -> Option<Obstacle> {
        let obstacle = self.outcome.clone().err()?;
        let found = match names(&self.holders) {
            Some(names) => obstacle.found.replace("another program", &names),
            None => obstacle.found,
        };
        Some(Obstacle { found, ..obstacle })
    }
}

/// Whether the configuration is good, and what may surprise in it. What is looked at, and returned, is what would run:
/// the file, with what was changed at run time.
pub(super) fn configuration(path: &Path) -> (Vec<Finding>, Option<(Config, Settings)>) {
    const CHECK: &str = "configuration";
    let refused = |reason: String| vec![Finding::failure(CHECK, reason, "mend it there")];
    let source = config::read_whole(path).and_then(|source| match &source.settings.console {
        Some(_) => console::check_token(path).map(|()| source),
        None => Ok(source),
    });
    let source = match source {
        Ok(source) => source,
        Err(reason) => return (refused(reason), None),
    };
    let state = Found::look(path, source.hash, &source.config);
    let config = state.merged(&source.config);
    let builder = Balancer::builder().config(config.clone());
    match (builder.check(), builder.certificates()) {
        (Ok(warnings), Ok(certificates)) => {
            let servers: usize = config.frontends.iter().map(|frontend| frontend.servers().len()).sum();
            let (frontends, servers) = (count(config.frontends.len(), "frontend"), count(servers, "server"));
            let good = Finding::ok(CHECK, format!("{}: {frontends} with {servers}", path.display()));
            let findings = [good].into_iter().chain(changes(path, &state)).chain(warned(&warnings, &certificates));
            (findings.collect(), Some((config, source.settings)))
        }
        (Err(reason), _) | (_, Err(reason)) => (refused(format!("{}: {reason}", path.display())), None),
    }
}

/// What becomes of the changes that were made at run time.
fn changes(path: &Path, state: &Found) -> Option<Finding> {
    const CHECK: &str = "changes at run time";
    let file = with_suffix(path, ".state");
    match state {
        Found::Current { kept, .. } => {
            Some(Finding::ok(CHECK, format!("{} goes on from revision {}", file.display(), kept.revision)))
        }
        Found::Outdated(kept) if !kept.history.is_empty() => Some(Finding::warning(
            CHECK,
            format!("{} was edited since the last change: a start sets {} aside", path.display(), file.display()),
            "see that this is meant: what was changed at run time is not in effect then",
        )),
        Found::Damaged(reason) => Some(Finding::warning(
            CHECK,
            format!("{} can't be read: {reason}", file.display()),
            "put it right, or a start sets it aside and runs without what was changed at run time",
        )),
        Found::Nothing | Found::Outdated(_) => None,
    }
}

/// The warnings of the library, those about a certificate at the certificate.
fn warned(warnings: &[String], certificates: &[CertificateStatus]) -> Vec<Finding> {
    let is_about = |warning: &str, certificate: &CertificateStatus| {
        let name = warning.strip_prefix("certificate ").and_then(|rest| rest.split([' ', ',']).next());
        name == Some(certificate.name.as_str())
    };
    let of_certificates = certificates.iter().map(|certificate| {
        let check = format!("certificate {}", certificate.name);
        match warnings.iter().find(|warning| is_about(warning, certificate)) {
            None => Finding::ok(&check, format!("expires in {}", count(certificate.expires_in_days as usize, "day"))),
            Some(warning) => {
                let verdict = if certificate.expires_in_days < 0 { Verdict::Failure } else { Verdict::Warning };
                let remedy = "renew it, and reload with SIGHUP or `lb certificate update`";
                Finding { verdict, ..Finding::warning(&check, warning, remedy) }
            }
        }
    });
    let others = warnings.iter().filter(|warning| !certificates.iter().any(|one| is_about(warning, one)));
    let others = others.map(|warning| Finding::warning("configuration", warning, "see that this is meant"));
    of_certificates.chain(others).collect()
}

/// A file that holds a secret.
#[derive(Debug, Clone)]
pub(super) struct Secret {
    pub(super) path: PathBuf,
    /// Its permissions, `None` if they can't be read.
    pub(super) mode: Option<u32>,
}

impl Secret {
    /// The secrets that a configuration holds or names.
    pub(super) fn read_all(path: &Path, settings: &Settings) -> Vec<Self> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let password = settings.console.as_ref().and_then(ConsoleSettings::password_file);
        let mut paths = certificates::secret_files(path);
        paths.extend(password.map(|file| folder.join(file)));
        let mode = |path: &Path| fs::metadata(path).map(|metadata| metadata.permissions().mode() & 0o777).ok();
        paths.into_iter().map(|path| Self { mode: mode(&path), path }).collect()
    }

    pub(super) fn finding(&self) -> Option<Finding> {
        let (check, mode) = (format!("secrets in {}", self.path.display()), self.mode?);
        Some(match mode & 0o027 {
            0 => Finding::ok(&check, format!("mode {mode:04o}")),
            _ => {
                let who =
                    if mode & 0o007 == 0 { "its group can write it" } else { "every user of the machine can reach it" };
                Finding::warning(
                    &check,
                    format!("{who}, mode {mode:04o}"),
                    format!("`chmod 640 {}`", self.path.display()),
                )
            }
        })
    }
}

/// The folder in which changes are kept.
#[derive(Debug, Clone)]
pub(super) struct StateFolder {
    pub(super) path: PathBuf,
    /// The bytes that are free, or why nothing can be written.
    pub(super) free: Result<u64, String>,
}

impl StateFolder {
    pub(super) fn read(config: &Path) -> Self {
        let state = with_suffix(config, ".state");
        let folder = state.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let free = accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
            .and_then(|()| statvfs(folder))
            .map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))
            .map_err(|error| std::io::Error::from(error).to_string());
        Self { path: folder.to_owned(), free }
    }

    pub(super) fn finding(&self) -> Finding {
        const ENOUGH: u64 = 16 << 20;
        let (check, path) = ("folder of the state", self.path.display());
        match &self.free {
            Ok(ENOUGH..) => Finding::ok(check, format!("{path} can be written")),
            Ok(free) => Finding::warning(
                check,
                format!("{path} has room for {} KiB only", free / 1024),
                "make room: a change that can't be kept is refused",
            ),
            Err(why) => Finding::warning(
                check,
                format!("nothing can be written in {path}: {why}"),
                "let the user that runs lb write there, or link the configuration into another folder: changes are refused",
            ),
        }
    }
}

/// What is known of the admin socket's place.
#[derive(Debug, Clone)]
pub(super) enum AdminPlace {
    /// A balancer answers there.
    Answers {
        path: PathBuf,
        process: Option<u32>,
    },
    Free(PathBuf),
    /// It can't be used: why.
    Bad(String),
}

impl AdminPlace {
    pub(super) fn read(admin: Option<&Path>) -> Self {
        let path = match paths::admin_socket(admin) {
            Ok(path) => path,
            Err(why) => return Self::Bad(why),
        };
        if let Ok(stream) = UnixStream::connect(&path) {
            let process = socket_peercred(&stream).ok().map(|peer| peer.pid.as_raw_pid().unsigned_abs());
            return Self::Answers { path, process };
        }
        admin::check_place(&path).map_or_else(Self::Bad, |()| Self::Free(path))
    }

    pub(super) fn process(&self) -> Option<u32> {
        match self {
            Self::Answers { process, .. } => *process,
            _ => None,
        }
    }

    pub(super) fn finding(&self) -> Finding {
        let check = "admin socket";
        match self {
            Self::Answers { path, process: Some(process) } => {
                Finding::ok(check, format!("the balancer of process {process} answers at {}", path.display()))
            }
            Self::Answers { path, process: None } => {
                Finding::ok(check, format!("a balancer answers at {}", path.display()))
            }
            Self::Free(path) => Finding::ok(check, format!("{} can be made", path.display())),
            Self::Bad(why) => Finding::failure(check, why, "name another place with --admin PATH"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(found: Option<&str>, holders: &[(u32, &str)]) -> Address {
        let obstacle = |found: &str| Obstacle { found: found.to_owned(), remedy: "stop it".to_owned() };
        let holders = holders.iter().map(|(process, name)| Holder { process: *process, name: (*name).to_owned() });
        Address {
            owner: "frontend web".to_owned(),
            addr: "127.0.0.1:80".parse().unwrap(),
            outcome: found.map_or(Ok(()), |found| Err(obstacle(found))),
            holders: holders.collect(),
        }
    }

    const IN_USE: &str = "127.0.0.1:80 is in use by another program";

    #[test]
    fn who_has_an_address_is_named() {
        for (holders, found) in [
            (&[(7, "nginx")][..], "127.0.0.1:80 is in use by nginx (process 7)"),
            (&[(7, "nginx"), (9, "lb")], "127.0.0.1:80 is in use by nginx (process 7) and lb (process 9)"),
            (&[], IN_USE),
        ] {
            let finding = address(Some(IN_USE), holders).finding(None);
            assert_eq!(finding, Finding::failure("address of frontend web", found, "stop it"));
        }
        assert_eq!(address(None, &[]).finding(None).verdict, Verdict::Ok);
    }

    #[test]
    fn the_balancer_that_runs_may_have_its_own_address() {
        let taken = address(Some(IN_USE), &[(9, "lb")]);
        let finding = taken.finding(Some(9));
        let expected = (Verdict::Ok, "the balancer of process 9 has 127.0.0.1:80");
        assert_eq!((finding.verdict, finding.found.as_str()), expected);
        assert_eq!(taken.finding(Some(8)).verdict, Verdict::Failure);
    }

    fn certificate(name: &str, days: i64) -> CertificateStatus {
        CertificateStatus {
            name: name.parse().unwrap(),
            kind: "pair".to_owned(),
            certificates: 1,
            subject: String::new(),
            names: Vec::new(),
            issuer: String::new(),
            key: String::new(),
            not_after: 0,
            expires_in_days: days,
            used_by: Vec::new(),
        }
    }

    #[test]
    fn warnings_stand_at_their_certificate_and_what_has_expired_is_a_failure() {
        let certificates = [certificate("site", 3), certificate("site2", 90), certificate("old", -1)];
        let warnings = ["certificate site expires in 3 days", "certificate old has expired on 2020-01-02", "no active"];
        let findings = warned(&warnings.map(str::to_owned), &certificates);
        let shown: Vec<_> = findings.iter().map(|finding| (finding.check.as_str(), finding.verdict)).collect();
        let expected = [
            ("certificate site", Verdict::Warning),
            ("certificate site2", Verdict::Ok),
            ("certificate old", Verdict::Failure),
            ("configuration", Verdict::Warning),
        ];
        assert_eq!(shown, expected);
        assert_eq!(findings[1].found, "expires in 90 days");
    }

    #[test]
    fn a_secret_is_for_its_user_and_group_only() {
        for (mode, expected) in [
            (0o600, Verdict::Ok),
            (0o640, Verdict::Ok),
            (0o400, Verdict::Ok),
            (0o644, Verdict::Warning),
            (0o660, Verdict::Warning),
            (0o601, Verdict::Warning),
        ] {
            let secret = Secret { path: PathBuf::from("key.pem"), mode: Some(mode) };
            assert_eq!(secret.finding().unwrap().verdict, expected, "{mode:o}");
        }
        assert_eq!(Secret { path: PathBuf::from("key.pem"), mode: None }.finding(), None);
    }

    #[test]
    fn a_full_or_closed_folder_is_warned_of() {
        let finding = |free| StateFolder { path: PathBuf::from("/var/lib/lb"), free }.finding();
        assert_eq!(finding(Ok(1 << 30)).verdict, Verdict::Ok);
        assert_eq!(finding(Ok(4096)).found, "/var/lib/lb has room for 4 KiB only");
        let closed = finding(Err("Read-only file system".to_owned()));
        assert_eq!(closed.found, "nothing can be written in /var/lib/lb: Read-only file system");
        assert_eq!(closed.verdict, Verdict::Warning);
    }
}
