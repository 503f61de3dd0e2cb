use std::collections::{BTreeMap, BTreeSet};

use lb_core::config::{Frontend, Server};
use lb_core::{
    Cause, CertificateStatus, ChangeCounts, FrontendStatus, FrontendTimings, HttpCause, HttpResponses, HttpStatus,
    PersistenceStatus, Quantiles, ServerFailures, ServerHealth, ServerStatus, ServerTimings, ServerTlsStatus, Service,
    ShardStatus, Status, TlsStatus, Traffic,
};

use super::*;
use crate::ron_text;

const DOCUMENT: &str = include_str!("../../METRICS.md");
const DASHBOARD: &str = include_str!("../../dashboards/lb.json");
const ALERTS: &str = include_str!("../../dashboards/alerts.yml");

/// A server that has all that a server can have.
fn server_status(server: &Arc<Server>, health: ServerHealth) -> ServerStatus {
    ServerStatus {
        server: Arc::clone(server),
        health,
        connections: 1,
        served: 2,
        failed: 3,
        failures: ServerFailures { refused: 2, timed_out: 1, ..ServerFailures::default() },
        bytes_to_server: 4,
        bytes_to_client: 5,
        served_per_second: 0.0,
        bytes_to_server_per_second: 0.0,
        bytes_to_client_per_second: 0.0,
        health_changes: 6,
        connect: Quantiles::default(),
        first_byte: Quantiles::default(),
        tls: Some(ServerTlsStatus {
            handshakes: 7,
            resumed: 6,
            tls12: 3,
            failed: [(Cause::UnknownCa, 2)].into(),
            trouble: None,
        }),
    }
}

/// A frontend that has all that a frontend can have.
fn frontend_status(frontend: Frontend) -> FrontendStatus {
    let frontend = Arc::new(frontend);
    let down = || ServerHealth::Down { why: "connection refused".to_owned() };
    FrontendStatus {
        addr: "127.0.0.1:7000".parse().unwrap(),
        connections: 1,
        paused: true,
        pauses: 2,
        durations: Quantiles::default(),
        request_durations: Quantiles::default(),
        waiting: 3,
        service: Service::Passive,
        traffic: Traffic {
            accepted: 10,
            unserved: 6,
            gave_up_waiting: 2,
            no_server: 1,
            bytes_to_server: 100,
            bytes_to_client: 200,
            bytes_spliced: 250,
            ..Traffic::default()
        },
        tls: Some(TlsStatus { handshakes: 9, tls12: 4, failed: [(Cause::Timeout, 1)].into(), ..TlsStatus::default() }),
        http: Some(HttpStatus {
            requests: 8,
            responses: HttpResponses { successful: 5, ..HttpResponses::default() },
            refused: [(HttpCause::LineTooLong, 3)].into(),
            ..HttpStatus::default()
        }),
        persistence: Some(PersistenceStatus { remembered: 1, size: 100, hits: 2, new: 3, moved: 4 }),
        servers: frontend.servers().iter().map(|server| server_status(server, down())).collect(),
        frontend,
    }
}

fn timings(status: &FrontendStatus) -> FrontendTimings {
    let none = Histogram::default;
    let server = |_: &ServerStatus| ServerTimings { connect: none(), first_byte: none() };
    FrontendTimings { connections: none(), requests: none(), servers: status.servers.iter().map(server).collect() }
}

fn certificate() -> CertificateStatus {
    CertificateStatus {
        name: "site".parse().unwrap(),
        kind: "pair".to_owned(),
        certificates: 2,
        subject: "CN=\"www\"".to_owned(),
        names: Vec::new(),
        issuer: "CN=Example CA".to_owned(),
        key: "ECDSA P-256".to_owned(),
        not_after: 1_800_000_000,
        expires_in_days: 53,
        used_by: Vec::new(),
    }
}

fn shard() -> ShardStatus {
    ShardStatus {
        revision: 3,
        core: 5,
        connections: 1,
        accepted: 2,
        cpu_micros: 1_500_000,
        busy: 0.25,
        turns: 3,
        completions: 4,
        buffers_in_use: 5,
        buffer_bytes: 6,
        pipes: 7,
        pooled: 8,
        kept_sockets: 9,
        completion_overflows: 10,
        stale_completions: 11,
    }
}

