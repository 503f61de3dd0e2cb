//! Metrics: every number is what happened, in both formats, by every way to them, for a real Prometheus, and whatever else
//! goes on.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use serde_json::Value;
use tests::channel::client_config_with;
use tests::client::{connect, echo, read_until_closed, try_connect};
use tests::http::{Site, Wire, reply, request};
use tests::metrics::{Metrics, Prometheus, complaints, endpoint};
use tests::modes::{Mode, Party};
use tests::net::FullBacklog;
use tests::program::succeeds;
use tests::tries::echo_in_tls;
use tests::{Backend, Config, Frontend, Lb, Listener, refusing_addr, stream, wait};

/// A balancer that tells its metrics at a port that the kernel chooses.
fn start(config: Config) -> (Lb, SocketAddr) {
    let lb = Lb::start(config.set("metrics", "\"127.0.0.1:0\""));
    let endpoint = endpoint(&lb);
    (lb, endpoint)
}

/// Waits until a series has a value.
fn until(endpoint: SocketAddr, series: &str, value: f64) {
    wait::until(&format!("{series} is {value}"), || Metrics::at(endpoint).find(series) == Some(value));
}

#[test]
fn promtool_finds_nothing_wrong_while_tcp_tls_and_http_go_on() {
    let (party, app, site) = (Party::new(), Backend::echo(), Site::named("a"));
    let secure = Backend::secure_who_and_echo("a", Arc::clone(&party.app));
    let tls = Frontend::new("tls").server_with("a", app.addr(), Mode::Termination.settings());
    let config = party.config(tls.server_with("b", secure.addr(), "server_certificate: \"corp-ca\""));
    let config = config.frontend(Frontend::new("tcp").server("a", app.addr()).passive("b", app.addr()));
    let http = Frontend::new("http").set("protocol", "http").set("ip_persistence", "(ttl: \"1h\", size: 1000)");
    let (lb, endpoint) = start(config.frontend(http.server_with("a", site.addr(), "max_connections: 100")));
    let (tcp, tls, http) = (lb.addr("tcp"), lb.addr("tls"), lb.addr("http"));
    thread::scope(|scope| {
        scope.spawn(|| (0..50).for_each(|_| echo(&mut connect(tcp), b"hello")));
        scope.spawn(|| (0..20).for_each(|_| drop(echo_in_tls(tls, &party.trusting))));
        scope.spawn(|| (0..50).for_each(|_| drop(Wire::connect(http).get("/"))));
        for _ in 0..10 {
            let answer = Wire::connect(endpoint).get("/metrics");
            assert_eq!(complaints(answer.text()), "");
        }
    });
    let samples = |text: &str| Metrics::read(text).series().map(str::to_owned).collect::<Vec<_>>();
    let open = get_as(endpoint, "application/openmetrics-text; version=1.0.0");
    assert!(open.ends_with("\n# EOF\n"), "{open}");
    assert_eq!(samples(&open), samples(&get_as(endpoint, "text/plain")), "both formats tell the same");
}

fn get_as(endpoint: SocketAddr, accept: &str) -> String {
    let answer = Wire::connect(endpoint).get_with("/metrics", &[("Accept", accept)]);
    assert!(answer.field("content-type").unwrap().starts_with(accept), "{answer:?}");
    answer.text().to_owned()
}

