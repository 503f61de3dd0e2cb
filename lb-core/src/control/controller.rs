//! The only writer of the table: checks a transaction, opens what it needs, stores it, publishes it, and confirms it
//! when every shard uses it.

mod health;
pub(super) mod limits;
mod succession;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::availability::Availability;
use super::change::{Applied, Change, Options, Record, Refused};
use super::check::Checker;
use super::closing::Closings;
use super::history::History;
use super::listeners::Opener;
use super::metrics::{self, Metrics};
use super::probe::{self, Target};
use super::running::{Factory, Running, RunningFrontend};
use super::state::{ServerId, State, difference};
use super::status::{self, CertificateStatus, ChangeCounts, Rates, Status};
use super::store::{Saved, Snapshot, Store};
use super::{Command, CommandSender, StartError, Time, Wanted};
use crate::access::AccessRecords;
use crate::balance::Policies;
use crate::balancer::Builder;
use crate::config::{Config, PersistenceKey};
use crate::sys::doorbell::Doorbell;
use crate::table::{self, Endpoint, Shared, Stop};
use crate::tls;

/// The desired state and all that it takes to put it into effect.
pub(super) struct Controller {
    state: State,
    revision: u64,
    /// Of the table that was published last.
    generation: u64,
    history: History,
    running: Running,
    availability: Availability,
    closings: Closings,
    checker: Option<Checker>,
    factory: Factory,
    store: Box<dyn Store>,
    /// Whether the present revision is on disk.
    is_durable: bool,
    shared: Arc<Shared>,
    /// Replaced addresses that connections still live on.
    retired: Vec<Arc<Endpoint>>,
    /// What shards may still have to let go of, kept so that it is dropped here and not on a shard.
    replaced: Vec<Arc<table::Frontend>>,
    rates: Rates,
    changes: ChangeCounts,
    /// Why servers failed their last TLS handshakes, as far as they did.
    troubles: HashMap<ServerId, String>,
    started: Instant,
    cores: Vec<usize>,
    /// True while a successor is getting ready: nothing may change.
    is_handing_over: bool,
    /// Whether what this start made of an earlier state is still to be kept.
    has_unsaved_start: bool,
    /// Whether the key that cookies are made with is a new one that is still to be kept.
    has_unsaved_key: bool,
}

/// A transaction that is checked.
struct Draft {
    state: State,
    summary: Vec<String>,
    warnings: Vec<String>,
    /// In the order to apply them.
    inverse: Vec<Change>,
}

impl Controller {
    /// Opens the listeners and builds the first table, for one shard per element of `cores`.
    pub(super) fn new(builder: Builder, cores: &[usize], sender: &CommandSender) -> Result<Self, StartError> {
        let shards = cores.len();
        // First, as it raises the limit of descriptors: a listener is one per shard.
        let process = limits::process_limit(&builder.config, shards);
        let is_successor = !builder.taken_over.is_empty();
        let opener = Opener::new(shards, builder.inherited, builder.taken_over)?;
        let mut factory = Factory { opener, policies: builder.policies, shards };
        let (key, is_new_key) = match builder.config.persistence_key.clone() {
            Some(key) => (key, false),
            None => (tls::random_key().map_err(Refused::other)?, true),
        };
        let mut state = State::new(factory.policies.names().into(), Some(key));
        state.fill(&builder.config)?;
        state.warnings_since(&State::default(), unix_time()).iter().for_each(|warning| tracing::warn!("{warning}"));
        let mut availability = Availability::default();
        availability.follow(&state, &State::default(), 0);
        let running = factory.build(&state, &Running::default(), &availability, 0)?;
        factory.opener.on_started();
        running.0.iter().for_each(RunningFrontend::set_places);
        let revision = builder.resume.revision.max(1);
        let has_unsaved_start = builder.resume.revision > 0 || is_new_key && state.needs_persistence_key();
        let doorbells = (0..shards).map(|_| Doorbell::new()).collect::<Result<_, _>>();
        let doorbells = doorbells.map_err(|error| StartError::Kernel(format!("can't make an eventfd: {error}")))?;
        let suspects = sender.clone();
        let suspect = Box::new(move |suspicion| suspects.send(Command::Suspected(suspicion)));
        let troubles = sender.clone();
        let troubled = Box::new(move |trouble| troubles.send(Command::Troubled(trouble)));
        // Nobody is accepted before everything has started.
        let nothing = Running::default().table(0, 0, Vec::new());
        let shared = Shared::new(
            nothing,
            doorbells,
            process,
            AccessRecords::new(shards, builder.access_capacity),
            suspect,
            troubled,
        );
        let mut controller = Self {
            state,
            revision,
            generation: 1,
            history: History::new(builder.resume.history),
            running,
            availability,
            closings: Closings::default(),
            checker: None,
            factory,
            store: builder.store,
            is_durable: false,
            shared: Arc::new(shared),
            retired: Vec::new(),
            replaced: Vec::new(),
            rates: Rates::new(),
            changes: ChangeCounts { last_applied: unix_time(), ..ChangeCounts::default() },
            troubles: HashMap::new(),
            started: Instant::now(),
            cores: cores.to_vec(),
            is_handing_over: false,
            has_unsaved_start,
            has_unsaved_key: is_new_key,
        };
        // Until a predecessor has let go, it may have to go on with what is kept.
        if !is_successor {
            controller.save_start();
        }
        Ok(controller)
    }

