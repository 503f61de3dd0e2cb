//! Cookie persistence: a client comes back to its server by a cookie that says nothing and cannot be forged, over everything
//! that happens to servers, and is balanced anew only if its server has gone.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::thread;

use tests::channel::client_config;
use tests::http::{Message, Site, Wire, ok, reply, request};
use tests::program::{Nginx, free_addr, succeeds};
use tests::{Authority, Config, Frontend, Lb, Place, health, wait};

#[test]
fn curl_with_a_cookie_jar_stays_on_its_server() {
    let nginx = Nginx::start(&["one", "two", "three"]);
    let names = ["a", "b", "c"].iter().zip(nginx.addrs());
    let lb = persistent(names.fold(Frontend::new("web"), |all, (name, addr)| all.server(name, *addr)));
    let (folder, url) = (tempfile::TempDir::new().unwrap(), format!("http://{}/", lb.addr("web")));
    let mut servers = HashSet::new();
    for jar in 0..6 {
        let jar = folder.path().join(format!("jar-{jar}"));
        let get = || {
            let mut curl = Command::new("curl");
            succeeds(curl.args(["-sS", "--fail", "--max-time", "30"]).arg("-b").arg(&jar).arg("-c").arg(&jar).arg(&url))
        };
        let first = get();
        for _ in 0..10 {
            assert_eq!(get(), first);
        }
        let text = fs::read_to_string(&jar).unwrap();
        assert_eq!(text.matches("LBSERVER").count(), 1, "{text}");
        servers.insert(first);
    }
    assert_eq!(servers.len(), 3, "six clients are balanced over three servers");
}

#[test]
fn the_cookie_is_given_once_and_not_to_those_who_have_it() {
    let (_sites, lb) = three_servers(|frontend| frontend);
    let mut client = Wire::connect(lb.addr("web"));
    let first = client.get("/");
    let cookie = given(&first);
    for _ in 0..10 {
        let answer = client.get_with("/", &[("Cookie", &cookie)]);
        assert_eq!((answer.text(), answer.has("set-cookie")), (first.text(), false));
    }
    assert!(client.get("/").has("set-cookie"), "a request without it is one of a new client");
}

#[test]
fn the_cookie_is_found_among_others_and_beside_the_applications_own() {
    let site = |name: &'static str| Site::run(move |_| reply(200, "Set-Cookie: app=1; Path=/\r\n", name));
    let sites = ["a", "b", "c"].map(site);
    let lb = persistent(frontend_of(&sites));
    let mut client = Wire::connect(lb.addr("web"));
    let first = client.get("/");
    assert_eq!(first.all("set-cookie").count(), 2, "{first:?}");
    let cookie =
        first.all("set-cookie").find_map(|value| value.starts_with("LBSERVER=").then(|| pair_of(value))).unwrap();
    let value = cookie.strip_prefix("LBSERVER=").unwrap();
    for text in [
        format!("app=1; {cookie}"),
        format!("{cookie}; app=1"),
        format!("a=b; {cookie}; c=d"),
        format!("XLBSERVER=x; {cookie}; LBSERVERX=x"),
        format!("LBSERVER=\"{value}\""),
    ] {
        let answer = client.get_with("/", &[("Cookie", &text)]);
        assert_eq!((answer.text(), answer.all("set-cookie").count()), (first.text(), 1), "{text}");
    }
    let answer = client.get_with("/", &[("Cookie", "app=1"), ("Cookie", &cookie)]);
    assert_eq!((answer.text(), answer.all("set-cookie").count()), (first.text(), 1), "in a second field");
}

#[test]
fn the_attributes_are_those_that_were_asked_for() {
    let (_sites, lb) = three_servers(|frontend| frontend);
    let attributes = attributes(&Wire::connect(lb.addr("web")).get("/"));
    assert_eq!(attributes, ["httponly", "path=/", "samesite=lax"]);

    let cookie = "(name: \"stay-here\", max_age: \"1h\", domain: \"example.com\", path: \"/app\")";
    let (_sites, lb) = three_servers(|frontend| frontend.set("cookie", cookie));
    let answer = Wire::connect(lb.addr("web")).get("/");
    assert!(given(&answer).starts_with("stay-here="), "{answer:?}");
    let attributes = self::attributes(&answer);
    assert_eq!(attributes, ["domain=example.com", "httponly", "max-age=3600", "path=/app", "samesite=lax"]);
}