#[test]
fn connections_and_bytes_are_counted_where_they_went() {
    let (one, two) = (Backend::echo(), Backend::source(7, 8 << 20));
    let config = Config::of(Frontend::new("web").server("a", one.addr()));
    let (lb, endpoint) = start(config.frontend(Frontend::new("large").server("a", two.addr())).set("shards", 2));
    let mut clients: Vec<_> = (0..7).map(|_| connect(lb.addr("web"))).collect();
    clients.iter_mut().for_each(|client| echo(client, b"hello"));

    let now = Metrics::at(endpoint);
    assert_eq!(now.value("lb_open_connections"), 7.0);
    assert_eq!(now.value("lb_frontend_open_connections{frontend=web}"), 7.0);
    assert_eq!(now.value("lb_server_open_connections{frontend=web,server=a}"), 7.0);
    assert_eq!(now.value("lb_frontend_connection_duration_seconds_count{frontend=web}"), 0.0);
    assert_eq!(now.find("lb_server_connect_duration_seconds_count{frontend=large,server=a}"), None);

    drop(clients.split_off(2));
    until(endpoint, "lb_frontend_open_connections{frontend=web}", 2.0);
    let read = stream::read(&mut connect(lb.addr("large"))).unwrap();
    assert_eq!(read.bytes, 8 << 20);
    until(endpoint, "lb_frontend_open_connections{frontend=large}", 0.0);

    let now = Metrics::at(endpoint);
    for series in [
        "lb_frontend_connections_total{frontend=web}",
        "lb_server_connections_total{frontend=web,server=a}",
        "lb_server_connect_duration_seconds_count{frontend=web,server=a}",
        "lb_server_first_byte_duration_seconds_count{frontend=web,server=a}",
    ] {
        assert_eq!(now.value(series), 7.0, "{series}");
    }
    assert_eq!(now.value("lb_frontend_connection_duration_seconds_count{frontend=web}"), 5.0);
    let shards = ["0", "1"].map(|shard| now.value(&format!("lb_shard_connections_total{{shard={shard}}}")));
    assert_eq!(shards.iter().sum::<f64>(), 8.0);

    // What was sent last on an idle connection is counted when its shard wakes up the next time.
    drop(clients);
    lb.until_idle();
    let now = Metrics::at(endpoint);
    for of in ["lb_frontend_bytes_total{frontend=web", "lb_server_bytes_total{frontend=web,server=a"] {
        assert_eq!(now.value(&format!("{of},direction=to_server}}")), 35.0);
        assert_eq!(now.value(&format!("{of},direction=to_client}}")), 35.0);
    }
    assert_eq!(now.value("lb_frontend_relayed_bytes_total{frontend=web,method=copy}"), 70.0);
    let [copied, spliced] = ["copy", "splice"]
        .map(|method| now.value(&format!("lb_frontend_relayed_bytes_total{{frontend=large,method={method}}}")));
    assert!(spliced > 0.0, "a long stream is spliced");
    assert_eq!(copied + spliced, f64::from(8 << 20));
}

#[test]
fn failures_are_told_by_their_cause() {
    let party = Party::new();
    let (refusing, _guard) = refusing_addr();
    let (silent, plain, rude, full) =
        (FullBacklog::new(), Backend::who("plain"), Backend::reset_after(5), Listener::new());
    let of = |name: &str| Frontend::new(name).set("queue_timeout", "\"50ms\"");
    let config = Config::of(of("none"))
        .frontend(of("refused").server("a", refusing))
        .frontend(of("timed_out").set("connect_timeout", "\"200ms\"").server("a", silent.addr()))
        .frontend(of("tls").server_with("a", plain.addr(), "server_certificate: \"corp-ca\""))
        .frontend(of("reset").server("a", rude.addr()))
        .frontend(of("full").server_with("a", full.addr(), "max_connections: 1"))
        .bundle("corp-ca", party.authority.pem());
    let (lb, endpoint) = start(config);
    let _holder = (connect(lb.addr("full")), full.accept());
    for frontend in ["none", "refused", "timed_out", "tls", "reset", "full"] {
        // Whom nobody serves may be reset before connecting returns.
        if let Ok(mut client) = try_connect(lb.addr(frontend)) {
            let _ = client.write_all(b"hello");
            read_until_closed(&mut client);
        }
    }
    let now = Metrics::at(endpoint);
    for (frontend, cause) in [
        ("none", "no_server"),
        ("refused", "all_failed"),
        ("timed_out", "all_failed"),
        ("tls", "all_failed"),
        ("full", "gave_up_waiting"),
    ] {
        let found = told(&now, &format!("lb_frontend_unserved_total{{frontend={frontend},"));
        assert_eq!(found, [(format!("cause={cause}"), 1.0)], "{frontend}");
    }
    for cause in ["refused", "timed_out", "tls", "reset"] {
        let found = told(&now, &format!("lb_server_failures_total{{frontend={cause},server=a,"));
        assert_eq!(found, [(format!("cause={cause}"), 1.0)]);
    }
    assert_eq!(told(&now, "lb_frontend_unserved_total{frontend=reset,"), []);
    assert_eq!(told(&now, "lb_server_tls_failures_total{frontend=tls,server=a,"), [("cause=not_tls".to_owned(), 1.0)]);
}

