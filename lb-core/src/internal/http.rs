//! HTTP/1 as it comes from clients and servers: read for the fuzzer.

use crate::http::{Limits, referee};

/// As they are by default, and so small that short inputs reach them.
const LIMITS: [Limits; 2] = [Limits { line: 8192, fields: 100, head: 32768 }, referee::SMALL];

/// Reads bytes as a request's head, whole and in parts of this size, and panics if the parts make a difference, or if a lenient
/// parser would find another body or another host.
pub fn check_http_request(bytes: &[u8], part: usize) {
    LIMITS.iter().for_each(|limits| referee::request(bytes, part, limits));
}

/// Reads bytes as a response's head, whole and in parts of this size, and panics if the parts make a difference, or if a
/// lenient parser would find another body.
pub fn check_http_response(bytes: &[u8], part: usize) {
    LIMITS.iter().for_each(|limits| referee::response(bytes, part, limits));
}

/// Reads bytes as a body in chunks, whole and in parts of this size, and panics if the parts make a difference, if httparse
/// reads other sizes, or if it is another body when it is written again.
pub fn check_http_chunked(bytes: &[u8], part: usize) {
    LIMITS.iter().for_each(|limits| referee::chunked(bytes, part, limits));
}
