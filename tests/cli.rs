//! The commands, as a person and a script use them: what they print, and the exit codes 0, 1, 2 and 3.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tests::client::ask;
use tests::program::succeeds;
use tests::{Backend, Config, Frontend, Lb, Log, Place, lb_path, text, wait};

#[test]
fn a_server_is_added_updated_drained_enabled_and_removed() {
    let (one, two) = (Backend::who("one"), Backend::who("two"));
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", one.addr())));
    let port = two.addr().port().to_string();

    done(&lb, &["server", "add", "web", "b", "127.0.0.1", &port, "--weight", "5"]);
    assert_eq!(lb.server("web", "b")["server"]["weight"], 5);
    done(&lb, &["server", "update", "web", "b", "--weight", "2", "--rename", "c", "--ip", "127.0.0.2", "--port", "1"]);
    let server = lb.server("web", "c")["server"].clone();
    assert_eq!((&server["weight"], &server["port"], &server["ip"]), (&2.into(), &1.into(), &"127.0.0.2".into()));
    done(&lb, &["server", "drain", "web", "c"]);
    assert_eq!(lb.server("web", "c")["server"]["drain"], true);
    assert_eq!(ask(lb.addr("web")), "one");
    done(&lb, &["server", "enable", "web", "c"]);
    assert_ne!(lb.server("web", "c")["server"]["drain"], true);
    done(&lb, &["server", "remove", "web", "c"]);
    assert_eq!(lb.server_names("web"), ["a"]);
}

#[test]
fn a_frontend_is_added_updated_and_removed() {
    let backend = Backend::who("app");
    let lb = Lb::start(Config::of(Frontend::new("web")));
    done(&lb, &["frontend", "add", "api", "127.0.0.1:0", "--policy", "least_connections"]);
    done(&lb, &["server", "add", "api", "a", "127.0.0.1", &backend.addr().port().to_string()]);
    assert_eq!(ask(lb.addr("api")), "app");
    done(&lb, &["frontend", "update", "api", "--policy", "source_hash", "--idle-timeout", "3s"]);
    let api = lb.frontend("api")["frontend"].clone();
    assert_eq!((&api["policy"], &api["idle_timeout"]), (&"source_hash".into(), &"3s".into()));
    done(&lb, &["frontend", "remove", "api"]);
    assert_eq!(lb.status()["frontends"].as_array().unwrap().len(), 1);
}

#[test]
fn lists_are_tables_for_people_and_ron_or_json_for_programs() {
    let backend = Backend::who("app");
    let frontend = Frontend::new("web").server("app1", backend.addr()).server("app2", backend.addr());
    let lb = Lb::start(Config::of(frontend));
    lb.change("UpdateServer(frontend:\"web\",name:\"app1\",weight:3)");
    for arguments in
        [&["server", "list", "web"][..], &["server", "list"], &["frontend", "list"], &["history"], &["status"]]
    {
        let table = done(&lb, arguments);
        assert!(table.lines().count() >= 2, "{arguments:?} prints a table:\n{table}");
        lb.json(arguments);
        let ron = done(&lb, &[arguments, &["--output", "ron"]].concat());
        ron::from_str::<ron::Value>(&ron).unwrap_or_else(|error| panic!("{arguments:?}: no RON ({error}):\n{ron}"));
    }
    let table = done(&lb, &["server", "list", "web"]);
    assert!(table.contains("app1") && table.contains("app2"), "{table}");
    assert!(table.contains(&backend.addr().port().to_string()), "{table}");
    assert_eq!(lb.json(&["server", "list", "web"]).as_array().unwrap().len(), 2);
}

