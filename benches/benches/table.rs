//! Reading the table on the hot path, as a shard's turn does: pin, load, find the frontend, choose a server. Without locks
//! and reference counts, so it takes as long with 10 000 servers as with one.
#![allow(missing_docs, reason = "criterion's macros define undocumented functions")]

use std::hint::black_box;
use std::net::IpAddr;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lb_core::balance::Choice;
use lb_core::config::PolicyKind;
use lb_core::internal::TableReads;

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("table_read");
    let choice = Choice { client: IpAddr::from([127, 0, 0, 1]), attempt: 0, random: 7, now: 0 };
    for count in [1, 10, 1_000, 10_000] {
        let table = TableReads::new(count, &PolicyKind::RoundRobin);
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| table.read_and_choose(black_box(&choice)).expect("there are servers"));
        });
    }
    group.finish();
}

criterion_group!(benches, read);
criterion_main!(benches);
