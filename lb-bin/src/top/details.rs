//! What is said of the selected row beyond its line in the list.

use lb_core::{FrontendStatus, Quantiles, ServerFailures, ServerStatus};

use super::rows::Row;
use super::units::duration;

/// In short pieces, the more important ones first.
pub(super) fn details(row: Row<'_>) -> Vec<String> {
    match row {
        Row::Frontend(frontend) => of_frontend(frontend),
        Row::Server(_, server) => of_server(server),
    }
}

fn of_frontend(status: &FrontendStatus) -> Vec<String> {
    let (frontend, traffic) = (&status.frontend, &status.traffic);
    let mut pieces = vec![
        format!("{} {}", frontend.protocol(), frontend.policy()),
        format!("limit {}", or_none(frontend.max_connections())),
        format!("{} accepted", traffic.accepted),
        format!("{} unserved", traffic.unserved),
        format!("{} redispatched", traffic.redispatched),
        format!("{} waiting", status.waiting),
    ];
    pieces.extend(times("connections lasted", status.durations));
    if let Some(http) = &status.http {
        pieces.push(format!("{} requests", http.requests));
        pieces.push(format!("{} retried", http.retried));
        pieces.push(format!("{} answered by lb itself", http.refused.values().sum::<u64>()));
        pieces.extend(times("requests took", status.request_durations));
    }
    if let Some(tls) = &status.tls {
        pieces.push(format!("{} handshakes", tls.handshakes));
        pieces.push(format!("{} TLS failures", tls.failed.values().sum::<u64>()));
    }
    pieces
}

fn of_server(status: &ServerStatus) -> Vec<String> {
    let server = &status.server;
    let mut pieces = vec![
        format!("weight {}", server.weight()),
        format!("limit {}", or_none(server.max_connections())),
        format!("{} served", status.served),
        format!("{} failed", status.failed),
    ];
    pieces.extend(failures(status.failures));
    pieces.push(format!("health changed {} times", status.health_changes));
    pieces.extend(times("connect", status.connect));
    pieces.extend(times("first byte", status.first_byte));
    pieces
}

fn failures(failures: ServerFailures) -> Option<String> {
    let ServerFailures { refused, timed_out, unreachable, tls, reset } = failures;
    let causes = [
        (refused, "refused"),
        (timed_out, "timed out"),
        (unreachable, "unreachable"),
        (tls, "in TLS"),
        (reset, "reset before an answer"),
    ];
    let causes = causes.iter().filter(|(count, _)| *count > 0).map(|(count, cause)| format!("{count} {cause}"));
    let causes: Vec<String> = causes.collect();
    (!causes.is_empty()).then(|| causes.join(", "))
}

fn times(what: &str, times: Quantiles) -> Option<String> {
    let Quantiles { count, p50, p90, p99, max } = times;
    let [p50, p90, p99, max] = [p50, p90, p99, max].map(duration);
    (count > 0).then(|| format!("{what}: half {p50}, 90 % {p90}, 99 % {p99}, all {max}"))
}

fn or_none(limit: Option<u32>) -> String {
    limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{frontend, server};

    #[test]
    fn a_server_tells_what_failed_how_and_how_long_things_took() {
        let mut app = server("app1", 1);
        (app.served, app.failed, app.health_changes) = (9, 3, 2);
        app.failures = ServerFailures { refused: 2, tls: 1, ..ServerFailures::default() };
        app.connect = Quantiles { count: 9, p50: 200, p90: 900, p99: 1_500, max: 12_000 };
        let web = frontend("web", vec![]);
        assert_eq!(
            details(Row::Server(&web, &app)),
            [
                "weight 1",
                "limit none",
                "9 served",
                "3 failed",
                "2 refused, 1 in TLS",
                "health changed 2 times",
                "connect: half 200µs, 90 % 900µs, 99 % 1.5ms, all 12ms",
            ]
        );
    }

    #[test]
    fn a_frontend_tells_of_its_clients() {
        let mut web = frontend("web", vec![]);
        web.waiting = 4;
        let text = details(Row::Frontend(&web)).join("  ");
        assert!(text.starts_with("tcp round_robin  limit none  0 accepted"), "{text}");
        assert!(text.ends_with("4 waiting"), "{text}");
    }
}
