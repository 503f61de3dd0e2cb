//! Messages there and back, each connection with one on its way: over connections that stay, or a connection for each.
//!
//! Where the client closes, it does so first and in the ordinary way (FIN, not RST): so its port rests in TIME_WAIT, and so
//! does the port that the balancer has towards the server. Many addresses on both sides and `tcp_tw_reuse` (2 on Linux: a
//! port on loopback may be used again after a second) keep both from running out.

use std::time::{Duration, Instant};

use super::{Load, balancer_address};
use crate::Result;
use crate::latency::Latency;
use crate::net::{Courier, Id};

/// What a client does when it has its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Sends the next message over the same connection. A unit is a round trip.
    Ask,
    /// Closes, and connects anew. A unit is a connection.
    Reconnect,
    /// Leaves the connection open and silent.
    Stay,
}

/// The load of messages.
pub struct Messages {
    net: Box<dyn Courier>,
    at_once: usize,
    size: usize,
    then: Then,
    port: u16,
    asked: u64,
    answered: u64,
    /// By connection: when its message was sent, or the connection begun, and the bytes of the answer so far.
    waiting: Vec<(Instant, usize)>,
    answers: Vec<(Id, usize)>,
    latency: Latency,
    stopping: bool,
}

impl Messages {
    /// With so many connections at once, and so many bytes each way, which is what `net` carries.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(net: Box<dyn Courier>, at_once: usize, size: usize, then: Then) -> Result<Self> {
        Ok(Self {
            net,
            at_once,
            size,
            then,
            port: 0,
            asked: 0,
            answered: 0,
            waiting: Vec::new(),
            answers: Vec::new(),
            latency: Latency::new()?,
            stopping: false,
        })
    }

    fn connect(&mut self) -> Result<()> {
        // Those that stay are few, and all to one address.
        let number = if self.then == Then::Reconnect { self.asked } else { 0 };
        let begun = Instant::now();
        let id = self.net.connect(balancer_address(number, self.port))?;
        if self.then != Then::Reconnect {
            self.net.prepare_to_stay(id)?;
        }
        if id >= self.waiting.len() {
            self.waiting.resize(id + 1, (begun, 0));
        }
        self.waiting[id] = (begun, 0);
        self.asked += 1;
        Ok(())
    }

    fn on_bytes(&mut self, id: Id, bytes: usize, now: Instant) -> Result<()> {
        let (since, received) = &mut self.waiting[id];
        *received += bytes;
        if *received > self.size {
            return Err(format!("{received} bytes came for an answer of {}", self.size).into());
        }
        if *received < self.size {
            return Ok(());
        }
        self.answered += 1;
        self.latency.record(now.saturating_duration_since(*since));
        (*since, *received) = (now, 0);
        match self.then {
            Then::Stay => {}
            Then::Ask if !self.stopping => {
                self.net.send(id)?;
                self.asked += 1;
            }
            Then::Ask => self.net.close(id),
            Then::Reconnect => {
                self.net.close(id);
                if !self.stopping {
                    return self.connect();
                }
            }
        }
        Ok(())
    }
}

impl Load for Messages {
    fn start(&mut self, port: u16) -> Result<()> {
        self.port = port;
        (0..self.at_once).try_for_each(|_| self.connect())
    }

    fn turn(&mut self, wait: Duration) -> Result<()> {
        let mut answers = std::mem::take(&mut self.answers);
        let now = self.net.turn(wait, &mut answers)?;
        answers.drain(..).try_for_each(|(id, bytes)| self.on_bytes(id, bytes, now))?;
        self.answers = answers;
        if self.stopping && self.net.clients() == 0 {
            self.net.stop_listening()?;
        }
        Ok(())
    }

    fn is_going(&self) -> bool {
        self.answered >= self.at_once as u64
    }

    fn units(&self) -> u64 {
        self.answered
    }

    fn latency(&mut self) -> Option<&mut Latency> {
        Some(&mut self.latency)
    }

    fn open(&self) -> usize {
        self.net.open()
    }

    fn stop(&mut self) -> Result<()> {
        self.stopping = true;
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let echoed = self.net.echoed();
        if self.asked == self.answered && echoed == self.asked * self.size as u64 {
            return Ok(());
        }
        let (asked, answered, size) = (self.asked, self.answered, self.size);
        Err(format!("{asked} messages of {size} B were sent, {answered} answered, with {echoed} B by the servers")
            .into())
    }
}
