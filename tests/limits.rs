//! At each limit accepting pauses and resumes by itself; connections that exist don't suffer, and nothing leaks.
#![forbid(unsafe_code)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tests::client::{connect, echo};
use tests::fault::{has, skipped};
use tests::program::succeeds;
use tests::{Backend, Config, Frontend, Lb, Peer, Place, wait};

#[test]
fn at_a_frontends_limit_accepting_pauses_and_resumes() {
    let backend = Backend::echo();
    let limited = Frontend::new("web").set("max_connections", 3).server("a", backend.addr());
    let lb = Lb::start(Config::of(limited).frontend(Frontend::new("other").server("a", backend.addr())));
    let addr = lb.addr("web");
    let mut held: Vec<_> = (0..3).map(|_| served(addr)).collect();

    let mut waiting = connect(addr);
    wait::until("the frontend pauses", || lb.is_paused("web"));
    is_not_served_yet(&mut waiting);
    // Another shard that finds no room counts one more for a moment.
    wait::until("no more than the limit are counted", || lb.connections_of("web") == 3);
    assert!(!lb.is_paused("other"), "a frontend's limit is its own");
    served(lb.addr("other"));
    held.iter_mut().for_each(|stream| echo(stream, b"undisturbed"));

    held.pop();
    gets_served(&mut waiting);
    drop((held, waiting));
    wait::until("the frontend accepts again", || !lb.is_paused("web"));
    lb.until_idle();
}

#[test]
fn a_frontend_that_stays_at_its_limit_is_logged_once() {
    let backend = Backend::echo();
    let lb = Lb::start(Config::of(Frontend::new("web").set("max_connections", 20).server("a", backend.addr())));
    let addr = lb.addr("web");
    let mut held: Vec<_> = (0..20).map(|_| served(addr)).collect();
    // Each client that goes lets the next one in, and the frontend is full again.
    for _ in 0..10 {
        let mut waiting = connect(addr);
        wait::until("the frontend pauses", || lb.is_paused("web"));
        drop(held.pop());
        gets_served(&mut waiting);
        held.push(waiting);
    }
    assert_eq!(pauses_logged(&lb), 1, "the log:\n{}", lb.log().text());
}

#[test]
fn a_frontends_limit_can_be_raised_and_taken_away_while_it_is_reached() {
    let backend = Backend::echo();
    let lb = Lb::start(Config::of(Frontend::new("web").set("max_connections", 1).server("a", backend.addr())));
    let addr = lb.addr("web");
    let _held = served(addr);
    let mut waiting: Vec<_> = (0..4).map(|_| connect(addr)).collect();
    wait::until("the frontend pauses", || lb.is_paused("web"));
    lb.change("UpdateFrontend(name:\"web\",max_connections:2)");
    wait::until("one more is accepted", || lb.connections_of("web") == 2);
    lb.change("UpdateFrontend(name:\"web\",max_connections:0)");
    waiting.iter_mut().for_each(gets_served);
    assert!(!lb.is_paused("web"));
}

#[test]
fn at_the_process_limit_accepting_pauses_on_every_frontend_and_resumes() {
    let backend = Backend::echo();
    let (web, api) = (Frontend::new("web"), Frontend::new("api"));
    let config = Config::of(web.server("a", backend.addr())).frontend(api.server("a", backend.addr()));
    let lb = Lb::start(config.set("max_connections", 4));
    let mut held: Vec<_> = [lb.addr("web"), lb.addr("api")].iter().cycle().take(4).map(|addr| served(*addr)).collect();

    let mut waiting = [connect(lb.addr("web")), connect(lb.addr("api"))];
    wait::until("accepting pauses", || lb.is_paused("web") && lb.is_paused("api"));
    waiting.iter_mut().for_each(is_not_served_yet);
    // Another shard that finds no room counts one more for a moment.
    wait::until("no more than the limit are counted", || lb.connections() == 4);
    held.iter_mut().for_each(|stream| echo(stream, b"undisturbed"));

    held.truncate(2);
    waiting.iter_mut().for_each(gets_served);
}

#[test]
fn a_small_descriptor_limit_is_a_pause_at_the_connections_that_fit() {
    let backend = Backend::echo();
    pauses_at_the_connections_that_fit(Config::of(Frontend::new("web").server("a", backend.addr())));
}

#[test]
fn a_limit_that_descriptors_do_not_suffice_for_is_a_pause_at_the_connections_that_fit() {
    let backend = Backend::echo();
    let config = Config::of(Frontend::new("web").server("a", backend.addr()));
    pauses_at_the_connections_that_fit(config.set("max_connections", 100_000));
}

#[test]
fn out_of_descriptors_accepting_pauses_and_recovers() {
    if skipped("out_of_descriptors_accepting_pauses_and_recovers", has("prlimit"), "prlimit (util-linux)") {
        return;
    }
    let backend = Backend::echo();
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", backend.addr())));
    let addr = lb.addr("web");
    let mut held: Vec<_> = (0..10).map(|_| served(addr)).collect();
    // The balancer counted on more when it started. Its soft limit is what counts, and can be raised again.
    limit_descriptors(&lb, lb.descriptors() + 40);

    let mut waiting: Vec<_> = (0..100).map(|_| connect(addr)).collect();
    assert_eq!(pauses_logged(&lb), 1, "the log:\n{}", lb.log().text());
    held.iter_mut().for_each(|stream| echo(stream, b"undisturbed"));

    limit_descriptors(&lb, 20_000);
    waiting.iter_mut().for_each(gets_served);
    held.iter_mut().for_each(|stream| echo(stream, b"undisturbed"));
    drop((held, waiting));
    wait::until("accepting goes on", || !lb.is_paused("web"));
    lb.until_idle();
}

