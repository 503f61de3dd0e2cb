//! Changes while it runs: true for every connection accepted after the confirmation, unnoticed by those that exist.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use tests::client::{self, ask, connect, echo, try_ask};
use tests::{Backend, Config, Frontend, Lb, refusing_addr, wait};

#[test]
fn a_thousand_changes_under_load_never_send_a_connection_to_a_replaced_address() {
    let server = AddressSayer::new();
    let lb = Lb::start(Config::of(Frontend::new("web").server("app", server.addr_of(0))));
    let addr = lb.addr("web");
    let (confirmed, checked, done) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default(), Arc::default());
    let mut lasting = lasting_connection(addr, &server);

    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (confirmed, checked, done) = (Arc::clone(&confirmed), Arc::clone(&checked), Arc::clone(&done));
            thread::spawn(move || check_connections(addr, &confirmed, &checked, &done))
        })
        .collect();
    let mut admin = lb.connect_admin();
    // On a slow machine more changes, until they were seen by a thousand connections.
    let mut version = 0;
    let has_failed = || clients.iter().any(|client| client.is_finished());
    while (version < 1000 || checked.load(SeqCst) < 1000) && !has_failed() {
        version += 1;
        let ip = server.addr_of(version).ip();
        admin.change(&format!("UpdateServer(frontend:\"web\",name:\"app\",ip:\"{ip}\")"));
        confirmed.store(version, SeqCst);
        echo(&mut lasting, &version.to_le_bytes());
    }
    done.store(true, SeqCst);

    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(server.version_of(&ask_version(addr)), version);
}

#[test]
fn an_added_server_gets_the_next_connections() {
    let (one, two) = (Backend::who("one"), Backend::who("two"));
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", one.addr())));
    let confirmed = lb.change(&add("web", "b", two.addr()));
    assert!(confirmed.durable, "{confirmed:?}");
    assert_eq!(confirmed.shards, lb.status()["shards"].as_array().unwrap().len(), "every shard uses it");
    assert!(confirmed.message.contains('b') && confirmed.message.contains("web"), "{confirmed:?}");
    let mut answers = [ask(lb.addr("web")), ask(lb.addr("web"))];
    answers.sort();
    assert_eq!(answers, ["one", "two"]);
}

#[test]
fn a_removed_server_gets_no_connection_and_keeps_those_it_has() {
    let (one, two) = (Backend::who_and_echo("one"), Backend::who("two"));
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", one.addr())));
    let mut kept = connect_to("one", lb.addr("web"));
    lb.change(&add("web", "b", two.addr()));
    lb.change("RemoveServer(frontend:\"web\",name:\"a\")");
    for _ in 0..10 {
        assert_eq!(ask(lb.addr("web")), "two");
    }
    echo(&mut kept, b"still here");
}

#[test]
fn a_drained_server_gets_no_connection_until_it_is_enabled() {
    for policy in ["round_robin", "least_connections", "random_two", "least_latency", "source_hash"] {
        let (one, two) = (Backend::who_and_echo("one"), Backend::who_and_echo("two"));
        let frontend = Frontend::new("web").policy(policy).server("a", one.addr()).server("b", two.addr());
        let lb = Lb::start(Config::of(frontend));
        let addr = lb.addr("web");
        let mut kept = connect(addr);
        let name = read_name(&mut kept);
        let (drained, other) = if name == "one" { ("a", "two") } else { ("b", "one") };

        lb.change(&format!("DrainServer(frontend:\"web\",name:\"{drained}\")"));
        for _ in 0..20 {
            assert_eq!(read_name(&mut connect(addr)), other, "{policy}");
        }
        echo(&mut kept, b"still here");
        lb.change(&format!("EnableServer(frontend:\"web\",name:\"{drained}\")"));
        let mut held = vec![kept];
        wait::until("the enabled server gets a connection again", || {
            held.push(connect(addr));
            read_name(held.last_mut().unwrap()) == name
        });
    }
}

#[test]
fn an_updated_server_is_reached_at_its_new_address_and_keeps_its_connections_at_the_old_one() {
    let (old, new) = (Backend::who_and_echo("old"), Backend::who("new"));
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", old.addr())));
    let mut kept: Vec<_> = (0..3).map(|_| connect_to("old", lb.addr("web"))).collect();

    let confirmed =
        lb.change(&format!("UpdateServer(frontend:\"web\",name:\"a\",rename:\"z\",port:{})", new.addr().port()));

    assert_eq!(confirmed.connections_on_replaced, 3);
    assert_eq!(ask(lb.addr("web")), "new");
    assert_eq!(lb.server_names("web"), ["z"]);
    for stream in &mut kept {
        echo(stream, b"still here");
    }
    assert_eq!(lb.status()["connections_on_replaced"], 3);
    kept.truncate(1);
    wait::until("two of three have gone", || lb.status()["connections_on_replaced"] == 1);
    drop(kept);
    wait::until("all have gone", || lb.status()["connections_on_replaced"] == 0);
}

