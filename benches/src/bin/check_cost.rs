//! What checking many servers costs.
//!
//! `cargo run --release -p benches --bin check_cost`. The checker runs in this process, as it does in a balancer, and checks that many
//! addresses of 127.0.0.0/8, on each of which one listening socket of another thread accepts. Counted is the CPU time of
//! the checker's thread alone (`schedstat`), from when each server has its first verdict on. On loopback the server's part of a
//! handshake is done by whoever sends, so it is in it.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use benches::{Result, cpu};
use clap::{Parser, ValueEnum};
use lb_core::config::{Check, CheckKind, Millis};
use lb_core::internal::{CHECK_THREAD, Checks};

/// Measures the CPU time of checks.
#[derive(Debug, Parser)]
struct Args {
    /// Servers that are checked, at most 60 000.
    #[arg(long, default_value_t = 10_000)]
    servers: u16,
    /// Milliseconds from one check of a server to the next.
    #[arg(long, default_value_t = 2_000)]
    interval_ms: u64,
    /// What is asked of them.
    #[arg(long, value_enum, default_value_t = Kind::Tcp)]
    kind: Kind,
    /// How long is measured.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Kind {
    Tcp,
    Http,
}

/// How long to wait until checks, which are spread over a second at first, are spread over the interval.
const SETTLE_INTERVALS: u32 = 2;

fn main() -> Result<()> {
    let args = Args::parse();
    let (port, accepted) = listen(args.kind)?;
    let interval = Millis::new(Duration::from_millis(args.interval_ms))?;
    let kind = match args.kind {
        Kind::Tcp => CheckKind::Tcp,
        Kind::Http => CheckKind::http("/")?,
    };
    let address = |server: u16| SocketAddr::from(([127, 1, (server >> 8) as u8, server as u8], port));
    let before = cpu::resident_bytes(std::process::id())?;
    let checks = Checks::start((0..args.servers).map(address), Check::new(kind).with_interval(interval)?)?;
    let up = checks.wait_for_verdicts(args.servers.into());
    if up != usize::from(args.servers) {
        return Err(format!("{up} of {} servers are up", args.servers).into());
    }
    thread::sleep(interval.as_duration() * SETTLE_INTERVALS);

    let task = checker_task()?;
    let (begun, used_before, accepted_before) = (Instant::now(), cpu::on_cpu(&task)?, accepted.load(Ordering::Relaxed));
    thread::sleep(Duration::from_secs(args.seconds));
    let elapsed = begun.elapsed();
    let used = Duration::from_nanos(cpu::on_cpu(&task)? - used_before);
    if checks.changes() > 0 {
        return Err("servers that are always up were found down".into());
    }
    let done = f64::from(args.servers) * elapsed.as_secs_f64() / interval.as_duration().as_secs_f64();
    let share = 100.0 * used.as_secs_f64() / elapsed.as_secs_f64();
    println!("{} servers, {:?} every {interval}: {share:.1} % of a core", args.servers, args.kind);
    println!("{:.1} µs per check, {:.0} checks in {elapsed:.1?}", used.as_secs_f64() * 1e6 / done, done);
    println!("{} connections seen by the servers", accepted.load(Ordering::Relaxed) - accepted_before);
    println!("memory: {} KiB more", cpu::resident_bytes(std::process::id())?.saturating_sub(before) >> 10);
    Ok(())
}

/// A server on all addresses of this machine, at the port that is given back, and how many connections it has accepted.
fn listen(kind: Kind) -> Result<(u16, Arc<AtomicU64>)> {
    let listener = TcpListener::bind("0.0.0.0:0")?;
    let port = listener.local_addr()?.port();
    let accepted = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&accepted);
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            counter.fetch_add(1, Ordering::Relaxed);
            if kind == Kind::Http {
                // A request comes in one piece.
                let _ = client.read(&mut [0; 1024]);
                let _ = client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
        }
    });
    Ok((port, accepted))
}

/// The checker's folder in `/proc`.
fn checker_task() -> Result<PathBuf> {
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if fs::read_to_string(task.join("comm"))?.trim() == CHECK_THREAD {
            return Ok(task);
        }
    }
    Err("the checker has no thread".into())
}
