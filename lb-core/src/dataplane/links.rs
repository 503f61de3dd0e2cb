//! Connections to servers that serve one request after the other, of whichever client: a shard's pool.
//!
//! While it is idle, a link has its receive in the kernel. So that the server has closed it, or speaks unasked, is known at
//! once, and taking a link or giving it back costs no system call. That is why its receive belongs to the link and not to
//! the client's session.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::conn::Conn;
use super::key::Operation;
use super::relay::Side;
use super::shard::{Session, Shard, Turn};
use crate::sys::buffers::BufferSize;
use crate::sys::ring::{Completion, Piece};
use crate::table::{Endpoint, Table};
use crate::tls::session::{self as tls, Failed, Outlets, Stage};
use crate::turns::slots::{Key, Slots};
use crate::turns::timers::Time;

/// Milliseconds for which a link may be idle: less than servers usually allow, so that a request seldom meets one that is
/// just being closed.
const IDLE_MAX: Time = 30_000;
/// How often it is looked for those, in milliseconds.
const LOOK_EVERY: Time = 1_000;

/// A connection to a server.
pub(super) struct Link {
    /// Whom it serves.
    session: Option<Key>,
    endpoint: Arc<Endpoint>,
    frontend: u32,
    /// Some exactly while it is idle: else the session has them.
    socket: Option<OwnedFd>,
    tls: Option<Box<tls::Session>>,
    /// While it is idle or was given up: whether the kernel has a receive, and of which buffer group.
    is_receiving: bool,
    group: u16,
    idle_since: Time,
    /// How much has come of it that was not looked at yet. An idle one with any is not taken: that is no answer to what would be
    /// asked now.
    unheard: u32,
}

/// All of a shard.
pub(super) struct Links {
    all: Slots<Link>,
    /// Those that are idle, by the address of their endpoint in memory; the one that was used last is last.
    idle: BTreeMap<usize, Vec<Key>>,
    /// Those that became idle in this turn: only when everything else that this turn has brought was looked at is it known
    /// that their servers have said nothing more.
    fresh: Vec<Key>,
    /// How many there are of both.
    idle_count: usize,
    /// Most of all beside those that sessions may have.
    idle_max: usize,
    next_look: Time,
}

/// A link for a session.
pub(super) struct Taken {
    pub(super) key: Key,
    pub(super) socket: OwnedFd,
    pub(super) tls: Option<Box<tls::Session>>,
    pub(super) is_receiving: bool,
    pub(super) group: u16,
}

impl Links {
    /// None yet; at most so many more than there are sessions are kept.
    pub(super) fn new(idle_max: usize) -> Self {
        Self { all: Slots::new(), idle: BTreeMap::new(), fresh: Vec::new(), idle_count: 0, idle_max, next_look: 0 }
    }

    /// How many are idle.
    pub(super) fn idle(&self) -> usize {
        self.idle_count
    }

    /// A link for a connection that a session has made, or makes, itself.
    pub(super) fn bind(&mut self, session: Key, endpoint: &Arc<Endpoint>, frontend: u32) -> Option<Key> {
        self.all.insert(Link {
            session: Some(session),
            endpoint: Arc::clone(endpoint),
            frontend,
            socket: None,
            tls: None,
            is_receiving: false,
            group: 0,
            idle_since: 0,
            unheard: 0,
        })
    }

    /// What has come in this turn, before any of it is looked at.
    pub(super) fn announce(&mut self, completions: &[Completion]) {
        for completion in completions {
            if let Operation::LinkReceive(key, _) = Operation::decode(completion.user_data)
                && let Some(link) = self.all.get_mut(key)
            {
                link.unheard += 1;
            }
        }
    }

    /// An idle link to this endpoint, which serves `session` from now on.
    pub(super) fn take(&mut self, endpoint: &Arc<Endpoint>, session: Key, now: Time) -> Option<Taken> {
        let of = Arc::as_ptr(endpoint) as usize;
        let idle = self.idle.get_mut(&of)?;
        // After a sleep of the shard even the one that was used last may be too old: then it is closed in this turn.
        let links = idle.iter().enumerate().rev().map_while(|(at, key)| Some((at, self.all.get(*key)?)));
        let mut young = links.take_while(|(_, link)| !link.is_old(now));
        let (at, _) = young.find(|(_, link)| link.unheard == 0)?;
        let key = idle.remove(at);
        self.idle_count -= 1;
        let link = self.all.get_mut(key)?;
        link.session = Some(session);
        let socket = link.socket.take()?;
        Some(Taken { key, socket, tls: link.tls.take(), is_receiving: link.is_receiving, group: link.group })
    }

    /// Everything that a turn has brought was looked at: the links that became idle in it can be taken.
    pub(super) fn end_turn(&mut self) {
        for key in self.fresh.drain(..) {
            if let Some(link) = self.all.get(key) {
                self.idle.entry(Arc::as_ptr(&link.endpoint) as usize).or_default().push(key);
            }
        }
    }

