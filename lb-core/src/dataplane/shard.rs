//! One shard: a pinned thread with a ring of its own, and the loop that it runs.
//!
//! A turn: submit what is queued and wait; load the table; hand every completion to the connection or listener it belongs
//! to; carry out what they then want; serve streams that are ready; look after what waits for time, buffers or descriptors.

use std::cell::OnceCell;
use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::accept::{Listener, Parked};
use super::choose::Tried;
use super::close;
use super::conn::{Action, Conn, Ending, Patience};
use super::gather::Gathering;
use super::handshakes::Handshakes;
use super::key::Operation;
use super::layers::Layers;
use super::links::Links;
use super::outgoing::Pieces;
use super::recycle::Recycled;
use super::relay::{Pipe, Pipes, ReadyStream, SentAtOnce, Side};
use super::stopwatch::{Event, Finding, Stopwatch};
use super::visit::Visit;
use super::waiting::{Wait, Waiting};
use crate::access::AccessEnd;
use crate::http::exchange::Exchange;
use crate::sys::published;
use crate::sys::ring::{Completion, Ring, SendMode};
use crate::sys::{signals, socket};
use crate::table::counters::FrontendCounters;
use crate::table::counters::SpareDescriptors;
use crate::table::{Endpoint, Frontend, Greeting, Load, Shared, Stop, Table};
use crate::turns::alarm::Alarm;
use crate::turns::slots::{Key, Slots};
use crate::turns::timers::{Time, Timers};

/// How often a shard looks whether what it waits for without a completion (a limit shared with other shards, descriptors,
/// buffers) has come.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Milliseconds after which cancelling is tried again. The kernel needs one turn; this is for surprises.
const CANCEL_PATIENCE: u32 = 1_000;

/// Milliseconds for which nothing may move of what a client that is gone has left, and a server. Of what is in the kernel only
/// large steps are seen, and a client may well pause.
const CLIENTS_REMAINS_PATIENCE: u32 = 10_000;
const SERVERS_REMAINS_PATIENCE: u32 = 60_000;

/// Milliseconds for which a client that is refused may send nothing before its connection is closed, and after which it is
/// although it goes on sending: by closing earlier the client would lose what it was told (RFC 9112, section 9.6).
const PARTING_PATIENCE: u32 = 1_000;
const PARTING_MAX: Time = 30_000;

/// Milliseconds after which a connection counts as long-lived and its server's socket gets keepalive: short ones, which
/// are many, save the system call.
const KEEPALIVE_AFTER: u32 = 30_000;

/// A connection with what the pure machine does not know: sockets and the server.
pub(super) struct Session {
    pub(super) conn: Conn,
    /// Some while bytes are not just passed on as they come.
    pub(super) layers: Option<Box<Layers>>,
    pub(super) client: OwnedFd,
    pub(super) server: Option<OwnedFd>,
    /// By which that is received from, where it may serve other clients later.
    pub(super) link: Option<Key>,
    /// Whether the server takes what the client says: it has accepted, and made its handshake.
    pub(super) has_met: bool,
    /// Whether the server that is being connected to may not have the connection any more.
    pub(super) is_server_unwanted: bool,
    /// The address that the connection counts for; from the choice of the server on.
    pub(super) endpoint: Option<Arc<Endpoint>>,
    /// The one that has answered the last request: bytes that still go out are its.
    pub(super) served_by: Option<Arc<Endpoint>>,
    /// Addresses that have failed. Empty again once connected.
    pub(super) tried: Tried,
    pub(super) frontend: u32,
    pub(super) counters: Arc<FrontendCounters>,
    /// Where the client comes from, once that was asked.
    pub(super) client_addr: OnceCell<IpAddr>,
    /// Milliseconds: what comes next of the client before a server is chosen has to be there by then.
    pub(super) greeting_timeout: u32,
    /// Milliseconds in which a server has to begin its answer to a request.
    pub(super) response_timeout: u32,
    /// Whether a request's head has begun, and is not whole.
    pub(super) is_in_head: bool,
    /// Whether the client has waited for the server that it stays on for as long as it may: then any other one will do.
    pub(super) has_forsaken: bool,
    /// Whether the request is to be said once more to the server that it was said to.
    pub(super) is_repeating: bool,
    /// Whether a TLS handshake with the client is under way.
    pub(super) is_handshaking: bool,
    /// Milliseconds.
    pub(super) connect_timeout: u32,
    /// Milliseconds that the present connect may take: the timeout, or what is left until `try_until`.
    pub(super) connect_limit: u32,
    /// Milliseconds.
    pub(super) idle_timeout: u32,
    /// Until when servers may be tried, one after the other.
    pub(super) try_until: Time,
    /// Some while the client waits for a server, and is counted as waiting.
    pub(super) wait: Option<Wait>,
    /// Whether anything for the client has come from the server.
    pub(super) is_answered: bool,
    /// When a byte was last moved, or the present patience began.
    pub(super) since: Time,
    /// What the timer was set for.
    patience: Patience,
    /// Until when a client that is refused and goes on sending is heard.
    heard_until: Time,
    pub(super) is_kept_alive: bool,
    /// Whether a send to this side was submitted of which only a failure is completed.
    pub(super) is_sent_at_once: [bool; 2],
    /// By the side that they are drained to: pipes with bytes in them, and no others.
    pub(super) pipes: [Option<Box<Pipe>>; 2],
    /// By the side that they come from: whether bytes are spliced.
    pub(super) is_spliced: [bool; 2],
    /// Whether any were ever spliced.
    pub(super) has_streamed: bool,
    /// Buffer groups of the receives that are armed, which their user data carries.
    pub(super) groups: [u16; 2],
    pub(super) stopwatch: Stopwatch,
    /// Whether the policy does with what the stopwatch finds out.
    pub(super) needs_latency: bool,
    /// When it was accepted, in microseconds.
    pub(super) accepted: u64,
    /// When the present request's head was there, in microseconds.
    pub(super) asked: u64,
    /// What is recorded of it, where anything is.
    pub(super) visit: Option<Box<Visit>>,
}