#[test]
fn under_tls_the_cookie_is_for_tls_only() {
    let authority = Authority::root("corp authority");
    let (identity, site) = (authority.issue(&["site.example"]), Site::named("a"));
    let frontend =
        Frontend::new("web").set("protocol", "https").certificates(&["site"]).set("cookie_persistence", true);
    let lb = Lb::start(Config::of(frontend.server_with("a", site.addr(), "ssl_offload: true")).pair("site", &identity));
    let mut client = Wire::secure(lb.addr("web"), "site.example", &client_config(&authority));
    let answer = client.get("/");
    assert_eq!(attributes(&answer), ["httponly", "path=/", "samesite=lax", "secure"]);
    assert!(!client.get_with("/", &[("Cookie", &given(&answer))]).has("set-cookie"));
}

#[test]
fn the_value_says_nothing_of_the_server_and_is_another_one_by_another_key() {
    let names = ["first-server", "second-server"];
    let mut values = HashSet::new();
    for key in [KEY, OTHER_KEY] {
        for name in names {
            let site = Site::named("a");
            let config = with_key(key, frontend().server(name, site.addr()));
            let cookie = given(&Wire::connect(Lb::start(config).addr("web")).get("/"));
            let value = cookie.strip_prefix("LBSERVER=").unwrap().to_owned();
            assert_eq!(value.len(), 22, "{value}");
            assert!(value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{value}");
            assert!(!value.contains("server") && !value.contains(&site.addr().port().to_string()), "{value}");
            values.insert(value);
        }
    }
    assert_eq!(values.len(), 4, "by server and by key: {values:?}");
}

#[test]
fn balancers_make_keys_of_their_own() {
    let site = Site::named("a");
    let [one, two] = [(); 2].map(|()| persistent(Frontend::new("web").server("a", site.addr())));
    let cookies = [&one, &two].map(|lb| given(&Wire::connect(lb.addr("web")).get("/")));
    assert_ne!(cookies[0], cookies[1]);
    let answer = Wire::connect(two.addr("web")).get_with("/", &[("Cookie", &cookies[0])]);
    assert_eq!(given(&answer), cookies[1], "a cookie of another key is as good as none");
}

#[test]
fn values_that_are_forged_are_balanced_anew_and_get_a_cookie() {
    let (_sites, lb) = three_servers(|frontend| frontend);
    let mut client = Wire::connect(lb.addr("web"));
    let cookies: Vec<_> = (0..3).map(|_| given(&client.get("/"))).collect();
    assert_eq!(cookies.iter().collect::<HashSet<_>>().len(), 3);
    let value = cookies[0].strip_prefix("LBSERVER=").unwrap();
    let last = if value.ends_with('A') { 'B' } else { 'A' };
    let long = "x".repeat(4000);
    let forged = ["", "a", "b", "c", "0", "1", "127.0.0.1:80", "AAAAAAAAAAAAAAAAAAAAAA", &value[..21], &long];
    let forged = forged.iter().map(|value| (*value).to_owned()).chain([
        format!("{value}A"),
        format!("{}{last}", &value[..21]),
        value.to_ascii_uppercase(),
        format!(" {value} x"),
        format!("{value}={value}"),
        format!("\"{value}"),
        "\u{e4}".repeat(11),
    ]);
    for value in forged {
        let mut servers = HashSet::new();
        for _ in 0..6 {
            let answer = client.get_with("/", &[("Cookie", &format!("LBSERVER={value}"))]);
            assert!(cookies.contains(&given(&answer)), "{value:?}");
            servers.insert(answer.text().to_owned());
        }
        assert_eq!(servers.len(), 3, "LBSERVER={value:?} is balanced as no cookie is");
    }
    let answer = client.get_with("/", &[("Cookie", &cookies[1])]);
    assert!(!answer.has("set-cookie"), "a valid one is still valid");
}

#[test]
fn the_cookie_reaches_the_server_unless_it_is_stripped() {
    for (strip, expected) in [
        (
            false,
            [
                Some("LBSERVER=@"),
                Some("a=b; LBSERVER=@"),
                Some("LBSERVER=@; a=b"),
                Some("a=b; LBSERVER=@; c=d"),
                Some("a=b"),
            ],
        ),
        (true, [None, Some("a=b"), Some("a=b"), Some("a=b; c=d"), Some("a=b")]),
    ] {
        let site = Site::named("a");
        let settings = format!("(strip: {strip})");
        let lb = persistent(Frontend::new("web").set("cookie", settings).server("a", site.addr()));
        let mut client = Wire::connect(lb.addr("web"));
        let cookie = given(&client.get("/"));
        let texts = ["@", "a=b; @", "@; a=b", "a=b; @; c=d", "a=b"];
        for (text, expected) in texts.iter().zip(expected) {
            let full = |text: &str| text.replace("LBSERVER=@", "@").replace('@', &cookie);
            client.get_with("/", &[("Cookie", &full(text))]);
            let expected = expected.map(full);
            assert_eq!(site.last().field("cookie"), expected.as_deref(), "strip: {strip}, of {text}");
        }
    }
}

#[test]
fn the_applications_cookie_is_learned_and_nothing_is_added() {
    // A new session with every answer to a request without one.
    let site = |name: &'static str| {
        Site::run(move |request| match request.field("cookie").is_some_and(|cookie| cookie.contains("APPID=")) {
            true => ok(name),
            false => {
                let fields =
                    format!("Set-Cookie: other=1\r\nSet-Cookie: APPID={name}{}; Path=/\r\n", request.target().len());
                reply(200, &fields, name)
            }
        })
    };
    let sites = ["a", "b", "c"].map(site);
    let lb = persistent(frontend_of(&sites).set("cookie", "(mode: passive(\"APPID\"))"));
    let mut client = Wire::connect(lb.addr("web"));
    let mut sessions = Vec::new();
    for index in 0..9 {
        let answer = client.get(&format!("/{}", "x".repeat(index)));
        let set: Vec<_> = answer.all("set-cookie").map(str::to_owned).collect();
        assert_eq!((set.len(), set[0].as_str()), (2, "other=1"), "as the application has said it: {set:?}");
        sessions.push((pair_of(&set[1]), answer.text().to_owned()));
    }
    for _ in 0..3 {
        for (cookie, server) in &sessions {
            let answer = client.get_with("/", &[("Cookie", cookie)]);
            assert_eq!((answer.text(), answer.has("set-cookie")), (server.as_str(), false), "{cookie}");
        }
    }
    let unknown: HashSet<_> =
        (0..6).map(|_| client.get_with("/", &[("Cookie", "APPID=of-nobody")]).text().to_owned()).collect();
    assert_eq!(unknown.len(), 3, "a session that nobody has begun is balanced: {unknown:?}");
}

