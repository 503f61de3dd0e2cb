//! What the data plane does with a policy: choose, count, tell the policy, measure if it needs that. It mirrors
//! `lb-core`'s `dataplane/connect.rs`, whose `choose` it uses, and what `stopwatch.rs` there finds out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_core::balance::{Candidate, Choice, Policy};
use lb_core::config::{Name, PolicyKind};
use lb_core::internal;

use super::Time;
use crate::Result;

/// What a failure counts: the connect timeout that a frontend has if none is configured.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A policy with the servers that it chooses among, all of weight 1.
pub(super) struct Balancer {
    policy: Box<dyn Policy>,
    servers: Arc<[Candidate]>,
    random: fastrand::Rng,
}

impl Balancer {
    pub(super) fn new(kind: &PolicyKind, servers: usize, seed: u64) -> Result<Self> {
        let candidate = |number: usize| {
            let name = Name::new(&format!("s{number}"))?;
            Ok(Candidate::detached(name, ([127, 0, 0, 1], 1000).into(), 1))
        };
        let servers: Arc<[Candidate]> = (0..servers).map(candidate).collect::<Result<_>>()?;
        Ok(Self { policy: internal::build_policy(kind, &servers), servers, random: fastrand::Rng::with_seed(seed) })
    }

    /// Chooses a server that was not tried yet and counts a connection to it.
    pub(super) fn open(&mut self, client: u32, tried: &[usize], now: Time) -> Option<usize> {
        let client = IpAddr::from((0x0a00_0000 + client).to_be_bytes());
        let choice = Choice { client, attempt: tried.len() as u32, random: self.random.u64(..), now };
        let position = internal::choose(self.policy.as_ref(), &self.servers, tried, &choice)?;
        self.servers[position].count_opened();
        self.policy.on_opened(position);
        Some(position)
    }

    /// A connection is over.
    pub(super) fn close(&self, position: usize) {
        self.servers[position].count_closed();
        self.policy.on_closed(position);
    }

    /// A server has accepted a connection, after `taken` microseconds.
    pub(super) fn on_connected(&self, position: usize, now: Time, taken: Time) {
        self.measure(position, |server| server.record_connect_time(now, at_most_a_failure(taken)));
    }

    /// A server has refused a connection.
    pub(super) fn on_refused(&self, position: usize, now: Time) {
        self.measure(position, |server| server.record_connect_time(now, CONNECT_TIMEOUT));
        self.close(position);
    }

    /// A server has answered, `taken` microseconds after it was asked.
    pub(super) fn on_answered(&self, position: usize, now: Time, taken: Time) {
        self.measure(position, |server| server.record_first_byte_time(now, at_most_a_failure(taken)));
        self.close(position);
    }

    /// A server has reset a connection instead of answering.
    pub(super) fn on_reset(&self, position: usize, now: Time) {
        self.measure(position, |server| server.record_first_byte_time(now, CONNECT_TIMEOUT));
        self.close(position);
    }

    fn measure(&self, position: usize, record: impl FnOnce(&Candidate)) {
        if self.policy.needs_latency() {
            record(&self.servers[position]);
        }
    }
}

fn at_most_a_failure(taken: Time) -> Duration {
    Duration::from_micros(taken).min(CONNECT_TIMEOUT)
}
