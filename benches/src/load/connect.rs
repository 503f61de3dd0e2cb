//! A connection for each message and its answer.
//!
//! The client closes first, in the ordinary way (FIN, not RST): so its port rests in TIME_WAIT, and so does the port
//! that the balancer has towards the server. Many addresses on both sides and `tcp_tw_reuse` (2 on Linux: a port on
//! loopback may be used again after a second) keep both from running out.

use rustix::event::epoll::EventFlags;

use super::{ARRIVALS, ARRIVALS_AND_START, Load, balancer_address, echo};
use crate::Result;
use crate::net::{End, Id, Net};

/// The load of that name; its unit is a connection.
#[derive(Debug)]
pub struct Connect {
    at_once: usize,
    message: Vec<u8>,
    buffer: Vec<u8>,
    port: u16,
    begun: u64,
    answered: u64,
    echoed: u64,
    stopping: bool,
}

impl Connect {
    /// With so many connections at once, and so many bytes each way.
    pub fn new(at_once: usize, size: usize) -> Self {
        let (message, buffer) = (vec![b'm'; size], vec![0; 2 * size]);
        Self { at_once, message, buffer, port: 0, begun: 0, answered: 0, echoed: 0, stopping: false }
    }

    fn begin(&mut self, net: &mut Net) -> Result<()> {
        let id = net.connect(balancer_address(self.begun, self.port), ARRIVALS_AND_START)?;
        self.begun += 1;
        if let Some(conn) = net.conn(id) {
            conn.send(&self.message)?;
        }
        Ok(())
    }

    fn on_client(&mut self, net: &mut Net, id: Id) -> Result<()> {
        let Some(conn) = net.conn(id) else { return Ok(()) };
        if conn.sent == 0 {
            conn.send(&self.message)?;
            return Ok(());
        }
        if !conn.receive_answer(&mut self.buffer, self.message.len())? {
            return Ok(());
        }
        self.answered += 1;
        net.close(id);
        if self.stopping { Ok(()) } else { self.begin(net) }
    }
}

impl Load for Connect {
    fn start(&mut self, net: &mut Net, port: u16) -> Result<()> {
        self.port = port;
        (0..self.at_once).try_for_each(|_| self.begin(net))
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
        if self.begun == self.answered && self.echoed == self.begun * self.message.len() as u64 {
            return Ok(());
        }
        let (begun, answered, echoed) = (self.begun, self.answered, self.echoed);
        Err(format!("{begun} connections were begun, {answered} answered, with {echoed} B by the servers").into())
    }
}
