//! A frontend as it is configured.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::server::is_default;
use super::{
    AlpnName, Check, ClientAuth, CookieSettings, Delay, FRONTENDS_MAX, HttpSettings, Invalid, IpPersistence, Millis,
    Name, Network, OnUnavailable, PassiveConnections, PassiveUse, PassiveWhen, Percent, Protocol, SERVERS_MAX, Server,
    SniRoute, tls,
};

/// Where a frontend accepts connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Bind {
    /// An address and port; port 0 lets the kernel choose one, which is then reported. Written `"127.0.0.1:80"`, `"[::]:80"`.
    Addr(SocketAddr),
    /// A listening socket that the process inherited under this descriptor. Written `"fd:3"`.
    Inherited(RawFd),
}

impl fmt::Display for Bind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(addr) => addr.fmt(formatter),
            Self::Inherited(fd) => write!(formatter, "fd:{fd}"),
        }
    }
}

impl std::str::FromStr for Bind {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Some(fd) = text.strip_prefix("fd:") {
            // 0 to 2 are the standard streams.
            return match fd.parse() {
                Ok(fd @ 3..) => Ok(Self::Inherited(fd)),
                _ => Err(Invalid::new("bind", format!("{text:?}: the descriptor is a number from 3 on"))),
            };
        }
        text.parse().map(Self::Addr).map_err(|_| {
            let hint = "write \"127.0.0.1:80\", \"[::1]:80\" or \"fd:3\"";
            Invalid::new("bind", format!("{text:?} is not an IP address and port: {hint}"))
        })
    }
}

impl TryFrom<String> for Bind {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|invalid: Invalid| invalid.reason)
    }
}

impl From<Bind> for String {
    fn from(bind: Bind) -> Self {
        bind.to_string()
    }
}

/// How a frontend chooses the server of a new connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyKind {
    /// Each server in turn, by weight, spread evenly.
    #[default]
    RoundRobin,
    /// The server with the fewest connections for its weight, counted over all shards.
    LeastConnections,
    /// The one with fewer connections for its weight among two chosen at random.
    RandomTwo,
    /// The one that is quicker for its connections and weight among two chosen at random, by peak EWMAs of the times to
    /// connect and to the first byte.
    LeastLatency,
    /// The same server for the same client address (a Maglev table).
    SourceHash,
    /// A policy that the embedding program registered under this name.
    Custom(Name),
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoundRobin => formatter.write_str("round_robin"),
            Self::LeastConnections => formatter.write_str("least_connections"),
            Self::RandomTwo => formatter.write_str("random_two"),
            Self::LeastLatency => formatter.write_str("least_latency"),
            Self::SourceHash => formatter.write_str("source_hash"),
            Self::Custom(name) => write!(formatter, "custom({name:?})"),
        }
    }
}

impl std::str::FromStr for PolicyKind {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "round_robin" => Ok(Self::RoundRobin),
            "least_connections" => Ok(Self::LeastConnections),
            "random_two" => Ok(Self::RandomTwo),
            "least_latency" => Ok(Self::LeastLatency),
            "source_hash" => Ok(Self::SourceHash),
            _ => Err(Invalid::new(
                "policy",
                format!(
                    "{text:?} is not one of round_robin, least_connections, random_two, least_latency, source_hash"
                ),
            )),
        }
    }
}

