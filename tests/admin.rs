//! The admin socket: wrong requests first, then whoever holds it open, sends half or nothing, then its file.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};

use tests::{Admin, Backend, Config, Frontend, Lb, Place, Reply, wait};

#[test]
fn every_wrong_request_is_refused_with_its_field_and_changes_nothing() {
    let backend = Backend::who("app");
    let web = Frontend::new("web").server("app", backend.addr());
    let lb = Lb::start(Config::of(web).frontend(Frontend::new("api").bind("127.0.0.9:0")));
    let before = (lb.revision(), lb.settings());
    let mut admin = lb.connect_admin();
    for (request, field) in wrong_requests() {
        let refused = admin.refuse(&request);
        assert_eq!(refused.field.as_deref(), Some(field), "{request}: {}", refused.reason);
        assert!(!refused.reason.is_empty() && !refused.reason.contains('\n'), "{request}: {refused:?}");
    }
    assert_eq!((lb.revision(), lb.settings()), before);
}

/// Requests, and the field that is wrong.
fn wrong_requests() -> Vec<(String, &'static str)> {
    let add = |server: &str| format!("AddServer(frontend:\"web\",server:({server}))");
    let update = |fields: &str| format!("UpdateServer(frontend:\"web\",name:\"app\",{fields})");
    let add_frontend = |fields: &str| format!("AddFrontend(frontend:({fields}))");
    let update_frontend = |fields: &str| format!("UpdateFrontend(name:\"web\",{fields})");
    let long = "x".repeat(65);
    vec![
        (add("name:\"app\",ip:\"127.0.0.1\",port:80"), "name"),
        (add("name:\"\",ip:\"127.0.0.1\",port:80"), "name"),
        (add("name:\"with space\",ip:\"127.0.0.1\",port:80"), "name"),
        (add("name:\"ümlaut\",ip:\"127.0.0.1\",port:80"), "name"),
        (add(&format!("name:\"{long}\",ip:\"127.0.0.1\",port:80")), "name"),
        (add("name:\"b\",ip:\"127.0.0\",port:80"), "ip"),
        (add("name:\"b\",ip:\"localhost\",port:80"), "ip"),
        (add("name:\"b\",ip:\"0.0.0.0\",port:80"), "ip"),
        (add("name:\"b\",ip:\"::\",port:80"), "ip"),
        (add("name:\"b\",ip:\"224.0.0.1\",port:80"), "ip"),
        (add("name:\"b\",ip:\"255.255.255.255\",port:80"), "ip"),
        (add("name:\"b\",ip:\"127.0.0.1\",port:0"), "port"),
        (add("name:\"b\",ip:\"127.0.0.1\",port:65536"), "port"),
        (add("name:\"b\",ip:\"127.0.0.1\",port:-1"), "port"),
        (add("name:\"b\",ip:\"127.0.0.1\",port:\"80\""), "port"),
        (add("name:\"b\",ip:\"127.0.0.1\""), "port"),
        (add("name:\"b\",port:80"), "ip"),
        (add("ip:\"127.0.0.1\",port:80"), "name"),
        (add("name:\"b\",ip:\"127.0.0.1\",port:80,weight:0"), "weight"),
        (add("name:\"b\",ip:\"127.0.0.1\",port:80,weight:257"), "weight"),
        (add("name:\"b\",ip:\"127.0.0.1\",port:80,ssl_offload:true"), "ssl_offload"),
        (add("name:\"b\",ip:\"127.0.0.1\",port:80,passive:1"), "passive"),
        (add("name:\"b\",ip:\"127.0.0.1\",port:80,max_connections:0"), "max_connections"),
        (add("name:\"b\",ip:\"127.0.0.1\",port:80,drain:true,disabled:true"), "disabled"),
        (add("name:\"b\",ip:\"127.0.0.1\",port:80,drain_within:\"1s\""), "drain_within"),
        (add("name:\"b\",ip:\"127.0.0.1\",port:80,check:own(kind:http(path:\"a\"))"), "path"),
        (add("name:\"b\",ip:\"127.0.0.1\",port:80,server_certificate:\"ca\""), "server_certificate"),
        (add("name:\"b\",ip:\"127.0.0.1\",port:80,colour:\"red\""), "colour"),
        ("AddServer(frontend:\"nowhere\",server:(name:\"b\",ip:\"127.0.0.1\",port:80))".into(), "frontend"),
        ("AddServer(frontend:\"web\")".into(), "server"),
        (update("port:0"), "port"),
        (update("port:99999"), "port"),
        (update("weight:0"), "weight"),
        (update("weight:1000"), "weight"),
        (update("ip:\"nonsense\""), "ip"),
        (update("ip:\"0.0.0.0\""), "ip"),
        (update("rename:\"\""), "rename"),
        (update("rename:\"a/b\""), "rename"),
        (update("ssl_offload:true"), "ssl_offload"),
        (update("passive:maybe"), "passive"),
        ("DrainServer(frontend:\"web\",name:\"app\",within:\"soon\")".into(), "within"),
        ("UpdateFrontend(name:\"web\",passive_when:fewer_than(0))".into(), "passive_when"),
        ("UpdateFrontend(name:\"web\",max_ejected:101)".into(), "max_ejected"),
        ("UpdateFrontend(name:\"web\",on_unavailable:wait(\"0s\"))".into(), "on_unavailable"),
        ("UpdateFrontend(name:\"web\",check:(interval:\"1ms\"))".into(), "interval"),
        (update("server_certificate:\"ca\""), "server_certificate"),
        (update("size:3"), "size"),
        ("UpdateServer(frontend:\"web\",name:\"nobody\",port:80)".into(), "name"),
        ("UpdateServer(frontend:\"nowhere\",name:\"app\",port:80)".into(), "frontend"),
        ("RemoveServer(frontend:\"web\",name:\"nobody\")".into(), "name"),
        ("RemoveServer(frontend:\"nowhere\",name:\"app\")".into(), "frontend"),
        ("DrainServer(frontend:\"web\",name:\"nobody\")".into(), "name"),
        ("EnableServer(frontend:\"web\",name:\"nobody\")".into(), "name"),
        ("RemoveServer(frontend:\"web\")".into(), "name"),
        (add_frontend("name:\"web\",bind:\"127.0.0.1:0\""), "name"),
        (add_frontend("name:\"bad name\",bind:\"127.0.0.1:0\""), "name"),
        (add_frontend("name:\"new\",bind:\"127.0.0.1\""), "bind"),
        (add_frontend("name:\"new\",bind:\"somewhere:80\""), "bind"),
        (add_frontend("name:\"new\",bind:\"fd:1\""), "bind"),
        (add_frontend("name:\"new\",bind:\"192.0.2.1:80\""), "bind"),
        (add_frontend("name:\"new\""), "bind"),
        (add_frontend("name:\"new\",bind:\"127.0.0.1:0\",policy:fastest"), "policy"),
        (add_frontend("name:\"new\",bind:\"127.0.0.1:0\",max_connections:0"), "max_connections"),
        (add_frontend("name:\"new\",bind:\"127.0.0.1:0\",connect_timeout:\"0s\""), "connect_timeout"),
        (add_frontend("name:\"new\",bind:\"127.0.0.1:0\",idle_timeout:\"soon\""), "idle_timeout"),
        (add_frontend("name:\"new\",bind:\"127.0.0.1:0\",idle_timeout:5"), "idle_timeout"),
        (update_frontend("policy:fastest"), "policy"),
        (update_frontend("bind:\"here\""), "bind"),
        (update_frontend("rename:\"api\""), "name"),
        (update_frontend("connect_timeout:\"5 parsecs\""), "connect_timeout"),
        ("UpdateFrontend(name:\"nowhere\",policy:round_robin)".into(), "frontend"),
        ("RemoveFrontend(name:\"nowhere\")".into(), "frontend"),
        ("ListServers(frontend:\"nowhere\")".into(), "frontend"),
        ("RemoveServer(frontend:\"web\",name:\"app\",if_revision:0)".into(), "if_revision"),
        ("Undo(revision:999999)".into(), "revision"),
    ]
}

