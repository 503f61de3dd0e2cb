//! What is refused, and how: with a status, a short body and a close, counted by its cause, and without a byte of it at a
//! server; servers that fail, and slow clients by the thousand who harm nobody.
#![forbid(unsafe_code)]

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

use tests::client::End;
use tests::http::{Framing, Message, Site, Wire, ok, request};
use tests::modes::{Mode, Party};
use tests::{Backend, Config, Frontend, Lb, http_count, http_refused, refusing_addr, stream, wait};

/// What is wrong, the status for it, and its cause.
type Case = (&'static str, u16, &'static str);

const MALFORMED: &[Case] = &[
    ("GET / HTTP/1.1\r\n\r\n", 400, "malformed"),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "malformed"),
    ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "malformed"),
    ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "malformed"),
    ("GET / HTTP/1.1\nHost: a\n\n", 400, "malformed"),
    ("GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", 400, "malformed"),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", 400, "malformed"),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n", 400, "malformed"),
    ("GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400, "malformed"),
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed"),
    ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed"),
    ("GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed"),
    ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed"),
    ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed"),
    ("nonsense\r\n\r\n", 400, "malformed"),
    ("\x16\x03\x01\x02\0\x01\0\x01\u{7f}\x03\x03\r\n\r\n", 400, "malformed"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400, "malformed"),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "malformed",
    ),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", 400, "malformed"),
    ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "malformed"),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 400, "malformed"),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "unknown_coding"),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "unknown_coding"),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "version"),
    ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505, "version"),
    ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405, "not_allowed"),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "version"),
];

#[test]
fn what_is_wrong_is_refused_and_counted_and_nothing_of_it_reaches_a_server() {
    let site = Site::named("a");
    let lb = http(Frontend::new("web").server("a", site.addr()));
    for (bytes, status, cause) in MALFORMED {
        let before = http_refused(&lb.frontend("web"), cause);
        let mut client = Wire::connect(lb.addr("web"));
        client.send(bytes);
        is_refused(&mut client, *status, bytes);
        assert_eq!(http_refused(&lb.frontend("web"), cause), before + 1, "{bytes:?} is counted as {cause}");
    }
    assert_eq!((site.accepted(), site.seen().len()), (0, 0), "no server hears of it: {:?}", site.seen());
    lb.until_idle();
}

#[test]
fn what_is_wrong_behind_a_good_request_is_refused_after_its_answer() {
    let site = Site::run(|request| ok(request.target()));
    let lb = http(Frontend::new("web").server("a", site.addr()));
    for (bytes, status, _) in MALFORMED {
        let mut client = Wire::connect(lb.addr("web"));
        client.send(request("GET", "/good", &[], "") + bytes + &request("GET", "/never", &[], ""));
        assert_eq!(client.answer("GET").text(), "/good", "before {bytes:?}");
        is_refused(&mut client, *status, bytes);
    }
    let others: Vec<_> = site.requests().into_iter().filter(|request| request.target() != "/good").collect();
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(site.accepted(), 1, "the server's connection is as good as before");
}

#[test]
fn what_is_too_long_is_refused() {
    let site = Site::named("a");
    let limits = "(max_line: 100, max_fields: 10, max_head: 1000)";
    let lb = http(Frontend::new("web").set("http", limits).server("a", site.addr()));
    let with = |fields: usize| "X-Field: value\r\n".repeat(fields);
    let line = |bytes: usize| format!("GET /{} HTTP/1.1\r\n", "a".repeat(bytes - "GET / HTTP/1.1".len()));
    let cases = [
        (line(101) + "Host: a\r\n\r\n", 414, "line_too_long"),
        ("A".repeat(2000), 414, "line_too_long"),
        (format!("{}Host: a\r\n{}\r\n", line(50), with(10)), 431, "head_too_large"),
        (format!("{}Host: a\r\nX-Long: {}\r\n\r\n", line(50), "a".repeat(1000)), 431, "head_too_large"),
        (format!("{}Host: a\r\nX-Long: {}", line(50), "a".repeat(5000)), 431, "head_too_large"),
    ];
    for (bytes, status, cause) in cases {
        let before = http_refused(&lb.frontend("web"), cause);
        let mut client = Wire::connect(lb.addr("web"));
        client.send(&bytes);
        is_refused(&mut client, status, &bytes);
        assert_eq!(http_refused(&lb.frontend("web"), cause), before + 1, "{bytes:?} is counted as {cause}");
    }
    assert_eq!(site.accepted(), 0);
    let fits = format!("{}Host: a\r\n{}\r\n", line(100), with(9));
    assert_eq!(Wire::connect(lb.addr("web")).ask(&fits).text(), "a", "what fits is served");
}

