//! Each server in turn, by weight.
//!
//! One cycle is laid out when the policy is built: a server of weight w has w places, spread evenly over the cycle, so
//! that a heavy server's connections do not come in a row. All shards walk the same cycle by one counter, so the shares
//! are exact over the whole process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;

use super::{Candidate, Choice, Policy};

/// Weighted round robin, smooth and exact over all shards.
#[derive(Debug)]
pub struct RoundRobin {
    /// Positions of candidates, in the order in which they get connections.
    cycle: Box<[u32]>,
    next: CachePadded<AtomicUsize>,
}

impl RoundRobin {
    /// Lays out the cycle: time and memory grow with the sum of the weights divided by their greatest common divisor.
    pub fn new(servers: &[Candidate]) -> Self {
        let divisor =
            servers.iter().fold(0, |divisor, server| greatest_common_divisor(divisor, server.weight().into()));
        let shares: Vec<u64> = servers.iter().map(|server| u64::from(server.weight()) / divisor).collect();
        Self { cycle: spread(&shares), next: CachePadded::default() }
    }

    /// The same after so many choices: servers that come and go often must not let the first of a cycle go first each time.
    #[must_use]
    pub fn after(self, choices: u64) -> Self {
        Self { next: CachePadded::new(AtomicUsize::new(choices as usize)), ..self }
    }
}

impl Policy for RoundRobin {
    fn choose(&self, _: &Choice) -> Option<usize> {
        if self.cycle.is_empty() {
            return None;
        }
        // Once in 2^64 choices the counter wraps, and a cycle is cut short.
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        Some(self.cycle[turn % self.cycle.len()] as usize)
    }

    fn needs_client(&self) -> bool {
        false
    }
}

/// A cycle in which position `i` stands `shares[i]` times, as evenly spread as possible: the k-th of w places belongs at
/// (k + phase) / w of the cycle, where the phases of servers with equal shares are spread evenly too. Places are sorted by
/// that fraction with a counting sort, one bucket per place of the cycle.
fn spread(shares: &[u64]) -> Box<[u32]> {
    let total: u64 = shares.iter().sum();
    let phases = phases(shares);
    let bucket = |position: usize, k: u64| {
        let (rank, equals) = phases[position];
        ((2 * (k * equals + rank) + 1) * total / (2 * equals * shares[position])) as usize
    };
    let places = || (0..shares.len()).flat_map(|position| (0..shares[position]).map(move |k| (position, k)));
    let mut starts = vec![0u32; total as usize + 1];
    places().for_each(|(position, k)| starts[bucket(position, k) + 1] += 1);
    for index in 1..starts.len() {
        starts[index] += starts[index - 1];
    }
    let mut cycle = vec![0u32; total as usize];
    for (position, k) in places() {
        let start = &mut starts[bucket(position, k)];
        cycle[*start as usize] = position as u32;
        *start += 1;
    }
    cycle.into()
}

/// For each position: which one it is among those with the same share, and how many they are.
fn phases(shares: &[u64]) -> Vec<(u64, u64)> {
    let mut equals: HashMap<u64, u64> = HashMap::new();
    let ranks: Vec<u64> = shares
        .iter()
        .map(|&share| {
            let count = equals.entry(share).or_default();
            *count += 1;
            *count - 1
        })
        .collect();
    ranks.into_iter().zip(shares).map(|(rank, share)| (rank, equals[share])).collect()
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{candidates, choice};
    use super::*;
    use proptest::prelude::*;

    fn turns(weights: &[u16], count: usize) -> Vec<usize> {
        let policy = RoundRobin::new(&candidates(weights));
        (0..count).map(|_| policy.choose(&choice(0)).unwrap()).collect()
    }

    #[test]
    fn equal_servers_take_turns() {
        assert_eq!(turns(&[1, 1, 1], 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(turns(&[7, 7], 4), [0, 1, 0, 1]);
    }

    #[test]
    fn a_heavy_server_is_spread_over_the_cycle() {
        assert_eq!(turns(&[2, 1], 6), [0, 1, 0, 0, 1, 0]);
        assert_eq!(turns(&[5, 1, 1], 7), [0, 1, 0, 0, 0, 2, 0]);
    }

    #[test]
    fn light_servers_do_not_bunch_up() {
        let alternating: Vec<usize> = (1..=4).flat_map(|light| [0, light]).collect();
        assert_eq!(turns(&[4, 1, 1, 1, 1], 8), alternating);
    }

    #[test]
    fn without_servers_there_is_no_choice() {
        assert_eq!(RoundRobin::new(&[]).choose(&choice(0)), None);
    }

    proptest! {
        #[test]
        fn shares_are_exact_in_every_cycle_and_smooth_within(weights in prop::collection::vec(1u16..=256, 1..12)) {
            let divisor = weights.iter().fold(0, |d, w| greatest_common_divisor(d, u64::from(*w)));
            let total = weights.iter().map(|w| u64::from(*w) / divisor).sum::<u64>() as usize;
            let chosen = turns(&weights, total);
            let mut counts = vec![0usize; weights.len()];
            for (turn, &position) in chosen.iter().enumerate() {
                counts[position] += 1;
                for (position, weight) in weights.iter().enumerate() {
                    let due = (turn + 1) as f64 * f64::from(*weight) / (total as f64 * divisor as f64);
                    // Never further than this from what is due, at any moment of the cycle.
                    prop_assert!((counts[position] as f64 - due).abs() < weights.len() as f64);
                }
            }
            for (count, weight) in counts.iter().zip(&weights) {
                prop_assert_eq!(*count as u64 * divisor, u64::from(*weight));
            }
        }
    }
}
