//! The console's HTTP API: what each route does, who is let in and who is not, what a hostile client can't do, and that
//! all of it is as the OpenAPI document says.
#![forbid(unsafe_code)]

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::ClientConfig;
use serde_json::{Value, json};
use tests::channel::client_config;
use tests::http::{Message, Wire};
use tests::{Admin, Authority, Backend, Config, Frontend, Lb, Place, client, text, wait};

const FRONTENDS: &str = "/api/v1/frontends";
const SERVERS: &str = "/api/v1/frontends/web/servers";
const SESSION: &str = "/api/v1/session";
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// What is asked of a console.
#[derive(Clone, Copy)]
struct Ask<'a> {
    method: &'a str,
    target: &'a str,
    fields: &'a [(&'a str, &'a str)],
    body: &'a str,
}

impl<'a> Ask<'a> {
    fn new(method: &'a str, target: &'a str) -> Self {
        Self { method, target, fields: &[], body: "" }
    }

    fn with(self, fields: &'a [(&'a str, &'a str)]) -> Self {
        Self { fields, ..self }
    }

    fn body(self, body: &'a str) -> Self {
        Self { body, ..self }
    }

    /// The request's text. A field that is given takes the place of one that would be there by itself.
    fn text(self, host: &str) -> String {
        let Self { method, target, fields, body } = self;
        let length = body.len().to_string();
        let own = [("Host", host), ("Content-Length", &length), JSON];
        let is_given = |name: &str| fields.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
        let own = own.iter().filter(|(name, _)| !is_given(name) && (*name == "Host" || !body.is_empty()));
        let lines = own.chain(fields).map(|(name, value)| format!("{name}: {value}\r\n"));
        format!("{method} {target} HTTP/1.1\r\n{}\r\n{body}", lines.collect::<String>())
    }
}

/// A console, and the token that opens it.
struct Console {
    lb: Lb,
    addr: SocketAddr,
    token: String,
}

impl Console {
    fn start(config: Config) -> Self {
        Self::of(Lb::start(config.set("console", "\"127.0.0.1:0\"")))
    }

    fn of(lb: Lb) -> Self {
        let (addr, token) = (console_addr(&lb), lb.done(&["console", "token"]).trim_end().to_owned());
        Self { lb, addr, token }
    }

    fn ask(&self, ask: Ask<'_>) -> Message {
        Wire::connect(self.addr).ask(&ask.text(&self.addr.to_string()))
    }

    /// Asks as who has the token.
    fn known(&self, method: &str, target: &str, body: &str) -> (u16, Value) {
        let said = format!("Bearer {}", self.token);
        let answer = self.ask(Ask::new(method, target).with(&[("Authorization", &said)]).body(body));
        (answer.status(), read_json(&answer))
    }

    /// Asks as who has the token, for what must be confirmed.
    fn done(&self, method: &str, target: &str, body: &str) -> Value {
        let (status, answer) = self.known(method, target, body);
        assert_eq!(status, 200, "{method} {target} {body}: {answer}");
        answer
    }

    /// Logs in: the cookie and the CSRF token of the session.
    fn log_in(&self) -> (String, String) {
        let body = json!({"token": self.token}).to_string();
        session_of(&self.ask(Ask::new("POST", SESSION).body(&body)))
    }
}

fn console_addr(lb: &Lb) -> SocketAddr {
    let line = lb.log().wait_for("console on http").expect("there is a console");
    line.rsplit_once("://").unwrap().1.trim_end_matches('/').parse().unwrap()
}

