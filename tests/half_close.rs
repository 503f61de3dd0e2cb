//! Each side may close first: the other direction goes on until it ends by itself, and no byte is lost.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use tests::stream::Digest;
use tests::{Config, Frontend, Lb, Listener, Pair, client, stream};

#[test]
fn response_arrives_after_client_half_close() {
    let (lb, listener) = balancer();
    let Pair { mut client, mut server } = Pair::new(&lb, &listener);
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();

    assert_eq!(client::read_to_end(&server).unwrap(), "question");
    server.write_all(b"answer").unwrap();
    drop(server);

    assert_eq!(client::read_to_end(&client).unwrap(), "answer");
    lb.until_idle();
}

#[test]
fn client_bytes_arrive_after_server_half_close() {
    let (lb, listener) = balancer();
    let Pair { mut client, mut server } = Pair::new(&lb, &listener);
    server.write_all(b"goodbye").unwrap();
    server.shutdown(Shutdown::Write).unwrap();

    assert_eq!(client::read_to_end(&client).unwrap(), "goodbye");
    client.write_all(b"last words").unwrap();
    drop(client);

    assert_eq!(client::read_to_end(&server).unwrap(), "last words");
    drop(server);
    lb.until_idle();
}

#[test]
fn a_half_close_without_bytes_is_passed_on() {
    let (lb, listener) = balancer();
    let Pair { client, mut server } = Pair::new(&lb, &listener);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.read(&mut [0]).unwrap(), 0, "the server sees the end");

    let Pair { mut client, server } = Pair::new(&lb, &listener);
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "the client sees the end");
}

#[test]
fn a_half_closed_connection_stays_until_the_other_side_ends_it() {
    let (lb, listener) = balancer();
    let Pair { mut client, mut server } = Pair::new(&lb, &listener);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
    for round in 0..100 {
        server.write_all(&[round]).unwrap();
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [round]);
    }
    assert_eq!(lb.connections(), 1);
    drop((client, server));
    lb.until_idle();
}

#[test]
fn bytes_that_a_client_queued_before_its_half_close_arrive() {
    let (lb, listener) = balancer();
    let Pair { client, server } = Pair::new(&lb, &listener);
    queued_bytes_arrive(client, server);
    lb.until_idle();
}

#[test]
fn bytes_that_a_server_queued_before_its_half_close_arrive() {
    let (lb, listener) = balancer();
    let Pair { client, server } = Pair::new(&lb, &listener);
    queued_bytes_arrive(server, client);
    lb.until_idle();
}

#[test]
fn bytes_sent_and_closed_before_the_server_accepted_arrive() {
    let (lb, listener) = balancer();
    let mut client = client::connect(lb.addr("web"));
    client.write_all(b"all at once").unwrap();
    drop(client);
    assert_eq!(client::read_to_end(listener.accept()).unwrap(), "all at once");
    lb.until_idle();
}

#[test]
fn both_sides_may_half_close_with_bytes_on_the_way() {
    let (lb, listener) = balancer();
    let Pair { client, server } = Pair::new(&lb, &listener);
    let (from_client, from_server) = (send_and_half_close(&client, 1), send_and_half_close(&server, 2));

    let at_server = thread::spawn(move || stream::read(&mut &server).unwrap());
    let at_client = stream::read(&mut &client).unwrap();

    assert_eq!(at_server.join().unwrap(), from_client.join().unwrap(), "towards the server");
    assert_eq!(at_client, from_server.join().unwrap(), "towards the client");
    lb.until_idle();
}

/// More than the kernel's buffers hold, so that both the sender's end and the end of its bytes are queued when the
/// reader begins.
const QUEUED: u64 = 20 << 20;

fn balancer() -> (Lb, Listener) {
    let listener = Listener::new();
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", listener.addr())));
    (lb, listener)
}

/// Sends, half-closes, and only then is anything read; the way back still works after that.
fn queued_bytes_arrive(sender: TcpStream, mut receiver: TcpStream) {
    // What fits into the kernel's buffers is all queued, with the end behind it.
    let mut sending = sender.try_clone().unwrap();
    let small = stream::write(&mut sending, 3, 100_000).unwrap();
    sending.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream::read(&mut receiver).unwrap(), small);

    let sent = send_and_half_close(&receiver, 4);
    assert_eq!(stream::read(&mut sending).unwrap(), sent.join().unwrap(), "the other way");
}

fn send_and_half_close(end: &TcpStream, seed: u64) -> thread::JoinHandle<Digest> {
    let mut end = end.try_clone().unwrap();
    thread::spawn(move || {
        let sent = stream::write(&mut end, seed, QUEUED).unwrap();
        end.shutdown(Shutdown::Write).unwrap();
        sent
    })
}
