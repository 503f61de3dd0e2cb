//! Clients stay on the server that their address was given: on every shard, over changes, until it fails or they are
//! forgotten.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::Barrier;
use std::thread;

use serde_json::Value;
use tests::client::{connect, connect_from, read_to_end};
use tests::program::free_addr;
use tests::{Backend, Config, Frontend, Lb, wait};

const ON: &str = "(ttl: \"10m\", size: 1000)";

#[test]
fn an_address_goes_to_the_same_server_on_whichever_shard_it_lands() {
    let lb = Lb::start(Config::of(three().set("ip_persistence", ON)).set("shards", 2));
    let chosen = chosen_by(&lb, clients());
    assert_eq!(names(&chosen), HashSet::from(["a", "b", "c"]), "new addresses are balanced");
    for _ in 0..5 {
        assert_eq!(chosen_by(&lb, clients()), chosen);
    }
    let shards = lb.status()["shards"].as_array().unwrap().clone();
    assert!(shards.iter().all(|shard| shard["accepted"].as_u64() > Some(0)), "both shards had clients: {shards:?}");
    let counted = &lb.frontend("web")["persistence"];
    let count = clients().count() as u64;
    assert_eq!((counted["new"].as_u64(), counted["hits"].as_u64()), (Some(count), Some(5 * count)));
    assert_eq!((counted["moved"].as_u64(), counted["remembered"].as_u64()), (Some(0), Some(count)));
}

#[test]
fn without_it_an_address_is_balanced_each_time() {
    let lb = Lb::start(Config::of(three()));
    let client = addr("127.0.0.9");
    assert_eq!((0..3).map(|_| who(&lb, client)).collect::<HashSet<_>>().len(), 3);
    assert!(lb.frontend("web")["persistence"].is_null());
    // Switched on and off while it runs.
    lb.done(&["frontend", "update", "web", "--ip-persistence", "ttl=10m,size=1000"]);
    let server = who(&lb, client);
    assert!((0..5).all(|_| who(&lb, client) == server));
    lb.done(&["frontend", "update", "web", "--ip-persistence", "none"]);
    assert_eq!((0..3).map(|_| who(&lb, client)).collect::<HashSet<_>>().len(), 3);
}

#[test]
fn connections_of_a_new_address_at_the_same_moment_end_on_one_server() {
    const AT_ONCE: usize = 6;
    let lb = Lb::start(Config::of(three().set("ip_persistence", ON)).set("shards", 2));
    for client in clients() {
        let barrier = Barrier::new(AT_ONCE);
        let servers: HashSet<String> = thread::scope(|scope| {
            let ask = || {
                barrier.wait();
                who(&lb, client)
            };
            let asking: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(ask)).collect();
            asking.into_iter().map(|asking| asking.join().unwrap()).collect()
        });
        assert_eq!(servers.len(), 1, "{client} was given {servers:?}");
    }
    let counted = &lb.frontend("web")["persistence"];
    assert_eq!(counted["new"].as_u64(), Some(clients().count() as u64));
    // What was counted for the server that was not taken is taken back.
    wait::until("nobody is connected", || {
        let servers = lb.frontend("web")["servers"].as_array().unwrap().clone();
        servers.iter().all(|server| server["connections"] == 0)
    });
}

#[test]
fn clients_stay_when_servers_come_go_and_change() {
    let (more, moved) = (Backend::who("d"), Backend::who("b"));
    let lb = Lb::start(Config::of(three().set("ip_persistence", ON)).set("shards", 2));
    let mut chosen = chosen_by(&lb, clients());
    lb.done(&add("d", &more));
    assert_eq!(chosen_by(&lb, clients()), chosen, "a server was added");
    lb.done(&["server", "update", "web", "a", "--weight", "9", "--rename", "first"]);
    assert_eq!(chosen_by(&lb, clients()), chosen, "a server was renamed");
    let port = moved.addr().port().to_string();
    lb.done(&["server", "update", "web", "b", "--port", &port]);
    assert_eq!(chosen_by(&lb, clients()), chosen, "a server was moved");
    assert!(moved.accepted() > 0, "and is used where it is now");
    lb.done(&["frontend", "update", "web", "--policy", "random_two", "--ip-persistence", "ttl=20m,size=1000"]);
    assert_eq!(chosen_by(&lb, clients()), chosen, "the policy and the time were changed");
    lb.done(&["frontend", "update", "web", "--ip-persistence", "ttl=20m,size=5000"]);
    assert_eq!(chosen_by(&lb, clients()), chosen, "more addresses are remembered");
    lb.done(&["server", "remove", "web", "c"]);
    let after = chosen_by(&lb, clients());
    chosen.retain(|_, server| server != "c");
    assert!(chosen.iter().all(|(client, server)| after[client] == *server), "those of others stay");
    assert!(!names(&after).contains("c"));
    assert_eq!(chosen_by(&lb, clients()), after, "and those that had to move stay where they are");
    let moved = clients().count() - chosen.len();
    assert_eq!(lb.frontend("web")["persistence"]["moved"].as_u64(), Some(moved as u64));
}

