//! What a running balancer says about itself.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Time;
use super::availability::Availability;
use super::remembered::PersistenceStatus;
use super::running::{Running, RunningFrontend};
use super::state::{CertificateEntry, FrontendId, ServerId, State, days_until};
use crate::config::{Frontend, Name, Server};
use crate::http::Cause as HttpCause;
use crate::sys::process;
use crate::table::counters::{
    ConnectFailure, Counter, FrontendCounters, FrontendShard, HttpCounters, ServerCounters, TlsCounters,
};
use crate::table::timings::{Quantiles, Timings};
use crate::table::{Endpoint, Load, Shared};
use crate::tls::cause::Cause;

/// A running balancer at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The revision in effect.
    pub revision: u64,
    /// Time since the start, in seconds.
    pub uptime_seconds: u64,
    /// Connections now.
    pub connections: u64,
    /// Most connections at once.
    pub max_connections: u64,
    /// Connections that still live on a replaced or removed address.
    pub connections_on_replaced: u64,
    /// What became of changes since the start.
    #[serde(default)]
    pub changes: ChangeCounts,
    /// Access records that were dropped since the start, because they were not taken in time.
    #[serde(default)]
    pub access_dropped: u64,
    /// All frontends together.
    pub traffic: Traffic,
    /// The shards, by number.
    pub shards: Vec<ShardStatus>,
    /// The certificates, in the order they were added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CertificateStatus>,
    /// The frontends, in the order they were added.
    pub frontends: Vec<FrontendStatus>,
}

/// What became of changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeCounts {
    /// Those that were confirmed.
    pub applied: u64,
    /// Those that were refused; dry runs are not counted.
    pub refused: u64,
    /// When the last one was confirmed, in seconds since 1970; the start counts as one.
    pub last_applied: i64,
}

/// Totals since the start, and rates over the last full second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections reset because no server could be connected to.
    pub unserved: u64,
    /// Of those, the ones that had waited for a server for as long as they may.
    pub gave_up_waiting: u64,
    /// Of the unserved ones, those that no server was available for. The others were refused by each server they tried.
    #[serde(default)]
    pub no_server: u64,
    /// Connections that got another server after one had failed.
    pub redispatched: u64,
    /// Requests whose head was read, where they are.
    #[serde(default)]
    pub requests: u64,
    /// Bytes from clients to servers.
    pub bytes_to_server: u64,
    /// Bytes from servers to clients.
    pub bytes_to_client: u64,
    /// Of the bytes both ways, those that were spliced. The others were copied.
    pub bytes_spliced: u64,
    /// How often a direction of a connection went over from copying to splicing, or back.
    pub relay_switches: u64,
    /// Connections accepted per second.
    pub accepted_per_second: f64,
    /// Bytes per second from clients to servers.
    pub bytes_to_server_per_second: f64,
    /// Bytes per second from servers to clients.
    pub bytes_to_client_per_second: f64,
    /// Requests per second, where they are read.
    #[serde(default)]
    pub requests_per_second: f64,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// The revision it uses.
    pub revision: u64,
    /// The core it is pinned to.
    pub core: usize,
    /// Its connections now.
    pub connections: u64,
    /// Connections it accepted since the start.
    pub accepted: u64,
    /// CPU time that its thread has used since the start, in microseconds.
    #[serde(default)]
    pub cpu_micros: u64,
    /// The share of the last full second in which its thread ran, from 0 to 1.
    #[serde(default)]
    pub busy: f64,
    /// Turns of its loop since the start; each is a system call.
    #[serde(default)]
    pub turns: u64,
    /// Completions of its ring that were looked at since the start.
    #[serde(default)]
    pub completions: u64,
    /// Relay buffers that hold bytes now.
    #[serde(default)]
    pub buffers_in_use: u64,
    /// User memory of its relay buffers, in bytes.
    pub buffer_bytes: u64,
    /// Pipes that are open for splicing, of two descriptors each.
    pub pipes: u64,
    /// Connections to servers that wait for a request.
    #[serde(default)]
    pub pooled: u64,
    /// Sockets to servers whose connection is over, kept to be connected anew.
    pub kept_sockets: u64,
    /// Completions that the kernel had to put on its slow overflow list.
    pub completion_overflows: u64,
    /// Completions for connections that were gone: always 0 unless there is a bug.
    pub stale_completions: u64,
}

