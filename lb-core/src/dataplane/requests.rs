//! Connections of HTTP, between sockets, relay and exchange: when a request is taken up, what follows from its answer, and
//! what the client is told when there is none.

use std::sync::atomic::Ordering;

use super::choose::Tried;
use super::conn::Ending;
use super::connect::{on_failed, on_left};
use super::layers::Fault;
use super::outgoing::Outgoing;
use super::relay::Side;
use super::shard::{Shard, Turn};
use super::stopwatch::Stopwatch;
use crate::access::AccessEnd;
use crate::config::SendProxy;
use crate::http::exchange::{Asker, ServerEnd};
use crate::http::{Cause, Wrong};
use crate::sys::ring::Piece;
use crate::table::{Failure, Frontend, Stop};
use crate::turns::slots::Key;
use crate::turns::timers::Time;

/// Milliseconds for which it is not said again that a frontend's servers fail requests.
const FAILURE_PAUSE: Time = 60_000;

impl Shard {
    /// Goes on with a connection of requests after something has come or gone.
    pub(super) fn follow_exchange(&mut self, key: Key, turn: &Turn<'_>) {
        while let Some(session) = self.sessions.get_mut(key) {
            let Some(layers) = &mut session.layers else { return };
            let (is_greeting, is_relaying) = (session.conn.is_greeting(), session.conn.is_relaying());
            let may_refuse = is_greeting || is_relaying;
            let hears_requests = layers.hears_requests();
            let Some(exchange) = layers.exchange_mut() else { return };
            if let Some((side, wrong)) = may_refuse.then(|| exchange.take_wrong()).flatten() {
                return self.on_wrong(side, key, wrong, turn);
            }
            let goes_on = match () {
                () if is_greeting && hears_requests => return self.ask(key, turn),
                () if is_relaying && exchange.is_answered_whole() => self.on_answered(key, turn),
                () => false,
            };
            if !goes_on {
                break;
            }
        }
        let Some(session) = self.sessions.get_mut(key) else { return };
        if let Some(layers) = session.layers.as_ref().filter(|layers| layers.exchange().is_some()) {
            for side in [Side::Client, Side::Server] {
                session.conn.set_splicing(side, session.conn.is_relaying() && layers.passes(side) > 0);
            }
            // Who is told farewell is heard out.
            let is_held = layers.is_full() && session.conn.wants(Side::Client);
            session.conn.hold_client(is_held);
        }
    }

    /// Takes up the next request, if its head has come, and what was answered before has gone out.
    fn ask(&mut self, key: Key, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let has_come = session.exchange().is_some_and(|exchange| !exchange.is_idle());
        let has_ended = session.exchange().is_some_and(|exchange| exchange.has_client_ended());
        if !has_come {
            if has_ended {
                self.part(key);
            }
            return;
        }
        if session.conn.is_delivering(Side::Client) {
            return;
        }
        let Some(frontend) = turn.table.frontend(session.frontend) else {
            return self.refuse(key, Wrong { cause: Cause::NoServer, reason: "the frontend was removed" }, turn);
        };
        let http = &frontend.http;
        let is_told = http.x_forwarded || http.forwarded;
        let client = is_told.then(|| session.client_addr()).flatten();
        if is_told && client.is_none() {
            // It has gone already. Without its address the server would have to believe what it says of itself.
            return session.conn.begin_close(Ending::Reset);
        }
        let persistence = frontend.persistence.as_deref();
        let is_tls = session.layers.as_ref().is_some_and(|layers| layers.terminates());
        let asker = Asker {
            http,
            persistence,
            client,
            is_tls,
            is_last: turn.shared.stop() != Stop::No,
            is_recorded: session.visit.is_some(),
            now: self.now,
        };
        let Some(exchange) = session.layers.as_mut().and_then(|layers| layers.exchange_mut()) else { return };
        match exchange.ask(&asker) {
            // The rest of it will not come.
            Ok(true) if has_ended && !exchange.is_asked_whole() => self.part(key),
            Ok(true) => {
                session.counters.shards[self.number].http.requests.add(1);
                session.asked = self.now_micros;
                let recorded = exchange.take_recorded();
                session.note(|visit| visit.on_request(self.now_micros, recorded));
                session.conn.on_greeted();
            }
            Ok(false) if has_ended => self.part(key),
            Ok(false) => self.await_head(key, frontend),
            Err(wrong) => self.refuse(key, wrong, turn),
        }
    }

