//! Bytes in one direction, as fast as they go.
//!
//! Neither end touches the bytes: they are sent from a file in memory (`sendfile`) and dropped by the kernel at the
//! other end (`MSG_TRUNC`), so that the balancer's copying is what takes time.

use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::{Load, balancer_address};
use crate::Result;
use crate::net::{End, Id, Net, Received, do_not_pace};

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
    sent: u64,
    received: u64,
    stopping: bool,
}

/// What is sent and received at one go.
const PIECE: usize = 256 << 10;

impl Stream {
    /// With so many connections at once.
    ///
    /// # Errors
    /// There is no memory for the file.
    pub fn new(connections: usize, direction: Direction) -> Result<Self> {
        let file = memfd_create("stream", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, PIECE as u64)?;
        Ok(Self { connections, direction, file, buffer: vec![0; PIECE], sent: 0, received: 0, stopping: false })
    }

    fn source(&self) -> End {
        match self.direction {
            Direction::Down => End::Server,
            Direction::Up => End::Client,
        }
    }

    fn interest(&self, end: End) -> EventFlags {
        if end == self.source() { EventFlags::OUT } else { EventFlags::IN }
    }

    /// The source's end: sends on; when it has finished, waits for the other end to do so too.
    fn on_source(&mut self, net: &mut Net, id: Id) -> Result<()> {
        let Some(conn) = net.conn(id) else { return Ok(()) };
        if !self.stopping {
            self.sent += conn.send_file(&self.file, PIECE)? as u64;
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

impl Load for Stream {
    fn start(&mut self, net: &mut Net, port: u16) -> Result<()> {
        for _ in 0..self.connections {
            let id = net.connect(balancer_address(0, port), self.interest(End::Client))?;
            if let Some(conn) = net.conn(id) {
                do_not_pace(&conn.socket);
            }
        }
        Ok(())
    }

    fn on_ready(&mut self, net: &mut Net, id: Id, events: EventFlags) -> Result<()> {
        match net.conn(id).map(|conn| conn.end) {
            // Accepted after the stop.
            Some(End::Server) if self.stopping && events.is_empty() && self.source() == End::Server => {
                net.finish_sending(id)
            }
            Some(end) if end == self.source() => self.on_source(net, id),
            Some(_) => self.on_sink(net, id),
            None => Ok(()),
        }
    }

    fn server_interest(&self) -> EventFlags {
        self.interest(End::Server)
    }

    fn units(&self) -> u64 {
        self.received
    }

    fn stop(&mut self, net: &mut Net) -> Result<()> {
        self.stopping = true;
        net.ids(self.source()).into_iter().try_for_each(|id| net.finish_sending(id))
    }

    fn check(&self) -> Result<()> {
        if self.sent == self.received {
            return Ok(());
        }
        Err(format!("{} B were sent and {} B came", self.sent, self.received).into())
    }
}