/// One frontend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrontendStatus {
    /// Its settings (with the servers').
    pub frontend: Arc<Frontend>,
    /// Where it accepts: with the port that the kernel chose, if it was left to it.
    pub addr: SocketAddr,
    /// Connections now.
    pub connections: u64,
    /// True while accepting pauses: a limit is reached or descriptors have run out.
    pub paused: bool,
    /// How often a shard has paused accepting, since the frontend was added.
    #[serde(default)]
    pub pauses: u64,
    /// How long its connections lasted that ended lately.
    #[serde(default)]
    pub durations: Quantiles,
    /// How long requests took from their head to the end of the answer, where they are read.
    #[serde(default)]
    pub request_durations: Quantiles,
    /// Clients that wait for a server now.
    pub waiting: u64,
    /// Which servers serve it.
    pub service: Service,
    /// What went through it.
    pub traffic: Traffic,
    /// TLS with its clients, where it has certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsStatus>,
    /// What became of requests, where they are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpStatus>,
    /// How its clients stay on their servers, where they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence: Option<PersistenceStatus>,
    /// Its servers, in the order they were added.
    pub servers: Vec<ServerStatus>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Its settings.
    pub server: Arc<Server>,
    /// What is known of it.
    pub health: ServerHealth,
    /// Connections now, on its present and on earlier addresses.
    pub connections: u64,
    /// Connections established since it was added.
    pub served: u64,
    /// Connects and handshakes that failed.
    pub failed: u64,
    /// Of those, and of its connections, what failed how.
    #[serde(default)]
    pub failures: ServerFailures,
    /// Bytes from clients to it.
    pub bytes_to_server: u64,
    /// Bytes from it to clients.
    pub bytes_to_client: u64,
    /// Connections established per second, over the last full second.
    #[serde(default)]
    pub served_per_second: f64,
    /// Bytes per second from clients to it.
    #[serde(default)]
    pub bytes_to_server_per_second: f64,
    /// Bytes per second from it to clients.
    #[serde(default)]
    pub bytes_to_client_per_second: f64,
    /// How often it came up, or went down, since it was added.
    #[serde(default)]
    pub health_changes: u64,
    /// How long connects to it took lately.
    #[serde(default)]
    pub connect: Quantiles,
    /// How long it took lately from the last bytes of what it was asked to the first of its answer.
    #[serde(default)]
    pub first_byte: Quantiles,
    /// TLS with it, where it has a `server_certificate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTlsStatus>,
}

/// How a server has failed connections, since it was added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFailures {
    /// It refused the connect (`ECONNREFUSED`).
    pub refused: u64,
    /// It did not accept in time.
    pub timed_out: u64,
    /// There was no way to it, or the connect failed otherwise.
    pub unreachable: u64,
    /// Its TLS handshake failed.
    pub tls: u64,
    /// It reset a connection before it had sent anything for the client. Not among the failed connects.
    pub reset: u64,
}

/// One certificate with its key, or one bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// Its name in the configuration.
    pub name: Name,
    /// `pair` or `bundle`.
    pub kind: String,
    /// How many certificates it has, those of CAs included.
    pub certificates: usize,
    /// Whom the first one is for.
    pub subject: String,
    /// The DNS names and IP addresses that the first one is for.
    pub names: Vec<String>,
    /// Who issued the first one.
    pub issuer: String,
    /// The kind of its key, `ECDSA P-256`.
    pub key: String,
    /// When the first of its certificates to expire does, in seconds since 1970.
    pub not_after: i64,
    /// The whole days until then, negative once it is over.
    pub expires_in_days: i64,
    /// Who uses it: `frontend web`, `server web/app1`.
    pub used_by: Vec<String>,
}

