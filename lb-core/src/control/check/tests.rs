//! The thread against real servers on loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection};
use socket2::{Domain, Socket, Type};

use super::*;
use crate::config::{CheckKind, HttpStatus, Millis};
use crate::tls::accept::{Acceptor, Tickets};
use crate::tls::dial::Expected;
use crate::tls::testing::{Made, PLAIN, bundle};

/// Long enough for any machine; what is waited for comes within milliseconds.
const AT_ONCE: usize = 256;
const PATIENCE: Duration = Duration::from_secs(30);

fn start() -> (Checker, Receiver<Checked>) {
    let (sender, receiver) = mpsc::channel();
    let report = move |news: Vec<Checked>| {
        assert!(!news.is_empty(), "a report without news");
        news.into_iter().for_each(|checked| drop(sender.send(checked)));
    };
    (Checker::start(AT_ONCE, report, |why| panic!("{why}")).unwrap(), receiver)
}

fn millis(millis: u64) -> Millis {
    Millis::new(Duration::from_millis(millis)).unwrap()
}

/// Often, so that tests are short, and with a timeout that only what hangs can reach.
fn often(kind: CheckKind) -> Check {
    Check::new(kind).with_interval(millis(20)).unwrap().with_timeout(millis(10_000))
}

fn target(server: ServerId, addr: SocketAddr, check: Check) -> Target {
    Target::plain(server, addr, Arc::new(check))
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// A server that deals with each connection as `serve` says, as long as the test runs.
fn server(serve: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let (listener, addr) = listen();
    thread::spawn(move || listener.incoming().flatten().for_each(serve));
    addr
}

/// The verdict on the only server, and why.
fn verdict(addr: SocketAddr, check: Check) -> (Verdict, String) {
    verdict_on(target(1, addr, check))
}

fn verdict_on(target: Target) -> (Verdict, String) {
    let addr = target.addr;
    let (checker, news) = start();
    checker.set_targets(vec![target]);
    let Checked { server, addr: at, verdict, detail, took } = news.recv_timeout(PATIENCE).unwrap();
    assert_eq!((server, at), (1, addr));
    assert!(took < PATIENCE);
    (verdict, detail)
}

fn up(why: &str) -> (Verdict, String) {
    (Verdict::Up, why.to_owned())
}

fn down(why: &str) -> (Verdict, String) {
    (Verdict::Down, why.to_owned())
}

/// An HTTP server that gives this answer to a request that is complete.
fn http_server(answer: &'static str) -> SocketAddr {
    server(move |mut client| {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if !matches!(client.read(&mut byte), Ok(1)) {
                return;
            }
            request.push(byte[0]);
        }
        assert!(request.starts_with(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:"));
        let _ = client.write_all(answer.as_bytes());
    })
}

#[test]
fn a_server_that_listens_is_up_and_one_that_does_not_is_down() {
    let (listener, addr) = listen();
    assert_eq!(verdict(addr, often(CheckKind::Tcp)), up("connected"));
    drop(listener);
    assert_eq!(verdict(addr, often(CheckKind::Tcp)), down("connection refused"));
}

#[test]
fn a_server_without_room_for_another_connection_is_down() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    let _first = TcpStream::connect(addr).unwrap();
    assert_eq!(verdict(addr, often(CheckKind::Tcp).with_timeout(millis(300))), down("no connection within 300ms"));
}

#[test]
fn a_status_decides_over_http() {
    let check = || often(CheckKind::http("/health").unwrap());
    assert_eq!(verdict(http_server("HTTP/1.1 204 No Content\r\n\r\n"), check()), up("status 204"));
    let busy = http_server("HTTP/1.1 503 Busy\r\n\r\n");
    assert_eq!(verdict(busy, check()), down("status 503, 200 to 399 expected"));
    let mut wanted = check();
    if let CheckKind::Http { status, .. } = &mut wanted.kind {
        *status = Some(HttpStatus::new(503).unwrap());
    }
    assert_eq!(verdict(busy, wanted), up("status 503"));
    assert_eq!(verdict(server(drop), check()).0, Verdict::Down);
}

#[test]
fn a_server_that_accepts_but_never_answers_is_down_and_holds_up_no_other() {
    let (_hangs, hung) = listen();
    let answers = http_server("HTTP/1.1 200 OK\r\n\r\n");
    let check = || often(CheckKind::http("/health").unwrap());
    let (checker, news) = start();
    let patient = check().with_timeout(Millis::from_duration_clamped(PATIENCE * 10));
    checker.set_targets(vec![target(1, hung, patient), target(2, answers, check())]);
    assert_eq!(news.recv_timeout(PATIENCE).unwrap().server, 2);
    assert_eq!(verdict(hung, check().with_timeout(millis(300))), down("no answer within 300ms"));
}

#[test]
fn what_a_server_says_decides_whether_it_was_asked_or_speaks_first() {
    let redis = server(|mut client| {
        let mut line = [0; 6];
        let read = client.read_exact(&mut line);
        let _ = client.write_all(if read.is_ok() && line == *b"PING\r\n" { b"+PONG\r\n" } else { b"-ERR\r\n" });
    });
    let asks = |send: &[u8]| often(CheckKind::send_expect(send, b"+PONG").unwrap());
    assert_eq!(verdict(redis, asks(b"PING\r\n")), up("answered as expected"));
    assert_eq!(verdict(redis, asks(b"pong\r\n")), down("closed without the expected answer"));
    let mail = server(|mut client| {
        let _ = client.write_all(b"220 mail ESMTP\r\n");
    });
    let hears = often(CheckKind::send_expect(b"", b"220 ").unwrap());
    assert_eq!(verdict(mail, hears), up("answered as expected"));
}

#[test]
fn a_tls_handshake_is_completed_with_any_certificate_and_seen_to_end() {
    let key = rcgen::generate_simple_self_signed(["nobody.example".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let private = PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .unwrap();
    let config = Arc::new(config);
    let (ended, ends) = mpsc::channel();
    let addr = server(move |mut client| {
        let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
        while tls.is_handshaking() && tls.complete_io(&mut client).is_ok() {}
        let is_orderly = matches!(rustls::Stream::new(&mut tls, &mut client).read(&mut [0]), Ok(0));
        let _ = ended.send(is_orderly);
    });
    assert_eq!(verdict(addr, often(CheckKind::Tls)), up("TLS handshake completed"));
    assert!(ends.recv_timeout(PATIENCE).unwrap(), "the server saw the connection break off");
    let plain = http_server("");
    assert_eq!(verdict(plain, often(CheckKind::Tls).with_timeout(millis(300))), down("no answer within 300ms"));
    let answers = server(|mut client| drop(client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")));
    let (verdict, why) = verdict(answers, often(CheckKind::Tls));
    assert!(verdict == Verdict::Down && why.starts_with("TLS: "), "{why}");
}

/// A server of `ca` that shakes hands after a PROXY header of this length, and answers what it hears by a status.
fn secured_server(ca: &Made, header: usize) -> SocketAddr {
    let identity = Made::new("app1", &["127.0.0.1"], PLAIN, Some(ca)).identity(&[]);
    let acceptor = Acceptor::new(&[identity], &[], None, &Tickets::new().unwrap(), 1).unwrap();
    server(move |mut client| {
        let mut first = vec![0; header];
        if client.read_exact(&mut first).is_err() {
            return;
        }
        let mut tls = ServerConnection::new(Arc::clone(acceptor.config(0))).unwrap();
        let mut stream = rustls::Stream::new(&mut tls, &mut client);
        if matches!(stream.read(&mut [0; 4096]), Ok(1..)) {
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
            let _ = stream.read(&mut [0]);
        }
        let _ = tls.complete_io(&mut client);
    })
}

/// A server that is trusted by the bundle of this CA.
fn trusting(ca: &Made, target: Target) -> Target {
    let expected = Expected { server_name: None, verify_name: true, ip: target.addr.ip() };
    let dialer = Dialer::new(&bundle(&[ca]), expected, None, 0).unwrap();
    Target { dialer: Some(Arc::new(dialer)), ..target }
}

#[test]
fn a_server_that_is_spoken_to_by_tls_is_judged_by_its_certificate_in_every_kind_of_conversation() {
    let (ca, other) = (Made::ca("Corp CA"), Made::ca("Other CA"));
    let kinds = [
        (CheckKind::Tls, "TLS handshake completed"),
        (CheckKind::http("/health").unwrap(), "status 204"),
        (CheckKind::send_expect(b"GET", b"No Content").unwrap(), "answered as expected"),
    ];
    let addr = secured_server(&ca, 0);
    for (kind, why) in kinds {
        assert_eq!(verdict_on(trusting(&ca, target(1, addr, often(kind.clone())))), up(why));
        let (verdict, why) = verdict_on(trusting(&other, target(1, addr, often(kind))));
        assert_eq!(verdict, Verdict::Down);
        assert!(why.starts_with("its certificate \"CN=app1\" is issued by \"CN=Corp CA\", which"), "{why}");
    }
    assert_eq!(verdict_on(trusting(&other, target(1, addr, often(CheckKind::Tcp)))), up("connected"));
}

#[test]
fn a_server_that_is_told_who_the_client_is_is_told_that_a_check_is_ours() {
    let ca = Made::ca("Corp CA");
    let addr = secured_server(&ca, b"PROXY UNKNOWN\r\n".len());
    let check = often(CheckKind::http("/health").unwrap());
    let target = Target { send_proxy: SendProxy::V1, ..trusting(&ca, target(1, addr, check)) };
    assert_eq!(verdict_on(target), up("status 204"));
}

#[test]
fn a_server_that_is_trusted_by_another_bundle_starts_anew() {
    let (ca, other) = (Made::ca("Corp CA"), Made::ca("Other CA"));
    let addr = secured_server(&ca, 0);
    let (checker, news) = start();
    for (ca, verdict) in [(&ca, Verdict::Up), (&other, Verdict::Down), (&ca, Verdict::Up)] {
        checker.set_targets(vec![trusting(ca, target(1, addr, often(CheckKind::Tls)))]);
        assert_eq!(news.recv_timeout(PATIENCE).unwrap().verdict, verdict);
    }
}

#[test]
fn a_server_that_goes_and_comes_back_is_reported_each_time_and_only_then() {
    let (listener, addr) = listen();
    let (checker, news) = start();
    checker.set_targets(vec![target(1, addr, often(CheckKind::Tcp))]);
    let next = || news.recv_timeout(PATIENCE).unwrap().verdict;
    assert_eq!(next(), Verdict::Up);
    drop(listener);
    assert_eq!(next(), Verdict::Down);
    let _listener = TcpListener::bind(addr).unwrap();
    assert_eq!(next(), Verdict::Up);
    // The same set again changes nothing: the next news are of the server that is new in it.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    checker.set_targets(vec![
        target(1, addr, often(CheckKind::Tcp)),
        target(2, other.local_addr().unwrap(), often(CheckKind::Tcp)),
    ]);
    assert_eq!(news.recv_timeout(PATIENCE).unwrap().server, 2);
}

#[test]
fn a_server_that_moved_starts_anew() {
    let (_listener, addr) = listen();
    let (gone, elsewhere) = listen();
    drop(gone);
    let (checker, news) = start();
    for (addr, verdict) in [(addr, Verdict::Up), (elsewhere, Verdict::Down), (addr, Verdict::Up)] {
        checker.set_targets(vec![target(1, addr, often(CheckKind::Tcp))]);
        let checked = news.recv_timeout(PATIENCE).unwrap();
        assert_eq!((checked.addr, checked.verdict), (addr, verdict));
    }
}

#[test]
fn thousands_are_checked_with_fewer_descriptors_than_servers() {
    let (_listener, addr) = listen();
    let (checker, news) = start();
    let at = |server: ServerId| {
        let place = SocketAddr::from(([127, 1, (server >> 8) as u8, server as u8], addr.port()));
        target(server, place, often(CheckKind::Tcp))
    };
    // Nobody listens on these addresses but on the first one's port: all the others refuse.
    checker.set_targets((0..3000).map(at).collect());
    let mut seen: Vec<_> = (0..3000).map(|_| news.recv_timeout(PATIENCE).unwrap().server).collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..3000));
}

#[test]
fn a_checker_that_dies_says_so() {
    let (_listener, addr) = listen();
    let (sender, receiver) = mpsc::channel();
    let checker = Checker::start(AT_ONCE, |_| panic!("on purpose"), move |why| drop(sender.send(why))).unwrap();
    checker.set_targets(vec![target(1, addr, often(CheckKind::Tcp))]);
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), "the checker died: it panicked");
}
