//! What lies between a connection's sockets and its relay where bytes are not just passed on: what is heard of the client
//! before a server is chosen (a PROXY header, the name in its ClientHello), and the TLS sessions with client and server.
//! Owns no socket: bytes in, bytes out. A connection without any of this has no layers, and one that needs them no more
//! loses them.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::greeting::{client_hello, proxy};
use super::outgoing::Outgoing;
use super::relay::Side;
use crate::access::AccessTls;
use crate::config::{Name, SendProxy};
use crate::http::Wrong;
use crate::http::exchange::Exchange;
use crate::table::counters::TlsCounters;
use crate::table::{Greeting, Transport};
use crate::tls::cause::Cause;
use crate::tls::dial::Dialer;
use crate::tls::session::{Failed, Outlets, Session, Stage};

/// Bytes of the client's that are kept before there is a server to give them to; beyond, it is not received from.
const EARLY_MAX: usize = 64 << 10;

/// What is heard of the client next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hears {
    /// A PROXY header, which has to come.
    Proxy,
    /// That what comes first is no PROXY header.
    NoProxy,
    /// Whom it wants.
    Hello,
    /// Its part of a TLS session, or what is simply passed on.
    Bytes,
}

/// The layers of a connection.
pub(super) struct Layers {
    hears: Hears,
    client: Option<Session>,
    server: Option<Box<Session>>,
    /// Where bytes are requests and answers.
    exchange: Option<Box<Exchange>>,
    /// Has come of the client, and is not understood yet.
    heard: Vec<u8>,
    /// Plain bytes of the client's for which there is no server yet.
    early: Vec<u8>,
    /// Whether the client has said that it sends nothing more.
    has_client_ended: bool,
    /// Whether there is a server that takes bytes.
    is_open: bool,
    /// Where the client comes from and what it has connected to, as a proxy before us says.
    proxied: Option<(SocketAddr, SocketAddr)>,
    /// The group of the servers that the client wants.
    group: Option<Name>,
    greeting: Option<Arc<Greeting>>,
    shard: usize,
}

/// What has become of a connection by bytes that have come.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct News {
    /// All is known that a server is chosen by.
    pub(super) is_greeted: bool,
    /// The TLS handshake with the client is done.
    pub(super) is_accepted: bool,
    /// The TLS handshake with the server is done.
    pub(super) is_met: bool,
    /// The server has sent something for the client. What is about its TLS session only does not count.
    pub(super) has_answered: bool,
    /// The peer has said that nothing more comes from it.
    pub(super) has_ended: bool,
}

/// Why a connection can't go on, or not with this server.
#[derive(Debug)]
pub(super) enum Fault {
    /// TLS has failed.
    Tls(rustls::Error),
    /// The peer has closed the connection without having said in TLS that it would: something may be missing.
    Truncated,
    /// The handshake took too long.
    TimedOut,
    /// Too many handshakes are under way.
    CrowdedOut,
    /// The PROXY header is wrong, missing or not allowed: one sentence.
    Proxy(Cow<'static, str>),
    /// HTTP was broken, by the peer or what it is waited for.
    Http(Wrong),
    /// There is no memory.
    Memory(io::Error),
}

impl Fault {
    /// What it is counted as; `None` if TLS has nothing to do with it.
    pub(super) fn cause(&self) -> Option<Cause> {
        match self {
            Self::Tls(error) => Some(Cause::of(error)),
            Self::Truncated => Some(Cause::Truncated),
            Self::TimedOut => Some(Cause::Timeout),
            Self::CrowdedOut => Some(Cause::CrowdedOut),
            Self::Proxy(_) | Self::Http(_) | Self::Memory(_) => None,
        }
    }

