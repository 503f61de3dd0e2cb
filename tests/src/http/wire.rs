//! One end of a connection that speaks HTTP/1.1.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::ClientConfig;

use super::{Body, Framing, Message};
use crate::Channel;
use crate::client::{End, connect, is_reset};

/// One end of a connection.
#[derive(Debug)]
pub struct Wire<S: Read + Write = TcpStream> {
    stream: BufReader<S>,
}

impl Wire {
    /// A client of `addr`.
    ///
    /// # Panics
    /// If the connection can't be made.
    pub fn connect(addr: SocketAddr) -> Self {
        Self::over(connect(addr))
    }

    /// Ends the direction to the other side.
    ///
    /// # Panics
    /// If the connection is broken.
    pub fn end(&self) {
        self.stream.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    }
}

impl Wire<Channel> {
    /// A client of `addr` that speaks TLS and asks for `name`.
    ///
    /// # Panics
    /// If there is no handshake.
    pub fn secure(addr: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> Self {
        Self::over(Channel::connect(addr, name, config).unwrap_or_else(|error| panic!("no handshake: {error}")))
    }
}

impl<S: Read + Write> Wire<S> {
    /// An end of a connection that is there.
    pub fn over(stream: S) -> Self {
        Self { stream: BufReader::with_capacity(64 * 1024, stream) }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection breaks.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// If the connection breaks.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap_or_else(|error| panic!("can't send: {error}"));
    }

    /// Gets a page, over this connection.
    ///
    /// # Panics
    /// If no whole response comes.
    pub fn get(&mut self, target: &str) -> Message {
        self.ask(&request("GET", target, &[], ""))
    }

    /// Gets a page with some fields in the request.
    ///
    /// # Panics
    /// If no whole response comes.
    pub fn get_with(&mut self, target: &str, fields: &[(&str, &str)]) -> Message {
        self.ask(&request("GET", target, fields, ""))
    }

    /// Sends a request and reads the response to it.
    ///
    /// # Panics
    /// If no whole response comes.
    pub fn ask(&mut self, request: &str) -> Message {
        self.try_ask(request).unwrap_or_else(|error| panic!("no answer to {request:?}: {error}"))
    }

    /// Sends a request and reads the response to it.
    ///
    /// # Errors
    /// No whole response comes.
    pub fn try_ask(&mut self, request: &str) -> io::Result<Message> {
        self.try_send(request)?;
        self.try_answer(request.split(' ').next().unwrap_or_default())
    }

    /// The next final response, which is one to `method`.
    ///
    /// # Panics
    /// If no whole one comes.
    pub fn answer(&mut self, method: &str) -> Message {
        self.try_answer(method).unwrap_or_else(|error| panic!("no answer to {method}: {error}"))
    }

    /// The next final response, which is one to `method`.
    ///
    /// # Errors
    /// No whole one comes.
    pub fn try_answer(&mut self, method: &str) -> io::Result<Message> {
        loop {
            let head = self.try_head()?;
            if !(100..200).contains(&head.status()) || head.status() == 101 {
                let framing = Framing::of_response(&head, method);
                return self.whole(head, framing);
            }
        }
    }

    /// The next head, of a final response or another one.
    ///
    /// # Panics
    /// If none comes.
    pub fn head(&mut self) -> Message {
        self.try_head().unwrap_or_else(|error| panic!("no head: {error}"))
    }

    /// The next head, of a final response or another one.
    ///
    /// # Errors
    /// None comes.
    pub fn try_head(&mut self) -> io::Result<Message> {
        Message::read_head(&mut self.stream)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// The next request with its body. `None` if the client has ended the connection.
    ///
    /// # Errors
    /// No whole one comes.
    pub fn request(&mut self) -> io::Result<Option<Message>> {
        let Some(head) = Message::read_head(&mut self.stream)? else { return Ok(None) };
        let framing = Framing::of_request(&head);
        self.whole(head, framing).map(Some)
    }

    /// The body that comes next.
    pub fn body(&mut self, framing: Framing) -> Body<'_, BufReader<S>> {
        Body::new(&mut self.stream, framing)
    }

    /// The connection, to write to it.
    pub fn writer(&mut self) -> &mut S {
        self.stream.get_mut()
    }

    /// The connection, with what was read ahead.
    pub fn reader(&mut self) -> &mut BufReader<S> {
        &mut self.stream
    }

    /// The connection. What was read ahead must have been taken.
    ///
    /// # Panics
    /// If there is something left of it.
    pub fn into_inner(self) -> S {
        assert!(self.stream.buffer().is_empty(), "bytes were read ahead");
        self.stream.into_inner()
    }

    /// Reads to the end of the connection and gives what came and how it ended.
    ///
    /// # Panics
    /// If it does not end.
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        let mut all = Vec::new();
        loop {
            match self.stream.fill_buf() {
                Ok([]) => return (all, End::Orderly),
                Ok(bytes) => {
                    let count = bytes.len();
                    all.extend_from_slice(bytes);
                    self.stream.consume(count);
                }
                Err(error) if is_reset(&error) => return (all, End::Reset),
                Err(error) => panic!("after {} the connection does not end: {error}", all.escape_ascii()),
            }
        }
    }

    /// Waits for the other side to close without another byte.
    ///
    /// # Panics
    /// If something comes, or it stays open.
    pub fn closes(&mut self) {
        let (rest, _) = self.rest();
        assert!(rest.is_empty(), "before the end came {}", rest.escape_ascii());
    }

    fn whole(&mut self, mut head: Message, framing: Framing) -> io::Result<Message> {
        let mut body = Body::new(&mut self.stream, framing);
        body.read_to_end(&mut head.body)?;
        head.trailers = body.trailers();
        Ok(head)
    }
}

/// The text of a request to `site.example`, with the length of its body if it has one.
pub fn request(method: &str, target: &str, fields: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: site.example\r\n");
    for (name, value) in fields {
        text += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    text + "\r\n" + body
}
