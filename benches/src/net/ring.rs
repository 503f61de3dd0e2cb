//! The event loop of messages, on a shard's own io_uring. Servers answer with what they receive, or as nginx would to a
//! request of HTTP, right here; what clients receive goes to the load.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use lb_core::internal::{Chunk, News, Ring};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use super::{Courier, End, Id, Servers, do_not_pace};
use crate::Result;

/// The listening socket's token; connections never have it.
const LISTENER: u32 = u32::MAX;

/// The event loop.
pub struct Net {
    ring: Ring,
    listener: OwnedFd,
    listens: bool,
    /// What clients send.
    message: Chunk,
    conns: Vec<Option<Conn>>,
    free: Vec<Id>,
    clients: usize,
    news: Vec<(u32, News)>,
    echoed: u64,
    requests: Option<Requests>,
}

type IsAnswer = dyn Fn(&[u8]) -> Result<bool>;

/// What is different where messages are requests of HTTP and their answers.
struct Requests {
    /// What servers answer.
    answer: Chunk,
    /// Whether what a client has received is its answer.
    is_answer: Box<IsAnswer>,
}

/// The size of an answer's body, which is what counts of it.
pub const ANSWER: usize = 64;
const ANSWER_HEAD: &str = "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Tue, 24 Nov 2026 20:00:00 GMT\r\n\
    Content-Type: text/plain\r\nContent-Length: 64\r\nConnection: keep-alive\r\n\r\n";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: site.bench\r\n\r\n";

/// A connection of the traffic. It keeps its place until nothing of it is left in the ring.
struct Conn {
    end: End,
    /// None: closed, and waits for the end of its receive.
    socket: Option<OwnedFd>,
    /// What a client has of an answer that came in parts.
    so_far: Vec<u8>,
}

impl Net {
    /// A loop for messages of `size` bytes.
    ///
    /// # Errors
    /// No ring is to be had, or a message is larger than a buffer of it.
    pub fn new(servers: &Servers, size: usize) -> Result<Self> {
        let mut ring = Ring::new()?;
        let message = message(&mut ring, &vec![b'm'; size])?;
        Self::of(servers, ring, message, None)
    }

    /// A loop for requests of HTTP. `is_answer` tells whether what a client has received is its answer, whole.
    ///
    /// # Errors
    /// No ring is to be had.
    pub fn of_requests(servers: &Servers, is_answer: impl Fn(&[u8]) -> Result<bool> + 'static) -> Result<Self> {
        let mut ring = Ring::new()?;
        let request = message(&mut ring, REQUEST)?;
        let answer = message(&mut ring, format!("{ANSWER_HEAD}{}", "x".repeat(ANSWER)).as_bytes())?;
        Self::of(servers, ring, request, Some(Requests { answer, is_answer: Box::new(is_answer) }))
    }

    fn of(servers: &Servers, mut ring: Ring, message: Chunk, requests: Option<Requests>) -> Result<Self> {
        let listener = servers.listener()?;
        ring.accept(&listener, LISTENER);
        let (conns, free, news) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { ring, listener, listens: true, message, conns, free, clients: 0, news, echoed: 0, requests })
    }
}

impl Courier for Net {
    fn connect(&mut self, to: SocketAddr) -> Result<Id> {
        let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        do_not_pace(&socket);
        // Doesn't wait: on loopback the handshake is over before the call would sleep, unless the backlog is full.
        net::connect(&socket, &to).map_err(|error| format!("connecting to {to}: {error}"))?;
        let id = self.add(socket, End::Client);
        self.send(id)?;
        Ok(id)
    }

    fn prepare_to_stay(&mut self, id: Id) -> Result<()> {
        let socket = self.conns[id].as_ref().and_then(|conn| conn.socket.as_ref()).ok_or("a connection is closed")?;
        Ok(sockopt::set_tcp_nodelay(socket, true)?)
    }

    fn send(&mut self, id: Id) -> Result<()> {
        if let Some(Conn { socket: Some(socket), .. }) = &self.conns[id] {
            self.ring.send(socket, &self.message, id as u32);
        }
        Ok(())
    }

    fn close(&mut self, id: Id) {
        let Some(socket) = self.conns[id].as_mut().and_then(|conn| conn.socket.take()) else { return };
        // The receive would hold the socket open.
        self.ring.cancel(&socket);
        self.ring.close(socket);
    }

    fn stop_listening(&mut self) -> Result<()> {
        self.ring.cancel(&self.listener);
        if self.requests.is_some() {
            // Balancers keep connections of which they may need one again.
            (0..self.conns.len()).for_each(|id| self.close(id));
        }
        Ok(())
    }

