//! Protocols that a request changes to: WebSocket, by a library's client and server, and others that are only bytes.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use socket2::SockRef;
use tests::client::{End, connect};
use tests::http::{Site, Wire, ok, reply, request};
use tests::{Authority, Backend, Channel, Config, Frontend, Lb, stream, wait};
use tungstenite::handshake::server::{Request, Response};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

#[test]
fn messages_of_every_kind_and_size_go_both_ways() {
    let server = echo_server();
    let lb = http(Frontend::new("web").server("a", server.addr()));
    let mut socket = open(connect(lb.addr("web")));
    for bytes in [0, 1, 125, 126, 65_535, 65_536, 5_000_000] {
        let mut data = Vec::new();
        stream::write(&mut data, bytes, bytes).unwrap();
        socket.send(Message::binary(data.clone())).unwrap();
        assert!(socket.read().unwrap() == Message::binary(data), "a message of {bytes} bytes differs");
    }
    socket.send(Message::text("some text")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("some text"));
    socket.send(Message::Ping(b"are you there".as_slice().into())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong(b"are you there".as_slice().into()));
}

#[test]
fn the_closing_handshake_reaches_both_and_leaves_nothing_behind() {
    let server = echo_server();
    let lb = http(Frontend::new("web").server("a", server.addr()));
    let mut socket = open(connect(lb.addr("web")));
    let frame = CloseFrame { code: CloseCode::Away, reason: "gone fishing".into() };
    socket.close(Some(frame.clone())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Close(Some(frame)));
    assert!(matches!(socket.read().unwrap_err(), tungstenite::Error::ConnectionClosed));
    drop(socket);
    lb.until_idle();
    assert_eq!(lb.pooled(), 0, "a connection that was changed is not used again");
}

#[test]
fn many_websockets_do_not_mix() {
    let server = echo_server();
    let lb = http(Frontend::new("web").server("a", server.addr()));
    let mut sockets: Vec<_> = (0..50).map(|_| open(connect(lb.addr("web")))).collect();
    for round in 0..20 {
        for (index, socket) in sockets.iter_mut().enumerate() {
            socket.send(Message::text(format!("{index} in round {round}"))).unwrap();
        }
        for (index, socket) in sockets.iter_mut().enumerate() {
            assert_eq!(socket.read().unwrap(), Message::text(format!("{index} in round {round}")));
        }
    }
    assert_eq!(lb.server("web", "a")["connections"], 50, "each counts as a connection of its server");
}

#[test]
fn a_websocket_follows_requests_on_the_same_connection() {
    let echo = echo_server();
    let site = Site::named("page");
    let lb = http(Frontend::new("web").server("a", site.addr()));
    let mut client = Wire::connect(lb.addr("web"));
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "page");
    }
    lb.done(&["server", "update", "web", "a", "--port", &echo.addr().port().to_string()]);
    let mut socket = open(client.into_inner());
    socket.send(Message::text("hello")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("hello"));
}

#[test]
fn websockets_are_served_in_tls() {
    let authority = Authority::root("corp authority");
    let (identity, server) = (authority.issue(&["site.example"]), echo_server());
    let frontend = Frontend::new("web").set("protocol", "https").certificates(&["site"]);
    let frontend = frontend.server_with("a", server.addr(), "ssl_offload: true");
    let lb = Lb::start(Config::of(frontend).pair("site", &identity));
    let trusting = tests::channel::client_config(&authority);
    let mut socket = open(Channel::connect(lb.addr("web"), "site.example", &trusting).unwrap());
    for bytes in [10, 1_000_000] {
        socket.send(Message::binary(vec![7; bytes])).unwrap();
        assert_eq!(socket.read().unwrap().len(), bytes);
    }
}

#[test]
fn a_server_that_does_not_change_answers_as_to_any_request() {
    let site = Site::run(|request| match request.has("upgrade") {
        true => reply(426, "", "no"),
        false => ok("a page"),
    });
    let lb = http(Frontend::new("web").server("a", site.addr()));
    let mut client = Wire::connect(lb.addr("web"));
    for _ in 0..3 {
        let fields = [("Connection", "Upgrade"), ("Upgrade", "other")];
        assert_eq!(client.get_with("/", &fields).status(), 426);
        assert_eq!(client.get("/").text(), "a page");
    }
}