#[test]
fn a_drained_server_keeps_its_clients_and_gets_no_others() {
    let lb = Lb::start(Config::of(three().set("ip_persistence", ON)).set("shards", 2));
    let chosen = chosen_by(&lb, clients());
    lb.done(&["server", "drain", "web", "a"]);
    assert_eq!(chosen_by(&lb, clients()), chosen);
    let others = chosen_by(&lb, (1..30).map(|last| IpAddr::from([127, 0, 1, last])));
    assert_eq!(names(&others), HashSet::from(["b", "c"]));
    // Out of service it has nobody.
    lb.done(&["server", "disable", "web", "a"]);
    assert!(!names(&chosen_by(&lb, clients())).contains("a"));
}

#[test]
fn when_the_time_to_drain_is_over_its_clients_go_elsewhere() {
    let lb = Lb::start(Config::of(three().set("ip_persistence", ON)));
    let client = client_of("a", &chosen_by(&lb, clients()));
    lb.done(&["server", "drain", "web", "a", "--within", "30m"]);
    assert_eq!(who(&lb, client), "a");
    lb.done(&["server", "drain", "web", "a", "--within", "1ms"]);
    wait::until("the time is over", || who(&lb, client) != "a");
}

#[test]
fn clients_of_a_server_that_is_down_move_and_do_not_come_back() {
    let (at, b) = (free_addr(), Backend::who("b"));
    let a = || Backend::run_at(&at.to_string(), |mut stream| drop(stream.write_all(b"a")));
    let first = a();
    let frontend = Frontend::new("web").check("(kind: tcp, interval: \"50ms\", fall: 1, rise: 1)");
    let frontend = frontend.server("a", at).server("b", b.addr());
    let lb = Lb::start(Config::of(frontend.set("ip_persistence", ON)));
    let client = client_of("a", &chosen_by(&lb, clients()));
    first.stop();
    wait::until("a is down", || lb.server("web", "a")["health"].get("down").is_some());
    assert_eq!(who(&lb, client), "b");
    let _again = a();
    wait::until("a is up", || lb.server("web", "a")["health"] == "up");
    assert!((0..4).all(|_| who(&lb, client) == "b"), "it has its session there by now");
}

#[test]
fn a_server_that_refuses_its_client_loses_it() {
    let (a, b) = (Backend::who("a"), Backend::who("b"));
    let frontend = Frontend::new("web").server("a", a.addr()).server("b", b.addr());
    let lb = Lb::start(Config::of(frontend.set("ip_persistence", ON).set("eject_after", 0)));
    let client = client_of("a", &chosen_by(&lb, clients()));
    a.stop();
    assert_eq!(who(&lb, client), "b", "it is served all the same");
    assert_eq!(listed(&lb, client)["server"], "b");
}

#[test]
fn passive_servers_keep_clients_only_while_they_are_needed() {
    let (active, passive) = (Backend::who("active"), Backend::who("passive"));
    let frontend = Frontend::new("web").server("a", active.addr()).passive("p", passive.addr());
    let lb = Lb::start(Config::of(frontend.set("ip_persistence", ON)));
    let client = addr("127.0.0.9");
    assert_eq!(who(&lb, client), "active");
    lb.done(&["server", "disable", "web", "a"]);
    assert_eq!(who(&lb, client), "passive");
    assert_eq!(listed(&lb, client)["server"], "p");
    lb.done(&["server", "enable", "web", "a"]);
    assert_eq!(who(&lb, client), "active");
    assert_eq!(listed(&lb, client)["server"], "a");
}

