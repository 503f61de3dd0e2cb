//! Sockets to servers whose connection has ended in order, kept to be connected anew.
//!
//! Making and destroying a socket is a tenth of the CPU time of a short connection: its file, inode and the structures of TCP.
//! A connection gets a fresh start all the same: nothing of the earlier one is left in the kernel but the options we set.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use crate::sys::socket;

/// Most sockets that are kept, per address family: as many as end between two turns of a busy shard.
const KEPT: usize = 64;

/// The kept sockets of a shard.
#[derive(Debug, Default)]
pub(super) struct Recycled {
    v4: Vec<OwnedFd>,
    v6: Vec<OwnedFd>,
}

impl Recycled {
    /// A socket to connect to this address with, a kept one if there is one.
    ///
    /// # Errors
    /// Descriptors or memory have run out.
    pub(super) fn socket_for(&mut self, addr: SocketAddr) -> io::Result<OwnedFd> {
        self.of(addr).pop().map_or_else(|| socket::for_server(addr), Ok)
    }

    /// Keeps a socket that was connected to this address. Both sides must have ended. Gives it back, to be closed, if it can't be
    /// kept.
    pub(super) fn keep(&mut self, socket: OwnedFd, addr: SocketAddr) -> Option<OwnedFd> {
        let kept = self.of(addr);
        if kept.len() < KEPT && matches!(socket::disconnect(&socket), Ok(true)) {
            kept.push(socket);
            return None;
        }
        Some(socket)
    }

    /// Closes all, because descriptors are needed.
    pub(super) fn close(&mut self) {
        *self = Self::default();
    }

    fn of(&mut self, addr: SocketAddr) -> &mut Vec<OwnedFd> {
        if addr.is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }
}
