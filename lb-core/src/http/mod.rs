//! HTTP/1 as it is read, by RFC 9110 and RFC 9112: heads, what frames their bodies, and chunks.
//!
//! Pure: bytes in, what they mean out; neither sockets nor clock, and no memory is allocated. Whatever two parsers could
//! read differently is refused, because the server behind is another parser.

mod body;
pub(crate) mod chunked;
pub(crate) mod cookie;
#[cfg(test)]
mod corpora;
pub(crate) mod exchange;
pub(crate) mod fields;
mod head;
#[cfg(any(test, feature = "internal"))]
pub(crate) mod referee;
pub(crate) mod request;
pub(crate) mod response;
mod write;

use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use chunked::{Chunked, Part};
pub(crate) use fields::Fields;
pub(crate) use head::end;
pub(crate) use request::{Method, Request};
pub(crate) use response::Response;

/// How large a head may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of the request line or the status line, without its CRLF.
    pub(crate) line: u32,
    /// Header fields; more than [`Fields::MOST`] are never read. Trailer fields have the same limit for themselves.
    pub(crate) fields: u16,
    /// Bytes of the whole head with its blank line; and of all trailer fields together.
    pub(crate) head: u32,
}

/// Why a request of HTTP was refused, or got no response of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
#[non_exhaustive]
pub enum Cause {
    /// What came is no HTTP/1, or two parsers could read it differently.
    Malformed,
    /// The request line is too long.
    LineTooLong,
    /// The head is too large, or has too many fields.
    HeadTooLarge,
    /// The head took too long.
    HeadTimeout,
    /// The body took too long.
    BodyTimeout,
    /// The body is coded for transfer in another way than `chunked`.
    UnknownCoding,
    /// A version of HTTP other than 1.0 and 1.1.
    Version,
    /// CONNECT, which is for proxies of another kind.
    NotAllowed,
    /// No server may have the request.
    NoServer,
    /// The server could not be reached, or closed without a response.
    ServerFailed,
    /// The server's response is no HTTP/1, or two parsers could read it differently.
    BadResponse,
    /// The server did not begin its response in time.
    ResponseTimeout,
}

impl Cause {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Malformed,
        Self::LineTooLong,
        Self::HeadTooLarge,
        Self::HeadTimeout,
        Self::BodyTimeout,
        Self::UnknownCoding,
        Self::Version,
        Self::NotAllowed,
        Self::NoServer,
        Self::ServerFailed,
        Self::BadResponse,
        Self::ResponseTimeout,
    ];

    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// As it is written in a status: `line_too_long`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::LineTooLong => "line_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::UnknownCoding => "unknown_coding",
            Self::Version => "version",
            Self::NotAllowed => "not_allowed",
            Self::NoServer => "no_server",
            Self::ServerFailed => "server_failed",
            Self::BadResponse => "bad_response",
            Self::ResponseTimeout => "response_timeout",
        }
    }

    /// The status code that the client is told.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::NotAllowed => 405,
            Self::HeadTimeout | Self::BodyTimeout => 408,
            Self::LineTooLong => 414,
            Self::HeadTooLarge => 431,
            Self::UnknownCoding => 501,
            Self::ServerFailed | Self::BadResponse => 502,
            Self::NoServer => 503,
            Self::ResponseTimeout => 504,
            Self::Version => 505,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Why bytes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// As it is counted and answered.
    pub(crate) cause: Cause,
    /// For the log: which rule was broken. Has nothing of what the other end wrote.
    pub(crate) reason: &'static str,
}

impl Wrong {
    pub(crate) const fn new(cause: Cause, reason: &'static str) -> Self {
        Self { cause, reason }
    }

    const fn malformed(reason: &'static str) -> Self {
        Self::new(Cause::Malformed, reason)
    }
}

/// Which HTTP/1 a message is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// HTTP/1.0: closes after the response if nothing else is said.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// What ends a message's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    None,
    /// So many bytes; none is a length too, which the message stated.
    Length(u64),
    /// [`Chunked`] says.
    Chunked,
    /// The end of the connection; responses only.
    UntilClose,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_numbered_in_order_and_each_is_written_by_a_name_of_its_own() {
        let names: std::collections::HashSet<_> = Cause::ALL.iter().map(|cause| cause.as_str()).collect();
        assert_eq!(names.len(), Cause::COUNT);
        for (number, cause) in Cause::ALL.iter().enumerate() {
            assert_eq!(*cause as usize, number);
            assert_eq!(serde_json::to_string(cause).unwrap(), format!("\"{cause}\""));
            assert!((400..600).contains(&cause.status()));
        }
    }
}