#[test]
fn an_address_that_is_not_seen_for_the_time_is_forgotten_and_one_that_is_stays() {
    let lb = Lb::start(Config::of(three().set("ip_persistence", "(ttl: \"10m\")")));
    let client = addr("127.0.0.9");
    let server = who(&lb, client);
    let left = || listed(&lb, client)["expires_in_milliseconds"].as_u64().unwrap();
    let before = wait::until_some("some of the time is over", || Some(left()).filter(|left| *left < 600_000 - 500));
    wait::until("it was seen again", || {
        assert_eq!(who(&lb, client), server);
        left() > before
    });
    lb.done(&["frontend", "update", "web", "--ip-persistence", "ttl=50ms"]);
    wait::until("it is forgotten", || clients_listed(&lb, &[]).is_empty());
    who(&lb, client);
    let counted = &lb.frontend("web")["persistence"];
    assert_eq!((counted["new"].as_u64(), counted["remembered"].as_u64()), (Some(2), Some(1)), "it was new again");
}

#[test]
fn no_more_are_remembered_than_allowed_and_the_oldest_gives_way() {
    let lb = Lb::start(Config::of(three().set("ip_persistence", "(ttl: \"10m\", size: 4)")).set("shards", 2));
    let seen = |last: u8| {
        let client = IpAddr::from([127, 0, 0, last]);
        let server = who(&lb, client);
        // So that the next one is later by the clock.
        let is_over = || listed(&lb, client)["expires_in_milliseconds"].as_u64() < Some(600_000 - 5);
        wait::until("some time is over", is_over);
        server
    };
    let first = seen(1);
    (2..=4).for_each(|last| drop(seen(last)));
    assert_eq!(seen(1), first);
    seen(5);
    assert_eq!(addresses(&lb, &[]), ["127.0.0.5", "127.0.0.1", "127.0.0.4", "127.0.0.3"], "2 was not seen for longest");
    (6..=40).for_each(|last| drop(who(&lb, IpAddr::from([127, 0, 0, last]))));
    let counted = &lb.frontend("web")["persistence"];
    assert_eq!((counted["remembered"].as_u64(), counted["size"].as_u64()), (Some(4), Some(4)));
    assert_eq!(clients_listed(&lb, &[]).len(), 4);
    // The latest stay when fewer are remembered.
    let latest = addresses(&lb, &[]);
    lb.done(&["frontend", "update", "web", "--ip-persistence", "ttl=10m,size=2"]);
    assert_eq!(addresses(&lb, &[]).len(), 2);
    assert!(addresses(&lb, &[]).iter().all(|client| latest.contains(client)));
}

