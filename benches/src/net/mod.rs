//! The two event loops of the traffic. Each is one thread, both the clients and the servers, and kept cheap, so that the
//! balancer under load is the bottleneck and not the load.
//!
//! `ring` carries messages: a shard's own io_uring, for a sixth less CPU time than `epoll` takes for them. `epoll` carries
//! streams, which are sent and dropped without touching them, what has to happen at a certain time, and TLS (`session`), whose
//! messages go by way of `secure`.

pub mod epoll;
pub mod ring;
pub mod secure;
mod session;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType};

use crate::Result;
use crate::peers::{Entry, Origin};
use crate::tls::Identities;

pub use session::Session;

/// Connections that may wait to be accepted by the servers.
const BACKLOG: i32 = 4096;
/// The servers are reached by this many addresses, 127.0.1.1 and up: a balancer has 28,000 local ports towards each.
const SERVER_ADDRESSES: u8 = 16;

/// Which end of the traffic a connection belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Connected to the balancer.
    Client,
    /// Accepted from the balancer.
    Server,
}

/// Place of a connection in its loop.
pub type Id = usize;

/// A loop that carries messages, all of one size. Servers answer with what they receive; what clients receive is told.
pub trait Courier {
    /// Begins a connection, and sends the first message over it.
    ///
    /// # Errors
    /// Out of ports or descriptors, or refused.
    fn connect(&mut self, to: SocketAddr) -> Result<Id>;

    /// For connections that carry more than one message.
    ///
    /// # Errors
    /// The connection has been closed.
    fn prepare_to_stay(&mut self, id: Id) -> Result<()>;

    /// Sends the message over a client's connection.
    ///
    /// # Errors
    /// The connection broke.
    fn send(&mut self, id: Id) -> Result<()>;

    /// Closes a client's connection in the ordinary way.
    fn close(&mut self, id: Id);

    /// Accepts no more.
    ///
    /// # Errors
    /// The kernel does not know the listener.
    fn stop_listening(&mut self) -> Result<()>;

    /// Connections that are open, of both ends, and the listening.
    fn open(&self) -> usize;

    /// Clients' connections that are open.
    fn clients(&self) -> usize;

    /// Bytes that the servers sent back.
    fn echoed(&self) -> u64;

    /// Waits once, serves what is there, and adds to `answers` which clients received how many bytes. Gives the moment when
    /// the wait was over.
    ///
    /// # Errors
    /// A connection broke.
    fn turn(&mut self, wait: Duration, answers: &mut Vec<(Id, usize)>) -> Result<Instant>;
}

/// The listening socket of all servers, on which the traffic of the moment accepts, and nginx where it is the server.
#[derive(Debug)]
pub struct Servers {
    listener: OwnedFd,
    identities: Identities,
    origin: Option<Origin>,
}

impl Servers {
    /// Servers that listen on a port of the kernel's choice.
    ///
    /// # Errors
    /// No socket is to be had.
    pub fn listen() -> Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let listener = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        net::bind(&listener, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?;
        net::listen(&listener, BACKLOG)?;
        do_not_pace(&listener);
        Ok(Self { listener, identities: Identities::new()?, origin: None })
    }

    /// Where they can be reached.
    ///
    /// # Errors
    /// The kernel does not name the port.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>> {
        Ok(server_addresses(SocketAddr::try_from(net::getsockname(&self.listener)?)?.port()))
    }

    /// The port for clients that come as they would to a balancer.
    ///
    /// # Errors
    /// The kernel does not name it, or nginx was not added.
    pub fn port(&self, entry: Entry) -> Result<u16> {
        match entry.is_to_origin() {
            true => Ok(self.origin().and_then(|origin| origin.port(entry)).ok_or("nginx is not there")?),
            false => Ok(SocketAddr::try_from(net::getsockname(&self.listener)?)?.port()),
        }
    }

    /// Adds nginx.
    pub fn add_origin(&mut self, origin: Origin) {
        self.origin = Some(origin);
    }

    /// nginx, if it was added.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// Where it can be reached.
    pub fn origin_addresses(&self) -> Vec<SocketAddr> {
        self.origin().map(Origin::addresses).unwrap_or_default()
    }

    /// Who they and the balancers are, where they speak TLS.
    pub fn identities(&self) -> &Identities {
        &self.identities
    }

    fn listener(&self) -> Result<OwnedFd> {
        Ok(self.listener.try_clone()?)
    }
}

/// By which addresses servers on one port are reached.
pub fn server_addresses(port: u16) -> Vec<SocketAddr> {
    (1..=SERVER_ADDRESSES).map(|last| SocketAddr::from(([127, 0, 1, last], port))).collect()
}

/// Makes a socket send as fast as the other end takes it. The system's default may be an algorithm that paces (bbr), which
/// on loopback holds streams back. To be called before the socket is connected: one that has paced goes on with it. The
/// balancers' sockets stay with the default. Accepted sockets inherit it.
pub fn do_not_pace(socket: impl AsFd) {
    // Where it is missing, the default has to do.
    let _ = net::sockopt::set_tcp_congestion(socket, "cubic");
}
