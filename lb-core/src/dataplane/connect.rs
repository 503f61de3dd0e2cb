//! Choosing a server and connecting to it; when that fails, the next one, each at most once.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::choose::{Claim, Tried, claim};
use super::key::Operation;
use super::persist::Staying;
use super::shard::{Session, Shard, Turn};
use super::stopwatch::Event;
use super::waiting::WaitsFor;
use crate::access::AccessEnd;
use crate::balance::{Choice, Policy};
use crate::config::{Name, OnUnavailable, SendProxy};
use crate::http::{Cause, Wrong};
use crate::sys::ring::Completion;
use crate::sys::socket;
use crate::table::counters::ConnectFailure;
use crate::table::{Endpoint, Failure, Frontend, Suspicion};
use crate::turns::slots::Key;
use crate::turns::timers::Time;

/// Milliseconds for which it is not said again that servers that stand by help.
const SPILL_PAUSE: Time = 60_000;

/// What there is for a connection.
pub(super) enum Chosen<'a> {
    /// A server; the connection counts for it already.
    Server(&'a Frontend, &'a Arc<Endpoint>),
    /// It has to wait until a server has room, or this one has.
    Wait(&'a Frontend, Option<u64>),
    /// No server is available.
    Nobody(&'a Frontend),
    /// It is over: its frontend is gone, or servers were tried for long enough.
    Over,
}

impl Shard {
    /// Chooses a server for a connection and begins to connect to it.
    pub(super) fn connect(&mut self, key: Key, turn: &Turn<'_>) {
        if let Some((frontend, endpoint)) = self.chosen_before(key, turn) {
            return self.connect_to(key, frontend, &endpoint, turn);
        }
        if let Some(session) = self.sessions.get_mut(key) {
            // Another server, if any, has not heard of it.
            session.is_repeating = false;
        }
        match self.choose(key, turn) {
            Chosen::Server(_, endpoint) if endpoint.transport.offload && self.is_to_terminate(key) => {
                self.terminate(key, endpoint, turn);
            }
            Chosen::Server(frontend, endpoint) => match self.take_link(key, frontend, endpoint) {
                true => self.on_link_taken(key, turn),
                false => self.connect_to(key, frontend, endpoint, turn),
            },
            Chosen::Wait(frontend, server) => {
                self.wait_for(key, WaitsFor::Room, server, frontend.queue_timeout.as_millis());
            }
            Chosen::Nobody(frontend) => match frontend.on_unavailable {
                OnUnavailable::Wait(limit) => self.wait_for(key, WaitsFor::Server, None, limit.as_millis()),
                OnUnavailable::Reset => self.give_up(key, turn),
            },
            Chosen::Over => self.give_up(key, turn),
        }
    }

    /// The server that was chosen before the client's TLS was ended for it, unless that may not get connections any more.
    fn chosen_before<'a>(&mut self, key: Key, turn: &Turn<'a>) -> Option<(&'a Frontend, Arc<Endpoint>)> {
        let session = self.sessions.get_mut(key)?;
        let endpoint = session.endpoint.take()?;
        let frontend = turn.table.frontend(session.frontend).filter(|frontend| frontend.has(&endpoint));
        let Some(frontend) = frontend else {
            on_left(&endpoint, session.frontend, turn);
            return None;
        };
        session.try_until = self.now + Time::from(frontend.redispatch_timeout.as_millis());
        Some((frontend, endpoint))
    }

    /// Whether the client's TLS can still be ended for a server. One that has sent a request speaks as it does.
    fn is_to_terminate(&self, key: Key) -> bool {
        self.sessions.get(key).is_some_and(|session| session.exchange().is_none() && !session.is_terminated())
    }

    fn choose<'a>(&mut self, key: Key, turn: &Turn<'a>) -> Chosen<'a> {
        let Some(session) = self.sessions.get_mut(key) else { return Chosen::Over };
        let Some(frontend) = turn.table.frontend(session.frontend) else { return Chosen::Over };
        if session.tried.len() == 0 {
            session.try_until = self.now + Time::from(frontend.redispatch_timeout.as_millis());
        } else if self.now >= session.try_until {
            return Chosen::Over;
        }
        let random = self.random.u64(..);
        let Some(session) = self.sessions.get(key) else { return Chosen::Over };
        let waits = session.wait.is_some_and(|wait| wait.what == WaitsFor::Room);
        let may_wait = waits || session.counters.waiting.load(Ordering::Relaxed) < frontend.queue;
        let staying = Staying::of(session, frontend, self.now);
        let stay = staying.as_ref().and_then(|staying| self.stay_for(staying, session, may_wait));
        stay.unwrap_or_else(|| match self.balance(session, frontend, random, (waits, may_wait)) {
            Chosen::Server(frontend, chosen) if let Some(staying) = &staying => {
                Chosen::Server(frontend, self.settle(staying, session, chosen, turn))
            }
            chosen => chosen,
        })
    }

    /// Chooses by the policy.
    fn balance<'a>(
        &self,
        session: &Session,
        frontend: &'a Frontend,
        random: u64,
        (waits, may_wait): (bool, bool),
    ) -> Chosen<'a> {
        let Some(group) = frontend.group(session.group()) else { return Chosen::Nobody(frontend) };
        // Who comes later is served later.
        let is_behind_others = !waits && self.waiting.has_queue(frontend.id, session.group(), None);
        let choice = Choice {
            client: session.ip_for(group.main.policy.as_ref()),
            attempt: session.tried.len() as u32,
            random,
            now: self.now_micros,
        };
        let terminated = session.needs_offload();
        let main = match is_behind_others {
            true => Claim::Full,
            false => claim(&group.main, &session.tried, terminated, &choice),
        };
        let standby = match main {
            Claim::Server(position) => return Chosen::Server(frontend, &group.main.candidates[position].endpoint),
            Claim::Full if may_wait => return Chosen::Wait(frontend, None),
            Claim::Full | Claim::Nobody => claim(&group.standby, &session.tried, terminated, &choice),
        };
        match standby {
            Claim::Server(position) => {
                if main == Claim::Full {
                    say_spill(frontend, self.now);
                }
                Chosen::Server(frontend, &group.standby.candidates[position].endpoint)
            }
            Claim::Full if may_wait => Chosen::Wait(frontend, None),
            Claim::Full | Claim::Nobody => Chosen::Nobody(frontend),
        }
    }

    fn connect_to(&mut self, key: Key, frontend: &Frontend, endpoint: &Arc<Endpoint>, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let server = match self.recycled.socket_for(endpoint.addr) {
            Ok(server) => server,
            Err(error) => {
                on_left(endpoint, session.frontend, turn);
                if is_shortage(&error) {
                    session.conn.on_no_descriptor();
                    self.waiting_for_descriptors.push(key);
                    self.on_shortage(error.raw_os_error().unwrap_or(libc::EMFILE), turn);
                } else {
                    endpoint.load.shards[self.number].on_failed(ConnectFailure::Unreachable);
                    session.tried.add(Arc::clone(endpoint));
                    session.conn.on_connect_failed();
                }
                return;
            }
        };
        let needs_latency = frontend.needs_latency(session.group());
        self.ring.connect(&server, endpoint.addr, Operation::Connect(key).encode());
        session.server = Some(server);
        session.has_met = false;
        session.is_server_unwanted = false;
        session.endpoint = Some(Arc::clone(endpoint));
        session.note(|visit| visit.on_try(frontend, endpoint));
        session.since = self.now;
        session.needs_latency = needs_latency;
        session.stopwatch.begin(self.now_micros);
        let left = u32::try_from(session.try_until.saturating_sub(self.now)).unwrap_or(u32::MAX);
        session.connect_limit = session.connect_timeout.min(left.max(1));
        self.timers.set(key.slot, self.now + Time::from(session.connect_limit));
    }

    /// Ends a connection for which there is no server.
    fn give_up(&mut self, key: Key, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let counters = &session.counters.shards[self.number];
        counters.unserved.add(1);
        if session.tried.len() == 0 {
            counters.no_server.add(1);
        }
        session.note(|visit| visit.on_end(AccessEnd::Unserved));
        match (session.exchange().is_some(), session.tried.len()) {
            (false, _) => session.conn.on_no_server(),
            (true, 0) => {
                self.refuse(key, Wrong { cause: Cause::NoServer, reason: "no server is available" }, turn);
            }
            (true, _) => {
                let reason = "no server could be reached";
                self.refuse(key, Wrong { cause: Cause::ServerFailed, reason }, turn);
            }
        }
    }

    /// Takes a connection from the pool for a request, if there is one to this server.
    fn take_link(&mut self, key: Key, frontend: &Frontend, endpoint: &Arc<Endpoint>) -> bool {
        let Some(session) = self.sessions.get_mut(key) else { return false };
        // An upgrade uses its connection up, and can't be repeated if that has just been closed.
        let may_share = session.exchange().is_some_and(|exchange| !exchange.wants_upgrade());
        let is_shared = may_share && endpoint.transport.send_proxy == SendProxy::Off;
        let Some(taken) = is_shared.then(|| self.links.take(endpoint, key, self.now)).flatten() else {
            return false;
        };
        session.endpoint = Some(Arc::clone(endpoint));
        session.note(|visit| visit.on_try(frontend, endpoint));
        session.attach(taken);
        session.needs_latency = frontend.needs_latency(session.group());
        session.stopwatch.begin_connected(self.now_micros);
        true
    }

    fn on_link_taken(&mut self, key: Key, turn: &Turn<'_>) {
        self.count_served(key);
        self.open_exchange(key, true, turn);
    }

    /// A server has taken the connection, or a request.
    fn count_served(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.has_met = true;
        session.note(|visit| visit.on_served(self.now_micros));
        let is_counted = std::mem::take(&mut session.is_repeating);
        if let Some(endpoint) = &session.endpoint {
            endpoint.load.shards[self.number].served.add(u64::from(!is_counted));
            endpoint.load.connect_failures.end();
        }
        if session.tried.len() > 0 {
            session.counters.shards[self.number].redispatched.add(1);
            session.tried = Tried::default();
        }
        session.stop_waiting();
    }

    /// A connect has succeeded or failed.
    pub(super) fn on_connect_ended(&mut self, key: Key, completion: &Completion, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else {
            return self.on_stale();
        };
        // The order to stop may have come too late.
        if completion.result >= 0 && !session.is_server_unwanted {
            session.measure(Event::Connected, self.now_micros, self.number);
            if session.exchange().is_some()
                && let Some(endpoint) = &session.endpoint
            {
                session.link = self.links.bind(key, endpoint, session.frontend);
            }
            let is_plain = session.endpoint.as_ref().is_none_or(|endpoint| endpoint.transport.is_plain());
            match is_plain && session.layers.is_none() {
                true => self.on_server_ready(key),
                false => self.meet(key, turn),
            }
        } else {
            session.conn.on_connect_failed();
            if !session.conn.is_closing() {
                self.leave_server(key, ConnectFailure::of_errno(-completion.result), turn);
            }
        }
        self.drive(key, turn);
    }

    /// A server takes the connection.
    pub(super) fn on_server_ready(&mut self, key: Key) {
        self.count_served(key);
        let Some(session) = self.sessions.get_mut(key) else { return };
        match session.conn.is_meeting() {
            true => session.conn.on_met(),
            false => session.conn.on_connected(),
        }
        let has_early_bytes = session.exchange().is_some() || session.conn.has_early_bytes();
        if let (Some(server), false) = (&session.server, has_early_bytes) {
            // Fails only if the connection is gone again, which the receive from it reports.
            let _ = socket::acknowledge(server);
        }
    }

    /// Gives up a server that could not be connected to, has failed its handshake, or may not have the connection any more.
    pub(super) fn leave_server(&mut self, key: Key, failure: ConnectFailure, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let has_failed = !session.is_server_unwanted;
        if has_failed {
            session.measure(Event::ConnectFailed, self.now_micros, self.number);
        }
        self.drop_server_socket(key);
        let Some(session) = self.sessions.get_mut(key) else { return };
        if let Some(endpoint) = session.endpoint.take() {
            on_left(&endpoint, session.frontend, turn);
            self.waiting.on_room();
            if has_failed {
                endpoint.load.shards[self.number].on_failed(failure);
                // One that was given less time than a server may take is not suspected for that.
                if session.connect_limit == session.connect_timeout {
                    on_failed(&endpoint, session.frontend, Failure::Connect, turn);
                }
            }
            session.tried.add(endpoint);
        }
    }
}

