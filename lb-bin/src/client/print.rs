//! Replies as people read them, or as RON or JSON for programs.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use lb_core::{
    CertificateStatus, HttpStatus, Record, RememberedClients, ServerHealth, Service, ShardStatus, Status, Traffic,
};
use ron::ser::PrettyConfig;
use serde::Serialize;

use crate::admin::{FrontendRow, Reply, ServerRow};
use crate::cli::Output;
use crate::config::count;
use crate::table::{Align, Table, bytes};

/// What is printed of a refusal.
pub(crate) fn refusal(reason: &str, field: Option<&str>) -> String {
    match field {
        Some(field) => format!("lb: refused: {reason} (field {field})"),
        None => format!("lb: refused: {reason}"),
    }
}

/// What is printed of any other reply, with its last line's end.
///
/// # Errors
/// It can't be written in the wanted form.
pub(crate) fn reply(reply: &Reply, output: Output) -> Result<String, String> {
    match (reply, output) {
        (Reply::Servers(rows), Output::Table) => Ok(servers(rows)),
        (Reply::Frontends(rows), Output::Table) => Ok(frontends(rows)),
        (Reply::Certificates(rows), Output::Table) => Ok(certificates(rows)),
        (Reply::Certificates(rows), _) => for_programs(rows, output),
        (Reply::History(records), Output::Table) => Ok(history(records)),
        (Reply::Status(full), Output::Table) => Ok(status(full)),
        (Reply::Servers(rows), _) => for_programs(rows, output),
        (Reply::Frontends(rows), _) => for_programs(rows, output),
        (Reply::History(records), _) => for_programs(records, output),
        (Reply::Status(full), _) => for_programs(full, output),
        (Reply::Confirmed { revision, shards, durable, connections_on_replaced, message, warnings }, _) => {
            let text = confirmation(*revision, *shards, *durable, *connections_on_replaced, message);
            Ok(text + &remarks(warnings))
        }
        (Reply::Proposed { revision, changes, warnings }, _) => Ok(proposal(*revision, changes) + &remarks(warnings)),
        (Reply::Version { version, protocol }, _) => Ok(format!("lb {version}, admin protocol {protocol}\n")),
        (Reply::Metrics { text }, _) => Ok(text.clone()),
        (Reply::Persistence(list), Output::Table) => Ok(persistence(list)),
        (Reply::Persistence(list), _) => for_programs(list, output),
        (Reply::Forgotten { clients }, _) => Ok(format!("{} forgotten\n", count(*clients as usize, "client"))),
        (Reply::PersistenceKey { key }, Output::Table) => Ok(format!("{}\n", key.expose_text())),
        (Reply::PersistenceKey { key }, _) => for_programs(&BTreeMap::from([("key", key)]), output),
        (Reply::ConsoleToken { token }, _) => Ok(format!("{}\n", token.expose())),
        (Reply::LogLevel { level, before: None }, _) => Ok(format!("{level}\n")),
        (Reply::LogLevel { level, before: Some(before) }, _) => Ok(format!("{level} from now on, it was {before}\n")),
        (Reply::Refused { reason, field }, _) => Err(refusal(reason, field.as_deref())),
        // Only successors ask for it.
        (Reply::HandOver { .. } | Reply::Released {}, _) => Ok(reply.to_line()),
    }
}

/// Anything as RON or JSON.
///
/// # Errors
/// It can't be written so.
pub(crate) fn for_programs(value: &impl Serialize, output: Output) -> Result<String, String> {
    let text = match output {
        Output::Json => serde_json::to_string_pretty(value).map_err(|error| error.to_string())?,
        // Without extensions, so that any reader of RON takes it.
        Output::Ron | Output::Table => {
            ron::ser::to_string_pretty(value, PrettyConfig::default()).map_err(|error| error.to_string())?
        }
    };
    Ok(text + "\n")
}

fn confirmation(revision: u64, shards: usize, durable: bool, on_replaced: u64, message: &str) -> String {
    let shards = count(shards, "shard");
    let disk = if durable { "on disk" } else { "not on disk" };
    let mut text = format!("revision {revision}: {message} ({shards}, {disk})\n");
    if on_replaced > 0 {
        let connections = count(on_replaced as usize, "connection");
        text += &format!("{connections} still live on a replaced address\n");
    }
    text
}