/// TLS with a frontend's clients, since it was added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsStatus {
    /// Handshakes that were done.
    pub handshakes: u64,
    /// Of those, the ones that went on from an earlier session.
    pub resumed: u64,
    /// Of all, those by TLS 1.2. The others are by TLS 1.3.
    #[serde(default)]
    pub tls12: u64,
    /// Handshakes in progress now.
    pub in_progress: u64,
    /// Handshakes and connections that failed, by cause, where there were any.
    pub failed: BTreeMap<Cause, u64>,
}

/// The requests of a frontend's clients, since it was added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpStatus {
    /// Requests whose head was read.
    pub requests: u64,
    /// What servers answered.
    pub responses: HttpResponses,
    /// Requests that were sent again, because a pooled connection had died before any byte of the response.
    pub retried: u64,
    /// Requests that went over a pooled connection.
    pub reused: u64,
    /// Requests that got an answer of our own, by cause, where there were any.
    pub refused: BTreeMap<HttpCause, u64>,
}

/// Final responses of servers by the class of their status (RFC 9110, 15).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpResponses {
    /// 101, which changes to another protocol.
    pub informational: u64,
    /// 2xx.
    pub successful: u64,
    /// 3xx.
    pub redirection: u64,
    /// 4xx.
    pub client_error: u64,
    /// 5xx.
    pub server_error: u64,
}

/// TLS with a server, since it was added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerTlsStatus {
    /// Handshakes that were done.
    pub handshakes: u64,
    /// Of those, the ones that went on from an earlier session.
    pub resumed: u64,
    /// Of all, those by TLS 1.2. The others are by TLS 1.3.
    #[serde(default)]
    pub tls12: u64,
    /// Handshakes and connections that failed, by cause, where there were any.
    pub failed: BTreeMap<Cause, u64>,
    /// Why the last handshake failed, if it did: what was presented, which check failed, how to mend it.
    pub trouble: Option<String>,
}

/// Which servers serve a frontend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// Active ones only.
    Active,
    /// Passive ones take part.
    Passive,
    /// None is available.
    Unavailable,
}

/// What is known of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerHealth {
    /// It was not checked yet, or is not: it gets connections.
    Unproven,
    /// Its checks pass.
    Up,
    /// It has come up and gets its share little by little.
    Starting,
    /// Its checks fail.
    Down {
        /// Why the last one did.
        why: String,
    },
    /// Real connections to it failed: it gets only those that all others fail, if no passive server is available either.
    Ejected {
        /// For how much longer.
        for_milliseconds: u64,
    },
}

/// Remembers totals, to tell rates.
#[derive(Debug)]
pub(super) struct Rates {
    sampled: Instant,
    frontends: HashMap<FrontendId, Traffic>,
    servers: HashMap<ServerId, ServerRates>,
    /// By shard: its CPU time in microseconds, and the share of the last sample's time that this rose by.
    shards: Vec<(u64, f64)>,
}

/// A server's totals, and what they rose by per second.
#[derive(Debug, Clone, Copy, Default)]
struct ServerRates {
    totals: [u64; 3],
    per_second: [f64; 3],
}

impl Rates {
    pub(super) fn new() -> Self {
        Self { sampled: Instant::now(), frontends: HashMap::new(), servers: HashMap::new(), shards: Vec::new() }
    }

