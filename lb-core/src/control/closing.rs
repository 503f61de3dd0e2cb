//! Connections that are to be closed at some time: those of servers that drain within a limit, and those of passive servers
//! that are not needed any more. Pure, time is an argument.

use std::sync::Arc;

use super::Time;
use crate::table::Load;

/// The servers whose connections are to be closed, and when.
#[derive(Default)]
pub(super) struct Closings(Vec<(Time, Arc<Load>)>);

impl Closings {
    /// Plans to close the connections of a server, in place of an earlier plan.
    pub(super) fn plan(&mut self, server: &Arc<Load>, at: Time) {
        self.cancel(server.id);
        self.0.push((at, Arc::clone(server)));
    }

    /// The connections of a server may go on.
    pub(super) fn cancel(&mut self, server: u64) {
        self.0.retain(|(_, planned)| planned.id != server);
    }

    /// Takes the servers out whose time has come.
    pub(super) fn due(&mut self, now: Time) -> Vec<Arc<Load>> {
        self.0.extract_if(.., |(at, _)| *at <= now).map(|(_, server)| server).collect()
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Time> {
        self.0.iter().map(|(at, _)| *at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_plan_holds_until_it_is_due_or_cancelled() {
        let server = |id| Arc::new(Load::new(id, 1));
        let (one, other) = (server(1), server(2));
        let mut closings = Closings::default();
        closings.plan(&one, 10);
        closings.plan(&other, 15);
        closings.plan(&one, 20);
        assert_eq!(closings.next(), Some(15));
        closings.cancel(2);
        assert!(closings.due(19).is_empty());
        let due: Vec<_> = closings.due(20).iter().map(|server| server.id).collect();
        assert_eq!((due, closings.next()), (vec![1], None));
    }
}