/// What holds for one turn.
pub(super) struct Turn<'a> {
    pub(super) shared: &'a Shared,
    pub(super) table: &'a Table,
}

/// A shard's own state. Nothing of it is shared.
pub(crate) struct Shard {
    pub(super) number: usize,
    pub(super) ring: Ring,
    pub(super) sessions: Slots<Session>,
    pub(super) listeners: Slots<Listener>,
    pub(super) timers: Timers,
    /// When the kernel wakes this shard for its timers.
    alarm: Alarm,
    pub(super) now: Time,
    /// The same in microseconds.
    pub(super) now_micros: u64,
    pub(super) random: fastrand::Rng,
    pub(super) handshakes: Handshakes,
    /// What layers have made and is not in a relay yet; empty between steps.
    pub(super) outgoing: Pieces,
    /// Sends that are done as soon as they are submitted.
    pub(super) sent_at_once: Vec<SentAtOnce>,
    pub(super) pipes: Pipes,
    pub(super) recycled: Recycled,
    /// Connections to servers that serve requests of whoever comes.
    pub(super) links: Links,
    /// Streams that can go on, in the order in which they will.
    pub(super) ready_streams: VecDeque<ReadyStream>,
    /// Bytes spliced so far.
    pub(super) spliced: u64,
    /// Accepted beyond a limit, in order; served when there is room.
    pub(super) parked: VecDeque<Parked>,
    /// Clients that wait for a server.
    pub(super) waiting: Waiting,
    /// Connections that wait for a descriptor.
    pub(super) waiting_for_descriptors: Vec<Key>,
    /// Connections that wait for buffers.
    pub(super) starved: Vec<Key>,
    /// True while a listener may not be accepting.
    pub(super) is_paused: bool,
    /// Until then nothing is accepted, because descriptors ran out.
    pub(super) short_until: Time,
    started: Instant,
    /// Of the table that was followed last.
    followed: u64,
    /// Of the table that was acknowledged last.
    acknowledged: u64,
    stopping: Stop,
    /// Whether it was said that nothing is accepted any more.
    has_left: bool,
    accept_renewals: u32,
    stale_completions: u64,
    /// True in the turn in which the balancer begins to stop, or a frontend is removed, until the requests that have come with
    /// it are taken up.
    pub(super) is_to_close_idle_clients: bool,
    /// Counts the turns.
    turns: u64,
}