    /// Takes the totals and what they rose by since the last sample.
    pub(super) fn sample(&mut self, running: &Running, shared: &Shared) {
        let seconds = self.sampled.elapsed().as_secs_f64();
        self.sampled = Instant::now();
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let sampled = running.0.iter().map(|frontend| {
            let before = self.frontends.get(&frontend.entry.id).copied().unwrap_or_default();
            let now = totals(frontend);
            let sample = Traffic {
                accepted_per_second: rate(now.accepted, before.accepted),
                bytes_to_server_per_second: rate(now.bytes_to_server, before.bytes_to_server),
                bytes_to_client_per_second: rate(now.bytes_to_client, before.bytes_to_client),
                requests_per_second: rate(now.requests, before.requests),
                ..now
            };
            (frontend.entry.id, sample)
        });
        self.frontends = sampled.collect();
        let servers = running.0.iter().flat_map(|frontend| frontend.endpoints.iter()).map(|endpoint| {
            let before = self.servers.get(&endpoint.load.id).map_or([0; 3], |before| before.totals);
            let totals = server_totals(endpoint);
            let per_second = std::array::from_fn(|index| rate(totals[index], before[index]));
            (endpoint.load.id, ServerRates { totals, per_second })
        });
        self.servers = servers.collect();
        let shards = shared.counters.iter().enumerate().map(|(number, shard)| {
            let cpu = process::thread_cpu(shard.thread.get());
            let before = self.shards.get(number).map_or(cpu, |(before, _)| *before);
            (cpu, (rate(cpu, before) / 1e6).min(1.0))
        });
        self.shards = shards.collect();
    }

    /// Present totals with the last rates.
    fn of(&self, frontend: &RunningFrontend) -> Traffic {
        let rates = self.frontends.get(&frontend.entry.id).copied().unwrap_or_default();
        Traffic {
            accepted_per_second: rates.accepted_per_second,
            bytes_to_server_per_second: rates.bytes_to_server_per_second,
            bytes_to_client_per_second: rates.bytes_to_client_per_second,
            requests_per_second: rates.requests_per_second,
            ..totals(frontend)
        }
    }

    /// All frontends together.
    pub(super) fn total(&self, running: &Running) -> Traffic {
        running.0.iter().map(|frontend| self.of(frontend)).fold(Traffic::default(), |sum, one| Traffic {
            accepted: sum.accepted + one.accepted,
            unserved: sum.unserved + one.unserved,
            gave_up_waiting: sum.gave_up_waiting + one.gave_up_waiting,
            redispatched: sum.redispatched + one.redispatched,
            bytes_to_server: sum.bytes_to_server + one.bytes_to_server,
            bytes_to_client: sum.bytes_to_client + one.bytes_to_client,
            bytes_spliced: sum.bytes_spliced + one.bytes_spliced,
            relay_switches: sum.relay_switches + one.relay_switches,
            accepted_per_second: sum.accepted_per_second + one.accepted_per_second,
            bytes_to_server_per_second: sum.bytes_to_server_per_second + one.bytes_to_server_per_second,
            bytes_to_client_per_second: sum.bytes_to_client_per_second + one.bytes_to_client_per_second,
            no_server: sum.no_server + one.no_server,
            requests: sum.requests + one.requests,
            requests_per_second: sum.requests_per_second + one.requests_per_second,
        })
    }
}

fn totals(frontend: &RunningFrontend) -> Traffic {
    let shards = &frontend.table.counters.shards;
    let sum = |counter: fn(&FrontendShard) -> &Counter| shards.iter().map(|shard| counter(shard).get()).sum();
    Traffic {
        accepted: sum(|shard| &shard.accepted),
        unserved: sum(|shard| &shard.unserved),
        gave_up_waiting: sum(|shard| &shard.gave_up_waiting),
        no_server: sum(|shard| &shard.no_server),
        requests: sum(|shard| &shard.http.requests),
        redispatched: sum(|shard| &shard.redispatched),
        bytes_to_server: sum(|shard| &shard.bytes_to_server),
        bytes_to_client: sum(|shard| &shard.bytes_to_client),
        bytes_spliced: sum(|shard| &shard.bytes_spliced),
        relay_switches: sum(|shard| &shard.relay_switches),
        ..Traffic::default()
    }
}

/// Connections, bytes to it and bytes from it.
fn server_totals(endpoint: &Endpoint) -> [u64; 3] {
    let sum = |counter: fn(&ServerCounters) -> &Counter| {
        endpoint.load.shards.iter().map(|shard| counter(shard).get()).sum::<u64>()
    };
    [sum(|shard| &shard.served), sum(|shard| &shard.bytes_to_server), sum(|shard| &shard.bytes_to_client)]
}

