//! What a thread with a ring of its own needs from turn to turn, whichever plane it belongs to: values under keys that
//! can't be stale, and their deadlines.

pub(crate) mod alarm;
pub(crate) mod slots;
pub(crate) mod timers;