#[test]
fn bytes_that_come_with_the_change_arrive_both_ways() {
    let site = Site::play(|wire, _| {
        let head = wire.try_head().unwrap();
        assert!(head.connection_says("upgrade") && head.field("upgrade") == Some("echo"), "{head:?}");
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nwelcome");
        let mut all = Vec::new();
        wire.reader().read_to_end(&mut all).unwrap();
        wire.send(all);
    });
    let lb = http(Frontend::new("web").server("a", site.addr()));
    let mut client = Wire::connect(lb.addr("web"));
    let fields = [("Connection", "keep-alive, Upgrade"), ("Upgrade", "echo")];
    client.send(request("GET", "/", &fields, "") + "too early");
    let head = client.head();
    assert_eq!((head.status(), head.field("upgrade")), (101, Some("echo")));
    assert!(head.connection_says("upgrade"), "{head:?}");
    client.send(" and later");
    client.end();
    assert_eq!(client.rest(), (b"welcometoo early and later".to_vec(), End::Orderly));
    lb.until_idle();
}

#[test]
fn a_change_that_nobody_asked_for_is_no_answer() {
    let site = Site::run(|_| "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    let lb = http(Frontend::new("web").server("a", site.addr()));
    assert_eq!(Wire::connect(lb.addr("web")).get("/").status(), 502);
    assert_eq!(lb.pooled(), 0);
}

#[test]
fn a_big_stream_goes_through_a_changed_connection() {
    const BYTES: u64 = 50_000_000;
    let site = Site::play(|wire, _| {
        wire.try_head().unwrap();
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
        let digest = stream::read(wire.reader()).unwrap();
        wire.send(digest.to_string());
    });
    let lb = http(Frontend::new("web").server("a", site.addr()));
    let mut client = Wire::connect(lb.addr("web"));
    client.send(request("GET", "/", &[("Connection", "upgrade"), ("Upgrade", "x")], ""));
    assert_eq!(client.head().status(), 101);
    stream::write(client.writer(), 3, BYTES).unwrap();
    client.end();
    let expected = stream::digest(3, BYTES).to_string().into_bytes();
    assert_eq!(client.rest(), (expected, End::Orderly));
}

#[test]
fn half_of_a_changed_connection_ends_alone() {
    let site = Site::play(|wire, _| {
        wire.try_head().unwrap();
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nthis was all");
        wire.end();
        assert_eq!(wire.rest(), (b"still mine".to_vec(), End::Orderly));
    });
    let lb = http(Frontend::new("web").server("a", site.addr()));
    let mut client = Wire::connect(lb.addr("web"));
    client.send(request("GET", "/", &[("Connection", "upgrade"), ("Upgrade", "x")], ""));
    assert_eq!(client.head().status(), 101);
    assert_eq!(client.rest(), (b"this was all".to_vec(), End::Orderly));
    client.send("still mine");
    client.writer().shutdown(Shutdown::Write).unwrap();
    wait::until("the server has it all", || site.connections() == 0);
    lb.until_idle();
}

#[test]
fn a_reset_is_passed_on_as_such_whatever_is_changed_meanwhile() {
    let site = Site::play(|wire, _| {
        wire.try_head().unwrap();
        let stream = wire.writer();
        SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap();
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\ncut").unwrap();
    });
    let lb = http(Frontend::new("web").server("a", site.addr()));
    let (addr, has_ended) = (lb.addr("web"), AtomicBool::new(false));
    thread::scope(|scope| {
        let change = || {
            while !has_ended.load(Relaxed) {
                let mut client = Wire::connect(addr);
                client.send(request("GET", "/", &[("Connection", "upgrade"), ("Upgrade", "x")], ""));
                assert_eq!(client.head().status(), 101);
                assert_eq!(client.rest(), (b"cut".to_vec(), End::Reset));
            }
        };
        let clients = [(); 4].map(|()| scope.spawn(change));
        for _ in 0..40 {
            lb.done(&["frontend", "add", "other", "127.0.0.1:0"]);
            lb.done(&["frontend", "remove", "other"]);
        }
        has_ended.store(true, Relaxed);
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
}

/// A server that sends every message back and closes as it is asked to.
fn echo_server() -> Backend {
    Backend::run(|stream| {
        #[allow(clippy::result_large_err, reason = "the library wants it so")]
        let check = |request: &Request, response: Response| {
            assert_eq!(request.uri().path(), "/socket");
            assert_eq!(request.headers()["x-forwarded-for"], "127.0.0.1");
            Ok(response)
        };
        let Ok(mut socket) = tungstenite::accept_hdr(stream, check) else { return };
        while let Ok(message) = socket.read() {
            if (message.is_text() || message.is_binary()) && socket.send(message).is_err() {
                return;
            }
        }
        let _ = socket.flush();
    })
}

fn open<S: Read + Write>(stream: S) -> WebSocket<S> {
    let (socket, response) = tungstenite::client("ws://site.example/socket", stream).expect("a handshake of WebSocket");
    assert_eq!(response.status(), 101);
    socket
}

fn http(frontend: Frontend) -> Lb {
    Lb::start(Config::of(frontend.set("protocol", "http")).set("shards", 1))
}
