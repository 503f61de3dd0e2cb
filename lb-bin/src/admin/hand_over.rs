//! Handing over to a successor that asks for it: the old process's side. `take_over` has the other one.
//!
//! ```text
//! successor                                        this process
//! TakeOver() ───────────────────────────────────▶  refuses changes from here on
//!            ◀──── HandOver(…), then locks and listening sockets
//! starts, accepts from the same sockets
//! TakenOver() ──────────────────────────────────▶  stops accepting, gives up the locks
//!            ◀───────────────────────── Released()
//! puts its admin socket in place, closes ───────▶  ends when its connections have
//! ```
//!
//! If the successor closes before it says `TakenOver`, this process goes on as if nothing had happened.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_lite::FutureExt;
use lb_core::{Control, Drain, Listener, Refused};

use super::descriptors::{self, PER_MESSAGE};
use super::handler::Handler;
use super::parse_request;
use super::reply::{HandedOver, Reply};
use super::request::Request;
use super::socket::{Line, Lines, REPLY_TIMEOUT, UnixStream, send};
use crate::lock::Lock;

/// How long a successor may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long changes that are confirmed already may take to be noted in the state file.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);

impl Handler {
    /// Hands over to the client that has asked for it. Takes until that is done, or has come to nothing.
    pub(super) async fn hand_over_to(&self, mut stream: UnixStream, mut lines: Lines) {
        if let Err(refused) = self.try_hand_over(&mut stream, &mut lines).await {
            tracing::warn!("nothing was handed over: {refused}");
            // It may be gone.
            let _ = send(&mut stream, &refused.into(), REPLY_TIMEOUT).await;
        }
    }

    async fn try_hand_over(&self, stream: &mut UnixStream, lines: &mut Lines) -> Result<(), Refused> {
        let listeners = self.control.hand_over().await?;
        let unfinished = Unfinished(&self.control);
        tracing::info!("a successor is taking over: changes are refused until it is ready");
        self.until_settled().await;
        let given = self.give(stream, &listeners).await;
        given.map_err(|error| Refused::other(format!("the listening sockets can't be passed on: {error}")))?;
        drop(listeners);
        match lines.next(stream, START_TIMEOUT).await {
            Line::Whole(line) if parse_request(&line) == Ok(Request::TakenOver {}) => {}
            _ => return Err(Refused::other("the successor did not get ready, so this balancer goes on")),
        }
        std::mem::forget(unfinished);
        // First of all, as the process may end from the next step on, and then would remove its admin socket.
        self.locks.iter().for_each(Lock::give_up);
        self.door.close();
        // If it has stopped already, it accepts nobody either.
        let _ = self.control.release(Drain::within(self.grace)).await;
        tracing::info!("a successor has taken over: connections may finish for {:?}", self.grace);
        let _ = send(stream, &Reply::Released {}, REPLY_TIMEOUT).await;
        // This process may not end before the successor has told systemd that it is the main one.
        lines.next(stream, REPLY_TIMEOUT).await;
        Ok(())
    }

    /// Waits until what was applied is noted: the successor reads the state file.
    async fn until_settled(&self) {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        let is_settling = || self.own_config.as_ref().is_some_and(|own| own.state.is_settling());
        while is_settling() && Instant::now() < deadline {
            Timer::after(Duration::from_millis(1)).await;
        }
    }

    async fn give(&self, stream: &mut UnixStream, listeners: &[Listener]) -> io::Result<()> {
        let locks: Vec<File> =
            self.locks.iter().filter_map(|lock| lock.duplicate().transpose()).collect::<Result<_, _>>()?;
        let reply = Reply::HandOver { locks: locks.len(), listeners: listeners.iter().map(HandedOver::from).collect() };
        send(stream, &reply, REPLY_TIMEOUT).await?;
        let sockets = listeners.iter().flat_map(|listener| &listener.sockets).map(AsFd::as_fd);
        let all: Vec<BorrowedFd<'_>> = locks.iter().map(AsFd::as_fd).chain(sockets).collect();
        let sending = async {
            for some in all.chunks(PER_MESSAGE) {
                stream.write_with(|stream| descriptors::send(stream, some)).await?;
            }
            Ok(())
        };
        let timeout = async {
            Timer::after(REPLY_TIMEOUT).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        sending.or(timeout).await
    }
}

/// Allows changes again if the successor does not get ready.
struct Unfinished<'a>(&'a Control);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.go_on();
    }
}
