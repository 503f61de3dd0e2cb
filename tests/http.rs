//! The way of a request: every one is balanced by itself, over connections to servers that are kept, and its answer comes
//! back in order; with curl, load generators, old clients, TLS on either side, and while the protocol is changed.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::process::Command;
use std::thread;

use tests::client::{connect, reset};
use tests::http::{Message, Site, Wire, ok, reply, request};
use tests::program::{Nginx, Site as NginxSite, run, succeeds};
use tests::{Authority, Backend, Config, Frontend, Lb, http_count, text, wait};

#[test]
fn curl_gets_heads_posts_and_puts() {
    let site =
        Site::run(|request| reply(200, "X-Method-Was: seen\r\n", &format!("{} {}", request.method(), request.text())));
    let lb = one_server(&site);
    let url = format!("http://{}/page?q=1", lb.addr("web"));

    assert_eq!(curl(&[&url]), "GET ");
    assert_eq!(curl(&["-d", "some=form", &url]), "POST some=form");
    assert_eq!(curl(&["-X", "PUT", "-d", "text", &url]), "PUT text");
    assert_eq!(curl(&["-X", "DELETE", &url]), "DELETE ");
    assert_eq!(curl(&["-X", "OPTIONS", "--request-target", "*", &url]), "OPTIONS ");
    assert_eq!(curl(&["-X", "PATCH", "-d", "text", "-H", "Transfer-Encoding: chunked", &url]), "PATCH text");
    let head = curl(&["-I", &url]);
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("X-Method-Was: seen"), "{head}");

    let targets: Vec<_> = site.requests().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(targets.iter().filter(|target| *target == "/page?q=1").count(), 6, "{targets:?}");
    assert_eq!(targets.iter().filter(|target| *target == "*").count(), 1, "{targets:?}");
}

#[test]
fn curl_keeps_one_connection_for_many_pages_and_nginx_gets_the_requests() {
    let nginx = Nginx::start(&["one", "two"]);
    let frontend = Frontend::new("web").server("a", nginx.addrs()[0]).server("b", nginx.addrs()[1]);
    let lb = http(frontend, |config| config.set("shards", 1));
    let url = format!("http://{}/", lb.addr("web"));

    let pages = curl(&[url.as_str(); 10]);

    assert!(pages == "onetwo".repeat(5) || pages == "twoone".repeat(5), "each request is balanced by itself: {pages}");
    assert_eq!(lb.traffic("accepted"), 1, "curl keeps its connection");
}

#[test]
fn requests_of_one_connection_are_balanced_by_weight() {
    let sites = ["a", "b", "c"].map(Site::named);
    let frontend = Frontend::new("web").weighted("a", sites[0].addr(), 1).weighted("b", sites[1].addr(), 2);
    let lb = http(frontend.weighted("c", sites[2].addr(), 3), |config| config.set("shards", 1));
    let mut client = Wire::connect(lb.addr("web"));
    let mut shares = HashMap::new();
    for _ in 0..60 {
        *shares.entry(client.get("/").text().to_owned()).or_insert(0) += 1;
    }
    let expected = HashMap::from([("a", 10), ("b", 20), ("c", 30)].map(|(name, share)| (name.to_owned(), share)));
    assert_eq!(shares, expected);
}

#[test]
fn many_requests_go_over_few_connections_to_a_server() {
    let site = Site::named("a");
    let lb = http(Frontend::new("web").server("a", site.addr()), |config| config.set("shards", 1));
    let addr = lb.addr("web");
    for _ in 0..5 {
        let mut client = Wire::connect(addr);
        for _ in 0..20 {
            assert_eq!(client.get("/").text(), "a");
        }
    }
    assert_eq!(site.seen().len(), 100);
    assert_eq!(site.accepted(), 1, "one client after the other needs one connection to the server");
    let status = lb.frontend("web");
    assert_eq!((http_count(&status, "requests"), http_count(&status, "reused")), (100, 99), "{}", status["http"]);
    assert_eq!(lb.pooled(), 1);
    assert_eq!(lb.traffic("accepted"), 5);
}

#[test]
fn clients_at_once_have_connections_of_their_own_and_none_gets_anothers_answer() {
    const CLIENTS: usize = 40;
    let site = Site::run(|request| ok(request.target()));
    let lb = http(Frontend::new("web").server("a", site.addr()), |config| config.set("shards", 2));
    let addr = lb.addr("web");
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                let mut wire = Wire::connect(addr);
                for round in 0..50 {
                    let target = format!("/{client}/{round}");
                    assert_eq!(wire.get(&target).text(), target);
                }
            });
        }
    });
    assert!(site.accepted() <= CLIENTS as u64, "{} connections for {CLIENTS} clients", site.accepted());
    lb.until_idle();
}

