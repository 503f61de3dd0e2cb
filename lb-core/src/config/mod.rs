//! Validated settings. A value of these types is valid by construction: names, ports, weights and durations are
//! checked where they are made, and each type's `Deserialize` makes the same check, so that a parser which knows
//! positions (RON does) can point at the wrong value.

mod certificate;
mod check;
mod duration;
mod failover;
mod frontend;
mod http;
mod name;
mod network;
mod persistence;
mod server;
mod text;
mod tls;
mod update;

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use certificate::{Certificate, CertificateContent, Pem, SecretPem};
pub use check::{Bytes, Check, CheckKind, HttpHost, HttpPath, HttpStatus};
pub use duration::{Delay, Millis};
pub use failover::{OnUnavailable, PassiveConnections, PassiveUse, PassiveWhen, Percent};
pub use frontend::{Bind, Frontend, PolicyKind};
pub use http::{HttpSettings, Protocol};
pub use name::Name;
pub use network::Network;
pub use persistence::{
    CookieAge, CookieDomain, CookieMode, CookieName, CookiePath, CookieSettings, IpPersistence, PersistenceKey,
};
use server::check_ip;
pub use server::{Mode, Port, Server, ServerCheck, Weight};
pub use tls::{AlpnName, ClientAuth, SendProxy, ServerNameText, SniPattern, SniRoute};
pub use update::{FrontendUpdate, OrNone, ServerUpdate};

/// A value that cannot be accepted: which field, and one sentence that says what was found and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// The field's name as it is written in the configuration, for example `port`.
    pub field: String,
    /// What was found and what is allowed, in one sentence.
    pub reason: String,
}

impl Invalid {
    /// An [`Invalid`] for `field`.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

/// Most frontends a balancer may have.
pub const FRONTENDS_MAX: usize = 4096;

/// Most servers a frontend may have. A `source_hash` table has 65 537 places: with more servers some would get none
/// or twice the share of others.
pub const SERVERS_MAX: usize = 16_384;

/// Most certificates and bundles a balancer may have.
pub const CERTIFICATES_MAX: usize = 4096;

/// Everything a balancer starts with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Shards (threads with a ring of their own); `None` is one per core that the process may run on.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "shards")]
    pub shards: Option<u16>,
    /// Most connections of the whole process; `None` is what the descriptor limit allows (two descriptors each).
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "frontend::positive")]
    pub max_connections: Option<u32>,
    /// How long connections may go on after the balancer was told to stop; default 30 s.
    #[serde(default = "shutdown_grace")]
    pub shutdown_grace: Millis,
    /// The key that the values of cookies are made with; `None` is the one that was kept, or at first a random one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence_key: Option<PersistenceKey>,
    /// The certificates and bundles, unique by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "certificates")]
    pub certificates: Vec<Certificate>,
    /// The frontends, unique by name and by address.
    #[serde(default, deserialize_with = "frontend::unique")]
    pub frontends: Vec<Frontend>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shards: None,
            max_connections: None,
            shutdown_grace: shutdown_grace(),
            persistence_key: None,
            certificates: Vec::new(),
            frontends: Vec::new(),
        }
    }
}

impl Config {
    /// Adds a frontend. Whether its name and address are free is checked when the balancer starts.
    #[must_use]
    pub fn frontend(mut self, frontend: Frontend) -> Self {
        self.frontends.push(frontend);
        self
    }

    /// Adds a certificate or a bundle. Whether it is sound and its name free is checked when the balancer starts.
    #[must_use]
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.certificates.push(certificate);
        self
    }

    /// Sets the key that the values of cookies are made with.
    #[must_use]
    pub fn with_persistence_key(mut self, key: PersistenceKey) -> Self {
        self.persistence_key = Some(key);
        self
    }

    /// Sets the number of shards.
    ///
    /// # Errors
    /// Zero, or more than 1024.
    pub fn with_shards(mut self, shards: u16) -> Result<Self, Invalid> {
        self.shards = Some(check_shards(shards)?);
        Ok(self)
    }
}

fn shutdown_grace() -> Millis {
    Millis::from_duration_clamped(Duration::from_secs(30))
}

fn check_shards(shards: u16) -> Result<u16, Invalid> {
    match shards {
        1..=1024 => Ok(shards),
        _ => Err(Invalid::new("shards", format!("{shards} shards asked for, 1 to 1024 are possible"))),
    }
}

fn shards<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    let shards = Option::<u16>::deserialize(deserializer)?;
    shards.map(check_shards).transpose().map_err(|invalid| serde::de::Error::custom(invalid.reason))
}

fn certificates<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Certificate>, D::Error> {
    unique_by(deserializer, CERTIFICATES_MAX, |certificate: &Certificate| {
        vec![("certificate", certificate.name().to_string())]
    })
}

/// Reads a sequence and refuses the first element whose key was there already, at that element's position.
fn unique_by<'de, D, T>(
    deserializer: D,
    max: usize,
    keys: impl Fn(&T) -> Vec<(&'static str, String)>,
) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Visitor<T, K>(usize, K, std::marker::PhantomData<T>);

    impl<'de, T: Deserialize<'de>, K: Fn(&T) -> Vec<(&'static str, String)>> serde::de::Visitor<'de> for Visitor<T, K> {
        type Value = Vec<T>;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("a list")
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut seen = HashSet::new();
            let mut elements = Vec::new();
            while let Some(element) = list.next_element::<T>()? {
                for (field, key) in (self.1)(&element) {
                    if !seen.insert((field, key.clone())) {
                        return Err(serde::de::Error::custom(format!("{field} {key} is there twice")));
                    }
                }
                if elements.len() == self.0 {
                    return Err(serde::de::Error::custom(format!("more than {} elements", self.0)));
                }
                elements.push(element);
            }
            Ok(elements)
        }
    }

    deserializer.deserialize_seq(Visitor(max, keys, std::marker::PhantomData))
}
