//! The only folder with unsafe code. What it wraps, and the rule each wrapper keeps:
//!
//! | file | wraps | rule |
//! |---|---|---|
//! | `ring` | submission of operations that point into memory | what an operation points at outlives it, or is copied at submission |
//! | `buffers` | the kernel's provided-buffer rings | memory of a group is mapped as long as the ring may write to it |
//! | `own_buffers` | memory of buffers that the kernel only sends from | lent once until given back |
//! | `published` | one pointer shared by all threads | read under an epoch guard, retired only after it was replaced |
//! | `zeroed` | memory that the allocator gives as zeros | only for types that zeros are valid for |
//! | `doorbell` | eventfd(2) | its counter is read and written eight bytes at a time |
//! | `socket` | descriptors given as numbers | an `OwnedFd` is made exactly once of each number that the kernel gave us |
//! | `affinity`, `limits`, `signals` | what the kernel keeps per thread or process | plain structs, read or filled during the call |
#![allow(unsafe_code, reason = "the only folder that may; each block says why it is sound")]

pub(crate) mod affinity;
pub(crate) mod buffers;
pub(crate) mod doorbell;
pub(crate) mod limits;
pub(crate) mod own_buffers;
pub(crate) mod process;
pub(crate) mod published;
pub(crate) mod ring;
pub(crate) mod signals;
pub(crate) mod socket;
pub(crate) mod sync;
pub(crate) mod zeroed;
