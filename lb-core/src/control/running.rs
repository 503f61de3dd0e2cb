//! What runs: for each frontend of the desired state its listener, its servers' endpoints and what the shards see of it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::Time;
use super::availability::{Availability, Role, View};
use super::change::Refused;
use super::closing::Closings;
use super::listeners::{ListenerSet, Opener};
use super::persistence::{Coming, Kept};
use super::state::{Entry, FrontendId, ServerId, State};
use super::status::Service;
use super::tls::{self, Peer, Used, peers};
use crate::balance::{Candidate, Choice, Policies, Policy};
use crate::config::{Bind, Frontend, Millis, Mode, Name, PassiveConnections, PassiveUse, Server};
use crate::table::counters::FrontendCounters;
use crate::table::{self, Endpoint, Greeting, Group, Load, Place, Rank, Table, Tier};
use crate::tls::accept::Tickets;

/// A frontend that runs.
#[derive(Clone)]
pub(super) struct RunningFrontend {
    pub(super) entry: Arc<Entry>,
    pub(super) listener: Arc<ListenerSet>,
    /// In the order of the entry's servers.
    pub(super) endpoints: Arc<[Arc<Endpoint>]>,
    /// What the table was built by.
    pub(super) view: View,
    /// As are the certificates.
    used: Used,
    greeting: Option<Arc<Greeting>>,
    /// Kept as long as the frontend is there, so that clients resume their sessions whatever changes.
    tickets: Arc<Tickets>,
    /// What clients are remembered by.
    pub(super) kept: Kept,
    pub(super) table: Arc<table::Frontend>,
}

