//! Values (a shard's connections, say), each in a slot that is reused when the value is gone.

/// Where a value is: a slot, and which of the slot's values it is. A completion for a slot that has been reused is told by
/// its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// Bits of a slot and of a generation, so that both fit into an operation's user data.
pub(crate) const SLOT_BITS: u32 = 24;
pub(crate) const GENERATION_BITS: u32 = 24;

impl Key {
    /// The low bits that [`Key::pack`] takes.
    pub(crate) const BITS: u32 = SLOT_BITS + GENERATION_BITS;
    /// For what belongs to no value.
    pub(crate) const NOBODY: Self = Self { slot: 0, generation: 0 };

    /// In the low bits of an operation's user data: generation and slot.
    pub(crate) fn pack(self) -> u64 {
        u64::from(self.generation) << SLOT_BITS | u64::from(self.slot)
    }

    /// What was packed, whatever is in the high bits.
    pub(crate) fn unpack(user_data: u64) -> Self {
        let bits = |shift: u32, count: u32| ((user_data >> shift) & ((1 << count) - 1)) as u32;
        Self { slot: bits(0, SLOT_BITS), generation: bits(SLOT_BITS, GENERATION_BITS) }
    }
}

/// Slots in a chunk. Chunks never move, so that growing copies nothing and memory grows with the connections.
const CHUNK: usize = 256;

/// Values with keys that cannot be stale.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    chunks: Vec<Box<[Slot<T>]>>,
    /// Slots that are free, the last freed one on top.
    free: Vec<u32>,
    occupied: usize,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), occupied: 0 }
    }

    /// Puts a value into a free slot. `None` with 16 million values, which no process has descriptors for.
    pub(crate) fn insert(&mut self, value: T) -> Option<Key> {
        if self.free.is_empty() {
            self.grow()?;
        }
        let slot = self.free.pop()?;
        let entry = &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK];
        entry.value = Some(value);
        self.occupied += 1;
        Some(Key { slot, generation: entry.generation })
    }

    /// The value under `key`, unless its slot was freed since.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.entry(key)?.value.as_mut()
    }

    /// As [`Slots::get_mut`], to look only.
    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let entry = self.chunks.get(key.slot as usize / CHUNK)?.get(key.slot as usize % CHUNK)?;
        entry.value.as_ref().filter(|_| entry.generation == key.generation)
    }

    /// Takes the value out and makes every key of it stale.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let entry = self.entry(key)?;
        let value = entry.value.take()?;
        entry.generation = (entry.generation + 1) % (1 << GENERATION_BITS);
        self.free.push(key.slot);
        self.occupied -= 1;
        Some(value)
    }

    /// The key of the value in `slot`.
    pub(crate) fn key_of(&self, slot: u32) -> Option<Key> {
        let entry = self.chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)?;
        entry.value.as_ref().map(|_| Key { slot, generation: entry.generation })
    }

    /// How many slots there are: every key's slot is below.
    pub(crate) fn slots(&self) -> u32 {
        (self.chunks.len() * CHUNK) as u32
    }

    pub(crate) fn len(&self) -> usize {
        self.occupied
    }

    fn entry(&mut self, key: Key) -> Option<&mut Slot<T>> {
        let entry = self.chunks.get_mut(key.slot as usize / CHUNK)?.get_mut(key.slot as usize % CHUNK)?;
        (entry.generation == key.generation).then_some(entry)
    }

    fn grow(&mut self) -> Option<()> {
        let first = self.chunks.len() * CHUNK;
        if first + CHUNK > 1 << SLOT_BITS {
            return None;
        }
        self.chunks.push((0..CHUNK).map(|_| Slot { generation: 0, value: None }).collect());
        // Low slots on top: connections stay close together.
        self.free.extend((first..first + CHUNK).rev().map(|slot| slot as u32));
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_reused_slot_finds_nothing() {
        let mut slots = Slots::new();
        let old = slots.insert("old").unwrap();
        assert_eq!(slots.remove(old), Some("old"));
        let new = slots.insert("new").unwrap();
        assert_eq!(new.slot, old.slot);
        assert_eq!(slots.get_mut(old), None);
        assert_eq!(slots.remove(old), None);
        assert_eq!(slots.get_mut(new), Some(&mut "new"));
    }

    #[test]
    fn values_stay_under_their_keys_while_slots_grow() {
        let mut slots = Slots::new();
        let keys: Vec<_> = (0..1000).map(|number| slots.insert(number).unwrap()).collect();
        for (number, key) in keys.iter().enumerate() {
            assert_eq!(slots.get_mut(*key), Some(&mut number.clone()));
            assert_eq!(slots.key_of(key.slot), Some(*key));
        }
        assert_eq!(slots.len(), 1000);
    }
}