#[test]
fn a_renamed_server_keeps_its_clients() {
    let (_sites, lb) = three_servers(|frontend| frontend);
    let crowd = Crowd::gather(lb.addr("web"), 30);
    lb.done(&["server", "update", "web", "a", "--rename", "z"]);
    crowd.check(lb.addr("web"), "after renaming", &[]);
    // Another server of the old name is another server.
    let other = Site::named("other");
    lb.done(&["server", "add", "web", "a", &other.addr().ip().to_string(), &other.addr().port().to_string()]);
    crowd.check(lb.addr("web"), "after another one has taken the name", &[]);
    assert!(other.seen().is_empty());
    let mut client = Wire::connect(lb.addr("web"));
    let cookies: HashSet<_> = (0..4).map(|_| given(&client.get("/"))).collect();
    assert_eq!(cookies.len(), 4, "every server has its own");
}

#[test]
fn a_server_at_another_address_keeps_its_clients() {
    let (sites, lb) = three_servers(|frontend| frontend);
    let crowd = Crowd::gather(lb.addr("web"), 30);
    let moved = Site::named("a");
    lb.done(&["server", "update", "web", "a", "--port", &moved.addr().port().to_string()]);
    let before = sites[0].seen().len();
    crowd.check(lb.addr("web"), "after the move", &[]);
    assert_eq!((sites[0].seen().len(), moved.seen().len()), (before, 10));
}