/// A frontend: where clients connect, and the servers behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frontend {
    pub(crate) name: Name,
    pub(crate) bind: Bind,
    /// What is spoken with clients.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) protocol: Protocol,
    #[serde(default)]
    pub(crate) policy: PolicyKind,
    /// Most connections at once; beyond it accepting pauses.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "positive")]
    pub(crate) max_connections: Option<u32>,
    /// How long one server may take to accept a connection.
    #[serde(default = "connect_timeout")]
    pub(crate) connect_timeout: Millis,
    /// How long a connection may go without a byte in either direction.
    #[serde(default = "idle_timeout")]
    pub(crate) idle_timeout: Millis,
    /// How long servers may be tried for one client, one after the other, in all.
    #[serde(default = "redispatch_timeout")]
    pub(crate) redispatch_timeout: Millis,
    /// Most clients that wait while every server is at its connection limit.
    #[serde(default = "queue")]
    pub(crate) queue: u32,
    /// How long each of them may wait.
    #[serde(default = "queue_timeout")]
    pub(crate) queue_timeout: Millis,
    /// What clients get while no server is available.
    #[serde(default)]
    pub(crate) on_unavailable: OnUnavailable,
    /// How servers are checked.
    #[serde(default)]
    pub(crate) check: Check,
    /// How long a server that has come up takes to get its full share.
    #[serde(default)]
    pub(crate) slow_start: Delay,
    /// Failures of real connections in a row after which a server is ejected; 0 is never.
    #[serde(default = "eject_after")]
    pub(crate) eject_after: u32,
    /// How long a server is ejected at first; it doubles each time.
    #[serde(default = "eject_time")]
    pub(crate) eject_time: Millis,
    /// How long it is ejected at most.
    #[serde(default = "eject_time_max")]
    pub(crate) eject_time_max: Millis,
    /// Most servers that are ejected at once, in percent of all.
    #[serde(default = "max_ejected")]
    pub(crate) max_ejected: Percent,
    /// Which passive servers are used.
    #[serde(default)]
    pub(crate) passive_use: PassiveUse,
    /// When passive servers take part.
    #[serde(default)]
    pub(crate) passive_when: PassiveWhen,
    /// What happens to their connections when they are not needed any more.
    #[serde(default)]
    pub(crate) passive_connections: PassiveConnections,
    /// How long enough active servers must have been available before the passive ones leave.
    #[serde(default)]
    pub(crate) fail_back_after: Delay,
    /// The pairs that are shown to clients, the first one to those that ask for no name of any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) certificates: Vec<Name>,
    /// The protocols that are offered to clients, the preferred one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) alpn: Vec<AlpnName>,
    /// The bundle by which clients' certificates are trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client_ca: Option<Name>,
    /// Whether clients must show one. Only with `client_ca`.
    #[serde(default)]
    pub(crate) client_auth: ClientAuth,
    /// How long a client may take for what comes before a server is chosen: its handshake, a PROXY header, a ClientHello.
    #[serde(default = "handshake_timeout")]
    pub(crate) handshake_timeout: Millis,
    /// Most handshakes of clients that each shard has in progress.
    #[serde(default = "max_handshakes")]
    pub(crate) max_handshakes: NonZeroU32,
    /// Groups of servers by the name that clients ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) sni_routes: Vec<SniRoute>,
    /// Where a PROXY header is accepted from, and expected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) accept_proxy_from: Vec<Network>,
    /// Whether clients stay on their servers by a cookie.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) cookie_persistence: bool,
    /// Which cookie. Only with `cookie_persistence`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) cookie: CookieSettings,
    /// How clients stay on their servers by their address, if they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ip_persistence: Option<IpPersistence>,
    /// How requests are handled. Only where they are read.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) http: HttpSettings,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "servers")]
    pub(crate) servers: Vec<Arc<Server>>,
}

impl Frontend {
    /// A frontend without servers, with the defaults of the configuration: `round_robin`, no limit of its own, 5 s to
    /// connect, 10 min idle, servers checked by a TCP connect every 2 s.
    ///
    /// # Errors
    /// A name that is not allowed (see [`Name`]).
    pub fn new(name: &str, bind: Bind) -> Result<Self, Invalid> {
        Ok(Self {
            name: Name::new(name)?,
            bind,
            protocol: Protocol::default(),
            policy: PolicyKind::default(),
            max_connections: None,
            connect_timeout: connect_timeout(),
            idle_timeout: idle_timeout(),
            redispatch_timeout: redispatch_timeout(),
            queue: queue(),
            queue_timeout: queue_timeout(),
            on_unavailable: OnUnavailable::default(),
            check: Check::default(),
            slow_start: Delay::default(),
            eject_after: eject_after(),
            eject_time: eject_time(),
            eject_time_max: eject_time_max(),
            max_ejected: max_ejected(),
            passive_use: PassiveUse::default(),
            passive_when: PassiveWhen::default(),
            passive_connections: PassiveConnections::default(),
            fail_back_after: Delay::default(),
            certificates: Vec::new(),
            alpn: Vec::new(),
            client_ca: None,
            client_auth: ClientAuth::default(),
            handshake_timeout: handshake_timeout(),
            max_handshakes: max_handshakes(),
            sni_routes: Vec::new(),
            accept_proxy_from: Vec::new(),
            cookie_persistence: false,
            cookie: CookieSettings::default(),
            ip_persistence: None,
            http: HttpSettings::default(),
            servers: Vec::new(),
        })
    }

