//! Who is talked to at once, and who gives way when there are too many: of the address that has the most places, the client
//! that has been waited for the longest. So clients that say nothing, or too slowly, or come all the time, keep nobody else
//! out.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::AbortHandle;

/// A client's place.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// `None` at a Unix socket.
    network: Option<IpAddr>,
    /// Whether this program has something to do for it. If not, it is waited for.
    works: Arc<AtomicBool>,
}

impl Place {
    pub(super) fn new(ip: Option<IpAddr>) -> Self {
        Self { network: ip.map(network), works: Arc::default() }
    }

    pub(super) fn set_works(&self, works: bool) {
        self.works.store(works, Ordering::Relaxed);
    }

    fn works(&self) -> bool {
        self.works.load(Ordering::Relaxed)
    }
}

/// The clients of a site, those first that came first.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    taken: VecDeque<(Place, AbortHandle)>,
}

impl Places {
    /// For at most `most` clients.
    pub(super) fn new(most: usize) -> Self {
        Self { most, taken: VecDeque::new() }
    }

    /// Gives a client's task its place.
    pub(super) fn take(&mut self, place: Place, client: AbortHandle) {
        self.taken.push_back((place, client));
    }

    /// Makes room for one more, if need be by ending a client that is waited for. False if there is none: all are worked
    /// for.
    pub(super) fn make_room(&mut self) -> bool {
        if self.taken.len() < self.most {
            return true;
        }
        self.taken.retain(|(_, client)| !client.is_finished());
        if self.taken.len() < self.most {
            return true;
        }
        let Some((_, client)) = self.victim().and_then(|index| self.taken.remove(index)) else { return false };
        client.abort();
        true
    }

    fn victim(&self) -> Option<usize> {
        let mut places: HashMap<Option<IpAddr>, usize> = HashMap::new();
        self.taken.iter().for_each(|(place, _)| *places.entry(place.network).or_default() += 1);
        let waited_for = self.taken.iter().enumerate().filter(|(_, (place, _))| !place.works());
        // Of equals the last is taken, which from behind is the oldest.
        let most = waited_for.rev().max_by_key(|(_, (place, _))| places.get(&place.network));
        most.map(|(index, _)| index)
    }
}

/// Who has one IPv6 address has the network's.
pub(crate) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) >> 64 << 64).into()),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A runtime with clients that never end, and their places.
    fn with_clients(count: usize, test: impl AsyncFnOnce(&mut Places, &[Place], &[tokio::task::JoinHandle<()>])) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut places = Places::new(count);
            let given: Vec<_> = (0..count).map(|_| Place::new(None)).collect();
            let clients: Vec<_> = (0..count).map(|_| tokio::spawn(std::future::pending())).collect();
            given.iter().zip(&clients).for_each(|(place, client)| places.take(place.clone(), client.abort_handle()));
            test(&mut places, &given, &clients).await;
        });
    }

    #[test]
    fn the_oldest_that_is_waited_for_gives_way() {
        with_clients(3, async |places, given, clients| {
            given[0].set_works(true);
            assert!(places.make_room());
            tokio::task::yield_now().await;
            let ended: Vec<_> = clients.iter().map(tokio::task::JoinHandle::is_finished).collect();
            assert_eq!(ended, [false, true, false]);
            assert_eq!(places.taken.len(), 2);
        });
    }

    #[test]
    fn an_address_with_many_clients_gives_way_before_others() {
        let place = |ip: &str| Place::new(ip.parse().ok());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut places = Places::new(4);
            let given = ["192.0.2.1", "2001:db8::1", "2001:db8::2", "192.0.2.1", "2001:db8::3"].map(place);
            let clients: [_; 5] = std::array::from_fn(|_| tokio::spawn(std::future::pending::<()>()));
            let ended = async || {
                tokio::task::yield_now().await;
                clients.iter().map(tokio::task::JoinHandle::is_finished).collect::<Vec<_>>()
            };
            for (place, client) in given.iter().zip(&clients).take(4) {
                places.take(place.clone(), client.abort_handle());
            }
            assert!(places.make_room());
            assert_eq!(ended().await, [true, false, false, false, false], "as many as of the network, and older");
            places.take(given[4].clone(), clients[4].abort_handle());
            given[1].set_works(true);
            assert!(places.make_room());
            assert_eq!(
                ended().await,
                [true, false, true, false, false],
                "the network has the most, but one is worked for"
            );
        });
    }

    #[test]
    fn who_is_worked_for_keeps_its_place() {
        with_clients(2, async |places, given, clients| {
            given.iter().for_each(|place| place.set_works(true));
            assert!(!places.make_room());
            clients[0].abort();
            tokio::task::yield_now().await;
            assert!(places.make_room());
            assert_eq!(places.taken.len(), 1);
        });
    }
}
