//! For how long a server is taken out because real connections to it fail: pure, time is an argument.

use super::Time;

/// Whether a server is ejected, and how often it was lately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ejection {
    /// `Some` while it is ejected.
    until: Option<Time>,
    /// When the last one ended.
    ended: Time,
    /// How long the last one was, in milliseconds; 0 if there was none.
    lasted: u32,
}

impl Ejection {
    /// Ejects a server: for `first` milliseconds, or twice as long as the last time unless it has done well since for as long
    /// as it was out; for `max` at most. Gives the time.
    pub(super) fn begin(&mut self, now: Time, first: u32, max: u32) -> u32 {
        let has_done_well = now >= self.ended + Time::from(self.lasted);
        let time = if has_done_well { first } else { self.lasted.saturating_mul(2) };
        self.lasted = time.min(max.max(first));
        self.until = Some(now + Time::from(self.lasted));
        self.lasted
    }

    /// True if an ejection has ended by now that was not known to have.
    pub(super) fn has_ended(&mut self, now: Time) -> bool {
        let has_ended = self.until.is_some_and(|until| until <= now);
        if has_ended {
            self.end(now);
        }
        has_ended
    }

    /// Ends an ejection before its time, if there is one. A server that fails again soon is out for twice as long all the
    /// same.
    pub(super) fn end(&mut self, now: Time) {
        if self.until.take().is_some() {
            self.ended = now;
        }
    }

    /// Until when the server is ejected, if it is.
    pub(super) fn until(&self) -> Option<Time> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_doubles_up_to_the_limit() {
        let mut ejection = Ejection::default();
        let mut now = 1_000;
        let mut times = Vec::new();
        for _ in 0..5 {
            times.push(ejection.begin(now, 10, 60));
            now = ejection.until().unwrap();
            assert!(ejection.has_ended(now));
            // It fails again at once.
            now += 1;
        }
        assert_eq!(times, [10, 20, 40, 60, 60]);
    }

    #[test]
    fn one_that_is_ended_early_is_followed_by_one_of_twice_its_time() {
        let mut ejection = Ejection::default();
        ejection.begin(0, 10, 60);
        ejection.end(3);
        ejection.end(9);
        assert_eq!((ejection.until(), ejection.has_ended(10)), (None, false), "it has ended once");
        assert_eq!(ejection.begin(12, 10, 60), 20);
        ejection.end(13);
        assert_eq!(ejection.begin(33, 10, 60), 10);
    }

    #[test]
    fn who_does_well_for_as_long_as_it_was_out_begins_anew() {
        let mut ejection = Ejection::default();
        ejection.begin(0, 10, 60);
        assert!(!ejection.has_ended(9));
        assert!(ejection.has_ended(10));
        assert!(!ejection.has_ended(11), "it has ended once");
        assert_eq!(ejection.begin(19, 10, 60), 20);
        assert!(ejection.has_ended(39));
        assert_eq!(ejection.begin(59, 10, 60), 10);
    }
}