#[test]
fn connections_on_replaced_counts_the_servers_own_and_no_others() {
    let (one, two) = (Backend::who_and_echo("one"), Backend::who_and_echo("two"));
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", one.addr()).server("b", two.addr())));
    let kept: Vec<_> = (0..6).map(|_| connect(lb.addr("web"))).collect();
    kept.iter().for_each(|mut stream| stream.read_exact(&mut [0; 3]).unwrap());

    assert_eq!(lb.change("UpdateServer(frontend:\"web\",name:\"a\",weight:2)").connections_on_replaced, 0);
    assert_eq!(lb.change("RemoveServer(frontend:\"web\",name:\"a\")").connections_on_replaced, 3);
    assert_eq!(lb.change("RemoveServer(frontend:\"web\",name:\"b\")").connections_on_replaced, 3);
    assert_eq!(lb.status()["connections_on_replaced"], 6);
}

#[test]
fn a_transaction_is_done_whole_as_one_revision() {
    let (one, two) = (Backend::who("one"), Backend::who("two"));
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", one.addr())));
    let before = lb.revision();
    let changes = [add("web", "b", two.addr()), "RemoveServer(frontend:\"web\",name:\"a\")".to_owned()];
    let confirmed = lb.change(&format!("Transaction([{}])", changes.join(",")));
    assert_eq!(confirmed.revision, before + 1);
    assert_eq!(lb.server_names("web"), ["b"]);
    assert_eq!(ask(lb.addr("web")), "two");
}

#[test]
fn a_transaction_with_one_bad_change_changes_nothing() {
    let (one, two) = (Backend::who("one"), Backend::who("two"));
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", one.addr())));
    let bad_changes = [
        "RemoveServer(frontend:\"web\",name:\"nobody\")".to_owned(),
        add("elsewhere", "c", two.addr()),
        add("web", "b", two.addr()),
        format!("AddFrontend(frontend:{})", Frontend::new("web")),
    ];
    for bad in bad_changes {
        unchanged(&lb, || {
            lb.refuse(&format!(
                "Transaction([{},DrainServer(frontend:\"web\",name:\"a\"),{bad}])",
                add("web", "b", two.addr())
            ));
        });
    }
    assert_eq!(ask(lb.addr("web")), "one");
}

#[test]
fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let (one, two) = (Backend::who("one"), Backend::who("two"));
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", one.addr())));
    unchanged(&lb, || {
        let request = add("web", "newcomer", two.addr());
        let reply = lb.admin(&with_options(&request, "dry_run:true"));
        assert!(reply.starts_with("Proposed(") && reply.contains("newcomer"), "{request}: {reply}");
        let reply = lb.admin(&format!("Transaction((changes:[{request}],dry_run:true))"));
        assert!(reply.starts_with("Proposed(") && reply.contains("newcomer"), "{request}: {reply}");
        lb.refuse("RemoveServer(frontend:\"web\",name:\"nobody\",dry_run:true)");
    });
    assert_eq!(ask(lb.addr("web")), "one");
}

#[test]
fn a_change_for_another_revision_is_refused() {
    let (one, two) = (Backend::who("one"), Backend::who("two"));
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", one.addr())));
    let revision = lb.change("UpdateServer(frontend:\"web\",name:\"a\",weight:2)").revision;
    unchanged(&lb, || {
        for wrong in [revision - 1, revision + 1] {
            let refused = lb.refuse(&with_options(&add("web", "b", two.addr()), &format!("if_revision:{wrong}")));
            assert_eq!(refused.field.as_deref(), Some("if_revision"), "{refused:?}");
        }
    });
    let right = with_options(&add("web", "b", two.addr()), &format!("if_revision:{revision}"));
    assert_eq!(lb.change(&right).revision, revision + 1);
}

#[test]
fn undo_takes_a_revision_back_as_a_new_one_and_the_history_has_both() {
    let (old, new) = (Backend::who("old"), Backend::who("new"));
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", old.addr())));
    let port = new.addr().port();
    let changed = lb.change(&format!("UpdateServer(frontend:\"web\",name:\"a\",port:{port})")).revision;
    assert_eq!(ask(lb.addr("web")), "new");

    let undone = lb.change(&format!("Undo(revision:{changed})")).revision;

    assert_eq!((undone, ask(lb.addr("web")).as_str()), (changed + 1, "old"));
    let history = lb.json(&["history"]);
    let revisions: Vec<_> =
        history.as_array().unwrap().iter().map(|record| record["revision"].as_u64().unwrap()).collect();
    assert!(revisions.contains(&changed) && revisions.contains(&undone), "{history}");

    lb.change("RemoveServer(frontend:\"web\",name:\"a\")");
    unchanged(&lb, || {
        lb.refuse(&format!("Undo(revision:{changed})"));
        lb.refuse("Undo(revision:999999)");
    });
}

