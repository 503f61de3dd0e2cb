//! Metrics of frontends.

use lb_core::{Cause, FrontendStatus, FrontendTimings, HttpCause, HttpStatus, PersistenceStatus, Service, TlsStatus};

use super::text::{Kind, Labels, Subject, Text};
use super::timing;

/// A frontend, with how long things took at it.
pub(super) struct Frontend<'a> {
    pub(super) status: &'a FrontendStatus,
    pub(super) timings: &'a FrontendTimings,
}

pub(super) fn write(text: &mut Text, frontends: &[Frontend<'_>]) {
    let all = Subject::each(frontends, labels);
    state(text, &all);
    limits(text, &all);
    traffic(text, &all);
    durations(text, &all);
    tls(text, frontends);
    http(text, frontends);
    persistence(text, frontends);
}

fn labels(frontend: &Frontend<'_>) -> Labels {
    Labels::default().and("frontend", frontend.status.frontend.name())
}

/// Those of the frontends that have what `part` gives.
fn those_with<'a, T>(
    frontends: &'a [Frontend<'_>],
    part: impl Fn(&'a FrontendStatus) -> Option<&'a T>,
) -> Vec<Subject<&'a T>> {
    frontends.iter().filter_map(|of| Some(Subject::new(part(of.status)?, labels(of)))).collect()
}

