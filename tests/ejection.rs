//! Servers that are not checked, and taken out for a time because connections to them fail.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tests::client::{self, End, read_until_closed};
use tests::modes::{Mode, Party};
use tests::program::free_addr;
use tests::tries::{self, Tries};
use tests::{Backend, Config, Frontend, Lb, health, refusing_addr, wait};

#[test]
fn a_server_that_refuses_is_ejected_and_gets_nothing_more() {
    let ((refusing, _port), sound) = (refusing_addr(), Backend::echo());
    let frontend = frontend("60s").server("failing", refusing).server("sound", sound.addr());
    let lb = Lb::start(Config::of(frontend));
    let addr = lb.addr("web");
    until_ejected(&lb, "failing", || is_served(addr));
    let failed = || lb.server("web", "failing")["failed"].as_u64();
    let before = failed();
    assert!(before >= Some(EJECT_AFTER));
    (0..50).for_each(|_| is_served(addr));
    assert_eq!(failed(), before);
    assert_eq!((lb.unserved("web"), health(&lb.server("web", "sound")).as_str()), (0, "unproven"));
    lb.log().wait_for("server failing of web is ejected for 60s: connects to it fail").unwrap();
}

#[test]
fn a_server_that_resets_without_a_byte_is_ejected_and_gets_nothing_more() {
    let (resetting, sound) = (Backend::reset_after(5), Backend::echo());
    let frontend = frontend("60s").server("failing", resetting.addr()).server("sound", sound.addr());
    let lb = Lb::start(Config::of(frontend));
    let addr = lb.addr("web");
    let mut failed = 0;
    until_ejected(&lb, "failing", || failed += u64::from(tries::echo(addr).is_err()));
    assert!(failed >= EJECT_AFTER);
    let before = resetting.accepted();
    (0..50).for_each(|_| is_served(addr));
    assert_eq!(resetting.accepted(), before);
    lb.log().wait_for("server failing of web is ejected for 60s: it resets connections without a byte").unwrap();
}

#[test]
fn tickets_of_tls_are_no_answer_of_a_server_that_resets() {
    let party = Party::new();
    let resetting = Backend::secure(party.app.clone(), |mut channel| {
        let _ = channel.read_exact(&mut [0]);
        let _ = SockRef::from(channel.stream()).set_linger(Some(Duration::ZERO));
    });
    let frontend = frontend("60s").set("max_ejected", 100);
    let frontend = frontend.server_with("failing", resetting.addr(), Mode::Origination.settings());
    let lb = Lb::start(party.config(frontend));
    until_ejected(&lb, "failing", || assert!(tries::echo(lb.addr("web")).is_err()));
    lb.log().wait_for("server failing of web is ejected for 60s: it resets connections without a byte").unwrap();
}

#[test]
fn a_server_that_resets_after_an_answer_is_not_ejected() {
    let resetting = Backend::run(|mut stream| {
        let _ = stream.write_all(b"answer");
        let _ = stream.read_exact(&mut [0]);
        client::reset(stream);
    });
    let lb = Lb::start(Config::of(frontend("60s").set("max_ejected", 100).server("a", resetting.addr())));
    for _ in 0..4 * EJECT_AFTER {
        let mut client = client::connect(lb.addr("web"));
        client.read_exact(&mut [0; 6]).unwrap();
        client.write_all(b"x").unwrap();
        assert_eq!(read_until_closed(&mut client), (vec![], End::Reset));
    }
    assert_eq!(health(&lb.server("web", "a")), "unproven");
}

#[test]
fn no_more_servers_are_ejected_than_allowed() {
    let (ports, sound) = ([refusing_addr(), refusing_addr(), refusing_addr()], Backend::echo());
    let frontend = frontend("60s").set("max_ejected", 50).server("sound", sound.addr());
    let named = ["a", "b", "c"].into_iter().zip(&ports);
    let frontend = named.fold(frontend, |frontend, (name, (addr, _))| frontend.server(name, *addr));
    let lb = Lb::start(Config::of(frontend));
    let addr = lb.addr("web");
    let states = || ["a", "b", "c"].map(|name| health(&lb.server("web", name)));
    let ejected = || states().iter().filter(|state| *state == "ejected").count();
    wait::until("half of the servers are ejected", || {
        is_served(addr);
        ejected() == 2
    });
    // The third goes on failing, and everybody who meets it gets another one.
    let left = ["a", "b", "c"].into_iter().zip(states()).find(|(_, state)| state == "unproven").unwrap().0;
    let failed = || lb.server("web", left)["failed"].as_u64().unwrap();
    let before = failed();
    wait::until("the third has failed often enough to be ejected", || {
        is_served(addr);
        failed() >= before + 3 * EJECT_AFTER
    });
    assert_eq!((ejected(), health(&lb.server("web", left)).as_str()), (2, "unproven"));
    assert_eq!(lb.unserved("web"), 0);
}

