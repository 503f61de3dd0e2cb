//! A request's head, strictly by RFC 9112.

use httparse::{Header, Status};
use memchr::memchr;

use super::fields::{Connection, Fields, Frames, elements};
use super::head::{Candidate, check_line_ends, explain};
use super::{Cause, Framing, Limits, Version, Wrong};

/// A request's head. Everything in it is a part of the bytes it was read from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request<'b, 'f> {
    pub(crate) method: Method,
    /// As it is written: names of methods differ by case.
    pub(crate) method_name: &'b str,
    /// As it is written: a path, a URI of http or https whose authority is the `Host`'s, or `*`.
    pub(crate) target: &'b str,
    pub(crate) version: Version,
    /// All of them as they are written, in their order.
    pub(crate) fields: &'f [Header<'b>],
    /// Never [`Framing::UntilClose`].
    pub(crate) framing: Framing,
    pub(crate) connection: Connection<'b>,
    /// What the client would change to, if `Connection` names it and HTTP/1.1 is spoken.
    pub(crate) upgrade: Option<&'b [u8]>,
    /// The one `Host`; only HTTP/1.0 may have none.
    pub(crate) host: Option<&'b [u8]>,
}

/// Methods that this library distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Trace,
    Patch,
    /// Any other but CONNECT, which is refused.
    Other,
}

impl Method {
    fn named(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            "TRACE" => Self::Trace,
            "PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }

    /// Whether the same request twice does what it does once (RFC 9110 9.2.2), so that it may be sent again.
    pub(crate) fn is_idempotent(self) -> bool {
        match self {
            Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace => true,
            Self::Post | Self::Patch | Self::Other => false,
        }
    }
}

/// Reads the head of the request that `bytes` begin with, and how many bytes it has with its blank line. `None`: more must
/// come; [`super::end`] tells when it is worth reading again.
///
/// # Errors
/// What breaks a rule of RFC 9112 or a limit. The connection cannot be used any more: where the next request would begin
/// is not known.
pub(crate) fn read<'b, 'f>(
    bytes: &'b [u8],
    limits: &Limits,
    room: &'f mut Fields<'b>,
) -> Result<Option<(Request<'b, 'f>, usize)>, Wrong> {
    let head = Candidate::new(bytes, limits, true)?;
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(head.bytes, room.room(limits.fields)) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return head.unfinished(),
        Err(httparse::Error::Version) => {
            return head.line().map_or_else(|| head.unfinished(), |line| Err(version(line)));
        }
        Err(error) => return Err(explain(error)),
    };
    check_line_ends(&head.bytes[..length], parsed.headers)?;
    let (Some(method_name), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Wrong::malformed("a bad request line"));
    };
    let version = if version == 0 { Version::Http10 } else { Version::Http11 };
    let request = understand(method_name, target, version, parsed.headers)?;
    Ok(Some((request, head.skipped + length)))
}

/// What is wrong with a request line whose version is not known: another version, or none of HTTP at all.
fn version(line: &[u8]) -> Wrong {
    let mut words = line.split(|&byte| byte == b' ').skip(2);
    match (words.next(), words.next()) {
        (Some([b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']), None) => {
            Wrong::new(Cause::Version, "a version other than HTTP/1.0 and HTTP/1.1")
        }
        _ => Wrong::malformed("no version of HTTP"),
    }
}

/// What a head's parts mean together.
fn understand<'b, 'f>(
    method_name: &'b str,
    target: &'b str,
    version: Version,
    fields: &'f [Header<'b>],
) -> Result<Request<'b, 'f>, Wrong> {
    if method_name == "CONNECT" {
        return Err(Wrong::new(Cause::NotAllowed, "CONNECT"));
    }
    let method = Method::named(method_name);
    let mut seen = Seen::default();
    for field in fields {
        seen.add(field, version)?;
    }
    let host = seen.host;
    if host.is_some_and(|host| !is_host(host)) {
        return Err(Wrong::malformed("Host is no host"));
    }
    if host.is_none() && version == Version::Http11 {
        return Err(Wrong::malformed("no Host"));
    }
    check_target(method, target, host)?;
    let framing = seen.framing(method)?;
    let upgrade = seen.upgrade(version, framing);
    let connection = seen.connection;
    Ok(Request { method, method_name, target, version, fields, framing, connection, upgrade, host })
}

/// What the fields that matter here say.
#[derive(Default)]
struct Seen<'b> {
    frames: Frames,
    connection: Connection<'b>,
    host: Option<&'b [u8]>,
    upgrade: Option<&'b [u8]>,
}