pub(super) fn shards(shared: &Shared, cores: &[usize], rates: &Rates) -> Vec<ShardStatus> {
    let shard = |(number, &core): (usize, &usize)| {
        let counters = &shared.counters[number];
        ShardStatus {
            revision: counters.revision.get(),
            core,
            connections: counters.connections.get(),
            accepted: counters.accepted.get(),
            buffer_bytes: counters.buffer_bytes.get(),
            pipes: counters.pipes.get(),
            pooled: counters.pooled.get(),
            kept_sockets: counters.kept_sockets.get(),
            cpu_micros: process::thread_cpu(counters.thread.get()),
            busy: rates.shards.get(number).map_or(0.0, |(_, busy)| *busy),
            turns: counters.turns.get(),
            completions: counters.completions.get(),
            buffers_in_use: counters.buffers_in_use.get(),
            completion_overflows: counters.completion_overflows.get(),
            stale_completions: counters.stale_completions.get(),
        }
    };
    cores.iter().enumerate().map(shard).collect()
}

pub(super) fn frontends(
    running: &Running,
    rates: &Rates,
    availability: &Availability,
    troubles: &HashMap<ServerId, String>,
    (now, micros): (Time, u64),
) -> Vec<FrontendStatus> {
    let frontend = |frontend: &RunningFrontend| {
        let counters = &frontend.table.counters;
        let shards = || counters.shards.iter();
        let health = availability.health(&frontend.entry, &frontend.view.roles, now);
        let servers = frontend.entry.frontend.servers().iter().zip(frontend.endpoints.iter()).zip(health);
        FrontendStatus {
            frontend: Arc::clone(&frontend.entry.frontend),
            addr: frontend.listener.addr,
            connections: u64::from(counters.open.load(Ordering::Relaxed)),
            paused: counters.shards.iter().any(|shard| shard.paused.get() > 0),
            pauses: shards().map(|shard| shard.pauses.get()).sum(),
            durations: Timings::recent(shards().map(|shard| &shard.durations), micros),
            request_durations: Timings::recent(shards().map(|shard| &shard.request_durations), micros),
            traffic: rates.of(frontend),
            waiting: u64::from(counters.waiting.load(Ordering::Relaxed)),
            service: frontend.view.service,
            tls: (!frontend.entry.frontend.certificates().is_empty()).then(|| tls_status(counters)),
            http: frontend.entry.frontend.protocol().is_http().then(|| http_status(counters)),
            persistence: frontend.persistence(),
            servers: servers
                .map(|((server, endpoint), health)| ServerStatus {
                    tls: server.server_certificate().map(|_| server_tls_status(endpoint, troubles)),
                    ..server_status(server, endpoint, health, rates, micros)
                })
                .collect(),
        }
    };
    running.0.iter().map(frontend).collect()
}

/// The certificates, at `now` in seconds since 1970.
pub(super) fn certificates(state: &State, now: i64) -> Vec<CertificateStatus> {
    let status = |entry: &Arc<CertificateEntry>| {
        let (name, first) = (entry.certificate.name(), entry.facts().first()?);
        Some(CertificateStatus {
            name: name.clone(),
            kind: entry.certificate.content().kind().to_owned(),
            certificates: entry.facts().len(),
            subject: first.subject.clone(),
            names: first.names.clone(),
            issuer: first.issuer.clone(),
            key: first.key.clone(),
            not_after: entry.not_after(),
            expires_in_days: days_until(entry.not_after(), now),
            used_by: state.users_of(name),
        })
    };
    // There is none without a certificate in it.
    state.certificates().iter().filter_map(status).collect()
}

