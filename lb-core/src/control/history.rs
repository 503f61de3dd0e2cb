//! The last revisions, and taking one back. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use super::change::{Change, Record, Refused};
use super::state::State;

/// Revisions that are remembered.
const REMEMBERED: usize = 100;

/// The last revisions, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct History(VecDeque<Arc<Record>>);

impl History {
    pub(super) fn new(records: Vec<Record>) -> Self {
        let mut history = Self::default();
        records.into_iter().for_each(|record| history.push(record));
        history
    }

    pub(super) fn push(&mut self, record: Record) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(Arc::new(record));
    }

    pub(super) fn records(&self) -> &VecDeque<Arc<Record>> {
        &self.0
    }

    /// The changes that take a revision back, the last one unless named. Refused if later revisions changed the same.
    pub(super) fn undo(&self, revision: Option<u64>, state: &State) -> Result<Vec<Change>, Refused> {
        let record = match revision {
            None => self.0.back().ok_or_else(|| Refused::field("revision", "there is no change to take back")),
            Some(wanted) => self.0.iter().find(|record| record.revision == wanted).ok_or_else(|| {
                Refused::field("revision", format!("revision {wanted} is not among the last {} changes", self.0.len()))
            }),
        }?;
        let conflict = |why: String| {
            let reason = format!("revision {} can't be taken back, later changes build on it: {why}", record.revision);
            Refused::field("revision", reason)
        };
        // There and back again must lead to what is: otherwise something that the revision set was changed since.
        let mut draft = state.clone();
        for change in record.inverse.iter().chain(&record.changes) {
            draft.apply(change).map_err(|refused| conflict(refused.reason))?;
        }
        draft.check_whole(state).map_err(|refused| conflict(refused.reason))?;
        if !is_same(&draft, state) {
            return Err(conflict("what it set was set again".to_owned()));
        }
        Ok(record.inverse.clone())
    }
}

/// The same certificates, and frontends with the same settings and servers, in any order: a removal that is taken back
/// adds at the end.
fn is_same(one: &State, other: &State) -> bool {
    let certificates: Vec<_> = other.certificates().iter().map(|entry| (*entry.certificate).clone()).collect();
    let frontends: Vec<_> = other.frontends().iter().map(|frontend| (**frontend).clone()).collect();
    // A difference names also what is too many.
    super::state::difference(one, &certificates, &frontends).is_empty()
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::change;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever was changed since: a revision is taken back whole, or refused.
        #[test]
        fn undo_takes_back_one_revision_and_nothing_else(changes in prop::collection::vec(change(), 1..30), which: prop::sample::Index) {
            let (mut state, mut history, mut revision) = (State::default(), History::default(), 0);
            for change in changes {
                let mut next = state.clone();
                let Ok(Some((inverse, sentence))) = next.apply(&change) else { continue };
                if next.check_whole(&state).is_err() {
                    continue;
                }
                revision += 1;
                history.push(Record { revision, at: 0, summary: vec![sentence], changes: vec![change], inverse: vec![inverse] });
                state = next;
            }
            prop_assume!(revision > 0);
            let wanted = 1 + which.index(revision as usize) as u64;
            if let Ok(changes) = history.undo(Some(wanted), &state) {
                let mut undone = state.clone();
                for change in changes {
                    undone.apply(&change).unwrap();
                }
                // Doing it again leads back to where we are.
                for change in &history.0[wanted as usize - 1].changes {
                    undone.apply(change).unwrap();
                }
                prop_assert!(is_same(&undone, &state));
            }
            let last = history.undo(None, &state).unwrap();
            prop_assert_eq!(&last, &history.0.back().unwrap().inverse);
        }
    }
}
