//! What a balancer tells of what it does, through the library's own door: access records and metrics.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use lb_core::access::{AccessEnd, AccessRecord, AccessRecords};
use lb_core::config::{Bind, Config, Frontend, Protocol, Server};
use lb_core::{Balancer, Metrics};

/// Answers each connection by `answer`, in threads of its own.
fn serve(answer: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(thread::spawn(move || answer(stream)))));
    addr
}

/// Sends everything back, until the client has ended.
fn echo(mut stream: TcpStream) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}

/// Answers each request with five bytes.
fn hello(mut stream: TcpStream) {
    let mut heard = Vec::new();
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        heard.extend_from_slice(&bytes[..count]);
        while let Some(end) = heard.windows(4).position(|window| window == b"\r\n\r\n") {
            heard.drain(..end + 4);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        }
    }
}

fn start(protocol: Protocol, servers: impl IntoIterator<Item = (&'static str, SocketAddr)>) -> (Balancer, SocketAddr) {
    let mut frontend = Frontend::new("web", Bind::Addr("127.0.0.1:0".parse().unwrap())).unwrap();
    frontend = frontend.with_protocol(protocol);
    for (name, addr) in servers {
        frontend = frontend.with_server(Server::new(name, addr).unwrap());
    }
    let config = Config::default().frontend(frontend).with_shards(2).unwrap();
    let balancer = Balancer::builder().config(config).record_access(100).start().unwrap();
    let addr = balancer.control().status().wait().unwrap().frontends[0].addr;
    (balancer, addr)
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{what} did not come");
        thread::yield_now();
    }
}

fn next(records: &AccessRecords) -> AccessRecord {
    until("an access record", || records.take())
}

fn metrics(balancer: &Balancer) -> Metrics {
    balancer.control().metrics().wait().unwrap()
}

fn talk(addr: SocketAddr, text: &[u8], answer: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    say(&mut stream, text, answer);
    stream
}

fn say(stream: &mut TcpStream, text: &[u8], answer: &[u8]) {
    stream.write_all(text).unwrap();
    let mut heard = vec![0; answer.len()];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(heard, answer);
}

#[test]
fn a_connection_is_recorded_when_it_is_over() {
    let server = serve(echo);
    let (balancer, addr) = start(Protocol::Tcp, [("app1", server)]);
    let records = balancer.access_records();
    let stream = talk(addr, b"seven b", b"seven b");
    let client = stream.local_addr().unwrap();
    assert_eq!(records.take(), None, "it is not over");
    drop(stream);

    let record = next(&records);
    assert_eq!((record.frontend.as_str(), record.client), ("web", Some(client)));
    assert_eq!(record.server.as_ref().map(|name| name.as_str()), Some("app1"));
    assert_eq!((record.server_addr, record.tries, record.end), (Some(server), 1, AccessEnd::Done));
    assert_eq!((record.bytes_to_server, record.bytes_to_client), (7, 7));
    assert!(record.connect.is_some() && record.first_byte.is_some() && record.until_server <= Some(record.duration));
    assert_eq!((record.tls, record.request), (None, None));
}

#[test]
fn each_request_of_a_connection_is_recorded_when_it_is_answered() {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let (balancer, addr) = start(Protocol::Http, [("app1", serve(hello))]);
    let records = balancer.access_records();
    let mut stream = talk(addr, b"GET /one?a=b HTTP/1.1\r\nHost: site.example\r\n\r\n", ANSWER);
    // Nothing follows: its record comes all the same.
    let one = next(&records);
    say(&mut stream, b"POST /two HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", ANSWER);
    let two = next(&records);

    let request = one.request.unwrap();
    assert_eq!(
        (&*request.method, &*request.target, request.host.as_deref()),
        ("GET", "/one?a=b", Some("site.example"))
    );
    assert_eq!((request.status, request.cause, request.reused), (Some(200), None, false));
    assert_eq!((one.end, one.bytes_to_client), (AccessEnd::Done, ANSWER.len() as u64));
    let request = two.request.unwrap();
    assert_eq!((&*request.method, &*request.target, request.reused), ("POST", "/two", true));
    assert!(two.began > one.began && two.bytes_to_server > 0);
    drop(stream);
    until("the end of the connection", || (balancer.control().status().wait().unwrap().connections == 0).then_some(()));
    assert_eq!(records.take(), None, "a connection between two requests has nothing to tell");
}

