//! What a frontend speaks with its clients, and how it handles HTTP requests.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::text::{Assignments, assignments, bounded, number, parsed, within, words};
use super::{Invalid, Millis};

/// What a frontend speaks with its clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Bytes are passed on as they come; a server is chosen for a connection.
    #[default]
    Tcp,
    /// HTTP/1.1 and 1.0; a server is chosen for each request.
    Http,
    /// The same in TLS, which always ends here.
    Https,
}

words!(Protocol, "protocol", Tcp "tcp", Http "http", Https "https");

impl Protocol {
    /// Whether requests are read: `http` and `https`.
    pub fn is_http(self) -> bool {
        self != Self::Tcp
    }
}

/// Most bytes of a request's head. It must fit what is read at once of a client.
const HEAD_MAX: u32 = 65_536;
const HEAD_MIN: u32 = 256;
const LINE_MIN: u32 = 64;
/// Most header fields that a request or response is read with.
const FIELDS_MAX: u32 = 128;

/// How a frontend handles requests: their limits, its patience, and what it tells servers. Only with [`Protocol::Http`] and
/// [`Protocol::Https`]. Written `(max_line: 8192, header_timeout: "10s")`, or as text `max_line=8192,header_timeout=10s`;
/// what is not written has its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    #[serde(deserialize_with = "bounded::<_, LINE_MIN, HEAD_MAX>")]
    max_line: u32,
    #[serde(deserialize_with = "bounded::<_, 1, FIELDS_MAX>")]
    max_fields: u32,
    #[serde(deserialize_with = "bounded::<_, HEAD_MIN, HEAD_MAX>")]
    max_head: u32,
    header_timeout: Millis,
    keep_alive_timeout: Millis,
    response_timeout: Millis,
    x_forwarded: bool,
    forwarded: bool,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            max_line: 8192,
            max_fields: 100,
            max_head: 32_768,
            header_timeout: Millis::from_secs(10),
            keep_alive_timeout: Millis::from_secs(60),
            response_timeout: Millis::from_secs(60),
            x_forwarded: true,
            forwarded: false,
        }
    }
}

impl HttpSettings {
    /// The same with other limits of a request's head: bytes of its first line, number of header fields, bytes of all.
    ///
    /// # Errors
    /// A line of less than 64 bytes, no fields or more than 128, a head of less than 256 or more than 65 536 bytes.
    pub fn with_limits(mut self, max_line: u32, max_fields: u32, max_head: u32) -> Result<Self, Invalid> {
        let refuse = |name: &'static str| move |reason| Invalid::new("http", format!("{name}: {reason}"));
        self.max_line = within(max_line, LINE_MIN, HEAD_MAX).map_err(refuse("max_line"))?;
        self.max_fields = within(max_fields, 1, FIELDS_MAX).map_err(refuse("max_fields"))?;
        self.max_head = within(max_head, HEAD_MIN, HEAD_MAX).map_err(refuse("max_head"))?;
        Ok(self)
    }

    /// The same with other timeouts: for a request's head, for a connection without a request, for a response to begin.
    #[must_use]
    pub fn with_timeouts(mut self, header: Millis, keep_alive: Millis, response: Millis) -> Self {
        (self.header_timeout, self.keep_alive_timeout, self.response_timeout) = (header, keep_alive, response);
        self
    }

    /// The same, with `X-Forwarded-For` and `-Proto`, and with `Forwarded`, added to requests or not.
    #[must_use]
    pub fn with_forwarded(mut self, x_forwarded: bool, forwarded: bool) -> Self {
        (self.x_forwarded, self.forwarded) = (x_forwarded, forwarded);
        self
    }

    /// Most bytes of a request's first line; a longer one is answered by 414.
    pub fn max_line(&self) -> u32 {
        self.max_line
    }

    /// Most header fields of a request; more are answered by 431.
    pub fn max_fields(&self) -> u32 {
        self.max_fields
    }

    /// Most bytes of a request's head, first line and header fields; a longer one is answered by 431.
    pub fn max_head(&self) -> u32 {
        self.max_head
    }

    /// How long a request's head may take from its first byte; then it is answered by 408.
    pub fn header_timeout(&self) -> Millis {
        self.header_timeout
    }

    /// How long a client's connection is kept without a request.
    pub fn keep_alive_timeout(&self) -> Millis {
        self.keep_alive_timeout
    }

    /// How long a server may take to begin its response; then the client gets 504.
    pub fn response_timeout(&self) -> Millis {
        self.response_timeout
    }

    /// Whether `X-Forwarded-For` and `X-Forwarded-Proto` are added to requests.
    pub fn x_forwarded(&self) -> bool {
        self.x_forwarded
    }

    /// Whether `Forwarded` (RFC 7239) is added to requests.
    pub fn forwarded(&self) -> bool {
        self.forwarded
    }
}

const FIELDS: [&str; 8] = [
    "max_line",
    "max_fields",
    "max_head",
    "header_timeout",
    "keep_alive_timeout",
    "response_timeout",
    "x_forwarded",
    "forwarded",
];

impl FromStr for HttpSettings {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut settings = Self::default();
        assignments("http", text, &FIELDS, |name, value| {
            match name {
                "max_line" => settings.max_line = number(value, LINE_MIN, HEAD_MAX)?,
                "max_fields" => settings.max_fields = number(value, 1, FIELDS_MAX)?,
                "max_head" => settings.max_head = number(value, HEAD_MIN, HEAD_MAX)?,
                "header_timeout" => settings.header_timeout = parsed(value)?,
                "keep_alive_timeout" => settings.keep_alive_timeout = parsed(value)?,
                "response_timeout" => settings.response_timeout = parsed(value)?,
                "x_forwarded" => settings.x_forwarded = parsed(value)?,
                _ => settings.forwarded = parsed(value)?,
            }
            Ok(())
        })?;
        Ok(settings)
    }
}

impl fmt::Display for HttpSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = Assignments::default()
            .with("max_line", self.max_line)
            .with("max_fields", self.max_fields)
            .with("max_head", self.max_head)
            .with("header_timeout", self.header_timeout)
            .with("keep_alive_timeout", self.keep_alive_timeout)
            .with("response_timeout", self.response_timeout)
            .with("x_forwarded", self.x_forwarded)
            .with("forwarded", self.forwarded);
        formatter.write_str(written.text())
    }
}
