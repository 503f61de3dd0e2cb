//! How long messages took.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::Result;

/// The latencies of messages, to three digits.
#[derive(Debug)]
pub struct Latency(Histogram<u64>);

/// Some points of a distribution, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Percentiles {
    /// Half of the messages took less.
    pub p50: f64,
    /// 1 of 100 took longer.
    pub p99: f64,
    /// 1 of 1000 took longer.
    pub p999: f64,
}

/// Longer latencies count as this one.
const LONGEST: Duration = Duration::from_secs(60);

impl Latency {
    /// Of no message yet.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new() -> Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3)?))
    }

    /// Adds that of a message.
    pub fn record(&mut self, taken: Duration) {
        self.0.saturating_record(taken.as_nanos() as u64);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// What was recorded.
    pub fn percentiles(&self) -> Percentiles {
        Percentiles { p50: self.at(0.5), p99: self.at(0.99), p999: self.at(0.999) }
    }

    /// The latency in seconds that this part of the messages, 0 to 1, did not exceed.
    pub fn at(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut latency = Latency::new().expect("there is memory");
        latency.record(Duration::from_secs(9));
        latency.clear();
        (1..=1000).for_each(|number| latency.record(Duration::from_micros(number)));
        let Percentiles { p50, p99, p999 } = latency.percentiles();
        let is_about = |value: f64, micros: f64| (value * 1e6 / micros - 1.0).abs() < 0.002;
        assert!(is_about(p50, 500.0) && is_about(p99, 990.0) && is_about(p999, 999.0), "{p50} {p99} {p999}");
    }
}
