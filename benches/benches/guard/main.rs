//! Guards what does not depend on the machine: instructions in user space, and allocations, for a relayed message and for a
//! connection, plain and where TLS ends in the balancer. Fails when one is more than 10 % above the recorded figure.
//!
//! `cargo bench -p benches --bench guard`; with `-- --record` it writes `guard.ron` anew. One connection and one message at
//! a time, so that the figures don't depend on how much a turn of the shard finds. Instructions are those of the shard's
//! thread of a built `lb`, counted by stepping; allocations are those of a balancer in this process, all its threads. What
//! cryptography takes does depend on the extensions of the processor: a handshake's instructions are for one like the last.
#![forbid(unsafe_code)]

mod traffic;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, thread};

use benches::Result;
use benches::peers::{self, Entry, Lb, Place};
use benches::steps::Steps;
use benches::tls::{CHAIN_FILE, Hello, Identities, KEY_FILE, Wrap};
use lb_core::Balancer;
use lb_core::config::{Bind, Certificate, Config, Frontend, Name, Server};
use serde::{Deserialize, Serialize};
use traffic::{Way, echo};

/// Passes everything on to the system's allocator and counts while a profiler lives.
#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/guard.ron");
const RECORD: &str = "cargo bench -p benches --bench guard -- --record";
/// By how much a figure may exceed the recorded one.
const TOLERANCE: f64 = 1.10;
/// What counts as the same for figures near zero.
const NEAR_ZERO: f64 = 0.05;
/// So many connections go before, so that all that is done once is done: most of them uncounted, which is quicker.
const WARM_UP: u64 = 50;
/// How often allocations are counted.
const TRIES: usize = 10;

/// What is guarded, per unit.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Figures {
    instructions_per_message: f64,
    instructions_per_connection: f64,
    instructions_per_tls_message: f64,
    instructions_per_handshake: f64,
    allocations_per_message: f64,
    allocations_per_connection: f64,
    allocations_per_tls_message: f64,
    allocations_per_handshake: f64,
}

/// Per message and per connection: plain, then by TLS.
type Measured = [(f64, f64); 2];

fn main() -> Result<ExitCode> {
    // `cargo bench -- --test` runs the others once, to see that they work; this one has nothing to shorten.
    let folder = tempfile::tempdir()?;
    let identities = Identities::new()?;
    identities.write(folder.path())?;
    let [instructions, tls_instructions] = instructions(&identities, folder.path())?;
    let [allocations, tls_allocations] = allocations(&identities, folder.path())?;
    let measured = Figures {
        instructions_per_message: instructions.0,
        instructions_per_connection: instructions.1,
        instructions_per_tls_message: tls_instructions.0,
        instructions_per_handshake: tls_instructions.1,
        allocations_per_message: allocations.0,
        allocations_per_connection: allocations.1,
        allocations_per_tls_message: tls_allocations.0,
        allocations_per_handshake: tls_allocations.1,
    };
    if env::args().any(|argument| argument == "--record") {
        return record(&measured);
    }
    let text = fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}; to write it: {RECORD}"))?;
    Ok(compare(&measured, &ron::from_str(&text)?))
}

/// The plain way, and the one by TLS. A handshake is some hundred thousand instructions: few are stepped through.
fn ways(identities: &Identities, plain: SocketAddr, tls: SocketAddr) -> Result<[Way; 2]> {
    let sessions = identities.sessions(Wrap { hello: Hello::Full, to_servers: true })?;
    Ok([
        Way { frontend: plain, sessions: None, connections: 25, warm_up: 5, round_trips: 100 },
        Way { frontend: tls, sessions: Some(sessions), connections: 4, warm_up: 2, round_trips: 100 },
    ])
}

/// Those of a built `lb`.
fn instructions(identities: &Identities, folder: &Path) -> Result<Measured> {
    let core = usize::from(thread::available_parallelism()?.get() > 1);
    let place = Place { folder, core, servers: &[echo()?], tls: true };
    let lb = Lb::start(place, "lb", &peers::build_lb()?)?;
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let tls = lb.ports.of(Entry::Terminated).ok_or("lb was started without TLS")?;
    let ways = ways(identities, at(lb.ports.plain), at(tls))?;
    ways.iter().try_for_each(|way| way.warm_up(WARM_UP))?;
    let steps = Steps::default();
    thread::scope(|scope| {
        let counted = steps.clone();
        let wake = at(lb.ports.plain);
        let traffic = scope.spawn(move || {
            let figures = per_unit(&ways, || counted.count()).map_err(|error| error.to_string());
            counted.end();
            // Wakes the thread that is stepped through, should it wait.
            drop(TcpStream::connect(wake));
            figures
        });
        steps.run(lb.pid(), "lb-shard-0")?;
        Ok(traffic.join().map_err(|_| "the traffic panicked")??)
    })
}

/// Those of a balancer in this process. Plain traffic allocates nothing itself; what that by TLS does is taken off.
fn allocations(identities: &Identities, folder: &Path) -> Result<Measured> {
    let balancer = Balancer::builder().config(configuration(folder)?).start()?;
    let frontends = balancer.control().status().wait()?.frontends;
    let ways = ways(identities, frontends[0].addr, frontends[1].addr)?;
    ways.iter().try_for_each(|way| way.warm_up(WARM_UP))?;
    let _profiler = dhat::Profiler::builder().testing().build();
    let count = || dhat::HeapStats::get().total_blocks;
    let mut least = [(f64::INFINITY, f64::INFINITY); 2];
    // The control plane's thread allocates now and then, whatever the traffic does: the quietest of some tries counts.
    for _ in 0..TRIES {
        for (least, measured) in least.iter_mut().zip(per_unit(&ways, count)?) {
            *least = (least.0.min(measured.0), least.1.min(measured.1));
        }
    }
    for (least, way) in least.iter_mut().zip(&ways) {
        let own = way.own_per_unit(count)?;
        *least = (least.0 - own.0, least.1 - own.1);
    }
    Ok(least)
}

fn per_unit(ways: &[Way; 2], count: impl Fn() -> u64) -> Result<Measured> {
    Ok([ways[0].per_unit(&count)?, ways[1].per_unit(&count)?])
}

fn configuration(folder: &Path) -> Result<Config> {
    let server = Server::new("s0", echo()?)?;
    let (chain, key) = (fs::read_to_string(folder.join(CHAIN_FILE))?, fs::read_to_string(folder.join(KEY_FILE))?);
    let frontend = |name: &str| -> Result<Frontend> { Ok(Frontend::new(name, Bind::Addr("127.0.0.1:0".parse()?))?) };
    let tls =
        frontend("tls")?.with_certificates(vec![Name::new("site")?]).with_server(server.clone().with_ssl_offload(true));
    let config = Config::default().with_shards(1)?.certificate(Certificate::pair("site", &chain, &key)?);
    Ok(config.frontend(frontend("web")?.with_server(server)).frontend(tls))
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
        ("instructions per TLS message", measured.instructions_per_tls_message, recorded.instructions_per_tls_message),
        ("instructions per handshake", measured.instructions_per_handshake, recorded.instructions_per_handshake),
        ("allocations per message", measured.allocations_per_message, recorded.allocations_per_message),
        ("allocations per connection", measured.allocations_per_connection, recorded.allocations_per_connection),
        ("allocations per TLS message", measured.allocations_per_tls_message, recorded.allocations_per_tls_message),
        ("allocations per handshake", measured.allocations_per_handshake, recorded.allocations_per_handshake),
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
