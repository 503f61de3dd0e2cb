//! Doors for this project's own fuzz targets and benches. Not part of the library's interface.

mod checks;
mod cookie;
mod exchange;
mod greeting;
mod http;
mod ring;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::balance::{Candidate, Choice, Policies, Policy};
use crate::config::{Bind, Frontend, Name, PolicyKind};
use crate::dataplane::choose::{Tried, order};
use crate::dataplane::simulation;
use crate::sys::published;
use crate::table::counters::FrontendCounters;
use crate::table::publish::Publication;
use crate::table::{self, Group, Table, Tier};

pub use checks::{CHECK_THREAD, Checks, read_answer};
pub use cookie::check_cookie;
pub use exchange::Requests;
pub use greeting::{
    check_client_hello, check_proxy_header, client_hello_name, proxy_header_length, write_proxy_header,
};
pub use http::{check_http_chunked, check_http_request, check_http_response};
pub use ring::{Chunk, News, Ring};

/// Runs one simulated connection whose course `decisions` decide, and panics if a promise is broken.
pub fn simulate_connection(decisions: &[u8]) {
    simulation::simulate(simulation::Decisions::new(decisions));
}

/// One of the library's own policies over `servers`.
///
/// # Panics
/// A custom policy, which is not registered here.
pub fn build_policy(kind: &PolicyKind, servers: &Arc<[Candidate]>) -> Box<dyn Policy> {
    Policies::default().build(kind, Arc::clone(servers), 0).expect("a policy of our own")
}

/// The server that a connection which has tried some already, by position, is given next.
pub fn choose(policy: &dyn Policy, servers: &[Candidate], tried: &[usize], choice: &Choice) -> Option<usize> {
    let mut failed = Tried::default();
    tried.iter().for_each(|&position| failed.add(Arc::clone(&servers[position].endpoint)));
    order(policy, servers, &failed, choice).next()
}

/// A published table, read as a shard does in every turn.
pub struct TableReads(Publication<Table>);

impl std::fmt::Debug for TableReads {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("TableReads")
    }
}

impl TableReads {
    /// A table with one frontend of this many servers, balanced by `policy`.
    ///
    /// # Panics
    /// A custom policy, which is not registered here.
    pub fn new(servers: usize, policy: &PolicyKind) -> Self {
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        let name = |number| Name::new(&format!("s{number}")).expect("a valid name");
        let candidates: Arc<[_]> = (0..servers).map(|number| Candidate::detached(name(number), addr, 1)).collect();
        let config = Frontend::new("bench", Bind::Addr(addr)).expect("a valid name");
        let policy = build_policy(policy, &candidates);
        let tier = |policy, candidates| Tier { policy, candidates };
        let nobody = build_policy(&PolicyKind::RoundRobin, &Arc::default());
        let (main, standby) = (tier(policy, candidates), tier(nobody, Arc::new([])));
        let counters = Arc::new(FrontendCounters::new(1));
        let groups = Box::new([Group { name: None, main, standby }]);
        let frontend = table::Frontend::new(1, &config, (1, Arc::new([])), None, groups, counters);
        let table = Table { revision: 1, generation: 1, frontends: vec![Arc::new(frontend)], closing: Vec::new() };
        Self(Publication::new(table, 1))
    }

    /// One turn: pins, loads the table, finds the frontend, and chooses a server.
    pub fn read_and_choose(&self, choice: &Choice) -> Option<usize> {
        let guard = published::pin();
        self.0.load(&guard).frontend(1)?.groups[0].main.policy.choose(choice)
    }
}
