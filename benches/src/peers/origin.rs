//! nginx as the servers of HTTP: one worker beside the traffic's own thread, on its core.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::{CONNECTIONS_MAX, Entry, Place, Ports, Process, version};
use crate::Result;
use crate::net::server_addresses;
use crate::tls::{CHAIN_FILE, KEY_FILE};

/// The bytes of its small answer.
pub const SMALL: u64 = 64;
/// Those of its large one.
pub const LARGE: u64 = 1 << 20;

/// nginx, which answers `/` with [`SMALL`] bytes and `/large` with [`LARGE`], by TLS too if that is needed. It is stopped when this
/// is dropped.
#[derive(Debug)]
pub struct Origin {
    ports: Ports,
    process: Process,
}

impl Origin {
    /// Starts it on a core, if it is installed. With `tls`, the files of [`crate::tls::Identities::write`] are in the folder.
    ///
    /// # Errors
    /// It is there and does not start; with what it said.
    pub fn start(folder: &Path, core: usize, tls: bool) -> Result<Option<Self>> {
        if version("nginx", "-v").is_none() {
            return Ok(None);
        }
        let entries: &[Entry] = if tls { &[Entry::Terminated] } else { &[] };
        let place = Place { folder, core, servers: &[], origins: &[], entries };
        let ports = Ports::free(entries.iter().copied())?;
        let files = folder.join("origin");
        fs::create_dir(&files)?;
        fs::write(files.join("large"), vec![b'l'; usize::try_from(LARGE)?])?;
        let file = folder.join("origin.conf");
        fs::write(&file, configuration(folder, ports))?;
        let (folder, file) = (folder.to_string_lossy(), file.to_string_lossy());
        let arguments = ["-p", &*folder, "-c", &*file, "-g", "daemon off;"];
        let mut process = Process::start("origin", place, Path::new("nginx"), &arguments)?;
        process.wait_until_listening(ports)?;
        Ok(Some(Self { ports, process }))
    }

    /// Where it can be reached without TLS: as so many servers.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        server_addresses(self.ports.plain)
    }

    /// The port for clients that come as they would to a balancer.
    pub fn port(&self, entry: Entry) -> Option<u16> {
        if entry.is_tls() { self.ports.of(Entry::Terminated) } else { Some(self.ports.plain) }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }
}

fn configuration(folder: &Path, ports: Ports) -> String {
    let folder = folder.display();
    let plain = ports.plain;
    let tls = match ports.of(Entry::Terminated) {
        Some(port) => format!(
            "        listen 0.0.0.0:{port} ssl backlog=4096;\n        ssl_certificate {folder}/{CHAIN_FILE};\n        \
             ssl_certificate_key {folder}/{KEY_FILE};\n        ssl_protocols TLSv1.3;\n        ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;\n"
        ),
        None => String::new(),
    };
    let (connections, body) = (2 * CONNECTIONS_MAX, "x".repeat(SMALL as usize));
    // The folder is this user's alone. Connections stay as long as who opened them likes; nothing is written about requests.
    format!(
        "worker_processes 1;\nworker_rlimit_nofile 20000;\nuser root;\npid {folder}/origin.pid;\nerror_log stderr;\n\
         events {{ worker_connections {connections}; }}\n\
         http {{\n    access_log off;\n    keepalive_requests 1000000000;\n    keepalive_timeout 10m;\n    sendfile on;\n    \
         tcp_nopush on;\n    open_file_cache max=16;\n    server {{\n        listen 0.0.0.0:{plain} backlog=4096;\n{tls}        \
         root {folder}/origin;\n        location = / {{ return 200 \"{body}\"; }}\n    }}\n}}\n"
    )
}
