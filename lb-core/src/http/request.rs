//! A request's head, strictly by RFC 9112.

use httparse::{Header, Status};

use super::fields::{Connection, Fields, Frames};
use super::{Cause, Framing, Limits, Version, Wrong, head};

/// A request's head. Everything in it is a part of the bytes it was read from.
#[derive(Debug)]
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
    let (head, skipped) = head::within(bytes, limits, true)?;
    let line = head::first_line(head, limits, Cause::LineTooLong)?;
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(head, room.room(limits.fields)) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return head::unfinished(head, limits),
        Err(httparse::Error::Version) => return Err(version(line)),
        Err(error) => return Err(head::explain(error)),
    };
    if !head::has_whole_line_ends(&head[..length]) {
        return Err(Wrong::malformed("a line ends by LF without CR"));
    }
    let (Some(method_name), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Wrong::malformed("a bad request line"));
    };
    let version = if version == 0 { Version::Http10 } else { Version::Http11 };
    let request = understand(method_name, target, version, parsed.headers)?;
    Ok(Some((request, skipped + length)))
}

/// Whether a request line that has another version than those known has one of HTTP at all.
fn version(line: Option<&[u8]>) -> Wrong {
    let word = line.and_then(|line| line.rsplit(|&byte| byte == b' ').next()).unwrap_or_default();
    match word {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Wrong::new(Cause::Version, "a version other than HTTP/1.0 and HTTP/1.1")
        }
        _ => Wrong::malformed("a bad version"),
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
    match host {
        Some(host) if !is_host(host) => return Err(Wrong::malformed("Host is no host")),
        None if version == Version::Http11 => return Err(Wrong::malformed("no Host")),
        _ => {}
    }
    check_target(method, target, host)?;
    let framing = match seen.frames {
        Frames { is_chunked: true, .. } => Framing::Chunked,
        Frames { length: Some(length), .. } => Framing::Length(length),
        _ => Framing::None,
    };
    let upgrade = seen.upgrade.filter(|_| seen.connection.upgrades && version == Version::Http11);
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
            4 if name.eq_ignore_ascii_case("host") => {
                if self.host.replace(value).is_some() {
                    return Err(Wrong::malformed("Host twice"));
                }
            }
            7 if name.eq_ignore_ascii_case("upgrade") => self.upgrade = Some(value),
            10 if name.eq_ignore_ascii_case("connection") => self.connection.add(value)?,
            14 if name.eq_ignore_ascii_case("content-length") => self.frames.add_length(value)?,
            17 if name.eq_ignore_ascii_case("transfer-encoding") => self.frames.add_coding(value, version)?,
            _ => {}
        }
        Ok(())
    }
}

/// Checks a request's target (RFC 9112 3.2).
fn check_target(method: Method, target: &str, host: Option<&[u8]>) -> Result<(), Wrong> {
    if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
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
        // RFC 3986's reg-name but for the comma, which may be what is left of two fields.
        _ => {
            !host.is_empty()
                && host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(byte))
        }
    }
}

fn is_port(port: &[u8]) -> bool {
    match port {
        [] => true,
        [b':', digits @ ..] => {
            (1..=5).contains(&digits.len()) && str::from_utf8(digits).is_ok_and(|digits| digits.parse::<u16>().is_ok())
        }
        _ => false,
    }
}
