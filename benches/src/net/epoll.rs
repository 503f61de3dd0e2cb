//! The event loop of streams, of messages at fixed times and of all TLS, on epoll. Connections are slots in a vector, and
//! what a connection does next is tried at once before waiting for its readiness. TLS is below what loads see: a connection is
//! given to them when its handshake is done.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::{End, Id, Servers, Session, do_not_pace};
use crate::Result;
use crate::tls::Sessions;

/// How many events one wait gives.
const EVENTS: usize = 256;

/// Traffic that this loop carries.
pub trait Traffic {
    /// A connection may have become ready for what it waits for. It is also given here with no flags, once: the server's end
    /// when it has been accepted, and either end of TLS when its handshake is done.
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
    session: Option<Box<Session>>,
    /// What the load waits for.
    interest: EventFlags,
    /// It has nothing more to send, and not all of it is sent yet. Only with TLS.
    is_finishing: bool,
}

/// The listening socket's place; connections never have it.
const LISTENER: u64 = u64::MAX;

/// The event loop.
pub struct Net {
    epoll: OwnedFd,
    listener: OwnedFd,
    sessions: Option<Sessions>,
    conns: Vec<Option<Conn>>,
    free: Vec<Id>,
    events: Vec<Event>,
}

impl Net {
    /// A loop without connections. With `sessions` they will speak TLS.
    ///
    /// # Errors
    /// The epoll could not be made.
    pub fn new(servers: &Servers, sessions: Option<Sessions>) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let listener = servers.listener()?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        let (conns, free, events) = (Vec::new(), Vec::new(), Vec::with_capacity(EVENTS));
        Ok(Self { epoll, listener, sessions, conns, free, events })
    }

    /// Connections that are open, of both ends.
    pub fn open(&self) -> usize {
        self.conns.len() - self.free.len()
    }

    /// Begins a connection. It may be used at once; until it is established, sending would block. With TLS it is established
    /// already, and what is sent waits for the handshake.
    ///
    /// # Errors
    /// Out of ports or descriptors, or refused.
    pub fn connect(&mut self, to: SocketAddr, interest: EventFlags) -> Result<Id> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        do_not_pace(&socket);
        match net::connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(format!("connecting to {to}: {error}").into()),
        }
        let mut session = self.sessions.as_ref().map(Sessions::of_client).transpose()?;
        if let Some(session) = &mut session
            && !session.flush(&socket)?
        {
            return Err("a connection to a balancer was not established at once".into());
        }
        self.add(socket, End::Client, interest, session)
    }

    /// The connection at `id`, if it has not been closed.
    pub fn conn(&mut self, id: Id) -> Option<&mut Conn> {
        self.conns.get_mut(id)?.as_mut()
    }

    /// Closes a connection.
    pub fn close(&mut self, id: Id) {
        let Some(Conn { socket, session, is_finishing, .. }) = self.conns[id].take() else { return };
        if let Some(mut session) = session.filter(|_| !is_finishing) {
            // The other end may have closed first.
            let _ = session.finish_sending(&socket);
        }
        self.free.push(id);
    }

    /// Says that nothing more will be sent, and waits for the other end to do the same.
    ///
    /// # Errors
    /// The connection has been reset.
    pub fn finish_sending(&mut self, id: Id) -> Result<()> {
        let Some(conn) = self.conns[id].as_mut() else { return Ok(()) };
        conn.is_finishing = match &mut conn.session {
            Some(session) => !session.finish_sending(&conn.socket)?,
            None => false,
        };
        let interest = if conn.is_finishing { EventFlags::OUT } else { EventFlags::IN };
        if !conn.is_finishing {
            net::shutdown(&conn.socket, net::Shutdown::Write)?;
        }
        Ok(epoll::modify(&self.epoll, &conn.socket, EventData::new_u64(id as u64), interest)?)
    }

    /// A server's answer: what it received. Closes when the client's end does. Gives how many bytes were echoed.
    ///
    /// # Errors
    /// The connection broke.
    pub fn echo(&mut self, id: Id, buffer: &mut [u8], events: EventFlags) -> Result<u64> {
        let mut echoed = 0;
        while let Some(conn) = self.conn(id) {
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
                Received::End => self.close(id),
            }
        }
        Ok(echoed)
    }

    /// Accepts no more.
    ///
    /// # Errors
    /// The kernel does not know the listener.
    pub fn stop_listening(&self) -> Result<()> {
        Ok(epoll::delete(&self.epoll, &self.listener)?)
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
                id => self.on_event(traffic, id as Id, event.flags)?,
            }
        }
        self.events = events;
        Ok(())
    }

    fn on_event(&mut self, traffic: &mut dyn Traffic, id: Id, events: EventFlags) -> Result<()> {
        let Some(conn) = self.conn(id) else { return Ok(()) };
        if conn.is_finishing {
            return self.finish_sending(id);
        }
        if conn.is_handshaking() {
            if !self.shake_hands(id)? {
                return Ok(());
            }
            traffic.on_ready(self, id, EventFlags::empty())?;
        }
        traffic.on_ready(self, id, events)?;
        while self.conn(id).and_then(|conn| conn.session.as_ref()).is_some_and(|session| session.has_more()) {
            traffic.on_ready(self, id, events)?;
        }
        Ok(())
    }

    /// Goes on with a handshake. When it is done, the connection waits for what the load wants.
    fn shake_hands(&mut self, id: Id) -> Result<bool> {
        let Some(Conn { socket, session: Some(session), interest, .. }) = &mut self.conns[id] else { return Ok(true) };
        let is_done = session.shake_hands(socket)?;
        if is_done && *interest != EventFlags::IN {
            epoll::modify(&self.epoll, socket, EventData::new_u64(id as u64), *interest)?;
        }
        Ok(is_done)
    }

    fn accept(&mut self, traffic: &mut dyn Traffic) -> Result<()> {
        loop {
            match net::accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => {
                    let session = self.sessions.as_ref().map(Sessions::of_server).transpose()?.flatten();
                    let is_ready = session.is_none();
                    let id = self.add(socket, End::Server, traffic.server_interest(), session)?;
                    if is_ready {
                        traffic.on_ready(self, id, EventFlags::empty())?;
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(format!("accepting at a server: {error}").into()),
            }
        }
    }

    fn add(&mut self, socket: OwnedFd, end: End, interest: EventFlags, session: Option<Session>) -> Result<Id> {
        let id = self.free.pop().unwrap_or_else(|| {
            self.conns.push(None);
            self.conns.len() - 1
        });
        if session.is_some() {
            // What is sent after a handshake's last word would wait for its acknowledgement. Programs that speak TLS do this.
            net::sockopt::set_tcp_nodelay(&socket, true)?;
        }
        // A handshake is received before anything else, by either end.
        let first = if session.is_some() { EventFlags::IN } else { interest };
        epoll::add(&self.epoll, &socket, EventData::new_u64(id as u64), first)?;
        let session = session.map(Box::new);
        self.conns[id] = Some(Conn { socket, end, received: 0, sent: 0, session, interest, is_finishing: false });
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
    /// Whether its TLS handshake is under way.
    pub fn is_handshaking(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_handshaking())
    }

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
    /// length of them. Of TLS they are decrypted and then dropped.
    ///
    /// # Errors
    /// See [`Conn::receive`].
    pub fn discard(&mut self, buffer: &mut [u8]) -> Result<Received> {
        self.receive_with(buffer, RecvFlags::TRUNC)
    }

    fn receive_with(&mut self, buffer: &mut [u8], flags: RecvFlags) -> Result<Received> {
        if let Some(session) = &mut self.session {
            let received = match flags {
                RecvFlags::TRUNC => session.discard(&self.socket, buffer)?,
                _ => session.receive(&self.socket, buffer)?,
            };
            self.received += if let Received::Bytes(bytes) = received { bytes as u64 } else { 0 };
            return Ok(received);
        }
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
        if let Some(session) = &mut self.session {
            let sent = session.send(&self.socket, message)?;
            self.sent += sent as u64;
            return match sent == message.len() {
                true => Ok(true),
                false => Err(format!("{:?} sent {sent} of {} bytes by TLS", self.end, message.len()).into()),
            };
        }
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

    /// Sends a stretch of a stream, whatever it is: `bytes` by TLS, else `file`, which has as many, without copying them.
    /// Gives how many were sent, 0 if the connection takes none now.
    ///
    /// # Errors
    /// The connection has been reset.
    pub fn send_stretch(&mut self, file: impl AsFd, bytes: &[u8]) -> Result<usize> {
        if let Some(session) = &mut self.session {
            let sent = session.send(&self.socket, bytes)?;
            self.sent += sent as u64;
            return Ok(sent);
        }
        let (mut from, count) = (0, bytes.len());
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
