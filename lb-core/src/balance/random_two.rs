//! The better of two servers chosen at random (M. Mitzenmacher, "The power of two choices in randomized load balancing",
//! 2001): nearly as even as least connections, and many balancers in front of the same servers don't run all to one.

use std::sync::Arc;

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
        let weights: Vec<u64> = servers.iter().map(|server| server.weight().into()).collect();
        Self { draw: WeightedDraw::new(&weights), servers }
    }

    fn is_less_loaded(&self, one: usize, other: usize) -> bool {
        let load = |position: usize| u64::from(self.servers[position].connections()) + 1;
        let weight = |position: usize| u64::from(self.servers[position].weight());
        load(one) * weight(other) <= load(other) * weight(one)
    }
}

impl Policy for RandomTwo {
    fn choose(&self, choice: &Choice) -> Option<usize> {
        let count = self.servers.len();
        if count < 2 {
            return (count == 1).then_some(0);
        }
        let one = self.draw.draw(choice.random as u32);
        let mut other = self.draw.draw((choice.random >> 32) as u32);
        if other == one {
            // Two different ones, or a lone heavy server would never be compared with anyone.
            other = (one + 1 + (choice.random >> 16) as usize % (count - 1)) % count;
        }
        Some(if self.is_less_loaded(one, other) { one } else { other })
    }

    fn needs_client(&self) -> bool {
        false
    }
}

/// Draws by weight in constant time (the alias method, M. D. Vose 1991), in whole numbers so that it is exact.
#[derive(Debug)]
struct WeightedDraw {
    /// For each position: below this threshold of its column it is itself, above it is `alias`.
    columns: Box<[(u64, u32)]>,
    total: u64,
}

impl WeightedDraw {
    fn new(weights: &[u64]) -> Self {
        let total: u64 = weights.iter().sum();
        let count = weights.len() as u64;
        // A column is `total` high; scaled by the count, the weights fill all columns exactly.
        let mut left: Vec<u64> = weights.iter().map(|weight| weight * count).collect();
        let mut columns = vec![(total, 0u32); weights.len()].into_boxed_slice();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..weights.len()).partition(|&i| left[i] < total);
        while let (Some(short), Some(&tall)) = (small.pop(), large.last()) {
            columns[short] = (left[short], tall as u32);
            left[tall] -= total - left[short];
            if left[tall] < total {
                large.pop();
                small.push(tall);
            }
        }
        Self { columns, total }
    }

    /// 32 random bits choose the column by their high part and the height in it by what is left.
    fn draw(&self, random: u32) -> usize {
        let wide = u64::from(random) * self.columns.len() as u64;
        let column = (wide >> 32) as usize;
        let height = (u64::from(wide as u32) * self.total) >> 32;
        let (threshold, alias) = self.columns[column];
        if height < threshold { column } else { alias as usize }
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
        fn draws_follow_the_weights(weights in prop::collection::vec(1u64..=256, 1..8)) {
            let draw = WeightedDraw::new(&weights);
            let mut counts = vec![0u64; weights.len()];
            const DRAWS: u64 = 1 << 16;
            for step in 0..DRAWS {
                counts[draw.draw((step << 16) as u32 | 0x8000)] += 1;
            }
            let total: u64 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(&weights) {
                let due = DRAWS * weight / total;
                prop_assert!(count.abs_diff(due) <= 2 * weights.len() as u64 + 2, "{counts:?} for {weights:?}");
            }
        }

        #[test]
        fn any_random_bits_give_a_candidate(weights in prop::collection::vec(1u16..=256, 1..20), random: u64) {
            let policy = RandomTwo::new(candidates(&weights));
            prop_assert!(policy.choose(&choice(random)).unwrap() < weights.len());
        }
    }
}