    /// What it says of a server that was dialled, and how to mend it.
    pub(super) fn explain(&self, dialer: &Dialer) -> String {
        match self {
            Self::Tls(error) => dialer.explain(error),
            Self::Truncated => {
                "it closes the connection amid the TLS handshake: does it speak TLS on this port?".to_owned()
            }
            Self::TimedOut => {
                "it does not finish the TLS handshake in time: does it speak TLS on this port?".to_owned()
            }
            Self::CrowdedOut | Self::Proxy(_) | Self::Http(_) | Self::Memory(_) => self.to_string(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(error) => write!(formatter, "TLS: {error}"),
            Self::Truncated => formatter.write_str("the connection has ended without TLS' own end"),
            Self::TimedOut => formatter.write_str("it has taken too long"),
            Self::CrowdedOut => formatter.write_str("too many handshakes are under way"),
            Self::Proxy(wrong) => write!(formatter, "PROXY header: {wrong}"),
            Self::Http(wrong) => write!(formatter, "HTTP: {}: {}", wrong.cause.as_str(), wrong.reason),
            Self::Memory(error) => write!(formatter, "no memory: {error}"),
        }
    }
}

impl From<Failed> for Fault {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Tls(error) => Self::Tls(error),
            Failed::Memory(error) => Self::Memory(error),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Memory(error)
    }
}

impl Layers {
    /// The layers of a client that has just come to a frontend with this greeting; `None` if there are none before a server
    /// is chosen. `is_proxy`: whether it comes from where a PROXY header is expected of.
    pub(super) fn of_client(
        greeting: &Arc<Greeting>,
        is_http: bool,
        is_proxy: impl FnOnce() -> bool,
        shard: usize,
    ) -> Option<Self> {
        let hears = match greeting.config.accept_proxy_from().is_empty() {
            true => greeting.after_proxy(),
            false if is_proxy() => Hears::Proxy,
            false => Hears::NoProxy,
        };
        let is_needed = hears != Hears::Bytes || greeting.terminates || is_http;
        let exchange = is_http.then(|| Box::new(Exchange::new()));
        is_needed.then(|| Self { hears, exchange, greeting: Some(Arc::clone(greeting)), ..Self::none(shard) })
    }

    /// Layers that do nothing yet, of a connection whose server needs some.
    pub(super) fn none(shard: usize) -> Self {
        Self {
            hears: Hears::Bytes,
            client: None,
            server: None,
            exchange: None,
            heard: Vec::new(),
            early: Vec::new(),
            has_client_ended: false,
            is_open: false,
            proxied: None,
            group: None,
            greeting: None,
            shard,
        }
    }

    /// Whether all is known that a server is chosen by.
    pub(super) fn is_greeted(&self) -> bool {
        let terminates = self.greeting.as_ref().is_some_and(|greeting| greeting.terminates);
        let is_accepted = self.client.as_ref().map_or(!terminates, |session| session.stage() != Stage::Handshake);
        match self.hears {
            Hears::Proxy | Hears::Hello => false,
            // A client that says nothing is not one that says something wrong.
            Hears::NoProxy => {
                let greeting = self.greeting.as_ref();
                let needs_bytes = self.exchange.is_some();
                !needs_bytes
                    && greeting.is_none_or(|greeting| greeting.after_proxy() == Hears::Bytes && !greeting.terminates)
            }
            Hears::Bytes => is_accepted && self.exchange.as_ref().is_none_or(|exchange| exchange.has_asked()),
        }
    }

    /// Whether the client's TLS ends here.
    pub(super) fn terminates(&self) -> bool {
        self.client.is_some()
    }

    /// Whether the client is to speak TLS with us.
    pub(super) fn expects_tls(&self) -> bool {
        self.client.is_some() || self.greeting.as_ref().is_some_and(|greeting| greeting.terminates)
    }

    /// Whether the handshake with the client goes on, and the client has begun it.
    pub(super) fn is_accepting(&self) -> bool {
        self.client.as_ref().is_some_and(|session| session.stage() == Stage::Handshake)
    }

    /// The group of servers that the client wants.
    pub(super) fn group(&self) -> Option<&Name> {
        self.group.as_ref()
    }

    /// Where a proxy before us says that the client comes from, and what it has connected to.
    pub(super) fn proxied(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.proxied
    }

