//! The traffic that balancers are measured with. Each kind checks the number of bytes that came through.

mod chats;
mod http;
mod messages;
mod on_epoll;
mod paced;
mod stream;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;

use crate::latency::Latency;
use crate::net::{Courier, Servers, ring, secure};
use crate::peers::Entry;
use crate::tls::{Hello, Wrap};
use crate::{Result, cpu};

pub use chats::Chats;
pub use http::{Body, Cookies, Http};
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

    /// Whether all connections that it begins with are established.
    fn is_going(&self) -> bool {
        true
    }

    /// Units done since the start: what CPU time is divided by.
    fn units(&self) -> u64;

    /// How long its messages took, if it has messages.
    fn latency(&mut self) -> Option<&mut Latency>;

    /// Has messages that wait for their answer count as long as they have waited, where this says more than the answered ones.
    fn count_unanswered(&mut self) {}

    /// The CPU time of both its ends so far.
    ///
    /// # Errors
    /// A process of it has ended.
    fn cpu(&self) -> Result<Duration> {
        Ok(cpu::used_by_this_thread())
    }

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
    /// None: it is not encrypted.
    wrap: Option<Wrap>,
}

/// What a kind consists of.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Messages {
        at_once: usize,
        size: usize,
        then: Then,
    },
    Streams(Direction),
    Chats,
    Paced {
        rate: f64,
    },
    /// Requests, of which the servers are here.
    Requests {
        at_once: usize,
        cookies: Cookies,
        then: Then,
    },
    /// Requests, of which nginx is the server.
    ToOrigin {
        at_once: usize,
        body: Body,
        cookies: Cookies,
    },
    /// Requests by another program, see [`crate::wrk`].
    Wrk,
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
    pub const ALL: [Self; 22] = [
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
        Self::handshakes(
            "tls_full",
            "a connection with a full TLS 1.3 handshake for each 64 B there and back, 32 at a time",
        )
        .with(Hello::Full, false),
        Self::handshakes("tls_resumed", "the same, resumed by ticket").with(Hello::Resumed, false),
        Self::handshakes("tls12_resumed", "the same with TLS 1.2").with(Hello::Resumed12, false),
        Self::messages("tls_rr64", "round trip", "as rr64, by TLS 1.3 to the balancer", 64, 64, Then::Ask)
            .with(Hello::Full, false),
        Self::streams("tls_bulk_down", "as bulk_down, by TLS 1.3 to the balancer", Shape::Streams(Direction::Down))
            .with(Hello::Full, false),
        Self::streams("tls_bulk_up", "as bulk_up, by TLS 1.3 to the balancer", Shape::Streams(Direction::Up))
            .with(Hello::Full, false),
        Self::messages(
            "tls2_rr64",
            "round trip",
            "as rr64, by TLS 1.3 to the balancer and to the server",
            64,
            64,
            Then::Ask,
        )
        .with(Hello::Full, true),
        Self::streams(
            "tls2_bulk_down",
            "as bulk_down, by TLS 1.3 to the balancer and to the server",
            Shape::Streams(Direction::Down),
        )
        .with(Hello::Full, true),
        Self {
            shape: Shape::Requests { at_once: 64, cookies: Cookies::Dropped, then: Then::Ask },
            ..Self::to_origin("http_rr", "a GET of 64 B over 64 connections that stay; each answer sets a cookie")
        },
        Self::to_origin("http_nginx", "as http_rr, with nginx as the server"),
        Self { shape: Shape::Wrk, ..Self::to_origin("http_wrk", "the same by wrk") },
        Self {
            shape: Shape::ToOrigin { at_once: 64, body: Body::Small, cookies: Cookies::Kept },
            ..Self::to_origin("http_cookie", "as http_nginx, by clients that keep their cookie")
        },
        Self::to_origin("https_nginx", "as http_nginx, by TLS 1.3 to the balancer").with(Hello::Full, false),
        Self {
            unit: "GB",
            shape: Shape::ToOrigin { at_once: STREAMS, body: Body::Large, cookies: Cookies::Dropped },
            ..Self::to_origin("http_down", "a GET of 1 MiB from nginx over 4 connections that stay")
        },
    ];

    const fn messages(
        name: &'static str,
        unit: &'static str,
        about: &'static str,
        at_once: usize,
        size: usize,
        then: Then,
    ) -> Self {
        Self { name, unit, about, shape: Shape::Messages { at_once, size, then }, wrap: None }
    }

    const fn to_origin(name: &'static str, about: &'static str) -> Self {
        let shape = Shape::ToOrigin { at_once: 64, body: Body::Small, cookies: Cookies::Dropped };
        Self { name, unit: "request", about, shape, wrap: None }
    }

    const fn handshakes(name: &'static str, about: &'static str) -> Self {
        Self::messages(name, "connection", about, 32, 64, Then::Reconnect)
    }

    const fn streams(name: &'static str, about: &'static str, shape: Shape) -> Self {
        Self { name, unit: "GB", about, shape, wrap: None }
    }

    const fn with(self, hello: Hello, to_servers: bool) -> Self {
        Self { wrap: Some(Wrap { hello, to_servers }), ..self }
    }

    /// Connections that exchange 64 B, or a request, and then stay open and silent, so many begun at a time.
    pub fn idle(at_once: usize, entry: Entry) -> Self {
        let idle = Self::messages("idle", "connection", "64 B there and back, then silence", at_once, 64, Then::Stay);
        let shape = Shape::Requests { at_once, cookies: Cookies::Dropped, then: Then::Stay };
        match entry {
            Entry::Plain => idle,
            Entry::Terminated => idle.with(Hello::Full, false),
            Entry::Reencrypted => idle.with(Hello::Full, true),
            Entry::Http | Entry::HttpToOrigin | Entry::HttpsToOrigin => Self { shape, ..idle },
        }
    }

    /// Where it enters a balancer.
    pub fn entry(&self) -> Entry {
        match (self.shape, self.wrap) {
            (Shape::Requests { .. }, _) => Entry::Http,
            (Shape::ToOrigin { .. } | Shape::Wrk, None) => Entry::HttpToOrigin,
            (Shape::ToOrigin { .. } | Shape::Wrk, Some(_)) => Entry::HttpsToOrigin,
            (_, None) => Entry::Plain,
            (_, Some(Wrap { to_servers: false, .. })) => Entry::Terminated,
            (_, Some(Wrap { to_servers: true, .. })) => Entry::Reencrypted,
        }
    }

    /// Whether another program makes it, see [`crate::wrk`].
    pub fn is_by_wrk(&self) -> bool {
        matches!(self.shape, Shape::Wrk)
    }

    /// The same without a balancer: where clients speak TLS, servers do, and nobody sets cookies.
    pub fn direct(&self) -> Self {
        let shape = match self.shape {
            Shape::Requests { at_once, then, .. } => Shape::Requests { at_once, cookies: Cookies::Unset, then },
            Shape::ToOrigin { at_once, body, .. } => Shape::ToOrigin { at_once, body, cookies: Cookies::Unset },
            other => other,
        };
        Self { shape, wrap: self.wrap.map(|wrap| Wrap { to_servers: true, ..wrap }), ..*self }
    }

    /// So many round trips of 64 B a second, over 64 connections.
    pub fn paced(rate: f64) -> Self {
        Self {
            name: "paced",
            unit: "round trip",
            about: "64 B there and back at fixed times, over 64 connections",
            shape: Shape::Paced { rate },
            wrap: None,
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
        let sessions = self.wrap.map(|wrap| servers.identities().sessions(wrap)).transpose()?;
        Ok(match self.shape {
            Shape::Messages { at_once, size, then } => {
                let net: Box<dyn Courier> = match sessions {
                    None => Box::new(ring::Net::new(servers, size)?),
                    Some(sessions) => Box::new(secure::Net::new(servers, size, sessions)?),
                };
                Box::new(Messages::new(net, at_once, size, then)?)
            }
            Shape::Streams(direction) => Box::new(OnEpoll::new(servers, sessions, Stream::new(STREAMS, direction)?)?),
            Shape::Chats => {
                let (streams, chats) = (Stream::new(STREAMS, Direction::Down)?, Paced::new(CHAT_RATE, CHATS, 64)?);
                Box::new(OnEpoll::new(servers, sessions, Chats::new(streams, chats))?)
            }
            Shape::Requests { at_once, cookies, then } => {
                let net = ring::Net::of_requests(servers, move |bytes| http::is_answer(bytes, cookies))?;
                Box::new(Messages::new(Box::new(net), at_once, ring::ANSWER, then)?)
            }
            Shape::ToOrigin { at_once, body, cookies } => {
                let origin = servers.origin().ok_or("nginx is not there")?;
                Box::new(OnEpoll::new(servers, sessions, Http::new(at_once, body, cookies, origin)?)?)
            }
            Shape::Wrk => return Err("wrk is no load of this program".into()),
            Shape::Paced { rate } => Box::new(OnEpoll::new(servers, sessions, Paced::new(rate, 64, 64)?)?),
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
