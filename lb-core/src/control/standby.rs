//! Whether a frontend's passive servers take part: pure, time is an argument.

use super::Time;
use crate::config::PassiveWhen;

/// Whether they do, and since when they could leave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Standby {
    takes_part: bool,
    /// Since when enough active servers have been available; only while passive ones take part.
    enough_since: Option<Time>,
}

impl Standby {
    /// What becomes of it while so many active servers are available. They leave when enough have been for `hold`
    /// milliseconds without a break.
    pub(super) fn next(self, when: PassiveWhen, active: usize, hold: u32, now: Time) -> Self {
        if when.is_met_by(active) {
            return Self { takes_part: true, enough_since: None };
        }
        let since = self.enough_since.unwrap_or(now);
        if self.takes_part && now < since + Time::from(hold) {
            return Self { takes_part: true, enough_since: Some(since) };
        }
        Self::default()
    }

    /// Whether passive servers take part, if there are any.
    pub(super) fn takes_part(self) -> bool {
        self.takes_part
    }

    /// When it has to be looked at again.
    pub(super) fn until(self, hold: u32) -> Option<Time> {
        self.enough_since.map(|since| since + Time::from(hold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn steps(when: PassiveWhen, hold: u32, steps: &[(Time, usize)]) -> Vec<bool> {
        let mut standby = Standby::default();
        let step = |&(now, active): &(Time, usize)| {
            standby = standby.next(when, active, hold, now);
            standby.takes_part()
        };
        steps.iter().map(step).collect()
    }

    #[test]
    fn without_a_hold_passive_servers_leave_at_once() {
        let taken = steps(PassiveWhen::default(), 0, &[(0, 2), (1, 0), (2, 1)]);
        assert_eq!(taken, [false, true, false]);
    }

    #[test]
    fn the_hold_begins_anew_when_active_servers_fail_again() {
        let taken =
            steps(PassiveWhen::FewerThan(2), 10, &[(0, 1), (5, 2), (14, 2), (14, 1), (16, 2), (25, 2), (26, 2)]);
        assert_eq!(taken, [true, true, true, true, true, true, false]);
    }

    proptest! {
        #[test]
        fn they_take_part_whenever_they_are_needed_and_only_then_or_in_the_hold(
            looks in prop::collection::vec((0u64..20, 0usize..4), 1..60),
            threshold in 1u32..4,
            hold in 0u32..30,
        ) {
            let when = PassiveWhen::FewerThan(threshold);
            let (mut standby, mut now, mut last_needed) = (Standby::default(), 0, None);
            for (pause, active) in looks {
                now += pause;
                standby = standby.next(when, active, hold, now);
                if active < threshold as usize {
                    last_needed = Some(now);
                    prop_assert!(standby.takes_part());
                } else if last_needed.is_none() {
                    prop_assert!(!standby.takes_part());
                }
                if let Some(until) = standby.until(hold) {
                    prop_assert!(until > now && standby.takes_part());
                }
            }
        }
    }
}
