//! Requests where servers are full, slow or leaving, and where the balancer itself stops or is replaced: each is answered, or
//! told why not.
#![forbid(unsafe_code)]

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use tests::client::{reset, try_connect};
use tests::http::{Site, Wire, ok, request};
use tests::modes::{Mode, Party};
use tests::{Backend, Channel, Config, Frontend, Lb, http_refused, stream, wait};

#[test]
fn who_finds_a_full_server_waits_for_the_request_before_and_is_served() {
    let gate = Gate::default();
    let site = gate.site();
    let frontend = Frontend::new("web").server_with("a", site.addr(), "max_connections: 1");
    let lb = http(frontend.set("queue_timeout", "\"60s\""));
    let mut clients: Vec<_> = (0..4).map(|_| Wire::connect(lb.addr("web"))).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.send(request("POST", &format!("/{index}"), &[], "body"));
        wait::until("the request is taken up", || lb.frontend("web")["http"]["requests"] == index + 1);
    }
    wait::until("the server has one and the others wait", || {
        !site.seen().is_empty() && lb.frontend("web")["waiting"] == 3
    });
    assert_eq!(site.seen().len(), 1, "one at a time");
    gate.open();
    for (index, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.answer("POST").text(), format!("/{index}"));
    }
    let targets: Vec<_> = site.requests().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(targets, ["/0", "/1", "/2", "/3"], "in turn");
}

#[test]
fn who_waits_for_a_full_server_in_vain_gets_503() {
    let gate = Gate::default();
    let site = gate.site();
    let frontend = Frontend::new("web").server_with("a", site.addr(), "max_connections: 1");
    let lb = http(frontend.set("queue_timeout", "\"200ms\""));
    let [mut first, mut second] = [(); 2].map(|()| Wire::connect(lb.addr("web")));
    first.send(request("GET", "/first", &[], ""));
    wait::until("the server has the first", || site.seen().len() == 1);
    assert_eq!(second.get("/second").status(), 503);
    assert_eq!(http_refused(&lb.frontend("web"), "no_server"), 1);
    gate.open();
    assert_eq!(first.answer("GET").text(), "/first");
}

#[test]
fn who_finds_the_queue_full_gets_503_at_once() {
    let gate = Gate::default();
    let site = gate.site();
    let frontend = Frontend::new("web").server_with("a", site.addr(), "max_connections: 1");
    let lb = http(frontend.set("queue", 1).set("queue_timeout", "\"60s\""));
    let [mut first, mut second, mut third] = [(); 3].map(|()| Wire::connect(lb.addr("web")));
    first.send(request("GET", "/first", &[], ""));
    wait::until("the server has the first", || site.seen().len() == 1);
    second.send(request("GET", "/second", &[], ""));
    wait::until("the second waits", || lb.frontend("web")["waiting"] == 1);
    assert_eq!(third.get("/third").status(), 503);
    gate.open();
    assert_eq!((first.answer("GET").text(), second.answer("GET").text()), ("/first", "/second"));
}

#[test]
fn idle_clients_hold_no_place_at_a_full_server() {
    let site = Site::named("a");
    let lb = http(Frontend::new("web").server_with("a", site.addr(), "max_connections: 1"));
    let mut clients: Vec<_> = (0..20).map(|_| Wire::connect(lb.addr("web"))).collect();
    for _ in 0..3 {
        for client in &mut clients {
            assert_eq!(client.get("/").text(), "a");
        }
    }
    assert_eq!(site.accepted(), 1);
}

