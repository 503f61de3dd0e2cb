//! Accept, balance, connect, relay: with real programs at both ends, both families of addresses, and every byte counted.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr};
use std::process::Command;
use std::thread;

use tests::program::{Nginx, Postgres, Redis, succeeds};
use tests::{Backend, Config, Frontend, Lb, Listener, Pair, client, stream};

#[test]
fn curl_gets_from_each_nginx_site_its_exact_share_by_weight() {
    let nginx = Nginx::start(&["one", "two", "three"]);
    let [one, two, three] = nginx.addrs() else { panic!("three sites") };
    let frontend = Frontend::new("web").weighted("a", *one, 1).weighted("b", *two, 2).weighted("c", *three, 3);
    let lb = Lb::start(Config::of(frontend).set("shards", 1));
    let url = format!("http://{}/", lb.addr("web"));

    let mut bodies = HashMap::new();
    for _ in 0..12 {
        *bodies.entry(curl(&["-sS", "--fail", &url])).or_insert(0) += 1;
    }

    let expected = HashMap::from([("one".to_owned(), 2), ("two".to_owned(), 4), ("three".to_owned(), 6)]);
    assert_eq!(bodies, expected, "two cycles of weights 1, 2, 3");
}

#[test]
fn curl_gets_a_whole_file_over_one_kept_connection_many_times() {
    let nginx = Nginx::start(&["site"]);
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", nginx.addrs()[0])));
    let url = format!("http://{}/file", lb.addr("web"));

    let files = curl(&[&["-sS", "--fail"][..], &[url.as_str(); 10]].concat());

    assert_eq!(files.len(), 10 * Nginx::FILE_BYTES);
    let expected = "site".repeat(Nginx::FILE_BYTES / "site".len());
    assert!(files.as_bytes().chunks(Nginx::FILE_BYTES).all(|file| file == expected.as_bytes()), "a file differs");
    assert_eq!(lb.status()["traffic"]["accepted"], 1, "curl keeps its connection");
}

#[test]
fn redis_cli_and_redis_benchmark_work_through_it() {
    let redis = Redis::start();
    let lb = Lb::start(Config::of(Frontend::new("redis").server("a", redis.addr())));
    let port = lb.addr("redis").port().to_string();
    let cli = |arguments: &[&str]| succeeds(Command::new("redis-cli").args(["-p", &port]).args(arguments));

    assert_eq!(cli(&["set", "key", "value"]).trim(), "OK");
    assert_eq!(cli(&["get", "key"]).trim(), "value");

    let mut benchmark = Command::new("redis-benchmark");
    benchmark.args(["-p", &port, "-n", "20000", "-c", "50", "-P", "4", "-t", "set,get", "--csv"]);
    let results = succeeds(&mut benchmark);
    assert!(results.contains("\"SET\"") && results.contains("\"GET\""), "no results: {results}");
    assert_eq!(cli(&["dbsize"]).trim(), "2", "the benchmark's key and ours");
}

#[test]
fn psql_and_pgbench_work_through_it() {
    let postgres = Postgres::start();
    let lb = Lb::start(Config::of(Frontend::new("sql").server("a", postgres.addr())));
    let port = lb.addr("sql").port().to_string();
    let server = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres"];
    let sql = |query: &str| {
        let mut psql = Command::new("psql");
        succeeds(psql.args(server).args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", query, "postgres"]))
    };

    assert_eq!(sql("select sum(n) from generate_series(1, 100000) n").trim(), "5000050000");
    assert_eq!(sql("select repeat('x', 3000000)").trim().len(), 3_000_000);

    succeeds(Command::new("pgbench").args(server).args(["-i", "-q", "-s", "1", "postgres"]));
    let mut bench = Command::new("pgbench");
    bench.args(server).args(["-n", "-c", "4", "-j", "2", "-t", "100", "postgres"]);
    let report = succeeds(&mut bench);
    assert!(report.contains("400/400"), "not every transaction was done:\n{report}");
    assert_eq!(sql("select count(*) from pgbench_history").trim(), "400");
}

#[test]
fn ipv6_frontends_and_servers_relay_in_every_combination() {
    let (six, four) = (Backend::run_at("[::1]:0", say_peer), Backend::run_at("127.0.0.1:0", say_peer));
    for (bind, server) in [("[::1]:0", &six), ("[::1]:0", &four), ("127.0.0.1:0", &six)] {
        let lb = Lb::start(Config::of(Frontend::new("web").bind(bind).server("a", server.addr())));
        let addr = lb.addr("web");
        assert_eq!(addr.is_ipv6(), bind.starts_with('['), "frontend at {addr}");

        let seen: SocketAddr = client::ask(addr).parse().unwrap();

        assert_eq!(seen.is_ipv6(), server.addr().is_ipv6(), "{bind} to {}", server.addr());
    }
}

#[test]
fn a_gibibyte_each_way_at_once_arrives_unchanged() {
    const BYTES: u64 = 1 << 30;
    let listener = Listener::new();
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", listener.addr())));
    let Pair { client, server } = Pair::new(&lb, &listener);

    let ends = [(client, 1), (server, 2)].map(|(end, seed)| {
        let (mut reading, mut writing) = (end.try_clone().unwrap(), end);
        let reader = thread::spawn(move || stream::read(&mut reading).unwrap());
        let writer = thread::spawn(move || {
            let sent = stream::write(&mut writing, seed, BYTES).unwrap();
            writing.shutdown(Shutdown::Write).unwrap();
            sent
        });
        (writer, reader)
    });
    let [(client_sent, client_got), (server_sent, server_got)] =
        ends.map(|(writer, reader)| (writer.join().unwrap(), reader.join().unwrap()));

    assert_eq!(server_got, client_sent, "towards the server");
    assert_eq!(client_got, server_sent, "towards the client");
    let traffic = &lb.status()["traffic"];
    assert_eq!((&traffic["bytes_to_server"], &traffic["bytes_to_client"]), (&BYTES.into(), &BYTES.into()));
}

#[test]
fn pieces_of_any_size_arrive_in_order() {
    let backend = Backend::echo();
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", backend.addr())));
    let mut stream = client::connect(lb.addr("web"));
    for size in [1, 2, 63, 1448, 4095, 4096, 4097, 16_383, 16_384, 16_385, 65_536, 100_000] {
        let message: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
        client::echo(&mut stream, &message);
    }
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    let backend = Backend::who("greeting");
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", backend.addr())));
    assert_eq!(client::ask(lb.addr("web")), "greeting");
}

#[test]
fn frontends_are_served_by_their_own_servers() {
    let (one, two) = (Backend::who("one"), Backend::who("two"));
    let web = Frontend::new("web").server("a", one.addr());
    let api = Frontend::new("api").server("a", two.addr());
    let lb = Lb::start(Config::of(web).frontend(api));
    for _ in 0..5 {
        assert_eq!(client::ask(lb.addr("web")), "one");
        assert_eq!(client::ask(lb.addr("api")), "two");
    }
}

fn say_peer(mut stream: std::net::TcpStream) {
    use std::io::Write;
    let peer = stream.peer_addr().unwrap();
    let _ = stream.write_all(peer.to_string().as_bytes());
}

fn curl(arguments: &[&str]) -> String {
    succeeds(Command::new("curl").args(["--max-time", "30"]).args(arguments))
}
