//! The access log: a thread of its own takes access records and writes a line for each.
//!
//! Shards wait for nothing of this. While the lines can't be written records stay in the shards' queues, and what finds no
//! place there is dropped and counted; when it goes on, the log says how many.

mod file;
mod line;
mod sink;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use lb_core::access::AccessRecords;

use crate::log::Lost;
use crate::settings::AccessLogSettings;
use sink::Sink;

/// Most records that each shard keeps until they are taken.
pub(crate) const QUEUE: usize = 4096;

/// From one look at empty queues to the next. Short enough for a shard that does 200 000 requests in a second.
const PAUSE: Duration = Duration::from_millis(20);

/// From one look at whether the file was moved away to the next.
const FILE_CHECK: Duration = Duration::from_secs(1);

/// How long the last lines may take when the process ends.
const END: Duration = Duration::from_secs(1);

/// The access log's thread. When it is dropped, what is there is written.
#[derive(Debug)]
pub(crate) struct AccessLog {
    control: AccessLogControl,
    ended: Receiver<()>,
}

/// Tells the access log's thread what to do.
#[derive(Debug, Clone)]
pub(crate) struct AccessLogControl {
    wishes: Arc<Wishes>,
    thread: Thread,
}

#[derive(Debug, Default)]
struct Wishes {
    reopen: AtomicBool,
    stop: AtomicBool,
}

impl AccessLogControl {
    /// Opens the file anew: it was moved away.
    pub(crate) fn reopen(&self) {
        self.wishes.reopen.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// An access log that can be written.
#[derive(Debug)]
pub(crate) struct Opened(Sink);

impl Opened {
    /// Opens what the settings name. Relative paths are seen from `folder`.
    ///
    /// # Errors
    /// It can't be written: one sentence.
    pub(crate) fn new(settings: &AccessLogSettings, folder: &Path) -> Result<Self, String> {
        Sink::open(settings, folder).map(Self).map_err(|reason| format!("access_log: {reason}"))
    }

    /// Starts the thread that writes `records`.
    ///
    /// # Errors
    /// It can't be started.
    pub(crate) fn start(self, records: AccessRecords) -> Result<AccessLog, String> {
        let wishes = Arc::new(Wishes::default());
        let (at_end, ended) = mpsc::channel();
        let mut writer = Writer { sink: self.0, records, wishes: wishes.clone(), lost: Lost::default(), stuck: false };
        let write = move || {
            writer.run();
            drop(at_end);
        };
        let spawned = thread::Builder::new().name("lb-access".to_owned()).spawn(write);
        let thread = spawned.map_err(|error| format!("the access log's thread can't be started: {error}"))?;
        Ok(AccessLog { control: AccessLogControl { wishes, thread: thread.thread().clone() }, ended })
    }
}

impl AccessLog {
    pub(crate) fn control(&self) -> AccessLogControl {
        self.control.clone()
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.control.wishes.stop.store(true, Ordering::Release);
        self.control.thread.unpark();
        // Whoever reads the lines may have stopped to, and must not keep the process from ending.
        let _ = self.ended.recv_timeout(END);
    }
}

/// What the thread works with.
struct Writer {
    sink: Sink,
    records: AccessRecords,
    wishes: Arc<Wishes>,
    lost: Lost,
    /// Whether the last try to write has failed.
    stuck: bool,
}

impl Writer {
    fn run(&mut self) {
        let mut next_check = Instant::now() + FILE_CHECK;
        loop {
            let is_last = self.wishes.stop.load(Ordering::Acquire);
            let taken = self.take();
            self.write();
            if self.wishes.reopen.swap(false, Ordering::AcqRel) || Instant::now() >= next_check {
                next_check = Instant::now() + FILE_CHECK;
                self.sink.follow_the_file();
            }
            let is_at_rest = taken == 0 || self.stuck;
            if is_at_rest && is_last {
                return;
            }
            if is_at_rest {
                thread::park_timeout(PAUSE);
            }
        }
    }

    /// Takes records as long as there is room, and gives their number.
    fn take(&mut self) -> usize {
        let mut taken = 0;
        while self.sink.has_room()
            && let Some(record) = self.records.take()
        {
            self.sink.add(&record);
            taken += 1;
        }
        taken
    }

    fn write(&mut self) {
        match self.sink.write() {
            Ok(()) => {
                self.stuck = false;
                let dropped = self.records.dropped() + self.sink.dropped();
                if let Some(lost) = self.lost.say(dropped) {
                    tracing::warn!("the access log goes on: {lost} records were dropped, {dropped} since the start");
                }
            }
            Err(error) => {
                if !self.stuck {
                    tracing::warn!(
                        "the access log can't be written to {}: {error}; until it can, records wait and then are dropped",
                        self.sink.name()
                    );
                }
                self.stuck = true;
            }
        }
    }
}
