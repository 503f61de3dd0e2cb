//! What a balancer may change about a message and what it must: fields that are for one connection only go no further, who
//! the client is is told, and everything else arrives as it was.
#![forbid(unsafe_code)]

use tests::client::connect;
use tests::http::{Message, Site, Wire, ok, request};
use tests::{Authority, Config, Frontend, Lb};

#[test]
fn fields_of_one_connection_go_no_further_towards_the_server() {
    let site = Site::named("a");
    let (_lb, mut client) = client_of(&site);
    for option in ["X-Secret", "x-secret, Close-Not", "keep-alive,X-Secret", " ,, X-Secret ,"] {
        let fields = [
            ("Connection", option),
            ("X-Secret", "for you only"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("Upgrade", "h2c"),
            ("X-Kept", "yes"),
        ];
        assert_eq!(client.get_with("/", &fields).text(), "a");
        let seen = site.last();
        for name in ["x-secret", "keep-alive", "proxy-connection", "upgrade"] {
            assert!(!seen.has(name), "Connection: {option} let {name} through: {seen:?}");
        }
        assert!(!seen.connection_says("x-secret"), "{seen:?}");
        assert_eq!(seen.field("x-kept"), Some("yes"));
    }
}

#[test]
fn fields_of_one_connection_go_no_further_towards_the_client() {
    let site = Site::run(|_| {
        "HTTP/1.1 200 OK\r\nConnection: X-Secret, keep-alive\r\nX-Secret: for you only\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\nX-Kept: yes\r\nContent-Length: 1\r\n\r\na"
    });
    let (_lb, mut client) = client_of(&site);
    for _ in 0..3 {
        let answer = client.get("/");
        for name in ["x-secret", "keep-alive", "proxy-connection", "upgrade"] {
            assert!(!answer.has(name), "{name} came through: {answer:?}");
        }
        assert_eq!((answer.field("x-kept"), answer.text()), (Some("yes"), "a"));
    }
}

#[test]
fn a_client_cannot_take_away_fields_that_matter_by_naming_them_in_connection() {
    let site = Site::run(|request| ok(request.text()));
    let (_lb, mut client) = client_of(&site);
    let named = "Host, Cookie, Content-Length, Transfer-Encoding, Authorization, X-Forwarded-For, X-Forwarded-Proto, keep-alive";
    let fields = [("Connection", named), ("Cookie", "a=b"), ("Authorization", "Basic eDp5")];
    assert_eq!(client.ask(&request("POST", "/", &fields, "the whole body")).text(), "the whole body");
    let seen = site.last();
    for (name, value) in [("host", "site.example"), ("cookie", "a=b"), ("x-forwarded-for", "127.0.0.1")] {
        assert_eq!(seen.joined(name), value, "{seen:?}");
    }
    assert_eq!(seen.field("authorization"), Some("Basic eDp5"));
}

#[test]
fn everything_else_arrives_as_it_was_and_in_its_order() {
    let site = Site::run(|_| {
        "HTTP/1.1 203 Some reason of ours\r\nSet-Cookie: a=1\r\nx-lower: one\r\nX-Lower: two\r\nSet-Cookie: b=2\r\n\
         X-Empty:\r\nX-Bytes: \u{e4}\u{20ac}\r\nContent-Length: 2\r\n\r\nok"
    });
    let (_lb, mut client) = client_of(&site);
    let fields = [
        ("x-lower", "one"),
        ("X-LOWER", "two"),
        ("X-Empty", ""),
        ("X-Bytes", "\u{e4}\u{20ac}"),
        ("Cookie", "a=1; b=2"),
    ];
    let answer = client.ask(&request("GET", "/path/%7Efile;p=1?q=a&r[]=%20", &fields, ""));

    let seen = site.last();
    assert_eq!(seen.line, "GET /path/%7Efile;p=1?q=a&r[]=%20 HTTP/1.1");
    assert_eq!(seen.field("host"), Some("site.example"));
    assert_eq!(kept(&seen, &["host", "x-forwarded-for", "x-forwarded-proto", "connection"]), owned(&fields));
    assert_eq!(answer.line, "HTTP/1.1 203 Some reason of ours");
    let expected = [
        ("Set-Cookie", "a=1"),
        ("x-lower", "one"),
        ("X-Lower", "two"),
        ("Set-Cookie", "b=2"),
        ("X-Empty", ""),
        ("X-Bytes", "\u{e4}\u{20ac}"),
    ];
    assert_eq!(kept(&answer, &["content-length", "connection"]), owned(&expected));
}

#[test]
fn a_response_without_a_reason_is_one() {
    let site = Site::run(|_| "HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\na");
    let (_lb, mut client) = client_of(&site);
    let answer = client.get("/");
    assert_eq!((answer.status(), answer.text()), (200, "a"));
}

#[test]
fn a_target_with_an_authority_goes_to_a_server_that_knows_both_forms() {
    let site = Site::named("a");
    let (_lb, mut client) = client_of(&site);
    assert_eq!(client.ask("GET http://site.example/page?q HTTP/1.1\r\nHost: site.example\r\n\r\n").text(), "a");
    let seen = site.last();
    assert!(["/page?q", "http://site.example/page?q"].contains(&seen.target()), "{seen:?}");
    assert_eq!(seen.field("host"), Some("site.example"));
}

#[test]
fn the_server_is_told_who_the_client_is_and_what_it_spoke() {
    let site = Site::named("a");
    let (_lb, mut client) = client_of(&site);
    client.get("/");
    let seen = site.last();
    assert_eq!(
        (seen.joined("x-forwarded-for").as_str(), seen.joined("x-forwarded-proto").as_str()),
        ("127.0.0.1", "http")
    );
    assert!(!seen.has("forwarded"));
    client.get_with("/", &[("X-Forwarded-For", "192.0.2.7"), ("X-Forwarded-For", "192.0.2.8")]);
    assert_eq!(site.last().joined("x-forwarded-for"), "192.0.2.7, 192.0.2.8, 127.0.0.1", "added behind what was there");
}

#[test]
fn what_was_spoken_is_told_under_tls() {
    let authority = Authority::root("corp authority");
    let (identity, site) = (authority.issue(&["site.example"]), Site::named("a"));
    let frontend = Frontend::new("web").set("protocol", "https").certificates(&["site"]);
    let frontend = frontend.set("http", "(forwarded: true)").server_with("a", site.addr(), "ssl_offload: true");
    let lb = Lb::start(Config::of(frontend).pair("site", &identity));
    let mut client = Wire::secure(lb.addr("web"), "site.example", &tests::channel::client_config(&authority));
    client.get("/");
    let seen = site.last();
    assert_eq!(seen.joined("x-forwarded-proto"), "https");
    assert!(parameters(&seen).contains(&"proto=https".to_owned()), "{seen:?}");
}

#[test]
fn a_client_cannot_say_itself_what_it_spoke() {
    let site = Site::named("a");
    let (_lb, mut client) = client_of(&site);
    client.get_with("/", &[("X-Forwarded-Proto", "https")]);
    let seen = site.last();
    assert_eq!(seen.all("x-forwarded-proto").last(), Some("http"), "{seen:?}");
}

#[test]
fn forwarded_is_told_as_rfc_7239_has_it() {
    for (bind, node) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "\"[::1]\"")] {
        let site = Site::named("a");
        let frontend = Frontend::new("web").bind(bind).set("http", "(x_forwarded: false, forwarded: true)");
        let lb = http(frontend.server("a", site.addr()));
        let mut client = Wire::connect(lb.addr("web"));
        client.get("/");
        let seen = site.last();
        let parameters = parameters(&seen);
        assert!(parameters.contains(&format!("for={node}")), "{seen:?}");
        assert!(parameters.contains(&"proto=http".to_owned()), "{seen:?}");
        assert!(!seen.has("x-forwarded-for") && !seen.has("x-forwarded-proto"), "{seen:?}");
        client.get_with("/", &[("Forwarded", "for=192.0.2.7")]);
        let joined = site.last().joined("forwarded");
        assert!(joined.starts_with("for=192.0.2.7, ") && joined.contains(&format!("for={node}")), "{joined}");
    }
}

