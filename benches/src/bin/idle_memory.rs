//! What an idle connection costs `lb`, or a rival, in its own memory.
//!
//! `cargo run --release -p benches --bin idle_memory`; with `--entry terminated` the connections are by TLS. Counted is the growth of `VmRSS`, the process's memory in RAM, from
//! before the connections to when they are all relayed and have been silent for a moment, divided by their number. Each has carried a
//! message and its answer before, as an idle connection of real life has. What the kernel itself holds for the sockets
//! is not in it: it is the same for every balancer.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use benches::load::{Kind, Load, run_until};
use benches::net::Servers;
use benches::peers::{self, Entry, Place};
use benches::{Result, cpu};
use clap::Parser;

/// Measures lb's memory per idle connection.
#[derive(Debug, Parser)]
struct Args {
    /// Connections that are held; rounded up to fifties.
    #[arg(long, default_value_t = 5000)]
    connections: usize,
    /// How they are encrypted.
    #[arg(long, value_enum, default_value_t = Entry::Plain)]
    entry: Entry,
    /// A built program to measure, instead of building this workspace's.
    #[arg(long)]
    lb: Option<PathBuf>,
    /// A rival to measure instead.
    #[arg(long, conflicts_with = "lb")]
    rival: Option<String>,
}

/// How many are opened at a time: a burst needs buffers that idle connections don't.
const AT_ONCE: usize = 50;
/// Silence before the memory is read.
const SILENCE: Duration = Duration::from_millis(500);

fn main() -> Result<()> {
    let args = Args::parse();
    let folder = tempfile::tempdir()?;
    let servers = Servers::listen()?;
    servers.identities().write(folder.path())?;
    let addresses = servers.addresses()?;
    let place = Place { folder: folder.path(), core: 1, servers: &addresses, origins: &[], entries: &[args.entry] };
    let peer = match args.rival {
        Some(name) => peers::start_rival(place, &name)?.ok_or_else(|| format!("{name} is not installed"))?,
        None => peers::start_ours(place, "lb", &args.lb.map_or_else(peers::build_lb, Ok)?)?,
    };
    let port = peer.ports.of(args.entry).ok_or_else(|| format!("{} has no such entry", peer.name))?;
    let mut load = Kind::idle(AT_ONCE, args.entry).make(&servers)?;

    // What is allocated once, by the first connections, is no connection's.
    hold(load.as_mut(), port, AT_ONCE)?;
    let before = settled(peer.pid())?;
    hold(load.as_mut(), port, args.connections)?;
    let after = settled(peer.pid())?;

    let connections = args.connections.next_multiple_of(AT_ONCE);
    let each = after.saturating_sub(before) as f64 / connections as f64;
    println!("{}: {connections} idle connections", peer.version);
    println!("VmRSS before {} KiB, after {} KiB: {each:.0} B per connection", before >> 10, after >> 10);
    Ok(())
}

/// Opens `count` more connections, some at a time, each of which carries one message there and back. They stay open as long
/// as `load`.
fn hold(load: &mut dyn Load, port: u16, count: usize) -> Result<()> {
    for _ in 0..count.div_ceil(AT_ONCE) {
        let wanted = load.units() + AT_ONCE as u64;
        load.start(port)?;
        run_until(load, Instant::now() + Duration::from_secs(10), |load| load.units() >= wanted)?;
        if load.units() < wanted {
            return Err(format!("{} of {wanted} connections were answered", load.units()).into());
        }
    }
    Ok(())
}

fn settled(pid: u32) -> Result<u64> {
    thread::sleep(SILENCE);
    cpu::resident_bytes(pid)
}
