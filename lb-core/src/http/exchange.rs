//! One client's requests, one after the other, and the answers to them. Pure: bytes in, bytes out, no socket, no clock.
//!
//! A request's head is read and rewritten before a server is chosen; what follows of it is kept until there is one.
//! Then bodies stream through, and what frames them is written anew, so that no two parsers can read it differently.

use std::net::IpAddr;
use std::sync::Arc;

use super::body::{Body, Broken, Emit, Joined};
use super::{
    Cause, Chunked, Fields, Framing, Limits, Method, Request, Response, Version, Wrong, cookie, request, response,
    write,
};
use crate::access::AccessRequest;
use crate::dataplane::Side;
use crate::table::http::Http;
use crate::table::persistence::{CookieMode, CookiePersistence, Persistence};
use crate::tls::session::Failed;
use crate::turns::timers::Time;

/// Most bytes of a request, beside its head, that are kept until there is a server, and of requests that follow.
const KEPT_MAX: usize = 64 << 10;
/// Most bytes of a request's target, and of its host, in an access record.
const RECORDED_MAX: usize = 1 << 10;
/// The limits of what servers answer.
const ANSWER: Limits = Limits { line: 16 << 10, fields: 128, head: 64 << 10 };
/// Memory that a connection keeps between two requests.
const IDLE_MEMORY_MAX: usize = 2 << 10;

/// By what a request's head is read and rewritten.
pub(crate) struct Asker<'a> {
    /// The settings of the frontend.
    pub(crate) http: &'a Http,
    pub(crate) persistence: Option<&'a Persistence>,
    /// Where the client comes from, if that is to be told.
    pub(crate) client: Option<IpAddr>,
    /// Whether it speaks TLS with us.
    pub(crate) is_tls: bool,
    /// No further request is taken on this connection.
    pub(crate) is_last: bool,
    /// Whether the request is kept for its access record.
    pub(crate) is_recorded: bool,
    pub(crate) now: Time,
}

/// How far one direction is.
#[derive(Debug)]
enum Reading {
    /// Its head is awaited.
    Head,
    Body(Body),
    /// All of it has come.
    Done,
}

/// What the end of the server's side means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerEnd {
    /// The answer's, in order.
    Complete,
    /// The server has not answered at all.
    NoAnswer,
    /// The answer is cut short.
    Truncated,
}

/// What a connection's request and its answer have come to.
pub(crate) struct Exchange {
    limits: Limits,
    /// Of the client, and not read yet: an unfinished head, and what comes after the present request.
    heard: Vec<u8>,
    /// How much of that belongs to earlier requests: taking it out each time would move the rest as often.
    done: usize,
    /// How much of what follows was searched for the end of a head.
    searched: usize,
    /// The request as it goes to the server, until there is one, and for as long as it might have to be said again. After that
    /// it is where what goes out is put together.
    made: Vec<u8>,
    /// Of the server, and not read yet: an unfinished head or trailer line.
    answered: Vec<u8>,
    request: Reading,
    answer: Reading,
    method: Method,
    is_http10: bool,
    /// Whether the client may send another request when this one is answered.
    keeps_client: bool,
    /// Whether the server's connection can be used again.
    keeps_server: bool,
    wants_upgrade: bool,
    /// Whether the server is asked in HTTP/1.0, after which it may close without a word.
    is_old: bool,
    /// Whether both have agreed on another protocol.
    is_tunnel: bool,
    /// Whether there is a server that takes bytes.
    is_open: bool,
    /// Whether its connection has served before.
    is_used: bool,
    /// Whether what was sent may be sent again, to a server that has not answered.
    may_repeat: bool,
    /// Whether the server has sent anything.
    is_answered: bool,
    /// Whether what has come of the request is known not to have gone to the server whole.
    is_behind: bool,
    /// Whether the client has got anything of the final answer.
    has_begun: bool,
    has_client_ended: bool,
    has_asked: bool,
    /// Whether an earlier request of the client's was answered.
    has_served: bool,
    /// The server that the client's cookie names.
    wanted: Option<u64>,
    /// The cookie that the client gets with the answer.
    set_cookie: Vec<u8>,
    /// The application's cookie that is learned from the answer, and what was learned.
    learns: Option<Arc<str>>,
    learned: Option<Vec<u8>>,
    status: u16,
    /// The request for its access record, if there is to be one.
    recorded: Option<Box<AccessRequest>>,
    /// What was wrong, and with whom.
    wrong: Option<(Side, Wrong)>,
}

