//! What shards know of how a frontend reads requests.

use crate::config::{Frontend, Millis, Protocol};
use crate::http::Limits;

/// How a frontend's requests are handled.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) limits: Limits,
    /// How long a request's head may take from its first byte.
    pub(crate) header_timeout: Millis,
    /// How long a client's connection may be kept without a request.
    pub(crate) keep_alive_timeout: Millis,
    /// How long a server may take to begin its response.
    pub(crate) response_timeout: Millis,
    /// Whether X-Forwarded-For and -Proto are added.
    pub(crate) x_forwarded: bool,
    /// Whether Forwarded is added.
    pub(crate) forwarded: bool,
    /// Whether clients that come now speak HTTP at all. Those who came while they did go on to ask.
    pub(crate) is_spoken: bool,
    /// Whether they come in TLS.
    pub(crate) is_tls: bool,
}

impl Http {
    /// How a frontend's requests are handled.
    pub(crate) fn of(config: &Frontend) -> Self {
        let http = config.http();
        Self {
            // At most 128 are allowed.
            limits: Limits { line: http.max_line(), fields: http.max_fields() as u16, head: http.max_head() },
            header_timeout: http.header_timeout(),
            keep_alive_timeout: http.keep_alive_timeout(),
            response_timeout: http.response_timeout(),
            x_forwarded: http.x_forwarded(),
            forwarded: http.forwarded(),
            is_spoken: config.protocol().is_http(),
            is_tls: config.protocol() == Protocol::Https,
        }
    }
}
