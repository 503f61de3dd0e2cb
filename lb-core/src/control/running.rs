//! What runs: for each frontend of the desired state its listener, its servers' endpoints and what the shards see of it.

use std::sync::Arc;

use super::change::Refused;
use super::listeners::{ListenerSet, Opener};
use super::state::{Entry, FrontendId, State};
use crate::balance::{Candidate, Policies};
use crate::config::{Bind, Server};
use crate::table::counters::FrontendCounters;
use crate::table::{self, Endpoint, Load, Table};

/// A frontend that runs.
#[derive(Clone)]
pub(super) struct RunningFrontend {
    pub(super) entry: Arc<Entry>,
    pub(super) listener: Arc<ListenerSet>,
    /// In the order of the entry's servers.
    pub(super) endpoints: Arc<[Arc<Endpoint>]>,
    pub(super) table: Arc<table::Frontend>,
}

/// All frontends that run, in the order of the desired state.
#[derive(Clone, Default)]
pub(super) struct Running(pub(super) Vec<RunningFrontend>);

/// Makes what runs from what is desired.
pub(super) struct Factory {
    pub(super) opener: Opener,
    pub(super) policies: Policies,
    pub(super) shards: usize,
}

impl Running {
    pub(super) fn table(&self, revision: u64) -> Table {
        let mut frontends: Vec<_> = self.0.iter().map(|frontend| Arc::clone(&frontend.table)).collect();
        frontends.sort_by_key(|frontend| frontend.id);
        Table { revision, frontends }
    }

    fn find(&self, id: FrontendId) -> Option<&RunningFrontend> {
        self.0.iter().find(|frontend| frontend.entry.id == id)
    }

    /// Endpoints that ran before and do not any more: connections on them live on a replaced address.
    pub(super) fn retired_by(&self, next: &Self) -> Vec<Arc<Endpoint>> {
        let mut retired = Vec::new();
        for before in &self.0 {
            let after = next.find(before.entry.id);
            if after.is_some_and(|after| Arc::ptr_eq(&after.endpoints, &before.endpoints)) {
                continue;
            }
            for (id, endpoint) in before.entry.server_ids.iter().zip(before.endpoints.iter()) {
                let kept = after.and_then(|after| after.endpoint(*id));
                if !kept.is_some_and(|kept| Arc::ptr_eq(kept, endpoint)) {
                    retired.push(Arc::clone(endpoint));
                }
            }
        }
        retired
    }

    /// The frontends that the shards see otherwise than in `other`, or not at all there.
    pub(super) fn changed_since(&self, other: &Self) -> impl Iterator<Item = &RunningFrontend> {
        let is_same = |frontend: &RunningFrontend| {
            let other = other.find(frontend.entry.id);
            other.is_some_and(|other| Arc::ptr_eq(&other.table, &frontend.table))
        };
        self.0.iter().filter(move |frontend| !is_same(frontend))
    }
}

impl RunningFrontend {
    /// Tells every server its position among the candidates, by which policies are told of its connections.
    pub(super) fn set_positions(&self) {
        self.endpoints.iter().for_each(|endpoint| endpoint.load.set_position(None));
        for (position, candidate) in self.table.candidates.iter().enumerate() {
            candidate.endpoint.load.set_position(Some(position));
        }
    }

    /// The present endpoint of a server. Identities ascend in an entry: servers are added at the end and never reordered.
    fn endpoint(&self, id: u64) -> Option<&Arc<Endpoint>> {
        let index = self.entry.server_ids.binary_search(&id).ok()?;
        self.endpoints.get(index)
    }
}

