//! A backend server as it is configured.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::frontend::positive;
use super::{Check, Invalid, Millis, Name};

/// A port that a server listens on: 1 to 65 535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u16")]
pub struct Port(u16);

impl Port {
    /// Checks a port number.
    ///
    /// # Errors
    /// Zero, or more than 65 535.
    pub fn new(port: u32) -> Result<Self, Invalid> {
        match u16::try_from(port) {
            Ok(port) if port > 0 => Ok(Self(port)),
            _ => Err(Invalid::new("port", format!("port {port} is not in 1 to 65535"))),
        }
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Port {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl TryFrom<u32> for Port {
    type Error = String;

    fn try_from(port: u32) -> Result<Self, String> {
        Self::new(port).map_err(|invalid| invalid.reason)
    }
}

impl From<Port> for u16 {
    fn from(port: Port) -> Self {
        port.0
    }
}

/// A server's share among its frontend's servers: 1 to 256, 1 unless set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u16")]
pub struct Weight(u16);

impl Weight {
    /// Checks a weight.
    ///
    /// # Errors
    /// Zero, or more than 256.
    pub fn new(weight: u32) -> Result<Self, Invalid> {
        match weight {
            1..=256 => Ok(Self(weight as u16)),
            _ => Err(Invalid::new("weight", format!("weight {weight} is not in 1 to 256"))),
        }
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(1)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl TryFrom<u32> for Weight {
    type Error = String;

    fn try_from(weight: u32) -> Result<Self, String> {
        Self::new(weight).map_err(|invalid| invalid.reason)
    }
}

impl From<Weight> for u16 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

/// How a server is checked. Written `frontend`, or `own(kind: tcp, …)`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerCheck {
    /// As its frontend says.
    #[default]
    Frontend,
    /// In its own way.
    Own(Box<Check>),
}

impl ServerCheck {
    /// Its own check, if it has one.
    pub fn own(&self) -> Option<&Check> {
        match self {
            Self::Frontend => None,
            Self::Own(check) => Some(check),
        }
    }
}

impl fmt::Display for ServerCheck {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frontend => formatter.write_str("frontend"),
            Self::Own(check) => check.fmt(formatter),
        }
    }
}

/// What the operator wants of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It takes part in balancing.
    Enabled,
    /// It gets no new connections while those that exist finish; after this time they are closed.
    Drain(Option<Millis>),
    /// It is out of service for maintenance: no new connections, and no checks. Those that exist go on.
    Disabled,
}

/// A backend server of a frontend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub(crate) name: Name,
    #[serde(deserialize_with = "ip")]
    pub(crate) ip: IpAddr,
    pub(crate) port: Port,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) weight: Weight,
    /// Most connections at once.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "positive")]
    pub(crate) max_connections: Option<u32>,
    /// No new connections; those that exist finish.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) drain: bool,
    /// How long they may take; then they are closed. Only with `drain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) drain_within: Option<Millis>,
    /// Out of service for maintenance: no new connections, and no checks. Excludes `drain`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) disabled: bool,
    /// How it is checked.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) check: ServerCheck,
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "unsupported_flag")]
    pub(crate) ssl_offload: bool,
    /// A standby.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) passive: bool,
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "unsupported_name")]
    pub(crate) server_certificate: Option<Name>,
}

impl Server {
    /// A server of weight 1 at `addr`.
    ///
    /// # Errors
    /// A name that is not allowed (see [`Name`]), an address that can't be connected to (see [`Server::with_ip`]),
    /// or port 0.
    pub fn new(name: &str, addr: SocketAddr) -> Result<Self, Invalid> {
        Ok(Self {
            name: Name::new(name)?,
            ip: check_ip(addr.ip())?,
            port: Port::new(addr.port().into())?,
            weight: Weight::default(),
            max_connections: None,
            drain: false,
            drain_within: None,
            disabled: false,
            check: ServerCheck::default(),
            ssl_offload: false,
            passive: false,
            server_certificate: None,
        })
    }