impl Shard {
    /// A shard for the calling thread. It uses at most this many bytes of relay buffers, and lends at most this many pipes.
    /// Time counts from `started`.
    pub(crate) fn new(
        number: usize,
        buffer_bytes_max: usize,
        spare: SpareDescriptors,
        started: Instant,
    ) -> io::Result<Self> {
        signals::block_broken_pipe()?;
        Ok(Self {
            number,
            ring: Ring::new(buffer_bytes_max)?,
            sessions: Slots::new(),
            listeners: Slots::new(),
            timers: Timers::new(),
            alarm: Alarm::default(),
            now: 0,
            now_micros: 0,
            random: fastrand::Rng::new(),
            handshakes: Handshakes::new(number),
            outgoing: Pieces::default(),
            sent_at_once: Vec::new(),
            pipes: Pipes::new(spare.pipes),
            recycled: Recycled::new(spare.sockets),
            links: Links::new(spare.sockets),
            ready_streams: VecDeque::new(),
            spliced: 0,
            parked: VecDeque::new(),
            waiting: Waiting::default(),
            waiting_for_descriptors: Vec::new(),
            starved: Vec::new(),
            is_paused: false,
            short_until: 0,
            started,
            followed: 0,
            acknowledged: 0,
            stopping: Stop::No,
            has_left: false,
            accept_renewals: 0,
            stale_completions: 0,
            is_to_close_idle_clients: false,
            turns: 0,
        })
    }

    /// Runs until the balancer stops and every connection is gone.
    ///
    /// # Errors
    /// The kernel refuses to go on with the ring.
    pub(crate) fn run(mut self, shared: &Shared) -> io::Result<()> {
        shared.counters[self.number].thread.set(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs().into());
        let doorbell = &shared.doorbells[self.number];
        self.ring.await_doorbell(doorbell, Operation::Doorbell.encode());
        let (mut completions, mut due) = (Vec::new(), Vec::new());
        // The first turn does not wait: the table is there already.
        let (mut timeout, mut gather, mut gathering) = (Some(Duration::ZERO), None, Gathering::default());
        while !self.is_done() {
            // That a send has completed is no news, or each message would cost a second enter: sends are done once they
            // are submitted. Only when one of them has to be followed up is there no waiting for anything else.
            match self.is_waiting_for_sends() {
                true => self.ring.submit()?,
                false => self.ring.enter(timeout, gather)?,
            }
            self.now_micros = self.started.elapsed().as_micros() as u64;
            self.now = self.now_micros / 1_000;
            let guard = published::pin();
            let turn = Turn { shared, table: shared.publication.load(&guard) };
            self.turns += 1;
            self.follow(&turn);
            self.ring.reap(&mut completions);
            let messages = self.hand_out(&mut completions, &turn);
            // After the messages, which are short.
            self.serve_streams(&turn);
            self.expire(&mut due, &turn);
            self.look_again(&turn);
            self.acknowledge(&turn);
            self.ring.shrink_buffers();
            self.count(&turn);
            self.set_alarm();
            timeout = self.timeout();
            gather = gathering.after_turn(messages, self.spliced);
        }
        // What was queued last are the sockets' closes.
        self.ring.enter(Some(Duration::ZERO), None)
    }

    fn is_done(&self) -> bool {
        self.has_left && self.sessions.len() == 0 && self.parked.is_empty()
    }

    /// Follows the table and the order to stop, and acknowledges.
    fn follow(&mut self, turn: &Turn<'_>) {
        let stop = turn.shared.stop();
        if stop > self.stopping {
            let before = std::mem::replace(&mut self.stopping, stop);
            self.leave_listeners(|_| true);
            if stop > Stop::HandedOver {
                self.parked.clear();
            }
            self.close_idle_links();
            match stop {
                Stop::Close => self.close_all(turn),
                // After a hand-over nobody is in a hurry: their next answers tell clients that they are the last.
                Stop::Drain if before == Stop::No => self.is_to_close_idle_clients = true,
                Stop::No | Stop::HandedOver | Stop::Drain => {}
            }
        }
        let renewals = turn.shared.accept_renewals();
        if renewals != self.accept_renewals {
            self.accept_renewals = renewals;
            self.renew_accepts();
        }
        if turn.table.generation == self.acknowledged {
            return;
        }
        if self.stopping == Stop::No {
            self.follow_listeners(turn);
        }
        if turn.table.generation != self.followed {
            self.followed = turn.table.generation;
            self.waiting.on_new_table();
            self.sweep_links(turn, true);
            if !turn.table.closing.is_empty() {
                self.close_those_of(&turn.table.closing, turn);
            }
        }
        self.acknowledge(turn);
    }

