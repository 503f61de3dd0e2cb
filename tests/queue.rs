//! Clients that wait in a queue while every server is at its limit.
#![forbid(unsafe_code)]

use std::io::Read;
use std::net::{SocketAddr, TcpStream};

use tests::client::{connect, echo, is_turned_away};
use tests::{Backend, Config, Frontend, Lb, wait};

#[test]
fn a_full_queue_keeps_those_who_wait_in_turn_and_turns_away_who_comes_then() {
    let backend = Backend::who_and_echo("server");
    let frontend = frontend().set("queue", 2).server_with("a", backend.addr(), "max_connections: 1");
    // Each shard has a queue of its own: only in one of them is it known who is next.
    let lb = Lb::start(Config::of(frontend).set("shards", 1));
    let addr = lb.addr("web");
    let mut held = greeted(addr);
    let mut waiting: Vec<_> = (1..=2).map(|count| queued(&lb, count)).collect();

    (0..5).for_each(|_| is_turned_away(addr));
    assert_eq!(lb.frontend("web")["waiting"], 2);
    assert_eq!(lb.unserved("web"), 5);
    echo(&mut held, b"undisturbed");

    drop(held);
    for client in &mut waiting {
        greet(client);
        client.shutdown(std::net::Shutdown::Both).unwrap();
    }
    lb.until_idle();
    assert_eq!(lb.frontend("web")["waiting"], 0);
}

#[test]
fn who_waits_is_still_in_the_queue_after_the_server_that_had_room_refused() {
    let (sound, dying) = (Backend::who_and_echo("server"), Backend::who_and_echo("server"));
    let frontend = frontend().server_with("sound", sound.addr(), "max_connections: 1");
    let lb = Lb::start(Config::of(frontend.server_with("dying", dying.addr(), "max_connections: 1")));
    let addr = lb.addr("web");
    let held = [greeted(addr), greeted(addr)];
    let mut waiting = queued(&lb, 1);

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
    greet(&mut waiting);
    assert_eq!(lb.unserved("web"), 0);
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

/// A client that is the last of so many in the queue.
fn queued(lb: &Lb, count: u64) -> TcpStream {
    let stream = connect(lb.addr("web"));
    wait::until("the client is in the queue", || lb.frontend("web")["waiting"] == count);
    stream
}
