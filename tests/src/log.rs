//! What a program says on its standard error.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use crate::wait::{self, HANG};

/// The lines that a program has written so far, read by a thread of their own.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    text: Mutex<Text>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct Text {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    /// Reads `stream` to its end in the background.
    pub fn follow(stream: impl Read + Send + 'static) -> Self {
        let log = Self::default();
        let writer = log.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                writer.push(String::from_utf8_lossy(&line).into_owned());
            }
            writer.end();
        });
        log
    }

    /// Waits for a line that contains `part`. `None` if the stream ended without one.
    ///
    /// # Panics
    /// If neither happens within [`HANG`].
    pub fn wait_for(&self, part: &str) -> Option<String> {
        let deadline = Instant::now() + HANG;
        let mut text = self.0.text.lock().unwrap();
        loop {
            if let Some(line) = text.lines.iter().find(|line| line.contains(part)) {
                return Some(line.clone());
            }
            if text.ended {
                return None;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Others want to read it still, above all who says why a test has failed.
                drop(text);
                panic!("no {part:?} in the log after {HANG:?}:\n{}", self.text());
            }
            text = self.0.grown.wait_timeout(text, left).unwrap().0;
        }
    }

    /// Waits until the stream has ended.
    ///
    /// # Panics
    /// If it does not within [`HANG`].
    pub(crate) fn wait_for_the_end(&self) {
        let text = self.0.text.lock().unwrap();
        let (text, _) = self.0.grown.wait_timeout_while(text, HANG, |text| !text.ended).unwrap();
        let has_ended = text.ended;
        drop(text);
        assert!(has_ended, "it does not end: {}", self.text());
    }

    /// The number of lines so far for which `matches` holds. What was done a moment ago may not be told yet.
    pub fn count(&self, matches: impl Fn(&str) -> bool) -> usize {
        self.0.text.lock().unwrap().lines.iter().filter(|line| matches(line)).count()
    }

    /// True if a line so far contains `part`. Where one has to, wait for it.
    pub fn contains(&self, part: &str) -> bool {
        self.count(|line| line.contains(part)) > 0
    }

    /// Waits for as many lines that contain `part`, and sees that there are no more.
    ///
    /// # Panics
    /// If there are others, or too few within [`HANG`].
    pub fn says(&self, part: &str, times: usize) {
        let count = || self.count(|line| line.contains(part));
        wait::until(&format!("the log says {part:?} {times} times"), || count() >= times);
        assert_eq!(count(), times, "{part:?} in the log:\n{}", self.text());
    }

    /// All lines so far.
    pub fn text(&self) -> String {
        self.0.text.lock().unwrap().lines.join("\n")
    }

    fn push(&self, line: String) {
        self.0.text.lock().unwrap().lines.push(line);
        self.0.grown.notify_all();
    }

    fn end(&self) {
        self.0.text.lock().unwrap().ended = true;
        self.0.grown.notify_all();
    }
}
