//! Real servers that are killed, stopped or cut off while clients come all the time: as long as another server is there,
//! nobody who comes afterwards notices, and the server gets its share again when it is back.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::fault::{has, is_root, skipped};
use tests::net::{Loss, Remote};
use tests::program::{Nginx, Postgres, Program, Redis, succeeds};
use tests::tries::{self, Exchange, Tries, Try};
use tests::{Config, Frontend, Lb, Peer, health, wait};

#[test]
fn nobody_notices_that_nginx_is_killed() {
    let (mut failing, sound) = (Nginx::start(&["failing"]), Nginx::start(&["sound"]));
    nobody_notices_a_kill(failing.program(), sound.addrs()[0], &NGINX);
}

#[test]
fn nobody_notices_that_redis_is_killed() {
    let (mut failing, sound) = (Redis::start(), Redis::start());
    nobody_notices_a_kill(failing.program(), sound.addr(), &REDIS);
}

#[test]
fn nobody_notices_that_postgres_is_killed() {
    let (mut failing, sound) = (Postgres::start(), Postgres::start());
    nobody_notices_a_kill(failing.program(), sound.addr(), &POSTGRES);
}

#[test]
fn nobody_is_sent_to_a_stopped_nginx_once_it_is_known() {
    let (mut failing, sound) = (Nginx::start(&["failing"]), Nginx::start(&["sound"]));
    nobody_is_sent_to_a_stopped_server(failing.program(), sound.addrs()[0], &NGINX);
}

#[test]
fn nobody_is_sent_to_a_stopped_redis_once_it_is_known() {
    let (mut failing, sound) = (Redis::start(), Redis::start());
    nobody_is_sent_to_a_stopped_server(failing.program(), sound.addr(), &REDIS);
}

#[test]
fn nobody_is_sent_to_a_stopped_postgres_once_it_is_known() {
    let (mut failing, sound) = (Postgres::start(), Postgres::start());
    nobody_is_sent_to_a_stopped_server(failing.program(), sound.addr(), &POSTGRES);
}

#[test]
fn a_conversation_finds_out_a_stopped_server_that_a_connect_does_not() {
    let mut redis = Redis::start();
    let frontend = |name, what| Frontend::new(name).check(&check(what, 5)).server("a", redis.addr());
    let lb = Lb::start(Config::of(frontend("connect", "tcp")).frontend(frontend("conversation", REDIS.conversation)));
    let until = |name: &'static str, state: &'static str| {
        wait::until(&format!("{name} finds the server {state}"), || health(&lb.server(name, "a")) == state);
    };
    until("connect", "up");
    until("conversation", "up");
    redis.program().signal("STOP");
    until("conversation", "down");
    assert_eq!(health(&lb.server("connect", "a")), "up", "the kernel accepts for a process that is stopped");
    redis.program().signal("CONT");
    until("conversation", "up");
}

#[test]
fn nobody_notices_that_a_server_loses_its_link() {
    let is_possible = is_root() && has("ip");
    if !skipped("nobody_notices_that_a_server_loses_its_link", is_possible, "root and iproute2") {
        nobody_notices_a_loss_of_packets(Loss::Link);
    }
}

#[test]
fn nobody_notices_that_a_firewall_drops_a_servers_packets() {
    let is_possible = is_root() && has("ip") && has("nft");
    if !skipped("nobody_notices_that_a_firewall_drops_a_servers_packets", is_possible, "root, iproute2 and nftables") {
        nobody_notices_a_loss_of_packets(Loss::Firewall);
    }
}

