//! Deadlines of a shard's connections: at most one per slot, to the millisecond, in a hierarchical wheel (G. Varghese and
//! T. Lauck, "Hashed and hierarchical timing wheels", SOSP 1987). Pure: time is an argument. The shard has
//! the kernel wake it for the next deadline.

/// Bits of time per level: 64 places.
const LEVEL_BITS: u32 = 6;
const PLACES: usize = 1 << LEVEL_BITS;
/// Seven levels reach 2^42 ms, over a century.
const LEVELS: usize = 7;
const NONE: u32 = u32::MAX;

/// Milliseconds since the balancer started.
pub(crate) type Time = u64;

/// The wheel.
#[derive(Debug)]
pub(crate) struct Timers {
    now: Time,
    /// First slot in each place of each level.
    heads: Box<[[u32; PLACES]; LEVELS]>,
    /// A bit per place that is not empty.
    occupied: [u64; LEVELS],
    nodes: Vec<Node>,
}

/// A slot's deadline, in the doubly linked list of its place.
#[derive(Debug, Clone, Copy)]
struct Node {
    when: Time,
    next: u32,
    previous: u32,
    /// Level and place; `NOWHERE` without a deadline.
    level: u8,
    place: u8,
}

const NOWHERE: u8 = u8::MAX;

impl Timers {
    pub(crate) fn new() -> Self {
        Self { now: 0, heads: Box::new([[NONE; PLACES]; LEVELS]), occupied: [0; LEVELS], nodes: Vec::new() }
    }

    /// Sets the deadline of a slot, in place of an earlier one. One that has passed comes with the next [`Timers::advance`].
    pub(crate) fn set(&mut self, slot: u32, when: Time) {
        self.clear(slot);
        let index = slot as usize;
        if index >= self.nodes.len() {
            self.nodes.resize(index + 1, Node { when: 0, next: NONE, previous: NONE, level: NOWHERE, place: 0 });
        }
        let when = when.clamp(self.now + 1, self.now + (1 << 41));
        self.nodes[index].when = when;
        self.link(slot);
    }

    /// Takes the deadline of a slot away.
    pub(crate) fn clear(&mut self, slot: u32) {
        let Some(node) = self.nodes.get(slot as usize).copied() else { return };
        if node.level == NOWHERE {
            return;
        }
        let (level, place) = (usize::from(node.level), usize::from(node.place));
        match node.previous {
            NONE => self.heads[level][place] = node.next,
            previous => self.nodes[previous as usize].next = node.next,
        }
        if node.next != NONE {
            self.nodes[node.next as usize].previous = node.previous;
        }
        if self.heads[level][place] == NONE {
            self.occupied[level] &= !(1 << place);
        }
        self.nodes[slot as usize].level = NOWHERE;
    }

    /// When to look again: never later than the next deadline.
    pub(crate) fn next(&self) -> Option<Time> {
        self.next_place().map(|(_, _, when)| when)
    }

    /// Moves time on and collects the slots whose deadlines have come.
    pub(crate) fn advance(&mut self, now: Time, due: &mut Vec<u32>) {
        while let Some((level, place, when)) = self.next_place() {
            if when > now {
                break;
            }
            self.now = self.now.max(when);
            let mut slot = std::mem::replace(&mut self.heads[level][place], NONE);
            self.occupied[level] &= !(1 << place);
            while slot != NONE {
                let node = &mut self.nodes[slot as usize];
                let next = node.next;
                node.level = NOWHERE;
                if node.when <= now {
                    due.push(slot);
                } else {
                    self.link(slot);
                }
                slot = next;
            }
        }
        self.now = self.now.max(now);
    }

    fn link(&mut self, slot: u32) {
        let when = self.nodes[slot as usize].when;
        // The level is where the deadline first differs from now.
        let differing = (when ^ self.now) | (PLACES as u64 - 1);
        let level = ((63 - differing.leading_zeros()) / LEVEL_BITS) as usize;
        let place = (when >> (level as u32 * LEVEL_BITS)) as usize % PLACES;
        let head = std::mem::replace(&mut self.heads[level][place], slot);
        if head != NONE {
            self.nodes[head as usize].previous = slot;
        }
        let node = &mut self.nodes[slot as usize];
        (node.next, node.previous) = (head, NONE);
        (node.level, node.place) = (level as u8, place as u8);
        self.occupied[level] |= 1 << place;
    }

    /// The first place that is not empty, and when its time begins. Lower levels always come first.
    fn next_place(&self) -> Option<(usize, usize, Time)> {
        (0..LEVELS).find(|&level| self.occupied[level] != 0).map(|level| {
            let shift = level as u32 * LEVEL_BITS;
            let present = (self.now >> shift) as u32 % PLACES as u32;
            let ahead = self.occupied[level].rotate_right(present).trailing_zeros();
            let place = (present + ahead) % PLACES as u32;
            let round = self.now >> shift >> LEVEL_BITS << LEVEL_BITS << shift;
            (level, place as usize, round + (u64::from(place) << shift))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Against a plain map from slot to deadline.
        #[test]
        fn deadlines_come_when_due_and_never_before(
            steps in prop::collection::vec((0u32..20, 0u64..200_000, 0u8..4), 1..200),
        ) {
            let mut timers = Timers::new();
            let mut model: BTreeMap<u32, Time> = BTreeMap::new();
            let mut now = 0;
            for (slot, delay, kind) in steps {
                match kind {
                    0 | 1 => {
                        timers.set(slot, now + delay);
                        model.insert(slot, (now + delay).max(now + 1));
                    }
                    2 => {
                        timers.clear(slot);
                        model.remove(&slot);
                    }
                    _ => {
                        now += delay / 4;
                        let mut due = Vec::new();
                        timers.advance(now, &mut due);
                        due.sort_unstable();
                        let expected: Vec<u32> =
                            model.iter().filter(|(_, when)| **when <= now).map(|(slot, _)| *slot).collect();
                        model.retain(|_, when| *when > now);
                        prop_assert_eq!(due, expected);
                    }
                }
                let earliest = model.values().min().copied();
                match (timers.next(), earliest) {
                    (None, None) => {}
                    (Some(next), Some(earliest)) => prop_assert!(next > now && next <= earliest, "{next} {earliest} at {now}"),
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
    }
}