impl Shard {
    /// Closes the server's socket, of which nothing is in the kernel.
    pub(super) fn drop_server_socket(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.has_met = false;
        if let Some(link) = session.link.take() {
            self.links.forget(link);
        }
        if let Some(server) = session.server.take() {
            self.ring.close(server, Operation::Nothing.encode());
        }
    }
}

/// A connection does not count for this address any more.
pub(super) fn on_left(endpoint: &Endpoint, frontend: u32, turn: &Turn<'_>) {
    endpoint.on_closed();
    let (Some(place), Some(frontend)) = (endpoint.load.place(), turn.table.frontend(frontend)) else { return };
    if let Some(tier) = frontend.tier(place) {
        tier.policy.on_closed(place.position);
    }
}

/// A server has failed a connection. With too many in a row it is suspected.
pub(super) fn on_failed(endpoint: &Endpoint, frontend: u32, failure: Failure, turn: &Turn<'_>) {
    let Some(frontend) = turn.table.frontend(frontend) else { return };
    let streak = match failure {
        Failure::Connect => &endpoint.load.connect_failures,
        Failure::Reset => &endpoint.load.resets,
    };
    if streak.on_failure(frontend.eject_after) {
        (turn.shared.suspect)(Suspicion { server: endpoint.load.id, addr: endpoint.addr, failure });
    }
}

