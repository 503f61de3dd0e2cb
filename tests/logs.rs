//! What a balancer says of itself and of its clients: the log, in text and JSON, on standard error and in the journal, and the
//! access log; and that nobody waits for either, whatever becomes of what they are written to.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use socket2::SockRef;
use tests::channel::client_config;
use tests::client::{self, connect, echo, read_to_end};
use tests::fault::{SmallDisk, has, is_root, skipped};
use tests::http::{Site, Wire, ok};
use tests::program::succeeds;
use tests::wait::{HANG, until, until_some};
use tests::{Authority, Backend, Channel, Config, Frontend, Lb, Log, Place, http_count, refusing_addr};

const MALFORMED: &str = "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n";

#[test]
fn a_text_line_has_time_level_and_message() {
    let lb = Lb::start(Config::default().set("shards", 1));
    let line = lb.log().wait_for("ready: ").unwrap();
    let words: Vec<_> = line.split_whitespace().take(3).collect();
    assert!(words[0].starts_with("20") && words[0].ends_with('Z'), "{line}");
    assert_eq!(words[1..], ["INFO", "ready:"], "{line}");
}

#[test]
fn every_json_line_is_an_object() {
    let lb = Lb::start(Config::default().set("shards", 1).set("log", "(format: json, level: \"debug\")"));
    lb.done(&["log", "level", "info"]);
    lb.log().wait_for("is info from now on").unwrap();
    let lines = objects(&lb.log().text());
    for line in &lines {
        let keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert!(["time", "level", "target", "message"].iter().all(|key| keys.contains(key)), "{line}");
    }
    let ready = lines.iter().find(|line| line["message"].as_str().unwrap().starts_with("ready: ")).unwrap();
    assert_eq!((&ready["level"], &ready["target"]), (&Value::from("info"), &Value::from("lb_bin::run")));
}

#[test]
fn the_level_is_changed_while_it_runs() {
    const DEBUG: &str = "a request is refused";
    let (site, lb) = http("");
    let addr = lb.addr("web");
    let refuse = || assert_eq!(Wire::connect(addr).ask(MALFORMED).status(), 400);
    assert_eq!(lb.done(&["log", "level"]), "info\n");
    refuse();
    assert_eq!(lb.done(&["log", "level", "debug"]), "debug from now on, it was info\n");
    refuse();
    assert_eq!(lb.done(&["log", "level", "info,lb_core=off"]), "info,lb_core=off from now on, it was debug\n");
    assert_eq!(lb.done(&["log", "level"]), "info,lb_core=off\n");
    refuse();
    // In the log's order this comes after everything before.
    lb.done(&["log", "level", "warn,lb_bin=info"]);
    lb.log().wait_for("is warn,lb_bin=info from now on").unwrap();
    assert_eq!(lb.log().count(|line| line.contains(DEBUG)), 1, "{}", lb.log().text());
    let reason = lb.refused(&["log", "level", "debgu"]);
    assert_eq!(reason, "lb: refused: unknown level \"debgu\", did you mean \"debug\"? (field level)\n");
    drop(site);
}

#[test]
fn the_environment_goes_before_the_configuration() {
    let place = Place::new(Config::default().set("shards", 1).set("log", "(level: \"error\")"));
    let lb = place.env("LB_LOG", "debug").start();
    assert_eq!(lb.done(&["log", "level"]), "debug\n");
}

#[test]
fn other_settings_of_the_process_are_told_to_wait_for_the_next_start() {
    let lb = Lb::start(Config::default().set("shards", 1));
    let later = "log is set otherwise than in force: it is used from the next start on";
    lb.place().write_config(Config::default().set("shards", 1).set("log", "(format: json)"));
    let config = lb.place().config();
    let applied = lb.done(&["apply", "--config", config.to_str().unwrap()]);
    assert!(applied.ends_with(&format!("warning: {later}\n")), "{applied}");
    lb.signal("HUP");
    assert!(lb.log().wait_for(&format!("SIGHUP: {later}")).is_some());
}

