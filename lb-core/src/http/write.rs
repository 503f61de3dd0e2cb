//! What goes out: heads of requests and responses, written anew from what was read, and responses of our own.
//!
//! Fields keep their order, their names' case and their values. Those that hold for one connection only (RFC 9110, section
//! 7.6.1) are left out, and what frames the body is written once, in one way.

use std::io::Write;
use std::net::IpAddr;

use httparse::Header;

use super::exchange::Asker;
use super::{Framing, Request, Response, Wrong, cookie};
use crate::table::persistence::CookiePersistence;

/// What most heads take.
const HEAD_BYTES: usize = 1 << 10;

/// What is to be known of a client to answer it.
pub(super) struct Client {
    pub(super) is_http10: bool,
    /// Whether it may ask again.
    pub(super) keeps: bool,
}

/// A request's head, as it goes to a server.
pub(super) fn request(
    request: &Request<'_, '_>,
    asker: &Asker<'_>,
    cookies: Option<&CookiePersistence>,
    into: &mut Vec<u8>,
) {
    into.reserve(HEAD_BYTES);
    // RFC 9112, section 3.2: with 1.1 there would have to be a Host.
    let version: &[u8] = if request.host.is_some() { b" HTTP/1.1\r\n" } else { b" HTTP/1.0\r\n" };
    put(into, &[request.method_name.as_bytes(), b" ", request.target.as_bytes(), version]);
    let stripped = cookies.filter(|cookies| cookies.strip).map(|cookies| &*cookies.name);
    for field in request.fields {
        let is_said_anew = asker.http.x_forwarded && is_said_anew(field.name);
        if request.connection.is_hop_by_hop(field.name) || is_said_anew {
            continue;
        }
        match stripped.filter(|_| field.name.eq_ignore_ascii_case("cookie")) {
            Some(name) => put_cookies_without(name, field, into),
            None => put_field(field, into),
        }
    }
    put_forwarded(request, asker, into);
    put_framing(request.framing, into);
    if let Some(protocol) = request.upgrade {
        put(into, &[b"Connection: upgrade\r\nUpgrade: ", protocol, b"\r\n"]);
    }
    put(into, &[b"\r\n"]);
}

/// Whether a field tells what only we may tell: by its name, or by one that servers take for it which know no hyphens.
fn is_said_anew(name: &str) -> bool {
    const NAMES: [&str; 3] = ["x-forwarded-proto", "x-forwarded-for", "forwarded"];
    let is_like = |known: &str| {
        let same = |(one, other): (u8, u8)| one.eq_ignore_ascii_case(&other) || one == b'_' && other == b'-';
        known.len() == name.len() && name.bytes().zip(known.bytes()).all(same)
    };
    name.eq_ignore_ascii_case(NAMES[0]) || name.contains('_') && NAMES.into_iter().any(is_like)
}

fn put_cookies_without(name: &str, field: &Header<'_>, into: &mut Vec<u8>) {
    let before = into.len();
    put(into, &[field.name.as_bytes(), b": "]);
    let value = into.len();
    cookie::without(field.value, name, into);
    if into.len() == value {
        into.truncate(before);
    } else {
        put(into, &[b"\r\n"]);
    }
}

/// Who the client is: as a field more, after those that it has sent itself.
fn put_forwarded(request: &Request<'_, '_>, asker: &Asker<'_>, into: &mut Vec<u8>) {
    let Some(client) = asker.client else { return };
    let protocol = if asker.is_tls { "https" } else { "http" };
    // Writing into memory does not fail.
    if asker.http.x_forwarded {
        let _ = write!(into, "X-Forwarded-For: {client}\r\nX-Forwarded-Proto: {protocol}\r\n");
    }
    if asker.http.forwarded {
        // RFC 7239, section 6: an address of IPv6 is bracketed and quoted.
        let _ = match client {
            IpAddr::V4(client) => write!(into, "Forwarded: for={client};proto={protocol}"),
            IpAddr::V6(client) => write!(into, "Forwarded: for=\"[{client}]\";proto={protocol}"),
        };
        if let Some(host) = request.host.filter(|host| !host.is_empty()) {
            put(into, &[b";host=\"", host, b"\""]);
        }
        put(into, &[b"\r\n"]);
    }
}

