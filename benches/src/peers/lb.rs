//! Ours: `lb run` with one shard, and its admin socket.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Entry, Peer, Place, Ports, Process, START_WITHIN, own, version};
use crate::Result;
use crate::tls::{AUTHORITY_FILE, CHAIN_FILE, KEY_FILE, SERVER};

/// Builds the program in release mode and gives its path.
///
/// # Errors
/// It does not build.
pub fn build() -> Result<PathBuf> {
    own::build("lb-bin", "lb")
}

pub(super) fn start(place: Place<'_>, name: &'static str, program: &Path) -> Result<Peer> {
    let Lb { version, ports, process, .. } = Lb::start(place, name, program)?;
    Ok(Peer { name, version, ports, process })
}

/// A running `lb`, for what only it is measured for.
#[derive(Debug)]
pub struct Lb {
    /// Program and version.
    pub version: String,
    /// Where it listens.
    pub ports: Ports,
    admin: PathBuf,
    process: Process,
}

impl Lb {
    /// Starts it with a frontend for each entry, that of [`Entry::Plain`] called `web`, and servers `s0`, `s1` and so on in each.
    /// Its files in the folder are called `name`.
    ///
    /// # Errors
    /// It does not start; with what it said.
    pub fn start(place: Place<'_>, name: &str, program: &Path) -> Result<Self> {
        let ports = Ports::free(place.entries.iter().copied())?;
        let in_folder = |ending: &str| place.folder.join(format!("{name}.{ending}"));
        let (file, admin) = (in_folder("ron"), in_folder("sock"));
        fs::write(&file, configuration(place, ports)?)?;
        let version = version(&program.to_string_lossy(), "--version").ok_or("lb does not run")?;
        let arguments = ["run", "--config", &file.to_string_lossy(), "--admin", &admin.to_string_lossy()];
        let mut process = Process::start(name, place, program, &arguments)?;
        process.wait_until_listening(ports)?;
        Ok(Self { version, ports, admin, process })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Connects to its admin socket.
    ///
    /// # Errors
    /// The socket is not there.
    pub fn admin(&self) -> Result<Admin> {
        let deadline = Instant::now() + START_WITHIN;
        // It is there a moment after the frontends listen.
        while !self.admin.exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Admin(BufReader::new(UnixStream::connect(&self.admin)?)))
    }
}

fn configuration(place: Place<'_>, ports: Ports) -> Result<String> {
    let mut text = "(\n  shards: 1,\n  shutdown_grace: \"10ms\",\n".to_owned();
    if place.has_tls() {
        write!(
            text,
            "  certificates: [\n    (name: \"site\", chain: \"{CHAIN_FILE}\", key: \"{KEY_FILE}\"),\n    \
             (name: \"ca\", bundle: \"{AUTHORITY_FILE}\"),\n  ],\n"
        )?;
    }
    text.push_str("  frontends: [\n");
    let to_server = format!("ssl_offload: true, server_certificate: \"ca\", server_name: \"{SERVER}\"");
    let site = "certificates: [\"site\"], ";
    // What HAProxy does not add to requests either.
    let http = "cookie_persistence: true, http: (x_forwarded: false), ";
    for (entry, name, frontend, server) in [
        (Entry::Plain, "web", String::new(), ""),
        (Entry::Terminated, "terminated", site.to_owned(), "ssl_offload: true"),
        (Entry::Reencrypted, "reencrypted", site.to_owned(), &*to_server),
        (Entry::Http, "http", format!("protocol: http, {http}"), ""),
        (Entry::HttpToOrigin, "http-to-origin", format!("protocol: http, {http}"), ""),
        (Entry::HttpsToOrigin, "https-to-origin", format!("protocol: https, {site}{http}"), ""),
    ] {
        let Some(port) = ports.of(entry) else { continue };
        writeln!(text, "    (name: \"{name}\", bind: \"0.0.0.0:{port}\", policy: round_robin, {frontend}servers: [")?;
        for (index, addr) in place.behind(entry).iter().enumerate() {
            writeln!(text, "      (name: \"s{index}\", ip: \"{}\", port: {}, {server}),", addr.ip(), addr.port())?;
        }
        text.push_str("    ]),\n");
    }
    text.push_str("  ],\n)\n");
    Ok(text)
}

/// A connection to the admin socket.
#[derive(Debug)]
pub struct Admin(BufReader<UnixStream>);

impl Admin {
    /// Sends a request and waits for its answer; both are lines.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn ask(&mut self, request: &str) -> Result<String> {
        self.0.get_mut().write_all(format!("{request}\n").as_bytes())?;
        let mut answer = String::new();
        self.0.read_line(&mut answer)?;
        if answer.is_empty() {
            return Err("the admin socket was closed".into());
        }
        Ok(answer)
    }

    /// Asks for a change.
    ///
    /// # Errors
    /// It was not confirmed: with the answer.
    pub fn change(&mut self, request: &str) -> Result<()> {
        let answer = self.ask(request)?;
        if answer.starts_with("Confirmed(") { Ok(()) } else { Err(format!("{request}: {answer}").into()) }
    }
}