impl Exchange {
    /// Before the first request.
    pub(crate) fn new() -> Self {
        Self {
            limits: ANSWER,
            heard: Vec::new(),
            done: 0,
            searched: 0,
            made: Vec::new(),
            answered: Vec::new(),
            request: Reading::Head,
            answer: Reading::Head,
            method: Method::Other,
            is_http10: false,
            keeps_client: true,
            keeps_server: true,
            wants_upgrade: false,
            is_old: false,
            is_tunnel: false,
            is_open: false,
            is_used: false,
            may_repeat: false,
            is_answered: false,
            is_behind: false,
            has_begun: false,
            has_client_ended: false,
            has_asked: false,
            has_served: false,
            wanted: None,
            set_cookie: Vec::new(),
            learns: None,
            learned: None,
            status: 0,
            recorded: None,
            wrong: None,
        }
    }

    /// Takes what the client has sent.
    pub(crate) fn hear(&mut self, bytes: &[u8], emit: &mut Emit<'_>) -> Result<(), Failed> {
        if self.wrong.is_some() {
            return Ok(());
        }
        if !self.has_heard() || !matches!(self.request, Reading::Body(_)) {
            let read = self.read_body(bytes, emit)?;
            self.heard.extend_from_slice(&bytes[read..]);
            return Ok(());
        }
        // A trailer line that was not whole.
        let mut heard = std::mem::take(&mut self.heard);
        heard.extend_from_slice(bytes);
        let read = self.read_body(&heard[self.done..], emit)?;
        self.heard = heard;
        self.pass_over(read);
        Ok(())
    }

    fn has_heard(&self) -> bool {
        self.heard.len() > self.done
    }

    /// So many bytes of what was heard are read.
    fn pass_over(&mut self, read: usize) {
        self.done += read;
        if self.done * 2 >= self.heard.len() {
            self.heard.drain(..self.done);
            self.done = 0;
        }
    }

    /// Reads what belongs to the request's body, and gives how much that is.
    fn read_body(&mut self, bytes: &[u8], emit: &mut Emit<'_>) -> Result<usize, Failed> {
        let Reading::Body(body) = &mut self.request else { return Ok(0) };
        let is_open = self.is_open;
        let mut out = Joined { made: &mut self.made, emit: is_open.then_some(emit) };
        match body.read(bytes, true, &mut out) {
            Ok((read, is_done)) => {
                if is_done {
                    self.request = Reading::Done;
                }
                out.flush()?;
                Ok(read)
            }
            Err(Broken::Wrong(wrong)) => {
                self.wrong = Some((Side::Client, wrong));
                Ok(bytes.len())
            }
            Err(Broken::Failed(failed)) => Err(failed),
        }
    }

    /// Reads the head of the next request, if all of it has come. True if it has.
    ///
    /// # Errors
    /// It is wrong: the client is to be told, and its connection closed.
    pub(crate) fn ask(&mut self, asker: &Asker<'_>) -> Result<bool, Wrong> {
        self.limits = asker.http.limits;
        if !self.has_heard() {
            return Ok(false);
        }
        let heard = std::mem::take(&mut self.heard);
        let asked = self.read_head(&heard[self.done..], asker);
        if let Ok(Some(head)) = asked {
            self.has_asked = true;
            // Nothing goes out as long as there is no server.
            let body = self.read_body(&heard[self.done + head..], &mut |_| Ok(())).unwrap_or(0);
            self.heard = heard;
            self.pass_over(head + body);
            self.searched = 0;
        } else {
            self.heard = heard;
        }
        if asked?.is_none() {
            return Ok(false);
        }
        match self.wrong.take() {
            Some((_, wrong)) => Err(wrong),
            None => Ok(true),
        }
    }