#[test]
fn clients_are_listed_and_forgotten_by_frontend_and_server() {
    let (a, b) = (Backend::who("a"), Backend::who("b"));
    let frontend = |name| {
        let frontend = Frontend::new(name).server("a", a.addr()).server("b", b.addr());
        frontend.set("ip_persistence", ON)
    };
    let lb = Lb::start(Config::of(frontend("web")).frontend(frontend("other")));
    let chosen = chosen_by(&lb, clients());
    let elsewhere = read_to_end(connect_from(addr("127.0.0.99"), lb.addr("other"))).unwrap();
    let count = chosen.len();
    assert_eq!(clients_listed(&lb, &[]).len(), count + 1);
    let all = clients_listed(&lb, &["--frontend", "web"]);
    for client in &all {
        let address: IpAddr = client["client"].as_str().unwrap().parse().unwrap();
        assert_eq!((&client["frontend"], &client["server"]), (&"web".into(), &chosen[&address].clone().into()));
    }
    let table = lb.done(&["persistence", "list", "--frontend", "other"]);
    let line = table.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(line.starts_with(&format!("other 127.0.0.99 {elsewhere} ")), "{table}");
    let few = lb.json(&["persistence", "list", "--limit", "3"]);
    assert_eq!((few["clients"].as_array().unwrap().len(), few["more"].as_u64()), (3, Some(count as u64 - 2)));
    assert_eq!(few["clients"][0]["client"], "127.0.0.99", "who was seen last comes first");
    let table = lb.done(&["persistence", "list", "--limit", "3"]);
    assert!(table.ends_with(&format!("and {} more: --limit N shows more\n", count - 2)), "{table}");

    let of_a = chosen.values().filter(|server| *server == "a").count();
    let cleared = lb.done(&["persistence", "clear", "--frontend", "web", "--server", "a"]);
    assert_eq!(cleared, format!("{of_a} clients forgotten\n"));
    assert!(clients_listed(&lb, &["--frontend", "web"]).iter().all(|client| client["server"] == "b"));
    assert_eq!(lb.admin("ClearPersistence(frontend:\"web\")"), format!("Forgotten(clients:{})", count - of_a));
    assert_eq!(addresses(&lb, &[]), ["127.0.0.99"]);
    assert_eq!(lb.done(&["persistence", "clear"]), "1 client forgotten\n");
    assert_eq!(lb.admin("ListPersistence"), "Persistence(clients:[],more:0)");

    assert!(lb.refused(&["persistence", "list", "--frontend", "nope"]).contains("there is no frontend nope"));
    assert!(lb.refused(&["persistence", "clear", "--frontend", "nope"]).contains("there is no frontend nope"));
    assert!(lb.refused(&["persistence", "clear", "--server", "nope"]).contains("there is no server nope"));
}

#[test]
fn networks_are_told_apart_by_the_bits_that_count() {
    let settings = "(prefix_v4: 24, prefix_v6: 48)";
    let lb = Lb::start(Config::of(three().set("ip_persistence", settings).set("accept_proxy_from", LOCAL)));
    let first = told(&lb, "10.1.2.3");
    assert!((0..5).all(|last| told(&lb, &format!("10.1.2.{last}")) == first));
    let next = told(&lb, "2001:db8:1::1");
    assert!((0..5).all(|last| told(&lb, &format!("2001:db8:1:{last}::7")) == next));
    told(&lb, "10.1.3.3");
    told(&lb, "2001:db8:2::1");
    let networks: HashSet<String> = addresses(&lb, &[]).into_iter().collect();
    let expected = ["10.1.2.0/24", "10.1.3.0/24", "2001:db8:1::/48", "2001:db8:2::/48"];
    assert_eq!(networks, expected.map(str::to_owned).into());
}

#[test]
fn behind_a_proxy_the_address_counts_that_it_tells() {
    let config = three().set("ip_persistence", ON).set("accept_proxy_from", LOCAL);
    let lb = Lb::start(Config::of(config).set("shards", 2));
    let clients: Vec<_> = (1..=20).map(|last| format!("192.0.2.{last}")).collect();
    let chosen: Vec<_> = clients.iter().map(|client| told(&lb, client)).collect();
    assert_eq!(chosen.iter().map(String::as_str).collect::<HashSet<_>>(), HashSet::from(["a", "b", "c"]));
    for (client, server) in clients.iter().zip(&chosen) {
        assert!((0..3).all(|_| told(&lb, client) == *server));
    }
    assert!(addresses(&lb, &[]).iter().all(|client| clients.contains(client)), "nobody is known by the proxy's");
}

#[test]
fn a_client_waits_for_its_server_while_others_go_elsewhere() {
    let (a, b) = (Backend::who_and_echo("a"), Backend::who_and_echo("b"));
    let frontend = Frontend::new("web").server_with("a", a.addr(), "max_connections: 1").server("b", b.addr());
    let lb = Lb::start(Config::of(frontend.set("ip_persistence", ON)).set("shards", 1));
    let (one, other) = (addr("127.0.0.1"), addr("127.0.0.2"));
    let (mut first, server) = greeted(&lb, one);
    assert_eq!(server, "a", "round robin begins with it");
    // It is full, and this is a client of it.
    let mut waiting = connect_from(one, lb.addr("web"));
    wait::until("it waits", || lb.frontend("web")["waiting"] == 1);
    for client in [other, addr("127.0.0.3")] {
        assert_eq!(greeted(&lb, client).1, "b", "who may go elsewhere is not held up");
    }
    assert_eq!(lb.frontend("web")["waiting"], 1);
    first.write_all(b"done").unwrap();
    drop(first);
    assert_eq!(name(&mut waiting), "a");
}