#[test]
fn a_large_head_within_the_limits_is_served() {
    let site = Site::run(|request| ok(&request.field("x-large").unwrap().len().to_string()));
    let limits = "(max_line: 8192, max_fields: 100, max_head: 65536)";
    let lb = http(Frontend::new("web").set("http", limits).server("a", site.addr()));
    let mut client = Wire::connect(lb.addr("web"));
    for bytes in [4000, 8000, 16_000, 32_000, 64_000] {
        let answer = client.get_with("/", &[("X-Large", &"v".repeat(bytes))]);
        assert_eq!(answer.text(), bytes.to_string());
    }
}

#[test]
fn a_large_head_of_a_response_arrives() {
    let site = Site::run(|request| {
        let value = "v".repeat(request.target()[1..].parse().unwrap());
        tests::http::reply(200, &format!("X-Large: {value}\r\n"), "body")
    });
    let lb = http(Frontend::new("web").server("a", site.addr()));
    let mut client = Wire::connect(lb.addr("web"));
    for bytes in [4000, 8000, 16_000, 30_000] {
        let answer = client.get(&format!("/{bytes}"));
        assert_eq!((answer.status(), answer.text()), (200, "body"), "{bytes} bytes");
        assert_eq!(answer.field("x-large").unwrap().len(), bytes);
    }
}

#[test]
fn a_head_that_takes_too_long_is_refused() {
    let site = Site::named("a");
    let lb = http(Frontend::new("web").set("http", "(header_timeout: \"2s\")").server("a", site.addr()));
    let clients = ["G", "GET / HTTP/1.1\r\nHost: a", "GET / HTTP/1.1\r\nHost: a\r\n"].map(|part| {
        let mut client = Wire::connect(lb.addr("web"));
        client.send(part);
        (part, client)
    });
    for (part, mut client) in clients {
        is_refused(&mut client, 408, part);
    }
    assert_eq!(http_refused(&lb.frontend("web"), "head_timeout"), 3);
    assert_eq!(site.accepted(), 0);
}

#[test]
fn a_second_head_that_takes_too_long_is_refused() {
    let site = Site::named("a");
    let lb = http(Frontend::new("web").set("http", "(header_timeout: \"2s\")").server("a", site.addr()));
    let mut client = Wire::connect(lb.addr("web"));
    assert_eq!(client.get("/").text(), "a");
    client.send("GET / HT");
    is_refused(&mut client, 408, "half a head");
}

#[test]
fn without_a_server_503_is_answered() {
    let lb = http(Frontend::new("web"));
    for request in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"] {
        let mut client = Wire::connect(lb.addr("web"));
        client.send(request);
        is_ours(&client.answer("GET"), 503);
    }
    assert_eq!(http_refused(&lb.frontend("web"), "no_server"), 2);
    lb.until_idle();
}

#[test]
fn head_is_answered_without_a_body_even_by_us() {
    let lb = http(Frontend::new("web"));
    let mut client = Wire::connect(lb.addr("web"));
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let answer = client.answer("HEAD");
    assert_eq!(answer.status(), 503);
    client.closes();
}