#[test]
fn a_drained_server_keeps_its_clients_and_gets_no_new_ones() {
    let (sites, lb) = three_servers(|frontend| frontend);
    let crowd = Crowd::gather(lb.addr("web"), 30);
    lb.done(&["server", "drain", "web", "a"]);
    crowd.check(lb.addr("web"), "while one is drained", &[]);
    let before = sites[0].seen().len();
    let newcomers = Crowd::gather(lb.addr("web"), 30);
    assert_eq!(sites[0].seen().len(), before, "{:?}", newcomers.servers());
    lb.done(&["server", "enable", "web", "a"]);
    crowd.check(lb.addr("web"), "when it is back", &[]);
}

#[test]
fn clients_of_a_removed_server_are_balanced_anew_once() {
    let (_sites, lb) = three_servers(|frontend| frontend);
    let mut crowd = Crowd::gather(lb.addr("web"), 30);
    lb.done(&["server", "remove", "web", "a"]);
    assert_eq!(crowd.move_on(lb.addr("web"), "a"), 10);
    crowd.check(lb.addr("web"), "with their new cookies", &[]);
}

#[test]
fn clients_of_a_disabled_server_are_balanced_anew_once() {
    let (_sites, lb) = three_servers(|frontend| frontend);
    let mut crowd = Crowd::gather(lb.addr("web"), 30);
    lb.done(&["server", "disable", "web", "b"]);
    assert_eq!(crowd.move_on(lb.addr("web"), "b"), 10);
    lb.done(&["server", "enable", "web", "b"]);
    crowd.check(lb.addr("web"), "where they are now", &[]);
}

#[test]
fn clients_of_a_server_that_is_down_are_balanced_anew_once() {
    let (sites, lb) = three_servers(|frontend| frontend.check(CHECK));
    let mut crowd = Crowd::gather(lb.addr("web"), 30);
    let [dead, _alive @ ..] = sites;
    dead.kill();
    wait::until("it is known that the server is down", || health(&lb.server("web", "a")) == "down");
    assert_eq!(crowd.move_on(lb.addr("web"), "a"), 10);
    crowd.check(lb.addr("web"), "with their new cookies", &[]);
}

#[test]
fn a_client_whose_server_does_not_accept_is_served_by_another() {
    let (sites, lb) = three_servers(|frontend| frontend);
    let mut crowd = Crowd::gather(lb.addr("web"), 30);
    let [dead, _alive @ ..] = sites;
    dead.kill();
    assert_eq!(crowd.move_on(lb.addr("web"), "a"), 10);
}

#[test]
fn standbys_get_clients_only_while_they_are_needed() {
    let addr = free_addr();
    let (main, standby) = (Site::named_at(&addr.to_string(), "main"), Site::named("standby"));
    let lb = persistent(Frontend::new("web").check(CHECK).server("a", addr).passive("b", standby.addr()));
    wait::until("the server is up", || health(&lb.server("web", "a")) == "up");
    let mut crowd = Crowd::gather(lb.addr("web"), 10);
    assert_eq!(crowd.servers(), HashSet::from(["main".to_owned()]));
    main.kill();
    wait::until("it is known that the server is down", || health(&lb.server("web", "a")) == "down");
    assert_eq!(crowd.move_on(lb.addr("web"), "main"), 10);
    crowd.check(lb.addr("web"), "on the standby", &[]);
    let _main = Site::named_at(&addr.to_string(), "main");
    wait::until("the server serves again", || Wire::connect(lb.addr("web")).get("/").text() == "main");
    assert_eq!(crowd.move_on(lb.addr("web"), "standby"), 10, "a standby keeps nobody");
}

#[test]
fn balancers_with_one_key_understand_each_others_cookies() {
    let sites = ["a", "b", "c"].map(Site::named);
    let [one, two] = [(); 2].map(|()| {
        Lb::start(with_key(KEY, frontend_of(&sites).set("protocol", "http").set("cookie_persistence", true)))
    });
    let crowd = Crowd::gather(one.addr("web"), 30);
    crowd.check(two.addr("web"), "at the other balancer", &[]);
}

#[test]
fn the_key_of_one_balancer_can_be_given_to_another() {
    let sites = ["a", "b", "c"].map(Site::named);
    let one = persistent(frontend_of(&sites));
    let crowd = Crowd::gather(one.addr("web"), 30);
    let key = one.json(&["persistence", "key"]);
    let key = key.as_str().or_else(|| key["key"].as_str()).expect("the key is text").to_owned();
    assert_eq!(key.len(), 64, "32 bytes");
    let two = Lb::start(with_key(&key, frontend_of(&sites).set("protocol", "http").set("cookie_persistence", true)));
    crowd.check(two.addr("web"), "at the other balancer", &[]);
}