    fn open(&self) -> usize {
        self.conns.len() - self.free.len() + usize::from(self.listens)
    }

    fn clients(&self) -> usize {
        self.clients
    }

    fn echoed(&self) -> u64 {
        self.echoed
    }

    fn turn(&mut self, wait: Duration, answers: &mut Vec<(Id, usize)>) -> Result<Instant> {
        let mut news = std::mem::take(&mut self.news);
        self.ring.turn(wait, &mut news)?;
        let now = Instant::now();
        for (token, what) in news.drain(..) {
            match (token, what) {
                (id, News::Failed(_)) if self.may_break(id as Id) => self.on_ended(id as Id)?,
                (_, News::Failed(error)) => return Err(format!("a message or connection failed: {error}").into()),
                (LISTENER, News::Accepted(socket)) => drop(self.add(socket, End::Server)),
                (LISTENER, _) => self.listens = false,
                (id, News::Received(chunk)) => self.on_received(id as Id, chunk, answers)?,
                (id, _) => self.on_ended(id as Id)?,
            }
        }
        self.news = news;
        Ok(now)
    }
}

impl Net {
    fn on_received(&mut self, id: Id, chunk: Chunk, answers: &mut Vec<(Id, usize)>) -> Result<()> {
        match (&mut self.conns[id], &self.requests) {
            (Some(Conn { end: End::Server, socket: Some(socket), .. }), None) => {
                self.echoed += chunk.bytes() as u64;
                self.ring.send_away(socket, chunk, id as u32);
                return Ok(());
            }
            (Some(Conn { end: End::Server, socket: Some(socket), .. }), Some(requests)) => {
                // Its beginning may have come before. There is one at a time.
                if self.ring.open(&chunk).ends_with(b"\r\n\r\n") {
                    self.echoed += ANSWER as u64;
                    self.ring.send(socket, &requests.answer, id as u32);
                }
            }
            (Some(Conn { end: End::Client, so_far, .. }), Some(requests)) => {
                so_far.extend_from_slice(self.ring.open(&chunk));
                if (requests.is_answer)(so_far)? {
                    so_far.clear();
                    answers.push((id, ANSWER));
                }
            }
            _ => answers.push((id, chunk.bytes())),
        }
        self.ring.give_back(chunk);
        Ok(())
    }

    /// Whether a connection may end by a reset: balancers may do so to servers of HTTP to which they have nothing more to say.
    fn may_break(&self, id: Id) -> bool {
        let conn = self.conns.get(id).and_then(Option::as_ref);
        self.requests.is_some() && conn.is_some_and(|conn| conn.end == End::Server)
    }

    fn on_ended(&mut self, id: Id) -> Result<()> {
        match self.conns[id].take() {
            Some(Conn { end: End::Client, socket: Some(_), .. }) => {
                return Err("the balancer closed a connection".into());
            }
            Some(Conn { end: End::Server, socket: Some(socket), .. }) => self.ring.close(socket),
            Some(Conn { end: End::Client, socket: None, .. }) => self.clients -= 1,
            _ => {}
        }
        self.free.push(id);
        Ok(())
    }

    fn add(&mut self, socket: OwnedFd, end: End) -> Id {
        let id = self.free.pop().unwrap_or_else(|| {
            self.conns.push(None);
            self.conns.len() - 1
        });
        self.ring.receive(&socket, id as u32);
        self.clients += usize::from(end == End::Client);
        self.conns[id] = Some(Conn { end, socket: Some(socket), so_far: Vec::new() });
        id
    }
}

/// A message in a buffer of the ring, where only the ring itself can put it: so it is received, once, and kept.
fn message(ring: &mut Ring, bytes: &[u8]) -> Result<Chunk> {
    if bytes.len() > Chunk::BYTES_MAX {
        return Err(format!("messages have at most {} B", Chunk::BYTES_MAX).into());
    }
    let (sender, receiver) = UnixStream::pair()?;
    net::send(&sender, bytes, net::SendFlags::empty())?;
    let receiver = OwnedFd::from(receiver);
    ring.receive(&receiver, 0);
    drop(sender);
    let (mut news, mut message) = (Vec::new(), None);
    loop {
        ring.turn(Duration::from_secs(1), &mut news)?;
        for (_, what) in news.drain(..) {
            match what {
                News::Received(chunk) if chunk.bytes() == bytes.len() => message = Some(chunk),
                News::Ended => return message.ok_or_else(|| "the ring did not receive its message".into()),
                other => return Err(format!("a message for the ring came as {other:?}").into()),
            }
        }
    }
}
