//! What operators do to servers that run: take them out and back, drain them within a limit, make them passive.

use std::io::Read;

use tests::client::{ask, connect, echo};
use tests::net::FullBacklog;
use tests::{Backend, Config, Frontend, Lb, text, wait};

/// Who answers so many connections, by name.
fn answers(lb: &Lb, count: usize) -> Vec<String> {
    let addr = lb.addr("web");
    (0..count).map(|_| ask(addr)).collect()
}

fn run(lb: &Lb, arguments: &[&str]) -> String {
    let output = lb.run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn a_disabled_server_gets_nothing_and_no_checks_and_is_still_disabled_after_a_restart() {
    let [a, b] = ["a", "b"].map(Backend::who);
    // An HTTP check is seen by the server, unlike one that only connects.
    let frontend = Frontend::new("web").check("(kind: send_expect(send: \"?\", expect: \"a\"), interval: \"20ms\")");
    let unchecked = "check: own(kind: off)";
    let lb = Lb::start(Config::of(frontend.server("a", a.addr()).server_with("b", b.addr(), unchecked)));
    wait::until("a is checked", || lb.server("web", "a")["health"] == "up");
    run(&lb, &["server", "disable", "web", "a"]);
    wait::until_still("a is left alone", std::time::Duration::from_millis(300), || a.accepted());
    // It answers when it has accepted whatever came before.
    ask(a.addr());
    let last = a.accepted();
    assert!(answers(&lb, 6).iter().all(|who| who == "b"));
    assert!(run(&lb, &["server", "list"]).contains("disabled"));

    let lb = lb.kill().start();
    assert!(answers(&lb, 6).iter().all(|who| who == "b"));
    ask(a.addr());
    assert_eq!(a.accepted(), last + 1, "nobody came but this test");
    run(&lb, &["server", "enable", "web", "a"]);
    wait::until("a is back", || ask(lb.addr("web")) == "a");
}

#[test]
fn connections_of_a_disabled_server_go_on() {
    let backend = Backend::echo();
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", backend.addr())));
    let mut client = connect(lb.addr("web"));
    echo(&mut client, b"before");
    run(&lb, &["server", "disable", "web", "a"]);
    echo(&mut client, b"after");
}

#[test]
fn a_drained_servers_connections_are_closed_when_the_time_is_over_and_no_others() {
    let [a, b] = ["a", "b"].map(Backend::who_and_echo);
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", a.addr()).server("b", b.addr())));
    let mut clients: Vec<_> = (0..4).map(|_| connect(lb.addr("web"))).collect();
    let names: Vec<u8> = clients
        .iter_mut()
        .map(|client| {
            let mut name = [0];
            client.read_exact(&mut name).unwrap();
            name[0]
        })
        .collect();
    let answer = run(&lb, &["server", "drain", "web", "a", "--within", "100ms"]);
    assert!(answer.contains("drains within 100ms"), "{answer}");
    for (client, name) in clients.iter_mut().zip(names) {
        match name {
            b'a' => assert_eq!(client.read(&mut [0]).unwrap(), 0, "the connection ends"),
            _ => echo(client, b"goes on"),
        }
    }
    wait::until("a has no connection", || lb.server("web", "a")["connections"] == 0);
    assert!(lb.log().wait_for("connections to server a of web are closed").is_some());
}

#[test]
fn who_is_being_connected_to_a_server_whose_time_is_over_gets_another_one() {
    let (silent, other) = (FullBacklog::new(), Backend::echo());
    let frontend = Frontend::new("web").set("connect_timeout", "\"60s\"").set("redispatch_timeout", "\"60s\"");
    let frontend = frontend.check("(kind: off)").server("a", silent.addr()).server("b", other.addr());
    let lb = Lb::start(Config::of(frontend).set("shards", 1));
    let mut clients: Vec<_> = (0..2).map(|_| connect(lb.addr("web"))).collect();
    wait::until("a is being connected to", || lb.server("web", "a")["connections"] == 1);
    run(&lb, &["server", "drain", "web", "a", "--within", "100ms"]);
    clients.iter_mut().for_each(|client| echo(client, b"served by b"));
    let a = lb.server("web", "a");
    assert_eq!((a["connections"].as_u64(), a["failed"].as_u64()), (Some(0), Some(0)), "it has not failed: {a}");
}

#[test]
fn who_is_enabled_in_time_keeps_its_connections() {
    let backend = Backend::echo();
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", backend.addr())));
    let mut client = connect(lb.addr("web"));
    echo(&mut client, b"before");
    run(&lb, &["server", "drain", "web", "a", "--within", "5s"]);
    run(&lb, &["server", "enable", "web", "a"]);
    // A drain of another server with the same limit ends later than that one would have.
    lb.change(&format!(
        "AddServer(frontend:\"web\",server:(name:\"b\",ip:\"127.0.0.1\",port:{}))",
        backend.addr().port()
    ));
    let mut others: Vec<_> = (0..2).map(|_| connect(lb.addr("web"))).collect();
    others.iter_mut().for_each(|other| echo(other, b"hello"));
    run(&lb, &["server", "drain", "web", "b", "--within", "5s"]);
    wait::until("b has no connection", || lb.server("web", "b")["connections"] == 0);
    echo(&mut client, b"after");
}

#[test]
fn passive_is_changed_live_and_the_last_active_server_made_passive_is_warned_about() {
    let [a, b] = ["a", "b"].map(Backend::who);
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", a.addr()).server("b", b.addr())));
    let answer = run(&lb, &["server", "update", "web", "a", "--passive", "true"]);
    assert!(answer.contains("passive false → true") && !answer.contains("warning"), "{answer}");
    assert!(answers(&lb, 4).iter().all(|who| who == "b"));
    let answer = run(&lb, &["server", "update", "web", "b", "--passive", "true"]);
    assert!(answer.contains("warning: frontend web has no active server"), "{answer}");
    assert_eq!(lb.frontend("web")["service"], "passive");
    let names = answers(&lb, 4);
    assert!(["a", "b"].iter().all(|name| names.iter().any(|who| who == name)), "{names:?}");
    run(&lb, &["server", "update", "web", "a", "--passive", "false"]);
    assert!(answers(&lb, 4).iter().all(|who| who == "a"));
    assert_eq!(lb.frontend("web")["service"], "active");
}

#[test]
fn a_server_that_is_enabled_starts_slowly_and_reaches_its_share() {
    let [a, b] = ["a", "b"].map(Backend::who);
    let frontend = Frontend::new("web").server("a", a.addr()).server("b", b.addr()).set("slow_start", "\"1h\"");
    let lb = Lb::start(Config::of(frontend));
    run(&lb, &["server", "disable", "web", "a"]);
    run(&lb, &["server", "enable", "web", "a"]);
    assert_eq!(lb.server("web", "a")["health"], "starting");
    // A tenth of its weight against the whole of the other's: 1 in 11.
    let names = answers(&lb, 22);
    assert_eq!(names.iter().filter(|who| *who == "a").count(), 2, "{names:?}");
    run(&lb, &["frontend", "update", "web", "--slow-start", "1ms"]);
    wait::until("a has its share", || lb.server("web", "a")["health"] != "starting");
    let names = answers(&lb, 22);
    assert_eq!(names.iter().filter(|who| *who == "a").count(), 11, "{names:?}");
}

#[test]
fn every_setting_of_a_frontend_is_changed_live_kept_and_taken_back() {
    let lb = Lb::start(Config::of(Frontend::new("web")));
    let before = lb.settings();
    let settings = [
        ("--connect-timeout", "1s"),
        ("--redispatch-timeout", "2s"),
        ("--idle-timeout", "3s"),
        ("--queue", "4"),
        ("--queue-timeout", "55s"),
        ("--on-unavailable", "wait(6s)"),
        ("--check", "(kind: http(path: \"/health\"), interval: \"7s\")"),
        ("--slow-start", "8s"),
        ("--eject-after", "9"),
        ("--eject-time", "16s"),
        ("--eject-time-max", "11s"),
        ("--max-ejected", "12"),
        ("--passive-use", "first"),
        ("--passive-when", "fewer_than(2)"),
        ("--passive-connections", "drain_after(13s)"),
        ("--fail-back-after", "14s"),
    ];
    for (option, value) in settings {
        run(&lb, &["frontend", "update", "web", option, value]);
    }
    let changed = lb.settings();
    let lb = lb.kill().start();
    assert_eq!(lb.settings(), changed, "they survive a restart");
    let last = lb.revision();
    for revision in (last - settings.len() as u64 + 1..=last).rev() {
        assert_ne!(lb.settings(), before);
        run(&lb, &["undo", &revision.to_string()]);
    }
    assert_eq!(lb.settings(), before);
}
