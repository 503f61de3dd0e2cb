//! Servers that speak HTTP/1.1 and say afterwards what they have seen.

use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::SockRef;

use super::{Message, Wire};
use crate::Backend;

/// A server.
#[derive(Debug)]
pub struct Site {
    backend: Backend,
    seen: Arc<Mutex<Vec<Seen>>>,
    open: Arc<Mutex<HashMap<u64, TcpStream>>>,
}

/// A request that a server has read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which of the server's connections it came over, from 1.
    pub connection: u64,
    pub request: Message,
}

impl Site {
    /// Answers every request with the bytes that `answer` gives (to HEAD, the head of them), and closes after those that say
    /// `Connection: close`.
    pub fn run<A: AsRef<[u8]>>(answer: impl Fn(&Message) -> A + Send + Sync + 'static) -> Self {
        Self::run_at("127.0.0.1:0", answer)
    }

    /// The same at an address.
    pub fn run_at<A: AsRef<[u8]>>(bind: &str, answer: impl Fn(&Message) -> A + Send + Sync + 'static) -> Self {
        Self::play_at(bind, move |wire, visit| {
            while let Ok(Some(request)) = wire.request() {
                visit.note(&request);
                let answer = answer(&request);
                let bytes = if request.method() == "HEAD" { head_of(answer.as_ref()) } else { answer.as_ref() };
                if wire.try_send(bytes).is_err() || says_close(bytes) {
                    return;
                }
            }
        })
    }

    /// Answers every request with its name.
    pub fn named(name: &str) -> Self {
        Self::named_at("127.0.0.1:0", name)
    }

    /// The same at an address.
    pub fn named_at(bind: &str, name: &str) -> Self {
        let answer = ok(name);
        Self::run_at(bind, move |_| answer.clone())
    }

    /// Plays `script` with every connection, each in a thread of its own.
    pub fn play(script: impl Fn(&mut Wire, &Visit) + Send + Sync + 'static) -> Self {
        Self::play_at("127.0.0.1:0", script)
    }

    fn play_at(bind: &str, script: impl Fn(&mut Wire, &Visit) + Send + Sync + 'static) -> Self {
        let (seen, open) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<Mutex<HashMap<u64, TcpStream>>>::default());
        let (noted, kept, connections) = (Arc::clone(&seen), Arc::clone(&open), AtomicU64::new(0));
        let backend = Backend::run_at(bind, move |stream: TcpStream| {
            let connection = connections.fetch_add(1, Relaxed) + 1;
            kept.lock().unwrap().insert(connection, stream.try_clone().unwrap());
            script(&mut Wire::over(stream), &Visit { connection, seen: Arc::clone(&noted) });
            kept.lock().unwrap().remove(&connection);
        });
        Self { backend, seen, open }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.backend.addr()
    }

    /// How many connections it has accepted.
    pub fn accepted(&self) -> u64 {
        self.backend.accepted()
    }

    /// The requests that it has read, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The requests that it has read, without those connections that they came over.
    pub fn requests(&self) -> Vec<Message> {
        self.seen().into_iter().map(|seen| seen.request).collect()
    }

    /// The last request that it has read.
    ///
    /// # Panics
    /// If there is none.
    pub fn last(&self) -> Message {
        self.requests().pop().expect("the server has seen a request")
    }

    /// How many connections it has now.
    pub fn connections(&self) -> usize {
        self.open.lock().unwrap().len()
    }

    /// Closes the connections that it has now.
    pub fn hang_up(&self) {
        self.open.lock().unwrap().values().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }

    /// Resets the connections that it has now, once their scripts end.
    pub fn hang_up_with_reset(&self) {
        for stream in self.open.lock().unwrap().values() {
            SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
            let _ = stream.shutdown(Shutdown::Read);
        }
    }

    /// Ends it with all of its connections. When this returns its address refuses connections.
    pub fn kill(self) {
        let open = Arc::clone(&self.open);
        self.backend.stop();
        open.lock().unwrap().values().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }
}

/// One connection to a server.
#[derive(Debug)]
pub struct Visit {
    /// Its number, from 1.
    pub connection: u64,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Visit {
    /// Says that a request has been read.
    pub fn note(&self, request: &Message) {
        self.seen.lock().unwrap().push(Seen { connection: self.connection, request: request.clone() });
    }
}

/// A response with a text.
pub fn ok(text: &str) -> String {
    reply(200, "", text)
}

/// A response with lines of fields, each with its CRLF, and a text with its length.
pub fn reply(status: u16, fields: &str, text: &str) -> String {
    let length = text.len();
    format!("HTTP/1.1 {status} Whatever\r\nContent-Type: text/plain\r\n{fields}Content-Length: {length}\r\n\r\n{text}")
}

fn head_of(response: &[u8]) -> &[u8] {
    let end = response.windows(4).position(|part| part == b"\r\n\r\n");
    &response[..end.map_or(response.len(), |end| end + 4)]
}

fn says_close(response: &[u8]) -> bool {
    response.to_ascii_lowercase().windows(17).any(|part| part == b"connection: close")
}