    /// The same frontend with a server more. Whether its name is free is checked when the frontend comes into use.
    #[must_use]
    pub fn with_server(mut self, server: Server) -> Self {
        self.servers.push(Arc::new(server));
        self
    }

    /// The same frontend without its servers: its own settings.
    #[must_use]
    pub fn without_servers(&self) -> Self {
        Self {
            servers: Vec::new(),
            name: self.name.clone(),
            policy: self.policy.clone(),
            check: self.check.clone(),
            certificates: self.certificates.clone(),
            alpn: self.alpn.clone(),
            client_ca: self.client_ca.clone(),
            sni_routes: self.sni_routes.clone(),
            accept_proxy_from: self.accept_proxy_from.clone(),
            cookie: self.cookie.clone(),
            ..*self
        }
    }

    /// The same frontend with another protocol.
    #[must_use]
    pub fn with_protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// The same frontend with another policy.
    #[must_use]
    pub fn with_policy(mut self, policy: PolicyKind) -> Self {
        self.policy = policy;
        self
    }

    /// The same frontend with at most this many connections at once (at least 1).
    #[must_use]
    pub fn with_max_connections(mut self, max: u32) -> Self {
        self.max_connections = Some(max.max(1));
        self
    }

    /// The same frontend with other timeouts: to connect to one server, and without a byte either way.
    #[must_use]
    pub fn with_timeouts(mut self, connect: Millis, idle: Millis) -> Self {
        (self.connect_timeout, self.idle_timeout) = (connect, idle);
        self
    }

    /// The same frontend, with these pairs for its clients, the first one by default.
    #[must_use]
    pub fn with_certificates(mut self, pairs: Vec<Name>) -> Self {
        self.certificates = pairs;
        self
    }

    /// The same frontend, with these protocols offered to clients, the preferred one first.
    #[must_use]
    pub fn with_alpn(mut self, protocols: Vec<AlpnName>) -> Self {
        self.alpn = protocols;
        self
    }

    /// The same frontend, with clients asked for certificates that this bundle vouches for, or not asked.
    #[must_use]
    pub fn with_client_ca(mut self, bundle: Option<Name>, auth: ClientAuth) -> Self {
        (self.client_ca, self.client_auth) = (bundle, auth);
        self
    }

    /// The same frontend with other limits of handshakes: how long each may take, and how many of them each shard has in
    /// progress (at least 1).
    #[must_use]
    pub fn with_handshakes(mut self, timeout: Millis, most: u32) -> Self {
        (self.handshake_timeout, self.max_handshakes) = (timeout, NonZeroU32::new(most).unwrap_or(NonZeroU32::MIN));
        self
    }

    /// The same frontend with other routes.
    #[must_use]
    pub fn with_sni_routes(mut self, routes: Vec<SniRoute>) -> Self {
        self.sni_routes = routes;
        self
    }

    /// The same frontend, with PROXY headers accepted from these networks.
    #[must_use]
    pub fn with_accept_proxy_from(mut self, networks: Vec<Network>) -> Self {
        self.accept_proxy_from = networks;
        self
    }

    /// The same frontend, with clients kept on their servers by a cookie or not.
    #[must_use]
    pub fn with_cookie_persistence(mut self, cookie_persistence: bool) -> Self {
        self.cookie_persistence = cookie_persistence;
        self
    }