fn metrics(frontends: Vec<FrontendStatus>) -> Metrics {
    let timings = frontends.iter().map(timings).collect();
    let status = Status {
        revision: 3,
        uptime_seconds: 4,
        connections: 1,
        max_connections: 100,
        connections_on_replaced: 0,
        changes: ChangeCounts { applied: 3, refused: 1, last_applied: 1_700_000_000 },
        access_dropped: 12,
        traffic: Traffic::default(),
        shards: vec![shard()],
        certificates: vec![certificate()],
        frontends,
    };
    Metrics { status, timings }
}

/// Two frontends with two servers each: what all can have in the first, and only what every one has in the second.
pub(super) fn example() -> Metrics {
    let frontend = |text: &str| frontend_status(ron_text::read(text).unwrap());
    let web = frontend(
        "(name: \"web\", bind: \"127.0.0.1:0\", protocol: http, max_connections: 50, servers: [
            (name: \"app1\", ip: \"127.0.0.1\", port: 9001, max_connections: 9),
            (name: \"app2\", ip: \"::1\", port: 9002, passive: true)])",
    );
    let mut bare = frontend(
        "(name: \"bare\", bind: \"127.0.0.1:0\", servers: [
            (name: \"app1\", ip: \"127.0.0.1\", port: 9003), (name: \"app2\", ip: \"127.0.0.1\", port: 9004)])",
    );
    (bare.tls, bare.http, bare.persistence) = (None, None, None);
    for server in &mut bare.servers {
        (server.tls, server.served, server.failed) = (None, 0, 0);
        server.health = ServerHealth::Unproven;
    }
    metrics(vec![web, bare])
}

fn text(metrics: &Metrics, format: Format) -> String {
    let reloads = ReloadCounts { applied: 1, refused: 2, was_last_refused: true };
    render(metrics, &ProcessFacts::read(SystemTime::now()), reloads, format)
}

/// The families of a text in the format of Prometheus: their types and the labels of their samples.
fn families(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut families: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            current = name.to_owned();
            let known = families.insert(current.clone(), (kind.to_owned(), BTreeSet::new()));
            assert_eq!(known, None, "{name} is there twice");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(&current), "{line}");
            let labels = line.split_once('{').map_or("", |(_, rest)| rest.rsplit_once('}').unwrap().0);
            let names = labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
            families.get_mut(&current).unwrap().1.extend(names);
        }
    }
    families
}

/// The families that a document lists, in rows of name, type, labels and meaning.
fn documented(document: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let row = |line: &str| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let name = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?.to_owned();
        let labels = cells[3].split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        Some((name, (cells[2].to_owned(), labels)))
    };
    // The paths of the endpoint are in a table of their own.
    document.lines().filter(|line| !line.starts_with("| `/")).filter_map(row).collect()
}

#[test]
fn the_document_lists_what_is_told() {
    let mut told = families(&text(&example(), Format::Prometheus));
    for (name, (kind, labels)) in &mut told {
        if name.ends_with("_info") {
            kind.replace_range(.., "info");
        }
        labels.remove("le");
    }
    assert_eq!(documented(DOCUMENT), told);
}

/// Each name of a metric in a text, as families are named in the format of Prometheus.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names = words.filter(|word| ["lb_", "process_"].iter().any(|prefix| word.starts_with(prefix)));
    let histogram =
        |name: &str| ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).map(str::to_owned);
    names.map(|name| histogram(name).unwrap_or_else(|| name.to_owned())).collect()
}

#[test]
fn the_dashboard_and_the_alerts_use_metrics_that_exist() {
    let told: BTreeSet<_> = families(&text(&example(), Format::Prometheus)).into_keys().collect();
    for (file, least) in [(DASHBOARD, 30), (ALERTS, 10)] {
        let used = names_in(file);
        assert!(used.len() >= least, "{used:?}");
        assert_eq!(used.difference(&told).collect::<Vec<_>>(), Vec::<&String>::new());
    }
}

