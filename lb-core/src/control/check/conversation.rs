//! What is said in a check, by kind: pure, without sockets or clock. It is told what was sent and received, and says
//! what is to be sent, and whether the server has passed.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::Target;
use crate::config::{CheckKind, HttpStatus};
use crate::dataplane::greeting::proxy;
use crate::tls::dial::Dialer;

/// Most bytes of an answer that are looked at.
pub(super) const ANSWER_MAX: usize = 16 << 10;
/// Header fields of an interim answer, which are skipped with it.
const FIELDS_MAX: usize = 64;

/// Where a conversation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// There is more to be said or heard.
    More,
    /// The server has passed; why, in one phrase.
    Passed(String),
    /// It has failed; why, in one phrase.
    Failed(String),
}

/// One check's conversation, from the moment on at which the server has accepted the connection.
#[derive(Debug)]
pub(super) struct Conversation {
    /// What was not sent yet.
    outgoing: Vec<u8>,
    script: Script,
    tls: Option<Secured>,
}

#[derive(Debug)]
enum Script {
    /// That it accepts is all.
    Tcp,
    /// A handshake.
    Tls,
    Http {
        answer: Vec<u8>,
        wanted: Option<HttpStatus>,
    },
    Expect {
        answer: Vec<u8>,
        expect: Box<[u8]>,
    },
    /// It has passed, for this reason; the end of TLS is to be sent.
    Leaving(String),
}

/// TLS around a conversation.
#[derive(Debug)]
struct Secured {
    connection: Box<ClientConnection>,
    /// What judges the server's certificate; without it, nobody does.
    dialer: Option<Arc<Dialer>>,
}

impl Conversation {
    /// A conversation with this server. One that is spoken to by TLS is judged by its certificate in every kind but `tcp`; in
    /// one of kind `tls` with any other server its certificate does not matter, and `any` is what it is spoken to with.
    ///
    /// # Errors
    /// rustls can't begin one: says why.
    pub(super) fn new(target: &Target, any: &Arc<ClientConfig>) -> Result<Self, String> {
        let kind = target.check.kind();
        let (request, script) = script(kind, target.addr);
        let mut tls = match (kind, &target.dialer) {
            (CheckKind::Off | CheckKind::Tcp, _) => None,
            (_, Some(dialer)) => Some(Secured::new(dialer.trial(), dialer.name(), Some(dialer))?),
            // No name is indicated: a server name in TLS is never an IP address (RFC 6066, 3).
            (CheckKind::Tls, None) => Some(Secured::new(any, target.addr.ip().into(), None)?),
            (CheckKind::Http { .. } | CheckKind::SendExpect { .. }, None) => None,
        };
        let mut outgoing = Vec::new();
        if !matches!(script, Script::Tcp) {
            proxy::write_local(target.send_proxy, &mut outgoing);
        }
        match &mut tls {
            Some(tls) => tls.say(&request)?,
            None => outgoing.extend_from_slice(&request),
        }
        Ok(Self { outgoing, script, tls })
    }

    /// Where it stands once the server has accepted.
    pub(super) fn on_connected(&mut self) -> Step {
        match &self.script {
            Script::Tcp => Step::Passed("connected".to_owned()),
            _ => self.flush(Step::More),
        }
    }

    /// What is to be sent before anything else happens.
    pub(super) fn outgoing(&self) -> &[u8] {
        &self.outgoing
    }

    /// True unless being accepted was all.
    pub(super) fn has_talked(&self) -> bool {
        !matches!(self.script, Script::Tcp)
    }

    /// So many of the outgoing bytes were sent.
    pub(super) fn on_sent(&mut self, count: usize) -> Step {
        self.outgoing.drain(..count.min(self.outgoing.len()));
        match &self.script {
            Script::Leaving(why) if self.outgoing.is_empty() => Step::Passed(why.clone()),
            _ => Step::More,
        }
    }

    /// The server has sent these.
    pub(super) fn on_received(&mut self, mut bytes: &[u8]) -> Step {
        let Some(tls) = &mut self.tls else { return self.script.on_heard(bytes) };
        while !bytes.is_empty() {
            let heard = match tls.hear(&mut bytes) {
                Ok(heard) => heard,
                Err(reason) => return Step::Failed(reason),
            };
            let step = match &self.script {
                Script::Tls if !tls.connection.is_handshaking() => Step::Passed("TLS handshake completed".to_owned()),
                _ => self.script.on_heard(&heard),
            };
            match step {
                Step::More => {}
                Step::Passed(why) => return self.leave(why),
                Step::Failed(_) => return step,
            }
        }
        self.flush(Step::More)
    }