    /// A head has begun: its time runs from here on.
    fn await_head(&mut self, key: Key, frontend: &Frontend) {
        let Some(session) = self.sessions.get_mut(key).filter(|session| !session.is_in_head) else { return };
        session.is_in_head = true;
        session.since = self.now;
        session.greeting_timeout = frontend.http.header_timeout.as_millis();
        self.timers.set(key.slot, self.now + Time::from(session.greeting_timeout));
    }

    /// There is a server for the request: over a connection that was used before, or a new one.
    pub(super) fn open_exchange(&mut self, key: Key, is_used: bool, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.note(|visit| visit.on_open(is_used));
        let Some(layers) = &mut session.layers else { return };
        let frontend = turn.table.frontend(session.frontend);
        let persistence = frontend.and_then(|frontend| frontend.persistence.as_deref());
        if let (Some(endpoint), Some(exchange)) = (&session.endpoint, layers.exchange_mut()) {
            exchange.assign(endpoint.load.id, persistence);
        }
        if is_used {
            session.counters.shards[self.number].http.reused.add(1);
        }
        if let Some(frontend) = frontend {
            session.response_timeout = frontend.http.response_timeout.as_millis();
        }
        let opened = layers.open_exchange(is_used, &mut Outgoing::new(self.ring.own_buffers(), &mut self.outgoing));
        self.put_outgoing(key);
        match opened {
            Ok(()) => self.follow_exchange(key, turn),
            Err(fault) => self.on_fault(Side::Server, key, &fault, turn),
        }
    }

    /// Passes bytes of a body on as they are; what is behind it goes the other way.
    pub(super) fn pass_on(&mut self, side: Side, key: Key, mut piece: Piece, passes: u64, turn: &Turn<'_>) {
        let bytes = usize::from(piece.end - piece.start);
        let passed = bytes.min(usize::try_from(passes).unwrap_or(usize::MAX));
        let mut rest = self.ring.open(piece).0[passed..].to_vec();
        piece.end = piece.start + passed as u16;
        let Some(session) = self.sessions.get_mut(key) else { return self.ring.give_back(piece.buffer) };
        if side == Side::Server
            && !rest.is_empty()
            && let Some(exchange) = session.layers.as_mut().and_then(|layers| layers.exchange_mut())
        {
            exchange.on_excess();
            rest.clear();
        }
        let unwanted = session.conn.on_received(side, piece);
        unwanted.into_iter().for_each(|piece| self.ring.give_back(piece.buffer));
        self.on_passed(side, key, passed, turn);
        if !rest.is_empty() {
            self.receive_bytes(side, key, &mut rest, turn);
        }
    }

    /// So many bytes of a body were passed on as they are.
    pub(super) fn on_passed(&mut self, side: Side, key: Key, passed: usize, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(exchange) = session.layers.as_mut().and_then(|layers| layers.exchange_mut()) else { return };
        let was_asked = exchange.is_asked_whole();
        exchange.on_passed(side, passed as u64);
        let is_asked = exchange.is_asked_whole() && !was_asked;
        if is_asked || exchange.is_answered_whole() {
            self.follow_exchange(key, turn);
        }
    }