    /// Gives the length of the head, if all of it is there.
    fn read_head(&mut self, heard: &[u8], asker: &Asker<'_>) -> Result<Option<usize>, Wrong> {
        if super::end(heard, self.searched).is_none() && heard.len() <= self.limits.head as usize {
            // A line that is too long already is told so at once.
            let line = self.limits.line as usize;
            let is_short = heard.len() <= line || heard[..line].contains(&b'\n');
            if is_short {
                self.searched = heard.len();
                return Ok(None);
            }
        }
        let mut fields = Fields::new();
        let Some((request, length)) = request::read(heard, &self.limits, &mut fields)? else { return Ok(None) };
        self.begin(&request, asker);
        Ok(Some(length))
    }

    fn begin(&mut self, request: &Request<'_, '_>, asker: &Asker<'_>) {
        self.method = request.method;
        self.is_http10 = request.version == Version::Http10;
        self.keeps_client = request.connection.persists(request.version) && !asker.is_last;
        self.wants_upgrade = request.upgrade.is_some();
        self.is_old = request.host.is_none();
        self.request = match request.framing {
            Framing::None | Framing::Length(0) | Framing::UntilClose => Reading::Done,
            Framing::Length(length) => Reading::Body(Body::Length(length)),
            Framing::Chunked => Reading::Body(Body::Chunked(Chunked::new(&self.limits))),
        };
        self.recorded = asker.is_recorded.then(|| Box::new(recorded(request)));
        self.may_repeat =
            matches!(self.request, Reading::Done) && request.method.is_idempotent() && !self.wants_upgrade;
        let cookies = asker.persistence.and_then(|persistence| Some((persistence, persistence.cookie.as_ref()?)));
        self.wanted = cookies.and_then(|(persistence, settings)| wanted(request, persistence, settings, asker.now));
        self.made.clear();
        write::request(request, asker, cookies.map(|(_, settings)| settings), &mut self.made);
    }

    /// The request for its access record.
    pub(crate) fn take_recorded(&mut self) -> AccessRequest {
        self.recorded.take().map_or_else(AccessRequest::default, |recorded| *recorded)
    }

    /// There is a server now, which the request goes to; `is_used` tells that its connection has served before.
    pub(crate) fn open(&mut self, is_used: bool, emit: &mut Emit<'_>) -> Result<(), Failed> {
        (self.is_open, self.is_used) = (true, is_used);
        self.keeps_server = !self.is_old;
        self.may_repeat &= is_used;
        emit(&self.made)?;
        if !self.may_repeat {
            self.made.clear();
        }
        Ok(())
    }

    /// The server was given up before it has answered: what was to be said is said to the next one.
    pub(crate) fn close(&mut self) {
        (self.is_open, self.keeps_server) = (false, true);
        self.answered.clear();
    }

    /// The request goes to this server: the client is told by a cookie, if there are any and it has not this one already.
    pub(crate) fn assign(&mut self, server: u64, persistence: Option<&Persistence>) {
        self.set_cookie.clear();
        self.learns = None;
        match persistence.and_then(|persistence| persistence.cookie.as_ref()).map(|cookie| (cookie, &cookie.mode)) {
            Some((_, CookieMode::Insert { before, after, values })) if self.wanted != Some(server) => {
                if let Some(value) = values.get(&server) {
                    [before, &value[..], after].iter().for_each(|part| self.set_cookie.extend_from_slice(part));
                }
            }
            Some((cookie, CookieMode::Passive(_))) => self.learns = Some(Arc::clone(&cookie.name)),
            _ => {}
        }
    }

    /// Whether bytes of the request are known not to have gone to the server yet when it sends what comes next.
    pub(crate) fn set_behind(&mut self, is_behind: bool) {
        self.is_behind = is_behind;
    }

    /// Takes what the server has sent.
    pub(crate) fn answer(&mut self, bytes: &[u8], emit: &mut Emit<'_>) -> Result<(), Failed> {
        if !self.is_answered && !bytes.is_empty() {
            (self.is_answered, self.may_repeat) = (true, false);
            self.made.clear();
        }
        if !matches!(self.answer, Reading::Body(_)) || self.answered.is_empty() {
            return self.read_answer(bytes, emit);
        }
        // A trailer line that was not whole.
        let mut answered = std::mem::take(&mut self.answered);
        answered.extend_from_slice(bytes);
        self.read_answer(&answered, emit)
    }

