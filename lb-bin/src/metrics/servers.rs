//! Metrics of servers.

use lb_core::config::{Mode, Name};
use lb_core::{Cause, ServerHealth, ServerStatus, ServerTimings, ServerTlsStatus};

use super::frontends::Frontend;
use super::text::{Kind, Labels, Subject, Text};
use super::timing;

/// A server of a frontend, with how long it took.
struct Server<'a> {
    frontend: &'a Name,
    status: &'a ServerStatus,
    timings: &'a ServerTimings,
}

pub(super) fn write(text: &mut Text, frontends: &[Frontend<'_>]) {
    let servers: Vec<Server<'_>> = frontends.iter().flat_map(servers_of).collect();
    let all = Subject::each(&servers, labels);
    settings(text, &all);
    health(text, &all);
    traffic(text, &all);
    durations(text, &all);
    tls(text, &servers);
}

fn servers_of<'a>(frontend: &Frontend<'a>) -> impl Iterator<Item = Server<'a>> {
    let (of, timings) = (frontend.status, &frontend.timings.servers);
    of.servers.iter().zip(timings).map(|(status, timings)| Server { frontend: of.frontend.name(), status, timings })
}

fn labels(server: &Server<'_>) -> Labels {
    Labels::default().and("frontend", server.frontend).and("server", server.status.server.name())
}

fn settings(text: &mut Text, all: &[Subject<&Server<'_>>]) {
    text.family(Kind::Info, "lb_server_info", "A server and its settings.", all, |of, samples| {
        let settings = &of.status.server;
        let mode = match settings.mode() {
            Mode::Enabled => "enabled",
            Mode::Drain(_) => "drain",
            Mode::Disabled => "disabled",
        };
        samples.info(&Labels::default().and("address", settings.addr()).and("mode", mode));
    });
    text.gauge("lb_server_weight", "A server's share.", all, |of| of.status.server.weight());
    text.gauge("lb_server_passive", "1 for a standby, else 0.", all, |of| u8::from(of.status.server.is_passive()));
    text.family(Kind::Gauge, "lb_server_max_connections", "Most connections at once.", all, |of, samples| {
        if let Some(most) = of.status.server.max_connections() {
            samples.one(most);
        }
    });
}

fn health(text: &mut Text, all: &[Subject<&Server<'_>>]) {
    let help = "0 while a server's checks fail or it is ejected, else 1.";
    text.gauge("lb_server_up", help, all, |of| {
        u8::from(!matches!(of.status.health, ServerHealth::Down { .. } | ServerHealth::Ejected { .. }))
    });
    text.family(Kind::Gauge, "lb_server_health", "1 for what is known of a server.", all, |of, samples| {
        let present = match of.status.health {
            ServerHealth::Unproven => "unproven",
            ServerHealth::Up => "up",
            ServerHealth::Starting => "starting",
            ServerHealth::Down { .. } => "down",
            ServerHealth::Ejected { .. } => "ejected",
        };
        samples.states("state", &["unproven", "up", "starting", "down", "ejected"], present);
    });
    let help = "How often a server came up, or went down.";
    text.counter("lb_server_health_changes_total", help, all, |of| of.status.health_changes);
}

fn traffic(text: &mut Text, all: &[Subject<&Server<'_>>]) {
    let help = "Connections now, on a server's present and on earlier addresses.";
    text.gauge("lb_server_open_connections", help, all, |of| of.status.connections);
    text.counter("lb_server_connections_total", "Connections established.", all, |of| of.status.served);
    let help = "Connects and handshakes that failed, and connections that were reset before a byte came, by cause.";
    text.family(Kind::Counter, "lb_server_failures_total", help, all, |of, samples| {
        let failures = &of.status.failures;
        samples.labelled("cause", "refused", failures.refused);
        samples.labelled("cause", "timed_out", failures.timed_out);
        samples.labelled("cause", "unreachable", failures.unreachable);
        samples.labelled("cause", "tls", failures.tls);
        samples.labelled("cause", "reset", failures.reset);
    });
    text.family(Kind::Counter, "lb_server_bytes_total", "Bytes relayed, each way.", all, |of, samples| {
        samples.labelled("direction", "to_server", of.status.bytes_to_server);
        samples.labelled("direction", "to_client", of.status.bytes_to_client);
    });
}

/// Only of servers that were connected to: of thousands, few are at times.
fn durations(text: &mut Text, all: &[Subject<&Server<'_>>]) {
    let is_used = |of: &Server<'_>| of.status.served > 0 || of.status.failed > 0;
    let help = "How long a server took to accept a connection.";
    text.family(Kind::Histogram, "lb_server_connect_duration_seconds", help, all, |of, samples| {
        if is_used(of) {
            timing(samples, &of.timings.connect);
        }
    });
    let help = "From the last bytes of what a server was asked to the first of its answer.";
    text.family(Kind::Histogram, "lb_server_first_byte_duration_seconds", help, all, |of, samples| {
        if is_used(of) {
            timing(samples, &of.timings.first_byte);
        }
    });
}

fn tls<'a>(text: &mut Text, servers: &[Server<'a>]) {
    let subject = |of: &Server<'a>| Some(Subject::new(of.status.tls.as_ref()?, labels(of)));
    let all: Vec<Subject<&ServerTlsStatus>> = servers.iter().filter_map(subject).collect();
    let help = "TLS handshakes with a server that were done, by version.";
    text.family(Kind::Counter, "lb_server_tls_handshakes_total", help, &all, |tls, samples| {
        samples.labelled("version", "1.2", tls.tls12);
        samples.labelled("version", "1.3", tls.handshakes.saturating_sub(tls.tls12));
    });
    let help = "TLS handshakes with a server that went on from an earlier session.";
    text.counter("lb_server_tls_resumed_total", help, &all, |tls| tls.resumed);
    let help = "TLS handshakes and connections with a server that failed, by cause.";
    text.family(Kind::Counter, "lb_server_tls_failures_total", help, &all, |tls, samples| {
        for cause in Cause::ALL {
            samples.labelled("cause", cause.as_str(), tls.failed.get(&cause).copied().unwrap_or(0));
        }
    });
}