#[test]
fn a_connection_to_a_server_is_given_back_when_its_client_goes_between_requests() {
    let site = Site::named("a");
    let lb = http(Frontend::new("web").server("a", site.addr()), |config| config.set("shards", 1));
    for _ in 0..10 {
        assert_eq!(Wire::connect(lb.addr("web")).get("/").text(), "a");
        lb.until_idle();
    }
    assert_eq!(site.accepted(), 1);
}

#[test]
fn a_server_of_another_frontend_is_not_mixed_up_with_one_of_the_same_address() {
    let site = Site::run(|request| ok(request.field("x-forwarded-proto").unwrap_or("none")));
    let config = Config::of(Frontend::new("web").set("protocol", "http").server("a", site.addr()));
    let other = Frontend::new("other").set("protocol", "http").set("http", "(x_forwarded: false)");
    let lb = Lb::start(config.frontend(other.server("a", site.addr())).set("shards", 1));
    for _ in 0..3 {
        assert_eq!(Wire::connect(lb.addr("web")).get("/").text(), "http");
        assert_eq!(Wire::connect(lb.addr("other")).get("/").text(), "none");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let sites = ["a", "b"].map(|name| Site::run(move |request| describe(name, request)));
    let lb = two_servers(&sites);
    let mut client = Wire::connect(lb.addr("web"));
    let chunked = "POST /2 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let requests = [
        request("GET", "/0", &[], ""),
        request("POST", "/1", &[], "GET /no HTTP/1.1\r\nHost: h\r\n\r\n"),
        chunked.to_owned(),
        request("HEAD", "/3", &[], ""),
        request("GET", "/4", &[], ""),
        request("PUT", "/5", &[], &"x".repeat(100_000)),
        request("GET", "/6", &[], ""),
    ];

    client.send(requests.concat());

    let bodies = [0, 29, 5, 0, 0, 100_000, 0];
    for (index, (request, bytes)) in requests.iter().zip(bodies).enumerate() {
        let method = request.split(' ').next().unwrap();
        let answer = client.answer(method);
        let server = ["a", "b"][index % 2];
        let expected = format!("{server} {method} /{index} {bytes}");
        let said = answer.field("x-was").unwrap().split_once(' ').unwrap().1;
        assert_eq!(said, expected.split_once(' ').unwrap().1);
        assert_eq!(answer.text().is_empty(), method == "HEAD");
    }
    let served = sites.each_ref().map(|site| site.seen().len());
    assert!(served == [4, 3] || served == [3, 4], "pipelined requests are balanced by themselves: {served:?}");
}

#[test]
fn hundreds_of_pipelined_requests_are_answered_in_order_however_they_are_cut() {
    let site = Site::run(|request| ok(&format!("{} {}", request.target(), request.body.len())));
    let lb = one_server(&site);
    let all: String = (0..300).map(|index| request("POST", &format!("/{index}"), &[], &"b".repeat(index))).collect();
    for piece in [1, 7, 100, 1448, 4096, 1_000_000] {
        let mut client = Wire::connect(lb.addr("web"));
        let mut writer = client.writer().try_clone().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                all.as_bytes().chunks(piece.max(all.len() / 5000)).for_each(|part| writer.write_all(part).unwrap())
            });
            for index in 0..300 {
                assert_eq!(client.answer("POST").text(), format!("/{index} {index}"), "in pieces of {piece}");
            }
        });
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_is_one() {
    let site = Site::run(|request| ok(request.text()));
    let lb = one_server(&site);
    let mut client = Wire::connect(lb.addr("web"));
    for byte in request("POST", "/", &[("X-Long", "value")], "body").bytes() {
        client.send([byte]);
    }
    assert_eq!(client.answer("POST").text(), "body");
}

#[test]
fn a_client_that_says_close_is_answered_and_closed_and_the_servers_connection_is_kept() {
    let site = Site::named("a");
    let lb = http(Frontend::new("web").server("a", site.addr()), |config| config.set("shards", 1));
    for _ in 0..5 {
        let mut client = Wire::connect(lb.addr("web"));
        let answer = client.get_with("/", &[("Connection", "close")]);
        assert!(answer.connection_says("close"), "{answer:?}");
        client.closes();
    }
    assert_eq!(site.accepted(), 1);
}

