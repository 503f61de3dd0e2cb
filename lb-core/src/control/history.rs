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
        if !is_same(&draft, state) {
            return Err(conflict("what it set was set again".to_owned()));
        }
        Ok(record.inverse.clone())
    }
}

/// The same frontends with the same settings and servers, in any order: a removal that is taken back adds at the end.
fn is_same(one: &State, other: &State) -> bool {
    let (one, other) = (one.frontends(), other.frontends());
    one.len() == other.len() && {
        let wanted: Vec<_> = other.iter().map(|frontend| (**frontend).clone()).collect();
        super::state::difference(&one, &wanted).is_empty()
    }
}
