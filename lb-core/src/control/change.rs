//! What can be asked of a running balancer, and what it answers.

use serde::{Deserialize, Serialize};

use crate::config::{Certificate, Frontend, FrontendUpdate, Invalid, Millis, Name, Server, ServerUpdate};

/// One change of the frontends, servers and certificates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Change {
    /// Puts a new server behind a frontend.
    AddServer {
        /// The frontend's name.
        frontend: Name,
        /// The server.
        server: Server,
    },
    /// Changes some of a server's settings; its connection count and its place in the list stay.
    UpdateServer {
        /// The frontend's name.
        frontend: Name,
        /// The server's name.
        name: Name,
        /// What to change.
        update: ServerUpdate,
    },
    /// Takes a server away. Its connections go on until they end by themselves.
    RemoveServer {
        /// The frontend's name.
        frontend: Name,
        /// The server's name.
        name: Name,
    },
    /// Gives a server no new connections; those that exist finish.
    DrainServer {
        /// The frontend's name.
        frontend: Name,
        /// The server's name.
        name: Name,
        /// How long they may take; then they are closed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within: Option<Millis>,
    },
    /// Takes a server out of service for maintenance: no new connections and no checks. Those that exist go on.
    DisableServer {
        /// The frontend's name.
        frontend: Name,
        /// The server's name.
        name: Name,
    },
    /// Takes a draining or disabled server into balancing again.
    EnableServer {
        /// The frontend's name.
        frontend: Name,
        /// The server's name.
        name: Name,
    },
    /// Starts a new frontend.
    AddFrontend {
        /// The frontend with its servers.
        frontend: Frontend,
    },
    /// Changes some of a frontend's settings.
    UpdateFrontend {
        /// The frontend's name.
        name: Name,
        /// What to change.
        update: FrontendUpdate,
    },
    /// Stops a frontend. Its connections go on until they end by themselves.
    RemoveFrontend {
        /// The frontend's name.
        name: Name,
    },
    /// Makes a new certificate known.
    AddCertificate {
        /// The certificate.
        certificate: Certificate,
    },
    /// Puts another certificate in the place of the one of the same name and kind, for every handshake that begins after.
    UpdateCertificate {
        /// The certificate.
        certificate: Certificate,
    },
    /// Forgets a certificate, which nobody may use any more.
    RemoveCertificate {
        /// The certificate's name.
        name: Name,
    },
}

impl Change {
    /// The same without private keys, to be shown.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        match self {
            Self::AddCertificate { certificate } => Self::AddCertificate { certificate: certificate.without_secrets() },
            Self::UpdateCertificate { certificate } => {
                Self::UpdateCertificate { certificate: certificate.without_secrets() }
            }
            other => other.clone(),
        }
    }
}

/// Changes that take effect together or not at all, as one revision.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transaction {
    /// The changes, in order.
    pub changes: Vec<Change>,
    /// How it is to be applied.
    pub options: Options,
}

/// How a transaction is to be applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Refuse if the running revision is another one: someone else changed something since.
    pub if_revision: Option<u64>,
    /// Say what would change and apply nothing.
    pub dry_run: bool,
    /// Connect to each server that is added or re-addressed first, and refuse if that fails.
    pub probe: bool,
}

impl From<Change> for Transaction {
    fn from(change: Change) -> Self {
        vec![change].into()
    }
}

impl From<Vec<Change>> for Transaction {
    fn from(changes: Vec<Change>) -> Self {
        Self { changes, options: Options::default() }
    }
}

impl Transaction {
    /// The same transaction with other options.
    #[must_use]
    pub fn with(mut self, options: Options) -> Self {
        self.options = options;
        self
    }
}

/// What is true now that a transaction was applied (or, for a dry run, would be).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The revision that is in effect; of a dry run and of a transaction that changes nothing, the old one.
    pub revision: u64,
    /// The shards that use it: all of them.
    pub shards: usize,
    /// Whether it would survive a crash of the machine now: it was written and synced.
    pub durable: bool,
    /// Connections that still live on an address that this transaction replaced or removed.
    pub connections_on_replaced: u64,
    /// What changed, a sentence per change. Of a dry run: what would.
    pub summary: Vec<String>,
    /// What is allowed but may surprise, a sentence each.
    pub warnings: Vec<String>,
    /// Whether this was a dry run.
    pub dry_run: bool,
}

/// Why a transaction was not applied. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    /// One sentence.
    pub reason: String,
    /// The field at fault, where there is one.
    pub field: Option<String>,
    /// Whether what was asked is not to blame: the balancer stops, or is handed over.
    pub is_unavailable: bool,
}

impl Refused {
    /// A refusal for `field`.
    pub fn field(field: &str, reason: impl Into<String>) -> Self {
        Self { field: Some(field.to_owned()), ..Self::other(reason) }
    }

    /// A refusal that no single field is to blame for.
    pub fn other(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), field: None, is_unavailable: false }
    }

    /// A refusal of whatever is asked, because the balancer stops, or is handed over.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self { is_unavailable: true, ..Self::other(reason) }
    }
}

impl From<Invalid> for Refused {
    fn from(invalid: Invalid) -> Self {
        Self::field(&invalid.field, invalid.reason)
    }
}

/// One revision in the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The revision that came into effect.
    pub revision: u64,
    /// When, in seconds since 1970-01-01 UTC.
    pub at: u64,
    /// What changed, a sentence per change.
    pub summary: Vec<String>,
    /// The changes.
    pub changes: Vec<Change>,
    /// The changes that take it back, in the order to apply them.
    pub inverse: Vec<Change>,
}

impl Record {
    /// The same without private keys, to be shown.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        let shown = |changes: &[Change]| changes.iter().map(Change::without_secrets).collect();
        Self { summary: self.summary.clone(), changes: shown(&self.changes), inverse: shown(&self.inverse), ..*self }
    }
}
