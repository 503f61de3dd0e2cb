//! HAProxy with one thread, in TCP mode, copying (its default; splicing must be switched on).

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::{CONNECTIONS_MAX, Peer, Place, Process, free_port, version};
use crate::Result;

pub(super) fn start(place: Place<'_>) -> Result<Option<Peer>> {
    let Some(version) = version("haproxy", "-v") else { return Ok(None) };
    let port = free_port()?;
    let file = place.folder.join("haproxy.cfg");
    fs::write(&file, configuration(place, port)?)?;
    let arguments = ["-db", "-f", &file.to_string_lossy()];
    let mut process = Process::start("haproxy", place, Path::new("haproxy"), &arguments)?;
    process.wait_until_listening(port)?;
    Ok(Some(Peer { name: "haproxy", version, port, process }))
}

fn configuration(place: Place<'_>, port: u16) -> Result<String> {
    let mut text = format!(
        "global\n    nbthread 1\n    maxconn {CONNECTIONS_MAX}\n\
         defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 10m\n    timeout server 10m\n\
         listen web\n    bind 0.0.0.0:{port}\n    balance roundrobin\n"
    );
    for (index, server) in place.servers.iter().enumerate() {
        writeln!(text, "    server s{index} {server}")?;
    }
    Ok(text)
}