#[test]
fn when_every_server_refuses_502_is_answered() {
    let (addrs, _sockets): (Vec<_>, Vec<_>) = (0..3).map(|_| refusing_addr()).unzip();
    let names = ["a", "b", "c"];
    let frontend = names.iter().zip(&addrs).fold(Frontend::new("web"), |all, (name, addr)| all.server(name, *addr));
    let lb = http(frontend);
    let mut client = Wire::connect(lb.addr("web"));
    client.send(request("GET", "/", &[], ""));
    is_ours(&client.answer("GET"), 502);
    assert_eq!(http_refused(&lb.frontend("web"), "server_failed"), 1);
}

#[test]
fn a_server_that_refuses_is_passed_over_even_with_a_body() {
    let ((refusing, _socket), site) = (refusing_addr(), Site::run(|request| ok(request.text())));
    let lb = http(Frontend::new("web").server("a", refusing).server("b", site.addr()));
    for _ in 0..6 {
        let mut client = Wire::connect(lb.addr("web"));
        assert_eq!(client.ask(&request("POST", "/", &[], "no byte was sent yet")).text(), "no byte was sent yet");
    }
}

#[test]
fn a_server_that_closes_without_an_answer_is_a_502() {
    for bytes in ["", "HTTP/1.1 200 O"] {
        let site = Site::play(move |wire, visit| {
            if let Ok(Some(request)) = wire.request() {
                visit.note(&request);
                wire.send(bytes);
            }
        });
        let lb = http(Frontend::new("web").server("a", site.addr()));
        let mut client = Wire::connect(lb.addr("web"));
        client.send(request("GET", "/", &[], ""));
        is_ours(&client.answer("GET"), 502);
        assert_eq!(site.seen().len(), 1, "a fresh connection is not tried again");
        assert_eq!(http_refused(&lb.frontend("web"), "server_failed"), 1, "after {bytes:?}");
    }
}

#[test]
fn an_answer_that_is_none_is_a_502() {
    let answers = [
        "nonsense\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/2 200 OK\r\n\r\n",
    ];
    for bytes in answers {
        let site = Site::run(move |_| bytes);
        let lb = http(Frontend::new("web").server("a", site.addr()));
        let mut client = Wire::connect(lb.addr("web"));
        client.send(request("GET", "/", &[], ""));
        is_ours(&client.answer("GET"), 502);
        assert_eq!(http_refused(&lb.frontend("web"), "bad_response"), 1, "after {bytes:?}");
        assert_eq!(lb.pooled(), 0, "after {bytes:?}");
    }
}

#[test]
fn a_server_that_does_not_answer_in_time_is_a_504() {
    let site = Site::play(|wire, visit| {
        if let Ok(Some(request)) = wire.request() {
            visit.note(&request);
            let _ = wire.reader().read(&mut [0]);
        }
    });
    let lb = http(Frontend::new("web").set("http", "(response_timeout: \"1s\")").server("a", site.addr()));
    let mut client = Wire::connect(lb.addr("web"));
    client.send(request("GET", "/", &[], ""));
    wait::until("the server has the request", || site.seen().len() == 1);
    is_ours(&client.answer("GET"), 504);
    assert_eq!(http_refused(&lb.frontend("web"), "response_timeout"), 1);
    assert_eq!(site.seen().len(), 1, "it is not sent to anybody again");
    wait::until("the server's connection is closed", || site.connections() == 0);
}

#[test]
fn a_long_upload_is_not_the_servers_delay() {
    let site = Site::play(|wire, _| {
        while let Ok(head) = wire.try_head() {
            let digest = stream::read(&mut wire.body(Framing::of_request(&head))).unwrap();
            wire.send(ok(&digest.to_string()));
        }
    });
    let lb = http(Frontend::new("web").set("http", "(response_timeout: \"2s\")").server("a", site.addr()));
    let mut client = Wire::connect(lb.addr("web"));
    client.send(request("PUT", "/", &[("Content-Length", "10")], ""));
    let begun = std::time::Instant::now();
    for byte in b"0123456789" {
        client.send([*byte]);
        wait::until("time has passed", || begun.elapsed().as_millis() > u128::from(byte - b'0') * 300);
    }
    let digest = stream::read(&mut &b"0123456789"[..]).unwrap();
    assert_eq!(client.answer("PUT").text(), digest.to_string());
}