    /// The session of a link is over, and nothing of it is in the kernel.
    pub(super) fn forget(&mut self, key: Key) {
        self.all.remove(key);
    }

    /// Takes an idle link out of the pool; it stays until the kernel has let go of it.
    fn withdraw(&mut self, key: Key) -> Option<OwnedFd> {
        let link = self.all.get_mut(key)?;
        let socket = link.socket.take()?;
        let of = Arc::as_ptr(&link.endpoint) as usize;
        self.fresh.retain(|other| *other != key);
        if let Some(idle) = self.idle.get_mut(&of) {
            idle.retain(|other| *other != key);
            if idle.is_empty() {
                self.idle.remove(&of);
            }
        }
        self.idle_count -= 1;
        if !link.is_receiving {
            self.all.remove(key);
        }
        Some(socket)
    }

    /// The one that has been idle for longest.
    fn oldest(&self) -> Option<Key> {
        let oldest = self.idle.values().filter_map(|idle| idle.first().copied());
        oldest.min_by_key(|key| self.all.get(*key).map_or(Time::MAX, |link| link.idle_since))
    }

    fn idle_where(&self, is_meant: impl Fn(&Link) -> bool) -> Vec<Key> {
        let keys = self.idle.values().flatten().chain(&self.fresh);
        keys.copied().filter(|key| self.all.get(*key).is_some_and(&is_meant)).collect()
    }
}

impl Shard {
    /// The exchange over a session's link is done: the link goes to the pool if it `may_serve` again, and is closed else.
    pub(super) fn release_link(&mut self, key: Key, may_serve: bool, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let (Some(link_key), Some(socket)) = (session.link.take(), session.server.take()) else { return };
        (session.has_met, session.is_kept_alive) = (false, false);
        let is_receiving = session.conn.release_server(|piece| self.ring.give_back(piece.buffer));
        let tls = session.layers.as_mut().and_then(|layers| layers.take_server());
        let group = std::mem::take(&mut session.groups[Side::Server as usize]);
        let Some(link) = self.links.all.get_mut(link_key) else { return };
        (link.session, link.is_receiving, link.group) = (None, is_receiving, group);
        let is_whole = tls.as_ref().is_none_or(|tls| tls.is_at_rest());
        let may_serve = may_serve && is_whole && link.is_current(turn.table) && self.make_room_for_link();
        let is_receiving = is_receiving || may_serve && self.receive_idle(link_key, &socket);
        let Some(link) = self.links.all.get_mut(link_key) else { return };
        if may_serve && is_receiving {
            (link.socket, link.tls, link.idle_since) = (Some(socket), tls, self.now);
            self.links.fresh.push(link_key);
            self.links.idle_count += 1;
        } else {
            self.close_link(link_key, socket);
        }
    }

    /// Whether one more link may be idle, if need be in place of the one that has been for longest. Every session may have a
    /// connection to a server, so what is idle beside sessions that have none costs no descriptor that was not counted on.
    fn make_room_for_link(&mut self) -> bool {
        /// With more servers than this it would take too long to look for the oldest.
        const SERVERS_MAX: usize = 256;
        if self.links.all.len() <= self.sessions.len() + self.links.idle_max {
            return true;
        }
        let oldest = (self.links.idle.len() <= SERVERS_MAX).then(|| self.links.oldest()).flatten();
        oldest.into_iter().for_each(|oldest| self.close_idle_link(oldest));
        oldest.is_some()
    }

    /// Arms a receive of an idle link. False if there is no buffer.
    fn receive_idle(&mut self, key: Key, socket: &OwnedFd) -> bool {
        let encode = |group| Operation::LinkReceive(key, group).encode();
        let group = self.ring.receive(socket, BufferSize::Small, encode);
        let Some(link) = self.links.all.get_mut(key) else { return false };
        link.is_receiving = group.is_some();
        link.group = group.unwrap_or_default();
        link.is_receiving
    }

    fn close_link(&mut self, key: Key, socket: OwnedFd) {
        if self.links.all.get(key).is_some_and(|link| link.is_receiving) {
            self.ring.cancel_all(&socket, Operation::Nothing.encode());
        } else {
            self.links.forget(key);
        }
        self.ring.close(socket, Operation::Nothing.encode());
    }

    fn close_idle_link(&mut self, key: Key) {
        let Some(socket) = self.links.withdraw(key) else { return };
        if self.links.all.get(key).is_some() {
            self.ring.cancel_all(&socket, Operation::Nothing.encode());
        }
        self.ring.close(socket, Operation::Nothing.encode());
    }