#[test]
fn what_is_no_request_is_refused_with_a_reason() {
    let lb = Lb::start(Config::of(Frontend::new("web")));
    let mut admin = lb.connect_admin();
    for line in [
        "hello",
        "GET / HTTP/1.1",
        "AddServer",
        "AddServer(",
        "AddServer()",
        "AddServer(frontend:\"web\",server:(name:\"b\",ip:\"127.0.0.1\",port:80)",
        "Status Status",
        "Status()Status()",
        "Transaction(Status)",
        "Transaction([Status])",
        "[1,2,3]",
        "\"Status\"",
        "\u{0}",
        "🦀",
    ] {
        let refused = admin.refuse(line);
        assert!(!refused.reason.is_empty(), "{line:?}: {refused:?}");
    }
    assert_serves(&lb);
}

#[test]
fn a_misspelt_request_or_field_gets_a_suggestion() {
    let lb = Lb::start(Config::of(Frontend::new("web")));
    let mut admin = lb.connect_admin();
    assert!(admin.refuse("AddSrver(frontend:\"web\")").reason.contains("AddServer"));
    let refused = admin.refuse("AddServer(frontend:\"web\",server:(name:\"b\",ip:\"127.0.0.1\",prt:80))");
    assert!(refused.reason.contains("port"), "{refused:?}");
}

