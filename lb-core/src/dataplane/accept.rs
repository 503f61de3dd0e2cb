//! Accepting: which listeners a shard has, how many connections may come in, and what happens at the limits.

use std::collections::{HashMap, HashSet};
use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

use super::key::Operation;
use super::shard::{Session, Shard, Turn};
use super::visit::Visit;
use crate::sys::ring::{Completion, Multishot};
use crate::sys::socket;
use crate::table::counters::{FrontendCounters, ProcessLimit};
use crate::table::{Frontend, ListenerId, Shared, Stop};
use crate::turns::slots::Key;
use crate::turns::timers::Time;

/// With less room than this, connections are accepted one by one: a multishot accept takes all that wait at once, up to
/// the listener's backlog.
const MULTISHOT_ROOM: u32 = 4096;

/// Milliseconds for which nothing is accepted after descriptors ran out.
const SHORT_PAUSE: Time = 100;

/// A client that was accepted beyond a limit.
pub(super) struct Parked {
    listener: Key,
    /// That of the listener, which may be gone before the client is served.
    frontend: u32,
    client: OwnedFd,
}

/// A listening socket that this shard accepts from.
pub(super) struct Listener {
    id: ListenerId,
    frontend: u32,
    socket: RawFd,
    accept: Accept,
    /// True from when no table has it any more until the kernel has let go of it.
    is_leaving: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accept {
    /// Nothing in the kernel.
    Idle,
    /// Accepts all that come.
    Many,
    /// Accepts one.
    One,
    /// Was asked to stop.
    Stopping,
}

impl Listener {
    fn new(frontend: &Frontend, socket: RawFd) -> Self {
        Self { id: frontend.listener, frontend: frontend.id, socket, accept: Accept::Idle, is_leaving: false }
    }
}

impl Shard {
    /// Follows the table: new listeners are armed, those that are gone are left.
    pub(super) fn follow_listeners(&mut self, turn: &Turn<'_>) {
        let frontends = &turn.table.frontends;
        let is_removed = |listener: &Listener| !listener.is_leaving && turn.table.frontend(listener.frontend).is_none();
        if self.listener_keys().any(|key| self.listeners.get(key).is_some_and(is_removed)) {
            self.is_to_close_idle_clients = true;
        }
        let wanted: HashSet<ListenerId> = frontends.iter().map(|frontend| frontend.listener).collect();
        self.leave_listeners(|listener| !wanted.contains(&listener.id));
        let known: HashMap<_, Key> = self.listener_keys().filter_map(|key| self.identified(key)).collect();
        for frontend in frontends {
            for &socket in &frontend.sockets[self.number] {
                let key = known.get(&(frontend.listener, socket)).copied();
                let key = key.or_else(|| self.listeners.insert(Listener::new(frontend, socket)));
                let Some(key) = key else { continue };
                if let Some(listener) = self.listeners.get_mut(key) {
                    listener.frontend = frontend.id;
                }
                self.rearm(key, turn);
            }
        }
    }

    fn listener_keys(&self) -> impl Iterator<Item = Key> {
        (0..self.listeners.slots()).filter_map(|slot| self.listeners.key_of(slot))
    }

    fn identified(&self, key: Key) -> Option<((ListenerId, RawFd), Key)> {
        self.listeners.get(key).map(|listener| ((listener.id, listener.socket), key))
    }

    /// Ends every accept in the kernel and begins it anew, which finds who waits already.
    pub(super) fn renew_accepts(&mut self) {
        for slot in 0..self.listeners.slots() {
            let Some(key) = self.listeners.key_of(slot) else { continue };
            if self.listeners.get(key).is_some_and(|listener| matches!(listener.accept, Accept::Many | Accept::One)) {
                // When it has ended, it is armed again.
                self.stop_accept(key);
            }
        }
    }

    /// Stops accepting on some listeners, for good.
    pub(super) fn leave_listeners(&mut self, is_gone: impl Fn(&Listener) -> bool) {
        for slot in 0..self.listeners.slots() {
            let Some(key) = self.listeners.key_of(slot) else { continue };
            let Some(listener) = self.listeners.get_mut(key).filter(|listener| !listener.is_leaving) else { continue };
            if !is_gone(listener) {
                continue;
            }
            listener.is_leaving = true;
            match listener.accept {
                Accept::Idle => drop(self.listeners.remove(key)),
                Accept::Many | Accept::One => self.stop_accept(key),
                Accept::Stopping => {}
            }
        }
    }

