//! Servers that never answer.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// A listening socket whose queue is full: the kernel ignores connects to it.
#[derive(Debug)]
pub struct FullBacklog {
    listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl FullBacklog {
    /// Fills a queue.
    ///
    /// # Panics
    /// If it does not become full.
    #[allow(clippy::new_without_default, reason = "a default is not expected to open sockets")]
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.listen(0).unwrap();
        let listener = TcpListener::from(socket);
        let addr = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(200)) {
            queued.push(stream);
            assert!(queued.len() < 100, "the queue of {addr} does not become full");
        }
        Self { listener, _queued: queued }
    }

    /// Where it does not answer.
    pub fn addr(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }
}

/// A network, reached through a namespace of its own, that swallows every packet. Needs root.
#[derive(Debug)]
pub struct BlackHole {
    namespace: String,
    subnet: u32,
}

impl BlackHole {
    /// Makes namespace and routes.
    ///
    /// # Panics
    /// If that fails.
    #[allow(clippy::new_without_default, reason = "a default is not expected to change the network")]
    pub fn new() -> Self {
        // Unique among the tests of this process and, nearly always, of others.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let subnet = (std::process::id().wrapping_mul(7) + NEXT.fetch_add(1, Relaxed)) % 250 + 1;
        let hole = Self { namespace: format!("lbt{subnet}x{}", std::process::id()), subnet };
        hole.set_up();
        hole
    }

    /// An address from which nothing ever comes back.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([198, 19, self.subnet as u8, 1], 80))
    }

    fn set_up(&self) {
        let Self { namespace, subnet } = self;
        let (outside, inside) = (format!("lbt{subnet}o"), format!("lbt{subnet}i"));
        ip(&format!("netns add {namespace}"));
        ip(&format!("link add {outside} type veth peer name {inside} netns {namespace}"));
        ip(&format!("addr add 198.18.{subnet}.1/30 dev {outside}"));
        ip(&format!("link set {outside} up"));
        ip(&format!("-n {namespace} addr add 198.18.{subnet}.2/30 dev {inside}"));
        ip(&format!("-n {namespace} link set {inside} up"));
        ip(&format!("-n {namespace} route add blackhole 198.19.{subnet}.0/24"));
        ip(&format!("route add 198.19.{subnet}.0/24 via 198.18.{subnet}.2"));
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        // The end outside, its address and the route go with it.
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
        let _ = Command::new("ip").args(["link", "del", &format!("lbt{}o", self.subnet)]).output();
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("the program ip is there");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;
    use crate::fault::{has, is_root, skipped};

    #[test]
    fn a_full_backlog_does_not_answer() {
        let silent = FullBacklog::new();
        does_not_answer(silent.addr());
    }

    #[test]
    fn a_black_hole_does_not_answer() {
        if skipped("a_black_hole_does_not_answer", is_root() && has("ip"), "root and iproute2") {
            return;
        }
        let silent = BlackHole::new();
        does_not_answer(silent.addr());
    }

    fn does_not_answer(addr: SocketAddr) {
        let error = TcpStream::connect_timeout(&addr, Duration::from_millis(500)).expect_err("it answered");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    }
}
