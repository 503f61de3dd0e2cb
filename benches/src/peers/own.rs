//! The rivals that are built here: relays of the simplest kind, each of which shows what one choice is worth.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Peer, Place, Ports, Process};
use crate::Result;

/// The relay of this name: its program, and what stands in for a version.
pub(super) fn start(place: Place<'_>, name: &'static str, program: &str, version: &str) -> Result<Option<Peer>> {
    let ports = Ports::free([])?;
    let servers: Vec<String> = place.servers.iter().map(SocketAddr::to_string).collect();
    let arguments = ["--port", &ports.plain.to_string(), "--servers", &servers.join(",")];
    let mut process = Process::start(name, place, &build("benches", program)?, &arguments)?;
    process.wait_until_listening(ports)?;
    Ok(Some(Peer { name, version: version.to_owned(), ports, process }))
}

/// Builds a program of this workspace in release mode and gives its path.
///
/// # Errors
/// It does not build.
pub(super) fn build(package: &str, program: &str) -> Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("benches has no parent folder")?;
    let built = Command::new("cargo")
        .current_dir(workspace)
        .args(["build", "--release", "--quiet", "--package", package, "--bin", program])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()?;
    if !built.status.success() {
        return Err(format!("{program} does not build").into());
    }
    // One of cargo's messages names the program; looked for by hand, as it is one field of one message.
    let messages = String::from_utf8(built.stdout)?;
    let path = messages.lines().find_map(|line| line.split_once("\"executable\":\"")?.1.split('"').next());
    Ok(path.ok_or_else(|| format!("cargo does not say where {program} is"))?.into())
}
