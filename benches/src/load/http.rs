//! Requests of HTTP to nginx ([`Origin`]), over connections that stay, each with one on its way.
//!
//! Every answer's head is read: its status, its length, and whether it sets the balancer's cookie where it should and nowhere
//! else.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use nix::sys::socket::SetSockOpt;
use rustix::event::epoll::EventFlags;

use super::balancer_address;
use super::on_epoll::Part;
use super::stream::{ReceiveLowWater, TOLD_AT};
use crate::latency::Latency;
use crate::net::epoll::{Conn, Net, Received, Traffic};
use crate::net::{End, Id};
use crate::peers::{LARGE, Origin, SMALL};
use crate::{Result, cpu};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// 64 bytes. A unit is a request.
    Small,
    /// [`LARGE`]. A unit is a byte.
    Large,
}

/// How clients do with cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cookies {
    /// Nobody sets any: there is no balancer.
    Unset,
    /// Each request is that of a new client, and each answer sets one.
    Dropped,
    /// The first answer of a connection sets one, and all others go with it.
    Kept,
}

/// The load of requests.
#[derive(Debug)]
pub struct Http {
    connections: usize,
    body: Body,
    cookies: Cookies,
    origin: u32,
    clients: HashMap<Id, Client>,
    buffer: Vec<u8>,
    asked: u64,
    answered: u64,
    body_bytes: u64,
    latency: Latency,
    stopping: bool,
}

/// A client's connection.
#[derive(Debug)]
struct Client {
    request: Vec<u8>,
    asked_at: Instant,
    has_cookie: bool,
    awaits: Awaits,
    /// What is set of [`ReceiveLowWater`].
    told_at: u64,
}

/// What of an answer is still to come.
#[derive(Debug)]
enum Awaits {
    /// Its head, of which this is there.
    Head(Vec<u8>),
    /// So many bytes of its body.
    Body(u64),
}

/// What is received at one go.
const PIECE: usize = 256 << 10;

impl Http {
    /// With so many connections at once.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(connections: usize, body: Body, cookies: Cookies, origin: &Origin) -> Result<Self> {
        Ok(Self {
            connections,
            body,
            cookies,
            origin: origin.pid(),
            clients: HashMap::new(),
            buffer: vec![0; PIECE],
            asked: 0,
            answered: 0,
            body_bytes: 0,
            latency: Latency::new()?,
            stopping: false,
        })
    }

    fn ask(&mut self, net: &mut Net, id: Id) -> Result<()> {
        let (Some(conn), Some(client)) = (net.conn(id), self.clients.get_mut(&id)) else { return Ok(()) };
        client.asked_at = Instant::now();
        self.asked += 1;
        match conn.send(&client.request)? {
            true => Ok(()),
            false => Err("a connection to a balancer was not established at once".into()),
        }
    }

    fn on_answer(&mut self, net: &mut Net, id: Id) -> Result<()> {
        self.answered += 1;
        if let (Body::Small, Some(client)) = (self.body, self.clients.get(&id)) {
            self.latency.record(client.asked_at.elapsed());
        }
        if self.stopping {
            self.clients.remove(&id);
            net.close(id);
            return Ok(());
        }
        self.ask(net, id)
    }
}

/// Whether these bytes are a small answer, whole, and as it should be.
///
/// # Errors
/// It is another answer.
pub(super) fn is_answer(bytes: &[u8], cookies: Cookies) -> Result<bool> {
    let Some(head) = Head::read(bytes)? else { return Ok(false) };
    check_cookie(&head, cookies, false, &mut Vec::new())?;
    let size = head.length + usize::try_from(head.body)?;
    if bytes.len() > size || head.body != SMALL {
        return Err(format!("{} B came for an answer of {size}", bytes.len()).into());
    }
    Ok(bytes.len() == size)
}

