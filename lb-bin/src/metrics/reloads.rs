//! What became of the reloads that signals asked for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Counts reloads since the start.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    applied: AtomicU64,
    refused: AtomicU64,
    was_last_refused: AtomicBool,
}

impl Reloads {
    /// A reload is over: the file is in effect, or was refused.
    pub(super) fn count(&self, is_applied: bool) {
        let counter = if is_applied { &self.applied } else { &self.refused };
        counter.fetch_add(1, Relaxed);
        self.was_last_refused.store(!is_applied, Relaxed);
    }

    /// The reloads until now.
    pub(super) fn counts(&self) -> ReloadCounts {
        ReloadCounts {
            applied: self.applied.load(Relaxed),
            refused: self.refused.load(Relaxed),
            was_last_refused: self.was_last_refused.load(Relaxed),
        }
    }
}

/// What became of reloads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ReloadCounts {
    /// Those whose file is in effect since.
    pub(super) applied: u64,
    /// Those that changed nothing, because the file is wrong.
    pub(super) refused: u64,
    /// Whether the last one was refused.
    pub(super) was_last_refused: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_reload_is_told_apart() {
        let reloads = Reloads::default();
        assert_eq!(reloads.counts(), ReloadCounts::default());
        reloads.count(false);
        assert_eq!(reloads.counts(), ReloadCounts { applied: 0, refused: 1, was_last_refused: true });
        reloads.count(true);
        assert_eq!(reloads.counts(), ReloadCounts { applied: 1, refused: 1, was_last_refused: false });
    }
}
