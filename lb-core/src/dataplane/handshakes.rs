//! The TLS handshakes with clients that are under way on a shard: how many of each frontend, and which has been for longest.
//! When there are too many, that one gives way: who means it needs a round trip, so it is most likely somebody who does not go
//! on.

use std::collections::{HashMap, VecDeque};

use super::shard::Session;
use crate::turns::slots::{Key, Slots};

/// Handshakes under way, by frontend.
#[derive(Debug)]
pub(super) struct Handshakes {
    shard: usize,
    frontends: HashMap<u32, UnderWay>,
}

#[derive(Debug, Default)]
struct UnderWay {
    /// In the order in which they have begun. May hold some that have ended.
    order: VecDeque<Key>,
    count: u32,
}

impl Handshakes {
    /// None yet, of this shard.
    pub(super) fn new(shard: usize) -> Self {
        Self { shard, frontends: HashMap::new() }
    }

    /// How many there are of a frontend.
    pub(super) fn under_way(&self, frontend: u32) -> u32 {
        self.frontends.get(&frontend).map_or(0, |under_way| under_way.count)
    }

    /// A client has begun its handshake.
    pub(super) fn begin(&mut self, key: Key, sessions: &mut Slots<Session>) {
        let Some(session) = sessions.get_mut(key).filter(|session| !session.is_handshaking) else { return };
        session.is_handshaking = true;
        let under_way = self.frontends.entry(session.frontend).or_default();
        under_way.count += 1;
        under_way.order.push_back(key);
        session.counters.shards[self.shard].handshaking.set(under_way.count.into());
        if under_way.order.len() > 64 + 2 * under_way.count as usize {
            under_way.order.retain(|key| sessions.get(*key).is_some_and(|session| session.is_handshaking));
        }
    }

    /// It is over, if it had begun.
    pub(super) fn end(&mut self, session: &mut Session) {
        if !std::mem::take(&mut session.is_handshaking) {
            return;
        }
        let Some(under_way) = self.frontends.get_mut(&session.frontend) else { return };
        under_way.count -= 1;
        session.counters.shards[self.shard].handshaking.set(under_way.count.into());
        if under_way.count == 0 {
            self.frontends.remove(&session.frontend);
        }
    }

    /// Takes out the one of a frontend that has been under way for longest.
    pub(super) fn oldest(&mut self, frontend: u32, sessions: &Slots<Session>) -> Option<Key> {
        let order = &mut self.frontends.get_mut(&frontend)?.order;
        let is_under_way = |key: &Key| sessions.get(*key).is_some_and(|session| session.is_handshaking);
        while let Some(key) = order.pop_front() {
            if is_under_way(&key) {
                return Some(key);
            }
        }
        None
    }
}