#[test]
fn nothing_is_told_where_it_is_switched_off() {
    let site = Site::named("a");
    let lb = http(Frontend::new("web").set("http", "(x_forwarded: false)").server("a", site.addr()));
    Wire::connect(lb.addr("web")).get_with("/", &[("X-Kept", "yes")]);
    let seen = site.last();
    assert!(!seen.fields.iter().any(|(name, _)| name.to_ascii_lowercase().contains("forwarded")), "{seen:?}");
    assert_eq!(seen.field("x-kept"), Some("yes"));
}

#[test]
fn behind_a_listed_proxy_the_client_is_who_its_header_says() {
    let site = Site::named("a");
    let frontend = Frontend::new("web").set("accept_proxy_from", "[\"127.0.0.0/8\"]").server("a", site.addr());
    let lb = http(frontend);
    for source in ["192.0.2.77", "198.51.100.3"] {
        let mut stream = connect(lb.addr("web"));
        std::io::Write::write_all(&mut stream, format!("PROXY TCP4 {source} 192.0.2.1 1234 80\r\n").as_bytes())
            .unwrap();
        let mut client = Wire::over(stream);
        client.get("/1");
        client.get("/2");
        assert_eq!(site.last().joined("x-forwarded-for"), source, "also over a connection that another client made");
    }
}

