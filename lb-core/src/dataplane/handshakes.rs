//! The TLS handshakes with clients that are under way on a shard: how many, and which has been for longest. When there are
//! too many, that one gives way: who means it needs a round trip, so it is most likely somebody who does not go on.

use std::collections::VecDeque;

use super::shard::Session;
use crate::turns::slots::{Key, Slots};

/// Handshakes under way.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    /// In the order in which they have begun. May hold some that have ended.
    order: VecDeque<Key>,
    under_way: u32,
}

impl Handshakes {
    pub(super) fn under_way(&self) -> u32 {
        self.under_way
    }

    /// A client has begun its handshake.
    pub(super) fn begin(&mut self, key: Key, sessions: &mut Slots<Session>) {
        let Some(session) = sessions.get_mut(key).filter(|session| !session.is_handshaking) else { return };
        session.is_handshaking = true;
        self.under_way += 1;
        self.order.push_back(key);
        if self.order.len() > 64 + 2 * self.under_way as usize {
            self.order.retain(|key| sessions.get(*key).is_some_and(|session| session.is_handshaking));
        }
    }

    /// It is over, if it had begun.
    pub(super) fn end(&mut self, session: &mut Session) {
        if session.is_handshaking {
            session.is_handshaking = false;
            self.under_way -= 1;
        }
    }

    /// Takes out the one that has been under way for longest.
    pub(super) fn oldest(&mut self, sessions: &Slots<Session>) -> Option<Key> {
        let is_under_way = |key: &Key| sessions.get(*key).is_some_and(|session| session.is_handshaking);
        while let Some(key) = self.order.pop_front() {
            if is_under_way(&key) {
                return Some(key);
            }
        }
        None
    }
}
