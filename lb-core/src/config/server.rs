//! A backend server as it is configured.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::certificate::not_none;
use super::frontend::positive;
use super::{Check, Invalid, Millis, Name, SendProxy, ServerNameText, tls};

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
    /// A standby.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) passive: bool,
    /// The client's TLS ends here.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) ssl_offload: bool,
    /// TLS to it, trusted by this bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) server_certificate: Option<Name>,
    /// The name that its certificate must be for, instead of its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) server_name: Option<ServerNameText>,
    /// Whether its certificate must be for that name.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub(crate) verify_name: bool,
    /// The pair that is shown to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client_certificate: Option<Name>,
    /// Whether it is told who the client is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) send_proxy: SendProxy,
    /// Which of the frontend's routes lead to it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "tls::group")]
    pub(crate) group: Option<Name>,
    /// What cookies know it by; its name where that is missing, and never the same as its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) identity: Option<Name>,
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
            passive: false,
            ssl_offload: false,
            server_certificate: None,
            server_name: None,
            verify_name: true,
            client_certificate: None,
            send_proxy: SendProxy::Off,
            group: None,
            identity: None,
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

    /// The same server, with the client's TLS ended before it or passed on to it.
    #[must_use]
    pub fn with_ssl_offload(mut self, ssl_offload: bool) -> Self {
        self.ssl_offload = ssl_offload;
        self
    }

    /// The same server, talked to in TLS and trusted by this bundle of certificates.
    #[must_use]
    pub fn with_server_certificate(mut self, bundle: Option<Name>) -> Self {
        self.server_certificate = bundle;
        self
    }

    /// The same server, with another name that its certificate must be for.
    ///
    /// # Errors
    /// Neither a DNS name nor an IP address.
    pub fn with_server_name(mut self, name: Option<&str>) -> Result<Self, Invalid> {
        self.server_name = name.map(ServerNameText::new).transpose()?;
        Ok(self)
    }

    /// The same server, with its certificate's name checked or not.
    #[must_use]
    pub fn with_verify_name(mut self, verify_name: bool) -> Self {
        self.verify_name = verify_name;
        self
    }

    /// The same server, shown this certificate of ours.
    #[must_use]
    pub fn with_client_certificate(mut self, pair: Option<Name>) -> Self {
        self.client_certificate = pair;
        self
    }

    /// The same server, told who the client is or not.
    #[must_use]
    pub fn with_send_proxy(mut self, send_proxy: SendProxy) -> Self {
        self.send_proxy = send_proxy;
        self
    }

    /// The same server in another group.
    ///
    /// # Errors
    /// The name `none`, which means no group.
    pub fn with_group(mut self, group: Option<Name>) -> Result<Self, Invalid> {
        self.group = group.map(|group| not_none("group", group)).transpose()?;
        Ok(self)
    }

    /// The same server, known to cookies by this instead of its name. A client stays on the server with the identity that it
    /// was on, whatever the server's name and address are by now.
    #[must_use]
    pub fn with_identity(mut self, identity: Name) -> Self {
        self.identity = Some(identity).filter(|identity| *identity != self.name);
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

    /// What the settings of the TLS to it must be together. Only once all changes of a transaction are made.
    ///
    /// # Errors
    /// Settings that mean nothing without a bundle: whoever sets them expects that something is verified.
    pub(crate) fn check_tls(&self) -> Result<(), Invalid> {
        let set = [
            (self.server_name.is_some(), "server_name"),
            (!self.verify_name, "verify_name"),
            (self.client_certificate.is_some(), "client_certificate"),
        ];
        match set.iter().find(|(is_set, _)| *is_set && self.server_certificate.is_none()) {
            None => Ok(()),
            Some((_, field)) => {
                let why = "is for TLS to the server, which needs server_certificate: name a bundle there";
                Err(Invalid::new(*field, format!("server {}: {field} {why}", self.name)))
            }
        }
    }

    /// Whether its certificate is judged like that of `other`, and our own shown to it is the same.
    pub(crate) fn is_trusted_like(&self, other: &Self) -> bool {
        self.server_certificate == other.server_certificate
            && self.client_certificate == other.client_certificate
            && self.server_name() == other.server_name()
            && self.verify_name == other.verify_name
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

    /// Whether the client's TLS ends here before the bytes go to this server.
    pub fn ssl_offload(&self) -> bool {
        self.ssl_offload
    }

    /// Whether it is a standby: no traffic unless the active servers are unavailable.
    pub fn is_passive(&self) -> bool {
        self.passive
    }

    /// The bundle by which its certificate is trusted. Without one the bytes go to it as they are.
    pub fn server_certificate(&self) -> Option<&Name> {
        self.server_certificate.as_ref()
    }

    /// The name that its certificate must be for; `None` is its IP address.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_ref().map(ServerNameText::as_str)
    }

    /// Whether its certificate must be for that name. Otherwise any that the bundle vouches for will do.
    pub fn verify_name(&self) -> bool {
        self.verify_name
    }

    /// The pair that is shown to it if it asks for a certificate.
    pub fn client_certificate(&self) -> Option<&Name> {
        self.client_certificate.as_ref()
    }

    /// Whether it is told who the client is, in a PROXY header.
    pub fn send_proxy(&self) -> SendProxy {
        self.send_proxy
    }

    /// Its group, which the frontend's `sni_routes` name.
    pub fn group(&self) -> Option<&Name> {
        self.group.as_ref()
    }

    /// What cookies know it by: its name, or the one it had before it was renamed.
    pub fn identity(&self) -> &Name {
        self.identity.as_ref().unwrap_or(&self.name)
    }

    /// Whether it is what `wanted` says. A server whose identity is not said may have any.
    pub fn is_as_configured(&self, wanted: &Self) -> bool {
        let is_same_identity = wanted.identity.is_none() || self.identity() == wanted.identity();
        let without_identity = |server: &Self| Self { identity: None, ..server.clone() };
        self == wanted || is_same_identity && without_identity(self) == without_identity(wanted)
    }

    /// The names of the certificates that it uses, with the fields that name them.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = (&'static str, &Name)> {
        let bundle = self.server_certificate.iter().map(|name| ("server_certificate", name));
        bundle.chain(self.client_certificate.iter().map(|name| ("client_certificate", name)))
    }
}

fn yes() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server::new("a", ([127, 0, 0, 1], 80).into()).unwrap()
    }

    #[test]
    fn settings_of_tls_to_a_server_need_a_bundle() {
        let bundle = || Some(Name::new("ca").unwrap());
        for (server, field) in [
            (server().with_server_name(Some("a.example")).unwrap(), "server_name"),
            (server().with_verify_name(false), "verify_name"),
            (server().with_client_certificate(bundle()), "client_certificate"),
        ] {
            let invalid = server.check_tls().unwrap_err();
            assert_eq!(invalid.field, field);
            let reason = "is for TLS to the server, which needs server_certificate: name a bundle there";
            assert_eq!(invalid.reason, format!("server a: {field} {reason}"));
            assert_eq!(server.with_server_certificate(bundle()).check_tls(), Ok(()));
        }
    }

    #[test]
    fn none_is_no_group() {
        assert!(server().with_group(Some(Name::new("none").unwrap())).is_err());
        let read = |group: &str| {
            let text = format!(r#"{{"name":"a","ip":"127.0.0.1","port":1,"group":"{group}"}}"#);
            serde_json::from_str::<Server>(&text).map_err(|error| error.to_string())
        };
        assert!(read("none").unwrap_err().contains("stands for no name"));
        assert_eq!(read("blue").unwrap().group().unwrap().as_str(), "blue");
    }
}