#[test]
fn deeply_nested_input_is_refused() {
    let lb = Lb::start(Config::of(Frontend::new("web")));
    let mut admin = lb.connect_admin();
    for (open, close) in [("[", "]"), ("(", ")"), ("Some(", ")"), ("{", "}")] {
        let line = format!("Transaction({}{})", open.repeat(50_000), close.repeat(50_000));
        match admin.try_ask(&line) {
            Some(Reply::Refused(_)) | None => {}
            other => panic!("nested {open}: {other:?}"),
        }
        admin = lb.connect_admin();
    }
    assert_serves(&lb);
}

#[test]
fn a_line_of_more_than_a_mebibyte_is_refused_or_closed_and_harms_nobody() {
    let lb = Lb::start(Config::of(Frontend::new("web")));
    let memory = lb.memory();
    for _ in 0..5 {
        let mut admin = lb.connect_admin();
        let chunk = vec![b'x'; 64 * 1024];
        // Closed in the middle is fine too.
        let sent = (0..64).try_for_each(|_| admin.send(&chunk)).and_then(|()| admin.send(b"\n"));
        let reply = if sent.is_ok() { admin.line() } else { String::new() };
        assert!(reply.is_empty() || reply.starts_with("Refused("), "{reply}");
    }
    assert_serves(&lb);
    let grown = lb.memory().saturating_sub(memory);
    assert!(grown < 16 << 20, "five over-long lines made the process grow by {grown} bytes");
}

#[test]
fn a_request_of_nearly_a_mebibyte_is_served() {
    let lb = Lb::start(Config::of(Frontend::new("web")));
    let padding = " ".repeat(1_000_000);
    assert!(lb.admin(&format!("Version{padding}")).starts_with("Version("));
}

#[test]
fn bad_utf_8_is_refused() {
    let lb = Lb::start(Config::of(Frontend::new("web")));
    let mut admin = lb.connect_admin();
    admin.send(b"AddServer(frontend:\"\xff\xfe\")\n").unwrap();
    let reply = admin.line();
    assert!(reply.is_empty() || reply.starts_with("Refused("), "{reply}");
    assert_serves(&lb);
}

#[test]
fn half_a_line_is_never_carried_out() {
    let lb = Lb::start(Config::of(Frontend::new("web")));
    let revision = lb.revision();
    let mut admin = lb.connect_admin();
    admin.send(b"AddServer(frontend:\"web\",server:(name:\"b\",ip:\"127.0.0.1\",port:80))").unwrap();
    drop(admin);
    assert_serves(&lb);
    assert_eq!(lb.revision(), revision);
}

#[test]
fn a_line_in_pieces_is_one_request() {
    let lb = Lb::start(Config::of(Frontend::new("web")));
    let mut admin = lb.connect_admin();
    for byte in b"ListFrontends\n" {
        admin.send(&[*byte]).unwrap();
    }
    assert!(admin.line().starts_with("Frontends("));
}

#[test]
fn a_line_may_end_as_on_windows() {
    let lb = Lb::start(Config::of(Frontend::new("web")));
    assert!(lb.admin("Version\r").starts_with("Version("));
}

#[test]
fn an_empty_line_is_no_request() {
    let lb = Lb::start(Config::of(Frontend::new("web")));
    assert!(lb.admin("\n  \n\r\nVersion").starts_with("Version("));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let lb = Lb::start(Config::of(Frontend::new("web")));
    let mut admin = lb.connect_admin();
    let add = |n| format!("AddServer(frontend:\"web\",server:(name:\"s{n}\",ip:\"127.0.0.1\",port:80))\nVersion\n");
    let lines: String = (0..50).map(add).collect();
    admin.send(lines.as_bytes()).unwrap();
    for number in 0..50 {
        let confirmed = admin.line();
        assert!(confirmed.starts_with("Confirmed(") && confirmed.contains(&format!("s{number} ")), "{confirmed}");
        let version = admin.line();
        assert!(version.starts_with("Version("), "{version}");
    }
}

