//! How it starts, what it says when it can't, and how it stops.
#![forbid(unsafe_code)]

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use tests::client::{ask, connect, echo, read_until_closed, try_connect};
use tests::fault::{has, skipped};
use tests::{Backend, Config, Frontend, Lb, Place, wait};

#[test]
fn the_port_that_the_kernel_chose_is_in_the_log_before_ready() {
    let backend = Backend::who("app");
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", backend.addr())));
    let log = lb.log().text();
    let accepts = log.find("frontend web accepts on ").expect("the log says where it accepts");
    assert!(accepts < log.rfind("ready").unwrap(), "{log}");
    let rest = &log[accepts + "frontend web accepts on ".len()..];
    let addr: SocketAddr = rest.split_whitespace().next().unwrap().parse().unwrap();
    assert_eq!(addr, lb.addr("web"));
    assert_eq!(ask(addr), "app");
}

#[test]
fn it_starts_with_as_many_shards_as_asked_for_and_one_per_core_by_default() {
    let shards = |lb: &Lb| lb.status()["shards"].as_array().unwrap().len();
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(shards(&Lb::start(Config::of(Frontend::new("web")))), cores);
    for count in [1, 3] {
        assert_eq!(shards(&Lb::start(Config::of(Frontend::new("web")).set("shards", count))), count);
    }
}

#[test]
fn every_shard_accepts() {
    let backend = Backend::who("app");
    let lb = Lb::start(Config::of(Frontend::new("web").server("a", backend.addr())).set("shards", 2));
    let addr = lb.addr("web");
    wait::until("both shards have accepted", || {
        (0..20).for_each(|_| assert_eq!(ask(addr), "app"));
        lb.status()["shards"].as_array().unwrap().iter().all(|shard| shard["accepted"].as_u64() > Some(0))
    });
}

#[test]
fn without_frontends_it_starts_and_takes_them_later() {
    let backend = Backend::who("app");
    let lb = Lb::start("()");
    lb.change(&format!("AddFrontend(frontend:{})", Frontend::new("web").server("a", backend.addr())));
    assert_eq!(ask(lb.addr("web")), "app");
}

#[test]
fn an_inherited_socket_is_taken_by_its_descriptor() {
    let backend = Backend::who("app");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let config = Config::of(Frontend::new("web").bind("fd:3").server("a", backend.addr()));
    let lb = Place::new(config).inherit(listener).start();
    assert_eq!(lb.addr("web"), addr);
    for _ in 0..10 {
        assert_eq!(ask(addr), "app");
    }
}

#[test]
fn a_socket_passed_by_systemd_is_taken_by_the_frontend_of_its_address() {
    let backend = Backend::who("app");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let config = Config::of(Frontend::new("web").bind(addr).server("a", backend.addr()));
    // Nobody else can bind the port: it only works with the socket that was passed.
    let place = Place::new(config).inherit(listener).after("export LISTEN_FDS=1 LISTEN_PID=$$");
    let lb = place.start();
    for _ in 0..10 {
        assert_eq!(ask(addr), "app");
    }
    drop(lb);
}

#[test]
fn a_descriptor_that_is_no_listening_socket_is_a_start_error_that_names_it() {
    let exit = Place::new(Config::of(Frontend::new("web").bind("fd:77"))).fail();
    assert_eq!(exit.code, Some(1), "{}", exit.log);
    assert!(exit.log.contains("77"), "{}", exit.log);
    let file = Place::new(Config::of(Frontend::new("web").bind("fd:3"))).after("exec 3</dev/null");
    assert_eq!(file.fail().code, Some(1));
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let place = Place::new(Config::of(Frontend::new("web")));
    let path = place.folder().join("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(wait::HANG)).unwrap();
    let mut lb = place.env("NOTIFY_SOCKET", path.to_str().unwrap()).start();
    until_told(&socket, "READY=1");
    lb.signal("TERM");
    until_told(&socket, "STOPPING=1");
    assert!(lb.exit().success());
}

#[test]
fn a_taken_address_is_a_start_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let exit = Place::new(Config::of(Frontend::new("web").bind(addr))).fail();
    assert_eq!(exit.code, Some(1), "{}", exit.log);
    assert!(exit.log.contains(&addr.to_string()), "{}", exit.log);
}

#[test]
fn a_bad_configuration_is_a_start_error_with_file_and_line() {
    let exit = Place::new("(\n  frontends: [ (name: \"web\", bind: \"nowhere\") ]\n)").fail();
    assert_eq!(exit.code, Some(1), "{}", exit.log);
    assert!(exit.log.contains("lb.ron:2:"), "{}", exit.log);
}

#[test]
fn a_host_that_forbids_io_uring_is_a_start_error_that_says_what_to_change() {
    for (error, remedy) in [("EPERM", "io_uring_disabled"), ("ENOSYS", "6.1")] {
        if skipped("a_host_that_forbids_io_uring_is_a_start_error", has("strace"), "strace") {
            return;
        }
        let exit = Place::new(Config::of(Frontend::new("web"))).after(&strace("io_uring_setup", error)).fail();
        assert_eq!(exit.code, Some(1), "{error}: {}", exit.log);
        assert!(exit.log.contains("io_uring"), "{error}: {}", exit.log);
        assert!(exit.log.contains(remedy), "{error}: the error says what to change: {}", exit.log);
    }
}