fn tls_status(counters: &FrontendCounters) -> TlsStatus {
    let shards = || counters.shards.iter().map(|shard| &shard.tls);
    TlsStatus {
        handshakes: shards().map(|tls| tls.handshakes.get()).sum(),
        resumed: shards().map(|tls| tls.resumed.get()).sum(),
        tls12: shards().map(|tls| tls.tls12.get()).sum(),
        in_progress: counters.shards.iter().map(|shard| shard.handshaking.get()).sum(),
        failed: failures(shards()),
    }
}

fn http_status(counters: &FrontendCounters) -> HttpStatus {
    let shards = || counters.shards.iter().map(|shard| &shard.http);
    let sum = |counter: &dyn Fn(&HttpCounters) -> &Counter| shards().map(|shard| counter(shard).get()).sum::<u64>();
    let [informational, successful, redirection, client_error, server_error] =
        std::array::from_fn(|class| sum(&|shard| &shard.responses[class]));
    let refused = HttpCause::ALL.iter().map(|&cause| (cause, sum(&|shard| &shard.refused[cause as usize])));
    HttpStatus {
        requests: sum(&|shard| &shard.requests),
        responses: HttpResponses { informational, successful, redirection, client_error, server_error },
        retried: sum(&|shard| &shard.retried),
        reused: sum(&|shard| &shard.reused),
        refused: refused.filter(|(_, count)| *count > 0).collect(),
    }
}

fn server_tls_status(endpoint: &Endpoint, troubles: &HashMap<ServerId, String>) -> ServerTlsStatus {
    let shards = || endpoint.load.shards.iter().map(|shard| &shard.tls);
    let is_troubled = endpoint.load.has_trouble();
    ServerTlsStatus {
        handshakes: shards().map(|tls| tls.handshakes.get()).sum(),
        resumed: shards().map(|tls| tls.resumed.get()).sum(),
        tls12: shards().map(|tls| tls.tls12.get()).sum(),
        failed: failures(shards()),
        trouble: is_troubled.then(|| troubles.get(&endpoint.load.id).cloned()).flatten(),
    }
}

/// Failures of all shards by cause, without those that there were none of.
fn failures<'a>(shards: impl Iterator<Item = &'a TlsCounters> + Clone) -> BTreeMap<Cause, u64> {
    let sum = |cause: Cause| shards.clone().map(|tls| tls.failed[cause as usize].get()).sum();
    Cause::ALL.iter().map(|&cause| (cause, sum(cause))).filter(|(_, failed)| *failed > 0).collect()
}

fn server_status(
    server: &Arc<Server>,
    endpoint: &Endpoint,
    health: ServerHealth,
    rates: &Rates,
    micros: u64,
) -> ServerStatus {
    let load = &endpoint.load;
    let shards = || load.shards.iter();
    let [served, bytes_to_server, bytes_to_client] = server_totals(endpoint);
    let rates = rates.servers.get(&load.id).copied().unwrap_or_default();
    let [served_per_second, bytes_to_server_per_second, bytes_to_client_per_second] = rates.per_second;
    let failures = server_failures(load);
    ServerStatus {
        server: Arc::clone(server),
        health,
        connections: load.open().into(),
        served,
        failed: failures.refused + failures.timed_out + failures.unreachable + failures.tls,
        failures,
        bytes_to_server,
        bytes_to_client,
        served_per_second,
        bytes_to_server_per_second,
        bytes_to_client_per_second,
        health_changes: load.health_changes.get(),
        connect: Timings::recent(shards().map(|shard| &shard.connect), micros),
        first_byte: Timings::recent(shards().map(|shard| &shard.first_byte), micros),
        tls: None,
    }
}

fn server_failures(load: &Load) -> ServerFailures {
    let failed = |failure: ConnectFailure| load.shards.iter().map(|shard| shard.failed[failure as usize].get()).sum();
    ServerFailures {
        refused: failed(ConnectFailure::Refused),
        timed_out: failed(ConnectFailure::TimedOut),
        unreachable: failed(ConnectFailure::Unreachable),
        tls: failed(ConnectFailure::Handshake),
        reset: load.shards.iter().map(|shard| shard.reset.get()).sum(),
    }
}
