//! A server as balancing sees it, and what of it survives changes.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use super::counters::{Counter, ServerCounters};
use super::latency::{Latency, PeakEwma};
use crate::config::{Name, SendProxy};
use crate::tls::cause::Cause;
use crate::tls::dial::Dialer;

/// The identity of a server: stays when it is renamed, re-addressed, drained or down.
pub(crate) struct Load {
    /// Unique in the process.
    pub(crate) id: u64,
    busy: CachePadded<Busy>,
    /// See [`Place::encode`]. During a change shards with the old table may see the new place: policies must take any
    /// position.
    place: AtomicU32,
    /// Connects that have failed since the last one that did not.
    pub(crate) connect_failures: Streak,
    /// Connections that were reset without a byte since the last one that was answered.
    pub(crate) resets: Streak,
    /// What is wrong with its TLS since the last handshake that was good: a [`Cause`] and one more, or 0.
    trouble: AtomicU8,
    /// How often it came up, or went down. Only the control thread writes it.
    pub(crate) health_changes: Counter,
    /// One per shard, written by that shard only.
    pub(crate) shards: Box<[CachePadded<ServerCounters>]>,
}

/// Which tier a server is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rank {
    Main,
    Standby,
}

/// Where a server stands among its frontend's candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Which of the frontend's groups it is in.
    pub(crate) group: usize,
    pub(crate) rank: Rank,
    pub(crate) position: usize,
}

impl Place {
    const NOWHERE: u32 = u32::MAX;
    const STANDBY: u32 = 1 << 31;
    const POSITION_BITS: u32 = 16;

    /// In 32 bits: a frontend has far fewer servers, and so groups, than would need more.
    fn encode(place: Option<Self>) -> u32 {
        let Some(Self { group, rank, position }) = place else { return Self::NOWHERE };
        let rank = if rank == Rank::Standby { Self::STANDBY } else { 0 };
        rank | (group as u32) << Self::POSITION_BITS | position as u32
    }

    fn decode(place: u32) -> Option<Self> {
        let rank = if place & Self::STANDBY == 0 { Rank::Main } else { Rank::Standby };
        let group = ((place & !Self::STANDBY) >> Self::POSITION_BITS) as usize;
        let position = (place & ((1 << Self::POSITION_BITS) - 1)) as usize;
        (place != Self::NOWHERE).then_some(Self { group, rank, position })
    }
}

/// Failures in a row, counted by all shards.
#[derive(Debug, Default)]
pub(crate) struct Streak(AtomicU32);

impl Streak {
    /// Counts one failure more. True if with it there are `limit` of them, or two, four, eight times as many: more and more
    /// seldom, should nothing come of it. Never if the limit is 0.
    pub(crate) fn on_failure(&self, limit: u32) -> bool {
        let failures = self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        limit > 0 && failures.is_multiple_of(limit) && (failures / limit).is_power_of_two()
    }

    /// Ends the streak. Writes only if there is one, so that good servers cost no shared cache line.
    pub(crate) fn end(&self) {
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }
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
    pub(crate) fn new(id: u64, shards: usize) -> Self {
        Self {
            id,
            busy: CachePadded::default(),
            place: AtomicU32::new(Place::NOWHERE),
            connect_failures: Streak::default(),
            resets: Streak::default(),
            trouble: AtomicU8::new(0),
            health_changes: Counter::default(),
            shards: (0..shards).map(|_| CachePadded::default()).collect(),
        }
    }

    pub(crate) fn open(&self) -> u32 {
        self.busy.open.load(Ordering::Relaxed)
    }

    /// A TLS handshake with it has failed. True if the last one did not, or for another cause.
    pub(crate) fn begin_trouble(&self, cause: Cause) -> bool {
        let trouble = cause as u8 + 1;
        self.trouble.swap(trouble, Ordering::Relaxed) != trouble
    }

    /// One was good. Writes only if the last one was not.
    pub(crate) fn end_trouble(&self) {
        if self.has_trouble() {
            self.trouble.store(0, Ordering::Relaxed);
        }
    }

    /// Whether the last TLS handshake with it has failed.
    pub(crate) fn has_trouble(&self) -> bool {
        self.trouble.load(Ordering::Relaxed) != 0
    }