    /// Whether so much of the client's is kept that no more should be received.
    pub(super) fn is_full(&self) -> bool {
        match &self.exchange {
            Some(exchange) => exchange.is_full(),
            None => !self.is_open && self.early.len() > EARLY_MAX,
        }
    }

    /// Whether bytes are passed on as they come from here on.
    pub(super) fn are_done(&self) -> bool {
        let are_needed = self.client.is_some() || self.server.is_some() || self.exchange.is_some();
        self.is_open && self.hears == Hears::Bytes && !are_needed
    }

    /// Whether the server speaks TLS with us.
    pub(super) fn has_server_session(&self) -> bool {
        self.server.is_some()
    }

    /// Counts the handshake with a peer, which is done.
    pub(super) fn count_handshake(&self, side: Side, counters: &TlsCounters) {
        let Some(session) = self.session(side) else { return };
        counters.handshakes.add(1);
        counters.resumed.add(session.is_resumed().into());
        counters.tls12.add(session.is_tls12().into());
    }

    /// What is recorded of the client's TLS, where it ends here.
    pub(super) fn recorded_tls(&self) -> Option<AccessTls> {
        let session = self.client.as_ref()?;
        let version = if session.is_tls12() { "1.2" } else { "1.3" };
        Some(AccessTls { version, resumed: session.is_resumed() })
    }

    /// Ends the client's TLS here, whose first bytes may have come already.
    pub(super) fn accept(&mut self, greeting: &Arc<Greeting>, out: &mut Outgoing<'_>) -> Result<News, Fault> {
        self.greeting = Some(Arc::clone(greeting));
        self.begin_session()?;
        let mut early = std::mem::take(&mut self.early);
        self.receive(Side::Client, &mut early, out)
    }

    /// Takes what a peer has sent; `bytes` serve as working memory.
    pub(super) fn receive(&mut self, side: Side, bytes: &mut [u8], out: &mut Outgoing<'_>) -> Result<News, Fault> {
        let (was_greeted, was_accepting) = (self.is_greeted(), self.is_accepting());
        let was_meeting = self.server.as_ref().is_some_and(|session| session.stage() == Stage::Handshake);
        let mut has_answered = false;
        match side {
            Side::Client if self.hears == Hears::Bytes => self.hear_bytes(bytes, out)?,
            Side::Client => self.hear(bytes, out)?,
            Side::Server => has_answered = self.receive_of_server(bytes, out)?,
        }
        let stage = |side| self.session(side).map(Session::stage);
        Ok(News {
            is_greeted: !was_greeted && self.is_greeted(),
            is_accepted: was_accepting && !self.is_accepting(),
            is_met: was_meeting && stage(Side::Server) != Some(Stage::Handshake),
            has_answered,
            has_ended: stage(side) == Some(Stage::PeerEnded),
        })
    }

    /// What has to be understood before bytes are passed on.
    fn hear(&mut self, bytes: &[u8], out: &mut Outgoing<'_>) -> Result<(), Fault> {
        self.heard.extend_from_slice(bytes);
        while self.hears != Hears::Bytes {
            if !self.hear_one()? {
                return Ok(());
            }
        }
        let mut heard = std::mem::take(&mut self.heard);
        self.hear_bytes(&mut heard, out)
    }

    /// False if more has to come.
    fn hear_one(&mut self) -> Result<bool, Fault> {
        let Some(greeting) = &self.greeting else { return Ok(false) };
        match self.hears {
            Hears::Proxy => {
                let Some((header, length)) =
                    proxy::read(&self.heard).map_err(|wrong| Fault::Proxy(wrong.to_string().into()))?
                else {
                    return Ok(false);
                };
                if let proxy::Header::Proxied { source, destination } = header {
                    self.proxied = Some((source, destination));
                }
                self.heard.drain(..length);
                self.hears = greeting.after_proxy();
            }
            Hears::NoProxy => match proxy::starts(&self.heard) {
                proxy::Start::Maybe => return Ok(false),
                proxy::Start::Yes => return Err(Fault::Proxy("its source is not in accept_proxy_from".into())),
                proxy::Start::No => self.hears = greeting.after_proxy(),
            },
            Hears::Hello => {
                let name = match client_hello::read(&self.heard) {
                    Ok(None) => return Ok(false),
                    Ok(Some(hello)) => hello.sni,
                    // Whoever does not speak TLS wants no name.
                    Err(_) => None,
                };
                self.group = name.and_then(|name| greeting.config.group_for(&name).cloned());
                self.hears = Hears::Bytes;
            }
            Hears::Bytes => {}
        }
        Ok(true)
    }

