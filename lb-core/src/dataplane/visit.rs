//! What is recorded of a connection, or of one request after the other, while it goes on: only where access records are wanted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::relay::Side;
use super::shard::{Session, Shard, Turn};
use super::stopwatch::Finding;
use crate::access::{AccessEnd, AccessRecord, AccessRequest, AccessTls};
use crate::config::Name;
use crate::http::Cause;
use crate::sys::socket;
use crate::table::{Endpoint, Frontend};
use crate::turns::slots::Key;

/// A connection, or its present request. Times are in microseconds.
pub(super) struct Visit {
    /// By the name it had when the connection came.
    frontend: Name,
    began: u64,
    tries: u32,
    /// The last server that was tried, by the name it had then.
    server: Option<Name>,
    server_addr: Option<SocketAddr>,
    until_server: Option<u64>,
    connect: Option<u64>,
    first_byte: Option<u64>,
    /// By the side they went to.
    bytes: [u64; 2],
    /// The first reason why it ended otherwise than in order.
    end: Option<AccessEnd>,
    tls: Option<AccessTls>,
    request: Option<AccessRequest>,
    /// When all of the answer was there, the server's or ours, which may be on its way to the client yet; or when it was cut.
    answered: Option<u64>,
    /// Whether requests of it were recorded.
    is_told: bool,
}

impl Visit {
    pub(super) fn new(frontend: &Name, now: u64) -> Self {
        Self {
            frontend: frontend.clone(),
            began: now,
            tries: 0,
            server: None,
            server_addr: None,
            until_server: None,
            connect: None,
            first_byte: None,
            bytes: [0; 2],
            end: None,
            tls: None,
            request: None,
            answered: None,
            is_told: false,
        }
    }

    /// The same connection before its next request.
    fn next(&self, now: u64) -> Self {
        Self { tls: self.tls.clone(), ..Self::new(&self.frontend, now) }
    }

    /// A server is tried.
    pub(super) fn on_try(&mut self, frontend: &Frontend, server: &Arc<Endpoint>) {
        self.tries += 1;
        // How an earlier one has failed is over.
        self.end = None;
        self.server = frontend.name_of(server).cloned();
        self.server_addr = Some(server.addr);
    }

    /// The same is asked again: what has become of it before does not count.
    pub(super) fn on_repeat(&mut self) {
        self.end = None;
    }

    /// The server has taken it.
    pub(super) fn on_served(&mut self, now: u64) {
        self.until_server = Some(now - self.began);
    }

    pub(super) fn on_found(&mut self, finding: Finding) {
        match finding {
            Finding::Connect(taken) => self.connect = taken,
            Finding::FirstByte(taken) => self.first_byte = taken,
        }
    }

    pub(super) fn on_bytes(&mut self, sink: Side, bytes: u64) {
        self.bytes[sink as usize] += bytes;
    }

    pub(super) fn on_tls(&mut self, tls: Option<AccessTls>) {
        self.tls = tls;
    }

    /// It ends like this, unless it was about to end otherwise already.
    pub(super) fn on_end(&mut self, end: AccessEnd) {
        self.end.get_or_insert(end);
    }

    /// A request has come.
    pub(super) fn on_request(&mut self, now: u64, request: AccessRequest) {
        *self = Self { request: Some(request), ..self.next(now) };
    }

    /// The request goes to a server, over a connection that has served before if `is_used`.
    pub(super) fn on_open(&mut self, is_used: bool) {
        if let Some(request) = &mut self.request {
            request.reused = is_used;
        }
    }

    /// A server has answered.
    pub(super) fn on_status(&mut self, status: u16) {
        if let Some(request) = &mut self.request {
            request.status = Some(status);
        }
    }

    /// All of the answer is there.
    pub(super) fn on_answered(&mut self, now: u64) {
        self.answered = Some(now);
    }

    /// The request is answered by us, or cut. How long the client takes to leave after that is not its time.
    pub(super) fn on_refused(&mut self, cause: Cause, is_told: bool, now: u64) {
        self.answered = Some(now);
        self.on_end(match cause {
            Cause::HeadTimeout | Cause::BodyTimeout | Cause::ResponseTimeout => AccessEnd::Timeout,
            Cause::NoServer => AccessEnd::Unserved,
            Cause::ServerFailed if self.until_server.is_none() => AccessEnd::Unserved,
            Cause::ServerFailed | Cause::BadResponse => AccessEnd::Server,
            _ => AccessEnd::Refused,
        });
        let request = self.request.get_or_insert_default();
        request.cause = Some(cause);
        if is_told {
            request.status = Some(cause.status());
        }
    }
}

impl Session {
    /// Takes note for the access record, if there is to be one.
    pub(super) fn note(&mut self, what: impl FnOnce(&mut Visit)) {
        if let Some(visit) = &mut self.visit {
            what(visit);
        }
    }

    /// Takes note that a peer is gone. A server that has answered whole may be.
    pub(super) fn note_gone(&mut self, peer: Side) {
        let end = match peer {
            Side::Client => AccessEnd::Client,
            Side::Server if self.exchange().is_some_and(|exchange| exchange.is_answered_whole()) => return,
            Side::Server => AccessEnd::Server,
        };
        self.note(|visit| visit.on_end(end));
    }

    /// Whether the present request is over, and not recorded yet.
    pub(super) fn is_to_be_recorded(&self) -> bool {
        self.visit.as_ref().is_some_and(|visit| visit.answered.is_some())
    }

    fn full_client_addr(&self) -> Option<SocketAddr> {
        let proxied = self.layers.as_ref().and_then(|layers| layers.proxied()).map(|(source, _)| source);
        proxied.or_else(|| socket::peer_addr(&self.client).ok())
    }
}

impl Shard {
    /// Records the request that is answered, if the client has got all of it.
    pub(super) fn record_answered(&mut self, key: Key, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if !session.is_to_be_recorded() || session.conn.is_delivering(Side::Client) {
            return;
        }
        let Some(visit) = &mut session.visit else { return };
        let next = Visit { is_told: true, ..visit.next(self.now_micros) };
        let told = std::mem::replace(&mut **visit, next);
        let client = session.full_client_addr();
        self.record(told, client, turn);
    }

    /// Records a connection that is over, or the request that it ended amid.
    pub(super) fn record_last(&self, session: &mut Session, turn: &Turn<'_>) {
        let Some(visit) = session.visit.take().filter(|visit| !visit.is_told || visit.request.is_some()) else {
            return;
        };
        self.record(*visit, session.full_client_addr(), turn);
    }

    fn record(&self, visit: Visit, client: Option<SocketAddr>, turn: &Turn<'_>) {
        let until = visit.answered.unwrap_or(self.now_micros);
        let age = Duration::from_micros(self.now_micros - visit.began);
        let [bytes_to_client, bytes_to_server] = visit.bytes;
        // Who is nobody's fault and was never served has left before that.
        let default = if visit.until_server.is_some() { AccessEnd::Done } else { AccessEnd::Client };
        let record = AccessRecord {
            began: SystemTime::now() - age,
            shard: self.number,
            frontend: visit.frontend,
            client,
            server: visit.server,
            server_addr: visit.server_addr,
            tries: visit.tries,
            until_server: visit.until_server.map(Duration::from_micros),
            connect: visit.connect.map(Duration::from_micros),
            first_byte: visit.first_byte.map(Duration::from_micros),
            duration: Duration::from_micros(until - visit.began),
            bytes_to_server,
            bytes_to_client,
            end: visit.end.unwrap_or(default),
            tls: visit.tls,
            request: visit.request,
        };
        turn.shared.access.put(self.number, record);
    }
}