#[test]
fn a_server_that_does_not_read_makes_the_client_wait() {
    let gate = Gate::default();
    let reading = gate.clone();
    let site = Site::play(move |wire, _| {
        while let Ok(head) = wire.try_head() {
            reading.pass();
            let framing = tests::http::Framing::of_request(&head);
            let digest = stream::read(&mut wire.body(framing)).unwrap();
            wire.send(ok(&digest.to_string()));
        }
    });
    const BYTES: u64 = 100_000_000;
    let lb = http(Frontend::new("web").server("a", site.addr()));
    let before = lb.memory();
    for (name, chunked) in [("Content-Length", false), ("Transfer-Encoding", true)] {
        gate.close();
        let mut client = Wire::connect(lb.addr("web"));
        let value = if chunked { "chunked".to_owned() } else { BYTES.to_string() };
        client.send(request("PUT", "/", &[(name, &value)], ""));
        let mut writer = client.writer().try_clone().unwrap();
        let writing = thread::spawn(move || match chunked {
            true => {
                let mut chunks = tests::http::Chunks::new(&mut writer);
                stream::write(&mut chunks, 6, BYTES).unwrap();
                chunks.end("").unwrap();
            }
            false => drop(stream::write(&mut writer, 6, BYTES).unwrap()),
        });
        let bytes = || lb.traffic("bytes_to_server");
        wait::until_still("no more is taken of the client", Duration::from_millis(300), bytes);
        assert!(!writing.is_finished(), "the client has sent it all, and nobody has read it");
        assert!(lb.memory() < before + 16_000_000, "{} bytes of memory, {before} before", lb.memory());
        gate.open();
        assert_eq!(client.answer("PUT").text(), stream::digest(6, BYTES).to_string(), "{name}");
        writing.join().unwrap();
    }
}

#[test]
fn who_is_answered_before_the_server_has_heard_all_is_told_whether_the_connection_ends() {
    let (gate, reading) = (Gate::default(), Gate::default());
    let (answer, read) = (gate.clone(), reading.clone());
    let site = Site::play(move |wire, _| {
        SockRef::from(&*wire.writer()).set_recv_buffer_size(16 * 1024).unwrap();
        while let Ok(head) = wire.try_head() {
            answer.pass();
            wire.send(ok("a"));
            if head.method() == "POST" {
                read.pass();
                SockRef::from(&*wire.writer()).set_recv_buffer_size(4 << 20).unwrap();
                let Ok(_) = stream::read(&mut wire.body(tests::http::Framing::of_request(&head))) else { return };
            }
        }
    });
    let lb = http(Frontend::new("web").server("a", site.addr()));
    let mut ends = [0; 2];
    for bytes in (1..100).map(|step| step * 100_000) {
        gate.close();
        reading.close();
        let mut client = Wire::connect(lb.addr("web"));
        let head = request("POST", "/", &[("Content-Length", &bytes.to_string())], "");
        let mut writer = client.writer().try_clone().unwrap();
        let writing = thread::spawn(move || {
            // The rest of it may not be wanted any more.
            let _ = writer.write_all(head.as_bytes()).and_then(|()| stream::write(&mut writer, 3, bytes).map(drop));
        });
        // Until the server does not take more.
        wait::until_still("no more is taken", Duration::from_millis(20), || lb.traffic("bytes_to_server"));
        gate.open();
        let answer = client.answer("POST");
        let ends_now = answer.connection_says("close");
        ends[usize::from(ends_now)] += 1;
        reading.open();
        if !ends_now {
            assert_eq!(client.get("/").text(), "a", "after {bytes} bytes");
        }
        drop(client);
        writing.join().unwrap();
        if ends.iter().all(|count| *count > 0) {
            return;
        }
    }
    panic!("both kinds of bodies are there: {ends:?}");
}

#[test]
fn a_flood_of_pipelined_requests_is_not_kept() {
    let gate = Gate::default();
    let site = gate.site();
    let lb = http(Frontend::new("web").server("a", site.addr()));
    let before = lb.memory();
    let addr = lb.addr("web");
    let text = request("GET", "/", &[("X-Filler", &"x".repeat(900))], "").repeat(10);
    let flood = || {
        let mut stream = try_connect(addr).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        while stream.write_all(text.as_bytes()).is_ok() {}
        stream
    };
    let clients: Vec<_> = thread::scope(|scope| {
        let flooding: Vec<_> = (0..20).map(|_| scope.spawn(flood)).collect();
        flooding.into_iter().map(|flood| flood.join().unwrap()).collect()
    });
    assert!(lb.memory() < before + 16_000_000, "{} bytes of memory, {before} before", lb.memory());
    drop(clients);
    gate.open();
    lb.until_idle();
}

#[test]
fn who_pipelines_and_goes_without_reading_leaves_nothing_behind() {
    let site = Site::named("a");
    let lb = http(Frontend::new("web").server("a", site.addr()));
    for count in 1..20 {
        let mut client = Wire::connect(lb.addr("web"));
        client.send(request("GET", "/", &[], "").repeat(count));
    }
    lb.until_idle();
    assert_eq!(lb.server("web", "a")["connections"], 0);
}