    fn read_answer(&mut self, mut bytes: &[u8], emit: &mut Emit<'_>) -> Result<(), Failed> {
        while !bytes.is_empty() && self.wrong.is_none() {
            let read = match &mut self.answer {
                _ if self.is_tunnel => {
                    Joined { made: &mut self.made, emit: Some(emit) }.put(bytes)?;
                    break;
                }
                Reading::Head => self.answer_head(bytes),
                Reading::Body(body) => {
                    let mut out = Joined { made: &mut self.made, emit: Some(emit) };
                    match body.read(bytes, !self.is_http10, &mut out) {
                        Ok((read, true)) => {
                            self.answer = Reading::Done;
                            Ok(read)
                        }
                        Ok((read, false)) => {
                            self.answered.extend_from_slice(&bytes[read..]);
                            Ok(bytes.len())
                        }
                        Err(Broken::Wrong(wrong)) => Err(wrong),
                        Err(Broken::Failed(failed)) => return Err(failed),
                    }
                }
                Reading::Done => {
                    self.on_excess();
                    break;
                }
            };
            match read {
                Ok(read) => bytes = &bytes[read..],
                Err(wrong) => self.wrong = Some((Side::Server, wrong)),
            }
        }
        Joined { made: &mut self.made, emit: Some(emit) }.flush()
    }

    fn answer_head(&mut self, bytes: &[u8]) -> Result<usize, Wrong> {
        let mut answered = std::mem::take(&mut self.answered);
        let before = answered.len();
        let whole = if before == 0 {
            bytes
        } else {
            answered.extend_from_slice(bytes);
            &answered
        };
        let mut fields = Fields::new();
        match response::read(whole, &ANSWER, self.method, &mut fields)? {
            Some((response, length)) => {
                self.begin_answer(&response)?;
                Ok(length - before)
            }
            None => {
                if before == 0 {
                    answered.extend_from_slice(bytes);
                }
                self.answered = answered;
                Ok(bytes.len())
            }
        }
    }

    fn begin_answer(&mut self, response: &Response<'_, '_>) -> Result<(), Wrong> {
        match response.status {
            101 if self.wants_upgrade && response.upgrade.is_some() => {
                self.is_tunnel = true;
                self.keeps_server = false;
            }
            101 => return Err(Wrong { cause: Cause::BadResponse, reason: "it switches protocols unasked" }),
            100..200 if self.is_http10 => return Ok(()),
            100..200 => {
                write::interim(response, &mut self.made);
                return Ok(());
            }
            _ => {}
        }
        self.status = response.status;
        self.has_begun = true;
        let is_until_close = response.framing == Framing::UntilClose;
        self.keeps_server &= response.connection.persists(response.version) && !is_until_close;
        let is_unframed = is_until_close || self.is_http10 && matches!(response.framing, Framing::Chunked);
        // One that answers before it has heard all is not told the rest.
        self.keeps_client &= !is_unframed && !self.is_tunnel && self.is_asked_whole() && !self.is_behind;
        if let Some(name) = &self.learns {
            let mut set = response.fields.iter().filter(|field| field.name.eq_ignore_ascii_case("set-cookie"));
            self.learned = set.find_map(|field| cookie::set_by(field.value, name)).map(<[u8]>::to_vec);
        }
        let client = write::Client { is_http10: self.is_http10, keeps: self.keeps_client };
        write::response(response, &client, &self.set_cookie, &mut self.made);
        self.answer = match response.framing {
            _ if self.is_tunnel => Reading::Done,
            Framing::None | Framing::Length(0) => Reading::Done,
            Framing::Length(length) => Reading::Body(Body::Length(length)),
            Framing::Chunked => Reading::Body(Body::Chunked(Chunked::new(&ANSWER))),
            Framing::UntilClose => Reading::Body(Body::UntilClose),
        };
        Ok(())
    }

    /// The server sends nothing more: it has ended its side, or `is_reset`.
    pub(crate) fn on_server_end(&mut self, is_reset: bool) -> ServerEnd {
        self.keeps_server = false;
        match &self.answer {
            Reading::Done => ServerEnd::Complete,
            Reading::Body(Body::UntilClose) if !is_reset => {
                self.answer = Reading::Done;
                ServerEnd::Complete
            }
            _ if self.has_begun => ServerEnd::Truncated,
            _ => ServerEnd::NoAnswer,
        }
    }