#[test]
fn nobody_waits_for_a_log_that_nobody_reads_and_what_was_dropped_is_told() {
    const LINES: usize = 20_000;
    let backend = Backend::echo();
    let place = Place::new(Config::of(Frontend::new("web").server("a", backend.addr())).set("shards", 1));
    let pipe = make_pipe(place.folder());
    // Held open, so that the pipe fills.
    let reader = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let lb = place.after(&format!("exec 2>'{}'", pipe.display())).spawn();
    until("the admin socket is there", || lb.place().admin().exists());

    let mut admin = lb.connect_admin();
    for _ in 0..LINES {
        assert!(admin.ask("SetLogLevel(level: \"info\")").starts_with("LogLevel("));
    }
    echo(&mut connect(lb.addr("web")), b"served");

    let log = Log::follow(reader);
    until("each line is written or told to be dropped", || {
        let text = log.text();
        let written = text.lines().filter(|line| line.contains("the log's level is")).count();
        // It goes on more than once if it had stopped more than once; the last time tells of all.
        let told = text.lines().rev().find_map(|line| line.split_once("lines of it were dropped, "));
        let dropped: usize = told.map_or(0, |(_, rest)| rest.split(' ').next().unwrap().parse().unwrap());
        dropped > 0 && written + dropped == LINES
    });
}

#[test]
fn nobody_waits_at_the_end_for_a_log_that_nobody_reads() {
    let place = Place::new(Config::default().set("shards", 1));
    let pipe = make_pipe(place.folder());
    let _reader = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let mut lb = place.after(&format!("exec 2>'{}'", pipe.display())).spawn();
    until("the admin socket is there", || lb.place().admin().exists());
    let mut admin = lb.connect_admin();
    for _ in 0..20_000 {
        admin.ask("SetLogLevel(level: \"info\")");
    }
    lb.signal("TERM");
    assert!(lb.exit().success());
}

#[test]
fn the_journal_gets_entries_of_its_own_protocol() {
    if skipped("the_journal_gets_entries_of_its_own_protocol", can_unshare(), "root and unshare") {
        return;
    }
    let site = Site::named("a");
    let config = web(&site).set("log", "(to: journald)").set("access_log", "(to: journald)");
    let (place, journal) = journal(config);
    let lb = place.spawn();
    let entry = next_entry(&journal, "MESSAGE=ready: ");
    for field in ["SYSLOG_IDENTIFIER=lb\n", "PRIORITY=6\n", "TARGET=lb_bin::run\n"] {
        assert!(entry.contains(field), "{entry}");
    }
    assert_eq!(Wire::connect(lb.addr("web")).get("/page").status(), 200);
    let entry = next_entry(&journal, "SYSLOG_IDENTIFIER=lb-access\n");
    for field in ["LB_FRONTEND=web\n", "LB_TARGET=/page\n", "LB_STATUS=200\n", "PRIORITY=6\n"] {
        assert!(entry.contains(field), "{entry}");
    }
    let message = entry.lines().find_map(|line| line.strip_prefix("MESSAGE=")).unwrap();
    let words: Vec<_> = message.split(' ').collect();
    assert_eq!((words[1], words[3], words[4]), ("web", "a", "done"), "{message}");
    assert_eq!((words[11], &words[13..]), ("GET", &["/page", "200", "-"][..]), "{message}");
}

#[test]
fn nobody_waits_for_a_journal_that_does_not_receive() {
    if skipped("nobody_waits_for_a_journal_that_does_not_receive", can_unshare(), "root and unshare") {
        return;
    }
    let site = Site::named("a");
    let config = web(&site).set("log", "(to: journald)").set("access_log", "(to: journald)");
    let (place, journal) = journal(config);
    let lb = place.spawn();
    next_entry(&journal, "MESSAGE=ready: ");
    let mut admin = lb.connect_admin();
    for _ in 0..3000 {
        admin.ask("SetLogLevel(level: \"info\")");
    }
    let mut wire = Wire::connect(lb.addr("web"));
    for _ in 0..3000 {
        assert_eq!(wire.get("/").status(), 200);
    }
    next_entry(&journal, "SYSLOG_IDENTIFIER=lb-access\n");
}