    /// The request is answered. True if the client may ask again.
    fn on_answered(&mut self, key: Key, turn: &Turn<'_>) -> bool {
        let Some(session) = self.sessions.get_mut(key) else { return false };
        let Some(exchange) = session.layers.as_mut().and_then(|layers| layers.exchange_mut()) else { return false };
        if session.is_sent_at_once[Side::Server as usize] && !exchange.is_tunnel() {
            // Whether the server has heard all will be known in a moment. To a tunnel it does not matter, and what comes next is
            // its own: that the server resets it, above all, which it does once.
            return false;
        }
        let is_stopping = turn.shared.stop() != Stop::No;
        let (keeps_client, keeps_server) = (exchange.keeps_client(), exchange.keeps_server());
        let (is_tunnel, is_asked_whole, status) = (exchange.is_tunnel(), exchange.is_asked_whole(), exchange.status());
        let learned = exchange.take_learned();
        let counters = &session.counters.shards[self.number];
        counters.http.count(status);
        counters.request_durations.record(self.now_micros, self.now_micros - session.asked);
        session.note(|visit| visit.on_status(status));
        if let (Some(learned), Some(endpoint)) = (learned, &session.endpoint) {
            let frontend = turn.table.frontend(session.frontend);
            let persistence = frontend.and_then(|frontend| frontend.persistence.as_deref());
            if let Some(persistence) = persistence {
                persistence.learn(&learned, endpoint.load.id, self.now);
            }
        }
        if is_tunnel {
            self.begin_tunnel(key, turn);
            return false;
        }
        session.note(|visit| visit.on_answered(self.now_micros));
        self.record_answered(key, turn);
        let Some(session) = self.sessions.get_mut(key) else { return false };
        if !is_asked_whole || !session.conn.is_server_quiet() {
            // The server has answered without having heard all.
            self.part(key);
            return false;
        }
        let is_shared =
            session.endpoint.as_ref().is_some_and(|endpoint| endpoint.transport.send_proxy == SendProxy::Off);
        self.leave_endpoint(key, turn);
        self.release_link(key, keeps_server && is_shared && !is_stopping, turn);
        if !keeps_client {
            self.part(key);
            return false;
        }
        self.renew(key, turn);
        true
    }

    /// The client is heard anew.
    fn renew(&mut self, key: Key, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if let Some(exchange) = session.layers.as_mut().and_then(|layers| layers.exchange_mut()) {
            exchange.renew();
        }
        session.tried = Tried::default();
        (session.is_answered, session.is_in_head, session.has_forsaken) = (false, false, false);
        session.stopwatch = Stopwatch::new();
        let frontend = turn.table.frontend(session.frontend);
        session.greeting_timeout = frontend.map_or(0, |frontend| frontend.http.keep_alive_timeout.as_millis());
    }

    /// The connection does not count for its server any more.
    pub(super) fn leave_endpoint(&mut self, key: Key, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if let Some(endpoint) = session.endpoint.take() {
            on_left(&endpoint, session.frontend, turn);
            session.served_by = Some(endpoint);
            self.waiting.on_room();
        }
    }

    /// Client and server have agreed on another protocol: the connection is a plain one from here on.
    fn begin_tunnel(&mut self, key: Key, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(layers) = &mut session.layers else { return };
        let has_ended = layers.exchange().is_some_and(|exchange| exchange.has_client_ended());
        let mut out = Outgoing::new(self.ring.own_buffers(), &mut self.outgoing);
        let begun = layers.begin_tunnel(&mut out);
        let begun = begun.and_then(|()| if has_ended { layers.end(Side::Client, &mut out).map(drop) } else { Ok(()) });
        let is_plain = layers.are_done();
        session.conn.hold_client(false);
        if is_plain {
            session.layers = None;
        }
        for side in [Side::Client, Side::Server] {
            session.conn.set_splicing(side, is_plain);
        }
        self.put_outgoing(key);
        let Some(session) = self.sessions.get_mut(key) else { return };
        match begun {
            Err(fault) => self.on_fault(Side::Server, key, &fault, turn),
            Ok(()) if has_ended => session.conn.end_source(Side::Client),
            Ok(()) => {}
        }
    }

    /// One of both does not keep to the protocol.
    fn on_wrong(&mut self, side: Side, key: Key, wrong: Wrong, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let has_begun = session.exchange().is_some_and(|exchange| exchange.has_begun());
        if !has_begun {
            return self.refuse(key, wrong, turn);
        }
        tracing::debug!("a connection is cut: {}", Fault::Http(wrong));
        session.counters.shards[self.number].http.refused[wrong.cause as usize].add(1);
        session.note(|visit| visit.on_refused(wrong.cause, false, self.now_micros));
        session.conn.on_broken(side, |piece| self.ring.give_back(piece.buffer));
    }

