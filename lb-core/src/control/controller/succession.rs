//! Handing over to another process: the listening sockets are given away while they are accepted from, so that no
//! connection is refused between one process and the next.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::Controller;
use crate::control::change::Refused;
use crate::control::listeners::Listener;
use crate::table::Stop;

impl Controller {
    /// Whether anything may be changed now.
    pub(super) fn check_changeable(&self) -> Result<(), Refused> {
        match self.shared.stop() {
            Stop::No if self.is_handing_over => {
                Err(Refused::unavailable("a successor is taking over: ask again in a moment"))
            }
            Stop::No => Ok(()),
            Stop::HandedOver => Err(Refused::unavailable("a successor has taken over: ask again")),
            Stop::Drain | Stop::Close => Err(Refused::unavailable("the balancer is stopping")),
        }
    }

    /// The listening sockets, for another process. Nothing is changed from here on.
    pub(super) fn hand_over(&mut self) -> Result<Vec<Listener>, Refused> {
        self.check_changeable()?;
        let listeners = self.duplicate_listeners();
        let listeners =
            listeners.map_err(|error| Refused::other(format!("the listening sockets can't be duplicated: {error}")))?;
        self.is_handing_over = true;
        Ok(listeners)
    }

    fn duplicate_listeners(&self) -> io::Result<Vec<Listener>> {
        let running = self.running.0.iter();
        let listeners = running.map(|frontend| frontend.listener.duplicate(frontend.entry.frontend.name()));
        let mut listeners = listeners.collect::<io::Result<Vec<_>>>()?;
        listeners.extend(self.factory.opener.duplicate_unused(&listeners)?);
        Ok(listeners)
    }

    /// No other process accepts from the same sockets any more.
    pub(in crate::control) fn go_on(&mut self) {
        self.is_handing_over = false;
        self.save_start();
        self.shared.renew_accepts();
    }

    /// Stops accepting because another process does. Returns when no shard accepts any more.
    pub(in crate::control) fn release(&mut self) {
        self.shared.set_stop(Stop::HandedOver);
        self.let_go();
    }

    /// Closes the listening sockets, which are another process's too. Unlike a stop this ends nothing
    /// for the other process, and if that one ends, its clients are refused instead of left waiting.
    pub(super) fn let_go(&mut self) {
        while !self.shared.all_left() && self.shared.stop() != Stop::Close {
            // Shards wake this thread; the time limit is for one that dies instead.
            thread::park_timeout(Duration::from_millis(20));
        }
        for frontend in &mut self.running.0 {
            frontend.listener = Arc::new(frontend.listener.without_sockets());
        }
        self.factory.opener.close();
    }
}
