//! A balancer takes the place of a running one: nobody is refused or reset, and nothing that was changed is lost.
#![forbid(unsafe_code)]

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

use tests::client::{ask, connect, echo, read_to_end, try_connect, try_echo};
use tests::{Admin, Backend, Config, Frontend, Lb, Place, Reply, text, wait};

/// Clients that connect, exchange messages and close, again and again.
struct Load {
    stopped: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    /// Some clients of an address, behind which a server that echoes must be.
    fn on(addr: SocketAddr, clients: usize) -> Self {
        let (stopped, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let client = |_| {
            let (stopped, served) = (Arc::clone(&stopped), Arc::clone(&served));
            thread::spawn(move || {
                let mut failures = Vec::new();
                for number in 0_u64.. {
                    if stopped.load(Relaxed) || failures.len() > 10 {
                        break;
                    }
                    match exchange(addr, number) {
                        Ok(()) => drop(served.fetch_add(1, Relaxed)),
                        Err(error) => failures.push(format!("connection {number}: {error}")),
                    }
                }
                failures
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { stopped, served, clients }
    }

    /// Returns when some more connections have been served.
    fn go_on(&self) {
        let before = self.served.load(Relaxed);
        wait::until("clients are served", || self.served.load(Relaxed) > before + 50);
    }

    /// Stops, and gives the number of connections that were served: all.
    fn end(self) -> u64 {
        self.stopped.store(true, Relaxed);
        let failures: Vec<String> = self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        assert!(failures.is_empty(), "{} connections failed: {failures:#?}", failures.len());
        self.served.load(Relaxed)
    }
}

/// One connection: two messages there and back, and an orderly end.
fn exchange(addr: SocketAddr, number: u64) -> std::io::Result<()> {
    let mut stream = try_connect(addr)?;
    for turn in 0..2 {
        try_echo(&mut stream, format!("message {turn} of connection {number}").as_bytes())?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let rest = read_to_end(stream)?;
    assert_eq!(rest, "");
    Ok(())
}

/// Lets a successor take the place of `old`, which must end well.
fn succeed(mut old: Lb) -> Lb {
    let new = old.place().start_successor();
    assert_eq!(old.exit().code(), Some(0), "{}", old.log().text());
    new
}

fn until_told(socket: &UnixDatagram, what: &str) -> String {
    let mut buffer = [0; 4096];
    loop {
        let count = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("systemd was not told {what}: {error}"));
        let message = String::from_utf8_lossy(&buffer[..count]).into_owned();
        if message.lines().any(|line| line == what) {
            return message;
        }
    }
}

#[test]
fn fifty_take_overs_under_load_refuse_and_reset_nobody() {
    let backend = Backend::echo();
    let mut lb = Lb::start(Config::of(Frontend::new("web").server("a", backend.addr())).set("shards", 2));
    let load = Load::on(lb.addr("web"), 6);
    for _ in 0..50 {
        load.go_on();
        lb = succeed(lb);
    }
    load.go_on();
    let served = load.end();
    println!("{served} connections were served over 50 take-overs");
}

/// Nobody else comes who would wake a shard up for it.
#[test]
fn a_client_that_is_alone_is_not_left_waiting() {
    let backend = Backend::echo();
    let mut lb = Lb::start(Config::of(Frontend::new("web").server("a", backend.addr())).set("shards", 2));
    let load = Load::on(lb.addr("web"), 1);
    for _ in 0..30 {
        load.go_on();
        lb = succeed(lb);
    }
    load.end();
}

#[test]
fn the_number_of_shards_may_change_under_load() {
    let backend = Backend::echo();
    let config = |shards: usize| Config::of(Frontend::new("web").server("a", backend.addr())).set("shards", shards);
    let mut lb = Lb::start(config(1));
    let load = Load::on(lb.addr("web"), 6);
    for shards in [2, 1, 3, 2, 1] {
        lb.place().write_config(config(shards));
        lb = succeed(lb);
        assert_eq!(lb.status()["shards"].as_array().unwrap().len(), shards);
        load.go_on();
    }
    load.end();
}

#[test]
fn a_connection_goes_on_in_the_old_process_which_ends_with_it() {
    let backend = Backend::echo();
    let mut old = Lb::start(Config::of(Frontend::new("web").server("a", backend.addr())));
    let addr = old.addr("web");
    let mut stream = connect(addr);
    echo(&mut stream, b"before");

    let new = old.place().start_successor();

    echo(&mut stream, b"after");
    echo(&mut connect(addr), b"new");
    // The old connection is not the new process's.
    new.until_idle();
    // Another one takes over from the new one, not from the old one.
    let newest = succeed(new);
    echo(&mut stream, b"after another");
    drop(stream);
    assert_eq!(old.exit().code(), Some(0), "{}", old.log().text());
    echo(&mut connect(addr), b"still there");
    drop(newest);
}

#[test]
fn what_was_changed_at_run_time_is_there_with_revision_and_history() {
    let (one, two) = (Backend::who("one"), Backend::who("two"));
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", one.addr())));
    let addr = two.addr();
    lb.change(&format!("AddServer(frontend:\"web\",server:(name:\"b\",ip:\"{}\",port:{}))", addr.ip(), addr.port()));
    lb.change("RemoveServer(frontend:\"web\",name:\"a\")");
    let (settings, history) = (lb.settings(), lb.admin("History"));

    let lb = succeed(lb);

    assert_eq!(lb.revision(), 3);
    assert_eq!(lb.settings(), settings);
    assert_eq!(lb.admin("History"), history);
    assert_eq!(ask(lb.addr("web")), "two");
    assert_eq!(lb.change("Undo()").revision, 4);
}

#[test]
fn ports_that_the_kernel_chose_stay_with_their_frontends() {
    let (one, two, three) = (Backend::who("one"), Backend::who("two"), Backend::who("three"));
    let config = Config::of(Frontend::new("first").server("a", one.addr()));
    let lb = Lb::start(config.frontend(Frontend::new("second").server("b", two.addr())));
    lb.change(&format!("AddFrontend(frontend:{})", Frontend::new("third").server("c", three.addr())));
    let addrs = ["first", "second", "third"].map(|name| lb.addr(name));
    let lb = succeed(succeed(lb));
    assert_eq!(["first", "second", "third"].map(|name| lb.addr(name)), addrs);
    assert_eq!(addrs.map(ask), ["one", "two", "three"]);
}

#[test]
fn more_sockets_than_fit_into_one_message_are_passed_on() {
    let backend = Backend::who("app");
    let names: Vec<String> = (0..150).map(|number| format!("web{number}")).collect();
    let frontends = names.iter().map(|name| Frontend::new(name).server("a", backend.addr()));
    let lb = Lb::start(frontends.fold(Config::default(), Config::frontend).set("shards", 4));
    let addrs = |lb: &Lb| -> Vec<String> {
        let status = lb.status();
        status["frontends"].as_array().unwrap().iter().map(|frontend| frontend["addr"].to_string()).collect()
    };
    let before = addrs(&lb);
    let lb = succeed(lb);
    assert_eq!(addrs(&lb), before);
    assert_eq!(ask(lb.addr("web149")), "app");
}

#[test]
fn more_sockets_than_a_process_may_open_at_first_are_passed_on() {
    let backend = Backend::who("app");
    let names: Vec<String> = (0..100).map(|number| format!("web{number}")).collect();
    let frontends = names.iter().map(|name| Frontend::new(name).server("a", backend.addr()));
    let place =
        Place::new(frontends.fold(Config::default(), Config::frontend).set("shards", 4)).after("ulimit -Sn 256");
    let lb = succeed(place.start());
    assert_eq!(ask(lb.addr("web99")), "app");
}

#[test]
fn an_inherited_socket_is_passed_on() {
    let backend = Backend::who("app");
    for environment in ["true", "export LISTEN_FDS=1 LISTEN_PID=$$"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let bind = if environment == "true" { "fd:3".to_owned() } else { addr.to_string() };
        let config = Config::of(Frontend::new("web").bind(bind).server("a", backend.addr()));
        let place = Place::new(config.clone());
        let lb = place.clone().inherit(listener).after(environment).start();
        let new = succeed_at(&place, lb);
        assert_eq!(new.addr("web"), addr);
        for _ in 0..10 {
            assert_eq!(ask(addr), "app");
        }
        // It is still there when its frontend has gone and comes back.
        let frontend = Frontend::new("web").bind(new.frontend("web")["frontend"]["bind"].as_str().unwrap());
        new.change("RemoveFrontend(name:\"web\")");
        let newest = succeed_at(&place, new);
        newest.change(&format!("AddFrontend(frontend:{})", frontend.server("a", backend.addr())));
        assert_eq!(newest.addr("web"), addr);
        assert_eq!(ask(addr), "app");
    }
}

/// As [`succeed`], started in another way than the old one.
fn succeed_at(place: &Place, mut old: Lb) -> Lb {
    let new = place.start_successor();
    assert_eq!(old.exit().code(), Some(0), "{}", old.log().text());
    new
}

#[test]
fn a_frontend_that_the_successor_does_not_have_is_closed() {
    let backend = Backend::who("app");
    let kept = Frontend::new("kept").server("a", backend.addr());
    let mut old = Lb::start(Config::of(kept.clone()).frontend(Frontend::new("gone").server("a", backend.addr())));
    let (kept_addr, gone_addr) = (old.addr("kept"), old.addr("gone"));
    old.place().write_config(Config::of(kept));
    let _new = old.place().start_successor();
    assert_eq!(old.exit().code(), Some(0));
    assert_eq!(ask(kept_addr), "app");
    wait::until("nobody listens there", || try_connect(gone_addr).is_err());
}

#[test]
fn a_successor_that_can_not_start_leaves_the_old_one_as_it_was() {
    let backend = Backend::echo();
    let config = Config::of(Frontend::new("web").server("a", backend.addr()));
    let lb = Lb::start(config.clone());
    let load = Load::on(lb.addr("web"), 6);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let unusable = config.frontend(Frontend::new("other").bind(taken.local_addr().unwrap()));
    for bad in ["(frontends: nonsense)".to_owned(), unusable.to_string()] {
        lb.place().write_config(&bad);
        let exit = lb.place().fail_successor();
        assert_eq!(exit.code, Some(1), "{}", exit.log);
        wait::until("changes are allowed again", || !lb.admin("Undo()").contains("successor"));
        load.go_on();
    }
    lb.change("UpdateServer(frontend:\"web\",name:\"a\",weight:2)");
    assert!(lb.place().admin().exists());
    load.end();
    let addr = lb.addr("web");
    let mut lb = lb;
    lb.signal("TERM");
    assert_eq!(lb.exit().code(), Some(0));
    assert!(try_connect(addr).is_err());
}

#[test]
fn a_successor_that_can_not_start_leaves_what_was_changed_at_run_time() {
    let backend = Backend::echo();
    let config = Config::of(Frontend::new("web").server("a", backend.addr()));
    let lb = Lb::start(config.clone());
    lb.change("DisableServer(frontend:\"web\",name:\"a\")");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    lb.place().write_config(config.clone().frontend(Frontend::new("other").bind(taken.local_addr().unwrap())));
    assert_eq!(lb.place().fail_successor().code, Some(1));
    lb.place().write_config(config);
    let lb = lb.kill().start();
    assert_eq!(lb.revision(), 2, "{}", lb.log().text());
}

#[test]
fn while_a_successor_gets_ready_nothing_is_changed_and_when_it_dies_all_goes_on() {
    let backend = Backend::echo();
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", backend.addr())));
    let addr = lb.addr("web");
    let drain = "DrainServer(frontend:\"web\",name:\"a\")";
    for _ in 0..3 {
        let mut successor = Admin::connect(lb.place().admin());
        let reply = successor.ask("TakeOver()");
        assert!(reply.starts_with("HandOver(locks:2,listeners:[(frontend:\"web\",bind:\"127.0.0.1:0\","), "{reply}");
        assert!(lb.refuse(drain).reason.contains("a successor is taking over"));
        assert!(lb.admin("TakeOver()").contains("a successor is taking over"));
        lb.status();
        echo(&mut connect(addr), b"served meanwhile");
        drop(successor);
        wait::until("changes are allowed again", || lb.admin(drain).starts_with("Confirmed("));
        lb.change("EnableServer(frontend:\"web\",name:\"a\")");
        echo(&mut connect(addr), b"served after");
    }
}

#[test]
fn a_successor_that_is_killed_at_any_moment_of_its_start_costs_nobody_a_later_connection() {
    let backend = Backend::echo();
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", backend.addr())));
    let addr = lb.addr("web");
    let beginnings = || lb.log().count(|line| line.contains("is taking over"));
    for round in 0..8 {
        let before = beginnings();
        let successor = lb.place().spawn_successor();
        wait::until("it has begun", || beginnings() > before);
        // Some rounds a little later, so that it is killed in different states.
        (0..round).for_each(|_| echo(&mut connect(addr), b"x"));
        successor.kill();
        // If it was ready already, there is nobody left.
        let has_taken_over = || lb.log().contains("has taken over");
        wait::until("changes are allowed again, or nobody is left", || has_taken_over() || takes_changes(&lb));
        if has_taken_over() {
            return;
        }
        (0..20).for_each(|_| echo(&mut connect(addr), b"served"));
    }
}

/// Whether it is there, and no successor is taking over.
fn takes_changes(lb: &Lb) -> bool {
    let reply = Admin::try_connect(lb.place().admin()).ok().and_then(|mut admin| admin.try_ask("Undo()"));
    matches!(reply, Some(Reply::Refused(refused)) if !refused.reason.contains("successor"))
}

#[test]
fn the_admin_socket_answers_at_every_moment() {
    let backend = Backend::echo();
    let mut lb = Lb::start(Config::of(Frontend::new("web").server("a", backend.addr())).set("shards", 1));
    let stopped = Arc::<AtomicBool>::default();
    let askers: Vec<_> = (0..2)
        .map(|_| {
            let (stopped, place) = (Arc::clone(&stopped), lb.place().clone());
            thread::spawn(move || {
                let mut answers = 0;
                while !stopped.load(Relaxed) {
                    let output = place.run(&["status"]);
                    assert!(output.status.success(), "after {answers} answers: {}", text(&output.stderr));
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    for _ in 0..20 {
        lb = succeed(lb);
    }
    stopped.store(true, Relaxed);
    for asker in askers {
        assert!(asker.join().unwrap() > 0);
    }
}

#[test]
fn with_nobody_to_take_over_from_it_starts_as_ever() {
    let backend = Backend::who("app");
    let place = Place::new(Config::of(Frontend::new("web").server("a", backend.addr())));
    let lb = place.start_successor();
    assert!(lb.log().contains("there is nothing to take over"), "{}", lb.log().text());
    assert_eq!(ask(lb.addr("web")), "app");
}

#[test]
fn a_client_beyond_the_limit_is_served_by_the_one_or_the_other() {
    let backend = Backend::echo();
    let frontend = Frontend::new("web").set("max_connections", 1).server("a", backend.addr());
    let old = Lb::start(Config::of(frontend).set("shards", 1));
    let addr = old.addr("web");
    let mut held = connect(addr);
    echo(&mut held, b"x");
    let waiting: Vec<_> = (0..5).map(|_| connect(addr)).collect();
    let _new = old.place().start_successor();
    echo(&mut held, b"undisturbed");
    drop(held);
    // Each waits for the place of the one before.
    for mut stream in waiting {
        echo(&mut stream, b"served");
    }
}

#[test]
fn sigusr2_starts_a_successor_and_systemd_follows_it() {
    let backend = Backend::who("app");
    let place = Place::new(Config::of(Frontend::new("web").server("a", backend.addr())));
    let path = place.folder().join("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(wait::HANG)).unwrap();
    let mut old = place.clone().env("NOTIFY_SOCKET", path.to_str().unwrap()).start();
    until_told(&socket, "READY=1");
    let addr = old.addr("web");
    old.signal("USR2");

    assert_eq!(old.exit().code(), Some(0), "{}", old.log().text());
    let started = old.log().wait_for("a successor is started, process ").expect("the log names the process");
    let successor = Killed(started.rsplit(' ').next().unwrap().parse().unwrap());
    let told = until_told(&socket, "READY=1");
    assert!(told.lines().any(|line| line == format!("MAINPID={}", successor.0)), "{told}");
    assert_eq!(ask(addr), "app");
    assert!(place.run(&["status"]).status.success());
    assert!(open_files(successor.0).iter().all(|file| !file.ends_with("lb.ron.state")), "nothing is left open");
    successor.signal("TERM");
    until_told(&socket, "STOPPING=1");
    wait::until("it has ended", || !place.admin().exists());
}

/// A process that no `Lb` stands for.
struct Killed(u32);

impl Killed {
    fn signal(&self, name: &str) {
        Command::new("sh").args(["-c", &format!("kill -{name} {} 2>/dev/null", self.0)]).status().unwrap();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.signal("KILL");
    }
}

fn open_files(pid: u32) -> Vec<PathBuf> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
    descriptors.flatten().filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok()).collect()
}