impl Client {
    fn new(path: &str) -> Self {
        let request = format!("GET {path} HTTP/1.1\r\nHost: site.bench\r\n\r\n").into_bytes();
        let awaits = Awaits::Head(Vec::new());
        Self { request, asked_at: Instant::now(), has_cookie: false, awaits, told_at: 1 }
    }

    /// Receives once. How many bytes of the body came, and whether it is complete now; `None` if there was nothing.
    fn receive(&mut self, conn: &mut Conn, buffer: &mut [u8], cookies: Cookies) -> Result<Option<(u64, bool)>> {
        let received = match self.awaits {
            Awaits::Head(_) => conn.receive(buffer)?,
            Awaits::Body(_) => conn.discard(buffer)?,
        };
        let bytes = match received {
            Received::Bytes(bytes) => bytes,
            Received::Nothing => return Ok(None),
            Received::End => return Err("the balancer closed a connection".into()),
        };
        let (came, mut left) = match &mut self.awaits {
            Awaits::Body(left) => (bytes as u64, *left),
            Awaits::Head(so_far) => {
                so_far.extend_from_slice(&buffer[..bytes]);
                let Some(head) = Head::read(so_far)? else { return Ok(Some((0, false))) };
                let (came, left) = ((so_far.len() - head.length) as u64, head.body);
                self.has_cookie = check_cookie(&head, cookies, self.has_cookie, &mut self.request)?;
                (came, left)
            }
        };
        left = left.checked_sub(came).ok_or("more came than the answer to a request")?;
        self.awaits = if left == 0 { Awaits::Head(Vec::new()) } else { Awaits::Body(left) };
        self.wait_for(conn, left)?;
        Ok(Some((came, left == 0)))
    }

    /// Large bodies are told of in large pieces, as the streams of other loads are. By TLS there are none.
    fn wait_for(&mut self, conn: &Conn, left: u64) -> Result<()> {
        let told_at = left.clamp(1, TOLD_AT.unsigned_abs().into());
        if told_at != std::mem::replace(&mut self.told_at, told_at) {
            ReceiveLowWater.set(&conn.socket, &i32::try_from(told_at)?)?;
        }
        Ok(())
    }
}

/// What is asked of an answer's head.
struct Head<'a> {
    length: usize,
    body: u64,
    /// The cookie's name and value.
    cookie: Option<&'a [u8]>,
}

impl<'a> Head<'a> {
    /// `None`: more has to come.
    fn read(bytes: &'a [u8]) -> Result<Option<Self>> {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut answer = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(length) = answer.parse(bytes)? else { return Ok(None) };
        if answer.code != Some(200) {
            return Err(format!("an answer was {:?} {:?}", answer.code, answer.reason).into());
        }
        let field = |name: &str| answer.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        let body = field("Content-Length").ok_or("an answer has no length")?;
        let body = str::from_utf8(body.value)?.parse()?;
        let cookie = field("Set-Cookie").and_then(|field| field.value.split(|byte| *byte == b';').next());
        Ok(Some(Self { length, body, cookie }))
    }
}

/// Checks that an answer sets a cookie if it should, and puts it into the next `request` if it is to be kept. Whether the client
/// has one now.
fn check_cookie(head: &Head<'_>, cookies: Cookies, has_cookie: bool, request: &mut Vec<u8>) -> Result<bool> {
    match (cookies, head.cookie) {
        (Cookies::Unset, None) | (Cookies::Dropped, Some(_)) => Ok(false),
        (Cookies::Kept, Some(cookie)) if !has_cookie => {
            request.truncate(request.len() - b"\r\n".len());
            request.extend([b"Cookie: ", cookie, b"\r\n\r\n"].concat());
            Ok(true)
        }
        (Cookies::Kept, None) if has_cookie => Ok(true),
        (_, cookie) => {
            let set = cookie.map(String::from_utf8_lossy);
            Err(format!("an answer set the cookie {set:?}, where cookies are {cookies:?}").into())
        }
    }
}

