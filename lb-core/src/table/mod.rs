//! The only meeting point of the planes: what the control plane publishes and the shards read.

pub(crate) mod counters;
pub(crate) mod publish;
mod server;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::thread::Thread;

use crossbeam_utils::CachePadded;

use crate::balance::Policy;
use crate::config::Millis;
use crate::sys::doorbell::Doorbell;
use counters::{FrontendCounters, ProcessLimit, ShardCounters};
use publish::Publication;

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
    /// By shard, the listening sockets that it accepts from. The control plane owns them, and closes them only when every
    /// shard has acknowledged a table without them.
    pub(crate) sockets: Arc<[Box<[RawFd]>]>,
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
    stop: AtomicU8,
    /// How many shards have stopped accepting for good.
    left: AtomicUsize,
    /// How often accepting was to begin anew.
    accept_renewals: AtomicU32,
}

/// Whether the balancer is to stop, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// It runs.
    No,
    /// Another process accepts; whoever was accepted here is served.
    HandedOver,
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
            stop: AtomicU8::new(Stop::No as u8),
            left: AtomicUsize::new(0),
            accept_renewals: AtomicU32::new(0),
        }
    }

    pub(crate) fn stop(&self) -> Stop {
        match self.stop.load(Ordering::Relaxed) {
            0 => Stop::No,
            1 => Stop::HandedOver,
            2 => Stop::Drain,
            _ => Stop::Close,
        }
    }

    /// Tells the shards to stop. There is no way back to a milder stop.
    pub(crate) fn set_stop(&self, stop: Stop) {
        self.stop.fetch_max(stop as u8, Ordering::Relaxed);
        self.ring_doorbells();
    }

    /// Says that one shard has stopped accepting: its ring has let go of every listening socket. Once per shard.
    pub(crate) fn on_left(&self) {
        // Release pairs with the acquire in `all_left`, after which the sockets are closed.
        self.left.fetch_add(1, Ordering::Release);
        self.control.unpark();
    }

    /// Whether every shard has stopped accepting.
    pub(crate) fn all_left(&self) -> bool {
        self.left.load(Ordering::Acquire) == self.doorbells.len()
    }

    /// Makes every shard look for waiting clients again.
    ///
    /// The kernel wakes one of those that accept from a socket (io_uring polls exclusively). A process that stops accepting
    /// may have been the one, and leave a client waiting that nobody else was told of.
    pub(crate) fn renew_accepts(&self) {
        self.accept_renewals.fetch_add(1, Ordering::Relaxed);
        self.ring_doorbells();
    }

    pub(crate) fn accept_renewals(&self) -> u32 {
        self.accept_renewals.load(Ordering::Relaxed)
    }

    /// Makes every shard take a turn.
    pub(crate) fn ring_doorbells(&self) {
        self.doorbells.iter().for_each(Doorbell::ring);
    }
}
