//! Configurations, written as an operator writes them.

use std::fmt::{self, Display};
use std::net::SocketAddr;

use crate::Identity;

/// A configuration file's text.
#[derive(Debug, Clone, Default)]
pub struct Config {
    fields: Vec<String>,
    certificates: Vec<String>,
    frontends: Vec<Frontend>,
}

impl Config {
    /// A configuration with one frontend.
    pub fn of(frontend: Frontend) -> Self {
        Self::default().frontend(frontend)
    }

    /// The same with a frontend more.
    #[must_use]
    pub fn frontend(mut self, frontend: Frontend) -> Self {
        self.frontends.push(frontend);
        self
    }

    /// The same with a certificate, its chain and key in the file.
    #[must_use]
    pub fn pair(self, name: &str, identity: &Identity) -> Self {
        self.certificate(pair(name, identity))
    }

    /// The same with a bundle of certificates to trust, in the file.
    #[must_use]
    pub fn bundle(self, name: &str, pem: &str) -> Self {
        self.certificate(bundle(name, pem))
    }

    /// The same with an entry of its certificates, for example `(name: "ca", bundle: "ca.pem")`.
    #[must_use]
    pub fn certificate(mut self, entry: String) -> Self {
        self.certificates.push(entry);
        self
    }

    /// The same with a field set, for example `set("shards", 1)`.
    #[must_use]
    pub fn set(mut self, field: &str, value: impl Display) -> Self {
        self.fields.push(format!("    {field}: {value},\n"));
        self
    }
}

impl Display for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "(\n{}", self.fields.concat())?;
        if !self.certificates.is_empty() {
            writeln!(formatter, "    certificates: [{}],", self.certificates.join(", "))?;
        }
        writeln!(formatter, "    frontends: [")?;
        for frontend in &self.frontends {
            writeln!(formatter, "        {frontend},")?;
        }
        writeln!(formatter, "    ],\n)")
    }
}

/// A certificate as in a configuration or a request. Its text has no line ends: a request is one line.
pub fn pair(name: &str, identity: &Identity) -> String {
    format!("(name: \"{name}\", chain: {:?}, key: {:?})", identity.chain(), identity.key())
}

/// A bundle as in a configuration or a request.
pub fn bundle(name: &str, pem: &str) -> String {
    format!("(name: \"{name}\", bundle: {pem:?})")
}

/// One frontend of a configuration or of an `AddFrontend` request.
#[derive(Debug, Clone)]
pub struct Frontend {
    name: String,
    bind: String,
    check: String,
    fields: String,
    servers: Vec<String>,
}

impl Frontend {
    /// A frontend at a port of 127.0.0.1 that the kernel chooses, whose servers are not checked: connections are counted.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            bind: "127.0.0.1:0".into(),
            check: "(kind: off)".into(),
            fields: String::new(),
            servers: Vec::new(),
        }
    }

    /// The same with its servers checked, for example `"(kind: tcp, interval: \"100ms\")"`.
    #[must_use]
    pub fn check(mut self, check: &str) -> Self {
        self.check = check.into();
        self
    }

    /// The same at another address.
    #[must_use]
    pub fn bind(mut self, bind: impl Display) -> Self {
        self.bind = bind.to_string();
        self
    }

    /// The same with a policy.
    #[must_use]
    pub fn policy(self, policy: &str) -> Self {
        self.set("policy", policy)
    }

    /// The same with a field set, for example `set("idle_timeout", "\"1s\"")`.
    #[must_use]
    pub fn set(mut self, field: &str, value: impl Display) -> Self {
        self.fields += &format!(", {field}: {value}");
        self
    }

    /// The same with certificates, the first of them for those who ask for none that is there.
    #[must_use]
    pub fn certificates(self, names: &[&str]) -> Self {
        self.set("certificates", format!("{names:?}"))
    }

    /// The same with a server more.
    #[must_use]
    pub fn server(self, name: &str, addr: SocketAddr) -> Self {
        self.weighted(name, addr, 1)
    }

    /// The same with a server of a weight more.
    #[must_use]
    pub fn weighted(self, name: &str, addr: SocketAddr, weight: u32) -> Self {
        self.server_with(name, addr, &format!("weight: {weight}"))
    }

    /// The same with a standby more.
    #[must_use]
    pub fn passive(self, name: &str, addr: SocketAddr) -> Self {
        self.server_with(name, addr, "passive: true")
    }

    /// The same with a server of some settings more, for example `"max_connections: 1"`.
    #[must_use]
    pub fn server_with(mut self, name: &str, addr: SocketAddr, settings: &str) -> Self {
        let (ip, port) = (addr.ip(), addr.port());
        self.servers.push(format!("(name: \"{name}\", ip: \"{ip}\", port: {port}, {settings})"));
        self
    }
}

impl Display for Frontend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, bind, check, fields, servers } = self;
        let servers = servers.join(", ");
        write!(formatter, "(name: \"{name}\", bind: \"{bind}\", check: {check}{fields}, servers: [{servers}])")
    }
}