#[test]
fn what_is_refused_exits_with_1_and_the_reason() {
    let lb = Lb::start(Config::of(Frontend::new("web")));
    for (arguments, part) in [
        (&["server", "remove", "web", "nobody"][..], "nobody"),
        (&["server", "list", "nowhere"], "nowhere"),
        (&["server", "add", "nowhere", "a", "127.0.0.1", "80"], "nowhere"),
        (&["server", "add", "web", "a", "127.0.0.1", "80", "--ssl-offload"], "certificates"),
        (&["server", "disable", "web", "nobody"], "nobody"),
        (&["server", "add", "web", "a", "127.0.0.1", "80", "--server-certificate", "ca"], "ca"),
        (&["frontend", "remove", "nowhere"], "nowhere"),
        (&["undo", "999999"], "999999"),
    ] {
        let output = lb.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        let reason = text(&output.stderr);
        assert!(reason.contains(part), "{arguments:?}: {reason}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}: the reason goes to standard error");
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    let place = Place::new(Config::default());
    for arguments in [
        &[][..],
        &["no-such-command"],
        &["run"],
        &["server"],
        &["server", "add", "web"],
        &["server", "add", "web", "a", "127.0.0.1", "80", "--no-such-option"],
        &["server", "list", "--output", "xml"],
    ] {
        let output = place.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?} says how it is used");
    }
}

