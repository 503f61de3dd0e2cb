//! Reading what a client says first, and writing what a server is told of it: once per connection, where a frontend or a
//! server is configured so.
//!
//! The ClientHellos are the fuzzer's seeds: what `openssl s_client` says in one record, and in records of 40 bytes.
#![allow(missing_docs, reason = "criterion's macros define undocumented functions")]

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lb_core::config::SendProxy;
use lb_core::internal::{client_hello_name, proxy_header_length, write_proxy_header};

fn proxy_header(criterion: &mut Criterion) {
    let addrs = [(4, ["192.0.2.1:56324", "192.0.2.11:443"]), (6, ["[2001:db8::1]:56324", "[2001:db8::2]:443"])];
    let mut group = criterion.benchmark_group("proxy_header");
    for (version, text) in [(SendProxy::V1, "v1"), (SendProxy::V2, "v2")] {
        for (family, addrs) in addrs {
            let [source, destination] = addrs.map(|addr| addr.parse::<SocketAddr>().expect("an address"));
            let mut header = Vec::new();
            // Also where a filter leaves the first of the two out.
            write_proxy_header(version, source, destination, &mut header);
            group.bench_function(BenchmarkId::new(format!("write_{text}"), family), |bencher| {
                bencher.iter(|| {
                    header.clear();
                    write_proxy_header(version, black_box(source), black_box(destination), &mut header);
                });
            });
            group.bench_function(BenchmarkId::new(format!("read_{text}"), family), |bencher| {
                bencher.iter(|| proxy_header_length(black_box(&header)).expect("a whole header"));
            });
        }
    }
    group.finish();
}

fn client_hello(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("client_hello");
    for (name, seed) in [
        ("one_record", &include_bytes!("../../fuzz/corpus/client_hello/openssl")[..]),
        ("records_of_40", include_bytes!("../../fuzz/corpus/client_hello/in_small_records")),
    ] {
        // The seed's first byte is not the client's.
        let bytes = &seed[1..];
        group.bench_function(name, |bencher| {
            bencher.iter(|| client_hello_name(black_box(bytes)).expect("a name"));
        });
    }
    group.finish();
}

criterion_group!(benches, proxy_header, client_hello);
criterion_main!(benches);
