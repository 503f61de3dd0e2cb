//! Cookies: read for the fuzzer.

use crate::http::cookie;

/// Reads bytes as a Cookie and as a Set-Cookie field, and panics if what is taken out is still found, or anything else lost.
pub fn check_cookie(bytes: &[u8]) {
    cookie::read_any(bytes, "LB");
}
