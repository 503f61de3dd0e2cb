//! Where changes are kept, so that they survive a restart.

use std::collections::VecDeque;
use std::sync::Arc;

use super::change::Record;
use crate::config::{Certificate, Frontend, PersistenceKey};

/// What a store has to keep: everything a later start needs to go on.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot<'a> {
    /// The revision.
    pub revision: u64,
    /// The key that the values of cookies are made with, which nobody else may read either. It stays the same.
    pub persistence_key: Option<&'a PersistenceKey>,
    /// The certificates, with their private keys: nobody else may read where they are kept. Shared as the frontends are.
    pub certificates: &'a [Arc<Certificate>],
    /// The frontends with their servers. What did not change since the last snapshot is behind the same `Arc`.
    pub frontends: &'a [Arc<Frontend>],
    /// The last revisions, oldest first.
    pub history: &'a VecDeque<Arc<Record>>,
}

/// What a store made of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// It is on disk and survives a crash of the machine.
    Durable,
    /// It is kept, but may be lost in a crash.
    NotDurable,
}

/// Keeps the desired state. Called on the control thread, once per revision, before the revision is published.
pub trait Store: Send {
    /// Keeps `snapshot` in place of the last one.
    ///
    /// # Errors
    /// One sentence that names the file or resource. The transaction is then refused, so the last snapshot must still
    /// be what a later start would find.
    fn save(&mut self, snapshot: Snapshot<'_>) -> Result<Saved, String>;
}

/// A store that keeps nothing: what was changed is gone with the process.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoStore;

impl Store for NoStore {
    fn save(&mut self, _: Snapshot<'_>) -> Result<Saved, String> {
        Ok(Saved::NotDurable)
    }
}
