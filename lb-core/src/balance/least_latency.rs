//! The quicker of two servers chosen at random. A server's latency is a peak EWMA, as in Twitter's Finagle (`PeakEwma`):
//! one slow answer is enough to avoid it, and what is remembered fades, so that it is tried again.
//! As there, the latency is multiplied by the connections that the server has. Choosing between two
//! (M. Mitzenmacher, "The power of two choices in randomized load balancing", 2001) keeps all from running to the one that
//! is quickest at the moment.
//!
//! What fails quickly must not look quick: where a connection fails that was to be measured, the balancer records the whole
//! connect timeout. A server that answers "error" quickly is quick to a balancer of TCP.

use std::sync::Arc;

use super::draw::WeightedDraw;
use super::{Candidate, Choice, Policy};
use crate::table::PeakEwma;

/// Power of two choices by latency. Both are drawn by weight; the one with the lower latency, times its connections and
/// this one, divided by its weight, is taken.
#[derive(Debug)]
pub struct LeastLatency {
    servers: Arc<[Candidate]>,
    draw: WeightedDraw,
}

impl LeastLatency {
    /// Prepares the draw. What was measured belongs to the servers, and stays.
    pub fn new(servers: Arc<[Candidate]>) -> Self {
        Self { draw: WeightedDraw::of(&servers), servers }
    }

    fn is_quicker(&self, one: usize, other: usize, now: u64) -> bool {
        let (one, other) = (&self.servers[one], &self.servers[other]);
        let load = |server: &Candidate| (server.connections() as f32 + 1.0) / f32::from(server.weight());
        let (latency, other_latency) = comparable(one, other, now);
        load(one) * latency <= load(other) * other_latency
    }
}

/// The latencies of two servers in microseconds, of what is known of both: a new server has connected before it has
/// answered, and its time to connect must not be compared with another's time to connect and to answer. If nothing is known
/// of one of them, they are equal, and their connections decide: so a new server gets its share, and not all at once.
fn comparable(one: &Candidate, other: &Candidate, now: u64) -> (f32, f32) {
    let (one, other) = (one.endpoint.load.latency(), other.endpoint.load.latency());
    let both = |one: &PeakEwma, other: &PeakEwma| one.estimate(now).zip(other.estimate(now));
    match (both(&one.connect, &other.connect), both(&one.first_byte, &other.first_byte)) {
        (None, None) => (1.0, 1.0),
        (Some(known), None) | (None, Some(known)) => known,
        (Some(connect), Some(first_byte)) => (connect.0 + first_byte.0, connect.1 + first_byte.1),
    }
}

impl Policy for LeastLatency {
    fn choose(&self, choice: &Choice) -> Option<usize> {
        let (one, other) = self.draw.two(choice.random)?;
        Some(if one == other || self.is_quicker(one, other, choice.now) { one } else { other })
    }

    fn needs_client(&self) -> bool {
        false
    }

    fn needs_latency(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{candidates, choice};
    use super::*;
    use std::time::Duration;

    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000;
    /// Random bits that differ in the order in which the two of a pair are drawn, and in who is drawn twice.
    const BITS: [u64; 4] = [0, u64::MAX, 0x1234_5678_9abc_def0, 7 << 40];

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// What is chosen for each of [`BITS`] at a time; the same for all.
    fn chosen(policy: &LeastLatency, now: u64) -> usize {
        let chosen = BITS.map(|random| policy.choose(&Choice { now, ..choice(random) }).unwrap());
        assert!(chosen.iter().all(|position| *position == chosen[0]), "{chosen:?}");
        chosen[0]
    }

    #[test]
    fn the_quicker_of_two_is_taken_until_it_has_too_many_connections() {
        let policy = LeastLatency::new(candidates(&[1, 1]));
        policy.servers[0].record_first_byte_time(0, millis(40));
        policy.servers[1].record_first_byte_time(0, millis(10));
        for _ in 0..3 {
            assert_eq!(chosen(&policy, 0), 1);
            policy.servers[1].count_opened();
        }
        // Now 40 ms × 1 against 10 ms × 5.
        policy.servers[1].count_opened();
        assert_eq!(chosen(&policy, 0), 0);
    }

    #[test]
    fn times_to_connect_count_where_no_answers_are_seen() {
        let policy = LeastLatency::new(candidates(&[1, 1]));
        policy.servers[0].record_connect_time(0, millis(1));
        policy.servers[1].record_connect_time(0, millis(2));
        assert_eq!(chosen(&policy, 0), 0);
    }

    #[test]
    fn a_heavy_server_may_take_longer() {
        let policy = LeastLatency::new(candidates(&[1, 3]));
        policy.servers[0].record_first_byte_time(0, millis(10));
        policy.servers[1].record_first_byte_time(0, millis(29));
        assert_eq!(chosen(&policy, 0), 1);
    }

    #[test]
    fn a_new_server_gets_no_more_than_makes_it_equal() {
        let policy = LeastLatency::new(candidates(&[1, 1]));
        policy.servers[0].record_connect_time(0, millis(1));
        policy.servers[0].record_first_byte_time(0, millis(500));
        (0..5).for_each(|_| policy.servers[0].count_opened());
        for _ in 0..5 {
            assert_eq!(chosen(&policy, 0), 1);
            policy.servers[1].count_opened();
            // That it connects quickly says nothing of how it answers.
            policy.servers[1].record_connect_time(0, millis(1));
        }
        policy.servers[1].count_opened();
        assert_eq!(chosen(&policy, 0), 0);
    }

    #[test]
    fn who_has_failed_is_avoided_and_tried_again_later() {
        let policy = LeastLatency::new(candidates(&[1, 1]));
        policy.servers[0].record_connect_time(0, Duration::from_secs(5));
        for second in 0..60 {
            policy.servers[1].record_connect_time(second * SECOND, millis(1));
            assert_eq!(chosen(&policy, second * SECOND), 1, "after {second} s");
        }
        policy.servers[1].record_connect_time(120 * SECOND, millis(1));
        assert_eq!(chosen(&policy, 120 * SECOND), 0);
    }

    #[test]
    fn without_servers_there_is_no_choice_and_a_lone_one_is_always_taken() {
        assert_eq!(LeastLatency::new(candidates(&[])).choose(&choice(0)), None);
        assert_eq!(chosen(&LeastLatency::new(candidates(&[2])), 0), 0);
    }

    proptest! {
        #[test]
        fn the_slowest_is_never_taken_where_connections_and_weights_are_equal(
            times in prop::collection::hash_set(1u64..60_000, 2..20),
            random: u64,
        ) {
            let times: Vec<u64> = times.into_iter().collect();
            let policy = LeastLatency::new(candidates(&vec![1; times.len()]));
            for (server, time) in policy.servers.iter().zip(&times) {
                server.record_connect_time(0, millis(*time));
            }
            let chosen = policy.choose(&choice(random)).unwrap();
            prop_assert!(times[chosen] < *times.iter().max().unwrap());
        }
    }
}
