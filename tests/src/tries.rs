//! Clients that come all the time, whatever becomes of those before them. Each has a connection of its own, and what became
//! of it is kept.

use std::io::{self, Error, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::client::try_connect;
use crate::{Channel, wait};

/// Asks a server something, and tells whether the answer is right.
pub type Exchange = fn(SocketAddr) -> io::Result<()>;

/// What became of a client.
#[derive(Debug, Clone)]
pub struct Try {
    /// When it began to connect.
    pub begun: Instant,
    /// When it had its answer, or failed.
    pub ended: Instant,
    pub result: Result<(), String>,
}

/// Clients of an address, one every few milliseconds until dropped.
#[derive(Debug)]
pub struct Tries {
    shared: Arc<Shared>,
    pace: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    done: Mutex<Vec<Try>>,
    /// When those came who have not ended.
    unfinished: Mutex<Vec<Instant>>,
    stopped: AtomicBool,
}

impl Tries {
    /// Begins.
    pub fn start(addr: SocketAddr, exchange: impl Fn(SocketAddr) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let exchange = Arc::new(exchange);
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        let pace = thread::spawn(move || {
            while !own.stopped.load(Relaxed) {
                if let Some(came) = own.come() {
                    let (shared, exchange) = (Arc::clone(&own), Arc::clone(&exchange));
                    let client = thread::Builder::new().stack_size(256 * 1024);
                    client.spawn(move || shared.run(addr, came, &*exchange)).expect("a thread can be started");
                }
                thread::sleep(PAUSE);
            }
        });
        Self { shared, pace: Some(pace) }
    }

    /// Waits until so many clients have their answers who came after this call, and gives the time of the call.
    ///
    /// # Panics
    /// If they don't get them.
    pub fn until_more(&self, count: usize) -> Instant {
        let now = Instant::now();
        let is_served = |client: &&Try| client.begun >= now && client.result.is_ok();
        wait::until("clients are served", || {
            self.shared.done.lock().unwrap().iter().filter(is_served).count() >= count
        });
        now
    }

    /// Waits until everybody has ended who came before this call, and so many have their answers who came after it.
    ///
    /// # Panics
    /// If they don't.
    pub fn until_all_new(&self, count: usize) {
        let now = Instant::now();
        wait::until("who came before has ended", || {
            self.shared.unfinished.lock().unwrap().iter().all(|came| *came >= now)
        });
        self.until_more(count);
    }

    /// Waits until nobody is left, and gives what became of all.
    ///
    /// # Panics
    /// If somebody gets neither an answer nor an error.
    pub fn stop(mut self) -> Vec<Try> {
        self.stop_pace();
        wait::until("every client has ended", || self.shared.unfinished.lock().unwrap().is_empty());
        std::mem::take(&mut *self.shared.done.lock().unwrap())
    }

    fn stop_pace(&mut self) {
        self.shared.stopped.store(true, Relaxed);
        if let Some(pace) = self.pace.take() {
            pace.join().expect("the pace is kept");
        }
    }
}

impl Drop for Tries {
    fn drop(&mut self) {
        self.stop_pace();
    }
}

impl Shared {
    /// The next client, unless there are too many.
    fn come(&self) -> Option<Instant> {
        let mut unfinished = self.unfinished.lock().unwrap();
        let may_come = unfinished.len() < UNFINISHED_MAX;
        may_come.then(|| {
            let now = Instant::now();
            unfinished.push(now);
            now
        })
    }

    fn run(&self, addr: SocketAddr, came: Instant, exchange: &impl Fn(SocketAddr) -> io::Result<()>) {
        let begun = Instant::now();
        let result = exchange(addr).map_err(|error| error.to_string());
        self.done.lock().unwrap().push(Try { begun, ended: Instant::now(), result });
        self.unfinished.lock().unwrap().retain(|other| *other != came);
    }
}

/// Gets the page `/` by HTTP.
///
/// # Errors
/// Any other answer than 200, or none.
pub fn http(addr: SocketAddr) -> io::Result<()> {
    let mut stream = try_connect(addr)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    expect(answer.as_bytes(), answer.starts_with("HTTP/1.1 200"))
}

/// Pings a Redis server.
///
/// # Errors
/// Any other answer than PONG, or none.
pub fn redis(addr: SocketAddr) -> io::Result<()> {
    ask::<7>(addr, b"PING\r\n", |answer| answer == b"+PONG\r\n")
}

/// Asks a PostgreSQL server whether it speaks TLS.
///
/// # Errors
/// Any other answer than yes or no, or none.
pub fn postgres(addr: SocketAddr) -> io::Result<()> {
    ask::<1>(addr, b"\0\0\0\x08\x04\xd2\x16\x2f", |answer| matches!(answer, b"N" | b"S"))
}

/// Sends a message in TLS to `site.example`, which echoes.
///
/// # Errors
/// No handshake, another answer or none, or no close_notify behind it.
pub fn echo_in_tls(addr: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<()> {
    let mut client = Channel::connect(addr, "site.example", config)?;
    client.write_all(b"hello")?;
    client.end()?;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer)?;
    expect(&answer, answer == b"hello")
}

/// Sends a message to a server that echoes.
///
/// # Errors
/// Another answer, or none.
pub fn echo(addr: SocketAddr) -> io::Result<()> {
    ask::<5>(addr, b"hello", |answer| answer == b"hello")
}

fn ask<const LENGTH: usize>(addr: SocketAddr, question: &[u8], is_right: fn(&[u8]) -> bool) -> io::Result<()> {
    let mut stream = try_connect(addr)?;
    stream.write_all(question)?;
    let mut answer = [0; LENGTH];
    stream.read_exact(&mut answer)?;
    expect(&answer, is_right(&answer))
}

fn expect(answer: &[u8], is_right: bool) -> io::Result<()> {
    let wrong = || Error::other(format!("answered {}", answer.escape_ascii()));
    is_right.then_some(()).ok_or_else(wrong)
}

/// Between two clients.
const PAUSE: Duration = Duration::from_millis(8);
/// Most clients at once.
const UNFINISHED_MAX: usize = 1000;
