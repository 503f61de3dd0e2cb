//! Buffers of our own, beside those that the kernel fills: for bytes that a shard makes itself, records of TLS above all.
//! They are sent like the others, and given back when they have gone out.

use std::io;

use super::buffers::{BufferId, Pages};

/// How large such a buffer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnSize {
    /// A message: what a small relay buffer holds, and what TLS adds to it.
    Message,
    /// The longest record of TLS (RFC 8446, section 5.2) with its header.
    Record,
}

impl OwnSize {
    const ALL: [Self; 2] = [Self::Message, Self::Record];

    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::Message => 4 << 10 | 512,
            Self::Record => 18 << 10,
        }
    }

    /// The smaller one that holds so many bytes, or the larger one.
    pub(crate) fn holding(bytes: usize) -> Self {
        if bytes <= Self::Message.bytes() { Self::Message } else { Self::Record }
    }
}

/// Bytes of memory that are mapped at once.
const GROUP_BYTES: usize = 1 << 20;

/// All of a shard.
#[derive(Debug, Default)]
pub(crate) struct OwnBuffers {
    /// By group number; `None` where a group was given back.
    groups: Vec<Option<Group>>,
}

#[derive(Debug)]
struct Group {
    size: OwnSize,
    memory: Pages,
    /// Those that are not lent.
    free: Vec<u16>,
}

impl OwnBuffers {
    /// A buffer that holds `bytes`, or a record's worth of them.
    ///
    /// # Errors
    /// The system has no memory.
    pub(crate) fn lend(&mut self, bytes: usize) -> io::Result<BufferId> {
        let size = OwnSize::holding(bytes);
        let has_free =
            |group: &Option<Group>| group.as_ref().is_some_and(|group| group.size == size && !group.free.is_empty());
        let number = match self.groups.iter().position(has_free) {
            Some(number) => number,
            None => self.grow(size)?,
        };
        let lent = self.groups[number].as_mut().and_then(|group| group.free.pop());
        lent.map(|index| BufferId::own(number, index)).ok_or(io::ErrorKind::OutOfMemory.into())
    }

    fn grow(&mut self, size: OwnSize) -> io::Result<usize> {
        let count = (GROUP_BYTES / size.bytes()) as u16;
        let group = Group { size, memory: Pages::new(GROUP_BYTES)?, free: (0..count).rev().collect() };
        let number = self.groups.iter().position(Option::is_none).unwrap_or(self.groups.len());
        if number == self.groups.len() {
            self.groups.push(None);
        }
        self.groups[number] = Some(group);
        Ok(number)
    }

    /// Bytes that a lent buffer holds at most.
    pub(crate) fn size(&self, buffer: BufferId) -> usize {
        let group = self.groups.get(buffer.own_group()).and_then(Option::as_ref);
        group.map_or(0, |group| group.size.bytes())
    }

    /// A lent buffer's memory. Empty if it is not one of these.
    pub(crate) fn bytes_mut(&mut self, buffer: BufferId) -> &mut [u8] {
        match self.groups.get_mut(buffer.own_group()) {
            Some(Some(group)) => {
                group.memory.slice_mut(usize::from(buffer.index()) * group.size.bytes(), group.size.bytes())
            }
            _ => &mut [],
        }
    }

    /// Where a buffer's bytes are.
    pub(super) fn address(&self, buffer: BufferId) -> Option<*const u8> {
        let group = self.groups.get(buffer.own_group())?.as_ref()?;
        Some(group.memory.address(usize::from(buffer.index()) * group.size.bytes()).cast_const())
    }

    /// Nobody needs this buffer any more.
    pub(super) fn give_back(&mut self, buffer: BufferId) {
        if let Some(Some(group)) = self.groups.get_mut(buffer.own_group()) {
            debug_assert!(!group.free.contains(&buffer.index()), "a buffer is given back twice");
            group.free.push(buffer.index());
        }
    }

    /// Unmaps groups of which no buffer is lent, but one of each size.
    pub(super) fn shrink(&mut self) {
        for size in OwnSize::ALL {
            let is_unused = |group: &Group| group.size == size && group.free.len() == GROUP_BYTES / size.bytes();
            let unused = self.groups.iter_mut().filter(|group| group.as_ref().is_some_and(is_unused));
            unused.skip(1).for_each(|group| *group = None);
        }
        while let Some(None) = self.groups.last() {
            self.groups.pop();
        }
    }

    /// Whether more than so many bytes are mapped, beside a group of each size.
    pub(super) fn is_beyond(&self, max: usize) -> bool {
        self.bytes() > max + OwnSize::ALL.len() * GROUP_BYTES
    }

    /// True if there may be groups that are not needed.
    pub(super) fn has_grown(&self) -> bool {
        self.groups.len() > OwnSize::ALL.len()
    }

    /// Mapped bytes.
    pub(super) fn bytes(&self) -> usize {
        self.groups.iter().flatten().count() * GROUP_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_lent_once_and_unmapped_when_they_are_back() {
        let mut own = OwnBuffers::default();
        let lent: Vec<_> = (0..600)
            .map(|number| (own.lend(if number % 2 == 0 { 64 } else { 16_406 }).unwrap(), number as u8))
            .collect();
        lent.iter().for_each(|(buffer, number)| own.bytes_mut(*buffer).fill(*number));
        for (buffer, number) in &lent {
            let bytes = own.bytes_mut(*buffer);
            assert!(bytes.len() >= if number % 2 == 0 { 64 } else { 16_406 });
            assert!(bytes.iter().all(|byte| byte == number), "two share memory");
        }
        let most = own.bytes();
        lent.into_iter().for_each(|(buffer, _)| own.give_back(buffer));
        own.shrink();
        assert!(own.bytes() == 2 * GROUP_BYTES && most > own.bytes());
    }
}
