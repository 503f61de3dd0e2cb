//! Real programs in temporary folders, killed when dropped.

mod haproxy;
mod nginx;

pub use haproxy::Haproxy;
pub use nginx::{Nginx, Site};

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::fault::is_root;
use crate::lb::{signal, text};
use crate::pki::Identity;
use crate::wait;

/// A program that serves at an address.
#[derive(Debug)]
pub struct Program {
    command: Command,
    child: Child,
    folder: TempDir,
    addr: SocketAddr,
    /// The signal at which it ends at once and takes its own child processes along.
    stop: &'static str,
}

impl Program {
    pub(crate) fn start(folder: TempDir, mut command: Command, addr: SocketAddr, stop: &'static str) -> Self {
        let log = fs::File::create(folder.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = spawn(&mut command);
        let mut program = Self { command, child, folder, addr, stop };
        program.until_serving();
        program
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sends it a signal, for example `STOP`: from then on the kernel accepts connections for it, but it never answers.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Kills it as a crash would. When this returns its address refuses connections.
    ///
    /// # Panics
    /// If something else listens there.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        wait::until("the address of a killed program refuses", || TcpStream::connect(self.addr).is_err());
    }

    /// Starts it again where it was, after [`Program::kill`], and waits until it serves.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        self.child = spawn(&mut self.command);
        wait::until("a killed program serves again", || {
            // The child processes of a killed PostgreSQL outlive it for a moment, in which another one does not start.
            if self.child.try_wait().unwrap().is_some() {
                self.child = spawn(&mut self.command);
            }
            TcpStream::connect(self.addr).is_ok()
        });
    }

    fn until_serving(&mut self) {
        wait::until("the program serves", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the program ended with {status}: {}", self.log());
            }
            TcpStream::connect(self.addr).is_ok()
        });
    }

    /// What it has written so far on its standard output and standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(self.stop);
            // If it was stopped it takes the signal only now.
            self.signal("CONT");
        }
        let _ = self.child.wait();
    }
}

fn spawn(command: &mut Command) -> Child {
    command.spawn().unwrap_or_else(|error| panic!("can't start {command:?}: {error}"))
}

/// A Redis server without persistence.
#[derive(Debug)]
pub struct Redis {
    program: Program,
}

impl Redis {
    /// Starts it.
    #[allow(clippy::new_without_default, reason = "a default is not expected to start a program")]
    pub fn start() -> Self {
        let folder = TempDir::with_prefix("lb-test-redis-").unwrap();
        let addr = free_addr();
        let mut command = Command::new("redis-server");
        command.args(["--port", &addr.port().to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(folder.path());
        Self { program: Program::start(folder, command, addr, "TERM") }
    }

    /// The program, to be killed or stopped.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.program.addr
    }
}

/// A PostgreSQL server with the user `postgres`, who needs no password.
#[derive(Debug)]
pub struct Postgres {
    program: Program,
}

impl Postgres {
    /// Makes a database and starts the server.
    ///
    /// # Panics
    /// If PostgreSQL is missing or does not start.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// The same, with TLS for the clients that want it.
    ///
    /// # Panics
    /// If PostgreSQL is missing or does not start.
    pub fn start_secure(identity: &Identity) -> Self {
        Self::start_with(Some(identity))
    }

    fn start_with(identity: Option<&Identity>) -> Self {
        let folder = TempDir::with_prefix("lb-test-postgres-").unwrap();
        let (data, addr) = (folder.path().join("data"), free_addr());
        let user = is_root().then(postgres_user);
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let mut initdb = as_user("initdb", user);
        initdb.args(["-A", "trust", "-U", "postgres", "--no-sync", "-D"]).arg(&data);
        succeeds(&mut initdb);
        let mut server = as_user("postgres", user);
        server.arg("-D").arg(&data).args(["-p", &addr.port().to_string(), "-h", "127.0.0.1", "-F", "-k"]);
        server.arg(folder.path());
        if let Some(identity) = identity {
            for (name, path) in [("server.crt", identity.chain_path()), ("server.key", identity.key_path())] {
                let copy = data.join(name);
                fs::copy(path, &copy).unwrap();
                fs::set_permissions(&copy, fs::Permissions::from_mode(0o600)).unwrap();
                if let Some((uid, gid)) = user {
                    chown(&copy, Some(uid), Some(gid)).unwrap();
                }
            }
            server.args(["-c", "ssl=on"]);
        }
        Self { program: Program::start(folder, server, addr, "QUIT") }
    }

    /// The program, to be killed or stopped.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.program.addr
    }
}

/// A program of PostgreSQL, which Debian keeps out of the path.
fn postgres_program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed: see tests/run");
    let newest = versions.flatten().map(|version| version.path()).max().expect("a version of PostgreSQL is there");
    newest.join("bin").join(name)
}

/// User and group that PostgreSQL runs as: it refuses to be root.
fn postgres_user() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("there is a user postgres");
    let fields: Vec<&str> = line.split(':').collect();
    (fields[2].parse().unwrap(), fields[3].parse().unwrap())
}

fn as_user(program: &str, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(postgres_program(program));
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command.current_dir("/");
    command
}

/// Runs a command that must succeed and gives what it printed.
///
/// # Panics
/// If it fails.
pub fn succeeds(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?} failed: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Runs a command to its end.
///
/// # Panics
/// If it can't be started.
pub fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("can't start {command:?}: {error}"))
}

/// An address of 127.0.0.1 for a program that can't be told port 0, or for a server that is gone for a time in which nobody
/// else is to get its port: below the ports that the kernel gives out, and each port once in this process. It refuses
/// connections until somebody listens there.
pub fn free_addr() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = (std::process::id() % 200) as u16 * 100;
    loop {
        let port = 10_000 + (first + NEXT.fetch_add(1, Relaxed)) % 20_000;
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        // It does not listen: a child that another thread is just starting may have it for a moment yet.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        if socket.bind(&addr.into()).is_ok() {
            return addr;
        }
    }
}
