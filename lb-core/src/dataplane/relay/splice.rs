//! Relaying by splice(2): from readiness on the ring, through a pipe that is lent while there are bytes in it. The bytes
//! stay in the kernel, which moves references to its pages.

use std::io::{self, ErrorKind};

use super::{Filled, Side};
use crate::dataplane::key::Operation;
use crate::dataplane::shard::{Session, Shard, Turn};
use crate::sys::ring::Readiness;
use crate::turns::slots::Key;

/// Bytes that one turn splices, all connections together: about 70 µs, for which a message may have to wait.
const TURN_BYTES: u64 = 512 << 10;

/// A direction that can be spliced on. Its connection waits for that, so it is still there when its turn comes.
pub(in crate::dataplane) enum ReadyStream {
    /// This peer has sent something, has failed, or is not waited for any more.
    ToRead(Side, Key),
    /// This peer takes more, has failed, or is not waited for any more.
    ToWrite(Side, Key),
}

impl Shard {
    /// Has the kernel tell when a peer has sent something.
    pub(in crate::dataplane) fn await_readable(&mut self, side: Side, key: Key) {
        self.await_ready(side, key, Readiness::Read, Operation::Readable(side, key));
    }

    /// Has the kernel tell when a peer takes more.
    pub(in crate::dataplane) fn await_writable(&mut self, side: Side, key: Key) {
        self.await_ready(side, key, Readiness::Write, Operation::Writable(side, key));
    }

    fn await_ready(&mut self, side: Side, key: Key, readiness: Readiness, operation: Operation) {
        let Some(session) = self.sessions.get(key) else { return };
        let Some(socket) = session.socket(side) else { return };
        self.ring.await_ready(socket, readiness, operation.encode());
    }

    /// Serves streams that are ready, in turn, until so many bytes are moved that messages must have come meanwhile.
    pub(in crate::dataplane) fn serve_streams(&mut self, turn: &Turn<'_>) {
        let until = self.spliced + TURN_BYTES;
        while self.spliced < until
            && let Some(ready) = self.ready_streams.pop_front()
        {
            let key = match ready {
                ReadyStream::ToRead(_, key) | ReadyStream::ToWrite(_, key) => key,
            };
            let Some(session) = self.sessions.get_mut(key) else {
                self.on_stale();
                continue;
            };
            match ready {
                ReadyStream::ToRead(side, _) => session.conn.on_readable(side),
                ReadyStream::ToWrite(side, _) => session.conn.on_writable(side),
            }
            self.drive(key, turn);
        }
    }

    /// Splices from a peer into a pipe.
    pub(in crate::dataplane) fn fill(&mut self, side: Side, key: Key, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Ok(pipe) = self.pipes.lend() else {
            return session.conn.on_filled(side, Filled::NoPipe);
        };
        session.note_way(side, true, self.number);
        let most = session.bytes_to_pass(side);
        let filled = session.socket(side).map_or(Err(ErrorKind::NotConnected.into()), |socket| pipe.fill(socket, most));
        let filled = match filled {
            Ok(0) => Filled::Over,
            Ok(bytes) => {
                self.spliced += bytes as u64;
                Filled::Bytes(bytes)
            }
            Err(error) if is_passing(&error) => Filled::Nothing,
            Err(_) => {
                self.pipes.take_back(pipe);
                session.note_gone(side);
                return session.conn.on_broken(side, |piece| self.ring.give_back(piece.buffer));
            }
        };
        session.conn.on_filled(side, filled);
        if let Filled::Bytes(bytes) = filled {
            session.on_moved(self.now);
            session.pipes[side.other() as usize] = Some(pipe);
            self.on_passed(side, key, bytes, turn);
        } else {
            self.pipes.take_back(pipe);
        }
    }

    /// Splices from the pipe to a peer.
    pub(in crate::dataplane) fn drain(&mut self, side: Side, key: Key, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let (Some(socket), Some(pipe)) = (session.socket(side), &session.pipes[side as usize]) else { return };
        match pipe.drain(socket, session.conn.in_pipe_for(side)) {
            Ok(bytes) if bytes > 0 => {
                session.conn.on_drained(side, Some(bytes));
                session.on_moved(self.now);
                session.count_spliced(side, bytes as u64, self.number);
                if session.conn.in_pipe_for(side) == 0 {
                    session.pipes[side as usize].take().into_iter().for_each(|pipe| self.pipes.take_back(pipe));
                    self.record_answered(key, turn);
                    self.follow_exchange(key, turn);
                }
            }
            Err(error) if !is_passing(&error) => {
                session.on_send_failed(side, |piece| self.ring.give_back(piece.buffer));
            }
            Ok(_) | Err(_) => session.conn.on_drained(side, None),
        }
    }
}

impl Session {
    /// How many bytes that come from a peer next may go past.
    fn bytes_to_pass(&self, source: Side) -> usize {
        let layers = self.layers.as_ref().filter(|layers| layers.exchange().is_some());
        layers.map_or(usize::MAX, |layers| usize::try_from(layers.passes(source)).unwrap_or(usize::MAX))
    }

    /// Counts a change between copying and splicing what comes from a peer.
    pub(in crate::dataplane) fn note_way(&mut self, source: Side, is_spliced: bool, shard: usize) {
        if self.is_spliced[source as usize] != is_spliced {
            self.is_spliced[source as usize] = is_spliced;
            self.has_streamed |= is_spliced;
            self.counters.shards[shard].relay_switches.add(1);
        }
    }

    fn count_spliced(&mut self, sink: Side, bytes: u64, shard: usize) {
        self.count_bytes(sink, bytes, shard);
        self.counters.shards[shard].bytes_spliced.add(bytes);
    }
}

/// True if splicing can go on later.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