    /// Tells the client what is wrong, and closes its connection.
    pub(super) fn refuse(&mut self, key: Key, wrong: Wrong, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.counters.shards[self.number].http.refused[wrong.cause as usize].add(1);
        session.note(|visit| visit.on_refused(wrong.cause, true, self.now_micros));
        self.say_refused(key, wrong, turn);
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.stop_waiting();
        let Some(layers) = &mut session.layers else { return session.conn.begin_close(Ending::Reset) };
        let told = layers.refuse(wrong, &mut Outgoing::new(self.ring.own_buffers(), &mut self.outgoing));
        self.put_outgoing(key);
        match told {
            Ok(()) => self.part(key),
            Err(_) => self.break_client(key),
        }
    }

    fn break_client(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.conn.on_broken(Side::Client, |piece| self.ring.give_back(piece.buffer));
        if !session.conn.is_closing() {
            session.conn.on_no_server();
        }
    }

    /// Requests that fail for want of a server are said once in a while, clients' faults only to who looks for them.
    fn say_refused(&self, key: Key, wrong: Wrong, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get(key) else { return };
        tracing::debug!("a request is refused: {}", Fault::Http(wrong));
        let Some(frontend) = turn.table.frontend(session.frontend).filter(|_| wrong.cause.status() >= 502) else {
            return;
        };
        let said = &frontend.counters.failure_said;
        let at = said.load(Ordering::Relaxed);
        let is_due = wrong.cause != Cause::Version && (at == 0 || self.now >= at + FAILURE_PAUSE);
        if is_due && said.compare_exchange(at, self.now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let server = session.endpoint.as_ref().map_or_else(String::new, |endpoint| format!(" ({})", endpoint.addr));
            let (name, status) = (&frontend.name, wrong.cause.status());
            tracing::warn!("frontend {name}: requests get a {status} of ours: {}{server}", wrong.reason);
        }
    }

    /// Nothing more is done for the client: it gets what waits for it, and our end.
    fn part(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let mut has_ended = false;
        if let Some(layers) = &mut session.layers {
            has_ended = layers.exchange().is_some_and(|exchange| exchange.has_client_ended());
            // Without memory the client misses the end of TLS, and gets that of its connection.
            let _ = layers.end(Side::Server, &mut Outgoing::new(self.ring.own_buffers(), &mut self.outgoing));
        }
        self.put_outgoing(key);
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.conn.hold_client(false);
        if has_ended {
            session.conn.end_source(Side::Client);
        }
        session.conn.part(|piece| self.ring.give_back(piece.buffer));
    }

    /// The client has said that it sends nothing more. What it has asked for whole is answered.
    pub(super) fn on_client_end(&mut self, key: Key, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(exchange) = session.layers.as_mut().and_then(|layers| layers.exchange_mut()) else { return };
        exchange.on_client_end();
        let is_cut = exchange.has_asked() && !exchange.is_asked_whole();
        session.conn.hold_client(true);
        if is_cut {
            session.note(|visit| visit.on_end(AccessEnd::Client));
        }
        match is_cut {
            true => session.conn.begin_close(Ending::Reset),
            false if !session.conn.wants(Side::Client) => session.conn.end_source(Side::Client),
            false => self.follow_exchange(key, turn),
        }
    }