    /// A link's receive has given something, or ended.
    pub(super) fn on_link_received(&mut self, key: Key, group: u16, completion: &Completion, turn: &Turn<'_>) {
        let Some(link) = self.links.all.get_mut(key) else {
            let buffer = self.ring.received(completion, group);
            buffer.into_iter().for_each(|buffer| self.ring.give_back(buffer));
            return self.on_stale();
        };
        link.unheard = link.unheard.saturating_sub(1);
        if let Some(session) = link.session {
            return self.on_received(Side::Server, session, group, completion, turn);
        }
        if !completion.has_more() {
            link.is_receiving = false;
        }
        let is_idle = link.socket.is_some();
        let buffer = self.ring.received(completion, group);
        let piece = buffer.map(|buffer| Piece { buffer, start: 0, end: completion.result.max(0) as u16 });
        let is_fine = match piece {
            Some(piece) if piece.end > 0 => {
                let is_fine = is_idle && self.hear_idle(key, piece);
                self.ring.give_back(piece.buffer);
                is_fine
            }
            Some(piece) => {
                self.ring.give_back(piece.buffer);
                false
            }
            // Ended by the kernel, or by a session that had it before, for reasons that pass.
            None => matches!(-completion.result, libc::ECANCELED | libc::ENOBUFS | libc::EINTR | libc::EAGAIN),
        };
        self.follow_link(key, is_idle && is_fine);
    }

    /// Goes on with a link that is idle and fine, and gives it up else.
    fn follow_link(&mut self, key: Key, is_fine: bool) {
        let Some(link) = self.links.all.get_mut(key) else { return };
        let needs_receive = is_fine && !link.is_receiving;
        if needs_receive && let Some(socket) = link.socket.take() {
            let is_receiving = self.receive_idle(key, &socket);
            if let Some(link) = self.links.all.get_mut(key) {
                link.socket = Some(socket);
            }
            if is_receiving {
                return;
            }
        } else if is_fine {
            return;
        }
        match self.links.all.get(key) {
            Some(link) if link.socket.is_some() => self.close_idle_link(key),
            Some(link) if !link.is_receiving => self.links.forget(key),
            _ => {}
        }
    }

    /// What an idle server says is no answer. In TLS it may be about the session, tickets above all: false if it is not.
    fn hear_idle(&mut self, key: Key, piece: Piece) -> bool {
        let bytes = self.ring.open(piece).0;
        let Some(tls) = self.links.all.get_mut(key).and_then(|link| link.tls.as_mut()) else { return false };
        says_nothing(tls, bytes)
    }

    /// Closes idle links that are of no use any more: to servers that are gone, or too old.
    pub(super) fn sweep_links(&mut self, turn: &Turn<'_>, is_new_table: bool) {
        if self.links.idle_count == 0 || !is_new_table && self.now < self.links.next_look {
            return;
        }
        self.links.next_look = self.now + LOOK_EVERY;
        self.links.idle.retain(|_, idle| !idle.is_empty());
        let now = self.now;
        let is_useless = |link: &Link| link.is_old(now) || is_new_table && !link.is_current(turn.table);
        for key in self.links.idle_where(is_useless) {
            self.close_idle_link(key);
        }
    }

    /// Closes all that are idle: descriptors are needed, or the balancer stops.
    pub(super) fn close_idle_links(&mut self) {
        for key in self.links.idle_where(|_| true) {
            self.close_idle_link(key);
        }
    }
}

impl Link {
    fn is_old(&self, now: Time) -> bool {
        self.idle_since + IDLE_MAX <= now
    }

    /// Whether requests may go to its endpoint still.
    fn is_current(&self, table: &Table) -> bool {
        table.frontend(self.frontend).is_some_and(|frontend| frontend.has(&self.endpoint))
    }
}

impl Session {
    /// Takes a link's connection as that to its server.
    pub(super) fn attach(&mut self, taken: Taken) {
        self.link = Some(taken.key);
        self.server = Some(taken.socket);
        self.groups[Side::Server as usize] = taken.group;
        if let Some(layers) = &mut self.layers {
            layers.put_server(taken.tls);
        }
        Conn::on_server_taken(&mut self.conn, taken.is_receiving);
    }
}

/// Whether what has come in a session is about the session only.
fn says_nothing(tls: &mut tls::Session, bytes: &mut [u8]) -> bool {
    let mut aside = Aside { has_said: false, room: Vec::new() };
    matches!(tls.receive(bytes, &mut aside), Ok(Stage::Open)) && !aside.has_said && tls.is_at_rest()
}

/// Notes what a session that is idle says, and what we would answer: neither belongs there.
struct Aside {
    has_said: bool,
    room: Vec<u8>,
}

impl Outlets for Aside {
    fn room(&mut self, bytes: usize) -> std::io::Result<&mut [u8]> {
        self.room.resize(bytes, 0);
        Ok(&mut self.room)
    }

    fn wire(&mut self, _: usize) {
        self.has_said = true;
    }

    fn plain(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        self.has_said |= !bytes.is_empty();
        Ok(())
    }
}
