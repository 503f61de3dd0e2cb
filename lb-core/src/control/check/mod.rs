//! Checking servers: one thread for all of them, with a ring of its own, so that a server that hangs holds up no other and
//! thousands are checked at little cost.
//!
//! [`conversation`] knows what is said in a check, without sockets. [`schedule`] knows who is checked when, without a clock.
//! [`run`] is the thread, which has both.

mod conversation;
mod run;
mod schedule;
#[cfg(test)]
mod tests;
mod tls;

#[cfg(feature = "internal")]
pub(crate) use conversation::read_answer;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use super::StartError;
use super::health::Verdict;
use super::state::ServerId;
use crate::config::{Check, SendProxy};
use crate::machine;
use crate::sys::doorbell::Doorbell;
use crate::tls::dial::Dialer;

/// A server that is to be checked.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) server: ServerId,
    pub(crate) addr: SocketAddr,
    pub(crate) check: Arc<Check>,
    /// Rises when what was found out is to be forgotten, be it that everything else is as before.
    pub(crate) epoch: u32,
    /// How it is spoken to by TLS, if it is.
    pub(crate) dialer: Option<Arc<Dialer>>,
    /// What it is told first, on every connection.
    pub(crate) send_proxy: SendProxy,
}

impl Target {
    /// A server that is spoken to by neither TLS nor PROXY headers.
    #[cfg(any(test, feature = "internal"))]
    pub(crate) fn plain(server: ServerId, addr: SocketAddr, check: Arc<Check>) -> Self {
        Self { server, addr, check, epoch: 0, dialer: None, send_proxy: SendProxy::Off }
    }

    /// Whether a check of it finds out the same as one of `other`.
    fn is_checked_like(&self, other: &Self) -> bool {
        let is_same_check = || Arc::ptr_eq(&self.check, &other.check) || self.check == other.check;
        let is_same_tls = match (&self.dialer, &other.dialer) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        let settings = |target: &Self| (target.addr, target.epoch, target.send_proxy);
        settings(self) == settings(other) && is_same_tls && is_same_check()
    }
}

/// A verdict on a server that is new: its first, or another than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) server: ServerId,
    /// Where it was checked: a verdict on an address that was replaced meanwhile is worth nothing.
    pub(crate) addr: SocketAddr,
    pub(crate) verdict: Verdict,
    /// Why, in one phrase: "connection refused", "status 503, 200 to 399 expected".
    pub(crate) detail: String,
    /// How long the last check took.
    pub(crate) took: Duration,
}

/// The checker: a thread, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Checker {
    orders: Arc<Orders>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What the checker's owner wants of it.
#[derive(Debug)]
struct Orders {
    doorbell: Doorbell,
    /// A new set of targets, until the thread has taken it.
    targets: Mutex<Option<Vec<Target>>>,
    is_over: AtomicBool,
}

impl Checker {
    /// Starts the thread, without targets. It has no more than `at_once` checks, of a descriptor each, under way. It calls
    /// `report` with the verdicts of a turn that are new (never with none),
    /// and `on_death` if it can't go on, which only a bug or a lack of memory can bring about: then nobody is checked any
    /// more. Both are called on the thread and must not block.
    ///
    /// # Errors
    /// The kernel refuses a ring or a thread.
    pub(crate) fn start(
        at_once: usize,
        report: impl Fn(Vec<Checked>) + Send + 'static,
        on_death: impl FnOnce(String) + Send + 'static,
    ) -> Result<Self, StartError> {
        let doorbell = Doorbell::new();
        let doorbell = doorbell.map_err(|error| StartError::Kernel(format!("can't make an eventfd: {error}")))?;
        let orders = Arc::new(Orders { doorbell, targets: Mutex::new(None), is_over: AtomicBool::new(false) });
        let (started, outcome) = mpsc::channel();
        let run = {
            let orders = Arc::clone(&orders);
            move || run::on_this_thread(&orders, at_once, report, on_death, |outcome| drop(started.send(outcome)))
        };
        let thread = thread::Builder::new().name("lb-check".into()).spawn(run);
        let thread = thread.map_err(|error| StartError::Kernel(format!("can't start a thread: {error}")))?;
        match outcome.recv() {
            Ok(Ok(())) => Ok(Self { orders, thread: Some(thread) }),
            Ok(Err(error)) => Err(StartError::Kernel(machine::explain(&error).to_string())),
            Err(_) => Err(StartError::Kernel("the checker died while it started".into())),
        }
    }

    /// Checks these servers from now on, and no others; those whose kind is `off` are left out. A server that was there
    /// with the same address, check, TLS and epoch goes on as if nothing had happened; any other starts anew, unproven, and is checked
    /// soon.
    pub(crate) fn set_targets(&self, targets: Vec<Target>) {
        *self.orders.targets.lock().unwrap_or_else(PoisonError::into_inner) = Some(targets);
        self.orders.doorbell.ring();
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.orders.is_over.store(true, Ordering::Release);
        self.orders.doorbell.ring();
        if let Some(thread) = self.thread.take() {
            // Its death was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Orders {
    /// The new targets, if there are any that were not taken yet.
    fn take_targets(&self) -> Option<Vec<Target>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}