#[test]
fn a_probe_refuses_a_server_that_does_not_answer_and_takes_one_that_does() {
    let ((dead, _port), alive) = (refusing_addr(), Backend::who("alive"));
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", alive.addr())));
    unchanged(&lb, || {
        lb.refuse(&with_options(&add("web", "b", dead), "probe:true"));
        lb.refuse(&format!("UpdateServer(frontend:\"web\",name:\"a\",port:{},probe:true)", dead.port()));
    });
    let reached = alive.accepted();
    lb.change(&with_options(&add("web", "b", alive.addr()), "probe:true"));
    wait::until("the server has seen that it was tried", || alive.accepted() > reached);
    lb.change(&add("web", "unprobed", dead));
}

#[test]
fn a_probe_of_a_silent_server_does_not_hold_up_other_changes() {
    let (silent, alive) = (tests::net::FullBacklog::new(), Backend::who("alive"));
    let frontend = Frontend::new("web").set("connect_timeout", "\"10s\"").server("a", alive.addr());
    let lb = Lb::start(Config::of(frontend));
    let mut probing = lb.connect_admin();
    let request = with_options(&add("web", "silent", silent.addr()), "probe:true");
    probing.send(format!("{request}\n").as_bytes()).unwrap();
    let answer = thread::spawn(move || probing.line());

    for weight in 2..5 {
        lb.change(&format!("UpdateServer(frontend:\"web\",name:\"a\",weight:{weight})"));
    }

    assert!(!answer.is_finished(), "three changes took less time than a probe's timeout");
    let answer = answer.join().unwrap();
    assert!(answer.starts_with("Refused("), "{answer}");
}

#[test]
fn an_added_frontend_accepts_and_a_removed_one_refuses_and_keeps_its_connections() {
    let (one, two) = (Backend::who("one"), Backend::who_and_echo("two"));
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", one.addr())));
    lb.change(&format!("AddFrontend(frontend:{})", Frontend::new("api").server("a", two.addr())));
    let addr = lb.addr("api");
    let mut kept = connect_to("two", addr);

    let confirmed = lb.change("RemoveFrontend(name:\"api\")");

    assert_eq!(confirmed.connections_on_replaced, 1);
    assert_refuses(addr);
    echo(&mut kept, b"still here");
    assert_eq!(ask(lb.addr("web")), "one");
}

#[test]
fn a_frontend_moves_to_another_address_and_keeps_its_connections() {
    let backend = Backend::who_and_echo("app");
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", backend.addr())));
    let old = lb.addr("web");
    let mut kept = connect_to("app", old);

    lb.change("UpdateFrontend(name:\"web\",bind:\"127.0.0.2:0\")");

    let new = lb.addr("web");
    assert_eq!(new.ip(), IpAddr::from([127, 0, 0, 2]));
    connect_to("app", new);
    assert_refuses(old);
    echo(&mut kept, b"still here");
}

#[test]
fn a_renamed_frontend_goes_on_at_the_same_port() {
    let backend = Backend::who("app");
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", backend.addr())));
    let addr = lb.addr("web");
    lb.change("UpdateFrontend(name:\"web\",rename:\"shop\")");
    assert_eq!(lb.addr("shop"), addr);
    assert_eq!(ask(addr), "app");
}

#[test]
fn a_frontend_whose_port_is_taken_is_refused_and_nothing_changes() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let lb = Lb::start(Config::of(Frontend::new("web")));
    unchanged(&lb, || {
        let frontend = Frontend::new("api").bind(taken.local_addr().unwrap());
        let refused = lb.refuse(&format!("AddFrontend(frontend:{frontend})"));
        assert_eq!(refused.field.as_deref(), Some("bind"), "{refused:?}");
        let refused = lb.refuse(&format!("UpdateFrontend(name:\"web\",bind:\"{}\")", taken.local_addr().unwrap()));
        assert_eq!(refused.field.as_deref(), Some("bind"), "{refused:?}");
    });
}

