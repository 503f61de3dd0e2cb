//! Guards what does not depend on the machine: instructions in user space, and allocations, for a relayed message, for a
//! connection and for a request of HTTP. Fails when one is more than 10 % above the recorded figure.
//!
//! `cargo bench -p benches --bench guard`; with `-- --record` it writes `guard.ron` anew. One connection and one message at
//! a time, so that the figures don't depend on how much a turn of the shard finds. Instructions and system calls are those of
//! the shard's thread of a built `lb`, counted by stepping; allocations are those of a balancer in this process, all its threads.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, thread};

use benches::Result;
use benches::peers::{self, Entry, Lb, Place};
use benches::steps::{Steps, Unit};
use lb_core::Balancer;
use lb_core::config::{Bind, Config, Frontend, Protocol, Server};
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
/// Connections that a server serves at once: a balancer keeps some, and checks by others. A thread for each connection would
/// allocate.
const SERVER_THREADS: usize = 4;
/// How often allocations are counted.
const TRIES: usize = 10;

/// What is guarded, per unit.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Figures {
    instructions: Units,
    system_calls: Units,
    allocations: Units,
}

/// One figure of everything that is a unit.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Units {
    per_message: f64,
    per_connection: f64,
    per_request: f64,
}

/// What a client says, and how it knows that it has its answer.
#[derive(Debug, Clone, Copy)]
struct Words {
    frontend: SocketAddr,
    ask: &'static [u8],
    is_answer: fn(&[u8]) -> bool,
}

/// The two frontends of a balancer.
#[derive(Debug, Clone, Copy)]
struct Frontends {
    plain: Words,
    http: Words,
}

impl Frontends {
    fn new(plain: SocketAddr, http: SocketAddr) -> Self {
        let plain = Words { frontend: plain, ask: &[b'm'; 64], is_answer: |bytes| bytes.len() == 64 };
        Self { plain, http: Words { frontend: http, ask: REQUEST, is_answer: |bytes| bytes.ends_with(BODY) } }
    }
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: site.bench\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\nanswer!";
const BODY: &[u8] = b"\r\n\r\nanswer!";

fn main() -> Result<ExitCode> {
    // `cargo bench -- --test` runs the others once, to see that they work; this one has nothing to shorten.
    let measured = Figures {
        instructions: stepped(Unit::Instructions)?,
        system_calls: stepped(Unit::SystemCalls)?,
        allocations: allocations()?,
    };
    if env::args().any(|argument| argument == "--record") {
        return record(&measured);
    }
    let text = fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}; to write it: {RECORD}"))?;
    Ok(compare(&measured, &ron::from_str(&text)?))
}

/// What a built `lb` executes.
fn stepped(unit: Unit) -> Result<Units> {
    let (server, origin) = (serve(None)?, serve(Some(ANSWER))?);
    let folder = tempfile::tempdir()?;
    let core = usize::from(thread::available_parallelism()?.get() > 1);
    let place =
        Place { folder: folder.path(), core, servers: &[server], origins: &[origin], entries: &[Entry::HttpToOrigin] };
    let lb = Lb::start(place, "lb", &peers::build_lb()?)?;
    let at = |entry| Some(SocketAddr::from((Ipv4Addr::LOCALHOST, lb.ports.of(entry)?)));
    let (Some(plain), Some(http)) = (at(Entry::Plain), at(Entry::HttpToOrigin)) else {
        return Err("lb has no such port".into());
    };
    let frontends = Frontends::new(plain, http);
    warm_up(&frontends, WARM_UP, || 0)?;
    let steps = Steps::default();
    thread::scope(|scope| {
        let counted = steps.clone();
        let traffic = scope.spawn(move || {
            let figures = per_unit(&frontends, || counted.count()).map_err(|error| error.to_string());
            counted.end();
            // Wakes the thread that is stepped through, should it wait.
            drop(TcpStream::connect(plain));
            figures
        });
        steps.run(lb.pid(), "lb-shard-0", unit)?;
        Ok(traffic.join().map_err(|_| "the traffic panicked")??)
    })
}

