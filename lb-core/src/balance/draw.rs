//! Drawing servers at random, by weight.

use super::Candidate;

/// Draws by weight in constant time (the alias method, M. D. Vose 1991), in whole numbers so that it is exact.
#[derive(Debug)]
pub(super) struct WeightedDraw {
    /// For each position: below this threshold of its column it is itself, above it is `alias`.
    columns: Box<[(u64, u32)]>,
    total: u64,
}

impl WeightedDraw {
    /// Draws positions of servers.
    pub(super) fn of(servers: &[Candidate]) -> Self {
        let weights: Vec<u64> = servers.iter().map(|server| server.weight().into()).collect();
        Self::new(&weights)
    }

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

    /// Two positions, different ones if there are two: or a lone heavy server would never be compared with anyone. `None`
    /// if there is none.
    pub(super) fn two(&self, random: u64) -> Option<(usize, usize)> {
        let count = self.columns.len();
        if count < 2 {
            return (count == 1).then_some((0, 0));
        }
        let one = self.draw(random as u32);
        let other = self.draw((random >> 32) as u32);
        if other != one {
            return Some((one, other));
        }
        Some((one, (one + 1 + (random >> 16) as usize % (count - 1)) % count))
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
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn two_are_drawn_where_there_are_two() {
        assert_eq!(WeightedDraw::new(&[]).two(7), None);
        assert_eq!(WeightedDraw::new(&[3]).two(7), Some((0, 0)));
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
        fn two_are_never_the_same(weights in prop::collection::vec(1u64..=256, 2..20), random: u64) {
            let (one, other) = WeightedDraw::new(&weights).two(random).unwrap();
            prop_assert!(one != other && one < weights.len() && other < weights.len());
        }
    }
}
