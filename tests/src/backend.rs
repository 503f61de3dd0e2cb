//! Servers behind a frontend: played by a script in threads of their own ([`Backend`]), or by the test itself
//! ([`Listener`]).

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use rustls::ServerConfig;
use socket2::{Domain, SockRef, Socket, Type};

use crate::client::{self, with_deadlines};
use crate::wait::{self, HANG};
use crate::{Channel, Lb, stream};

/// A server that plays the same script with every client.
#[derive(Debug)]
pub struct Backend {
    addr: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    accepted: AtomicU64,
    stopped: AtomicBool,
}

impl Backend {
    /// Plays `script` with every client, each in a thread of its own.
    pub fn run(script: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::run_at("127.0.0.1:0", script)
    }

    /// The same at an address.
    ///
    /// # Panics
    /// If the address can't be bound.
    pub fn run_at(bind: &str, script: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = listen(bind.parse().unwrap());
        let addr = listener.local_addr().unwrap();
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || accept_until_stopped(&listener, &shared, &Arc::new(script)));
        Self { addr, state }
    }

    /// Says its name and closes.
    pub fn who(name: &str) -> Self {
        let name = name.to_owned();
        Self::run(move |mut stream| {
            let _ = stream.write_all(name.as_bytes());
        })
    }

    /// Says its name, then sends back what it gets until the client closes.
    pub fn who_and_echo(name: &str) -> Self {
        let name = name.to_owned();
        Self::run(move |mut stream| {
            let _ = stream.write_all(name.as_bytes());
            echo(stream);
        })
    }

    /// Sends back what it gets, until the client closes.
    pub fn echo() -> Self {
        Self::run(echo)
    }

    /// The same at an address.
    pub fn echo_at(addr: SocketAddr) -> Self {
        Self::run_at(&addr.to_string(), echo)
    }

    /// Plays `script` with every client that makes a TLS handshake.
    pub fn secure(config: Arc<ServerConfig>, script: impl Fn(Channel) + Send + Sync + 'static) -> Self {
        Self::run(move |stream| {
            if let Ok(channel) = Channel::accept(stream, &config) {
                script(channel);
            }
        })
    }

    /// Says its name in TLS, then sends back what it gets until the client closes, and closes in order.
    pub fn secure_who_and_echo(name: &str, config: Arc<ServerConfig>) -> Self {
        let name = name.to_owned();
        Self::secure(config, move |mut channel| {
            let _ = channel.write_all(name.as_bytes());
            echo(channel.clone());
            let _ = channel.end();
        })
    }

    /// Sends the first `bytes` bytes of the stream of `seed` and closes.
    pub fn source(seed: u64, bytes: u64) -> Self {
        Self::run(move |mut stream| {
            let _ = stream::write(&mut stream, seed, bytes);
        })
    }

    /// Reads to the end, answers with the hash of what it got, and closes.
    pub fn hash() -> Self {
        Self::run(|mut stream| {
            if let Ok(digest) = stream::read(&mut stream) {
                let _ = stream.write_all(digest.to_string().as_bytes());
            }
        })
    }

    /// Reads `bytes` bytes and closes with a reset.
    pub fn reset_after(bytes: usize) -> Self {
        Self::run(move |mut stream| {
            let _ = stream.read_exact(&mut vec![0; bytes]);
            client::reset(stream);
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many connections it has accepted.
    pub fn accepted(&self) -> u64 {
        self.state.accepted.load(Relaxed)
    }

    /// Ends it. When this returns its address refuses connections; those that were accepted go on.
    ///
    /// # Panics
    /// If something else listens there.
    pub fn stop(self) {
        let addr = reachable(self.addr);
        drop(self);
        wait::until("the address of a stopped server refuses", || TcpStream::connect_timeout(&addr, HANG).is_err());
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.state.stopped.store(true, Relaxed);
        // Wakes the thread that waits in accept, so that it sees that it is to stop.
        let _ = TcpStream::connect_timeout(&reachable(self.addr), HANG);
    }
}

/// A listening socket whose connections the test plays itself.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    /// Listens at a port of 127.0.0.1 that the kernel chooses.
    #[allow(clippy::new_without_default, reason = "a default is not expected to open a socket")]
    pub fn new() -> Self {
        let listener = listen("127.0.0.1:0".parse().unwrap());
        SockRef::from(&listener).set_read_timeout(Some(HANG)).unwrap();
        Self(listener)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// The next connection.
    ///
    /// # Panics
    /// If none comes within [`HANG`].
    pub fn accept(&self) -> TcpStream {
        let (stream, _) = self.0.accept().unwrap_or_else(|error| panic!("nobody connected to the server: {error}"));
        with_deadlines(stream).unwrap()
    }
}

/// The two ends of a relayed connection.
#[derive(Debug)]
pub struct Pair {
    pub client: TcpStream,
    pub server: TcpStream,
}

impl Pair {
    /// Connects to frontend `web`, whose only server is `listener`.
    pub fn new(lb: &Lb, listener: &Listener) -> Self {
        let client = client::connect(lb.addr("web"));
        Self { client, server: listener.accept() }
    }
}

/// An address that refuses connections for as long as the socket lives: bound, not listening.
///
/// # Panics
/// If no port is left.
pub fn refusing_addr() -> (SocketAddr, Socket) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    (socket.local_addr().unwrap().as_socket().unwrap(), socket)
}

/// Sends back what comes until the client closes.
pub(crate) fn echo(mut stream: impl Read + Write) {
    let mut chunk = [0; 16 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        if stream.write_all(&chunk[..count]).is_err() {
            return;
        }
    }
}

/// Of a thread that plays with one client: enough for a TLS handshake.
const STACK: usize = 256 * 1024;

fn accept_until_stopped(
    listener: &TcpListener,
    state: &State,
    script: &Arc<impl Fn(TcpStream) + Send + Sync + 'static>,
) {
    for stream in listener.incoming().flatten() {
        if state.stopped.load(Relaxed) {
            return;
        }
        state.accepted.fetch_add(1, Relaxed);
        let script = Arc::clone(script);
        let _ = stream.set_nodelay(true);
        thread::Builder::new().stack_size(STACK).spawn(move || script(stream)).unwrap();
    }
}

/// A listening socket whose queue holds a burst of a thousand connections (the standard library's holds 128).
pub(crate) fn listen(addr: SocketAddr) -> TcpListener {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    // Who had it before may live on for a moment in a child that another test's thread is just starting.
    let bind = || match socket.bind(&addr.into()) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => None,
        bound => Some(bound),
    };
    let bound = wait::until_some(&format!("{addr} is free"), bind);
    bound.unwrap_or_else(|error| panic!("can't listen at {addr}: {error}"));
    socket.listen(4096).unwrap();
    socket.into()
}

fn reachable(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        ip if ip.is_unspecified() => SocketAddr::from(([127, 0, 0, 1], addr.port())),
        _ => addr,
    }
}
