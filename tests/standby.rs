//! Passive servers: not one connection as long as active ones suffice, all of them while none does, and again not one when
//! they are back.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::SocketAddr;

use tests::client::{connect, read_until_closed};
use tests::program::Redis;
use tests::tries::{self, Tries};
use tests::{Backend, Config, Frontend, Lb, client, health, wait};

#[test]
fn a_passive_server_gets_nothing_before_and_after_and_everything_while_no_active_one_is_left() {
    let (mut one, mut two, standby) = (Redis::start(), Redis::start(), pong());
    let frontend = checked("web").set("eject_after", 0).server("one", one.addr()).server("two", two.addr());
    let lb = Lb::start(Config::of(with_standby(frontend, "standby", standby.addr())));
    let addr = lb.addr("web");
    let tries = Tries::start(addr, tries::redis);
    until_health(&lb, &[("one", "up"), ("two", "up")]);
    tries.until_more(100);
    assert_eq!((standby.accepted(), service(&lb).as_str()), (0, "active"));

    one.program().kill();
    until_health(&lb, &[("one", "down"), ("two", "up")]);
    tries.until_more(100);
    assert_eq!((standby.accepted(), service(&lb).as_str()), (0, "active"));

    two.program().kill();
    let nobody_left = tries.until_more(1);
    until_service(&lb, "passive");
    let before = standby.accepted();
    assert!(before > 0, "whoever found the last active server dead went on to the passive one");
    tries.until_more(100);
    assert!(standby.accepted() >= before + 100);

    one.program().restart();
    until_service(&lb, "active");
    wait::until("what was begun before has ended", || lb.server("web", "standby")["connections"] == 0);
    let before = standby.accepted();
    tries.until_more(100);
    assert_eq!(standby.accepted(), before);

    let failed = tries.stop().into_iter().find(|one| one.begun >= nobody_left && one.result.is_err());
    assert!(failed.is_none(), "a client failed: {failed:?}");
    lb.log().says("frontend web: passive servers take part", 1);
    lb.log().says("frontend web: active servers suffice again", 1);
    lb.log().says("no server is available", 0);
}

#[test]
fn of_passive_servers_in_order_the_second_gets_nothing_while_the_first_is_there() {
    let (mut active, first, second) = (Redis::start(), pong(), pong());
    let frontend = checked("web").set("passive_use", "first").set("eject_after", 3).set("eject_time", "\"60s\"");
    let frontend = with_standby(frontend.server("active", active.addr()), "first", first.addr());
    let lb = Lb::start(Config::of(with_standby(frontend, "second", second.addr())));
    let addr = lb.addr("web");
    active.program().kill();
    until_service(&lb, "passive");
    are_served(addr, 100);
    assert!(first.accepted() >= 100);
    assert_eq!(second.accepted(), 0);

    // The first is not checked: connections find out that it is gone, and go on to the second.
    first.stop();
    are_served(addr, 100);
    wait::until("the first is ejected", || {
        are_served(addr, 1);
        health(&lb.server("web", "first")) == "ejected"
    });
    assert!(second.accepted() >= 100);
    assert_eq!(lb.unserved("web"), 0);

    active.program().restart();
    until_service(&lb, "active");
    let before = second.accepted();
    are_served(addr, 100);
    assert_eq!(second.accepted(), before);
}

#[test]
fn passive_servers_help_when_fewer_active_ones_are_left_than_wanted() {
    let (mut one, two, standby) = (Redis::start(), pong(), pong());
    let frontend = checked("web").set("passive_when", "fewer_than(2)");
    let frontend = frontend.server("one", one.addr()).server("two", two.addr());
    let lb = Lb::start(Config::of(with_standby(frontend, "standby", standby.addr())));
    let addr = lb.addr("web");
    until_health(&lb, &[("one", "up"), ("two", "up")]);
    are_served(addr, 20);
    assert_eq!((standby.accepted(), service(&lb).as_str()), (0, "active"));

    one.program().kill();
    until_service(&lb, "passive");
    let before = lb.server("web", "two")["served"].as_u64().unwrap();
    are_served(addr, 20);
    assert_eq!(standby.accepted(), 10, "the active server that is left and the passive one share");
    assert_eq!(lb.server("web", "two")["served"].as_u64(), Some(before + 10));

    one.program().restart();
    until_service(&lb, "active");
    are_served(addr, 20);
    assert_eq!(standby.accepted(), 10);
}

