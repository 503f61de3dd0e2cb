//! Connection limits of servers: who comes beyond them waits in turn, for a bounded time, in a bounded queue.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use tests::client::{ask, connect, echo, is_turned_away, reset, try_ask};
use tests::{Backend, Config, Frontend, Lb, Listener, wait};

fn waiting(lb: &Lb) -> u64 {
    lb.frontend("web")["waiting"].as_u64().unwrap()
}

/// Connects and waits until the connection is in the queue.
fn queued(lb: &Lb) -> TcpStream {
    let before = waiting(lb);
    let client = connect(lb.addr("web"));
    wait::until("the client waits", || waiting(lb) == before + 1);
    client
}

/// A frontend whose clients wait for as long as a test can take.
fn frontend() -> Frontend {
    Frontend::new("web").set("queue_timeout", "\"60s\"")
}

/// A client that a server has said its name to.
fn greeted(addr: SocketAddr) -> TcpStream {
    let mut stream = connect(addr);
    greet(&mut stream);
    stream
}

fn greet(stream: &mut TcpStream) {
    let mut name = [0; 6];
    stream.read_exact(&mut name).unwrap_or_else(|error| panic!("a client was not served: {error}"));
    assert_eq!(&name, b"server");
}

#[test]
fn a_server_gets_no_more_connections_than_its_limit_and_who_waits_is_served_in_turn() {
    let listener = Listener::new();
    let frontend = frontend().server_with("a", listener.addr(), "max_connections: 2");
    // One shard: over several, each has a queue of its own.
    let lb = Lb::start(Config::of(frontend).set("shards", 1));
    let served: Vec<_> = (0..2).map(|_| (connect(lb.addr("web")), listener.accept())).collect();
    let mut clients: Vec<_> = (0..3).map(|_| queued(&lb)).collect();
    assert_eq!(lb.server("web", "a")["connections"], 2);
    for (client, number) in clients.iter_mut().zip(b'0'..) {
        client.write_all(&[number]).unwrap();
    }
    drop(served);
    let mut first = [0; 2];
    let mut accepted: Vec<_> = (0..2).map(|_| listener.accept()).collect();
    for (stream, byte) in accepted.iter_mut().zip(&mut first) {
        stream.read_exact(std::slice::from_mut(byte)).unwrap();
    }
    first.sort_unstable();
    assert_eq!(&first, b"01", "the first two are served first");
    assert_eq!(waiting(&lb), 1);
    drop((accepted, clients.drain(..2)));
    let mut last = [0];
    listener.accept().read_exact(&mut last).unwrap();
    assert_eq!(&last, b"2");
    drop(clients);
    lb.until_idle();
    assert_eq!((waiting(&lb), lb.unserved("web")), (0, 0));
}

#[test]
fn a_server_with_room_is_taken_before_anyone_waits() {
    let [small, large] = [Backend::who_and_echo("small"), Backend::who_and_echo("large")];
    let frontend = Frontend::new("web").server_with("small", small.addr(), "max_connections: 1");
    let lb = Lb::start(Config::of(frontend.server("large", large.addr())));
    let mut clients: Vec<_> = (0..10).map(|_| connect(lb.addr("web"))).collect();
    for client in &mut clients {
        client.read_exact(&mut [0; 5]).unwrap();
        echo(client, b"hello");
    }
    assert_eq!((small.accepted(), large.accepted()), (1, 9));
}

#[test]
fn who_has_waited_for_as_long_as_allowed_is_reset_and_counted() {
    let listener = Listener::new();
    let frontend = Frontend::new("web").server_with("a", listener.addr(), "max_connections: 1");
    let lb = Lb::start(Config::of(frontend.set("queue_timeout", "\"100ms\"")));
    let _served = (connect(lb.addr("web")), listener.accept());
    let late = try_ask(lb.addr("web"));
    assert!(late.is_err(), "{late:?}");
    assert_eq!((lb.unserved("web"), lb.traffic("gave_up_waiting")), (1, 1));
    wait::until("nobody waits", || waiting(&lb) == 0);
}

#[test]
fn a_full_queue_resets_who_comes_and_its_places_are_given_back() {
    let listener = Listener::new();
    let frontend = frontend().server_with("a", listener.addr(), "max_connections: 1").set("queue", 2);
    let lb = Lb::start(Config::of(frontend).set("shards", 1));
    let served = (connect(lb.addr("web")), listener.accept());
    let waits: Vec<_> = (0..2).map(|_| queued(&lb)).collect();
    assert!(try_ask(lb.addr("web")).is_err());
    assert_eq!((lb.unserved("web"), lb.traffic("gave_up_waiting")), (1, 0));
    // Whoever leaves the queue makes room in it; one that only ends may still want its answer.
    waits.into_iter().for_each(reset);
    wait::until("nobody waits", || waiting(&lb) == 0);
    let client = queued(&lb);
    drop(served);
    listener.accept().write_all(b"at last").unwrap();
    assert_eq!(tests::client::read_to_end(client).unwrap(), "at last");
}

#[test]
fn passive_servers_help_when_every_active_one_is_full_and_so_is_the_queue() {
    let listener = Listener::new();
    let standby = Backend::who("standby");
    let frontend = frontend().server_with("a", listener.addr(), "max_connections: 1").set("queue", 1);
    let lb = Lb::start(Config::of(frontend.passive("p", standby.addr())).set("shards", 1));
    let served = (connect(lb.addr("web")), listener.accept());
    let waits = queued(&lb);
    assert_eq!(standby.accepted(), 0);
    assert_eq!(ask(lb.addr("web")), "standby");
    assert!(lb.log().wait_for("standbys help").is_some());
    drop(served);
    drop((listener.accept(), waits));
    lb.until_idle();
    let _served = (connect(lb.addr("web")), listener.accept());
    assert_eq!(standby.accepted(), 1, "with room at the active one nobody comes any more");
}

