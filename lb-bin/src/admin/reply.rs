//! A reply: what is answered to a request, written and read as a line of RON.

use std::net::SocketAddr;
use std::sync::Arc;

use lb_core::config::{Bind, Frontend, Millis, Mode, Name, PersistenceKey, PolicyKind, Protocol, Server};
use lb_core::{
    Applied, CertificateStatus, FrontendStatus, Listener, Record, Refused, RememberedClients, ServerHealth,
    ServerStatus, Service, Status,
};
use serde::{Deserialize, Serialize};

use super::PROTOCOL;
use crate::console::Token;
use crate::ron_text;

/// What is answered to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// The change is in effect.
    Confirmed {
        /// The revision in effect.
        revision: u64,
        /// The shards that use it: all of them.
        shards: usize,
        /// Whether it is on disk and survives a crash of the machine.
        durable: bool,
        /// Connections that still live on an address that this change replaced or removed.
        connections_on_replaced: u64,
        /// What changed.
        message: String,
        /// What is allowed but may surprise.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    },
    /// A dry run: what would change. Nothing did.
    Proposed {
        /// The revision in effect.
        revision: u64,
        /// What would change, a sentence per change.
        changes: Vec<String>,
        /// What is allowed but may surprise.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    },
    /// Nothing changed.
    Refused {
        /// Why, in one sentence.
        reason: String,
        /// The field at fault, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        field: Option<String>,
    },
    /// The servers, in the order they were added.
    Servers(Vec<ServerRow>),
    /// The frontends, in the order they were added.
    Frontends(Vec<FrontendRow>),
    /// The certificates, in the order they were added.
    Certificates(Vec<CertificateStatus>),
    /// The key that cookies are made with. Like the console's token, it is answered only to who asks for it.
    PersistenceKey {
        /// 64 hexadecimal digits.
        key: PersistenceKey,
    },
    /// The token that opens the console.
    ConsoleToken {
        /// 64 hexadecimal digits.
        token: Token,
    },
    /// The clients that are remembered, those first that were seen last.
    Persistence(RememberedClients),
    /// So many clients were forgotten.
    Forgotten {
        /// Their number.
        clients: u64,
    },
    /// The last revisions, oldest first, without private keys.
    History(Vec<Arc<Record>>),
    /// What runs, and how much.
    Status(Box<Status>),
    /// The metrics, in the format that was asked for.
    Metrics {
        /// Lines, as an HTTP client would get them.
        text: String,
    },
    /// What answers here.
    Version {
        /// The program's version.
        version: String,
        /// The protocol's version.
        protocol: u32,
    },
    /// What is logged.
    LogLevel {
        /// In effect now.
        level: String,
        /// Before it was changed, if it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<String>,
    },
    /// What is handed over to a successor. After the line come the descriptors (SCM_RIGHTS), with empty lines: the locks,
    /// then the sockets of each listener.
    HandOver {
        /// The number of lock files.
        locks: usize,
        /// The listeners, in the order of their sockets.
        listeners: Vec<HandedOver>,
    },
    /// The successor is the only one that accepts from now on.
    Released {},
}

/// A listener that is handed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of `Listener`")]
pub struct HandedOver {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frontend: Option<Name>,
    pub bind: Bind,
    #[serde(default)]
    pub inherited: bool,
    /// The number of its sockets.
    pub sockets: usize,
}

impl From<&Listener> for HandedOver {
    fn from(listener: &Listener) -> Self {
        Self {
            frontend: listener.frontend.clone(),
            bind: listener.bind,
            inherited: listener.is_inherited,
            sockets: listener.sockets.len(),
        }
    }
}

/// Why a request is not fulfilled, and the field at fault where there is one.
pub type Refusal = Refused;

/// A server in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of `Server` and `ServerStatus`")]
pub struct ServerRow {
    pub frontend: Name,
    pub name: Name,
    /// Its address and port.
    pub addr: SocketAddr,
    pub weight: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// True for a standby.
    pub passive: bool,
    /// True while it gets no new connections and those that exist finish.
    pub drain: bool,
    /// True while it is out of service for maintenance.
    pub disabled: bool,
    pub health: ServerHealth,
    pub tls: TlsMode,
    /// Why its last TLS handshake failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    pub connections: u64,
    pub served: u64,
    pub failed: u64,
    pub bytes_to_server: u64,
    pub bytes_to_client: u64,
}

/// What becomes of TLS on the way to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsMode {
    /// Bytes go through as they are.
    Passthrough,
    /// The client's ends here.
    Termination,
    /// The client's ends here, and the server is talked to in TLS.
    ReEncryption,
    /// The server is talked to in TLS.
    Origination,
}

