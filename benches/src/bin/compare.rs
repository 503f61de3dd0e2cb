//! Compares `lb` with the other balancers of this machine: CPU time per unit of traffic, throughput and latency.
//!
//! `cargo run --release -p benches --bin compare`; `--help` lists what can be chosen. README.md explains the method.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use benches::load::Kind;
use benches::net::Servers;
use benches::peers::{self, Entry, Origin, Peer, Place};
use benches::slice::Length;
use benches::{Result, contest, cpu, ladder, plot, report, wrk};
use clap::Parser;

/// Compares lb with the other balancers of this machine.
#[derive(Debug, Parser)]
struct Args {
    /// Rounds: each balancer gets one slice in each.
    #[arg(long, default_value_t = 7)]
    pairs: usize,
    /// Length of a slice.
    #[arg(long, default_value_t = 1000, value_name = "MILLISECONDS")]
    slice_ms: u64,
    /// Traffic before each slice that is not measured.
    #[arg(long, default_value_t = 150, value_name = "MILLISECONDS")]
    warm_up_ms: u64,
    /// The loads, comma-separated [default: all].
    #[arg(long, value_delimiter = ',')]
    loads: Vec<String>,
    /// The rivals, comma-separated.
    #[arg(long, value_delimiter = ',', default_values_t = peers::RIVALS.map(str::to_owned))]
    rivals: Vec<String>,
    /// A built program to measure, instead of building this workspace's.
    #[arg(long)]
    lb: Option<PathBuf>,
    /// Another build of lb, which becomes a rival of that name: what a change is worth.
    #[arg(long)]
    before: Option<PathBuf>,
    /// Leaves the latency ladder out.
    #[arg(long)]
    no_ladder: bool,
    /// Where the picture of the ladder goes.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/latency.svg"))]
    plot: PathBuf,
    /// The core of the balancers.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// The core of the clients and servers.
    #[arg(long, default_value_t = 0)]
    load_core: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut kinds = kinds(&args.loads)?;
    let program = args.lb.clone().map_or_else(peers::build_lb, Ok)?;
    let folder = tempfile::tempdir()?;
    let servers = start_servers(&args, &mut kinds, folder.path())?;
    let (addresses, origins) = (servers.addresses()?, servers.origin_addresses());
    let entries: Vec<_> = kinds.iter().map(Kind::entry).collect();
    let place =
        Place { folder: folder.path(), core: args.core, servers: &addresses, origins: &origins, entries: &entries };
    let peers = start_peers(&args, place, &program)?;
    // After the start of the balancers, which would inherit it.
    cpu::pin_this_thread(args.load_core)?;
    println!("{}", report::heading(&peers));

    let length =
        Length { warm_up: Duration::from_millis(args.warm_up_ms), measured: Duration::from_millis(args.slice_ms) };
    let mut outcomes = Vec::new();
    for kind in kinds {
        eprintln!("{}: {}", kind.name, kind.about);
        outcomes.push(contest::run(&servers, kind, &peers, args.pairs.max(1), length)?);
    }
    println!("{}\n{}", report::ratios(&outcomes), report::absolutes(&outcomes));
    if !args.no_ladder {
        eprintln!("ladder: 64 B there and back at fixed times");
        let ladder = ladder::run(&servers, &outcomes, &peers, args.pairs.max(1), length)?;
        println!("{}", report::ladder(&ladder));
        plot::write(&ladder, &args.plot)?;
        eprintln!("picture of the ladder: {}", args.plot.display());
    }
    Ok(())
}

fn kinds(names: &[String]) -> Result<Vec<Kind>> {
    if names.is_empty() {
        return Ok(Kind::ALL.to_vec());
    }
    names.iter().map(|name| Kind::by_name(name)).collect()
}

/// The servers, with what the loads need besides. Loads for which something is not installed are left out.
fn start_servers(args: &Args, kinds: &mut Vec<Kind>, folder: &Path) -> Result<Servers> {
    let mut servers = Servers::listen()?;
    servers.identities().write(folder)?;
    if kinds.iter().any(Kind::is_by_wrk) && !wrk::is_installed() {
        eprintln!("wrk is not installed: its load is left out");
        kinds.retain(|kind| !kind.is_by_wrk());
    }
    if kinds.iter().any(|kind| kind.entry().is_to_origin()) {
        let tls = kinds.iter().any(|kind| kind.entry() == Entry::HttpsToOrigin);
        match Origin::start(folder, args.load_core, tls)? {
            Some(origin) => servers.add_origin(origin),
            None => {
                eprintln!("nginx is not installed: the loads of which it is the server are left out");
                kinds.retain(|kind| !kind.entry().is_to_origin());
            }
        }
    }
    Ok(servers)
}

/// Ours first, then the rivals that are installed.
fn start_peers(args: &Args, place: Place<'_>, program: &Path) -> Result<Vec<Peer>> {
    let mut peers = vec![peers::start_ours(place, "lb", program)?];
    if let Some(before) = &args.before {
        peers.push(peers::start_ours(place, "before", before)?);
    }
    for name in &args.rivals {
        match peers::start_rival(place, name)? {
            Some(peer) => peers.push(peer),
            None => eprintln!("{name} is not installed: left out"),
        }
    }
    Ok(peers)
}
