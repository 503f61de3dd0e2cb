//! A frontend as it is configured.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Check, Delay, FRONTENDS_MAX, Invalid, Millis, Name, OnUnavailable, PassiveConnections, PassiveUse, PassiveWhen,
    Percent, SERVERS_MAX, Server,
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
            ..*self
        }
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

    /// The frontend's name, unique in the balancer.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Where it accepts, as configured (port 0 stays 0 here).
    pub fn bind(&self) -> Bind {
        self.bind
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