    /// The server has ended the conversation.
    pub(super) fn on_end(&self) -> Step {
        if self.tls.as_ref().is_some_and(|tls| tls.connection.is_handshaking()) {
            return Step::Failed("closed during the TLS handshake".to_owned());
        }
        Step::Failed(match &self.script {
            Script::Leaving(why) => return Step::Passed(why.clone()),
            Script::Tcp | Script::Tls => "closed".to_owned(),
            Script::Http { answer, .. } | Script::Expect { answer, .. } if answer.is_empty() => {
                "closed without an answer".to_owned()
            }
            Script::Http { .. } => "closed before the end of the status line".to_owned(),
            Script::Expect { .. } => "closed without the expected answer".to_owned(),
        })
    }

    /// Ends our part of TLS, once the server has passed: then it sees no connection that broke off.
    fn leave(&mut self, why: String) -> Step {
        if let Some(tls) = &mut self.tls {
            tls.connection.send_close_notify();
        }
        self.script = Script::Leaving(why);
        self.flush(Step::More)
    }

    /// Takes out what TLS wants to send.
    fn flush(&mut self, step: Step) -> Step {
        let Some(Secured { connection, .. }) = &mut self.tls else { return step };
        while connection.wants_write() {
            if let Err(error) = connection.write_tls(&mut self.outgoing) {
                return Step::Failed(format!("TLS: {error}"));
            }
        }
        step
    }
}

/// What is said first, and what then.
fn script(kind: &CheckKind, addr: SocketAddr) -> (Vec<u8>, Script) {
    match kind {
        CheckKind::Off | CheckKind::Tcp => (Vec::new(), Script::Tcp),
        CheckKind::Tls => (Vec::new(), Script::Tls),
        CheckKind::Http { path, host, status } => {
            let host = host.as_ref().map_or_else(|| addr.to_string(), |host| host.as_str().to_owned());
            (request(path.as_str(), &host), Script::Http { answer: Vec::new(), wanted: *status })
        }
        CheckKind::SendExpect { send, expect } => {
            (send.as_slice().to_vec(), Script::Expect { answer: Vec::new(), expect: expect.as_slice().into() })
        }
    }
}

impl Script {
    /// The server has said this.
    fn on_heard(&mut self, bytes: &[u8]) -> Step {
        match self {
            Self::Tcp | Self::Tls | Self::Leaving(_) => Step::More,
            Self::Http { answer, wanted } => {
                take(answer, bytes);
                read_status(answer, *wanted)
            }
            Self::Expect { answer, expect } => {
                let seen = answer.len();
                take(answer, bytes);
                search(answer, seen, expect)
            }
        }
    }
}

impl Secured {
    fn new(
        config: &Arc<ClientConfig>,
        name: ServerName<'static>,
        dialer: Option<&Arc<Dialer>>,
    ) -> Result<Self, String> {
        let connection = ClientConnection::new(Arc::clone(config), name).map_err(|error| error.to_string())?;
        Ok(Self { connection: Box::new(connection), dialer: dialer.cloned() })
    }

    /// Says this once the handshake is complete.
    fn say(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.connection.set_buffer_limit(None);
        self.connection.writer().write_all(bytes).map_err(|error| format!("TLS: {error}"))
    }

    /// Takes some of the bytes that have come, and gives what the server says in them.
    fn hear(&mut self, bytes: &mut &[u8]) -> Result<Vec<u8>, String> {
        let broken = |error: io::Error| format!("TLS: {error}");
        if self.connection.read_tls(bytes).map_err(broken)? == 0 {
            // After the server's end of TLS nothing counts.
            *bytes = &[];
        }
        let state = self.connection.process_new_packets().map_err(|error| match &self.dialer {
            Some(dialer) => dialer.explain(&error),
            None => format!("TLS: {error}"),
        })?;
        let mut heard = vec![0; state.plaintext_bytes_to_read()];
        self.connection.reader().read_exact(&mut heard).map_err(broken)?;
        Ok(heard)
    }
}

fn request(path: &str, host: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nUser-Agent: lb-check\r\n\r\n").into_bytes()
}

