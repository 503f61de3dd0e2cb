//! What a running balancer says about itself.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::{Frontend, Server};

/// A running balancer at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The revision in effect.
    pub revision: u64,
    /// Time since the start, in seconds.
    pub uptime_seconds: u64,
    /// Connections now.
    pub connections: u64,
    /// Most connections at once.
    pub max_connections: u64,
    /// Connections that still live on a replaced or removed address.
    pub connections_on_replaced: u64,
    /// All frontends together.
    pub traffic: Traffic,
    /// The shards, by number.
    pub shards: Vec<ShardStatus>,
    /// The frontends, in the order they were added.
    pub frontends: Vec<FrontendStatus>,
}

/// Totals since the start, and rates over the last full second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections reset because no server could be connected to.
    pub unserved: u64,
    /// Bytes from clients to servers.
    pub bytes_to_server: u64,
    /// Bytes from servers to clients.
    pub bytes_to_client: u64,
    /// Connections accepted per second.
    pub accepted_per_second: f64,
    /// Bytes per second from clients to servers.
    pub bytes_to_server_per_second: f64,
    /// Bytes per second from servers to clients.
    pub bytes_to_client_per_second: f64,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// The revision it uses.
    pub revision: u64,
    /// The core it is pinned to.
    pub core: usize,
    /// Its connections now.
    pub connections: u64,
    /// Connections it accepted since the start.
    pub accepted: u64,
    /// User memory of its relay buffers, in bytes.
    pub buffer_bytes: u64,
    /// Completions that the kernel had to put on its slow overflow list.
    pub completion_overflows: u64,
    /// Completions for connections that were gone: always 0 unless there is a bug.
    pub stale_completions: u64,
}

/// One frontend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrontendStatus {
    /// Its settings (with the servers').
    pub frontend: Arc<Frontend>,
    /// Where it accepts: with the port that the kernel chose, if it was left to it.
    pub addr: SocketAddr,
    /// Connections now.
    pub connections: u64,
    /// True while accepting pauses: a limit is reached or descriptors have run out.
    pub paused: bool,
    /// What went through it.
    pub traffic: Traffic,
    /// Its servers, in the order they were added.
    pub servers: Vec<ServerStatus>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Its settings.
    pub server: Arc<Server>,
    /// Connections now, on its present and on earlier addresses.
    pub connections: u64,
    /// Connections established since it was added.
    pub served: u64,
    /// Connects that it refused or let time out.
    pub failed: u64,
    /// Bytes from clients to it.
    pub bytes_to_server: u64,
    /// Bytes from it to clients.
    pub bytes_to_client: u64,
}
