//! Ending connections: passing an end on, waiting until the kernel has let go, closing.

use std::os::fd::OwnedFd;

use super::accept;
use super::conn::Ending;
use super::connect;
use super::key::Operation;
use super::relay::Side;
use super::shard::{Shard, Turn};
use crate::sys::socket;
use crate::table::Failure;
use crate::turns::slots::Key;

impl Shard {
    /// Passes a peer's end on to the other one.
    pub(super) fn close_write(&mut self, side: Side, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if let Some(socket) = session.socket(side) {
            // Fails only if the peer has reset the connection, which the receive from it reports.
            let _ = socket::close_write(socket);
        }
    }

    /// Asks the kernel to let go of a connection.
    pub(super) fn cancel_all(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        for side in [Side::Client, Side::Server] {
            if let Some(socket) = session.socket(side) {
                self.ring.cancel_all(socket, Operation::Nothing.encode());
            }
        }
    }

    /// Asks the kernel to let go of a connection's server.
    pub(super) fn cancel_server(&mut self, key: Key) {
        if let Some(server) = self.sessions.get(key).and_then(|session| session.server.as_ref()) {
            self.ring.cancel_all(server, Operation::Nothing.encode());
        }
    }

    /// Nothing is in the kernel any more: closes the sockets and frees the slot.
    pub(super) fn finish(&mut self, key: Key, ending: Ending, turn: &Turn<'_>) {
        let Some(mut session) = self.sessions.remove(key) else { return };
        self.timers.clear(key.slot);
        // Where only its end tells how long an answer is, half of one must not look whole.
        let is_undelivered = session.conn.is_delivering(Side::Client);
        let is_cut = session.exchange().is_some_and(|exchange| exchange.is_amid_answer() || is_undelivered);
        let ending = if is_cut { Ending::Reset } else { ending };
        let lasted = self.now_micros - session.accepted;
        session.counters.shards[self.number].durations.record(self.now_micros, lasted);
        self.record_last(&mut session, turn);
        session.stop_waiting();
        self.handshakes.end(&mut session);
        session.conn.discard(|piece| self.ring.give_back(piece.buffer));
        let (is_linked, speaks_tls) = (session.link.is_some(), session.speaks_tls_with_server());
        session.pipes.into_iter().flatten().for_each(|pipe| self.pipes.destroy(pipe));
        let mut server = session.server;
        session.link.into_iter().for_each(|link| self.links.forget(link));
        if let Some(endpoint) = session.endpoint {
            connect::on_left(&endpoint, session.frontend, turn);
            self.waiting.on_room();
            if !session.is_answered && session.conn.is_reset_by_server() {
                endpoint.load.shards[self.number].reset.add(1);
                connect::on_failed(&endpoint, session.frontend, Failure::Reset, turn);
            }
            let is_over = ending == Ending::Close && session.conn.is_server_done();
            // A long-lived one has keepalive, one that streamed large buffers, which the next connection should not inherit.
            // The end that TLS tells of is none of the socket's.
            let is_fresh = !session.is_kept_alive && !session.has_streamed && !speaks_tls && !is_linked;
            let group = turn.table.frontend(session.frontend).and_then(|frontend| frontend.groups.first());
            let is_worth_it = group.is_some_and(|group| self.recycled.is_worth_it(group.main.candidates.len()));
            if is_over && is_fresh && is_worth_it {
                server = server.and_then(|server| self.recycled.keep(server, endpoint.addr));
            }
        }
        accept::release(&session.counters, turn.shared);
        for socket in [Some(session.client), server].into_iter().flatten() {
            if ending == Ending::Reset {
                // Fails only if the connection is gone already.
                let _ = socket::reset_on_close(&socket);
            }
            self.ring.close(socket, Operation::Nothing.encode());
        }
    }
}

/// Gives a long-lived connection's server socket keepalive; the client's has it from the listener.
pub(super) fn keep_alive(server: &OwnedFd) {
    // Without it the connection works as well, only a vanished server is noticed later.
    let _ = socket::keep_alive(server);
}