#[test]
fn too_little_locked_memory_is_a_start_error_that_says_what_to_change() {
    let exit = Place::new(Config::of(Frontend::new("web"))).after("ulimit -l 64").fail();
    assert_eq!(exit.code, Some(1), "{}", exit.log);
    assert!(exit.log.contains("ulimit -l"), "the error says what to change: {}", exit.log);
}

#[test]
fn a_ring_for_which_there_is_no_memory_is_a_start_error() {
    if skipped("a_ring_for_which_there_is_no_memory_is_a_start_error", has("strace"), "strace") {
        return;
    }
    let exit = Place::new(Config::of(Frontend::new("web"))).after(&strace("io_uring_setup", "ENOMEM")).fail();
    assert_eq!(exit.code, Some(1), "{}", exit.log);
    assert!(exit.log.contains("memory"), "the error says what to change: {}", exit.log);
}

#[test]
fn it_runs_with_the_locked_memory_of_an_ordinary_user() {
    let backend = Backend::who("app");
    let config = Config::of(Frontend::new("web").server("a", backend.addr()));
    let lb = Place::new(config).after("ulimit -l 8192").start();
    assert_eq!(ask(lb.addr("web")), "app");
}

#[test]
fn sigterm_stops_accepting_and_lets_connections_finish() {
    for signal in ["TERM", "INT"] {
        let backend = Backend::echo();
        let mut lb = Lb::start(Config::of(Frontend::new("web").server("a", backend.addr())));
        let addr = lb.addr("web");
        let mut stream = connect(addr);
        echo(&mut stream, b"before");

        lb.signal(signal);

        wait::until("nobody is accepted any more", || try_connect(addr).is_err());
        echo(&mut stream, b"after");
        drop(stream);
        assert_eq!(lb.exit().code(), Some(0), "{signal}: {}", lb.log().text());
    }
}

#[test]
fn after_the_shutdown_grace_connections_are_closed() {
    let backend = Backend::echo();
    let config = Config::of(Frontend::new("web").server("a", backend.addr())).set("shutdown_grace", "\"700ms\"");
    let mut lb = Lb::start(config);
    let mut stream = connect(lb.addr("web"));
    echo(&mut stream, b"before");
    let begun = Instant::now();
    lb.signal("TERM");
    let (bytes, _) = read_until_closed(&mut stream);
    assert_eq!(bytes, b"");
    assert!(begun.elapsed() >= Duration::from_millis(698), "closed after {:?} already", begun.elapsed());
    assert_eq!(lb.exit().code(), Some(0), "{}", lb.log().text());
}

#[test]
fn a_second_signal_closes_at_once() {
    let backend = Backend::echo();
    let mut lb = Lb::start(Config::of(Frontend::new("web").server("a", backend.addr())));
    let addr = lb.addr("web");
    let mut stream = connect(addr);
    echo(&mut stream, b"before");
    lb.signal("TERM");
    wait::until("it stops accepting", || try_connect(addr).is_err());
    let begun = Instant::now();
    lb.signal("TERM");
    read_until_closed(&mut stream);
    assert_eq!(lb.exit().code(), Some(0), "{}", lb.log().text());
    assert!(begun.elapsed() < Duration::from_secs(10), "the grace of 30 s was not cut short: {:?}", begun.elapsed());
}

#[test]
fn an_idle_balancer_stops_at_once() {
    let mut lb = Lb::start(Config::of(Frontend::new("web")));
    lb.signal("TERM");
    assert_eq!(lb.exit().code(), Some(0), "{}", lb.log().text());
}

#[test]
fn a_client_in_the_queue_when_it_stops_is_not_left_hanging() {
    let backend = Backend::echo();
    let mut lb = Lb::start(Config::of(Frontend::new("web").set("max_connections", 1).server("a", backend.addr())));
    let addr = lb.addr("web");
    let mut held = connect(addr);
    echo(&mut held, b"x");
    let mut queued = connect(addr);
    wait::until("the frontend pauses", || lb.is_paused("web"));
    lb.signal("TERM");
    let (bytes, _) = read_until_closed(&mut queued);
    assert_eq!(bytes, b"");
    echo(&mut held, b"undisturbed");
    drop(held);
    assert_eq!(lb.exit().code(), Some(0));
}

/// Lets a system call of the program fail from its first use. strace stays beside it: the process is the program.
fn strace(call: &str, error: &str) -> String {
    // $0 is the program, $@ its arguments: the line that would run it runs it under strace instead.
    format!(
        "set -- -D -f -o /dev/null -e trace={call} -e inject={call}:error={error} \"$0\" \"$@\"; exec strace \"$@\""
    )
}

fn until_told(socket: &UnixDatagram, message: &str) {
    let mut buffer = [0; 4096];
    loop {
        let count = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("systemd was not told {message}: {error}"));
        if String::from_utf8_lossy(&buffer[..count]).lines().any(|line| line == message) {
            return;
        }
    }
}
