//! HTTP/1 on the sites' sockets.

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::Request;
use futures_lite::{FutureExt, StreamExt};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::listen::{At, Listener, Opened, Placed};
use super::places::{Place, Places};
use super::{Client, Door, Site};

/// Most clients of a site at once.
const CLIENTS_MAX: usize = 256;
/// How long a client may take to send the head of a request, from the end of the last one on.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long it may take to send the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// How long it may take for the handshake of TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one connection may be used. A client that reads no answers is rid of by it.
const LIFE_MAX: Duration = Duration::from_secs(600);
/// How long a client that has used its connection for that long may take for the answer that is due.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The same when the process ends.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);
/// Most bytes of a request's head.
const HEAD_MAX: usize = 16 << 10;
/// How long a predecessor takes at most to leave its addresses, as a rule.
const WAIT_EXPECTED: Duration = Duration::from_secs(10);
/// Between two looks at an address that a predecessor has not left yet, and after accepting has failed.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves the sites until the door is closed. Those without a listener open when their address is free.
pub(super) async fn serve(sites: Vec<(Site, Option<Listener>)>, door: Door) {
    let mut running = JoinSet::new();
    for (site, listener) in sites {
        running.spawn(run_site(site, listener, door.clone()));
    }
    while running.join_next().await.is_some() {}
}

async fn run_site(site: Site, listener: Option<Listener>, door: Door) {
    let Site { name, path, at, tls, router, alongside } = site;
    let label = format!("{name} {at}");
    let opened = async {
        match listener {
            Some(listener) => Some(listener),
            None => wait_for(&label, &at).await,
        }
    };
    let closed = async {
        door.closed().await;
        None
    };
    let Some(listener) = opened.or(closed).await else { return };
    let scheme = if tls.is_some() { "https" } else { "http" };
    match listener.at() {
        Ok(At::Tcp(addr)) => tracing::info!("{name} on {scheme}://{addr}{path}"),
        Ok(At::Unix(socket)) => tracing::info!("{name} on {}, path {path}", socket.display()),
        Err(error) => tracing::warn!("{label}: {error}"),
    }
    let talk = Talk { router: TowerToHyperService::new(router), tls: tls.map(TlsAcceptor::from), door: door.clone() };
    let mut clients = JoinSet::new();
    let accepting = async {
        if let Err(error) = accept(&label, listener, talk, &mut clients).await {
            tracing::error!("{label}: {error}");
        }
    };
    accepting.or(door.closed()).or(alongside).await;
    let finished = async { while clients.join_next().await.is_some() {} };
    let _ = timeout(FINISH_TIMEOUT, finished).await;
}

/// Opens a site when whoever listens there has left; `None` if it can't be opened then.
async fn wait_for(label: &str, at: &At) -> Option<Listener> {
    let begun = Instant::now();
    let mut told = false;
    loop {
        match Listener::try_open(at) {
            Opened::Listens(listener) => return Some(listener),
            Opened::Taken => {
                if !told && begun.elapsed() > WAIT_EXPECTED {
                    tracing::warn!("{label}: another program still listens there; it is waited for");
                    told = true;
                }
                sleep(PAUSE).await;
            }
            Opened::Failed(reason) => {
                tracing::error!("{label}: {reason}");
                return None;
            }
        }
    }
}

async fn accept(label: &str, listener: Listener, talk: Talk, clients: &mut JoinSet<()>) -> io::Result<()> {
    let listener = Acceptor::new(listener)?;
    let mut places = Places::new(CLIENTS_MAX);
    loop {
        while !places.make_room() {
            sleep(PAUSE).await;
        }
        match listener.accept().await {
            Ok((stream, ip)) => {
                let place = Place::new(ip);
                let client = Client { ip, place: place.clone() };
                places.take(place, clients.spawn(talk.clone().talk(stream, client)));
            }
            Err(error) => {
                tracing::warn!("{label}: accepting pauses: {error}");
                sleep(PAUSE).await;
            }
        }
        while clients.try_join_next().is_some() {}
    }
}

/// A connection, of whichever kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "it removes the socket when it is dropped")] Placed),
}

impl Acceptor {
    fn new(listener: Listener) -> io::Result<Self> {
        Ok(match listener {
            Listener::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            Listener::Unix(listener, placed) => Self::Unix(UnixListener::from_std(listener)?, placed),
        })
    }

    async fn accept(&self) -> io::Result<(Box<dyn Stream>, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, addr) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Box::new(stream), Some(addr.ip().to_canonical())))
            }
            Self::Unix(listener, _) => Ok((Box::new(listener.accept().await?.0), None)),
        }
    }
}

/// How clients are talked to.
#[derive(Clone)]
struct Talk {
    router: TowerToHyperService<Router>,
    tls: Option<TlsAcceptor>,
    door: Door,
}

impl Talk {
    async fn talk(self, stream: Box<dyn Stream>, client: Client) {
        let Some(tls) = &self.tls else { return self.answer(stream, client).await };
        match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.answer(stream, client).await,
            Ok(Err(error)) => tracing::debug!("a client's TLS handshake failed: {error}"),
            Err(_) => tracing::debug!("a client's TLS handshake took too long"),
        }
    }

    /// Answers requests until the client leaves or has to.
    async fn answer(&self, stream: impl Stream, client: Client) {
        let router = &self.router;
        let service = service_fn(|mut request: Request<Incoming>| {
            let client = client.clone();
            request.extensions_mut().insert(client.clone());
            async move {
                client.place.set_works(true);
                let response = router.call(request).await;
                client.place.set_works(false);
                response
            }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_MAX);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let leaves = async {
            // What goes wrong is the client's affair.
            let _ = connection.as_mut().await;
            true
        };
        let has_to = async {
            self.door.closed().or(sleep(LIFE_MAX)).await;
            false
        };
        if !leaves.or(has_to).await {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(ANSWER_TIMEOUT, connection).await;
        }
    }
}

/// Why a request's body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyError {
    TooLong,
    TooSlow,
    /// The client has left, or its framing is wrong.
    Broken,
}

/// Reads the body of a client's request, of at most so many bytes.
pub(crate) async fn read_body(client: &Client, body: Body, most: usize) -> Result<Vec<u8>, BodyError> {
    client.place.set_works(false);
    let read = timeout(BODY_TIMEOUT, collect(body, most)).await;
    client.place.set_works(true);
    read.unwrap_or(Err(BodyError::TooSlow))
}

async fn collect(body: Body, most: usize) -> Result<Vec<u8>, BodyError> {
    // What is announced is not waited for.
    if body.size_hint().lower() > most as u64 {
        return Err(BodyError::TooLong);
    }
    let mut bytes = Vec::new();
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| BodyError::Broken)?;
        if bytes.len() + piece.len() > most {
            return Err(BodyError::TooLong);
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}