#[test]
fn a_request_that_is_refused_is_recorded_with_its_cause() {
    let (balancer, addr) = start(Protocol::Http, []);
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    let record = next(&balancer.access_records());
    let request = record.request.unwrap();
    assert_eq!((record.end, request.status), (AccessEnd::Unserved, Some(503)));
    assert_eq!(request.cause.map(|cause| cause.as_str()), Some("no_server"));
    assert_eq!((&*request.method, record.server, record.tries), ("GET", None, 0));
}

#[test]
fn who_is_to_blame_for_an_end_is_recorded() {
    let resets = serve(|stream| {
        let mut stream = stream;
        let _ = stream.read(&mut [0]);
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let (balancer, addr) = start(Protocol::Tcp, [("app1", resets)]);
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(b"x").unwrap();
    let _ = stream.read(&mut [0]);
    assert_eq!(next(&balancer.access_records()).end, AccessEnd::Server);

    let (balancer, addr) = start(Protocol::Tcp, [("app1", serve(echo))]);
    let stream = talk(addr, b"x", b"x");
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    assert_eq!(next(&balancer.access_records()).end, AccessEnd::Client);

    // Bound and not listening, so that nobody else gets the port.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let closed = socket.local_addr().unwrap().as_socket().unwrap();
    let (balancer, addr) = start(Protocol::Tcp, [("app1", closed)]);
    // It may be reset before the connect returns.
    let _ = TcpStream::connect(addr).and_then(|mut stream| stream.read(&mut [0]));
    let record = next(&balancer.access_records());
    assert_eq!((record.end, record.tries, record.server_addr), (AccessEnd::Unserved, 1, Some(closed)));
    let failures = metrics(&balancer).status.frontends[0].servers[0].failures;
    assert_eq!((failures.refused, failures.timed_out, failures.unreachable), (1, 0, 0));
}

#[test]
fn records_that_nobody_takes_are_dropped_and_counted_while_service_goes_on() {
    let (balancer, addr) = start(Protocol::Tcp, [("app1", serve(echo))]);
    for _ in 0..300 {
        drop(talk(addr, b"x", b"x"));
    }
    let records = balancer.access_records();
    let dropped = || balancer.control().status().wait().unwrap().access_dropped;
    until("the last record", || (balancer.control().status().wait().unwrap().connections == 0).then_some(()));
    let taken = std::iter::from_fn(|| records.take()).count() as u64;
    assert_eq!(taken + dropped(), 300);
    assert!((100..=200).contains(&taken), "each shard keeps a hundred: {taken}");
}

#[test]
fn what_took_how_long_is_counted_per_frontend_and_server() {
    let (balancer, addr) = start(Protocol::Tcp, [("app1", serve(echo)), ("app2", serve(echo))]);
    for _ in 0..10 {
        drop(talk(addr, b"x", b"x"));
    }
    // Status and timings are looked at one after the other, while the last connection may be ending.
    let is_told =
        |told: &Metrics| (told.timings[0].connections.count(), told.status.frontends[0].durations.count) == (10, 10);
    let told = until("ten connections", || Some(metrics(&balancer)).filter(is_told));
    let servers = &told.timings[0].servers;
    assert_eq!(servers.iter().map(|server| server.connect.count()).sum::<u64>(), 10);
    assert_eq!(servers.iter().map(|server| server.first_byte.count()).sum::<u64>(), 10);
    assert!(servers.iter().all(|server| server.connect.sum_seconds() < 10.0));
    let last = told.timings[0].connections.cumulative().last().unwrap();
    assert_eq!(last.1, 10, "none took longer than {} s", last.0);
    let frontend = &told.status.frontends[0];
    assert_eq!(frontend.servers[0].connect.count, servers[0].connect.count());
    let shards = &told.status.shards;
    assert!(shards.iter().map(|shard| shard.turns).sum::<u64>() > 10);
    assert!(shards.iter().map(|shard| shard.completions).sum::<u64>() > 10);
}
