//! How well policies balance: simulated servers and clients, virtual time, and the policies that ship. README.md says what
//! is modelled and what is not.
//!
//! `scenario` is what goes wrong, `server` one server's workers and queue, `balancer` what the data plane does with a
//! policy, `world` the course of events, `picture` shows what came out. The same seed gives the same course.

mod balancer;
mod picture;
mod scenario;
mod server;
mod world;

use std::time::Duration;

use lb_core::config::PolicyKind;

pub use picture::write as write_picture;
pub use scenario::{SCENARIOS, Scenario, Trouble};

use crate::Result;
use crate::latency::Latency;

/// The policies that are compared.
pub const POLICIES: [PolicyKind; 5] = [
    PolicyKind::RoundRobin,
    PolicyKind::LeastConnections,
    PolicyKind::RandomTwo,
    PolicyKind::LeastLatency,
    PolicyKind::SourceHash,
];

/// Microseconds of virtual time.
type Time = u64;

/// Clients give up when they have waited this long: longer than a failed connect counts, so that it is seen whether it
/// does.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What one policy made of one scenario.
#[derive(Debug)]
pub struct Outcome {
    /// From a client's connect to the begin of the answer, of requests that were answered or given up.
    latency: Latency,
    /// Requests that failed (an error, a reset, or no server left to try) or were given up.
    failed: u64,
    /// All requests.
    requests: u64,
    /// Connects to the servers that have trouble, since they have it.
    to_troubled: u64,
    /// All connects since then.
    connects: u64,
}

impl Outcome {
    /// The latency in milliseconds that this part of the requests, 0 to 1, did not exceed.
    pub fn latency(&self, part: f64) -> f64 {
        // A digit beyond the third may round up.
        self.latency.at(part).min(PATIENCE.as_secs_f64()) * 1e3
    }

    /// Per cent of the requests that failed or were given up.
    pub fn failed_share(&self) -> f64 {
        100.0 * self.failed as f64 / self.requests as f64
    }

    /// Per cent of the connects that went to a server in trouble while it was.
    pub fn troubled_share(&self) -> f64 {
        100.0 * self.to_troubled as f64 / self.connects as f64
    }
}

/// Runs a scenario with one policy. All policies get the same clients, at the same times, with the same requests.
///
/// # Errors
/// There is no memory for the latencies.
pub fn run(scenario: &Scenario, policy: &PolicyKind, seed: u64, requests: u64) -> Result<Outcome> {
    world::run(scenario, policy, seed, requests)
}

/// A table of what all policies made of a scenario, in the order of [`POLICIES`].
pub fn table(scenario: &Scenario, outcomes: &[Outcome]) -> String {
    let heading = format!("{}: {}\n", scenario.name, scenario.about);
    let columns = ["p50, ms", "p99, ms", "p999, ms", "failed, %", "to the troubled, %"];
    let heading = columns.iter().fold(format!("{heading}{:<18}", "policy"), |row, name| format!("{row}  {name:>9}"));
    POLICIES.iter().zip(outcomes).fold(heading + "\n", |text, (policy, outcome)| {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|part| outcome.latency(part));
        let (failed, troubled) = (outcome.failed_share(), outcome.troubled_share());
        format!(
            "{text}{:<18}  {p50:>9.1}  {p99:>9.1}  {p999:>9.1}  {failed:>9.2}  {troubled:>18.2}\n",
            policy.to_string()
        )
    })
}

#[cfg(test)]
mod tests;
