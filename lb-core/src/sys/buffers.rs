//! The relay buffers of one shard: groups of provided buffers from which the kernel takes one when bytes have arrived.
//! So an idle connection holds none (`io_uring_register_buf_ring(3)`, kernel 5.19).
//!
//! The first group is always there; further ones are mapped when many slow readers hold buffers, and given back to the
//! system when they are unused. Mostly the memory is only touched by the kernel: the relay forwards without looking. Only what
//! a connection has layers for is read and changed here, between the kernel's filling a buffer and its sending of it.
//!
//! There are small buffers for messages and large ones for streams, each group of one size.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// How large a buffer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BufferSize {
    /// 4 KiB. The kernel may fill 33 buffers for one socket before we can stop it (`MULTISHOT_MAX_RETRY`), and those and
    /// what is queued already must stay under 256 KiB per direction.
    Small,
    /// 48 KiB, three of TLS' longest records: with them, streams by TLS take 0.85 of the CPU time that two records' worth does.
    Large,
}

impl BufferSize {
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::Small => 4 << 10,
            Self::Large => 48 << 10,
        }
    }

    /// Buffers in a group of this size, a power of two. Of the large ones so few that they stay in a core's cache while the
    /// kernel goes around among them: what it has put there is mostly read and changed here.
    const fn count(self) -> u16 {
        match self {
            Self::Small => 512,
            Self::Large => 8,
        }
    }

    /// Bytes in the buffers of a group.
    const fn group_bytes(self) -> usize {
        self.bytes() * self.count() as usize
    }
}

/// Bytes in the buffers of the larger kind of group: one huge page.
const GROUP_BYTES: usize = BufferSize::Small.group_bytes();

/// Most groups of a shard, 8 GiB: a group's number has 12 bits in an operation's user data.
const GROUPS_MAX: usize = 1 << 12;

/// A buffer: group and index in one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BufferId(u32);

impl BufferId {
    /// Groups that the kernel fills have numbers below this bit.
    const OWN: u32 = 1 << 31;

    pub(crate) fn new(group: u16, index: u16) -> Self {
        Self(u32::from(group) << 16 | u32::from(index))
    }

    /// Group and index in one number.
    #[cfg(any(test, feature = "internal"))]
    pub(crate) fn number(self) -> u32 {
        self.0
    }

    /// One of our own buffers.
    pub(super) fn own(group: usize, index: u16) -> Self {
        Self(Self::OWN | (group as u32) << 16 | u32::from(index))
    }

    /// Whether it is one of our own, which the kernel does not fill.
    pub(super) fn is_own(self) -> bool {
        self.0 & Self::OWN != 0
    }

    pub(super) fn own_group(self) -> usize {
        (self.0 & !Self::OWN) as usize >> 16
    }

    fn group(self) -> usize {
        (self.0 >> 16) as usize
    }

    pub(super) fn index(self) -> u16 {
        self.0 as u16
    }
}

/// All groups of a shard.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// By group number; `None` where a group was given back.
    groups: Vec<Option<Group>>,
    groups_max: usize,
    /// Buffers that were taken and not given back.
    in_use: usize,
}

impl Buffers {
    /// Maps the first group. At most `bytes_max` are ever used, but one group at least.
    pub(crate) fn new(submitter: &Submitter<'_>, bytes_max: usize) -> io::Result<Self> {
        // One of each size at least.
        let groups_max = (bytes_max / GROUP_BYTES).clamp(2, GROUPS_MAX);
        let first = Group::new(submitter, 0, BufferSize::Small)?;
        Ok(Self { groups: vec![Some(first)], groups_max, in_use: 0 })
    }

    /// The group that the next receive should take from, with another one mapped if all are used up. Where no large buffers are
    /// to be had small ones do. `None`: no memory is to be had, wait until buffers come back.
    pub(crate) fn group(&mut self, size: BufferSize, submitter: &Submitter<'_>) -> Option<u16> {
        let number = self.free(size).or_else(|| self.grow(size, submitter)).or_else(|| self.free(BufferSize::Small))?;
        Some(number as u16)
    }

    /// A group of this size with a free buffer.
    fn free(&self, size: BufferSize) -> Option<usize> {
        let has_free = |group: &Group| group.size == size && group.free > 0;
        self.groups.iter().position(|group| group.as_ref().is_some_and(has_free))
    }

    fn grow(&mut self, size: BufferSize, submitter: &Submitter<'_>) -> Option<usize> {
        // A receive that is armed on a group takes from whatever has its number: that is always of the same size.
        let first = usize::from(size == BufferSize::Large);
        let is_free = |number: &usize| self.groups.get(*number).is_none_or(Option::is_none);
        let number = (first..self.groups_max).step_by(2).find(is_free)?;
        let group = Group::new(submitter, number as u16, size).ok()?;
        if number >= self.groups.len() {
            self.groups.resize_with(number + 1, || None);
        }
        self.groups[number] = Some(group);
        Some(number)
    }

    /// The kernel has filled this buffer.
    pub(crate) fn take(&mut self, buffer: BufferId) {
        debug_assert!(self.group_of(buffer).is_some(), "the kernel has filled a buffer of a group that is gone");
        if let Some(group) = self.group_of(buffer) {
            group.free -= 1;
            self.in_use += 1;
        }
    }

    /// Nobody needs this buffer any more: the kernel may fill it again.
    pub(crate) fn give_back(&mut self, buffer: BufferId) {
        let Some(group) = self.group_of(buffer) else { return };
        group.provide(buffer.index());
        group.publish();
        self.in_use -= 1;
    }

    /// True if there are more groups than the first.
    pub(crate) fn has_grown(&self) -> bool {
        self.groups.len() > 1
    }

