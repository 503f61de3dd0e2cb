//! The rows of the list: each frontend, followed by its servers.

use std::cmp::Ordering;

use lb_core::config::{Mode, Name};
use lb_core::{FrontendStatus, Quantiles, ServerHealth, ServerStatus, Service, Status};

use crate::admin::ServerRow;
use crate::client::print;

/// By what a row is known from one status to the next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RowId {
    pub(super) frontend: Name,
    /// `None` for the frontend itself.
    pub(super) server: Option<Name>,
}

impl RowId {
    /// `web`, `web/app1`.
    pub(super) fn text(&self) -> String {
        match &self.server {
            None => self.frontend.to_string(),
            Some(server) => format!("{}/{server}", self.frontend),
        }
    }
}

/// A frontend or one of its servers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Row<'a> {
    Frontend(&'a FrontendStatus),
    Server(&'a FrontendStatus, &'a ServerStatus),
}

/// How good what is shown is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tone {
    Good,
    Plain,
    /// The operator wants it so.
    Quiet,
    Doubtful,
    Bad,
}

/// Numbers by which rows are compared and whose past is drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Load {
    pub(super) connections: f64,
    /// New connections per second.
    pub(super) rate: f64,
    /// Bytes per second, both ways.
    pub(super) throughput: f64,
}

impl<'a> Row<'a> {
    pub(super) fn id(self) -> RowId {
        let server = match self {
            Self::Frontend(_) => None,
            Self::Server(_, server) => Some(server.server.name().clone()),
        };
        RowId { frontend: self.frontend().frontend.name().clone(), server }
    }

    fn frontend(self) -> &'a FrontendStatus {
        match self {
            Self::Frontend(frontend) | Self::Server(frontend, _) => frontend,
        }
    }

    /// Its name, indented below its frontend's.
    pub(super) fn label(self) -> String {
        match self {
            Self::Frontend(frontend) => frontend.frontend.name().to_string(),
            Self::Server(_, server) => format!("  {}", server.server.name()),
        }
    }

    pub(super) fn addr(self) -> String {
        match self {
            Self::Frontend(frontend) => frontend.addr.to_string(),
            Self::Server(_, server) => server.server.addr().to_string(),
        }
    }

    /// Who serves a frontend, or how a server is and why.
    pub(super) fn state(self) -> String {
        match self {
            Self::Frontend(frontend) if frontend.paused => format!("paused, {}", print::service(frontend.service)),
            Self::Frontend(frontend) => print::service(frontend.service).to_owned(),
            Self::Server(frontend, server) => {
                let state = print::state(&ServerRow::new(&frontend.frontend, server));
                if server.server.is_passive() { format!("passive, {state}") } else { state }
            }
        }
    }

    pub(super) fn tone(self) -> Tone {
        match self {
            Self::Frontend(frontend) => match frontend.service {
                Service::Unavailable => Tone::Bad,
                Service::Passive => Tone::Doubtful,
                Service::Active if frontend.paused => Tone::Doubtful,
                Service::Active => Tone::Good,
            },
            Self::Server(_, server) => match (&server.health, server.server.mode()) {
                (_, Mode::Drain(_) | Mode::Disabled) => Tone::Quiet,
                (ServerHealth::Down { .. }, _) => Tone::Bad,
                (ServerHealth::Ejected { .. }, _) => Tone::Doubtful,
                _ if server.tls.as_ref().is_some_and(|tls| tls.trouble.is_some()) => Tone::Doubtful,
                (ServerHealth::Up, _) => Tone::Good,
                (ServerHealth::Unproven | ServerHealth::Starting, _) => Tone::Plain,
            },
        }
    }

    pub(super) fn load(self) -> Load {
        let (to_server, to_client) = self.throughput();
        match self {
            Self::Frontend(frontend) => Load {
                connections: frontend.connections as f64,
                rate: frontend.traffic.accepted_per_second,
                throughput: to_server + to_client,
            },
            Self::Server(_, server) => Load {
                connections: server.connections as f64,
                rate: server.served_per_second,
                throughput: to_server + to_client,
            },
        }
    }

    /// Bytes per second to servers and to clients.
    pub(super) fn throughput(self) -> (f64, f64) {
        match self {
            Self::Frontend(FrontendStatus { traffic, .. }) => {
                (traffic.bytes_to_server_per_second, traffic.bytes_to_client_per_second)
            }
            Self::Server(_, server) => (server.bytes_to_server_per_second, server.bytes_to_client_per_second),
        }
    }

    /// Clients that wait for a server.
    pub(super) fn waiting(self) -> Option<u64> {
        match self {
            Self::Frontend(frontend) => Some(frontend.waiting),
            Self::Server(..) => None,
        }
    }

    /// A frontend's connections that nobody served, or a server's failures.
    pub(super) fn failed(self) -> u64 {
        match self {
            Self::Frontend(frontend) => frontend.traffic.unserved,
            Self::Server(_, server) => server.failed + server.failures.reset,
        }
    }

    /// How long connects to a server took.
    pub(super) fn connect(self) -> Option<Quantiles> {
        match self {
            Self::Frontend(_) => None,
            Self::Server(_, server) => Some(server.connect),
        }
    }

    /// How long a server's first byte took.
    pub(super) fn first_byte(self) -> Option<Quantiles> {
        match self {
            Self::Frontend(_) => None,
            Self::Server(_, server) => Some(server.first_byte),
        }
    }

    /// How long a frontend's requests took, or its connections lasted where it reads no requests.
    pub(super) fn lasted(self) -> Option<Quantiles> {
        match self {
            Self::Frontend(frontend) if frontend.http.is_some() => Some(frontend.request_durations),
            Self::Frontend(frontend) => Some(frontend.durations),
            Self::Server(..) => None,
        }
    }

    /// True if `text`, in small letters, is in its name, address or state.
    fn contains(self, text: &str) -> bool {
        let all = format!("{} {} {}", self.id().text(), self.addr(), self.state());
        text.is_empty() || all.to_lowercase().contains(text)
    }
}

