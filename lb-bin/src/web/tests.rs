use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use axum::extract::{Extension, Request};
use axum::routing::{get, post};

use super::*;

const ANY: &str = "127.0.0.1:0";

/// Two routes: one that greets, one that counts the bytes of its body, 10 at most.
fn router() -> Router {
    let count = async |Extension(client): Extension<Client>, request: Request| match read_body(
        &client,
        request.into_body(),
        10,
    )
    .await
    {
        Ok(bytes) => bytes.len().to_string(),
        Err(error) => format!("{error:?}"),
    };
    Router::new().route("/", get(async || "hello")).route("/count", post(count))
}

fn site(at: At) -> Site {
    Site { name: "metrics", path: "/", at, tls: None, router: router(), alongside: Box::pin(std::future::pending()) }
}

/// A free address of the loopback interface, which nobody else takes: it is one of this test's own.
fn addr(number: u8) -> SocketAddr {
    let ip = [127, 84, 4, number];
    let port = TcpListener::bind(SocketAddr::from((ip, 0))).unwrap().local_addr().unwrap().port();
    SocketAddr::from((ip, port))
}

fn run(at: At) -> Web {
    start(vec![site(at)], Door::new(), IfTaken::Fail).unwrap()
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

fn ask(mut stream: impl Read + Write, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get_root(addr: SocketAddr) -> String {
    ask(connect(addr), "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

#[test]
fn a_site_answers_until_its_door_is_closed() {
    let addr = addr(1);
    let door = Door::new();
    let web = start(vec![site(At::Tcp(addr))], door.clone(), IfTaken::Fail).unwrap();
    assert!(get_root(addr).starts_with("HTTP/1.1 200 OK\r\n") && get_root(addr).ends_with("\r\n\r\nhello"));
    let mut idle = connect(addr);
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        let mut piece = [0; 1024];
        let count = idle.read(&mut piece).unwrap();
        assert!(count > 0, "{}", answer.escape_ascii());
        answer.extend_from_slice(&piece[..count]);
    }
    door.close();
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "an idle client is closed");
    drop(web);
    assert!(TcpStream::connect(addr).is_err());
}

#[test]
fn a_unix_socket_is_of_this_user_and_group_and_gone_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let web = run(At::Unix(path.clone()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let answer = ask(UnixStream::connect(&path).unwrap(), "GET / HTTP/1.0\r\n\r\n");
    assert!(answer.ends_with("hello"), "{answer}");
    drop(web);
    assert!(!path.exists());
}

#[test]
fn an_address_that_can_not_be_used_is_told_in_one_sentence() {
    let other = TcpListener::bind(ANY).unwrap();
    let taken = At::Tcp(other.local_addr().unwrap());
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    let this = format!("{} (process {})", name.trim(), std::process::id());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "data").unwrap();
    let cases = [
        (taken.clone(), format!("metrics {taken}: {this} listens there; stop it, or give another address")),
        (At::Tcp("192.0.2.1:1".parse().unwrap()), "metrics 192.0.2.1:1: Cannot assign requested address".to_owned()),
        (At::Unix(file.clone()), format!("metrics {}: something that is not a socket is there", file.display())),
        (At::Unix(folder.path().join("no/s")), format!("metrics {}/no/s: in ", folder.path().display())),
        (At::Unix(PathBuf::from("/x".repeat(60))), format!("metrics {}: the path is longer", "/x".repeat(60))),
    ];
    for (at, expected) in cases {
        let refused = start(vec![site(at)], Door::new(), IfTaken::Fail).unwrap_err();
        assert!(refused.starts_with(&expected) && !refused.contains('\n'), "{refused}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "data");
}

#[test]
fn a_site_opens_when_its_predecessor_has_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    for at in [At::Tcp(addr(2)), At::Unix(path)] {
        let old = run(at.clone());
        let _new = start(vec![site(at.clone())], Door::new(), IfTaken::Wait).unwrap();
        drop(old);
        let deadline = Instant::now() + Duration::from_secs(10);
        let answers = || match &at {
            At::Tcp(addr) => TcpStream::connect(addr).is_ok(),
            At::Unix(path) => UnixStream::connect(path).is_ok(),
        };
        while !answers() {
            assert!(Instant::now() < deadline, "{at} did not open");
            thread::yield_now();
        }
    }
}

#[test]
fn clients_that_say_nothing_half_or_too_much_keep_nobody_out() {
    let addr = addr(3);
    let _web = run(At::Tcp(addr));
    let half = |request: &str| {
        let mut stream = connect(addr);
        // It may have had to give way.
        let _ = stream.write_all(request.as_bytes());
        stream
    };
    let requests = ["", "GET / HT", "POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n123"];
    let _slow: Vec<_> = (0..300).flat_map(|_| requests.map(half)).collect();
    assert!(get_root(addr).ends_with("hello"));
    let long = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(HEAD));
    assert!(ask(connect(addr), &long).starts_with("HTTP/1.1 431 "));
}

/// More than a head may have, and little enough to be taken by the kernel in one piece.
const HEAD: usize = 16 << 10;

#[test]
fn a_body_is_read_up_to_its_limit() {
    let addr = addr(4);
    let _web = run(At::Tcp(addr));
    let post =
        |body: &str| ask(connect(addr), &format!("POST /count HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{body}"));
    assert!(post("Content-Length: 10\r\n\r\n1234567890").ends_with("\r\n\r\n10"));
    // It is not waited for.
    assert!(post("Content-Length: 11\r\n\r\n").ends_with("TooLong"));
    assert!(post("Transfer-Encoding: chunked\r\n\r\n6\r\n123456\r\n5\r\n78901\r\n0\r\n\r\n").ends_with("TooLong"));
    let stream = connect(addr);
    (&stream).write_all(b"POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let _ = (&stream).read_to_string(&mut String::new());
    assert!(get_root(addr).ends_with("hello"));
}
