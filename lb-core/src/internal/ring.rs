//! The data plane's ring, for the benches' traffic: clients and servers that exchange short messages at little cost.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use crate::machine::explain;
use crate::sys::buffers::{BufferId, BufferSize};
use crate::sys::ring::{Completion, Multishot, Piece, SendMode};
use crate::sys::{ring, socket};

/// An io_uring of the calling thread, with one group of buffers.
pub struct Ring {
    ring: ring::Ring,
    completions: Vec<Completion>,
    /// Buffers whose bytes are on their way out with the next turn.
    leaving: Vec<BufferId>,
}

/// Bytes that were received, in a buffer of the ring.
#[derive(Debug)]
pub struct Chunk {
    buffer: BufferId,
    bytes: u16,
}

impl Chunk {
    /// Most bytes of a chunk.
    pub const BYTES_MAX: usize = BufferSize::Small.bytes();

    /// How many bytes these are.
    pub fn bytes(&self) -> usize {
        self.bytes.into()
    }
}

/// What a turn brought for a token.
#[derive(Debug)]
pub enum News {
    /// A listening socket has a connection.
    Accepted(OwnedFd),
    /// Bytes came. The receive goes on.
    Received(Chunk),
    /// The receive, or the accept, is over: the other end has finished sending, or it was cancelled.
    Ended,
    /// The receive, accept or a send failed, or the socket did not take a whole message.
    Failed(io::Error),
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Ring")
    }
}

/// What an operation does, in the upper half of its user data; the lower half is the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Accept = 1,
    Receive,
    Send,
    /// Cancels or closes: its result tells nothing.
    End,
}

impl Kind {
    fn with(self, token: u32) -> u64 {
        (self as u64) << 32 | u64::from(token)
    }

    fn of(user_data: u64) -> Option<Self> {
        [Self::Accept, Self::Receive, Self::Send, Self::End].into_iter().find(|kind| *kind as u64 == user_data >> 32)
    }
}

impl Ring {
    /// Sets it up for the calling thread, the only one that may use it.
    ///
    /// # Errors
    /// The kernel refuses it: the text says what to change.
    pub fn new() -> io::Result<Self> {
        let ring = ring::Ring::new(0).map_err(|error| io::Error::other(explain(&error)))?;
        Ok(Self { ring, completions: Vec::new(), leaving: Vec::new() })
    }

    /// Accepts connections until cancelled.
    pub fn accept(&mut self, listener: &OwnedFd, token: u32) {
        self.ring.accept(listener.as_raw_fd(), Multishot::Yes, Kind::Accept.with(token));
    }

    /// Receives until the other end finishes, or until cancelled.
    ///
    /// # Panics
    /// All buffers are in use: chunks were kept.
    pub fn receive(&mut self, socket: &OwnedFd, token: u32) {
        let group = self.ring.receive(socket, BufferSize::Small, |_| Kind::Receive.with(token));
        assert_eq!(group, Some(0), "the only group of buffers has some left");
    }

    /// Sends a chunk, which stays as it is.
    pub fn send(&mut self, socket: &OwnedFd, chunk: &Chunk, token: u32) {
        let piece = Piece { buffer: chunk.buffer, start: 0, end: chunk.bytes };
        self.ring.send(socket, std::iter::once(piece), SendMode::AtOnce, Kind::Send.with(token));
    }

    /// Sends a chunk whose buffer then becomes free.
    pub fn send_away(&mut self, socket: &OwnedFd, chunk: Chunk, token: u32) {
        self.send(socket, &chunk, token);
        self.leaving.push(chunk.buffer);
    }

    /// What a chunk has.
    pub fn open(&mut self, chunk: &Chunk) -> &[u8] {
        self.ring.open(Piece { buffer: chunk.buffer, start: 0, end: chunk.bytes }).0
    }

    /// Frees a chunk's buffer.
    pub fn give_back(&mut self, chunk: Chunk) {
        self.ring.give_back(chunk.buffer);
    }

    /// Cancels what a socket waits for.
    pub fn cancel(&mut self, socket: &OwnedFd) {
        self.ring.cancel_all(socket, Kind::End.with(0));
    }

    /// Closes a socket.
    pub fn close(&mut self, socket: OwnedFd) {
        self.ring.close(socket, Kind::End.with(0));
    }

    /// Submits what was asked for, waits until something happens or `timeout` is over, and adds what happened to `news`, by
    /// token.
    ///
    /// # Errors
    /// The kernel refuses the wait.
    pub fn turn(&mut self, timeout: Duration, news: &mut Vec<(u32, News)>) -> io::Result<()> {
        self.ring.enter(Some(timeout), None)?;
        let mut completions = std::mem::take(&mut self.completions);
        self.ring.reap(&mut completions);
        // Sends at once are over when they have been submitted.
        if self.ring.is_settled() {
            self.leaving.drain(..).for_each(|buffer| self.ring.give_back(buffer));
        }
        for completion in completions.drain(..) {
            let token = completion.user_data as u32;
            news.extend(self.news_of(&completion).map(|what| (token, what)));
        }
        self.completions = completions;
        Ok(())
    }

    fn news_of(&mut self, completion: &Completion) -> Option<News> {
        let kind = Kind::of(completion.user_data)?;
        let chunk = match kind {
            Kind::Receive => self.ring.received(completion, 0).map(|buffer| (buffer, completion.result)),
            _ => None,
        };
        match (kind, completion.result) {
            (Kind::End, _) | (Kind::Send, 0..) => None,
            (Kind::Accept, fd @ 0..) => Some(News::Accepted(socket::from_completion(fd))),
            (Kind::Receive, 1..) => chunk.map(|(buffer, bytes)| News::Received(Chunk { buffer, bytes: bytes as u16 })),
            (Kind::Receive, 0) => {
                chunk.into_iter().for_each(|(buffer, _)| self.ring.give_back(buffer));
                Some(News::Ended)
            }
            (Kind::Accept | Kind::Receive, error) if error == -libc::ECANCELED => Some(News::Ended),
            (_, error) => Some(News::Failed(io::Error::from_raw_os_error(-error))),
        }
    }
}
