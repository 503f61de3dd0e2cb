//! Configurations, written as an operator writes them.

use std::fmt::{self, Display};
use std::net::SocketAddr;

/// A configuration file's text.
#[derive(Debug, Clone, Default)]
pub struct Config {
    fields: Vec<String>,
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

    /// The same with a field set, for example `set("shards", 1)`.
    #[must_use]
    pub fn set(mut self, field: &str, value: impl Display) -> Self {
        self.fields.push(format!("    {field}: {value},\n"));
        self
    }
}

impl Display for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "(\n{}    frontends: [", self.fields.concat())?;
        for frontend in &self.frontends {
            writeln!(formatter, "        {frontend},")?;
        }
        writeln!(formatter, "    ],\n)")
    }
}

/// One frontend of a configuration or of an `AddFrontend` request.
#[derive(Debug, Clone)]
pub struct Frontend {
    name: String,
    bind: String,
    fields: String,
    servers: Vec<String>,
}

impl Frontend {
    /// A frontend at a port of 127.0.0.1 that the kernel chooses.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), bind: "127.0.0.1:0".into(), fields: String::new(), servers: Vec::new() }
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

    /// The same with a server more.
    #[must_use]
    pub fn server(self, name: &str, addr: SocketAddr) -> Self {
        self.weighted(name, addr, 1)
    }

    /// The same with a server of a weight more.
    #[must_use]
    pub fn weighted(mut self, name: &str, addr: SocketAddr, weight: u32) -> Self {
        self.servers.push(server(name, addr, weight));
        self
    }
}

impl Display for Frontend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, bind, fields, servers } = self;
        write!(formatter, "(name: \"{name}\", bind: \"{bind}\"{fields}, servers: [{}])", servers.join(", "))
    }
}

fn server(name: &str, addr: SocketAddr, weight: u32) -> String {
    format!("(name: \"{name}\", ip: \"{}\", port: {}, weight: {weight})", addr.ip(), addr.port())
}
