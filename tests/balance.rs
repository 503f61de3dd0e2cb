//! Each policy's promise, through the real thing, and weights in each of them.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use tests::client::{connect, connect_from};
use tests::{Backend, Config, Frontend, Lb, wait};

#[test]
fn round_robin_gives_exact_shares_by_weight_over_a_cycle() {
    let farm = Farm::new(&[1, 2, 5]);
    let lb = farm.start("round_robin", 1);
    let addr = lb.addr("web");
    for cycle in 0..5 {
        assert_eq!(counts((0..8).map(|_| ask(addr))), farm.counts(&[1, 2, 5]), "cycle {cycle}");
    }
}

#[test]
fn round_robin_shares_are_exact_over_two_shards() {
    let farm = Farm::new(&[1, 1, 2]);
    let lb = farm.start("round_robin", 2);
    let addr = lb.addr("web");
    assert_eq!(counts((0..80).map(|_| ask(addr))), farm.counts(&[20, 20, 40]));
}

#[test]
fn round_robin_does_not_send_a_heavy_servers_connections_in_a_row() {
    let farm = Farm::new(&[1, 1, 1, 3]);
    let lb = farm.start("round_robin", 1);
    let addr = lb.addr("web");
    let answers: Vec<String> = (0..12).map(|_| ask(addr)).collect();
    let heavy_in_a_row = answers.windows(2).filter(|pair| pair[0] == "s3" && pair[1] == "s3").count();
    assert_eq!(heavy_in_a_row, 0, "three places of six can be spread without neighbours: {answers:?}");
}

#[test]
fn least_connections_shares_held_connections_exactly_over_two_shards() {
    let farm = Farm::new(&[1, 1, 1]);
    let lb = farm.start("least_connections", 2);
    assert_eq!(held_counts(&hold(lb.addr("web"), 30)), farm.counts(&[10, 10, 10]));
}

#[test]
fn least_connections_shares_by_weight() {
    let farm = Farm::new(&[1, 3]);
    let lb = farm.start("least_connections", 2);
    assert_eq!(held_counts(&hold(lb.addr("web"), 40)), farm.counts(&[10, 30]));
}

#[test]
fn least_connections_avoids_the_busy_server() {
    let farm = Farm::new(&[1, 1]);
    let lb = farm.start("least_connections", 2);
    let addr = lb.addr("web");
    let (busy, idle): (Vec<_>, Vec<_>) = hold(addr, 20).into_iter().partition(|held| held.server == "s0");
    assert_eq!(busy.len(), 10);
    drop(idle);
    wait::until("s1 has no connection", || lb.server("web", "s1")["connections"] == 0);

    assert_eq!(held_counts(&hold(addr, 10)), farm.counts(&[0, 10]));
}

#[test]
fn random_two_spreads_over_all_servers() {
    let farm = Farm::new(&[1, 1, 1, 1]);
    let lb = farm.start("random_two", 2);
    let counts = held_counts(&hold(lb.addr("web"), 200));
    // With the fewer-of-two rule the fullest server is a few above the average; chance alone would be ± 20.
    for (server, count) in &counts {
        assert!((40..=60).contains(count), "{server} has {count} of 200: {counts:?}");
    }
}

#[test]
fn random_two_gives_heavy_servers_more() {
    let farm = Farm::new(&[1, 3]);
    let lb = farm.start("random_two", 2);
    let counts = held_counts(&hold(lb.addr("web"), 100));
    assert!(counts["s1"] > 2 * counts["s0"], "weights 1 and 3: {counts:?}");
}

#[test]
fn least_latency_asks_a_slow_server_once_and_then_the_quick_one() {
    let slow = Backend::run(|stream| {
        thread::sleep(Duration::from_secs(5));
        say_and_hold(stream, 0);
    });
    let quick = Backend::run(|stream| say_and_hold(stream, 1));
    let frontend = Frontend::new("web").policy("least_latency").server("s0", slow.addr()).server("s1", quick.addr());
    let lb = Lb::start(Config::of(frontend).set("shards", 2));
    let addr = lb.addr("web");
    // Until both are known their connections decide.
    let mut asked = BTreeSet::new();
    wait::until("both servers are asked", || {
        asked.insert(ask(addr));
        asked.len() == 2
    });
    assert_eq!(counts((0..20).map(|_| ask(addr))), BTreeMap::from([(name(1), 20)]));
}

#[test]
fn least_latency_does_not_run_to_a_server_that_fails_quickly() {
    let (failing, sound) = (Backend::reset_after(1), Backend::echo());
    let frontend = Frontend::new("web").policy("least_latency").server("a", failing.addr()).server("b", sound.addr());
    let lb = Lb::start(Config::of(frontend).set("shards", 2));
    let is_served = || {
        let mut client = connect(lb.addr("web"));
        client.write_all(b"x").is_ok() && client.read_exact(&mut [0]).is_ok()
    };
    let mut seen = BTreeSet::new();
    wait::until("both servers are tried", || {
        seen.insert(is_served());
        seen.len() == 2
    });
    assert!((0..20).all(|_| is_served()));
    // What was measured belongs to the server, and outlives the policy that is built anew.
    lb.change("UpdateServer(frontend:\"web\",name:\"a\",weight:2)");
    assert!((0..20).all(|_| is_served()));
}

#[test]
fn source_hash_sends_a_client_to_the_same_server_every_time() {
    let farm = Farm::new(&[1, 1, 1, 1, 1]);
    let lb = farm.start("source_hash", 2);
    let addr = lb.addr("web");
    let first = servers_of_clients(addr);
    assert_eq!(servers_of_clients(addr), first);
    let used = counts(first.values().cloned());
    assert_eq!(used.len(), 5, "every server has clients: {used:?}");
}