    /// How long it takes. Known only where a policy needs it.
    pub(crate) fn latency(&self) -> &Latency {
        &self.busy.latency
    }

    pub(crate) fn place(&self) -> Option<Place> {
        Place::decode(self.place.load(Ordering::Relaxed))
    }

    pub(crate) fn set_place(&self, place: Option<Place>) {
        self.place.store(Place::encode(place), Ordering::Relaxed);
    }
}

/// How a server is spoken to.
#[derive(Default)]
pub(crate) struct Transport {
    /// The client's TLS ends here.
    pub(crate) offload: bool,
    /// The server is spoken to in TLS.
    pub(crate) dialer: Option<Arc<Dialer>>,
    /// What it is told first of where the client comes from.
    pub(crate) send_proxy: SendProxy,
}

impl Transport {
    /// Whether bytes are passed on as they come, from the first one on.
    pub(crate) fn is_plain(&self) -> bool {
        self.dialer.is_none() && self.send_proxy == SendProxy::Off
    }
}

/// One address of a server and how it is spoken to there. A server for which either changes gets a new endpoint; connections
/// hold the one they use.
pub(crate) struct Endpoint {
    pub(crate) addr: SocketAddr,
    pub(crate) transport: Transport,
    pub(crate) load: Arc<Load>,
    /// Connections on this address over all shards.
    open: AtomicU32,
}

impl Endpoint {
    pub(crate) fn new(addr: SocketAddr, transport: Transport, load: Arc<Load>) -> Self {
        Self { addr, transport, load, open: AtomicU32::new(0) }
    }

    pub(crate) fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Gives a connection to this address, unless the server has `max` of them.
    pub(crate) fn open_one(&self, max: u32) -> bool {
        // One that is full is only read: while clients wait, every full server is asked in every turn.
        if self.load.busy.open.load(Ordering::Relaxed) >= max {
            return false;
        }
        if self.load.busy.open.fetch_add(1, Ordering::Relaxed) >= max {
            self.load.busy.open.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        true
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
    /// While servers start slowly, a share among weights that are all scaled up.
    pub(crate) weight: u16,
    /// Most connections, `u32::MAX` for no limit.
    pub(crate) max_connections: u32,
    pub(crate) endpoint: Arc<Endpoint>,
}

impl Candidate {
    /// A candidate that belongs to no balancer, for testing and measuring policies.
    pub fn detached(name: Name, addr: SocketAddr, weight: u16) -> Self {
        let endpoint = Arc::new(Endpoint::new(addr, Transport::default(), Arc::new(Load::new(0, 1))));
        Self { name, weight, max_connections: u32::MAX, endpoint }
    }

    /// The server's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Where connections to it go.
    pub fn addr(&self) -> SocketAddr {
        self.endpoint.addr
    }

    /// Its share: 1 to 256, or, while servers of its frontend start slowly, up to ten times that.
    pub fn weight(&self) -> u16 {
        self.weight
    }

    /// Its connections now, over all shards.
    pub fn connections(&self) -> u32 {
        self.endpoint.load.open()
    }

    /// Counts a connection to it, as the balancer does when it has chosen it; for testing and measuring policies.
    pub fn count_opened(&self) {
        self.endpoint.open_one(u32::MAX);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_are_told_of_more_and_more_seldom() {
        let streak = Streak::default();
        let told: Vec<_> = (1..=100).filter(|_| streak.on_failure(5)).collect();
        assert_eq!(told, [5, 10, 20, 40, 80]);
        streak.end();
        assert_eq!((1..=9).filter(|_| streak.on_failure(5)).count(), 1);
        assert!(!(0..9).any(|_| Streak::default().on_failure(0)));
    }

    #[test]
    fn a_place_is_what_was_encoded() {
        for rank in [Rank::Main, Rank::Standby] {
            for position in [0, 1, 16_383] {
                let place = Some(Place { group: position % 7, rank, position });
                assert_eq!(Place::decode(Place::encode(place)), place);
            }
        }
        assert_eq!(Place::decode(Place::encode(None)), None);
    }
}
