//! Does what a request asks for, and says what came of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lb_core::config::{Config, Name};
use lb_core::{Applied, Control, Options, Refused};

use super::reply::Reply;
use super::request::{AppliedFile, Request};
use super::socket::{Answer, Lines, UnixStream};
use crate::console::Token;
use crate::lock::Lock;
use crate::metrics::Exporter;
use crate::settings::{LogLevel, Settings};
use crate::state::StateFile;
use crate::web::Door;
use crate::{apply, log};

/// How many clients that are remembered are listed, unless another number is asked for.
const LISTED: usize = 1000;

/// What requests work on.
#[derive(Debug)]
pub(crate) struct Handler {
    pub(crate) control: Control,
    pub(crate) exporter: Exporter,
    /// `None` if the balancer was not started from a file.
    pub(crate) own_config: Option<OwnConfig>,
    /// Those in force.
    pub(crate) settings: Settings,
    /// What opens the console; `None` if there is none.
    pub(crate) console_token: Option<Token>,
    /// What a successor has to hold.
    pub(crate) locks: Vec<Lock>,
    /// Closed when a successor has taken over, which waits for the addresses of metrics and console.
    pub(crate) door: Door,
    /// How long connections may go on when a successor has taken over.
    pub(crate) grace: Duration,
}

/// The configuration file that the balancer was started with.
#[derive(Debug, Clone)]
pub(crate) struct OwnConfig {
    /// Its path, by [`apply::identity`].
    pub(crate) path: PathBuf,
    pub(crate) state: StateFile,
}

impl Answer for Arc<Handler> {
    async fn answer(&self, request: Request) -> Reply {
        self.fulfil(request).await.unwrap_or_else(Reply::from)
    }

    async fn hand_over(&self, stream: UnixStream, lines: Lines) {
        self.hand_over_to(stream, lines).await;
    }
}

impl Handler {
    /// A path of the settings, which is relative to the configuration's folder.
    pub(crate) fn beside_config(&self, path: &Path) -> PathBuf {
        let folder = self.own_config.as_ref().and_then(|own| own.path.parent());
        folder.map_or_else(|| path.to_owned(), |folder| folder.join(path))
    }

    /// Does what `request` asks for.
    ///
    /// # Errors
    /// Why it is not done, and the field at fault where there is one.
    pub(crate) async fn fulfil(&self, request: Request) -> Result<Reply, Refused> {
        let control = &self.control;
        match request {
            Request::Version {} => Ok(Reply::version()),
            Request::Status {} => Ok(Reply::Status(Box::new(control.status().await?))),
            Request::Metrics { format } => Ok(Reply::Metrics { text: self.exporter.text(format).await? }),
            Request::History {} => Ok(Reply::history(&control.history().await?)),
            Request::ListPersistence { frontend, limit } => {
                let (frontend, limit) = (frontend.as_ref().map(Name::as_str), limit.unwrap_or(LISTED));
                Ok(Reply::Persistence(control.remembered_clients(frontend, limit).await?))
            }
            Request::ClearPersistence { frontend, server } => {
                let (frontend, server) = (frontend.as_ref().map(Name::as_str), server.as_ref().map(Name::as_str));
                Ok(Reply::Forgotten { clients: control.forget_clients(frontend, server).await? })
            }
            Request::PersistenceKey {} => Ok(Reply::PersistenceKey { key: control.persistence_key().await? }),
            Request::ConsoleToken {} => match self.console_token.clone() {
                Some(token) => Ok(Reply::ConsoleToken { token }),
                None => {
                    Err(Refused::other("there is no console: write console: \"127.0.0.1:8404\" into the configuration"))
                }
            },
            Request::LogLevel {} => Ok(Reply::LogLevel { level: log::level(), before: None }),
            Request::SetLogLevel { level } => set_log_level(&level),
            Request::ListCertificates {} => Ok(Reply::certificates(control.status().await?)),
            Request::ListFrontends {} => Ok(Reply::frontends(&control.status().await?)),
            Request::ListServers { frontend } => Ok(Reply::servers(&control.status().await?, frontend.as_ref())),
            Request::Undo { revision, if_revision, dry_run, probe } => {
                Ok(control.undo(revision, Options { if_revision, dry_run, probe }).await?.into())
            }
            Request::Apply { config, settings, file, if_revision, dry_run, probe } => {
                let mut applied = self.apply(*config, file, Options { if_revision, dry_run, probe }).await?;
                let wanted = settings.as_deref().unwrap_or(&self.settings);
                applied.warnings.extend(self.settings.differences(wanted));
                Ok(applied.into())
            }
            change => match change.into_transaction()? {
                Some(transaction) => Ok(control.apply(transaction).await?.into()),
                None => Err(Refused::other("the request is not understood")),
            },
        }
    }

    async fn apply(&self, config: Config, file: Option<AppliedFile>, options: Options) -> Result<Applied, Refused> {
        let own = file.zip(self.own_config.as_ref()).filter(|(file, own)| file.path == own.path);
        match own {
            None => self.control.replace(config, options).await,
            Some((file, own)) => {
                let hash = u64::from_str_radix(&file.hash, 16)
                    .map_err(|_| Refused::field("hash", "hash: hexadecimal digits are expected"))?;
                apply::own_file(&self.control, &own.state, hash, config, options).await
            }
        }
    }
}

fn set_log_level(level: &LogLevel) -> Result<Reply, Refused> {
    let before = log::set_level(level).map_err(Refused::other)?;
    tracing::info!("the log's level is {} from now on, it was {before}", level.as_str());
    Ok(Reply::LogLevel { level: level.as_str().to_owned(), before: Some(before) })
}