#[test]
fn without_journald_the_start_says_what_to_do() {
    if skipped("without_journald_the_start_says_what_to_do", can_unshare(), "root and unshare") {
        return;
    }
    let place = Place::new(Config::default().set("log", "(to: journald)"));
    let without = "exec unshare --mount sh -c 'mount -t tmpfs lb-test /run && exec \"$@\"' sh \"$0\" \"$@\"";
    let exit = place.after(without).fail();
    let reason = "lb: log: journald does not receive at /run/systemd/journal/socket: No such file or directory (os error 2); \
                  is systemd-journald running, and can its socket be reached from here? Otherwise write to: stderr";
    assert_eq!((exit.code, exit.log.as_str()), (Some(1), reason));
}

#[test]
fn every_connection_has_a_record_with_its_bytes_server_and_end() {
    let (echoing, resetting) = (Backend::echo(), Backend::reset_after(4));
    let (refusing, _socket) = refusing_addr();
    let config = Config::of(Frontend::new("good").server("app1", echoing.addr()))
        .frontend(Frontend::new("bad").server("app2", resetting.addr()))
        .frontend(Frontend::new("none").server("app3", refusing).set("redispatch_timeout", "\"1s\""));
    let lb = logging(
        config,
        "fields: [\"frontend\", \"client\", \"server\", \"server_addr\", \"tries\", \"end\", \
        \"bytes_to_server\", \"bytes_to_client\", \"duration_ms\", \"connect_ms\", \"time\", \"shard\"]",
    );

    let mut stream = connect(lb.addr("good"));
    let client = stream.local_addr().unwrap();
    echo(&mut stream, b"12345");
    drop(stream);
    let record = record(&lb, 1);
    assert_eq!(record["frontend"], "good");
    assert_eq!(record["client"], client.to_string());
    assert_eq!((&record["server"], &record["server_addr"]), (&"app1".into(), &echoing.addr().to_string().into()));
    assert_eq!((&record["bytes_to_server"], &record["bytes_to_client"]), (&5.into(), &5.into()));
    assert_eq!((&record["end"], &record["tries"]), (&"done".into(), &1.into()));
    assert!(record["duration_ms"].as_f64().unwrap() >= record["connect_ms"].as_f64().unwrap(), "{record}");
    assert!(record["time"].as_str().unwrap().ends_with('Z'), "{record}");

    let mut stream = connect(lb.addr("good"));
    echo(&mut stream, b"1");
    client::reset(stream);
    assert_eq!(self::record(&lb, 2)["end"], "client");

    let mut stream = connect(lb.addr("bad"));
    stream.write_all(b"1234").unwrap();
    client::read_until_closed(&mut stream);
    let record = self::record(&lb, 3);
    assert_eq!((&record["end"], &record["bytes_to_server"]), (&"server".into(), &4.into()), "{record}");

    client::is_turned_away(lb.addr("none"));
    let record = self::record(&lb, 4);
    assert_eq!((&record["end"], &record["frontend"]), (&"unserved".into(), &"none".into()), "{record}");
}

#[test]
fn a_connection_whose_tls_ends_here_says_which() {
    let backend = Backend::echo();
    let authority = Authority::root("root");
    let identity = authority.issue(&["app.test"]);
    let frontend = Frontend::new("web").certificates(&["site"]).server_with("a", backend.addr(), "ssl_offload: true");
    let lb =
        logging(Config::of(frontend).pair("site", &identity), "fields: [\"tls_version\", \"tls_resumed\", \"end\"]");
    let channel = Channel::connect(lb.addr("web"), "app.test", &client_config(&authority)).unwrap();
    channel.end().unwrap();
    assert_eq!(read_to_end(channel).unwrap(), "");
    let record = record(&lb, 1);
    assert_eq!((&record["tls_version"], &record["tls_resumed"]), (&"1.3".into(), &false.into()), "{record}");
    assert_eq!(record["end"], "done", "{record}");
}

