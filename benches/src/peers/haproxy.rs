//! HAProxy with one thread, in TCP mode and, where requests are read, in HTTP mode: copying, which is its default, or splicing
//! all traffic. TLS with the ciphers and the group of the traffic, else by its defaults.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::{CONNECTIONS_MAX, Entry, Peer, Place, Ports, Process, version};
use crate::Result;
use crate::tls::{AUTHORITY_FILE, CHAIN_FILE, SERVER};

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
    // Nothing that is encrypted can be spliced.
    let takes = |entry: &Entry| forwarding == Forwarding::Copying || !entry.is_tls();
    let ports = Ports::free(place.entries.iter().copied().filter(takes))?;
    let file = place.folder.join(format!("{name}.cfg"));
    fs::write(&file, configuration(place, ports, forwarding)?)?;
    let arguments = ["-db", "-f", &file.to_string_lossy()];
    let mut process = Process::start(name, place, Path::new("haproxy"), &arguments)?;
    process.wait_until_listening(ports)?;
    Ok(Some(Peer { name, version, ports, process }))
}

/// The suites of TLS 1.3 and 1.2; to servers only the former.
const TLS: &str = "    ssl-default-bind-options ssl-min-ver TLSv1.2
    ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
    ssl-default-bind-ciphers ECDHE-ECDSA-AES128-GCM-SHA256
    ssl-default-server-options ssl-min-ver TLSv1.3
    ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256
";

/// Each request by itself, with a cookie of the balancer's own, over connections to servers that are shared as freely as
/// HAProxy can (by default it shares only what it knows to be safe, which costs it more connections).
const HTTP: &str = "    mode http
    http-reuse always
    cookie LBSERVER insert indirect nocache
";

fn configuration(place: Place<'_>, ports: Ports, forwarding: Forwarding) -> Result<String> {
    let (pipes, splice) = match forwarding {
        Forwarding::Copying => ("", ""),
        // A connection that finds no pipe is copied: there are enough for every load.
        Forwarding::Splicing => ("    maxpipes 1000\n", "    option splice-request\n    option splice-response\n"),
    };
    let tls = if place.has_tls() { TLS } else { "" };
    let mut text = format!(
        "global\n    nbthread 1\n    maxconn {CONNECTIONS_MAX}\n{pipes}{tls}\
         defaults\n    mode tcp\n{splice}    timeout connect 5s\n    timeout client 10m\n    timeout server 10m\n    \
         timeout http-request 10s\n"
    );
    let folder = place.folder.display();
    let bind = format!("ssl crt {folder}/{CHAIN_FILE} curves X25519:P-256");
    let server = format!("ssl verify required ca-file {folder}/{AUTHORITY_FILE} sni str({SERVER})");
    for (entry, bind, server) in [
        (Entry::Plain, "", ""),
        (Entry::Terminated, &*bind, ""),
        (Entry::Reencrypted, &*bind, &*server),
        (Entry::Http, "", ""),
        (Entry::HttpToOrigin, "", ""),
        (Entry::HttpsToOrigin, &*bind, ""),
    ] {
        let Some(port) = ports.of(entry) else { continue };
        writeln!(text, "listen {entry:?}\n    bind 0.0.0.0:{port} {bind}\n    balance roundrobin")?;
        if entry.is_http() {
            text.push_str(HTTP);
        }
        for (index, addr) in place.behind(entry).iter().enumerate() {
            let cookie = if entry.is_http() { format!("cookie s{index}") } else { String::new() };
            writeln!(text, "    server s{index} {addr} {server} {cookie}")?;
        }
    }
    Ok(text)
}
