//! Durations as operators write them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Invalid;

/// A duration in whole milliseconds, written `"200ms"`, `"5s"`, `"10m"`, `"1h 30m"`; 1 ms to 30 days.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Millis(u32);

/// Longest duration: 30 days, in milliseconds.
const MILLIS_MAX: u128 = 30 * 24 * 3600 * 1000;

impl Millis {
    /// Checks a duration.
    ///
    /// # Errors
    /// Zero, longer than 30 days, or not a whole number of milliseconds.
    pub fn new(duration: Duration) -> Result<Self, Invalid> {
        let refuse = |reason: &str| Err(Invalid::new("duration", format!("{duration:?}: {reason}")));
        if !duration.subsec_nanos().is_multiple_of(1_000_000) {
            return refuse("a duration is a whole number of milliseconds");
        }
        match duration.as_millis() {
            0 => refuse("a duration can't be zero"),
            millis @ 1..=MILLIS_MAX => Ok(Self(millis as u32)),
            _ => refuse("a duration is at most 30 days"),
        }
    }

    /// Rounds a duration into what is allowed.
    pub fn from_duration_clamped(duration: Duration) -> Self {
        Self(duration.as_millis().clamp(1, MILLIS_MAX) as u32)
    }

    /// So many seconds, at least 1 ms and at most 30 days.
    pub(super) fn from_secs(seconds: u64) -> Self {
        Self::from_duration_clamped(Duration::from_secs(seconds))
    }

    /// The number of milliseconds.
    pub fn as_millis(self) -> u32 {
        self.0
    }

    /// The same as a [`Duration`].
    pub fn as_duration(self) -> Duration {
        Duration::from_millis(self.0.into())
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.as_duration()).fmt(formatter)
    }
}

impl fmt::Debug for Millis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl std::str::FromStr for Millis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let duration = humantime::parse_duration(text)
            .map_err(|error| format!("{text:?} is not a duration ({error}): write \"200ms\", \"5s\" or \"10m\""))?;
        Self::new(duration).map_err(|invalid| invalid.reason)
    }
}

impl TryFrom<String> for Millis {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Millis> for String {
    fn from(millis: Millis) -> Self {
        millis.to_string()
    }
}

/// A duration that may be zero, which means at once or not at all: `"0s"` to 30 days.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Delay(Option<Millis>);

impl Delay {
    /// The number of milliseconds.
    pub fn as_millis(self) -> u32 {
        self.0.map_or(0, Millis::as_millis)
    }

    /// The same as a [`Duration`].
    pub fn as_duration(self) -> Duration {
        Duration::from_millis(self.as_millis().into())
    }

    /// True if there is none.
    pub fn is_zero(self) -> bool {
        self.0.is_none()
    }
}

impl From<Millis> for Delay {
    fn from(duration: Millis) -> Self {
        Self(Some(duration))
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.as_duration()).fmt(formatter)
    }
}

impl fmt::Debug for Delay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl std::str::FromStr for Delay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match humantime::parse_duration(text) {
            Ok(Duration::ZERO) => Ok(Self(None)),
            _ => text.parse().map(|duration| Self(Some(duration))),
        }
    }
}

impl TryFrom<String> for Delay {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Delay> for String {
    fn from(delay: Delay) -> Self {
        delay.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_may_be_zero() {
        for (text, millis) in [("0s", 0), ("0ms", 0), ("3s", 3_000)] {
            let parsed: Delay = text.parse().unwrap();
            assert_eq!((parsed.as_millis(), parsed.is_zero()), (millis, millis == 0));
            assert_eq!(parsed.to_string().parse(), Ok(parsed));
        }
        assert!("1us".parse::<Delay>().is_err());
    }

    #[test]
    fn durations_read_as_written_and_are_whole_milliseconds() {
        for (text, millis) in [("200ms", 200), ("5s", 5_000), ("10m", 600_000), ("1h 30m", 5_400_000)] {
            let parsed: Millis = text.parse().unwrap();
            assert_eq!(parsed.as_millis(), millis);
            assert_eq!(parsed.to_string().parse(), Ok(parsed));
        }
        for text in ["", "5", "0s", "1us", "31days", "-5s", "5 parsecs"] {
            assert!(text.parse::<Millis>().is_err(), "{text:?} was accepted");
        }
    }
}