/// The series that begin so and are not 0, with what their names end with.
fn told(metrics: &Metrics, beginning: &str) -> Vec<(String, f64)> {
    let ends = metrics.series().filter_map(|series| Some((series, series.strip_prefix(beginning)?)));
    let told = ends.map(|(series, end)| (end.trim_end_matches('}').to_owned(), metrics.value(series)));
    told.filter(|(_, value)| *value != 0.0).collect()
}

#[test]
fn how_long_it_took_is_in_the_bucket_that_it_belongs_to() {
    const PAUSE: Duration = Duration::from_millis(300);
    let slow = Backend::run(|mut stream| {
        let _ = stream.read_exact(&mut [0; 5]);
        thread::sleep(PAUSE);
        let _ = stream.write_all(b"at last");
    });
    let (lb, endpoint) = start(Config::of(Frontend::new("web").server("a", slow.addr())));
    for _ in 0..2 {
        let mut client = connect(lb.addr("web"));
        client.write_all(b"hello").unwrap();
        assert_eq!(read_until_closed(&mut client).0, b"at last");
    }
    lb.until_idle();
    let now = Metrics::at(endpoint);
    for (name, labels) in [
        ("lb_server_first_byte_duration_seconds", "frontend=web,server=a"),
        ("lb_frontend_connection_duration_seconds", "frontend=web"),
    ] {
        let at_most = |bound: &str| now.value(&format!("{name}_bucket{{{labels},le={bound}}}"));
        assert_eq!((at_most("0.000064"), at_most("0.262144"), at_most("+Inf")), (0.0, 0.0, 2.0), "{name}");
        assert!(now.value(&format!("{name}_sum{{{labels}}}")) >= 2.0 * PAUSE.as_secs_f64(), "{name}");
    }
}

#[test]
fn tls_is_told_by_version_with_resumed_sessions_and_failures() {
    let (party, app) = (Party::new(), Backend::echo());
    let secure = Backend::secure(Arc::clone(&party.app), |mut channel| {
        let _ = channel.read_exact(&mut [0; 5]);
        let _ = channel.write_all(b"hello");
        let _ = channel.end();
    });
    let config = party.config(Frontend::new("web").server_with("a", app.addr(), Mode::Termination.settings()));
    let inner = Frontend::new("inner").certificates(&["site"]);
    let inner = inner.server_with("a", secure.addr(), Mode::ReEncryption.settings());
    let (lb, endpoint) = start(config.frontend(inner));
    let old = client_config_with(&party.authority, &[&TLS12]);
    for _ in 0..3 {
        echo_in_tls(lb.addr("web"), &old).unwrap();
        echo_in_tls(lb.addr("web"), &client_config_with(&party.authority, &[&TLS13])).unwrap();
    }
    echo_in_tls(lb.addr("inner"), &party.trusting).unwrap();
    let mut stray = connect(lb.addr("web"));
    stray.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    read_until_closed(&mut stray);

    lb.until_idle();
    let now = Metrics::at(endpoint);
    assert_eq!(now.value("lb_frontend_tls_handshakes_total{frontend=web,version=1.2}"), 3.0);
    assert_eq!(now.value("lb_frontend_tls_handshakes_total{frontend=web,version=1.3}"), 3.0);
    assert_eq!(now.value("lb_frontend_tls_resumed_total{frontend=web}"), 2.0);
    assert_eq!(now.value("lb_frontend_tls_handshakes_in_progress{frontend=web}"), 0.0);
    assert_eq!(told(&now, "lb_frontend_tls_failures_total{frontend=web,"), [("cause=not_tls".to_owned(), 1.0)]);
    assert_eq!(now.value("lb_server_tls_handshakes_total{frontend=inner,server=a,version=1.3}"), 1.0);
    assert_eq!(now.find("lb_server_tls_handshakes_total{frontend=web,server=a,version=1.3}"), None);
    let not_after = now.value("lb_certificate_not_after_timestamp_seconds{certificate=site}");
    assert_eq!(Some(not_after as i64), lb.status()["certificates"][0]["not_after"].as_i64());
}

