//! Every other way a connection ends: resets, refusals, silence, idleness. After each, nothing is left behind.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use tests::client::{End, connect, is_reset, is_turned_away, read_until_closed};
use tests::fault::{has, is_root, skipped};
use tests::net::{BlackHole, FullBacklog};
use tests::{Backend, Config, Frontend, Lb, Listener, Pair, Peer, client, refusing_addr, stream, wait};

#[test]
fn client_sees_the_reset_of_a_server_killed_in_mid_transfer() {
    let mut server = Peer::deaf();
    let lb = Watched::start(Frontend::new("web").server("a", server.addr()));
    let mut client = connect(lb.addr());
    let mut upload = client.try_clone().unwrap();
    let uploading = thread::spawn(move || stream::write(&mut upload, 1, u64::MAX).unwrap_err());
    wait::until("the upload has begun", || lb.bytes_to_server() > 100_000);

    server.kill();

    let (_, end) = read_until_closed(&mut client);
    let error = uploading.join().unwrap();
    assert!(end == End::Reset || is_reset(&error), "neither the read ({end:?}) nor the write ({error}) saw a reset");
    drop(client);
    lb.left_nothing_behind();
}

#[test]
fn client_sees_a_servers_reset() {
    let listener = Listener::new();
    let lb = Watched::start(Frontend::new("web").server("a", listener.addr()));
    let Pair { mut client, server } = Pair::new(&lb.lb, &listener);
    client::reset(server);
    assert_eq!(read_until_closed(&mut client), (vec![], End::Reset));
    lb.left_nothing_behind();
}

#[test]
fn server_sees_a_clients_reset() {
    let listener = Listener::new();
    let lb = Watched::start(Frontend::new("web").server("a", listener.addr()));
    let Pair { mut client, mut server } = Pair::new(&lb.lb, &listener);
    client.write_all(b"x").unwrap();
    server.read_exact(&mut [0]).unwrap();
    client::reset(client);
    assert_eq!(read_until_closed(&mut server), (vec![], End::Reset));
    lb.left_nothing_behind();
}

#[test]
fn server_sees_the_reset_of_a_client_that_half_closed_before() {
    let listener = Listener::new();
    let lb = Watched::start(Frontend::new("web").server("a", listener.addr()));
    let Pair { client, mut server } = Pair::new(&lb.lb, &listener);
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
    client::reset(client);
    // The end has been read: only a write can find out.
    wait::until("writing to the client that has gone fails", || server.write_all(&[0; 1024]).is_err());
    lb.left_nothing_behind();
}

#[test]
fn bytes_queued_before_a_servers_reset_still_arrive() {
    let listener = Listener::new();
    let lb = Watched::start(Frontend::new("web").server("a", listener.addr()));
    for round in 0..20 {
        let Pair { mut client, mut server } = Pair::new(&lb.lb, &listener);
        let message = vec![b'x'; 30_000];
        server.write_all(&message).unwrap();
        client::reset(server);
        let (bytes, end) = read_until_closed(&mut client);
        assert_eq!((bytes.len(), end), (message.len(), End::Reset), "round {round}");
    }
    lb.left_nothing_behind();
}

#[test]
fn bytes_queued_before_a_clients_reset_still_arrive() {
    let listener = Listener::new();
    let lb = Watched::start(Frontend::new("web").server("a", listener.addr()));
    for round in 0..20 {
        let Pair { mut client, mut server } = Pair::new(&lb.lb, &listener);
        client.write_all(&[b'x'; 30_000]).unwrap();
        client::reset(client);
        let (bytes, end) = read_until_closed(&mut server);
        assert_eq!((bytes.len(), end), (30_000, End::Reset), "round {round}");
    }
    lb.left_nothing_behind();
}

