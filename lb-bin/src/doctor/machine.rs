//! The machine: its kernel, and the limits that a balancer lives with.

use std::fs;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use lb_core::config::Config;
use lb_core::{DescriptorCheck, KernelCheck};

use super::finding::Finding;
use crate::config::count;

/// What was read of the machine. What could not be read is `None`, and nothing is said of it.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub(super) kernel: Vec<KernelCheck>,
    pub(super) descriptors: DescriptorCheck,
    pub(super) limits: Limits,
}

/// The limits that a start warns of.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits {
    /// Those of the configuration, or one for each core that the process may run on.
    shards: usize,
    /// What the configuration says; `None` is what is possible.
    max_connections: Option<u32>,
    /// Different addresses of servers.
    servers: usize,
    /// Cores that it may run on all of the time, as far as a quota allows it.
    cores: usize,
    /// `fs.pipe-user-pages-soft`; 0 is no limit, as for the privileged.
    pipe_pages: Option<u64>,
    /// `fs.pipe-max-size`, in bytes.
    pipe_bytes: Option<u64>,
    somaxconn: Option<u64>,
    syn_backlog: Option<u64>,
    /// The ports that the kernel gives to connections to servers.
    ports: Option<(u64, u64)>,
    /// Connections that are tracked, and how many can be.
    conntrack: Option<(u64, u64)>,
    /// Seconds since 1970.
    now: i64,
}

impl Machine {
    /// Reads what a balancer with this configuration would find.
    pub(super) fn read(config: &Config) -> Self {
        let kernel = lb_core::check_kernel();
        Self { kernel, descriptors: lb_core::check_descriptors(config), limits: Limits::read(config) }
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let kernel = self.kernel.iter().map(|check| match &check.outcome {
            Ok(found) => Finding::ok(check.name, found),
            Err(obstacle) => Finding::obstacle(check.name, obstacle),
        });
        kernel.chain([self.descriptors()]).chain(self.limits.findings()).collect()
    }

    fn descriptors(&self) -> Finding {
        let DescriptorCheck { limit, connections, warning } = &self.descriptors;
        match warning {
            Some(warning) => {
                Finding::warning("descriptors", warning, "LimitNOFILE= of the unit raises it for a service")
            }
            // Two for each connection, and a balancer keeps some for itself.
            None if *connections < 1_000 => Finding::warning(
                "descriptors",
                format!("{limit} are allowed, enough for {} only", count(*connections as usize, "connection")),
                "raise `ulimit -n`, or LimitNOFILE= of the unit, to at least 1048576",
            ),
            None => {
                let enough = format!("enough for {}", count(*connections as usize, "connection"));
                Finding::ok("descriptors", format!("{limit} are allowed, {enough}"))
            }
        }
    }
}