    /// The server sends nothing more to a client of requests: it has ended its side, or reset the connection.
    pub(super) fn end_of_server(&mut self, key: Key, is_reset: bool, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(exchange) = session.layers.as_mut().and_then(|layers| layers.exchange_mut()) else { return };
        if !session.conn.is_relaying() {
            return session.conn.on_broken(Side::Server, |piece| self.ring.give_back(piece.buffer));
        }
        match exchange.on_server_end(is_reset) {
            ServerEnd::Complete => self.follow_exchange(key, turn),
            ServerEnd::Truncated => {
                session.note(|visit| visit.on_end(AccessEnd::Server));
                session.conn.on_broken(Side::Server, |piece| self.ring.give_back(piece.buffer));
            }
            ServerEnd::NoAnswer if exchange.may_repeat() => {
                session.counters.shards[self.number].http.retried.add(1);
                session.is_repeating = true;
                session.note(|visit| visit.on_repeat());
                session.conn.leave_to_repeat(|piece| self.ring.give_back(piece.buffer));
            }
            ServerEnd::NoAnswer => {
                // One that was used before may have been closed for being idle.
                if let Some(endpoint) = session.endpoint.as_ref().filter(|_| !exchange.is_used()) {
                    endpoint.load.shards[self.number].reset.add(1);
                    on_failed(endpoint, session.frontend, Failure::Reset, turn);
                }
                let reason = "the server has closed the connection without an answer";
                self.refuse(key, Wrong { cause: Cause::ServerFailed, reason }, turn);
            }
        }
    }

    /// The server of a request was given up: nothing of it is in the kernel any more.
    pub(super) fn leave_exchange_server(&mut self, key: Key, turn: &Turn<'_>) {
        self.drop_server_socket(key);
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.conn.forget_server(|piece| self.ring.give_back(piece.buffer));
        if let Some(pipe) = session.pipes[Side::Server as usize].take() {
            self.pipes.destroy(pipe);
        }
        if let Some(layers) = &mut session.layers {
            layers.forget_server();
        }
        // The same is asked of the same server.
        if !session.is_repeating {
            self.leave_endpoint(key, turn);
        }
    }

    /// Patience with a connection of requests has run out. False if nothing special is to be done about that.
    pub(super) fn on_request_timeout(&mut self, key: Key, turn: &Turn<'_>) -> bool {
        let Some(session) = self.sessions.get_mut(key) else { return false };
        let Some(layers) = &session.layers else { return false };
        let Some(exchange) = layers.exchange() else { return false };
        let (is_greeting, is_relaying) = (session.conn.is_greeting(), session.conn.is_relaying());
        let wrong = match () {
            () if is_greeting && !layers.hears_requests() => return false,
            () if is_greeting && (exchange.is_idle() || session.conn.is_delivering(Side::Client)) => {
                if !session.conn.is_delivering(Side::Client) {
                    session.note(|visit| visit.on_end(AccessEnd::Timeout));
                }
                self.part(key);
                return true;
            }
            () if is_greeting => Wrong { cause: Cause::HeadTimeout, reason: "the request's head has taken too long" },
            () if is_relaying && exchange.has_begun() => return false,
            () if is_relaying && !exchange.is_asked_whole() && !session.conn.is_delivering(Side::Server) => {
                Wrong { cause: Cause::BodyTimeout, reason: "the request's body has taken too long" }
            }
            () if is_relaying => {
                Wrong { cause: Cause::ResponseTimeout, reason: "the server has taken too long to answer" }
            }
            () if session.conn.waits_for_server() => Wrong { cause: Cause::NoServer, reason: "no server is available" },
            () => return false,
        };
        self.refuse(key, wrong, turn);
        true
    }

    /// Ends the connections of clients that are between two requests, and tells the others with their answers that they end:
    /// those of frontends that were removed, or all if the balancer stops. Who has just come is served first.
    pub(super) fn close_idle_clients(&mut self, turn: &Turn<'_>) {
        for slot in 0..self.sessions.slots() {
            let Some(key) = self.sessions.key_of(slot) else { continue };
            let Some(session) = self.sessions.get_mut(key) else { continue };
            if turn.shared.stop() == Stop::No && turn.table.frontend(session.frontend).is_some() {
                continue;
            }
            let is_greeting = session.conn.is_greeting();
            let Some(exchange) = session.layers.as_mut().and_then(|layers| layers.exchange_mut()) else { continue };
            exchange.be_last();
            if is_greeting && exchange.is_between_requests() {
                self.part(key);
                self.drive(key, turn);
            }
        }
    }
}