fn session_of(answer: &Message) -> (String, String) {
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let cookie = answer.field("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    (cookie, read_json(answer)["csrf"].as_str().unwrap().to_owned())
}

fn read_json(answer: &Message) -> Value {
    assert_eq!(answer.field("content-type"), Some("application/json"), "{}", answer.text());
    serde_json::from_str(answer.text()).unwrap()
}

fn web() -> Frontend {
    Frontend::new("web")
}

/// A frontend `web` with a server `app` that says its name.
fn with_server() -> (Console, Backend) {
    let backend = Backend::who("app");
    (Console::start(Config::of(web().server("app", backend.addr()))), backend)
}

#[test]
fn frontends_and_servers_are_added_shown_changed_and_removed() {
    let (console, backend) = with_server();
    let names = |list: &Value, of: &str| -> Vec<Value> {
        list.as_array().unwrap().iter().map(|one| one[of]["name"].clone()).collect()
    };
    let added = console.done("POST", FRONTENDS, r#"{"name":"api","bind":"127.0.0.9:0","policy":"least_connections"}"#);
    assert_eq!((&added["revision"], &added["warnings"]), (&json!(2), &json!([])), "{added}");
    assert_eq!(names(&console.done("GET", FRONTENDS, ""), "frontend"), ["web", "api"]);
    let body = format!(r#"{{"name":"one","ip":"127.0.0.1","port":{},"passive":true}}"#, backend.addr().port());
    let added = console.done("POST", "/api/v1/frontends/api/servers?probe=true", &body);
    let expected = json!({"connections_on_replaced": 0, "durable": true, "message": "server one added to api", "revision": 3,
        "shards": console.lb.status()["shards"].as_array().unwrap().len(), "warnings": ["frontend api has no active server: passive ones serve it"]});
    assert_eq!(added, expected);
    console.done("PATCH", "/api/v1/frontends/api/servers/one", r#"{"rename":"two","weight":7,"passive":false}"#);
    let two = console.done("GET", "/api/v1/frontends/api/servers/two", "");
    assert_eq!((&two["server"]["weight"], &two["server"]["passive"]), (&json!(7), &Value::Null), "{two}");
    assert_eq!(names(&console.done("GET", "/api/v1/frontends/api/servers", ""), "server"), ["two"]);
    for (way, mode) in [("drain", "drain"), ("enable", ""), ("disable", "disabled"), ("enable", "")] {
        console.done("POST", &format!("/api/v1/frontends/api/servers/two/{way}"), "");
        let server = console.lb.server("api", "two")["server"].clone();
        let modes = ["drain", "disabled"].map(|mode| server[mode] == true);
        assert_eq!(modes, ["drain", "disabled"].map(|of| of == mode), "{way}: {server}");
    }
    console.done("POST", "/api/v1/frontends/api/servers/two/drain", r#"{"within":"30s"}"#);
    console.done("DELETE", "/api/v1/frontends/api/servers/two", "");
    console.done("PATCH", "/api/v1/frontends/api", r#"{"rename":"other","max_connections":5}"#);
    let other = console.done("GET", "/api/v1/frontends/other", "");
    assert_eq!((&other["frontend"]["max_connections"], &other["servers"]), (&json!(5), &json!([])));
    console.done("DELETE", "/api/v1/frontends/other", "");
    assert_eq!(names(&console.done("GET", FRONTENDS, ""), "frontend"), ["web"]);
    let status = console.done("GET", "/api/v1/status", "");
    assert_eq!(status["revision"], console.lb.revision());
    assert_eq!(status["frontends"][0]["servers"], console.lb.frontend("web")["servers"]);
}

#[test]
fn certificates_are_added_shown_changed_and_removed_and_no_key_is_ever_shown() {
    let (console, _backend) = with_server();
    let ca = Authority::root("ca");
    let (one, two) = (ca.issue(&["one.example"]), ca.issue(&["two.example"]));
    let pair = |name: Value, identity: &tests::Identity| {
        let mut pair = json!({"chain": identity.chain(), "key": identity.key()});
        if name.is_string() {
            pair["name"] = name;
        }
        pair.to_string()
    };
    console.done("POST", "/api/v1/certificates", &pair(json!("site"), &one));
    console.done("POST", "/api/v1/certificates", &json!({"name": "ca", "bundle": ca.pem()}).to_string());
    let shown = console.done("GET", "/api/v1/certificates", "");
    assert_eq!((&shown[0]["names"], &shown[1]["kind"]), (&json!(["one.example"]), &json!("bundle")));
    console.done("PUT", "/api/v1/certificates/site", &pair(Value::Null, &two));
    assert_eq!(console.done("GET", "/api/v1/certificates/site", "")["names"], json!(["two.example"]));
    let history = console.done("GET", "/api/v1/history", "");
    assert_eq!(history.as_array().unwrap().len(), 3);
    assert!(!history.to_string().contains("PRIVATE KEY"));
    console.done("DELETE", "/api/v1/certificates/site", "");
    assert_eq!(console.known("GET", "/api/v1/certificates/site", "").0, 404);
}

#[test]
fn several_changes_are_one_revision_and_are_taken_back_together() {
    let (console, _backend) = with_server();
    let changes = r#"[{"DrainServer":{"frontend":"web","name":"app"}},
        {"AddServer":{"frontend":"web","server":{"name":"b","ip":"127.0.0.1","port":1}}}]"#;
    let body = format!(r#"{{"changes":{changes}}}"#);
    let proposed = console.done("POST", "/api/v1/transaction?dry_run=true", &body);
    assert_eq!((&proposed["revision"], proposed["changes"].as_array().unwrap().len()), (&json!(1), 2), "{proposed}");
    assert_eq!(console.lb.revision(), 1);
    let applied = console.done("POST", "/api/v1/transaction?if_revision=1", &body);
    assert_eq!(applied["revision"], 2);
    assert_eq!(console.lb.server_names("web"), ["app", "b"]);
    let half = r#"{"changes":[{"RemoveServer":{"frontend":"web","name":"b"}},{"RemoveFrontend":{"name":"nobody"}}]}"#;
    assert_eq!(console.known("POST", "/api/v1/transaction", half).0, 422);
    assert_eq!(console.lb.server_names("web"), ["app", "b"]);
    console.done("POST", "/api/v1/undo", r#"{"revision":2}"#);
    assert_eq!(console.lb.server_names("web"), ["app"]);
    console.done("POST", "/api/v1/undo", "");
    assert_eq!(console.lb.server_names("web"), ["app", "b"]);
}

#[test]
fn a_refusal_has_its_status_and_field_and_changes_nothing() {
    let (console, _backend) = with_server();
    let before = (console.lb.revision(), console.lb.settings());
    let good = r#"{"name":"b","ip":"127.0.0.1","port":80}"#;
    let app = "/api/v1/frontends/web/servers/app";
    let cases = [
        ("POST", SERVERS, r#"{"name":"b","ip":"127.0.0.1","port":70000}"#, 422, "port"),
        ("POST", SERVERS, r#"{"name":"b","ip":"127.0.0.1","port":"80"}"#, 422, "port"),
        ("POST", SERVERS, r#"{"name":"b","ip":"127.0.0.1"}"#, 422, "port"),
        ("POST", SERVERS, r#"{"name":"b","ip":"127.0.0.1","port":80,"port":81}"#, 422, "port"),
        ("POST", SERVERS, r#"{"name":"b","ip":"here","port":80}"#, 422, "ip"),
        ("POST", SERVERS, r#"{"name":"b c","ip":"127.0.0.1","port":80}"#, 422, "name"),
        ("POST", SERVERS, r#"{"name":"app","ip":"127.0.0.1","port":80}"#, 422, "name"),
        ("POST", SERVERS, r#"{"name":"b","ip":"127.0.0.1","port":80,"prt":1}"#, 422, "prt"),
        (
            "POST",
            SERVERS,
            r#"{"name":"b","ip":"127.0.0.1","port":80,"server_certificate":"ca"}"#,
            422,
            "server_certificate",
        ),
        ("POST", SERVERS, r#"{"name":"b","ip":"127.0.0.1","port":80,"ssl_offload":true}"#, 422, "ssl_offload"),
        ("POST", FRONTENDS, r#"{"name":"new","bind":"somewhere"}"#, 422, "bind"),
        ("POST", "/api/v1/certificates", r#"{"name":"a","chain":"x","key":"y"}"#, 422, "chain"),
        ("PATCH", app, r#"{"name":"b"}"#, 422, "name"),
        ("PATCH", app, r#"{"weight":null}"#, 422, "weight"),
        ("PATCH", app, r#"{"dry_run":true}"#, 422, "dry_run"),
        ("PATCH", app, r#"{"frontend":"other"}"#, 422, "frontend"),
        ("POST", "/api/v1/undo", r#"{"revision":9}"#, 422, "revision"),
        ("POST", "/api/v1/transaction", r#"{"changes":[{"Status":{}}]}"#, 422, ""),
        ("POST", "/api/v1/transaction", r#"{"changes":[{"TakeOver":{}}]}"#, 422, ""),
        ("POST", "/api/v1/transaction?if_revision=9", r#"{"changes":[]}"#, 409, "if_revision"),
        ("DELETE", "/api/v1/frontends/web?if_revision=9", "", 409, "if_revision"),
        ("DELETE", "/api/v1/frontends/web?if_revision=x", "", 400, "if_revision"),
        ("DELETE", "/api/v1/frontends/web?force=true", "", 400, "force"),
        ("POST", SERVERS, "{", 400, ""),
        ("POST", SERVERS, "[]", 400, ""),
        ("POST", "/api/v1/frontends/none/servers", good, 404, ""),
        ("DELETE", "/api/v1/frontends/none", "", 404, ""),
        ("DELETE", "/api/v1/frontends/web/servers/none", "", 404, ""),
        ("GET", "/api/v1/frontends/web/servers/none", "", 404, ""),
        ("GET", "/api/v1/frontends/%ff", "", 404, ""),
        ("GET", "/api/v1/frontends/..%2fstatus", "", 404, ""),
        ("GET", "/api/v1/frontends/", "", 404, ""),
        ("GET", "//api/v1/status", "", 404, ""),
        ("GET", "/api/v2/status", "", 404, ""),
        ("GET", "/openapi.json", "", 404, ""),
        ("PUT", "/api/v1/frontends", "{}", 405, ""),
        ("POST", "/", "{}", 405, ""),
    ];
    for (method, target, body, status, field) in cases {
        let answer = console.known(method, target, body);
        let error = &answer.1["error"];
        let found = error["field"].as_str().unwrap_or_default();
        assert_eq!((answer.0, found), (status, field), "{method} {target} {body}: {error}");
        assert!(!error["reason"].as_str().unwrap().is_empty(), "{method} {target} {body}");
    }
    assert_eq!((console.lb.revision(), console.lb.settings()), before);
}

#[test]
fn what_is_no_json_or_too_long_is_refused() {
    let (console, _backend) = with_server();
    let said = format!("Bearer {}", console.token);
    let known = ("Authorization", said.as_str());
    let good = r#"{"name":"b","ip":"127.0.0.1","port":80}"#;
    for media_type in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx", ""]
    {
        let fields = [known, ("Content-Type", media_type)];
        let answer = console.ask(Ask::new("POST", SERVERS).with(&fields).body(good));
        assert_eq!(answer.status(), 415, "{media_type}");
    }
    let long = " ".repeat((1 << 20) + 1);
    let answer = console.ask(Ask::new("POST", SERVERS).with(&[known]).body(&long));
    assert_eq!(answer.status(), 413);
    // What is announced is not waited for.
    let announced = [known, JSON, ("Content-Length", "10000000000")];
    assert_eq!(console.ask(Ask::new("POST", SERVERS).with(&announced)).status(), 413);
    let nearly = " ".repeat((1 << 20) - good.len()) + good;
    assert_eq!(console.ask(Ask::new("POST", SERVERS).with(&[known]).body(&nearly)).status(), 200);
    let charset = [known, ("Content-Type", "application/json; charset=utf-8")];
    let answer = console.ask(Ask::new("DELETE", "/api/v1/frontends/web/servers/b").with(&charset));
    assert_eq!(answer.status(), 200);
}

#[test]
fn nobody_is_let_in_without_the_token_wherever_the_document_says_so() {
    let (console, _backend) = with_server();
    let document = read_json(&console.ask(Ask::new("GET", "/api/v1/openapi.json")));
    let mut tried = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        let target = path.replace("{frontend}", "web").replace("{name}", "app");
        let methods = operations.as_object().unwrap().iter().filter(|(method, _)| *method != "parameters");
        for (method, _) in methods.filter(|(_, operation)| operation["security"] != json!([])) {
            let method = method.to_uppercase();
            for said in ["", "Bearer", "Bearer ", "Bearer x", &format!("Basic {}", console.token), &console.token] {
                let fields = [("Authorization", said)];
                let fields = if said.is_empty() { &[][..] } else { &fields[..] };
                let answer = console.ask(Ask::new(&method, &target).with(fields));
                assert_eq!(answer.status(), 401, "{method} {target} {said}");
                assert_eq!(read_json(&answer)["login"], "token");
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "{tried}");
    assert_eq!(console.lb.revision(), 1, "nothing has changed");
}

#[test]
fn the_last_minutes_are_known_also_from_before_anybody_asked() {
    let backend = Backend::echo();
    let console = Console::start(Config::of(web().server("app", backend.addr())));
    let mut held = client::connect(console.lb.addr("web"));
    client::echo(&mut held, b"hello");
    let samples = |query: &str| console.done("GET", &format!("/api/v1/samples{query}"), "");
    let of = |samples: &Value, field: &str| -> Vec<u64> {
        samples["whole"].as_array().unwrap().iter().map(|sample| sample[field].as_u64().unwrap()).collect()
    };
    wait::until("a sample has the connection", || of(&samples(""), "connections").contains(&1));
    let all = samples("");
    assert_eq!(all["frontends"]["web"].as_array().unwrap().last().unwrap()["connections"], 1, "{all}");
    let last = *of(&all, "at").last().unwrap();
    wait::until("there is another one", || !of(&samples(&format!("?after={last}")), "at").is_empty());
    let new = of(&samples(&format!("?after={last}")), "at");
    assert!(new.iter().all(|at| *at > last), "{last}: {new:?}");
    for query in ["?after=now", "?after=-1", "?before=1"] {
        assert_eq!(console.known("GET", &format!("/api/v1/samples{query}"), "").0, 400, "{query}");
    }
}

#[test]
fn a_session_opens_the_console_for_its_own_page_until_it_ends() {
    let (console, _backend) = with_server();
    let login = json!({"token": console.token}).to_string();
    let answer = console.ask(Ask::new("POST", SESSION).body(&login));
    let attributes = answer.field("set-cookie").unwrap().split_once("; ").unwrap().1;
    assert_eq!(attributes, "HttpOnly; SameSite=Strict; Path=/");
    let (cookie, csrf) = session_of(&answer);
    let session = ("Cookie", cookie.as_str());
    let get = |target: &str| console.ask(Ask::new("GET", target).with(&[session]));
    let shown = read_json(&get(SESSION));
    assert_eq!((&shown["csrf"], &shown["login"]), (&json!(csrf), &json!("token")));
    assert_eq!(get("/api/v1/status").status(), 200);
    let (_, other_csrf) = console.log_in();
    let drain = Ask::new("POST", "/api/v1/frontends/web/servers/app/drain");
    for wrong in [&[session][..], &[session, ("X-CSRF-Token", "")], &[session, ("X-CSRF-Token", &other_csrf)]] {
        assert_eq!(console.ask(drain.with(wrong)).status(), 403);
    }
    assert_eq!(console.lb.revision(), 1, "nothing has changed");
    assert_eq!(console.ask(drain.with(&[session, ("X-CSRF-Token", &csrf)])).status(), 200);
    assert_eq!(console.ask(Ask::new("DELETE", SESSION).with(&[session])).status(), 403);
    let ended = console.ask(Ask::new("DELETE", SESSION).with(&[session, ("X-CSRF-Token", &csrf)]));
    assert_eq!((ended.status(), ended.field("set-cookie").unwrap().contains("Max-Age=0")), (204, true));
    for target in [SESSION, "/api/v1/status"] {
        assert_eq!(get(target).status(), 401, "{target}");
    }
}

#[test]
fn a_login_gives_a_new_session_whatever_the_client_had_before() {
    let (console, _backend) = with_server();
    let (old, _) = console.log_in();
    let login = json!({"token": console.token}).to_string();
    let again = console.ask(Ask::new("POST", SESSION).with(&[("Cookie", &old)]).body(&login));
    let (new, _) = session_of(&again);
    assert_ne!(old, new);
    let status = |cookie: &str| console.ask(Ask::new("GET", "/api/v1/status").with(&[("Cookie", cookie)])).status();
    assert_eq!((status(&old), status(&new)), (401, 200));
    // Somebody else's cookie of the same name before it does no harm, and is no way in.
    assert_eq!(status(&format!("lb_session=x; {new}")), 200);
    let chosen = console.ask(Ask::new("POST", SESSION).with(&[("Cookie", "lb_session=chosen")]).body(&login));
    assert!(!session_of(&chosen).0.contains("chosen"));
    assert_eq!(status("lb_session=chosen"), 401);
}

#[test]
fn other_hosts_and_other_sites_are_refused() {
    let (console, _backend) = with_server();
    let (cookie, csrf) = console.log_in();
    let host = console.addr.to_string();
    for foreign in ["evil.example", "127.0.0.1.evil.example", "127.0.0.2", ""] {
        for target in ["/", "/api/v1/openapi.json", SESSION, "/api/v1/status"] {
            let answer = console.ask(Ask::new("GET", target).with(&[("Host", foreign), ("Cookie", &cookie)]));
            assert_eq!(answer.status(), 421, "{foreign} {target}");
        }
    }
    let origin = format!("http://{host}");
    let login = json!({"token": console.token}).to_string();
    let drain = Ask::new("POST", "/api/v1/frontends/web/servers/app/drain");
    for (name, value) in [
        ("Origin", "http://evil.example"),
        ("Origin", "http://127.0.0.1:1"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
    ] {
        let fields = [("Cookie", cookie.as_str()), ("X-CSRF-Token", &csrf), (name, value)];
        assert_eq!(console.ask(drain.with(&fields)).status(), 403, "{name}: {value}");
        let fields = [(name, value)];
        assert_eq!(console.ask(Ask::new("POST", SESSION).with(&fields).body(&login)).status(), 403, "{name}: {value}");
        // A form of another site, which a browser sends without asking first.
        let fields = [("Cookie", cookie.as_str()), ("Content-Type", "text/plain"), (name, value)];
        assert_eq!(console.ask(drain.with(&fields).body("{}")).status(), 403, "{name}: {value}");
    }
    assert_eq!(console.lb.revision(), 1, "nothing has changed");
    let fields =
        [("Cookie", cookie.as_str()), ("X-CSRF-Token", &csrf), ("Origin", &origin), ("Sec-Fetch-Site", "same-origin")];
    assert_eq!(console.ask(drain.with(&fields)).status(), 200);
}

#[test]
fn too_many_logins_are_refused_for_a_time_also_with_the_right_token() {
    let (console, _backend) = with_server();
    let log_in = |token: &str| {
        let body = json!({"token": token}).to_string();
        console.ask(Ask::new("POST", SESSION).body(&body))
    };
    assert_eq!((0..10).map(|_| log_in(&console.token).status()).collect::<Vec<_>>(), [200; 10]);
    let statuses: Vec<u16> = (0..20).map(|_| log_in("wrong").status()).collect();
    assert_eq!(statuses[..5], [401; 5]);
    assert!(statuses[5..].iter().filter(|status| **status == 429).count() >= 10, "{statuses:?}");
    // What has come back by then is used up.
    let refused = wait::until_some("there is no try left", || {
        log_in("wrong");
        Some(log_in(&console.token)).filter(|answer| answer.status() == 429)
    });
    assert!(refused.field("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert!(console.lb.log().wait_for("too many logins are tried from 127.0.0.1").is_some());
    // The API is not held up by that.
    assert_eq!(console.known("GET", "/api/v1/status", "").0, 200);
}

#[test]
fn clients_that_send_half_or_nothing_hold_up_nobody_and_take_no_memory() {
    let (console, _backend) = with_server();
    let host = console.addr.to_string();
    let memory = console.lb.memory();
    let halves = [
        String::new(),
        "GET /api".to_owned(),
        Ask::new("GET", "/").text(&host).trim_end().to_owned(),
        Ask::new("POST", SESSION).with(&[JSON, ("Content-Length", "4000")]).text(&host) + "{\"token\":\"",
        Ask::new("POST", SERVERS).with(&[JSON, ("Content-Length", "1000000")]).text(&host) + &"x".repeat(100_000),
    ];
    let mut open = Vec::new();
    for half in halves.iter().cycle().take(1000) {
        let mut stream = TcpStream::connect(console.addr).unwrap();
        // It may have to give way while it sends.
        let _ = stream.write_all(half.as_bytes());
        open.push(stream);
        if open.len() % 100 == 0 {
            assert_eq!(console.known("GET", "/api/v1/status", "").0, 200);
        }
    }
    console.done("POST", "/api/v1/frontends/web/servers/app/drain", "");
    let grown = console.lb.memory().saturating_sub(memory);
    assert!(grown < 32 << 20, "1000 half requests made the process grow by {grown} bytes");
}

#[test]
fn requests_that_two_could_read_differently_are_not_carried_out_twice() {
    let (console, _backend) = with_server();
    let (host, said) = (console.addr.to_string(), format!("Bearer {}", console.token));
    let inner =
        Ask::new("POST", "/api/v1/frontends/web/servers/app/drain").with(&[("Authorization", &said)]).text(&host);
    for framing in [
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip, identity",
        "Transfer-Encoding : chunked",
        " Transfer-Encoding: chunked",
    ] {
        let mut wire = Wire::connect(console.addr);
        let outer = format!("POST {SESSION} HTTP/1.1\r\nHost: {host}\r\n{framing}\r\n\r\n0\r\n\r\n{inner}");
        wire.send(&outer);
        let first = wire.answer("POST");
        assert!((400..500).contains(&first.status()), "{framing}: {first:?}");
        assert!(wire.try_answer("POST").is_err(), "{framing}: the connection is closed");
    }
    assert_eq!(console.lb.revision(), 1, "nothing has changed");
}

#[test]
fn the_page_and_all_of_its_files_come_with_a_policy_that_allows_nothing_else() {
    let (console, _backend) = with_server();
    let page = console.ask(Ask::new("GET", "/"));
    let links = page.text().split(['"', '\'']).filter(|text| text.starts_with('/')).map(str::to_owned);
    let targets: Vec<String> = links.chain(["/".into(), "/api/v1/status".into(), "/nothing".into()]).collect();
    assert!(targets.len() >= 6, "{targets:?}");
    for target in targets {
        let answer = console.ask(Ask::new("GET", &target));
        let expected = match target.as_str() {
            "/api/v1/status" => 401,
            "/nothing" => 404,
            _ => 200,
        };
        assert_eq!(answer.status(), expected, "{target}");
        let policy = answer.field("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.field("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.field("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.field("cache-control"), Some("no-store"));
        assert!(!answer.text().contains(&console.token), "{target}");
    }
}

#[test]
fn there_is_no_console_unless_it_is_configured() {
    let lb = Lb::start(Config::of(web()));
    let tasks = fs::read_dir(format!("/proc/{}/task", lb.pid())).unwrap();
    let names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default());
    assert!(!names.collect::<String>().contains("lb-web"));
    assert!(lb.refused(&["console", "token"]).contains("there is no console"));
    assert!(!lb.place().folder().join("lb.ron.console-token").exists());
}

#[test]
fn a_console_for_other_machines_needs_tls_and_a_password() {
    let ca = Authority::root("ca");
    let config = || Config::of(web()).pair("site", &ca.issue(&["lb.example"]));
    for console in [
        "\"0.0.0.0:0\"",
        "\"[::]:0\"",
        "(bind: \"0.0.0.0:0\", certificate: \"site\")",
        "(bind: \"0.0.0.0:0\", password_file: \"password\")",
    ] {
        let exit = Place::new(config().set("console", console)).fail();
        assert!(exit.code == Some(1) && exit.log.contains("password_file"), "{console}: {}", exit.log);
    }
    let missing = "(bind: \"0.0.0.0:0\", certificate: \"site\", password_file: \"password\")";
    let place = Place::new(config().set("console", missing));
    let checked = place.run(&["check", "--config", place.config().to_str().unwrap()]);
    assert!(!checked.status.success() && text(&checked.stderr).contains("No such file"), "{checked:?}");
    let exit = place.fail();
    assert!(exit.code == Some(1) && exit.log.contains("password_file") && exit.log.contains("No such file"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let console = format!("{:?}", taken.local_addr().unwrap().to_string());
    let exit = Place::new(config().set("console", console)).fail();
    // A child that another test's thread is just starting may have it for a moment, too.
    let this = format!("(process {})", std::process::id());
    assert!(exit.code == Some(1) && exit.log.contains(&this) && exit.log.contains(" listens there"), "{}", exit.log);
}

/// A console with TLS and a password, its CA, and where it is.
fn with_password(ca: &Authority) -> (Lb, SocketAddr) {
    let console = "(bind: \"0.0.0.0:0\", certificate: \"site\", password_file: \"console.password\")";
    let place = Place::new(Config::of(web()).pair("site", &ca.issue(&["lb.example"])).set("console", console));
    let mut make = Command::new(tests::lb_path());
    make.args(["console", "password"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut making = make.spawn().unwrap();
    making.stdin.take().unwrap().write_all(b"correct horse battery\n").unwrap();
    let line = text(&making.wait_with_output().unwrap().stdout);
    assert!(line.starts_with("pbkdf2-sha256$") && !line.contains("horse"), "{line}");
    fs::write(place.folder().join("console.password"), line).unwrap();
    let lb = place.start();
    let port = console_addr(&lb).port();
    (lb, ([127, 0, 0, 1], port).into())
}

/// Asks over TLS, for `host`.
fn ask_secure(addr: SocketAddr, host: &str, config: &Arc<ClientConfig>, ask: Ask<'_>) -> Message {
    Wire::secure(addr, "lb.example", config).ask(&ask.text(host))
}

#[test]
fn a_console_with_a_password_speaks_tls_only_and_is_opened_by_it() {
    let ca = Authority::root("ca");
    let (lb, addr) = with_password(&ca);
    let config = client_config(&ca);
    let host = format!("lb.example:{}", addr.port());
    let log_in = |body: Value| {
        let body = body.to_string();
        ask_secure(addr, &host, &config, Ask::new("POST", SESSION).body(&body))
    };
    let refused = log_in(json!({"password": "correct horse batterx"}));
    assert_eq!((refused.status(), &read_json(&refused)["login"]), (401, &json!("password")));
    let answer = log_in(json!({"password": "correct horse battery"}));
    assert!(answer.field("set-cookie").unwrap().ends_with("; Secure"));
    let (cookie, csrf) = session_of(&answer);
    let origin = format!("https://{host}");
    let fields = [("Cookie", cookie.as_str()), ("X-CSRF-Token", &csrf), ("Origin", &origin)];
    let add = Ask::new("POST", SERVERS).with(&fields).body(r#"{"name":"b","ip":"127.0.0.1","port":80}"#);
    assert_eq!(ask_secure(addr, &host, &config, add).status(), 200);
    let foreign = format!("other.example:{}", addr.port());
    let get = Ask::new("GET", "/api/v1/status").with(&fields);
    assert_eq!(ask_secure(addr, &foreign, &config, get).status(), 421);
    let plain = Wire::connect(addr).try_ask(&Ask::new("GET", "/").text(&host));
    assert!(plain.is_err(), "without TLS: {plain:?}");
    let line = "console: session 1 from 127.0.0.1: server b added to web, revision 2";
    assert!(lb.log().wait_for(line).is_some());
}

#[test]
fn a_certificate_that_is_replaced_is_the_one_that_the_console_shows() {
    let (old, new) = (Authority::root("old"), Authority::root("new"));
    let (lb, addr) = with_password(&old);
    let host = format!("lb.example:{}", addr.port());
    let status = |ca: &Authority| {
        let stream = tests::Channel::connect(addr, "lb.example", &client_config(ca)).ok()?;
        Wire::over(stream).try_ask(&Ask::new("GET", "/").text(&host)).ok().map(|answer| answer.status())
    };
    assert_eq!((status(&old), status(&new)), (Some(200), None));
    let identity = new.issue(&["lb.example"]);
    lb.change(&format!("UpdateCertificate(name:\"site\",chain:{:?},key:{:?})", identity.chain(), identity.key()));
    assert_eq!((status(&old), status(&new)), (None, Some(200)));
}

#[test]
fn the_token_is_its_owners_alone_and_kept_over_restarts() {
    let place = Place::new(Config::of(web()).set("console", "\"127.0.0.1:0\""));
    let console = Console::of(place.start());
    let file = place.folder().join("lb.ron.console-token");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(&file).unwrap().trim_end(), console.token);
    assert!(console.token.len() == 64 && !console.lb.log().contains(&console.token));
    let token = console.token.clone();
    drop(console);
    let again = Console::of(place.start());
    assert_eq!(again.token, token);
    assert_eq!(again.known("GET", "/api/v1/status", "").0, 200);
    drop(again);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let exit = place.fail();
    assert!(exit.log.contains("others may read the console's token"), "{}", exit.log);
}

#[test]
fn a_successor_has_the_console_at_the_same_address() {
    let addr = tests::program::free_addr();
    let place = Place::new(Config::of(web()).set("console", format!("\"{addr}\"")));
    let old = Console::of(place.start());
    let (cookie, _) = old.log_in();
    let mut kept = Wire::connect(addr);
    let ask = Ask::new("GET", "/api/v1/status").with(&[("Cookie", &cookie)]).text(&addr.to_string());
    assert_eq!(kept.ask(&ask).status(), 200);
    let new = place.start_successor();
    assert_eq!(console_addr(&new), addr);
    kept.closes();
    let console = Console { lb: new, addr, token: old.token.clone() };
    assert_eq!(console.known("GET", "/api/v1/status", "").0, 200);
    let answer = console.ask(Ask::new("GET", "/api/v1/status").with(&[("Cookie", &cookie)]));
    assert_eq!(answer.status(), 401, "sessions end with their process");
    drop(old);
    console.done("POST", SERVERS, r#"{"name":"b","ip":"127.0.0.1","port":80}"#);
}

#[test]
fn while_it_is_handed_over_or_stops_a_change_is_told_to_come_again() {
    let backend = Backend::echo();
    let console = Console::start(Config::of(web().server("app", backend.addr())));
    let drain = "/api/v1/frontends/web/servers/app/drain";
    let said = format!("Bearer {}", console.token);
    console.done("PATCH", "/api/v1/frontends/web/servers/app", r#"{"weight":2}"#);
    let comes_again = |reason: &str| {
        for (method, target, body) in [
            ("POST", drain, ""),
            ("POST", SERVERS, r#"{"name":"b","ip":"127.0.0.1","port":80}"#),
            ("PATCH", "/api/v1/frontends/web?dry_run=true", r#"{"policy":"random_two"}"#),
            ("POST", "/api/v1/transaction", r#"{"changes":[{"RemoveFrontend":{"name":"web"}}]}"#),
            ("POST", "/api/v1/undo", "{}"),
        ] {
            let answer = console.ask(Ask::new(method, target).with(&[("Authorization", &said)]).body(body));
            assert_eq!((answer.status(), answer.field("retry-after")), (503, Some("1")), "{target}: {}", answer.text());
            assert_eq!(read_json(&answer)["error"], json!({"reason": reason}), "{target}");
        }
        assert_eq!(console.known("GET", "/api/v1/status", "").0, 200, "it can be looked at");
    };
    let mut successor = Admin::connect(console.lb.place().admin());
    assert!(successor.ask("TakeOver()").starts_with("HandOver("));
    comes_again("a successor is taking over: ask again in a moment");
    drop(successor);
    wait::until("the successor is given up", || console.known("POST", drain, "").0 == 200);
    console.done("POST", "/api/v1/frontends/web/servers/app/enable", "");

    let mut held = client::connect(console.lb.addr("web"));
    client::echo(&mut held, b"holds the stop up");
    console.lb.signal("TERM");
    wait::until("it stops", || console.known("POST", "/api/v1/undo?dry_run=true", "{}").0 == 503);
    comes_again("the balancer is stopping");
}

#[test]
fn every_change_and_every_refusal_is_in_the_log_with_who_and_what() {
    let (console, _backend) = with_server();
    console.done("PATCH", "/api/v1/frontends/web/servers/app", r#"{"weight":2}"#);
    console.known("DELETE", "/api/v1/frontends/none", "");
    let (cookie, csrf) = console.log_in();
    let fields = [("Cookie", cookie.as_str()), ("X-CSRF-Token", &csrf)];
    console.ask(Ask::new("DELETE", "/api/v1/frontends/web/servers/app").with(&fields));
    console.ask(Ask::new("POST", SESSION).body(r#"{"token":"wrong"}"#));
    for line in [
        "console: who has the token from 127.0.0.1: server app of web updated",
        "console: who has the token from 127.0.0.1: DELETE /api/v1/frontends/none is refused (404)",
        "console: session 1 from 127.0.0.1 begins",
        "console: session 1 from 127.0.0.1: server app removed from web, revision 3",
        "console: a login from 127.0.0.1 is refused",
    ] {
        assert!(console.lb.log().wait_for(line).is_some(), "{line}");
    }
    for secret in [&cookie, &csrf, &console.token] {
        assert!(!console.lb.log().contains(secret));
    }
}

/// Where `tests/run` has installed it.
const SCHEMATHESIS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/schemathesis/bin/st");

/// What keeps its requests on things that are there: names, and changes that are not carried out.
const OVERRIDES: &str = r#"
[[operations]]
include-path-regex = "^/api/v1/frontends/.frontend./"
parameters = { "path.frontend" = "web", "path.name" = "app", "query.dry_run" = "true" }

[[operations]]
include-path = "/api/v1/frontends/{name}"
parameters = { "path.name" = "web", "query.dry_run" = "true" }

[[operations]]
include-path = "/api/v1/certificates/{name}"
parameters = { "path.name" = "ca", "query.dry_run" = "true" }
"#;

#[test]
fn schemathesis_finds_no_answer_that_is_not_as_the_document_says() {
    assert!(Path::new(SCHEMATHESIS).exists(), "{SCHEMATHESIS} is missing: tests/run installs it");
    let (ca, backend) = (Authority::root("ca"), Backend::who("app"));
    let web = web().server("app", backend.addr()).set("connect_timeout", "\"100ms\"");
    let console = Console::start(Config::of(web).bundle("ca", ca.pem()));
    let overrides = console.lb.place().folder().join("schemathesis.toml");
    fs::write(&overrides, OVERRIDES).unwrap();
    let mut command = Command::new(SCHEMATHESIS);
    command.arg("--config-file").arg(overrides).arg("run").arg(format!("http://{}/api/v1/openapi.json", console.addr));
    command.arg("--header").arg(format!("Authorization: Bearer {}", console.token));
    // What the document allows may still be refused: a name that is taken, a certificate that is not there.
    command.args(["--exclude-checks", "positive_data_acceptance", "--max-examples", "5", "--seed", "1"]);
    command.args(["--no-color", "--no-shrink", "--continue-on-failure", "--request-timeout", "20"]);
    let output = command.current_dir(console.lb.place().folder()).stdin(Stdio::null()).output().unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", text(&output.stderr));
    let cases = said.lines().find_map(|line| line.trim().split_once(" generated, ")).expect("it says what it did").0;
    assert!(cases.parse::<u32>().unwrap() > 1000, "{said}");
    console.done("GET", "/api/v1/status", "");
}