#[test]
fn a_server_that_says_close_does_not_close_the_client() {
    let site = Site::run(|_| reply(200, "Connection: close\r\n", "bye"));
    let lb = one_server(&site);
    let mut client = Wire::connect(lb.addr("web"));
    for _ in 0..5 {
        let answer = client.get("/");
        assert_eq!(answer.text(), "bye");
        assert!(!answer.connection_says("close"), "{answer:?}");
    }
    assert_eq!((site.accepted(), lb.traffic("accepted")), (5, 1));
    assert_eq!(lb.pooled(), 0);
}

#[test]
fn a_client_that_has_said_that_this_was_all_gets_its_answers() {
    let site = Site::run(|request| ok(request.target()));
    let lb = one_server(&site);
    let mut client = Wire::connect(lb.addr("web"));
    client.send([request("GET", "/1", &[], ""), request("GET", "/2", &[], "")].concat());
    client.end();
    assert_eq!((client.answer("GET").text(), client.answer("GET").text()), ("/1", "/2"));
    client.closes();
}

#[test]
fn an_old_client_gets_a_chunked_answer_whole_and_is_closed() {
    let site = Site::run(
        |_| "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n",
    );
    let lb = one_server(&site);
    let mut client = Wire::connect(lb.addr("web"));
    client.send("GET / HTTP/1.0\r\nHost: site.example\r\n\r\n");
    let head = client.head();
    assert!(!head.has("transfer-encoding"), "{head:?}");
    let (rest, end) = client.rest();
    assert_eq!((text(&rest).as_str(), end), ("hello world", tests::client::End::Orderly));
    assert_eq!(site.last().line, "GET / HTTP/1.1", "to the server it is a request of our own version");
    Wire::connect(lb.addr("web")).ask("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(site.last().line, "GET / HTTP/1.0", "which must have a Host");
}

#[test]
fn an_old_client_is_closed_unless_it_asks_to_be_kept() {
    let site = Site::named("a");
    let lb = one_server(&site);
    let mut client = Wire::connect(lb.addr("web"));
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer("GET").text(), "a");
    client.closes();
    assert_eq!(site.last().line, "GET / HTTP/1.0", "without a Host it can be none of our own version");

    let mut client = Wire::connect(lb.addr("web"));
    for _ in 0..3 {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let answer = client.answer("GET");
        assert_eq!(answer.text(), "a");
        assert!(answer.connection_says("keep-alive"), "{answer:?}");
    }
}

#[test]
fn an_old_server_is_understood() {
    let site = Site::play(|wire, visit| {
        if let Ok(Some(request)) = wire.request() {
            visit.note(&request);
            wire.send("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold words");
        }
    });
    let lb = one_server(&site);
    let url = format!("http://{}/", lb.addr("web"));
    assert_eq!(curl(&[&url, &url]), "old wordsold words");
    let mut client = Wire::connect(lb.addr("web"));
    let answer = client.get("/");
    assert_eq!((answer.line.as_str(), answer.text()), ("HTTP/1.1 200 OK", "old words"));
}

#[test]
fn an_idle_client_is_closed_after_its_time_and_a_busy_one_is_not() {
    let site = Site::named("a");
    let frontend = Frontend::new("web").set("http", "(keep_alive_timeout: \"500ms\")").server("a", site.addr());
    let lb = http(frontend, |config| config);
    let mut client = Wire::connect(lb.addr("web"));
    assert_eq!(client.get("/").text(), "a");
    client.closes();
    lb.until_idle();
}

