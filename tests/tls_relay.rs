//! What holds for plain connections holds with TLS on either side: slow readers, limits, timeouts, and nothing left behind.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use tests::client::{is_turned_away, read_to_end, read_until_closed};
use tests::modes::{APP, Mode, Party, SITE, Scene};
use tests::{Backend, Channel, Frontend, Lb, refusing_addr, stream, wait};

const WITH_TLS: [Mode; 3] = [Mode::Termination, Mode::ReEncryption, Mode::Origination];

#[test]
fn a_slow_reader_pauses_the_sender_and_gets_every_byte() {
    // A group of each kind of buffers; what one connection may hold is less.
    const GROWN_MAX: u64 = 4 << 20;
    for mode in WITH_TLS {
        for from_client in [true, false] {
            let scene = Scene::new(mode);
            let (client, server) = scene.ends();
            let before = scene.lb.buffer_bytes();
            let (mut sender, mut reader) = if from_client { (client, server) } else { (server, client) };
            let sent = Arc::<AtomicU64>::default();
            let counted = Arc::clone(&sent);
            let sending = thread::spawn(move || {
                stream::write(&mut Counted(&mut sender, &counted), 9, BYTES).unwrap();
                sender.end().unwrap();
                // Kept until the other end has everything: a client that closes while a ticket is unread resets.
                sender
            });
            let held = wait::until_still("the sender pauses", Duration::from_millis(300), || sent.load(Relaxed));
            assert!(held < BYTES, "{mode:?}: it never paused");
            let grown = scene.lb.buffer_bytes().saturating_sub(before);
            assert!(grown <= GROWN_MAX, "{mode:?}: {grown} bytes of buffers more");
            assert_eq!(stream::read(&mut reader).unwrap(), stream::digest(9, BYTES), "{mode:?}");
            drop(sending.join().unwrap());
        }
    }
}

#[test]
fn messages_of_every_length_around_a_records_arrive_whole() {
    for mode in WITH_TLS {
        let scene = Scene::new(mode);
        let (mut client, mut server) = scene.ends();
        for length in [1, 2, 255, 4095, 4096, 4097, 16_383, 16_384, 16_385, 16_411, 32_768, 33_000, 65_537] {
            let message: Vec<u8> = (0..length).map(|index: usize| (index * 7 + length) as u8).collect();
            let mut came = vec![0; length];
            client.write_all(&message).unwrap();
            server.read_exact(&mut came).unwrap();
            assert!(came == message, "{mode:?}, {length} bytes to the server");
            server.write_all(&message).unwrap();
            client.read_exact(&mut came).unwrap();
            assert!(came == message, "{mode:?}, {length} bytes to the client");
        }
    }
}

#[test]
fn a_connection_that_is_idle_is_closed_after_the_idle_timeout() {
    for mode in WITH_TLS {
        let scene = Scene::with(mode, |frontend| frontend.set("idle_timeout", "\"2s\""));
        let (mut client, mut server) = scene.ends();
        // On a slow machine it may be idle for as long before.
        let _ = client.write_all(b"hello").and_then(|()| server.read_exact(&mut [0; 5]));
        let until_ended = |end: &Channel| read_until_closed(&mut end.stream().try_clone().unwrap());
        until_ended(&client);
        until_ended(&server);
        scene.lb.until_idle();
    }
}

#[test]
fn who_waits_for_a_full_server_is_served_in_turn() {
    for mode in [Mode::Termination, Mode::ReEncryption] {
        let party = Party::new();
        let server = match mode {
            Mode::Termination => Backend::who_and_echo("app"),
            _ => Backend::secure_who_and_echo("app", Arc::clone(&party.app)),
        };
        let frontend = Frontend::new("web").set("queue_timeout", "\"60s\"");
        let settings = format!("max_connections: 1, {}", mode.settings());
        let lb = Lb::start(party.config(frontend.server_with("a", server.addr(), &settings)).set("shards", 1));
        let addr = lb.addr("web");
        let greet = |client: &mut Channel| {
            let mut name = [0; 3];
            client.read_exact(&mut name).unwrap();
            assert_eq!(&name, b"app", "{mode:?}");
        };
        let mut first = Channel::connect(addr, SITE, &party.trusting).unwrap();
        greet(&mut first);
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let trusting = Arc::clone(&party.trusting);
                thread::spawn(move || {
                    let mut client = Channel::connect(addr, SITE, &trusting).unwrap();
                    client.write_all(b"said while waiting").unwrap();
                    client.end().unwrap();
                    read_to_end(client).unwrap()
                })
            })
            .collect();
        wait::until("the others wait", || lb.frontend("web")["waiting"] == 3);
        assert_eq!(server.accepted(), 1);
        first.end().unwrap();
        for client in waiting {
            assert_eq!(client.join().unwrap(), "appsaid while waiting", "{mode:?}");
        }
    }
}