    /// The same frontend with another cookie, for [`Frontend::with_cookie_persistence`].
    #[must_use]
    pub fn with_cookie(mut self, cookie: CookieSettings) -> Self {
        self.cookie = cookie;
        self
    }

    /// The same frontend, with clients kept on their servers by their address or not.
    #[must_use]
    pub fn with_ip_persistence(mut self, ip_persistence: Option<IpPersistence>) -> Self {
        self.ip_persistence = ip_persistence;
        self
    }

    /// The same frontend with requests handled otherwise.
    #[must_use]
    pub fn with_http(mut self, http: HttpSettings) -> Self {
        self.http = http;
        self
    }

    /// The frontend's name, unique in the balancer.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Where it accepts, as configured (port 0 stays 0 here).
    pub fn bind(&self) -> Bind {
        self.bind
    }

    /// What it speaks with its clients.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// How it chooses a server.
    pub fn policy(&self) -> &PolicyKind {
        &self.policy
    }

    /// Most connections at once.
    pub fn max_connections(&self) -> Option<u32> {
        self.max_connections
    }

    /// How long one server may take to accept a connection.
    pub fn connect_timeout(&self) -> Millis {
        self.connect_timeout
    }

    /// How long a connection may go without a byte in either direction.
    pub fn idle_timeout(&self) -> Millis {
        self.idle_timeout
    }

    /// How long servers may be tried for one client, one after the other, in all.
    pub fn redispatch_timeout(&self) -> Millis {
        self.redispatch_timeout
    }

    /// Most clients that wait while every server is at its connection limit.
    pub fn queue(&self) -> u32 {
        self.queue
    }

    /// How long each of them may wait.
    pub fn queue_timeout(&self) -> Millis {
        self.queue_timeout
    }

    /// What clients get while no server is available.
    pub fn on_unavailable(&self) -> OnUnavailable {
        self.on_unavailable
    }

    /// How its servers are checked, those that have no check of their own.
    pub fn check(&self) -> &Check {
        &self.check
    }

    /// How `server`, one of its own, is checked.
    pub fn check_of<'a>(&'a self, server: &'a Server) -> &'a Check {
        server.check.own().unwrap_or(&self.check)
    }

    /// How long a server that has come up takes to get its full share.
    pub fn slow_start(&self) -> Delay {
        self.slow_start
    }

    /// Failures of real connections in a row after which a server is ejected; 0 is never.
    pub fn eject_after(&self) -> u32 {
        self.eject_after
    }

    /// How long a server is ejected at first; it doubles each time.
    pub fn eject_time(&self) -> Millis {
        self.eject_time
    }

    /// How long it is ejected at most.
    pub fn eject_time_max(&self) -> Millis {
        self.eject_time_max
    }

    /// Most servers that are ejected at once, in percent of all.
    pub fn max_ejected(&self) -> Percent {
        self.max_ejected
    }

    /// Which passive servers are used.
    pub fn passive_use(&self) -> PassiveUse {
        self.passive_use
    }

    /// When passive servers take part.
    pub fn passive_when(&self) -> PassiveWhen {
        self.passive_when
    }

    /// What happens to connections on passive servers when these are not needed any more.
    pub fn passive_connections(&self) -> PassiveConnections {
        self.passive_connections
    }

    /// How long enough active servers must have been available before the passive ones leave.
    pub fn fail_back_after(&self) -> Delay {
        self.fail_back_after
    }

    /// The pairs that are shown to clients, by the name that they ask for; the first one to all others.
    pub fn certificates(&self) -> &[Name] {
        &self.certificates
    }

    /// The protocols that are offered to clients, the preferred one first.
    pub fn alpn(&self) -> impl Iterator<Item = &str> {
        self.alpn.iter().map(AlpnName::as_str)
    }

    /// The bundle by which clients' certificates are trusted. Without one they are not asked for any.
    pub fn client_ca(&self) -> Option<&Name> {
        self.client_ca.as_ref()
    }

    /// Whether clients must show one. Means something only with [`Frontend::client_ca`].
    pub fn client_auth(&self) -> ClientAuth {
        self.client_auth
    }