    /// The same server at another IP address.
    ///
    /// # Errors
    /// An unspecified (`0.0.0.0`, `::`), multicast or broadcast address: no server can be reached there.
    pub fn with_ip(mut self, ip: IpAddr) -> Result<Self, Invalid> {
        self.ip = check_ip(ip)?;
        Ok(self)
    }

    /// The same server with another weight.
    ///
    /// # Errors
    /// Zero, or more than 256.
    pub fn with_weight(mut self, weight: u32) -> Result<Self, Invalid> {
        self.weight = Weight::new(weight)?;
        Ok(self)
    }

    /// The same server as a standby, or not.
    #[must_use]
    pub fn with_passive(mut self, passive: bool) -> Self {
        self.passive = passive;
        self
    }

    /// The same server in another mode.
    #[must_use]
    pub fn with_mode(mut self, mode: Mode) -> Self {
        (self.drain, self.drain_within, self.disabled) = match mode {
            Mode::Enabled => (false, None, false),
            Mode::Drain(within) => (true, within, false),
            Mode::Disabled => (false, None, true),
        };
        self
    }

    /// What the fields must be together.
    ///
    /// # Errors
    /// Both drained and disabled, or a time to drain without draining.
    pub(crate) fn check_whole(&self) -> Result<(), Invalid> {
        let refuse = |field: &str, reason: &str| Err(Invalid::new(field, format!("server {}: {reason}", self.name)));
        match (self.drain, self.drain_within, self.disabled) {
            (true, _, true) => refuse("disabled", "it is either drained or disabled, not both"),
            (false, Some(_), _) => refuse("drain_within", "drain_within is for a server with drain: true"),
            _ => Ok(()),
        }
    }

    /// The server's name, unique in its frontend.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Where connections to it go.
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.get())
    }

    /// Its share, 1 to 256.
    pub fn weight(&self) -> u16 {
        self.weight.get()
    }

    /// Most connections at once; `None` is no limit.
    pub fn max_connections(&self) -> Option<u32> {
        self.max_connections
    }

    /// Whether it may get new connections, as far as the operator is concerned.
    pub fn mode(&self) -> Mode {
        match (self.disabled, self.drain) {
            (true, _) => Mode::Disabled,
            (false, true) => Mode::Drain(self.drain_within),
            (false, false) => Mode::Enabled,
        }
    }

    /// How it is checked.
    pub fn check(&self) -> &ServerCheck {
        &self.check
    }

    /// Whether the client's TLS ends here before the bytes go to this server. Not supported yet, always false.
    pub fn ssl_offload(&self) -> bool {
        self.ssl_offload
    }

    /// Whether it is a standby: no traffic unless the active servers are unavailable.
    pub fn is_passive(&self) -> bool {
        self.passive
    }

    /// The CA bundle by which its certificate is trusted. Not supported yet, always `None`.
    pub fn server_certificate(&self) -> Option<&Name> {
        self.server_certificate.as_ref()
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

pub(super) fn check_ip(ip: IpAddr) -> Result<IpAddr, Invalid> {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    if ip.is_unspecified() || ip.is_multicast() || broadcast {
        return Err(Invalid::new("ip", format!("{ip} is not the address of one server")));
    }
    Ok(ip)
}

fn ip<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<IpAddr, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
    let ip = text.parse().map_err(|_| serde::de::Error::custom(format!("{text:?} is not an IP address")))?;
    check_ip(ip).map_err(|invalid| serde::de::Error::custom(invalid.reason))
}

/// What is said of a part of the model whose implementation has not landed.
pub(super) const NOT_SUPPORTED: &str = "not supported yet";

fn unsupported_flag<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match bool::deserialize(deserializer)? {
        false => Ok(false),
        true => Err(serde::de::Error::custom(NOT_SUPPORTED)),
    }
}

fn unsupported_name<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Name>, D::Error> {
    match Option::<Name>::deserialize(deserializer)? {
        None => Ok(None),
        Some(_) => Err(serde::de::Error::custom(NOT_SUPPORTED)),
    }
}
