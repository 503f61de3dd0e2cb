//! What it costs to choose a server: at 1 to 10 000 servers, for each policy.
//!
//! `choose` is the question alone. `open` is what the balancer does for a new connection: choose, count it and tell the
//! policy (`on_opened`). `connection` is that and what it does at its end: count and tell again (`on_closed`). Weights are
//! 1 to 4, latencies 1 to 10 ms.
//!
//! Times are CPU time of the thread, not time by the clock: what else runs on the machine is left out.
#![allow(missing_docs, reason = "criterion's macros define undocumented functions")]

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use benches::cpu;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lb_core::balance::{Candidate, Choice, LeastConnections, LeastLatency, Policy, RandomTwo, RoundRobin, SourceHash};
use lb_core::config::Name;

const COUNTS: [usize; 4] = [1, 10, 1_000, 10_000];
const POLICIES: [&str; 5] = ["round_robin", "least_connections", "random_two", "least_latency", "source_hash"];

fn choose(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("policy_choose");
    for name in POLICIES {
        for count in COUNTS {
            let policy = policy(name, &candidates(count));
            let mut choices = Choices::default();
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| policy.choose(black_box(&choices.next())).expect("there are servers"));
            });
        }
    }
    group.finish();
}

fn open(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("policy_open");
    for name in POLICIES {
        for count in COUNTS {
            let candidates = candidates(count);
            let policy = policy(name, &candidates);
            let mut choices = Choices::default();
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter_custom(|connections| {
                    let mut opened = Vec::with_capacity(connections as usize);
                    let begun = cpu::used_by_this_thread();
                    for _ in 0..connections {
                        let position = policy.choose(black_box(&choices.next())).expect("there are servers");
                        candidates[position].count_opened();
                        policy.on_opened(position);
                        opened.push(position as u32);
                    }
                    let taken = cpu::used_by_this_thread() - begun;
                    for position in opened {
                        candidates[position as usize].count_closed();
                        policy.on_closed(position as usize);
                    }
                    taken
                });
            });
        }
    }
    group.finish();
}

fn connection(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("policy_connection");
    for name in POLICIES {
        for count in COUNTS {
            let candidates = candidates(count);
            let policy = policy(name, &candidates);
            let mut choices = Choices::default();
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| {
                    let position = policy.choose(black_box(&choices.next())).expect("there are servers");
                    candidates[position].count_opened();
                    policy.on_opened(position);
                    candidates[position].count_closed();
                    policy.on_closed(position);
                });
            });
        }
    }
    group.finish();
}

fn candidates(count: usize) -> Arc<[Candidate]> {
    let candidate = |index: usize| {
        let name = Name::new(&format!("s{index}")).expect("a name of letters and digits");
        let candidate = Candidate::detached(name, ([127, 0, 0, 1], 1000).into(), 1 + (index % 4) as u16);
        candidate.record_connect_time(0, Duration::from_micros(100));
        candidate.record_first_byte_time(0, Duration::from_millis(1 + index as u64 % 10));
        candidate
    };
    (0..count).map(candidate).collect()
}

fn policy(name: &str, candidates: &Arc<[Candidate]>) -> Box<dyn Policy> {
    match name {
        "round_robin" => Box::new(RoundRobin::new(candidates)),
        "least_connections" => Box::new(LeastConnections::new(Arc::clone(candidates))),
        "random_two" => Box::new(RandomTwo::new(Arc::clone(candidates))),
        "least_latency" => Box::new(LeastLatency::new(Arc::clone(candidates))),
        "source_hash" => Box::new(SourceHash::new(candidates)),
        _ => unreachable!("a policy that is not measured: {name}"),
    }
}

/// Choices that differ as those of real connections do, made at next to no cost.
#[derive(Default)]
struct Choices(u64);

impl Choices {
    fn next(&mut self) -> Choice {
        // The fractional part of the golden ratio: every bit of the sum changes often.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let client = IpAddr::from(((self.0 >> 32) as u32).to_be_bytes());
        Choice { client, attempt: 0, random: self.0, now: 1_000_000 }
    }
}

/// Measures with the CPU time of this thread.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        cpu::used_by_this_thread()
    }

    fn end(&self, begun: Duration) -> Duration {
        cpu::used_by_this_thread() - begun
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        // Seconds are printed alike, whatever they are of.
        WallTime.formatter()
    }
}

fn short_runs() -> Criterion<CpuTime> {
    Criterion::default()
        .with_measurement(CpuTime)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
}

criterion_group! {
    name = benches;
    config = short_runs();
    targets = choose, open, connection
}
criterion_main!(benches);
