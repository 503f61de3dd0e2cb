//! What the log's thread writes to: counts what can't be written, and says what was lost once it goes on.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

/// Lines that could not be written.
static FAILED: AtomicU64 = AtomicU64::new(0);

/// How many lines had been dropped when one was written last.
static SEEN: AtomicU64 = AtomicU64::new(0);

/// Lines that could not be written since the start.
pub(super) fn failed() -> u64 {
    FAILED.load(Ordering::Relaxed)
}

/// Whether lines have been dropped since one was written.
pub(super) fn is_stuck(dropped: u64) -> bool {
    dropped != SEEN.load(Ordering::Relaxed)
}

/// Each of its writes is one line, or one entry of the journal.
pub(super) struct Output {
    inner: Box<dyn Write + Send>,
    lost: Lost,
}

impl Output {
    pub(super) fn new(inner: Box<dyn Write + Send>) -> Self {
        Self { inner, lost: Lost::default() }
    }
}

impl Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.inner.write_all(line).is_err() {
            FAILED.fetch_add(1, Ordering::Relaxed);
            return Ok(line.len());
        }
        let dropped = super::dropped();
        SEEN.store(dropped, Ordering::Relaxed);
        if let Some(lines) = self.lost.say(dropped) {
            tracing::warn!("the log goes on: {lines} lines of it were dropped, {dropped} since the start");
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What was lost and not said yet.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    seen: u64,
    said: u64,
}

impl Lost {
    /// To be asked when something was written: how much is to be said to be lost, of all that was `dropped`. Nothing is
    /// as long as more is dropped from one time to the next.
    pub(crate) fn say(&mut self, dropped: u64) -> Option<u64> {
        let is_still = self.seen == dropped;
        self.seen = dropped;
        let lost = dropped - self.said;
        if !is_still || lost == 0 {
            return None;
        }
        self.said = dropped;
        Some(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_said_once_and_when_no_more_is_lost() {
        let mut lost = Lost::default();
        let said = [0, 0, 5, 9, 9, 9, 9, 12, 12].map(|dropped| lost.say(dropped));
        assert_eq!(said, [None, None, None, None, Some(9), None, None, None, Some(3)]);
    }
}
