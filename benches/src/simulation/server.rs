//! A simulated server: a few workers, and a queue without a bound in front of them.

use std::collections::VecDeque;

use super::scenario::WORKERS;

/// The number of a request.
pub(super) type Id = usize;

/// One server.
#[derive(Debug, Default)]
pub(super) struct Server {
    busy: usize,
    queue: VecDeque<Id>,
}

impl Server {
    /// A request has come. True if a worker begins with it now.
    pub(super) fn on_request(&mut self, id: Id) -> bool {
        let is_free = self.busy < WORKERS;
        if is_free {
            self.busy += 1;
        } else {
            self.queue.push_back(id);
        }
        is_free
    }

    /// A worker is done. Gives what it begins with now: the first in the queue that has not gone.
    pub(super) fn on_done(&mut self, is_there: impl Fn(Id) -> bool) -> Option<Id> {
        let next = std::iter::from_fn(|| self.queue.pop_front()).find(|id| is_there(*id));
        if next.is_none() {
            self.busy -= 1;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_served_in_order_and_those_that_have_gone_are_not() {
        let mut server = Server::default();
        let begun: Vec<Id> = (0..WORKERS + 3).filter(|id| server.on_request(*id)).collect();
        assert_eq!(begun, (0..WORKERS).collect::<Vec<_>>());
        assert_eq!(server.on_done(|id| id != WORKERS), Some(WORKERS + 1));
        assert_eq!(server.on_done(|_| true), Some(WORKERS + 2));
        assert_eq!(server.on_done(|_| true), None);
        assert!(server.on_request(100));
    }
}