#[test]
fn a_limit_is_raised_while_clients_wait() {
    let listener = Listener::new();
    let frontend = frontend().server_with("a", listener.addr(), "max_connections: 1");
    let lb = Lb::start(Config::of(frontend));
    let _served = (connect(lb.addr("web")), listener.accept());
    let _waits = queued(&lb);
    lb.change("UpdateServer(frontend:\"web\",name:\"a\",max_connections:2)");
    listener.accept();
}

#[test]
fn a_small_limit_costs_nobody_a_connection_under_load() {
    let backend = Backend::who("a");
    let frontend = Frontend::new("web").server_with("a", backend.addr(), "max_connections: 3");
    let lb = Lb::start(Config::of(frontend.set("queue_timeout", "\"20s\"")));
    let addr = lb.addr("web");
    let clients: Vec<_> = (0..16)
        .map(|_| thread::spawn(move || (0..100).filter(|_| try_ask(addr).is_ok_and(|who| who == "a")).count()))
        .collect();
    let served: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert_eq!(served, 1600);
    lb.until_idle();
    assert_eq!((waiting(&lb), lb.unserved("web")), (0, 0));
}

#[test]
fn who_was_failed_by_the_server_whose_turn_it_got_is_served_by_the_next_one_with_room() {
    let listener = Listener::new();
    let failing = Listener::new();
    let frontend = Frontend::new("web").server_with("a", listener.addr(), "max_connections: 1");
    let frontend = frontend.server_with("b", failing.addr(), "max_connections: 1");
    let lb = Lb::start(Config::of(frontend.set("eject_after", 0).set("queue_timeout", "\"60s\"")).set("shards", 1));
    let mut clients: Vec<_> = (0..2).map(|_| connect(lb.addr("web"))).collect();
    let (first, second) = (listener.accept(), failing.accept());
    let mut waits = queued(&lb);
    // `b` has room now, but refuses.
    drop((failing, second, clients.pop()));
    wait::until("the client was refused", || lb.server("web", "b")["failed"].as_u64().unwrap() > 0);
    assert_eq!(waiting(&lb), 1);
    drop((first, clients));
    waits.write_all(b"x").unwrap();
    let mut byte = [0];
    listener.accept().read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
}

#[test]
fn a_full_queue_keeps_those_who_wait_in_turn_and_turns_away_who_comes_then() {
    let backend = Backend::who_and_echo("server");
    let frontend = frontend().set("queue", 2).server_with("a", backend.addr(), "max_connections: 1");
    // Each shard has a queue of its own: only in one of them is it known who is next.
    let lb = Lb::start(Config::of(frontend).set("shards", 1));
    let addr = lb.addr("web");
    let mut held = greeted(addr);
    let mut clients: Vec<_> = (0..2).map(|_| queued(&lb)).collect();

    (0..5).for_each(|_| is_turned_away(addr));
    assert_eq!(waiting(&lb), 2);
    assert_eq!(lb.unserved("web"), 5);
    echo(&mut held, b"undisturbed");

    drop(held);
    for client in &mut clients {
        greet(client);
        client.shutdown(std::net::Shutdown::Both).unwrap();
    }
    lb.until_idle();
    assert_eq!(waiting(&lb), 0);
}

#[test]
fn who_waits_is_still_in_the_queue_after_the_server_that_had_room_refused() {
    let (sound, dying) = (Backend::who_and_echo("server"), Backend::who_and_echo("server"));
    let frontend = frontend().server_with("sound", sound.addr(), "max_connections: 1");
    let lb = Lb::start(Config::of(frontend.server_with("dying", dying.addr(), "max_connections: 1")));
    let addr = lb.addr("web");
    let held = [greeted(addr), greeted(addr)];
    let mut client = queued(&lb);

    // It refuses, but its connection goes on until the client ends it.
    dying.stop();
    let is_on_dying = |stream: &TcpStream| {
        let before = lb.server("web", "dying")["bytes_to_server"].as_u64().unwrap();
        echo(&mut stream.try_clone().unwrap(), b"where am I");
        wait::until("the bytes are counted", || lb.traffic("bytes_to_server") >= 10);
        lb.server("web", "dying")["bytes_to_server"].as_u64().unwrap() > before
    };
    let (on_dying, on_sound): (Vec<_>, Vec<_>) = held.into_iter().partition(is_on_dying);
    assert_eq!((on_dying.len(), on_sound.len()), (1, 1));
    drop(on_dying);
    wait::until("it is tried and refuses", || lb.server("web", "dying")["failed"].as_u64() > Some(0));
    drop(on_sound);
    greet(&mut client);
    assert_eq!(lb.unserved("web"), 0);
}

#[test]
fn spilling_over_again_and_again_is_not_said_each_time() {
    let listener = Listener::new();
    let standby = Backend::who("standby");
    let frontend = Frontend::new("web").server_with("a", listener.addr(), "max_connections: 1").set("queue", 0);
    let lb = Lb::start(Config::of(frontend.passive("p", standby.addr())).set("shards", 1));
    for _ in 0..20 {
        let served = (connect(lb.addr("web")), listener.accept());
        assert_eq!(ask(lb.addr("web")), "standby");
        drop(served);
        lb.until_idle();
    }
    lb.log().wait_for("standbys help").unwrap();
    let said = lb.log().count(|line| line.contains("standbys help"));
    assert!(said < 5, "{said}");
}