#[test]
fn who_goes_at_any_byte_leaves_nothing_behind() {
    let site = Site::run(|request| ok(request.target()));
    let lb = http(Frontend::new("web").server("a", site.addr()));
    let addr = lb.addr("web");
    let chunked = "POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX: y\r\n\r\n";
    let text = request("PUT", "/1", &[], "body") + chunked + &request("GET", "/3", &[], "");
    let mut good = Wire::connect(addr);
    for end in 0..=text.len() {
        for resets in [false, true] {
            let mut client = Wire::connect(addr);
            client.send(&text[..end]);
            if resets {
                reset(client.into_inner());
            }
        }
        let target = format!("/good/{end}");
        assert_eq!(good.get(&target).text(), target);
    }
    drop(good);
    lb.until_idle();
    assert_eq!(lb.server("web", "a")["connections"], 0);
}

#[test]
fn when_it_stops_requests_are_answered_and_clients_told_to_close() {
    let gate = Gate::default();
    let site = gate.site();
    let mut lb = http(Frontend::new("web").server("a", site.addr()));
    let [mut busy, mut idle] = gate.busy_and_idle(&site, &lb);
    lb.signal("TERM");
    idle.closes();
    gate.open();
    let answer = busy.answer("GET");
    assert_eq!((answer.text(), answer.connection_says("close")), ("/busy", true), "{answer:?}");
    busy.closes();
    assert_eq!(lb.exit().code(), Some(0));
}

#[test]
fn clients_of_a_frontend_that_is_removed_are_answered_and_told_to_close() {
    let gate = Gate::default();
    let site = gate.site();
    let lb = http(Frontend::new("web").server("a", site.addr()));
    let [mut busy, mut idle] = gate.busy_and_idle(&site, &lb);
    let mut beginning = Wire::connect(lb.addr("web"));
    beginning.send("GET /begun HTTP/1.1\r\n");
    wait::until("a head has begun", || lb.connections() == 3);
    lb.done(&["frontend", "remove", "web"]);
    idle.closes();
    beginning.send("Host: site.example\r\n\r\n");
    let answer = beginning.answer("GET");
    assert_eq!((answer.status(), answer.connection_says("close")), (503, true), "{answer:?}");
    assert!(answer.text().contains("the frontend was removed"), "{answer:?}");
    beginning.closes();
    gate.open();
    let answer = busy.answer("GET");
    assert_eq!((answer.text(), answer.connection_says("close")), ("/busy", true), "{answer:?}");
    busy.closes();
    lb.until_idle();
}

#[test]
fn a_request_that_waits_for_its_server_when_the_frontend_is_removed_is_answered() {
    let (party, accepted, heard) = (Party::new(), Gate::default(), Gate::default());
    let (opens, answers, app) = (accepted.clone(), heard.clone(), party.app.clone());
    let asked = Arc::<AtomicBool>::default();
    let was_asked = Arc::clone(&asked);
    let server = Backend::run(move |stream| {
        opens.pass();
        let Ok(channel) = Channel::accept(stream, &app) else { return };
        let mut wire = Wire::over(channel);
        if let Ok(Some(request)) = wire.request() {
            was_asked.store(true, SeqCst);
            answers.pass();
            wire.send(ok(request.target()));
        }
    });
    let frontend = Frontend::new("web").set("protocol", "http").set("connect_timeout", "\"60s\"");
    let frontend = frontend.server_with("a", server.addr(), Mode::Origination.settings());
    let lb = Lb::start(Config::of(frontend).bundle("corp-ca", party.authority.pem()).set("shards", 1));
    let mut client = Wire::connect(lb.addr("web"));
    client.send(request("GET", "/slow", &[], ""));
    wait::until("the server is connected to", || server.accepted() == 1);
    lb.done(&["frontend", "remove", "web"]);
    accepted.open();
    wait::until("the server has the request", || asked.load(SeqCst));
    heard.open();
    let answer = client.answer("GET");
    assert_eq!((answer.text(), answer.status()), ("/slow", 200), "{answer:?}");
}

