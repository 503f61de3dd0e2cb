//! HAProxy, as a server that understands the PROXY protocol, and as a proxy before the balancer that speaks it.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use super::{Program, free_addr};

/// HAProxy with one frontend.
#[derive(Debug)]
pub struct Haproxy {
    program: Program,
}

impl Haproxy {
    /// A server behind a proxy: every HTTP request is answered with what the PROXY header of its connection says, as
    /// `source:port to destination:port`.
    pub fn behind_proxy() -> Self {
        Self::start(
            "mode http",
            "accept-proxy",
            "http-request return status 200 content-type text/plain \
             lf-string \"%[src]:%[src_port] to %[dst]:%[dst_port]\"",
        )
    }

    /// A proxy that connects to `server` and says there by `version` (`send-proxy` or `send-proxy-v2`) whom it is for.
    pub fn before(server: SocketAddr, version: &str) -> Self {
        Self::start(
            "mode tcp",
            "",
            &format!("default_backend server\nbackend server\n mode tcp\n server s {server} {version}"),
        )
    }

    fn start(mode: &str, bind: &str, rest: &str) -> Self {
        let folder = TempDir::with_prefix("lb-test-haproxy-").unwrap();
        let addr = free_addr();
        let config = folder.path().join("haproxy.cfg");
        let timeouts = "timeout connect 20s\n timeout client 20s\n timeout server 20s";
        let text = format!("defaults\n {timeouts}\nfrontend web\n {mode}\n bind {addr} {bind}\n {rest}\n");
        fs::write(&config, text).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&config);
        Self { program: Program::start(folder, command, addr, "TERM") }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.program.addr()
    }
}
