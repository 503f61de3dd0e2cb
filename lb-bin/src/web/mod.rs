//! The HTTP server of the process: metrics and the console. It is for its operators, not for the clients that are balanced:
//! one thread, `lb-web`, and bounds for whatever a client may do.
//!
//! `listen` opens the sockets, `serve` talks HTTP on them, and `places` bounds how many clients are talked to at once.

mod listen;
mod places;
mod serve;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use async_channel::{Receiver, Sender};
use axum::Router;
use futures_lite::future::Boxed;
use rustls::ServerConfig;

use crate::doctor;
pub(crate) use listen::At;
use listen::{Listener, Opened};
pub(crate) use places::network;
pub(crate) use serve::{BodyError, read_body};

/// Something that is served, and where.
pub(crate) struct Site {
    /// What it is called in the log and in errors: `metrics`.
    pub(crate) name: &'static str,
    /// Where in it people begin: `/metrics`.
    pub(crate) path: &'static str,
    pub(crate) at: At,
    /// `None` for HTTP without TLS.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) router: Router,
    /// What is done while it is served. It does not end by itself.
    pub(crate) alongside: Boxed<()>,
}

/// Who is talked to: an extension of every request.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// `None` at a Unix socket.
    pub(crate) ip: Option<IpAddr>,
    place: places::Place,
}

impl fmt::Display for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            Some(ip) => ip.fmt(formatter),
            None => formatter.write_str("the socket"),
        }
    }
}

/// The way to close all sites, for who has to before the process ends. Clones are handles to the same.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    /// Nothing is ever sent.
    close: Sender<()>,
    closed: Receiver<()>,
}

impl Door {
    pub(crate) fn new() -> Self {
        let (close, closed) = async_channel::bounded(1);
        Self { close, closed }
    }

    /// Lets nobody in any more: the addresses are free in a moment, and who is talked to gets the answer that is due.
    pub(crate) fn close(&self) {
        self.close.close();
    }

    /// Ends when it is closed.
    async fn closed(&self) {
        let _ = self.closed.recv().await;
    }
}

/// What happens to a site whose address is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfTaken {
    Fail,
    /// A predecessor is about to leave it: the site opens as soon as it has.
    Wait,
}

/// The running server. Dropping it closes all sites.
#[derive(Debug)]
pub(crate) struct Web {
    door: Door,
    thread: Option<JoinHandle<()>>,
}

/// Opens `sites` and serves them until `door` is closed.
///
/// # Errors
/// One can't be opened: one sentence with its name and address.
pub(crate) fn start(sites: Vec<Site>, door: Door, if_taken: IfTaken) -> Result<Web, String> {
    if sites.is_empty() {
        return Ok(Web { door, thread: None });
    }
    let opened = sites.into_iter().map(|site| open(site, if_taken)).collect::<Result<Vec<_>, _>>()?;
    let fault = |error| format!("the thread for metrics and console can't be started: {error}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(fault)?;
    let serving = serve::serve(opened, door.clone());
    let thread = thread::Builder::new().name("lb-web".to_owned()).spawn(move || runtime.block_on(serving));
    Ok(Web { door, thread: Some(thread.map_err(fault)?) })
}

/// Opens a site; without a listener it is to wait for its address.
fn open(site: Site, if_taken: IfTaken) -> Result<(Site, Option<Listener>), String> {
    let opened = match if_taken {
        IfTaken::Fail => Listener::open(&site.at),
        IfTaken::Wait => Listener::try_open(&site.at),
    };
    match (opened, if_taken) {
        (Opened::Listens(listener), _) => Ok((site, Some(listener))),
        (Opened::Taken, IfTaken::Wait) => Ok((site, None)),
        (Opened::Taken, IfTaken::Fail) => {
            let advice = format!("stop it, or give another address as {}", site.name);
            let who = doctor::holder_of(&site.at).unwrap_or_else(|| "another program".to_owned());
            Err(format!("{} {}: {who} listens there; {advice}", site.name, site.at))
        }
        (Opened::Failed(reason), _) => Err(format!("{} {}: {reason}", site.name, site.at)),
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.door.close();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread for metrics and console had died");
        }
    }
}

#[cfg(test)]
mod tests;
