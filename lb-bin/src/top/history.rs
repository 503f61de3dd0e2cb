//! The last minutes of every row, for its plots.

use std::collections::{HashMap, VecDeque};

use lb_core::Status;

use super::rows::{Load, Order, RowId, rows};

/// Seconds that are remembered.
const SECONDS: usize = 300;

/// The last minutes, a sample a second.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Samples taken so far.
    taken: u64,
    rows: HashMap<RowId, VecDeque<Load>>,
}

impl History {
    /// Adds a sample to each row, and forgets rows that are gone.
    pub(super) fn add(&mut self, status: &Status) {
        self.taken += 1;
        let mut before = std::mem::take(&mut self.rows);
        for row in rows(status, Order::Configured, "") {
            let mut samples = before.remove(&row.id()).unwrap_or_default();
            push(&mut samples, row.load());
            self.rows.insert(row.id(), samples);
        }
    }

    /// A second of which nothing is known.
    pub(super) fn add_gap(&mut self) {
        self.taken += 1;
        self.rows.values_mut().for_each(|samples| push(samples, Load::default()));
    }

    /// A row's last minutes in at most `width` bars, the newest last: each the largest of its seconds. Bars hold the same
    /// seconds from one second to the next.
    pub(super) fn bars(&self, row: &RowId, of: fn(&Load) -> f64, width: usize) -> Vec<u64> {
        let Some(samples) = self.rows.get(row) else { return Vec::new() };
        let per_bar = SECONDS.div_ceil(width.max(1)) as u64;
        let first = self.taken - samples.len() as u64;
        let mut bars: Vec<u64> = Vec::new();
        for (at, load) in (first..).zip(samples) {
            // Rounded up: little is not nothing.
            let value = of(load).ceil() as u64;
            match bars.last_mut() {
                Some(last) if at % per_bar != 0 => *last = value.max(*last),
                _ => bars.push(value),
            }
        }
        bars.split_off(bars.len().saturating_sub(width))
    }
}

fn push(samples: &mut VecDeque<Load>, load: Load) {
    samples.push_back(load);
    if samples.len() > SECONDS {
        samples.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{frontend, status};

    fn web(connections: u64) -> Status {
        let mut web = frontend("web", vec![]);
        web.connections = connections;
        status(vec![web])
    }

    fn id() -> RowId {
        RowId { frontend: "web".parse().unwrap(), server: None }
    }

    #[test]
    fn bars_are_the_largest_of_their_seconds_and_do_not_jump() {
        let mut history = History::default();
        (1..=9).for_each(|connections| history.add(&web(connections)));
        let bars = |history: &History, width| history.bars(&id(), |load| load.connections, width);
        assert_eq!(bars(&history, 300), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        // Three seconds each.
        assert_eq!(bars(&history, 100), [3, 6, 9]);
        history.add(&web(1));
        assert_eq!(bars(&history, 100), [3, 6, 9, 1]);
        history.add_gap();
        assert_eq!(bars(&history, 300)[9..], [1, 0]);
    }

    #[test]
    fn no_more_is_kept_than_is_shown_and_nothing_of_what_is_gone() {
        let mut history = History::default();
        (0..1000).for_each(|connections| history.add(&web(connections)));
        for width in [0, 1, 7, 60, 299, 300, 1000] {
            let bars = history.bars(&id(), |load| load.connections, width);
            assert!(bars.len() <= width.min(SECONDS), "{} bars in {width}", bars.len());
            assert_eq!(bars.last().copied(), (width > 0).then_some(999));
        }
        history.add(&status(vec![]));
        assert!(history.rows.is_empty());
    }
}
