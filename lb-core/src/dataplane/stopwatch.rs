//! Measuring how long a connection's server takes, for metrics and for the policies that
//! [need it](crate::balance::Policy::needs_latency). Pure: no clock. It is told what happens and when, in microseconds, and says what was found out.
//!
//! Two times are measured, each once per connection. To connect. And to the first byte: from the last bytes that were
//! handed on to the server, or from the connect if it speaks first, to the first that come from it. From the last and not
//! from the first, because a long upload or a client that takes its time says nothing about the server.
//!
//! A server that refuses, or ends the connection without an answer, has failed.

/// What happens on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The server has accepted the connection.
    Connected,
    /// It has not, or not in time.
    ConnectFailed,
    /// Bytes were handed on to the server.
    Asked,
    /// Something for the client has come from the server.
    Answered,
    /// The client has ended its side, or is gone.
    ClientEnded,
    /// The server has ended its side, or is gone.
    ServerEnded,
}

/// What was found out about the server: how many microseconds it took, `None` if it has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// To connect.
    Connect(Option<u64>),
    /// To the first byte of the answer.
    FirstByte(Option<u64>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is measured, or nothing is left to be.
    Off,
    /// A connect is under way.
    Connecting,
    /// The server may speak first.
    Connected,
    /// An answer is awaited.
    Asked,
}

/// Measures one connection.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    /// When the stage began.
    since: u64,
    stage: Stage,
    /// From then on a server may end without an answer: there are protocols without.
    has_client_ended: bool,
}

impl Stopwatch {
    /// The connection is there already: begins to measure what the server does with it, at `now`.
    pub(crate) fn begin_connected(&mut self, now: u64) {
        *self = Self { since: now, stage: Stage::Connected, has_client_ended: false };
    }

    /// Measures nothing until it is begun.
    pub(crate) fn new() -> Self {
        Self { since: 0, stage: Stage::Off, has_client_ended: false }
    }

    /// A connect begins, to the first server or to another one.
    pub(crate) fn begin(&mut self, now: u64) {
        (self.since, self.stage) = (now, Stage::Connecting);
    }

    /// Takes note. A server that ends a connection nobody has said anything on is `tired` after so many microseconds.
    pub(crate) fn on(&mut self, event: Event, now: u64, tired: u64) -> Option<Finding> {
        let taken = |since| now.saturating_sub(since);
        match (self.stage, event) {
            (_, Event::ClientEnded) => {
                self.has_client_ended = true;
                None
            }
            (Stage::Connecting, Event::Connected) => {
                let finding = Finding::Connect(Some(taken(self.since)));
                (self.since, self.stage) = (now, Stage::Connected);
                Some(finding)
            }
            (Stage::Connecting, Event::ConnectFailed) => self.end(Finding::Connect(None)),
            (Stage::Connected | Stage::Asked, Event::Asked) => {
                (self.since, self.stage) = (now, Stage::Asked);
                None
            }
            (Stage::Connected | Stage::Asked, Event::Answered) => self.end(Finding::FirstByte(Some(taken(self.since)))),
            (Stage::Connected | Stage::Asked, Event::ServerEnded) => {
                // Clients connect ahead of need, and servers get tired of waiting for them.
                let is_tired = self.stage == Stage::Connected && taken(self.since) >= tired;
                self.end(Finding::FirstByte(None)).filter(|_| !self.has_client_ended && !is_tired)
            }
            _ => None,
        }
    }

    fn end(&mut self, finding: Finding) -> Option<Finding> {
        self.stage = Stage::Off;
        Some(finding)
    }
}

#[cfg(test)]
mod tests {
    use super::Event::*;
    use super::*;

    const TIRED: u64 = 5_000;

    /// What is found out in the course of a connection that begins at 100.
    fn findings(events: &[(u64, Event)]) -> Vec<Finding> {
        let mut stopwatch = Stopwatch::new();
        stopwatch.begin(100);
        events.iter().filter_map(|&(now, event)| stopwatch.on(event, now, TIRED)).collect()
    }

    #[test]
    fn both_times_are_measured_once() {
        let events =
            [(130, Connected), (130, Asked), (230, Answered), (240, Asked), (290, Answered), (300, ServerEnded)];
        assert_eq!(findings(&events), [Finding::Connect(Some(30)), Finding::FirstByte(Some(100))]);
    }

    #[test]
    fn a_server_that_speaks_first_is_measured_from_the_connect() {
        assert_eq!(
            findings(&[(130, Connected), (150, Answered)]),
            [Finding::Connect(Some(30)), Finding::FirstByte(Some(20))]
        );
    }

    #[test]
    fn a_long_upload_is_not_the_servers_time() {
        let events = [(130, Connected), (130, Asked), (4_000, Asked), (4_010, Answered)];
        assert_eq!(findings(&events)[1], Finding::FirstByte(Some(10)));
    }

    #[test]
    fn failures_are_found_out() {
        assert_eq!(findings(&[(101, ConnectFailed)]), [Finding::Connect(None)]);
        assert_eq!(findings(&[(130, Connected), (130, Asked), (131, ServerEnded)])[1], Finding::FirstByte(None));
        assert_eq!(findings(&[(130, Connected), (131, ServerEnded)])[1], Finding::FirstByte(None));
    }

    #[test]
    fn a_protocol_without_answers_does_not_fail() {
        assert_eq!(findings(&[(130, Connected), (130, Asked), (140, ClientEnded), (150, ServerEnded)]).len(), 1);
        // Also when the client was done before the server had accepted.
        assert_eq!(findings(&[(110, ClientEnded), (130, Connected), (130, Asked), (150, ServerEnded)]).len(), 1);
    }

    #[test]
    fn an_answer_to_a_client_that_has_ended_its_side_is_measured() {
        let events = [(130, Connected), (130, Asked), (131, ClientEnded), (150, Answered)];
        assert_eq!(findings(&events)[1], Finding::FirstByte(Some(20)));
    }

    #[test]
    fn a_server_that_is_tired_of_a_silent_client_does_not_fail() {
        assert_eq!(findings(&[(130, Connected), (130 + TIRED, ServerEnded)]).len(), 1);
    }

    #[test]
    fn a_stopwatch_that_was_not_begun_finds_nothing_out() {
        let mut stopwatch = Stopwatch::new();
        for event in [Connected, ConnectFailed, Asked, Answered, ClientEnded, ServerEnded] {
            assert_eq!(stopwatch.on(event, 100, TIRED), None, "{event:?}");
        }
    }
}
