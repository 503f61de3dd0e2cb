//! Bodies: their framing both ways, responses without any, interim responses, trailers, and streams of hundreds of megabytes
//! by hash, without any of it being kept.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{Read, Write};
use std::process::Command;
use std::thread;
use std::time::Duration;

use tests::client::{End, reset};
use tests::http::{Chunks, Framing, Message, Site, Wire, ok, reply, request};
use tests::program::succeeds;
use tests::{Config, Frontend, Lb, http_refused, stream, text, wait};

#[test]
fn a_body_of_either_framing_arrives_in_one() {
    let site = Site::run(|request| ok(&format!("{} {}", framing(request), request.text())));
    let (_lb, mut client) = client_of(&site);
    assert_eq!(client.ask(&request("POST", "/", &[], "length")).text(), "length length");
    let chunked = |body: &str| format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    assert_eq!(client.ask(&chunked("3\r\nchu\r\n4\r\nnked\r\n0\r\n\r\n")).text(), "chunked chunked");
    assert_eq!(client.ask(&chunked("0\r\n\r\n")).text(), "chunked ");
    assert_eq!(client.ask(&chunked("00003;name=\"value\"\r\nabc\r\n000;last\r\n\r\n")).text(), "chunked abc");
    assert_eq!(client.ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n").text(), "length ");
    assert_eq!(client.ask("POST / HTTP/1.1\r\nHost: h\r\n\r\n").text(), "none ");
}

#[test]
fn extensions_of_chunks_do_not_reach_the_server() {
    // `Body` reads no extensions: what came through is a request that was read.
    let site = Site::run(|request| ok(request.text()));
    let (_lb, mut client) = client_of(&site);
    let chunks = "3;a=b;c\r\nabc\r\n1;x=\"quo\\\"ted; \"\r\nd\r\n0;end\r\n\r\n";
    let head = "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(client.ask(&format!("{head}{chunks}")).text(), "abcd");
}

#[test]
fn a_response_of_every_framing_arrives_whole_and_the_client_is_kept() {
    let site = Site::run(|request| match request.target() {
        "/length" => ok("some text"),
        "/chunked" => chunked("4\r\nsome\r\n5\r\n text\r\n0\r\n\r\n"),
        "/empty" => chunked("0\r\n\r\n"),
        "/nothing" => ok(""),
        _ => "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nsome text".to_owned(),
    });
    let (_lb, mut client) = client_of(&site);
    for _ in 0..3 {
        assert_eq!(client.get("/length").text(), "some text");
        assert_eq!(client.get("/chunked").text(), "some text");
        assert_eq!(client.get("/empty").text(), "");
        assert_eq!(client.get("/nothing").text(), "");
    }
    assert_eq!(client.get("/until-close").text(), "some text");
}

#[test]
fn responses_without_a_body_are_followed_by_the_next_one() {
    let site = Site::run(|request| {
        let status: u16 = request.target()[1..].parse().unwrap();
        match (request.method(), status) {
            ("HEAD", _) => "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_owned(),
            (_, 204) => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            (_, 304) => "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\nETag: \"x\"\r\n\r\n".to_owned(),
            _ => ok("a body"),
        }
    });
    let (_lb, mut client) = client_of(&site);
    for _ in 0..3 {
        let head = client.ask(&request("HEAD", "/200", &[], ""));
        assert_eq!(head.field("content-length"), Some("1000"));
        assert_eq!(client.get("/204").status(), 204);
        let answer = client.get("/304");
        assert_eq!((answer.status(), answer.field("etag")), (304, Some("\"x\"")));
        assert_eq!(client.get("/200").text(), "a body");
    }
    assert_eq!(site.accepted(), 1, "the server's connection is kept as well");
}

#[test]
fn a_chunked_answer_to_head_has_no_body() {
    let site = Site::run(|request| match request.method() {
        "HEAD" => chunked(""),
        _ => chunked("1\r\nx\r\n0\r\n\r\n"),
    });
    let (_lb, mut client) = client_of(&site);
    for _ in 0..3 {
        assert_eq!(client.ask(&request("HEAD", "/", &[], "")).status(), 200);
        assert_eq!(client.get("/").text(), "x");
    }
}

#[test]
fn a_client_that_waits_for_100_gets_it_from_the_server() {
    let site = Site::play(|wire, visit| {
        while let Ok(mut head) = wire.try_head() {
            assert_eq!(head.field("expect"), Some("100-continue"));
            wire.send("HTTP/1.1 100 Continue\r\n\r\n");
            let framing = Framing::of_request(&head);
            let digest = stream::read(&mut wire.body(framing)).unwrap();
            head.body = digest.to_string().into();
            visit.note(&head);
            wire.send(ok(head.text()));
        }
    });
    let (_lb, mut client) = client_of(&site);
    for seed in 0..3 {
        client.send(request("PUT", "/", &[("Expect", "100-continue"), ("Content-Length", "500000")], ""));
        assert_eq!(client.head().status(), 100);
        stream::write(client.writer(), seed, 500_000).unwrap();
        assert_eq!(client.answer("PUT").text(), stream::digest(seed, 500_000).to_string());
    }
}

#[test]
fn a_server_that_does_not_want_the_body_says_so_before_it_is_sent() {
    let site = Site::play(|wire, _| {
        if wire.try_head().is_ok() {
            wire.send(reply(417, "Connection: close\r\n", "no"));
        }
    });
    let (lb, mut client) = client_of(&site);
    client.send(request("PUT", "/", &[("Expect", "100-continue"), ("Content-Length", "500000")], ""));
    let answer = client.answer("PUT");
    assert_eq!((answer.status(), answer.text()), (417, "no"));
    drop(client);
    lb.until_idle();
}

#[test]
fn curl_uploads_with_expect_and_by_chunks() {
    let site = Site::play(|wire, _| {
        while let Ok(head) = wire.try_head() {
            if head.has("expect") {
                wire.send("HTTP/1.1 100 Continue\r\n\r\n");
            }
            let framing = Framing::of_request(&head);
            let digest = stream::read(&mut wire.body(framing)).unwrap();
            wire.send(ok(&digest.to_string()));
        }
    });
    let (lb, _) = client_of(&site);
    let folder = tempfile::TempDir::with_prefix("lb-test-upload-").unwrap();
    let path = folder.path().join("file");
    stream::write(&mut fs::File::create(&path).unwrap(), 9, 30_000_000).unwrap();
    let url = format!("http://{}/", lb.addr("web"));
    let upload = |more: &[&str]| {
        let mut curl = Command::new("curl");
        succeeds(curl.args(["-sS", "--fail", "--max-time", "60", "-T"]).arg(&path).args(more).arg(&url))
    };
    let expected = stream::digest(9, 30_000_000).to_string();
    assert_eq!(upload(&["-H", "Expect: 100-continue"]), expected);
    assert_eq!(upload(&["-H", "Expect: 100-continue", "-H", "Transfer-Encoding: chunked"]), expected);
    assert_eq!(upload(&["-H", "Expect:"]), expected);
}

#[test]
fn interim_responses_reach_a_client_that_knows_them_and_no_other() {
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n";
    let site = Site::run(move |_| format!("{hint}{hint}{}", ok("at last")));
    let (lb, mut client) = client_of(&site);
    for _ in 0..2 {
        client.send(request("GET", "/", &[], ""));
        for _ in 0..2 {
            let head = client.head();
            assert_eq!((head.status(), head.field("link")), (103, Some("</style.css>")));
        }
        assert_eq!(client.answer("GET").text(), "at last");
    }
    let mut old = Wire::connect(lb.addr("web"));
    old.send("GET / HTTP/1.0\r\n\r\n");
    let head = old.head();
    assert_eq!(head.status(), 200, "HTTP/1.0 knows no interim response: {head:?}");
    assert_eq!(text(&old.rest().0), "at last");
}

#[test]
fn trailers_arrive_both_ways_without_those_that_frame_or_route() {
    let bad = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: other\r\nAuthorization: x\r\n";
    let body = format!("1\r\nx\r\n0\r\nX-Sum: 17\r\n{bad}X-Last: yes\r\n\r\n");
    let answer = chunked(&body);
    let site = Site::run(move |_| answer.clone());
    let (_lb, mut client) = client_of(&site);
    let head = "POST / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";
    for _ in 0..2 {
        let answer = client.ask(&format!("{head}{body}"));
        let kept = [("X-Sum", "17"), ("X-Last", "yes")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(answer.trailers, kept, "towards the client");
        assert_eq!(site.last().trailers, kept, "towards the server");
    }
}

#[test]
fn a_response_that_breaks_off_does_not_look_whole_to_the_client() {
    let heads = [
        ("length", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly a part"),
        ("chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nonly a part\r\n"),
        ("within a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nonly a part"),
    ];
    for (what, bytes) in heads {
        for resets in [false, true] {
            let site = Site::play(move |wire, _| {
                wire.request().unwrap();
                wire.send(bytes);
                if resets {
                    reset(wire.writer().try_clone().unwrap());
                }
            });
            let (lb, mut client) = client_of(&site);
            let result = client.try_ask(&request("GET", "/", &[], ""));
            // After a reset the head itself may be lost.
            assert!(result.is_err() || result.is_ok_and(|answer| answer.status() == 502), "{what}, reset: {resets}");
            drop(client);
            lb.until_idle();
            assert_eq!(lb.pooled(), 0);
        }
    }
}

#[test]
fn a_response_until_close_that_is_reset_does_not_end_in_order() {
    let site = Site::play(|wire, _| {
        wire.request().unwrap();
        wire.send("HTTP/1.1 200 OK\r\n\r\nonly a part");
        // The reset is sent when the client has the part, so that it can't overtake it.
        let _ = wire.reader().read(&mut [0]);
    });
    let (_lb, mut client) = client_of(&site);
    client.send(request("GET", "/", &[], ""));
    let head = client.head();
    let is_chunked = head.has("transfer-encoding");
    let mut body = client.body(Framing::of_response(&head, "GET"));
    let mut part = [0; 11];
    body.read_exact(&mut part).unwrap();
    assert_eq!(&part, b"only a part");
    site.hang_up_with_reset();
    if is_chunked {
        assert!(body.read(&mut part).is_err());
    } else {
        assert_eq!(client.rest(), (vec![], End::Reset));
    }
}

#[test]
fn an_upload_that_breaks_off_does_not_look_whole_to_the_server() {
    for head in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let (sender, receiver) = std::sync::mpsc::channel();
        let sender = std::sync::Mutex::new(sender);
        let site = Site::play(move |wire, _| {
            let head = wire.try_head().unwrap();
            let framing = Framing::of_request(&head);
            sender.lock().unwrap().send(stream::read(&mut wire.body(framing)).is_err()).unwrap();
        });
        let (lb, mut client) = client_of(&site);
        client.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{head}\r\n\r\n5\r\nhello\r\n"));
        wait::until("the server has the request", || site.connections() == 1);
        drop(client);
        assert!(receiver.recv_timeout(wait::HANG).unwrap(), "{head}: the server reads an error");
        lb.until_idle();
        assert_eq!(lb.pooled(), 0, "{head}");
    }
}

#[test]
fn a_bad_chunk_of_a_client_ends_both_connections() {
    for bad in ["zz\r\n", "5\r\nhelloX\r\n", "5\nhello\r\n", "-1\r\n", "fffffffffffffffff\r\n", "0x5\r\nhello\r\n"] {
        let site = Site::play(|wire, visit| {
            if let Ok(Some(request)) = wire.request() {
                visit.note(&request);
            }
        });
        let (lb, mut client) = client_of(&site);
        client.send(format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n{bad}"));
        let (rest, _) = client.rest();
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 400 "), "{bad:?}: {}", rest.escape_ascii());
        wait::until("the server's connection is closed", || site.connections() == 0);
        assert!(site.seen().is_empty(), "{bad:?} was passed on as a whole request: {:?}", site.seen());
        assert_eq!(http_refused(&lb.frontend("web"), "malformed"), 1, "{bad:?}");
        assert_eq!(lb.pooled(), 0);
    }
}

#[test]
fn a_bad_chunk_of_a_server_ends_the_client() {
    let site = Site::run(|_| chunked("3\r\nabc\r\nzz\r\nabc\r\n0\r\n\r\n"));
    let (lb, mut client) = client_of(&site);
    let result = client.try_ask(&request("GET", "/", &[], ""));
    assert!(result.is_err() || result.is_ok_and(|answer| answer.status() == 502));
    drop(client);
    lb.until_idle();
    assert_eq!(lb.pooled(), 0);
}

#[test]
fn bytes_behind_a_response_are_not_taken_for_the_next_one() {
    let site = Site::run(|request| format!("{}{}", ok(request.target()), ok("not asked for")));
    let lb = http(Frontend::new("web").server("a", site.addr()), |config| config.set("shards", 1));
    for round in 0..5 {
        let target = format!("/{round}");
        assert_eq!(Wire::connect(lb.addr("web")).get(&target).text(), target);
        lb.until_idle();
    }
}

#[test]
fn a_server_that_answers_before_the_upload_is_over_is_heard() {
    let site = Site::play(|wire, _| {
        if wire.try_head().is_ok() {
            wire.send(reply(413, "Connection: close\r\n", "too much"));
        }
        let _ = wire.rest();
    });
    let (lb, mut client) = client_of(&site);
    client.send(request("POST", "/", &[("Content-Length", "100000000")], ""));
    client.send(&[b'x'; 1000][..]);
    let answer = client.answer("POST");
    assert_eq!((answer.status(), answer.text()), (413, "too much"));
    drop(client);
    lb.until_idle();
}

#[test]
fn hundreds_of_megabytes_arrive_unchanged_and_are_not_kept() {
    const BYTES: u64 = 300_000_000;
    let site = Site::play(|wire, _| {
        while let Ok(head) = wire.try_head() {
            let framing = Framing::of_request(&head);
            let digest = stream::read(&mut wire.body(framing)).unwrap();
            match head.target() {
                "/up" => wire.send(ok(&digest.to_string())),
                "/length" => {
                    wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n"));
                    stream::write(wire.writer(), 2, BYTES).unwrap();
                }
                _ => {
                    wire.send(chunked(""));
                    let mut chunks = Chunks::new(wire.writer());
                    stream::write(&mut chunks, 3, BYTES).unwrap();
                    chunks.end("").unwrap();
                }
            }
        }
    });
    let (lb, mut client) = client_of(&site);
    client.ask(&request("POST", "/up", &[], "warm"));
    let before = lb.memory();

    client.send(request("PUT", "/up", &[("Content-Length", &BYTES.to_string())], ""));
    stream::write(client.writer(), 4, BYTES).unwrap();
    assert_eq!(client.answer("PUT").text(), stream::digest(4, BYTES).to_string(), "upload by length");

    client.send(request("PUT", "/up", &[("Transfer-Encoding", "chunked")], ""));
    let mut chunks = Chunks::new(client.writer());
    stream::write(&mut chunks, 5, BYTES).unwrap();
    chunks.end("").unwrap();
    assert_eq!(client.answer("PUT").text(), stream::digest(5, BYTES).to_string(), "upload by chunks");

    for (target, seed) in [("/length", 2), ("/chunked", 3)] {
        client.send(request("GET", target, &[], ""));
        let head = client.head();
        let got = stream::read(&mut client.body(Framing::of_response(&head, "GET"))).unwrap();
        assert_eq!(got, stream::digest(seed, BYTES), "download: {target}");
    }
    assert_eq!((site.accepted(), lb.traffic("accepted")), (1, 1), "all over one connection each");
    assert!(lb.memory() < before + 32_000_000, "{} bytes of memory, {before} before", lb.memory());
}

#[test]
fn a_client_that_does_not_read_makes_the_server_wait() {
    let site = Site::play(|wire, _| {
        if wire.try_head().is_ok() {
            wire.send(chunked(""));
            let mut chunks = Chunks::new(wire.writer());
            let _ = stream::write(&mut chunks, 1, 1 << 40);
        }
    });
    let lb = http(Frontend::new("web").server("a", site.addr()), |config| config);
    let before = lb.memory();
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let mut client = Wire::over(tests::client::connect_with_small_buffer(lb.addr("web")));
            client.send(request("GET", "/", &[], ""));
            client
        })
        .collect();
    let bytes = || lb.traffic("bytes_to_client");
    wait::until("it has begun", || bytes() > 0);
    wait::until_still("no more is taken from the server", Duration::from_millis(300), bytes);
    assert!(lb.memory() < before + 32_000_000, "{} bytes of memory, {before} before", lb.memory());
    drop(clients);
    lb.until_idle();
}

#[test]
fn who_goes_on_sending_a_body_that_nobody_wants_gets_all_of_the_answer() {
    const ANSWER: usize = 400_000;
    // More than a second of it: for so long a client that is silent would be waited for.
    const PIECES: usize = 250;
    let site = Site::play(|wire, _| {
        if wire.try_head().is_ok() {
            wire.send(ok(&"x".repeat(ANSWER)));
            let _ = wire.try_answer("GET");
        }
    });
    let lb = http(Frontend::new("web").server("a", site.addr()), |config| config);
    let stream = tests::client::connect_with_small_buffer(lb.addr("web"));
    let (mut upload, mut client) = (stream.try_clone().unwrap(), Wire::over(stream));
    client.send(request("POST", "/", &[("Content-Length", "100000000")], ""));
    for _ in 0..PIECES {
        // How slow the client is, and nothing to wait for.
        thread::sleep(Duration::from_millis(10));
        upload.write_all(&[b'x'; 1000]).unwrap();
    }
    assert_eq!(client.answer("POST").text().len(), ANSWER);
    drop((upload, client));
    lb.until_idle();
}

#[test]
fn an_answer_that_ends_with_its_connection_is_whole_or_cut_by_a_reset() {
    // Some that fit into the kernel's buffers, some that fit with ours, and some that do not.
    let sizes: Vec<u64> = (0..48).map(|step| (step * 128) << 10).collect();
    let site = Site::play(|wire, _| {
        if let Ok(head) = wire.try_head() {
            wire.send("HTTP/1.1 200 OK\r\n\r\n");
            let _ = stream::write(wire.writer(), 1, head.target()[1..].parse().unwrap());
        }
    });
    let frontend = Frontend::new("web").set("idle_timeout", "\"1s\"").server("a", site.addr());
    let lb = http(frontend, |config| config);
    let clients: Vec<_> = sizes
        .iter()
        .map(|size| {
            let mut client = Wire::over(tests::client::connect_with_small_buffer(lb.addr("web")));
            client.send(request("GET", &format!("/{size}"), &[], ""));
            client
        })
        .collect();
    lb.until_idle();
    for (mut client, size) in clients.into_iter().zip(sizes) {
        client.head();
        let (body, end) = client.rest();
        assert!(end == End::Reset || body.len() as u64 == size, "{} of {size} bytes and then the end", body.len());
    }
}

#[test]
fn uploads_and_downloads_at_once_do_not_mix() {
    const BYTES: u64 = 3_000_000;
    let site = Site::play(|wire, _| {
        while let Ok(head) = wire.try_head() {
            let framing = Framing::of_request(&head);
            let digest = stream::read(&mut wire.body(framing)).unwrap();
            wire.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Got: {digest}\r\n\r\n"));
            let mut chunks = Chunks::new(wire.writer());
            stream::write(&mut chunks, head.target()[1..].parse().unwrap(), BYTES).unwrap();
            chunks.end("").unwrap();
        }
    });
    let lb = http(Frontend::new("web").server("a", site.addr()), |config| config.set("shards", 2));
    let addr = lb.addr("web");
    thread::scope(|scope| {
        for seed in 0..16 {
            scope.spawn(move || {
                let mut client = Wire::connect(addr);
                for round in 0..3 {
                    let (up, down) = (seed * 10 + round, 1000 + seed * 10 + round);
                    let fields = [("Content-Length", BYTES.to_string())];
                    let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
                    client.send(request("POST", &format!("/{down}"), &fields, ""));
                    stream::write(client.writer(), up, BYTES).unwrap();
                    let head = client.head();
                    assert_eq!(head.field("x-got").unwrap(), stream::digest(up, BYTES).to_string());
                    let got = stream::read(&mut client.body(Framing::of_response(&head, "POST"))).unwrap();
                    assert_eq!(got, stream::digest(down, BYTES));
                }
            });
        }
    });
}

fn framing(request: &Message) -> &'static str {
    match (request.has("content-length"), request.has("transfer-encoding")) {
        (true, false) => "length",
        (false, true) => "chunked",
        (false, false) => "none",
        (true, true) => "both",
    }
}

fn chunked(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

fn client_of(site: &Site) -> (Lb, Wire) {
    let lb = http(Frontend::new("web").server("a", site.addr()), |config| config);
    let client = Wire::connect(lb.addr("web"));
    (lb, client)
}

fn http(frontend: Frontend, settings: impl FnOnce(Config) -> Config) -> Lb {
    Lb::start(settings(Config::of(frontend.set("protocol", "http"))))
}