impl<'b> Seen<'b> {
    fn add(&mut self, field: &Header<'b>, version: Version) -> Result<(), Wrong> {
        let Header { name, value } = *field;
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => once(&mut self.host, value, "Host twice"),
            6 if name.eq_ignore_ascii_case("expect") => check_expect(value, version),
            7 if name.eq_ignore_ascii_case("upgrade") => once(&mut self.upgrade, value, "Upgrade twice"),
            10 if name.eq_ignore_ascii_case("connection") => self.connection.add(value),
            14 if name.eq_ignore_ascii_case("content-length") => self.frames.add_length(value),
            17 if name.eq_ignore_ascii_case("transfer-encoding") => self.frames.add_coding(value, version),
            _ => Frames::check_other(name),
        }
    }

    /// What ends the body (RFC 9112 6.3).
    ///
    /// # Errors
    /// GET or HEAD with a body: it means nothing, and servers that expect none read it as the next request (RFC 9110 9.3.1).
    fn framing(&self, method: Method) -> Result<Framing, Wrong> {
        let framing = match self.frames {
            Frames { is_chunked: true, .. } => Framing::Chunked,
            Frames { length: Some(length), .. } => Framing::Length(length),
            Frames { length: None, .. } => Framing::None,
        };
        match (method, framing) {
            (Method::Get | Method::Head, Framing::Chunked | Framing::Length(1..)) => {
                Err(Wrong::malformed("GET or HEAD with a body"))
            }
            _ => Ok(framing),
        }
    }

    /// What the client would change to. Not with a body, which would be of both protocols, and not to HTTP/2, which nobody
    /// in front of the server would understand any more: the server gets such requests as plain HTTP/1.1.
    fn upgrade(&self, version: Version, framing: Framing) -> Option<&'b [u8]> {
        let has_body = !matches!(framing, Framing::None | Framing::Length(0));
        let upgrade = self.upgrade.filter(|_| self.connection.upgrades && version == Version::Http11 && !has_body)?;
        let is_http = |protocol: &[u8]| protocol.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"h2"));
        (!elements(upgrade).any(is_http)).then_some(upgrade)
    }
}

fn once<'b>(seen: &mut Option<&'b [u8]>, value: &'b [u8], twice: &'static str) -> Result<(), Wrong> {
    if seen.replace(value).is_some() { Err(Wrong::malformed(twice)) } else { Ok(()) }
}

/// Whether a body waits for `100 Continue` must not be a question: only that expectation is known (RFC 9110 10.1.1).
fn check_expect(value: &[u8], version: Version) -> Result<(), Wrong> {
    if version == Version::Http11 && !value.eq_ignore_ascii_case(b"100-continue") {
        return Err(Wrong::malformed("Expect is not 100-continue"));
    }
    Ok(())
}

/// Checks a request's target (RFC 9112 3.2).
fn check_target(method: Method, target: &str, host: Option<&[u8]>) -> Result<(), Wrong> {
    // httparse took controls and spaces for its end.
    if !target.is_ascii() || memchr(b'#', target.as_bytes()).is_some() {
        return Err(Wrong::malformed("a character in the target that no URI has"));
    }
    if target.starts_with('/') || (target == "*" && method == Method::Options) {
        return Ok(());
    }
    let authority = authority(target).ok_or(Wrong::malformed("the target is neither a path nor a URI of http"))?;
    let is_same = host.is_none_or(|host| host.eq_ignore_ascii_case(authority.as_bytes()));
    if !is_same || !is_host(authority.as_bytes()) {
        return Err(Wrong::malformed("the target's authority is not Host's"));
    }
    Ok(())
}

/// The authority of a URI of http or https.
fn authority(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    is_http.then(|| rest.split(['/', '?']).next().unwrap_or_default())
}

/// Whether these bytes are a host and perhaps a port (RFC 9110 7.2), neither empty.
fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value {
        [b'[', ..] => {
            let Some(end) = value.iter().position(|&byte| byte == b']') else { return false };
            (&value[..=end], &value[end + 1..])
        }
        _ => value.split_at(value.iter().position(|&byte| byte == b':').unwrap_or(value.len())),
    };
    is_name(host) && is_port(port)
}

fn is_name(host: &[u8]) -> bool {
    match host {
        [b'[', address @ .., b']'] => {
            str::from_utf8(address).is_ok_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
        }
        [] => false,
        _ => host.iter().all(|&byte| NAME_BYTES[usize::from(byte)]),
    }
}

/// The bytes of RFC 3986's reg-name but for the comma, which may be what is left of two fields.
static NAME_BYTES: [bool; 256] = {
    let (mut are, mut byte) = ([false; 256], 0);
    while byte < 128 {
        let is_mark = matches!(
            byte as u8,
            b'-' | b'.' | b'_' | b'~' | b'%' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'='
        );
        are[byte] = is_mark || (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    are
};

fn is_port(port: &[u8]) -> bool {
    match port {
        [] => true,
        [b':', digits @ ..] => {
            let is_written_in_digits = (1..=5).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
            is_written_in_digits && str::from_utf8(digits).is_ok_and(|digits| digits.parse::<u16>().is_ok())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
