//! The atomics of what is model-checked: std's, or loom's under `--cfg lb_loom`.

#[cfg(lb_loom)]
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
#[cfg(not(lb_loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