fn remarks(warnings: &[String]) -> String {
    warnings.iter().map(|warning| format!("warning: {warning}\n")).collect()
}

fn proposal(revision: u64, changes: &[String]) -> String {
    if changes.is_empty() {
        return format!("nothing would change at revision {revision}\n");
    }
    let lines: String = changes.iter().map(|change| format!("  {change}\n")).collect();
    format!("would change at revision {revision} (nothing did):\n{lines}")
}

fn servers(rows: &[ServerRow]) -> String {
    let mut table = Table::new(&[
        ("FRONTEND", Align::Left),
        ("NAME", Align::Left),
        ("ADDRESS", Align::Left),
        ("WEIGHT", Align::Right),
        ("KIND", Align::Left),
        ("TLS", Align::Left),
        ("STATE", Align::Left),
        ("CONNECTIONS", Align::Right),
        ("LIMIT", Align::Right),
        ("SERVED", Align::Right),
        ("FAILED", Align::Right),
        ("TO SERVER", Align::Right),
        ("TO CLIENT", Align::Right),
    ]);
    for row in rows {
        table.row([
            row.frontend.to_string(),
            row.name.to_string(),
            row.addr.to_string(),
            row.weight.to_string(),
            if row.passive { "passive" } else { "active" }.to_owned(),
            row.tls.word().to_owned(),
            state(row),
            row.connections.to_string(),
            limit(row.max_connections),
            row.served.to_string(),
            row.failed.to_string(),
            bytes(row.bytes_to_server),
            bytes(row.bytes_to_client),
        ]);
    }
    table.text()
}

/// Its state, with what is wrong with its TLS.
pub(crate) fn state(row: &ServerRow) -> String {
    match &row.trouble {
        Some(trouble) => format!("{}, TLS: {trouble}", health(row)),
        None => health(row),
    }
}

fn health(row: &ServerRow) -> String {
    match &row.health {
        _ if row.disabled => "disabled".to_owned(),
        _ if row.drain => "drains".to_owned(),
        ServerHealth::Unproven => "unchecked".to_owned(),
        ServerHealth::Up => "up".to_owned(),
        ServerHealth::Starting => "starts slowly".to_owned(),
        ServerHealth::Down { why } => format!("down: {why}"),
        ServerHealth::Ejected { for_milliseconds } => format!("ejected for {} s", for_milliseconds.div_ceil(1000)),
    }
}

fn limit(limit: Option<u32>) -> String {
    limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string())
}

fn frontends(rows: &[FrontendRow]) -> String {
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("ACCEPTS ON", Align::Left),
        ("PROTOCOL", Align::Left),
        ("POLICY", Align::Left),
        ("SERVERS", Align::Right),
        ("STATE", Align::Left),
        ("SERVED BY", Align::Left),
        ("CONNECTIONS", Align::Right),
        ("LIMIT", Align::Right),
        ("WAITING", Align::Right),
        ("ACCEPTED", Align::Right),
        ("UNSERVED", Align::Right),
        ("REDISPATCHED", Align::Right),
        ("TO SERVERS", Align::Right),
        ("TO CLIENTS", Align::Right),
    ]);
    for row in rows {
        table.row([
            row.name.to_string(),
            row.addr.to_string(),
            row.protocol.to_string(),
            row.policy.to_string(),
            row.servers.to_string(),
            if row.paused { "paused" } else { "accepts" }.to_owned(),
            service(row.service).to_owned(),
            row.connections.to_string(),
            limit(row.max_connections),
            row.waiting.to_string(),
            row.accepted.to_string(),
            row.unserved.to_string(),
            row.redispatched.to_string(),
            bytes(row.bytes_to_server),
            bytes(row.bytes_to_client),
        ]);
    }
    table.text()
}

fn certificates(rows: &[CertificateStatus]) -> String {
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("KIND", Align::Left),
        ("SUBJECT", Align::Left),
        ("NAMES", Align::Left),
        ("ISSUER", Align::Left),
        ("EXPIRES IN", Align::Right),
        ("KEY", Align::Left),
        ("USED BY", Align::Left),
    ]);
    for row in rows {
        let more = match row.certificates {
            0 | 1 => String::new(),
            certificates => format!(" and {} more", certificates - 1),
        };
        table.row([
            row.name.to_string(),
            row.kind.clone(),
            format!("{}{more}", row.subject),
            or_dash(row.names.join(" ")),
            row.issuer.clone(),
            days(row.expires_in_days),
            row.key.clone(),
            or_dash(row.used_by.join(", ")),
        ]);
    }
    table.text()
}

