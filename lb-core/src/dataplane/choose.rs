//! Which server of a tier gets a connection: the one that the policy chooses, or the next one that has not failed this
//! connection and is not full.

use std::sync::Arc;

use crate::balance::{Candidate, Choice};
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

/// Chooses a server and counts the connection for it.
pub(super) fn claim(tier: &Tier, tried: &[Arc<Endpoint>], choice: &Choice) -> Claim {
    let candidates = &tier.candidates;
    let Some(first) = tier.policy.choose(choice).filter(|&position| position < candidates.len()) else {
        return Claim::Nobody;
    };
    let mut claim = Claim::Nobody;
    for position in (first..candidates.len()).chain(0..first) {
        let Candidate { endpoint, max_connections, .. } = &candidates[position];
        if tried.iter().any(|tried| Arc::ptr_eq(tried, endpoint)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::Policy;
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
        let tier = tier(Some(1), &[9, 9, 9]);
        let mut tried = Vec::new();
        let mut order = Vec::new();
        while let Claim::Server(position) = claim(&tier, &tried, &choice(0)) {
            order.push(position);
            tried.push(Arc::clone(&tier.candidates[position].endpoint));
        }
        assert_eq!(order, [1, 2, 0]);
        assert_eq!(claim(&tier, &tried, &choice(0)), Claim::Nobody);
    }

    #[test]
    fn a_server_gets_no_more_than_its_limit() {
        let tier = tier(Some(0), &[2, 1]);
        let order: Vec<_> = (0..4).map(|_| claim(&tier, &[], &choice(0))).collect();
        assert_eq!(order, [Claim::Server(0), Claim::Server(0), Claim::Server(1), Claim::Full]);
        tier.candidates[1].count_closed();
        assert_eq!(claim(&tier, &[], &choice(0)), Claim::Server(1));
        // The one with room has failed this connection: it waits for the other.
        tier.candidates[1].count_closed();
        let failed = [Arc::clone(&tier.candidates[1].endpoint)];
        assert_eq!(claim(&tier, &failed, &choice(0)), Claim::Full);
    }

    #[test]
    fn a_policy_that_chooses_out_of_range_chooses_nobody() {
        assert_eq!(claim(&tier(Some(2), &[9, 9]), &[], &choice(0)), Claim::Nobody);
        assert_eq!(claim(&tier(None, &[9, 9]), &[], &choice(0)), Claim::Nobody);
    }
}
