//! What streams is spliced, what chats is copied, and each direction of a connection goes back and forth by itself: with no byte
//! lost, doubled or out of order, wherever a peer ends or breaks off.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;
use tests::program::Redis;
use tests::stream::Digest;
use tests::{Backend, Config, Frontend, Lb, Listener, Pair, Place, client, stream, wait};

const MIB: u64 = 1 << 20;

#[test]
fn a_stream_is_spliced_both_ways_and_a_chat_never() {
    let echo = Backend::run(echo_in_large_pieces);
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", echo.addr())));
    let mut chat = client::connect(lb.addr("web"));
    for size in [1, 64, 4096, 8192] {
        (0..50).for_each(|round| client::echo(&mut chat, &vec![round; size]));
    }
    assert_eq!((spliced(&lb), switches(&lb)), (0, 0), "only messages went through");

    let mut reading = client::connect(lb.addr("web"));
    let mut writing = reading.try_clone().unwrap();
    let writer = thread::spawn(move || send(&mut writing, 3, 64 * MIB));
    let got = receive(&mut reading, 64 * MIB);

    assert_eq!(got, writer.join().unwrap());
    let most = 2 * 64 * MIB * 9 / 10;
    assert!(spliced(&lb) > most, "{} bytes of a stream there and back were spliced", spliced(&lb));
}

#[test]
fn a_connection_that_streams_and_chats_in_turn_goes_back_and_forth() {
    const ROUNDS: u64 = 6;
    let listener = Listener::new();
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", listener.addr())));
    let Pair { mut client, mut server } = Pair::new(&lb, &listener);
    for round in 0..ROUNDS {
        // Downwards in even rounds, upwards in odd ones; the chat goes both ways.
        let (from, to) = if round % 2 == 0 { (&mut server, &mut client) } else { (&mut client, &mut server) };
        let mut source = from.try_clone().unwrap();
        let sender = thread::spawn(move || send(&mut source, round, 8 * MIB + round));
        assert_eq!(receive(to, 8 * MIB + round), sender.join().unwrap(), "round {round}");
        for number in 0..20 {
            let (question, answer) = ([number; 100], [number + 100; 333]);
            pass(&mut client, &mut server, &question);
            pass(&mut server, &mut client, &answer);
        }
    }
    assert!(switches(&lb) >= 2 * ROUNDS - 1, "{} switches in {ROUNDS} streams with chats between", switches(&lb));
    assert!(spliced(&lb) > ROUNDS * 4 * MIB, "{} bytes were spliced", spliced(&lb));
}

#[test]
fn an_end_at_any_point_of_a_stream_comes_after_every_byte() {
    let sizes = [0, 1, 4095, 32 << 10, 127 << 10, 128 << 10, (128 << 10) + 1, 300_001, MIB / 2, MIB + 7, 5 * MIB + 3];
    let hash = Backend::hash();
    let up = Lb::start(Config::of(Frontend::new("web").server("a", hash.addr())));
    for bytes in sizes {
        let mut stream = client::connect(up.addr("web"));
        let sent = send(&mut stream, bytes, bytes);
        stream.shutdown(Shutdown::Write).unwrap();
        // The server has closed by then: its answer comes after our end, over the other direction.
        assert_eq!(client::read_to_end(stream).unwrap(), sent.to_string(), "{bytes} bytes up");

        let source = Backend::source(bytes, bytes);
        let down = Lb::start(Config::of(Frontend::new("web").server("a", source.addr())));
        let got = stream::read(&mut client::connect(down.addr("web"))).unwrap();
        assert_eq!(got, stream::digest(bytes, bytes), "{bytes} bytes down");
    }
    up.until_idle();
}

#[test]
fn a_reset_of_the_source_in_the_middle_of_a_stream_reaches_the_sink() {
    let listener = Listener::new();
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", listener.addr())));
    let Pair { mut client, server } = Pair::new(&lb, &listener);
    let stopped = Arc::<AtomicBool>::default();
    let sender = send_until(server.try_clone().unwrap(), Arc::clone(&stopped));
    receive_until_spliced(&lb, &mut client);
    let sink = thread::spawn(move || io::copy(&mut client, &mut io::sink()));

    stopped.store(true, Relaxed);
    sender.join().unwrap().unwrap();
    client::reset(server);

    assert!(sink.join().unwrap().is_err_and(|error| client::is_reset(&error)), "the client sees no reset");
    lb.until_idle();
}

