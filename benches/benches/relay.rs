//! Traffic over loopback through a balancer in this process: time by the clock for a unit, with the balancer on one core
//! and both ends of the traffic on another.
//!
//! It shows what a change of the code did on this machine. The comparison with other balancers, and CPU time, which says
//! more than the clock on a shared machine, are `compare`'s.
#![allow(missing_docs, reason = "criterion's macros define undocumented functions")]

use std::time::{Duration, Instant};

use benches::load::{Kind, run_until};
use benches::net::Servers;
use benches::{Result, cpu, slice};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lb_core::Balancer;
use lb_core::config::{Bind, Config, Frontend, Server};

/// One iteration of a stream.
const PIECE: u64 = 64 << 10;
/// How long one measurement may take at most.
const PATIENCE: Duration = Duration::from_secs(20);

fn relay(criterion: &mut Criterion) {
    let bench = Bench::start().expect("the balancer starts");
    let mut group = criterion.benchmark_group("relay");
    group.throughput(Throughput::Elements(1));
    for (name, load) in [
        ("round_trip_64_bytes/64_connections", "rr64"),
        ("round_trip_64_bytes/1_connection", "rr64x1"),
        ("round_trip_4_KiB/64_connections", "rr4k"),
        ("connection_with_64_bytes/32_at_once", "connect"),
    ] {
        group.bench_function(name, |b| b.iter_custom(|count| bench.time(load, count)));
    }
    group.throughput(Throughput::Bytes(PIECE));
    for (name, load) in [("bulk_down_64_KiB/4_connections", "bulk_down"), ("bulk_up_64_KiB/4_connections", "bulk_up")] {
        group.bench_function(name, |b| b.iter_custom(|count| bench.time(load, count * PIECE)));
    }
    group.finish();
}

/// A balancer with its servers, ready for traffic.
struct Bench {
    servers: Servers,
    port: u16,
    /// Runs until this is dropped.
    _balancer: Balancer,
}

impl Bench {
    fn start() -> Result<Self> {
        let servers = Servers::listen()?;
        let mut frontend = Frontend::new("web", Bind::Addr("0.0.0.0:0".parse()?))?;
        for (index, addr) in servers.addresses()?.into_iter().enumerate() {
            frontend = frontend.with_server(Server::new(&format!("s{index}"), addr)?);
        }
        // The balancer's threads inherit the core of this one, which then moves to another. With one core only, both stay.
        let shared = cpu::pin_this_thread(1).is_err();
        let balancer = Balancer::builder().config(Config::default().with_shards(1)?.frontend(frontend)).start()?;
        if !shared {
            cpu::pin_this_thread(0)?;
        }
        let port = balancer.control().status().wait()?.frontends[0].addr.port();
        Ok(Self { servers, port, _balancer: balancer })
    }

    /// The time of so many units of a load, from the first connection on; then the traffic ends and is checked.
    fn time(&self, load: &str, units: u64) -> Duration {
        self.try_time(load, units).expect("all bytes come through")
    }

    fn try_time(&self, load: &str, units: u64) -> Result<Duration> {
        let mut load = Kind::by_name(load)?.make(&self.servers)?;
        let load = load.as_mut();
        let begun = Instant::now();
        load.start(self.port)?;
        run_until(load, begun + PATIENCE, |load| load.units() >= units)?;
        let taken = begun.elapsed();
        if load.units() < units {
            return Err(format!("{} of {units} units came through in {PATIENCE:?}", load.units()).into());
        }
        slice::end(load)?;
        Ok(taken)
    }
}

fn short_runs() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! {
    name = benches;
    config = short_runs();
    targets = relay
}
criterion_main!(benches);