#[test]
fn every_reading_request_is_answered() {
    let backend = Backend::who("app");
    let lb = Lb::start(Config::of(Frontend::new("web").server("app", backend.addr())));
    for (request, reply, content) in [
        ("Version", "Version(", "protocol:1"),
        ("Status", "Status(", "revision:"),
        ("ListFrontends", "Frontends(", "web"),
        ("ListServers(frontend:\"web\")", "Servers(", "app"),
        ("ListServers", "Servers(", "app"),
        ("History", "History(", ""),
    ] {
        let line = lb.admin(request);
        assert!(line.starts_with(reply) && line.contains(content), "{request}: {line}");
    }
}

#[test]
fn a_thousand_idle_clients_do_not_stall_a_real_one() {
    let lb = Lb::start(Config::of(Frontend::new("web")));
    let mut idle: Vec<Admin> = Vec::new();
    while idle.len() < 1000 {
        // With half a line each; one that was turned away is no reason to stop.
        let mut admin = lb.connect_admin();
        let _ = admin.send(b"Stat");
        idle.push(admin);
    }
    let reply = wait::until_some("a real client is served", || {
        let mut admin = lb.connect_admin();
        match admin.try_ask("UpdateFrontend(name:\"web\",idle_timeout:\"9s\")") {
            Some(Reply::Confirmed(confirmed)) => Some(confirmed),
            _ => None,
        }
    });
    assert!(reply.durable);
    drop(idle);
    assert_serves(&lb);
}

#[test]
fn clients_that_never_read_their_replies_stall_nobody() {
    let lb = Lb::start(Config::of(Frontend::new("web")));
    let deaf: Vec<UnixStream> = (0..20).map(|_| UnixStream::connect(lb.place().admin()).unwrap()).collect();
    for mut stream in &deaf {
        stream.set_nonblocking(true).unwrap();
        let lines = "Status\n".repeat(20_000);
        let _ = std::io::Write::write(&mut stream, lines.as_bytes());
    }
    assert_serves(&lb);
    drop(deaf);
    assert_serves(&lb);
}

#[test]
fn only_the_owner_may_use_the_socket() {
    let lb = Lb::start(Config::of(Frontend::new("web")));
    let metadata = fs::metadata(lb.place().admin()).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_sockets_folder_is_created() {
    let place = Place::new(Config::of(Frontend::new("web")));
    let path = place.folder().join("run/lb/admin.sock");
    let lb = place.with_admin(path).start();
    assert_serves(&lb);
}

#[test]
fn a_stale_socket_is_replaced() {
    let place = Place::new(Config::of(Frontend::new("web")));
    drop(UnixListener::bind(place.admin()).unwrap());
    assert!(place.admin().exists(), "the file stays when nobody listens any more");
    let place = place.start().kill();
    let lb = place.start();
    assert_serves(&lb);
}

#[test]
fn a_live_socket_is_refused() {
    let lb = Lb::start(Config::of(Frontend::new("web")));
    let second = Place::new(Config::of(Frontend::new("web"))).with_admin(lb.place().admin().to_owned());
    let exit = second.fail();
    assert_eq!(exit.code, Some(1), "{}", exit.log);
    assert!(exit.log.contains("admin.sock"), "the reason names the socket: {}", exit.log);
    assert_serves(&lb);
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let place = Place::new(Config::of(Frontend::new("web")));
    fs::write(place.admin(), "precious").unwrap();
    let exit = place.fail();
    assert_eq!(exit.code, Some(1), "{}", exit.log);
    assert_eq!(fs::read_to_string(place.admin()).unwrap(), "precious");
}

#[test]
fn the_socket_is_removed_at_an_orderly_end() {
    let mut lb = Lb::start(Config::of(Frontend::new("web")));
    lb.signal("TERM");
    assert!(lb.exit().success());
    assert!(!lb.place().admin().exists());
}

fn assert_serves(lb: &Lb) {
    let reply = lb.admin("Version");
    assert!(reply.starts_with("Version("), "{reply}");
}