    pub(super) fn is_leaving_listeners(&self) -> bool {
        self.listener_keys().any(|key| self.listeners.get(key).is_some_and(|listener| listener.is_leaving))
    }

    /// An accept has given a connection, or ended.
    pub(super) fn on_accepted(&mut self, key: Key, completion: &Completion, turn: &Turn<'_>) {
        let client = (completion.result >= 0).then(|| socket::from_completion(completion.result));
        let Some(listener) = self.listeners.get_mut(key) else {
            return self.on_stale();
        };
        if !completion.has_more() {
            listener.accept = Accept::Idle;
        }
        let (is_leaving, is_idle) = (listener.is_leaving, listener.accept == Accept::Idle);
        let frontend = listener.frontend;
        match client {
            // Also while the listener is being left: the client came before.
            Some(client) => self.admit(Parked { listener: key, frontend, client }, turn),
            None => self.on_accept_failed(-completion.result, turn),
        }
        if is_leaving && is_idle {
            self.listeners.remove(key);
        } else {
            self.rearm(key, turn);
        }
    }

    fn on_accept_failed(&mut self, errno: i32, turn: &Turn<'_>) {
        match errno {
            // The client gave up first, or we stopped.
            libc::ECONNABORTED | libc::ECANCELED | libc::EINTR | libc::EPROTO | libc::EPERM => {}
            libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => self.on_shortage(errno, turn),
            _ => self.short_until = self.now + SHORT_PAUSE,
        }
    }

    /// Descriptors (or the kernel's memory for sockets) have run out.
    pub(super) fn on_shortage(&mut self, errno: i32, turn: &Turn<'_>) {
        self.short_until = self.now + SHORT_PAUSE;
        self.pipes.close_idle();
        self.recycled.close_all();
        self.close_idle_links();
        if !turn.shared.process.shortage_logged.swap(true, Ordering::Relaxed) {
            let error = std::io::Error::from_raw_os_error(errno);
            tracing::warn!("accepting pauses: {error}; raise `ulimit -n` or lower max_connections");
        }
    }

    /// Serves a client, or parks it if that would exceed a limit.
    fn admit(&mut self, client: Parked, turn: &Turn<'_>) {
        if let Some(client) = self.try_admit(client, turn) {
            self.parked.push_back(client);
        }
    }

    /// Gives the client back if there is no room. A client whose frontend is gone is closed, and so is everyone at the end.
    fn try_admit(&mut self, parked: Parked, turn: &Turn<'_>) -> Option<Parked> {
        if turn.shared.stop() == Stop::Close {
            return None;
        }
        // The listener may be another frontend's by now.
        let frontend = self.listeners.get(parked.listener).map_or(parked.frontend, |listener| listener.frontend);
        let frontend = turn.table.frontend(frontend)?;
        if !claim(frontend, &turn.shared.process) {
            return Some(parked);
        }
        let client = parked.client;
        frontend.counters.shards[self.number].accepted.add(1);
        turn.shared.counters[self.number].accepted.add(1);
        let mut session = Session::new(client, frontend, self.now_micros, self.number);
        session.visit = turn.shared.access.are_on().then(|| Box::new(Visit::new(&frontend.name, self.now_micros)));
        let limit = session.limit();
        match self.sessions.insert(session) {
            Some(key) => {
                self.timers.set(key.slot, self.now + Time::from(limit));
                self.drive(key, turn);
            }
            None => release(&frontend.counters, turn.shared),
        }
        None
    }

    /// Serves who was parked and accepts again, where there is room.
    pub(super) fn resume_accepting(&mut self, turn: &Turn<'_>) {
        for _ in 0..self.parked.len() {
            let Some(client) = self.parked.pop_front() else { break };
            self.admit(client, turn);
        }
        if self.is_paused {
            self.is_paused = false;
            for slot in 0..self.listeners.slots() {
                if let Some(key) = self.listeners.key_of(slot) {
                    self.rearm(key, turn);
                }
            }
        }
    }