#[test]
fn the_key_stays_secret() {
    let (_sites, lb) = three_servers(|frontend| frontend);
    Crowd::gather(lb.addr("web"), 10);
    lb.done(&["frontend", "update", "web", "--cookie", "strip=true"]);
    let key = lb.json(&["persistence", "key"]);
    let key = key.as_str().or_else(|| key["key"].as_str()).expect("the key is text").to_owned();
    for (what, text) in [
        ("the log", lb.log().text()),
        ("the status", lb.status().to_string()),
        ("the history", lb.json(&["history"]).to_string()),
    ] {
        assert!(!text.contains(&key), "{what} has the key");
    }
    let state = fs::metadata(lb.place().state()).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&state.permissions()) & 0o777, 0o600);
}

#[test]
fn a_restart_keeps_clients_on_their_servers() {
    let (_sites, lb) = three_servers(|frontend| frontend);
    let crowd = Crowd::gather(lb.addr("web"), 30);
    let lb = lb.kill().start();
    crowd.check(lb.addr("web"), "after a crash and a restart", &[]);
    lb.done(&["server", "update", "web", "a", "--weight", "5"]);
    let lb = lb.kill().start();
    crowd.check(lb.addr("web"), "after another one", &[]);
}

#[test]
fn a_successor_keeps_clients_on_their_servers() {
    let (_sites, lb) = three_servers(|frontend| frontend);
    let crowd = Crowd::gather(lb.addr("web"), 30);
    let addr = lb.addr("web");
    let successor = lb.place().start_successor();
    crowd.check(addr, "after a take-over", &[]);
    drop(successor);
}

#[test]
fn persistence_is_switched_live() {
    let sites = ["a", "b", "c"].map(Site::named);
    let lb = Lb::start(Config::of(frontend_of(&sites).set("protocol", "http")).set("shards", 1));
    let mut client = Wire::connect(lb.addr("web"));
    assert!(!client.get("/").has("set-cookie"), "off by default");
    lb.done(&["frontend", "update", "web", "--cookie-persistence", "true"]);
    let answer = client.get("/");
    let (server, cookie) = (answer.text().to_owned(), given(&answer));
    let asked = |client: &mut Wire| {
        (0..6).map(|_| client.get_with("/", &[("Cookie", &cookie)]).text().to_owned()).collect::<HashSet<_>>()
    };
    assert_eq!(asked(&mut client), HashSet::from([server.clone()]));
    lb.done(&["frontend", "update", "web", "--cookie-persistence", "false"]);
    assert_eq!(asked(&mut client).len(), 3, "balanced by the policy alone");
    assert!(!client.get("/").has("set-cookie"));
    lb.done(&["frontend", "update", "web", "--cookie-persistence", "true"]);
    assert_eq!(asked(&mut client), HashSet::from([server]));
}

#[test]
fn on_a_tcp_frontend_persistence_by_cookies_is_refused_with_the_reason() {
    let site = Site::named("a");
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", site.addr())));
    let reason = lb.refused(&["frontend", "update", "web", "--cookie-persistence", "true"]);
    assert!(reason.contains("protocol: http"), "{reason}");
    assert_eq!(
        lb.refuse("UpdateFrontend(name:\"web\",cookie_persistence:true)").field.as_deref(),
        Some("cookie_persistence")
    );
    lb.done(&["frontend", "update", "web", "--protocol", "http", "--cookie-persistence", "true"]);
    let reason = lb.refused(&["frontend", "update", "web", "--protocol", "tcp"]);
    assert!(reason.contains("cookie_persistence") || reason.contains("protocol: http"), "{reason}");

    let config = Config::of(Frontend::new("web").set("cookie_persistence", true).server("a", site.addr()));
    let exit = Place::new(config).fail();
    assert!(exit.log.contains("protocol: http"), "{}", exit.log);
}

