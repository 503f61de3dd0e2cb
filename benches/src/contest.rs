//! All balancers in turn, under one load.

use crate::Result;
use crate::latency::Percentiles;
use crate::load::Kind;
use crate::net::Servers;
use crate::peers::Peer;
use crate::slice::{Length, Sample, measure};
use crate::spread::Spread;

/// What came out for one load.
#[derive(Debug)]
pub struct Outcome {
    /// The load.
    pub kind: Kind,
    /// Who took part: the peers that this load can enter.
    pub names: Vec<&'static str>,
    /// The load without any balancer between its ends: more than this can't go through one.
    pub direct: Sample,
    /// By round, then by peer in their order.
    pub rounds: Vec<Vec<Sample>>,
}

impl Outcome {
    /// A figure of one peer over all rounds.
    pub fn of(&self, peer: usize, figure: impl Fn(&Sample) -> f64) -> Spread {
        Spread::of(self.rounds.iter().map(|round| figure(&round[peer])))
    }

    /// The latencies, if the load has messages.
    pub fn latency(&self) -> Option<Latencies<'_>> {
        self.direct.latency.map(|_| Latencies(self))
    }

    /// A figure of the first peer (ours) divided by that of another in the same round, over all rounds.
    pub fn ratio(&self, rival: usize, figure: impl Fn(&Sample) -> f64) -> Spread {
        Spread::of(self.rounds.iter().map(|round| figure(&round[0]) / figure(&round[rival])))
    }
}

/// The latencies of an outcome.
#[derive(Debug, Clone, Copy)]
pub struct Latencies<'a>(&'a Outcome);

impl Latencies<'_> {
    /// See [`Outcome::of`].
    pub fn of(&self, peer: usize, point: impl Fn(Percentiles) -> f64) -> Spread {
        self.0.of(peer, |sample| sample.latency.map_or(f64::NAN, &point))
    }

    /// See [`Outcome::ratio`].
    pub fn ratio(&self, rival: usize, point: impl Fn(Percentiles) -> f64) -> Spread {
        self.0.ratio(rival, |sample| sample.latency.map_or(f64::NAN, &point))
    }
}

/// Gives every peer a slice in every round, in an order that rotates by one from round to round. Neighbours in time are
/// compared with each other, so that a machine that gets slower or faster does it to both. Peers without TLS or HTTP are left
/// out where it is needed.
///
/// # Errors
/// A slice failed: which.
pub fn run(servers: &Servers, kind: Kind, peers: &[Peer], rounds: usize, length: Length) -> Result<Outcome> {
    let direct = measure(servers, kind.direct(), servers.port(kind.direct().entry())?, None, length)?;
    let peers: Vec<_> = peers.iter().filter_map(|peer| Some((peer, peer.ports.of(kind.entry())?))).collect();
    let names = peers.iter().map(|(peer, _)| peer.name).collect();
    let mut outcome = Outcome { kind, names, direct, rounds: Vec::with_capacity(rounds) };
    for round in 0..rounds {
        let mut samples = vec![None; peers.len()];
        for turn in 0..peers.len() {
            let index = (round + turn) % peers.len();
            let (peer, port) = peers[index];
            let sample = measure(servers, kind, port, Some(peer.pid()), length);
            let failed = |error| format!("{} under {}: {error}\nit wrote: {}", peer.name, kind.name, peer.said());
            samples[index] = Some(sample.map_err(failed)?);
        }
        outcome.rounds.push(samples.into_iter().flatten().collect());
    }
    Ok(outcome)
}
