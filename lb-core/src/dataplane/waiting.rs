//! Clients that wait for a server: in a queue while every server is at its connection limit, or, if the frontend has them
//! wait, while none is available.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;

use super::choose::Tried;
use super::shard::{Session, Shard, Turn};
use crate::config::Name;
use crate::turns::slots::Key;
use crate::turns::timers::Time;

/// Milliseconds after which servers that have failed a waiting client are tried again: one that was just restarted is found
/// before a check finds it.
const RETRY_AFTER: Time = 250;

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitsFor {
    /// Room at a server, in turn.
    Room,
    /// A server that is available.
    Server,
}

/// That a client waits, and until when at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    pub(super) what: WaitsFor,
    /// When it began to wait for anything: what it waits for may change again and again.
    since: Time,
    pub(super) until: Time,
    /// Whether it is in a queue. It leaves it when it is its turn, and may wait again if that server fails it.
    is_queued: bool,
    /// The server whose queue that is: the one that the client stays on.
    pub(super) server: Option<u64>,
}

/// Who stands in one queue, in the order in which they came: those of a frontend who wait for room at a group of servers, or
/// at the one that they stay on. Those would hold up the others, who can go to any.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Queue {
    frontend: u32,
    group: Option<Name>,
    server: Option<u64>,
}

/// A shard's waiting clients.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Those who wait for room. May hold some who have left.
    queues: HashMap<Queue, VecDeque<Key>>,
    /// Those who wait and are in no queue, and when to try next.
    others: Vec<(Key, Time)>,
    /// The first of those times: there may be many of them, and they are not looked at before.
    next_try: Time,
    /// When the queues are looked at next, unless a connection ends before.
    next_look: Time,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.others.is_empty()
    }

    /// Whether clients of a frontend are in the queue for a group of its servers, or for one of them.
    pub(super) fn has_queue(&self, frontend: u32, group: Option<&Name>, server: Option<u64>) -> bool {
        !self.queues.is_empty() && self.queues.contains_key(&Queue { frontend, group: group.cloned(), server })
    }

    /// There is a new table: whoever waits tries at once.
    pub(super) fn on_new_table(&mut self) {
        self.next_look = 0;
        self.others.iter_mut().for_each(|(_, next)| *next = 0);
        self.next_try = 0;
    }

    fn try_at(&mut self, key: Key, next: Time) {
        self.next_try = if self.others.is_empty() { next } else { self.next_try.min(next) };
        self.others.push((key, next));
    }

    /// A connection has ended: there may be room.
    pub(super) fn on_room(&mut self) {
        self.next_look = 0;
    }
}