/// A final response's head, or one that switches protocols, as it goes to the client. With `set_cookie`, the client gets that.
pub(super) fn response(response: &Response<'_, '_>, client: &Client, set_cookie: &[u8], into: &mut Vec<u8>) {
    put_status(response, into);
    let fields = response.fields.iter().filter(|field| !response.connection.is_hop_by_hop(field.name));
    fields.for_each(|field| put_field(field, into));
    match (response.framing, response.length) {
        (Framing::Chunked, _) if client.is_http10 => {}
        // How long the answer would be if it had a body.
        (Framing::None, Some(length)) => put_framing(Framing::Length(length), into),
        (framing, _) => put_framing(framing, into),
    }
    if !set_cookie.is_empty() {
        put(into, &[b"Set-Cookie: ", set_cookie, b"\r\n"]);
    }
    match (response.upgrade, client.keeps) {
        (Some(protocol), _) if response.status == 101 => {
            put(into, &[b"Connection: upgrade\r\nUpgrade: ", protocol, b"\r\n"]);
        }
        (_, false) => put(into, &[b"Connection: close\r\n"]),
        (_, true) if client.is_http10 => put(into, &[b"Connection: keep-alive\r\n"]),
        (_, true) => {}
    }
    put(into, &[b"\r\n"]);
}

/// The head of a response that another one follows (1xx).
pub(super) fn interim(response: &Response<'_, '_>, into: &mut Vec<u8>) {
    put_status(response, into);
    let fields = response.fields.iter().filter(|field| !response.connection.is_hop_by_hop(field.name));
    fields.for_each(|field| put_field(field, into));
    put(into, &[b"\r\n"]);
}

fn put_status(response: &Response<'_, '_>, into: &mut Vec<u8>) {
    let mut status = itoa::Buffer::new();
    let status = status.format(response.status).as_bytes();
    put(into, &[b"HTTP/1.1 ", status, b" ", response.reason.as_bytes(), b"\r\n"]);
}

/// A response of our own, after which the connection is closed. `is_head`: the client wants no body.
pub(super) fn refusal(wrong: Wrong, is_head: bool, into: &mut Vec<u8>) {
    let status = wrong.cause.status();
    let phrase = phrase(status);
    let length = "000 \n".len() + phrase.len() + if wrong.reason.is_empty() { 0 } else { 2 + wrong.reason.len() };
    let _ = write!(into, "HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n");
    if status == 405 {
        put(into, &[b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"]);
    }
    put(into, &[b"Cache-Control: no-store\r\nConnection: close\r\n\r\n"]);
    if !is_head {
        let _ = write!(into, "{status} {phrase}");
        if !wrong.reason.is_empty() {
            put(into, &[b": ", wrong.reason.as_bytes()]);
        }
        put(into, &[b"\n"]);
    }
}

/// The phrases of RFC 9110, section 15, for what is said here.
fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        414 => "URI Too Long",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

/// A chunk's size, or that of the last one, as a line (RFC 9112, section 7.1).
pub(super) fn chunk_size(size: u64, into: &mut Vec<u8>) {
    let _ = write!(into, "{size:x}\r\n");
}

fn put_framing(framing: Framing, into: &mut Vec<u8>) {
    match framing {
        Framing::None | Framing::UntilClose => {}
        Framing::Length(length) => {
            put(into, &[b"Content-Length: ", itoa::Buffer::new().format(length).as_bytes(), b"\r\n"]);
        }
        Framing::Chunked => put(into, &[b"Transfer-Encoding: chunked\r\n"]),
    }
}

fn put_field(field: &Header<'_>, into: &mut Vec<u8>) {
    put(into, &[field.name.as_bytes(), b": ", field.value, b"\r\n"]);
}

fn put(into: &mut Vec<u8>, parts: &[&[u8]]) {
    into.reserve(parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| into.extend_from_slice(part));
}
