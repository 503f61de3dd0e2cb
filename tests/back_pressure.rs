//! A slow reader pauses its sender: nothing is lost, memory stays bounded, and nobody else notices.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use tests::client::{connect, connect_with_small_buffer, read_to_end};
use tests::{Backend, Config, Frontend, Lb, Listener, Pair, client, stream, wait};

/// What the relay may hold in its own memory for one direction of a connection.
const HELD_MAX: u64 = 256 * 1024;

/// Far more than all the kernel's buffers between two ends hold.
const BYTES: u64 = 100 << 20;

#[test]
fn a_slow_client_pauses_the_server_and_gets_every_byte() {
    let listener = Listener::new();
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", listener.addr())));
    let client = connect_with_small_buffer(lb.addr("web"));
    slow_reader_pauses_sender(&lb, client, listener.accept());
}

#[test]
fn a_slow_server_pauses_the_client_and_gets_every_byte() {
    let listener = Listener::new();
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", listener.addr())));
    let Pair { client, server } = Pair::new(&lb, &listener);
    slow_reader_pauses_sender(&lb, server, client);
}

#[test]
fn a_reader_of_small_pieces_gets_every_byte() {
    let backend = Backend::source(5, 3 << 20);
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", backend.addr())));
    let mut slow = Pieces(connect_with_small_buffer(lb.addr("web")));
    assert_eq!(stream::read(&mut slow).unwrap(), stream::digest(5, 3 << 20));
}

#[test]
fn a_paused_connection_can_be_closed_from_either_side() {
    let backend = Backend::source(1, u64::MAX);
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", backend.addr())));
    let client = connect_with_small_buffer(lb.addr("web"));
    until_paused(&lb);
    drop(client);
    lb.until_idle();

    let listener = Listener::new();
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", listener.addr())));
    let client = connect_with_small_buffer(lb.addr("web"));
    let (server, sent) = (listener.accept(), Arc::default());
    let sending = send_counted(server.try_clone().unwrap(), Arc::clone(&sent));
    until_still(&sent);
    server.shutdown(std::net::Shutdown::Both).unwrap();
    let _ = sending.join();
    drop(server);
    assert!(read_to_end(client).is_err(), "what was sent is no text");
    lb.until_idle();
}

#[test]
fn a_server_that_waits_for_a_client_that_is_gone_is_told() {
    const ANSWER: usize = 16;
    let failed = Arc::<AtomicU64>::default();
    let noted = Arc::clone(&failed);
    // It reads nothing while it writes.
    let backend = Backend::run(move |mut stream| {
        let (mut chunk, answer) = (vec![0; 64 << 10], vec![0; ANSWER * (64 << 10)]);
        while let Ok(count @ 1..) = stream.read(&mut chunk) {
            if stream.write_all(&answer[..ANSWER * count]).is_err() {
                noted.fetch_add(1, Relaxed);
                return;
            }
        }
    });
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", backend.addr())));
    let client = connect_with_small_buffer(lb.addr("web"));
    let sent = Arc::default();
    let sending = send_counted(client.try_clone().unwrap(), Arc::clone(&sent));
    until_still(&sent);
    // Wakes the sender, which has a handle of its own.
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let _ = sending.join();
    client::reset(client);
    wait::until("the server's write fails", || failed.load(Relaxed) == 1);
    lb.until_idle();
}

#[test]
fn two_hundred_slow_readers_hold_bounded_memory_and_slow_nobody_down() {
    const READERS: u64 = 200;
    const EACH: u64 = 4 << 20;
    let (source, echo) = (Backend::source(9, EACH), Backend::echo());
    let slow = Frontend::new("slow").server("a", source.addr());
    let lb = Lb::start(Config::of(slow).frontend(Frontend::new("fast").server("a", echo.addr())));
    warm_up(&lb);
    let before = lb.memory();

    let readers: Vec<_> = (0..READERS).map(|_| connect_with_small_buffer(lb.addr("slow"))).collect();
    until_paused(&lb);

    let grown = lb.memory().saturating_sub(before);
    assert!(grown <= READERS * HELD_MAX + SLACK, "{READERS} slow readers made the process grow by {grown} bytes");
    let held = lb.buffer_bytes();
    assert!(held <= READERS * HELD_MAX + SLACK, "{READERS} slow readers hold {held} bytes of buffers");
    others_go_on_at_full_speed(&lb);

    let expected = stream::digest(9, EACH);
    for mut reader in readers {
        assert_eq!(stream::read(&mut reader).unwrap(), expected, "a slow reader lost bytes");
    }
    lb.until_idle();
}

