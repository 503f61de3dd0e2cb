//! Traffic over loopback through a balancer in this process: time by the clock for a unit, with the balancer on one core
//! and both ends of the traffic on another.
//!
//! It shows what a change of the code did on this machine. The comparison with other balancers, and CPU time, which says
//! more than the clock on a shared machine, are `compare`'s.
#![allow(missing_docs, reason = "criterion's macros define undocumented functions")]

use std::time::{Duration, Instant};

use benches::load::{Connect, Direction, Load, RoundTrip, Stream};
use benches::net::Net;
use benches::{Result, cpu};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lb_core::Balancer;
use lb_core::config::{Bind, Config, Frontend, Server};

/// One iteration of a stream.
const PIECE: u64 = 64 << 10;
/// How long one measurement may take at most.
const PATIENCE: Duration = Duration::from_secs(20);

fn relay(criterion: &mut Criterion) {
    let mut bench = Bench::start().expect("the balancer starts");
    let mut group = criterion.benchmark_group("relay");
    group.throughput(Throughput::Elements(1));
    group.bench_function("round_trip_64_bytes/64_connections", |b| {
        b.iter_custom(|count| bench.time(Box::new(RoundTrip::new(64, 64)), count));
    });
    group.bench_function("round_trip_64_bytes/1_connection", |b| {
        b.iter_custom(|count| bench.time(Box::new(RoundTrip::new(1, 64)), count));
    });
    group.bench_function("round_trip_4_KiB/64_connections", |b| {
        b.iter_custom(|count| bench.time(Box::new(RoundTrip::new(64, 4096)), count));
    });
    group.bench_function("connection_with_64_bytes/32_at_once", |b| {
        b.iter_custom(|count| bench.time(Box::new(Connect::new(32, 64)), count));
    });
    group.throughput(Throughput::Bytes(PIECE));
    for (name, direction) in [("down", Direction::Down), ("up", Direction::Up)] {
        group.bench_function(format!("bulk_{name}_64_KiB/4_connections"), |b| {
            b.iter_custom(|count| {
                let stream = Stream::new(4, direction).expect("there is memory for the file");
                bench.time(Box::new(stream), count * PIECE)
            });
        });
    }
    group.finish();
}

/// A balancer with its servers, ready for traffic.
struct Bench {
    net: Net,
    port: u16,
    /// Runs until this is dropped.
    _balancer: Balancer,
}

impl Bench {
    fn start() -> Result<Self> {
        let net = Net::new()?;
        let mut frontend = Frontend::new("web", Bind::Addr("0.0.0.0:0".parse()?))?;
        for (index, addr) in net.servers()?.into_iter().enumerate() {
            frontend = frontend.with_server(Server::new(&format!("s{index}"), addr)?);
        }
        // The balancer's threads inherit the core of this one, which then moves to another. With one core only, both stay.
        let shared = cpu::pin_this_thread(1).is_err();
        let balancer = Balancer::builder().config(Config::default().with_shards(1)?.frontend(frontend)).start()?;
        if !shared {
            cpu::pin_this_thread(0)?;
        }
        let port = balancer.control().status().wait()?.frontends[0].addr.port();
        Ok(Self { net, port, _balancer: balancer })
    }

    /// The time of so many units, from the first connection on; then the traffic ends and is checked.
    fn time(&mut self, mut load: Box<dyn Load>, units: u64) -> Duration {
        self.try_time(load.as_mut(), units).expect("all bytes come through")
    }

    fn try_time(&mut self, load: &mut dyn Load, units: u64) -> Result<Duration> {
        let begun = Instant::now();
        let deadline = begun + PATIENCE;
        load.start(&mut self.net, self.port)?;
        self.net.run_until(load, deadline, |_, load| load.units() >= units)?;
        let taken = begun.elapsed();
        if load.units() < units {
            return Err(format!("{} of {units} units came through in {PATIENCE:?}", load.units()).into());
        }
        load.stop(&mut self.net)?;
        self.net.run_until(load, deadline, |net, _| net.open() == 0)?;
        if self.net.open() > 0 {
            return Err(format!("{} connections do not end", self.net.open()).into());
        }
        load.check()?;
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
