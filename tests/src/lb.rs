//! The real `lb` program, started in a folder of its own.

use std::fmt::{Debug, Display};
use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;

use crate::wait::until_some;
use crate::{Admin, Confirmed, Log, Refused, wait};

/// A folder with a configuration, where `lb` can be started again and again.
#[derive(Debug, Clone)]
pub struct Place {
    folder: PathBuf,
    admin: PathBuf,
    prologue: String,
    environment: Vec<(String, String)>,
    inherited: Option<Arc<TcpListener>>,
    _folder_guard: Arc<TempDir>,
}

impl Place {
    /// A new folder with `config` in it.
    pub fn new(config: impl Display) -> Self {
        let guard = TempDir::with_prefix("lb-test-").unwrap();
        let folder = guard.path().to_owned();
        let place = Self {
            admin: folder.join("admin.sock"),
            folder,
            prologue: String::new(),
            environment: Vec::new(),
            inherited: None,
            _folder_guard: Arc::new(guard),
        };
        place.write_config(config);
        place
    }

    /// The same with configuration and state in `folder`.
    #[must_use]
    pub fn with_state_in(mut self, folder: &Path) -> Self {
        fs::rename(self.config(), folder.join("lb.ron")).or_else(|_| self.copy_config(folder)).unwrap();
        self.folder = folder.to_owned();
        self
    }

    /// The same with another path for the admin socket.
    #[must_use]
    pub fn with_admin(mut self, path: PathBuf) -> Self {
        self.admin = path;
        self
    }

    /// The same with a line of shell to run in the process before `lb` takes it over, for example `ulimit -n 100`.
    #[must_use]
    pub fn after(mut self, shell: &str) -> Self {
        self.prologue += &format!("{shell}\n");
        self
    }

    /// The same with an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The same with `listener` handed over as descriptor 3.
    #[must_use]
    pub fn inherit(mut self, listener: TcpListener) -> Self {
        self.inherited = Some(Arc::new(listener));
        self.after("exec 3<&0 0</dev/null")
    }

    /// The folder of configuration and state.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The configuration's path.
    pub fn config(&self) -> PathBuf {
        self.folder.join("lb.ron")
    }

    /// The state's path.
    pub fn state(&self) -> PathBuf {
        self.folder.join("lb.ron.state")
    }

    /// The admin socket's path.
    pub fn admin(&self) -> &Path {
        &self.admin
    }

    /// Replaces the configuration.
    pub fn write_config(&self, config: impl Display) {
        fs::write(self.config(), config.to_string()).unwrap();
    }

    /// Starts `lb run` and waits until it is ready.
    ///
    /// # Panics
    /// If it ends instead.
    pub fn start(&self) -> Lb {
        self.spawn().ready()
    }

    /// Starts an `lb run` that takes the place of the one that runs here, and waits until it has.
    ///
    /// # Panics
    /// If it ends instead.
    pub fn start_successor(&self) -> Lb {
        self.spawn_successor().ready()
    }

    /// Starts `lb run`, without waiting.
    pub fn spawn(&self) -> Lb {
        self.spawn_run(&[])
    }

    /// Starts a successor, without waiting.
    pub fn spawn_successor(&self) -> Lb {
        self.spawn_run(&["--take-over"])
    }

    fn spawn_run(&self, more: &[&str]) -> Lb {
        let config = self.config();
        let [config, admin] = [&config, self.admin()].map(|path| path.to_str().expect("paths of tests are UTF-8"));
        self.spawn_with(&[&["run", "--config", config, "--admin", admin], more].concat())
    }

    /// Starts `lb` with other arguments, without waiting.
    pub fn spawn_with(&self, arguments: &[&str]) -> Lb {
        let mut command = self.command();
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("can't start {command:?}: {error}"));
        let log = Log::follow(child.stderr.take().unwrap());
        Lb { place: self.clone(), child, log }
    }

    /// Starts `lb run`, which must give up.
    ///
    /// # Panics
    /// If it gets ready, or hangs.
    pub fn fail(&self) -> Exit {
        self.spawn().not_ready()
    }

    /// Starts a successor, which must give up.
    ///
    /// # Panics
    /// If it gets ready, or hangs.
    pub fn fail_successor(&self) -> Exit {
        self.spawn_successor().not_ready()
    }

    /// Runs a short command of `lb`, with this place's admin socket.
    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new(lb_path()).args(arguments).env("LB_ADMIN", &self.admin).stdin(Stdio::null()).output().unwrap()
    }

    fn command(&self) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{}exec \"$0\" \"$@\"", self.prologue)).arg(lb_path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(match &self.inherited {
            Some(listener) => OwnedFd::from(listener.try_clone().unwrap()).into(),
            None => Stdio::null(),
        });
        command
    }

    fn copy_config(&self, folder: &Path) -> std::io::Result<()> {
        fs::copy(self.config(), folder.join("lb.ron")).map(drop)
    }
}