#[test]
fn requests_are_told_by_what_became_of_them() {
    let site = Site::run(|request| {
        let status = request.target().trim_start_matches('/').parse().unwrap_or(200);
        reply(status, "", "text")
    });
    let http = |name: &str| Frontend::new(name).set("protocol", "http");
    let config = Config::of(http("web").server("a", site.addr())).frontend(http("none")).set("shards", 1);
    let (lb, endpoint) = start(config);
    let mut client = Wire::connect(lb.addr("web"));
    for target in ["/200", "/201", "/301", "/404", "/404", "/500"] {
        client.get(target);
    }
    assert_eq!(Wire::connect(lb.addr("none")).get("/").status(), 503);
    let mut broken = Wire::connect(lb.addr("web"));
    broken.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    assert_eq!(broken.answer("GET").status(), 400);

    let now = Metrics::at(endpoint);
    let by_class = ["1xx", "2xx", "3xx", "4xx", "5xx"]
        .map(|class| now.value(&format!("lb_frontend_http_responses_total{{frontend=web,class={class}}}")));
    assert_eq!(by_class, [0.0, 2.0, 1.0, 2.0, 1.0]);
    assert_eq!(now.value("lb_frontend_http_reused_total{frontend=web}"), 5.0);
    assert_eq!(told(&now, "lb_frontend_http_refused_total{frontend=web,"), [("cause=malformed".to_owned(), 1.0)]);
    assert_eq!(told(&now, "lb_frontend_http_refused_total{frontend=none,"), [("cause=no_server".to_owned(), 1.0)]);
    assert!(now.value("lb_frontend_http_request_duration_seconds_count{frontend=web}") >= 6.0);
    assert_eq!(now.value("lb_shard_pooled_connections{shard=0}"), 1.0);
}

#[test]
fn who_stays_on_a_server_is_counted() {
    let (one, two) = (Backend::who("a"), Backend::who("b"));
    let frontend = Frontend::new("web").set("ip_persistence", "(ttl: \"10m\", size: 1000)");
    let (lb, endpoint) = start(Config::of(frontend.server("a", one.addr()).server("b", two.addr())));
    for _ in 0..4 {
        read_until_closed(&mut connect(lb.addr("web")));
    }
    let now = Metrics::at(endpoint);
    let of = |outcome| now.value(&format!("lb_frontend_persistence_lookups_total{{frontend=web,outcome={outcome}}}"));
    assert_eq!((of("new"), of("hit"), of("moved")), (1.0, 3.0, 0.0));
    assert_eq!(now.value("lb_frontend_persistence_remembered_clients{frontend=web}"), 1.0);
}

#[test]
fn limits_are_told_with_who_waits_for_them() {
    let (listener, app) = (Listener::new(), Backend::echo());
    let queue = Frontend::new("queue").set("queue_timeout", "\"60s\"").set("queue", 9);
    let config = Config::of(queue.server_with("a", listener.addr(), "max_connections: 1"));
    let small = Frontend::new("small").set("max_connections", 1).server("a", app.addr());
    let (lb, endpoint) = start(config.frontend(small).set("shards", 1));
    let served = (connect(lb.addr("queue")), listener.accept());
    let waits = connect(lb.addr("queue"));
    until(endpoint, "lb_frontend_waiting_clients{frontend=queue}", 1.0);
    let mut first = connect(lb.addr("small"));
    echo(&mut first, b"hello");
    let second = connect(lb.addr("small"));
    until(endpoint, "lb_frontend_paused{frontend=small}", 1.0);

    let now = Metrics::at(endpoint);
    assert_eq!(now.value("lb_frontend_max_waiting_clients{frontend=queue}"), 9.0);
    assert_eq!(now.value("lb_server_max_connections{frontend=queue,server=a}"), 1.0);
    assert_eq!(now.value("lb_frontend_max_connections{frontend=small}"), 1.0);
    assert_eq!(now.find("lb_frontend_max_connections{frontend=queue}"), None);
    assert_eq!(now.value("lb_frontend_pauses_total{frontend=small}"), 1.0);
    assert_eq!(now.value("lb_frontend_pauses_total{frontend=queue}"), 0.0);
    drop((served, waits, first, second));
    until(endpoint, "lb_frontend_paused{frontend=small}", 0.0);
}

