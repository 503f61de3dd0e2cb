//! The server with the fewest connections for its weight, over all shards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use super::tournament::Tournament;
use super::{Candidate, Choice, Policy};

/// Low bits of a key: when the server last got a connection, so that equals take turns.
const TURN_BITS: u32 = 24;
const TURN_MASK: u64 = (1 << TURN_BITS) - 1;
/// Fractions of connections per weight that are told apart. Two different ones, with weights up to 256, are at least
/// 1 / (256 × 255) apart; while servers start slowly, weights are up to ten times that, and some are taken for equal.
const SCALE: u64 = 1 << 16;
/// What is left for the load itself above the turn.
const LOAD_MAX: u64 = (1 << (64 - TURN_BITS)) - 1;

/// Weighted least connections, exact over all shards; servers with equal load take turns.
#[derive(Debug)]
pub struct LeastConnections {
    servers: Arc<[Candidate]>,
    tournament: Tournament,
    turn: CachePadded<AtomicU64>,
}

impl LeastConnections {
    /// Ranks the servers by the connections they have now.
    pub fn new(servers: Arc<[Candidate]>) -> Self {
        let policy = Self { tournament: Tournament::new(servers.len()), servers, turn: CachePadded::default() };
        policy.on_settled();
        policy
    }

    /// The load as it would be with one more connection: with it, an empty heavy server goes before an empty light one.
    fn load(&self, position: usize) -> u64 {
        let server = &self.servers[position];
        let load = (u64::from(server.connections()) + 1) * SCALE / u64::from(server.weight());
        load.min(LOAD_MAX) << TURN_BITS
    }
}

impl Policy for LeastConnections {
    fn choose(&self, _: &Choice) -> Option<usize> {
        self.tournament.winner()
    }

    fn on_opened(&self, position: usize) {
        if position < self.servers.len() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed).wrapping_add(1) & TURN_MASK;
            self.tournament.refresh(position, |_| self.load(position) | turn);
        }
    }

    fn on_closed(&self, position: usize) {
        if position < self.servers.len() {
            self.tournament.refresh(position, |old| self.load(position) | old & TURN_MASK);
        }
    }

    fn on_settled(&self) {
        self.tournament.settle(|position, old| self.load(position) | old & TURN_MASK);
    }

    fn needs_client(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{candidates, choice};
    use super::*;
    use proptest::prelude::*;

    fn open(policy: &LeastConnections) -> usize {
        let position = policy.choose(&choice(0)).unwrap();
        policy.servers[position].count_opened();
        policy.on_opened(position);
        position
    }

    #[test]
    fn equals_take_turns() {
        let policy = LeastConnections::new(candidates(&[1, 1, 1]));
        let opened: Vec<_> = (0..6).map(|_| open(&policy)).collect();
        assert_eq!(opened, [0, 1, 2, 0, 1, 2]);
        // Also when every connection ends before the next begins.
        let policy = LeastConnections::new(candidates(&[1, 1]));
        let mut opened = Vec::new();
        for _ in 0..4 {
            let position = open(&policy);
            policy.servers[position].count_closed();
            policy.on_closed(position);
            opened.push(position);
        }
        assert_eq!(opened, [0, 1, 0, 1]);
    }

    proptest! {
        #[test]
        fn nobody_else_would_be_less_loaded(
            weights in prop::collection::vec(1u16..=256, 1..40),
            steps in prop::collection::vec(any::<Option<prop::sample::Index>>(), 1..200),
        ) {
            let policy = LeastConnections::new(candidates(&weights));
            let mut held: Vec<usize> = Vec::new();
            for step in steps {
                match step {
                    Some(index) if !held.is_empty() => {
                        let position = held.swap_remove(index.index(held.len()));
                        policy.servers[position].count_closed();
                        policy.on_closed(position);
                    }
                    _ => {
                        let connections = |position: usize| u64::from(policy.servers[position].connections()) + 1;
                        let chosen = policy.choose(&choice(0)).unwrap();
                        for other in 0..weights.len() {
                            // connections / weight, compared exactly
                            prop_assert!(
                                connections(chosen) * u64::from(weights[other])
                                    <= connections(other) * u64::from(weights[chosen])
                            );
                        }
                        held.push(open(&policy));
                    }
                }
            }
        }
    }
}
