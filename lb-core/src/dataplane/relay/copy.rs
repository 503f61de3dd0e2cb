//! Relaying by copy: multishot receive into provided buffers, and send from the same buffers.

use super::{ReceiveEnd, Side};
use crate::dataplane::key::{Key, Operation};
use crate::dataplane::shard::{Shard, Turn};
use crate::sys::ring::{Completion, Piece, SendMode};

impl Shard {
    /// Arms a receive. Without a buffer to receive into, the connection waits for one.
    pub(in crate::dataplane) fn receive(&mut self, side: Side, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let groups = &mut session.groups;
        let Some(socket) = (match side {
            Side::Client => Some(&session.client),
            Side::Server => session.server.as_ref(),
        }) else {
            return;
        };
        let is_armed = self.ring.receive(socket, |group| {
            groups[side as usize] = group;
            Operation::Receive(side, key, group).encode()
        });
        if !is_armed {
            session.conn.on_receive_ended(side, ReceiveEnd::Starved);
            self.starved.push(key);
        }
    }

    /// Asks the kernel to end a receive. What it has received until then still comes.
    pub(in crate::dataplane) fn stop_receiving(&mut self, side: Side, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let receive = Operation::Receive(side, key, session.groups[side as usize]);
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
        session.since = self.now;
        if let Some(buffer) = buffer {
            let piece = Piece { buffer, start: 0, end: completion.result.max(0) as u16 };
            let unwanted = match piece.end {
                0 => Some(piece),
                _ => session.conn.on_received(side, piece),
            };
            unwanted.into_iter().for_each(|piece| self.ring.give_back(piece.buffer));
        }
        if !completion.has_more() {
            let end = if completion.result == 0 { ReceiveEnd::SourceEnded } else { ReceiveEnd::Stopped };
            session.conn.on_receive_ended(side, end);
            if is_broken(completion.result) {
                session.conn.on_broken(side, |piece| self.ring.give_back(piece.buffer));
            }
        }
        self.drive(key, turn);
    }

    /// Sends what waits for a peer.
    pub(in crate::dataplane) fn send(&mut self, side: Side, key: Key, mode: SendMode) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(socket) = (match side {
            Side::Client => Some(&session.client),
            Side::Server => session.server.as_ref(),
        }) else {
            return;
        };
        self.ring.send(socket, session.conn.pieces_for(side), mode, Operation::Send(side, key).encode());
    }

    /// A send has ended.
    pub(in crate::dataplane) fn on_sent(&mut self, side: Side, key: Key, completion: &Completion, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else {
            return self.on_stale();
        };
        if completion.result == -libc::EAGAIN && !session.conn.is_closing() {
            // The peer reads slowly. To the connection nothing has happened: its send is still in the kernel.
            return self.send(side, key, SendMode::Wait);
        }
        session.since = self.now;
        let sent = completion.result.max(0) as u64;
        session.conn.on_sent(side, sent as usize, |piece| self.ring.give_back(piece.buffer));
        if is_broken(completion.result) {
            session.conn.on_broken(side, |piece| self.ring.give_back(piece.buffer));
        }
        let frontend = &session.counters.shards[self.number];
        let server = session.endpoint.as_ref().map(|endpoint| &endpoint.load.shards[self.number]);
        match side {
            Side::Server => {
                frontend.bytes_to_server.add(sent);
                server.into_iter().for_each(|server| server.bytes_to_server.add(sent));
            }
            Side::Client => {
                frontend.bytes_to_client.add(sent);
                server.into_iter().for_each(|server| server.bytes_to_client.add(sent));
            }
        }
        self.drive(key, turn);
    }
}

/// True if the result says that the peer is gone, and not that an operation was stopped or has to be repeated.
fn is_broken(result: i32) -> bool {
    result < 0 && !matches!(-result, libc::ECANCELED | libc::ENOBUFS | libc::EINTR | libc::EAGAIN)
}