    /// Keeps what a start made of an earlier state, and a new key that cookies are made with. If that fails the balancer runs
    /// all the same: what is running was kept before, or is in the configuration.
    fn save_start(&mut self) {
        if std::mem::take(&mut self.has_unsaved_start)
            && let Err(reason) = self.save_again()
        {
            tracing::warn!("the state could not be stored: {reason}");
        }
    }

    /// Keeps what is running.
    fn save_again(&mut self) -> Result<(), String> {
        let (certificates, frontends) = (self.state.plain_certificates(), self.state.frontends());
        let saved = self.store.save(Snapshot {
            revision: self.revision,
            persistence_key: self.state.persistence_key(),
            certificates: &certificates,
            frontends: &frontends,
            history: self.history.records(),
        })?;
        self.is_durable = saved == Saved::Durable;
        self.has_unsaved_key = false;
        Ok(())
    }

    /// The key that cookies are made with. Whoever asks may rely on it, so it is kept from here on.
    fn persistence_key(&mut self) -> Result<PersistenceKey, Refused> {
        if self.has_unsaved_key {
            self.check_changeable()?;
            let fault = |reason| Refused::other(format!("the key could not be stored: {reason}"));
            self.save_again().map_err(fault)?;
        }
        self.state.persistence_key().cloned().ok_or_else(|| Refused::other("there is no key"))
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Carries out a command that is done at once.
    pub(super) fn answer(&mut self, command: Command) {
        // Replies are refused only by who does not wait for them any more.
        let _ = match command {
            Command::Change { wanted, options, reply } => reply.try_send(self.apply(&wanted, options)).is_ok(),
            Command::History { reply } => reply.try_send(Ok(self.history.records().iter().cloned().collect())).is_ok(),
            Command::PersistenceKey { reply } => reply.try_send(self.persistence_key()).is_ok(),
            Command::Remembered { frontend, limit, reply } => {
                reply.try_send(self.running.remembered(frontend.as_ref(), limit, self.now())).is_ok()
            }
            Command::Forget { frontend, server, reply } => {
                reply.try_send(self.running.forget(frontend.as_ref(), server.as_ref())).is_ok()
            }
            Command::Status { reply } => reply.try_send(Ok(self.status())).is_ok(),
            Command::Metrics { reply } => reply.try_send(Ok(self.metrics())).is_ok(),
            Command::Checked(verdicts) => {
                self.on_checked(verdicts);
                true
            }
            Command::Suspected(suspicion) => {
                self.on_suspicion(&suspicion);
                true
            }
            Command::Troubled(trouble) => {
                self.on_trouble(trouble);
                true
            }
            Command::HandOver { reply } => reply.try_send(self.hand_over()).is_ok(),
            Command::GoOn
            | Command::Release { .. }
            | Command::Stop { .. }
            | Command::ShardEnded { .. }
            | Command::CheckerDied { .. } => true,
        };
    }

    /// Applies what is wanted: all of it or nothing.
    pub(super) fn apply(&mut self, wanted: &Wanted, options: Options) -> Result<Applied, Refused> {
        let applied = self.try_apply(wanted, options);
        match &applied {
            _ if options.dry_run => {}
            Ok(_) => {
                self.changes.applied += 1;
                self.changes.last_applied = unix_time();
            }
            Err(_) => self.changes.refused += 1,
        }
        applied
    }

    fn try_apply(&mut self, wanted: &Wanted, options: Options) -> Result<Applied, Refused> {
        let changes = self.changes(wanted)?;
        let mut draft = self.draft(&changes, options)?;
        draft.warnings.extend(self.key_warning(wanted));
        if options.dry_run || draft.summary.is_empty() {
            return Ok(Applied { warnings: draft.warnings, ..self.applied(draft.summary, 0, options.dry_run) });
        }
        let now = self.now();
        let running = self.factory.build(&draft.state, &self.running, &self.availability, now)?;
        let revision = self.revision + 1;
        let mut history = self.history.clone();
        history.push(Record {
            revision,
            at: unix_time().unsigned_abs(),
            summary: draft.summary.clone(),
            changes: changes.into_owned(),
            inverse: draft.inverse,
        });
        let (certificates, frontends) = (draft.state.plain_certificates(), draft.state.frontends());
        let saved = self.store.save(Snapshot {
            revision,
            persistence_key: draft.state.persistence_key(),
            certificates: &certificates,
            frontends: &frontends,
            history: history.records(),
        });
        let saved = saved.map_err(|reason| Refused::other(format!("the change could not be stored: {reason}")))?;
        // From here on nothing may fail: what is stored comes into effect.
        self.is_durable = saved == Saved::Durable;
        self.has_unsaved_key = false;
        let before = std::mem::replace(&mut self.state, draft.state);
        self.troubles.retain(|server, _| self.state.entry_of(*server).is_some());
        self.history = history;
        self.revision = revision;
        let running = match self.availability.follow(&self.state, &before, now) {
            // That a server starts slowly is known only now; listeners and policies are all there.
            true => self.factory.build(&self.state, &running, &self.availability, now).unwrap_or(running),
            false => running,
        };
        let on_replaced = self.put_into_effect(running)?;
        if self.state.checks_otherwise_than(&before) {
            self.check_servers();
        }
        Ok(Applied { warnings: draft.warnings, ..self.applied(draft.summary, on_replaced, false) })
    }

    fn changes<'a>(&self, wanted: &'a Wanted) -> Result<Cow<'a, [Change]>, Refused> {
        Ok(match wanted {
            Wanted::Changes(changes) => Cow::Borrowed(changes),
            Wanted::Config(config) => Cow::Owned(difference(&self.state, &config.certificates, &config.frontends)),
            Wanted::Undo(revision) => Cow::Owned(self.history.undo(*revision, &self.state)?),
        })
    }

    /// What is to be said of a configuration that has another key than the one that is in force.
    fn key_warning(&self, wanted: &Wanted) -> Option<String> {
        let Wanted::Config(config) = wanted else { return None };
        let is_other =
            config.persistence_key.is_some() && config.persistence_key.as_ref() != self.state.persistence_key();
        is_other
            .then(|| "persistence_key is another one than that in force: it is used from the next start on".to_owned())
    }

    fn draft(&self, changes: &[Change], options: Options) -> Result<Draft, Refused> {
        self.check_changeable()?;
        if let Some(expected) = options.if_revision.filter(|expected| *expected != self.revision) {
            let reason =
                format!("revision {expected} was expected, {} is running: something was changed since", self.revision);
            return Err(Refused::field("if_revision", reason));
        }
        let state = self.state.clone();
        let mut draft = Draft { state, summary: Vec::new(), warnings: Vec::new(), inverse: Vec::new() };
        for change in changes {
            if let Some((inverse, sentence)) = draft.state.apply(change)? {
                draft.inverse.push(inverse);
                draft.summary.push(sentence);
            }
        }
        draft.state.check_whole(&self.state)?;
        draft.warnings = draft.state.warnings_since(&self.state, unix_time());
        draft.inverse.reverse();
        Ok(draft)
    }

    /// Publishes what is to run and waits until every shard uses it. Gives the connections that live on what it replaced.
    fn put_into_effect(&mut self, running: Running) -> Result<u64, Refused> {
        let now = self.now();
        let retired = self.running.retired_by(&running);
        retired.iter().for_each(|endpoint| endpoint.load.set_place(None));
        running.changed_since(&self.running).for_each(RunningFrontend::set_places);
        running.plan_closings(&self.running, &mut self.closings, now);
        running.log_service(&self.running);
        let before = std::mem::replace(&mut self.running, running);
        self.generation += 1;
        let closing = self.closings.due(now);
        closing
            .iter()
            .for_each(|server| tracing::info!("connections to server {} are closed", self.name_of(server.id)));
        self.shared.publication.publish(self.running.table(self.revision, self.generation, closing));
        self.shared.ring_doorbells();
        self.wait_until_used()?;
        let changed = self.running.changed_since(&before);
        changed.for_each(|frontend| frontend.on_settled(before.find(frontend.entry.id), now));
        self.replaced.extend(before.changed_since(&self.running).map(|frontend| Arc::clone(&frontend.table)));
        // Closes the listeners that no table has any more.
        drop(before);
        self.drop_unused();
        let on_replaced = retired.iter().map(|endpoint| u64::from(endpoint.open())).sum();
        self.retired.extend(retired);
        Ok(on_replaced)
    }

    fn drop_unused(&mut self) {
        self.replaced.retain(|frontend| Arc::strong_count(frontend) > 1);
        self.retired.retain(|endpoint| endpoint.open() > 0);
    }

    /// Stops accepting; connections go on.
    pub(super) fn stop_accepting(&mut self) {
        self.shared.set_stop(Stop::Drain);
        match self.is_handing_over {
            true => self.let_go(),
            false => self.running.0.iter().for_each(|frontend| frontend.listener.stop()),
        }
    }

    /// Lets the shards begin to accept; returns when they do.
    pub(super) fn start_accepting(&self) -> Result<(), Refused> {
        self.shared.publication.publish(self.running.table(self.revision, self.generation, Vec::new()));
        self.shared.ring_doorbells();
        self.wait_until_used()
    }

    /// Waits until every shard has acknowledged the present table, which takes each a turn.
    fn wait_until_used(&self) -> Result<(), Refused> {
        while !self.shared.publication.used_by_all(self.generation) {
            if self.shared.stop() != Stop::No {
                return Err(Refused::other(
                    "the change is stored, but the balancer stopped before every shard used it",
                ));
            }
            // Shards wake this thread; the time limit is for one that dies instead.
            thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }

    fn applied(&self, summary: Vec<String>, connections_on_replaced: u64, dry_run: bool) -> Applied {
        Applied {
            revision: self.revision,
            shards: self.cores.len(),
            durable: self.is_durable,
            connections_on_replaced,
            summary,
            warnings: Vec::new(),
            dry_run,
        }
    }

    /// The servers that would come into use otherwise than now.
    pub(super) fn probe_targets(&self, wanted: &Wanted, options: Options) -> Result<Vec<Target>, Refused> {
        let draft = self.draft(&self.changes(wanted)?, options)?;
        probe::targets(&draft.state, &self.state)
    }

    fn now(&self) -> Time {
        self.started.elapsed().as_millis() as Time
    }

    /// Takes the rates since the last call.
    pub(super) fn sample(&mut self) {
        self.rates.sample(&self.running, &self.shared);
        self.drop_unused();
    }

    fn metrics(&self) -> Metrics {
        Metrics { status: self.status(), timings: metrics::timings(&self.running) }
    }

    fn status(&self) -> Status {
        // Shards measure on a clock of their own.
        let times = (self.now(), self.shared.started.elapsed().as_micros() as u64);
        Status {
            revision: self.revision,
            uptime_seconds: self.started.elapsed().as_secs(),
            connections: u64::from(self.shared.process.open.load(std::sync::atomic::Ordering::Relaxed)),
            max_connections: self.shared.process.max.into(),
            connections_on_replaced: self.retired.iter().map(|endpoint| u64::from(endpoint.open())).sum(),
            changes: self.changes,
            access_dropped: self.shared.access.dropped(),
            traffic: self.rates.total(&self.running),
            shards: status::shards(&self.shared, &self.cores, &self.rates),
            certificates: status::certificates(&self.state, unix_time()),
            frontends: status::frontends(&self.running, &self.rates, &self.availability, &self.troubles, times),
        }
    }
}

/// Checks a configuration as a start does, and gives what may surprise about it.
pub(crate) fn check_config(config: &Config, policies: &Policies) -> Result<Vec<String>, Refused> {
    let before = State::new(policies.names().into(), None);
    let mut state = before.clone();
    state.fill(config)?;
    Ok(state.warnings_since(&before, unix_time()))
}

/// The certificates of a configuration, as a balancer lists them.
pub(crate) fn certificates_of(config: &Config, policies: &Policies) -> Result<Vec<CertificateStatus>, Refused> {
    let mut state = State::new(policies.names().into(), None);
    state.fill(config)?;
    Ok(status::certificates(&state, unix_time()))
}

/// Seconds since 1970.
fn unix_time() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() as i64
}
