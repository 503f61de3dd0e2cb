//! What a frontend does when servers fail: its standbys, its patience, and how far it trusts what it sees.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Invalid, Millis, SERVERS_MAX};

/// Which of the passive servers are used when passive ones are needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PassiveUse {
    /// All that are available, by the frontend's policy.
    #[default]
    All,
    /// The first one that is available, in the order they were added.
    First,
}

impl PassiveUse {
    /// How many of them are used at once, at most.
    pub(crate) fn most(self) -> usize {
        match self {
            Self::All => usize::MAX,
            Self::First => 1,
        }
    }
}

/// When passive servers take part. Written `fewer_than(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PassiveWhen {
    /// When fewer active servers than this are available (at least 1).
    FewerThan(#[serde(deserialize_with = "threshold")] u32),
}

impl PassiveWhen {
    /// Checks a threshold.
    ///
    /// # Errors
    /// Zero, or more than a frontend can have servers.
    pub fn fewer_than(active: u32) -> Result<Self, Invalid> {
        match active as usize {
            1..=SERVERS_MAX => Ok(Self::FewerThan(active)),
            _ => Err(Invalid::new("passive_when", format!("fewer than {active}: 1 to {SERVERS_MAX} are possible"))),
        }
    }

    /// Whether passive servers are needed while so many active ones are available.
    pub fn is_met_by(self, active: usize) -> bool {
        let Self::FewerThan(threshold) = self;
        active < threshold as usize
    }
}

impl Default for PassiveWhen {
    fn default() -> Self {
        Self::FewerThan(1)
    }
}

fn threshold<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let PassiveWhen::FewerThan(active) =
        PassiveWhen::fewer_than(u32::deserialize(deserializer)?).map_err(|e| serde::de::Error::custom(e.reason))?;
    Ok(active)
}

/// What happens to connections on passive servers when these are not needed any more. Written `drain_after("30s")`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PassiveConnections {
    /// They go on until they end by themselves.
    #[default]
    Keep,
    /// They may go on for this long; then they are closed.
    DrainAfter(Millis),
}

/// What a client gets while no server is available. Written `wait("5s")`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnavailable {
    /// Its connection is reset at once.
    #[default]
    Reset,
    /// It waits for a server for at most this long, and is reset then.
    Wait(Millis),
}

/// A share in percent, 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u8")]
pub struct Percent(u8);

impl Percent {
    pub(super) const HALF: Self = Self(50);

    /// Checks a share.
    ///
    /// # Errors
    /// More than 100.
    pub fn new(percent: u32) -> Result<Self, Invalid> {
        match percent {
            0..=100 => Ok(Self(percent as u8)),
            _ => Err(Invalid::new("percent", format!("{percent} is more than 100 percent"))),
        }
    }

    /// How many of so many it is, rounded down.
    pub fn of(self, count: usize) -> usize {
        count * usize::from(self.0) / 100
    }
}

impl TryFrom<u32> for Percent {
    type Error = String;

    fn try_from(percent: u32) -> Result<Self, String> {
        Self::new(percent).map_err(|invalid| invalid.reason)
    }
}

impl From<Percent> for u8 {
    fn from(percent: Percent) -> Self {
        percent.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for PassiveUse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::All => "all",
            Self::First => "first",
        })
    }
}

impl fmt::Display for PassiveWhen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::FewerThan(active) = self;
        write!(formatter, "fewer_than({active})")
    }
}

impl fmt::Display for PassiveConnections {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep => formatter.write_str("keep"),
            Self::DrainAfter(after) => write!(formatter, "drain_after({after})"),
        }
    }
}

impl fmt::Display for OnUnavailable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset => formatter.write_str("reset"),
            Self::Wait(limit) => write!(formatter, "wait({limit})"),
        }
    }
}

/// What stands between the brackets of `word(…)`, with or without quotes.
pub(super) fn argument<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let inner = text.strip_prefix(word)?.strip_prefix('(')?.strip_suffix(')')?;
    Some(inner.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(inner))
}

impl FromStr for PassiveUse {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "first" => Ok(Self::First),
            _ => Err(format!("{text:?} is not one of all, first")),
        }
    }
}

impl FromStr for PassiveWhen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let active = argument(text, "fewer_than").and_then(|active| active.parse().ok());
        let active = active.ok_or_else(|| format!("{text:?}: write fewer_than(2)"))?;
        Self::fewer_than(active).map_err(|invalid| invalid.reason)
    }
}

impl FromStr for PassiveConnections {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, argument(text, "drain_after")) {
            ("keep", _) => Ok(Self::Keep),
            (_, Some(after)) => after.parse().map(Self::DrainAfter),
            _ => Err(format!("{text:?} is neither keep nor drain_after(30s)")),
        }
    }
}

impl FromStr for OnUnavailable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, argument(text, "wait")) {
            ("reset", _) => Ok(Self::Reset),
            (_, Some(limit)) => limit.parse().map(Self::Wait),
            _ => Err(format!("{text:?} is neither reset nor wait(5s)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads_back<T: FromStr<Err = String> + fmt::Display + PartialEq + fmt::Debug>(text: &str, value: T) {
        assert_eq!(text.parse().as_ref(), Ok(&value));
        assert_eq!(value.to_string().parse(), Ok(value));
    }

    #[test]
    fn settings_read_as_they_are_written() {
        let seconds = |seconds: &str| seconds.parse::<Millis>().unwrap();
        reads_back("first", PassiveUse::First);
        reads_back("fewer_than(2)", PassiveWhen::FewerThan(2));
        reads_back("keep", PassiveConnections::Keep);
        reads_back("drain_after(\"30s\")", PassiveConnections::DrainAfter(seconds("30s")));
        reads_back("drain_after(30s)", PassiveConnections::DrainAfter(seconds("30s")));
        reads_back("reset", OnUnavailable::Reset);
        reads_back("wait(5s)", OnUnavailable::Wait(seconds("5s")));
        assert!("wait(5)".parse::<OnUnavailable>().is_err());
        assert!("fewer_than(0)".parse::<PassiveWhen>().is_err());
        assert!("some".parse::<PassiveUse>().is_err());
    }

    #[test]
    fn a_share_is_rounded_down() {
        let half = Percent::new(50).unwrap();
        assert_eq!([0, 1, 2, 3, 5].map(|count| half.of(count)), [0, 0, 1, 1, 2]);
        assert!(Percent::new(101).is_err());
    }
}
