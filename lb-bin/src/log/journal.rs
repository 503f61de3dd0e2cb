//! Entries of systemd's journal, in its own protocol: one datagram each.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;

/// Where journald receives.
const SOCKET: &str = "/run/systemd/journal/socket";

/// How important an entry is, as syslog counts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Priority {
    Error = 3,
    Warning = 4,
    Info = 6,
    Debug = 7,
}

/// An entry that is being written.
#[derive(Debug)]
pub(crate) struct Entry(Vec<u8>);

impl Entry {
    pub(crate) fn new(identifier: &str, priority: Priority, message: &str) -> Self {
        let mut entry = Self(Vec::with_capacity(256));
        entry.put("SYSLOG_IDENTIFIER", identifier);
        entry.put("PRIORITY", &(priority as u8).to_string());
        entry.put("MESSAGE", message);
        entry
    }

    /// Adds a field. But for `TARGET` it gets a prefix, so that it is never one of the journal's own.
    pub(crate) fn push(&mut self, name: &str, value: &str) {
        if name == "TARGET" {
            return self.put(name, value);
        }
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        self.put(&format!("LB_{}", name.chars().map(plain).collect::<String>()), value);
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn put(&mut self, name: &str, value: &str) {
        self.0.extend(name.as_bytes());
        // A value of several lines has its length before it.
        match value.contains('\n') {
            false => self.0.push(b'='),
            true => {
                self.0.push(b'\n');
                self.0.extend((value.len() as u64).to_le_bytes());
            }
        }
        self.0.extend(value.as_bytes());
        self.0.push(b'\n');
    }
}

/// The way to journald. What is written to it at once is an entry.
#[derive(Debug)]
pub(crate) struct Journal(UnixDatagram);

impl Journal {
    /// # Errors
    /// journald does not receive.
    pub(crate) fn open() -> Result<Self, String> {
        let advice = "is systemd-journald running, and can its socket be reached from here? Otherwise write to: stderr";
        let fault = |error: io::Error| format!("journald does not receive at {SOCKET}: {error}; {advice}");
        let socket = UnixDatagram::unbound().map_err(fault)?;
        // journald ignores an entry without fields.
        socket.send_to(&[], SOCKET).map_err(fault)?;
        Ok(Self(socket))
    }
}

impl Write for Journal {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        // By path: a journald that was restarted has another socket.
        self.0.send_to(entry, SOCKET)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_several_lines_can_not_become_another_field() {
        let mut entry = Entry::new("lb", Priority::Info, "plain");
        entry.push("host", "a\nPRIORITY=0");
        let length = 12_u64.to_le_bytes();
        let expected =
            [b"SYSLOG_IDENTIFIER=lb\nPRIORITY=6\nMESSAGE=plain\nLB_HOST\n", &length[..], b"a\nPRIORITY=0\n"].concat();
        assert_eq!(entry.into_bytes(), expected);
    }

    #[test]
    fn names_are_made_of_what_the_journal_allows() {
        let mut entry = Entry::new("lb", Priority::Debug, "");
        entry.push("a.b=c", "1");
        assert!(entry.into_bytes().ends_with(b"\nLB_A_B_C=1\n"));
    }
}