#[test]
fn every_request_has_a_record() {
    let (site, lb) = http("access_log: (to: file(\"access.log\"))");
    let mut wire = Wire::connect(lb.addr("web"));
    assert_eq!(wire.get("/page?q=1").text(), "a");
    assert_eq!(wire.get("/other").text(), "a");
    let client = wire.ask(MALFORMED);
    assert_eq!(client.status(), 400);
    until("every request has a record", || records(&lb).len() == 3);
    let records = records(&lb);
    assert_eq!(
        records.iter().map(|record| record["target"].clone()).take(2).collect::<Vec<_>>(),
        ["/page?q=1", "/other"]
    );
    let (first, last) = (&records[0], &records[2]);
    assert_eq!((&first["method"], &first["status"], &first["server"]), (&"GET".into(), &200.into(), &"a".into()));
    assert_eq!(first["end"], "done");
    assert!(first["bytes_to_client"].as_u64() > Some(1) && first["bytes_to_server"].as_u64() > Some(1), "{first}");
    assert!(first["host"].as_str().is_some_and(|host| !host.is_empty()), "{first}");
    assert_eq!(
        (&last["status"], &last["end"], &last["server"]),
        (&400.into(), &"refused".into(), &Value::Null),
        "{last}"
    );
    assert_eq!(last["cause"], "malformed");
    drop(site);
}

#[test]
fn a_request_that_was_said_again_has_one_record_of_its_answer() {
    let site = Site::play(|wire, _| {
        if let Ok(Some(_)) = wire.request() {
            wire.send(ok("answered"));
        }
        let _ = wire.request();
        let _ = SockRef::from(wire.reader().get_ref()).set_linger(Some(Duration::ZERO));
    });
    let lb = Lb::start(web(&site).set("access_log", "(to: file(\"access.log\"))"));
    let mut wire = Wire::connect(lb.addr("web"));
    (0..2).for_each(|_| assert_eq!(wire.get("/").text(), "answered"));
    until("both have a record", || records(&lb).len() == 2);
    let last = &records(&lb)[1];
    assert_eq!((&last["status"], &last["end"]), (&200.into(), &"done".into()), "{last}");
    assert_eq!(http_count(&lb.frontend("web"), "retried"), 1);
}

#[test]
fn a_line_of_text_has_the_fields_in_the_order_of_the_list() {
    let (site, lb) = http(
        "access_log: (to: file(\"access.log\"), format: text, fields: [\"status\", \"target\", \"cause\", \"server\"])",
    );
    let mut wire = Wire::connect(lb.addr("web"));
    assert_eq!(wire.get("/\"quoted\"").status(), 200);
    assert_eq!(wire.get("/plain").status(), 200);
    until("both have a line", || text_lines(&lb).len() == 2);
    assert_eq!(text_lines(&lb), ["200 \"/\\\"quoted\\\"\" - a", "200 /plain - a"]);
    drop(site);
}

#[test]
fn the_access_log_can_go_to_standard_error() {
    let (site, lb) = http("access_log: (fields: [\"target\"])");
    assert_eq!(Wire::connect(lb.addr("web")).get("/page").status(), 200);
    assert_eq!(lb.log().wait_for("/page").as_deref(), Some("{\"target\":\"/page\"}"));
    drop(site);
}