fn persistence(list: &RememberedClients) -> String {
    let mut table = Table::new(&[
        ("FRONTEND", Align::Left),
        ("CLIENT", Align::Left),
        ("SERVER", Align::Left),
        ("EXPIRES IN", Align::Right),
    ]);
    for client in &list.clients {
        table.row([
            client.frontend.to_string(),
            client.client.clone(),
            client.server.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            uptime(client.expires_in_milliseconds.div_ceil(1000)),
        ]);
    }
    match list.more {
        0 => table.text(),
        more => table.text() + &format!("and {more} more: --limit N shows more\n"),
    }
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

fn days(days: i64) -> String {
    match days {
        1 => "1 day".to_owned(),
        0.. => format!("{days} days"),
        _ => "expired".to_owned(),
    }
}

pub(crate) fn service(service: Service) -> &'static str {
    match service {
        Service::Active => "active servers",
        Service::Passive => "passive servers",
        Service::Unavailable => "nobody",
    }
}

fn history(records: &[Arc<Record>]) -> String {
    let mut table = Table::new(&[("REVISION", Align::Right), ("WHEN (UTC)", Align::Left), ("WHAT", Align::Left)]);
    for record in records {
        let at = i64::try_from(record.at).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        let at = at.map_or_else(|| "?".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string());
        table.row([record.revision.to_string(), at, record.summary.join("; ")]);
    }
    table.text()
}

fn status(status: &Status) -> String {
    let mut text = format!(
        "revision {}, up {}, {} of at most {} connections\n",
        status.revision,
        uptime(status.uptime_seconds),
        status.connections,
        status.max_connections,
    );
    if status.connections_on_replaced > 0 {
        text += &format!("{} still live on a replaced address\n", status.connections_on_replaced);
    }
    text += &traffic(&status.traffic);
    text += &requests(status);
    text.push('\n');
    text += &shards(&status.shards);
    text.push('\n');
    let rows: Vec<FrontendRow> = status.frontends.iter().map(FrontendRow::new).collect();
    text + &frontends(&rows)
}

fn traffic(traffic: &Traffic) -> String {
    let copied = (traffic.bytes_to_server + traffic.bytes_to_client).saturating_sub(traffic.bytes_spliced);
    format!(
        "{} accepted ({:.0}/s), {} unserved ({} after waiting), {} redispatched, {} to servers ({}/s), {} to clients ({}/s)\n\
         {} copied, {} spliced, {} changes between the two\n",
        traffic.accepted,
        traffic.accepted_per_second,
        traffic.unserved,
        traffic.gave_up_waiting,
        traffic.redispatched,
        bytes(traffic.bytes_to_server),
        bytes(traffic.bytes_to_server_per_second as u64),
        bytes(traffic.bytes_to_client),
        bytes(traffic.bytes_to_client_per_second as u64),
        bytes(copied),
        bytes(traffic.bytes_spliced),
        traffic.relay_switches,
    )
}

/// A line for the requests of all frontends, if any reads them.
fn requests(status: &Status) -> String {
    let all: Vec<_> = status.frontends.iter().filter_map(|frontend| frontend.http.as_ref()).collect();
    if all.is_empty() {
        return String::new();
    }
    let sum = |of: fn(&HttpStatus) -> u64| all.iter().map(|http| of(http)).sum::<u64>();
    format!(
        "{} requests, {} over pooled connections, {} retried, {} answered by lb itself\n",
        sum(|http| http.requests),
        sum(|http| http.reused),
        sum(|http| http.retried),
        sum(|http| http.refused.values().sum()),
    )
}

fn shards(shards: &[ShardStatus]) -> String {
    let mut table = Table::new(&[
        ("SHARD", Align::Right),
        ("CORE", Align::Right),
        ("REVISION", Align::Right),
        ("CONNECTIONS", Align::Right),
        ("ACCEPTED", Align::Right),
        ("BUFFERS", Align::Right),
        ("PIPES", Align::Right),
        ("POOLED", Align::Right),
        ("OVERFLOWS", Align::Right),
    ]);
    for (index, shard) in shards.iter().enumerate() {
        table.row([
            index.to_string(),
            shard.core.to_string(),
            shard.revision.to_string(),
            shard.connections.to_string(),
            shard.accepted.to_string(),
            bytes(shard.buffer_bytes),
            shard.pipes.to_string(),
            shard.pooled.to_string(),
            shard.completion_overflows.to_string(),
        ]);
    }
    table.text()
}

