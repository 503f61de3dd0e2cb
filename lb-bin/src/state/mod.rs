//! What was changed at run time, kept beside the configuration in `<config>.state` so that it survives a restart.
//!
//! The state is used as long as the configuration has the text that it goes with. The files of certificates are no part of
//! that text: a renewed one must not put all other changes aside. What they held when they were last read is noted instead,
//! and a certificate that its files hold otherwise by now is taken from them, whatever the state has.
//!
//! `format` is the file's text, `found` what a start takes from it, `disk` the way it gets onto the disk, `aside` what
//! happens to a file that is not used any more. Here is when it is written, and which text of the configuration it goes
//! with.

mod aside;
mod disk;
mod format;
mod found;

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lb_core::config::{Certificate, CertificateContent, Config, Frontend, Name, Server};
use lb_core::{Resume, Saved, Snapshot, Store};

use self::disk::Durability;
use self::format::Image;
pub use self::format::{Base, Kept, parse_state};
pub(crate) use self::found::Found;
use crate::lock::{self, Lock};
use crate::paths::with_suffix;

/// The state file of a configuration. Clones are handles to the same file.
#[derive(Debug, Clone)]
pub struct StateFile(Arc<Mutex<Inner>>);

/// What a balancer starts with, according to its state file.
#[derive(Debug)]
pub struct Opened {
    /// Where changes are kept from now on.
    pub state: StateFile,
    /// The configuration to start with.
    pub config: Config,
    /// The revision and history to go on from.
    pub resume: Resume,
}

/// Stands for an [`StateFile::expect`] until it is settled.
#[derive(Debug)]
pub struct Ticket(u64);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    image: Image,
    /// What the state goes with: as long as the configuration has this text, it is used.
    base: Base,
    /// The revision since which it does.
    base_since: u64,
    /// Texts that are being applied.
    expected: Vec<Expected>,
    next_ticket: u64,
    /// Whether the image is what is on disk.
    on_disk: bool,
    /// Why nothing may be written: a file that had to be set aside is still in place.
    blocked: Option<String>,
    /// What the file holds that goes with another text of this configuration. It stays in place until the first save: until
    /// then this balancer may fail to start, and the one that wrote it run on.
    outdated: Option<(PathBuf, Kept)>,
    /// Held so that no other process writes the file.
    lock: Option<Lock>,
}

#[derive(Debug)]
struct Expected {
    ticket: u64,
    base: Base,
    certificates: Vec<Certificate>,
    frontends: Vec<Frontend>,
}

impl Base {
    /// Of a configuration whose text has this hash, with its certificates as they were read.
    fn new(text: u64, config: &Config) -> Self {
        let read =
            config.certificates.iter().map(|certificate| (certificate.name().clone(), content_hash(certificate)));
        Self { text, read: read.collect() }
    }
}

impl StateFile {
    /// Opens the state of the configuration at `path`, whose text has the hash `text`, and which was read as `config`. Its
    /// lock may be among those that a predecessor has `given`.
    ///
    /// A state that goes with another text is set aside by the first save, one that is damaged at once; both are told of in
    /// the log.
    ///
    /// # Errors
    /// Another process runs with this configuration.
    pub fn open(path: &Path, text: u64, config: &Config, given: &[File]) -> Result<Opened, String> {
        let (file, base) = (path, Base::new(text, config));
        let path = with_suffix(file, ".state");
        let lock = lock(&path, given)?;
        let (mut blocked, mut outdated, mut image, mut on_disk) = (None, None, Image::default(), false);
        let found = Found::look(file, text, config);
        let config = found.merged(config);
        let mut resume = Resume::default();
        match found {
            Found::Nothing => {}
            Found::Current { kept, renewed } => {
                for name in &renewed {
                    let changed = "has changed in its files since they were read last: it is taken from them";
                    tracing::info!("certificate {name} {changed}");
                }
                on_disk = image.restore(&kept).is_ok() && renewed.is_empty();
                let revision = kept.revision + u64::from(!renewed.is_empty());
                resume = Resume { revision, history: kept.history };
            }
            Found::Outdated(kept) => {
                resume.revision = kept.revision;
                outdated = Some((file.to_owned(), kept));
            }
            Found::Damaged(reason) => blocked = aside::damaged(&path, &reason).err(),
        }
        let (base_since, expected, next_ticket) = (0, Vec::new(), 0);
        let inner = Inner { path, image, base, base_since, expected, next_ticket, on_disk, blocked, outdated, lock };
        Ok(Opened { state: Self(Arc::new(Mutex::new(inner))), config, resume })
    }

    /// Says that a configuration text with this hash is about to be applied. The save that brings about its certificates and
    /// frontends also records the hash, so that at no moment the one is on disk without the other.
    pub fn expect(&self, hash: u64, config: &Config) -> Ticket {
        let mut inner = self.inner();
        let ticket = inner.next_ticket;
        inner.next_ticket += 1;
        let (certificates, frontends) = (config.certificates.clone(), config.frontends.clone());
        inner.expected.push(Expected { ticket, base: Base::new(hash, config), certificates, frontends });
        Ticket(ticket)
    }

    /// Says what came of it: the revision from which the text is in effect, or `None` if it was refused.
    pub fn settle(&self, ticket: Ticket, revision: Option<u64>) {
        let mut inner = self.inner();
        let Some(index) = inner.expected.iter().position(|expected| expected.ticket == ticket.0) else { return };
        let base = inner.expected.swap_remove(index).base;
        if let Some(revision) = revision {
            inner.rebase(base, revision);
        }
    }