#[test]
fn health_is_told_with_its_changes_and_who_serves() {
    let (one, two) = (Backend::who("a"), Backend::who("b"));
    let frontend = Frontend::new("web").check("(kind: tcp, interval: \"50ms\", fall: 1, rise: 1)");
    let frontend = frontend.weighted("a", one.addr(), 3).passive("b", two.addr());
    let (_lb, endpoint) = start(Config::of(frontend));
    until(endpoint, "lb_server_health{frontend=web,server=a,state=up}", 1.0);
    let now = Metrics::at(endpoint);
    let changes = now.value("lb_server_health_changes_total{frontend=web,server=a}");
    assert_eq!(now.value("lb_server_weight{frontend=web,server=a}"), 3.0);
    assert_eq!(now.value("lb_server_passive{frontend=web,server=b}"), 1.0);
    assert_eq!(now.value("lb_frontend_service{frontend=web,service=active}"), 1.0);

    one.stop();
    until(endpoint, "lb_server_up{frontend=web,server=a}", 0.0);
    until(endpoint, "lb_frontend_service{frontend=web,service=passive}", 1.0);
    let now = Metrics::at(endpoint);
    assert_eq!(now.value("lb_server_health{frontend=web,server=a,state=down}"), 1.0);
    assert_eq!(now.value("lb_server_health{frontend=web,server=a,state=up}"), 0.0);
    assert_eq!(now.value("lb_server_health_changes_total{frontend=web,server=a}"), changes + 1.0);
    assert_eq!(now.value("lb_frontend_service{frontend=web,service=active}"), 0.0);
}

#[test]
fn changes_and_reloads_are_told_with_their_outcome() {
    let config = || Config::of(Frontend::new("web")).set("metrics", "\"127.0.0.1:0\"");
    let (lb, endpoint) = start(Config::of(Frontend::new("web")));
    let begun = Metrics::at(endpoint);
    lb.change("AddFrontend(frontend:(name:\"more\",bind:\"127.0.0.1:0\"))");
    lb.refuse("RemoveFrontend(name:\"unknown\")");
    let now = Metrics::at(endpoint);
    let rise = |series: &str| now.value(series) - begun.value(series);
    assert_eq!(rise("lb_config_revision"), 1.0);
    assert_eq!(rise("lb_config_changes_total{outcome=applied}"), 1.0);
    assert_eq!(rise("lb_config_changes_total{outcome=refused}"), 1.0);
    assert_eq!(now.value("lb_shard_revision{shard=0}"), now.value("lb_config_revision"));
    assert!(now.value("lb_config_last_applied_timestamp_seconds") > 1.7e9);
    assert_eq!(now.value("lb_config_last_reload_successful"), 1.0);

    lb.place().write_config("(frontends: [(name: \"web\")])");
    lb.signal("HUP");
    until(endpoint, "lb_config_reloads_total{outcome=refused}", 1.0);
    until(endpoint, "lb_config_last_reload_successful", 0.0);
    lb.place().write_config(config());
    lb.signal("HUP");
    until(endpoint, "lb_config_reloads_total{outcome=applied}", 1.0);
    until(endpoint, "lb_config_last_reload_successful", 1.0);
}

#[test]
fn the_process_tells_of_itself() {
    let (lb, endpoint) = start(Config::of(Frontend::new("web")).set("shards", 1));
    let now = Metrics::at(endpoint);
    let descriptors = lb.descriptors() as f64;
    assert!((now.value("process_open_fds") - descriptors).abs() <= 3.0, "{descriptors}");
    assert!(now.value("process_max_fds") > descriptors);
    assert!(now.value("process_resident_memory_bytes") >= lb.memory() as f64 / 2.0);
    assert!(now.value("process_cpu_seconds_total") > 0.0);
    assert!(now.value("lb_shard_cpu_seconds_total{shard=0}") > 0.0);
    assert!(now.value("lb_shard_turns_total{shard=0}") > 0.0);
    let version = lb.done(&["version"]).split([' ', ',']).nth(1).unwrap().to_owned();
    assert_eq!(now.value(&format!("lb_build_info{{version={version}}}")), 1.0);
}

