//! The admin socket, used as a program would use it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::Deserialize;

use crate::wait::HANG;

/// A connection to the admin socket.
#[derive(Debug)]
pub struct Admin {
    stream: BufReader<UnixStream>,
}

impl Admin {
    /// Connects.
    ///
    /// # Panics
    /// If nobody listens there.
    pub fn connect(path: &Path) -> Self {
        Self::try_connect(path).unwrap_or_else(|error| panic!("admin socket {path:?}: {error}"))
    }

    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn try_connect(path: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(HANG))?;
        stream.set_write_timeout(Some(HANG))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The other side closed.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// The next line without its end; empty if the other side closed.
    ///
    /// # Panics
    /// If nothing comes within [`HANG`].
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        match self.stream.read_until(b'\n', &mut line) {
            Ok(_) => String::from_utf8(line).expect("a reply is UTF-8").trim_end().to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => String::new(),
            Err(error) => panic!("no reply on the admin socket: {error}"),
        }
    }

    /// Sends one request and gives its reply as it came.
    ///
    /// # Panics
    /// If the other side closed.
    pub fn ask(&mut self, request: &str) -> String {
        self.send(format!("{request}\n").as_bytes()).unwrap_or_else(|error| panic!("{request}: {error}"));
        self.line()
    }

    /// Sends one request and gives its reply, or `None` if the connection ended before one came.
    pub fn try_ask(&mut self, request: &str) -> Option<Reply> {
        self.send(format!("{request}\n").as_bytes()).ok()?;
        let mut line = String::new();
        self.stream.read_line(&mut line).ok()?;
        line.ends_with('\n').then(|| Reply::read(line.trim_end()))
    }

    /// Sends a request that must be confirmed.
    ///
    /// # Panics
    /// If it is not.
    pub fn change(&mut self, request: &str) -> Confirmed {
        match Reply::read(&self.ask(request)) {
            Reply::Confirmed(confirmed) => confirmed,
            other => panic!("{request} was not confirmed: {other:?}"),
        }
    }

    /// Sends a request that must be refused.
    ///
    /// # Panics
    /// If it is not.
    pub fn refuse(&mut self, request: &str) -> Refused {
        match Reply::read(&self.ask(request)) {
            Reply::Refused(refused) => refused,
            other => panic!("{request} was not refused: {other:?}"),
        }
    }
}

/// A reply to a changing request.
#[derive(Debug, Clone)]
pub enum Reply {
    Confirmed(Confirmed),
    Refused(Refused),
    /// Anything else, as it came.
    Other(String),
}

/// It was done.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Confirmed {
    pub revision: u64,
    pub shards: usize,
    pub durable: bool,
    pub connections_on_replaced: u64,
    pub message: String,
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// It was not done.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Refused {
    pub reason: String,
    #[serde(default)]
    pub field: Option<String>,
}

impl Reply {
    /// Reads a reply's line.
    ///
    /// # Panics
    /// If it begins like a reply and is none.
    pub fn read(line: &str) -> Self {
        if let Some(fields) = line.strip_prefix("Confirmed") {
            Self::Confirmed(fields_of(fields))
        } else if let Some(fields) = line.strip_prefix("Refused") {
            Self::Refused(fields_of(fields))
        } else {
            Self::Other(line.to_owned())
        }
    }
}

fn fields_of<T: for<'de> Deserialize<'de>>(fields: &str) -> T {
    ron::Options::default()
        .with_default_extension(ron::extensions::Extensions::IMPLICIT_SOME)
        .from_str(fields)
        .unwrap_or_else(|error| panic!("a reply that is not as documented ({error}): {fields}"))
}
