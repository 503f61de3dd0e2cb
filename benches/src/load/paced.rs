//! Messages there and back at fixed times, whether or not earlier ones have been answered (an open loop).
//!
//! A latency is counted from the moment a message was meant to be sent. If a balancer holds up the messages, later ones wait
//! for a free connection, and this wait counts: nothing is left out because the load had to wait too ("coordinated
//! omission"). The loop never sleeps, so that no message is late because the load's thread had to be woken.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::net::sockopt::set_tcp_nodelay;

use super::on_epoll::Part;
use super::{ARRIVALS, balancer_address};
use crate::Result;
use crate::latency::Latency;
use crate::net::epoll::{Net, Traffic};
use crate::net::{End, Id};

/// The load of that name; its unit is a round trip.
#[derive(Debug)]
pub struct Paced {
    connections: usize,
    interval: Duration,
    message: Vec<u8>,
    buffer: Vec<u8>,
    /// When the next message is to be sent. None: not begun, or stopping.
    next: Option<Instant>,
    /// When those were to be sent for which no connection was free.
    late: VecDeque<Instant>,
    idle: VecDeque<Id>,
    /// When the message that is on its way was to be sent, by connection.
    busy: HashMap<Id, Instant>,
    sent: u64,
    answered: u64,
    echoed: u64,
    latency: Latency,
}

impl Paced {
    /// So many messages of so many bytes a second, over so many connections.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(rate: f64, connections: usize, size: usize) -> Result<Self> {
        let (message, buffer) = (vec![b'm'; size], vec![0; 2 * size]);
        let (interval, latency) = (Duration::from_secs_f64(1.0 / rate), Latency::new()?);
        let (late, idle, busy) = (VecDeque::new(), VecDeque::new(), HashMap::new());
        let (sent, answered, echoed) = (0, 0, 0);
        Ok(Self {
            connections,
            interval,
            message,
            buffer,
            next: None,
            late,
            idle,
            busy,
            sent,
            answered,
            echoed,
            latency,
        })
    }

    fn on_client(&mut self, net: &mut Net, id: Id) -> Result<()> {
        let (Some(conn), Some(due)) = (net.conn(id), self.busy.get(&id)) else { return Ok(()) };
        if !conn.receive_answer(&mut self.buffer, self.message.len())? {
            return Ok(());
        }
        conn.received = 0;
        self.answered += 1;
        self.latency.record(due.elapsed());
        self.busy.remove(&id);
        if self.next.is_some() {
            self.idle.push_back(id)
        } else {
            net.close(id)
        }
        Ok(())
    }

    /// Sends what is late as far as connections are free.
    fn send_late(&mut self, net: &mut Net) -> Result<()> {
        while let (Some(due), Some(id)) = (self.late.front(), self.idle.front()) {
            let Some(conn) = net.conn(*id) else { return Ok(()) };
            if !conn.send(&self.message)? {
                // Not established yet.
                return Ok(());
            }
            self.sent += 1;
            self.busy.insert(*id, *due);
            self.late.pop_front();
            self.idle.pop_front();
        }
        Ok(())
    }
}

impl Traffic for Paced {
    fn on_ready(&mut self, net: &mut Net, id: Id, events: EventFlags) -> Result<()> {
        match net.conn(id).map(|conn| conn.end) {
            Some(End::Client) => self.on_client(net, id),
            Some(End::Server) => {
                self.echoed += net.echo(id, &mut self.buffer, events)?;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn server_interest(&self) -> EventFlags {
        ARRIVALS
    }
}

impl Part for Paced {
    fn start(&mut self, net: &mut Net, port: u16) -> Result<()> {
        for _ in 0..self.connections {
            let id = net.connect(balancer_address(0, port), ARRIVALS)?;
            if let Some(conn) = net.conn(id) {
                set_tcp_nodelay(&conn.socket, true)?;
            }
            self.idle.push_back(id);
        }
        self.next = Some(Instant::now());
        Ok(())
    }

    fn on_time(&mut self, net: &mut Net) -> Result<()> {
        let Some(mut next) = self.next else { return Ok(()) };
        let now = Instant::now();
        while next <= now {
            self.late.push_back(next);
            next += self.interval;
        }
        self.next = Some(next);
        self.send_late(net)
    }

    fn watches_the_clock(&self) -> bool {
        self.next.is_some()
    }

    fn units(&self) -> u64 {
        self.answered
    }

    fn latency(&mut self) -> Option<&mut Latency> {
        Some(&mut self.latency)
    }

    /// A balancer that answers nothing would else have the best latency of all.
    fn count_unanswered(&mut self) {
        for due in self.busy.values().chain(&self.late) {
            self.latency.record(due.elapsed());
        }
    }

    fn stop(&mut self, net: &mut Net) -> Result<()> {
        self.next = None;
        self.idle.drain(..).for_each(|id| net.close(id));
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if self.sent == self.answered && self.echoed == self.sent * self.message.len() as u64 {
            return Ok(());
        }
        let (sent, answered, echoed) = (self.sent, self.answered, self.echoed);
        Err(format!("{sent} messages were sent at fixed times, {answered} answered, with {echoed} B by the servers")
            .into())
    }
}
