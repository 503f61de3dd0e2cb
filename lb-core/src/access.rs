//! Access records: what is told of each connection, or of each request where they are read, when it is over.
//!
//! A shard puts them into a bounded queue of its own and never waits: what finds no place is dropped and counted
//! ([`Status::access_dropped`](crate::Status::access_dropped)). Whoever wants them takes them out, in a thread of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;

use crate::config::Name;
use crate::table::counters::Counter;

/// One connection, or one request, that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessRecord {
    /// When the connection was accepted, or the request's head was there.
    pub began: SystemTime,
    /// The shard.
    pub shard: usize,
    /// The frontend.
    pub frontend: Name,
    /// Where the client comes from; as a PROXY header says, where one was accepted. `None` if it had gone already.
    pub client: Option<SocketAddr>,
    /// The last server that was tried.
    pub server: Option<Name>,
    /// Its address.
    pub server_addr: Option<SocketAddr>,
    /// How many servers were tried.
    pub tries: u32,
    /// From its begin until a server was connected to, or taken from the pool.
    pub until_server: Option<Duration>,
    /// To connect to the server.
    pub connect: Option<Duration>,
    /// From the last bytes of what the server was asked to the first of its answer.
    pub first_byte: Option<Duration>,
    /// From its begin to its end.
    pub duration: Duration,
    /// Bytes that were sent to the server: of a request, with its head.
    pub bytes_to_server: u64,
    /// Bytes that were sent to the client: of an answer, with its head.
    pub bytes_to_client: u64,
    /// How it ended.
    pub end: AccessEnd,
    /// The client's TLS, where it ends here.
    pub tls: Option<AccessTls>,
    /// The request, where they are read.
    pub request: Option<AccessRequest>,
}

/// How a connection or request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessEnd {
    /// In order.
    Done,
    /// The client reset it, or left before its answer was whole.
    Client,
    /// The server reset it, or left before its answer was whole.
    Server,
    /// No server was available, or none could be connected to.
    Unserved,
    /// Nothing went either way for too long.
    Timeout,
    /// The client was not understood, or its handshake failed.
    Refused,
    /// We closed it: its server is gone, or the balancer stops.
    Closed,
}

impl AccessEnd {
    /// In one word: `done`, `client`, `server`, `unserved`, `timeout`, `refused`, `closed`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Client => "client",
            Self::Server => "server",
            Self::Unserved => "unserved",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Closed => "closed",
        }
    }
}

/// The client's TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessTls {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// Whether it went on from an earlier session.
    pub resumed: bool,
}

/// A request and its answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessRequest {
    /// `GET`; empty if the request could not be read.
    pub method: Box<str>,
    /// The request's target as the client wrote it, cut after 1024 bytes.
    pub target: Box<str>,
    /// What the client calls us.
    pub host: Option<Box<str>>,
    /// The answer's status, ours or the server's; `None` if there was none.
    pub status: Option<u16>,
    /// Why we answered, if we did: the words of [`HttpCause`](crate::HttpCause).
    pub cause: Option<crate::HttpCause>,
    /// Whether it went over a pooled connection.
    pub reused: bool,
}

/// Takes out the access records of a balancer. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct AccessRecords {
    /// By shard; none if nothing is recorded.
    shards: Arc<[CachePadded<Kept>]>,
}

/// What one shard has recorded.
#[derive(Debug)]
struct Kept {
    records: ArrayQueue<AccessRecord>,
    /// Those that found no place.
    dropped: Counter,
}

impl AccessRecords {
    /// For so many shards, each of which keeps up to `capacity` records until they are taken; 0 for none.
    pub(crate) fn new(shards: usize, capacity: usize) -> Self {
        let shards = if capacity == 0 { 0 } else { shards };
        let kept = || Kept { records: ArrayQueue::new(capacity), dropped: Counter::default() };
        Self { shards: (0..shards).map(|_| CachePadded::new(kept())).collect() }
    }

    /// Takes a record, if there is one: from the shard that has least room left. Those of one shard come in their order.
    pub fn take(&self) -> Option<AccessRecord> {
        self.shards.iter().max_by_key(|shard| shard.records.len())?.records.pop()
    }

    /// Those that were dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.shards.iter().map(|shard| shard.dropped.get()).sum()
    }

    /// Whether anything is recorded.
    pub(crate) fn are_on(&self) -> bool {
        !self.shards.is_empty()
    }

    /// Keeps a shard's record, or drops and counts it if there is no place. Only the owning shard may call this.
    pub(crate) fn put(&self, shard: usize, record: AccessRecord) {
        if let Some(kept) = self.shards.get(shard)
            && kept.records.push(record).is_err()
        {
            kept.dropped.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(shard: usize, tries: u32) -> AccessRecord {
        AccessRecord {
            began: SystemTime::UNIX_EPOCH,
            shard,
            frontend: "web".parse().unwrap(),
            client: None,
            server: None,
            server_addr: None,
            tries,
            until_server: None,
            connect: None,
            first_byte: None,
            duration: Duration::ZERO,
            bytes_to_server: 0,
            bytes_to_client: 0,
            end: AccessEnd::Done,
            tls: None,
            request: None,
        }
    }

    #[test]
    fn records_come_in_order_and_what_finds_no_place_is_told() {
        let records = AccessRecords::new(2, 2);
        (0..2).for_each(|tries| records.put(1, record(1, tries)));
        assert_eq!(records.dropped(), 0);
        records.put(1, record(1, 2));
        assert_eq!(records.dropped(), 1);
        // The other shard has places of its own.
        records.put(0, record(0, 7));
        let taken: Vec<_> = std::iter::from_fn(|| records.take()).map(|record| (record.shard, record.tries)).collect();
        assert_eq!(taken[0], (1, 0), "the fuller queue first");
        assert_eq!(taken.iter().filter(|(shard, _)| *shard == 1).collect::<Vec<_>>(), [&(1, 0), &(1, 1)]);
        assert!(taken.contains(&(0, 7)) && taken.len() == 3);
        assert_eq!(records.dropped(), 1);
    }

    #[test]
    fn without_room_nothing_is_recorded() {
        let records = AccessRecords::new(2, 0);
        records.put(0, record(0, 0));
        assert!(!records.are_on() && records.take().is_none());
    }
}
