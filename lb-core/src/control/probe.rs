//! Trying servers before a change that brings them, their addresses or their TLS into use is applied.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::GlommioError;
use glommio::net::TcpStream;
use rustls::{ClientConnection, ProtocolVersion};

use super::Wanted;
use super::change::{Options, Refused};
use super::controller::Controller;
use super::state::State;
use super::tls::{Peer, Used, dialer, is_same_endpoint, peers};
use crate::config::SendProxy;
use crate::dataplane::greeting::proxy;
use crate::tls::dial::Dialer;

/// How long a server may take to say that it does not like our certificate, where nothing else waits for it.
const LAST_WORD: Duration = Duration::from_millis(200);

/// A server that is to be tried.
pub(super) struct Target {
    pub(super) name: String,
    pub(super) addr: SocketAddr,
    /// For all of it.
    pub(super) timeout: Duration,
    pub(super) send_proxy: SendProxy,
    /// How it is spoken to by TLS.
    pub(super) dialer: Option<Arc<Dialer>>,
}

/// The servers that are new in `state`, at other addresses than in `before`, or spoken to in other ways.
pub(super) fn targets(state: &State, before: &State) -> Result<Vec<Target>, Refused> {
    let mut targets = Vec::new();
    for entry in state.entries() {
        let known = before.entry_with(entry.id);
        if known.is_some_and(|known| Arc::ptr_eq(known, entry)) {
            continue;
        }
        let used = Used::by(entry, state);
        let known = known.map(|known| (known, Used::by(known, before)));
        let is_known = |id, peer| {
            let known = known.as_ref().and_then(|(entry, used)| {
                let server = entry.frontend.servers().get(entry.server_ids.binary_search(&id).ok()?)?;
                Some(Peer { frontend: &entry.frontend, server, used })
            });
            known.is_some_and(|known| is_same_endpoint(peer, known))
        };
        for (id, peer) in entry.server_ids.iter().zip(peers(entry, &used)) {
            if !is_known(*id, peer) {
                targets.push(target(peer)?);
            }
        }
    }
    Ok(targets)
}

fn target(Peer { frontend, server, used }: Peer<'_>) -> Result<Target, Refused> {
    Ok(Target {
        name: server.name().to_string(),
        addr: server.addr(),
        timeout: frontend.connect_timeout().as_duration(),
        send_proxy: server.send_proxy(),
        dialer: server.server_certificate().map(|bundle| dialer(server, bundle, used, 0)).transpose()?.map(Arc::new),
    })
}

/// Tries every server that would come into use otherwise than before, a few at a time; refuses with the first that fails.
pub(super) async fn probe(
    controller: &Rc<RefCell<Controller>>,
    wanted: &Wanted,
    options: Options,
) -> Result<(), Refused> {
    const AT_ONCE: usize = 32;
    let targets = controller.borrow().probe_targets(wanted, options)?;
    let mut targets = targets.into_iter();
    loop {
        let batch: Vec<_> =
            targets.by_ref().take(AT_ONCE).map(|target| glommio::spawn_local(try_out(target))).collect();
        if batch.is_empty() {
            return Ok(());
        }
        for attempt in batch {
            attempt.await?;
        }
    }
}

/// A connect and, where the server is spoken to by TLS, a handshake.
async fn try_out(target: Target) -> Result<(), Refused> {
    let refusal = |field: &str, why: String| {
        Refused::field(field, format!("the probe of server {} at {} failed: {why}", target.name, target.addr))
    };
    let began = Instant::now();
    let mut stream = TcpStream::connect_timeout(target.addr, target.timeout).await.map_err(|error| {
        let why = match error {
            GlommioError::IoError(error) => error.to_string(),
            GlommioError::TimedOut(_) => format!("no answer within {:?}", target.timeout),
            error => error.to_string(),
        };
        refusal("ip", why)
    })?;
    let Some(dialer) = &target.dialer else { return Ok(()) };
    let shaken = within(target.timeout.saturating_sub(began.elapsed()), shake(&mut stream, dialer, target.send_proxy));
    let shaken = shaken.await.unwrap_or_else(|| Err(format!("no TLS handshake within {:?}", target.timeout)));
    shaken.map_err(|why| refusal("server_certificate", why))
}