#[test]
fn client_sees_the_reset_of_a_server_that_resets_after_some_bytes() {
    let backend = Backend::reset_after(10);
    let lb = Watched::start(Frontend::new("web").server("a", backend.addr()));
    for _ in 0..10 {
        let mut client = connect(lb.addr());
        client.write_all(&[0; 10]).unwrap();
        assert_eq!(read_until_closed(&mut client), (vec![], End::Reset));
    }
    lb.left_nothing_behind();
}

#[test]
fn the_next_server_answers_for_one_that_refuses() {
    let ((refusing, _port), answering) = (refusing_addr(), Backend::who("answering"));
    let lb = Watched::start(Frontend::new("web").server("dead", refusing).server("alive", answering.addr()));
    for _ in 0..10 {
        assert_eq!(client::ask(lb.addr()), "answering");
    }
    assert_eq!(lb.lb.unserved("web"), 0, "every client was served");
    assert!(lb.lb.server("web", "dead")["failed"].as_u64() > Some(0), "the refusals are counted");
    lb.left_nothing_behind();
}

#[test]
fn client_is_reset_at_once_and_counted_when_every_server_refuses() {
    let (one, two) = (refusing_addr(), refusing_addr());
    let lb = Watched::start(patient().server("a", one.0).server("b", two.0));
    for count in 1..=5 {
        is_turned_away(lb.addr());
        assert_eq!(lb.lb.unserved("web"), count);
    }
    for name in ["a", "b"] {
        assert_eq!(lb.lb.server("web", name)["failed"], 5, "each server is tried once for each client");
    }
    lb.left_nothing_behind();
}

#[test]
fn client_of_a_frontend_without_servers_is_reset_at_once_and_counted() {
    let lb = Watched::start(patient());
    is_turned_away(lb.addr());
    assert_eq!(lb.lb.unserved("web"), 1);
    lb.left_nothing_behind();
}

#[test]
fn the_next_server_answers_for_one_with_a_full_backlog() {
    let silent = FullBacklog::new();
    the_next_server_answers_for_a_silent_one(silent.addr());
}

#[test]
fn the_next_server_answers_for_a_black_holed_one() {
    if skipped("the_next_server_answers_for_a_black_holed_one", is_root() && has("ip"), "root and iproute2") {
        return;
    }
    let silent = BlackHole::new();
    the_next_server_answers_for_a_silent_one(silent.addr());
}

#[test]
fn client_is_reset_and_counted_when_every_server_is_silent() {
    let (one, two) = (FullBacklog::new(), FullBacklog::new());
    let frontend = Frontend::new("web").set("connect_timeout", "\"200ms\"");
    let lb = Watched::start(frontend.server("a", one.addr()).server("b", two.addr()));
    let begun = Instant::now();
    is_turned_away(lb.addr());
    // The clock that timers run by has whole milliseconds.
    assert!(begun.elapsed() >= Duration::from_millis(398), "two servers had 200 ms each, not {:?}", begun.elapsed());
    assert_eq!(lb.lb.unserved("web"), 1);
    lb.left_nothing_behind();
}

#[test]
fn bytes_sent_while_servers_are_tried_reach_the_one_that_answers() {
    let (silent, echo) = (FullBacklog::new(), Backend::echo());
    let frontend = Frontend::new("web").set("connect_timeout", "\"200ms\"");
    let lb = Watched::start(frontend.server("silent", silent.addr()).server("echo", echo.addr()));
    for _ in 0..4 {
        client::echo(&mut connect(lb.addr()), &[b'x'; 20_000]);
    }
    lb.left_nothing_behind();
}

#[test]
fn nothing_is_left_of_a_client_that_goes_while_servers_are_tried() {
    let silent = FullBacklog::new();
    let frontend = Frontend::new("web").set("connect_timeout", "\"500ms\"");
    let lb = Watched::start(frontend.server("silent", silent.addr()));
    for _ in 0..5 {
        client::reset(connect(lb.addr()));
        drop(connect(lb.addr()));
    }
    lb.left_nothing_behind();
}

