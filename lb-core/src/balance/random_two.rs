//! The better of two servers chosen at random (M. Mitzenmacher, "The power of two choices in randomized load balancing",
//! 2001): nearly as even as least connections, and many balancers in front of the same servers don't run all to one.

use std::sync::Arc;

use super::draw::WeightedDraw;
use super::{Candidate, Choice, Policy};

/// Power of two choices. Both are drawn by weight; the one with fewer connections for its weight is taken.
#[derive(Debug)]
pub struct RandomTwo {
    servers: Arc<[Candidate]>,
    draw: WeightedDraw,
}

impl RandomTwo {
    /// Prepares the draw.
    pub fn new(servers: Arc<[Candidate]>) -> Self {
        Self { draw: WeightedDraw::of(&servers), servers }
    }

    fn is_less_loaded(&self, one: usize, other: usize) -> bool {
        let load = |position: usize| u64::from(self.servers[position].connections()) + 1;
        let weight = |position: usize| u64::from(self.servers[position].weight());
        load(one) * weight(other) <= load(other) * weight(one)
    }
}

impl Policy for RandomTwo {
    fn choose(&self, choice: &Choice) -> Option<usize> {
        let (one, other) = self.draw.two(choice.random)?;
        Some(if self.is_less_loaded(one, other) { one } else { other })
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

    #[test]
    fn the_less_loaded_of_two_is_taken() {
        let policy = RandomTwo::new(candidates(&[1, 1]));
        (0..5).for_each(|_| policy.servers[0].count_opened());
        for random in [0, u64::MAX, 0x1234_5678_9abc_def0, 7 << 40] {
            assert_eq!(policy.choose(&choice(random)), Some(1));
        }
    }

    proptest! {
        #[test]
        fn any_random_bits_give_a_candidate(weights in prop::collection::vec(1u16..=256, 1..20), random: u64) {
            let policy = RandomTwo::new(candidates(&weights));
            prop_assert!(policy.choose(&choice(random)).unwrap() < weights.len());
        }
    }
}
