//! The only meeting point of the planes: what the control plane publishes and the shards read.

pub(crate) mod affinities;
pub(crate) mod counters;
pub(crate) mod http;
mod latency;
pub(crate) mod persistence;
pub(crate) mod publish;
mod server;
pub(crate) mod sources;
pub(crate) mod timings;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Instant;

use crossbeam_utils::CachePadded;

use crate::access::AccessRecords;
use crate::balance::Policy;
use crate::config::{self, Millis, Name, OnUnavailable};
use crate::sys::doorbell::Doorbell;
use crate::tls::accept::Acceptor;
use counters::{FrontendCounters, ProcessLimit, ShardCounters};
use http::Http;
use persistence::Persistence;
use publish::Publication;

pub(crate) use latency::PeakEwma;
pub use server::Candidate;
pub(crate) use server::{Endpoint, Load, Place, Rank, Transport};

/// Identity of a listening address over its life.
pub(crate) type ListenerId = u64;

/// Everything the shards need to know, immutable. A change publishes a new one.
pub(crate) struct Table {
    /// What was changed last by an operator.
    pub(crate) revision: u64,
    /// Rises with every table, also when a server comes up or goes down. Shards acknowledge it.
    pub(crate) generation: u64,
    /// In ascending order of `id`.
    pub(crate) frontends: Vec<Arc<Frontend>>,
    /// Servers whose connections each shard closes when it first sees this table.
    pub(crate) closing: Vec<Arc<Load>>,
}

/// A frontend as the shards see it.
pub(crate) struct Frontend {
    pub(crate) id: u32,
    pub(crate) name: Name,
    pub(crate) listener: ListenerId,
    /// By shard, the listening sockets that it accepts from. The control plane owns them, and closes them only when every
    /// shard has acknowledged a table without them.
    pub(crate) sockets: Arc<[Box<[RawFd]>]>,
    /// What is to be done with a client before a server is chosen, or may be once one is.
    pub(crate) greeting: Option<Arc<Greeting>>,
    /// How requests are handled of clients that make some.
    pub(crate) http: Http,
    /// Its servers: the first group has all, or, where the name in a ClientHello decides, those that are in no group.
    pub(crate) groups: Box<[Group]>,
    /// On which of them clients stay; `None` if they don't.
    pub(crate) persistence: Option<Box<Persistence>>,
    pub(crate) max_connections: u32,
    pub(crate) connect_timeout: Millis,
    pub(crate) redispatch_timeout: Millis,
    pub(crate) idle_timeout: Millis,
    /// Most clients that wait while every server is full.
    pub(crate) queue: u32,
    pub(crate) queue_timeout: Millis,
    pub(crate) on_unavailable: OnUnavailable,
    /// Failures in a row after which a server is suspected; 0 is never.
    pub(crate) eject_after: u32,
    pub(crate) counters: Arc<FrontendCounters>,
}

/// What a frontend hears of its clients, and answers.
pub(crate) struct Greeting {
    /// Its settings.
    pub(crate) config: Arc<config::Frontend>,
    /// Ends the TLS of clients whose server has it ended.
    pub(crate) acceptor: Option<Acceptor>,
    /// Whether every server has it ended, so that this can be done before one is chosen.
    pub(crate) terminates: bool,
}

impl Greeting {
    /// Whether a PROXY header is expected of a client that comes from this address.
    pub(crate) fn is_proxy(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        self.config.accept_proxy_from().iter().any(|network| network.contains(source))
    }
}

/// Servers of a frontend among which one is chosen.
pub(crate) struct Group {
    /// `None` are the servers of no group, or all.
    pub(crate) name: Option<Name>,
    /// The servers that get new connections.
    pub(crate) main: Tier,
    /// Those that get one when the main ones have failed it or are full: passive servers that are not in use.
    pub(crate) standby: Tier,
}

impl Group {
    /// The tier of a rank.
    pub(crate) fn tier(&self, rank: Rank) -> &Tier {
        match rank {
            Rank::Main => &self.main,
            Rank::Standby => &self.standby,
        }
    }
}

/// Servers among which a policy chooses.
pub(crate) struct Tier {
    /// Chooses among `candidates` by position.
    pub(crate) policy: Box<dyn Policy>,
    pub(crate) candidates: Arc<[Candidate]>,
}

