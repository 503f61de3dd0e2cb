//! HAProxy with one thread, in TCP mode: copying, which is its default, or splicing all traffic.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::{CONNECTIONS_MAX, Peer, Place, Process, free_port, version};
use crate::Result;

/// How it forwards bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forwarding {
    Copying,
    /// `splice-request` and `splice-response`: splices both directions of every connection, where `splice-auto` would choose
    /// (configuration manual, section 4.2). It has a pipe per direction only while bytes are in it.
    Splicing,
}

pub(super) fn start(place: Place<'_>, name: &'static str, forwarding: Forwarding) -> Result<Option<Peer>> {
    let Some(version) = version("haproxy", "-v") else { return Ok(None) };
    let port = free_port()?;
    let file = place.folder.join(format!("{name}.cfg"));
    fs::write(&file, configuration(place, port, forwarding)?)?;
    let arguments = ["-db", "-f", &file.to_string_lossy()];
    let mut process = Process::start(name, place, Path::new("haproxy"), &arguments)?;
    process.wait_until_listening(port)?;
    Ok(Some(Peer { name, version, port, process }))
}

fn configuration(place: Place<'_>, port: u16, forwarding: Forwarding) -> Result<String> {
    let (pipes, splice) = match forwarding {
        Forwarding::Copying => ("", ""),
        // A connection that finds no pipe is copied: there are enough for every load.
        Forwarding::Splicing => ("    maxpipes 1000\n", "    option splice-request\n    option splice-response\n"),
    };
    let mut text = format!(
        "global\n    nbthread 1\n    maxconn {CONNECTIONS_MAX}\n{pipes}\
         defaults\n    mode tcp\n{splice}    timeout connect 5s\n    timeout client 10m\n    timeout server 10m\n\
         listen web\n    bind 0.0.0.0:{port}\n    balance roundrobin\n"
    );
    for (index, server) in place.servers.iter().enumerate() {
        writeln!(text, "    server s{index} {server}")?;
    }
    Ok(text)
}