#[test]
fn nobody_notices_a_take_over() {
    let site = Site::run(|request| ok(request.target()));
    let lb = http(Frontend::new("web").server("a", site.addr()));
    let addr = lb.addr("web");
    let has_ended = AtomicBool::new(false);
    let served = thread::scope(|scope| {
        let client = || {
            let (mut served, mut wire) = (0, Wire::connect(addr));
            while !has_ended.load(SeqCst) {
                let target = format!("/{served}");
                match wire.try_ask(&request("GET", &target, &[], "")) {
                    Ok(answer) => {
                        assert_eq!(answer.text(), target);
                        served += 1;
                        if answer.connection_says("close") {
                            wire = Wire::connect(addr);
                        }
                    }
                    // The balancer may close between two requests, as any server may (RFC 9112, section 9.5).
                    Err(_) => wire = Wire::connect(addr),
                }
            }
            served
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
        wait::until("requests are served", || site.seen().len() > 100);
        let successor = lb.place().start_successor();
        let before = site.seen().len();
        wait::until("requests are served by the successor", || {
            site.seen().len() > before + 100 && successor.traffic("accepted") >= 4
        });
        has_ended.store(true, SeqCst);
        let served: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
        successor.until_idle();
        served
    });
    let repeated = site.seen().len() - served;
    assert!(repeated <= 4, "{repeated} of {} requests were lost, or asked again", site.seen().len());
}

#[test]
fn a_change_takes_no_connection_from_clients_that_ask() {
    let site = Site::named("a");
    let lb = http(Frontend::new("web").server("a", site.addr()));
    let (addr, has_ended) = (lb.addr("web"), AtomicBool::new(false));
    thread::scope(|scope| {
        let ask = || {
            let mut client = Wire::connect(addr);
            while !has_ended.load(SeqCst) {
                assert_eq!(client.get("/").text(), "a");
            }
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        for _ in 0..40 {
            lb.done(&["frontend", "add", "other", "127.0.0.1:0"]);
            lb.done(&["frontend", "remove", "other"]);
        }
        has_ended.store(true, SeqCst);
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
    wait::until("each client was accepted once", || lb.traffic("accepted") == 4);
}

#[test]
fn a_drained_server_finishes_its_requests_and_gets_no_new_ones() {
    let (gate, other) = (Gate::default(), Site::named("b"));
    let site = gate.site();
    let lb = http(Frontend::new("web").server("a", site.addr()));
    let mut client = Wire::connect(lb.addr("web"));
    client.send(request("GET", "/held", &[], ""));
    wait::until("the server has the request", || site.seen().len() == 1);
    lb.done(&["server", "add", "web", "b", "127.0.0.1", &other.addr().port().to_string()]);
    lb.done(&["server", "drain", "web", "a"]);
    gate.open();
    assert_eq!(client.answer("GET").text(), "/held");
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "b", "the same client's next request goes elsewhere");
    }
    assert_eq!(site.seen().len(), 1);
}

/// What servers wait for before they answer.
#[derive(Debug, Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn close(&self) {
        *self.0.0.lock().unwrap() = false;
    }

    fn pass(&self) {
        let is_open = self.0.0.lock().unwrap();
        let _is_open = self.0.1.wait_timeout_while(is_open, wait::HANG, |is_open| !*is_open).unwrap();
    }

    /// A client that waits for its answer, for as long as the gate is closed, and one that has its own.
    fn busy_and_idle(&self, site: &Site, lb: &Lb) -> [Wire; 2] {
        let [mut busy, mut idle] = [(); 2].map(|()| Wire::connect(lb.addr("web")));
        self.open();
        assert_eq!(idle.get("/idle").text(), "/idle");
        self.close();
        busy.send(request("GET", "/busy", &[], ""));
        wait::until("the server has the request", || site.seen().len() == 2);
        [busy, idle]
    }

    /// A server that says what it was asked for, once the gate is open.
    fn site(&self) -> Site {
        let gate = self.clone();
        Site::run(move |request| {
            gate.pass();
            ok(request.target())
        })
    }
}

/// One shard, so that a queue is one.
fn http(frontend: Frontend) -> Lb {
    Lb::start(Config::of(frontend.set("protocol", "http")).set("shards", 1))
}