/// Keeps what is looked at of an answer.
fn take(answer: &mut Vec<u8>, bytes: &[u8]) {
    let room = ANSWER_MAX - answer.len();
    answer.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

/// Looks for the status line of the final answer.
fn read_status(answer: &mut Vec<u8>, wanted: Option<HttpStatus>) -> Step {
    loop {
        let status = match status_of(answer) {
            Ok(Some(status)) => status,
            Ok(None) if answer.len() < ANSWER_MAX => return Step::More,
            Ok(None) => return Step::Failed(format!("no status in {} KiB", ANSWER_MAX >> 10)),
            Err(error) => return Step::Failed(format!("not an answer of HTTP/1: {error}")),
        };
        // Interim answers (100, 103) come before the final one (RFC 9110, 15.2). After 101 it is no HTTP any more.
        if (100..200).contains(&status) && status != 101 {
            match length_of_head(answer) {
                Ok(Some(length)) => drop(answer.drain(..length)),
                Ok(None) if answer.len() < ANSWER_MAX => return Step::More,
                _ => return Step::Failed(format!("no end of the interim answer {status}")),
            }
            continue;
        }
        return judge(status, wanted);
    }
}

fn judge(status: u16, wanted: Option<HttpStatus>) -> Step {
    match wanted {
        Some(wanted) if wanted.get() == status => Step::Passed(format!("status {status}")),
        Some(wanted) => Step::Failed(format!("status {status}, {} expected", wanted.get())),
        None if (200..400).contains(&status) => Step::Passed(format!("status {status}")),
        None => Step::Failed(format!("status {status}, 200 to 399 expected")),
    }
}

/// The status, once its line is complete. What follows the line is not looked at.
fn status_of(answer: &[u8]) -> Result<Option<u16>, httparse::Error> {
    // Empty lines before the first are skipped, as httparse does.
    let begin = answer.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(answer.len());
    let length = answer[begin..].iter().position(|byte| *byte == b'\n').map_or(answer.len() - begin, |end| end + 1);
    let mut response = httparse::Response::new(&mut []);
    response.parse(&answer[begin..begin + length])?;
    Ok(response.reason.and(response.code))
}

/// How long the head of the answer is, up to the empty line.
fn length_of_head(answer: &[u8]) -> Result<Option<usize>, httparse::Error> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    match httparse::Response::new(&mut fields).parse(answer)? {
        httparse::Status::Complete(length) => Ok(Some(length)),
        httparse::Status::Partial => Ok(None),
    }
}

/// Looks for what is expected where bytes have come: from `seen` on, and a bit before.
fn search(answer: &[u8], seen: usize, expect: &[u8]) -> Step {
    let begin = (seen + 1).saturating_sub(expect.len()).min(answer.len());
    if answer[begin..].windows(expect.len()).any(|window| window == expect) {
        return Step::Passed("answered as expected".to_owned());
    }
    match answer.len() {
        ANSWER_MAX.. => Step::Failed(format!("not the expected answer in {} KiB", ANSWER_MAX >> 10)),
        _ => Step::More,
    }
}

