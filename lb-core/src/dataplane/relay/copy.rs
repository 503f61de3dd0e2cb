//! Relaying by copy: receive into provided buffers (multishot, but for streams), and send from the same buffers.

use super::{ReceiveEnd, Side};
use crate::dataplane::key::Operation;
use crate::dataplane::shard::{Session, Shard, Turn};
use crate::dataplane::stopwatch::Event;
use crate::sys::buffers::BufferSize;
use crate::sys::ring::{Completion, Piece, SendMode};
use crate::turns::slots::Key;
use crate::turns::timers::Time;

/// A send whose success no completion tells.
pub(in crate::dataplane) struct SentAtOnce {
    side: Side,
    key: Key,
    bytes: usize,
    at: Time,
}

impl Shard {
    /// Arms a receive. Without a buffer to receive into, the connection waits for one.
    pub(in crate::dataplane) fn receive(&mut self, side: Side, key: Key, size: BufferSize) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.note_way(side, false, self.number);
        let Some(socket) = session.socket(side) else {
            debug_assert!(false, "nobody is there to receive from");
            return session.conn.on_receive_ended(side, ReceiveEnd::Stopped);
        };
        let link = session.link.filter(|_| side == Side::Server);
        match self.ring.receive(socket, size, |group| receive_of(side, key, link, group).encode()) {
            Some(group) => session.groups[side as usize] = group,
            None => {
                session.conn.on_receive_ended(side, ReceiveEnd::Starved);
                self.starved.push(key);
            }
        }
    }

    /// Asks the kernel to end a receive. What it has received until then still comes.
    pub(in crate::dataplane) fn stop_receiving(&mut self, side: Side, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let link = session.link.filter(|_| side == Side::Server);
        let receive = receive_of(side, key, link, session.groups[side as usize]);
        self.ring.cancel(receive.encode(), Operation::Nothing.encode());
    }

    /// A peer has sent bytes or its end, or receiving has ended otherwise.
    pub(in crate::dataplane) fn on_received(
        &mut self,
        side: Side,
        key: Key,
        group: u16,
        completion: &Completion,
        turn: &Turn<'_>,
    ) {
        let buffer = self.ring.received(completion, group);
        let Some(session) = self.sessions.get_mut(key) else {
            buffer.into_iter().for_each(|buffer| self.ring.give_back(buffer));
            return self.on_stale();
        };
        session.on_came(self.now);
        match event_of(side, completion.result).filter(|_| !session.conn.is_meeting()) {
            // What comes by TLS may be about the session only.
            Some(Event::Answered) if session.speaks_tls_with_server() => {}
            Some(Event::Answered) => session.on_heard(self.now_micros, self.number),
            // It had not heard of the request when it closed.
            Some(Event::ServerEnded) if session.is_stale() => {}
            Some(event) => session.measure(event, self.now_micros, self.number),
            None => {}
        }
        let is_over = !completion.has_more();
        if is_over && completion.result > 0 {
            // Before the bytes are looked at: by them the connection they came from may pass to another client.
            session.conn.on_receive_ended(side, ReceiveEnd::Stopped);
        }
        if let Some(buffer) = buffer {
            let piece = Piece { buffer, start: 0, end: completion.result.max(0) as u16 };
            match &session.layers {
                Some(_) => self.receive_layered(side, key, piece, turn),
                None => {
                    let is_empty = piece.end == 0;
                    let unwanted = if is_empty { Some(piece) } else { session.conn.on_received(side, piece) };
                    unwanted.into_iter().for_each(|piece| self.ring.give_back(piece.buffer));
                }
            }
        }
        if is_over && completion.result <= 0 {
            self.on_receive_ended(side, key, completion.result, turn);
        }
        self.drive(key, turn);
    }

    fn on_receive_ended(&mut self, side: Side, key: Key, result: i32, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        match result {
            0 if session.layers.is_some() => self.end_layered(side, key, turn),
            0 => session.conn.on_receive_ended(side, ReceiveEnd::SourceEnded),
            _ => {
                session.conn.on_receive_ended(side, ReceiveEnd::Stopped);
                if is_broken(result) {
                    self.on_reset(side, key, turn);
                }
            }
        }
    }

    /// A peer has reset the connection.
    fn on_reset(&mut self, side: Side, key: Key, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.note_gone(side);
        let is_amid_handshake = match side {
            Side::Client => session.is_handshaking,
            Side::Server => session.conn.is_meeting(),
        };
        match is_amid_handshake {
            true => self.on_handshake_cut(side, key, turn),
            false if side == Side::Server && session.exchange().is_some() => self.end_of_server(key, true, turn),
            false => session.conn.on_broken(side, |piece| self.ring.give_back(piece.buffer)),
        }
    }

    /// Sends what waits for a peer.
    pub(in crate::dataplane) fn send(&mut self, side: Side, key: Key, mode: SendMode) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if side == Side::Server {
            session.measure(Event::Asked, self.now_micros, self.number);
        }
        let Some(socket) = session.socket(side) else { return };
        let bytes = self.ring.send(socket, session.conn.pieces_for(side), mode, Operation::Send(side, key).encode());
        if mode == SendMode::AtOnce {
            session.is_sent_at_once[side as usize] = true;
            self.sent_at_once.push(SentAtOnce { side, key, bytes, at: self.now });
        }
    }

    /// True if some send has nothing left to wait for but its own success, which no completion tells.
    pub(in crate::dataplane) fn is_waiting_for_sends(&mut self) -> bool {
        let mut sends = self.sent_at_once.iter();
        sends.any(|sent| {
            let session = self.sessions.get_mut(sent.key);
            session.is_some_and(|session| session.is_waiting_for_send(sent.side))
        })
    }

    /// Finds out which sends at once have sent everything: those without a completion.
    pub(in crate::dataplane) fn settle_sends(&mut self, completions: &[Completion], turn: &Turn<'_>) {
        for completion in completions {
            if let Operation::Send(side, key) = Operation::decode(completion.user_data)
                && let Some(session) = self.sessions.get_mut(key)
            {
                session.is_sent_at_once[side as usize] = false;
            }
        }
        let sessions = &self.sessions;
        self.sent_at_once
            .retain(|sent| sessions.get(sent.key).is_some_and(|session| session.is_sent_at_once[sent.side as usize]));
        if !self.ring.is_settled() {
            return;
        }
        let mut settled = std::mem::take(&mut self.sent_at_once);
        for SentAtOnce { side, key, bytes, at } in settled.drain(..) {
            let has_more_to_do = self.sessions.get_mut(key).is_some_and(|session| session.is_waiting_for_send(side));
            self.on_bytes_sent(side, key, bytes, at, turn);
            if has_more_to_do {
                self.follow_exchange(key, turn);
                self.drive(key, turn);
            }
        }
        // The list's memory is used again; what was sent meanwhile stays.
        settled.append(&mut self.sent_at_once);
        self.sent_at_once = settled;
    }

    /// A send has ended, and if it was one at once, it did not send everything.
    pub(in crate::dataplane) fn on_sent(&mut self, side: Side, key: Key, completion: &Completion, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else {
            return self.on_stale();
        };
        let is_over = session.conn.is_closing() || session.conn.has_lost(side);
        if completion.result == -libc::EAGAIN && !is_over {
            // The peer reads slowly. To the connection nothing has happened: its send is still in the kernel.
            self.send(side, key, SendMode::Wait);
            // A server that has answered already is known not to have heard all.
            self.follow_exchange(key, turn);
            return self.drive(key, turn);
        }
        self.on_bytes_sent(side, key, completion.result.max(0) as usize, self.now, turn);
        let is_meeting = self.sessions.get(key).is_some_and(|session| session.conn.is_meeting());
        if is_broken(completion.result) && is_meeting && side == Side::Server {
            self.on_handshake_cut(side, key, turn);
        }
        if is_broken(completion.result)
            && let Some(session) = self.sessions.get_mut(key)
        {
            session.on_send_failed(side, |piece| self.ring.give_back(piece.buffer));
        }
        self.follow_exchange(key, turn);
        self.drive(key, turn);
    }

    fn on_bytes_sent(&mut self, side: Side, key: Key, sent: usize, at: Time, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.is_sent_at_once[side as usize] = false;
        session.on_moved(at);
        session.conn.on_sent(side, sent, |piece| self.ring.give_back(piece.buffer));
        session.count_bytes(side, sent as u64, self.number);
        if session.is_to_be_recorded() {
            self.record_answered(key, turn);
        }
    }
}