    fn begin_session(&mut self) -> Result<(), Fault> {
        let acceptor = self.greeting.as_ref().and_then(|greeting| greeting.acceptor.as_ref());
        let missing = || Fault::Tls(rustls::Error::General("the frontend has no certificate any more".to_owned()));
        let config = acceptor.map(|acceptor| acceptor.config(self.shard)).ok_or_else(missing)?;
        self.client = Some(Session::accept(config).map_err(Fault::Tls)?);
        Ok(())
    }

    fn hear_bytes(&mut self, bytes: &mut [u8], out: &mut Outgoing<'_>) -> Result<(), Fault> {
        let terminates = self.greeting.as_ref().is_some_and(|greeting| greeting.terminates);
        if terminates && self.client.is_none() && !bytes.is_empty() {
            self.begin_session()?;
        }
        let exchange = self.exchange.as_deref_mut();
        let to_server = match (self.is_open, &mut self.server) {
            (false, _) => Beyond::Kept(&mut self.early),
            (true, Some(session)) => Beyond::Session(session),
            (true, None) => Beyond::Socket,
        };
        let mut flow = Flow { side: Side::Client, exchange, beyond: to_server, out, has_plain: false };
        match &mut self.client {
            Some(session) => session.receive(bytes, &mut flow).map(drop)?,
            None => flow.plain(bytes)?,
        }
        Ok(())
    }

    /// True if something of that was for the client.
    fn receive_of_server(&mut self, bytes: &mut [u8], out: &mut Outgoing<'_>) -> Result<bool, Fault> {
        let to_client = match &mut self.client {
            // Nothing was asked of it yet.
            _ if self.exchange.is_some() && !self.is_open => Beyond::Nobody,
            Some(session) => Beyond::Session(session),
            None => Beyond::Socket,
        };
        let is_asked = self.exchange.is_none() || self.is_open;
        let exchange = self.exchange.as_deref_mut().filter(|_| self.is_open);
        let mut flow = Flow { side: Side::Server, exchange, beyond: to_client, out, has_plain: false };
        match &mut self.server {
            Some(session) => session.receive(bytes, &mut flow).map(drop)?,
            None => flow.plain(bytes)?,
        }
        Ok(flow.has_plain && is_asked)
    }

    /// Whether a clean end of what a peer has sent is what the end of its side of the socket is.
    ///
    /// # Errors
    /// Something may be missing.
    pub(super) fn is_clean_end(&self, side: Side) -> Result<(), Fault> {
        match self.session(side) {
            Some(session) if session.stage() != Stage::PeerEnded => Err(Fault::Truncated),
            Some(_) => Ok(()),
            None if side == Side::Client && self.hears == Hears::Proxy => {
                Err(Fault::Proxy("the client has ended before its PROXY header was whole".into()))
            }
            None => Ok(()),
        }
    }

    /// A peer sends nothing more: the other one is told, if it speaks TLS with us, once everything before has gone there.
    /// Gives whether the client is greeted by that.
    pub(super) fn end(&mut self, side: Side, out: &mut Outgoing<'_>) -> Result<News, Fault> {
        let was_greeted = self.is_greeted();
        if side == Side::Client && matches!(self.hears, Hears::Hello | Hears::NoProxy) {
            // Nothing more comes that would decide what it is: it is what it is.
            self.hears = Hears::Bytes;
            let mut heard = std::mem::take(&mut self.heard);
            self.hear_bytes(&mut heard, out)?;
        }
        let news = News { is_greeted: !was_greeted && self.is_greeted(), ..News::default() };
        let other = match side {
            Side::Server => self.client.as_mut(),
            Side::Client if self.is_open => self.server.as_deref_mut(),
            Side::Client => {
                self.has_client_ended = true;
                return Ok(news);
            }
        };
        if let Some(session) = other {
            session.end(&mut Flow::of_session(side.other(), out))?;
        }
        Ok(news)
    }