    /// How long a handshake may take, a client's as well as a server's.
    pub fn handshake_timeout(&self) -> Millis {
        self.handshake_timeout
    }

    /// Most handshakes of clients that each shard has in progress; at least 1.
    pub fn max_handshakes(&self) -> u32 {
        self.max_handshakes.get()
    }

    /// Which servers clients get by the name that they ask for.
    pub fn sni_routes(&self) -> &[SniRoute] {
        &self.sni_routes
    }

    /// The group of servers for clients that ask for this name: by exact names before wildcards, then in order. `None` is the
    /// servers without a group, if there are routes at all.
    pub fn group_for(&self, sni: &str) -> Option<&Name> {
        tls::route(&self.sni_routes, sni)
    }

    /// Where a PROXY header is accepted from, and expected.
    pub fn accept_proxy_from(&self) -> &[Network] {
        &self.accept_proxy_from
    }

    /// Whether clients stay on their servers by a cookie.
    pub fn cookie_persistence(&self) -> bool {
        self.cookie_persistence
    }

    /// By which cookie. Means something only with [`Frontend::cookie_persistence`].
    pub fn cookie(&self) -> &CookieSettings {
        &self.cookie
    }

    /// How clients stay on their servers by their address, if they do.
    pub fn ip_persistence(&self) -> Option<&IpPersistence> {
        self.ip_persistence.as_ref()
    }

    /// How requests are handled. Means something only where [`Protocol::is_http`].
    pub fn http(&self) -> &HttpSettings {
        &self.http
    }

    /// Whether the client's TLS ends here before the bytes go to `server`, one of its own: with `https` always.
    pub(crate) fn offloads(&self, server: &Server) -> bool {
        self.protocol == Protocol::Https || server.ssl_offload()
    }

    /// The names of the certificates that it uses itself, with the fields that name them.
    pub(crate) fn own_certificates(&self) -> impl Iterator<Item = (&'static str, &Name)> {
        let pairs = self.certificates.iter().map(|name| ("certificates", name));
        pairs.chain(self.client_ca.iter().map(|name| ("client_ca", name)))
    }

    /// Its servers, in the order they were added.
    pub fn servers(&self) -> &[Arc<Server>] {
        &self.servers
    }
}

fn connect_timeout() -> Millis {
    Millis::from_duration_clamped(Duration::from_secs(5))
}

fn idle_timeout() -> Millis {
    Millis::from_duration_clamped(Duration::from_secs(600))
}

fn redispatch_timeout() -> Millis {
    Millis::from_duration_clamped(Duration::from_secs(15))
}

fn queue() -> u32 {
    1024
}

fn queue_timeout() -> Millis {
    Millis::from_duration_clamped(Duration::from_secs(5))
}

fn eject_after() -> u32 {
    5
}

fn eject_time() -> Millis {
    Millis::from_duration_clamped(Duration::from_secs(10))
}

fn eject_time_max() -> Millis {
    Millis::from_duration_clamped(Duration::from_secs(300))
}

fn max_ejected() -> Percent {
    Percent::HALF
}

fn handshake_timeout() -> Millis {
    Millis::from_duration_clamped(Duration::from_secs(10))
}

fn max_handshakes() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(1999)
}

pub(super) fn positive<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    match Option::<u32>::deserialize(deserializer)? {
        Some(0) => Err(serde::de::Error::custom("0 connections would serve nobody: leave it out for no limit")),
        limit => Ok(limit),
    }
}

fn servers<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Arc<Server>>, D::Error> {
    super::unique_by(deserializer, SERVERS_MAX, |server: &Arc<Server>| vec![("server", server.name.to_string())])
}

pub(super) fn unique<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Frontend>, D::Error> {
    super::unique_by(deserializer, FRONTENDS_MAX, |frontend: &Frontend| {
        let mut keys = vec![("frontend", frontend.name.to_string())];
        if !matches!(frontend.bind, Bind::Addr(addr) if addr.port() == 0) {
            keys.push(("bind", frontend.bind.to_string()));
        }
        keys
    })
}
