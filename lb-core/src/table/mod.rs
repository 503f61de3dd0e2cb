//! The only meeting point of the planes: what the control plane publishes and the shards read.

pub(crate) mod counters;
mod latency;
pub(crate) mod publish;
mod server;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::Thread;
use std::time::Instant;

use crossbeam_utils::CachePadded;

use crate::balance::Policy;
use crate::config::Millis;
use crate::sys::doorbell::Doorbell;
use counters::{FrontendCounters, ProcessLimit, ShardCounters};
use publish::Publication;

pub(crate) use latency::PeakEwma;
pub use server::Candidate;
pub(crate) use server::{Endpoint, Load};

/// Identity of a listening address over its life.
pub(crate) type ListenerId = u64;

/// Everything the shards need to know, immutable. A change publishes a new one.
pub(crate) struct Table {
    pub(crate) revision: u64,
    /// In ascending order of `id`.
    pub(crate) frontends: Vec<Arc<Frontend>>,
}

/// A frontend as the shards see it.
pub(crate) struct Frontend {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) listener: ListenerId,
    /// A listening socket per shard. The control plane owns them, and closes them only when every shard has acknowledged
    /// a table without them.
    pub(crate) sockets: Arc<[RawFd]>,
    /// Chooses among `candidates` by position.
    pub(crate) policy: Box<dyn Policy>,
    /// The servers that may get new connections.
    pub(crate) candidates: Arc<[Candidate]>,
    pub(crate) max_connections: u32,
    pub(crate) connect_timeout: Millis,
    pub(crate) idle_timeout: Millis,
    pub(crate) counters: Arc<FrontendCounters>,
}

impl Table {
    /// The frontend with this identity, if it is still there.
    pub(crate) fn frontend(&self, id: u32) -> Option<&Arc<Frontend>> {
        let index = self.frontends.binary_search_by_key(&id, |frontend| frontend.id).ok()?;
        self.frontends.get(index)
    }
}

/// What the control plane and all shards hold together.
pub(crate) struct Shared {
    pub(crate) publication: Publication<Table>,
    /// By shard.
    pub(crate) doorbells: Box<[Doorbell]>,
    /// By shard.
    pub(crate) counters: Box<[CachePadded<ShardCounters>]>,
    pub(crate) process: ProcessLimit,
    /// Woken when a shard has acknowledged a revision.
    pub(crate) control: Thread,
    /// What every shard's time counts from.
    pub(crate) started: Instant,
    stop: AtomicU8,
}

/// Whether the balancer is to stop, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// It runs.
    No,
    /// Nothing is accepted; connections go on.
    Drain,
    /// Connections are closed.
    Close,
}

impl Shared {
    pub(crate) fn new(table: Table, doorbells: Box<[Doorbell]>, process: ProcessLimit, control: Thread) -> Self {
        let shards = doorbells.len();
        Self {
            publication: Publication::new(table, shards),
            doorbells,
            counters: (0..shards).map(|_| CachePadded::default()).collect(),
            process,
            control,
            started: Instant::now(),
            stop: AtomicU8::new(Stop::No as u8),
        }
    }

    pub(crate) fn stop(&self) -> Stop {
        match self.stop.load(Ordering::Relaxed) {
            0 => Stop::No,
            1 => Stop::Drain,
            _ => Stop::Close,
        }
    }

    /// Tells the shards to stop. There is no way back to a milder stop.
    pub(crate) fn set_stop(&self, stop: Stop) {
        self.stop.fetch_max(stop as u8, Ordering::Relaxed);
        self.ring_doorbells();
    }

    /// Makes every shard take a turn.
    pub(crate) fn ring_doorbells(&self) {
        self.doorbells.iter().for_each(Doorbell::ring);
    }
}