#[test]
fn where_nobody_may_wait_a_client_of_a_full_server_is_served_elsewhere_and_comes_back() {
    let (a, b) = (Backend::who_and_echo("a"), Backend::who_and_echo("b"));
    let frontend = Frontend::new("web").server_with("a", a.addr(), "max_connections: 1").server("b", b.addr());
    let lb = Lb::start(Config::of(frontend.set("ip_persistence", ON).set("queue", 0)).set("shards", 1));
    let client = addr("127.0.0.1");
    let (first, server) = greeted(&lb, client);
    assert_eq!((server.as_str(), greeted(&lb, client).1.as_str()), ("a", "b"));
    assert_eq!(listed(&lb, client)["server"], "a");
    drop(first);
    wait::until("it is over", || lb.server("web", "a")["connections"] == 0);
    assert_eq!(greeted(&lb, client).1, "a");
}

const LOCAL: &str = "[\"127.0.0.0/8\"]";

/// A frontend `web` of three servers that say their names.
fn three() -> Frontend {
    ["a", "b", "c"].into_iter().fold(Frontend::new("web"), |frontend, name| {
        // They run as long as the test does.
        let server = Box::leak(Box::new(Backend::who(name)));
        frontend.server(name, server.addr())
    })
}

fn add<'a>(name: &'a str, server: &Backend) -> [&'a str; 6] {
    let port = server.addr().port().to_string();
    ["server", "add", "web", name, "127.0.0.1", port.leak()]
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Addresses that clients come from.
fn clients() -> impl Iterator<Item = IpAddr> {
    (1..=30).map(|last| IpAddr::from([127, 0, 0, last]))
}

/// The server that a client gets.
fn who(lb: &Lb, client: IpAddr) -> String {
    read_to_end(connect_from(client, lb.addr("web"))).unwrap()
}

fn chosen_by(lb: &Lb, clients: impl Iterator<Item = IpAddr>) -> BTreeMap<IpAddr, String> {
    clients.map(|client| (client, who(lb, client))).collect()
}

fn names(chosen: &BTreeMap<IpAddr, String>) -> HashSet<&str> {
    chosen.values().map(String::as_str).collect()
}

fn client_of(server: &str, chosen: &BTreeMap<IpAddr, String>) -> IpAddr {
    *chosen.iter().find(|(_, chosen)| *chosen == server).expect("every server has clients").0
}

/// The server that a client gets which a proxy tells of.
fn told(lb: &Lb, client: &str) -> String {
    let mut stream = connect(lb.addr("web"));
    let (family, own) = if client.contains(':') { ("TCP6", "::1") } else { ("TCP4", "127.0.0.1") };
    stream.write_all(format!("PROXY {family} {client} {own} 1 2\r\n").as_bytes()).unwrap();
    read_to_end(stream).unwrap()
}

/// A connection to a server that says its name of one letter first, and that name.
fn greeted(lb: &Lb, client: IpAddr) -> (TcpStream, String) {
    let mut stream = connect_from(client, lb.addr("web"));
    let name = name(&mut stream);
    (stream, name)
}

fn name(stream: &mut TcpStream) -> String {
    let mut letter = [0];
    stream.read_exact(&mut letter).unwrap();
    String::from_utf8(letter.into()).unwrap()
}

fn clients_listed(lb: &Lb, arguments: &[&str]) -> Vec<Value> {
    lb.json(&[&["persistence", "list"], arguments].concat())["clients"].as_array().unwrap().clone()
}

fn addresses(lb: &Lb, arguments: &[&str]) -> Vec<String> {
    let clients = clients_listed(lb, arguments);
    clients.iter().map(|client| client["client"].as_str().unwrap().to_owned()).collect()
}

fn listed(lb: &Lb, client: IpAddr) -> Value {
    let clients = clients_listed(lb, &[]);
    clients.into_iter().find(|listed| listed["client"] == client.to_string()).expect("it is remembered")
}
