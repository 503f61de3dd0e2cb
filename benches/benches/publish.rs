//! How long a change takes until every shard uses it: with 2 shards, and 10 or 10 000 servers in the frontend.
//!
//! Measured is `Control::update_server(…).wait()` on an idle balancer without a store: building the new table, publishing
//! it, waking both shards, their acknowledgements. `change_time` measures the same through `lb run`, with the disk.
#![allow(missing_docs, reason = "criterion's macros define undocumented functions")]

use std::net::SocketAddr;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lb_core::config::{Bind, Config, Frontend, PolicyKind, Port, Server, Weight};
use lb_core::{Balancer, ServerUpdate};

fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish_to_2_shards");
    for (policy, kind) in [
        ("round_robin", PolicyKind::RoundRobin),
        ("least_connections", PolicyKind::LeastConnections),
        ("source_hash", PolicyKind::SourceHash),
    ] {
        for count in [10, 10_000] {
            let balancer = start(kind.clone(), count).expect("the balancer starts");
            let control = balancer.control();
            let mut number = 0;
            let mut confirm = |update: fn(u32) -> ServerUpdate| {
                number += 1;
                control.update_server("web", "s1", update(number)).wait().expect("the change is confirmed");
            };
            group.bench_function(BenchmarkId::new(format!("{policy}/port"), count), |b| b.iter(|| confirm(port)));
            group.bench_function(BenchmarkId::new(format!("{policy}/weight"), count), |b| b.iter(|| confirm(weight)));
        }
    }
    group.finish();
}

fn start(policy: PolicyKind, servers: usize) -> Result<Balancer, Box<dyn std::error::Error>> {
    let mut frontend = Frontend::new("web", Bind::Addr("127.0.0.1:0".parse()?))?.with_policy(policy);
    for index in 0..servers {
        let addr = SocketAddr::from(([127, 0, 0, 1], 1 + (index % 60_000) as u16));
        frontend = frontend.with_server(Server::new(&format!("s{index}"), addr)?);
    }
    Ok(Balancer::builder().config(Config::default().with_shards(2)?.frontend(frontend)).start()?)
}

/// A change of the server's address.
fn port(number: u32) -> ServerUpdate {
    let port = Port::new(1 + number % 60_000).expect("1 to 60 000 is a port");
    ServerUpdate { port: Some(port), ..ServerUpdate::default() }
}

/// A change of its weight: 1 and 2 in turn.
fn weight(number: u32) -> ServerUpdate {
    let weight = Weight::new(1 + number % 2).expect("1 and 2 are weights");
    ServerUpdate { weight: Some(weight), ..ServerUpdate::default() }
}

fn short_runs() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = benches;
    config = short_runs();
    targets = publish
}
criterion_main!(benches);