    /// Acknowledges the table, as soon as the kernel does not accept for frontends any more that are not in it.
    fn acknowledge(&mut self, turn: &Turn<'_>) {
        if turn.table.generation != self.acknowledged && !self.is_leaving_listeners() {
            self.acknowledged = turn.table.generation;
            turn.shared.counters[self.number].revision.set(turn.table.revision);
            turn.shared.publication.acknowledge(self.number, self.acknowledged);
            turn.shared.control.unpark();
        }
        if self.stopping != Stop::No && !self.has_left && self.listeners.len() == 0 {
            self.has_left = true;
            turn.shared.on_left();
        }
    }

    fn close_all(&mut self, turn: &Turn<'_>) {
        let close = |session: &mut Session| {
            session.conn.begin_close(Ending::Close);
            None
        };
        self.end_where(|_| true, close, turn);
    }

    /// Ends the connections of these servers. Who is just connecting to one of them gets another one instead.
    fn close_those_of(&mut self, servers: &[Arc<Load>], turn: &Turn<'_>) {
        let servers: HashSet<u64> = servers.iter().map(|server| server.id).collect();
        let is_of = |endpoint: &Arc<Endpoint>| servers.contains(&endpoint.load.id);
        let leave = |session: &mut Session| {
            session.is_server_unwanted = session.conn.is_reaching_server();
            session.conn.leave_server()
        };
        self.end_where(|session| session.endpoint.as_ref().is_some_and(is_of), leave, turn);
    }

    fn end_where(
        &mut self,
        is_meant: impl Fn(&Session) -> bool,
        end: impl Fn(&mut Session) -> Option<Action>,
        turn: &Turn<'_>,
    ) {
        for slot in 0..self.sessions.slots() {
            let Some(key) = self.sessions.key_of(slot) else { continue };
            let Some(session) = self.sessions.get_mut(key).filter(|session| is_meant(session)) else { continue };
            let action = end(session);
            if session.conn.is_closing() {
                session.note(|visit| visit.on_end(AccessEnd::Closed));
            }
            if let Some(action) = action {
                self.perform(key, action, turn);
            }
            self.drive(key, turn);
        }
    }

    /// Deals with what has completed, and gives how much of it was not of streams, which are served later.
    fn hand_out(&mut self, completions: &mut Vec<Completion>, turn: &Turn<'_>) -> usize {
        let (news, streams) = (completions.len(), self.ready_streams.len());
        turn.shared.counters[self.number].completions.add(news as u64);
        self.links.announce(completions);
        self.settle_sends(completions, turn);
        for completion in completions.drain(..) {
            self.on_completion(completion, turn);
        }
        news - (self.ready_streams.len() - streams)
    }

    fn on_completion(&mut self, completion: Completion, turn: &Turn<'_>) {
        match Operation::decode(completion.user_data) {
            Operation::Nothing => {}
            Operation::Doorbell => {
                let doorbell = &turn.shared.doorbells[self.number];
                self.ring.await_doorbell(doorbell, Operation::Doorbell.encode());
            }
            Operation::Alarm => self.alarm.on_rung(),
            Operation::Accept(key) => self.on_accepted(key, &completion, turn),
            Operation::Connect(key) => self.on_connect_ended(key, &completion, turn),
            Operation::Receive(side, key, group) => self.on_received(side, key, group, &completion, turn),
            Operation::LinkReceive(key, group) => self.on_link_received(key, group, &completion, turn),
            Operation::Send(side, key) => self.on_sent(side, key, &completion, turn),
            Operation::Readable(side, key) => self.ready_streams.push_back(ReadyStream::ToRead(side, key)),
            Operation::Writable(side, key) => self.ready_streams.push_back(ReadyStream::ToWrite(side, key)),
        }
    }

    /// A completion for a connection that is gone: its slot was freed only after all had come back, so this is a bug.
    pub(super) fn on_stale(&mut self) {
        self.stale_completions += 1;
    }

    /// Carries out what a connection wants until it wants nothing more.
    pub(super) fn drive(&mut self, key: Key, turn: &Turn<'_>) {
        while let Some(action) = self.sessions.get_mut(key).and_then(|session| session.conn.next_action()) {
            self.perform(key, action, turn);
        }
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.current_patience() != session.patience {
            session.begin_patience(self.now);
            self.timers.set(key.slot, self.now + Time::from(session.next_look()));
        }
    }