/// What a balancer in this process allocates. The traffic itself allocates nothing.
fn allocations() -> Result<Units> {
    let frontend = |name: &str, server| -> Result<Frontend> {
        Ok(Frontend::new(name, Bind::Addr("127.0.0.1:0".parse()?))?.with_server(Server::new("s0", server)?))
    };
    let plain = frontend("web", serve(None)?)?;
    let http = frontend("http", serve(Some(ANSWER))?)?.with_protocol(Protocol::Http).with_cookie_persistence(true);
    let config = Config::default().with_shards(1)?.frontend(plain).frontend(http);
    let balancer = Balancer::builder().config(config).start()?;
    let status = balancer.control().status().wait()?;
    let frontends = Frontends::new(status.frontends[0].addr, status.frontends[1].addr);
    warm_up(&frontends, WARM_UP, || 0)?;
    let _profiler = dhat::Profiler::builder().testing().build();
    let infinite = f64::INFINITY;
    let mut least = Units { per_message: infinite, per_connection: infinite, per_request: infinite };
    // The control plane's thread allocates now and then, whatever the traffic does: the quietest of some tries counts.
    for _ in 0..TRIES {
        let units = per_unit(&frontends, || dhat::HeapStats::get().total_blocks)?;
        least.per_message = least.per_message.min(units.per_message);
        least.per_connection = least.per_connection.min(units.per_connection);
        least.per_request = least.per_request.min(units.per_request);
    }
    Ok(least)
}

/// What a counter counts per unit.
fn per_unit(frontends: &Frontends, count: impl Fn() -> u64) -> Result<Units> {
    warm_up(frontends, WARM_UP_COUNTED, &count)?;
    let of_messages = talk(&frontends.plain, ROUND_TRIPS, &count)?;
    let before = count();
    for _ in 0..CONNECTIONS {
        talk(&frontends.plain, 0, &count)?;
    }
    let of_connections = count() - before;
    let of_requests = talk(&frontends.http, ROUND_TRIPS, &count)?;
    Ok(Units {
        per_message: of_messages as f64 / (2 * ROUND_TRIPS) as f64,
        per_connection: of_connections as f64 / CONNECTIONS as f64,
        per_request: of_requests as f64 / ROUND_TRIPS as f64,
    })
}

fn warm_up(frontends: &Frontends, connections: u64, count: impl Fn() -> u64) -> Result<()> {
    (0..connections).try_for_each(|_| {
        talk(&frontends.plain, 1, &count)?;
        talk(&frontends.http, 1, &count).map(drop)
    })
}

/// Opens a connection, exchanges a message, then so many more, and closes it from both ends. What was counted while those more
/// went.
fn talk(words: &Words, round_trips: u64, count: impl Fn() -> u64) -> Result<u64> {
    let mut socket = TcpStream::connect(words.frontend)?;
    socket.set_nodelay(true)?;
    let mut ask = || -> Result<()> {
        let (mut answer, mut length) = ([0; 1024], 0);
        socket.write_all(words.ask)?;
        while !(words.is_answer)(&answer[..length]) {
            match socket.read(&mut answer[length..])? {
                0 => return Err("the answer is too long, or is not there".into()),
                bytes => length += bytes,
            }
        }
        Ok(())
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

/// A server, as long as this process runs. It answers whatever it receives with `answer`, or else with that itself.
fn serve(answer: Option<&'static [u8]>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    for _ in 0..SERVER_THREADS {
        let listener = listener.try_clone()?;
        thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                answer_all(socket, answer);
            }
        });
    }
    Ok(addr)
}

fn answer_all(mut socket: TcpStream, answer: Option<&[u8]>) {
    let mut buffer = [0; 4096];
    let _ = socket.set_nodelay(true);
    while let Ok(bytes @ 1..) = socket.read(&mut buffer) {
        if socket.write_all(answer.unwrap_or(&buffer[..bytes])).is_err() {
            break;
        }
    }
}

fn record(measured: &Figures) -> Result<ExitCode> {
    let pretty = ron::ser::PrettyConfig::default();
    let text = format!("// Written by `{RECORD}`.\n{}\n", ron::ser::to_string_pretty(measured, pretty)?);
    fs::write(FILE, &text)?;
    println!("{text}recorded in {}", Path::new(FILE).display());
    Ok(ExitCode::SUCCESS)
}

fn compare(measured: &Figures, recorded: &Figures) -> ExitCode {
    let of = |figures: &Figures| [figures.instructions, figures.system_calls, figures.allocations];
    let each = |units: Units| [units.per_message, units.per_connection, units.per_request];
    let names = ["instructions", "system calls", "allocations"];
    let rows = names.iter().zip(of(measured).into_iter().zip(of(recorded))).flat_map(|(what, (measured, recorded))| {
        let pairs = each(measured).into_iter().zip(each(recorded));
        ["message", "connection", "request"]
            .into_iter()
            .zip(pairs)
            .map(move |(unit, pair)| (format!("{what} per {unit}"), pair))
    });
    let rows: Vec<_> = rows.collect();
    let mut failed = 0;
    for (name, (measured, recorded)) in &rows {
        let has_risen = *measured > recorded * TOLERANCE + NEAR_ZERO;
        failed += usize::from(has_risen);
        let remark = match (has_risen, *measured < recorded / TOLERANCE - NEAR_ZERO) {
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