/// What comes of `work` in this time, if anything does.
async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    glommio::timer::timeout(limit, async { Ok::<_, GlommioError<()>>(work.await) }).await.ok()
}

/// A handshake with a server, and its end. Fails with what the server presented and what is wrong.
async fn shake(stream: &mut TcpStream, dialer: &Dialer, send_proxy: SendProxy) -> Result<(), String> {
    let mut header = Vec::new();
    proxy::write_local(send_proxy, &mut header);
    let broken = |error: io::Error| format!("the connection broke off during the TLS handshake: {error}");
    stream.write_all(&header).await.map_err(broken)?;
    let tls = ClientConnection::new(Arc::clone(dialer.trial()), dialer.name());
    let mut tls = tls.map_err(|error| error.to_string())?;
    while tls.is_handshaking() {
        send(stream, &mut tls).await.map_err(broken)?;
        let heard = hear(stream, &mut tls).await;
        match heard.map_err(broken)? {
            Heard::Something => {}
            Heard::End => return Err("it closed the connection during the TLS handshake".to_owned()),
            Heard::Wrong(error) => {
                // The server is told why; that it is there to hear it is not what matters.
                let _ = send(stream, &mut tls).await;
                return Err(dialer.explain(&error));
            }
        }
    }
    tls.send_close_notify();
    send(stream, &mut tls).await.map_err(broken)?;
    // In TLS 1.3 a server judges our certificate only after the handshake has ended for us.
    match tls.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => {
            within(LAST_WORD, await_end(stream, &mut tls, dialer)).await.unwrap_or(Ok(()))
        }
        _ => Ok(()),
    }
}

/// Hears what a server has to say before it ends the connection as well. However it ends, a refusal is all that counts.
async fn await_end(stream: &mut TcpStream, tls: &mut ClientConnection, dialer: &Dialer) -> Result<(), String> {
    loop {
        match hear(stream, tls).await {
            Ok(Heard::Something) => {}
            Ok(Heard::Wrong(error @ rustls::Error::AlertReceived(_))) => return Err(dialer.explain(&error)),
            Ok(Heard::End | Heard::Wrong(_)) | Err(_) => return Ok(()),
        }
    }
}

/// What came from a server.
enum Heard {
    Something,
    End,
    Wrong(rustls::Error),
}

async fn hear(stream: &mut TcpStream, tls: &mut ClientConnection) -> io::Result<Heard> {
    let mut bytes = [0; 4096];
    let count = stream.read(&mut bytes).await?;
    if count == 0 {
        return Ok(Heard::End);
    }
    let mut rest = &bytes[..count];
    while !rest.is_empty() {
        if tls.read_tls(&mut rest)? == 0 {
            return Ok(Heard::End);
        }
        if let Err(error) = tls.process_new_packets() {
            return Ok(Heard::Wrong(error));
        }
    }
    Ok(Heard::Something)
}

