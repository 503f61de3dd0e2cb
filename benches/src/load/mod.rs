//! The traffic that balancers are measured with. Each kind checks the number of bytes that came through.

mod connect;
mod round_trip;
mod stream;

use std::net::SocketAddr;

use rustix::event::epoll::EventFlags;

use crate::Result;
use crate::net::{Id, Net, Received};

pub use connect::Connect;
pub use round_trip::RoundTrip;
pub use stream::{Direction, Stream};

/// One kind of traffic, running through one balancer.
pub trait Load {
    /// Opens its connections to a balancer that listens on this port of every local address.
    ///
    /// # Errors
    /// A connection could not be begun.
    fn start(&mut self, net: &mut Net, port: u16) -> Result<()>;

    /// A connection may have become ready for what it waits for. The server's end is also given here when it has just
    /// been accepted.
    ///
    /// # Errors
    /// A connection broke, or too many bytes came.
    fn on_ready(&mut self, net: &mut Net, id: Id, events: EventFlags) -> Result<()>;

    /// What the servers wait for.
    fn server_interest(&self) -> EventFlags;

    /// Units done since the start: what CPU time is divided by.
    fn units(&self) -> u64;

    /// Begins to end: what is on its way is finished, then all connections close.
    ///
    /// # Errors
    /// A connection broke.
    fn stop(&mut self, net: &mut Net) -> Result<()>;

    /// Whether every byte that was sent has come, now that all connections are closed.
    ///
    /// # Errors
    /// It has not: how many were sent and how many came.
    fn check(&self) -> Result<()>;
}

/// A kind of traffic by its name on the command line.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// What one unit is.
    pub unit: &'static str,
    /// What it does.
    pub about: &'static str,
    make: fn() -> Result<Box<dyn Load>>,
}

impl Kind {
    /// All kinds, in the order in which they are measured.
    pub const ALL: [Self; 6] = [
        Self {
            name: "rr64",
            unit: "round trip",
            about: "64 B there and back over 64 connections",
            make: || Ok(Box::new(RoundTrip::new(64, 64))),
        },
        Self {
            name: "rr64x1",
            unit: "round trip",
            about: "64 B there and back over 1 connection",
            make: || Ok(Box::new(RoundTrip::new(1, 64))),
        },
        Self {
            name: "rr4k",
            unit: "round trip",
            about: "4 KiB there and back over 64 connections",
            make: || Ok(Box::new(RoundTrip::new(64, 4096))),
        },
        Self {
            name: "connect",
            unit: "connection",
            about: "a connection for each 64 B there and back, 32 at a time; the client closes first",
            make: || Ok(Box::new(Connect::new(32, 64))),
        },
        Self {
            name: "bulk_down",
            unit: "GB",
            about: "4 streams from server to client",
            make: || Ok(Box::new(Stream::new(4, Direction::Down)?)),
        },
        Self {
            name: "bulk_up",
            unit: "GB",
            about: "4 streams from client to server",
            make: || Ok(Box::new(Stream::new(4, Direction::Up)?)),
        },
    ];

    /// The kind of this name.
    ///
    /// # Errors
    /// There is none: which there are.
    pub fn by_name(name: &str) -> Result<Self> {
        let known = Self::ALL.map(|kind| kind.name).join(", ");
        let unknown = || format!("no load is named {name:?}, known are {known}").into();
        Self::ALL.into_iter().find(|kind| kind.name == name).ok_or_else(unknown)
    }

    /// New traffic of this kind.
    ///
    /// # Errors
    /// What it sends from could not be made.
    pub fn make(&self) -> Result<Box<dyn Load>> {
        (self.make)()
    }
}

/// Address number `index` of a balancer that listens on all local addresses. Several are used so that connections of the
/// recent past, whose ports rest for a while, are not in the way of new ones.
fn balancer_address(index: u64, port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1 + (index % 32) as u8], port))
}

/// What waits for bytes waits with this: told once for each arrival, and of the other end's finish.
const ARRIVALS: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ET);

/// The same, and the moment when a connection that was begun is established.
const ARRIVALS_AND_START: EventFlags = ARRIVALS.union(EventFlags::OUT);

/// Answers with what it received, closes when the client's end does. Gives how many bytes were echoed.
fn echo(net: &mut Net, id: Id, buffer: &mut [u8], events: EventFlags) -> Result<u64> {
    let mut echoed = 0;
    while let Some(conn) = net.conn(id) {
        match conn.receive(buffer)? {
            Received::Bytes(bytes) => {
                if !conn.send(&buffer[..bytes])? {
                    return Err("a server's answer did not fit into its socket".into());
                }
                echoed += bytes as u64;
                // All there was, unless the end was there with it, of which no event tells again.
                if bytes < buffer.len() && !events.intersects(EventFlags::RDHUP | EventFlags::HUP) {
                    break;
                }
            }
            Received::Nothing => break,
            Received::End => net.close(id),
        }
    }
    Ok(echoed)
}