/// When a server's connections are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// When they end by themselves.
    Never,
    /// After this time at most.
    Within(Millis),
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
    /// All of it as the shards see it.
    pub(super) fn table(&self, revision: u64, generation: u64, closing: Vec<Arc<Load>>) -> Table {
        let mut frontends: Vec<_> = self.0.iter().map(|frontend| Arc::clone(&frontend.table)).collect();
        frontends.sort_by_key(|frontend| frontend.id);
        Table { revision, generation, frontends, closing }
    }

    /// What is counted of a server.
    pub(super) fn load_of(&self, server: ServerId) -> Option<&Arc<Load>> {
        self.0.iter().find_map(|frontend| frontend.endpoint(server)).map(|endpoint| &endpoint.load)
    }

    /// When time alone changes it.
    pub(super) fn until(&self) -> Option<Time> {
        self.0.iter().filter_map(|frontend| frontend.view.until).min()
    }

    /// Each frontend that was there before, with what it was.
    pub(super) fn pairs<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = (&'a RunningFrontend, &'a RunningFrontend)> {
        self.0.iter().filter_map(|frontend| Some((frontend, before.find(frontend.entry.id)?)))
    }

    pub(super) fn find(&self, id: FrontendId) -> Option<&RunningFrontend> {
        // In the order of the desired state, whose identities ascend.
        self.0.binary_search_by_key(&id, |frontend| frontend.entry.id).ok().map(|index| &self.0[index])
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

    /// Plans to close connections of servers that drain within a limit since `before`, and of passive servers that are not in
    /// use any more; takes plans back where that has changed.
    pub(super) fn plan_closings(&self, before: &Self, closings: &mut Closings, now: Time) {
        for (frontend, before) in self.pairs(before) {
            let is_same_view = frontend.view.roles == before.view.roles && frontend.view.standby == before.view.standby;
            if Arc::ptr_eq(&frontend.entry, &before.entry) && is_same_view {
                continue;
            }
            if frontend.ends().chain(before.ends()).all(|end| end == End::Never) {
                continue;
            }
            let ends: HashMap<ServerId, End> = before.entry.server_ids.iter().copied().zip(before.ends()).collect();
            for (end, endpoint) in frontend.ends().zip(frontend.endpoints.iter()) {
                match end {
                    _ if ends.get(&endpoint.load.id).is_none_or(|before| *before == end) => {}
                    End::Never => closings.cancel(endpoint.load.id),
                    End::Within(limit) => closings.plan(&endpoint.load, now + Time::from(limit.as_millis())),
                }
            }
        }
    }

    /// Says which frontends are served by other servers than before.
    pub(super) fn log_service(&self, before: &Self) {
        for (frontend, before) in self.pairs(before) {
            let name = frontend.entry.frontend.name();
            match (before.view.service, frontend.view.service) {
                (was, is) if was == is => {}
                (_, Service::Unavailable) => tracing::error!("frontend {name}: no server is available"),
                (_, Service::Passive) => tracing::warn!("frontend {name}: passive servers take part"),
                (Service::Passive, Service::Active) => tracing::info!("frontend {name}: active servers suffice again"),
                (_, Service::Active) => tracing::info!("frontend {name}: servers are available again"),
            }
        }
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
    /// Tells every server its place among the candidates, by which policies are told of its connections.
    pub(super) fn set_places(&self) {
        self.endpoints.iter().for_each(|endpoint| endpoint.load.set_place(None));
        for (group, servers) in self.table.groups.iter().enumerate() {
            for rank in [Rank::Main, Rank::Standby] {
                for (position, candidate) in servers.tier(rank).candidates.iter().enumerate() {
                    candidate.endpoint.load.set_place(Some(Place { group, rank, position }));
                }
            }
        }
    }

    /// How long connections may go on, by server.
    fn ends(&self) -> impl Iterator<Item = End> {
        let config = &self.entry.frontend;
        config.servers().iter().zip(&self.view.roles).map(|(server, role)| end(config, server, *role, &self.view))
    }

    /// Every shard uses it now, and none what was before.
    pub(super) fn on_settled(&self, before: Option<&Self>, now: Time) {
        if let Some(before) = before {
            self.kept.on_settled(&before.kept, now);
        }
        for group in &self.table.groups {
            group.main.policy.on_settled();
            group.standby.policy.on_settled();
        }
    }

    /// The present endpoint of a server. Identities ascend in an entry: servers are added at the end and never reordered.
    fn endpoint(&self, id: u64) -> Option<&Arc<Endpoint>> {
        let index = self.entry.server_ids.binary_search(&id).ok()?;
        self.endpoints.get(index)
    }
}

impl Factory {
    /// What runs for `state` with the servers that are available, given what runs now. Nothing of the present changes; new
    /// listeners are opened.
    pub(super) fn build(
        &mut self,
        state: &State,
        present: &Running,
        availability: &Availability,
        now: Time,
    ) -> Result<Running, Refused> {
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
            let view = availability.view(entry, before.map(|before| &before.view), now);
            if let Some(same) =
                before.filter(|before| Arc::ptr_eq(&before.entry, entry) && before.view.roles == view.roles)
            {
                running.push(RunningFrontend { view, ..same.clone() });
                continue;
            }
            let listener = match before.filter(|before| before.listener.bind == entry.frontend.bind()) {
                Some(before) => Arc::clone(&before.listener),
                None => self.listener(entry, &mut listeners, present, &running)?,
            };
            running.push(self.frontend((entry, state), listener, view, before, now)?);
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
        (entry, state): (&Arc<Entry>, &State),
        listener: Arc<ListenerSet>,
        view: View,
        before: Option<&RunningFrontend>,
        now: Time,
    ) -> Result<RunningFrontend, Refused> {
        let config = &entry.frontend;
        let used = Used::by(entry, state);
        let endpoints = self.endpoints(entry, &used, before)?;
        let counters = before.map(|before| Arc::clone(&before.table.counters));
        let counters = counters.unwrap_or_else(|| Arc::new(FrontendCounters::new(self.shards)));
        let tickets = before.map_or_else(Tickets::new, |before| Ok(Arc::clone(&before.tickets)))?;
        let greeting = match before.filter(|before| Arc::ptr_eq(&before.entry, entry)) {
            Some(before) => before.greeting.clone(),
            None => tls::greeting(config, &used, &tickets, self.shards)?,
        };
        let groups = self.groups(config, &endpoints, &view, &counters)?;
        let sockets = (listener.id, listener.numbers(self.shards));
        let kept = before.map_or_else(Kept::default, |before| before.kept.clone());
        let (roles, key) = (&view.roles[..], state.persistence_key());
        let coming = Coming { entry, endpoints: &endpoints, roles, groups: &groups, key };
        let kept = kept.next(&coming, now)?;
        let persistence = kept.table(&coming);
        let table = table::Frontend::new(entry.id, config, sockets, greeting.clone(), groups, counters);
        let table = Arc::new(table.with_persistence(persistence));
        Ok(RunningFrontend {
            entry: Arc::clone(entry),
            listener,
            endpoints,
            view,
            used,
            greeting,
            tickets,
            kept,
            table,
        })
    }

    /// The servers by group: without routes all are one.
    fn groups(
        &self,
        config: &Frontend,
        endpoints: &[Arc<Endpoint>],
        view: &View,
        counters: &FrontendCounters,
    ) -> Result<Box<[Group]>, Refused> {
        let has_routes = !config.sni_routes().is_empty();
        let mut names = vec![None];
        if has_routes {
            let named: BTreeSet<_> = config.servers().iter().filter_map(|server| server.group()).collect();
            names.extend(named.into_iter().map(Some));
        }
        let group = |name: Option<&Name>| {
            let is_in = |server: &Server| !has_routes || server.group() == name;
            let [main, standby] = candidates(config, endpoints, view, is_in);
            let main = self.tier(config, Rank::Main, main, counters)?;
            Ok(Group { name: name.cloned(), main, standby: self.tier(config, Rank::Standby, standby, counters)? })
        };
        names.into_iter().map(group).collect()
    }

    fn tier(
        &self,
        config: &Frontend,
        rank: Rank,
        candidates: Arc<[Candidate]>,
        counters: &FrontendCounters,
    ) -> Result<Tier, Refused> {
        let in_order = rank == Rank::Standby && config.passive_use() == PassiveUse::First;
        let policy: Option<Box<dyn Policy>> = match in_order {
            true => Some(Box::new(InOrder)),
            false => self.policies.build(config.policy(), Arc::clone(&candidates), counters.accepted()),
        };
        let missing = || Refused::field("policy", format!("no policy {} is registered", config.policy()));
        policy.map(|policy| Tier { policy, candidates }).ok_or_else(missing)
    }

    fn endpoints(
        &self,
        entry: &Entry,
        used: &Used,
        before: Option<&RunningFrontend>,
    ) -> Result<Arc<[Arc<Endpoint>]>, Refused> {
        if let Some(before) = before.filter(|before| before.entry.server_ids == entry.server_ids) {
            let mut pairs = peers(entry, used).zip(peers(&before.entry, &before.used));
            // Mostly it is the same server in memory.
            if pairs.all(|(now, then)| tls::is_same_endpoint(now, then)) {
                return Ok(Arc::clone(&before.endpoints));
            }
        }
        // Both in the order of their identities.
        let known = before.map(|before| {
            let peers = peers(&before.entry, &before.used);
            before.entry.server_ids.iter().zip(peers.zip(before.endpoints.iter()))
        });
        let mut known = known.into_iter().flatten().peekable();
        let endpoint = |(peer, id): (Peer<'_>, &ServerId)| {
            while known.next_if(|(other, _)| *other < id).is_some() {}
            let before = known.next_if(|(other, _)| *other == id).map(|(_, before)| before);
            match before {
                Some((then, endpoint)) if tls::is_same_endpoint(peer, then) => Ok(Arc::clone(endpoint)),
                _ => {
                    let load = before.map(|(_, endpoint)| Arc::clone(&endpoint.load));
                    let load = load.unwrap_or_else(|| Arc::new(Load::new(*id, self.shards)));
                    let transport = tls::transport(peer, self.shards)?;
                    Ok(Arc::new(Endpoint::new(peer.server.addr(), transport, load)))
                }
            }
        };
        peers(entry, used).zip(&entry.server_ids).map(endpoint).collect()
    }
}

/// How long connections of a server may go on that is in this role.
fn end(config: &Frontend, server: &Server, role: Role, view: &View) -> End {
    let is_idle = server.is_passive()
        && match role {
            Role::Main { .. } => false,
            Role::Standby => true,
            // Its check fails, say. That is no reason to close what it serves while passive servers are needed.
            Role::Drained | Role::Out => !view.standby.takes_part(),
        };
    match (server.mode(), config.passive_connections()) {
        (Mode::Drain(Some(limit)), _) => End::Within(limit),
        (Mode::Enabled, PassiveConnections::DrainAfter(limit)) if is_idle => End::Within(limit),
        _ => End::Never,
    }
}

/// The servers of the main and of the standby tier of a group. While some start slowly, the weights of the main ones are scaled up, so
/// that tenths of them can be told apart.
fn candidates(
    config: &Frontend,
    endpoints: &[Arc<Endpoint>],
    view: &View,
    is_in: impl Fn(&Server) -> bool,
) -> [Arc<[Candidate]>; 2] {
    /// Sum of the weights that round robin lays its cycle out for without taking long.
    const WEIGHTS_MAX: u64 = 1_000_000;
    let starts = view.roles.iter().any(|role| matches!(role, Role::Main { tenths: 0..10 }));
    let sum = || config.servers().iter().map(|server| u64::from(server.weight())).sum::<u64>().max(1);
    let scale = if starts { (WEIGHTS_MAX / sum()).clamp(1, 10) as u16 } else { 1 };
    let (mut main, mut standby) = (Vec::with_capacity(endpoints.len()), Vec::new());
    for ((server, endpoint), role) in config.servers().iter().zip(endpoints).zip(&view.roles) {
        let (tier, weight) = match role {
            Role::Main { tenths } => (&mut main, (server.weight() * scale * u16::from(*tenths) / 10).max(1)),
            Role::Standby => (&mut standby, server.weight()),
            Role::Drained | Role::Out => continue,
        };
        if !is_in(server) {
            continue;
        }
        tier.push(Candidate {
            name: server.name().clone(),
            weight,
            max_connections: server.max_connections().unwrap_or(u32::MAX),
            endpoint: Arc::clone(endpoint),
        });
    }
    [main.into(), standby.into()]
}

/// The first that is to be had.
struct InOrder;

impl Policy for InOrder {
    fn choose(&self, _: &Choice) -> Option<usize> {
        Some(0)
    }

    fn needs_client(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FrontendUpdate, PassiveWhen};
    use crate::control::standby::Standby;

    #[test]
    fn a_passive_server_that_fails_while_it_is_needed_keeps_its_connections() {
        let limit = Millis::from_duration_clamped(std::time::Duration::from_secs(1));
        let passive_connections = Some(PassiveConnections::DrainAfter(limit));
        let addr = ([127, 0, 0, 1], 9).into();
        let update = FrontendUpdate { passive_connections, ..FrontendUpdate::default() };
        let config = Frontend::new("web", Bind::Addr(addr)).unwrap().with(&update);
        let server = Server::new("p", addr).unwrap().with_passive(true);
        let end = |role, active| {
            let standby = Standby::default().next(PassiveWhen::default(), active, 0, 0);
            let view = View { roles: vec![role], service: Service::Unavailable, standby, until: None };
            end(&config, &server, role, &view)
        };
        assert_eq!(end(Role::Main { tenths: 10 }, 0), End::Never);
        assert_eq!(end(Role::Out, 0), End::Never);
        assert_eq!(end(Role::Standby, 0), End::Within(limit), "another one is used");
        assert_eq!((end(Role::Standby, 1), end(Role::Out, 1)), (End::Within(limit), End::Within(limit)));
    }
}
