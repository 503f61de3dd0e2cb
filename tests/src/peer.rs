//! A server in a process of its own: to be killed, or to hold more connections than fit beside the client's.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};

use crate::lb::built;

/// The program `peer` of this package; killed when dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    addr: SocketAddr,
}

impl Peer {
    /// Echoes to any number of clients.
    pub fn echo() -> Self {
        Self::start("echo")
    }

    /// Accepts and reads nothing.
    pub fn deaf() -> Self {
        Self::start("deaf")
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Echoes at an address of a network namespace.
    pub(crate) fn echo_in(namespace: &str, ip: IpAddr) -> Self {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(built("peer")).args(["echo", &ip.to_string()]);
        Self::spawn(command)
    }

    fn start(role: &str) -> Self {
        let mut command = Command::new(built("peer"));
        command.arg(role);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, addr: line.trim().parse().unwrap_or_else(|_| panic!("{command:?} said {line:?}")) }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
