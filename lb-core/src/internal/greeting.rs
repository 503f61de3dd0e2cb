//! What a client says first: read for the fuzzer, and for what it costs.

use std::net::SocketAddr;

use crate::config::SendProxy;
use crate::dataplane::greeting::{client_hello, proxy};

/// Reads bytes as a PROXY header, whole and every beginning of them, and panics if it makes a difference how much is there.
pub fn check_proxy_header(bytes: &[u8]) {
    proxy::read_any(bytes);
}

/// Reads bytes as a TLS ClientHello, whole and in parts of this size, and panics if the parts make a difference, or if rustls
/// reads another server name.
pub fn check_client_hello(bytes: &[u8], part: usize) {
    client_hello::read_any(bytes, part);
}

/// How many bytes the PROXY header has that these begin with; `None` if there is none, or not all of it.
pub fn proxy_header_length(bytes: &[u8]) -> Option<usize> {
    proxy::read(bytes).ok()?.map(|(_, length)| length)
}

/// Writes a PROXY header to the end of `into`.
pub fn write_proxy_header(version: SendProxy, source: SocketAddr, destination: SocketAddr, into: &mut Vec<u8>) {
    proxy::write(version, source, destination, into);
}

/// The server name in the ClientHello that these begin with; `None` if there is none, or not all of it.
pub fn client_hello_name(bytes: &[u8]) -> Option<String> {
    client_hello::read(bytes).ok()??.sni
}