    /// Whether a text that is applied may still have to be noted.
    pub(crate) fn is_settling(&self) -> bool {
        !self.inner().expected.is_empty()
    }

    /// What no other process may hold; `None` where nothing can be written.
    pub(crate) fn lock(&self) -> Option<Lock> {
        self.inner().lock.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every method leaves the value whole at each point where it might panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for StateFile {
    fn save(&mut self, snapshot: Snapshot<'_>) -> Result<Saved, String> {
        self.inner().save(snapshot)
    }
}

impl Inner {
    fn save(&mut self, snapshot: Snapshot<'_>) -> Result<Saved, String> {
        // Without a change it held nothing that is not in the text that it went with, but for the key.
        if let Some((config, kept)) = self.outdated.take().filter(|(_, kept)| !kept.history.is_empty()) {
            self.blocked = aside::replaced(&self.path, &config, &kept).err();
        }
        if let Some(reason) = &self.blocked {
            return Err(reason.clone());
        }
        let arrived = self.expected.iter().rfind(|expected| expected.is(snapshot));
        let base = arrived.map_or_else(|| self.base.clone(), |expected| expected.base.clone());
        self.on_disk = false;
        let fault = |error| format!("{}: {error}", self.path.display());
        self.image.update(snapshot).map_err(fault)?;
        let durability = disk::replace(&self.path, &self.image.text(&base).map_err(fault)?)?;
        self.on_disk = true;
        if base != self.base {
            (self.base, self.base_since) = (base, snapshot.revision);
        }
        Ok(match durability {
            Durability::Synced => Saved::Durable,
            Durability::Unknown => Saved::NotDurable,
        })
    }

    /// Makes the state go with another text, if no later text was applied in between. Needed when applying a text
    /// changed nothing, so that nothing was saved.
    fn rebase(&mut self, base: Base, revision: u64) {
        if base == self.base || revision < self.base_since {
            return;
        }
        (self.base, self.base_since) = (base, revision);
        // If the last save failed, the next one records it.
        if !self.on_disk {
            return;
        }
        let text = self.image.text(&self.base).map_err(|error| format!("{}: {error}", self.path.display()));
        if let Err(reason) = text.and_then(|text| disk::replace(&self.path, &text)) {
            let until = "until the next change is saved, a restart will take the configuration for edited";
            tracing::warn!("{reason}: {until}");
        }
    }
}

/// Two processes that write one state would each lose what the other confirmed.
fn lock(state: &Path, given: &[File]) -> Result<Option<Lock>, String> {
    let path = with_suffix(state, ".lock");
    // In a folder where nothing can be written there is no lock, and saving will say so.
    let Ok(file) = lock::open(&path) else { return Ok(None) };
    match Lock::take(file, given) {
        Ok(lock) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Err(format!(
            "{}: another lb runs with this configuration; stop it, or copy the configuration",
            path.display()
        )),
        Err(TryLockError::Error(error)) => Err(format!("{}: {error}", path.display())),
    }
}

fn content_hash(certificate: &Certificate) -> u64 {
    // Lengths keep apart what is only divided otherwise.
    let bytes = |parts: &[&str]| parts.iter().map(|part| format!("{}:{part}", part.len())).collect::<String>();
    let text = match certificate.content() {
        CertificateContent::Pair { chain, key } => bytes(&[chain.as_str(), key.expose()]),
        CertificateContent::Bundle { bundle } => bytes(&[bundle.as_str()]),
    };
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}

impl Expected {
    /// Whether a snapshot is what was expected.
    fn is(&self, snapshot: Snapshot<'_>) -> bool {
        same_certificates(snapshot.certificates, &self.certificates)
            && same_frontends(snapshot.frontends, &self.frontends)
    }
}

/// Whether these are the same certificates, in whatever order.
fn same_certificates(running: &[Arc<Certificate>], wanted: &[Certificate]) -> bool {
    let running: HashMap<&Name, &Certificate> =
        running.iter().map(|certificate| (certificate.name(), &**certificate)).collect();
    running.len() == wanted.len() && wanted.iter().all(|wanted| running.get(wanted.name()) == Some(&wanted))
}

/// Whether these are the same frontends and servers, in whatever order.
fn same_frontends(running: &[Arc<Frontend>], wanted: &[Frontend]) -> bool {
    let running: HashMap<&Name, &Frontend> = running.iter().map(|frontend| (frontend.name(), &**frontend)).collect();
    let same = |wanted: &Frontend| running.get(wanted.name()).is_some_and(|running| same_frontend(running, wanted));
    running.len() == wanted.len() && wanted.iter().all(same)
}

fn same_frontend(running: &Frontend, wanted: &Frontend) -> bool {
    let servers: HashMap<&Name, &Server> = running.servers().iter().map(|server| (server.name(), &**server)).collect();
    let is_there =
        |wanted: &Arc<Server>| servers.get(wanted.name()).is_some_and(|running| running.is_as_configured(wanted));
    running.without_servers() == wanted.without_servers()
        && servers.len() == wanted.servers().len()
        && wanted.servers().iter().all(is_there)
}

#[cfg(test)]
mod tests;