#[test]
fn https_is_served_to_curl_and_re_encrypted_to_nginx() {
    let authority = Authority::root("corp authority");
    let (site, app) = (authority.issue(&["site.example"]), authority.issue(&["app.example"]));
    let nginx = Nginx::start_sites(&[NginxSite::new("plain"), NginxSite::new("secure").secure(&app)]);
    let frontend = Frontend::new("web").set("protocol", "https").certificates(&["site"]);
    let frontend = frontend.server_with("a", nginx.addrs()[0], "ssl_offload: true").server_with(
        "b",
        nginx.addrs()[1],
        "ssl_offload: true, server_certificate: \"corp-ca\", server_name: \"app.example\"",
    );
    let config = Config::of(frontend).pair("site", &site).bundle("corp-ca", authority.pem());
    let lb = Lb::start(config.set("shards", 1));

    let (port, ca) = (lb.addr("web").port(), authority.pem_path().to_str().unwrap().to_owned());
    let (resolve, url) = (format!("site.example:{port}:127.0.0.1"), format!("https://site.example:{port}/"));
    let pages = curl(&[&["--cacert", &ca, "--resolve", &resolve][..], &[url.as_str(); 6]].concat());

    assert!(pages == "plainsecure".repeat(3) || pages == "secureplain".repeat(3), "{pages}");
    assert_eq!(lb.traffic("accepted"), 1, "curl keeps its connection");
    let file = curl(&["--cacert", &ca, "--resolve", &resolve, &format!("{url}file"), &format!("{url}file")]);
    assert_eq!(file.len(), 2 * Nginx::FILE_BYTES);
}

#[test]
fn behind_https_the_clients_tls_ends_here_whatever_a_server_says() {
    let authority = Authority::root("corp authority");
    let (identity, site) = (authority.issue(&["site.example"]), Site::named("a"));
    let frontend = Frontend::new("web").set("protocol", "https").certificates(&["site"]);
    let frontend = frontend.server_with("a", site.addr(), "ssl_offload: false");
    let lb = Lb::start(Config::of(frontend).pair("site", &identity));
    let mut client = Wire::secure(lb.addr("web"), "site.example", &tests::channel::client_config(&authority));
    assert_eq!((client.get("/").text(), client.get("/").text()), ("a", "a"));
}

#[test]
fn a_protocol_that_is_changed_live_is_that_of_the_next_connection() {
    let echo = Backend::echo();
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", echo.addr())));
    let mut plain = connect(lb.addr("web"));
    tests::client::echo(&mut plain, b"not HTTP");

    let site = Site::named("a");
    lb.done(&["frontend", "update", "web", "--protocol", "http"]);
    lb.done(&["server", "update", "web", "a", "--port", &site.addr().port().to_string()]);
    let mut client = Wire::connect(lb.addr("web"));
    assert_eq!(client.get("/").text(), "a");
    tests::client::echo(&mut plain, b"still not HTTP");

    lb.done(&["server", "update", "web", "a", "--port", &echo.addr().port().to_string()]);
    lb.done(&["frontend", "update", "web", "--protocol", "tcp"]);
    tests::client::echo(&mut connect(lb.addr("web")), b"not HTTP again");
}

#[test]
fn settings_that_are_changed_live_are_those_of_the_next_request() {
    let site = Site::named("a");
    let lb = one_server(&site);
    let mut client = Wire::connect(lb.addr("web"));
    client.get("/");
    assert!(site.last().has("x-forwarded-for"));
    lb.done(&["frontend", "update", "web", "--http", "x_forwarded=false"]);
    client.get("/");
    assert!(!site.last().has("x-forwarded-for"), "{:?}", site.last());
}

#[test]
fn a_server_that_is_updated_gets_no_request_over_a_connection_to_its_old_address() {
    let (old, new) = (Site::named("old"), Site::named("new"));
    let lb = one_server(&old);
    let mut client = Wire::connect(lb.addr("web"));
    assert_eq!(client.get("/").text(), "old");
    lb.done(&["server", "update", "web", "a", "--port", &new.addr().port().to_string()]);
    assert_eq!(client.get("/").text(), "new");
    wait::until("connections to the old address are closed", || old.connections() == 0);
}

#[test]
fn a_removed_server_gets_no_request_and_loses_its_kept_connections() {
    let sites = ["a", "b"].map(Site::named);
    let lb = two_servers(&sites);
    let mut client = Wire::connect(lb.addr("web"));
    for _ in 0..4 {
        client.get("/");
    }
    lb.done(&["server", "remove", "web", "a"]);
    let before = sites[0].seen().len();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "b");
    }
    assert_eq!(sites[0].seen().len(), before);
    wait::until("connections to the removed server are closed", || sites[0].connections() == 0);
}