impl Shard {
    /// Lets a connection wait for a server, or for this one, for at most `limit` milliseconds. One that waits already does so
    /// no longer for having tried in between.
    pub(super) fn wait_for(&mut self, key: Key, what: WaitsFor, server: Option<u64>, limit: u32) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let before = session.wait;
        if before.is_none() {
            session.counters.waiting.fetch_add(1, Ordering::Relaxed);
        }
        let is_same = before.is_some_and(|before| before.what == what);
        let since = before.map_or(self.now, |before| before.since);
        let until = before.filter(|_| is_same).map_or(since + Time::from(limit), |before| before.until);
        let is_new = what == WaitsFor::Room && !before.is_some_and(|before| is_same && before.server == server);
        let is_queued = is_new || what == WaitsFor::Room && before.is_some_and(|before| before.is_queued);
        session.wait = Some(Wait { what, since, until, is_queued, server });
        session.conn.on_no_server_yet();
        if !is_same {
            // Without it, who has waited for something else before would be looked after only when that was over.
            self.timers.set(key.slot, until);
        }
        match (is_new, is_queued) {
            (true, _) => self.enqueue(key),
            (false, true) => {}
            (false, false) => self.waiting.try_at(key, self.now + RETRY_AFTER),
        }
    }

    /// A client that has waited for the server that it stays on for as long as it may takes any other one. False if it has not.
    pub(super) fn forsake_server(&mut self, key: Key, turn: &Turn<'_>) -> bool {
        let Some(session) = self.sessions.get_mut(key) else { return false };
        let has_waited = session.waits() && session.wait.is_some_and(|wait| wait.server.is_some());
        if !has_waited || std::mem::replace(&mut session.has_forsaken, true) {
            return false;
        }
        // Nobody else's turn is taken: if there is no room now, it has waited long enough.
        self.timers.set(key.slot, self.now + 1);
        self.try_again(key, turn);
        true
    }

    fn enqueue(&mut self, key: Key) {
        let Some(session) = self.sessions.get(key) else { return };
        let server = session.wait.and_then(|wait| wait.server);
        let queue = Queue { frontend: session.frontend, group: session.group().cloned(), server };
        let queue = self.waiting.queues.entry(queue).or_default();
        queue.push_back(key);
        // Clients who have left are taken out at the front only, unless they become many.
        if queue.len() > 64 && queue.len() as u64 > 2 * u64::from(session.counters.waiting.load(Ordering::Relaxed)) {
            let sessions = &self.sessions;
            queue.retain(|key| sessions.get(*key).is_some_and(|session| session.is_queued_for(server)));
        }
    }

    /// Gives servers to clients who wait, where there are some.
    pub(super) fn serve_waiting(&mut self, turn: &Turn<'_>) {
        if self.waiting.is_empty() {
            return;
        }
        // Every server is asked for room: not in each of many turns in a millisecond.
        if self.now >= self.waiting.next_look {
            self.waiting.next_look = self.now + 1;
            self.serve_queues(turn);
        }
        if self.now < self.waiting.next_try {
            return;
        }
        for (key, next) in std::mem::take(&mut self.waiting.others) {
            match self.sessions.get(key).is_some_and(|session| session.waits() && !session.is_queued()) {
                false => {}
                true if next > self.now => self.waiting.try_at(key, next),
                true => self.try_again(key, turn),
            }
        }
    }

    fn serve_queues(&mut self, turn: &Turn<'_>) {
        let mut queues = std::mem::take(&mut self.waiting.queues);
        // First those who can go to one server only.
        for is_for_one in [true, false] {
            queues.retain(|which, queue| {
                if which.server.is_some() == is_for_one {
                    while queue.front().is_some_and(|&key| self.serve_first(key, which.server, turn)) {
                        queue.pop_front();
                    }
                }
                !queue.is_empty()
            });
        }
        // No client is accepted in between, but some may have changed to another queue.
        for (which, others) in std::mem::replace(&mut self.waiting.queues, queues) {
            self.waiting.queues.entry(which).or_default().extend(others);
        }
    }

    /// True if the first of a queue is not in it any more.
    fn serve_first(&mut self, key: Key, server: Option<u64>, turn: &Turn<'_>) -> bool {
        if self.sessions.get(key).is_some_and(|session| session.is_queued_for(server)) {
            self.try_again(key, turn);
        }
        let Some(session) = self.sessions.get_mut(key) else { return true };
        let (waits, stays) = (session.waits(), session.is_queued_for(server));
        if let (false, Some(wait)) = (waits, &mut session.wait) {
            wait.is_queued = false;
        }
        !stays
    }

    fn try_again(&mut self, key: Key, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.tried = Tried::default();
        session.conn.on_turn();
        self.drive(key, turn);
    }
}

impl Session {
    /// Whether the client waits for a server, and none is being tried.
    fn waits(&self) -> bool {
        self.wait.is_some() && self.conn.waits_for_server()
    }

    /// Whether it does so in the queue for this server, or for any.
    fn is_queued_for(&self, server: Option<u64>) -> bool {
        self.is_queued() && self.wait.is_some_and(|wait| wait.server == server)
    }

    /// Whether it does so in a queue.
    fn is_queued(&self) -> bool {
        self.waits() && self.wait.is_some_and(|wait| wait.is_queued)
    }
}
