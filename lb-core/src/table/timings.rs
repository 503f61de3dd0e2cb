//! How long things took, as one shard measures it and others read it: without locks and without locked instructions.
//!
//! Two views of the same times. For whoever collects metrics, counts since the beginning at few bounds, powers of two. For
//! people who look, finer counts of the last 10 to 20 seconds: two windows that take turns, of which the older one is
//! emptied when its turn comes again.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use super::counters::Counter;

/// Microseconds of a window.
const WINDOW: u64 = 10_000_000;

/// Steps per power of two in a window: each is an eighth wide.
const STEPS: u32 = 8;

/// Windows tell times apart from this power of two on, 16 µs.
const FIRST: u32 = 4;

/// Windows do not tell times apart from this power of two on, 71 minutes.
const LAST: u32 = 32;

/// Places of a window.
const PLACES: usize = 1 + ((LAST - FIRST) * STEPS) as usize;

/// How often something took how long.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    counts: [u64; Self::BOUNDS + 1],
    sum_micros: u64,
}

impl Histogram {
    /// Microseconds of the first bound.
    const FIRST: u64 = 64;

    /// Of how many times it is told how often something took no longer.
    pub const BOUNDS: usize = 21;

    /// How often it was measured.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All times together, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_micros as f64 / 1e6
    }

    /// Where a time of so many microseconds is counted.
    fn index(micros: u64) -> usize {
        let power = (micros | 1).ilog2() as usize;
        (power + 1).saturating_sub(Self::FIRST.ilog2() as usize).min(Self::BOUNDS)
    }

    /// Takes in what one shard has counted.
    fn add(&mut self, counts: [u64; Self::BOUNDS + 1], sum_micros: u64) {
        self.counts.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        self.sum_micros += sum_micros;
    }

    /// Times in seconds, and how often it took no longer: powers of two of a microsecond, from 64 µs to 67 s.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut sum = 0;
        self.counts[..Self::BOUNDS].iter().enumerate().map(move |(index, count)| {
            sum += count;
            ((Self::FIRST << index) as f64 / 1e6, sum)
        })
    }
}

/// How long something took in the last 10 to 20 seconds, in microseconds, each within 7 %.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles {
    /// How often it was measured; without that the others are 0.
    pub count: u64,
    /// Half took no longer.
    pub p50: u64,
    /// 90 of 100 took no longer.
    pub p90: u64,
    /// 99 of 100 took no longer.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

/// Times of one kind that one shard has measured. They take memory only once there is one.
#[derive(Debug, Default)]
pub(crate) struct Timings(OnceLock<Box<Measured>>);

#[derive(Debug)]
struct Measured {
    counts: [Counter; Histogram::BOUNDS + 1],
    sum_micros: Counter,
    windows: [Window; 2],
}

#[derive(Debug)]
struct Window {
    /// Counted from the balancer's start; what is counted here is of this one.
    number: Counter,
    max: Counter,
    counts: [AtomicU32; PLACES],
}

impl Timings {
    /// Counts a time of so many microseconds that ends at `now`. Only the owning shard may call this.
    pub(crate) fn record(&self, now: u64, micros: u64) {
        let measured = self.0.get_or_init(Box::default);
        measured.counts[Histogram::index(micros)].add(1);
        measured.sum_micros.add(micros);
        measured.windows[(now / WINDOW) as usize % 2].record(now / WINDOW, micros);
    }

    fn measured<'a>(shards: impl Iterator<Item = &'a Self>) -> impl Iterator<Item = &'a Measured> {
        shards.filter_map(|timings| timings.0.get()).map(Box::as_ref)
    }

    /// All that were ever measured, on all shards.
    pub(crate) fn total<'a>(shards: impl Iterator<Item = &'a Self>) -> Histogram {
        let mut total = Histogram::default();
        for measured in Self::measured(shards) {
            total.add(measured.counts.each_ref().map(Counter::get), measured.sum_micros.get());
        }
        total
    }

    /// Those of the last 10 to 20 seconds, on all shards; `now` in microseconds.
    pub(crate) fn recent<'a>(shards: impl Iterator<Item = &'a Self>, now: u64) -> Quantiles {
        let mut sum: Option<Box<[u64; PLACES]>> = None;
        let mut max = 0;
        for window in Self::measured(shards).flat_map(|measured| &measured.windows) {
            let number = window.number.get();
            if number + 1 < now / WINDOW || window.max.get() == 0 {
                continue;
            }
            let sum = sum.get_or_insert_with(|| Box::new([0; PLACES]));
            sum.iter_mut()
                .zip(&window.counts)
                .for_each(|(sum, count)| *sum += u64::from(count.load(Ordering::Relaxed)));
            max = max.max(window.max.get());
        }
        sum.map_or_else(Quantiles::default, |counts| quantiles(&counts, max))
    }
}

