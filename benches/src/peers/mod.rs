//! The balancers that are compared: each a process of its own on the core that is measured, all running all the time.

mod haproxy;
mod lb;
mod nginx;
mod origin;
mod own;

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use haproxy::Forwarding;

pub use lb::{Admin, Lb, build as build_lb};
pub use origin::{LARGE, Origin, SMALL};

/// How long a balancer may take to listen.
const START_WITHIN: Duration = Duration::from_secs(10);
/// Below this a balancer under load could not hold its connections' descriptors.
pub const CONNECTIONS_MAX: u32 = 8000;

/// Where a balancer runs and what it balances.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// A folder for configurations and logs.
    pub folder: &'a Path,
    /// The core it is pinned to.
    pub core: usize,
    /// The servers behind it.
    pub servers: &'a [SocketAddr],
    /// Those behind it where [`Origin`] is meant to be.
    pub origins: &'a [SocketAddr],
    /// The ways into it that are needed; [`Entry::Plain`] is always there. Where one has TLS, the files of
    /// [`crate::tls::Identities::write`] are in the folder.
    pub entries: &'a [Entry],
}

impl<'a> Place<'a> {
    /// Whether it also takes TLS.
    fn has_tls(&self) -> bool {
        self.entries.iter().any(|entry| entry.is_tls())
    }

    /// What stands behind one way into it.
    fn behind(&self, entry: Entry) -> &'a [SocketAddr] {
        if entry.is_to_origin() { self.origins } else { self.servers }
    }
}

/// The way into a balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Entry {
    /// Bytes as they are.
    Plain,
    /// TLS, which ends in the balancer.
    Terminated,
    /// TLS, and again TLS to the server.
    Reencrypted,
    /// Requests of HTTP, each balanced by itself, with cookies by which clients stay on their server.
    Http,
    /// The same, with [`Origin`] behind it.
    HttpToOrigin,
    /// The same by TLS, which ends in the balancer.
    HttpsToOrigin,
}

impl Entry {
    /// Whether clients speak TLS.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Terminated | Self::Reencrypted | Self::HttpsToOrigin)
    }

    /// Whether the balancer reads requests.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::HttpToOrigin | Self::HttpsToOrigin)
    }

    /// Whether [`Origin`] is behind it.
    pub fn is_to_origin(self) -> bool {
        matches!(self, Self::HttpToOrigin | Self::HttpsToOrigin)
    }
}

/// The ports a balancer listens on, on all local addresses.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// That of [`Entry::Plain`].
    pub plain: u16,
    /// By entry; 0: not taken here.
    by_entry: [u16; Entry::HttpsToOrigin as usize + 1],
}

impl Ports {
    /// Ports that are free now, one for each entry. Another process could take one before the balancer does; the balancer then
    /// says so and the run ends.
    fn free(entries: impl IntoIterator<Item = Entry>) -> Result<Self> {
        let mut by_entry = [0; _];
        // All are held until all are known: so they differ.
        let mut listeners = Vec::new();
        for entry in [Entry::Plain].into_iter().chain(entries) {
            let listener = TcpListener::bind("0.0.0.0:0")?;
            by_entry[entry as usize] = listener.local_addr()?.port();
            listeners.push(listener);
        }
        Ok(Self { plain: by_entry[Entry::Plain as usize], by_entry })
    }

    /// The port of an entry, where there is one.
    pub fn of(&self, entry: Entry) -> Option<u16> {
        Some(self.by_entry[entry as usize]).filter(|port| *port != 0)
    }

    /// All of them.
    fn all(self) -> impl Iterator<Item = u16> {
        self.by_entry.into_iter().filter(|port| *port != 0)
    }
}

/// A balancer that is running. It is stopped when this is dropped.
#[derive(Debug)]
pub struct Peer {
    /// Its name in the report.
    pub name: &'static str,
    /// Program and version.
    pub version: String,
    /// Where it listens.
    pub ports: Ports,
    process: Process,
}

impl Peer {
    /// Its process; children of it count as it.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// What it has written since its start, for when it fails.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.process.log).unwrap_or_default()
    }
}

/// The names of all rivals, in the order of the report.
pub const RIVALS: [&str; 5] = ["haproxy", "haproxy-splice", "nginx", "glommio", "epoll"];

/// Starts a build of the balancer `lb`, to be called `name`.
///
/// # Errors
/// It does not start; with what it said.
pub fn start_ours(place: Place<'_>, name: &'static str, program: &Path) -> Result<Peer> {
    lb::start(place, name, program)
}

/// Starts a rival, if its program is there.
///
/// # Errors
/// It is there and does not start; with what it said.
pub fn start_rival(place: Place<'_>, name: &str) -> Result<Option<Peer>> {
    match name {
        "haproxy" => haproxy::start(place, "haproxy", Forwarding::Copying),
        "haproxy-splice" => haproxy::start(place, "haproxy-splice", Forwarding::Splicing),
        "nginx" => nginx::start(place),
        "glommio" => own::start(place, "glommio", "glommio_relay", "glommio 0.9, its streams, one executor"),
        "epoll" => own::start(place, "epoll", "epoll_relay", "one thread, edge-triggered, bulk by splice"),
        _ => Err(format!("no rival is named {name:?}, known are {}", RIVALS.join(", ")).into()),
    }
}

/// A child process that ends with this value, and, should this process be killed, with this process.
#[derive(Debug)]
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` on `core`. It writes into `NAME.log` of the folder.
    fn start(name: &str, place: Place<'_>, program: &Path, arguments: &[&str]) -> Result<Self> {
        let log = place.folder.join(format!("{name}.log"));
        let out = File::create(&log)?;
        // `setpriv` and `taskset` become the program: the process's number stays.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "taskset", "--cpu-list", &place.core.to_string()])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(out.try_clone()?)
            .stdout(out)
            .spawn()
            .map_err(|error| format!("setpriv and taskset (package util-linux): {error}"))?;
        Ok(Self { child, log })
    }

    /// Returns when the process listens on all of `ports`. Does not connect: that would leave a connection behind.
    fn wait_until_listening(&mut self, ports: Ports) -> Result<()> {
        ports.all().try_for_each(|port| self.wait_until_listening_on(port))
    }

    fn wait_until_listening_on(&mut self, port: u16) -> Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        while !is_listening(port)? {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(&self.log).unwrap_or_default();
                return Err(format!("{} does not listen on port {port}: {said}", self.log.display()).into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Asked to end, all of them end at once and take their children with them; killed, nginx would leave its worker.
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_listening(port: u16) -> Result<bool> {
    /// State 0A is LISTEN; the local address ends in the port.
    const LISTEN: &str = "0A";
    let table = fs::read_to_string("/proc/net/tcp")?;
    let wanted = format!(":{port:04X}");
    let matches = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&wanted)) && fields.nth(1) == Some(LISTEN)
    };
    Ok(table.lines().any(matches))
}

/// The first line of what a program says about its version, if there is such a program.
fn version(program: &str, option: &str) -> Option<String> {
    let output = Command::new(program).arg(option).output().ok()?;
    // nginx says it on the error output.
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    Some(String::from_utf8_lossy(&text).lines().next()?.trim().to_owned())
}