#[test]
fn every_answer_to_a_new_client_has_the_cookie() {
    let site = Site::run(|request| match request.target() {
        "/204" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "/304" => "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(),
        "/404" => reply(404, "", "gone"),
        "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "/hints" => format!("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n{}", ok("x")),
        _ => "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end".to_owned(),
    });
    let lb = persistent(Frontend::new("web").server("a", site.addr()));
    for target in ["/204", "/304", "/404", "/chunked", "/hints", "/until-close"] {
        let answer = Wire::connect(lb.addr("web")).get(target);
        assert_eq!(answer.all("set-cookie").count(), 1, "{target}: {answer:?}");
    }
    let head = Wire::connect(lb.addr("web")).ask(&request("HEAD", "/404", &[], ""));
    assert!(head.has("set-cookie"), "{head:?}");
}

#[test]
fn pipelined_answers_have_each_the_cookie_of_its_server() {
    let (_sites, lb) = three_servers(|frontend| frontend);
    let mut client = Wire::connect(lb.addr("web"));
    let pipelined: Vec<_> = (0..6).map(|_| request("GET", "/", &[], "")).collect();
    client.send(pipelined.concat());
    let cookies: HashSet<_> = (0..6).map(|_| given(&client.answer("GET"))).collect();
    assert_eq!(cookies.len(), 3, "each answer has the cookie of the server that gave it");
}

#[test]
fn requests_of_one_connection_go_where_each_ones_cookie_says() {
    let (_sites, lb) = three_servers(|frontend| frontend);
    let crowd = Crowd::gather(lb.addr("web"), 30);
    let mut client = Wire::connect(lb.addr("web"));
    let requests: Vec<_> =
        crowd.0.iter().map(|member| request("GET", "/", &[("Cookie", &member.cookie)], "")).collect();
    client.send(requests.concat());
    for member in &crowd.0 {
        assert_eq!(client.answer("GET").text(), member.server);
    }
}

#[test]
fn ten_thousand_sessions_stay_over_everything_that_happens() {
    const SESSIONS: usize = 10_000;
    let mut sites: Vec<_> = ["a", "b", "c", "d", "e"].map(Site::named).into_iter().collect();
    let names = ["a", "b", "c", "d", "e"].iter().zip(&sites);
    let frontend = names.fold(Frontend::new("web").check(CHECK), |all, (name, site)| all.server(name, site.addr()));
    let config = Config::of(frontend.set("protocol", "http").set("cookie_persistence", true)).set("shards", 2);
    let lb = Lb::start(config);
    let mut crowd = Crowd::gather(lb.addr("web"), SESSIONS);
    assert_eq!(crowd.servers().len(), 5);
    let addr = || lb.addr("web");

    let added = Site::named("f");
    lb.done(&["server", "add", "web", "f", "127.0.0.1", &added.addr().port().to_string()]);
    crowd.check(addr(), "after one was added", &[]);
    lb.done(&["server", "update", "web", "a", "--weight", "100"]);
    crowd.check(addr(), "after a weight was changed", &[]);
    lb.done(&["frontend", "update", "web", "--policy", "least_connections"]);
    crowd.check(addr(), "after the policy was changed", &[]);
    let moved = Site::named("b");
    lb.done(&["server", "update", "web", "b", "--port", &moved.addr().port().to_string(), "--rename", "better"]);
    crowd.check(addr(), "after one was moved and renamed", &[]);
    lb.done(&["server", "drain", "web", "c"]);
    crowd.check(addr(), "after one was drained", &[]);

    sites.pop().unwrap().kill();
    wait::until("it is known that the server is down", || health(&lb.server("web", "e")) == "down");
    let moved_on = crowd.move_on(addr(), "e");
    assert!(moved_on > SESSIONS / 10, "{moved_on} of {SESSIONS} were on the server that failed");
    crowd.check(addr(), "after one has failed", &[]);
    lb.done(&["server", "remove", "web", "d"]);
    assert!(crowd.move_on(addr(), "d") > SESSIONS / 10);

    let lb = lb.kill().start();
    crowd.check(lb.addr("web"), "after a crash and a restart", &[]);
}

/// Clients that have a cookie each.
struct Crowd(Vec<Member>);

struct Member {
    cookie: String,
    /// Who answers it.
    server: String,
}