impl Traffic for Http {
    fn on_ready(&mut self, net: &mut Net, id: Id, _: EventFlags) -> Result<()> {
        let (Some(conn), Some(client)) = (net.conn(id), self.clients.get_mut(&id)) else { return Ok(()) };
        if conn.end == End::Server {
            return Err("a request went to a server that is none of HTTP".into());
        }
        let Some((came, is_complete)) = client.receive(conn, &mut self.buffer, self.cookies)? else { return Ok(()) };
        self.body_bytes += came;
        if is_complete { self.on_answer(net, id) } else { Ok(()) }
    }

    fn server_interest(&self) -> EventFlags {
        EventFlags::IN
    }
}

impl Part for Http {
    fn start(&mut self, net: &mut Net, port: u16) -> Result<()> {
        let path = if self.body == Body::Small { "/" } else { "/large" };
        for _ in 0..self.connections {
            let id = net.connect(balancer_address(0, port), EventFlags::IN)?;
            self.clients.insert(id, Client::new(path));
            self.ask(net, id)?;
        }
        Ok(())
    }

    fn is_going(&self) -> bool {
        self.answered >= self.connections as u64
    }

    fn units(&self) -> u64 {
        match self.body {
            Body::Small => self.answered,
            Body::Large => self.body_bytes,
        }
    }

    fn latency(&mut self) -> Option<&mut Latency> {
        (self.body == Body::Small).then_some(&mut self.latency)
    }

    fn cpu(&self) -> Result<Duration> {
        Ok(cpu::used_by_this_thread() + cpu::used_by(self.origin)?)
    }

    fn stop(&mut self, _: &mut Net) -> Result<()> {
        self.stopping = true;
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let size = match self.body {
            Body::Small => SMALL,
            Body::Large => LARGE,
        };
        if self.asked == self.answered && self.body_bytes == self.answered * size {
            return Ok(());
        }
        let (asked, answered, bytes) = (self.asked, self.answered, self.body_bytes);
        Err(format!("{asked} requests were sent, {answered} answered, with {bytes} B in all").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(fields: &str, body: usize) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\ncontent-length: 64\r\n{fields}\r\n{}", "x".repeat(body)).into_bytes()
    }

    #[test]
    fn an_answer_is_one_when_all_of_it_is_there() {
        let bytes = answer("set-cookie: LBSERVER=s1; path=/\r\n", 64);
        for length in 0..bytes.len() {
            assert!(!is_answer(&bytes[..length], Cookies::Dropped).expect("it is fine so far"), "{length}");
        }
        assert!(is_answer(&bytes, Cookies::Dropped).expect("it is fine"));
    }

    #[test]
    fn another_answer_than_the_expected_one_is_an_error() {
        let cookie = "Set-Cookie: LBSERVER=s1\r\n";
        for (bytes, cookies) in [
            (answer("", 64), Cookies::Dropped),
            (answer(cookie, 64), Cookies::Unset),
            (answer(cookie, 65), Cookies::Dropped),
            (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec(), Cookies::Unset),
        ] {
            assert!(is_answer(&bytes, cookies).is_err(), "{cookies:?}: {}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn a_cookie_that_is_kept_goes_with_the_next_request() {
        let bytes = answer("Set-Cookie: LBSERVER=s1; Path=/\r\n", 0);
        let head = Head::read(&bytes).expect("it is fine").expect("it is whole");
        let mut request = b"GET / HTTP/1.1\r\nHost: site.bench\r\n\r\n".to_vec();
        assert!(check_cookie(&head, Cookies::Kept, false, &mut request).expect("it is the first"));
        assert_eq!(request, b"GET / HTTP/1.1\r\nHost: site.bench\r\nCookie: LBSERVER=s1\r\n\r\n");
        assert!(check_cookie(&head, Cookies::Kept, true, &mut request).is_err(), "another one");
    }
}