async fn send(stream: &mut TcpStream, tls: &mut ClientConnection) -> io::Result<()> {
    let mut bytes = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut bytes)?;
    }
    stream.write_all(&bytes).await
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use glommio::{LocalExecutorBuilder, Placement};
    use rustls::{ServerConfig, ServerConnection};

    use super::*;
    use crate::config::{Bind, Certificate, ClientAuth, Frontend, Name, Server, ServerUpdate, Weight};
    use crate::control::change::Change;
    use crate::tls::accept::{Acceptor, Tickets};
    use crate::tls::certificate::Identity;
    use crate::tls::dial::Expected;
    use crate::tls::testing::{Made, PLAIN, bundle};

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A server that deals with one connection as `serve` says.
    fn server(serve: impl FnOnce(std::net::TcpStream) + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || serve(listener.accept().unwrap().0));
        addr
    }

    /// A server that shakes hands and then reads what comes.
    fn tls_server(config: Arc<ServerConfig>) -> SocketAddr {
        server(move |client| serve_tls(client, config))
    }

    fn serve_tls(mut client: std::net::TcpStream, config: Arc<ServerConfig>) {
        let mut tls = ServerConnection::new(config).unwrap();
        let _ = rustls::Stream::new(&mut tls, &mut client).read_to_end(&mut Vec::new());
        let _ = tls.complete_io(&mut client);
    }

    fn acceptor(identity: &Arc<Identity>, client: Option<&Made>) -> Arc<ServerConfig> {
        let client = client.map(|ca| (bundle(&[ca]), ClientAuth::Required));
        let client = client.as_ref().map(|(trust, auth)| (trust, *auth));
        let tickets = Tickets::new().unwrap();
        Arc::clone(Acceptor::new(std::slice::from_ref(identity), &[], client, &tickets, 1).unwrap().config(0))
    }

    /// A server of this CA.
    fn identity(ca: &Made) -> Arc<Identity> {
        Made::new("app1", &["127.0.0.1"], PLAIN, Some(ca)).identity(&[])
    }

    fn target(addr: SocketAddr, ca: &Made, identity: Option<&Identity>) -> Target {
        let expected = Expected { server_name: None, verify_name: true, ip: addr.ip() };
        let dialer = Dialer::new(&bundle(&[ca]), expected, identity, 0).unwrap();
        let (name, send_proxy) = ("app1".to_owned(), SendProxy::Off);
        Target { name, addr, timeout: PATIENCE, send_proxy, dialer: Some(Arc::new(dialer)) }
    }

    /// What comes of trying it: where it is refused, the field and why.
    fn outcome(target: Target) -> Result<(), (Option<String>, String)> {
        let executor =
            LocalExecutorBuilder::new(Placement::Unbound).io_memory(256 << 10).ring_depth(16).make().unwrap();
        let prefix = format!("the probe of server app1 at {} failed: ", target.addr);
        let refused = executor.run(try_out(target));
        refused.map_err(|refused| (refused.field, refused.reason.strip_prefix(&prefix).unwrap().to_owned()))
    }

    fn refused(why: &str) -> Result<(), (Option<String>, String)> {
        Err((Some("server_certificate".to_owned()), why.to_owned()))
    }

    #[test]
    fn a_server_that_is_trusted_passes_and_another_is_named_with_what_it_presents() {
        let (ca, other) = (Made::ca("Corp CA"), Made::ca("Other CA"));
        assert_eq!(outcome(target(tls_server(acceptor(&identity(&ca), None)), &ca, None)), Ok(()));
        let why = "its certificate \"CN=app1\" is issued by \"CN=Other CA\", which the server does not send and bundle corp-ca \
                   does not hold: add the certificate of \"CN=Other CA\" to the bundle or have the server send it";
        assert_eq!(outcome(target(tls_server(acceptor(&identity(&other), None)), &ca, None)), refused(why));
    }

    #[test]
    fn a_server_that_wants_our_certificate_is_refused_without_one_and_with_a_wrong_one() {
        let (ca, clients) = (Made::ca("Corp CA"), Made::ca("Clients"));
        let ours = Made::new("lb", &[], PLAIN, Some(&clients)).identity(&[]);
        let addr = || tls_server(acceptor(&identity(&ca), Some(&clients)));
        assert_eq!(outcome(target(addr(), &ca, Some(&ours))), Ok(()));
        let why = "it wants a client's certificate: name one as client_certificate of the server";
        assert_eq!(outcome(target(addr(), &ca, None)), refused(why));
        let foreign = Made::new("lb", &[], PLAIN, Some(&ca)).identity(&[]);
        let why = "it refuses our client certificate (alert UnknownCA): name one that it trusts as client_certificate";
        assert_eq!(outcome(target(addr(), &ca, Some(&foreign))), refused(why));
    }

    #[test]
    fn what_does_not_speak_tls_is_refused() {
        let ca = Made::ca("Corp CA");
        let addr = server(|mut client| client.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap());
        let why = "it does not speak TLS there: check the port, or take server_certificate away";
        assert_eq!(outcome(target(addr, &ca, None)), refused(why));
        let addr = server(|mut client| drop(client.read(&mut [0; 4096])));
        let (field, why) = outcome(target(addr, &ca, None)).unwrap_err();
        assert_eq!(field.as_deref(), Some("server_certificate"));
        assert!(why.contains("during the TLS handshake"), "{why}");
    }

    #[test]
    fn a_server_that_says_nothing_is_refused_when_the_time_is_over() {
        let ca = Made::ca("Corp CA");
        let addr = server(|mut client| drop(client.read_to_end(&mut Vec::new())));
        let target = Target { timeout: Duration::from_millis(50), ..target(addr, &ca, None) };
        assert_eq!(outcome(target), refused("no TLS handshake within 50ms"));
    }

    #[test]
    fn a_server_that_is_told_who_the_client_is_is_told_that_we_are_before_tls() {
        let ca = Made::ca("Corp CA");
        for (send_proxy, length) in [(SendProxy::V1, 15), (SendProxy::V2, 16)] {
            let config = acceptor(&identity(&ca), None);
            let addr = server(move |mut client| {
                let mut header = vec![0; length];
                client.read_exact(&mut header).unwrap();
                assert_eq!(proxy::read(&header), Ok(Some((proxy::Header::Local, length))));
                serve_tls(client, config);
            });
            assert_eq!(outcome(Target { send_proxy, ..target(addr, &ca, None) }), Ok(()));
        }
    }

    #[test]
    fn those_are_tried_that_are_new_moved_or_spoken_to_in_another_way() {
        let (ca, other) = (Made::ca("Corp CA"), Made::ca("Other CA"));
        let server = |name: &str, port| Server::new(name, SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
        let corp_ca = || Name::new("corp-ca").unwrap();
        let frontend = Frontend::new("web", Bind::Addr("127.0.0.1:0".parse().unwrap())).unwrap();
        let frontend = frontend
            .with_server(server("plain", 1))
            .with_server(server("one", 2).with_server_certificate(Some(corp_ca())))
            .with_server(server("two", 3).with_server_certificate(Some(corp_ca())));
        let mut before = State::default();
        before
            .apply(&Change::AddCertificate { certificate: Certificate::bundle("corp-ca", &ca.pem()).unwrap() })
            .unwrap();
        before.apply(&Change::AddFrontend { frontend }).unwrap();
        let tried = |change: &Change| {
            let mut state = before.clone();
            state.apply(change).unwrap();
            let targets = targets(&state, &before).unwrap();
            targets.into_iter().map(|target| (target.name, target.dialer.is_some())).collect::<Vec<_>>()
        };
        let pem = format!("{}{}", ca.pem(), other.pem());
        let update = Change::UpdateCertificate { certificate: Certificate::bundle("corp-ca", &pem).unwrap() };
        assert_eq!(tried(&update), [("one".to_owned(), true), ("two".to_owned(), true)]);
        let web = || Name::new("web").unwrap();
        let add = Change::AddServer { frontend: web(), server: server("new", 4) };
        assert_eq!(tried(&add), [("new".to_owned(), false)]);
        let update = |update| Change::UpdateServer { frontend: web(), name: Name::new("one").unwrap(), update };
        let unnamed = ServerUpdate { verify_name: Some(false), ..ServerUpdate::default() };
        assert_eq!(tried(&update(unnamed)), [("one".to_owned(), true)]);
        let heavier = ServerUpdate { weight: Some(Weight::new(2).unwrap()), ..ServerUpdate::default() };
        assert_eq!(tried(&update(heavier)), []);
    }
}
