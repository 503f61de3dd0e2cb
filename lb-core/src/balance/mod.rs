//! How the server of a new connection is chosen.
//!
//! A policy is built anew for every change of a frontend's servers, on the control thread, and is then shared by all
//! shards: it keeps what it needs in atomics. It never sees a server that is down, drained or disabled.

mod draw;
mod least_connections;
mod least_latency;
mod random_two;
mod round_robin;
mod source_hash;
pub(crate) mod tournament;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

pub use crate::table::Candidate;
pub use least_connections::LeastConnections;
pub use least_latency::LeastLatency;
pub use random_two::RandomTwo;
pub use round_robin::RoundRobin;
pub use source_hash::SourceHash;

use crate::config::{Name, PolicyKind};

/// What is known of a connection that needs a server.
#[derive(Debug, Clone, Copy)]
pub struct Choice {
    /// The client's address; unspecified if the policy does not [need it](Policy::needs_client).
    pub client: IpAddr,
    /// How many servers this connection has tried already: 0 at first.
    pub attempt: u32,
    /// Random bits, new for every choice.
    pub random: u64,
    /// Microseconds since the balancer started, to the beginning of the shard's turn.
    pub now: u64,
}

/// Chooses a server among the candidates it was built with.
///
/// Called by all shards at once, on the path of every new connection: it must not block, lock or allocate.
pub trait Policy: Send + Sync + 'static {
    /// The position of the chosen candidate; `None` if there is none to choose. A position out of range counts as `None`.
    ///
    /// If the connection has tried that server already, the balancer takes another candidate that it has not, at random.
    fn choose(&self, choice: &Choice) -> Option<usize>;

    /// The candidate at `position` has got a connection. During a change the position may be out of range or another
    /// server's.
    fn on_opened(&self, position: usize) {
        let _ = position;
    }

    /// A connection of the candidate at `position` has ended. Of the position the same is true as in [`Policy::on_opened`].
    fn on_closed(&self, position: usize) {
        let _ = position;
    }

    /// Every shard uses this policy now. What they counted by the policy before it shows in [`Candidate::connections`].
    fn on_settled(&self) {}

    /// Whether choices need the client's address, which costs a system call per connection.
    fn needs_client(&self) -> bool {
        true
    }

    /// Whether choices need [`Candidate::connect_time`] and [`Candidate::first_byte_time`], which are measured only then.
    fn needs_latency(&self) -> bool {
        false
    }
}

/// Makes a policy for a set of servers. A function from the candidates to a policy is one.
pub trait PolicyBuilder: Send + Sync + 'static {
    /// A policy over `servers`, whose positions are what [`Policy::choose`] gives. Called on the control thread.
    fn build(&self, servers: Arc<[Candidate]>) -> Box<dyn Policy>;
}

impl<F, P> PolicyBuilder for F
where
    F: Fn(Arc<[Candidate]>) -> P + Send + Sync + 'static,
    P: Policy,
{
    fn build(&self, servers: Arc<[Candidate]>) -> Box<dyn Policy> {
        Box::new(self(servers))
    }
}

/// The policies that the embedding program registered.
#[derive(Default)]
pub(crate) struct Policies(Vec<(Name, Arc<dyn PolicyBuilder>)>);

impl fmt::Debug for Policies {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.names().iter()).finish()
    }
}

impl Policies {
    /// A later registration under the same name replaces the earlier one.
    pub(crate) fn register(&mut self, name: Name, builder: Arc<dyn PolicyBuilder>) {
        self.0.retain(|(other, _)| *other != name);
        self.0.push((name, builder));
    }

    pub(crate) fn names(&self) -> Vec<Name> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Builds the policy that `kind` names, after so many connections by earlier ones. A custom one must be registered, which
    /// the desired state checks.
    pub(crate) fn build(&self, kind: &PolicyKind, servers: Arc<[Candidate]>, before: u64) -> Option<Box<dyn Policy>> {
        Some(match kind {
            PolicyKind::RoundRobin => Box::new(RoundRobin::new(&servers).after(before)),
            PolicyKind::LeastConnections => Box::new(LeastConnections::new(servers)),
            PolicyKind::RandomTwo => Box::new(RandomTwo::new(servers)),
            PolicyKind::LeastLatency => Box::new(LeastLatency::new(servers)),
            PolicyKind::SourceHash => Box::new(SourceHash::new(&servers)),
            PolicyKind::Custom(name) => {
                let (_, builder) = self.0.iter().find(|(other, _)| other == name)?;
                builder.build(servers)
            }
        })
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Candidates of the given weights, named `s0`, `s1` and so on.
    pub(crate) fn candidates(weights: &[u16]) -> Arc<[Candidate]> {
        let candidate = |(index, weight): (usize, &u16)| {
            let name = Name::new(&format!("s{index}")).unwrap();
            Candidate::detached(name, ([127, 0, 0, 1], 1000).into(), *weight)
        };
        weights.iter().enumerate().map(candidate).collect()
    }

    pub(crate) fn choice(random: u64) -> Choice {
        Choice { client: IpAddr::from([127, 0, 0, 1]), attempt: 0, random, now: 0 }
    }
}
