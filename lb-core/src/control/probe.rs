//! Trying servers before a change that adds or re-addresses them is applied.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::Wanted;
use super::change::{Options, Refused};
use super::controller::Controller;

/// A server that is to be tried.
pub(super) struct Target {
    pub(super) name: String,
    pub(super) addr: SocketAddr,
    pub(super) timeout: Duration,
}

/// Connects to every server that is to be added or re-addressed, a few at a time; refuses with the first that fails.
pub(super) async fn probe(
    controller: &Rc<RefCell<Controller>>,
    wanted: &Wanted,
    options: Options,
) -> Result<(), Refused> {
    const AT_ONCE: usize = 32;
    let targets = controller.borrow().probe_targets(wanted, options)?;
    let mut targets = targets.into_iter();
    loop {
        let batch: Vec<_> =
            targets.by_ref().take(AT_ONCE).map(|target| glommio::spawn_local(connect(target))).collect();
        if batch.is_empty() {
            return Ok(());
        }
        for attempt in batch {
            attempt.await?;
        }
    }
}

async fn connect(Target { name, addr, timeout }: Target) -> Result<(), Refused> {
    let attempt = glommio::net::TcpStream::connect_timeout(addr, timeout).await;
    attempt.map(drop).map_err(|error| {
        let why = match error {
            glommio::GlommioError::IoError(error) => error.to_string(),
            glommio::GlommioError::TimedOut(_) => format!("no answer within {timeout:?}"),
            error => error.to_string(),
        };
        Refused::field("ip", format!("the probe of server {name} at {addr} failed: {why}"))
    })
}