    /// No further request is taken: the client is told so with the answer, unless that has begun.
    pub(crate) fn be_last(&mut self) {
        self.keeps_client = false;
    }

    /// The client sends nothing more.
    pub(crate) fn on_client_end(&mut self) {
        self.has_client_ended = true;
    }

    /// How many bytes that come from a peer next may be passed on as they are.
    pub(crate) fn passes(&self, source: Side) -> u64 {
        let reading = match source {
            Side::Client if !self.is_open => return 0,
            Side::Client => &self.request,
            Side::Server => &self.answer,
        };
        match reading {
            Reading::Body(Body::Length(left)) => *left,
            Reading::Body(Body::UntilClose) => u64::MAX,
            _ => 0,
        }
    }

    /// So many were.
    pub(crate) fn on_passed(&mut self, source: Side, bytes: u64) {
        let reading = match source {
            Side::Client => &mut self.request,
            Side::Server => &mut self.answer,
        };
        if let Reading::Body(Body::Length(left)) = reading {
            *left = left.saturating_sub(bytes);
            if *left == 0 {
                *reading = Reading::Done;
            }
        }
    }

    /// The server has sent more than it was asked for: nobody may get to see that, and nothing more is asked of it.
    pub(crate) fn on_excess(&mut self) {
        self.keeps_server = false;
    }

    /// Whether the request is answered.
    pub(crate) fn is_answered_whole(&self) -> bool {
        matches!(self.answer, Reading::Done)
    }

    /// Whether the client has got the head of the answer, and not all of its body.
    pub(crate) fn is_amid_answer(&self) -> bool {
        matches!(self.answer, Reading::Body(_))
    }

    /// Whether all of the request has come.
    pub(crate) fn is_asked_whole(&self) -> bool {
        matches!(self.request, Reading::Done)
    }

    /// Whether the connection goes on in another protocol: nothing of it is read here any more.
    pub(crate) fn is_tunnel(&self) -> bool {
        self.is_tunnel
    }

    /// What has come of the client after its wish for another protocol.
    pub(crate) fn take_heard(&mut self) -> Vec<u8> {
        self.heard.drain(..std::mem::take(&mut self.done));
        std::mem::take(&mut self.heard)
    }

    /// Forgets the request that was answered: the next one may come.
    pub(crate) fn renew(&mut self) {
        (self.request, self.answer) = (Reading::Head, Reading::Head);
        (self.is_open, self.may_repeat, self.is_answered, self.has_begun) = (false, false, false, false);
        (self.keeps_server, self.has_served) = (true, true);
        (self.wanted, self.learns, self.learned, self.has_asked) = (None, None, None, false);
        self.set_cookie.clear();
        self.made.clear();
        for kept in [&mut self.made, &mut self.heard, &mut self.answered] {
            // There may be an empty line left.
            if kept.len() <= 2 && kept.capacity() > IDLE_MEMORY_MAX {
                kept.shrink_to_fit();
            }
        }
    }

    /// Whether no more of the client's should be received.
    pub(crate) fn is_full(&self) -> bool {
        let kept = if self.is_open { 0 } else { self.made.len() };
        self.has_client_ended || kept.max(self.heard.len() - self.done) > KEPT_MAX + self.limits.head as usize
    }

    /// Whether a request's head was read whose exchange is not over.
    pub(crate) fn has_asked(&self) -> bool {
        self.has_asked
    }

    /// Whether nothing of a request has come. Some clients send an empty line behind a body (RFC 9112, section 2.2).
    pub(crate) fn is_idle(&self) -> bool {
        !self.has_asked && matches!(self.heard[self.done..], [] | [b'\r'] | [b'\r', b'\n'])
    }

    /// Whether nothing of a request has come, and an earlier one was answered: the client has to reckon with our end.
    pub(crate) fn is_between_requests(&self) -> bool {
        self.has_served && self.is_idle()
    }

    /// Whether what was said to the server may be said again to another connection.
    pub(crate) fn may_repeat(&self) -> bool {
        self.may_repeat && !self.is_answered
    }

