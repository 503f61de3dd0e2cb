//! Clients that wait for a server: in a queue while every server is at its connection limit, or, if the frontend has them
//! wait, while none is available.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;

use super::shard::{Shard, Turn};
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
    pub(super) until: Time,
    /// Its place in the queue is kept. It leaves it with a server, and takes it again if that one fails.
    is_queued: bool,
}

/// A shard's waiting clients.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// By frontend: those who wait for room, in the order in which they came. May hold some who have left.
    queues: HashMap<u32, VecDeque<Key>>,
    /// Those who wait for a server, and when to try next.
    others: Vec<(Key, Time)>,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.others.is_empty()
    }

    /// Whether clients of a frontend are in the queue.
    pub(super) fn has_queue(&self, frontend: u32) -> bool {
        !self.queues.is_empty() && self.queues.contains_key(&frontend)
    }

    /// There is a new table: whoever waits for a server tries at once.
    pub(super) fn on_new_table(&mut self) {
        self.others.iter_mut().for_each(|(_, next)| *next = 0);
    }
}

impl Shard {
    /// Lets a connection wait for a server for at most `limit` milliseconds. One that waits already does so no longer for
    /// having tried in between.
    pub(super) fn wait_for(&mut self, key: Key, what: WaitsFor, limit: u32) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let before = session.wait;
        if before.is_none() {
            session.counters.waiting.fetch_add(1, Ordering::Relaxed);
        }
        let same = before.filter(|before| before.what == what);
        let until = same.map_or(self.now + Time::from(limit), |before| before.until);
        session.wait = Some(Wait { what, until, is_queued: what == WaitsFor::Room });
        session.conn.on_no_server_yet();
        match (what, same) {
            (WaitsFor::Server, _) => self.waiting.others.push((key, self.now + RETRY_AFTER)),
            (WaitsFor::Room, None) => self.enqueue(key, VecDeque::push_back),
            // It was the first already.
            (WaitsFor::Room, Some(Wait { is_queued: false, .. })) => self.enqueue(key, VecDeque::push_front),
            (WaitsFor::Room, Some(_)) => {}
        }
    }

    fn enqueue(&mut self, key: Key, push: fn(&mut VecDeque<Key>, Key)) {
        let Some(session) = self.sessions.get(key) else { return };
        let queue = self.waiting.queues.entry(session.frontend).or_default();
        push(queue, key);
        // Clients who have left are taken out at the front only, unless they become many.
        if queue.len() > 64 && queue.len() as u64 > 2 * u64::from(session.counters.waiting.load(Ordering::Relaxed)) {
            let sessions = &self.sessions;
            queue.retain(|key| sessions.get(*key).is_some_and(|session| session.waits_for() == Some(WaitsFor::Room)));
        }
    }

    /// Gives servers to clients who wait, where there are some.
    pub(super) fn serve_waiting(&mut self, turn: &Turn<'_>) {
        if self.waiting.is_empty() {
            return;
        }
        let mut queues = std::mem::take(&mut self.waiting.queues);
        queues.retain(|_, queue| {
            while queue.front().is_some_and(|&key| self.serve_first(key, turn)) {
                queue.pop_front();
            }
            !queue.is_empty()
        });
        // Nobody comes in between: clients are accepted before or after.
        self.waiting.queues = queues;
        for (key, next) in std::mem::take(&mut self.waiting.others) {
            match self.sessions.get(key).is_some_and(|session| session.waits_for() == Some(WaitsFor::Server)) {
                false => {}
                true if next > self.now => self.waiting.others.push((key, next)),
                true => self.try_again(key, turn),
            }
        }
    }

    /// True if the first of a queue is not in it any more.
    fn serve_first(&mut self, key: Key, turn: &Turn<'_>) -> bool {
        let waits = |shard: &Self| {
            let session = shard.sessions.get(key);
            session.is_some_and(|session| session.waits_for() == Some(WaitsFor::Room))
        };
        if waits(self) {
            self.try_again(key, turn);
        }
        let stays = waits(self);
        if !stays && let Some(wait) = self.sessions.get_mut(key).and_then(|session| session.wait.as_mut()) {
            wait.is_queued = false;
        }
        !stays
    }

    fn try_again(&mut self, key: Key, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.tried = Vec::new();
        session.conn.on_turn();
        self.drive(key, turn);
    }
}
