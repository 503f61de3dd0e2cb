//! How long things took since they were added, as it is told to whoever collects metrics.

use std::sync::Arc;

use super::running::{Running, RunningFrontend};
use super::status::Status;
use crate::table::Endpoint;
use crate::table::timings::{Histogram, Timings};

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

pub(super) fn timings(running: &Running) -> Vec<FrontendTimings> {
    let server = |endpoint: &Arc<Endpoint>| {
        let shards = || endpoint.load.shards.iter();
        ServerTimings {
            connect: Timings::total(shards().map(|shard| &shard.connect)),
            first_byte: Timings::total(shards().map(|shard| &shard.first_byte)),
        }
    };
    let frontend = |frontend: &RunningFrontend| {
        let shards = || frontend.table.counters.shards.iter();
        FrontendTimings {
            connections: Timings::total(shards().map(|shard| &shard.durations)),
            requests: Timings::total(shards().map(|shard| &shard.request_durations)),
            servers: frontend.endpoints.iter().map(server).collect(),
        }
    };
    running.0.iter().map(frontend).collect()
}