#[test]
fn nobody_who_comes_after_a_kill_notices_a_server_that_dies_again_and_again() {
    const TIMES: usize = 4;
    let (mut failing, sound) = (Redis::start(), Redis::start());
    let frontend = Frontend::new("web").check(&check("tcp", 5)).set("eject_after", 3).set("eject_time", "\"200ms\"");
    let scene = Scene::start(frontend, failing.addr(), sound.addr(), tries::redis);
    let descriptors = scene.lb.descriptors_in_use();
    let mut kills = Vec::new();
    for _ in 0..TIMES {
        scene.until_it_is_chosen();
        let begun = Instant::now();
        failing.program().kill();
        kills.push((begun, Instant::now()));
        wait::until("the server is out", || ["down", "ejected"].contains(&health(&scene.failing()).as_str()));
        failing.program().restart();
    }
    scene.until_it_is_chosen();

    let Ended { lb, tries } = scene.end();
    let has_met_a_kill = |one: &Try| kills.iter().any(|(begun, gone)| one.begun <= *gone && one.ended >= *begun);
    let failed: Vec<_> = tries.iter().filter(|one| one.result.is_err() && !has_met_a_kill(one)).collect();
    assert!(failed.is_empty(), "clients failed that met no kill: {failed:?}");
    let logged = |states: [&str; 2]| lb.log().count(|line| states.iter().any(|state| line.contains(state)));
    let states = ["server failing of web is down", "server failing of web is ejected"];
    wait::until("the log says each time that it is out", || logged(states) >= TIMES);
    let states = ["server failing of web is up", "server failing of web is not ejected any more"];
    wait::until("the log says each time that it is back", || logged(states) >= TIMES);
    wait::until("no more descriptors are in use than before", || lb.descriptors_in_use() <= descriptors);
}

/// What is done with a kind of server.
struct Service {
    /// What each of the clients does who come all the time.
    exchange: Exchange,
    /// Asks by the program that people use, and succeeds.
    client: fn(SocketAddr),
    /// The check that gets an answer.
    conversation: &'static str,
}

const NGINX: Service = Service { exchange: tries::http, client: curl, conversation: "http(path: \"/\")" };

const REDIS: Service = Service {
    exchange: tries::redis,
    client: redis_cli,
    conversation: "send_expect(send: \"PING\\r\\n\", expect: \"+PONG\")",
};

const POSTGRES: Service = Service {
    exchange: tries::postgres,
    client: psql,
    // Asks whether it speaks TLS: the server of a test does not.
    conversation: "send_expect(send: \"\\u{0}\\u{0}\\u{0}\\u{8}\\u{4}\\u{d2}\\u{16}/\", expect: \"N\")",
};

fn curl(addr: SocketAddr) {
    succeeds(Command::new("curl").args(["-sS", "--fail", &format!("http://{addr}/")]));
}

fn redis_cli(addr: SocketAddr) {
    let answer = succeeds(Command::new("redis-cli").args(["-p", &addr.port().to_string(), "ping"]));
    assert_eq!(answer.trim(), "PONG");
}

fn psql(addr: SocketAddr) {
    let mut psql = Command::new("psql");
    psql.args(["-h", "127.0.0.1", "-p", &addr.port().to_string(), "-U", "postgres", "-X", "-A", "-t"]);
    assert_eq!(succeeds(psql.args(["-c", "select 1", "postgres"])).trim(), "1");
}

/// Checks of this kind, often enough for a test. A healthy server on a busy machine does not fail five in a row.
fn check(kind: &str, fall: u32) -> String {
    format!("(kind: {kind}, interval: \"100ms\", timeout: \"400ms\", fall: {fall})")
}

/// A frontend whose servers are found out by checks alone.
fn frontend(kind: &str, fall: u32) -> Frontend {
    Frontend::new("web").check(&check(kind, fall)).set("eject_after", 0)
}

fn nobody_notices_a_kill(failing: &mut Program, sound: SocketAddr, service: &Service) {
    // So many that clients meet it before it is known.
    let scene = Scene::start(frontend("tcp", 20), failing.addr(), sound, service.exchange);
    scene.until_it_is_chosen();

    failing.kill();
    let killed = Instant::now();
    (0..2).for_each(|_| (service.client)(scene.addr));
    scene.until_it_is_down();
    let last = scene.last_misdirected();
    scene.nobody_is_sent_to_it();
    (0..2).for_each(|_| (service.client)(scene.addr));

    failing.restart();
    let back = Instant::now();
    scene.until_it_is_chosen();
    println!("last misdirected try {:?} after the kill", last.saturating_duration_since(killed));
    println!("first connection {:?} after it was back", back.elapsed());

    let failed = scene.failing()["failed"].as_u64();
    let Ended { lb, tries } = scene.end();
    nobody_failed_since(killed, &tries);
    assert!(failed > Some(0), "somebody met the dead server before it was known");
    assert_eq!(Some(lb.traffic("redispatched")), failed, "everybody who met it got the other one");
    assert_eq!(lb.unserved("web"), 0);
}

