//! `lb run`: a balancer from its configuration to its stop.

use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use lb_core::{Applied, Balancer, Builder, Control, Drain, Options, Status};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::admin::{Claim, Handler, OwnConfig};
use crate::cli::RunArgs;
use crate::state::StateFile;
use crate::{apply, config, log, paths};

/// Runs a balancer until it is told to stop.
///
/// # Errors
/// It could not start, or one of its threads died: one sentence.
pub fn run(args: &RunArgs, admin: Option<&Path>) -> Result<(), String> {
    let _log = log::start()?;
    let source = config::read_config(&args.config)?;
    let claim = Claim::new(&paths::admin_socket(admin)?)?;
    let opened = StateFile::open(&args.config, source.hash)?;
    let mut config = source.config;
    let grace = config.shutdown_grace.as_duration();
    config.frontends = opened.frontends.unwrap_or(config.frontends);

    let builder = Balancer::builder().config(config).store(opened.state.clone()).resume(opened.resume);
    let builder = inherited()?.into_iter().fold(builder, Builder::inherit);
    let own_config = OwnConfig { path: apply::identity(&args.config), state: opened.state };
    let reload = Reload { file: args.config.clone(), state: own_config.state.clone() };
    let service = Service { builder, own_config: Some(own_config), grace };
    service.run(claim, Some(reload), |_| {})
}

/// What `lb run` and `lb demo` have in common: a balancer with an admin socket, stopped by signals.
pub(crate) struct Service {
    pub(crate) builder: Builder,
    pub(crate) own_config: Option<OwnConfig>,
    /// How long connections may go on after the first signal to stop.
    pub(crate) grace: Duration,
}

impl Service {
    /// Runs until a signal stops it; `when_ready` is called as soon as everything accepts.
    pub(crate) fn run(
        self,
        claim: Claim,
        reload: Option<Reload>,
        when_ready: impl FnOnce(&Status),
    ) -> Result<(), String> {
        // Before the start, so that a signal that comes early is not lost.
        let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(|error| format!("signals: {error}"))?;
        let balancer = self.builder.start().map_err(|error| error.to_string())?;
        let control = balancer.control();
        let socket_path = claim.path().to_owned();
        let handler = Handler { control: control.clone(), own_config: self.own_config };
        let started = claim.serve(handler).and_then(|admin| {
            watch_signals(signals, control.clone(), self.grace, reload)?;
            Ok((admin, report_ready(&control, &socket_path)?))
        });
        match started {
            Ok((admin, status)) => {
                when_ready(&status);
                let ended = balancer.wait().map_err(|died| died.to_string());
                // Removes the socket: until here it answers.
                drop(admin);
                tracing::info!("stopped");
                ended
            }
            Err(reason) => {
                let _ = balancer.shutdown(Drain::now());
                Err(reason)
            }
        }
    }
}

/// What SIGHUP applies.
#[derive(Debug, Clone)]
pub(crate) struct Reload {
    file: PathBuf,
    state: StateFile,
}

impl Reload {
    fn apply(&self, control: &Control) -> Result<Applied, String> {
        let source = config::read_config(&self.file)?;
        let applied = apply::own_file(control, &self.state, source.hash, source.config, Options::default());
        futures_lite::future::block_on(applied).map_err(|refused| format!("{}: {refused}", self.file.display()))
    }

    fn log(&self, control: &Control) {
        match self.apply(control) {
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

fn report_ready(control: &Control, admin: &Path) -> Result<Status, String> {
    let status = control.status().wait().map_err(|refused| refused.to_string())?;
    for frontend in &status.frontends {
        tracing::info!("frontend {} accepts on {}", frontend.frontend.name(), frontend.addr);
    }
    let shards = config::count(status.shards.len(), "shard");
    tracing::info!("ready: admin socket {}, {shards}, revision {}", admin.display(), status.revision);
    notify(NotifyState::Ready);
    Ok(status)
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("NOTIFY_SOCKET: {error}");
    }
}

fn watch_signals(
    mut signals: Signals,
    control: Control,
    grace: Duration,
    reload: Option<Reload>,
) -> Result<(), String> {
    let watch = move || {
        let mut stopping = false;
        for signal in signals.forever() {
            match (signal, &reload) {
                (SIGHUP, Some(reload)) => {
                    let (reload, control) = (reload.clone(), control.clone());
                    // On a thread of its own: a signal to stop must not wait for it.
                    thread::spawn(move || reload.log(&control));
                }
                (SIGHUP, None) => tracing::info!("SIGHUP: there is no configuration file to apply"),
                _ if stopping => {
                    tracing::info!("stopping now: connections are closed");
                    control.stop(Drain::now());
                }
                _ => {
                    stopping = true;
                    tracing::info!("stopping: connections may finish for {grace:?}; another signal closes them now");
                    notify(NotifyState::Stopping);
                    control.stop(Drain::within(grace));
                }
            }
        }
    };
    let spawned = thread::Builder::new().name("lb-signals".to_owned()).spawn(watch);
    spawned.map(drop).map_err(|error| format!("the thread for signals can't be started: {error}"))
}
