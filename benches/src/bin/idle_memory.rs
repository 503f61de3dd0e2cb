//! What an idle connection costs `lb` in its own memory.
//!
//! `cargo run --release -p benches --bin idle_memory`. Counted is the growth of `VmRSS`, the process's memory in RAM, from
//! before the connections to when they are all relayed and have been silent for a moment, divided by their number. Each has carried a
//! message and its answer before, as an idle connection of real life has. What the kernel itself holds for the sockets
//! is not in it: it is the same for every balancer.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use benches::load::{Load, RoundTrip};
use benches::net::Net;
use benches::peers::{self, Lb, Place};
use benches::{Result, cpu};
use clap::Parser;

/// Measures lb's memory per idle connection.
#[derive(Debug, Parser)]
struct Args {
    /// Connections that are held.
    #[arg(long, default_value_t = 5000)]
    connections: usize,
    /// A built program to measure, instead of building this workspace's.
    #[arg(long)]
    lb: Option<PathBuf>,
}

/// How many are opened at a time: a burst needs buffers that idle connections don't.
const AT_ONCE: usize = 50;
/// Silence before the memory is read.
const SILENCE: Duration = Duration::from_millis(500);

fn main() -> Result<()> {
    let args = Args::parse();
    let program = args.lb.map_or_else(peers::build_lb, Ok)?;
    let folder = tempfile::tempdir()?;
    let mut net = Net::new()?;
    let servers = net.servers()?;
    let lb = Lb::start(Place { folder: folder.path(), core: 1, servers: &servers }, &program)?;

    // What is allocated once, by the first connections, is no connection's.
    hold(&mut net, lb.port, AT_ONCE)?;
    let before = settled(lb.pid())?;
    hold(&mut net, lb.port, args.connections)?;
    let after = settled(lb.pid())?;

    let each = after.saturating_sub(before) as f64 / args.connections as f64;
    println!("{}: {} idle connections", lb.version, args.connections);
    println!("VmRSS before {} KiB, after {} KiB: {each:.0} B per connection", before >> 10, after >> 10);
    Ok(())
}

/// Opens connections and lets each carry one message there and back. They stay open as long as `net`.
fn hold(net: &mut Net, port: u16, count: usize) -> Result<()> {
    let target = net.open() + 2 * count;
    while net.open() < target {
        let batch = AT_ONCE.min((target - net.open()) / 2);
        let mut load = RoundTrip::once(batch, 64);
        load.start(net, port)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        net.run_until(&mut load, deadline, |_, load| load.units() >= batch as u64)?;
        if load.units() < batch as u64 {
            return Err(format!("{} of {batch} connections were answered", load.units()).into());
        }
    }
    Ok(())
}

fn settled(pid: u32) -> Result<u64> {
    thread::sleep(SILENCE);
    cpu::resident_bytes(pid)
}
