//! Guards what does not depend on the machine: instructions in user space, and allocations, for a relayed message and for a
//! connection. Fails when one is more than 10 % above the recorded figure.
//!
//! `cargo bench -p benches --bench guard`; with `-- --record` it writes `guard.ron` anew. One connection and one message at
//! a time, so that the figures don't depend on how much a turn of the shard finds. Instructions are those of the shard's
//! thread of a built `lb`, counted by stepping; allocations are those of a balancer in this process, all its threads.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, thread};

use benches::Result;
use benches::peers::{self, Lb, Place};
use benches::steps::Steps;
use lb_core::Balancer;
use lb_core::config::{Bind, Config, Frontend, Server};
use serde::{Deserialize, Serialize};

/// Passes everything on to the system's allocator and counts while a profiler lives.
#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/guard.ron");
const RECORD: &str = "cargo bench -p benches --bench guard -- --record";
/// By how much a figure may exceed the recorded one.
const TOLERANCE: f64 = 1.10;
/// What counts as the same for figures near zero.
const NEAR_ZERO: f64 = 0.05;
/// Round trips and connections that are counted. Each round trip is two relayed messages.
const ROUND_TRIPS: u64 = 100;
const CONNECTIONS: u64 = 25;
/// So many of each go before, so that all that is done once is done: most of them uncounted, which is quicker.
const WARM_UP: u64 = 50;
const WARM_UP_COUNTED: u64 = 5;
/// How often allocations are counted.
const TRIES: usize = 10;

/// What is guarded, per unit.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Figures {
    instructions_per_message: f64,
    instructions_per_connection: f64,
    allocations_per_message: f64,
    allocations_per_connection: f64,
}

fn main() -> Result<ExitCode> {
    // `cargo bench -- --test` runs the others once, to see that they work; this one has nothing to shorten.
    let (instructions_per_message, instructions_per_connection) = instructions()?;
    let (allocations_per_message, allocations_per_connection) = allocations()?;
    let measured = Figures {
        instructions_per_message,
        instructions_per_connection,
        allocations_per_message,
        allocations_per_connection,
    };
    if env::args().any(|argument| argument == "--record") {
        return record(&measured);
    }
    let text = fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}; to write it: {RECORD}"))?;
    Ok(compare(&measured, &ron::from_str(&text)?))
}

/// Both figures of a built `lb`.
fn instructions() -> Result<(f64, f64)> {
    let server = echo()?;
    let folder = tempfile::tempdir()?;
    let core = usize::from(thread::available_parallelism()?.get() > 1);
    let place = Place { folder: folder.path(), core, servers: &[server], origins: &[], entries: &[] };
    let lb = Lb::start(place, "lb", &peers::build_lb()?)?;
    let frontend = SocketAddr::from((Ipv4Addr::LOCALHOST, lb.ports.plain));
    warm_up(frontend, WARM_UP, || 0)?;
    let steps = Steps::default();
    thread::scope(|scope| {
        let counted = steps.clone();
        let traffic = scope.spawn(move || {
            let figures = per_unit(frontend, || counted.count()).map_err(|error| error.to_string());
            counted.end();
            // Wakes the thread that is stepped through, should it wait.
            drop(TcpStream::connect(frontend));
            figures
        });
        steps.run(lb.pid(), "lb-shard-0")?;
        Ok(traffic.join().map_err(|_| "the traffic panicked")??)
    })
}

/// Both figures of a balancer in this process. The traffic itself allocates nothing.
fn allocations() -> Result<(f64, f64)> {
    let server = echo()?;
    let frontend = Frontend::new("web", Bind::Addr("127.0.0.1:0".parse()?))?.with_server(Server::new("s0", server)?);
    let balancer = Balancer::builder().config(Config::default().with_shards(1)?.frontend(frontend)).start()?;
    let frontend = balancer.control().status().wait()?.frontends[0].addr;
    warm_up(frontend, WARM_UP, || 0)?;
    let _profiler = dhat::Profiler::builder().testing().build();
    let mut least = (f64::INFINITY, f64::INFINITY);
    // The control plane's thread allocates now and then, whatever the traffic does: the quietest of some tries counts.
    for _ in 0..TRIES {
        let (message, connection) = per_unit(frontend, || dhat::HeapStats::get().total_blocks)?;
        least = (least.0.min(message), least.1.min(connection));
    }
    Ok(least)
}