#[test]
fn the_next_server_answers_for_one_that_refuses() {
    let party = Party::new();
    let (refusing, _guard) = refusing_addr();
    let good = Backend::secure_who_and_echo("good", Arc::clone(&party.app));
    let frontend = Frontend::new("web").server_with("bad", refusing, Mode::ReEncryption.settings());
    let lb = Lb::start(party.config(frontend.server_with("good", good.addr(), Mode::ReEncryption.settings())));
    wait::until("the refusing server was chosen", || {
        let mut answer = [0; 4];
        Channel::connect(lb.addr("web"), SITE, &party.trusting).unwrap().read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"good");
        lb.server("web", "bad")["failed"].as_u64() > Some(0)
    });
}

#[test]
fn a_client_is_reset_and_never_ended_in_order_if_no_server_can_be_had() {
    let party = Party::new();
    let (refusing, _guard) = refusing_addr();
    for mode in WITH_TLS {
        let lb = Lb::start(party.config(Frontend::new("web").server_with("bad", refusing, mode.settings())));
        if mode == Mode::Origination {
            is_turned_away(lb.addr("web"));
        } else {
            let client = Channel::connect(lb.addr("web"), SITE, &party.trusting);
            assert!(client.and_then(|mut client| client.read(&mut [0])).is_err(), "{mode:?}");
        }
        wait::until("it is counted", || lb.unserved("web") == 1);
        lb.until_idle();
    }
}

#[test]
fn a_drained_servers_connections_are_closed_when_their_time_is_over() {
    for mode in WITH_TLS {
        let scene = Scene::new(mode);
        let (mut client, mut server) = scene.ends();
        client.write_all(b"hello").unwrap();
        server.read_exact(&mut [0; 5]).unwrap();
        scene.lb.change("DrainServer(frontend:\"web\",name:\"a\",within:\"200ms\")");
        for end in [client, server] {
            read_until_closed(&mut end.stream().try_clone().unwrap());
        }
        scene.lb.until_idle();
    }
}

#[test]
fn a_thousand_connections_leave_nothing_behind() {
    let party = Party::new();
    let server = Backend::secure_who_and_echo("", Arc::clone(&party.app));
    let frontend = Frontend::new("web").server_with("a", server.addr(), Mode::ReEncryption.settings());
    let lb = Lb::start(party.config(frontend).set("shards", 2));
    let converse = |count| {
        for _ in 0..count {
            tests::tries::echo_in_tls(lb.addr("web"), &party.trusting).unwrap();
        }
        lb.until_idle();
    };
    converse(200);
    let (descriptors, memory) = (lb.descriptors_in_use(), lb.memory());
    converse(1000);
    wait::until("no more descriptors are in use", || lb.descriptors_in_use() <= descriptors);
    let grown = lb.memory().saturating_sub(memory);
    assert!(grown < 4 << 20, "a thousand connections made the process grow by {grown} bytes");
}

#[test]
fn a_passthrough_beside_termination_keeps_its_streams_spliced() {
    let party = Party::new();
    let server = Backend::secure(Arc::clone(&party.app), |mut channel| {
        let _ = stream::write(&mut channel, 3, 20 << 20).and_then(|_| channel.end());
        let _ = channel.read(&mut [0]);
    });
    let frontend = Frontend::new("web").server_with("a", server.addr(), Mode::Passthrough.settings());
    let plain = Backend::who("plain");
    let settings = format!("drain: true, {}", Mode::Termination.settings());
    let lb = Lb::start(party.config(frontend.server_with("b", plain.addr(), &settings)));
    let mut client = Channel::connect(lb.addr("web"), APP, &party.trusting).unwrap();
    assert_eq!(stream::read(&mut client).unwrap(), stream::digest(3, 20 << 20));
    assert!(lb.pipes() > 0, "it went by way of a pipe");
}

/// Far more than all the kernel's buffers between two ends hold.
const BYTES: u64 = 40 << 20;

/// Counts what is written.
struct Counted<'a>(&'a mut Channel, &'a AtomicU64);

impl Write for Counted<'_> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let count = self.0.write(&buffer[..buffer.len().min(16 * 1024)])?;
        self.1.fetch_add(count as u64, Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