impl Default for Measured {
    fn default() -> Self {
        let window = || Window {
            number: Counter::default(),
            max: Counter::default(),
            counts: std::array::from_fn(|_| AtomicU32::new(0)),
        };
        Self { counts: Default::default(), sum_micros: Counter::default(), windows: [window(), window()] }
    }
}

impl Window {
    fn record(&self, number: u64, micros: u64) {
        if self.number.get() != number {
            self.number.set(number);
            self.max.set(0);
            self.counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
        }
        // Not 0, by which an empty window is known.
        self.max.set(self.max.get().max(micros.max(1)));
        let count = &self.counts[place(micros)];
        count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

/// Where a time is counted in a window.
fn place(micros: u64) -> usize {
    let micros = micros.min((1 << LAST) - 1);
    let power = (micros | 1).ilog2();
    if power < FIRST {
        return 0;
    }
    let step = (micros >> (power - STEPS.ilog2())) as u32 % STEPS;
    (1 + (power - FIRST) * STEPS + step) as usize
}

/// The middle of the times that are counted at a place.
fn middle(place: usize) -> u64 {
    let Some(place) = place.checked_sub(1) else { return 1 << (FIRST - 1) };
    let (power, step) = (FIRST + place as u32 / STEPS, place as u64 % u64::from(STEPS));
    let width = 1_u64 << (power - STEPS.ilog2());
    (1 << power) + step * width + width / 2
}

fn quantiles(counts: &[u64; PLACES], max: u64) -> Quantiles {
    let count: u64 = counts.iter().sum();
    let at = |part: f64| {
        let rank = ((count as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        let found = counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        found.map_or(0, middle).min(max)
    };
    Quantiles { count, p50: at(0.5), p90: at(0.9), p99: at(0.99), max }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 25_000_000;

    fn of(micros: impl IntoIterator<Item = u64>) -> Timings {
        let timings = Timings::default();
        micros.into_iter().for_each(|micros| timings.record(NOW, micros));
        timings
    }

    #[test]
    fn quantiles_are_those_of_the_times_within_seven_percent() {
        let timings = of(1..=10_000);
        let quantiles = Timings::recent([&timings].into_iter(), NOW);
        let is_near = |found: u64, exact: u64| found.abs_diff(exact) * 100 <= exact * 7;
        assert_eq!((quantiles.count, quantiles.max), (10_000, 10_000));
        assert!(is_near(quantiles.p50, 5_000) && is_near(quantiles.p90, 9_000) && is_near(quantiles.p99, 9_900));
    }

    #[test]
    fn shards_are_taken_together() {
        let (one, other) = (of([100; 10]), of([10_000; 10]));
        let quantiles = Timings::recent([&one, &other].into_iter(), NOW);
        assert_eq!((quantiles.count, quantiles.max), (20, 10_000));
        assert!(quantiles.p50 < 110 && quantiles.p90 > 9_000);
        let total = Timings::total([&one, &other].into_iter());
        assert_eq!((total.count(), total.sum_seconds()), (20, 0.101));
    }

    #[test]
    fn what_is_older_than_two_windows_is_forgotten_by_the_quantiles_only() {
        let timings = of([100]);
        let count = |now| Timings::recent([&timings].into_iter(), now).count;
        assert_eq!((count(NOW), count(NOW + WINDOW), count(NOW + 2 * WINDOW)), (1, 1, 0));
        timings.record(NOW + 2 * WINDOW, 5);
        assert_eq!(count(NOW + 2 * WINDOW), 1, "the window was emptied");
        assert_eq!(Timings::total([&timings].into_iter()).count(), 2);
    }

    #[test]
    fn without_a_time_nothing_is_told() {
        assert_eq!(Timings::recent([&Timings::default()].into_iter(), NOW), Quantiles::default());
        assert_eq!(Timings::total([&Timings::default()].into_iter()).count(), 0);
    }

    proptest! {
        #[test]
        fn a_time_is_counted_where_the_middle_is_near(micros in 0..u64::MAX) {
            let found = middle(place(micros));
            let exact = micros.min((1 << LAST) - 1);
            prop_assert!(exact < 16 || found.abs_diff(exact) * 100 <= exact * 7, "{} for {}", found, exact);
        }

        #[test]
        fn a_time_counts_at_each_bound_that_is_no_shorter(micros in 0..200_000_000_u64) {
            let total = Timings::total([&of([micros])].into_iter());
            for (bound, count) in total.cumulative() {
                prop_assert_eq!(count == 1, (micros as f64) < bound * 1e6, "{} at {}", micros, bound);
            }
        }
    }
}
