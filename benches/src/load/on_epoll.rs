//! Traffic that runs on the epoll loop, as a load.

use std::time::Duration;

use super::Load;
use crate::latency::Latency;
use crate::net::Servers;
use crate::net::epoll::{Net, Traffic};
use crate::tls::Sessions;
use crate::{Result, cpu};

/// What a load is, but for the loop.
pub trait Part: Traffic {
    /// See [`Load::start`].
    ///
    /// # Errors
    /// A connection could not be begun.
    fn start(&mut self, net: &mut Net, port: u16) -> Result<()>;

    /// Does what is due by the clock.
    ///
    /// # Errors
    /// A connection broke.
    fn on_time(&mut self, _: &mut Net) -> Result<()> {
        Ok(())
    }

    /// See [`Load::is_going`].
    fn is_going(&self) -> bool {
        true
    }

    /// Whether it has to look at the clock all the time.
    fn watches_the_clock(&self) -> bool {
        false
    }

    /// See [`Load::units`].
    fn units(&self) -> u64;

    /// See [`Load::latency`].
    fn latency(&mut self) -> Option<&mut Latency> {
        None
    }

    /// See [`Load::count_unanswered`].
    fn count_unanswered(&mut self) {}

    /// See [`Load::cpu`].
    ///
    /// # Errors
    /// A process of it has ended.
    fn cpu(&self) -> Result<Duration> {
        Ok(cpu::used_by_this_thread())
    }

    /// See [`Load::stop`].
    ///
    /// # Errors
    /// A connection broke.
    fn stop(&mut self, net: &mut Net) -> Result<()>;

    /// See [`Load::check`].
    ///
    /// # Errors
    /// Bytes are missing.
    fn check(&self) -> Result<()>;
}

/// A part with its loop.
pub struct OnEpoll<P> {
    net: Net,
    part: P,
}

impl<P: Part> OnEpoll<P> {
    /// A load of this traffic, with TLS if there are sessions.
    ///
    /// # Errors
    /// No epoll is to be had.
    pub fn new(servers: &Servers, sessions: Option<Sessions>, part: P) -> Result<Self> {
        Ok(Self { net: Net::new(servers, sessions)?, part })
    }
}

impl<P: Part> Load for OnEpoll<P> {
    fn start(&mut self, port: u16) -> Result<()> {
        self.part.start(&mut self.net, port)
    }

    fn turn(&mut self, wait: Duration) -> Result<()> {
        let wait = if self.part.watches_the_clock() { Duration::ZERO } else { wait };
        self.net.turn(&mut self.part, wait)?;
        self.part.on_time(&mut self.net)
    }

    fn is_going(&self) -> bool {
        self.part.is_going()
    }

    fn units(&self) -> u64 {
        self.part.units()
    }

    fn latency(&mut self) -> Option<&mut Latency> {
        self.part.latency()
    }

    fn count_unanswered(&mut self) {
        self.part.count_unanswered();
    }

    fn cpu(&self) -> Result<Duration> {
        self.part.cpu()
    }

    fn open(&self) -> usize {
        self.net.open()
    }

    fn stop(&mut self) -> Result<()> {
        self.part.stop(&mut self.net)
    }

    fn check(&self) -> Result<()> {
        self.part.check()
    }
}