#[test]
fn h2load_and_wrk_see_no_failed_request() {
    let nginx = Nginx::start(&["one", "two"]);
    let frontend = Frontend::new("web").server("a", nginx.addrs()[0]).server("b", nginx.addrs()[1]);
    let lb = http(frontend.policy("least_connections"), |config| config);
    let url = format!("http://{}/", lb.addr("web"));

    let report = succeeds(Command::new("h2load").args(["--h1", "-n", "20000", "-c", "50", &url]));
    assert!(report.contains("20000 done, 20000 succeeded, 0 failed, 0 errored, 0 timeout"), "{report}");
    let report = succeeds(Command::new("h2load").args(["--h1", "-n", "10000", "-c", "20", "-m", "8", &url]));
    assert!(report.contains("10000 done, 10000 succeeded, 0 failed, 0 errored, 0 timeout"), "{report}");
    let report = succeeds(Command::new("wrk").args(["-t1", "-c32", "-d2s", "--timeout", "20s", &url]));
    assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
    lb.until_idle();
}

#[test]
fn http_goes_over_ipv6_and_the_other_way_round() {
    let sites = ["[::1]:0", "127.0.0.1:0"].map(|bind| Site::named_at(bind, "a"));
    for bind in ["[::1]:0", "127.0.0.1:0"] {
        for site in &sites {
            let lb = http(Frontend::new("web").bind(bind).server("a", site.addr()), |config| config);
            assert_eq!(Wire::connect(lb.addr("web")).get("/").text(), "a");
        }
    }
}

#[test]
fn a_request_counts_as_a_connection_of_its_server_while_it_is_answered() {
    let (site, lb, mut client) = held();
    client.send(request("GET", "/held", &[], ""));
    wait::until("the server has the request", || site.seen().len() == 1);
    assert_eq!(lb.server("web", "a")["connections"], 1);
    site.hang_up();
    drop(client);
    wait::until("it counts no more", || lb.server("web", "a")["connections"] == 0);
}

#[test]
fn a_client_without_a_request_counts_for_no_server() {
    let site = Site::named("a");
    let lb = one_server(&site);
    let mut client = Wire::connect(lb.addr("web"));
    client.get("/");
    wait::until("no request is there", || lb.server("web", "a")["connections"] == 0);
    assert_eq!(lb.connections(), 1, "the client's connection is");
    client.get("/");
}

#[test]
fn a_full_server_is_waited_for_request_by_request() {
    let site = Site::named("a");
    let frontend = Frontend::new("web").server_with("a", site.addr(), "max_connections: 1");
    let lb = http(frontend, |config| config.set("shards", 1));
    let addr = lb.addr("web");
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(move || {
                let mut client = Wire::connect(addr);
                for _ in 0..20 {
                    assert_eq!(client.get("/").text(), "a");
                }
            });
        }
    });
    assert_eq!(site.seen().len(), 400);
}

#[test]
fn a_client_that_goes_while_its_request_is_answered_leaves_nothing_behind() {
    let (site, lb, _) = held();
    for _ in 0..20 {
        let mut client = Wire::connect(lb.addr("web"));
        client.send(request("GET", "/held", &[], ""));
        wait::until("the server has the request", || site.connections() > 0);
        // An end in order would be that of its requests only: it may still read.
        reset(client.into_inner());
        wait::until("the server's connection is closed", || site.connections() == 0);
    }
    lb.until_idle();
    assert_eq!(lb.pooled(), 0);
}

/// A server that never answers, and a client of it.
fn held() -> (Site, Lb, Wire) {
    let site = Site::play(|wire, visit| {
        if let Ok(Some(request)) = wire.request() {
            visit.note(&request);
            let _ = wire.reader().read(&mut [0]);
        }
    });
    let lb = one_server(&site);
    let client = Wire::connect(lb.addr("web"));
    (site, lb, client)
}

fn describe(name: &str, request: &Message) -> String {
    let text = format!("{name} {} {} {}", request.method(), request.target(), request.body.len());
    reply(200, &format!("X-Was: {text}\r\n"), &text)
}

fn one_server(site: &Site) -> Lb {
    http(Frontend::new("web").server("a", site.addr()), |config| config)
}

fn two_servers([a, b]: &[Site; 2]) -> Lb {
    let frontend = Frontend::new("web").server("a", a.addr()).server("b", b.addr());
    http(frontend, |config| config.set("shards", 1))
}

fn http(frontend: Frontend, settings: impl FnOnce(Config) -> Config) -> Lb {
    Lb::start(settings(Config::of(frontend.set("protocol", "http"))))
}

fn curl(arguments: &[&str]) -> String {
    let mut curl = Command::new("curl");
    let output = run(curl.args(["-sS", "--fail", "--max-time", "30"]).args(arguments));
    assert!(output.status.success(), "{curl:?} failed: {}", text(&output.stderr));
    text(&output.stdout)
}
