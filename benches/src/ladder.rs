//! Latency at rising rates: messages at fixed times, the same rates for all balancers, each balancer in turn.

use crate::Result;
use crate::contest::{self, Outcome};
use crate::latency::Percentiles;
use crate::load::Kind;
use crate::net::Servers;
use crate::peers::Peer;
use crate::slice::{Length, Sample};

/// The rates, as shares of what the slowest balancer does without pause.
const SHARES: [f64; 6] = [0.10, 0.25, 0.50, 0.70, 0.85, 0.95];

/// What came out.
#[derive(Debug)]
pub struct Ladder {
    /// The balancers, in order.
    pub names: Vec<&'static str>,
    /// From the lowest rate to the highest.
    pub rungs: Vec<Rung>,
}

/// One rate.
#[derive(Debug)]
pub struct Rung {
    /// Messages a second.
    pub rate: f64,
    /// By balancer, then by round.
    pub latencies: Vec<Vec<Percentiles>>,
}

/// Climbs the ladder. `outcomes` may have the balancers' rates already; else they are measured.
///
/// # Errors
/// A slice failed: which.
pub fn run(servers: &Servers, outcomes: &[Outcome], peers: &[Peer], rounds: usize, length: Length) -> Result<Ladder> {
    let known = outcomes.iter().find(|outcome| outcome.kind.name == Kind::ROUND_TRIPS.name);
    let slowest = match known {
        Some(outcome) => slowest(outcome),
        None => slowest(&contest::run(servers, Kind::ROUND_TRIPS, peers, 1, length)?),
    };
    let mut ladder = Ladder { names: peers.iter().map(|peer| peer.name).collect(), rungs: Vec::new() };
    for share in SHARES {
        let rate = share * slowest;
        let outcome = contest::run(servers, Kind::paced(rate), peers, rounds, length)?;
        let of = |peer: usize| outcome.rounds.iter().filter_map(|round| round[peer].latency).collect();
        ladder.rungs.push(Rung { rate, latencies: (0..peers.len()).map(of).collect() });
    }
    Ok(ladder)
}

/// Round trips a second of the slowest balancer.
fn slowest(outcome: &Outcome) -> f64 {
    let rates = (0..outcome.names.len()).map(|peer| outcome.of(peer, Sample::rate).median);
    rates.fold(f64::INFINITY, f64::min)
}