impl Limits {
    pub(super) fn read(config: &Config) -> Self {
        let status = read("/proc/self/status");
        let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let capabilities = capabilities.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
        let servers = config.frontends.iter().flat_map(|frontend| frontend.servers());
        let mut servers: Vec<_> = servers.map(|server| server.addr()).collect();
        servers.sort_unstable();
        servers.dedup();
        let net = "/proc/sys/net";
        Self {
            shards: config.shards.map_or_else(allowed_cores, usize::from),
            max_connections: config.max_connections,
            servers: servers.len(),
            cores: thread::available_parallelism().map_or(1, usize::from),
            pipe_pages: if may_exceed_pipes(capabilities) {
                Some(0)
            } else {
                numbers("/proc/sys/fs/pipe-user-pages-soft").next()
            },
            pipe_bytes: if may_exceed_pipes(capabilities) {
                None
            } else {
                numbers("/proc/sys/fs/pipe-max-size").next()
            },
            somaxconn: numbers(&format!("{net}/core/somaxconn")).next(),
            syn_backlog: numbers(&format!("{net}/ipv4/tcp_max_syn_backlog")).next(),
            ports: pair(numbers(&format!("{net}/ipv4/ip_local_port_range"))),
            conntrack: pair(
                numbers(&format!("{net}/netfilter/nf_conntrack_count"))
                    .chain(numbers(&format!("{net}/netfilter/nf_conntrack_max"))),
            ),
            now: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64),
        }
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let some = [
            Some(self.cores()),
            self.pipe_memory(),
            self.pipe_size(),
            self.accept_queue(),
            self.syn_queue(),
            self.ports(),
            self.conntrack(),
            Some(self.clock()),
        ];
        some.into_iter().flatten().collect()
    }

    fn cores(&self) -> Finding {
        let found = format!("{} on {}", count(self.shards, "shard"), count(self.cores, "core"));
        match self.shards > self.cores {
            true => Finding::warning(
                "cores",
                format!("{found}: they get in each other's way"),
                format!("set shards to {}, or allow the process more cores", self.cores),
            ),
            false => Finding::ok("cores", found),
        }
    }

    /// A stream that finds no pipe is copied, which takes more of the CPU.
    fn pipe_memory(&self) -> Option<Finding> {
        // Of 512 KiB each, on pages of 4 KiB.
        const PAGES_PER_PIPE: u64 = 128;
        const PIPES_PER_SHARD: u64 = 16;
        let wanted = PAGES_PER_PIPE * PIPES_PER_SHARD * self.shards as u64;
        Some(match self.pipe_pages? {
            0 => Finding::ok("pipe memory", "no limit"),
            pages if pages >= wanted => Finding::ok("pipe memory", format!("{pages} pages for pipes of this user")),
            pages => Finding::warning(
                "pipe memory",
                format!(
                    "fs.pipe-user-pages-soft allows {pages} pages, enough for {} large pipes",
                    pages / PAGES_PER_PIPE
                ),
                format!("`sysctl -w fs.pipe-user-pages-soft={wanted}`: streams without a pipe are copied"),
            ),
        })
    }

    fn pipe_size(&self) -> Option<Finding> {
        const WANTED: u64 = 512 << 10;
        let bytes = self.pipe_bytes?;
        Some(match bytes >= WANTED {
            true => Finding::ok("pipe size", format!("up to {} KiB", bytes / 1024)),
            false => Finding::warning(
                "pipe size",
                format!("fs.pipe-max-size allows {} KiB", bytes / 1024),
                format!("`sysctl -w fs.pipe-max-size={WANTED}`: streams are spliced in larger pieces"),
            ),
        })
    }

    fn accept_queue(&self) -> Option<Finding> {
        let somaxconn = self.somaxconn?;
        Some(match somaxconn >= 4096 {
            true => Finding::ok("accept queue", format!("{somaxconn} clients may wait to be accepted")),
            false => Finding::warning(
                "accept queue",
                format!("only {somaxconn} clients may wait to be accepted"),
                "`sysctl -w net.core.somaxconn=4096`: in a burst clients wait a second for another try",
            ),
        })
    }

    fn syn_queue(&self) -> Option<Finding> {
        let backlog = self.syn_backlog?;
        Some(match backlog >= 1024 {
            true => Finding::ok("SYN queue", format!("{backlog} handshakes may be under way")),
            false => Finding::warning(
                "SYN queue",
                format!("only {backlog} handshakes of TCP may be under way"),
                "`sysctl -w net.ipv4.tcp_max_syn_backlog=4096`",
            ),
        })
    }

    /// A connection to a server takes a port of ours; the same port can go to another server at the same time.
    fn ports(&self) -> Option<Finding> {
        let (first, last) = self.ports?;
        let ports = last.saturating_sub(first) + 1;
        let possible = ports * self.servers.max(1) as u64;
        let wanted = u64::from(self.max_connections.unwrap_or(0));
        let remedy = "`sysctl -w net.ipv4.ip_local_port_range=\"10240 65535\"`, or more servers";
        Some(match () {
            () if self.servers > 0 && wanted > possible => Finding::warning(
                "ports to servers",
                format!(
                    "{ports} ports to each of {} are fewer than max_connections, {wanted}",
                    count(self.servers, "server")
                ),
                remedy,
            ),
            () if ports < 10_000 => {
                Finding::warning("ports to servers", format!("only {ports} connections to each server"), remedy)
            }
            () => Finding::ok("ports to servers", format!("{ports} connections to each server")),
        })
    }

    /// A connection of a client and the one to its server are two.
    fn conntrack(&self) -> Option<Finding> {
        let (tracked, most) = self.conntrack?;
        let wanted = 2 * u64::from(self.max_connections.unwrap_or(0));
        let (check, remedy) =
            ("conntrack", format!("`sysctl -w net.netfilter.nf_conntrack_max={}`", most.max(wanted) * 2));
        Some(match () {
            () if tracked > most / 4 * 3 => Finding::warning(
                check,
                format!("{tracked} of {most} entries are taken: packets get lost beyond"),
                remedy,
            ),
            () if wanted > most => Finding::warning(
                check,
                format!("{most} entries are fewer than two for each of max_connections, {wanted}"),
                remedy,
            ),
            () => Finding::ok(check, format!("{tracked} of {most} entries are taken")),
        })
    }

    fn clock(&self) -> Finding {
        const START_OF_2025: i64 = 1_735_689_600;
        match self.now >= START_OF_2025 {
            true => Finding::ok("clock", "later than 2025-01-01"),
            false => Finding::warning(
                "clock",
                "it is before 2025: certificates seem not valid yet",
                "set it, and keep it right with chrony or systemd-timesyncd",
            ),
        }
    }
}