impl Session {
    /// Whether there is something to do as soon as the send to this peer has sent everything.
    fn is_waiting_for_send(&mut self, sink: Side) -> bool {
        match self.exchange() {
            _ if sink == Side::Client && self.is_to_be_recorded() => true,
            // The answer was there before it was known that the server had heard all.
            Some(exchange) if sink == Side::Server && exchange.is_answered_whole() => true,
            // More of the answer, or the next request, if it has come already.
            Some(exchange) if self.conn.is_greeting() => {
                sink == Side::Client && (!exchange.is_idle() || self.conn.has_more_than_is_sent(sink))
            }
            _ => self.conn.is_waiting_for_send(sink),
        }
    }

    /// A peer takes no bytes any more. A client of requests is gone by that, whatever it has asked for yet.
    pub(super) fn on_send_failed(&mut self, sink: Side, give_back: impl FnMut(Piece)) {
        self.note_gone(sink);
        match sink {
            Side::Client if self.exchange().is_some() => self.conn.on_broken(sink, give_back),
            _ => self.conn.on_send_failed(sink, give_back),
        }
    }

    /// Counts bytes that have gone to a peer.
    pub(super) fn count_bytes(&mut self, sink: Side, bytes: u64, shard: usize) {
        self.note(|visit| visit.on_bytes(sink, bytes));
        let frontend = &self.counters.shards[shard];
        let server = self.endpoint.as_ref().or(self.served_by.as_ref()).map(|endpoint| &endpoint.load.shards[shard]);
        match sink {
            Side::Server => {
                frontend.bytes_to_server.add(bytes);
                server.into_iter().for_each(|server| server.bytes_to_server.add(bytes));
            }
            Side::Client => {
                frontend.bytes_to_client.add(bytes);
                server.into_iter().for_each(|server| server.bytes_to_client.add(bytes));
            }
        }
    }
}

/// A receive from a peer, by way of a link if there is one.
fn receive_of(side: Side, key: Key, link: Option<Key>, group: u16) -> Operation {
    match link {
        Some(link) => Operation::LinkReceive(link, group),
        None => Operation::Receive(side, key, group),
    }
}

/// What a receive's result tells about how long the server takes.
fn event_of(source: Side, result: i32) -> Option<Event> {
    match source {
        Side::Server if result > 0 => Some(Event::Answered),
        Side::Server if result == 0 || is_broken(result) => Some(Event::ServerEnded),
        Side::Client if result == 0 || is_broken(result) => Some(Event::ClientEnded),
        Side::Server | Side::Client => None,
    }
}

/// True if the result says that the peer is gone, and not that an operation was stopped or has to be repeated.
fn is_broken(result: i32) -> bool {
    result < 0 && !matches!(-result, libc::ECANCELED | libc::ENOBUFS | libc::EINTR | libc::EAGAIN)
}
