//! A backend server as it is configured.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{Invalid, Name};

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
    /// No new connections; those that exist finish.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) drain: bool,
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "unsupported_flag")]
    pub(crate) ssl_offload: bool,
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "unsupported_flag")]
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
            drain: false,
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

    /// True if it gets no new connections while those that exist finish.
    pub fn is_draining(&self) -> bool {
        self.drain
    }

    /// Whether the client's TLS ends here before the bytes go to this server. Not supported yet, always false.
    pub fn ssl_offload(&self) -> bool {
        self.ssl_offload
    }

    /// Whether it is a standby, without traffic unless the active servers are unavailable. Not supported yet, always false.
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

pub(crate) fn check_ip(ip: IpAddr) -> Result<IpAddr, Invalid> {
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
pub(crate) const NOT_SUPPORTED: &str = "not supported yet";

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
