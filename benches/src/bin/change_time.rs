//! How long `lb run` takes to confirm a change: from the request line to the answer on the admin socket, with the state
//! file on disk and one shard.
//!
//! `cargo run --release -p benches --bin change_time`. The time is mostly the disk's: the file and its folder are synced for
//! every change. The configuration and the state file are in a temporary folder (`TMPDIR` chooses where); the program says
//! how long syncing a small file takes there by itself.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use benches::Result;
use benches::peers::{self, Admin, Lb, Place};
use benches::spread::Spread;
use clap::Parser;

/// Measures how long a change takes to be confirmed.
#[derive(Debug, Parser)]
struct Args {
    /// Servers of the one frontend.
    #[arg(long, default_value_t = 10_000)]
    servers: usize,
    /// Changes that are measured, of each kind.
    #[arg(long, default_value_t = 50)]
    changes: usize,
    /// A built program to measure, instead of building this workspace's.
    #[arg(long)]
    lb: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let program = args.lb.map_or_else(peers::build_lb, Ok)?;
    let folder = tempfile::tempdir()?;
    // Nothing connects to them.
    let server = |index: usize| SocketAddr::from(([127, 0, 0, 1], 1 + (index % 60_000) as u16));
    let servers: Vec<_> = (0..args.servers.max(2)).map(server).collect();
    let place = Place { folder: folder.path(), core: 1, servers: &servers, origins: &[], entries: &[] };
    let lb = Lb::start(place, "lb", &program)?;
    let mut admin = lb.admin()?;
    // As if all of them were up.
    admin.ask("UpdateFrontend(name:\"web\",check:(kind:off))")?;

    println!(
        "{}: {} servers, {} changes of each kind, in ms: median (min–max)",
        lb.version, args.servers, args.changes
    );
    let weight = |number: usize| format!("UpdateServer(frontend:\"web\",name:\"s1\",weight:{})", 2 + number % 2);
    println!("weight of a server  {}", times(&mut admin, args.changes, weight)?);
    let port = |number: usize| format!("UpdateServer(frontend:\"web\",name:\"s1\",port:{})", 9000 + number);
    println!("port of a server    {}", times(&mut admin, args.changes, port)?);
    let add = |number| format!("AddServer(frontend:\"web\",server:(name:\"n{number}\",ip:\"127.0.0.1\",port:9000))");
    println!("a server more       {}", times(&mut admin, args.changes, add)?);
    println!("syncs alone         {}", syncs(folder.path(), args.changes)?);
    Ok(())
}

/// How long each of `count` confirmed changes took.
fn times(admin: &mut Admin, count: usize, request: impl Fn(usize) -> String) -> Result<Spread> {
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let request = request(number);
        let begun = Instant::now();
        admin.change(&request)?;
        times.push(milliseconds(begun.elapsed()));
    }
    Ok(Spread::of(times))
}

/// What the disk alone takes: a small file written, synced, renamed, and its folder synced.
fn syncs(folder: &Path, count: usize) -> Result<Spread> {
    let (temporary, place) = (folder.join("sync.new"), folder.join("sync"));
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        let mut file = File::create(&temporary)?;
        file.write_all(b"a line of text\n")?;
        file.sync_all()?;
        fs::rename(&temporary, &place)?;
        File::open(folder)?.sync_all()?;
        times.push(milliseconds(begun.elapsed()));
    }
    Ok(Spread::of(times))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
