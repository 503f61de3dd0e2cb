//! `lb doctor`: whether a balancer would run well here, and what to do where not. A start makes the same checks: what it
//! refuses is in the same words, and what is only to be warned of is logged once.
//!
//! `machine` and `files` read facts and judge them, apart from each other.

mod files;
mod finding;
mod holders;
mod machine;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use lb_core::StartError;
use lb_core::config::Config;

use crate::cli::DoctorArgs;
use crate::settings::Settings;
use crate::web::At;
use files::{Address, AdminPlace, Secret, StateFolder};
use finding::{Finding, Verdict};
use machine::{Limits, Machine};

/// Says what it finds. The exit code is 1 if there is a failure.
pub fn doctor(args: &DoctorArgs, admin: Option<&Path>) -> ExitCode {
    let findings = examine(args.config.as_deref(), admin);
    match finding::print(&findings, args.output.output) {
        Ok(text) => {
            // A reader that closed early, as `head` does, is no failure.
            let _ = io::stdout().write_all(text.as_bytes());
        }
        Err(reason) => eprintln!("lb: {reason}"),
    }
    match finding::number(&findings, Verdict::Failure) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn examine(path: Option<&Path>, admin: Option<&Path>) -> Vec<Finding> {
    let admin = AdminPlace::read(admin);
    let (of_file, found) = path.map_or_else(|| (Vec::new(), None), files::configuration);
    let (config, settings) = found.unwrap_or_default();
    let mut findings = Machine::read(&config).findings();
    findings.extend(of_file);
    if let Some(path) = path {
        let addresses = wanted_addresses(&config, &settings).into_iter().map(Address::read);
        findings.extend(addresses.map(|address| address.finding(admin.process())));
        findings.extend(of_files(path, &settings));
    }
    findings.push(admin.finding());
    findings
}

fn of_files(path: &Path, settings: &Settings) -> Vec<Finding> {
    let secrets = Secret::read_all(path, settings);
    secrets.iter().filter_map(Secret::finding).chain([StateFolder::read(path).finding()]).collect()
}

/// Who is to listen where.
pub(crate) fn wanted_addresses(config: &Config, settings: &Settings) -> Vec<(String, SocketAddr)> {
    files::wanted(config, settings)
}

/// Logs what a start with this configuration should know of. What the library warns of itself is left out.
pub(crate) fn log_warnings(path: &Path, config: &Config, settings: &Settings) {
    let findings = Limits::read(config).findings().into_iter().chain(of_files(path, settings));
    let warnings = findings.filter(|finding| finding.verdict != Verdict::Ok);
    warnings.for_each(|finding| tracing::warn!("{}", finding.sentence()));
}

/// Who listens at the address of a site, as far as this user may see it.
pub(crate) fn holder_of(at: &At) -> Option<String> {
    match at {
        At::Tcp(addr) => holders::names(&holders::holders(*addr)),
        At::Unix(_) => None,
    }
}

/// Why a balancer could not be started, with the name of who has an address that it `wanted`.
pub(crate) fn start_error(error: &StartError, wanted: &[(String, SocketAddr)]) -> String {
    let StartError::Refused(refused) = error else { return error.to_string() };
    let named = wanted.iter().cloned().map(Address::read).find_map(|address| {
        let is_it = address.outcome.as_ref().is_err_and(|obstacle| obstacle.to_string() == refused.reason);
        address.obstacle().filter(|_| is_it)
    });
    named.map_or_else(|| error.to_string(), |obstacle| obstacle.to_string())
}