#[test]
fn a_reset_of_the_sink_in_the_middle_of_a_stream_reaches_the_source() {
    let listener = Listener::new();
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", listener.addr())));
    let Pair { mut client, server } = Pair::new(&lb, &listener);
    let sender = send_until(server, Arc::default());
    receive_until_spliced(&lb, &mut client);

    client::reset(client);

    assert!(sender.join().unwrap().is_err_and(|error| client::is_reset(&error)), "the server sees no reset");
    lb.until_idle();
}

#[test]
fn a_pipe_with_bytes_of_a_dead_connection_is_never_used_again() {
    let (endless, source) = (Backend::source(1, u64::MAX), Backend::source(2, 4 * MIB));
    let dead = Frontend::new("dead").server("a", endless.addr());
    let live = Frontend::new("live").server("a", source.addr());
    let lb = Lb::start(Config::of(dead).frontend(live).set("shards", 1));
    let expected = stream::digest(2, 4 * MIB);
    let stream = || stream::read(&mut client::connect(lb.addr("live"))).unwrap();
    assert_eq!(stream(), expected);
    lb.until_idle();
    let in_use = || lb.descriptors_in_use() as u64;
    let before = wait::until_still("descriptors are counted", Duration::from_millis(100), in_use);
    for _ in 0..20 {
        // Read nothing: the pipe fills. A reset then finds bytes in it.
        let spliced_before = spliced(&lb);
        let paused = client::connect(lb.addr("dead"));
        wait::until("the stream is spliced", || spliced(&lb) > spliced_before);
        wait::until_still("the reader's buffers are full", Duration::from_millis(50), || spliced(&lb));
        assert!(lb.pipes() > 0, "a stream with a slow reader has a pipe");
        client::reset(paused);
        assert_eq!(stream(), expected, "bytes of another connection came");
    }
    lb.until_idle();
    wait::until("descriptors are no more than before", || in_use() <= before);
}

#[test]
fn an_urgent_byte_in_a_stream_ends_nothing() {
    let listener = Listener::new();
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", listener.addr())));
    let client = client::connect_with_small_buffer(lb.addr("web"));
    let mut server = listener.accept();
    let sender = thread::spawn(move || {
        // What follows the urgent byte must be there with it when the reader lets the stream go on.
        let before = send(&mut server, 1, 8 * MIB);
        SockRef::from(&server).send_out_of_band(b"!").unwrap();
        let after = send(&mut server, 2, 64 << 10);
        server.shutdown(Shutdown::Write).unwrap();
        (before, after, server)
    });
    wait::until("the stream is spliced", || spliced(&lb) > 0);
    wait::until_still("the reader's buffers are full", Duration::from_millis(50), || spliced(&lb));

    let mut reading = client;
    let got_before = receive(&mut reading, 8 * MIB);
    let got_after = stream::read(&mut reading).unwrap();

    let (before, after, _server) = sender.join().unwrap();
    assert_eq!((got_before, got_after), (before, after), "the urgent byte itself is not part of the stream");
}

#[test]
fn without_descriptors_for_pipes_a_stream_is_copied() {
    let source = Backend::source(7, 64 * MIB);
    let config = Config::of(Frontend::new("web").server("a", source.addr())).set("shards", 1);
    let lb = Place::new(config).after("ulimit -n 63").start();

    let got = stream::read(&mut client::connect(lb.addr("web"))).unwrap();

    assert_eq!(got, stream::digest(7, 64 * MIB));
    assert_eq!((spliced(&lb), lb.pipes()), (0, 0));
}

