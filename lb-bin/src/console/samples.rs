//! The last minutes of what the page plots: a sample every two seconds, kept in memory while there is a console.
//!
//! A sample takes 56 bytes, so that those of all frontends take 1.7 MB at most.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use lb_core::config::Name;
use lb_core::{FrontendStatus, Quantiles, Status, Traffic};
use serde::Serialize;

/// From one sample to the next.
pub(super) const EVERY: Duration = Duration::from_secs(2);
/// Samples that are kept of each: those of ten minutes.
const KEPT: usize = 300;
/// Frontends that samples are kept of: the first ones.
const FRONTENDS_MAX: usize = 100;

/// The samples of the whole and of each frontend, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Samples {
    whole: VecDeque<Sample>,
    frontends: BTreeMap<Name, VecDeque<Sample>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Sample {
    /// In seconds since 1970.
    at: u64,
    connections: u64,
    bytes_to_server_per_second: f64,
    bytes_to_client_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<Latency>,
}

/// How long half, and 99 of 100, took lately, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Latency {
    p50: u64,
    p99: u64,
}

impl Samples {
    /// Adds a sample of each; frontends that are gone are forgotten.
    pub(super) fn add(&mut self, at: u64, status: &Status) {
        if self.whole.back().is_some_and(|last| last.at >= at) {
            // The clock was set back: it can't be said any more how long ago they were.
            *self = Self::default();
        }
        let frontends = &status.frontends[..status.frontends.len().min(FRONTENDS_MAX)];
        let slowest = slowest(status.frontends.iter().filter_map(latency));
        push(&mut self.whole, Sample::new(at, status.connections, &status.traffic, slowest));
        let mut before = std::mem::take(&mut self.frontends);
        for frontend in frontends {
            let name = frontend.frontend.name();
            let mut samples = before.remove(name).unwrap_or_default();
            push(&mut samples, Sample::new(at, frontend.connections, &frontend.traffic, latency(frontend)));
            self.frontends.insert(name.clone(), samples);
        }
    }

    /// Those that were taken after a moment. All, if that moment is still to come: then the clock was set back since.
    pub(super) fn after(&self, at: u64) -> Self {
        let is_known = self.whole.back().is_some_and(|last| last.at >= at);
        let of = |samples: &VecDeque<Sample>| {
            samples.iter().filter(|sample| !is_known || sample.at > at).copied().collect::<VecDeque<_>>()
        };
        let frontends = self.frontends.iter().map(|(name, samples)| (name.clone(), of(samples)));
        Self { whole: of(&self.whole), frontends: frontends.collect() }
    }
}

impl Sample {
    fn new(at: u64, connections: u64, traffic: &Traffic, latency: Option<Quantiles>) -> Self {
        let Traffic { bytes_to_server_per_second, bytes_to_client_per_second, .. } = *traffic;
        let latency = latency.map(|Quantiles { p50, p99, .. }| Latency { p50, p99 });
        Self { at, connections, bytes_to_server_per_second, bytes_to_client_per_second, latency }
    }
}

fn push(samples: &mut VecDeque<Sample>, sample: Sample) {
    if samples.len() >= KEPT {
        samples.pop_front();
    }
    // No more than they will be, where doubling would take 512.
    samples.reserve_exact(KEPT - samples.len());
    samples.push_back(sample);
}

/// How long a frontend took lately: for requests where they are read, else to the first byte of its slowest server, else to
/// connect.
fn latency(frontend: &FrontendStatus) -> Option<Quantiles> {
    slowest([frontend.request_durations])
        .or_else(|| slowest(frontend.servers.iter().map(|server| server.first_byte)))
        .or_else(|| slowest(frontend.servers.iter().map(|server| server.connect)))
}

fn slowest(measured: impl IntoIterator<Item = Quantiles>) -> Option<Quantiles> {
    measured.into_iter().filter(|quantiles| quantiles.count > 0).max_by_key(|quantiles| quantiles.p99)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{frontend, server, status};

    fn times(samples: &VecDeque<Sample>) -> Vec<u64> {
        samples.iter().map(|sample| sample.at).collect()
    }

    #[test]
    fn ten_minutes_are_kept_of_each_and_those_after_a_moment_given() {
        assert_eq!(size_of::<Sample>(), 56);
        let (mut samples, status) =
            (Samples::default(), status(vec![frontend("web", Vec::new()), frontend("api", Vec::new())]));
        assert_eq!(samples.after(0), Samples::default());
        for at in (1000..).step_by(2).take(KEPT + 5) {
            samples.add(at, &status);
        }
        let last = 1000 + 2 * (KEPT as u64 + 4);
        let whole = times(&samples.whole);
        assert_eq!((whole.len(), whole[0], whole[KEPT - 1]), (KEPT, 1010, last));
        assert!(samples.frontends.len() == 2 && samples.frontends.values().all(|one| times(one) == whole));
        let new = samples.after(last - 4);
        assert_eq!(
            (times(&new.whole), times(&new.frontends[&"web".parse().unwrap()])),
            (vec![last - 2, last], vec![last - 2, last])
        );
        assert_eq!(times(&samples.after(last).whole), [0; 0]);
        assert_eq!(samples.after(0), samples);
        assert_eq!(samples.after(last + 1), samples, "the clock was set back");
        samples.add(last, &status);
        assert_eq!(times(&samples.whole), [last]);
    }

    #[test]
    fn a_frontend_that_is_gone_takes_no_memory_and_there_are_not_too_many() {
        let (mut samples, mut status) =
            (Samples::default(), status(vec![frontend("web", Vec::new()), frontend("api", Vec::new())]));
        samples.add(1, &status);
        status.frontends.remove(0);
        samples.add(3, &status);
        let kept: Vec<_> = samples.frontends.iter().map(|(name, samples)| (name.as_str(), times(samples))).collect();
        assert_eq!(kept, [("api", vec![1, 3])]);
        status.frontends = (0..FRONTENDS_MAX + 5).map(|number| frontend(&format!("web{number}"), Vec::new())).collect();
        samples.add(5, &status);
        assert_eq!(samples.frontends.len(), FRONTENDS_MAX);
    }

    #[test]
    fn the_latency_is_that_of_requests_or_of_the_slowest_server() {
        let mut frontend = frontend("web", vec![server("one", 1), server("two", 2)]);
        let took = |p99| Quantiles { count: 1, p50: 1, p90: 2, p99, max: p99 };
        let p99 = |frontend: &FrontendStatus| latency(frontend).map(|quantiles| quantiles.p99);
        frontend.request_durations = took(9);
        (frontend.servers[0].first_byte, frontend.servers[1].first_byte) = (took(3), took(5));
        (frontend.servers[0].connect, frontend.servers[1].connect) = (took(2), Quantiles::default());
        assert_eq!(p99(&frontend), Some(9));
        frontend.request_durations = Quantiles::default();
        assert_eq!(p99(&frontend), Some(5));
        frontend.servers.iter_mut().for_each(|server| server.first_byte = Quantiles::default());
        assert_eq!(p99(&frontend), Some(2));
        frontend.servers[0].connect = Quantiles::default();
        assert_eq!(p99(&frontend), None);
    }
}
