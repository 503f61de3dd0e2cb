//! Where the access log goes: lines that wait to be written, and what they are written to.

use std::io::{self, ErrorKind, Write};
use std::path::Path;

use lb_core::access::AccessRecord;
use rustix::io::Errno;

use super::file::LogFile;
use super::line;
use crate::log::journal::{Entry, Journal, Priority};
use crate::settings::{AccessField, AccessFormat, AccessLogSettings, AccessTarget};

/// So many bytes are collected before they are written.
const BATCH: usize = 64 << 10;

/// Lines on their way.
#[derive(Debug)]
pub(super) struct Sink {
    target: Target,
    fields: Vec<AccessField>,
    format: AccessFormat,
    /// What is still to be written: the rest of a line, and whole lines; or an entry of the journal.
    pending: Vec<u8>,
    /// Entries that the journal does not take.
    dropped: u64,
}

#[derive(Debug)]
enum Target {
    Stderr(io::Stderr),
    Journal(Journal),
    File(LogFile),
}

impl Sink {
    pub(super) fn open(settings: &AccessLogSettings, folder: &Path) -> Result<Self, String> {
        let target = match &settings.to {
            AccessTarget::Stderr => Target::Stderr(io::stderr()),
            AccessTarget::Journald => Target::Journal(Journal::open()?),
            AccessTarget::File(path) => Target::File(LogFile::open(folder.join(path))?),
        };
        let fields = settings.fields.as_slice().to_vec();
        Ok(Self { target, fields, format: settings.format, pending: Vec::new(), dropped: 0 })
    }

    /// What it is called in a sentence.
    pub(super) fn name(&self) -> String {
        match &self.target {
            Target::Stderr(_) => "standard error".to_owned(),
            Target::Journal(_) => "journald".to_owned(),
            Target::File(file) => file.path.display().to_string(),
        }
    }

    /// Whether more may be added before something is written.
    pub(super) fn has_room(&self) -> bool {
        match self.target {
            Target::Journal(_) => self.pending.is_empty(),
            Target::Stderr(_) | Target::File(_) => self.pending.len() < BATCH,
        }
    }

    /// Adds a record's line.
    pub(super) fn add(&mut self, record: &AccessRecord) {
        let values = line::values(record, &self.fields);
        match (&self.target, self.format) {
            (Target::Journal(_), _) => self.pending = entry(&values),
            (_, AccessFormat::Json) => line::json(&mut self.pending, &values),
            (_, AccessFormat::Text) => line::text(&mut self.pending, &values),
        }
    }

    /// Writes what is there. What can't be written stays.
    pub(super) fn write(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            match self.write_once() {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.pending.drain(..written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_once(&mut self) -> io::Result<usize> {
        match &mut self.target {
            Target::Stderr(stderr) => stderr.write(&self.pending),
            Target::File(file) => file.file.write(&self.pending),
            Target::Journal(journal) => match journal.write(&self.pending) {
                // It never will be shorter.
                Err(error) if error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) => {
                    self.dropped += 1;
                    Ok(self.pending.len())
                }
                written => written,
            },
        }
    }

    /// Records that can't be written at all.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Goes on in a new file if the one that is written to was moved away. No line is torn for it.
    pub(super) fn follow_the_file(&mut self) {
        if let Target::File(file) = &mut self.target
            && self.pending.is_empty()
        {
            file.follow();
        }
    }
}

/// An entry of the journal: a line of text for people, and each value as a field.
fn entry(values: &[line::Value<'_>]) -> Vec<u8> {
    let mut message = Vec::new();
    line::text(&mut message, values);
    let mut entry = Entry::new("lb-access", Priority::Info, String::from_utf8_lossy(&message).trim_end());
    for value in values {
        if let Some(said) = &value.said {
            entry.push(value.field.name(), &said.to_string());
        }
    }
    entry.into_bytes()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_not_written_stays_and_nothing_is_torn() {
        let folder = tempfile::tempdir().unwrap();
        let settings = AccessLogSettings { to: AccessTarget::File("a.log".into()), ..Default::default() };
        let mut sink = Sink::open(&settings, folder.path()).unwrap();
        sink.pending.extend(b"one\ntwo\n");
        assert!(sink.has_room());
        fs::rename(folder.path().join("a.log"), folder.path().join("b.log")).unwrap();
        sink.follow_the_file();
        sink.write().unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("b.log")).unwrap(), "one\ntwo\n");
        sink.follow_the_file();
        sink.pending.extend(vec![b'x'; BATCH]);
        assert!(!sink.has_room());
        sink.write().unwrap();
        assert_eq!(fs::read(folder.path().join("a.log")).unwrap(), vec![b'x'; BATCH]);
        assert!(sink.has_room());
    }

    #[test]
    fn what_can_not_be_opened_is_named() {
        let settings = AccessLogSettings { to: AccessTarget::File("no/a.log".into()), ..Default::default() };
        let reason = Sink::open(&settings, Path::new("/nowhere")).unwrap_err();
        assert_eq!(reason, "/nowhere/no/a.log: No such file or directory (os error 2)");
    }
}
