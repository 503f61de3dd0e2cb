//! The event loop of the traffic: one thread, one epoll, both the clients and the servers.
//!
//! It is kept cheap, so that the balancer under load is the bottleneck and not this: connections are slots in a vector,
//! and what a connection does next is tried at once before waiting for its readiness.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::Result;
use crate::load::Load;

/// How many events one wait gives.
const EVENTS: usize = 256;
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

/// A connection of the traffic.
#[derive(Debug)]
pub struct Conn {
    /// Its socket.
    pub socket: OwnedFd,
    /// Which end it is.
    pub end: End,
    /// Bytes received since the load last set it to 0.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
}

/// Place of a connection in the loop.
pub type Id = usize;

/// The listening socket's place; connections never have it.
const LISTENER: u64 = u64::MAX;

/// The event loop.
pub struct Net {
    epoll: OwnedFd,
    listener: OwnedFd,
    conns: Vec<Option<Conn>>,
    free: Vec<Id>,
    events: Vec<Event>,
}

impl Net {
    /// A loop whose servers listen on a port of the kernel's choice.
    ///
    /// # Errors
    /// A socket or the epoll could not be made.
    pub fn new() -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let listener = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        net::bind(&listener, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?;
        net::listen(&listener, BACKLOG)?;
        do_not_pace(&listener);
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self { epoll, listener, conns: Vec::new(), free: Vec::new(), events: Vec::with_capacity(EVENTS) })
    }

    /// Where the servers can be reached.
    ///
    /// # Errors
    /// The kernel does not name the port.
    pub fn servers(&self) -> Result<Vec<SocketAddr>> {
        let port = SocketAddr::try_from(net::getsockname(&self.listener)?)?.port();
        Ok((1..=SERVER_ADDRESSES).map(|last| SocketAddr::from(([127, 0, 1, last], port))).collect())
    }

    /// Connections that are open, of both ends.
    pub fn open(&self) -> usize {
        self.conns.len() - self.free.len()
    }

    /// Begins a connection. It may be used at once; until it is established, sending would block.
    ///
    /// # Errors
    /// Out of ports or descriptors, or refused.
    pub fn connect(&mut self, to: SocketAddr, interest: EventFlags) -> Result<Id> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        match net::connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => self.add(socket, End::Client, interest),
            Err(error) => Err(format!("connecting to {to}: {error}").into()),
        }
    }

    /// The connection at `id`, if it has not been closed.
    pub fn conn(&mut self, id: Id) -> Option<&mut Conn> {
        self.conns.get_mut(id)?.as_mut()
    }

    /// The places of all connections of one end.
    pub fn ids(&self, end: End) -> Vec<Id> {
        let is_that = |id: &Id| self.conns[*id].as_ref().is_some_and(|conn| conn.end == end);
        (0..self.conns.len()).filter(is_that).collect()
    }

    /// Closes a connection.
    pub fn close(&mut self, id: Id) {
        if self.conns[id].take().is_some() {
            self.free.push(id);
        }
    }

    /// Closes all connections, at once.
    pub fn close_all(&mut self) {
        self.conns.clear();
        self.free.clear();
    }

    /// Says that nothing more will be sent, and waits for the other end to do the same.
    ///
    /// # Errors
    /// The connection has been reset.
    pub fn finish_sending(&mut self, id: Id) -> Result<()> {
        let Some(conn) = self.conns[id].as_ref() else { return Ok(()) };
        net::shutdown(&conn.socket, net::Shutdown::Write)?;
        epoll::modify(&self.epoll, &conn.socket, EventData::new_u64(id as u64), EventFlags::IN)?;
        Ok(())
    }

    /// Serves events until `is_done`, or until `deadline` at the latest.
    ///
    /// # Errors
    /// What the load found wrong.
    pub fn run_until(
        &mut self,
        load: &mut dyn Load,
        deadline: Instant,
        is_done: impl Fn(&Self, &dyn Load) -> bool,
    ) -> Result<()> {
        while !is_done(self, load) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.turn(load, left)?;
        }
        Ok(())
    }

    /// Waits once and serves what is ready.
    fn turn(&mut self, load: &mut dyn Load, wait: Duration) -> Result<()> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait.try_into()?)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            match event.data.u64() {
                LISTENER => self.accept(load)?,
                id => load.on_ready(self, id as Id, event.flags)?,
            }
        }
        self.events = events;
        Ok(())
    }

    fn accept(&mut self, load: &mut dyn Load) -> Result<()> {
        loop {
            match net::accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => {
                    let id = self.add(socket, End::Server, load.server_interest())?;
                    load.on_ready(self, id, EventFlags::empty())?;
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(format!("accepting at a server: {error}").into()),
            }
        }
    }

    fn add(&mut self, socket: OwnedFd, end: End, interest: EventFlags) -> Result<Id> {
        let id = self.free.pop().unwrap_or_else(|| {
            self.conns.push(None);
            self.conns.len() - 1
        });
        epoll::add(&self.epoll, &socket, EventData::new_u64(id as u64), interest)?;
        self.conns[id] = Some(Conn { socket, end, received: 0, sent: 0 });
        Ok(id)
    }
}

