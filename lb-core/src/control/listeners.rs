//! The listening sockets: opened before a change is stored, so that an address that can't be had refuses the change;
//! closed after every shard has acknowledged a table without them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::change::Refused;
use crate::config::Bind;
use crate::sys::socket;
use crate::table::ListenerId;

/// A listening address with a socket per shard.
#[derive(Debug)]
pub(super) struct ListenerSet {
    pub(super) id: ListenerId,
    /// As configured.
    pub(super) bind: Bind,
    /// As it is: with the port that the kernel chose.
    pub(super) addr: SocketAddr,
    sockets: Vec<OwnedFd>,
    /// An inherited socket is another program's too: it goes on listening.
    is_inherited: bool,
}

impl ListenerSet {
    /// Refuses connections from now on.
    pub(super) fn stop(&self) {
        if !self.is_inherited {
            self.sockets.iter().for_each(socket::stop_listening);
        }
    }

    /// Descriptor numbers by shard, for the table.
    pub(super) fn numbers(&self) -> Arc<[RawFd]> {
        self.sockets.iter().map(AsRawFd::as_raw_fd).collect()
    }
}

/// Opens listening sockets.
#[derive(Debug)]
pub(super) struct Opener {
    shards: usize,
    /// Handed over by the embedding program, with their addresses.
    inherited: Vec<(SocketAddr, OwnedFd)>,
    next: ListenerId,
    /// How long an address that is in use is waited for.
    patience: Duration,
}

/// At the start, the sockets of a balancer that was killed a moment ago may still be there: the kernel tears its rings
/// down after the process has gone.
const START_PATIENCE: Duration = Duration::from_secs(1);

impl Opener {
    pub(super) fn new(shards: usize, inherited: Vec<OwnedFd>) -> Result<Self, Refused> {
        let with_addr = |listener: OwnedFd| Ok((socket::local_addr(&listener)?, listener));
        let inherited = inherited.into_iter().map(with_addr).collect::<io::Result<_>>();
        let inherited = inherited.map_err(|error| Refused::field("bind", format!("an inherited socket: {error}")))?;
        Ok(Self { shards, inherited, next: 1, patience: START_PATIENCE })
    }

    /// Opens `bind`. The `present` listeners are those of this balancer, with which a port may be shared.
    pub(super) fn open(&mut self, bind: Bind, present: &[Arc<ListenerSet>]) -> Result<ListenerSet, Refused> {
        let handed_over = self.inherited.iter().find(|(addr, _)| bind == Bind::Addr(*addr));
        let is_inherited = handed_over.is_some() || matches!(bind, Bind::Inherited(_));
        let opened = match (bind, handed_over) {
            (_, Some((_, listener))) => self.share(listener),
            (Bind::Inherited(fd), None) => socket::inherited_listener(fd).and_then(|listener| self.share(&listener)),
            (Bind::Addr(addr), None) => {
                let is_alone = present.iter().all(|other| other.addr.port() != addr.port());
                self.listen(addr, is_alone)
            }
        };
        let opened = opened.and_then(|sockets| Ok((socket::local_addr(&sockets[0])?, sockets)));
        let (addr, sockets) = opened.map_err(|error| Refused::field("bind", explain(bind, &error)))?;
        self.next += 1;
        Ok(ListenerSet { id: self.next, bind, addr, sockets, is_inherited })
    }

    /// From now on an address that is in use refuses the change at once.
    pub(super) fn on_started(&mut self) {
        self.patience = Duration::ZERO;
    }

    fn listen(&self, addr: SocketAddr, is_alone: bool) -> io::Result<Vec<OwnedFd>> {
        let deadline = Instant::now() + self.patience;
        loop {
            match socket::listen(addr, self.shards, is_alone) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(10));
                }
                outcome => return outcome,
            }
        }
    }

    /// All shards accept from the same socket.
    fn share(&self, listener: &OwnedFd) -> io::Result<Vec<OwnedFd>> {
        (0..self.shards).map(|_| listener.try_clone()).collect()
    }
}

fn explain(bind: Bind, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("{bind} is in use by another program"),
        io::ErrorKind::AddrNotAvailable => format!("{bind} is not an address of this host"),
        io::ErrorKind::PermissionDenied => {
            format!("{bind} needs a privilege: run as root, with CAP_NET_BIND_SERVICE, or take a port from 1024 on")
        }
        _ => format!("can't listen on {bind}: {error}"),
    }
}
