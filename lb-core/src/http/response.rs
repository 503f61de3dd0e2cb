//! A response's head, strictly by RFC 9112.

use httparse::{Header, ParserConfig, Status};

use super::fields::{Connection, Fields, Frames};
use super::{Cause, Framing, Limits, Method, Version, Wrong, head};

/// A response's head. Everything in it is a part of the bytes it was read from.
#[derive(Debug)]
pub(crate) struct Response<'b, 'f> {
    /// 100 to 999.
    pub(crate) status: u16,
    /// May be empty, and is if there are bytes in it that are not ASCII.
    pub(crate) reason: &'b str,
    pub(crate) version: Version,
    /// All of them as they are written, in their order.
    pub(crate) fields: &'f [Header<'b>],
    /// What ends the body, given the request's method: HEAD, 1xx, 204 and 304 have none.
    pub(crate) framing: Framing,
    /// What `Content-Length` says. With [`Framing::None`] it tells of a body that is not sent, to HEAD and in 304.
    pub(crate) length: Option<u64>,
    /// It `closes` too if the server may send a body that there must not be.
    pub(crate) connection: Connection<'b>,
    /// What the server changes to, if `Connection` names it and HTTP/1.1 is spoken.
    pub(crate) upgrade: Option<&'b [u8]>,
}

/// Reads the head of the response to a request of `method` that `bytes` begin with, and how many bytes it has with its
/// blank line. `None`: more must come; [`super::end`] tells when it is worth reading again.
///
/// # Errors
/// [`Cause::BadResponse`]: what breaks a rule of RFC 9112 or a limit. The connection cannot be used any more.
pub(crate) fn read<'b, 'f>(
    bytes: &'b [u8],
    limits: &Limits,
    method: Method,
    room: &'f mut Fields<'b>,
) -> Result<Option<(Response<'b, 'f>, usize)>, Wrong> {
    read_head(bytes, limits, method, room).map_err(|wrong| Wrong { cause: Cause::BadResponse, ..wrong })
}

fn read_head<'b, 'f>(
    bytes: &'b [u8],
    limits: &Limits,
    method: Method,
    room: &'f mut Fields<'b>,
) -> Result<Option<(Response<'b, 'f>, usize)>, Wrong> {
    let (head, _) = head::within(bytes, limits, false)?;
    head::first_line(head, limits, Cause::BadResponse)?;
    let mut parsed = httparse::Response::new(&mut []);
    let room = room.room(limits.fields);
    let length = match ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, head, room) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return head::unfinished(head, limits),
        Err(error) => return Err(head::explain(error)),
    };
    if !head::has_whole_line_ends(&head[..length]) {
        return Err(Wrong::malformed("a line ends by LF without CR"));
    }
    let (Some(status @ 100..), Some(version)) = (parsed.code, parsed.version) else {
        return Err(Wrong::malformed("a bad status line"));
    };
    let version = if version == 0 { Version::Http10 } else { Version::Http11 };
    let reason = parsed.reason.unwrap_or_default();
    let response = understand(status, reason, version, parsed.headers, method)?;
    Ok(Some((response, length)))
}

/// What a head's parts mean together.
fn understand<'b, 'f>(
    status: u16,
    reason: &'b str,
    version: Version,
    fields: &'f [Header<'b>],
    method: Method,
) -> Result<Response<'b, 'f>, Wrong> {
    let (mut frames, mut connection, mut upgrade) = (Frames::default(), Connection::default(), None);
    for &Header { name, value } in fields {
        match name.len() {
            7 if name.eq_ignore_ascii_case("upgrade") => upgrade = Some(value),
            10 if name.eq_ignore_ascii_case("connection") => connection.add(value)?,
            14 if name.eq_ignore_ascii_case("content-length") => frames.add_length(value)?,
            17 if name.eq_ignore_ascii_case("transfer-encoding") => frames.add_coding(value, version)?,
            _ => {}
        }
    }
    let length = frames.length;
    let must_not_have_body = matches!(status, 100..200 | 204);
    let framing = match frames {
        _ if must_not_have_body || status == 304 || method == Method::Head => Framing::None,
        Frames { is_chunked: true, .. } => Framing::Chunked,
        Frames { length: Some(length), .. } => Framing::Length(length),
        _ => Framing::UntilClose,
    };
    // A body would be read as the next response.
    connection.closes |= must_not_have_body && (frames.is_chunked || length.is_some_and(|length| length > 0));
    let upgrade = upgrade.filter(|_| connection.upgrades && version == Version::Http11);
    Ok(Response { status, reason, version, fields, framing, length, connection, upgrade })
}
