//! The `s_server` and `s_client` of openssl.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::pki::{Identity, openssl};
use crate::{Log, wait};

/// `openssl s_server`: one client after the other.
#[derive(Debug)]
pub struct SServer {
    child: Child,
    /// Its answers end when this is closed.
    _input: ChildStdin,
    log: Log,
    addr: SocketAddr,
}

impl SServer {
    /// Sends every line back in reverse.
    pub fn reversing(identity: &Identity, arguments: &[&str]) -> Self {
        Self::start(identity, &[&["-rev"], arguments].concat())
    }

    /// Says what it gets in its log only.
    pub fn writing_down(identity: &Identity, arguments: &[&str]) -> Self {
        Self::start(identity, arguments)
    }

    fn start(identity: &Identity, arguments: &[&str]) -> Self {
        let mut command = openssl("s_server");
        command.args(["-accept", "127.0.0.1:0", "-naccept", "1000000"]).args(arguments);
        command.arg("-cert").arg(identity.chain_path()).arg("-key").arg(identity.key_path());
        if let Some(above) = identity.above_path() {
            command.arg("-cert_chain").arg(above);
        }
        let Running { child, input, log } = Running::start(command);
        let line = log.wait_for("ACCEPT 127.0.0.1:").unwrap_or_else(|| panic!("s_server ended: {}", log.text()));
        Self { child, _input: input, log, addr: line["ACCEPT ".len()..].parse().unwrap() }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it says.
    pub fn log(&self) -> &Log {
        &self.log
    }
}

impl Drop for SServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `openssl s_client`, which says in its log what was agreed on, and what it gets.
#[derive(Debug)]
pub struct SClient {
    child: Child,
    input: Option<ChildStdin>,
    log: Log,
}

impl SClient {
    /// Connects.
    pub fn start(addr: SocketAddr, arguments: &[&str]) -> Self {
        let mut command = openssl("s_client");
        command.args(["-connect", &addr.to_string()]).args(arguments);
        let Running { child, input, log } = Running::start(command);
        Self { child, input: Some(input), log }
    }

    /// Connects and trusts only what is in the file `trusted`: an untrusted certificate ends it.
    pub fn strict(addr: SocketAddr, name: &str, trusted: &Path, arguments: &[&str]) -> Self {
        let trusted = trusted.to_str().expect("paths of tests are UTF-8");
        let strict = ["-verify_return_error", "-CAfile", trusted, "-servername", name, "-verify_hostname", name];
        Self::start(addr, &[&strict, arguments].concat())
    }

    /// Sends a line.
    ///
    /// # Panics
    /// If it has ended.
    pub fn send(&mut self, line: &str) {
        let input = self.input.as_mut().expect("its input is open");
        writeln!(input, "{line}").unwrap_or_else(|error| panic!("s_client ended ({error}): {}", self.log.text()));
    }

    /// Waits for a line with `part` in it, and gives it.
    ///
    /// # Panics
    /// If it ends without one.
    pub fn expect(&self, part: &str) -> String {
        self.log.wait_for(part).unwrap_or_else(|| panic!("s_client ended without {part:?}: {}", self.log.text()))
    }

    /// What it says.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Waits until it has ended, and gives whether it did so in order, and what it said.
    ///
    /// # Panics
    /// If it hangs.
    pub fn end(mut self) -> (bool, String) {
        drop(self.input.take());
        let status = wait::until_some("s_client has ended", || self.child.try_wait().unwrap());
        self.log.wait_for_the_end();
        (status.success(), self.log.text())
    }
}

impl Drop for SClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Running {
    child: Child,
    input: ChildStdin,
    log: Log,
}

impl Running {
    /// Both outputs go into one log.
    fn start(mut command: Command) -> Self {
        let (output, writer) = std::io::pipe().unwrap();
        command.stdin(Stdio::piped()).stdout(writer.try_clone().unwrap()).stderr(writer);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("can't start {command:?}: {error}"));
        // With it go the ends of the pipe that the program writes into.
        drop(command);
        Self { input: child.stdin.take().unwrap(), child, log: Log::follow(output) }
    }
}
