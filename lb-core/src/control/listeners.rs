//! The listening sockets: opened before a change is stored, so that an address that can't be had refuses the change;
//! closed after every shard has acknowledged a table without them. At the start they may be there already, handed over by
//! the balancer whose place this one takes, or by systemd.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::change::Refused;
use crate::config::{Bind, Name};
use crate::machine::Obstacle;
use crate::sys::socket;
use crate::table::ListenerId;

/// A listening address with its sockets, as one balancer hands it over to the next.
#[derive(Debug)]
pub struct Listener {
    /// The frontend that accepts there; `None` for an inherited socket that no frontend uses.
    pub frontend: Option<Name>,
    /// As configured.
    pub bind: Bind,
    /// True for sockets that are another program's too, which goes on listening when the balancer stops.
    pub is_inherited: bool,
    /// At least one. Connections wait in each, so each must be accepted from.
    pub sockets: Vec<OwnedFd>,
}

/// A listening address with its sockets: one per shard, unless they were handed over.
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

    /// Descriptor numbers by shard, for the table. Each shard has one at least, and each socket a shard.
    pub(super) fn numbers(&self, shards: usize) -> Arc<[Box<[RawFd]>]> {
        let numbers: Vec<_> = self.sockets.iter().map(AsRawFd::as_raw_fd).collect();
        (0..shards).map(|shard| share(shard, shards, numbers.len()).map(|index| numbers[index]).collect()).collect()
    }

    /// The same sockets, for another process.
    pub(super) fn duplicate(&self, frontend: &Name) -> io::Result<Listener> {
        let sockets = self.sockets.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
        Ok(Listener { frontend: Some(frontend.clone()), bind: self.bind, is_inherited: self.is_inherited, sockets })
    }

    /// What is left of it when its sockets are another process's.
    pub(super) fn without_sockets(&self) -> Self {
        Self { sockets: Vec::new(), ..*self }
    }
}

/// Which of the sockets a shard accepts from. Shards that outnumber the sockets share them; if there are more sockets, a
/// shard has several.
fn share(shard: usize, shards: usize, sockets: usize) -> impl Iterator<Item = usize> {
    let groups = shards.min(sockets);
    (0..sockets).filter(move |socket| socket % groups == shard % groups)
}

/// Opens listening sockets.
#[derive(Debug)]
pub(super) struct Opener {
    shards: usize,
    /// Handed over and not used. Inherited ones stay for frontends that are added later.
    given: Vec<Listener>,
    next: ListenerId,
    /// How long an address that is in use is waited for.
    patience: Duration,
}

/// At the start, the sockets of a balancer that was killed a moment ago may still be there: the kernel tears its rings
/// down after the process has gone.
const START_PATIENCE: Duration = Duration::from_secs(1);

impl Opener {
    /// With the sockets that were `inherited`, and what was `taken_over` from another balancer.
    pub(super) fn new(shards: usize, inherited: Vec<OwnedFd>, mut taken_over: Vec<Listener>) -> Result<Self, Refused> {
        let by_addr = |listener: OwnedFd| {
            let bind = Bind::Addr(socket::local_addr(&listener)?);
            Ok(Listener { frontend: None, bind, is_inherited: true, sockets: vec![listener] })
        };
        let inherited = inherited.into_iter().map(by_addr).collect::<io::Result<Vec<_>>>();
        let inherited = inherited.map_err(|error| Refused::field("bind", format!("an inherited socket: {error}")))?;
        taken_over.retain(|listener| !listener.sockets.is_empty());
        let given = taken_over.into_iter().chain(inherited).collect();
        Ok(Self { shards, given, next: 1, patience: START_PATIENCE })
    }

    /// Opens `bind` for a frontend. The `present` listeners are those of this balancer, with which a port may be shared.
    pub(super) fn open(
        &mut self,
        frontend: &Name,
        bind: Bind,
        present: &[Arc<ListenerSet>],
    ) -> Result<ListenerSet, Refused> {
        let opened = match (self.take_given(frontend, bind), bind) {
            (Some(given), _) => given,
            (None, Bind::Inherited(fd)) => socket::inherited_listener(fd).map(|listener| (vec![listener], true)),
            (None, Bind::Addr(addr)) => {
                let is_other = |other: SocketAddr| other.port() != addr.port();
                let is_alone = present.iter().all(|other| is_other(other.addr)) && self.given_addrs().all(is_other);
                self.listen(addr, is_alone).map(|sockets| (sockets, false))
            }
        };
        let opened = opened.and_then(|(sockets, is_inherited)| {
            let addr = socket::local_addr(&sockets[0])?;
            Ok(ListenerSet { id: self.next, bind, addr, sockets, is_inherited })
        });
        let opened = opened.map_err(|error| Refused::field("bind", explain_bind(bind, &error).to_string()))?;
        self.next += 1;
        Ok(opened)
    }

