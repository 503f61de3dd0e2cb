//! nginx with one worker, its `stream` module.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::{CONNECTIONS_MAX, Peer, Place, Ports, Process, version};
use crate::Result;

/// Where Debian's package `libnginx-mod-stream` puts the module; other builds have it built in.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

pub(super) fn start(place: Place<'_>) -> Result<Option<Peer>> {
    let Some(version) = version("nginx", "-v") else { return Ok(None) };
    let ports = Ports::free(false)?;
    let file = place.folder.join("nginx.conf");
    fs::write(&file, configuration(place, ports.plain)?)?;
    let (folder, file) = (place.folder.to_string_lossy(), file.to_string_lossy());
    let arguments = ["-p", &*folder, "-c", &*file, "-g", "daemon off;"];
    let mut process = Process::start("nginx", place, Path::new("nginx"), &arguments)?;
    process.wait_until_listening(ports)?;
    Ok(Some(Peer { name: "nginx", version, ports, process }))
}

fn configuration(place: Place<'_>, port: u16) -> Result<String> {
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
    write!(
        text,
        "    }}\n    server {{\n        listen 0.0.0.0:{port} backlog=4096;\n        proxy_pass servers;\n    }}\n}}\n"
    )?;
    Ok(text)
}