#[test]
fn metrics_are_had_at_a_unix_socket_and_by_lb_metrics_too() {
    let config = Config::of(Frontend::new("web")).set("metrics", "\"./metrics.sock\"");
    let lb = Lb::start(config);
    let path = lb.place().folder().join("metrics.sock");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let answer = Wire::over(UnixStream::connect(&path).unwrap()).get("/metrics");
    assert_eq!(answer.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let by_socket: Vec<_> = Metrics::read(answer.text()).series().map(str::to_owned).collect();

    for (format, end) in [("prometheus", ""), ("openmetrics", "# EOF\n")] {
        let text = lb.done(&["metrics", "--format", format]);
        assert!(text.ends_with(end), "{text}");
        assert_eq!(Metrics::read(&text).series().collect::<Vec<_>>(), by_socket, "{format}");
    }
    assert_eq!(complaints(&lb.done(&["metrics"])), "");
}

#[test]
fn a_successor_tells_its_own_metrics_at_the_same_place() {
    let app = Backend::echo();
    let config = Config::of(Frontend::new("web").server("a", app.addr())).set("metrics", "\"./metrics.sock\"");
    let old = Lb::start(config);
    let path = old.place().folder().join("metrics.sock");
    let scrape = || {
        let answer = Wire::over(UnixStream::connect(&path).ok()?).try_ask(&request("GET", "/metrics", &[], ""));
        Some(Metrics::read(answer.ok()?.text()))
    };
    echo(&mut connect(old.addr("web")), b"hello");
    let started = |metrics: &Metrics| metrics.value("process_start_time_seconds");
    let before = scrape().expect("lb tells its metrics");
    assert_eq!(before.value("lb_frontend_connections_total{frontend=web}"), 1.0);

    let new = old.place().start_successor();
    echo(&mut connect(new.addr("web")), b"hello");
    echo(&mut connect(new.addr("web")), b"hello");
    let after = wait::until_some("the successor tells its metrics", || {
        scrape().filter(|metrics| started(metrics) > started(&before))
    });
    assert_eq!(after.value("lb_frontend_connections_total{frontend=web}"), 2.0);
}

#[test]
fn nothing_else_is_answered_and_nothing_is_changed() {
    let (_lb, endpoint) = start(Config::of(Frontend::new("web")));
    let status = |method: &str, target: &str| Wire::connect(endpoint).ask(&request(method, target, &[], "")).status();
    for target in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!((status("GET", target), status("HEAD", target)), (200, 200), "{target}");
        for method in ["POST", "PUT", "DELETE"] {
            assert_eq!(status(method, target), 405, "{method} {target}");
        }
    }
    for target in ["/", "/metrics/", "/status", "/api/v1/status", "/../etc/passwd"] {
        assert_eq!(status("GET", target), 404, "{target}");
    }
}

#[test]
fn it_is_ready_while_it_accepts_and_alive_until_it_ends() {
    let app = Backend::echo();
    let config = Config::of(Frontend::new("web").set("max_connections", 1).server("a", app.addr()));
    let (mut lb, endpoint) = start(config.set("shutdown_grace", "\"60s\"").set("shards", 1));
    let status = |target: &str| Wire::connect(endpoint).get(target).status();
    assert_eq!((status("/healthz"), status("/readyz")), (200, 200));
    let mut client = connect(lb.addr("web"));
    echo(&mut client, b"hello");
    wait::until("the only frontend is full", || status("/readyz") == 503);
    lb.done(&["frontend", "update", "web", "--max-connections", "none"]);
    wait::until("it accepts again", || status("/readyz") == 200);

    lb.signal("TERM");
    wait::until("it stops", || status("/readyz") == 503);
    assert_eq!(status("/healthz"), 200);
    echo(&mut client, b"still served");
    drop(client);
    assert!(lb.exit().success());
}

