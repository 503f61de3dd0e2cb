//! Names of frontends and servers.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Invalid;

/// Longest name, in bytes.
const NAME_MAX: usize = 64;

/// A name: 1 to 64 of letters, digits, `.`, `_` and `-`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

impl Name {
    /// Longest name, in bytes.
    pub(crate) const MAX: usize = NAME_MAX;

    /// Checks `name`.
    ///
    /// # Errors
    /// Empty, longer than 64 bytes, or with a character other than letters, digits, `.`, `_`, `-`.
    pub fn new(name: &str) -> Result<Self, Invalid> {
        let refuse = |reason: String| Err(Invalid::new("name", reason));
        if name.is_empty() {
            return refuse("a name can't be empty".into());
        }
        if name.len() > NAME_MAX {
            return refuse(format!("a name has at most {NAME_MAX} characters, this one has {}", name.chars().count()));
        }
        if let Some(bad) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
            return refuse(format!("{bad:?} in a name: only letters, digits, '.', '_' and '-' are allowed"));
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", &*self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Self::new(&name).map_err(|invalid| invalid.reason)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.as_str().to_owned()
    }
}

impl std::str::FromStr for Name {
    type Err = Invalid;

    fn from_str(name: &str) -> Result<Self, Invalid> {
        Self::new(name)
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_refused_with_the_reason() {
        for (name, reason) in [
            ("", "a name can't be empty"),
            ("a b", "' ' in a name: only letters, digits, '.', '_' and '-' are allowed"),
            ("né", "'é' in a name: only letters, digits, '.', '_' and '-' are allowed"),
            (&"x".repeat(65), "a name has at most 64 characters, this one has 65"),
        ] {
            assert_eq!(Name::new(name).unwrap_err().reason, reason);
        }
        assert_eq!(Name::new(&"x".repeat(64)).unwrap().as_str().len(), 64);
        assert_eq!(Name::new("App-1_b.c").unwrap().as_str(), "App-1_b.c");
    }
}
