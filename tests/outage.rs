//! No server is left: clients are reset at once, or wait for one, as the frontend says.
#![forbid(unsafe_code)]

use serde_json::Value;
use tests::client::{End, connect, is_turned_away, read_until_closed};
use tests::program::free_addr;
use tests::{Backend, Config, Frontend, Lb, client, health, wait};

#[test]
fn clients_are_reset_and_counted_and_the_outage_is_logged_once() {
    let (one, two) = (free_addr(), free_addr());
    let lb = Lb::start(Config::of(frontend().server("one", one).server("two", two)));
    until_service(&lb, "unavailable");
    let (addr, before) = (lb.addr("web"), failed(&lb));
    (0..200).for_each(|_| is_turned_away(addr));
    assert_eq!(lb.unserved("web"), 200);
    assert_eq!(lb.traffic("gave_up_waiting"), 0, "nobody had to wait");
    assert_eq!(failed(&lb), before, "nobody is sent to a server that is down");

    let _back = Backend::run_at(&one.to_string(), drop);
    until_service(&lb, "active");
    lb.until_idle();
    lb.log().says("frontend web: no server is available", 1);
    lb.log().says("frontend web: servers are available again", 1);
    let text = lb.log().text();
    let said: Vec<_> = text.lines().skip_while(|line| !line.contains("no server is available")).skip(1).collect();
    let is_news = |line: &&str| line.contains("server one of web is up") || line.contains("are available again");
    assert!(said.iter().all(is_news), "a line for a connection:\n{text}");
}

#[test]
fn clients_who_wait_are_served_when_a_server_comes() {
    let addr = free_addr();
    let lb = Lb::start(Config::of(frontend().set("on_unavailable", "wait(\"60s\")").server("a", addr)));
    until_service(&lb, "unavailable");
    let mut clients: Vec<_> = (0..50).map(|_| connect(lb.addr("web"))).collect();
    wait::until("all clients wait", || lb.frontend("web")["waiting"] == 50);

    let _back = Backend::echo_at(addr);
    clients.iter_mut().for_each(|client| client::echo(client, b"served at last"));
    assert_eq!(lb.frontend("web")["waiting"], 0);
    assert_eq!((lb.unserved("web"), lb.traffic("gave_up_waiting")), (0, 0));
    drop(clients);
    lb.until_idle();
}

#[test]
fn who_waits_is_served_by_a_server_that_no_check_has_found_yet() {
    let addr = free_addr();
    let frontend = Frontend::new("web").set("on_unavailable", "wait(\"60s\")").server("a", addr);
    let lb = Lb::start(Config::of(frontend));
    let mut client = connect(lb.addr("web"));
    wait::until("the client waits", || lb.frontend("web")["waiting"] == 1);

    let _back = Backend::echo_at(addr);
    client::echo(&mut client, b"served at last");
    assert_eq!(health(&lb.server("web", "a")), "unproven");
}

#[test]
fn clients_who_wait_in_vain_are_reset_and_counted() {
    let addr = free_addr();
    let lb = Lb::start(Config::of(frontend().set("on_unavailable", "wait(\"300ms\")").server("a", addr)));
    until_service(&lb, "unavailable");
    let mut clients: Vec<_> = (0..20).map(|_| connect(lb.addr("web"))).collect();
    for client in &mut clients {
        assert_eq!(read_until_closed(client), (vec![], End::Reset));
    }
    lb.until_idle();
    assert_eq!((lb.unserved("web"), lb.traffic("gave_up_waiting")), (20, 20));
    assert_eq!(lb.frontend("web")["waiting"], 0);
}

#[test]
fn nothing_is_left_of_clients_who_go_while_they_wait() {
    let addr = free_addr();
    let lb = Lb::start(Config::of(frontend().set("on_unavailable", "wait(\"60s\")").server("a", addr)));
    until_service(&lb, "unavailable");
    let clients: Vec<_> = (0..20).map(|_| connect(lb.addr("web"))).collect();
    wait::until("all clients wait", || lb.frontend("web")["waiting"] == 20);
    clients.into_iter().for_each(client::reset);
    lb.until_idle();
    assert_eq!(lb.frontend("web")["waiting"], 0);
    assert_eq!(lb.traffic("gave_up_waiting"), 0, "they had not waited for as long as they may");
}

#[test]
fn a_server_that_was_down_counts_as_up_when_it_is_not_checked_any_more() {
    let frontend = frontend().server("one", free_addr()).server("two", free_addr());
    let lb = Lb::start(Config::of(frontend));
    let health = |name| health(&lb.server("web", name));
    wait::until("both are down", || health("one") == "down" && health("two") == "down");
    lb.change("UpdateServer(frontend:\"web\",name:\"one\",check:own(kind:off))");
    assert_eq!((health("one").as_str(), health("two").as_str()), ("unproven", "down"));
    assert_eq!(lb.frontend("web")["service"], "active");
    lb.change("UpdateFrontend(name:\"web\",check:(kind:off))");
    assert_eq!(health("two"), "unproven");
}

/// A frontend whose servers are checked often.
fn frontend() -> Frontend {
    Frontend::new("web").check("(kind: tcp, interval: \"100ms\")")
}

fn until_service(lb: &Lb, expected: &str) {
    wait::until(&format!("the service is {expected}"), || lb.frontend("web")["service"] == expected);
}

/// Connects to servers that failed, of all of them.
fn failed(lb: &Lb) -> u64 {
    let frontend = lb.frontend("web");
    let failed = |server: &Value| server["failed"].as_u64().unwrap();
    frontend["servers"].as_array().unwrap().iter().map(failed).sum()
}