#[test]
fn source_hash_choices_survive_a_restart() {
    let farm = Farm::new(&[1, 1, 1]);
    let lb = farm.start("source_hash", 1);
    let before = servers_of_clients(lb.addr("web"));
    let lb = lb.kill().start();
    assert_eq!(servers_of_clients(lb.addr("web")), before);
}

#[test]
fn source_hash_moves_few_other_clients_when_a_server_is_removed() {
    let farm = Farm::new(&[1, 1, 1, 1, 1]);
    let lb = farm.start("source_hash", 2);
    let before = servers_of_clients(lb.addr("web"));
    lb.change("RemoveServer(frontend:\"web\",name:\"s2\")");
    let after = servers_of_clients(lb.addr("web"));

    let others: Vec<_> = before.iter().filter(|(_, server)| *server != "s2").collect();
    let moved = others.iter().filter(|(client, server)| after[*client] != **server).count();
    assert!(after.values().all(|server| server != "s2"), "the removed server has clients");
    assert!(moved * 5 <= others.len(), "{moved} of {} clients of other servers moved", others.len());
}

#[test]
fn source_hash_shares_by_weight() {
    let farm = Farm::new(&[1, 3]);
    let lb = farm.start("source_hash", 1);
    let counts = counts(servers_of_clients(lb.addr("web")).into_values());
    assert!(counts["s1"] > 2 * counts["s0"] && counts["s1"] < 5 * counts["s0"], "weights 1 and 3: {counts:?}");
}

#[test]
fn a_policy_changes_for_the_next_connection() {
    let farm = Farm::new(&[1, 1, 1, 1]);
    let lb = farm.start("round_robin", 2);
    let addr = lb.addr("web");
    assert_eq!(counts((0..8).map(|_| ask(addr))).len(), 4, "round robin uses every server");

    lb.change("UpdateFrontend(name:\"web\",policy:source_hash)");
    assert_eq!(counts((0..8).map(|_| ask(addr))).len(), 1, "one client has one server");

    lb.change("UpdateFrontend(name:\"web\",policy:least_connections)");
    // Those that ended before would count where they were.
    lb.until_idle();
    assert_eq!(held_counts(&hold(addr, 8)), farm.counts(&[2, 2, 2, 2]));

    lb.change("UpdateFrontend(name:\"web\",policy:round_robin)");
    assert_eq!(counts((0..8).map(|_| ask(addr))), farm.counts(&[2, 2, 2, 2]));
}

#[test]
fn a_weight_changes_for_the_next_cycle() {
    let farm = Farm::new(&[1, 1]);
    let lb = farm.start("round_robin", 2);
    let addr = lb.addr("web");
    assert_eq!(counts((0..8).map(|_| ask(addr))), farm.counts(&[4, 4]));
    lb.change("UpdateServer(frontend:\"web\",name:\"s1\",weight:3)");
    assert_eq!(counts((0..8).map(|_| ask(addr))), farm.counts(&[2, 6]));
}

/// Servers `s0`, `s1`, … with weights, which say their name and then echo.
struct Farm {
    backends: Vec<Backend>,
    weights: Vec<u32>,
}

impl Farm {
    fn new(weights: &[u32]) -> Self {
        let backends =
            (0..weights.len()).map(|index| Backend::run(move |stream| say_and_hold(stream, index))).collect();
        Self { backends, weights: weights.to_vec() }
    }

    fn start(&self, policy: &str, shards: u32) -> Lb {
        let servers = self.backends.iter().zip(&self.weights).enumerate();
        let frontend = servers.fold(Frontend::new("web").policy(policy), |frontend, (index, (backend, weight))| {
            frontend.weighted(&name(index), backend.addr(), *weight)
        });
        Lb::start(Config::of(frontend).set("shards", shards))
    }

    /// Counts per server name, without the zeros.
    fn counts(&self, counts: &[usize]) -> BTreeMap<String, usize> {
        assert_eq!(counts.len(), self.backends.len());
        counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(index, count)| (name(index), *count)).collect()
    }
}

fn name(index: usize) -> String {
    format!("s{index}")
}

/// Says its name; ends when the client does.
fn say_and_hold(mut stream: TcpStream, index: usize) {
    let _ = stream.write_all(name(index).as_bytes());
    let _ = stream.read(&mut [0]);
}

struct Held {
    _stream: TcpStream,
    server: String,
}

impl Held {
    fn new(mut stream: TcpStream) -> Self {
        let mut name = [0; 2];
        stream.read_exact(&mut name).unwrap();
        Self { _stream: stream, server: String::from_utf8(name.to_vec()).unwrap() }
    }
}

/// Makes connections one after the other and keeps them.
fn hold(addr: SocketAddr, count: usize) -> Vec<Held> {
    (0..count).map(|_| Held::new(connect(addr))).collect()
}

/// The server of one connection.
fn ask(addr: SocketAddr) -> String {
    Held::new(connect(addr)).server
}

fn held_counts(held: &[Held]) -> BTreeMap<String, usize> {
    counts(held.iter().map(|held| held.server.clone()))
}

fn counts(names: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_insert(0) += 1;
    }
    counts
}

/// The server that each of 150 clients gets.
fn servers_of_clients(addr: SocketAddr) -> HashMap<IpAddr, String> {
    let clients = (1..=150).map(|last| IpAddr::from([127, 0, 7, last]));
    clients.map(|client| (client, Held::new(connect_from(client, addr)).server)).collect()
}
