//! Counters that shards write and the control plane reads: one set per shard, merged on read, outside of the table so
//! that changes keep them.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use super::timings::Timings;
use crate::http;
use crate::tls::cause::Cause;

/// A number with one writing thread, so that counting takes no locked instruction.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds. Only the owning shard may call this.
    pub(crate) fn add(&self, count: u64) {
        self.set(self.get().wrapping_add(count));
    }

    /// Sets. Only the owning shard may call this.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one shard counts of the TLS handshakes with a frontend's clients, or with a server.
#[derive(Debug, Default)]
pub(crate) struct TlsCounters {
    /// Those that were done.
    pub(crate) handshakes: Counter,
    /// Of those, the ones that went on from an earlier session.
    pub(crate) resumed: Counter,
    /// Of all that were done, those by TLS 1.2.
    pub(crate) tls12: Counter,
    /// Handshakes and connections that failed, by cause.
    pub(crate) failed: [Counter; Cause::COUNT],
}

impl TlsCounters {
    /// Counts a failure. Only the owning shard may call this.
    pub(crate) fn on_failed(&self, cause: Cause) {
        self.failed[cause as usize].add(1);
    }
}

/// What one shard counts of a frontend's requests.
#[derive(Debug, Default)]
pub(crate) struct HttpCounters {
    /// Those whose head was read.
    pub(crate) requests: Counter,
    /// Final responses by class: the first is of those with a status of 1xx, which switch protocols.
    pub(crate) responses: [Counter; 5],
    /// Requests that were said again, because a pooled connection had died.
    pub(crate) retried: Counter,
    /// Requests that went over a pooled connection.
    pub(crate) reused: Counter,
    /// Requests that were answered by us, by cause.
    pub(crate) refused: [Counter; http::Cause::COUNT],
}

impl HttpCounters {
    /// Counts an answer of a server's. Only the owning shard may call this.
    pub(crate) fn count(&self, status: u16) {
        if let Some(class) = self.responses.get((usize::from(status) / 100).wrapping_sub(1)) {
            class.add(1);
        }
    }
}

/// What one shard counts of clients that stay on their servers.
#[derive(Debug, Default)]
pub(crate) struct PersistenceCounters {
    /// Choices of the server that a client stays on.
    pub(crate) hits: Counter,
    /// Clients that were new, or had been forgotten.
    pub(crate) new: Counter,
    /// Clients that got another server because theirs was not there, down or had failed them.
    pub(crate) moved: Counter,
}

/// What one shard counts for one server.
#[derive(Debug, Default)]
pub(crate) struct ServerCounters {
    pub(crate) served: Counter,
    /// Connects and handshakes that failed, by [`ConnectFailure`].
    pub(crate) failed: [Counter; 4],
    /// Connections that it reset before it had sent anything for the client.
    pub(crate) reset: Counter,
    pub(crate) bytes_to_server: Counter,
    pub(crate) bytes_to_client: Counter,
    /// Of the handshakes with it.
    pub(crate) tls: TlsCounters,
    /// How long connects took that it accepted.
    pub(crate) connect: Timings,
    /// How long it took to begin its answers.
    pub(crate) first_byte: Timings,
}

/// How a server fails before it has a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectFailure {
    /// It refused.
    Refused,
    /// It did not accept in time.
    TimedOut,
    /// There is no way to it, or whatever else connect(2) says.
    Unreachable,
    /// Its TLS handshake, or what it should be told before, failed.
    Handshake,
}

impl ConnectFailure {
    /// What a connect ended with.
    pub(crate) fn of_errno(errno: i32) -> Self {
        match errno {
            libc::ECONNREFUSED => Self::Refused,
            // Cancelled is what took too long.
            libc::ETIMEDOUT | libc::ECANCELED => Self::TimedOut,
            _ => Self::Unreachable,
        }
    }
}

impl ServerCounters {
    /// Counts a failure. Only the owning shard may call this.
    pub(crate) fn on_failed(&self, failure: ConnectFailure) {
        self.failed[failure as usize].add(1);
    }
}

