//! Servers that never answer, or that stop to.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::Peer;
use crate::program::succeeds;

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
        let (mut queued, mut ignored) = (Vec::new(), 0);
        // Twice in a row: on a busy machine one connect may take so long.
        while ignored < 2 {
            match TcpStream::connect_timeout(&addr, Duration::from_millis(200)) {
                Ok(stream) => {
                    queued.push(stream);
                    ignored = 0;
                }
                Err(_) => ignored += 1,
            }
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
pub struct BlackHole(Namespace);

impl BlackHole {
    /// Makes namespace and routes.
    ///
    /// # Panics
    /// If that fails.
    #[allow(clippy::new_without_default, reason = "a default is not expected to change the network")]
    pub fn new() -> Self {
        let namespace = Namespace::new();
        let Namespace { name, subnet } = &namespace;
        ip(&format!("-n {name} route add blackhole 198.19.{subnet}.0/24"));
        ip(&format!("route add 198.19.{subnet}.0/24 via 198.18.{subnet}.2"));
        Self(namespace)
    }

    /// An address from which nothing ever comes back.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([198, 19, self.0.subnet, 1], 80))
    }
}

/// A server that echoes in a namespace of its own, whose packets can be lost without a word. Needs root.
#[derive(Debug)]
pub struct Remote {
    // Dropped first: a namespace lives for as long as a process is in it.
    server: Peer,
    namespace: Namespace,
}

/// How packets to a [`Remote`] get lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The link's far end is down.
    Link,
    /// A firewall in the namespace drops what comes in.
    Firewall,
}

impl Remote {
    /// Makes the namespace and starts the server.
    ///
    /// # Panics
    /// If that fails.
    #[allow(clippy::new_without_default, reason = "a default is not expected to change the network")]
    pub fn new() -> Self {
        let namespace = Namespace::new();
        let server = Peer::echo_in(&namespace.name, namespace.inside().into());
        Self { server, namespace }
    }

    /// Where the server listens.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// From now on every packet to it is lost.
    pub fn lose(&self, loss: Loss) {
        match loss {
            Loss::Link => self.set_link("down"),
            Loss::Firewall => {
                self.firewall("add table inet lb");
                self.firewall("add chain inet lb in { type filter hook input priority 0; policy drop; }");
            }
        }
    }

    /// Packets get through again.
    pub fn repair(&self, loss: Loss) {
        match loss {
            Loss::Link => self.set_link("up"),
            Loss::Firewall => self.firewall("delete table inet lb"),
        }
    }

    fn set_link(&self, state: &str) {
        let Namespace { name, subnet } = &self.namespace;
        ip(&format!("-n {name} link set lbt{subnet}i {state}"));
    }

    fn firewall(&self, rule: &str) {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace.name, "nft", rule]);
        succeeds(&mut command);
    }
}

/// A network namespace with a link to it: 198.18.`subnet`.1 outside, 198.18.`subnet`.2 inside.
#[derive(Debug)]
struct Namespace {
    name: String,
    subnet: u8,
}

impl Namespace {
    fn new() -> Self {
        // Unique among the tests of this process and, nearly always, of others.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let subnet = (std::process::id().wrapping_mul(7) + NEXT.fetch_add(1, Relaxed)) % 250 + 1;
        let namespace = Self { name: format!("lbt{subnet}x{}", std::process::id()), subnet: subnet as u8 };
        namespace.set_up();
        namespace
    }

    fn inside(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.subnet, 2)
    }

    fn set_up(&self) {
        let Self { name, subnet } = self;
        let (outside, inside) = (format!("lbt{subnet}o"), format!("lbt{subnet}i"));
        ip(&format!("netns add {name}"));
        ip(&format!("link add {outside} type veth peer name {inside} netns {name}"));
        ip(&format!("addr add 198.18.{subnet}.1/30 dev {outside}"));
        ip(&format!("link set {outside} up"));
        ip(&format!("-n {name} addr add {}/30 dev {inside}", self.inside()));
        ip(&format!("-n {name} link set {inside} up"));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The end outside, its address and the routes over it go with it.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
        let _ = Command::new("ip").args(["link", "del", &format!("lbt{}o", self.subnet)]).output();
    }
}

fn ip(arguments: &str) {
    succeeds(Command::new("ip").args(arguments.split(' ')));
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