impl Crowd {
    /// New clients.
    fn gather(addr: SocketAddr, count: usize) -> Self {
        let mut members: Vec<_> = (0..count).map(|_| Member { cookie: String::new(), server: String::new() }).collect();
        each(addr, &mut members, |client, member| {
            let answer = client.get("/");
            *member = Member { cookie: given(&answer), server: answer.text().to_owned() };
        });
        Self(members)
    }

    fn servers(&self) -> HashSet<String> {
        self.0.iter().map(|member| member.server.clone()).collect()
    }

    /// Everybody comes again and must be where they were, and get no other cookie.
    fn check(&self, addr: SocketAddr, when: &str, but: &[&str]) {
        let mut members: Vec<_> = self.0.iter().filter(|member| !but.contains(&member.server.as_str())).collect();
        each(addr, &mut members, |client, member| {
            let answer = client.get_with("/", &[("Cookie", &member.cookie)]);
            assert_eq!((answer.text(), answer.field("set-cookie")), (member.server.as_str(), None), "{when}");
            if answer.connection_says("close") {
                *client = Wire::connect(addr);
            }
        });
    }

    /// Everybody comes again: those of server `gone` must get another one and its cookie, all others are where they were.
    /// Gives the number of those who had to move.
    fn move_on(&mut self, addr: SocketAddr, gone: &str) -> usize {
        self.check(addr, &format!("without {gone}"), &[gone]);
        let mut moving: Vec<_> = self.0.iter_mut().filter(|member| member.server == gone).collect();
        each(addr, &mut moving, |client, member| {
            let answer = client.get_with("/", &[("Cookie", &member.cookie)]);
            assert_ne!(answer.text(), gone);
            let cookie = given(&answer);
            assert_ne!(cookie, member.cookie);
            **member = Member { cookie, server: answer.text().to_owned() };
        });
        moving.len()
    }
}

/// Something for each, in a few threads with a connection each.
fn each<T: Send>(addr: SocketAddr, members: &mut [T], act: impl Fn(&mut Wire, &mut T) + Sync) {
    const THREADS: usize = 8;
    let (act, share) = (&act, members.len().div_ceil(THREADS).max(1));
    // Who are few come one after the other, so that a round robin is exact.
    let share = if members.len() < 100 { members.len().max(1) } else { share };
    thread::scope(|scope| {
        for part in members.chunks_mut(share) {
            scope.spawn(move || {
                let mut client = Wire::connect(addr);
                part.iter_mut().for_each(|member| act(&mut client, member));
            });
        }
    });
}

/// The cookie that an answer gives, as a client sends it back.
fn given(answer: &Message) -> String {
    let set: Vec<_> = answer.all("set-cookie").collect();
    let [only] = set[..] else { panic!("one cookie is given: {answer:?}") };
    pair_of(only)
}

fn pair_of(set_cookie: &str) -> String {
    set_cookie.split(';').next().unwrap().to_owned()
}

/// The attributes of the cookie that an answer gives, in the order of the alphabet.
fn attributes(answer: &Message) -> Vec<String> {
    let set = answer.field("set-cookie").expect("a cookie is given");
    let mut attributes: Vec<_> = set.split("; ").skip(1).map(str::to_ascii_lowercase).collect();
    attributes.sort();
    attributes
}

fn three_servers(settings: impl FnOnce(Frontend) -> Frontend) -> ([Site; 3], Lb) {
    let sites = ["a", "b", "c"].map(Site::named);
    let lb = persistent(settings(frontend_of(&sites)));
    (sites, lb)
}

fn frontend_of(sites: &[Site; 3]) -> Frontend {
    let names = ["a", "b", "c"].iter().zip(sites);
    names.fold(Frontend::new("web"), |all, (name, site)| all.server(name, site.addr()))
}

fn frontend() -> Frontend {
    Frontend::new("web").set("protocol", "http").set("cookie_persistence", true)
}

/// One shard, so that a round robin is exact.
fn persistent(frontend: Frontend) -> Lb {
    Lb::start(Config::of(frontend.set("protocol", "http").set("cookie_persistence", true)).set("shards", 1))
}

fn with_key(key: &str, frontend: Frontend) -> Config {
    Config::of(frontend).set("persistence_key", format!("\"{key}\"")).set("shards", 1)
}

const CHECK: &str = "(kind: tcp, interval: \"100ms\")";
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const OTHER_KEY: &str = "f00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