#[test]
fn the_file_is_opened_anew_on_sigusr1_and_no_record_is_lost() {
    const REQUESTS: usize = 3000;
    let (site, lb) = http("access_log: (to: file(\"access.log\"))");
    let (now, before) = (access_log(&lb), lb.place().folder().join("access.log.1"));
    assert_eq!(fs::metadata(&now).unwrap().mode() & 0o777, 0o640);
    let addr = lb.addr("web");
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut wire = Wire::connect(addr);
            for request in 0..REQUESTS {
                assert_eq!(wire.get(&format!("/{request}")).status(), 200);
            }
        });
        until("lines are there", || !records(&lb).is_empty());
        fs::rename(&now, &before).unwrap();
        lb.signal("USR1");
        until("there is a new file", || now.exists());
    });
    let all = || [lines_of(&before), lines_of(&now)].concat();
    until("every request has a record", || all().len() == REQUESTS);
    for (request, line) in all().iter().enumerate() {
        assert_eq!(serde_json::from_str::<Value>(line).unwrap()["target"], format!("/{request}"));
    }
    drop(site);
}

#[test]
fn who_says_nothing_in_time_is_recorded_as_that() {
    let site = Site::named("a");
    let config = Config::of(
        Frontend::new("web")
            .set("protocol", "http")
            .set("http", "(header_timeout: \"200ms\")")
            .server("a", site.addr()),
    );
    let lb = logging(config, "");
    Wire::connect(lb.addr("web")).closes();
    assert_eq!(record(&lb, 1)["end"], "timeout");
}

#[test]
fn a_file_that_was_moved_away_is_made_anew_without_a_signal() {
    let (site, lb) = http("access_log: (to: file(\"access.log\"))");
    fs::remove_file(access_log(&lb)).unwrap();
    until("there is a new file", || access_log(&lb).exists());
    assert_eq!(Wire::connect(lb.addr("web")).get("/").status(), 200);
    until("the record is in it", || records(&lb).len() == 1);
    drop(site);
}

#[test]
fn nobody_waits_for_a_full_disk_and_what_was_dropped_is_told() {
    const CLIENTS: usize = 8;
    const REQUESTS: usize = 2000;
    if skipped("nobody_waits_for_a_full_disk_and_what_was_dropped_is_told", is_root(), "root") {
        return;
    }
    let disk = SmallDisk::mount();
    let path = disk.path().join("access.log");
    let (site, lb) = http(&format!("access_log: (to: file({path:?}), fields: [\"status\"])"));
    let filler = disk.fill();
    let addr = lb.addr("web");
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(move || {
                let mut wire = Wire::connect(addr);
                for _ in 0..REQUESTS {
                    assert_eq!(wire.get("/").status(), 200);
                }
            });
        }
    });
    assert!(lb.log().wait_for("the access log can't be written to").unwrap().contains("No space left on device"));
    let counted = lb.status()["access_dropped"].as_u64().unwrap();
    fs::remove_file(filler).unwrap();
    let said = lb.log().wait_for("the access log goes on: ").unwrap();
    assert!(said.contains(&format!("the access log goes on: {counted} records were dropped")), "{counted}: {said}");
    until("the rest is written", || lines_of(&path).len() == CLIENTS * REQUESTS - counted as usize);
    assert!(counted > 0);
    assert!(lines_of(&path).iter().all(|line| line == "{\"status\":200}"), "no line is torn");
    drop((lb, site));
}

#[test]
fn nobody_waits_for_a_pipe_that_nobody_reads() {
    let site = Site::named("a");
    let place = Place::new(web(&site).set("access_log", "(to: file(\"access.log\"))"));
    let pipe = place.folder().join("access.log");
    succeeds(Command::new("mkfifo").arg(&pipe));
    let mut lb = place.start();
    let mut wire = Wire::connect(lb.addr("web"));
    for request in 0..1000 {
        assert_eq!(wire.get(&format!("/{request}")).status(), 200);
    }
    assert!(lb.log().wait_for("the access log can't be written to").is_some());

    // Whoever reads it then gets whole lines from the first on.
    let lines = BufReader::new(File::open(&pipe).unwrap()).lines();
    for (request, line) in lines.take(1000).map(Result::unwrap).enumerate() {
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["target"], format!("/{request}"));
    }
    for request in 0..1000 {
        assert_eq!(wire.get(&format!("/{request}")).status(), 200);
    }
    lb.signal("TERM");
    drop(wire);
    assert!(lb.exit().success(), "it ends though nobody reads");
}