impl Frontend {
    /// With the settings of `config`, its listener and the sockets of it, what it hears of clients, and its servers.
    pub(crate) fn new(
        id: u32,
        config: &config::Frontend,
        (listener, sockets): (ListenerId, Arc<[Box<[RawFd]>]>),
        greeting: Option<Arc<Greeting>>,
        groups: Box<[Group]>,
        counters: Arc<FrontendCounters>,
    ) -> Self {
        Self {
            id,
            name: config.name().clone(),
            listener,
            sockets,
            greeting,
            http: Http::of(config),
            groups,
            persistence: None,
            max_connections: config.max_connections().unwrap_or(u32::MAX),
            connect_timeout: config.connect_timeout(),
            redispatch_timeout: config.redispatch_timeout(),
            idle_timeout: config.idle_timeout(),
            queue: config.queue(),
            queue_timeout: config.queue_timeout(),
            on_unavailable: config.on_unavailable(),
            eject_after: config.eject_after(),
            counters,
        }
    }

    /// The same, with clients that stay on their servers.
    pub(crate) fn with_persistence(mut self, persistence: Option<Box<Persistence>>) -> Self {
        self.persistence = persistence;
        self
    }

    /// The servers of a group; `None` for those of no group.
    pub(crate) fn group(&self, name: Option<&Name>) -> Option<&Group> {
        match name {
            None => self.groups.first(),
            Some(name) => self.groups.iter().find(|group| group.name.as_ref() == Some(name)),
        }
    }

    /// Whether the policy of a group needs to know how long servers take.
    pub(crate) fn needs_latency(&self, group: Option<&Name>) -> bool {
        self.group(group).is_some_and(|group| group.main.policy.needs_latency())
    }

    /// The tier of a place.
    pub(crate) fn tier(&self, place: Place) -> Option<&Tier> {
        self.groups.get(place.group).map(|group| group.tier(place.rank))
    }

    /// The name of a server that may get connections at this endpoint, of any client or of those that stay on it.
    pub(crate) fn name_of(&self, endpoint: &Arc<Endpoint>) -> Option<&Name> {
        let place = endpoint.load.place();
        let candidate = place.and_then(|place| self.tier(place)?.candidates.get(place.position));
        let candidate = candidate.filter(|candidate| Arc::ptr_eq(&candidate.endpoint, endpoint));
        let stay = || self.persistence.as_ref().and_then(|persistence| persistence.stay(endpoint.load.id));
        let stay = || stay().filter(|stay| Arc::ptr_eq(&stay.endpoint, endpoint));
        candidate.map(|candidate| &candidate.name).or_else(|| stay().map(|stay| &stay.name))
    }

    /// Whether a server at this endpoint may get connections, of any client or of those that stay on it.
    pub(crate) fn has(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.name_of(endpoint).is_some()
    }
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
    /// Where shards put what is recorded of connections.
    pub(crate) access: AccessRecords,
    /// Woken when a shard has acknowledged a revision.
    pub(crate) control: Thread,
    /// Tells the control plane of a server that fails connections. Takes no lock, and is called seldom.
    pub(crate) suspect: Box<dyn Fn(Suspicion) + Send + Sync>,
    /// Tells the control plane why a server fails its TLS handshakes. As `suspect`.
    pub(crate) troubled: Box<dyn Fn(Trouble) + Send + Sync>,
    /// What every shard's time counts from.
    pub(crate) started: Instant,
    stop: AtomicU8,
    /// How many shards have stopped accepting for good.
    left: AtomicUsize,
    /// How often accepting was to begin anew.
    accept_renewals: AtomicU32,
}

/// A server has failed connections in a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Suspicion {
    /// The server's identity.
    pub(crate) server: u64,
    /// Where it failed.
    pub(crate) addr: SocketAddr,
    pub(crate) failure: Failure,
}

/// Why a server fails its TLS handshakes.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    /// The server's identity.
    pub(crate) server: u64,
    /// What was presented, which check failed, how to mend it.
    pub(crate) sentence: String,
}

/// How a server fails a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It refused, or did not accept in time.
    Connect,
    /// It accepted, and reset the connection before it had sent a byte.
    Reset,
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
    /// For the calling thread as the control thread.
    pub(crate) fn new(
        table: Table,
        doorbells: Box<[Doorbell]>,
        process: ProcessLimit,
        access: AccessRecords,
        suspect: Box<dyn Fn(Suspicion) + Send + Sync>,
        troubled: Box<dyn Fn(Trouble) + Send + Sync>,
    ) -> Self {
        let shards = doorbells.len();
        Self {
            publication: Publication::new(table, shards),
            doorbells,
            counters: (0..shards).map(|_| CachePadded::default()).collect(),
            process,
            access,
            control: thread::current(),
            suspect,
            troubled,
            started: Instant::now(),
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