#[test]
fn an_ejected_server_comes_back_after_its_time_which_doubles_when_it_fails_again() {
    let (failing, sound) = (free_addr(), Backend::echo());
    let frontend = frontend("500ms").server("failing", failing).server("sound", sound.addr());
    let lb = Lb::start(Config::of(frontend));
    let tries = Tries::start(lb.addr("web"), tries::echo);
    wait::until("the server is ejected for longer than at first", || {
        lb.server("web", "failing")["health"]["ejected"]["for_milliseconds"].as_u64() > Some(500)
    });
    lb.log().wait_for("server failing of web is ejected for 500ms").unwrap();
    lb.log().wait_for("server failing of web is not ejected any more").unwrap();
    lb.log().wait_for("server failing of web is ejected for 1s").unwrap();

    let repaired = Backend::echo_at(failing);
    wait::until("the server that works again gets connections", || repaired.accepted() > 0);
    wait::until("it is not ejected", || health(&lb.server("web", "failing")) == "unproven");
    let failed = tries.stop().into_iter().find(|one| one.result.is_err());
    assert!(failed.is_none(), "a client failed: {failed:?}");
}

#[test]
fn a_server_that_checks_find_up_again_is_not_ejected_any_more() {
    let (place, sound) = (free_addr(), Backend::echo());
    let failing = Backend::echo_at(place);
    let frontend = frontend("300s").check("(kind: tcp, interval: \"100ms\", fall: 60)");
    let lb = Lb::start(Config::of(frontend.server("failing", place).server("sound", sound.addr())));
    let addr = lb.addr("web");
    wait::until("the server is up", || health(&lb.server("web", "failing")) == "up");
    failing.stop();
    // Clients are quicker to find out than sixty checks.
    (0..20).for_each(|_| is_served(addr));
    lb.log().wait_for("server failing of web is ejected");
    lb.log().wait_for("server failing of web is down");

    let repaired = Backend::echo_at(place);
    wait::until("the server is up again", || health(&lb.server("web", "failing")) == "up");
    let before = repaired.accepted();
    wait::until("it gets clients", || {
        is_served(addr);
        lb.server("web", "failing")["served"].as_u64() > Some(0)
    });
    assert!(repaired.accepted() > before);
}

#[test]
fn an_ejected_server_that_works_again_serves_when_the_only_other_one_dies() {
    let (place, two) = (free_addr(), Backend::echo());
    let one = Backend::echo_at(place);
    let lb = Lb::start(Config::of(frontend("300s").server("one", place).server("two", two.addr())));
    let addr = lb.addr("web");
    // As in a rolling restart: one after the other is gone for a moment.
    one.stop();
    until_ejected(&lb, "one", || is_served(addr));
    let one = Backend::echo_at(place);
    (0..20).for_each(|_| is_served(addr));
    assert_eq!(one.accepted(), 0);
    two.stop();
    (0..20).for_each(|_| is_served(addr));
    assert_eq!(one.accepted(), 20);
    assert_eq!(lb.unserved("web"), 0);
}

/// Failures in a row until a server is ejected.
const EJECT_AFTER: u64 = 3;

/// A frontend without checks that ejects servers for this time.
fn frontend(time: &str) -> Frontend {
    Frontend::new("web").set("eject_after", EJECT_AFTER).set("eject_time", format!("\"{time}\""))
}

fn is_served(addr: SocketAddr) {
    tries::echo(addr).unwrap_or_else(|error| panic!("a client was not served: {error}"));
}

fn until_ejected(lb: &Lb, server: &str, mut ask: impl FnMut()) {
    wait::until("the server is ejected", || {
        ask();
        health(&lb.server("web", server)) == "ejected"
    });
}
