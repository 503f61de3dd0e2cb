//! Chats beside streams: what short messages suffer when others move bulk.

use rustix::event::epoll::EventFlags;

use super::on_epoll::Part;
use super::{Paced, Stream};
use crate::Result;
use crate::latency::Latency;
use crate::net::epoll::{Net, Traffic};
use crate::net::{End, Id};

/// Streams and chats; the unit is a byte of the streams, the latency that of the chats.
#[derive(Debug)]
pub struct Chats {
    streams: Stream,
    chats: Paced,
    port: u16,
    /// The connections of the streams, both ends.
    bulk: Vec<Id>,
    /// The chats were begun: no stream comes any more.
    begun: bool,
}

impl Chats {
    /// These streams and chats.
    pub fn new(streams: Stream, chats: Paced) -> Self {
        Self { streams, chats, port: 0, bulk: Vec::new(), begun: false }
    }
}

impl Traffic for Chats {
    fn on_ready(&mut self, net: &mut Net, id: Id, events: EventFlags) -> Result<()> {
        let is_new = events.is_empty() && net.conn(id).is_some_and(|conn| conn.end == End::Server);
        if is_new {
            // The place may have been that of a stream: some balancers let chats wait until the streams have ended.
            self.bulk.retain(|bulk| *bulk != id);
            self.bulk.extend((!self.begun).then_some(id));
        }
        if self.bulk.contains(&id) {
            self.streams.on_ready(net, id, events)
        } else {
            self.chats.on_ready(net, id, events)
        }
    }

    /// The servers can't tell a stream from a chat: those that they accept before the chats begin are streams.
    fn server_interest(&self) -> EventFlags {
        if self.begun { self.chats.server_interest() } else { self.streams.server_interest() }
    }
}

impl Part for Chats {
    fn start(&mut self, net: &mut Net, port: u16) -> Result<()> {
        self.port = port;
        self.streams.start(net, port)?;
        self.bulk.extend_from_slice(self.streams.clients());
        Ok(())
    }

    fn on_time(&mut self, net: &mut Net) -> Result<()> {
        if !self.begun && self.bulk.len() == 2 * self.streams.clients().len() {
            self.begun = true;
            self.chats.start(net, self.port)?;
        }
        self.chats.on_time(net)
    }

    fn watches_the_clock(&self) -> bool {
        self.chats.watches_the_clock()
    }

    fn units(&self) -> u64 {
        self.streams.units()
    }

    fn latency(&mut self) -> Option<&mut Latency> {
        self.chats.latency()
    }

    fn count_unanswered(&mut self) {
        self.chats.count_unanswered();
    }

    fn stop(&mut self, net: &mut Net) -> Result<()> {
        self.chats.stop(net)?;
        self.streams.stop(net)
    }

    fn check(&self) -> Result<()> {
        self.chats.check()?;
        self.streams.check()
    }
}