fn allowed_cores() -> usize {
    rustix::thread::sched_getaffinity(None).map_or(1, |cores| cores.count() as usize)
}

/// CAP_SYS_RESOURCE and CAP_SYS_ADMIN (pipe(7)).
fn may_exceed_pipes(capabilities: u64) -> bool {
    capabilities & (1 << 24 | 1 << 21) != 0
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The numbers in a file of `/proc/sys`, none if it can't be read.
fn numbers(path: &str) -> impl Iterator<Item = u64> {
    let text = read(path);
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<_>>().into_iter()
}

fn pair(mut numbers: impl Iterator<Item = u64>) -> Option<(u64, u64)> {
    Some((numbers.next()?, numbers.next()?))
}

#[cfg(test)]
mod tests {
    use lb_core::Obstacle;

    use super::super::finding::Verdict;
    use super::*;

    fn good() -> Limits {
        Limits {
            shards: 8,
            max_connections: Some(20_000),
            servers: 2,
            cores: 8,
            pipe_pages: Some(16_384),
            pipe_bytes: Some(1 << 20),
            somaxconn: Some(4096),
            syn_backlog: Some(2048),
            ports: Some((32_768, 60_999)),
            conntrack: Some((10, 262_144)),
            now: 1_800_000_000,
        }
    }

    /// What is not good about it.
    fn troubles(limits: &Limits) -> Vec<String> {
        let findings = limits.findings();
        findings.iter().filter(|finding| finding.verdict != Verdict::Ok).map(Finding::sentence).collect()
    }

    #[test]
    fn a_good_machine_has_nothing_to_be_said_of() {
        assert_eq!(troubles(&good()), Vec::<String>::new());
        assert_eq!(good().findings().len(), 8);
        // Of what can't be read nothing is said.
        assert_eq!(Limits { cores: 1, now: 1_800_000_000, ..Limits::default() }.findings().len(), 2);
    }

    #[test]
    fn each_limit_has_its_sentence() {
        for (limits, found, remedy) in [
            (Limits { shards: 9, pipe_pages: Some(0), ..good() }, "cores: 9 shards on 8 cores", "set shards to 8"),
            (Limits { pipe_pages: Some(1024), ..good() }, "allows 1024 pages, enough for 8 large pipes", "soft=16384`"),
            (Limits { pipe_bytes: Some(65_536), ..good() }, "fs.pipe-max-size allows 64 KiB", "sysctl -w fs.pipe-max"),
            (Limits { somaxconn: Some(128), ..good() }, "only 128 clients may wait", "net.core.somaxconn=4096"),
            (Limits { syn_backlog: Some(128), ..good() }, "only 128 handshakes", "tcp_max_syn_backlog=4096"),
            (Limits { ports: Some((60_000, 60_999)), ..good() }, "1000 ports to each of 2 servers", "port_range"),
            (Limits { ports: Some((60_000, 60_999)), max_connections: None, ..good() }, "only 1000", "port_range"),
            (Limits { conntrack: Some((9_000, 10_000)), ..good() }, "9000 of 10000 entries are taken", "max=80000`"),
            (Limits { conntrack: Some((9, 30_000)), ..good() }, "30000 entries are fewer than two", "max=80000`"),
            (Limits { now: 86_400, ..good() }, "clock: it is before 2025", "chrony"),
        ] {
            let troubles = troubles(&limits);
            assert_eq!(troubles.len(), 1, "{troubles:?}");
            assert!(troubles[0].contains(found) && troubles[0].contains(remedy), "{troubles:?}");
        }
    }

    #[test]
    fn what_the_kernel_lacks_and_too_few_descriptors_are_told_with_the_remedy() {
        let obstacle = Obstacle { found: "it is forbidden".to_owned(), remedy: "allow it".to_owned() };
        let kernel = vec![KernelCheck { name: "io_uring", outcome: Err(obstacle) }];
        let descriptors = DescriptorCheck { limit: 64, connections: 20, warning: None };
        let findings = Machine { kernel, descriptors, limits: good() }.findings();
        assert_eq!(findings[0], Finding::failure("io_uring", "it is forbidden", "allow it"));
        assert_eq!(findings[1].verdict, Verdict::Warning);
        assert_eq!(findings[1].found, "64 are allowed, enough for 20 connections only");
    }
}