impl TlsMode {
    fn of(frontend: &Frontend, server: &Server) -> Self {
        let is_ended = frontend.protocol() == Protocol::Https || server.ssl_offload();
        match (is_ended, server.server_certificate().is_some()) {
            (false, false) => Self::Passthrough,
            (true, false) => Self::Termination,
            (true, true) => Self::ReEncryption,
            (false, true) => Self::Origination,
        }
    }

    /// In one word, for people.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Passthrough => "passthrough",
            Self::Termination => "termination",
            Self::ReEncryption => "re-encryption",
            Self::Origination => "origination",
        }
    }
}

/// A frontend in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of `Frontend` and `FrontendStatus`")]
pub struct FrontendRow {
    pub name: Name,
    /// Where it is configured to accept.
    pub bind: Bind,
    /// Where it accepts.
    pub addr: SocketAddr,
    #[serde(default)]
    pub protocol: Protocol,
    pub policy: PolicyKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    pub connect_timeout: Millis,
    pub idle_timeout: Millis,
    /// The number of its servers.
    pub servers: usize,
    pub connections: u64,
    pub paused: bool,
    pub service: Service,
    pub waiting: u64,
    pub accepted: u64,
    pub unserved: u64,
    pub redispatched: u64,
    pub bytes_to_server: u64,
    pub bytes_to_client: u64,
}

impl Reply {
    /// The answer to `Version`.
    pub(crate) fn version() -> Self {
        Self::Version { version: env!("CARGO_PKG_VERSION").to_owned(), protocol: PROTOCOL }
    }

    /// The servers of all frontends, or of the one that is named.
    pub(crate) fn servers(status: &Status, frontend: Option<&Name>) -> Self {
        let chosen = |candidate: &&FrontendStatus| frontend.is_none_or(|name| candidate.frontend.name() == name);
        let chosen: Vec<_> = status.frontends.iter().filter(chosen).collect();
        if let (Some(name), true) = (frontend, chosen.is_empty()) {
            return Refusal::field("frontend", format!("there is no frontend {name}")).into();
        }
        let rows = |status: &&FrontendStatus| {
            status.servers.iter().map(|server| ServerRow::new(&status.frontend, server)).collect::<Vec<_>>()
        };
        Self::Servers(chosen.iter().flat_map(rows).collect())
    }

    /// All frontends.
    pub(crate) fn frontends(status: &Status) -> Self {
        Self::Frontends(status.frontends.iter().map(FrontendRow::new).collect())
    }

    /// All certificates.
    pub(crate) fn certificates(status: Status) -> Self {
        Self::Certificates(status.certificates)
    }

    /// The last revisions. Private keys are left out: nothing that is answered has any.
    pub(crate) fn history(records: &[Arc<Record>]) -> Self {
        Self::History(records.iter().map(|record| Arc::new(record.without_secrets())).collect())
    }

    /// The reply as a line, with its end.
    pub(crate) fn to_line(&self) -> String {
        let written = ron_text::write(self).or_else(|error| {
            let reason = format!("the reply can't be written: {error}");
            ron_text::write(&Self::Refused { reason, field: None })
        });
        let mut line = written.unwrap_or_default();
        line.push('\n');
        line
    }

    /// Reads a reply from its line.
    ///
    /// # Errors
    /// The line is not a reply of this protocol version.
    pub(crate) fn from_line(line: &str) -> Result<Self, String> {
        ron_text::read(line).map_err(|fault| fault.reason)
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { reason: refusal.reason, field: refusal.field }
    }
}

impl From<Applied> for Reply {
    fn from(applied: Applied) -> Self {
        if applied.dry_run {
            return Self::Proposed { revision: applied.revision, changes: applied.summary, warnings: applied.warnings };
        }
        let message = match applied.summary.as_slice() {
            [] => "nothing to change".to_owned(),
            sentences => sentences.join("; "),
        };
        Self::Confirmed {
            revision: applied.revision,
            shards: applied.shards,
            durable: applied.durable,
            connections_on_replaced: applied.connections_on_replaced,
            message,
            warnings: applied.warnings,
        }
    }
}

