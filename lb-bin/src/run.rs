//! `lb run`: a balancer from its configuration to its stop.

use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lb_core::{Applied, Balancer, Builder, Control, Drain, Options, Status};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::access_log::{self, AccessLog, AccessLogControl};
use crate::admin::{Claim, Handler, OwnConfig};
use crate::cli::RunArgs;
use crate::console::Renewing;
use crate::lock::Lock;
use crate::metrics::{self, Exporter};
use crate::settings::{MetricsAt, Settings};
use crate::state::StateFile;
use crate::take_over::{self, Given, Predecessor};
use crate::web::{self, At, Door, IfTaken, Site};
use crate::{apply, config, console, doctor, log, paths};

/// Runs a balancer until it is told to stop.
///
/// # Errors
/// It could not start, or one of its threads died: one sentence.
pub fn run(args: &RunArgs, admin: Option<&Path>) -> Result<(), String> {
    let _log = log::start(&config::read_settings(&args.config)?.log)?;
    let path = paths::admin_socket(admin)?;
    let mut predecessor = predecessor(args, &path)?;
    let given = predecessor.as_mut().map_or_else(|| Ok(Given::default()), Predecessor::ask)?;
    // Only now nothing can be applied any more that would be newer.
    let source = config::read_config(&args.config)?;
    let claim = Claim::new(&path, &given.locks)?;
    let opened = StateFile::open(&args.config, source.hash, &source.config, &given.locks)?;
    let (config, in_file) = (opened.config, source.config.certificates);
    let grace = config.shutdown_grace.as_duration();

    // A certificate that was removed at run time is still in the file.
    let certificates = [&config.certificates[..], &in_file[..]].concat();
    let console = source.settings.console.as_ref();
    let console = console.map(|console| console::Prepared::new(console, &args.config, &certificates)).transpose()?;
    let shown = console.as_ref().and_then(console::Prepared::certificate).cloned();
    let store = Renewing { store: opened.state.clone(), shown };
    doctor::log_warnings(&args.config, &config, &source.settings);
    let wanted = doctor::wanted_addresses(&config, &source.settings);
    let builder = Balancer::builder().config(config).store(store).resume(opened.resume);
    let builder = inherited()?.into_iter().fold(builder, Builder::inherit).take_over(given.listeners);
    let own_config = OwnConfig { path: apply::identity(&args.config), state: opened.state };
    let (file, state, settings) = (args.config.clone(), own_config.state.clone(), source.settings.clone());
    let reload = Reload { file, state, settings };
    let settings = source.settings;
    let service = Service { builder, wanted, own_config: Some(own_config), settings, console, predecessor, grace };
    service.run(claim, Some(reload), |_| {})
}

/// The balancer whose place this one is to take, if it is to take one and there is one.
fn predecessor(args: &RunArgs, path: &Path) -> Result<Option<Predecessor>, String> {
    if !args.take_over {
        return Ok(None);
    }
    let found = Predecessor::find(path)?;
    if found.is_none() {
        tracing::info!("no balancer answers at {}: there is nothing to take over", path.display());
    }
    Ok(found)
}

/// What `lb run` and `lb demo` have in common: a balancer with an admin socket, stopped by signals.
pub(crate) struct Service {
    pub(crate) builder: Builder,
    /// Who is to listen where.
    pub(crate) wanted: Vec<(String, SocketAddr)>,
    pub(crate) own_config: Option<OwnConfig>,
    pub(crate) settings: Settings,
    /// `None` is none.
    pub(crate) console: Option<console::Prepared>,
    /// The balancer whose place this one takes. It has been asked for everything.
    pub(crate) predecessor: Option<Predecessor>,
    /// How long connections may go on after the first signal to stop.
    pub(crate) grace: Duration,
}