    /// A server has accepted the connection: says what is to be said to it first. True if a handshake has begun by that.
    pub(super) fn meet(
        &mut self,
        transport: &Transport,
        addrs: impl FnOnce() -> Option<(SocketAddr, SocketAddr)>,
        out: &mut Outgoing<'_>,
    ) -> Result<bool, Fault> {
        if transport.send_proxy != SendProxy::Off {
            // Without addresses the client is gone already.
            let nowhere = SocketAddr::from(([0; 4], 0));
            let (source, destination) = self.proxied.or_else(addrs).unwrap_or((nowhere, nowhere));
            let mut header = Vec::new();
            proxy::write(transport.send_proxy, source, destination, &mut header);
            out.put(Side::Server, &header)?;
        }
        let Some(dialer) = &transport.dialer else { return Ok(false) };
        let mut session = Session::dial(dialer.config(self.shard), dialer.name()).map_err(Fault::Tls)?;
        session.receive(&mut [], &mut Flow::of_session(Side::Server, out))?;
        self.server = Some(Box::new(session));
        Ok(true)
    }

    /// The server takes bytes from now on: those that have come before go to it.
    pub(super) fn open(&mut self, out: &mut Outgoing<'_>) -> Result<(), Fault> {
        self.is_open = true;
        let early = std::mem::take(&mut self.early);
        let beyond = self.server.as_deref_mut().map_or(Beyond::Socket, Beyond::Session);
        Flow { side: Side::Client, exchange: None, beyond, out, has_plain: false }.plain(&early)?;
        if std::mem::take(&mut self.has_client_ended) {
            self.end(Side::Client, out)?;
        }
        Ok(())
    }

    /// The client had ended before there were layers.
    pub(super) fn keep_end(&mut self) {
        self.has_client_ended = true;
    }

    /// Bytes of the client's that came before there were layers.
    pub(super) fn keep_early(&mut self, bytes: &[u8]) {
        self.early.extend_from_slice(bytes);
    }

    /// The server was given up.
    pub(super) fn forget_server(&mut self) {
        (self.server, self.is_open) = (None, false);
        if let Some(exchange) = &mut self.exchange {
            exchange.close();
        }
    }

    fn session(&self, side: Side) -> Option<&Session> {
        match side {
            Side::Client => self.client.as_ref(),
            Side::Server => self.server.as_deref(),
        }
    }
}

/// Where bytes are requests and answers.
impl Layers {
    /// The request and its answer.
    pub(super) fn exchange(&self) -> Option<&Exchange> {
        self.exchange.as_deref()
    }

    /// As [`Layers::exchange`], to change it.
    pub(super) fn exchange_mut(&mut self) -> Option<&mut Exchange> {
        self.exchange.as_deref_mut()
    }

    /// Whether bytes of the client's are heard as what they are.
    pub(super) fn is_heard(&self) -> bool {
        self.hears == Hears::Bytes
    }

    /// Whether requests can be heard: nothing else of the client's is awaited before.
    pub(super) fn hears_requests(&self) -> bool {
        let is_accepted = self.client.as_ref().is_none_or(|session| session.stage() != Stage::Handshake);
        self.exchange.is_some() && self.hears == Hears::Bytes && is_accepted
    }

    /// The server takes the request; `is_used` tells that its connection has served before.
    pub(super) fn open_exchange(&mut self, is_used: bool, out: &mut Outgoing<'_>) -> Result<(), Fault> {
        self.is_open = true;
        let Some(exchange) = &mut self.exchange else { return Ok(()) };
        let mut beyond = self.server.as_deref_mut().map_or(Beyond::Socket, Beyond::Session);
        Ok(exchange.open(is_used, &mut |bytes| beyond.put(Side::Server, bytes, out))?)
    }