impl Factory {
    /// What runs for `state`, given what runs now. Nothing of the present changes; new listeners are opened.
    pub(super) fn build(&mut self, state: &State, present: &Running) -> Result<Running, Refused> {
        let mut listeners: Vec<_> = present.0.iter().map(|frontend| Arc::clone(&frontend.listener)).collect();
        let mut running = Vec::with_capacity(state.entries().len());
        // Listeners that stay with their frontend are not to be given to another.
        for entry in state.entries() {
            if let Some(before) = present.find(entry.id).filter(|before| before.listener.bind == entry.frontend.bind())
            {
                listeners.retain(|listener| listener.id != before.listener.id);
            }
        }
        for entry in state.entries() {
            let before = present.find(entry.id);
            if let Some(same) = before.filter(|before| Arc::ptr_eq(&before.entry, entry)) {
                running.push(same.clone());
                continue;
            }
            let listener = match before.filter(|before| before.listener.bind == entry.frontend.bind()) {
                Some(before) => Arc::clone(&before.listener),
                None => self.listener(entry, &mut listeners, present, &running)?,
            };
            running.push(self.frontend(entry, listener, before)?);
        }
        Ok(Running(running))
    }

    /// A listener that another frontend gives up with the same change, or a new one.
    fn listener(
        &mut self,
        entry: &Entry,
        given_up: &mut Vec<Arc<ListenerSet>>,
        present: &Running,
        running: &[RunningFrontend],
    ) -> Result<Arc<ListenerSet>, Refused> {
        let (name, bind) = (entry.frontend.name(), entry.frontend.bind());
        let is_chosen_by_kernel = matches!(bind, Bind::Addr(addr) if addr.port() == 0);
        if let Some(index) = given_up.iter().position(|listener| listener.bind == bind && !is_chosen_by_kernel) {
            return Ok(given_up.swap_remove(index));
        }
        let ours = present.0.iter().chain(running).map(|frontend| Arc::clone(&frontend.listener)).collect::<Vec<_>>();
        self.opener.open(name, bind, &ours).map(Arc::new)
    }

    fn frontend(
        &self,
        entry: &Arc<Entry>,
        listener: Arc<ListenerSet>,
        before: Option<&RunningFrontend>,
    ) -> Result<RunningFrontend, Refused> {
        let config = &entry.frontend;
        let endpoints: Arc<[_]> = config
            .servers()
            .iter()
            .zip(&entry.server_ids)
            .map(|(server, id)| self.endpoint(server, before.and_then(|before| before.endpoint(*id))))
            .collect();
        let servers = config.servers().iter().zip(endpoints.iter());
        let candidates: Arc<[_]> = servers
            .filter(|(server, _)| !server.is_draining())
            .map(|(server, endpoint)| candidate(server, endpoint))
            .collect();
        let policy = self.policies.build(config.policy(), Arc::clone(&candidates));
        let policy =
            policy.ok_or_else(|| Refused::field("policy", format!("no policy {} is registered", config.policy())))?;
        let counters = before.map(|before| Arc::clone(&before.table.counters));
        let table = Arc::new(table::Frontend {
            id: entry.id,
            name: config.name().to_string(),
            listener: listener.id,
            sockets: listener.numbers(self.shards),
            policy,
            candidates,
            max_connections: config.max_connections().unwrap_or(u32::MAX),
            connect_timeout: config.connect_timeout(),
            idle_timeout: config.idle_timeout(),
            counters: counters.unwrap_or_else(|| Arc::new(FrontendCounters::new(self.shards))),
        });
        Ok(RunningFrontend { entry: Arc::clone(entry), listener, endpoints, table })
    }

    fn endpoint(&self, server: &Server, before: Option<&Arc<Endpoint>>) -> Arc<Endpoint> {
        match before {
            Some(before) if before.addr == server.addr() => Arc::clone(before),
            Some(before) => Arc::new(Endpoint::new(server.addr(), Arc::clone(&before.load))),
            None => Arc::new(Endpoint::new(server.addr(), Arc::new(Load::new(self.shards)))),
        }
    }
}

fn candidate(server: &Server, endpoint: &Arc<Endpoint>) -> Candidate {
    Candidate { name: server.name().clone(), weight: server.weight(), endpoint: Arc::clone(endpoint) }
}