/// What the log says when everything accepts.
const READY: &str = "ready: ";

/// How a program ended.
#[derive(Debug)]
pub struct Exit {
    pub code: Option<i32>,
    pub log: String,
}

/// A running `lb`; killed when dropped.
#[derive(Debug)]
pub struct Lb {
    place: Place,
    child: Child,
    log: Log,
}

impl Lb {
    /// Starts `lb run` with `config` in a new folder and waits until it is ready.
    ///
    /// # Panics
    /// If it ends instead.
    pub fn start(config: impl Display) -> Self {
        Place::new(config).start()
    }

    fn ready(self) -> Self {
        match self.log.wait_for(READY) {
            Some(_) => self,
            None => panic!("lb did not start:\n{}", self.log.text()),
        }
    }

    fn not_ready(mut self) -> Exit {
        if self.log.wait_for(READY).is_some() {
            panic!("lb started, but should have given up:\n{}", self.log.text());
        }
        Exit { code: self.exit().code(), log: self.log.text() }
    }

    /// Where it was started.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A new connection to its admin socket.
    pub fn connect_admin(&self) -> Admin {
        Admin::connect(&self.place.admin)
    }

    /// One request on the admin socket, and the reply as it came.
    pub fn admin(&self, request: &str) -> String {
        self.connect_admin().ask(request)
    }

    /// One request that must be confirmed.
    pub fn change(&self, request: &str) -> Confirmed {
        self.connect_admin().change(request)
    }

    /// One request that must be refused.
    pub fn refuse(&self, request: &str) -> Refused {
        self.connect_admin().refuse(request)
    }

    /// Runs a short command of `lb` against this one.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.place.run(arguments)
    }

    /// Runs a short command, which must succeed, and gives what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "lb {arguments:?} failed: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs a short command, which must be refused, and gives the reason that it printed.
    ///
    /// # Panics
    /// If it does anything else.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "lb {arguments:?} was not refused: {output:?}");
        text(&output.stderr)
    }

    /// Runs a short command and reads its JSON.
    ///
    /// # Panics
    /// If it fails or prints something else.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--output", "json"]].concat());
        assert!(output.status.success(), "lb {arguments:?} failed: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("lb {arguments:?}: no JSON ({error}): {}", text(&output.stdout)))
    }

    /// What `lb status` says.
    pub fn status(&self) -> Value {
        self.json(&["status"])
    }

    /// What the status says about a frontend.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn frontend(&self, name: &str) -> Value {
        let status = self.status();
        let frontends = status["frontends"].as_array().expect("status has frontends");
        let found = frontends.iter().find(|frontend| frontend["frontend"]["name"] == name);
        found.unwrap_or_else(|| panic!("no frontend {name} in {status}")).clone()
    }

    /// What the status says about a server.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn server(&self, frontend: &str, name: &str) -> Value {
        let frontend = self.frontend(frontend);
        let servers = frontend["servers"].as_array().expect("a frontend has servers");
        let found = servers.iter().find(|server| server["server"]["name"] == name);
        found.unwrap_or_else(|| panic!("no server {name} in {frontend}")).clone()
    }

    /// The names of a frontend's servers.
    pub fn server_names(&self, frontend: &str) -> Vec<String> {
        let frontend = self.frontend(frontend);
        let servers = frontend["servers"].as_array().expect("a frontend has servers");
        servers.iter().map(|server| server["server"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// The settings of all frontends with their servers.
    pub fn settings(&self) -> Vec<Value> {
        let status = self.status();
        let frontends = status["frontends"].as_array().expect("status has frontends");
        frontends.iter().map(|frontend| frontend["frontend"].clone()).collect()
    }

    /// Where a frontend accepts.
    pub fn addr(&self, frontend: &str) -> SocketAddr {
        self.frontend(frontend)["addr"].as_str().expect("addr is text").parse().expect("addr is an address")
    }

    /// Connections now.
    pub fn connections(&self) -> u64 {
        number(&self.status()["connections"])
    }

    /// Connections now on a frontend.
    pub fn connections_of(&self, frontend: &str) -> u64 {
        number(&self.frontend(frontend)["connections"])
    }

    /// Connections of a frontend that were reset because no server could be had.
    pub fn unserved(&self, frontend: &str) -> u64 {
        number(&self.frontend(frontend)["traffic"]["unserved"])
    }

    /// The revision in effect.
    pub fn revision(&self) -> u64 {
        number(&self.status()["revision"])
    }

    /// User memory of the relay's buffers, in bytes.
    pub fn buffer_bytes(&self) -> u64 {
        sum_over_shards(&self.status(), "buffer_bytes")
    }

    /// Pipes that are open.
    pub fn pipes(&self) -> u64 {
        sum_over_shards(&self.status(), "pipes")
    }

    /// Connections to servers that are kept for requests to come.
    pub fn pooled(&self) -> u64 {
        sum_over_shards(&self.status(), "pooled")
    }

    /// A total of all traffic since the start.
    pub fn traffic(&self, total: &str) -> u64 {
        number(&self.status()["traffic"][total])
    }

    /// The fewest connections that any shard has accepted.
    pub fn accepted_by_every_shard(&self) -> u64 {
        let status = self.status();
        let shards = status["shards"].as_array().expect("status has shards");
        shards.iter().map(|shard| number(&shard["accepted"])).min().expect("there are shards")
    }

    /// True if a frontend's accepting pauses.
    pub fn is_paused(&self, frontend: &str) -> bool {
        self.frontend(frontend)["paused"].as_bool().expect("paused is a bool")
    }

    /// Waits until no connection is left.
    pub fn until_idle(&self) {
        wait::until("the balancer has no connection left", || self.connections() == 0);
    }

    /// Open descriptors of the process.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("lb runs").count()
    }

    /// Open descriptors that are not kept for the next stream or connection, which the status tells the number of.
    pub fn descriptors_in_use(&self) -> usize {
        let status = self.status();
        let kept = 2 * sum_over_shards(&status, "pipes") + sum_over_shards(&status, "kept_sockets");
        self.descriptors().saturating_sub(kept as usize)
    }

    /// The process's own memory, in bytes: without the pages of its program's file, of which ever more are read in.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("lb runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon is there");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Sends a signal, for example `TERM`.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Panics
    /// If it does not within [`wait::HANG`].
    pub fn exit(&mut self) -> ExitStatus {
        until_some("lb has ended", || self.child.try_wait().unwrap())
    }

    /// Kills it, as a crash would, and gives the place back.
    pub fn kill(mut self) -> Place {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.place.clone()
    }
}

impl Drop for Lb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("the log of lb:\n{}", self.log.text());
        }
    }
}