#[test]
fn a_server_that_wants_a_proxy_header_gets_requests_of_the_client_that_it_names_only() {
    let site = Site::play(|wire, visit| {
        let mut line = String::new();
        std::io::BufRead::read_line(wire.reader(), &mut line).unwrap();
        while let Ok(Some(request)) = wire.request() {
            visit.note(&request);
            wire.send(ok(line.split(' ').nth(2).unwrap()));
        }
    });
    let frontend = Frontend::new("web").set("accept_proxy_from", "[\"127.0.0.0/8\"]");
    let lb = http(frontend.server_with("a", site.addr(), "send_proxy: v1"));
    for source in ["192.0.2.77", "198.51.100.3", "192.0.2.77"] {
        let mut stream = connect(lb.addr("web"));
        std::io::Write::write_all(&mut stream, format!("PROXY TCP4 {source} 192.0.2.1 1234 80\r\n").as_bytes())
            .unwrap();
        let mut client = Wire::over(stream);
        for _ in 0..2 {
            assert_eq!(client.get("/").text(), source, "no connection is shared by clients where it says who they are");
        }
    }
}

/// The fields without those of some names.
fn kept(message: &Message, without: &[&str]) -> Vec<(String, String)> {
    let is_without = |name: &String| without.iter().any(|other| other.eq_ignore_ascii_case(name));
    message.fields.iter().filter(|(name, _)| !is_without(name)).cloned().collect()
}

fn owned(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The parameters of the last element of `Forwarded`.
fn parameters(message: &Message) -> Vec<String> {
    let joined = message.joined("forwarded");
    let last = joined.rsplit(',').next().unwrap_or_default();
    last.split(';').map(|parameter| parameter.trim().to_ascii_lowercase()).collect()
}

fn client_of(site: &Site) -> (Lb, Wire) {
    let lb = http(Frontend::new("web").server("a", site.addr()));
    let client = Wire::connect(lb.addr("web"));
    (lb, client)
}

fn http(frontend: Frontend) -> Lb {
    Lb::start(Config::of(frontend.set("protocol", "http")).set("shards", 1))
}
