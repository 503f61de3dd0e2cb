//! Many atomics that begin as 0, in memory that takes room only where it was written.

use super::sync::AtomicU64;

/// `count` of them; `None` if the system has no memory for so many.
#[cfg(not(lb_loom))]
pub(crate) fn zeroed(count: usize) -> Option<Box<[AtomicU64]>> {
    use std::alloc::{Layout, alloc_zeroed};

    let layout = Layout::array::<AtomicU64>(count).ok().filter(|layout| layout.size() > 0)?;
    // SAFETY: the layout has a size.
    let memory = unsafe { alloc_zeroed(layout) }.cast::<AtomicU64>();
    if memory.is_null() {
        return None;
    }
    let slice = std::ptr::slice_from_raw_parts_mut(memory, count);
    // SAFETY: the memory is ours alone, was allocated by the allocator of boxes with the layout of this slice, and is
    // initialised: zeros are a valid `AtomicU64`.
    Some(unsafe { Box::from_raw(slice) })
}

/// Loom's are no plain memory.
#[cfg(lb_loom)]
pub(crate) fn zeroed(count: usize) -> Option<Box<[AtomicU64]>> {
    Some((0..count).map(|_| AtomicU64::new(0)).collect())
}

#[cfg(all(test, not(lb_loom)))]
mod tests {
    use super::*;
    use crate::sys::sync::Ordering;

    #[test]
    fn all_are_there_and_zero_and_more_than_there_is_room_for_are_refused() {
        let all = zeroed(1000).unwrap();
        all[999].fetch_add(7, Ordering::Relaxed);
        let read: Vec<_> = all.iter().map(|one| one.load(Ordering::Relaxed)).collect();
        assert!(read[..999].iter().all(|value| *value == 0));
        assert_eq!((read.len(), read[999]), (1000, 7));
        assert!(zeroed(0).is_none());
        // Or the compiler would not even ask.
        assert!(std::hint::black_box(zeroed(usize::MAX / 16)).is_none());
    }
}