#[test]
fn a_kept_connection_that_died_under_a_get_is_replaced_by_a_fresh_one() {
    let site = answers_once();
    let lb = http(Frontend::new("web").server("a", site.addr()));
    let mut client = Wire::connect(lb.addr("web"));
    assert_eq!(client.get("/").text(), "connection 1");
    assert_eq!(client.get("/again").text(), "connection 2");
    assert_eq!(http_count(&lb.frontend("web"), "retried"), 1);
    assert_eq!(lb.pooled(), 1, "the fresh one is as good as any");
}

#[test]
fn a_kept_tls_connection_that_ended_in_order_under_a_get_is_replaced_by_a_fresh_one() {
    const REQUESTS: usize = 50;
    let party = Party::new();
    let server = Backend::secure(party.app.clone(), |channel| {
        let mut wire = Wire::over(channel.clone());
        if let Ok(Some(_)) = wire.request() {
            wire.send(ok("answered"));
        }
        let _ = wire.request();
        let _ = channel.end();
    });
    let frontend = Frontend::new("web").set("protocol", "http");
    let frontend = frontend.server_with("a", server.addr(), Mode::Origination.settings());
    let config = Config::of(frontend).bundle("corp-ca", party.authority.pem());
    let lb = Lb::start(config.set("shards", 1));
    let mut client = Wire::connect(lb.addr("web"));
    for _ in 0..REQUESTS {
        assert_eq!(client.get("/").text(), "answered");
    }
    assert_eq!(http_count(&lb.frontend("web"), "retried"), REQUESTS as u64 - 1);
    assert_eq!(lb.server("web", "a")["served"], REQUESTS, "each counts once");
}

#[test]
fn half_an_answer_that_its_connection_ends_never_looks_whole() {
    let site = Site::play(|wire, _| {
        if let Ok(Some(_)) = wire.request() {
            wire.send("HTTP/1.1 200 OK\r\n\r\nhalf");
            let _ = wire.request();
        }
    });
    for ends in ["the server's time", "the client's patience"] {
        let frontend = Frontend::new("web").server("a", site.addr());
        let is_drained = ends == "the server's time";
        let lb = http(if is_drained { frontend } else { frontend.set("idle_timeout", "\"300ms\"") });
        let mut client = Wire::connect(lb.addr("web"));
        client.send(request("GET", "/", &[], ""));
        assert_eq!(client.head().status(), 200, "{ends}");
        if is_drained {
            lb.done(&["server", "drain", "web", "a", "--within", "100ms"]);
        }
        assert_eq!(client.rest(), (b"half".to_vec(), End::Reset), "{ends}");
    }
}

#[test]
fn an_empty_line_behind_a_body_is_no_head() {
    let site = Site::named("a");
    let frontend = Frontend::new("web").set("http", "(header_timeout: \"300ms\", keep_alive_timeout: \"60s\")");
    let lb = http(frontend.server("a", site.addr()));
    let mut client = Wire::connect(lb.addr("web"));
    client.send(request("POST", "/", &[], "body") + "\r\n");
    assert_eq!(client.answer("POST").text(), "a");
    // What a head that had begun before this one would have waited for.
    let mut other = Wire::connect(lb.addr("web"));
    other.send("GET / HTTP/1.1\r\n");
    is_ours(&other.answer("GET"), 408);
    assert_eq!(client.get("/").text(), "a");
}

#[test]
fn a_post_is_not_sent_again_when_a_kept_connection_died_under_it() {
    let site = answers_once();
    let lb = http(Frontend::new("web").server("a", site.addr()));
    let mut client = Wire::connect(lb.addr("web"));
    assert_eq!(client.ask(&request("POST", "/", &[], "pay")).text(), "connection 1");
    client.send(request("POST", "/", &[], "pay twice"));
    is_ours(&client.answer("POST"), 502);
    assert_eq!(site.seen().len(), 2, "the server may have done it");
    assert_eq!(http_count(&lb.frontend("web"), "retried"), 0);
}

