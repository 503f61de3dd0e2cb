//! The small values of TLS settings: names of servers and protocols, routes by name, and who shows a certificate.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::{DnsName, ServerName};
use serde::{Deserialize, Serialize};

use super::certificate::{NONE, not_none};
use super::text::{by_text, words};
use super::{Invalid, Name};

/// Longest name of a protocol in ALPN, in bytes (RFC 7301, 3.1).
const ALPN_MAX: usize = 255;

/// Whether a server is told who the client is, by a PROXY header in front of all other bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SendProxy {
    /// No header.
    #[default]
    Off,
    /// Version 1, a line of text.
    V1,
    /// Version 2, binary.
    V2,
}

/// Whether clients must show a certificate that the frontend's `client_ca` has issued.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// A client without one is refused.
    #[default]
    Required,
    /// A client without one is served; one with a wrong one is refused.
    Optional,
}

words!(SendProxy, "send_proxy", Off "off", V1 "v1", V2 "v2");
words!(ClientAuth, "client_auth", Required "required", Optional "optional");

/// The name that a server's certificate must be for: a DNS name, or an IP address.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerNameText(Arc<str>);

impl ServerNameText {
    /// Checks a name.
    ///
    /// # Errors
    /// Neither a DNS name nor an IP address; or `none`, which means no name.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        match ServerName::try_from(text) {
            Ok(_) if text != NONE => Ok(Self(text.into())),
            _ => Err(Invalid::new("server_name", format!("{text:?} is neither a DNS name nor an IP address"))),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerNameText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

by_text!(ServerNameText);

/// The name of a protocol that is offered to clients (ALPN), such as `http/1.1`: 1 to 255 bytes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AlpnName(Arc<str>);

impl AlpnName {
    /// Checks a name.
    ///
    /// # Errors
    /// Empty, or longer than 255 bytes.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        match text.len() {
            1..=ALPN_MAX => Ok(Self(text.into())),
            length => {
                Err(Invalid::new("alpn", format!("a protocol's name has 1 to {ALPN_MAX} bytes, this one {length}")))
            }
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AlpnName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

by_text!(AlpnName);

/// The names that clients ask for which a route is for: `www.example.com`, or with any one label in front
/// `*.example.com`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SniPattern {
    /// In lower case, without the `*.`.
    name: Arc<str>,
    is_wildcard: bool,
}

impl SniPattern {
    /// Checks a pattern.
    ///
    /// # Errors
    /// Not a DNS name, even without a leading `*.`.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let (name, is_wildcard) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
        let name = name.strip_suffix('.').unwrap_or(name);
        match DnsName::try_from(name) {
            Ok(_) => Ok(Self { name: name.to_ascii_lowercase().into(), is_wildcard }),
            Err(_) => Err(Invalid::new(
                "names",
                format!("{text:?} is not a DNS name: write \"www.example.com\" or \"*.example.com\""),
            )),
        }
    }

    /// Whether it stands for this name, in any case. A `*` stands for exactly one label.
    pub fn matches(&self, sni: &str) -> bool {
        let sni = sni.strip_suffix('.').unwrap_or(sni);
        let rest = match self.is_wildcard {
            true => sni.split_once('.').filter(|(label, _)| !label.is_empty()).map(|(_, rest)| rest),
            false => Some(sni),
        };
        rest.is_some_and(|rest| rest.eq_ignore_ascii_case(&self.name))
    }

    /// Whether any label may be in front.
    pub fn is_wildcard(&self) -> bool {
        self.is_wildcard
    }
}

impl fmt::Display for SniPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", if self.is_wildcard { "*." } else { "" }, self.name)
    }
}

by_text!(SniPattern);

/// Which servers clients get that ask for certain names, by what is in the clear of their TLS handshake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SniRoute {
    #[serde(deserialize_with = "patterns")]
    names: Vec<SniPattern>,
    #[serde(deserialize_with = "group_name")]
    group: Name,
}

impl SniRoute {
    /// A route for `names` to the servers of `group`.
    ///
    /// # Errors
    /// No names, or the group `none`, which means no group.
    pub fn new(names: Vec<SniPattern>, group: Name) -> Result<Self, Invalid> {
        Ok(Self { names: some_names(names)?, group: not_none("group", group)? })
    }

    /// The names that clients ask for.
    pub fn names(&self) -> &[SniPattern] {
        &self.names
    }

    /// The group of the servers that they get.
    pub fn group(&self) -> &Name {
        &self.group
    }
}

impl fmt::Display for SniRoute {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.names.iter().map(ToString::to_string).collect();
        write!(formatter, "{}={}", names.join(","), self.group)
    }
}

