//! A request: a line of RON into what is asked for.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use lb_core::config::{Bind, Config, Frontend, Millis, Name, PolicyKind, Port, Server, Weight};
use lb_core::{Change, FrontendUpdate, Options, ServerUpdate, Transaction};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::reply::Refusal;
use crate::ron_text;

/// What can be asked of a running balancer. `if_revision`, `dry_run` and `probe` are those of [`Options`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields are those of `Change`")]
pub enum Request {
    /// Puts a server behind a frontend.
    AddServer {
        frontend: Name,
        server: Server,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// Changes some of a server's settings.
    UpdateServer {
        frontend: Name,
        name: Name,
        rename: Option<Name>,
        ip: Option<IpAddr>,
        port: Option<Port>,
        weight: Option<Weight>,
        ssl_offload: Option<bool>,
        passive: Option<bool>,
        server_certificate: Option<Name>,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// Takes a server away; its connections go on.
    RemoveServer {
        frontend: Name,
        name: Name,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// Gives a server no new connections.
    DrainServer {
        frontend: Name,
        name: Name,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// Takes a draining server into balancing again.
    EnableServer {
        frontend: Name,
        name: Name,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// Lists the servers of one frontend, or of all.
    ListServers { frontend: Option<Name> },
    /// Starts a frontend.
    AddFrontend {
        frontend: Frontend,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// Changes some of a frontend's settings.
    UpdateFrontend {
        name: Name,
        rename: Option<Name>,
        bind: Option<Bind>,
        policy: Option<PolicyKind>,
        /// 0 takes the limit away.
        max_connections: Option<u32>,
        connect_timeout: Option<Millis>,
        idle_timeout: Option<Millis>,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// Stops a frontend; its connections go on.
    RemoveFrontend {
        name: Name,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// Lists the frontends.
    ListFrontends {},
    /// Several changes, all or none, as one revision.
    Transaction(Changes),
    /// Makes the running frontends those of a configuration, as one revision.
    Apply {
        config: Box<Config>,
        /// The file that the configuration is from. If it is the one the balancer was started with, the balancer
        /// remembers that it has been applied.
        file: Option<AppliedFile>,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// Takes a revision back (the last one, unless named), as a new revision.
    Undo {
        revision: Option<u64>,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// The last revisions.
    History {},
    /// What runs, and how much.
    Status {},
    /// The program's and the protocol's version.
    Version {},
}

/// The content of a `Transaction`: `[…]`, or `(changes: […], if_revision: 3, dry_run: true, probe: true)`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    changes: Vec<Request>,
    options: Options,
}

/// Which file a configuration was read from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppliedFile {
    /// Its full path.
    pub(crate) path: PathBuf,
    /// The hash of its text, in hexadecimal digits.
    pub(crate) hash: String,
}

/// Reads a request from a line, without the line's end.
///
/// # Errors
/// What is wrong with it, as it is to be answered.
pub fn parse_request(line: &[u8]) -> Result<Request, Refusal> {
    let text = std::str::from_utf8(line).map_err(|error| {
        Refusal::other(format!("the request is not UTF-8 text: byte {} is wrong", error.valid_up_to() + 1))
    })?;
    let text = text.trim();
    // `Status` is short for `Status()`.
    let is_word = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let read = if is_word { ron_text::read(&format!("{text}()")) } else { ron_text::read(text) };
    read.map_err(|fault| match fault.field {
        Some(field) => Refusal { reason: fault.reason, field: Some(field) },
        None if is_word => Refusal::other(fault.reason),
        None => Refusal::other(format!("{} (column {})", fault.reason, fault.column)),
    })
}

impl Request {
    /// The transaction that a changing request stands for; `None` for the other requests.
    ///
    /// # Errors
    /// A `Transaction` holds something other than plain changes.
    pub(crate) fn into_transaction(self) -> Result<Option<Transaction>, Refusal> {
        match self {
            Self::Transaction(Changes { changes, options }) => {
                let changes = changes.into_iter().enumerate().map(|(index, request)| request.into_plain_change(index));
                let changes = changes.collect::<Result<Vec<_>, _>>()?;
                Ok(Some(Transaction::from(changes).with(options)))
            }
            other => Ok(other.into_change().map(|(change, options)| Transaction::from(change).with(options))),
        }
    }

    /// The change of one element of a transaction.
    fn into_plain_change(self, index: usize) -> Result<Change, Refusal> {
        let place = format!("change {} of the transaction", index + 1);
        match self.into_change() {
            None => Err(Refusal::other(format!("{place} is not a change of a server or frontend"))),
            Some((change, options)) if options == Options::default() => Ok(change),
            Some((_, options)) => {
                let field = match options {
                    Options { if_revision: Some(_), .. } => "if_revision",
                    Options { dry_run: true, .. } => "dry_run",
                    _ => "probe",
                };
                let form = format!("write Transaction((changes: […], {field}: …))");
                Err(Refusal::field(field, format!("{place} has its own {field}, which holds for all or none: {form}")))
            }
        }
    }

    /// A single change with its options; `None` for the other requests.
    fn into_change(self) -> Option<(Change, Options)> {
        Some(match self {
            Self::AddServer { frontend, server, if_revision, dry_run, probe } => {
                (Change::AddServer { frontend, server }, Options { if_revision, dry_run, probe })
            }
            Self::UpdateServer {
                frontend,
                name,
                rename,
                ip,
                port,
                weight,
                ssl_offload,
                passive,
                server_certificate,
                if_revision,
                dry_run,
                probe,
            } => {
                let update = ServerUpdate { rename, ip, port, weight, ssl_offload, passive, server_certificate };
                (Change::UpdateServer { frontend, name, update }, Options { if_revision, dry_run, probe })
            }
            Self::RemoveServer { frontend, name, if_revision, dry_run, probe } => {
                (Change::RemoveServer { frontend, name }, Options { if_revision, dry_run, probe })
            }
            Self::DrainServer { frontend, name, if_revision, dry_run, probe } => {
                (Change::DrainServer { frontend, name }, Options { if_revision, dry_run, probe })
            }
            Self::EnableServer { frontend, name, if_revision, dry_run, probe } => {
                (Change::EnableServer { frontend, name }, Options { if_revision, dry_run, probe })
            }
            Self::AddFrontend { frontend, if_revision, dry_run, probe } => {
                (Change::AddFrontend { frontend }, Options { if_revision, dry_run, probe })
            }
            Self::UpdateFrontend {
                name,
                rename,
                bind,
                policy,
                max_connections,
                connect_timeout,
                idle_timeout,
                if_revision,
                dry_run,
                probe,
            } => {
                let update = FrontendUpdate { rename, bind, policy, max_connections, connect_timeout, idle_timeout };
                (Change::UpdateFrontend { name, update }, Options { if_revision, dry_run, probe })
            }
            Self::RemoveFrontend { name, if_revision, dry_run, probe } => {
                (Change::RemoveFrontend { name }, Options { if_revision, dry_run, probe })
            }
            Self::ListServers { .. }
            | Self::ListFrontends {}
            | Self::Transaction(_)
            | Self::Apply { .. }
            | Self::Undo { .. }
            | Self::History {}
            | Self::Status {}
            | Self::Version {} => return None,
        })
    }
}

impl<'de> Deserialize<'de> for Changes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ChangesVisitor)
    }
}

struct ChangesVisitor;

impl<'de> Visitor<'de> for ChangesVisitor {
    type Value = Changes;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of changes, or (changes: […], …),")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Changes, A::Error> {
        let mut changes = Vec::new();
        while let Some(change) = list.next_element()? {
            changes.push(change);
        }
        Ok(Changes { changes, options: Options::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Changes, A::Error> {
        const FIELDS: &[&str] = &["changes", "if_revision", "dry_run", "probe"];
        let mut found = Changes::default();
        let mut has_changes = false;
        while let Some(field) = map.next_key::<String>()? {
            match field.as_str() {
                "changes" => {
                    found.changes = map.next_value()?;
                    has_changes = true;
                }
                "if_revision" => found.options.if_revision = map.next_value()?,
                "dry_run" => found.options.dry_run = map.next_value()?,
                "probe" => found.options.probe = map.next_value()?,
                _ => return Err(A::Error::unknown_field(&field, FIELDS)),
            }
        }
        if has_changes { Ok(found) } else { Err(A::Error::missing_field("changes")) }
    }
}