    /// Whether the client wants another protocol.
    pub(crate) fn wants_upgrade(&self) -> bool {
        self.wants_upgrade
    }

    /// Whether the server's connection has served before.
    pub(crate) fn is_used(&self) -> bool {
        self.is_used
    }

    /// Whether the client has got anything of the final answer.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun
    }

    pub(crate) fn has_client_ended(&self) -> bool {
        self.has_client_ended
    }

    /// Whether the client may ask again.
    pub(crate) fn keeps_client(&self) -> bool {
        self.keeps_client && self.is_asked_whole()
    }

    /// Whether the server's connection can serve again.
    pub(crate) fn keeps_server(&self) -> bool {
        self.keeps_server && self.is_asked_whole() && self.is_answered_whole()
    }

    /// The server that the client's cookie names.
    pub(crate) fn wanted(&self) -> Option<u64> {
        self.wanted
    }

    /// The value of the application's cookie that came with the answer.
    pub(crate) fn take_learned(&mut self) -> Option<Vec<u8>> {
        self.learned.take()
    }

    /// The status of the answer.
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// What was wrong since it was last asked, and with whom.
    pub(crate) fn take_wrong(&mut self) -> Option<(Side, Wrong)> {
        self.wrong.take()
    }

    /// What the client is told in place of an answer, after which its connection is closed.
    pub(crate) fn refusal(&mut self, wrong: Wrong) -> &[u8] {
        self.keeps_client = false;
        self.has_begun = true;
        self.made.clear();
        write::refusal(wrong, self.has_asked && self.method == Method::Head, &mut self.made);
        &self.made
    }
}

/// The server that the cookies of a request name.
fn wanted(
    request: &Request<'_, '_>,
    persistence: &Persistence,
    settings: &CookiePersistence,
    now: Time,
) -> Option<u64> {
    let mut cookies = request.fields.iter().filter(|field| field.name.eq_ignore_ascii_case("cookie"));
    let value = cookies.find_map(|field| cookie::find(field.value, &settings.name))?;
    persistence.by_cookie(value, now).map(|stay| stay.endpoint.load.id)
}

