//! Clients that stay: each has one connection, never comes again, and checks every byte. Whatever is done meanwhile, none of
//! them may notice it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::ServerConfig;

use crate::client::connect;
use crate::http::{Body, Chunks, Framing, Message, Wire, request};
use crate::{Backend, stream, wait};

/// Between two rounds of a client: without it clients would leave no core to whoever makes the changes.
const PAUSE: Duration = Duration::from_millis(1);

/// Some clients, until they are told to end.
#[derive(Debug, Default)]
pub struct Crowd {
    has_ended: Arc<AtomicBool>,
    clients: Vec<Client>,
}

#[derive(Debug)]
struct Client {
    name: String,
    rounds: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Crowd {
    /// One client more, which plays `round` again and again with the number of the round.
    pub fn join(&mut self, name: &str, mut round: impl FnMut(u64) -> io::Result<()> + Send + 'static) {
        let (has_ended, rounds) = (Arc::clone(&self.has_ended), Arc::<AtomicU64>::default());
        let (counted, called) = (Arc::clone(&rounds), name.to_owned());
        let thread = thread::spawn(move || {
            for number in 0.. {
                if has_ended.load(Relaxed) {
                    break;
                }
                round(number).unwrap_or_else(|error| panic!("client {called} is disturbed in round {number}: {error}"));
                counted.store(number + 1, Relaxed);
                thread::sleep(PAUSE);
            }
        });
        self.clients.push(Client { name: name.to_owned(), rounds, thread });
    }

    /// Returns when every client has played two rounds more, of which one was begun meanwhile.
    ///
    /// # Panics
    /// If one of them does not.
    pub fn go_on(&self, what: &str) {
        for client in &self.clients {
            let until = client.rounds.load(Relaxed) + 2;
            let goes_on = || client.rounds.load(Relaxed) >= until || client.thread.is_finished();
            wait::until(&format!("client {} goes on while {what}", client.name), goes_on);
        }
        let ended = self.clients.iter().filter(|client| client.thread.is_finished());
        let disturbed: Vec<_> = ended.map(|client| &client.name).collect();
        assert!(disturbed.is_empty(), "these clients were disturbed while {what}: {disturbed:?}");
    }

    /// Ends it.
    ///
    /// # Panics
    /// If a client has noticed something.
    pub fn end(self) {
        self.has_ended.store(true, Relaxed);
        let ends: Vec<_> = self.clients.into_iter().map(|client| (client.name, client.thread.join())).collect();
        let disturbed: Vec<_> = ends.iter().filter(|(_, end)| end.is_err()).map(|(name, _)| name).collect();
        assert!(disturbed.is_empty(), "clients were disturbed: {disturbed:?}");
    }
}

/// Sends up to a few MiB to who echoes, and reads them back while it sends.
///
/// # Errors
/// The connection breaks, or something else comes back.
pub fn echo(reader: &mut impl Read, writer: &mut (impl Write + Send), round: u64) -> io::Result<()> {
    let bytes = 4 * size(round);
    thread::scope(|scope| {
        let writing = scope.spawn(|| stream::write(writer, round, bytes));
        let came = stream::read(&mut reader.take(bytes))?;
        let sent = writing.join().expect("writing does not panic")?;
        if came == sent { Ok(()) } else { Err(differs(&sent.to_string(), &came.to_string())) }
    })
}

/// The same in turns: small messages, each of them whole before the answer is read.
///
/// # Errors
/// The connection breaks, or something else comes back.
pub fn ping(stream: &mut (impl Read + Write), round: u64) -> io::Result<()> {
    let message = bytes(round, size(round) % 5_000 + 1);
    stream.write_all(&message)?;
    let mut back = vec![0; message.len()];
    stream.read_exact(&mut back)?;
    if back == message { Ok(()) } else { Err(differs(&said(&message), &said(&back))) }
}

/// Asks a [`site`] something, with and without a body, whose length is known or not. Only 200 is good. Gives the answer.
///
/// # Errors
/// There is no answer, or not this one.
pub fn ask<S: Read + Write>(wire: &mut Wire<S>, round: u64) -> io::Result<Message> {
    let (size, is_chunked) = (size(round), round.is_multiple_of(3));
    let framing = ["chunked", "length", "closing"][(round % 7 % 3) as usize];
    let target = format!("/{framing}/{round}/{size}");
    let body = bytes(round, size);
    match round % 4 {
        0 | 1 => wire.try_send(request("GET", &target, &[], ""))?,
        _ if is_chunked => {
            wire.try_send(request("POST", &target, &[("Transfer-Encoding", "chunked")], ""))?;
            let mut chunks = Chunks::new(wire.writer());
            body.chunks(70_000).try_for_each(|chunk| chunks.write_all(chunk))?;
            chunks.end("")?;
        }
        _ => {
            let head = request("POST", &target, &[("Content-Length", &size.to_string())], "");
            wire.try_send([head.as_bytes(), &body].concat())?;
        }
    }
    let answer = wire.try_answer("GET")?;
    is_right(answer, &body)
}

/// Asks a [`site`] several things at once.
///
/// # Errors
/// There are no answers, or not these.
pub fn pipeline<S: Read + Write>(wire: &mut Wire<S>, round: u64) -> io::Result<()> {
    const SIZES: [u64; 3] = [100, 9_000, 0];
    let ask = |size: &u64| request("GET", &format!("/length/{round}/{size}"), &[], "");
    wire.try_send(SIZES.iter().map(ask).collect::<String>())?;
    SIZES.iter().try_for_each(|size| is_right(wire.try_answer("GET")?, &bytes(round, *size)).map(drop))
}

fn is_right(answer: Message, body: &[u8]) -> io::Result<Message> {
    match answer.status() {
        200 if answer.body == body => Ok(answer),
        200 => Err(differs(&said(body), &said(&answer.body))),
        _ => Err(differs("an answer with status 200", &format!("{} {}", answer.line, said(&answer.body)))),
    }
}

/// Changes to a protocol in which a [`site`] echoes.
///
/// # Panics
/// If it does not.
pub fn upgrade(addr: SocketAddr) -> TcpStream {
    let mut wire = Wire::over(connect(addr));
    wire.send(request("GET", "/", &[("Connection", "upgrade"), ("Upgrade", "echo")], ""));
    assert_eq!(wire.head().status(), 101);
    wire.into_inner()
}

/// A server for [`ask`], [`pipeline`] and [`upgrade`]: it answers with the body that the target names, in the framing that it
/// names, and closes after some of its answers.
pub fn site() -> Backend {
    Backend::run(|stream| serve(&mut Wire::over(stream)))
}

/// The same in TLS.
pub fn secure_site(config: Arc<ServerConfig>) -> Backend {
    Backend::secure(config, |channel| serve(&mut Wire::over(channel)))
}

fn serve<S: Read + Write>(wire: &mut Wire<S>) {
    while let Ok(head) = wire.try_head() {
        if head.has("upgrade") {
            wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
            return crate::backend::echo(Both(wire));
        }
        let Ok(answer) = answer(wire, &head) else { return };
        if wire.try_send(&answer).is_err() || head.target().starts_with("/closing") {
            return;
        }
    }
}

fn answer<S: Read + Write>(wire: &mut Wire<S>, head: &Message) -> io::Result<Vec<u8>> {
    let target: Vec<_> = head.target().split('/').collect();
    let [_, framing, seed, size] = target[..] else { return Err(differs("a target of ours", head.target())) };
    let wanted = bytes(seed.parse().unwrap_or(0), size.parse().unwrap_or(0));
    if head.method() == "POST" {
        let mut came = Vec::new();
        Body::new(wire.reader(), Framing::of_request(head)).read_to_end(&mut came)?;
        if came != wanted {
            return Ok(b"HTTP/1.1 400 The body differs\r\nContent-Length: 0\r\n\r\n".to_vec());
        }
    }
    let mut answer = Vec::new();
    match framing {
        "chunked" => {
            answer.extend_from_slice(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let mut chunks = Chunks::new(&mut answer);
            wanted.chunks(50_000).try_for_each(|chunk| chunks.write_all(chunk))?;
            chunks.end("")?;
        }
        _ => {
            let close = if framing == "closing" { "Connection: close\r\n" } else { "" };
            write!(answer, "HTTP/1.1 200 OK\r\n{close}Content-Length: {}\r\n\r\n", wanted.len())?;
            answer.extend_from_slice(&wanted);
        }
    }
    Ok(answer)
}

/// Both directions of a wire as one.
struct Both<'w, S: Read + Write>(&'w mut Wire<S>);

impl<S: Read + Write> Read for Both<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.reader().read(buffer)
    }
}

impl<S: Read + Write> Write for Both<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.writer().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// From a byte to half a MiB, small ones more often.
fn size(round: u64) -> u64 {
    let drawn = (round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    match drawn % 16 {
        0 => drawn % 600_000,
        1..4 => drawn % 30_000,
        _ => drawn % 700,
    }
}

fn bytes(seed: u64, count: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream::write(&mut bytes, seed, count).expect("memory takes everything");
    bytes
}

fn said(bytes: &[u8]) -> String {
    format!("{} bytes, {}", bytes.len(), bytes[..bytes.len().min(100)].escape_ascii())
}

fn differs(wanted: &str, came: &str) -> io::Error {
    io::Error::other(format!("instead of {wanted} came {came}"))
}