fn state(text: &mut Text, all: &[Subject<&Frontend<'_>>]) {
    text.family(Kind::Info, "lb_frontend_info", "A frontend and its settings.", all, |of, samples| {
        let settings = &of.status.frontend;
        let labels = Labels::default().and("address", of.status.addr).and("protocol", settings.protocol());
        samples.info(&labels.and("policy", settings.policy()));
    });
    let help = "1 for the servers that serve a frontend: active ones only, passive ones too, or none is available.";
    text.family(Kind::Gauge, "lb_frontend_service", help, all, |of, samples| {
        let present = match of.status.service {
            Service::Active => "active",
            Service::Passive => "passive",
            Service::Unavailable => "unavailable",
        };
        samples.states("service", &["active", "passive", "unavailable"], present);
    });
}

fn limits(text: &mut Text, all: &[Subject<&Frontend<'_>>]) {
    text.family(Kind::Gauge, "lb_frontend_max_connections", "Most connections at once.", all, |of, samples| {
        if let Some(most) = of.status.frontend.max_connections() {
            samples.one(most);
        }
    });
    let help = "1 while accepting pauses: a limit is reached or descriptors have run out.";
    text.gauge("lb_frontend_paused", help, all, |of| u8::from(of.status.paused));
    let help = "How often a shard has paused accepting.";
    text.counter("lb_frontend_pauses_total", help, all, |of| of.status.pauses);
    text.gauge("lb_frontend_waiting_clients", "Clients that wait for a server now.", all, |of| of.status.waiting);
    let help = "Most clients that may wait for a server.";
    text.gauge("lb_frontend_max_waiting_clients", help, all, |of| of.status.frontend.queue());
}

fn traffic(text: &mut Text, all: &[Subject<&Frontend<'_>>]) {
    text.gauge("lb_frontend_open_connections", "Connections now.", all, |of| of.status.connections);
    text.counter("lb_frontend_connections_total", "Connections accepted.", all, |of| of.status.traffic.accepted);
    let help = "Connections and requests that got no server, by cause.";
    text.family(Kind::Counter, "lb_frontend_unserved_total", help, all, |of, samples| {
        let traffic = &of.status.traffic;
        let others = traffic.unserved.saturating_sub(traffic.no_server + traffic.gave_up_waiting);
        samples.labelled("cause", "no_server", traffic.no_server);
        samples.labelled("cause", "gave_up_waiting", traffic.gave_up_waiting);
        samples.labelled("cause", "all_failed", others);
    });
    let help = "Connections that got another server after one had failed.";
    text.counter("lb_frontend_redispatched_total", help, all, |of| of.status.traffic.redispatched);
    text.family(Kind::Counter, "lb_frontend_bytes_total", "Bytes relayed, each way.", all, |of, samples| {
        samples.labelled("direction", "to_server", of.status.traffic.bytes_to_server);
        samples.labelled("direction", "to_client", of.status.traffic.bytes_to_client);
    });
    let help = "Bytes relayed both ways, by how.";
    text.family(Kind::Counter, "lb_frontend_relayed_bytes_total", help, all, |of, samples| {
        let traffic = &of.status.traffic;
        let copied = (traffic.bytes_to_server + traffic.bytes_to_client).saturating_sub(traffic.bytes_spliced);
        samples.labelled("method", "copy", copied);
        samples.labelled("method", "splice", traffic.bytes_spliced);
    });
    let help = "How often a direction of a connection went over from copying to splicing, or back.";
    text.counter("lb_frontend_relay_switches_total", help, all, |of| of.status.traffic.relay_switches);
}

fn durations(text: &mut Text, all: &[Subject<&Frontend<'_>>]) {
    let help = "From the accept of a connection to its end.";
    text.family(Kind::Histogram, "lb_frontend_connection_duration_seconds", help, all, |of, samples| {
        timing(samples, &of.timings.connections);
    });
    let help = "From a request's head to the end of its answer.";
    text.family(Kind::Histogram, "lb_frontend_http_request_duration_seconds", help, all, |of, samples| {
        if of.status.http.is_some() {
            timing(samples, &of.timings.requests);
        }
    });
}

fn tls(text: &mut Text, frontends: &[Frontend<'_>]) {
    let all = those_with(frontends, |status| status.tls.as_ref());
    let help = "TLS handshakes with clients that were done, by version.";
    text.family(Kind::Counter, "lb_frontend_tls_handshakes_total", help, &all, |tls: &&TlsStatus, samples| {
        samples.labelled("version", "1.2", tls.tls12);
        samples.labelled("version", "1.3", tls.handshakes.saturating_sub(tls.tls12));
    });
    let help = "TLS handshakes with clients that went on from an earlier session.";
    text.counter("lb_frontend_tls_resumed_total", help, &all, |tls| tls.resumed);
    let help = "TLS handshakes with clients that are in progress.";
    text.gauge("lb_frontend_tls_handshakes_in_progress", help, &all, |tls| tls.in_progress);
    let help = "TLS handshakes and connections with clients that failed, by cause.";
    text.family(Kind::Counter, "lb_frontend_tls_failures_total", help, &all, |tls, samples| {
        for cause in Cause::ALL {
            samples.labelled("cause", cause.as_str(), tls.failed.get(&cause).copied().unwrap_or(0));
        }
    });
}

fn http(text: &mut Text, frontends: &[Frontend<'_>]) {
    let all = those_with(frontends, |status| status.http.as_ref());
    text.counter("lb_frontend_http_requests_total", "Requests whose head was read.", &all, |http| http.requests);
    let help = "Final responses of servers, by the class of their status; 1xx are those that change the protocol.";
    text.family(Kind::Counter, "lb_frontend_http_responses_total", help, &all, |http: &&HttpStatus, samples| {
        let responses = &http.responses;
        samples.labelled("class", "1xx", responses.informational);
        samples.labelled("class", "2xx", responses.successful);
        samples.labelled("class", "3xx", responses.redirection);
        samples.labelled("class", "4xx", responses.client_error);
        samples.labelled("class", "5xx", responses.server_error);
    });
    let help = "Requests that lb itself answered, by cause.";
    text.family(Kind::Counter, "lb_frontend_http_refused_total", help, &all, |http, samples| {
        for cause in HttpCause::ALL {
            samples.labelled("cause", cause.as_str(), http.refused.get(&cause).copied().unwrap_or(0));
        }
    });
    let help = "Requests that were sent again, because a pooled connection had died before any byte of the response.";
    text.counter("lb_frontend_http_retried_total", help, &all, |http| http.retried);
    let help = "Requests that went over a pooled connection.";
    text.counter("lb_frontend_http_reused_total", help, &all, |http| http.reused);
}

fn persistence(text: &mut Text, frontends: &[Frontend<'_>]) {
    let all = those_with(frontends, |status| status.persistence.as_ref());
    let help = "Clients that were looked up: they got the server that they stay on, were new, or got another server.";
    let name = "lb_frontend_persistence_lookups_total";
    text.family(Kind::Counter, name, help, &all, |persistence: &&PersistenceStatus, samples| {
        samples.labelled("outcome", "hit", persistence.hits);
        samples.labelled("outcome", "new", persistence.new);
        samples.labelled("outcome", "moved", persistence.moved);
    });
    let help = "Clients that are remembered; some may have expired.";
    text.gauge("lb_frontend_persistence_remembered_clients", help, &all, |persistence| persistence.remembered);
    let help = "Most clients that can be remembered.";
    text.gauge("lb_frontend_persistence_max_remembered_clients", help, &all, |persistence| persistence.size);
}