    /// What was handed over for this address, and whether it is inherited.
    fn take_given(&mut self, frontend: &Name, bind: Bind) -> Option<io::Result<(Vec<OwnedFd>, bool)>> {
        // Several frontends may have left their ports to the kernel: then only the name tells whose is whose.
        let is_chosen_by_kernel = matches!(bind, Bind::Addr(addr) if addr.port() == 0);
        let is_own = |given: &Listener| given.bind == bind && given.frontend.as_ref() == Some(frontend);
        let own = self.given.iter().position(is_own);
        let index = own.or_else(|| self.given.iter().position(|given| given.bind == bind && !is_chosen_by_kernel))?;
        if !self.given[index].is_inherited {
            return Some(Ok((self.given.swap_remove(index).sockets, false)));
        }
        let sockets = self.given[index].sockets.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>();
        Some(sockets.map(|sockets| (sockets, true)))
    }

    fn given_addrs(&self) -> impl Iterator<Item = SocketAddr> {
        self.given.iter().filter_map(|given| socket::local_addr(&given.sockets[0]).ok())
    }

    /// Inherited sockets that none of `used` uses, for another process.
    pub(super) fn duplicate_unused(&self, used: &[Listener]) -> io::Result<Vec<Listener>> {
        let is_unused = |given: &&Listener| used.iter().all(|used| used.bind != given.bind);
        let duplicate = |given: &Listener| {
            let sockets = given.sockets.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
            Ok(Listener { frontend: None, bind: given.bind, is_inherited: true, sockets })
        };
        self.given.iter().filter(is_unused).map(duplicate).collect()
    }

    /// From now on an address that is in use refuses the change at once, and what was taken over without a use is closed.
    pub(super) fn on_started(&mut self) {
        self.patience = Duration::ZERO;
        self.given.retain(|given| given.is_inherited);
    }

    /// Closes what was handed over.
    pub(super) fn close(&mut self) {
        self.given.clear();
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
}

/// What a failure to listen means to the operator.
pub(crate) fn explain_bind(bind: Bind, error: &io::Error) -> Obstacle {
    let obstacle = |what: &str, remedy: &str| Obstacle::new(format!("{bind} {what}"), remedy);
    match error.kind() {
        io::ErrorKind::AddrInUse => obstacle("is in use by another program", "stop it, or take another port"),
        io::ErrorKind::AddrNotAvailable => {
            obstacle("is not an address of this host", "add it to an interface, or take one that `ip addr` lists")
        }
        io::ErrorKind::PermissionDenied => {
            obstacle("needs a privilege", "run as root, with CAP_NET_BIND_SERVICE, or take a port from 1024 on")
        }
        _ => Obstacle::new(format!("can't listen on {bind} ({error})"), "take another address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_socket_is_without_a_shard_and_no_shard_without_a_socket() {
        for (shards, sockets) in [(1, 1), (1, 5), (2, 3), (3, 2), (5, 1), (4, 4)] {
            let shares: Vec<Vec<_>> = (0..shards).map(|shard| share(shard, shards, sockets).collect()).collect();
            assert!(shares.iter().all(|share| !share.is_empty()), "{shards} shards, {sockets} sockets: {shares:?}");
            assert!((0..sockets).all(|socket| shares.iter().any(|share| share.contains(&socket))), "{shares:?}");
        }
        assert_eq!(share(1, 2, 5).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(share(2, 3, 2).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn what_was_taken_over_is_matched_by_address_and_ports_of_the_kernel_by_name() {
        let name = |name: &str| Name::new(name).unwrap();
        let any = Bind::Addr("127.0.0.1:0".parse().unwrap());
        let listener = |frontend: &str, bind| {
            let sockets = socket::listen("127.0.0.1:0".parse().unwrap(), 2, false).unwrap();
            (
                socket::local_addr(&sockets[0]).unwrap(),
                Listener { frontend: Some(name(frontend)), bind, is_inherited: false, sockets },
            )
        };
        let fixed = Bind::Addr("127.0.0.1:7000".parse().unwrap());
        let given = [("a", any), ("b", any), ("c", fixed)].map(|(frontend, bind)| listener(frontend, bind));
        let addrs = given.each_ref().map(|(addr, _)| *addr);
        let mut opener = Opener::new(2, Vec::new(), given.into_iter().map(|(_, given)| given).collect()).unwrap();

        assert_eq!(opener.open(&name("b"), any, &[]).unwrap().addr, addrs[1]);
        assert_eq!(opener.open(&name("renamed"), fixed, &[]).unwrap().addr, addrs[2]);
        assert!(!addrs.contains(&opener.open(&name("new"), any, &[]).unwrap().addr), "a port of its own");
        assert_eq!(opener.open(&name("a"), any, &[]).unwrap().addr, addrs[0]);
        assert!(!addrs.contains(&opener.open(&name("a"), any, &[]).unwrap().addr), "each is given once");
    }
}