/// What is counted for a frontend.
#[derive(Debug)]
pub(crate) struct FrontendCounters {
    /// Connections over all shards, which the limit holds for.
    pub(crate) open: CachePadded<AtomicU32>,
    /// Whether it was said that accepting pauses, so that it is said once.
    pub(crate) pause_logged: AtomicBool,
    /// Clients over all shards that wait for a server.
    pub(crate) waiting: CachePadded<AtomicU32>,
    /// When it was last said that servers fail requests, in the shards' milliseconds; 0 is never.
    pub(crate) failure_said: AtomicU64,
    /// When it was last said that connections spill over to servers that stand by, in the shards' milliseconds; 0 is never.
    pub(crate) spill_said: AtomicU64,
    pub(crate) shards: Box<[CachePadded<FrontendShard>]>,
}

/// What one shard counts for one frontend.
#[derive(Debug, Default)]
pub(crate) struct FrontendShard {
    pub(crate) accepted: Counter,
    pub(crate) unserved: Counter,
    /// Of those, the ones that had waited for a server for as long as they may.
    pub(crate) gave_up_waiting: Counter,
    /// Of the unserved ones, those that no server was available for.
    pub(crate) no_server: Counter,
    /// Connections that were served by another server after one had failed.
    pub(crate) redispatched: Counter,
    pub(crate) bytes_to_server: Counter,
    pub(crate) bytes_to_client: Counter,
    /// Of the bytes both ways: spliced, not copied.
    pub(crate) bytes_spliced: Counter,
    /// Changes of a direction between copying and splicing.
    pub(crate) relay_switches: Counter,
    /// 1 while this shard does not accept for the frontend.
    pub(crate) paused: Counter,
    /// How often it began not to.
    pub(crate) pauses: Counter,
    /// How long connections lasted.
    pub(crate) durations: Timings,
    /// How long requests took.
    pub(crate) request_durations: Timings,
    /// Of the handshakes with clients.
    pub(crate) tls: TlsCounters,
    /// Of requests.
    pub(crate) http: HttpCounters,
    /// Handshakes with clients that are in progress.
    pub(crate) handshaking: Counter,
    pub(crate) persistence: PersistenceCounters,
}

impl FrontendCounters {
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            open: CachePadded::default(),
            pause_logged: AtomicBool::new(false),
            waiting: CachePadded::default(),
            failure_said: AtomicU64::new(0),
            spill_said: AtomicU64::new(0),
            shards: (0..shards).map(|_| CachePadded::default()).collect(),
        }
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.shards.iter().map(|shard| shard.accepted.get()).sum()
    }
}

/// What is counted for a shard.
#[derive(Debug, Default)]
pub(crate) struct ShardCounters {
    /// Its thread's number in the system.
    pub(crate) thread: Counter,
    pub(crate) turns: Counter,
    pub(crate) completions: Counter,
    /// Relay buffers with bytes in them.
    pub(crate) buffers_in_use: Counter,
    pub(crate) revision: Counter,
    pub(crate) connections: Counter,
    pub(crate) accepted: Counter,
    pub(crate) buffer_bytes: Counter,
    pub(crate) pipes: Counter,
    pub(crate) kept_sockets: Counter,
    /// Idle connections to servers that wait for requests.
    pub(crate) pooled: Counter,
    pub(crate) completion_overflows: Counter,
    pub(crate) stale_completions: Counter,
}

/// What may be open beside listeners and connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpareDescriptors {
    /// Most pipes of a shard, of two descriptors each, that are lent to streams at once.
    pub(crate) pipes: usize,
    /// Most sockets of a shard that are kept to be connected anew.
    pub(crate) sockets: usize,
    /// Most servers that are checked at once.
    pub(crate) checks: usize,
}

/// What the process's limits hold for.
#[derive(Debug)]
pub(crate) struct ProcessLimit {
    /// Connections.
    pub(crate) open: CachePadded<AtomicU32>,
    /// Most connections.
    pub(crate) max: u32,
    /// What may be used beside that.
    pub(crate) spare: SpareDescriptors,
    /// Whether it was said that descriptors have run out, so that it is said once.
    pub(crate) shortage_logged: AtomicBool,
}

impl ProcessLimit {
    pub(crate) fn new(max: u32, spare: SpareDescriptors) -> Self {
        Self { open: CachePadded::default(), max, spare, shortage_logged: AtomicBool::new(false) }
    }
}