#[test]
fn the_last_records_are_written_before_the_end() {
    let (site, mut lb) = http("access_log: (to: file(\"access.log\"))");
    for _ in 0..100 {
        assert_eq!(Wire::connect(lb.addr("web")).get("/").status(), 200);
    }
    lb.signal("TERM");
    assert!(lb.exit().success());
    assert_eq!(records(&lb).len(), 100);
    drop(site);
}

#[test]
fn a_file_that_can_not_be_written_ends_the_start() {
    let place = Place::new(Config::default().set("access_log", "(to: file(\"no/access.log\"))"));
    let exit = place.fail();
    let path = fs::canonicalize(place.folder()).unwrap().join("no/access.log");
    let reason = format!("lb: access_log: {}: No such file or directory (os error 2)", path.display());
    assert!(exit.log.ends_with(&reason), "{}", exit.log);
}

/// A balancer of requests with one server, and settings of the process.
fn http(settings: &str) -> (Site, Lb) {
    let site = Site::named("a");
    let config = web(&site);
    let lb = match settings.split_once(": ") {
        Some((name, value)) => Lb::start(config.set(name, value)),
        None => Lb::start(config),
    };
    (site, lb)
}

fn web(site: &Site) -> Config {
    Config::of(Frontend::new("web").set("protocol", "http").server("a", site.addr())).set("shards", 1)
}

/// A balancer with an access log in its folder.
fn logging(config: Config, settings: &str) -> Lb {
    Lb::start(config.set("shards", 1).set("access_log", format!("(to: file(\"access.log\"), {settings})")))
}

fn access_log(lb: &Lb) -> PathBuf {
    lb.place().folder().join("access.log")
}

fn text_lines(lb: &Lb) -> Vec<String> {
    lines_of(&access_log(lb))
}

/// The whole lines of a file.
fn lines_of(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(str::to_owned).collect()
}

fn records(lb: &Lb) -> Vec<Value> {
    text_lines(lb)
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// The last record, as soon as there are so many.
fn record(lb: &Lb, count: usize) -> Value {
    until_some("there is a record", || (records(lb).len() == count).then(|| records(lb).pop()).flatten())
}

fn objects(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn make_pipe(folder: &Path) -> PathBuf {
    let path = folder.join("pipe");
    succeeds(Command::new("mkfifo").arg(&path));
    path
}

fn can_unshare() -> bool {
    is_root() && has("unshare")
}

/// A place whose program finds a journald, which this test plays, and what it receives.
fn journal(config: Config) -> (Place, UnixDatagram) {
    let place = Place::new(config);
    let folder = place.folder().join("journal");
    fs::create_dir(&folder).unwrap();
    let socket = UnixDatagram::bind(folder.join("socket")).unwrap();
    socket.set_read_timeout(Some(HANG)).unwrap();
    let mount = "mount -t tmpfs lb-test /run && mkdir -p /run/systemd && ln -s \"$1\" /run/systemd/journal && shift";
    let place = place
        .after(&format!("exec unshare --mount sh -c '{mount} && exec \"$@\"' sh '{}' \"$0\" \"$@\"", folder.display()));
    (place, socket)
}

/// The next entry that has `part` in it.
fn next_entry(journal: &UnixDatagram, part: &str) -> String {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = journal.recv(&mut buffer).unwrap_or_else(|error| panic!("no entry with {part:?}: {error}"));
        let entry = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if entry.contains(part) {
            return entry;
        }
    }
}