impl Service {
    /// Runs until a signal stops it; `when_ready` is called as soon as everything accepts.
    pub(crate) fn run(
        mut self,
        claim: Claim,
        reload: Option<Reload>,
        when_ready: impl FnOnce(&Status),
    ) -> Result<(), String> {
        // Before the start, so that a signal that comes early is not lost.
        let signals =
            Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2]).map_err(|error| format!("signals: {error}"))?;
        let access_log = self.open_access_log()?;
        if access_log.is_some() {
            self.builder = self.builder.record_access(access_log::QUEUE);
        }
        let balancer = self.builder.start().map_err(|error| doctor::start_error(&error, &self.wanted))?;
        let control = balancer.control();
        let state_lock = self.own_config.as_ref().and_then(|own| own.state.lock());
        let locks = std::iter::once(claim.lock().clone()).chain(state_lock).collect();
        let (grace, lock, socket_path) = (self.grace, claim.lock().clone(), claim.path().to_owned());
        let exporter = Exporter::new(control.clone());
        let (own_config, settings) = (self.own_config, self.settings);
        let door = Door::new();
        let console_token = self.console.as_ref().map(|console| console.token().clone());
        let handler = Arc::new(Handler {
            control: control.clone(),
            exporter: exporter.clone(),
            own_config,
            settings,
            console_token,
            locks,
            door: door.clone(),
            grace,
        });
        let console = self.console;
        let sites = sites(&handler, console);
        let if_taken = if self.predecessor.is_some() { IfTaken::Wait } else { IfTaken::Fail };
        let started = claim.serve(handler).and_then(|mut admin| {
            let web = web::start(sites?, door, if_taken)?;
            let access_log = access_log.map(|log| log.start(balancer.access_records())).transpose()?;
            if let Some(predecessor) = &mut self.predecessor {
                predecessor.relieve()?;
                control.go_on();
            }
            admin.put_in_place()?;
            let status = report_ready(&control, &socket_path, self.predecessor.is_some())?;
            let access_log_control = access_log.as_ref().map(AccessLog::control);
            let watcher = Watcher { control: control.clone(), exporter, grace, lock, reload, access_log_control };
            watch_signals(signals, watcher)?;
            Ok((admin, web, access_log, status))
        });
        match started {
            Ok((admin, web, access_log, status)) => {
                // It may end now.
                drop(self.predecessor);
                when_ready(&status);
                let ended = balancer.wait().map_err(|died| died.to_string());
                // Every record is there.
                drop(access_log);
                // Removes the socket: until here it answers.
                drop((admin, web));
                tracing::info!("stopped");
                ended
            }
            Err(reason) => {
                give_back(balancer, self.predecessor, grace);
                Err(reason)
            }
        }
    }

    /// Before anything accepts, so that a path that can't be written is known at once.
    fn open_access_log(&self) -> Result<Option<access_log::Opened>, String> {
        let Some(settings) = &self.settings.access_log else { return Ok(None) };
        let folder = self.own_config.as_ref().and_then(|own| own.path.parent()).unwrap_or(Path::new("."));
        access_log::Opened::new(settings, folder).map(Some)
    }
}

/// What is served to operators by HTTP.
fn sites(handler: &Arc<Handler>, console: Option<console::Prepared>) -> Result<Vec<Site>, String> {
    let metrics = handler.settings.metrics.as_ref().map(|at| match at {
        MetricsAt::Tcp(addr) => At::Tcp(*addr),
        MetricsAt::Unix(path) => At::Unix(handler.beside_config(path)),
    });
    let metrics = metrics.map(|at| metrics::site(handler.exporter.clone(), at));
    let console = console.map(|console| console.site(Arc::clone(handler))).transpose()?;
    Ok(metrics.into_iter().chain(console).collect())
}

/// Ends a balancer that can't get ready. Listening sockets that it took over stay open, and whoever it has accepted from
/// them is served.
fn give_back(balancer: Balancer, predecessor: Option<Predecessor>, grace: Duration) {
    if predecessor.is_none() {
        return drop(balancer.shutdown(Drain::now()));
    }
    tracing::warn!("nothing is taken over: connections may finish for {grace:?}");
    // Nobody can accept from the sockets before this process does not: the predecessor looks for clients when it is told.
    let _ = balancer.control().release(Drain::within(grace)).wait();
    drop(predecessor);
    let _ = balancer.wait();
}

/// What SIGHUP applies.
#[derive(Debug, Clone)]
pub(crate) struct Reload {
    file: PathBuf,
    state: StateFile,
    /// Those in force.
    settings: Settings,
}

impl Reload {
    fn apply(&self, control: &Control) -> Result<Applied, String> {
        let source = config::read_config(&self.file)?;
        let applied = apply::own_file(control, &self.state, source.hash, source.config, Options::default());
        let applied = futures_lite::future::block_on(applied);
        let mut applied = applied.map_err(|refused| format!("{}: {refused}", self.file.display()))?;
        applied.warnings.extend(self.settings.differences(&source.settings));
        Ok(applied)
    }