/// A request as its access record tells of it.
fn recorded(request: &Request<'_, '_>) -> AccessRequest {
    let cut = |text: &str| text[..text.floor_char_boundary(RECORDED_MAX)].into();
    AccessRequest {
        method: cut(request.method_name),
        target: cut(request.target),
        host: request.host.map(|host| cut(&String::from_utf8_lossy(host))),
        ..AccessRequest::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Bind, HttpSettings, Protocol};

    fn http() -> Http {
        let bind = Bind::Addr(([127, 0, 0, 1], 80).into());
        let settings = HttpSettings::default().with_forwarded(false, false);
        let frontend = config::Frontend::new("web", bind).unwrap().with_protocol(Protocol::Http).with_http(settings);
        Http::of(&frontend)
    }

    fn ask(exchange: &mut Exchange) -> Result<bool, Wrong> {
        exchange.ask(&Asker {
            http: &http(),
            persistence: None,
            client: None,
            is_tls: false,
            is_last: false,
            is_recorded: false,
            now: 0,
        })
    }

    /// What goes to the server of a request that comes in these parts, and what is left of what came.
    fn request(parts: &[&[u8]]) -> (Exchange, Vec<u8>) {
        let (mut exchange, mut sent) = (Exchange::new(), Vec::new());
        for part in parts {
            let mut emit = |bytes: &[u8]| {
                sent.extend_from_slice(bytes);
                Ok(())
            };
            exchange.hear(part, &mut emit).unwrap();
            if !exchange.has_asked() && ask(&mut exchange).unwrap() {
                exchange.open(false, &mut emit).unwrap();
            }
        }
        (exchange, sent)
    }

    /// What goes to the client of an answer that comes in these parts.
    fn answer(to: &[u8], parts: &[&[u8]]) -> (Exchange, Vec<u8>) {
        let (mut exchange, _) = request(&[to]);
        let mut sent = Vec::new();
        for part in parts {
            let mut emit = |bytes: &[u8]| {
                sent.extend_from_slice(bytes);
                Ok(())
            };
            exchange.answer(part, &mut emit).unwrap();
        }
        (exchange, sent)
    }

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn a_request_in_chunks_with_trailers_is_the_same_however_it_is_split() {
        let came =
            b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n";
        let goes =
            b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n";
        let both = [&came[..], GET].concat();
        for first in 0..both.len() {
            for second in first..both.len() {
                let (exchange, sent) = request(&[&both[..first], &both[first..second], &both[second..]]);
                assert_eq!(String::from_utf8_lossy(&sent), String::from_utf8_lossy(goes), "{first} {second}");
                assert!(exchange.is_asked_whole());
                assert_eq!(&exchange.heard[exchange.done..], GET, "the next one waits");
            }
        }
    }

    #[test]
    fn an_answer_in_chunks_with_trailers_is_the_same_however_it_is_split() {
        let came = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n";
        let goes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n";
        for first in 0..came.len() {
            for second in first..came.len() {
                let (exchange, sent) = answer(GET, &[&came[..first], &came[first..second], &came[second..]]);
                assert_eq!(String::from_utf8_lossy(&sent), String::from_utf8_lossy(goes), "{first} {second}");
                assert!(exchange.keeps_client() && exchange.keeps_server());
            }
        }
    }

    #[test]
    fn what_a_server_sends_beyond_its_answer_goes_to_nobody_and_ends_its_connection() {
        let (exchange, sent) = answer(GET, &[b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n"]);
        assert_eq!(String::from_utf8_lossy(&sent), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        assert!(exchange.keeps_client() && !exchange.keeps_server());
        let (exchange, _) =
            answer(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", &[b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]);
        assert!(!exchange.keeps_server(), "a body that there must not be");
    }

    #[test]
    fn an_old_client_gets_no_chunks_and_a_close() {
        let came = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: 1\r\n\r\n";
        let (exchange, sent) = answer(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", &[came]);
        assert_eq!(String::from_utf8_lossy(&sent), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc");
        assert!(!exchange.keeps_client());
    }

    #[test]
    fn an_answer_that_ends_too_early_is_told_from_one_that_is_whole() {
        let end = |came: &[u8]| answer(GET, &[came]).0.on_server_end(false);
        assert_eq!(end(b""), ServerEnd::NoAnswer);
        assert_eq!(end(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2"), ServerEnd::NoAnswer);
        assert_eq!(end(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no"), ServerEnd::Truncated);
        assert_eq!(end(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), ServerEnd::Truncated);
        let until_close = b"HTTP/1.1 200 OK\r\n\r\nabc";
        assert_eq!(end(until_close), ServerEnd::Complete);
        assert_eq!(answer(GET, &[until_close]).0.on_server_end(true), ServerEnd::Truncated, "a reset ends nothing");
    }

    #[test]
    fn only_what_may_be_repeated_is() {
        let may_repeat = |request: &[u8], is_used: bool| {
            let mut exchange = Exchange::new();
            exchange.hear(request, &mut |_| Ok(())).unwrap();
            assert!(ask(&mut exchange).unwrap());
            exchange.open(is_used, &mut |_| Ok(())).unwrap();
            exchange.may_repeat()
        };
        assert!(may_repeat(GET, true));
        assert!(!may_repeat(GET, false), "a fresh connection has failed: so may the next");
        assert!(!may_repeat(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", true));
        assert!(!may_repeat(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", true), "its body is gone");
        assert!(!may_repeat(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", true));
    }

    #[test]
    fn what_comes_behind_a_switch_of_protocols_is_passed_on_however_it_is_split() {
        let head = "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        let came = [head.as_bytes(), b"first bytes"].concat();
        let wish = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        for at in 0..came.len() {
            let (exchange, sent) = answer(wish, &[&came[..at], &came[at..]]);
            assert_eq!(String::from_utf8_lossy(&sent), String::from_utf8_lossy(&came), "{at}");
            assert!(exchange.is_tunnel());
        }
    }

    #[test]
    fn a_server_that_switches_protocols_unasked_is_wrong() {
        let (mut exchange, sent) =
            answer(GET, &[b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"]);
        assert!(sent.is_empty() && !exchange.is_tunnel());
        assert!(matches!(exchange.take_wrong(), Some((Side::Server, Wrong { cause: Cause::BadResponse, .. }))));
    }
}