fn nobody_is_sent_to_a_stopped_server(failing: &Program, sound: SocketAddr, service: &Service) {
    let scene = Scene::start(frontend(service.conversation, 5), failing.addr(), sound, service.exchange);
    scene.until_it_is_chosen();

    failing.signal("STOP");
    let stopped = Instant::now();
    scene.until_it_is_down();
    let known = Instant::now();
    scene.nobody_is_sent_to_it();
    (0..2).for_each(|_| (service.client)(scene.addr));

    failing.signal("CONT");
    let back = Instant::now();
    scene.until_it_is_chosen();
    println!("known {:?} after the stop", known - stopped);
    println!("first connection {:?} after it went on", back.elapsed());
    nobody_failed_since(known, &scene.end().tries);
}

fn nobody_notices_a_loss_of_packets(loss: Loss) {
    let (failing, sound) = (Remote::new(), Peer::echo());
    let frontend = frontend("tcp", 5).set("connect_timeout", "\"200ms\"");
    let scene = Scene::start(frontend, failing.addr(), sound.addr(), tries::echo);
    scene.until_it_is_chosen();

    failing.lose(loss);
    let lost = Instant::now();
    scene.until_it_is_down();
    scene.nobody_is_sent_to_it();

    failing.repair(loss);
    let back = Instant::now();
    scene.until_it_is_chosen();
    println!("first connection {:?} after {loss:?} was repaired", back.elapsed());

    let Ended { lb, tries } = scene.end();
    nobody_failed_since(lost, &tries);
    assert!(lb.traffic("redispatched") > 0, "somebody met the server before it was known");
    assert_eq!(lb.unserved("web"), 0);
}

fn nobody_failed_since(moment: Instant, tries: &[Try]) {
    let failed: Vec<_> = tries.iter().filter(|one| one.begun >= moment && one.result.is_err()).collect();
    let after = |one: &&Try| (one.begun - moment, one.ended - one.begun, one.result.clone());
    assert!(failed.is_empty(), "failed, as (after, took, why): {:?}", failed.iter().map(after).collect::<Vec<_>>());
}

/// Frontend `web` with the servers `failing` and `sound`, and clients who come all the time.
struct Scene {
    lb: Lb,
    addr: SocketAddr,
    tries: Tries,
    /// How many connects to the failing server had failed when it was last looked at, and since when so many.
    misdirected: RefCell<(u64, Instant)>,
}

/// What is left of a scene when its clients have gone.
struct Ended {
    lb: Lb,
    tries: Vec<Try>,
}

impl Scene {
    fn start(frontend: Frontend, failing: SocketAddr, sound: SocketAddr, exchange: Exchange) -> Self {
        // Not checked, so that it is not taken to be down on a busy machine.
        let frontend = frontend.server("failing", failing).server_with("sound", sound, "check: own(kind: off)");
        let lb = Lb::start(Config::of(frontend));
        let addr = lb.addr("web");
        let tries = Tries::start(addr, exchange);
        Self { lb, addr, tries, misdirected: RefCell::new((0, Instant::now())) }
    }

    fn failing(&self) -> Value {
        let failing = self.lb.server("web", "failing");
        let failed = failing["failed"].as_u64().unwrap();
        if failed != self.misdirected.borrow().0 {
            self.misdirected.replace((failed, Instant::now()));
        }
        failing
    }

    fn served(&self) -> u64 {
        self.failing()["served"].as_u64().unwrap()
    }

    fn until_it_is_chosen(&self) {
        let before = self.served();
        wait::until("the server that failed gets connections", || self.served() > before);
    }

    fn until_it_is_down(&self) {
        wait::until("the server is known to be down", || health(&self.failing()) == "down");
    }

    /// When the last client was seen to have been sent to the dead server.
    fn last_misdirected(&self) -> Instant {
        self.misdirected.borrow().1
    }

    /// From now on; what was begun before may end.
    fn nobody_is_sent_to_it(&self) {
        let sent = || {
            let failing = self.failing();
            failing["served"].as_u64().unwrap() + failing["failed"].as_u64().unwrap()
        };
        let before = wait::until_still("what was begun before has ended", Duration::from_millis(300), sent);
        self.tries.until_more(50);
        assert_eq!(sent(), before, "a client was sent to a server that is known to be down");
    }

    fn end(self) -> Ended {
        let tries = self.tries.stop();
        self.lb.until_idle();
        for shard in self.lb.status()["shards"].as_array().unwrap() {
            assert_eq!(shard["stale_completions"], 0, "a completion came for a connection that was gone");
        }
        Ended { lb: self.lb, tries }
    }
}
