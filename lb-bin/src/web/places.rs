//! Who is talked to at once, and who gives way when there are too many: the one that has been waited for the longest. So
//! clients that say nothing, or too slowly, keep nobody else out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::AbortHandle;

/// A client's place.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// Whether this program has something to do for it. If not, it is waited for.
    works: Arc<AtomicBool>,
}

impl Place {
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

    /// Makes room for one more, if need be by ending the client that has been waited for the longest. False if there is none:
    /// all are worked for.
    pub(super) fn make_room(&mut self) -> bool {
        if self.taken.len() < self.most {
            return true;
        }
        self.taken.retain(|(_, client)| !client.is_finished());
        if self.taken.len() < self.most {
            return true;
        }
        let Some(oldest) = self.taken.iter().position(|(place, _)| !place.works()) else { return false };
        if let Some((_, client)) = self.taken.remove(oldest) {
            client.abort();
        }
        true
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
            let given: Vec<_> = (0..count).map(|_| Place::default()).collect();
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