/// Any answer, cut anywhere, to both kinds of conversation that read one: for the fuzzer and the tests, which find a panic.
/// The verdict must not depend on the cuts.
#[cfg(any(test, feature = "internal"))]
pub(crate) fn read_answer(answer: &[u8], cut: usize) {
    let addr = SocketAddr::from(([127, 0, 0, 1], 80));
    let tls = super::tls::config().expect("the TLS that is built in");
    let http = CheckKind::http("/").expect("a valid path");
    let expect = CheckKind::send_expect(b"", b"+PONG").expect("something is expected");
    for kind in [http, expect] {
        let target = Target::plain(0, addr, Arc::new(crate::config::Check::new(kind)));
        let hear = |parts: &mut dyn Iterator<Item = &[u8]>| {
            let mut conversation = Conversation::new(&target, &tls).expect("no TLS in it");
            let step = parts.map(|part| conversation.on_received(part)).find(|step| *step != Step::More);
            step.unwrap_or_else(|| conversation.on_end())
        };
        let (whole, cut) = (hear(&mut std::iter::once(answer)), hear(&mut answer.chunks(cut.max(1))));
        let has_passed = |step: &Step| matches!(step, Step::Passed(_));
        assert_eq!(has_passed(&whole), has_passed(&cut), "{whole:?} of the whole, {cut:?} of its parts");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HttpHost, HttpPath};
    use proptest::prelude::*;

    fn conversation(kind: &CheckKind) -> Conversation {
        let addr = SocketAddr::from(([127, 0, 0, 1], 8080));
        let target = Target::plain(0, addr, Arc::new(crate::config::Check::new(kind.clone())));
        Conversation::new(&target, &super::super::tls::config().unwrap()).unwrap()
    }

    fn http(status: Option<u32>) -> CheckKind {
        let status = status.map(|status| HttpStatus::new(status).unwrap());
        CheckKind::Http { path: HttpPath::new("/health").unwrap(), host: None, status }
    }

    /// What comes of an answer that arrives in parts and then ends.
    fn outcome(kind: &CheckKind, parts: &[&[u8]]) -> Step {
        let mut conversation = conversation(kind);
        let step = parts.iter().map(|part| conversation.on_received(part)).find(|step| *step != Step::More);
        step.unwrap_or_else(|| conversation.on_end())
    }

    /// The answer, cut at these places.
    fn cut<'a>(mut answer: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let mut parts = Vec::new();
        for cut in cuts {
            let (part, rest) = answer.split_at(cut % (answer.len() + 1));
            parts.push(part);
            answer = rest;
        }
        parts.push(answer);
        parts
    }

    #[test]
    fn a_server_that_accepts_passes_tcp() {
        assert_eq!(conversation(&CheckKind::Tcp).on_connected(), Step::Passed("connected".to_owned()));
    }

    #[test]
    fn a_request_is_one_get_with_the_host_that_was_set_or_the_address() {
        let mut kind = http(None);
        let expected =
            "GET /health HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nConnection: close\r\nUser-Agent: lb-check\r\n\r\n";
        let mut asking = conversation(&kind);
        assert_eq!(asking.outgoing(), expected.as_bytes());
        assert_eq!(asking.on_sent(4), Step::More);
        assert_eq!(asking.outgoing(), &expected.as_bytes()[4..]);
        if let CheckKind::Http { host, .. } = &mut kind {
            *host = Some(HttpHost::new("app.example").unwrap());
        }
        assert!(conversation(&kind).outgoing().starts_with(b"GET /health HTTP/1.1\r\nHost: app.example\r\n"));
    }

    #[test]
    fn the_status_decides_and_a_wrong_one_is_named() {
        let failed = |reason: &str| Step::Failed(reason.to_owned());
        let passed = |reason: &str| Step::Passed(reason.to_owned());
        let cases = [
            (None, "HTTP/1.1 200 OK\r\n", passed("status 200")),
            (None, "HTTP/1.0 302 Found\r\n\r\n", passed("status 302")),
            (None, "HTTP/1.1 204\r\n", passed("status 204")),
            (None, "\r\nHTTP/1.1 200 OK\r\n", passed("status 200")),
            (None, "HTTP/1.1 200 OK\r\n: not a field\r\n\r\n", passed("status 200")),
            (None, "HTTP/1.1 503 Busy\r\n", failed("status 503, 200 to 399 expected")),
            (Some(503), "HTTP/1.1 503 Busy\r\n", passed("status 503")),
            (Some(200), "HTTP/1.1 204 No Content\r\n", failed("status 204, 200 expected")),
            (
                None,
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 500 Oh\r\n",
                failed("status 500, 200 to 399 expected"),
            ),
            (None, "HTTP/1.1 100 Continue\r\n\r\n", failed("closed without an answer")),
            (None, "HTTP/1.1 101 Switching Protocols\r\n\r\n", failed("status 101, 200 to 399 expected")),
            (None, "HTTP/1.1 20", failed("closed before the end of the status line")),
            (None, "", failed("closed without an answer")),
            (None, "SSH-2.0-OpenSSH_9.2\r\n", failed("not an answer of HTTP/1: invalid HTTP version")),
        ];
        for (wanted, answer, expected) in cases {
            assert_eq!(outcome(&http(wanted), &[answer.as_bytes()]), expected, "{answer:?}");
        }
        let endless = vec![b'\n'; ANSWER_MAX];
        assert_eq!(outcome(&http(None), &[&endless]), failed("no status in 16 KiB"));
    }

    #[test]
    fn what_is_expected_may_stand_anywhere_in_the_first_16_kib() {
        let kind = CheckKind::send_expect(b"PING\r\n", b"+PONG").unwrap();
        assert_eq!(conversation(&kind).outgoing(), b"PING\r\n");
        let passed = Step::Passed("answered as expected".to_owned());
        let noise = vec![b'+'; ANSWER_MAX - 5];
        assert_eq!(outcome(&kind, &[b"+PONG\r\n"]), passed);
        assert_eq!(outcome(&kind, &[&noise, b"+PONG"]), passed);
        let late = Step::Failed("not the expected answer in 16 KiB".to_owned());
        assert_eq!(outcome(&kind, &[&noise, b"++PONG"]), late);
        assert_eq!(outcome(&kind, &[b"-ERR"]), Step::Failed("closed without the expected answer".to_owned()));
    }

    proptest! {
        #[test]
        fn an_answer_means_the_same_wherever_it_is_cut(cuts in prop::collection::vec(any::<usize>(), 0..20), status in 200u16..600) {
            let answer = format!("HTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 {status} Some reason\r\nServer: x\r\n\r\nbody");
            let answer = answer.as_bytes();
            prop_assert_eq!(outcome(&http(None), &cut(answer, &cuts)), outcome(&http(None), &[answer]));
            let expect = CheckKind::send_expect(b"", b"Some reason").unwrap();
            prop_assert_eq!(outcome(&expect, &cut(answer, &cuts)), Step::Passed("answered as expected".to_owned()));
        }

        #[test]
        fn no_answer_makes_it_panic(answer in prop::collection::vec(any::<u8>(), 0..300), at in 1usize..40) {
            read_answer(&answer, at);
            read_answer(&[b"HTTP/1.1 100 ", &answer[..]].concat(), at);
        }
    }
}
