//! The control plane: one thread that owns the desired state and is the only one to change the table.

mod availability;
mod change;
pub(crate) mod check;
mod closing;
mod controller;
mod ejection;
pub(crate) mod health;
mod history;
mod listeners;
mod metrics;
mod persistence;
mod probe;
mod remembered;
mod running;
mod standby;
mod state;
mod status;
mod store;
mod thread;
mod tls;

pub use change::{Applied, Change, Options, Record, Refused, Transaction};
pub(crate) use controller::limits::connections_possible;
pub(crate) use controller::{certificates_of, check_config};
pub use listeners::Listener;
pub(crate) use listeners::explain_bind;
pub use metrics::{FrontendTimings, Metrics, ServerTimings};
pub use remembered::{PersistenceStatus, RememberedClient, RememberedClients};
pub use status::{
    CertificateStatus, ChangeCounts, FrontendStatus, HttpResponses, HttpStatus, ServerFailures, ServerHealth,
    ServerStatus, ServerTlsStatus, Service, ShardStatus, Status, TlsStatus, Traffic,
};
pub use store::{NoStore, Saved, Snapshot, Store};
pub(crate) use thread::ControlThread;

use crate::balancer::Drain;
use crate::config::{Config, Name, PersistenceKey};
use crate::sys::doorbell::Doorbell;
use crate::table::{Suspicion, Trouble};
use check::Checked;
use std::sync::Arc;

/// Milliseconds since the control plane started.
type Time = u64;

type Reply<T> = async_channel::Sender<Result<T, Refused>>;

/// What the control thread is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    Change {
        wanted: Wanted,
        options: Options,
        reply: Reply<Applied>,
    },
    History {
        reply: Reply<Vec<Arc<Record>>>,
    },
    Status {
        reply: Reply<Status>,
    },
    Metrics {
        reply: Reply<Metrics>,
    },
    PersistenceKey {
        reply: Reply<PersistenceKey>,
    },
    Remembered {
        frontend: Option<Name>,
        limit: usize,
        reply: Reply<RememberedClients>,
    },
    Forget {
        frontend: Option<Name>,
        server: Option<Name>,
        reply: Reply<u64>,
    },
    /// Verdicts of the checker.
    Checked(Vec<Checked>),
    /// A shard's connections to a server fail.
    Suspected(Suspicion),
    /// A server fails its TLS handshakes, and this is why.
    Troubled(Trouble),
    /// The checker can't go on.
    CheckerDied {
        failure: String,
    },
    Stop {
        drain: Drain,
    },
    HandOver {
        reply: Reply<Vec<Listener>>,
    },
    Release {
        drain: Drain,
        reply: Reply<()>,
    },
    GoOn,
    ShardEnded {
        failure: Option<String>,
    },
}

/// The way to the control thread.
#[derive(Debug, Clone)]
pub(crate) struct CommandSender {
    channel: async_channel::Sender<Command>,
    doorbell: Arc<Doorbell>,
}

impl CommandSender {
    /// Sends a command. If the control thread has ended the command is dropped, and its reply with it.
    pub(crate) fn send(&self, command: Command) {
        let _ = self.channel.try_send(command);
        self.doorbell.ring();
    }
}

/// The control thread's end of it.
#[derive(Debug)]
pub(crate) struct Commands {
    channel: async_channel::Receiver<Command>,
    doorbell: Arc<Doorbell>,
}

impl Commands {
    /// Both ends.
    pub(crate) fn channel() -> Result<(CommandSender, Self), StartError> {
        let doorbell = Doorbell::new();
        let doorbell = doorbell.map_err(|error| StartError::Kernel(format!("can't make an eventfd: {error}")))?;
        let doorbell = Arc::new(doorbell);
        let (sender, receiver) = async_channel::unbounded();
        let sender = CommandSender { channel: sender, doorbell: Arc::clone(&doorbell) };
        Ok((sender, Self { channel: receiver, doorbell }))
    }
}

/// What changes are asked for. Which ones these are is found out when they are applied.
#[derive(Debug)]
pub(crate) enum Wanted {
    Changes(Vec<Change>),
    /// Those that lead to the frontends of this configuration.
    Config(Config),
    /// Those that take this revision back, or the last one.
    Undo(Option<u64>),
}

/// Where a balancer goes on from: what a store kept.
#[derive(Debug, Clone, Default)]
pub struct Resume {
    /// The revision to start with: that of what was kept, the next one if the configuration was edited since, 0 at first.
    pub revision: u64,
    /// The last revisions, oldest first.
    pub history: Vec<Record>,
}

/// Why a balancer could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The kernel lacks or forbids what a shard needs; says what to change.
    #[error("{0}")]
    Kernel(String),
    /// The configuration can't be put into effect, for example because an address is taken.
    #[error("{0}")]
    Refused(#[from] Refused),
}

/// A thread of the balancer died, which only a bug or a lack of memory can bring about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Died(pub(crate) String);