#[test]
fn an_idle_connection_is_closed_after_the_idle_timeout() {
    let listener = Listener::new();
    let lb = Watched::start(Frontend::new("web").set("idle_timeout", "\"300ms\"").server("a", listener.addr()));
    let begun = Instant::now();
    let Pair { mut client, mut server } = Pair::new(&lb.lb, &listener);
    let (at_client, _) = read_until_closed(&mut client);
    let (at_server, _) = read_until_closed(&mut server);
    assert!(begun.elapsed() >= Duration::from_millis(298), "closed after {:?} already", begun.elapsed());
    assert_eq!((at_client.len(), at_server.len()), (0, 0));
    drop((client, server));
    lb.left_nothing_behind();
}

#[test]
fn a_byte_in_either_direction_keeps_a_connection_from_being_idle() {
    let listener = Listener::new();
    let lb = Watched::start(Frontend::new("web").set("idle_timeout", "\"4s\"").server("a", listener.addr()));
    let Pair { mut client, mut server } = Pair::new(&lb.lb, &listener);
    let begun = Instant::now();
    // Time is what this is about: a byte every 100 ms for longer than the idle timeout, towards the client only.
    while begun.elapsed() < Duration::from_secs(6) {
        server.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        thread::sleep(Duration::from_millis(100));
    }
    client.write_all(b"still here").unwrap();
    server.read_exact(&mut [0; 10]).unwrap();
    drop((client, server));
    lb.left_nothing_behind();
}

#[test]
fn a_thousand_short_connections_leave_nothing_behind() {
    let backend = Backend::who("server");
    let lb = Watched::start(Frontend::new("web").server("a", backend.addr()));
    for _ in 0..1000 {
        assert_eq!(client::ask(lb.addr()), "server");
    }
    lb.left_nothing_behind();
}

/// A balancer whose descriptors were counted when it was idle.
struct Watched {
    lb: Lb,
    addr: SocketAddr,
    descriptors: usize,
    buffer_bytes: u64,
}

impl Watched {
    fn start(frontend: Frontend) -> Self {
        let lb = Lb::start(Config::of(frontend));
        let addr = lb.addr("web");
        let descriptors =
            wait::until_still("descriptors are counted", Duration::from_millis(100), || lb.descriptors_in_use() as u64);
        let buffer_bytes = lb.buffer_bytes();
        Self { lb, addr, descriptors: descriptors as usize, buffer_bytes }
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn bytes_to_server(&self) -> u64 {
        self.lb.traffic("bytes_to_server")
    }

    fn left_nothing_behind(&self) {
        self.lb.until_idle();
        wait::until("descriptors are as many as before", || self.lb.descriptors_in_use() == self.descriptors);
        wait::until("buffers are given back", || self.lb.buffer_bytes() <= self.buffer_bytes);
        for shard in self.lb.status()["shards"].as_array().unwrap() {
            assert_eq!(shard["stale_completions"], 0, "a completion came for a connection that was gone");
        }
    }
}

/// A frontend that waits for longer than its clients do: whom it turns away, it turns away at once.
fn patient() -> Frontend {
    let timeouts = ["connect_timeout", "redispatch_timeout", "queue_timeout"];
    timeouts.iter().fold(Frontend::new("web"), |frontend, timeout| frontend.set(timeout, "\"60s\""))
}

fn the_next_server_answers_for_a_silent_one(silent: SocketAddr) {
    let answering = Backend::who("answering");
    let frontend = Frontend::new("web").set("connect_timeout", "\"300ms\"");
    let lb = Watched::start(frontend.server("silent", silent).server("answering", answering.addr()));
    for _ in 0..4 {
        assert_eq!(client::ask(lb.addr()), "answering");
    }
    assert_eq!(lb.lb.unserved("web"), 0, "every client was served");
    assert!(lb.lb.server("web", "silent")["failed"].as_u64() > Some(0), "the timeouts are counted");
    lb.left_nothing_behind();
}