#[test]
fn a_balancer_that_does_not_run_exits_with_3() {
    let place = Place::new(Config::default());
    for arguments in [&["status"][..], &["server", "list"], &["history"], &["frontend", "remove", "web"]] {
        let output = place.run(arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {output:?}");
        assert!(text(&output.stderr).contains("admin.sock"), "{arguments:?} names the socket: {output:?}");
    }
}

#[test]
fn the_socket_can_be_named_by_option_or_environment() {
    let lb = Lb::start(Config::of(Frontend::new("web")));
    let path = lb.place().admin();
    let by_option =
        Command::new(lb_path()).arg("status").arg("--admin").arg(path).env_remove("LB_ADMIN").output().unwrap();
    assert!(by_option.status.success(), "{by_option:?}");
    let by_environment = Command::new(lb_path()).arg("status").env("LB_ADMIN", path).output().unwrap();
    assert!(by_environment.status.success(), "{by_environment:?}");
}

#[test]
fn check_accepts_a_good_configuration() {
    let place = Place::new(GOOD);
    let output = check(&place);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn check_names_file_line_and_column_of_what_is_wrong() {
    let place = Place::new("");
    // What is right, what is written instead, the part of it that is wrong, and what the reason says.
    for (right, wrong, at, part) in [
        ("port: 9001", "port: 0", "0)", "port 0"),
        ("port: 9001", "port: 70000", "70000", "70000"),
        ("weight: 2", "weight: 257", "257", "weight"),
        ("weight: 2", "wieght: 2", "wieght", "did you mean \"weight\"?"),
        ("servers:", "severs:", "severs", "did you mean \"servers\"?"),
        ("frontends:", "frontend:", "frontend:", "did you mean \"frontends\"?"),
        ("round_robin", "round_robbin", "round_robbin", "did you mean \"round_robin\"?"),
        ("\"127.0.0.1:7000\"", "\"127.0.0.1\"", "127.0.0.1\", policy", "127.0.0.1"),
        ("\"app1\"", "\"app 1\"", "app 1", "name"),
        ("ip: \"127.0.0.2\"", "ip: \"somewhere\"", "somewhere", "somewhere"),
        ("weight: 2", "weight: 2, server_name: \"a b\"", "a b", "neither a DNS name nor an IP address"),
        ("policy: round_robin", "policy: round_robin, idle_timeout: \"0s\"", "0s", "idle_timeout"),
        ("policy: round_robin", "policy: round_robin, connect_timeout: \"5\"", "5\"", "connect_timeout"),
        ("policy: round_robin", "policy: round_robin, max_connections: 0", "0, servers", "max_connections"),
        ("(\n    front", "(\n    shards: 0, front", "0, front", "shards"),
    ] {
        let config = GOOD.replacen(right, wrong, 1);
        place.write_config(&config);
        let output = check(&place);
        let reason = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{config}\n{reason}");
        assert_eq!(position(&reason, &place.config()), position_of(at, &config), "{at} is wrong:\n{config}\n{reason}");
        assert!(reason.contains(part), "{part:?} is named:\n{reason}");
    }
}

#[test]
fn check_refuses_what_is_there_twice_and_what_has_no_end() {
    let place = Place::new("");
    for (config, part) in [
        (GOOD.replace("\"app2\"", "\"app1\""), "app1"),
        (GOOD.replace("    ],\n)", "    ]\n"), "closing"),
        (String::new(), "("),
    ] {
        place.write_config(&config);
        let output = check(&place);
        let reason = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{config}\n{reason}");
        position(&reason, &place.config());
        assert!(reason.contains(part), "{part:?} is named:\n{reason}");
    }
}

#[test]
fn check_of_a_missing_file_names_it() {
    let place = Place::new("");
    fs::remove_file(place.config()).unwrap();
    let output = check(&place);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("lb.ron"), "{output:?}");
}

#[test]
fn apply_makes_what_runs_the_same_as_the_file_in_one_transaction() {
    let (one, two) = (Backend::who("one"), Backend::who("two"));
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", one.addr())));
    let before = lb.revision();
    lb.place().write_config(
        Config::of(Frontend::new("web").policy("source_hash").server("b", two.addr()))
            .frontend(Frontend::new("api").server("c", one.addr())),
    );
    let config = lb.place().config();
    let config = config.to_str().unwrap();

    let difference = done(&lb, &["apply", "--config", config, "--dry-run"]);
    for part in ["api", "source_hash", "b"] {
        assert!(difference.contains(part), "{part:?} in the difference:\n{difference}");
    }
    assert_eq!((lb.revision(), ask(lb.addr("web")).as_str()), (before, "one"), "a dry run changes nothing");

    done(&lb, &["apply", "--config", config]);
    assert_eq!(lb.revision(), before + 1);
    assert_eq!((ask(lb.addr("web")).as_str(), ask(lb.addr("api")).as_str()), ("two", "one"));
    done(&lb, &["apply", "--config", config]);
    assert_eq!(lb.revision(), before + 1, "the second time there is nothing to do");

    let lb = lb.kill().start();
    assert_eq!(lb.server_names("web"), ["b"], "the applied file is what a restart starts with");
}

#[test]
fn apply_of_a_bad_file_exits_with_1_and_changes_nothing() {
    let backend = Backend::who("app");
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", backend.addr())));
    let before = lb.revision();
    lb.place().write_config("(frontends: [(name: \"web\", bind: \"nowhere\")])");
    let output = lb.run(&["apply", "--config", lb.place().config().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    position(&text(&output.stderr), &lb.place().config());
    assert_eq!((lb.revision(), ask(lb.addr("web")).as_str()), (before, "app"));
}

#[test]
fn sighup_applies_the_file_it_started_with() {
    let (one, two) = (Backend::who("one"), Backend::who("two"));
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", one.addr())));
    lb.place().write_config(Config::of(Frontend::new("web").server("b", two.addr())));
    lb.signal("HUP");
    wait::until("the file is applied", || lb.server_names("web") == ["b"]);
    assert_eq!(ask(lb.addr("web")), "two");
}

#[test]
fn sighup_with_a_bad_file_says_so_and_changes_nothing() {
    let backend = Backend::who("app");
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", backend.addr())));
    let before = lb.revision();
    lb.place().write_config("(frontends: [(name: \"web\")])");
    lb.signal("HUP");
    let error = lb.log().wait_for("ERROR").expect("lb goes on");
    assert!(error.contains("lb.ron:1:"), "the log names file and line: {error}");
    assert_eq!((lb.revision(), ask(lb.addr("web")).as_str()), (before, "app"));
}

#[test]
fn history_lists_revisions_and_undo_takes_the_last_one_back() {
    let lb = Lb::start(Config::of(Frontend::new("web")));
    done(&lb, &["server", "add", "web", "newcomer", "127.0.0.1", "80"]);
    let history = done(&lb, &["history"]);
    assert!(history.contains("newcomer"), "{history}");
    done(&lb, &["undo"]);
    assert_eq!(lb.server_names("web"), Vec::<String>::new());
    let changed = lb.change("AddServer(frontend:\"web\",server:(name:\"x\",ip:\"127.0.0.1\",port:80))").revision;
    done(&lb, &["undo", &changed.to_string()]);
    assert_eq!(lb.server_names("web"), Vec::<String>::new());
}

#[test]
fn probe_dry_run_and_if_revision_are_options_of_the_commands() {
    let ((dead, _port), alive) = (tests::refusing_addr(), Backend::who("alive"));
    let lb = Lb::start(Config::of(Frontend::new("web")));
    let (dead, alive) = (dead.port().to_string(), alive.addr().port().to_string());
    let code = |arguments: &[&str]| lb.run(arguments).status.code();
    assert_eq!(code(&["server", "add", "web", "a", "127.0.0.1", &dead, "--probe"]), Some(1));
    assert_eq!(code(&["server", "add", "web", "a", "127.0.0.1", &alive, "--if-revision", "9999"]), Some(1));
    assert_eq!(code(&["server", "add", "web", "a", "127.0.0.1", &alive, "--dry-run"]), Some(0));
    assert_eq!(lb.server_names("web"), Vec::<String>::new());
    assert_eq!(code(&["server", "add", "web", "a", "127.0.0.1", &alive, "--probe"]), Some(0));
    assert_eq!(lb.server_names("web"), ["a"]);
}

#[test]
fn status_and_help_and_version_print() {
    let lb = Lb::start(Config::of(Frontend::new("web")));
    let status = done(&lb, &["status"]);
    assert!(status.contains("revision"), "{status}");
    assert!(done(&lb, &["--help"]).contains("demo"));
    assert!(done(&lb, &["--version"]).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_demo_serves_http_and_can_be_changed() {
    let place = Place::new("");
    let admin = place.admin().to_str().unwrap();
    let lb = place.spawn_with(&["demo", "--port", "0", "--admin", admin]);
    lb.log().wait_for("ready").expect("the demo starts");
    let name = lb.json(&["frontend", "list"])[0]["name"].as_str().unwrap().to_owned();
    let url = format!("http://{}/", lb.addr(&name));
    let curl = || succeeds(Command::new("curl").args(["-sS", "--fail", "--max-time", "30", &url]));

    let bodies = [curl(), curl()];
    assert_ne!(bodies[0], bodies[1], "two servers answer in turn");

    let backend = Backend::run(|mut stream| {
        use std::io::{Read, Write};
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nadded");
    });
    done(&lb, &["server", "add", &name, "mine", "127.0.0.1", &backend.addr().port().to_string()]);
    assert!((0..3).any(|_| curl() == "added"), "the added server is the third in turn");
}

#[test]
fn two_demos_at_the_same_port_end_with_a_reason() {
    let first = Place::new("");
    let lb = first.spawn_with(&["demo", "--port", "0", "--admin", first.admin().to_str().unwrap()]);
    lb.log().wait_for("ready").expect("the demo starts");
    let name = lb.json(&["frontend", "list"])[0]["name"].as_str().unwrap().to_owned();
    let port = lb.addr(&name).port().to_string();

    let second = Place::new("");
    let mut command = Command::new(lb_path());
    command.args(["demo", "--port", &port, "--admin"]).arg(second.admin()).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let log = Log::follow(child.stderr.take().unwrap());
    let status = wait::until_some("the second demo gives up", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
    assert!(log.wait_for(&port).is_some(), "the reason names the port:\n{}", log.text());
}

/// Each server on a line of its own.
const GOOD: &str = r#"(
    frontends: [
        ( name: "web", bind: "127.0.0.1:7000", policy: round_robin, servers: [
            (name: "app1", ip: "127.0.0.1",             port: 9001),
            (name: "app2", ip: "127.0.0.2", port: 9002,             weight: 2),
        ] ),
    ],
)
"#;

/// Runs a command that must be done, and gives what it printed.
fn done(lb: &Lb, arguments: &[&str]) -> String {
    let output = lb.run(arguments);
    assert_eq!(output.status.code(), Some(0), "lb {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn check(place: &Place) -> Output {
    place.run(&["check", "--config", place.config().to_str().unwrap()])
}

/// Line and column, from 1, of a part of a text.
fn position_of(part: &str, text: &str) -> (usize, usize) {
    let before = &text[..text.find(part).unwrap_or_else(|| panic!("no {part} in {text}"))];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before.len() - line_start + 1)
}

/// Line and column from `file:line:column`.
fn position(reason: &str, file: &Path) -> (usize, usize) {
    let prefix = format!("{}:", file.display());
    let rest = reason.split_once(&prefix).unwrap_or_else(|| panic!("no {prefix} in {reason}")).1;
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(line)), Some(Ok(column))) => (line, column),
        _ => panic!("no line and column after {prefix} in {reason}"),
    }
}
