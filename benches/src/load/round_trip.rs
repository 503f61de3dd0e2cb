//! Messages there and back over connections that stay open, one on its way per connection.

use rustix::event::epoll::EventFlags;
use rustix::net::sockopt::set_tcp_nodelay;

use super::{ARRIVALS, ARRIVALS_AND_START, Load, balancer_address, echo};
use crate::Result;
use crate::net::{End, Id, Net};

/// The load of that name; its unit is a round trip.
#[derive(Debug)]
pub struct RoundTrip {
    connections: usize,
    message: Vec<u8>,
    buffer: Vec<u8>,
    sent: u64,
    answered: u64,
    /// Bytes that the servers sent back.
    echoed: u64,
    stopping: bool,
    /// Answered connections stay open and silent.
    once: bool,
}

impl RoundTrip {
    /// With so many connections, and so many bytes each way.
    pub fn new(connections: usize, size: usize) -> Self {
        let (message, buffer) = (vec![b'm'; size], vec![0; 2 * size]);
        Self { connections, message, buffer, sent: 0, answered: 0, echoed: 0, stopping: false, once: false }
    }

    /// One message over each connection, which then stays open and silent.
    pub fn once(connections: usize, size: usize) -> Self {
        Self { once: true, ..Self::new(connections, size) }
    }

    fn ask(&mut self, net: &mut Net, id: Id) -> Result<()> {
        let Some(conn) = net.conn(id) else { return Ok(()) };
        conn.received = 0;
        self.sent += u64::from(conn.send(&self.message)?);
        Ok(())
    }

    fn on_client(&mut self, net: &mut Net, id: Id) -> Result<()> {
        let Some(conn) = net.conn(id) else { return Ok(()) };
        if conn.sent == 0 {
            // It was not established yet when the first message was tried.
            return self.ask(net, id);
        }
        if !conn.receive_answer(&mut self.buffer, self.message.len())? {
            return Ok(());
        }
        self.answered += 1;
        if self.stopping {
            net.close(id);
            return Ok(());
        }
        if self.once { Ok(()) } else { self.ask(net, id) }
    }
}

impl Load for RoundTrip {
    fn start(&mut self, net: &mut Net, port: u16) -> Result<()> {
        for _ in 0..self.connections {
            let id = net.connect(balancer_address(0, port), ARRIVALS_AND_START)?;
            if let Some(conn) = net.conn(id) {
                set_tcp_nodelay(&conn.socket, true)?;
            }
            self.ask(net, id)?;
        }
        Ok(())
    }

    fn on_ready(&mut self, net: &mut Net, id: Id, events: EventFlags) -> Result<()> {
        match net.conn(id).map(|conn| conn.end) {
            Some(End::Client) => self.on_client(net, id),
            Some(End::Server) => {
                self.echoed += echo(net, id, &mut self.buffer, events)?;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn server_interest(&self) -> EventFlags {
        ARRIVALS
    }

    fn units(&self) -> u64 {
        self.answered
    }

    fn stop(&mut self, _: &mut Net) -> Result<()> {
        self.stopping = true;
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let size = self.message.len() as u64;
        if self.sent == self.answered && self.echoed == self.sent * size {
            return Ok(());
        }
        let (sent, answered, echoed) = (self.sent, self.answered, self.echoed);
        Err(format!("{sent} messages of {size} B were sent, {answered} answered, with {echoed} B by the servers")
            .into())
    }
}
