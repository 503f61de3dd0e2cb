//! Statuses for tests.

use std::net::SocketAddr;
use std::sync::Arc;

use lb_core::config::{Bind, Frontend, Server};
use lb_core::{
    ChangeCounts, FrontendStatus, Quantiles, ServerFailures, ServerHealth, ServerStatus, Service, ShardStatus, Status,
    Traffic,
};

/// A balancer with two shards.
pub(crate) fn status(frontends: Vec<FrontendStatus>) -> Status {
    Status {
        revision: 7,
        uptime_seconds: 7_800,
        connections: 120,
        max_connections: 10_000,
        connections_on_replaced: 0,
        changes: ChangeCounts::default(),
        access_dropped: 0,
        traffic: Traffic {
            accepted_per_second: 12.0,
            bytes_to_server_per_second: 1_258_291.0,
            bytes_to_client_per_second: 20_971_520.0,
            ..Traffic::default()
        },
        shards: vec![shard(0, 0.5), shard(1, 0.03)],
        certificates: Vec::new(),
        frontends,
    }
}

pub(crate) fn shard(core: usize, busy: f64) -> ShardStatus {
    ShardStatus {
        revision: 7,
        core,
        connections: 60,
        accepted: 0,
        cpu_micros: 0,
        busy,
        turns: 0,
        completions: 0,
        buffers_in_use: 0,
        buffer_bytes: 0,
        pipes: 0,
        pooled: 0,
        kept_sockets: 0,
        completion_overflows: 0,
        stale_completions: 0,
    }
}

pub(crate) fn frontend(name: &str, servers: Vec<ServerStatus>) -> FrontendStatus {
    let addr: SocketAddr = "127.0.0.1:8080".parse().unwrap();
    FrontendStatus {
        frontend: Arc::new(Frontend::new(name, Bind::Addr(addr)).unwrap()),
        addr,
        connections: 0,
        paused: false,
        pauses: 0,
        durations: Quantiles::default(),
        request_durations: Quantiles::default(),
        waiting: 0,
        service: Service::Active,
        traffic: Traffic::default(),
        tls: None,
        http: None,
        persistence: None,
        servers,
    }
}

/// A server that is up, at 10.0.0.`number`.
pub(crate) fn server(name: &str, number: u8) -> ServerStatus {
    ServerStatus {
        server: Arc::new(Server::new(name, SocketAddr::from(([10, 0, 0, number], 80))).unwrap()),
        health: ServerHealth::Up,
        connections: 0,
        served: 0,
        failed: 0,
        failures: ServerFailures::default(),
        bytes_to_server: 0,
        bytes_to_client: 0,
        served_per_second: 0.0,
        bytes_to_server_per_second: 0.0,
        bytes_to_client_per_second: 0.0,
        health_changes: 0,
        connect: Quantiles::default(),
        first_byte: Quantiles::default(),
        tls: None,
    }
}
