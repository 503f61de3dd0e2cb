//! What policies are tried with.

use super::Time;

/// Servers, how busy they are, and what goes wrong with them.
#[derive(Debug)]
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What happens, in a line.
    pub about: &'static str,
    /// How many times `SERVICE` each server takes for a request.
    pub slowness: &'static [f64],
    /// Requests that arrive, divided by those that all servers together can serve.
    pub load: f64,
    /// What goes wrong.
    pub trouble: Trouble,
    /// The servers that it goes wrong with, or whose share is of interest: the first so many.
    pub troubled: usize,
}

/// What goes wrong, with the first servers, from half of the requests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing. From the beginning.
    None,
    /// They take ten times as long for every request that they begin.
    Slow,
    /// They accept connections, and reset them as soon as they are asked for something.
    Resets,
    /// They answer as soon as they are asked, with an error. To a balancer of TCP that is an answer.
    Errors,
    /// They refuse connections. Those that they have go on.
    Refuses,
}

/// Requests that a server serves at the same time.
pub(super) const WORKERS: usize = 4;
/// Microseconds that a server of slowness 1 takes for a request on average. The times are distributed exponentially.
pub(super) const SERVICE: f64 = 10_000.0;
/// Microseconds to a server and back.
pub(super) const ROUND_TRIP: Time = 200;
/// How much longer a server in trouble takes.
pub(super) const SLOW_DOWN: f64 = 10.0;

/// All of them.
pub const SCENARIOS: [Scenario; 6] = [
    Scenario {
        name: "equal",
        about: "8 equal servers, 70 % busy; the first is no different (fair is 12.5 %)",
        slowness: &[1.0; 8],
        load: 0.7,
        trouble: Trouble::None,
        troubled: 1,
    },
    Scenario {
        name: "unequal",
        about: "9 servers, 3 of which are twice and 3 four times as slow, unknown to the weights; 40 % busy; the slowest 3",
        slowness: &[4.0, 4.0, 4.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0],
        load: 0.4,
        trouble: Trouble::None,
        troubled: 3,
    },
    Scenario {
        name: "slow",
        about: "8 equal servers, 60 % busy; half way the first becomes ten times as slow",
        slowness: &[1.0; 8],
        load: 0.6,
        trouble: Trouble::Slow,
        troubled: 1,
    },
    Scenario {
        name: "resets",
        about: "8 equal servers, 60 % busy; half way the first begins to reset every connection at once",
        slowness: &[1.0; 8],
        load: 0.6,
        trouble: Trouble::Resets,
        troubled: 1,
    },
    Scenario {
        name: "errors",
        about: "8 equal servers, 60 % busy; half way the first begins to answer every request at once with an error",
        slowness: &[1.0; 8],
        load: 0.6,
        trouble: Trouble::Errors,
        troubled: 1,
    },
    Scenario {
        name: "refuses",
        about: "8 equal servers, 60 % busy; half way the first begins to refuse, and the next is tried",
        slowness: &[1.0; 8],
        load: 0.6,
        trouble: Trouble::Refuses,
        troubled: 1,
    },
];

impl Scenario {
    /// Mean microseconds between two requests.
    pub(super) fn interval(&self) -> f64 {
        let capacity: f64 = self.slowness.iter().map(|slowness| WORKERS as f64 / (SERVICE * slowness)).sum();
        1.0 / (capacity * self.load)
    }
}