#[test]
fn chats_stay_intact_while_slow_readers_come_and_go() {
    const READERS: u64 = 60;
    let (source, echo) = (Backend::source(9, u64::MAX), Backend::echo());
    let slow = Frontend::new("slow").server("a", source.addr());
    let fast = Frontend::new("fast").server("a", echo.addr());
    let lb = Lb::start(Config::of(slow).frontend(fast).set("shards", 1));
    for _ in 0..4 {
        let readers: Vec<_> = (0..READERS).map(|_| connect_with_small_buffer(lb.addr("slow"))).collect();
        until_paused(&lb);
        // Their receives are armed while the readers hold the first buffers, and go on while these come back.
        let chats: Vec<_> = (0..4).map(|number| chat(connect(lb.addr("fast")), number)).collect();
        drop(readers);
        for chat in chats {
            chat.join().expect("a chat got other bytes than it sent, or none");
        }
    }
    lb.until_idle();
}

/// Messages that differ from each other and from those of other chats, each compared.
fn chat(mut stream: TcpStream, number: u8) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for round in 0..1_500u32 {
            let message = [&round.to_le_bytes()[..], &[number; 60]].concat();
            client::echo(&mut stream, &message);
        }
    })
}

/// Code and tables that come into memory while it works.
const SLACK: u64 = 8 << 20;

fn slow_reader_pauses_sender(lb: &Lb, mut reader: TcpStream, sender: TcpStream) {
    let before = lb.memory();
    let sent = Arc::<AtomicU64>::default();
    let sending = send_counted(sender, Arc::clone(&sent));

    let paused_at = until_still(&sent);

    assert!(paused_at < BYTES, "all {BYTES} bytes went to a reader that reads nothing");
    let grown = lb.memory().saturating_sub(before);
    assert!(grown <= HELD_MAX + SLACK, "one slow reader made the process grow by {grown} bytes");
    let got = stream::read(&mut reader).unwrap();
    sending.join().unwrap();
    assert_eq!(got, stream::digest(SEED, BYTES));
    drop(reader);
    lb.until_idle();
}

const SEED: u64 = 11;

/// Sends the stream of `SEED` and counts what the kernel has taken.
fn send_counted(sender: TcpStream, sent: Arc<AtomicU64>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let _ = stream::write(&mut Counted { sender, sent }, SEED, BYTES);
    })
}

struct Counted {
    sender: TcpStream,
    sent: Arc<AtomicU64>,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.sender.write(bytes)?;
        self.sent.fetch_add(count as u64, Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Reads at most 700 bytes at a time.
struct Pieces(TcpStream);

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(700);
        self.0.read(&mut buffer[..most])
    }
}

fn until_still(sent: &AtomicU64) -> u64 {
    wait::until_still("the sender pauses", Duration::from_millis(500), || sent.load(Relaxed))
}

/// Waits until no byte moves any more.
fn until_paused(lb: &Lb) {
    let moved = || lb.status()["traffic"]["bytes_to_client"].as_u64().unwrap();
    wait::until("bytes move", || moved() > 0);
    wait::until_still("no byte moves", Duration::from_millis(500), moved);
}

fn warm_up(lb: &Lb) {
    let mut stream = connect(lb.addr("fast"));
    for _ in 0..100 {
        client::echo(&mut stream, &[b'x'; 16 * 1024]);
    }
}

/// Both round trips and bulk; the deadline is for a machine under load, a stall would be far beyond it.
fn others_go_on_at_full_speed(lb: &Lb) {
    let begun = Instant::now();
    let mut streams: Vec<_> = (0..4).map(|_| connect(lb.addr("fast"))).collect();
    for round in 0..250 {
        for stream in &mut streams {
            client::echo(stream, &[round; 64]);
        }
    }
    let mut upload = streams[0].try_clone().unwrap();
    let writer = thread::spawn(move || {
        let sent = stream::write(&mut upload, 2, 32 << 20).unwrap();
        upload.shutdown(std::net::Shutdown::Write).unwrap();
        sent
    });
    assert_eq!(stream::read(&mut streams[0]).unwrap(), writer.join().unwrap());
    assert!(begun.elapsed() < wait::HANG, "1000 round trips and 64 MiB took {:?}", begun.elapsed());
}
