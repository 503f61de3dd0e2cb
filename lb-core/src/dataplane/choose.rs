//! Which server of a tier gets a connection: the one that the policy chooses, or another one that has not failed this
//! connection and is not full.

use std::sync::Arc;

use crate::balance::{Candidate, Choice, Policy};
use crate::table::{Endpoint, Tier};

/// What a tier has for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// The candidate at this position; the connection counts for it already.
    Server(usize),
    /// Nobody at the moment: every candidate that has not failed it is at its limit.
    Full,
    /// Nobody.
    Nobody,
}

/// The servers that have failed a connection, in the order of their addresses in memory: with thousands of dead servers
/// it is asked for each of them whether it is one.
#[derive(Default)]
pub(crate) struct Tried(Vec<Arc<Endpoint>>);

impl Tried {
    pub(crate) fn add(&mut self, endpoint: Arc<Endpoint>) {
        if let Err(place) = self.find(&endpoint) {
            self.0.insert(place, endpoint);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn has(&self, endpoint: &Arc<Endpoint>) -> bool {
        !self.0.is_empty() && self.find(endpoint).is_ok()
    }

    fn find(&self, endpoint: &Arc<Endpoint>) -> Result<usize, usize> {
        self.0.binary_search_by_key(&Arc::as_ptr(endpoint), Arc::as_ptr)
    }
}

/// Chooses a server and counts the connection for it. With `terminated`, the client's TLS has ended here already, and only
/// servers can take it for which that is to be so.
pub(super) fn claim(tier: &Tier, tried: &Tried, terminated: bool, choice: &Choice) -> Claim {
    let mut claim = Claim::Nobody;
    for position in order(tier.policy.as_ref(), &tier.candidates, tried, choice) {
        let Candidate { endpoint, max_connections, .. } = &tier.candidates[position];
        if terminated && !endpoint.transport.offload {
            continue;
        }
        if endpoint.open_one(*max_connections) {
            tier.policy.on_opened(position);
            return Claim::Server(position);
        }
        claim = Claim::Full;
    }
    claim
}

/// Whom to ask, one after the other, among those that were not tried: first what the policy chooses, then at random. The
/// next in order would be the same neighbour every time, which would get all that a server refuses which the policy prefers.
pub(crate) fn order<'a>(
    policy: &dyn Policy,
    candidates: &'a [Candidate],
    tried: &'a Tried,
    choice: &Choice,
) -> impl Iterator<Item = usize> + use<'a> {
    let (count, random) = (candidates.len(), choice.random);
    let first = policy.choose(choice).filter(|&position| position < count);
    let draw = move |number: u32| random.rotate_right(16 * number) as u32 as usize % count;
    // In order, from a random one on, only where hardly any is left.
    let rest = move || (0..4).map(draw).chain(draw(0)..count).chain(0..draw(0));
    let rest = first.is_some().then(rest);
    first.into_iter().chain(rest.into_iter().flatten()).filter(|&position| !tried.has(&candidates[position].endpoint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::testing::{candidates, choice};

    struct Always(Option<usize>);

    impl Policy for Always {
        fn choose(&self, _: &Choice) -> Option<usize> {
            self.0
        }
    }

    fn tier(position: Option<usize>, limits: &[u32]) -> Tier {
        let mut candidates = candidates(&vec![1; limits.len()]).to_vec();
        candidates.iter_mut().zip(limits).for_each(|(candidate, limit)| candidate.max_connections = *limit);
        Tier { policy: Box::new(Always(position)), candidates: candidates.into() }
    }

    #[test]
    fn every_server_is_tried_once_and_then_none_is_left() {
        assert_eq!(order_of_tries(0), [1, 0, 2]);
    }

    #[test]
    fn who_is_tried_after_a_server_that_is_always_chosen_is_left_to_chance() {
        assert_eq!(order_of_tries(2), [1, 2, 0]);
    }

    /// The order in which three servers are tried of which the second is always chosen.
    fn order_of_tries(random: u64) -> Vec<usize> {
        let tier = tier(Some(1), &[9, 9, 9]);
        let (mut tried, mut order) = (Tried::default(), Vec::new());
        while let Claim::Server(position) = claim(&tier, &tried, false, &choice(random)) {
            order.push(position);
            tried.add(Arc::clone(&tier.candidates[position].endpoint));
        }
        assert_eq!(claim(&tier, &tried, false, &choice(random)), Claim::Nobody);
        order
    }

    #[test]
    fn a_server_gets_no_more_than_its_limit() {
        let tier = tier(Some(0), &[2, 1]);
        let order: Vec<_> = (0..4).map(|_| claim(&tier, &Tried::default(), false, &choice(0))).collect();
        assert_eq!(order, [Claim::Server(0), Claim::Server(0), Claim::Server(1), Claim::Full]);
        tier.candidates[1].count_closed();
        assert_eq!(claim(&tier, &Tried::default(), false, &choice(0)), Claim::Server(1));
        // The one with room has failed this connection: it waits for the other.
        tier.candidates[1].count_closed();
        let mut failed = Tried::default();
        failed.add(Arc::clone(&tier.candidates[1].endpoint));
        assert_eq!(claim(&tier, &failed, false, &choice(0)), Claim::Full);
    }

    #[test]
    fn a_policy_that_chooses_out_of_range_chooses_nobody() {
        assert_eq!(claim(&tier(Some(2), &[9, 9]), &Tried::default(), false, &choice(0)), Claim::Nobody);
        assert_eq!(claim(&tier(None, &[9, 9]), &Tried::default(), false, &choice(0)), Claim::Nobody);
    }
}
