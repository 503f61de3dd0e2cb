//! Connections with layers, between sockets and relay: what has come goes through the [`Layers`], and what they make of it
//! is put into the relay.

use std::net::SocketAddr;
use std::sync::Arc;

use super::conn::Ending;
use super::layers::{Fault, Layers, News};
use super::outgoing::Outgoing;
use super::relay::{ReceiveEnd, Side};
use super::shard::{Shard, Turn};
use crate::access::AccessEnd;
use crate::sys::ring::Piece;
use crate::sys::socket;
use crate::table::counters::ConnectFailure;
use crate::table::{Endpoint, Trouble};
use crate::turns::slots::Key;

impl Shard {
    /// A peer has sent bytes on a connection with layers.
    pub(super) fn receive_layered(&mut self, side: Side, key: Key, piece: Piece, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return self.ring.give_back(piece.buffer) };
        let Some(layers) = session.layers.as_mut().filter(|_| session.conn.wants(side)) else {
            return self.ring.give_back(piece.buffer);
        };
        match layers.passes(side) {
            0 => {}
            passes => return self.pass_on(side, key, piece, passes, turn),
        }
        if side == Side::Server
            && let Some(exchange) = layers.exchange_mut()
        {
            // The client has to be told with the head of its answer that its connection ends with that.
            exchange.set_behind(session.conn.is_unheard(session.is_sent_at_once[side as usize]));
        }
        let was_accepting = layers.is_accepting();
        let (bytes, buffers) = self.ring.open(piece);
        let news = layers.receive(side, bytes, &mut Outgoing::new(buffers, &mut self.outgoing));
        if !was_accepting && layers.is_accepting() {
            self.on_handshake_begun(key, turn);
        }
        self.ring.give_back(piece.buffer);
        self.follow_layers(side, key, news, turn);
        self.follow_exchange(key, turn);
    }

    /// As [`Shard::receive_layered`], for bytes that are in no buffer any more.
    pub(super) fn receive_bytes(&mut self, side: Side, key: Key, bytes: &mut [u8], turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(layers) = session.layers.as_mut().filter(|_| session.conn.wants(side)) else { return };
        let news = layers.receive(side, bytes, &mut Outgoing::new(self.ring.own_buffers(), &mut self.outgoing));
        self.follow_layers(side, key, news, turn);
        self.follow_exchange(key, turn);
    }

    /// A peer's side of its socket has ended.
    pub(super) fn end_layered(&mut self, side: Side, key: Key, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(layers) = session.layers.as_mut().filter(|_| session.conn.wants(side)) else {
            return session.conn.on_receive_ended(side, ReceiveEnd::SourceEnded);
        };
        let reads_requests = layers.exchange().is_some() && layers.is_heard();
        if session.conn.has_lost(side) {
            session.conn.on_receive_ended(side, ReceiveEnd::Stopped);
            if side == Side::Server && reads_requests {
                return self.end_of_server(key, true, turn);
            }
            return session.conn.on_broken(side, |piece| self.ring.give_back(piece.buffer));
        }
        let is_clean = layers.is_clean_end(side);
        if is_clean.is_err() {
            session.conn.on_receive_ended(side, ReceiveEnd::Stopped);
            return self.follow_layers(side, key, is_clean.map(|()| News::default()), turn);
        }
        if reads_requests {
            session.conn.on_receive_ended(side, ReceiveEnd::Stopped);
            return match side {
                Side::Client => self.on_client_end(key, turn),
                Side::Server => self.end_of_server(key, false, turn),
            };
        }
        let news = layers.end(side, &mut Outgoing::new(self.ring.own_buffers(), &mut self.outgoing));
        self.follow_layers(side, key, news, turn);
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.conn.on_receive_ended(side, ReceiveEnd::SourceEnded);
        if session.conn.is_greeting() {
            // It has left before it said what is needed of it.
            session.conn.begin_close(Ending::Close);
        }
    }

    /// Ends the client's TLS for a server that was chosen already; the connection counts for it.
    pub(super) fn terminate(&mut self, key: Key, endpoint: &Arc<Endpoint>, turn: &Turn<'_>) {
        let frontend = self.sessions.get(key).and_then(|session| turn.table.frontend(session.frontend));
        let greeting = frontend.and_then(|frontend| frontend.greeting.as_ref());
        self.add_layers(key);
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.endpoint = Some(Arc::clone(endpoint));
        session.stop_waiting();
        let (Some(greeting), Some(layers)) = (greeting, &mut session.layers) else {
            return session.conn.on_no_server();
        };
        session.greeting_timeout = greeting.config.handshake_timeout().as_millis();
        session.conn.on_must_greet();
        let news = layers.accept(greeting, &mut Outgoing::new(self.ring.own_buffers(), &mut self.outgoing));
        self.on_handshake_begun(key, turn);
        self.follow_layers(Side::Client, key, news, turn);
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.conn.is_greeting() && session.conn.has_client_ended() {
            // It has ended in the middle of its handshake, before that began here.
            self.on_fault(Side::Client, key, &Fault::Truncated, turn);
        }
    }

    /// A server that has to be told or asked something first has accepted the connection.
    pub(super) fn meet(&mut self, key: Key, turn: &Turn<'_>) {
        self.add_layers(key);
        let Some(session) = self.sessions.get_mut(key) else { return };
        let (Some(endpoint), Some(layers)) = (&session.endpoint, &mut session.layers) else { return };
        if session.conn.is_closing() {
            return session.conn.on_connected();
        }
        let mut out = Outgoing::new(self.ring.own_buffers(), &mut self.outgoing);
        let client = &session.client;
        match layers.meet(&endpoint.transport, || addrs(client), &mut out) {
            Ok(false) if layers.exchange().is_some() => {
                self.put_outgoing(key);
                self.on_server_ready(key);
                self.open_exchange(key, false, turn);
            }
            Ok(false) => {
                let opened = layers.open(&mut out);
                self.on_server_ready(key);
                self.follow_layers(Side::Client, key, opened.map(|()| News::default()), turn);
            }
            met => {
                session.conn.on_connected_to_meet();
                session.conn.forbid_splicing();
                self.follow_layers(Side::Server, key, met.map(|_| News::default()), turn);
            }
        }
    }

    /// A server that has failed its handshake is given up.
    pub(super) fn leave_met_server(&mut self, key: Key, turn: &Turn<'_>) {
        if self.sessions.get(key).is_some_and(|session| session.exchange().is_some() && session.has_met) {
            return self.leave_exchange_server(key, turn);
        }
        self.leave_server(key, ConnectFailure::Handshake, turn);
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.conn.forget_server(|piece| self.ring.give_back(piece.buffer));
        session.groups[Side::Server as usize] = 0;
        session.is_answered = false;
        if let Some(layers) = &mut session.layers {
            layers.forget_server();
        }
    }

    /// The peer has had all the time it may take for its handshake.
    pub(super) fn on_handshake_timeout(&mut self, side: Side, key: Key, turn: &Turn<'_>) {
        self.on_fault(side, key, &Fault::TimedOut, turn);
    }

    /// A peer has reset the connection amid its handshake.
    pub(super) fn on_handshake_cut(&mut self, side: Side, key: Key, turn: &Turn<'_>) {
        self.on_fault(side, key, &Fault::Truncated, turn);
    }

    /// Gives a connection layers that keep what the client has sent so far, unless it has some.
    fn add_layers(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.layers.is_none()) else { return };
        let mut layers = Box::new(Layers::none(self.number));
        for piece in session.conn.take_early() {
            layers.keep_early(self.ring.open(piece).0);
            self.ring.give_back(piece.buffer);
        }
        if session.conn.has_client_ended() {
            layers.keep_end();
        }
        session.layers = Some(layers);
    }

    /// Puts what the layers have made into the relay, and does what follows from their news.
    fn follow_layers(&mut self, side: Side, key: Key, news: Result<News, Fault>, turn: &Turn<'_>) {
        self.put_outgoing(key);
        match news {
            Ok(news) => self.on_news(side, key, news, turn),
            Err(fault) => self.on_fault(side, key, &fault, turn),
        }
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(layers) = &session.layers else { return };
        session.conn.hold_client(layers.is_full());
        if layers.are_done() {
            session.layers = None;
        }
    }

    pub(super) fn put_outgoing(&mut self, key: Key) {
        let mut session = self.sessions.get_mut(key);
        for sink in [Side::Client, Side::Server] {
            for piece in self.outgoing[sink as usize].drain(..) {
                let unwanted = match &mut session {
                    Some(session) if piece.end > 0 => session.conn.put(sink, piece),
                    _ => Some(piece),
                };
                unwanted.into_iter().for_each(|piece| self.ring.give_back(piece.buffer));
            }
        }
    }

    fn on_news(&mut self, side: Side, key: Key, news: News, turn: &Turn<'_>) {
        if news.is_accepted {
            self.on_handshake_done(key);
        }
        let Some(session) = self.sessions.get_mut(key) else { return };
        if news.has_answered && session.speaks_tls_with_server() {
            session.on_heard(self.now_micros, self.number);
        }
        if news.is_greeted {
            session.conn.on_greeted();
        }
        if news.is_met {
            self.on_met(key, turn);
        }
        if news.has_ended && self.sessions.get(key).is_some_and(|session| session.exchange().is_some()) {
            return match side {
                Side::Client => self.on_client_end(key, turn),
                Side::Server => self.end_of_server(key, false, turn),
            };
        }
        if news.has_ended
            && let Some(session) = self.sessions.get_mut(key)
            && let Some(layers) = &mut session.layers
        {
            let ended = layers.end(side, &mut Outgoing::new(self.ring.own_buffers(), &mut self.outgoing));
            self.put_outgoing(key);
            let Some(session) = self.sessions.get_mut(key) else { return };
            match ended {
                Ok(_) => session.conn.end_source(side),
                Err(fault) => self.on_fault(side, key, &fault, turn),
            }
        }
    }

    /// The handshake with the client is done.
    fn on_handshake_done(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if let Some(layers) = &session.layers {
            layers.count_handshake(Side::Client, &session.counters.shards[self.number].tls);
        }
        let tls = session.layers.as_ref().and_then(|layers| layers.recorded_tls());
        session.note(|visit| visit.on_tls(tls));
        session.conn.forbid_splicing();
        session.since = self.now;
        self.handshakes.end(session);
    }

    /// The handshake with the server is done.
    fn on_met(&mut self, key: Key, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let (Some(endpoint), Some(layers)) = (&session.endpoint, &mut session.layers) else { return };
        layers.count_handshake(Side::Server, &endpoint.load.shards[self.number].tls);
        endpoint.load.end_trouble();
        if layers.exchange().is_some() {
            self.on_server_ready(key);
            return self.open_exchange(key, false, turn);
        }
        let opened = layers.open(&mut Outgoing::new(self.ring.own_buffers(), &mut self.outgoing));
        self.on_server_ready(key);
        self.put_outgoing(key);
        if let Err(fault) = opened {
            self.on_fault(Side::Server, key, &fault, turn);
        }
    }

    fn on_handshake_begun(&mut self, key: Key, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get(key) else { return };
        let frontend = turn.table.frontend(session.frontend);
        let greeting = frontend.and_then(|frontend| frontend.greeting.as_ref());
        let max = greeting.map_or(u32::MAX, |greeting| greeting.config.max_handshakes());
        let frontend = session.frontend;
        self.handshakes.begin(key, &mut self.sessions);
        while self.handshakes.under_way(frontend) > max
            && let Some(oldest) = self.handshakes.oldest(frontend, &self.sessions)
        {
            self.on_fault(Side::Client, oldest, &Fault::CrowdedOut, turn);
            if oldest != key {
                self.drive(oldest, turn);
            }
        }
    }

    pub(super) fn on_fault(&mut self, side: Side, key: Key, fault: &Fault, turn: &Turn<'_>) {
        match side {
            Side::Client => self.on_fault_of_client(key, fault, turn),
            Side::Server => self.on_fault_of_server(key, fault, turn),
        }
    }

    fn on_fault_of_client(&mut self, key: Key, fault: &Fault, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let speaks_tls = session.layers.as_ref().is_some_and(|layers| layers.expects_tls());
        if let Some(cause) = fault.cause().filter(|_| speaks_tls) {
            session.counters.shards[self.number].tls.on_failed(cause);
        }
        tracing::debug!("a client fails: {fault}");
        session.note(|visit| visit.on_end(AccessEnd::Refused));
        self.handshakes.end(session);
        match fault {
            Fault::Tls(_) if session.conn.is_greeting() => {
                session.conn.part(|piece| self.ring.give_back(piece.buffer));
                // It may have been chosen already, and never gets to see the client.
                self.leave_endpoint(key, turn);
            }
            Fault::TimedOut | Fault::CrowdedOut => session.conn.begin_close(Ending::Close),
            _ => session.conn.on_broken(Side::Client, |piece| self.ring.give_back(piece.buffer)),
        }
    }

    fn on_fault_of_server(&mut self, key: Key, fault: &Fault, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if let (Some(endpoint), Some(cause)) = (&session.endpoint, fault.cause()) {
            endpoint.load.shards[self.number].tls.on_failed(cause);
            let dialer = endpoint.transport.dialer.as_ref().filter(|_| session.conn.is_meeting());
            if let Some(dialer) = dialer.filter(|_| endpoint.load.begin_trouble(cause)) {
                let sentence = fault.explain(dialer);
                (turn.shared.troubled)(Trouble { server: endpoint.load.id, sentence });
            }
        }
        let has_exchange = session.exchange().is_some();
        match session.conn.is_meeting() {
            true => session.conn.on_meeting_failed(),
            false if has_exchange => self.end_of_server(key, true, turn),
            false => session.conn.on_broken(Side::Server, |piece| self.ring.give_back(piece.buffer)),
        }
    }
}

/// Where the client comes from and what it has connected to, as far as the kernel still knows.
fn addrs(client: &std::os::fd::OwnedFd) -> Option<(SocketAddr, SocketAddr)> {
    Some((socket::peer_addr(client).ok()?, socket::local_addr(client).ok()?))
}