#[test]
fn passive_servers_stay_until_active_ones_have_been_back_for_long_enough() {
    let (mut active, standby) = (Redis::start(), pong());
    let frontend = checked("web").set("fail_back_after", "\"10s\"").server("active", active.addr());
    let lb = Lb::start(Config::of(with_standby(frontend, "standby", standby.addr())));
    let addr = lb.addr("web");
    active.program().kill();
    until_service(&lb, "passive");

    active.program().restart();
    // Both in one status: when it is up it has not been for long.
    wait::until("the active server is up in the hold", || {
        let frontend = lb.frontend("web");
        health(&frontend["servers"][0]) == "up" && frontend["service"] == "passive"
    });
    let before = standby.accepted();
    wait::until("the passive server still has its share", || {
        are_served(addr, 2);
        standby.accepted() > before
    });
    until_service(&lb, "active");
    let before = standby.accepted();
    are_served(addr, 50);
    assert_eq!(standby.accepted(), before);
}

#[test]
fn connections_on_a_passive_server_are_closed_after_a_time_or_kept() {
    let (mut active, standby) = (Redis::start(), Backend::who_and_echo("standby"));
    let frontend = |name, connections: &str| {
        let frontend = checked(name).set("passive_connections", connections).server("active", active.addr());
        with_standby(frontend, "standby", standby.addr())
    };
    let lb = Lb::start(Config::of(frontend("web", "drain_after(\"300ms\")")).frontend(frontend("kept", "keep")));
    active.program().kill();
    for name in ["web", "kept"] {
        wait::until("passive servers take part", || lb.frontend(name)["service"] == "passive");
    }
    let [mut drained, mut kept] = ["web", "kept"].map(|name| greeted(lb.addr(name)));

    active.program().restart();
    assert_eq!(read_until_closed(&mut drained).0, b"");
    wait::until("the frontend has left its passive server", || lb.frontend("kept")["service"] == "active");
    client::echo(&mut kept, b"still here");
    assert_eq!(lb.server("kept", "standby")["connections"], 1);
    lb.log().wait_for("connections to server standby of web are closed").unwrap();
    assert!(!lb.log().contains("connections to server standby of kept are closed"));
}

/// A frontend whose servers are checked often.
fn checked(name: &str) -> Frontend {
    Frontend::new(name).check("(kind: tcp, interval: \"100ms\", fall: 3)")
}

/// A passive server that is not checked, so that whatever it gets are clients.
fn with_standby(frontend: Frontend, name: &str, addr: SocketAddr) -> Frontend {
    frontend.server_with(name, addr, "passive: true, check: own(kind: off)")
}

/// Answers like Redis.
fn pong() -> Backend {
    Backend::run(|mut stream| {
        if stream.read_exact(&mut [0; 6]).is_ok() {
            let _ = stream.write_all(b"+PONG\r\n");
        }
    })
}

/// A connection to a server that has said its name.
fn greeted(addr: SocketAddr) -> std::net::TcpStream {
    let mut stream = connect(addr);
    stream.read_exact(&mut [0; 7]).unwrap();
    stream
}

fn are_served(addr: SocketAddr, count: usize) {
    (0..count).for_each(|_| tries::redis(addr).unwrap_or_else(|error| panic!("a client was not served: {error}")));
}

fn service(lb: &Lb) -> String {
    lb.frontend("web")["service"].as_str().expect("a service is a word").to_owned()
}

fn until_service(lb: &Lb, expected: &str) {
    wait::until(&format!("the service is {expected}"), || service(lb) == expected);
}

fn until_health(lb: &Lb, expected: &[(&str, &str)]) {
    wait::until(&format!("servers are {expected:?}"), || {
        expected.iter().all(|(name, state)| health(&lb.server("web", name)) == *state)
    });
}