/// `5 s`, `3 min`, `2 h 10 min`, `4 d 1 h`: the two largest units.
pub(crate) fn uptime(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::TlsMode;

    #[test]
    fn a_confirmation_says_what_is_true() {
        assert_eq!(
            confirmation(7, 2, true, 0, "server app3 added to web"),
            "revision 7: server app3 added to web (2 shards, on disk)\n"
        );
        assert_eq!(
            confirmation(8, 1, false, 3, "server app3 removed from web"),
            "revision 8: server app3 removed from web (1 shard, not on disk)\n\
             3 connections still live on a replaced address\n"
        );
    }

    #[test]
    fn a_refusal_names_the_field() {
        assert_eq!(
            refusal("port 70000 is not in 1 to 65535", Some("port")),
            "lb: refused: port 70000 is not in 1 to 65535 (field port)"
        );
        assert_eq!(refusal("the balancer has stopped", None), "lb: refused: the balancer has stopped");
    }

    #[test]
    fn a_proposal_says_that_nothing_changed() {
        assert_eq!(proposal(3, &[]), "nothing would change at revision 3\n");
        assert_eq!(proposal(3, &["a".into(), "b".into()]), "would change at revision 3 (nothing did):\n  a\n  b\n");
    }

    #[test]
    fn lists_for_programs_are_plain_ron_and_json() {
        let row = ServerRow {
            frontend: "web".parse().unwrap(),
            name: "app1".parse().unwrap(),
            addr: "127.0.0.1:9001".parse().unwrap(),
            weight: 1,
            max_connections: None,
            passive: true,
            drain: false,
            disabled: false,
            health: ServerHealth::Down { why: "connection refused".to_owned() },
            tls: TlsMode::ReEncryption,
            trouble: Some("unknown CA".to_owned()),
            connections: 2,
            served: 3,
            failed: 0,
            bytes_to_server: 4,
            bytes_to_client: 5,
        };
        let rows = vec![row];
        let text = reply(&Reply::Servers(rows.clone()), Output::Ron).unwrap();
        assert_eq!(ron::from_str::<Vec<ServerRow>>(&text).unwrap(), rows);
        let text = reply(&Reply::Servers(rows.clone()), Output::Json).unwrap();
        assert_eq!(serde_json::from_str::<Vec<ServerRow>>(&text).unwrap(), rows);
        let text = reply(&Reply::Servers(rows), Output::Table).unwrap();
        assert!(text.starts_with("FRONTEND  NAME  ADDRESS"), "{text}");
        assert!(text.contains("\nweb       app1  127.0.0.1:9001       1  passive  re-encryption  down: connection refused, TLS: unknown CA"), "{text}");
    }

    #[test]
    fn certificates_are_listed_with_their_end_and_users() {
        let row = CertificateStatus {
            name: "site".parse().unwrap(),
            kind: "pair".to_owned(),
            certificates: 2,
            subject: "CN=a".to_owned(),
            names: vec!["a.example".to_owned(), "b.example".to_owned()],
            issuer: "CN=CA".to_owned(),
            key: "ECDSA P-256".to_owned(),
            not_after: 0,
            expires_in_days: 53,
            used_by: vec!["frontend web".to_owned(), "server web/app1".to_owned()],
        };
        let unused = CertificateStatus { expires_in_days: -1, used_by: Vec::new(), names: Vec::new(), ..row.clone() };
        let text = reply(&Reply::Certificates(vec![row, unused]), Output::Table).unwrap();
        for line in [
            "site  pair  CN=a and 1 more  a.example b.example  CN=CA      53 days  ECDSA P-256  frontend web, server web/app1",
            "site  pair  CN=a and 1 more  -                    CN=CA      expired  ECDSA P-256  -",
        ] {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
    }

    #[test]
    fn uptime_is_short() {
        for (seconds, text) in [(5, "5 s"), (200, "3 min"), (7_800, "2 h 10 min"), (349_200, "4 d 1 h")] {
            assert_eq!(uptime(seconds), text);
        }
    }
}
