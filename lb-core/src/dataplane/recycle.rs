//! Sockets to servers whose connection has ended in order, kept to be connected to the same address anew.
//!
//! Making and destroying a socket is a twentieth of the CPU time of a short connection: its file, inode and the structures of TCP.
//! A connection gets a fresh start all the same, with its options as they were, and with one thing to mind: the kernel counts
//! sequence numbers on from the last connection instead of drawing new ones (RFC 6528). Only that connection's peer could
//! foretell them. So a socket goes to the address it was connected to and to no other; an IPv6 socket would also stay bound to
//! the interface of a link-local address.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use crate::sys::socket;

/// The kept sockets of a shard.
#[derive(Debug)]
pub(super) struct Recycled {
    /// The one that was kept last is at the back.
    sockets: VecDeque<(SocketAddr, OwnedFd)>,
    max: usize,
}

impl Recycled {
    /// Keeps at most this many.
    pub(super) fn new(max: usize) -> Self {
        Self { sockets: VecDeque::new(), max }
    }

    /// Whether keeping sockets is worth it: with more servers than sockets, one would be closed before its server's turn comes
    /// again.
    pub(super) fn is_worth_it(&self, servers: usize) -> bool {
        servers <= self.max
    }

    /// A socket to connect to this address with, a kept one if there is one.
    ///
    /// # Errors
    /// Descriptors or memory have run out.
    pub(super) fn socket_for(&mut self, addr: SocketAddr) -> io::Result<OwnedFd> {
        let kept = self.sockets.iter().rposition(|(kept, _)| *kept == addr);
        match kept.and_then(|position| self.sockets.remove(position)) {
            Some((_, socket)) => Ok(socket),
            None => socket::for_server(addr),
        }
    }

    /// Keeps a socket that was connected to this address. Both sides must have ended. Gives back what is to be closed: this
    /// one, if it can't be kept, or the one that has been kept for longest, if there is no room.
    pub(super) fn keep(&mut self, socket: OwnedFd, addr: SocketAddr) -> Option<OwnedFd> {
        if !matches!(socket::disconnect(&socket), Ok(true)) {
            return Some(socket);
        }
        self.sockets.push_back((addr, socket));
        if self.sockets.len() <= self.max {
            return None;
        }
        self.sockets.pop_front().map(|(_, oldest)| oldest)
    }

    /// How many are kept.
    pub(super) fn count(&self) -> usize {
        self.sockets.len()
    }

    /// Closes all, because descriptors are needed.
    pub(super) fn close_all(&mut self) {
        self.sockets.clear();
    }
}