#[test]
fn no_connection_is_lost_while_servers_come_and_go() {
    let (steady, passing) = (Backend::who("steady"), Backend::who("passing"));
    let lb = Lb::start(Config::of(Frontend::new("web").server("steady", steady.addr())));
    let (addr, done) = (lb.addr("web"), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let done = Arc::clone(&done);
            thread::spawn(move || {
                while !done.load(SeqCst) {
                    try_ask(addr).unwrap_or_else(|error| panic!("a connection was lost: {error}"));
                }
            })
        })
        .collect();
    let mut admin = lb.connect_admin();
    // On a slow machine more changes, until the passing server was used.
    let mut rounds = 0;
    let has_failed = || clients.iter().any(|client| client.is_finished());
    while (rounds < 100 || passing.accepted() == 0) && !has_failed() {
        rounds += 1;
        admin.change(&add("web", "passing", passing.addr()));
        admin.change("RemoveServer(frontend:\"web\",name:\"passing\")");
    }
    done.store(true, SeqCst);
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(lb.unserved("web"), 0);
}

/// A server at every address of 127.1.0.0/16 that says at which it was reached, then echoes.
struct AddressSayer(Backend);

impl AddressSayer {
    fn new() -> Self {
        Self(Backend::run_at("0.0.0.0:0", |mut stream| {
            let ip = stream.local_addr().unwrap().ip().to_string();
            let _ = stream.write_all(format!("{ip}\n").as_bytes());
            let mut chunk = [0; 64];
            while let Ok(count @ 1..) = stream.read(&mut chunk) {
                let _ = stream.write_all(&chunk[..count]);
            }
        }))
    }

    /// The address that stands for a version.
    fn addr_of(&self, version: u64) -> SocketAddr {
        SocketAddr::new(ip_of(version), self.0.addr().port())
    }

    fn version_of(&self, ip: &str) -> u64 {
        version_of(ip)
    }
}

fn ip_of(version: u64) -> IpAddr {
    let [.., high, low] = version.to_be_bytes();
    IpAddr::from([127, 1, high, low])
}

fn version_of(ip: &str) -> u64 {
    match ip.parse() {
        Ok(IpAddr::V4(ip)) => u64::from(ip.octets()[2]) << 8 | u64::from(ip.octets()[3]),
        _ => panic!("{ip:?} is not an address of 127.1.0.0/16"),
    }
}

/// Makes connections until `done`; none may reach an address older than what was confirmed before it was begun, nor
/// newer than what may have been asked for.
fn check_connections(addr: SocketAddr, confirmed: &AtomicU64, checked: &AtomicU64, done: &AtomicBool) {
    while !done.load(SeqCst) {
        let before = confirmed.load(SeqCst);
        let used = version_of(&ask_version(addr));
        let after = confirmed.load(SeqCst);
        assert!(used >= before, "version {before} was confirmed before a connection that reached version {used}");
        assert!(used <= after + 1, "version {used} was reached when {after} was the last one confirmed");
        checked.fetch_add(1, SeqCst);
    }
}

fn ask_version(addr: SocketAddr) -> String {
    read_line(&mut connect(addr))
}

/// A connection that is made before all changes.
fn lasting_connection(addr: SocketAddr, server: &AddressSayer) -> TcpStream {
    let mut stream = connect(addr);
    assert_eq!(server.version_of(&read_line(&mut stream)), 0);
    stream
}

fn read_line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).unwrap();
        match byte {
            [b'\n'] => return String::from_utf8(line).unwrap(),
            [other] => line.push(other),
        }
    }
}

/// The name, three letters long, that an echoing server says first.
fn read_name(stream: &mut TcpStream) -> String {
    let mut name = [0; 3];
    stream.read_exact(&mut name).unwrap();
    String::from_utf8(name.to_vec()).unwrap()
}

fn connect_to(name: &str, addr: SocketAddr) -> TcpStream {
    let mut stream = connect(addr);
    assert_eq!(read_name(&mut stream), name);
    stream
}

fn add(frontend: &str, name: &str, addr: SocketAddr) -> String {
    let (ip, port) = (addr.ip(), addr.port());
    format!("AddServer(frontend:\"{frontend}\",server:(name:\"{name}\",ip:\"{ip}\",port:{port}))")
}

/// A request with options added behind its fields.
fn with_options(request: &str, options: &str) -> String {
    let fields = request.strip_suffix(')').expect("a request ends with a parenthesis");
    format!("{fields},{options})")
}

/// Checks that frontends and revision are the same after `attempt`.
fn unchanged(lb: &Lb, attempt: impl FnOnce()) {
    let all = || (lb.revision(), lb.settings(), lb.json(&["history"]));
    let before = all();
    attempt();
    assert_eq!(all(), before, "something changed");
}

fn assert_refuses(addr: SocketAddr) {
    let error = client::try_connect(addr).expect_err("a frontend that was removed accepts");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{error}");
}