    fn perform(&mut self, key: Key, action: Action, turn: &Turn<'_>) {
        match action {
            Action::Connect => self.connect(key, turn),
            Action::StopConnecting => self.ring.cancel(Operation::Connect(key).encode(), Operation::Nothing.encode()),
            Action::Receive(side, size) => self.receive(side, key, size),
            Action::StopReceiving(side) => self.stop_receiving(side, key),
            Action::Send(side) => self.send(side, key, SendMode::AtOnce),
            Action::Fill(side) => self.fill(side, key, turn),
            Action::Drain(side) => self.drain(side, key, turn),
            Action::AwaitReadable(side) => self.await_readable(side, key),
            Action::AwaitWritable(side) => self.await_writable(side, key),
            Action::CloseWrite(side) => self.close_write(side, key),
            Action::CancelServer => self.cancel_server(key),
            Action::LeaveServer => self.leave_met_server(key, turn),
            Action::CancelAll => self.cancel_all(key),
            Action::Finish(ending) => self.finish(key, ending, turn),
        }
    }

    fn expire(&mut self, due: &mut Vec<u32>, turn: &Turn<'_>) {
        self.timers.advance(self.now, due);
        for slot in due.drain(..) {
            let Some(key) = self.sessions.key_of(slot) else { continue };
            let Some(session) = self.sessions.get_mut(key) else { continue };
            if session.since + Time::from(session.limit()) > self.now {
                session.on_long_lived();
                let next = (session.since + Time::from(session.limit())).max(self.now + 1);
                self.timers.set(slot, next);
                continue;
            }
            let (has_waited, has_lost_peer) =
                (session.patience == Patience::Server, session.patience == Patience::Remains);
            if self.forsake_server(key, turn) {
                continue;
            }
            if let Some(session) = self.sessions.get_mut(key).filter(|_| has_waited) {
                let counters = &session.counters.shards[self.number];
                counters.unserved.add(1);
                counters.gave_up_waiting.add(1);
                session.note(|visit| visit.on_end(AccessEnd::Unserved));
            }
            if !has_lost_peer && self.on_request_timeout(key, turn) {
                self.restart_patience(key);
                self.drive(key, turn);
                continue;
            }
            let Some(session) = self.sessions.get_mut(key) else { continue };
            match session.patience {
                Patience::Greeting => self.on_handshake_timeout(Side::Client, key, turn),
                Patience::Connect if session.conn.is_meeting() => self.on_handshake_timeout(Side::Server, key, turn),
                _ => {}
            }
            let Some(session) = self.sessions.get_mut(key) else { continue };
            if !matches!(session.patience, Patience::Connect | Patience::Parting | Patience::Cancel) {
                session.note(|visit| visit.on_end(AccessEnd::Timeout));
            }
            let action = session.conn.on_timeout();
            self.restart_patience(key);
            if let Some(action) = action {
                self.perform(key, action, turn);
            }
            self.drive(key, turn);
        }
    }

    fn restart_patience(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.begin_patience(self.now);
        self.timers.set(key.slot, self.now + Time::from(session.limit()));
    }

    /// Looks after what no completion announces.
    fn look_again(&mut self, turn: &Turn<'_>) {
        self.links.end_turn();
        if std::mem::take(&mut self.is_to_close_idle_clients) {
            self.close_idle_clients(turn);
        }
        if !self.starved.is_empty() {
            let mut starved = std::mem::take(&mut self.starved);
            // Two in a row are the directions of one.
            starved.dedup();
            for key in starved {
                if let Some(session) = self.sessions.get_mut(key) {
                    session.conn.on_buffers();
                    self.drive(key, turn);
                }
            }
        }
        if !self.waiting_for_descriptors.is_empty() && self.now >= self.short_until {
            for key in std::mem::take(&mut self.waiting_for_descriptors) {
                if let Some(session) = self.sessions.get_mut(key) {
                    session.conn.on_descriptors();
                    self.drive(key, turn);
                }
            }
        }
        self.serve_waiting(turn);
        self.resume_accepting(turn);
        self.sweep_links(turn, false);
    }

    fn set_alarm(&mut self) {
        if let Some(when) = self.timers.next() {
            let (alarm, nobody) = (Operation::Alarm.encode(), Operation::Nothing.encode());
            self.alarm.set(when, self.started, &mut self.ring, alarm, nobody);
        }
    }

