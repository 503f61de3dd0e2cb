//! When the kernel wakes a thread for its next deadline: one alarm in the ring, so that timers cost next to nothing.

use std::time::{Duration, Instant};

use super::timers::Time;
use crate::sys::ring::Ring;

/// The alarm of a thread.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Time>);

impl Alarm {
    /// It has rung.
    pub(crate) fn on_rung(&mut self) {
        self.0 = None;
    }

    /// Sees to it that the kernel wakes the thread at `when`, counted from `started`, or before. Completes as `user_data`;
    /// `nobody` is the user data of what nobody waits for.
    pub(crate) fn set(&mut self, when: Time, started: Instant, ring: &mut Ring, user_data: u64, nobody: u64) {
        if self.0.is_none_or(|alarm| when < alarm) {
            let after = Duration::from_millis(when).saturating_sub(started.elapsed());
            ring.set_alarm(after, self.0.is_some(), user_data, nobody);
            self.0 = Some(when);
        }
    }
}
