//! The traffic that balancers are measured with. Each kind checks the number of bytes that came through.

mod chats;
mod messages;
mod on_epoll;
mod paced;
mod stream;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;

use crate::Result;
use crate::latency::Latency;
use crate::net::epoll::{Net, Received};
use crate::net::{Id, Servers};

pub use chats::Chats;
pub use messages::{Messages, Then};
pub use on_epoll::{OnEpoll, Part};
pub use paced::Paced;
pub use stream::{Direction, Stream};

/// Traffic through one balancer, with the loop that carries it.
pub trait Load {
    /// Opens its connections to a balancer that listens on this port of every local address.
    ///
    /// # Errors
    /// A connection could not be begun.
    fn start(&mut self, port: u16) -> Result<()>;

    /// Waits once, at most so long, and serves what is ready.
    ///
    /// # Errors
    /// A connection broke, or too many bytes came.
    fn turn(&mut self, wait: Duration) -> Result<()>;

    /// Units done since the start: what CPU time is divided by.
    fn units(&self) -> u64;

    /// How long its messages took, if it has messages.
    fn latency(&mut self) -> Option<&mut Latency>;

    /// Has messages that wait for their answer count as long as they have waited, where this says more than the answered ones.
    fn count_unanswered(&mut self) {}

    /// How much is still open.
    fn open(&self) -> usize;

    /// Begins to end: what is on its way is finished, then all connections close.
    ///
    /// # Errors
    /// A connection broke.
    fn stop(&mut self) -> Result<()>;

    /// Whether every byte that was sent has come, now that all connections are closed.
    ///
    /// # Errors
    /// It has not: how many were sent and how many came.
    fn check(&self) -> Result<()>;
}

/// Lets a load run until `is_done`, or until `deadline` at the latest.
///
/// # Errors
/// What the load found wrong.
pub fn run_until(load: &mut dyn Load, deadline: Instant, is_done: impl Fn(&dyn Load) -> bool) -> Result<()> {
    while !is_done(load) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        load.turn(left)?;
    }
    Ok(())
}

/// A kind of traffic.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its name on the command line.
    pub name: &'static str,
    /// What one unit is.
    pub unit: &'static str,
    /// What it does.
    pub about: &'static str,
    shape: Shape,
}

/// What a kind consists of.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Messages { at_once: usize, size: usize, then: Then },
    Streams(Direction),
    Chats,
    Paced { rate: f64 },
}

/// Streams of a load that has some.
const STREAMS: usize = 4;
/// Messages a second over all chats, and chats: each sends every 16 ms.
const CHAT_RATE: f64 = 1000.0;
const CHATS: usize = 16;

impl Kind {
    /// 64 B there and back over 64 connections: the load by whose rate a latency ladder is made.
    pub const ROUND_TRIPS: Self =
        Self::messages("rr64", "round trip", "64 B there and back over 64 connections", 64, 64, Then::Ask);

    /// All kinds, in the order in which they are measured.
    pub const ALL: [Self; 8] = [
        Self::ROUND_TRIPS,
        Self::messages("rr64x1", "round trip", "64 B there and back over 1 connection", 1, 64, Then::Ask),
        Self::messages("rr4k", "round trip", "4 KiB there and back over 64 connections", 64, 4096, Then::Ask),
        Self::messages("rr4kx1", "round trip", "4 KiB there and back over 1 connection", 1, 4096, Then::Ask),
        Self::messages(
            "connect",
            "connection",
            "a connection for each 64 B there and back, 32 at a time; the client closes first",
            32,
            64,
            Then::Reconnect,
        ),
        Self::streams("bulk_down", "4 streams from server to client", Shape::Streams(Direction::Down)),
        Self::streams("bulk_up", "4 streams from client to server", Shape::Streams(Direction::Up)),
        Self::streams("bulk_chats", "4 streams from server to client, and 16 chats of 64 B beside them", Shape::Chats),
    ];

    const fn messages(
        name: &'static str,
        unit: &'static str,
        about: &'static str,
        at_once: usize,
        size: usize,
        then: Then,
    ) -> Self {
        Self { name, unit, about, shape: Shape::Messages { at_once, size, then } }
    }

    const fn streams(name: &'static str, about: &'static str, shape: Shape) -> Self {
        Self { name, unit: "GB", about, shape }
    }

    /// So many round trips of 64 B a second, over 64 connections.
    pub fn paced(rate: f64) -> Self {
        Self {
            name: "paced",
            unit: "round trip",
            about: "64 B there and back at fixed times, over 64 connections",
            shape: Shape::Paced { rate },
        }
    }

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
    /// What it needs of the system is not to be had.
    pub fn make(&self, servers: &Servers) -> Result<Box<dyn Load>> {
        Ok(match self.shape {
            Shape::Messages { at_once, size, then } => Box::new(Messages::new(servers, at_once, size, then)?),
            Shape::Streams(direction) => Box::new(OnEpoll::new(servers, Stream::new(STREAMS, direction)?)?),
            Shape::Chats => {
                let (streams, chats) = (Stream::new(STREAMS, Direction::Down)?, Paced::new(CHAT_RATE, CHATS, 64)?);
                Box::new(OnEpoll::new(servers, Chats::new(streams, chats))?)
            }
            Shape::Paced { rate } => Box::new(OnEpoll::new(servers, Paced::new(rate, 64, 64)?)?),
        })
    }
}

/// Address number `index` of a balancer that listens on all local addresses. Several are used so that connections of the
/// recent past, whose ports rest for a while, are not in the way of new ones.
fn balancer_address(index: u64, port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1 + (index % 32) as u8], port))
}

/// What waits for bytes waits with this: told once for each arrival, and of the other end's finish.
const ARRIVALS: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ET);

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
