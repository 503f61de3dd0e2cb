//! The event loop of streams and of messages at fixed times, on epoll. Connections are slots in a vector, and what a
//! connection does next is tried at once before waiting for its readiness.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::{End, Id, Servers, do_not_pace};
use crate::Result;

/// How many events one wait gives.
const EVENTS: usize = 256;

/// Traffic that this loop carries.
pub trait Traffic {
    /// A connection may have become ready for what it waits for. The server's end is also given here when it has just been
    /// accepted, with no flags.
    ///
    /// # Errors
    /// A connection broke, or too many bytes came.
    fn on_ready(&mut self, net: &mut Net, id: Id, events: EventFlags) -> Result<()>;

    /// What a connection that a server accepts now waits for.
    fn server_interest(&self) -> EventFlags;
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
    /// A loop without connections.
    ///
    /// # Errors
    /// The epoll could not be made.
    pub fn new(servers: &Servers) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let listener = servers.listener()?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self { epoll, listener, conns: Vec::new(), free: Vec::new(), events: Vec::with_capacity(EVENTS) })
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
        do_not_pace(&socket);
        match net::connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => self.add(socket, End::Client, interest),
            Err(error) => Err(format!("connecting to {to}: {error}").into()),
        }
    }

    /// The connection at `id`, if it has not been closed.
    pub fn conn(&mut self, id: Id) -> Option<&mut Conn> {
        self.conns.get_mut(id)?.as_mut()
    }

    /// Closes a connection.
    pub fn close(&mut self, id: Id) {
        if self.conns[id].take().is_some() {
            self.free.push(id);
        }
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

    /// Waits once and serves what is ready.
    ///
    /// # Errors
    /// What the traffic found wrong.
    pub fn turn(&mut self, traffic: &mut dyn Traffic, wait: Duration) -> Result<()> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait.try_into()?)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            match event.data.u64() {
                LISTENER => self.accept(traffic)?,
                id => traffic.on_ready(self, id as Id, event.flags)?,
            }
        }
        self.events = events;
        Ok(())
    }

    fn accept(&mut self, traffic: &mut dyn Traffic) -> Result<()> {
        loop {
            match net::accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => {
                    let id = self.add(socket, End::Server, traffic.server_interest())?;
                    traffic.on_ready(self, id, EventFlags::empty())?;
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