/// Where the program is: `$LB_BIN`, or where cargo builds it.
///
/// # Panics
/// If it is at neither place.
pub fn lb_path() -> PathBuf {
    match std::env::var_os("LB_BIN") {
        Some(path) => path.into(),
        None => built("lb"),
    }
}

/// A program of this workspace, beside the folder of the running test.
pub(crate) fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).expect("cargo builds tests into a folder").join(name);
    assert!(path.exists(), "{} is missing: `cargo build --workspace` builds it", path.display());
    path
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().unwrap();
    assert!(status.success(), "can't send {name} to process {pid}");
}

/// Bytes that a program printed, as text.
pub fn text(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut bytes = bytes;
    bytes.read_to_string(&mut text).expect("lb prints UTF-8");
    text
}

/// In one word what the status says about a server's health, for example `down`.
///
/// # Panics
/// If it says nothing.
pub fn health(server: &Value) -> String {
    let health = &server["health"];
    let word = health.as_str().or_else(|| health.as_object()?.keys().next().map(String::as_str));
    word.unwrap_or_else(|| panic!("no health in {server}")).to_owned()
}

/// What the status of a frontend or server says about its TLS: `handshakes`, `resumed` or `in_progress`.
///
/// # Panics
/// If it does not say it.
pub fn tls(status: &Value, total: &str) -> u64 {
    number(&status["tls"][total])
}

/// How many handshakes and sessions the status of a frontend or server says have failed for a cause, for example `expired`.
pub fn tls_failed(status: &Value, cause: &str) -> u64 {
    status["tls"]["failed"][cause].as_u64().unwrap_or(0)
}

/// What the status of a frontend says about its HTTP, for example `requests`.
///
/// # Panics
/// If it does not say it.
pub fn http_count(status: &Value, total: &str) -> u64 {
    number(&status["http"][total])
}

/// How many requests the status of a frontend says were refused for a cause, for example `malformed`.
pub fn http_refused(status: &Value, cause: &str) -> u64 {
    status["http"]["refused"][cause].as_u64().unwrap_or(0)
}

fn sum_over_shards(status: &Value, field: &str) -> u64 {
    status["shards"].as_array().expect("status has shards").iter().map(|shard| number(&shard[field])).sum()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a number"))
}
