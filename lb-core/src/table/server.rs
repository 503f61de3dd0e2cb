//! A server as balancing sees it, and what of it survives changes.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use super::counters::ServerCounters;
use super::latency::{Latency, PeakEwma};
use crate::config::Name;

/// The identity of a server: stays when it is renamed, re-addressed or drained.
pub(crate) struct Load {
    busy: CachePadded<Busy>,
    /// Where the server stands among its frontend's candidates, `u32::MAX` while it is none. During a change shards with
    /// the old table may see the new position: policies must take any position.
    position: AtomicU32,
    /// One per shard, written by that shard only.
    pub(crate) shards: Box<[CachePadded<ServerCounters>]>,
}

/// What every connection writes and some policies read of two servers per choice: together on the same cache lines, and
/// nothing else there.
#[derive(Default)]
struct Busy {
    /// Connections over all shards, counted from the moment the server is chosen.
    open: AtomicU32,
    latency: Latency,
}

impl Load {
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            busy: CachePadded::default(),
            position: AtomicU32::new(u32::MAX),
            shards: (0..shards).map(|_| CachePadded::default()).collect(),
        }
    }

    pub(crate) fn open(&self) -> u32 {
        self.busy.open.load(Ordering::Relaxed)
    }

    /// How long it takes. Known only where a policy needs it.
    pub(crate) fn latency(&self) -> &Latency {
        &self.busy.latency
    }

    pub(crate) fn position(&self) -> Option<usize> {
        match self.position.load(Ordering::Relaxed) {
            u32::MAX => None,
            position => Some(position as usize),
        }
    }

    pub(crate) fn set_position(&self, position: Option<usize>) {
        self.position.store(position.map_or(u32::MAX, |position| position as u32), Ordering::Relaxed);
    }
}

/// One address of a server. A server that is re-addressed gets a new endpoint; connections hold the one they use.
pub(crate) struct Endpoint {
    pub(crate) addr: SocketAddr,
    pub(crate) load: Arc<Load>,
    /// Connections on this address over all shards.
    open: AtomicU32,
}

impl Endpoint {
    pub(crate) fn new(addr: SocketAddr, load: Arc<Load>) -> Self {
        Self { addr, load, open: AtomicU32::new(0) }
    }

    pub(crate) fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// A connection was given to this address.
    pub(crate) fn on_opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.load.busy.open.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection has left this address.
    pub(crate) fn on_closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.load.busy.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A server that may get new connections, as a policy sees it.
#[derive(Clone)]
pub struct Candidate {
    pub(crate) name: Name,
    pub(crate) weight: u16,
    pub(crate) endpoint: Arc<Endpoint>,
}

impl Candidate {
    /// A candidate that belongs to no balancer, for testing and measuring policies.
    pub fn detached(name: Name, addr: SocketAddr, weight: u16) -> Self {
        Self { name, weight, endpoint: Arc::new(Endpoint::new(addr, Arc::new(Load::new(1)))) }
    }

    /// The server's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Where connections to it go.
    pub fn addr(&self) -> SocketAddr {
        self.endpoint.addr
    }

    /// Its share, 1 to 256.
    pub fn weight(&self) -> u16 {
        self.weight
    }

    /// Its connections now, over all shards.
    pub fn connections(&self) -> u32 {
        self.endpoint.load.open()
    }

    /// Counts a connection to it, as the balancer does when it has chosen it; for testing and measuring policies.
    pub fn count_opened(&self) {
        self.endpoint.on_opened();
    }

    /// Ends what [`Candidate::count_opened`] began.
    pub fn count_closed(&self) {
        self.endpoint.on_closed();
    }

    /// How long it may take to accept a connection, at `now` (as in [`Choice`](crate::balance::Choice)); `None` if that was
    /// not measured yet, or no policy [needs it](crate::balance::Policy::needs_latency). A peak EWMA: a rise counts at once,
    /// and without a sample it fades in ten seconds to 1/e.
    pub fn connect_time(&self, now: u64) -> Option<Duration> {
        as_duration(&self.endpoint.load.latency().connect, now)
    }

    /// How long it may take to begin its answer; as [`Candidate::connect_time`], but for protocols that have no answers it
    /// is never known.
    pub fn first_byte_time(&self, now: u64) -> Option<Duration> {
        as_duration(&self.endpoint.load.latency().first_byte, now)
    }

    /// Learns how long it took to accept a connection, as the balancer does; for testing and measuring policies.
    pub fn record_connect_time(&self, now: u64, taken: Duration) {
        self.endpoint.load.latency().connect.record(now, taken.as_micros() as u64);
    }

    /// Learns how long it took to begin its answer, as the balancer does; for testing and measuring policies.
    pub fn record_first_byte_time(&self, now: u64, taken: Duration) {
        self.endpoint.load.latency().first_byte.record(now, taken.as_micros() as u64);
    }
}

fn as_duration(average: &PeakEwma, now: u64) -> Option<Duration> {
    average.estimate(now).map(|micros| Duration::from_nanos((micros * 1e3) as u64))
}

impl fmt::Debug for Candidate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {} weight {}", self.name, self.endpoint.addr, self.weight)
    }
}
