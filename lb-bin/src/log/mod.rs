//! The log of the process: lines on standard error, or entries of systemd's journal.

mod event;
pub(crate) mod journal;
mod output;

use std::env;
use std::io::{self, IsTerminal, Write};
use std::mem;
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::settings::{LogFormat, LogLevel, LogSettings, LogTarget};
use journal::Journal;
pub(crate) use output::Lost;
use output::Output;

/// Most lines that wait to be written. What comes beyond that is dropped and counted.
const LINES_MAX: usize = 8192;

/// The log of this process, once it is started.
static RUNNING: OnceLock<Running> = OnceLock::new();

struct Running {
    filter: reload::Handle<EnvFilter, Registry>,
    /// What the filter was made of.
    level: Mutex<String>,
    /// Lines that found no place.
    unqueued: ErrorCounter,
}

/// Keeps the log going. What is still in its queue is written when it is dropped.
pub(crate) struct Guard(Option<WorkerGuard>);

impl Drop for Guard {
    fn drop(&mut self) {
        // If nobody reads, waiting for it would not end.
        if output::is_stuck(dropped()) {
            mem::forget(self.0.take());
        }
    }
}

/// Starts the log.
///
/// `LB_LOG`, else `RUST_LOG`, says what is logged; the settings do if neither is set.
pub(crate) fn start(settings: &LogSettings) -> Result<Guard, String> {
    let (level, filter) = filter(settings)?;
    let output: Box<dyn Write + Send> = match settings.to {
        LogTarget::Stderr => Box::new(io::stderr()),
        LogTarget::Journald => Box::new(Journal::open().map_err(|reason| format!("log: {reason}"))?),
    };
    // A thread of its own writes: a blocked terminal or pipe must not hold up the balancer.
    let builder = NonBlockingBuilder::default().buffered_lines_limit(LINES_MAX).thread_name("lb-log");
    let (queue, guard) = builder.finish(Output::new(output));
    let (filter, handle) = reload::Layer::new(filter);
    let running = Running { filter: handle, level: Mutex::new(level), unqueued: queue.error_counter() };
    let subscriber = tracing_subscriber::registry().with(filter).with(lines(settings, queue));
    subscriber.try_init().map_err(|error| format!("the log can't be started: {error}"))?;
    // It is started once, or the line before has failed.
    let _ = RUNNING.set(running);
    Ok(Guard(Some(guard)))
}

/// What makes lines of events.
fn lines<S>(settings: &LogSettings, queue: NonBlocking) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    match (settings.to, settings.format) {
        (LogTarget::Journald, _) => Rendered { queue, render: event::journal_entry }.boxed(),
        (LogTarget::Stderr, LogFormat::Json) => Rendered { queue, render: event::json_line }.boxed(),
        (LogTarget::Stderr, LogFormat::Text) => {
            let colours = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none();
            fmt::layer().with_target(false).with_ansi(colours).with_writer(queue).boxed()
        }
    }
}

/// Writes each event as `render` says.
struct Rendered {
    queue: NonBlocking,
    render: fn(&Event<'_>) -> Vec<u8>,
}

impl<S: Subscriber> Layer<S> for Rendered {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // What finds no place is counted there.
        let _ = self.queue.clone().write_all(&(self.render)(event));
    }
}

fn filter(settings: &LogSettings) -> Result<(String, EnvFilter), String> {
    for variable in ["LB_LOG", "RUST_LOG"] {
        if let Ok(directives) = env::var(variable) {
            let filter = EnvFilter::try_new(&directives).map_err(|error| {
                format!("{variable}={directives}: {error}: write for example \"info\" or \"debug\"")
            })?;
            return Ok((directives, filter));
        }
    }
    let level = settings.level.as_str();
    Ok((level.to_owned(), EnvFilter::new(level)))
}

/// Lines that were dropped since the start: nobody took them in time, or they could not be written.
pub(crate) fn dropped() -> u64 {
    RUNNING.get().map_or(0, |running| running.unqueued.dropped_lines() as u64) + output::failed()
}

/// What is logged now. Nothing is before the log is started.
pub(crate) fn level() -> String {
    RUNNING.get().map_or_else(|| "off".to_owned(), |running| locked(&running.level).clone())
}

/// Changes what is logged, and gives what was before.
pub(crate) fn set_level(level: &LogLevel) -> Result<String, String> {
    let running = RUNNING.get().ok_or("the log is not started")?;
    let mut current = locked(&running.level);
    running
        .filter
        .reload(EnvFilter::new(level.as_str()))
        .map_err(|error| format!("the level is not changed: {error}"))?;
    Ok(mem::replace(&mut current, level.as_str().to_owned()))
}

fn locked(level: &Mutex<String>) -> std::sync::MutexGuard<'_, String> {
    level.lock().unwrap_or_else(PoisonError::into_inner)
}