/// Says that connections go to servers that stand by because the others are full, once in a while: without a queue that may
/// begin and end with every connection.
fn say_spill(frontend: &Frontend, now: Time) {
    let said = &frontend.counters.spill_said;
    let at = said.load(Ordering::Relaxed);
    if at != 0 && now < at + SPILL_PAUSE {
        return;
    }
    if said.compare_exchange(at, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        let name = &frontend.name;
        tracing::warn!("frontend {name}: every active server is at its limit and the queue is full: standbys help");
    }
}

impl Session {
    /// Where the client comes from, for a policy that asks.
    fn ip_for(&self, policy: &dyn Policy) -> IpAddr {
        const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        // If it has gone already, it does not matter who serves it.
        if policy.needs_client() { self.client_addr().unwrap_or(UNKNOWN) } else { UNKNOWN }
    }

    /// Whether only servers can take the connection for which the client's TLS ends here. Requests any server can take.
    pub(super) fn needs_offload(&self) -> bool {
        self.exchange().is_none() && self.is_terminated()
    }

    /// Whether the client's TLS ends here.
    pub(super) fn is_terminated(&self) -> bool {
        self.layers.as_ref().is_some_and(|layers| layers.terminates())
    }

    /// The group of servers that the client wants.
    pub(super) fn group(&self) -> Option<&Name> {
        self.layers.as_ref()?.group()
    }
}

fn is_shortage(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