fn some_names(names: Vec<SniPattern>) -> Result<Vec<SniPattern>, Invalid> {
    match names.is_empty() {
        true => Err(Invalid::new("names", "a route without names would be for nobody")),
        false => Ok(names),
    }
}

fn patterns<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<SniPattern>, D::Error> {
    let names = Vec::deserialize(deserializer)?;
    some_names(names).map_err(|invalid| serde::de::Error::custom(invalid.reason))
}

fn group_name<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
    let name = Name::deserialize(deserializer)?;
    not_none("group", name).map_err(|invalid| serde::de::Error::custom(invalid.reason))
}

/// Reads a server's group.
pub(super) fn group<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Name>, D::Error> {
    let name = Option::<Name>::deserialize(deserializer)?;
    name.map(|name| not_none("group", name)).transpose().map_err(|invalid| serde::de::Error::custom(invalid.reason))
}

/// The group of the first route for this name, by exact names before wildcards.
pub(super) fn route<'a>(routes: &'a [SniRoute], sni: &str) -> Option<&'a Name> {
    let find = |is_wildcard: bool| {
        let is_for = |pattern: &SniPattern| pattern.is_wildcard == is_wildcard && pattern.matches(sni);
        routes.iter().find(|route| route.names.iter().any(is_for))
    };
    find(false).or_else(|| find(true)).map(|route| &route.group)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> SniPattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_pattern_is_for_its_names_in_any_case_and_a_wildcard_for_one_label() {
        for (text, is_for, is_not_for) in [
            (
                "www.Example.com",
                &["www.example.com", "WWW.EXAMPLE.COM", "www.example.com."][..],
                &["example.com", ""][..],
            ),
            ("*.example.com", &["a.example.com", "B.example.COM"], &["example.com", ".example.com", "a.b.example.com"]),
        ] {
            let parsed = pattern(text);
            assert_eq!(parsed.to_string(), text.to_lowercase());
            assert!(is_for.iter().all(|name| parsed.matches(name)), "{text}");
            assert!(!is_not_for.iter().any(|name| parsed.matches(name)), "{text}");
        }
        for text in ["", "*", "*.", "a.*.com", "www.*", "a b", "*.*.com", "*example.com"] {
            assert!(SniPattern::new(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn exact_names_go_before_wildcards_and_then_the_order_decides() {
        let route = |names: &[&str], group: &str| {
            SniRoute::new(names.iter().map(|name| pattern(name)).collect(), Name::new(group).unwrap()).unwrap()
        };
        let routes = [
            route(&["*.example.com"], "any"),
            route(&["api.example.com", "example.org"], "api"),
            route(&["*.example.com", "example.org"], "late"),
        ];
        let found = |sni| super::route(&routes, sni).map(Name::as_str);
        assert_eq!(found("www.example.com"), Some("any"));
        assert_eq!(found("api.example.com"), Some("api"));
        assert_eq!(found("example.org"), Some("api"));
        assert_eq!(found("example.com"), None);
    }

    #[test]
    fn a_servers_name_is_one_in_dns_or_an_ip_address() {
        for text in ["app.example.com", "localhost", "10.0.0.1", "::1"] {
            assert_eq!(ServerNameText::new(text).unwrap().as_str(), text);
        }
        for text in ["", "none", "a b", "*.example.com", "10.0.0.1:443", "https://a"] {
            let reason = ServerNameText::new(text).unwrap_err().reason;
            assert_eq!(reason, format!("{text:?} is neither a DNS name nor an IP address"));
        }
    }

    #[test]
    fn a_protocols_name_has_one_to_255_bytes() {
        assert!(AlpnName::new("h2").is_ok() && AlpnName::new(&"x".repeat(255)).is_ok());
        assert!(AlpnName::new("").is_err() && AlpnName::new(&"x".repeat(256)).is_err());
    }

    #[test]
    fn words_read_as_shown() {
        for word in ["off", "v1", "v2"] {
            assert_eq!(word.parse::<SendProxy>().unwrap().to_string(), word);
        }
        for word in ["required", "optional"] {
            assert_eq!(word.parse::<ClientAuth>().unwrap().to_string(), word);
        }
        assert_eq!("on".parse::<SendProxy>().unwrap_err().reason, "\"on\" is not one of off, v1, v2");
    }

    #[test]
    fn a_route_needs_names_and_a_group() {
        let read = |text: &str| serde_json::from_str::<SniRoute>(text).map_err(|error| error.to_string());
        assert!(read(r#"{"names":["a.com"],"group":"g"}"#).is_ok());
        assert!(read(r#"{"names":[],"group":"g"}"#).unwrap_err().contains("for nobody"));
        assert!(read(r#"{"names":["a.com"],"group":"none"}"#).unwrap_err().contains("stands for no name"));
    }
}