    /// How long the next turn may wait for news.
    fn timeout(&self) -> Option<Duration> {
        let waits = !(self.starved.is_empty() && self.waiting_for_descriptors.is_empty() && self.parked.is_empty());
        let waits = waits || !self.waiting.is_empty();
        match () {
            () if !self.ready_streams.is_empty() => Some(Duration::ZERO),
            () if waits || self.is_paused => Some(LOOK_AGAIN),
            () => None,
        }
    }

    fn count(&mut self, turn: &Turn<'_>) {
        let counters = &turn.shared.counters[self.number];
        counters.connections.set(self.sessions.len() as u64);
        counters.turns.set(self.turns);
        counters.buffers_in_use.set(self.ring.buffers_in_use() as u64);
        counters.pipes.set(self.pipes.open() as u64);
        counters.pooled.set(self.links.idle() as u64);
        counters.kept_sockets.set(self.recycled.count() as u64);
        counters.buffer_bytes.set(self.ring.buffer_bytes() as u64);
        counters.completion_overflows.set(self.ring.overflows().into());
        counters.stale_completions.set(self.stale_completions);
    }
}

impl Session {
    /// A client that was just accepted on a shard.
    pub(super) fn new(client: OwnedFd, frontend: &Frontend, now_micros: u64, shard: usize) -> Self {
        let greeting = frontend.greeting.as_ref();
        // Fails if the client has gone already: then it does not matter.
        let is_proxy = |greeting: &Greeting| socket::peer_addr(&client).is_ok_and(|addr| greeting.is_proxy(addr.ip()));
        let is_http = frontend.http.is_spoken;
        let layers = greeting.and_then(|greeting| Layers::of_client(greeting, is_http, || is_proxy(greeting), shard));
        let greets = layers.as_ref().is_some_and(|layers| !layers.is_greeted());
        Self {
            conn: Conn::new(greets),
            layers: layers.map(Box::new),
            client,
            server: None,
            link: None,
            has_met: false,
            is_server_unwanted: false,
            endpoint: None,
            served_by: None,
            tried: Tried::default(),
            frontend: frontend.id,
            counters: Arc::clone(&frontend.counters),
            client_addr: OnceCell::new(),
            greeting_timeout: greeting_timeout(frontend),
            response_timeout: frontend.http.response_timeout.as_millis(),
            is_in_head: false,
            has_forsaken: false,
            is_repeating: false,
            is_handshaking: false,
            connect_timeout: frontend.connect_timeout.as_millis(),
            connect_limit: frontend.connect_timeout.as_millis(),
            try_until: 0,
            wait: None,
            is_answered: false,
            idle_timeout: frontend.idle_timeout.as_millis(),
            since: now_micros / 1_000,
            patience: if greets { Patience::Greeting } else { Patience::Connect },
            heard_until: 0,
            is_kept_alive: false,
            is_sent_at_once: [false; 2],
            pipes: [None, None],
            is_spliced: [false; 2],
            has_streamed: false,
            groups: [0; 2],
            stopwatch: Stopwatch::new(),
            needs_latency: false,
            accepted: now_micros,
            asked: 0,
            visit: None,
        }
    }

    /// The request and its answer, where there are any.
    pub(super) fn exchange(&self) -> Option<&Exchange> {
        self.layers.as_ref()?.exchange()
    }

    /// Whether what comes from the server is of TLS with us.
    pub(super) fn speaks_tls_with_server(&self) -> bool {
        self.layers.as_ref().is_some_and(|layers| layers.has_server_session())
    }

    /// Whether the server's connection has served before and has not answered this request.
    pub(super) fn is_stale(&self) -> bool {
        !self.is_answered && self.exchange().is_some_and(|exchange| exchange.is_used())
    }

    pub(super) fn socket(&self, side: Side) -> Option<&OwnedFd> {
        match side {
            Side::Client => Some(&self.client),
            Side::Server => self.server.as_ref(),
        }
    }

    /// Bytes were moved: idle time begins anew. How long a server may take to accept does not.
    pub(super) fn on_moved(&mut self, at: Time) {
        // The end of an answer may be on its way yet when the next request is awaited.
        let is_answering = || self.exchange().is_some() && self.conn.is_delivering(Side::Client);
        let is_renewed = match self.patience {
            Patience::Idle | Patience::Remains => true,
            Patience::Greeting => is_answering(),
            Patience::Parting => at < self.heard_until,
            _ => false,
        };
        if is_renewed {
            self.since = self.since.max(at);
        }
    }

