//! How long things took since they were added, as it is told to whoever collects metrics.

use super::running::Running;
use super::status::Status;

/// A running balancer at one moment, and how long things took since they were added.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// What runs, and how much.
    pub status: Status,
    /// Of the frontends, in the order of [`Status::frontends`].
    pub timings: Vec<FrontendTimings>,
}

/// How long things took at a frontend.
#[derive(Debug, Clone)]
pub struct FrontendTimings {
    /// From the accept of a connection to its end.
    pub connections: Histogram,
    /// From a request's head to the end of its answer; empty where requests are not read.
    pub requests: Histogram,
    /// Of its servers, in the order of [`FrontendStatus::servers`](super::FrontendStatus::servers).
    pub servers: Vec<ServerTimings>,
}

/// How long a server took.
#[derive(Debug, Clone)]
pub struct ServerTimings {
    /// To accept a connection.
    pub connect: Histogram,
    /// From the last bytes of what it was asked to the first of its answer.
    pub first_byte: Histogram,
}

/// How often something took how long.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    counts: [u64; Self::BOUNDS + 1],
    sum_micros: u64,
}

impl Histogram {
    /// Of how many times it is told how often something took no longer.
    pub const BOUNDS: usize = 21;

    /// How often it was measured.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All times together, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_micros as f64 / 1e6
    }

    /// Times in seconds, and how often it took no longer: powers of two of a microsecond, from 64 µs to 67 s.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut sum = 0;
        self.counts[..Self::BOUNDS].iter().enumerate().map(move |(index, count)| {
            sum += count;
            ((64_u64 << index) as f64 / 1e6, sum)
        })
    }
}

pub(super) fn timings(running: &Running) -> Vec<FrontendTimings> {
    let server = || ServerTimings { connect: Histogram::default(), first_byte: Histogram::default() };
    let frontend = |servers: usize| FrontendTimings {
        connections: Histogram::default(),
        requests: Histogram::default(),
        servers: (0..servers).map(|_| server()).collect(),
    };
    running.0.iter().map(|running| frontend(running.entry.frontend.servers().len())).collect()
}