#[test]
fn a_chat_is_answered_while_streams_take_all_that_they_can_get() {
    const MOST_BETWEEN: u64 = 64 * MIB;
    let (source, echo) = (Backend::source(1, u64::MAX), Backend::echo());
    let bulk = Frontend::new("bulk").server("a", source.addr());
    let lb = Lb::start(Config::of(bulk).frontend(Frontend::new("chat").server("a", echo.addr())).set("shards", 1));
    let streamed = Arc::<AtomicU64>::default();
    let streams: Vec<_> = (0..4).map(|_| client::connect(lb.addr("bulk"))).collect();
    for stream in &streams {
        let (mut stream, streamed) = (stream.try_clone().unwrap(), Arc::clone(&streamed));
        thread::spawn(move || {
            let mut chunk = vec![0; MIB as usize];
            while let Ok(count @ 1..) = stream.read(&mut chunk) {
                streamed.fetch_add(count as u64, Relaxed);
            }
        });
    }
    wait::until("the streams are spliced", || spliced(&lb) > 64 * MIB);

    let mut chat = client::connect(lb.addr("chat"));
    let mut meanwhile: Vec<u64> = (0..200)
        .map(|round| {
            let before = streamed.load(Relaxed);
            client::echo(&mut chat, &[round; 64]);
            streamed.load(Relaxed) - before
        })
        .collect();

    // What passes meanwhile is a measure of time that does not depend on how fast the machine is.
    meanwhile.sort_unstable();
    assert!(
        meanwhile[100] < MOST_BETWEEN,
        "half of the chat's messages waited for {} bytes of streams",
        meanwhile[100]
    );
    streams.iter().for_each(|stream| stream.shutdown(Shutdown::Both).unwrap());
}

#[test]
fn redis_gets_and_gives_a_large_value_through_it() {
    let redis = Redis::start();
    let lb = Lb::start(Config::of(Frontend::new("redis").server("a", redis.addr())));
    let port = lb.addr("redis").port().to_string();
    let mut value = Vec::new();
    send(&mut value, 5, 48 * MIB);

    let mut set = Command::new("redis-cli");
    set.args(["-p", &port, "-x", "set", "large"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut set = set.spawn().unwrap();
    set.stdin.take().unwrap().write_all(&value).unwrap();
    assert_eq!(set.wait_with_output().unwrap().stdout, b"OK\n");
    let got = Command::new("redis-cli").args(["-p", &port, "get", "large"]).output().unwrap().stdout;

    assert!(got.strip_suffix(b"\n") == Some(&value), "another value came back, of {} bytes", got.len());
    assert!(spliced(&lb) > 64 * MIB, "{} bytes were spliced", spliced(&lb));
}

fn spliced(lb: &Lb) -> u64 {
    lb.traffic("bytes_spliced")
}

fn switches(lb: &Lb) -> u64 {
    lb.traffic("relay_switches")
}

fn send(target: &mut impl Write, seed: u64, bytes: u64) -> Digest {
    stream::write(target, seed, bytes).unwrap()
}

/// Reads exactly so many bytes.
fn receive(source: &mut TcpStream, bytes: u64) -> Digest {
    let digest = stream::read(&mut source.take(bytes)).unwrap();
    assert_eq!(digest.bytes, bytes, "the connection ended early");
    digest
}

/// Small pieces with pauses between them, as on a busy machine, may be taken for a chat.
fn echo_in_large_pieces(mut stream: TcpStream) {
    let mut chunk = vec![0; 256 << 10];
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        if stream.write_all(&chunk[..count]).is_err() {
            return;
        }
    }
}

fn pass(from: &mut TcpStream, to: &mut TcpStream, message: &[u8]) {
    from.write_all(message).unwrap();
    let mut got = vec![0; message.len()];
    to.read_exact(&mut got).unwrap();
    assert_eq!(got, message);
}

/// Sends until it is stopped or the connection breaks.
fn send_until(mut target: TcpStream, stopped: Arc<AtomicBool>) -> JoinHandle<io::Result<()>> {
    thread::spawn(move || {
        while !stopped.load(Relaxed) {
            stream::write(&mut target, 1, MIB)?;
        }
        Ok(())
    })
}

fn receive_until_spliced(lb: &Lb, source: &mut TcpStream) {
    wait::until("the stream is spliced", || {
        receive(source, MIB);
        spliced(lb) > 0
    });
}
