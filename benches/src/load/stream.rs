//! Bytes in one direction, as fast as they go.
//!
//! Neither end touches the bytes: they are sent from a file in memory (`sendfile`) and dropped by the kernel at the
//! other end (`MSG_TRUNC`), so that the balancer's copying is what takes time. Ends that speak TLS have to encrypt and decrypt.

use std::os::fd::OwnedFd;

use nix::sys::socket::SetSockOpt;
use nix::{libc, setsockopt_impl, sockopt_impl};
use rustix::event::epoll::EventFlags;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::balancer_address;
use super::on_epoll::Part;
use crate::Result;
use crate::net::epoll::{Net, Received, Traffic};
use crate::net::{End, Id};

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the server to the client.
    Down,
    /// From the client to the server.
    Up,
}

/// The load of that name; its unit is a byte.
#[derive(Debug)]
pub struct Stream {
    connections: usize,
    direction: Direction,
    file: OwnedFd,
    buffer: Vec<u8>,
    clients: Vec<Id>,
    servers: Vec<Id>,
    sent: u64,
    received: u64,
    stopping: bool,
}

/// What is sent and received at one go.
const PIECE: usize = 256 << 10;
/// A receiver is told when so much is there, or the end (SO_RCVLOWAT, socket(7)). A program that takes a packet at a time would
/// be busier than the balancer, and be what is measured.
pub(super) const TOLD_AT: libc::c_int = 128 << 10;

sockopt_impl!(
    /// See [`TOLD_AT`].
    ReceiveLowWater, SetOnly, libc::SOL_SOCKET, libc::SO_RCVLOWAT, libc::c_int
);

impl Stream {
    /// With so many connections at once.
    ///
    /// # Errors
    /// There is no memory for the file.
    pub fn new(connections: usize, direction: Direction) -> Result<Self> {
        let file = memfd_create("stream", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, PIECE as u64)?;
        let (clients, servers) = (Vec::new(), Vec::new());
        let buffer = vec![0; PIECE];
        Ok(Self { connections, direction, file, buffer, clients, servers, sent: 0, received: 0, stopping: false })
    }

    /// The clients' connections.
    pub fn clients(&self) -> &[Id] {
        &self.clients
    }

    fn source(&self) -> End {
        match self.direction {
            Direction::Down => End::Server,
            Direction::Up => End::Client,
        }
    }

    /// Handshakes are short: their connections are told of every byte.
    fn prepare(&self, net: &mut Net, id: Id) -> Result<()> {
        match net.conn(id) {
            Some(conn) if conn.end != self.source() && !conn.is_handshaking() => {
                Ok(ReceiveLowWater.set(&conn.socket, &TOLD_AT)?)
            }
            _ => Ok(()),
        }
    }

    fn interest(&self, end: End) -> EventFlags {
        if end == self.source() { EventFlags::OUT } else { EventFlags::IN }
    }

    /// The source's end: sends on; when it has finished, waits for the other end to do so too.
    fn on_source(&mut self, net: &mut Net, id: Id) -> Result<()> {
        let Some(conn) = net.conn(id) else { return Ok(()) };
        if !self.stopping {
            self.sent += conn.send_stretch(&self.file, &self.buffer)? as u64;
            return Ok(());
        }
        match conn.receive(&mut self.buffer)? {
            Received::Bytes(bytes) => Err(format!("{bytes} B came against the stream").into()),
            Received::Nothing => Ok(()),
            Received::End => {
                net.close(id);
                Ok(())
            }
        }
    }

    fn on_sink(&mut self, net: &mut Net, id: Id) -> Result<()> {
        let Some(conn) = net.conn(id) else { return Ok(()) };
        match conn.discard(&mut self.buffer)? {
            Received::Bytes(bytes) => self.received += bytes as u64,
            Received::Nothing => {}
            Received::End if self.stopping => net.close(id),
            Received::End => return Err("the balancer closed a stream in the middle".into()),
        }
        Ok(())
    }
}

impl Traffic for Stream {
    fn on_ready(&mut self, net: &mut Net, id: Id, events: EventFlags) -> Result<()> {
        let Some(end) = net.conn(id).map(|conn| conn.end) else { return Ok(()) };
        let is_new = events.is_empty();
        if is_new {
            self.servers.extend((end == End::Server).then_some(id));
            self.prepare(net, id)?;
        }
        match end == self.source() {
            true if is_new && self.stopping => net.finish_sending(id),
            true => self.on_source(net, id),
            false => self.on_sink(net, id),
        }
    }

    fn server_interest(&self) -> EventFlags {
        self.interest(End::Server)
    }
}

impl Part for Stream {
    fn start(&mut self, net: &mut Net, port: u16) -> Result<()> {
        for _ in 0..self.connections {
            let id = net.connect(balancer_address(0, port), self.interest(End::Client))?;
            self.clients.push(id);
            self.prepare(net, id)?;
        }
        Ok(())
    }

    fn units(&self) -> u64 {
        self.received
    }

    fn stop(&mut self, net: &mut Net) -> Result<()> {
        self.stopping = true;
        let sources = if self.source() == End::Client { &self.clients } else { &self.servers };
        sources.iter().try_for_each(|id| net.finish_sending(*id))
    }

    fn check(&self) -> Result<()> {
        if self.sent == self.received {
            return Ok(());
        }
        Err(format!("{} B were sent and {} B came", self.sent, self.received).into())
    }
}
