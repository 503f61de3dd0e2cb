//! What is remembered of how long a server takes: peak EWMAs (exponentially weighted moving averages that follow a rise at
//! once), as in Twitter's Finagle (`PeakEwma`). Pure: time is an argument.
//!
//! All shards write without locks or locked instructions. When two do so at once one sample is lost, which does not matter.

use std::sync::atomic::{AtomicU64, Ordering};

/// Milliseconds in which what is remembered fades to 1/e: Finagle's default.
const FADE: f32 = 10_000.0;
/// Milliseconds by which a shard's clock may be behind a sample: its turn began before another shard's.
const LAG_MAX: u32 = 60_000;

/// A server's latency, over all shards.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    /// From the begin of a connect to its end.
    pub(crate) connect: PeakEwma,
    /// From what was handed on to the server to the first byte of its answer.
    pub(crate) first_byte: PeakEwma,
}

/// One average in one word: its value and when it was brought up to date.
#[derive(Debug, Default)]
pub(crate) struct PeakEwma(AtomicU64);

/// The word, read. A value is never below 1, so a word of 0 is no sample yet.
#[derive(Debug, Clone, Copy)]
struct Remembered {
    /// Microseconds.
    value: f32,
    /// Milliseconds, which wrap after 49 days: a value as old as that may look young again.
    at: u32,
}

impl PeakEwma {
    /// Learns that it took `taken` microseconds, at `now` (microseconds since the balancer started). Longer than is
    /// remembered counts at once and in full; shorter counts by the time since the last sample.
    pub(crate) fn record(&self, now: u64, taken: u64) {
        let (at, taken) = (millis(now), (taken as f32).max(1.0));
        let value = match self.read() {
            None => taken,
            Some(old) => {
                let left = old.left(at);
                let faded = old.value * left;
                if taken >= faded { taken } else { faded + taken * (1.0 - left) }
            }
        };
        self.0.store(Remembered { value, at }.pack(), Ordering::Relaxed);
    }

    /// What it may take, in microseconds, 1 at least; `None` without any sample. It fades from sample to sample, so that who
    /// is avoided for being slow is tried again.
    pub(crate) fn estimate(&self, now: u64) -> Option<f32> {
        let old = self.read()?;
        Some((old.value * old.left(millis(now))).max(1.0))
    }

    fn read(&self) -> Option<Remembered> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            word => Some(Remembered { value: f32::from_bits((word >> 32) as u32), at: word as u32 }),
        }
    }
}

impl Remembered {
    fn pack(self) -> u64 {
        u64::from(self.value.to_bits()) << 32 | u64::from(self.at)
    }

    /// The part of it that is left at a time: 1 when it is new, towards 0 later.
    fn left(self, now: u32) -> f32 {
        let age = now.wrapping_sub(self.at);
        if age > u32::MAX - LAG_MAX { 1.0 } else { (-(age as f32) / FADE).exp() }
    }
}

fn millis(micros: u64) -> u32 {
    (micros / 1_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn without_a_sample_nothing_is_said() {
        assert_eq!(PeakEwma::default().estimate(SECOND), None);
    }

    #[test]
    fn a_rise_counts_at_once_and_a_fall_by_and_by() {
        let average = PeakEwma::default();
        average.record(0, 1_000);
        average.record(SECOND, 50_000);
        assert_eq!(average.estimate(SECOND), Some(50_000.0));
        let mut last = 50_000.0;
        for second in 2..30 {
            average.record(second * SECOND, 1_000);
            let now = average.estimate(second * SECOND).unwrap();
            assert!(now < last && now > last * 0.9, "from {last} to {now} in a second");
            last = now;
        }
        average.record(60 * SECOND, 1_000);
        assert_eq!(average.estimate(60 * SECOND), Some(1_000.0));
    }

    #[test]
    fn what_is_remembered_fades_to_nothing_but_never_below_a_microsecond() {
        let average = PeakEwma::default();
        average.record(0, 1_000_000);
        let after = |seconds| average.estimate(seconds * SECOND).unwrap();
        assert!((after(10) / 1e6 - (-1_f32).exp()).abs() < 1e-3, "1/e after ten seconds");
        assert_eq!(after(1_000), 1.0);
    }

    #[test]
    fn a_clock_that_lags_behind_a_sample_takes_nothing_from_it() {
        let average = PeakEwma::default();
        average.record(10 * SECOND, 500);
        assert_eq!(average.estimate(10 * SECOND - 5_000), Some(500.0));
    }

    #[test]
    fn time_may_go_past_what_32_bits_of_milliseconds_hold() {
        let wraps = u64::from(u32::MAX) * 1_000;
        let average = PeakEwma::default();
        average.record(wraps - 1_000, 500);
        let estimate = average.estimate(wraps + 10 * SECOND).unwrap();
        assert!((estimate / 500.0 - (-1_f32).exp()).abs() < 1e-2, "{estimate}");
    }

    proptest! {
        #[test]
        fn an_estimate_is_between_its_last_and_its_greatest_sample(
            samples in prop::collection::vec((0..20 * SECOND, 1u64..10_000_000), 1..50),
        ) {
            let (average, mut now, mut greatest) = (PeakEwma::default(), 0, 0);
            for (pause, taken) in samples {
                now += pause;
                greatest = taken.max(greatest);
                let before = average.estimate(now);
                average.record(now, taken);
                let after = average.estimate(now).unwrap();
                prop_assert!(after >= taken as f32 && after <= greatest as f32 * 1.000_001, "{after} after {taken}");
                if before.is_none_or(|before| taken as f32 >= before) {
                    prop_assert_eq!(after, taken as f32, "a peak counts in full");
                }
            }
        }

        #[test]
        fn it_only_fades_while_there_is_no_sample(
            taken in 1u64..10_000_000,
            pauses in prop::collection::vec(0..20 * SECOND, 1..20),
        ) {
            let (average, mut now) = (PeakEwma::default(), 0);
            average.record(now, taken);
            let mut last = taken as f32;
            for pause in pauses {
                now += pause;
                let estimate = average.estimate(now).unwrap();
                prop_assert!((1.0..=last).contains(&estimate));
                last = estimate;
            }
        }
    }
}
