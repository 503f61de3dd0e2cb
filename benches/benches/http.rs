//! Reading heads of HTTP, and what all of a request costs but for sockets: read, rewritten, and the same with its answer.
#![allow(missing_docs, reason = "criterion's macros define undocumented functions")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lb_core::internal::Requests;

/// What wrk sends.
const SMALL: &str = "GET / HTTP/1.1\r\nHost: site.example\r\n\r\n";

/// What a browser sends.
const BROWSER: &str = "GET /articles/2026/11/how-a-request-goes?page=2&sort=newest HTTP/1.1\r
Host: www.site.example\r
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r
Accept-Language: en-GB,en;q=0.5\r
Accept-Encoding: gzip, deflate, br, zstd\r
Referer: https://www.site.example/articles\r
Connection: keep-alive\r
Cookie: theme=dark; session=0b5f4a1e9d3c47c88f6a2e7d; LBSERVER=k3Q9v0zXb1yT7uWm5cRjaA\r
Upgrade-Insecure-Requests: 1\r
Sec-Fetch-Dest: document\r
Sec-Fetch-Mode: navigate\r
Sec-Fetch-Site: same-origin\r
Priority: u=0, i\r
\r
";

/// What nginx answers.
const ANSWER: &str = "HTTP/1.1 200 OK\r
Server: nginx/1.22.1\r
Date: Tue, 24 Nov 2026 20:00:00 GMT\r
Content-Type: text/plain\r
Content-Length: 64\r
Connection: keep-alive\r
\r
xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

fn heads(criterion: &mut Criterion) {
    let requests = Requests::new();
    let mut group = criterion.benchmark_group("http_head");
    for (name, head) in [("request_small", SMALL), ("request_browser", BROWSER)] {
        assert!(requests.read_request(head.as_bytes()), "{name}");
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| requests.read_request(black_box(head.as_bytes()))));
    }
    assert!(requests.read_response(ANSWER.as_bytes()));
    group.throughput(Throughput::Bytes(ANSWER.len() as u64));
    group.bench_function("response", |bencher| bencher.iter(|| requests.read_response(black_box(ANSWER.as_bytes()))));
    group.finish();
}

fn exchange(criterion: &mut Criterion) {
    let mut requests = Requests::new();
    let mut group = criterion.benchmark_group("http_exchange");
    for (name, head) in [("small", SMALL), ("browser", BROWSER)] {
        assert!(requests.pass(head.as_bytes(), ANSWER.as_bytes()) > head.len(), "{name}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| requests.pass(black_box(head.as_bytes()), black_box(ANSWER.as_bytes())));
        });
    }
    group.finish();
}

criterion_group!(benches, heads, exchange);
criterion_main!(benches);