#[test]
fn nine_thousand_connections_at_once_are_served_and_leave_nothing_behind() {
    let _alone = alone();
    let server = Peer::echo();
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", server.addr())));
    drop(served(lb.addr("web")));
    lb.until_idle();
    let descriptors = wait::until_still("descriptors are counted", STILL, || lb.descriptors_in_use() as u64);

    let mut streams = open(lb.addr("web"), 9_000);
    echo_on_each(&mut streams);
    assert_eq!(lb.connections(), 9_000);
    assert!(lb.descriptors() >= 18_000, "each has two descriptors");
    echo_on_each(&mut streams);

    drop(streams);
    lb.until_idle();
    wait::until("descriptors are as many as before", || lb.descriptors_in_use() as u64 == descriptors);
}

#[test]
fn above_twenty_thousand_descriptors_accepting_pauses_and_recovers() {
    let _alone = alone();
    let server = Peer::echo();
    let place = Place::new(Config::of(Frontend::new("web").server("a", server.addr()))).after("ulimit -n 20000");
    let lb = place.start();
    let addr = lb.addr("web");
    let mut served = open(addr, 9_000);
    echo_on_each(&mut served);

    let mut more = open(addr, 1_500);
    wait::until("accepting pauses", || lb.is_paused("web"));
    served[..100].iter_mut().for_each(|stream| echo(stream, b"undisturbed"));

    drop(served);
    echo_on_each(&mut more);
    wait::until("accepting goes on", || !lb.is_paused("web"));
    drop(more);
    lb.until_idle();
}

#[test]
fn an_idle_connection_takes_at_most_a_kibibyte_of_user_memory() {
    const COUNT: usize = 5_000;
    let _alone = alone();
    let server = Peer::echo();
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", server.addr())));
    let addr = lb.addr("web");
    let mut warm = served_lot(addr, 100);
    // So often that every buffer of the shards has been in memory: they are not the connections'.
    (0..30).for_each(|_| echo_on_each(&mut warm));
    let before = lb.memory();

    // In lots no larger than before: how many buffers are used at once is not the idle connections' either.
    let idle: Vec<_> = (0..COUNT / 100).flat_map(|_| served_lot(addr, 100)).collect();

    let grown = lb.memory().saturating_sub(before) / COUNT as u64;
    assert!(grown <= 1024, "each of {COUNT} idle connections takes {grown} bytes");
    drop((warm, idle));
}

const STILL: Duration = Duration::from_millis(200);

/// Tests that open thousands of connections run one at a time: a process has 20 000 descriptors.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A connection that a server has answered on.
fn served(addr: SocketAddr) -> TcpStream {
    let mut stream = connect(addr);
    echo(&mut stream, b"hello");
    stream
}

/// As many connections at once, a server having answered on each.
fn served_lot(addr: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut streams = open(addr, count);
    echo_on_each(&mut streams);
    streams
}

/// The kernel has accepted the connection, but no server answers. Leaves a `?` sent.
fn is_not_served_yet(stream: &mut TcpStream) {
    stream.write_all(b"?").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let error = stream.read(&mut [0]).expect_err("a connection above the limit was served or closed");
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    stream.set_read_timeout(Some(wait::HANG)).unwrap();
}

/// An answer comes, also to what may have been sent before.
fn gets_served(stream: &mut TcpStream) {
    stream.write_all(b"!").unwrap();
    let mut byte = [0];
    while byte != *b"!" {
        stream.read_exact(&mut byte).unwrap_or_else(|error| panic!("a waiting client was not served: {error}"));
    }
}

fn pauses_at_the_connections_that_fit(config: Config) {
    let lb = Place::new(config).after("ulimit -n 400").start();
    let addr = lb.addr("web");
    let mut held: Vec<_> = (0..10).map(|_| served(addr)).collect();

    let mut waiting: Vec<_> = (0..300).map(|_| connect(addr)).collect();
    wait::until("accepting pauses", || lb.is_paused("web"));
    held.iter_mut().for_each(|stream| echo(stream, b"undisturbed"));
    assert_eq!(pauses_logged(&lb), 1, "the log:\n{}", lb.log().text());

    drop(held);
    while !waiting.is_empty() {
        waiting.drain(..10).for_each(|mut stream| gets_served(&mut stream));
    }
    wait::until("accepting goes on", || !lb.is_paused("web"));
    lb.until_idle();
}

fn limit_descriptors(lb: &Lb, limit: usize) {
    let limit = format!("--nofile={limit}:");
    succeeds(Command::new("prlimit").args(["--pid", &lb.pid().to_string(), &limit]));
}

/// How often the log says that clients are not accepted (the admin socket's own pauses are another matter).
fn pauses_logged(lb: &Lb) -> usize {
    let is_pause = |line: &str| line.contains("pause") && !line.contains("admin");
    wait::until("the log says that accepting pauses", || lb.log().count(is_pause) > 0);
    lb.log().count(is_pause)
}

fn open(addr: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| connect(addr)).collect()
}

/// A round trip on every connection, all on their way at once.
fn echo_on_each(streams: &mut [TcpStream]) {
    for (index, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&[index as u8]).unwrap();
    }
    for (index, stream) in streams.iter_mut().enumerate() {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap_or_else(|error| panic!("connection {index} was not served: {error}"));
        assert_eq!(byte, [index as u8], "connection {index} got another's byte");
    }
}