    /// Brings a listener's accept in line with the room there is.
    fn rearm(&mut self, key: Key, turn: &Turn<'_>) {
        let Some(listener) = self.listeners.get_mut(key).filter(|listener| !listener.is_leaving) else { return };
        let Some(frontend) = turn.table.frontend(listener.frontend) else { return };
        // Who was accepted and waits for a descriptor comes before who would take another one.
        let is_short = self.now < self.short_until || !self.waiting_for_descriptors.is_empty();
        let wanted = match room(frontend, &turn.shared.process) {
            _ if is_short => Accept::Idle,
            0 => Accept::Idle,
            1..MULTISHOT_ROOM => Accept::One,
            _ => Accept::Many,
        };
        match (listener.accept, wanted) {
            (Accept::Idle, Accept::One | Accept::Many) => {
                let multishot = if wanted == Accept::Many { Multishot::Yes } else { Multishot::No };
                listener.accept = wanted;
                self.ring.accept(listener.socket, multishot, Operation::Accept(key).encode());
            }
            (Accept::Many, Accept::Idle | Accept::One) => self.stop_accept(key),
            _ => {}
        }
        let is_paused = wanted == Accept::Idle;
        self.is_paused |= is_paused;
        let counters = &frontend.counters.shards[self.number];
        if is_paused && counters.paused.get() == 0 {
            counters.pauses.add(1);
        }
        counters.paused.set(is_paused.into());
        if !is_short {
            say_pause(frontend, turn.shared, is_paused);
            self.say_plenty(turn);
        }
    }

    /// Says once that descriptors suffice again: when they have for a second.
    fn say_plenty(&self, turn: &Turn<'_>) {
        let logged = &turn.shared.process.shortage_logged;
        let is_over = self.now > self.short_until + 1_000;
        if logged.load(Ordering::Relaxed) && is_over && logged.swap(false, Ordering::Relaxed) {
            tracing::info!("descriptors suffice again");
        }
    }

    fn stop_accept(&mut self, key: Key) {
        if let Some(listener) = self.listeners.get_mut(key) {
            listener.accept = Accept::Stopping;
            self.ring.cancel(Operation::Accept(key).encode(), Operation::Nothing.encode());
        }
    }
}

/// Counts one connection more, if no limit is exceeded by it.
fn claim(frontend: &Frontend, process: &ProcessLimit) -> bool {
    if !claim_one(&frontend.counters.open, frontend.max_connections) {
        return false;
    }
    if !claim_one(&process.open, process.max) {
        frontend.counters.open.fetch_sub(1, Ordering::Relaxed);
        return false;
    }
    true
}

fn claim_one(open: &AtomicU32, max: u32) -> bool {
    if open.fetch_add(1, Ordering::Relaxed) < max {
        return true;
    }
    open.fetch_sub(1, Ordering::Relaxed);
    false
}

/// Ends what a claim began.
pub(super) fn release(counters: &FrontendCounters, shared: &Shared) {
    counters.open.fetch_sub(1, Ordering::Relaxed);
    shared.process.open.fetch_sub(1, Ordering::Relaxed);
}

/// How many connections more there may be.
fn room(frontend: &Frontend, process: &ProcessLimit) -> u32 {
    let of = |open: &AtomicU32, max: u32| max.saturating_sub(open.load(Ordering::Relaxed));
    of(&frontend.counters.open, frontend.max_connections).min(of(&process.open, process.max))
}

/// Says once that a limit pauses accepting, and once that it is over: when a tenth of the limit is free again.
fn say_pause(frontend: &Frontend, shared: &Shared, is_paused: bool) {
    let logged = &frontend.counters.pause_logged;
    if is_paused {
        if !logged.swap(true, Ordering::Relaxed) {
            let own = frontend.counters.open.load(Ordering::Relaxed) >= frontend.max_connections;
            let (whose, max) = match own {
                true => ("its", frontend.max_connections),
                false => ("the process's", shared.process.max),
            };
            tracing::warn!(
                "frontend {} pauses accepting: {whose} limit of {max} connections is reached",
                frontend.name
            );
        }
    } else if logged.load(Ordering::Relaxed) {
        let max = frontend.max_connections.min(shared.process.max);
        if room(frontend, &shared.process) > max / 10 && logged.swap(false, Ordering::Relaxed) {
            tracing::info!("frontend {} accepts again", frontend.name);
        }
    }
}
