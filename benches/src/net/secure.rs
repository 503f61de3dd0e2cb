//! The event loop of messages by TLS, on epoll: the ring keeps what it receives in buffers of its own, where nobody could
//! decrypt it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;

use super::epoll::{self, Received, Traffic};
use super::{Courier, End, Id, Servers};
use crate::Result;
use crate::tls::Sessions;

/// The event loop.
pub struct Net {
    net: epoll::Net,
    ends: Ends,
    listens: bool,
}

/// Both ends of the connections.
struct Ends {
    message: Vec<u8>,
    buffer: Vec<u8>,
    answers: Vec<(Id, usize)>,
    clients: usize,
    echoed: u64,
}

impl Net {
    /// A loop for messages of `size` bytes.
    ///
    /// # Errors
    /// No epoll is to be had.
    pub fn new(servers: &Servers, size: usize, sessions: Sessions) -> Result<Self> {
        let (message, buffer) = (vec![b'm'; size], vec![0; 2 * size]);
        let ends = Ends { message, buffer, answers: Vec::new(), clients: 0, echoed: 0 };
        Ok(Self { net: epoll::Net::new(servers, Some(sessions))?, ends, listens: true })
    }
}

impl Courier for Net {
    fn connect(&mut self, to: SocketAddr) -> Result<Id> {
        let id = self.net.connect(to, EventFlags::IN)?;
        self.ends.clients += 1;
        self.send(id)?;
        Ok(id)
    }

    /// All connections of TLS are prepared for that.
    fn prepare_to_stay(&mut self, _: Id) -> Result<()> {
        Ok(())
    }

    fn send(&mut self, id: Id) -> Result<()> {
        let conn = self.net.conn(id).ok_or("a connection is closed")?;
        conn.send(&self.ends.message).map(drop)
    }

    fn close(&mut self, id: Id) {
        self.net.close(id);
        self.ends.clients -= 1;
    }

    fn stop_listening(&mut self) -> Result<()> {
        if std::mem::take(&mut self.listens) { self.net.stop_listening() } else { Ok(()) }
    }

    fn open(&self) -> usize {
        self.net.open() + usize::from(self.listens)
    }

    fn clients(&self) -> usize {
        self.ends.clients
    }

    fn echoed(&self) -> u64 {
        self.ends.echoed
    }

    fn turn(&mut self, wait: Duration, answers: &mut Vec<(Id, usize)>) -> Result<Instant> {
        self.net.turn(&mut self.ends, wait)?;
        answers.append(&mut self.ends.answers);
        Ok(Instant::now())
    }
}

impl Traffic for Ends {
    fn on_ready(&mut self, net: &mut epoll::Net, id: Id, events: EventFlags) -> Result<()> {
        let Some(conn) = net.conn(id) else { return Ok(()) };
        if conn.end == End::Server {
            self.echoed += net.echo(id, &mut self.buffer, events)?;
            return Ok(());
        }
        match conn.receive(&mut self.buffer)? {
            Received::Bytes(bytes) => self.answers.push((id, bytes)),
            Received::Nothing => {}
            Received::End => return Err("the balancer closed a connection".into()),
        }
        Ok(())
    }

    fn server_interest(&self) -> EventFlags {
        EventFlags::IN
    }
}
