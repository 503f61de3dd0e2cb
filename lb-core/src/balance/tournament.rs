//! A shared tournament: which of many changing keys is the smallest, read in one load and kept exact by all threads
//! together, without locks.
//!
//! It is an f-array (P. Jayanti, "f-arrays: implementation and applications", PODC 2002). Who changes a key refreshes the
//! nodes above it, each at most twice: if both attempts to replace a node fail, another thread has replaced it in between
//! and has seen the new key. Eight children to a node fit in one cache line, so ten thousand keys are five levels.

use std::sync::atomic::{AtomicU64, Ordering};

/// Children of a node.
const FAN: usize = 8;
/// Low bits of a node: the winner's index. The bits above count replacements, so that a node that was replaced twice with
/// the same winner still looks changed.
const INDEX_BITS: u32 = 16;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

#[repr(align(64))]
#[derive(Debug, Default)]
struct Line([AtomicU64; FAN]);

/// The tournament over a fixed number of keys.
#[derive(Debug)]
pub(crate) struct Tournament {
    keys: Box<[Line]>,
    count: usize,
    /// `levels[0]` stands above the keys, the last level is the one root. With a single key there is none.
    levels: Vec<Box<[Line]>>,
}

impl Tournament {
    /// Over `count` keys (at most 65 536), all zero; [`Tournament::settle`] it before use.
    pub(crate) fn new(count: usize) -> Self {
        debug_assert!(count <= 1 << INDEX_BITS);
        let lines = |nodes: usize| (0..nodes.div_ceil(FAN)).map(|_| Line::default()).collect::<Box<[Line]>>();
        let mut levels = Vec::new();
        let mut nodes = count;
        while nodes > 1 {
            nodes = nodes.div_ceil(FAN);
            levels.push(lines(nodes));
        }
        Self { keys: lines(count), count, levels }
    }

    /// The index of the smallest key, the lowest one of equals; `None` if there are no keys.
    pub(crate) fn winner(&self) -> Option<usize> {
        match self.levels.last() {
            Some(root) => Some((root[0].0[0].load(Ordering::SeqCst) & INDEX_MASK) as usize),
            None => (self.count == 1).then_some(0),
        }
    }

    /// Sets the key at `index` to what `key` makes of the present one, and everything above it.
    pub(crate) fn refresh(&self, index: usize, key: impl Fn(u64) -> u64) {
        if index >= self.count {
            return;
        }
        let cell = &self.keys[index / FAN].0[index % FAN];
        twice(cell, key);
        let mut node = index;
        for level in 0..self.levels.len() {
            node /= FAN;
            self.refresh_node(level, node);
        }
    }

    /// Sets every key and everything above them.
    pub(crate) fn settle(&self, key: impl Fn(usize, u64) -> u64) {
        for index in 0..self.count {
            twice(&self.keys[index / FAN].0[index % FAN], |old| key(index, old));
        }
        let mut nodes = self.count;
        for level in 0..self.levels.len() {
            nodes = nodes.div_ceil(FAN);
            (0..nodes).for_each(|node| self.refresh_node(level, node));
        }
    }

    fn refresh_node(&self, level: usize, node: usize) {
        let cell = &self.levels[level][node / FAN].0[node % FAN];
        twice(cell, |old| {
            let version = (old >> INDEX_BITS).wrapping_add(1) << INDEX_BITS;
            version | self.winner_below(level, node) as u64
        });
    }

    /// The winner among the children of a node.
    fn winner_below(&self, level: usize, node: usize) -> usize {
        let first = node * FAN;
        let children = match level {
            0 => self.count,
            _ => self.levels[level - 1].len() * FAN,
        };
        let mut best = (u64::MAX, usize::MAX);
        for child in first..(first + FAN).min(children) {
            let index = match level {
                0 => child,
                _ if child >= self.nodes_at(level - 1) => break,
                _ => (self.levels[level - 1][child / FAN].0[child % FAN].load(Ordering::SeqCst) & INDEX_MASK) as usize,
            };
            best = best.min((self.key(index), index));
        }
        best.1.min(self.count - 1)
    }

    fn key(&self, index: usize) -> u64 {
        self.keys[index / FAN].0[index % FAN].load(Ordering::SeqCst)
    }

    fn nodes_at(&self, level: usize) -> usize {
        (0..=level).fold(self.count, |nodes, _| nodes.div_ceil(FAN))
    }
}

/// Replaces a cell by what `next` makes of it. After two failures another thread has begun and finished in between, and
/// what it wrote takes into account what this thread knew.
fn twice(cell: &AtomicU64, next: impl Fn(u64) -> u64) {
    for _ in 0..2 {
        let old = cell.load(Ordering::SeqCst);
        if cell.compare_exchange(old, next(old), Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_winner_is_the_smallest_key(
            keys in prop::collection::vec(0u64..50, 1..700),
            changes in prop::collection::vec((any::<prop::sample::Index>(), 0u64..50), 0..100),
        ) {
            let mut keys = keys;
            let tournament = Tournament::new(keys.len());
            tournament.settle(|index, _| keys[index]);
            for (index, key) in changes {
                let smallest = (0..keys.len()).min_by_key(|&index| (keys[index], index));
                prop_assert_eq!(tournament.winner(), smallest);
                let index = index.index(keys.len());
                keys[index] = key;
                tournament.refresh(index, |_| key);
            }
        }
    }

    #[test]
    fn threads_that_change_keys_at_once_leave_the_true_winner() {
        const KEYS: usize = 300;
        let tournament = Tournament::new(KEYS);
        tournament.settle(|index, _| 1000 + index as u64);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let tournament = &tournament;
                scope.spawn(move || {
                    for round in 0..5_000u64 {
                        let index = ((round * 7 + thread * 75) % 75 + thread * 75) as usize;
                        tournament.refresh(index, |_| 500 + (round * 31 + thread) % 400);
                    }
                });
            }
        });
        let smallest = (0..KEYS).min_by_key(|&index| (tournament.key(index), index));
        assert_eq!(tournament.winner(), smallest);
    }

    #[test]
    fn without_keys_nobody_wins() {
        assert_eq!(Tournament::new(0).winner(), None);
    }
}