    /// Something has come. Who sends on while it does not take what it is told before it is left gains no time by that.
    pub(super) fn on_came(&mut self, at: Time) {
        if !self.conn.is_parting() || self.patience == Patience::Parting {
            self.on_moved(at);
        }
    }

    /// The client has a server, or does not wait for one any more.
    pub(super) fn stop_waiting(&mut self) {
        if self.wait.take().is_some() {
            self.counters.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The server has sent something for the client.
    pub(super) fn on_heard(&mut self, now: u64, shard: usize) {
        if !self.is_answered {
            self.is_answered = true;
            if let Some(endpoint) = &self.endpoint {
                endpoint.load.resets.end();
            }
        }
        self.measure(Event::Answered, now, shard);
    }

    /// Takes note of what tells how long the server takes; `now` is in microseconds.
    pub(super) fn measure(&mut self, event: Event, now: u64, shard: usize) {
        let failure = u64::from(self.connect_timeout) * 1_000;
        let Some(finding) = self.stopwatch.on(event, now, failure) else { return };
        self.note(|visit| visit.on_found(finding));
        let Some(endpoint) = &self.endpoint else { return };
        let (counters, latency) = (&endpoint.load.shards[shard], endpoint.load.latency());
        let (taken, timings, average) = match finding {
            Finding::Connect(taken) => (taken, &counters.connect, &latency.connect),
            Finding::FirstByte(taken) => (taken, &counters.first_byte, &latency.first_byte),
        };
        taken.into_iter().for_each(|taken| timings.record(now, taken));
        if self.needs_latency {
            // A failure counts as long as a server may take to connect. Nothing counts longer, so that no client can give
            // a server a worse name than a failure does.
            average.record(now, taken.unwrap_or(failure).min(failure));
        }
    }

    fn begin_patience(&mut self, now: Time) {
        let patience = self.current_patience();
        if patience == Patience::Parting && self.patience != Patience::Parting {
            self.heard_until = now + PARTING_MAX;
        }
        self.patience = patience;
        self.since = now;
    }

    /// How long the present patience lasts, in milliseconds.
    pub(super) fn limit(&self) -> u32 {
        match self.patience {
            Patience::Greeting => self.greeting_timeout,
            Patience::Connect => self.connect_limit,
            Patience::Server => {
                let until = self.wait.map_or(0, |wait| wait.until);
                u32::try_from(until.saturating_sub(self.since)).unwrap_or(u32::MAX)
            }
            Patience::Answer => self.response_timeout,
            Patience::Idle => self.idle_timeout,
            Patience::Remains if self.conn.has_lost(Side::Client) => self.idle_timeout.min(CLIENTS_REMAINS_PATIENCE),
            Patience::Remains => self.idle_timeout.min(SERVERS_REMAINS_PATIENCE),
            Patience::Parting => PARTING_PATIENCE,
            Patience::Cancel => CANCEL_PATIENCE,
        }
    }

    /// When the timer should look first.
    fn next_look(&self) -> u32 {
        match self.patience {
            Patience::Idle if !self.is_kept_alive => self.idle_timeout.min(KEEPALIVE_AFTER),
            _ => self.limit(),
        }
    }

    /// Which patience the connection is on.
    fn current_patience(&self) -> Patience {
        match self.conn.patience() {
            Patience::Idle if self.awaits_answer() => Patience::Answer,
            patience => patience,
        }
    }

    /// Whether all of a request has gone to a server that has not begun to answer.
    fn awaits_answer(&self) -> bool {
        let awaits = |exchange: &Exchange| exchange.is_asked_whole() && !exchange.has_begun();
        self.exchange().is_some_and(awaits) && self.conn.is_relaying()
    }

    fn on_long_lived(&mut self) {
        if self.patience == Patience::Idle
            && !self.is_kept_alive
            && let Some(server) = &self.server
        {
            self.is_kept_alive = true;
            close::keep_alive(server);
        }
    }
}

/// How long a client that was just accepted may take for what it has to say first, in milliseconds.
fn greeting_timeout(frontend: &Frontend) -> u32 {
    let of_handshake = |greeting: &Arc<Greeting>| greeting.config.handshake_timeout().as_millis();
    match frontend.http.is_spoken && !frontend.http.is_tls {
        true => frontend.http.header_timeout.as_millis(),
        false => frontend.greeting.as_ref().map_or(0, of_handshake),
    }
}