    /// Unmaps the groups of which no buffer is in use, if the first one has plenty; but a single group of large buffers stays,
    /// as a stream uses and returns them all the time. Only while no completion is left that was
    /// not handed to [`Buffers::take`]: until then a buffer that the kernel has filled counts as free here.
    pub(crate) fn shrink(&mut self, submitter: &Submitter<'_>) {
        let Some((Some(first), others)) = self.groups.split_first_mut() else { return };
        if first.free < first.size.count() / 4 * 3 {
            return;
        }
        let mut large = others.iter().flatten().filter(|group| group.size == BufferSize::Large).count();
        for (slot, number) in others.iter_mut().zip(1u16..) {
            let Some(group) = slot else { continue };
            let is_last_large = group.size == BufferSize::Large && large == 1;
            if group.free < group.size.count() || is_last_large {
                continue;
            }
            large -= usize::from(group.size == BufferSize::Large);
            // A receive that is still armed on the group ends with ENOBUFS and is armed again on another one.
            if submitter.unregister_buf_ring(number).is_ok() {
                *slot = None;
            }
        }
        while let Some(None) = self.groups.last() {
            self.groups.pop();
        }
    }

    /// The bytes that the kernel has put into a buffer. Empty if the buffer is not one of these.
    ///
    /// Only from [`Buffers::take`] until [`Buffers::give_back`], and while no send of it is in flight: then nobody else
    /// touches them.
    pub(crate) fn received_mut(&mut self, buffer: BufferId, length: usize) -> &mut [u8] {
        match self.group_of(buffer) {
            Some(group) if length <= group.size.bytes() => {
                group.memory.slice_mut(usize::from(buffer.index()) * group.size.bytes(), length)
            }
            _ => &mut [],
        }
    }

    /// Where a buffer's bytes are.
    pub(crate) fn address(&self, buffer: BufferId) -> Option<*const u8> {
        let group = self.groups.get(buffer.group())?.as_ref()?;
        Some(group.address(buffer.index()).cast_const())
    }

    /// Buffers that were taken and not given back.
    pub(crate) fn in_use(&self) -> usize {
        self.in_use
    }

    /// Mapped bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.groups.iter().flatten().map(|group| group.size.group_bytes()).sum()
    }

    fn group_of(&mut self, buffer: BufferId) -> Option<&mut Group> {
        self.groups.get_mut(buffer.group())?.as_mut()
    }
}

/// Zeroed pages of our own, unmapped when dropped.
#[derive(Debug)]
pub(super) struct Pages {
    start: NonNull<u8>,
    bytes: usize,
}

impl Pages {
    pub(super) fn new(bytes: usize) -> io::Result<Self> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping touches no memory that exists already.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, bytes })
    }

    pub(super) fn address(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset < self.bytes);
        self.start.as_ptr().wrapping_add(offset)
    }

    /// A part of the memory. Its owner sees to it that the kernel has nothing to do with that part meanwhile. Empty if it
    /// does not lie within.
    pub(super) fn slice_mut(&mut self, offset: usize, length: usize) -> &mut [u8] {
        if offset.checked_add(length).is_none_or(|end| end > self.bytes) {
            return &mut [];
        }
        // SAFETY: the part lies within the mapping, which is initialised (zeroed by the kernel) and lives as long as `self`,
        // borrowed here exclusively. The kernel writes only to buffers that were provided to it and reads only from those that
        // a send in flight points at: the callers give out neither.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(offset), length) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, unmapped only here. The kernel does not write to it any more: a group is dropped after it
        // was unregistered with all its buffers home, or after the ring was closed with nothing in flight.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

#[derive(Debug)]
struct Group {
    size: BufferSize,
    memory: Pages,
    /// What we share with the kernel: an array of entries in which the first one's last field is the tail.
    ring: Pages,
    tail: u16,
    /// Buffers that the kernel can take.
    free: u16,
}

impl Group {
    fn new(submitter: &Submitter<'_>, number: u16, size: BufferSize) -> io::Result<Self> {
        let count = size.count();
        let memory = Pages::new(size.group_bytes())?;
        let ring = Pages::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let mut group = Self { size, memory, ring, tail: 0, free: 0 };
        // SAFETY: the ring's pages are aligned, large enough for this many entries, and stay until it is unregistered or
        // the io_uring is closed (see `Pages::drop`).
        unsafe { submitter.register_buf_ring_with_flags(group.ring.start.as_ptr() as u64, count, number, 0)? };
        (0..count).for_each(|index| group.provide(index));
        group.publish();
        Ok(group)
    }

    fn address(&self, index: u16) -> *mut u8 {
        self.memory.address(usize::from(index) * self.size.bytes())
    }

    fn provide(&mut self, index: u16) {
        let entries = self.ring.start.as_ptr().cast::<BufRingEntry>();
        let place = usize::from(self.tail & (self.size.count() - 1));
        // SAFETY: `place` is below the number of entries. The kernel reads an entry only once the tail has passed it, so
        // nobody else touches this one now: at most that many buffers are ever provided, each once.
        let entry = unsafe { &mut *entries.add(place) };
        entry.set_addr(self.address(index) as u64);
        entry.set_len(self.size.bytes() as u32);
        entry.set_bid(index);
        self.tail = self.tail.wrapping_add(1);
        self.free += 1;
    }

    /// Lets the kernel see what was provided.
    fn publish(&self) {
        let entries = self.ring.start.as_ptr().cast::<BufRingEntry>();
        // SAFETY: the pointer is to the first entry of the ring, whose tail field is aligned for u16 and shared with the
        // kernel, which only reads it. Release pairs with the kernel's acquire: it sees the entries before the tail.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(entries).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