/// A server that answers the first request of a connection, and closes when it has read the second one.
fn answers_once() -> Site {
    Site::play(|wire, visit| {
        if let Ok(Some(request)) = wire.request() {
            visit.note(&request);
            wire.send(ok(&format!("connection {}", visit.connection)));
        }
        if let Ok(Some(request)) = wire.request() {
            visit.note(&request);
        }
    })
}

#[test]
fn a_request_is_not_tried_again_once_its_answer_has_begun() {
    let site = Site::play(|wire, visit| {
        if let Ok(Some(request)) = wire.request() {
            visit.note(&request);
            wire.send(ok("first"));
        }
        if let Ok(Some(request)) = wire.request() {
            visit.note(&request);
            wire.send("HTTP/1.1 200 OK\r\nContent-Le");
        }
    });
    let lb = http(Frontend::new("web").server("a", site.addr()));
    let mut client = Wire::connect(lb.addr("web"));
    assert_eq!(client.get("/").text(), "first");
    client.send(request("GET", "/", &[], ""));
    is_ours(&client.answer("GET"), 502);
    assert_eq!((site.seen().len(), site.accepted()), (2, 1));
}

#[test]
fn a_kept_connection_that_the_server_has_closed_is_not_used() {
    let site = Site::run(|request| ok(request.text()));
    let lb = http(Frontend::new("web").server("a", site.addr()));
    let mut client = Wire::connect(lb.addr("web"));
    for _ in 0..5 {
        assert_eq!(client.ask(&request("POST", "/", &[], "pay")).text(), "pay");
        assert_eq!(lb.pooled(), 1);
        site.hang_up();
        wait::until("it is known that the server has closed", || lb.pooled() == 0);
    }
    assert_eq!(http_count(&lb.frontend("web"), "retried"), 0);
}

#[test]
fn bytes_that_a_server_sends_unasked_do_not_become_an_answer() {
    let site = Site::play(|wire, visit| {
        while let Ok(Some(request)) = wire.request() {
            visit.note(&request);
            wire.send(ok(request.target()));
            wire.send(ok("nobody asked"));
        }
    });
    let lb = http(Frontend::new("web").server("a", site.addr()));
    let mut client = Wire::connect(lb.addr("web"));
    for round in 0..10 {
        let target = format!("/{round}");
        assert_eq!(client.get(&target).text(), target);
        wait::until("the connection with the other bytes is closed", || lb.pooled() == 0);
    }
}

#[test]
fn thousands_of_slow_heads_hinder_nobody_and_are_refused() {
    const SLOW: usize = 2000;
    let site = Site::named("a");
    let frontend = Frontend::new("web").set("http", "(header_timeout: \"4s\")").server("a", site.addr());
    let lb = http(frontend);
    let addr = lb.addr("web");
    let head = "GET /slow HTTP/1.1\r\nHost: slow.example\r\nX-Slow: ";
    let mut slow = dribblers(addr, SLOW, |_| head[..1].to_owned());
    let refused = || http_refused(&lb.frontend("web"), "head_timeout");
    let good = beside(addr, || {
        for byte in head.bytes().skip(1).chain(std::iter::repeat(b'x')) {
            slow.retain_mut(|client| client.try_send([byte]).is_ok());
            if slow.is_empty() || refused() == SLOW as u64 {
                return;
            }
        }
    });
    wait::until("each is counted", || refused() == SLOW as u64);
    assert!(good > 100, "{good} good requests");
    let reached = site.requests().iter().filter(|request| request.target() == "/slow").count();
    assert_eq!(reached, 0, "no server hears of a slow head");
    drop(slow);
    lb.until_idle();
}

