//! nginx with one worker, its `stream` module. TLS with the ciphers and the group of the traffic, else by its defaults.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::{CONNECTIONS_MAX, Entry, Peer, Place, Ports, Process, version};
use crate::Result;
use crate::tls::{AUTHORITY_FILE, CHAIN_FILE, KEY_FILE, SERVER};

/// Where Debian's package `libnginx-mod-stream` puts the module; other builds have it built in.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

pub(super) fn start(place: Place<'_>) -> Result<Option<Peer>> {
    let Some(version) = version("nginx", "-v") else { return Ok(None) };
    // Its sticky cookies are not in the free version.
    let ports = Ports::free(place.entries.iter().copied().filter(|entry| !entry.is_http()))?;
    let file = place.folder.join("nginx.conf");
    fs::write(&file, configuration(place, ports)?)?;
    let (folder, file) = (place.folder.to_string_lossy(), file.to_string_lossy());
    let arguments = ["-p", &*folder, "-c", &*file, "-g", "daemon off;"];
    let mut process = Process::start("nginx", place, Path::new("nginx"), &arguments)?;
    process.wait_until_listening(ports)?;
    Ok(Some(Peer { name: "nginx", version, ports, process }))
}

/// What servers of TLS have in common.
const TLS: &str = "        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_ecdh_curve X25519:prime256v1;
        ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256;
        ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
";

fn configuration(place: Place<'_>, ports: Ports) -> Result<String> {
    let module = if Path::new(MODULE).exists() { format!("load_module {MODULE};\n") } else { String::new() };
    let folder = place.folder.display();
    // Each connection is two of nginx's.
    let connections = 2 * CONNECTIONS_MAX;
    let mut text = format!(
        "{module}worker_processes 1;\nworker_rlimit_nofile 20000;\npid {folder}/nginx.pid;\nerror_log stderr;\n\
         events {{ worker_connections {connections}; }}\nstream {{\n    upstream servers {{\n"
    );
    for server in place.servers {
        writeln!(text, "        server {server};")?;
    }
    text.push_str("    }\n");
    let identity = format!(
        "        ssl_certificate {folder}/{CHAIN_FILE};\n        ssl_certificate_key {folder}/{KEY_FILE};\n{TLS}"
    );
    let to_server = format!(
        "        proxy_ssl on;\n        proxy_ssl_verify on;\n        proxy_ssl_protocols TLSv1.3;\n        \
         proxy_ssl_trusted_certificate {folder}/{AUTHORITY_FILE};\n        proxy_ssl_name {SERVER};\n        \
         proxy_ssl_server_name on;\n        proxy_ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;\n"
    );
    for (entry, listen, tls) in [
        (Entry::Plain, "", String::new()),
        (Entry::Terminated, "ssl", identity.clone()),
        (Entry::Reencrypted, "ssl", identity + &to_server),
    ] {
        let Some(port) = ports.of(entry) else { continue };
        write!(
            text,
            "    server {{\n        listen 0.0.0.0:{port} {listen} backlog=4096;\n        proxy_pass servers;\n{tls}    }}\n"
        )?;
    }
    text.push_str("}\n");
    Ok(text)
}