    /// The server's part is done: takes its session out, which lives on with its connection.
    pub(super) fn take_server(&mut self) -> Option<Box<Session>> {
        self.is_open = false;
        self.server.take()
    }

    /// A connection to a server with the session that it has.
    pub(super) fn put_server(&mut self, session: Option<Box<Session>>) {
        self.server = session;
    }

    /// How many bytes of a peer's may go past: neither changed nor looked at.
    pub(super) fn passes(&self, source: Side) -> u64 {
        match &self.exchange {
            Some(exchange) if self.client.is_none() && self.server.is_none() => exchange.passes(source),
            _ => 0,
        }
    }

    /// Tells the client what is wrong, in place of an answer.
    pub(super) fn refuse(&mut self, wrong: Wrong, out: &mut Outgoing<'_>) -> Result<(), Fault> {
        let Some(exchange) = &mut self.exchange else { return Ok(()) };
        let mut to_client = self.client.as_mut().map_or(Beyond::Socket, Beyond::Session);
        Ok(to_client.put(Side::Client, exchange.refusal(wrong), out)?)
    }

    /// Both have agreed on another protocol, whose first bytes the client may have sent already.
    pub(super) fn begin_tunnel(&mut self, out: &mut Outgoing<'_>) -> Result<(), Fault> {
        let Some(mut exchange) = self.exchange.take() else { return Ok(()) };
        let mut to_server = self.server.as_deref_mut().map_or(Beyond::Socket, Beyond::Session);
        to_server.put(Side::Server, &exchange.take_heard(), out)?;
        Ok(())
    }
}

impl Greeting {
    fn after_proxy(&self) -> Hears {
        if self.config.sni_routes().is_empty() { Hears::Bytes } else { Hears::Hello }
    }
}

/// Where plain bytes go from a peer.
enum Beyond<'a> {
    /// To the other one, as they are.
    Socket,
    /// To the other one, in its session.
    Session(&'a mut Session),
    /// Nowhere yet.
    Kept(&'a mut Vec<u8>),
    /// There are none.
    Nobody,
}

/// The way of bytes from one peer's session.
struct Flow<'a, 'b> {
    side: Side,
    /// What reads them first.
    exchange: Option<&'a mut Exchange>,
    beyond: Beyond<'a>,
    out: &'a mut Outgoing<'b>,
    /// Whether there was anything to pass on.
    has_plain: bool,
}

impl<'a, 'b> Flow<'a, 'b> {
    /// Of a session that passes nothing on.
    fn of_session(side: Side, out: &'a mut Outgoing<'b>) -> Self {
        Self { side, exchange: None, beyond: Beyond::Nobody, out, has_plain: false }
    }
}

impl Outlets for Flow<'_, '_> {
    fn room(&mut self, bytes: usize) -> io::Result<&mut [u8]> {
        self.out.room(self.side, bytes)
    }

    fn wire(&mut self, bytes: usize) {
        self.out.fill(self.side, bytes);
    }

    fn plain(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        self.has_plain |= !bytes.is_empty();
        let (side, beyond, out) = (self.side, &mut self.beyond, &mut *self.out);
        let mut put = |bytes: &[u8]| beyond.put(side.other(), bytes, out);
        match &mut self.exchange {
            None => put(bytes),
            Some(exchange) if side == Side::Client => exchange.hear(bytes, &mut put),
            Some(exchange) => exchange.answer(bytes, &mut put),
        }
    }
}

impl Beyond<'_> {
    /// These bytes go to `sink`.
    fn put(&mut self, sink: Side, bytes: &[u8], out: &mut Outgoing<'_>) -> Result<(), Failed> {
        match self {
            Self::Socket => Ok(out.put(sink, bytes)?),
            Self::Session(session) => session.send(bytes, &mut Flow::of_session(sink, out)),
            Self::Kept(kept) => {
                kept.extend_from_slice(bytes);
                Ok(())
            }
            Self::Nobody => Ok(()),
        }
    }
}