#[test]
fn thousands_of_slow_bodies_hinder_nobody_and_are_served() {
    const SLOW: usize = 2000;
    let site = Site::run(|request| ok(&request.body.len().to_string()));
    let lb = http(Frontend::new("web").server("a", site.addr()));
    let addr = lb.addr("web");
    let (length, chunked) = ("Content-Length: 20\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n");
    let bodies = ["x".repeat(20), "5\r\nabcde\r\n0\r\n\r\n".to_owned() + "     "];
    let mut slow =
        dribblers(addr, SLOW, |index| format!("POST /slow HTTP/1.1\r\nHost: a\r\n{}", [length, chunked][index % 2]));
    let good = beside(addr, || {
        for at in 0..20 {
            for (index, client) in slow.iter_mut().enumerate() {
                if let byte @ (b'0'..=b'z' | b'\r' | b'\n') = bodies[index % 2].as_bytes()[at] {
                    client.send([byte]);
                }
            }
        }
        for (index, client) in slow.iter_mut().enumerate() {
            assert_eq!(client.answer("POST").text(), ["20", "5"][index % 2]);
        }
    });
    assert!(good > 100, "{good} good requests");
    assert_eq!(site.requests().iter().filter(|request| request.target() == "/slow").count(), SLOW);
    drop(slow);
    lb.until_idle();
}

#[test]
fn refusing_by_the_thousand_costs_no_descriptors_and_no_memory() {
    let site = Site::named("a");
    let lb = http(Frontend::new("web").server("a", site.addr()));
    let addr = lb.addr("web");
    let flood = |count: usize| {
        for index in 0..count {
            let mut client = Wire::connect(addr);
            client.send(MALFORMED[index % MALFORMED.len()].0);
            assert!(client.rest().0.starts_with(b"HTTP/1.1 "));
        }
        lb.until_idle();
    };
    flood(200);
    let (memory, descriptors) = (lb.memory(), lb.descriptors_in_use());
    flood(2000);
    assert!(lb.memory() < memory + 8_000_000, "{} bytes of memory, {memory} before", lb.memory());
    wait::until("descriptors are closed", || lb.descriptors_in_use() <= descriptors);
}

/// Clients that will be slow. What each sends first goes out at once: one without a byte is parted with without a word.
fn dribblers(addr: SocketAddr, count: usize, first: impl Fn(usize) -> String) -> Vec<Wire<TcpStream>> {
    let begin = |index| {
        let mut client = Wire::connect(addr);
        client.send(first(index));
        client
    };
    (0..count).map(begin).collect()
}

/// Runs `slow` while good clients come, all of whom must be served, and gives the number of their requests. It goes on until
/// there were some of them.
fn beside(addr: SocketAddr, slow: impl FnOnce()) -> usize {
    let (ended, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let good = || -> io::Result<()> {
            while !ended.load(SeqCst) || served.load(SeqCst) <= 100 {
                let mut client = Wire::over(tests::client::try_connect(addr)?);
                for target in ["/good/1", "/good/2"] {
                    let answer = client.try_ask(&request("GET", target, &[], ""))?;
                    assert_eq!(answer.status(), 200);
                    served.fetch_add(1, SeqCst);
                }
            }
            Ok(())
        };
        let good = [scope.spawn(good), scope.spawn(good)];
        slow();
        ended.store(true, SeqCst);
        good.into_iter().for_each(|good| good.join().unwrap().expect("good clients are served"));
    });
    served.into_inner()
}

/// Checks a refusal and the end behind it.
fn is_refused(client: &mut Wire, status: u16, what: &str) {
    let what = &what[..what.len().min(200)];
    let answer = client.try_answer("GET").unwrap_or_else(|error| panic!("no refusal of {what:?}: {error}"));
    assert_eq!(answer.status(), status, "{what:?}");
    assert!(answer.connection_says("close"), "{what:?}: {answer:?}");
    is_ours(&answer, status);
    client.closes();
}

/// Checks that an answer is a short one of the balancer's own.
fn is_ours(answer: &Message, status: u16) {
    assert_eq!(answer.status(), status, "{answer:?}");
    assert!(answer.field("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{answer:?}");
    assert!((1..200).contains(&answer.text().len()), "{answer:?}");
}

fn http(frontend: Frontend) -> Lb {
    Lb::start(Config::of(frontend.set("protocol", "http")).set("shards", 1))
}
