//! A strict parser behind the balancer: `h11` in Python, which has nothing in common with the balancer's own. It writes down
//! every request that it could read, and everything that it could not.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;

use crate::{Log, wait};

/// `referee.py`; killed when dropped.
#[derive(Debug)]
pub struct Referee {
    child: Child,
    log: Log,
    addr: SocketAddr,
    /// How often it was asked for what it has received.
    asked: AtomicU64,
}

/// What came over a connection.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Received {
    /// A whole request.
    Request { connection: u64, method: String, target: String, headers: Vec<(String, String)>, body: String },
    /// Something that is none; the connection was closed.
    Wrong { connection: u64, reason: String, bytes: String },
    /// The connection ended within a request.
    Unfinished { connection: u64, target: String },
}

impl Referee {
    /// Starts it. Every request is answered with `METHOD TARGET LENGTH-OF-BODY`.
    #[allow(clippy::new_without_default, reason = "a default is not expected to start a program")]
    pub fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("referee.py");
        let mut command = Command::new("/usr/bin/python3");
        command.arg(&script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("can't start {command:?}: {error}"));
        let log = Log::follow(child.stdout.take().unwrap());
        let line = log.wait_for("listening ").expect("the referee starts: python3-h11 is installed by tests/run");
        Self { child, log, addr: line["listening ".len()..].parse().unwrap(), asked: AtomicU64::new(0) }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it has received so far, in order; at least every request that was answered.
    pub fn received(&self) -> Vec<Received> {
        // What it says comes through a pipe, later than its answers come to a client.
        let mark = format!("so far {}.", self.asked.fetch_add(1, Ordering::Relaxed));
        let mut input = self.child.stdin.as_ref().expect("it has a standard input");
        writeln!(input, "{mark}").expect("the referee hears the test");
        self.log.wait_for(&mark).expect("the referee goes on");
        let text = self.log.text();
        let lines = text.lines().filter(|line| line.starts_with('{'));
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// Waits until it has received so much.
    ///
    /// # Panics
    /// If it does not.
    pub fn until_received(&self, count: usize) {
        wait::until("the referee has received it", || self.received().len() >= count);
    }
}

impl Drop for Referee {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