impl ServerRow {
    /// The server as it is listed.
    pub(crate) fn new(frontend: &Frontend, status: &ServerStatus) -> Self {
        let server = &status.server;
        Self {
            frontend: frontend.name().clone(),
            name: server.name().clone(),
            addr: server.addr(),
            weight: server.weight(),
            max_connections: server.max_connections(),
            passive: server.is_passive(),
            drain: matches!(server.mode(), Mode::Drain(_)),
            disabled: server.mode() == Mode::Disabled,
            health: status.health.clone(),
            tls: TlsMode::of(frontend, server),
            trouble: status.tls.as_ref().and_then(|tls| tls.trouble.clone()),
            connections: status.connections,
            served: status.served,
            failed: status.failed,
            bytes_to_server: status.bytes_to_server,
            bytes_to_client: status.bytes_to_client,
        }
    }
}

impl FrontendRow {
    /// The frontend as it is listed.
    pub(crate) fn new(status: &FrontendStatus) -> Self {
        let frontend = &status.frontend;
        Self {
            name: frontend.name().clone(),
            bind: frontend.bind(),
            addr: status.addr,
            protocol: frontend.protocol(),
            policy: frontend.policy().clone(),
            max_connections: frontend.max_connections(),
            connect_timeout: frontend.connect_timeout(),
            idle_timeout: frontend.idle_timeout(),
            servers: frontend.servers().len(),
            connections: status.connections,
            paused: status.paused,
            service: status.service,
            waiting: status.waiting,
            accepted: status.traffic.accepted,
            unserved: status.traffic.unserved,
            redispatched: status.traffic.redispatched,
            bytes_to_server: status.traffic.bytes_to_server,
            bytes_to_client: status.traffic.bytes_to_client,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_core::{
        Cause, ChangeCounts, HttpCause, HttpResponses, HttpStatus, Quantiles, ServerFailures, ServerTlsStatus,
        TlsStatus,
    };

    fn applied() -> Applied {
        Applied {
            revision: 7,
            shards: 2,
            durable: true,
            connections_on_replaced: 0,
            summary: vec!["server app3 added to web".to_owned()],
            warnings: Vec::new(),
            dry_run: false,
        }
    }

    #[test]
    fn replies_are_lines_as_documented() {
        let two = vec!["a".to_owned(), "b \"c\"\n".to_owned()];
        let cases = [
            (
                Reply::from(applied()),
                r#"Confirmed(revision:7,shards:2,durable:true,connections_on_replaced:0,message:"server app3 added to web")"#,
            ),
            (
                Applied { summary: two.clone(), ..applied() }.into(),
                r#"Confirmed(revision:7,shards:2,durable:true,connections_on_replaced:0,message:"a; b \"c\"\n")"#,
            ),
            (
                Applied { summary: Vec::new(), ..applied() }.into(),
                r#"Confirmed(revision:7,shards:2,durable:true,connections_on_replaced:0,message:"nothing to change")"#,
            ),
            (
                Applied { summary: two, dry_run: true, ..applied() }.into(),
                r#"Proposed(revision:7,changes:["a","b \"c\"\n"])"#,
            ),
            (Refusal::field("port", "no").into(), r#"Refused(reason:"no",field:"port")"#),
            (Refusal::other("no").into(), r#"Refused(reason:"no")"#),
            (Reply::Servers(Vec::new()), "Servers([])"),
            (
                Reply::HandOver {
                    locks: 2,
                    listeners: vec![HandedOver {
                        frontend: "web".parse().ok(),
                        bind: Bind::Inherited(3),
                        inherited: true,
                        sockets: 1,
                    }],
                },
                r#"HandOver(locks:2,listeners:[(frontend:"web",bind:"fd:3",inherited:true,sockets:1)])"#,
            ),
            (Reply::Released {}, "Released()"),
        ];
        for (reply, line) in cases {
            assert_eq!(reply.to_line(), format!("{line}\n"));
            assert_eq!(Reply::from_line(line), Ok(reply));
        }
    }

    fn certificate() -> CertificateStatus {
        CertificateStatus {
            name: "site".parse().unwrap(),
            kind: "pair".to_owned(),
            certificates: 2,
            subject: "CN=www.example.com".to_owned(),
            names: vec!["www.example.com".to_owned(), "example.com".to_owned()],
            issuer: "CN=Example CA".to_owned(),
            key: "ECDSA P-256".to_owned(),
            not_after: 1_800_000_000,
            expires_in_days: 53,
            used_by: vec!["frontend web".to_owned(), "server web/app1".to_owned()],
        }
    }

    fn status() -> Status {
        let server = Server::new("app1", "127.0.0.1:9001".parse().unwrap()).unwrap();
        let bind = Bind::Addr("127.0.0.1:0".parse().unwrap());
        let frontend = Frontend::new("web", bind).unwrap().with_max_connections(5);
        let frontend = Arc::new(frontend.with_server(server));
        let servers = vec![ServerStatus {
            server: Arc::clone(&frontend.servers()[0]),
            health: ServerHealth::Down { why: "connection refused".to_owned() },
            connections: 1,
            served: 2,
            failed: 3,
            failures: ServerFailures { refused: 2, timed_out: 1, ..ServerFailures::default() },
            bytes_to_server: 4,
            bytes_to_client: 5,
            served_per_second: 0.5,
            bytes_to_server_per_second: 1.5,
            bytes_to_client_per_second: 2.5,
            health_changes: 6,
            connect: Quantiles { count: 2, p50: 100, p90: 200, p99: 200, max: 210 },
            first_byte: Quantiles::default(),
            tls: Some(ServerTlsStatus {
                handshakes: 7,
                resumed: 6,
                tls12: 0,
                failed: [(Cause::UnknownCa, 2)].into(),
                trouble: Some("it shows a certificate that nobody knows".to_owned()),
            }),
        }];
        let frontends = vec![FrontendStatus {
            frontend,
            addr: "127.0.0.1:7000".parse().unwrap(),
            connections: 1,
            paused: false,
            pauses: 1,
            durations: Quantiles::default(),
            request_durations: Quantiles::default(),
            waiting: 0,
            service: Service::Unavailable,
            traffic: lb_core::Traffic { accepted: 6, accepted_per_second: 1.5, ..Default::default() },
            tls: Some(TlsStatus { handshakes: 9, failed: [(Cause::Timeout, 1)].into(), ..TlsStatus::default() }),
            http: Some(HttpStatus {
                requests: 8,
                responses: HttpResponses { successful: 5, ..HttpResponses::default() },
                refused: [(HttpCause::LineTooLong, 3)].into(),
                ..HttpStatus::default()
            }),
            persistence: None,
            servers,
        }];
        Status {
            revision: 3,
            uptime_seconds: 4,
            connections: 1,
            max_connections: 100,
            connections_on_replaced: 0,
            changes: ChangeCounts { applied: 3, refused: 1, last_applied: 1_700_000_000 },
            access_dropped: 0,
            traffic: lb_core::Traffic::default(),
            shards: Vec::new(),
            certificates: vec![certificate()],
            frontends,
        }
    }

    #[test]
    fn the_status_and_its_lists_are_read_back() {
        let status = status();
        let web = "web".parse().unwrap();
        for reply in [
            Reply::Status(Box::new(status.clone())),
            Reply::servers(&status, None),
            Reply::servers(&status, Some(&web)),
            Reply::frontends(&status),
        ] {
            let line = reply.to_line();
            assert_eq!(line.matches('\n').count(), 1);
            assert_eq!(Reply::from_line(line.trim_end()).as_ref(), Ok(&reply), "{line}");
        }
        assert!(Reply::Status(Box::new(status.clone())).to_line().starts_with("Status(revision:3,"));
        let other = "other".parse().unwrap();
        assert_eq!(
            Reply::servers(&status, Some(&other)).to_line(),
            "Refused(reason:\"there is no frontend other\",field:\"frontend\")\n"
        );
    }

    #[test]
    fn the_history_is_read_back() {
        let remove = lb_core::Change::RemoveServer { frontend: "web".parse().unwrap(), name: "a".parse().unwrap() };
        let record = Record {
            revision: 3,
            at: 1_800_000_000,
            summary: vec!["server a removed from web".to_owned()],
            changes: vec![remove.clone()],
            inverse: vec![remove],
        };
        let reply = Reply::History(vec![Arc::new(record)]);
        assert_eq!(Reply::from_line(&reply.to_line()), Ok(reply));
    }
}