/// Makes a socket send as fast as the other end takes it. The system's default may be an algorithm that paces (bbr), which
/// on loopback holds streams back. The balancers' sockets stay with the default. Accepted sockets inherit it.
pub fn do_not_pace(socket: impl AsFd) {
    // Where it is missing, the default has to do.
    let _ = net::sockopt::set_tcp_congestion(socket, "cubic");
}

/// What a try to receive gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// That many bytes.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The other end has finished sending.
    End,
}

impl Conn {
    /// Receives once.
    ///
    /// # Errors
    /// The connection has been reset, which no load expects.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<Received> {
        self.receive_with(buffer, RecvFlags::empty())
    }

    /// Receives what is there of an answer of `size` bytes; whether it is complete now.
    ///
    /// # Errors
    /// The connection has ended before that, or more came.
    pub fn receive_answer(&mut self, buffer: &mut [u8], size: usize) -> Result<bool> {
        while self.received < size as u64 {
            match self.receive(buffer)? {
                Received::Bytes(_) => {}
                Received::Nothing => return Ok(false),
                Received::End => return Err("the balancer closed a connection before the answer".into()),
            }
        }
        if self.received > size as u64 {
            return Err(format!("{} bytes came for an answer of {size}", self.received).into());
        }
        Ok(true)
    }

    /// Receives once without looking at the bytes: the kernel drops them instead of copying them, at most `buffer`'s
    /// length of them.
    ///
    /// # Errors
    /// See [`Conn::receive`].
    pub fn discard(&mut self, buffer: &mut [u8]) -> Result<Received> {
        self.receive_with(buffer, RecvFlags::TRUNC)
    }

    fn receive_with(&mut self, buffer: &mut [u8], flags: RecvFlags) -> Result<Received> {
        match net::recv(&self.socket, buffer, flags) {
            Ok((_, 0)) => Ok(Received::End),
            Ok((_, bytes)) => {
                self.received += bytes as u64;
                Ok(Received::Bytes(bytes))
            }
            Err(Errno::AGAIN) => Ok(Received::Nothing),
            Err(error) => Err(format!("{:?} receiving: {error}", self.end).into()),
        }
    }

    /// Sends all of `message`, or nothing while the connection is not established. Messages are far smaller than a
    /// socket's buffer, and the next one waits for the answer: so one that fits only in part is an error.
    ///
    /// # Errors
    /// The connection has been reset, or took only a part.
    pub fn send(&mut self, message: &[u8]) -> Result<bool> {
        match net::send(&self.socket, message, SendFlags::NOSIGNAL) {
            Ok(sent) if sent == message.len() => {
                self.sent += sent as u64;
                Ok(true)
            }
            Ok(sent) => Err(format!("{:?} sent {sent} of {} bytes", self.end, message.len()).into()),
            Err(Errno::AGAIN) => Ok(false),
            Err(error) => Err(format!("{:?} sending: {error}", self.end).into()),
        }
    }

    /// Sends from a file without copying its bytes; gives how many, 0 if the connection takes none now.
    ///
    /// # Errors
    /// The connection has been reset.
    pub fn send_file(&mut self, file: impl AsFd, count: usize) -> Result<usize> {
        let mut from = 0;
        match rustix::fs::sendfile(&self.socket, file, Some(&mut from), count) {
            Ok(sent) => {
                self.sent += sent as u64;
                Ok(sent)
            }
            Err(Errno::AGAIN) => Ok(0),
            Err(error) => Err(format!("{:?} sending: {error}", self.end).into()),
        }
    }
}
