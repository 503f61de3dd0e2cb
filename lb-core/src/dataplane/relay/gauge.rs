//! When a direction is spliced and when it is copied: the rule and its constants.
//!
//! Copying costs by the byte, splicing by the wake-up. Measured on loopback, copying a GB takes three to five times the CPU
//! time of splicing it; a message of 64 bytes, spliced, takes twice that of copying it, because readiness and the pipe
//! are system calls of their own. The two meet between 8 and 16 KiB per wake-up. So what counts is the size of a *run*:
//! while splicing, what one wake-up moves; while copying, what comes until everything that came is sent.
//!
//! * Up, to splicing: once [`UP_AFTER`] times [`BIG`] bytes have come in runs of at least that size, with no small run between.
//! * Without a pipe to splice through, or where bytes are changed on the way, a stream is copied by way of large buffers: that costs a fifth less than small ones.
//! * Down, to copying: after [`DOWN_AFTER`] small runs in a row. [`SMALL`] is well below [`BIG`], so a direction does not go back
//!   and forth around one size.

/// Bytes of a run from which on splicing is clearly better.
const BIG: u32 = 32 << 10;
/// Bytes of a run below which copying is clearly better.
const SMALL: u32 = 8 << 10;
/// So many big pieces make a stream: an answer of less than 128 KiB is not worth the change.
const UP_AFTER: i16 = 4;
/// So many small runs end a stream: one may be a stream's stutter.
const DOWN_AFTER: i16 = 3;
/// After no pipe was to be had, this many big pieces more are copied before the next try: 32 MiB.
const PENALTY: i16 = 1024;

/// How a direction moves its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Copied by way of small buffers, many at a time.
    Copy,
    /// Spliced.
    Splice,
    /// A stream for which there is no pipe, or that may not be spliced: copied by way of large buffers, one at a time.
    CopyLarge,
}

/// Measures one direction.
#[derive(Debug)]
pub(super) struct Gauge {
    way: Way,
    /// Bytes of the present run.
    run: u32,
    /// Big pieces without a small run between. Only while copying.
    big: i16,
    /// Small runs in a row. Only of a stream.
    small: i16,
    /// Whether its bytes may go past us, in the kernel.
    may_splice: bool,
}

impl Gauge {
    pub(super) fn new() -> Self {
        Self { way: Way::Copy, run: 0, big: 0, small: 0, may_splice: true }
    }

    /// A stream of this direction is copied, as its bytes are changed on the way.
    pub(super) fn forbid_splicing(&mut self) {
        self.may_splice = false;
        if self.way == Way::Splice {
            self.way = Way::CopyLarge;
        }
    }

    /// Whether what comes next may go past us. If that changes, it is another message: what was measured is forgotten.
    pub(super) fn set_splicing(&mut self, may_splice: bool) {
        if self.may_splice != may_splice {
            *self = Self { may_splice, ..Self::new() };
        }
    }

    pub(super) fn way(&self) -> Way {
        self.way
    }

    /// So many bytes have come.
    pub(super) fn on_moved(&mut self, bytes: usize) {
        let before = self.run;
        self.run = before.saturating_add(bytes as u32);
        self.big = self.big.saturating_add((self.run / BIG - before / BIG) as i16);
        let stream = if self.may_splice { Way::Splice } else { Way::CopyLarge };
        if self.way != stream && self.big >= UP_AFTER {
            (self.way, self.small) = (stream, 0);
        }
    }

    /// The run is over.
    pub(super) fn on_rest(&mut self) {
        let is_small = self.run < SMALL;
        self.run = 0;
        match self.way {
            Way::Copy if is_small => self.big = self.big.min(0),
            Way::Copy => {}
            Way::Splice | Way::CopyLarge => {
                self.small = if is_small { self.small + 1 } else { 0 };
                if self.small >= DOWN_AFTER {
                    // A penalty stays.
                    (self.way, self.big) = (Way::Copy, self.big.min(0));
                }
            }
        }
    }

    /// The stream has come to its end, or to something that can't be spliced.
    pub(super) fn on_over(&mut self) {
        *self = Self { may_splice: self.may_splice, ..Self::new() };
    }

    /// There is no pipe to splice through: back to copying, for a good while.
    pub(super) fn on_no_pipe(&mut self) {
        *self = Self { way: Way::CopyLarge, run: 0, big: -PENALTY, small: 0, ..*self };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_runs(gauge: &mut Gauge, count: usize, bytes: usize) -> bool {
        for _ in 0..count {
            (0..bytes.div_ceil(4096)).for_each(|piece| gauge.on_moved(4096.min(bytes - piece * 4096)));
            gauge.on_rest();
        }
        gauge.way() == Way::Splice
    }

    #[test]
    fn a_stream_is_spliced_after_128_kib_and_chats_never() {
        assert!(!after_runs(&mut Gauge::new(), 1000, 4096), "4 KiB messages");
        assert!(!after_runs(&mut Gauge::new(), 1000, 16 << 10), "16 KiB messages");
        assert!(!after_runs(&mut Gauge::new(), 1, 127 << 10), "one answer of 127 KiB");
        assert!(after_runs(&mut Gauge::new(), 1, 128 << 10), "one of 128 KiB");
        assert!(after_runs(&mut Gauge::new(), 4, 32 << 10), "big runs that add up to it");
    }

    #[test]
    fn a_chat_between_big_runs_keeps_a_direction_copying() {
        let mut gauge = Gauge::new();
        for _ in 0..100 {
            assert!(!after_runs(&mut gauge, 3, 40 << 10));
            assert!(!after_runs(&mut gauge, 1, 64));
        }
    }

    #[test]
    fn a_stutter_does_not_end_a_stream_and_small_runs_in_a_row_do() {
        let mut gauge = Gauge::new();
        assert!(after_runs(&mut gauge, 1, 128 << 10));
        for _ in 0..100 {
            assert!(after_runs(&mut gauge, 2, 64));
            assert!(after_runs(&mut gauge, 1, 8 << 10));
        }
        assert!(!after_runs(&mut gauge, 3, 64));
    }

    #[test]
    fn without_a_pipe_it_is_tried_again_after_32_mib() {
        let mut gauge = Gauge::new();
        assert!(after_runs(&mut gauge, 1, 128 << 10));
        gauge.on_no_pipe();
        assert!(!after_runs(&mut gauge, 1024 / 4, 128 << 10));
        assert_eq!(gauge.way(), Way::CopyLarge);
        assert!(after_runs(&mut gauge, 1, 128 << 10));
    }

    #[test]
    fn a_stream_that_may_not_be_spliced_any_more_is_not() {
        let mut gauge = Gauge::new();
        assert!(after_runs(&mut gauge, 1, 128 << 10));
        gauge.forbid_splicing();
        assert_eq!(gauge.way(), Way::CopyLarge);
    }

    #[test]
    fn a_stream_that_may_not_be_spliced_is_copied_by_large_buffers() {
        let mut gauge = Gauge::new();
        gauge.forbid_splicing();
        assert!(!after_runs(&mut gauge, 2, 128 << 10));
        assert_eq!(gauge.way(), Way::CopyLarge);
        assert!(!after_runs(&mut gauge, 3, 64));
        assert_eq!(gauge.way(), Way::Copy);
    }

    #[test]
    fn a_stream_without_a_pipe_that_has_become_a_chat_is_copied_by_small_buffers() {
        let mut gauge = Gauge::new();
        gauge.on_no_pipe();
        assert!(!after_runs(&mut gauge, 3, 64));
        assert_eq!(gauge.way(), Way::Copy);
    }
}