/// In which order frontends, and the servers of each, are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Configured,
    Name,
    State,
    Connections,
    Rate,
    Throughput,
    Failed,
}

impl Order {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Configured => "as configured",
            Self::Name => "name",
            Self::State => "state",
            Self::Connections => "connections",
            Self::Rate => "rate",
            Self::Throughput => "bytes",
            Self::Failed => "failed",
        }
    }

    pub(super) fn next(self) -> Self {
        match self {
            Self::Configured => Self::Name,
            Self::Name => Self::State,
            Self::State => Self::Connections,
            Self::Connections => Self::Rate,
            Self::Rate => Self::Throughput,
            Self::Throughput => Self::Failed,
            Self::Failed => Self::Configured,
        }
    }

    /// Worst and largest first.
    fn compare(self, one: Row<'_>, other: Row<'_>) -> Ordering {
        let descending = |of: fn(Load) -> f64| of(other.load()).total_cmp(&of(one.load()));
        match self {
            Self::Configured => Ordering::Equal,
            Self::Name => one.label().cmp(&other.label()),
            Self::State => other.tone().cmp(&one.tone()),
            Self::Connections => descending(|load| load.connections),
            Self::Rate => descending(|load| load.rate),
            Self::Throughput => descending(|load| load.throughput),
            Self::Failed => other.failed().cmp(&one.failed()),
        }
    }
}

/// The rows that contain `filter`, in this order. A frontend is there if one of its servers is.
pub(super) fn rows<'a>(status: &'a Status, order: Order, filter: &str) -> Vec<Row<'a>> {
    let filter = filter.to_lowercase();
    let mut frontends: Vec<&FrontendStatus> = status.frontends.iter().collect();
    frontends.sort_by(|one, other| order.compare(Row::Frontend(one), Row::Frontend(other)));
    let mut rows = Vec::new();
    for frontend in frontends {
        let servers = frontend.servers.iter().map(|server| Row::Server(frontend, server));
        let mut servers: Vec<Row<'_>> = servers.filter(|server| server.contains(&filter)).collect();
        servers.sort_by(|one, other| order.compare(*one, *other));
        let frontend = Row::Frontend(frontend);
        if !servers.is_empty() || frontend.contains(&filter) {
            rows.push(frontend);
            rows.append(&mut servers);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{frontend, server, status};

    fn listed(status: &Status, order: Order, filter: &str) -> Vec<String> {
        rows(status, order, filter).into_iter().map(|row| row.id().text()).collect()
    }

    fn three() -> Status {
        let mut busy = server("busy", 1);
        (busy.connections, busy.served_per_second) = (9, 1.0);
        let mut dead = server("dead", 2);
        dead.health = ServerHealth::Down { why: "connection refused".to_owned() };
        dead.failed = 7;
        let idle = server("idle", 3);
        let mut quiet = frontend("quiet", vec![]);
        quiet.service = Service::Unavailable;
        status(vec![frontend("web", vec![idle, busy, dead]), quiet])
    }

    #[test]
    fn servers_follow_their_frontend_in_every_order() {
        let status = three();
        let configured = ["web", "web/idle", "web/busy", "web/dead", "quiet"];
        assert_eq!(listed(&status, Order::Configured, ""), configured);
        for (order, expected) in [
            (Order::Name, ["quiet", "web", "web/busy", "web/dead", "web/idle"]),
            (Order::State, ["quiet", "web", "web/dead", "web/idle", "web/busy"]),
            (Order::Connections, ["web", "web/busy", "web/idle", "web/dead", "quiet"]),
            (Order::Failed, ["web", "web/dead", "web/idle", "web/busy", "quiet"]),
        ] {
            assert_eq!(listed(&status, order, ""), expected, "{order:?}");
        }
    }

    #[test]
    fn every_order_comes_round() {
        let mut order = Order::Configured;
        for _ in 0..7 {
            order = order.next();
        }
        assert_eq!(order, Order::Configured);
    }

    #[test]
    fn a_filter_looks_at_names_addresses_and_states() {
        let status = three();
        assert_eq!(listed(&status, Order::Configured, "DEAD"), ["web", "web/dead"]);
        assert_eq!(listed(&status, Order::Configured, "refused"), ["web", "web/dead"]);
        assert_eq!(listed(&status, Order::Configured, "10.0.0.3:"), ["web", "web/idle"]);
        assert_eq!(listed(&status, Order::Configured, "quiet"), ["quiet"]);
        assert_eq!(listed(&status, Order::Configured, "web/").len(), 4);
        assert!(listed(&status, Order::Configured, "nothing like it").is_empty());
    }

    #[test]
    fn states_say_why_and_who() {
        let status = three();
        let states: Vec<String> = rows(&status, Order::Configured, "").into_iter().map(Row::state).collect();
        assert_eq!(states, ["active servers", "up", "up", "down: connection refused", "nobody"]);
    }
}
