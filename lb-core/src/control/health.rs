//! Whether a server is up, by the results of its checks: pure, without sockets or clock.
//!
//! ```text
//!                ┌── first result ──┐                 several in a row
//!  Unproven ─────┤                  ▼            ┌───── failures ─────▶
//!  (counts as up)│                  Up ──────────┘                      Down
//!                └────────────────▶ Down         ◀──── successes ─────┘
//! ```

use std::time::Duration;

use crate::config::Check;

/// The shortest interval while a server is in between.
const BETWEEN_MIN: Duration = Duration::from_millis(100);

/// What the checks of a server have come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It gets connections.
    Up,
    /// It gets none.
    Down,
}

/// A server's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Health {
    /// `None` until the first result.
    verdict: Option<Verdict>,
    /// Results in a row that contradict the verdict.
    against: u32,
}

impl Health {
    /// Of a server that was never checked: it counts as up, and its first result decides at once.
    pub(crate) fn unproven() -> Self {
        Self { verdict: None, against: 0 }
    }

    /// A check has passed or failed. Gives the verdict if it is a new one.
    pub(crate) fn on_result(&mut self, has_passed: bool, fall: u32, rise: u32) -> Option<Verdict> {
        let result = if has_passed { Verdict::Up } else { Verdict::Down };
        if self.verdict == Some(result) {
            self.against = 0;
            return None;
        }
        let needed = match self.verdict {
            None => 1,
            Some(Verdict::Up) => fall,
            Some(Verdict::Down) => rise,
        };
        self.against += 1;
        if self.against < needed {
            return None;
        }
        *self = Self { verdict: Some(result), against: 0 };
        Some(result)
    }

    /// True while the last results contradict the verdict, but are too few to change it.
    pub(crate) fn is_between(&self) -> bool {
        self.against > 0
    }

    /// The time from the begin of the last check to that of the next: the interval, and in between a quarter of it, so that
    /// it is soon known.
    pub(crate) fn next_in(&self, check: &Check) -> Duration {
        let interval = check.interval().as_duration();
        match self.is_between() {
            true => (interval / 4).max(BETWEEN_MIN).min(interval),
            false => interval,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Millis;
    use proptest::prelude::*;

    #[test]
    fn the_first_result_decides_at_once() {
        assert_eq!(Health::unproven().on_result(true, 3, 2), Some(Verdict::Up));
        assert_eq!(Health::unproven().on_result(false, 3, 2), Some(Verdict::Down));
    }

    #[test]
    fn three_failures_in_a_row_make_a_server_down_and_two_successes_up() {
        let mut health = Health::unproven();
        let mut verdicts =
            |results: &str| -> Vec<_> { results.chars().map(|result| health.on_result(result == '+', 3, 2)).collect() };
        assert_eq!(verdicts("+--+--"), [Some(Verdict::Up), None, None, None, None, None]);
        assert_eq!(verdicts("-+-"), [Some(Verdict::Down), None, None]);
        assert_eq!(verdicts("++"), [None, Some(Verdict::Up)]);
    }

    #[test]
    fn in_between_a_server_is_checked_four_times_as_often_within_bounds() {
        let next_in = |interval: u64, results: &[bool]| {
            let interval = Millis::new(Duration::from_millis(interval)).unwrap();
            let mut health = Health::unproven();
            for result in results {
                health.on_result(*result, 3, 2);
            }
            health.next_in(&Check::default().with_interval(interval).unwrap()).as_millis()
        };
        assert_eq!(next_in(2000, &[]), 2000);
        assert_eq!(next_in(2000, &[true, false]), 500);
        assert_eq!(next_in(2000, &[false, true]), 500);
        assert_eq!(next_in(2000, &[true, false, true]), 2000);
        assert_eq!(next_in(200, &[true, false]), 100);
        assert_eq!(next_in(50, &[true, false]), 50);
    }

    proptest! {
        /// Against a plain look at the results so far.
        #[test]
        fn a_verdict_changes_exactly_when_enough_results_in_a_row_contradict_it(
            results in prop::collection::vec(any::<bool>(), 1..200),
            fall in 1u32..6,
            rise in 1u32..6,
        ) {
            let mut health = Health::unproven();
            let mut is_up = results[0];
            prop_assert_eq!(health.on_result(is_up, fall, rise).is_some(), true);
            for end in 1..results.len() {
                let in_a_row = results[..=end].iter().rev().take_while(|result| **result != is_up).count() as u32;
                let needed = if is_up { fall } else { rise };
                let verdict = health.on_result(results[end], fall, rise);
                let expected = (in_a_row == needed).then_some(if is_up { Verdict::Down } else { Verdict::Up });
                prop_assert_eq!(verdict, expected);
                is_up ^= expected.is_some();
                prop_assert_eq!(health.is_between(), expected.is_none() && in_a_row > 0);
            }
        }
    }
}
