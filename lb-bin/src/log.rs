//! The log: plain text lines on standard error.

use std::env;
use std::io::{self, IsTerminal};

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

use crate::settings::LogSettings;

/// Starts the log. What is still in its queue is written when the guard is dropped.
///
/// `LB_LOG`, else `RUST_LOG`, says what is logged; the settings do if neither is set.
pub(crate) fn start(settings: &LogSettings) -> Result<WorkerGuard, String> {
    // A thread of its own writes: a blocked terminal or pipe must not hold up the balancer.
    let (writer, guard) = tracing_appender::non_blocking(io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter(settings)?)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none())
        .with_writer(writer)
        .try_init()
        .map_err(|error| format!("the log can't be started: {error}"))?;
    Ok(guard)
}

fn filter(settings: &LogSettings) -> Result<EnvFilter, String> {
    for variable in ["LB_LOG", "RUST_LOG"] {
        if let Ok(directives) = env::var(variable) {
            return EnvFilter::try_new(&directives)
                .map_err(|error| format!("{variable}={directives}: {error}: write for example \"info\" or \"debug\""));
        }
    }
    Ok(EnvFilter::new(settings.level.as_str()))
}