#[test]
fn a_thousand_connections_are_told_of_while_they_go_on() {
    const MANY: usize = 1000;
    let app = Backend::echo();
    let (lb, endpoint) = start(Config::of(Frontend::new("web").server("a", app.addr())));
    let addr = lb.addr("web");
    let mut clients: Vec<_> = (0..MANY).map(|_| connect(addr)).collect();
    thread::scope(|scope| {
        let talk = scope.spawn(|| clients.iter_mut().for_each(|client| echo(client, b"hello")));
        while !talk.is_finished() {
            assert_eq!(Wire::connect(endpoint).get("/metrics").status(), 200);
        }
    });
    let now = Metrics::at(endpoint);
    for series in ["lb_open_connections", "lb_frontend_connections_total{frontend=web}"] {
        assert_eq!(now.value(series), MANY as f64, "{series}");
    }
    assert!(now.value("process_open_fds") >= 2.0 * MANY as f64);
    drop(clients);
    until(endpoint, "lb_frontend_connection_duration_seconds_count{frontend=web}", MANY as f64);
    until(endpoint, "lb_open_connections", 0.0);
}

#[test]
fn a_collector_that_never_reads_holds_up_nobody() {
    let app = Backend::echo();
    let (lb, endpoint) = start(Config::of(Frontend::new("web").server("a", app.addr())));
    let deaf: Vec<_> = (0..10).map(|_| thread::spawn(move || ask_without_reading(endpoint))).collect();
    let deaf: Vec<TcpStream> = deaf.into_iter().map(|asking| asking.join().unwrap()).collect();
    for _ in 0..10 {
        assert_eq!(Wire::connect(endpoint).get("/metrics").status(), 200);
    }
    echo(&mut connect(lb.addr("web")), b"hello");
    drop(deaf);
}

/// A client that has sent requests until the endpoint takes no more of them, because it can't send their answers.
fn ask_without_reading(endpoint: SocketAddr) -> TcpStream {
    let mut stream = connect(endpoint);
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let requests = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    while stream.write(requests.as_bytes()).is_ok() {}
    stream
}

/// A file of the dashboards.
fn dashboards(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../lb-bin/dashboards").join(name)
}

#[test]
fn promtool_accepts_the_alert_rules_and_they_fire_when_they_should() {
    succeeds(Command::new("promtool").args(["check", "rules"]).arg(dashboards("alerts.yml")));
    succeeds(Command::new("promtool").args(["test", "rules"]).arg(dashboards("alerts.test.yml")));
}

#[test]
fn a_real_prometheus_scrapes_and_understands_the_rules_and_the_dashboard() {
    let (party, site) = (Party::new(), Site::named("a"));
    let app = Backend::secure_who_and_echo("", Arc::clone(&party.app));
    let web = Frontend::new("web").server_with("a", app.addr(), Mode::ReEncryption.settings());
    let config = party.config(web.set("ip_persistence", "(ttl: \"10m\", size: 1000)"));
    let http = Frontend::new("http").set("protocol", "http").server("a", site.addr());
    let (lb, endpoint) = start(config.frontend(http));
    let prometheus = Prometheus::start(endpoint, &fs::read_to_string(dashboards("alerts.yml")).unwrap());
    for _ in 0..5 {
        echo_in_tls(lb.addr("web"), &party.trusting).unwrap();
        Wire::connect(lb.addr("http")).get("/");
    }
    let connections = "sum(lb_frontend_connections_total)";
    wait::until("Prometheus knows of the connections", || prometheus.query(connections) == [10.0]);
    wait::until("Prometheus knows rates", || prometheus.query("rate(lb_build_info[1m])").len() == 1);
    wait::until("Prometheus finds the balancer up", || prometheus.query("up") == [1.0]);
    let buckets = "count(lb_frontend_connection_duration_seconds_bucket{frontend=\"web\"})";
    wait::until("Prometheus knows every bucket", || prometheus.query(buckets) == [22.0]);
    for rule in prometheus.evaluated_rules() {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    for expression in expressions() {
        let is_rare = expression.ends_with("> 0");
        // On a busy machine a scrape may fail, and then there is nothing until the next one.
        wait::until(&format!("{expression} gives something"), || is_rare || !prometheus.query(&expression).is_empty());
    }
}

/// The expressions of the dashboard, for a time of a minute, with all instances, frontends and servers.
fn expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_slice(&fs::read(dashboards("lb.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().expect("a dashboard has panels").iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions = targets.map(|target| target["expr"].as_str().expect("a target has an expression"));
    let variables =
        [("$__rate_interval", "1m"), ("$__range", "1m"), ("$instance", ".*"), ("$frontend", ".*"), ("$server", ".*")];
    let filled = |text: &str| variables.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
    expressions.map(filled).collect()
}
