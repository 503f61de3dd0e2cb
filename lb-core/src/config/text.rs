//! What settings have in common that are written as words and texts.

use std::fmt;

use super::Invalid;

/// `Display` and `FromStr` of an enum by the words that serde uses.
macro_rules! words {
    ($type:ident, $field:literal, $($variant:ident $word:literal),*) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(match self {
                    $(Self::$variant => $word,)*
                })
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::config::Invalid;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(Self::Err::new($field, format!("{text:?} is not one of {}", [$($word),*].join(", ")))),
                }
            }
        }
    };
}

/// Serialized as the text that it is made from.
macro_rules! by_text {
    ($type:ident) => {
        impl std::fmt::Debug for $type {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(formatter, "{:?}", self.to_string())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::config::Invalid;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                Self::new(&text).map_err(|invalid| invalid.reason)
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}

pub(super) use {by_text, words};

/// Reads `name=value,name=value`: calls `set` with each name and value; it says what it makes of a value, or `None` if
/// it has no such name.
///
/// # Errors
/// No `=`, a name that is there twice or is none of `known`, and what `set` refuses; all for `field`.
pub(super) fn assignments<'a>(
    field: &str,
    text: &'a str,
    known: &[&str],
    mut set: impl FnMut(&str, &'a str) -> Result<(), String>,
) -> Result<(), Invalid> {
    let refuse = |reason: String| Err(Invalid::new(field, reason));
    let mut seen = Vec::new();
    for part in text.split(',') {
        let Some((name, value)) = part.split_once('=') else {
            return refuse(format!(
                "{part:?} is no setting: write {}=…, with commas between several",
                known.join("=…, ")
            ));
        };
        let (name, value) = (name.trim(), value.trim());
        if !known.contains(&name) {
            return refuse(format!("there is no {name:?} in it, only {}", known.join(", ")));
        }
        if seen.contains(&name) {
            return refuse(format!("{name} is there twice"));
        }
        seen.push(name);
        set(name, value).or_else(|reason| refuse(format!("{name}: {reason}")))?;
    }
    Ok(())
}

/// Reads a value by its own `FromStr`.
pub(super) fn parsed<T: std::str::FromStr<Err: fmt::Display>>(value: &str) -> Result<T, String> {
    value.parse().map_err(|error: T::Err| error.to_string())
}

/// Reads a number and checks its bounds.
pub(super) fn number(value: &str, min: u32, max: u32) -> Result<u32, String> {
    match value.parse() {
        Ok(number) => within(number, min, max),
        Err(_) => Err(format!("{value:?} is not a number of {min} to {max}")),
    }
}

/// Checks the bounds of a number.
pub(super) fn within(number: u32, min: u32, max: u32) -> Result<u32, String> {
    match (min..=max).contains(&number) {
        true => Ok(number),
        false => Err(format!("{number} is not in {min} to {max}")),
    }
}

/// Deserializes a number within bounds.
pub(super) fn bounded<'de, D, const MIN: u32, const MAX: u32>(deserializer: D) -> Result<u32, D::Error>
where
    D: serde::Deserializer<'de>,
{
    let number = <u32 as serde::Deserialize>::deserialize(deserializer)?;
    within(number, MIN, MAX).map_err(serde::de::Error::custom)
}

/// Writes `name=value,name=value`.
#[derive(Default)]
pub(super) struct Assignments(String);

impl Assignments {
    pub(super) fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        let comma = if self.0.is_empty() { "" } else { "," };
        self.0 += &format!("{comma}{name}={value}");
        self
    }

    pub(super) fn with_if(self, name: &str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }
}
