//! Clients that stay on their servers: which one that is, and what is remembered when another one was chosen.

use std::net::IpAddr;
use std::sync::Arc;

use super::connect::{Chosen, on_left};
use super::shard::{Session, Shard, Turn};
use super::waiting::WaitsFor;
use crate::sys::socket;
use crate::table::affinities::Key as SourceKey;
use crate::table::persistence::{Persistence, Stay};
use crate::table::{Endpoint, Frontend};
use crate::turns::timers::Time;

/// Where a client of a frontend stays.
pub(super) struct Staying<'a> {
    frontend: &'a Frontend,
    persistence: &'a Persistence,
    /// What its address is known by, where addresses are remembered.
    source: Option<SourceKey>,
    /// The server that is remembered for its address.
    held: Option<u64>,
    /// The same if it can have it.
    by_source: Option<&'a Stay>,
    /// The server that its cookie stands for, if it can have that.
    by_cookie: Option<&'a Stay>,
}

impl<'a> Staying<'a> {
    /// `None` if nobody stays.
    pub(super) fn of(session: &Session, frontend: &'a Frontend, now: Time) -> Option<Self> {
        let persistence = frontend.persistence.as_deref().filter(|_| !session.has_forsaken)?;
        let known = persistence.sources.as_ref().zip(session.client_addr());
        let known = known.map(|(sources, client)| (sources, sources.key_of(client, session.group())));
        let held = known.as_ref().and_then(|(sources, key)| sources.get(key, now));
        let stay = |server| persistence.stay(server).filter(|stay| may_have(session, frontend, stay));
        Some(Self {
            frontend,
            persistence,
            source: known.map(|(_, key)| key),
            held,
            by_source: held.and_then(stay),
            by_cookie: session.wanted_by_cookie().and_then(stay),
        })
    }

    /// The server that it is to have: what its cookie says comes first.
    fn stay(&self) -> Option<&'a Stay> {
        self.by_cookie.or(self.by_source)
    }
}

impl Shard {
    /// The server that a client stays on, if it has room, or that the client waits for that; `None` if it is to be balanced.
    pub(super) fn stay_for<'a>(&self, staying: &Staying<'a>, session: &Session, may_wait: bool) -> Option<Chosen<'a>> {
        let (stay, frontend) = (staying.stay()?, staying.frontend);
        let server = Some(stay.endpoint.load.id);
        let waits = session.wait.is_some_and(|wait| wait.what == WaitsFor::Room && wait.server == server);
        // Who comes later is served later.
        let is_behind_others = !waits && self.waiting.has_queue(frontend.id, session.group(), server);
        if !is_behind_others && stay.claim(frontend) {
            session.counters.shards[self.number].persistence.hits.add(1);
            return Some(Chosen::Server(frontend, &stay.endpoint));
        }
        may_wait.then_some(Chosen::Wait(frontend, server))
    }

    /// Remembers that a server was chosen by the policy, for which the connection counts. Gives the one that it is to have: if
    /// another shard has chosen for the same address meanwhile, what that has.
    pub(super) fn settle<'a>(
        &self,
        staying: &Staying<'a>,
        session: &Session,
        chosen: &'a Arc<Endpoint>,
        turn: &Turn<'_>,
    ) -> &'a Arc<Endpoint> {
        let (frontend, persistence) = (staying.frontend, staying.persistence);
        let (Some(sources), Some(source)) = (&persistence.sources, &staying.source) else { return chosen };
        let server = chosen.load.id;
        // One that stands by serves only while no other one can. And who could have had his server, if it were not full, may
        // have it again next time.
        if persistence.stay(server).is_none() || staying.by_source.is_some() {
            return chosen;
        }
        let counters = &session.counters.shards[self.number].persistence;
        let holder = sources.set(source, staying.held, server, self.now);
        if holder == server {
            if staying.held.is_some() { &counters.moved } else { &counters.new }.add(1);
            return chosen;
        }
        let other = persistence.stay(holder).filter(|stay| may_have(session, frontend, stay));
        match other.filter(|stay| stay.claim(frontend)) {
            Some(stay) => {
                on_left(chosen, frontend.id, turn);
                counters.hits.add(1);
                &stay.endpoint
            }
            None => chosen,
        }
    }
}

/// Whether a client can have this server: it is of the group that the client wants, has not failed it, and takes it as it is.
fn may_have(session: &Session, frontend: &Frontend, stay: &Stay) -> bool {
    let group = frontend.groups.get(stay.group);
    group.is_some_and(|group| group.name.as_ref() == session.group())
        && !session.tried.has(&stay.endpoint)
        && (stay.endpoint.transport.offload || !session.needs_offload())
}

impl Session {
    /// Where the client comes from: as a proxy before us says, or else by its socket. `None` if it has gone already.
    pub(super) fn client_addr(&self) -> Option<IpAddr> {
        if let Some(addr) = self.client_addr.get() {
            return Some(*addr);
        }
        let proxied = self.layers.as_ref().and_then(|layers| layers.proxied()).map(|(source, _)| source);
        let source = proxied.or_else(|| socket::peer_addr(&self.client).ok())?;
        Some(*self.client_addr.get_or_init(|| source.ip().to_canonical()))
    }

    /// The server that the client's cookie stands for.
    fn wanted_by_cookie(&self) -> Option<u64> {
        self.exchange()?.wanted()
    }
}