/// What a counter counts per message and per connection.
fn per_unit(frontend: SocketAddr, count: impl Fn() -> u64) -> Result<(f64, f64)> {
    warm_up(frontend, WARM_UP_COUNTED, &count)?;
    let of_messages = talk(frontend, ROUND_TRIPS, &count)?;
    let before = count();
    for _ in 0..CONNECTIONS {
        talk(frontend, 0, &count)?;
    }
    let of_connections = count() - before;
    Ok((of_messages as f64 / (2 * ROUND_TRIPS) as f64, of_connections as f64 / CONNECTIONS as f64))
}

fn warm_up(frontend: SocketAddr, connections: u64, count: impl Fn() -> u64) -> Result<()> {
    (0..connections).try_for_each(|_| talk(frontend, 1, &count).map(drop))
}

/// Opens a connection, exchanges a message, then so many more, and closes it from both ends. What was counted while those more
/// went.
fn talk(frontend: SocketAddr, round_trips: u64, count: impl Fn() -> u64) -> Result<u64> {
    let mut socket = TcpStream::connect(frontend)?;
    socket.set_nodelay(true)?;
    let mut ask = || -> Result<()> {
        let mut answer = [0; 64];
        socket.write_all(&[b'm'; 64])?;
        Ok(socket.read_exact(&mut answer)?)
    };
    ask()?;
    let before = count();
    (0..round_trips).try_for_each(|_| ask())?;
    let counted = count() - before;
    socket.shutdown(std::net::Shutdown::Write)?;
    // The end comes back through the balancer when the server has closed too.
    match socket.read(&mut [0; 1])? {
        0 => Ok(counted),
        _ => Err("a byte too many came back".into()),
    }
}

/// A server that answers with what it receives, one connection after the other, as long as this process runs.
fn echo() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((mut socket, _)) = listener.accept() {
            let _ = socket.set_nodelay(true);
            while let Ok(bytes @ 1..) = socket.read(&mut buffer) {
                if socket.write_all(&buffer[..bytes]).is_err() {
                    break;
                }
            }
        }
    });
    Ok(addr)
}

fn record(measured: &Figures) -> Result<ExitCode> {
    let pretty = ron::ser::PrettyConfig::default();
    let text = format!("// Written by `{RECORD}`.\n{}\n", ron::ser::to_string_pretty(measured, pretty)?);
    fs::write(FILE, &text)?;
    println!("{text}recorded in {}", Path::new(FILE).display());
    Ok(ExitCode::SUCCESS)
}

fn compare(measured: &Figures, recorded: &Figures) -> ExitCode {
    let rows = [
        ("instructions per message", measured.instructions_per_message, recorded.instructions_per_message),
        ("instructions per connection", measured.instructions_per_connection, recorded.instructions_per_connection),
        ("allocations per message", measured.allocations_per_message, recorded.allocations_per_message),
        ("allocations per connection", measured.allocations_per_connection, recorded.allocations_per_connection),
    ];
    let mut failed = 0;
    for (name, measured, recorded) in rows {
        let has_risen = measured > recorded * TOLERANCE + NEAR_ZERO;
        failed += usize::from(has_risen);
        let remark = match (has_risen, measured < recorded / TOLERANCE - NEAR_ZERO) {
            (true, _) => "FAILED: more than 10 % above",
            (_, true) => "better: record it",
            _ => "",
        };
        println!("{name:<28} {measured:>9.2}, recorded {recorded:>9.2}  {remark}");
    }
    println!("{} passed, {failed} failed", rows.len() - failed);
    if failed > 0 {
        println!("if the rise is meant: {RECORD}, and say in the change why");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