    fn log(&self, control: &Control, exporter: &Exporter) {
        let applied = self.apply(control);
        exporter.count_reload(applied.is_ok());
        for warning in applied.iter().flat_map(|applied| &applied.warnings) {
            tracing::warn!("SIGHUP: {warning}");
        }
        match applied {
            Ok(applied) if applied.summary.is_empty() => {
                tracing::info!("SIGHUP: {} is in effect already, revision {}", self.file.display(), applied.revision);
            }
            Ok(applied) => {
                let changes = applied.summary.join("; ");
                tracing::info!("SIGHUP: {} applied, revision {}: {changes}", self.file.display(), applied.revision);
            }
            Err(reason) => tracing::error!("SIGHUP: nothing was changed: {reason}"),
        }
    }
}

/// Listening sockets that systemd handed over.
fn inherited() -> Result<Vec<OwnedFd>, String> {
    let fds = sd_notify::listen_fds().map_err(|error| format!("LISTEN_FDS: {error}"))?;
    fds.map(|fd: RawFd| {
        lb_core::inherited_listener(fd).map_err(|error| format!("descriptor {fd} from LISTEN_FDS: {error}"))
    })
    .collect()
}

fn report_ready(control: &Control, admin: &Path, has_taken_over: bool) -> Result<Status, String> {
    let status = control.status().wait().map_err(|refused| refused.to_string())?;
    for frontend in &status.frontends {
        tracing::info!("frontend {} accepts on {}", frontend.frontend.name(), frontend.addr);
    }
    let shards = config::count(status.shards.len(), "shard");
    tracing::info!("ready: admin socket {}, {shards}, revision {}", admin.display(), status.revision);
    match has_taken_over {
        // systemd started another process.
        true => notify(&[NotifyState::MainPid(process::id()), NotifyState::Ready]),
        false => notify(&[NotifyState::Ready]),
    }
    Ok(status)
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("NOTIFY_SOCKET: {error}");
    }
}

/// Does what signals ask for.
struct Watcher {
    control: Control,
    exporter: Exporter,
    grace: Duration,
    /// Given up when a successor has taken over.
    lock: Lock,
    reload: Option<Reload>,
    access_log_control: Option<AccessLogControl>,
}

fn watch_signals(mut signals: Signals, watcher: Watcher) -> Result<(), String> {
    let watch = move || {
        let mut stopping = false;
        for signal in signals.forever() {
            match (signal, &watcher.reload) {
                (SIGHUP, Some(reload)) => {
                    let (reload, control, exporter) =
                        (reload.clone(), watcher.control.clone(), watcher.exporter.clone());
                    // On a thread of its own: a signal to stop must not wait for it.
                    thread::spawn(move || reload.log(&control, &exporter));
                }
                (SIGUSR1, _) => match &watcher.access_log_control {
                    Some(access_log) => access_log.reopen(),
                    None => tracing::info!("SIGUSR1: there is no access log to open anew"),
                },
                (SIGUSR2, Some(_)) if watcher.lock.is_held() => take_over::start_successor(),
                (SIGUSR2, Some(_)) => tracing::info!("SIGUSR2: a successor has taken over already"),
                (SIGHUP | SIGUSR2, None) => tracing::info!("signal {signal}: only `lb run` does something about it"),
                _ => {
                    watcher.stop(stopping);
                    stopping = true;
                }
            }
        }
    };
    let spawned = thread::Builder::new().name("lb-signals".to_owned()).spawn(watch);
    spawned.map(drop).map_err(|error| format!("the thread for signals can't be started: {error}"))
}

impl Watcher {
    fn stop(&self, is_stopping: bool) {
        if is_stopping {
            tracing::info!("stopping now: connections are closed");
            return self.control.stop(Drain::now());
        }
        let grace = self.grace;
        self.exporter.begin_stop();
        tracing::info!("stopping: connections may finish for {grace:?}; another signal closes them now");
        // What systemd knows as the service goes on in a successor.
        if self.lock.is_held() {
            notify(&[NotifyState::Stopping]);
        }
        self.control.stop(Drain::within(grace));
    }
}
