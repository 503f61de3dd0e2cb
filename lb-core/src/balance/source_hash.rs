//! The same server for the same client address: a Maglev table (D. Eisenbud and others, "Maglev: a fast and reliable
//! software network load balancer", NSDI 2016, section 3.4). Removing one of N servers moves its own clients, and about
//! 1/N of the others. The table depends on names and weights only, so every shard, and every balancer with the same
//! servers, sends a client to the same one.

use std::net::IpAddr;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{Candidate, Choice, Policy};

/// Places in the table: a prime, as the paper asks. With 655 servers or fewer their shares differ by 1 % at most.
const PLACES: usize = 65_537;

/// Consistent hashing of the client's IP address (the port does not count).
#[derive(Debug)]
pub struct SourceHash {
    /// The position of a candidate for each hash.
    table: Box<[u16]>,
}

/// The order in which one server takes places.
struct Claimant {
    position: u16,
    weight: u64,
    /// Rises by the weight every round; each time it reaches the greatest weight, the server takes a place.
    credit: u64,
    next: usize,
    skip: usize,
}

impl SourceHash {
    /// Fills the table. Servers are ordered by name first, so that the order in which they were added does not matter.
    pub fn new(servers: &[Candidate]) -> Self {
        if servers.is_empty() {
            return Self { table: Box::default() };
        }
        let mut claimants: Vec<Claimant> = servers.iter().enumerate().map(claimant).collect();
        claimants.sort_by(|a, b| servers[a.position as usize].name().cmp(servers[b.position as usize].name()));
        Self { table: fill(claimants) }
    }
}

impl Policy for SourceHash {
    fn choose(&self, choice: &Choice) -> Option<usize> {
        if self.table.is_empty() {
            return None;
        }
        // A client whose server fails tries the others in an order of its own.
        let hash = match choice.client {
            IpAddr::V4(v4) => xxh3_64_with_seed(&v4.octets(), choice.attempt.into()),
            IpAddr::V6(v6) => xxh3_64_with_seed(&v6.octets(), choice.attempt.into()),
        };
        Some(self.table[(hash % PLACES as u64) as usize].into())
    }
}

fn claimant((position, server): (usize, &Candidate)) -> Claimant {
    let name = server.name().as_str().as_bytes();
    Claimant {
        position: position as u16,
        weight: server.weight().into(),
        credit: 0,
        next: (xxh3_64(name) % PLACES as u64) as usize,
        skip: (xxh3_64_with_seed(name, 1) % (PLACES as u64 - 1)) as usize + 1,
    }
}

fn fill(mut claimants: Vec<Claimant>) -> Box<[u16]> {
    const FREE: u16 = u16::MAX;
    let heaviest = claimants.iter().map(|claimant| claimant.weight).max().unwrap_or(1);
    let mut table = vec![FREE; PLACES].into_boxed_slice();
    let mut taken = 0;
    loop {
        for claimant in &mut claimants {
            claimant.credit += claimant.weight;
            if claimant.credit < heaviest {
                continue;
            }
            claimant.credit -= heaviest;
            while table[claimant.next] != FREE {
                claimant.next = (claimant.next + claimant.skip) % PLACES;
            }
            table[claimant.next] = claimant.position;
            taken += 1;
            if taken == PLACES {
                return table;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::candidates;
    use super::*;
    use proptest::prelude::*;

    fn client(number: u32) -> Choice {
        Choice { client: IpAddr::from((0x0a00_0000 + number).to_be_bytes()), attempt: 0, random: 0, now: 0 }
    }

    fn shares(policy: &SourceHash, servers: usize) -> Vec<usize> {
        let mut counts = vec![0; servers];
        policy.table.iter().for_each(|&position| counts[usize::from(position)] += 1);
        counts
    }

    #[test]
    fn shares_are_equal_within_one_percent() {
        let policy = SourceHash::new(&candidates(&[1; 100]));
        let counts = shares(&policy, 100);
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(most - least <= 1 + PLACES / 100 / 100, "{least} to {most}");
    }

    #[test]
    fn without_servers_there_is_no_choice() {
        assert_eq!(SourceHash::new(&[]).choose(&client(1)), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn removing_a_server_moves_its_own_clients_and_few_others(count in 3usize..40, removed: prop::sample::Index) {
            let all = candidates(&vec![1; count]);
            let removed = removed.index(count);
            let rest: Vec<Candidate> =
                all.iter().enumerate().filter(|(index, _)| *index != removed).map(|(_, server)| server.clone()).collect();
            let (before, after) = (SourceHash::new(&all), SourceHash::new(&rest));
            const CLIENTS: u32 = 4_000;
            let mut moved = 0;
            for number in 0..CLIENTS {
                let old = before.choose(&client(number)).unwrap();
                let new = after.choose(&client(number)).unwrap();
                if old != removed && all[old].name() != rest[new].name() {
                    moved += 1;
                }
            }
            // About 1/N of the others, as the paper measures; never more than twice that and some.
            prop_assert!(moved < 2 * CLIENTS / count as u32 + 60, "{moved} of {CLIENTS} moved with {count} servers");
        }

        #[test]
        fn shares_follow_the_weights(weights in prop::collection::vec(1u16..=256, 1..20)) {
            let policy = SourceHash::new(&candidates(&weights));
            let total: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
            for (count, weight) in shares(&policy, weights.len()).into_iter().zip(&weights) {
                let due = PLACES * usize::from(*weight) / total;
                prop_assert!(count.abs_diff(due) <= 2 + due / 20, "{count} places, {due} due");
            }
        }

        #[test]
        fn the_order_of_the_servers_does_not_matter(count in 1usize..30) {
            let servers = candidates(&vec![1; count]);
            let reversed: Vec<Candidate> = servers.iter().rev().cloned().collect();
            let (one, other) = (SourceHash::new(&servers), SourceHash::new(&reversed));
            for number in 0..200 {
                let a = one.choose(&client(number)).unwrap();
                let b = other.choose(&client(number)).unwrap();
                prop_assert_eq!(servers[a].name(), reversed[b].name());
            }
        }
    }
}