#[test]
fn what_is_told_is_what_is_known() {
    let text = text(&example(), Format::Prometheus);
    for line in [
        concat!("lb_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        "lb_open_connections 1",
        "lb_access_records_dropped_total 12",
        "lb_config_revision 3",
        "lb_config_changes_total{outcome=\"applied\"} 3",
        "lb_config_reloads_total{outcome=\"refused\"} 2",
        "lb_config_last_reload_successful 0",
        "lb_certificate_info{certificate=\"site\",kind=\"pair\",subject=\"CN=\\\"www\\\"\",issuer=\"CN=Example CA\",key=\"ECDSA P-256\"} 1",
        "lb_certificate_not_after_timestamp_seconds{certificate=\"site\"} 1800000000",
        "lb_frontend_info{frontend=\"web\",address=\"127.0.0.1:7000\",protocol=\"http\",policy=\"round_robin\"} 1",
        "lb_frontend_service{frontend=\"web\",service=\"passive\"} 1",
        "lb_frontend_service{frontend=\"web\",service=\"unavailable\"} 0",
        "lb_frontend_max_connections{frontend=\"web\"} 50",
        "lb_frontend_paused{frontend=\"web\"} 1",
        "lb_frontend_unserved_total{frontend=\"web\",cause=\"no_server\"} 1",
        "lb_frontend_unserved_total{frontend=\"web\",cause=\"gave_up_waiting\"} 2",
        "lb_frontend_unserved_total{frontend=\"web\",cause=\"all_failed\"} 3",
        "lb_frontend_relayed_bytes_total{frontend=\"web\",method=\"copy\"} 50",
        "lb_frontend_relayed_bytes_total{frontend=\"web\",method=\"splice\"} 250",
        "lb_frontend_tls_handshakes_total{frontend=\"web\",version=\"1.2\"} 4",
        "lb_frontend_tls_handshakes_total{frontend=\"web\",version=\"1.3\"} 5",
        "lb_frontend_tls_failures_total{frontend=\"web\",cause=\"timeout\"} 1",
        "lb_frontend_tls_failures_total{frontend=\"web\",cause=\"unknown_ca\"} 0",
        "lb_frontend_http_responses_total{frontend=\"web\",class=\"2xx\"} 5",
        "lb_frontend_http_refused_total{frontend=\"web\",cause=\"line_too_long\"} 3",
        "lb_frontend_persistence_lookups_total{frontend=\"web\",outcome=\"moved\"} 4",
        "lb_server_info{frontend=\"web\",server=\"app2\",address=\"[::1]:9002\",mode=\"enabled\"} 1",
        "lb_server_passive{frontend=\"web\",server=\"app2\"} 1",
        "lb_server_up{frontend=\"web\",server=\"app1\"} 0",
        "lb_server_up{frontend=\"bare\",server=\"app1\"} 1",
        "lb_server_health{frontend=\"web\",server=\"app1\",state=\"down\"} 1",
        "lb_server_failures_total{frontend=\"web\",server=\"app1\",cause=\"timed_out\"} 1",
        "lb_server_tls_handshakes_total{frontend=\"web\",server=\"app1\",version=\"1.3\"} 4",
        "lb_server_connect_duration_seconds_count{frontend=\"web\",server=\"app1\"} 0",
        "lb_shard_cpu_seconds_total{shard=\"0\"} 1.5",
        "lb_shard_busy_ratio{shard=\"0\"} 0.25",
        "lb_shard_info{shard=\"0\",core=\"5\"} 1",
    ] {
        assert!(text.lines().any(|told| told == line), "{line}\n{text}");
    }
}

#[test]
fn what_a_frontend_or_server_does_not_have_is_not_told() {
    let text = text(&example(), Format::Prometheus);
    let of_bare = text.lines().filter(|line| line.contains("frontend=\"bare\""));
    let absent = ["tls", "http", "persistence", "max_connections", "connect_duration", "first_byte_duration"];
    let wrong: Vec<_> =
        of_bare.filter(|line| absent.iter().any(|word| line.split('{').next().unwrap().contains(word))).collect();
    assert_eq!(wrong, Vec::<&str>::new());
}
