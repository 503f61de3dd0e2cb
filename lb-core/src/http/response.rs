//! A response's head, strictly by RFC 9112.

use httparse::{Header, ParserConfig, Status};

use super::fields::{Connection, Fields, Frames};
use super::head::{Candidate, check_line_ends, explain};
use super::{Cause, Framing, Limits, Method, Version, Wrong};

/// A response's head. Everything in it is a part of the bytes it was read from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response<'b, 'f> {
    /// 100 to 599.
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
    let head = Candidate::new(bytes, limits, false)?;
    let mut parsed = httparse::Response::new(&mut []);
    let room = room.room(limits.fields);
    let length = match ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, head.bytes, room) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return head.unfinished(),
        Err(error) => return Err(explain(error)),
    };
    check_line_ends(&head.bytes[..length], parsed.headers)?;
    let (Some(status @ 100..600), Some(version)) = (parsed.code, parsed.version) else {
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
            _ => Frames::check_other(name)?,
        }
    }
    let Frames { length, is_chunked } = frames;
    let states_body = is_chunked || length.is_some_and(|length| length > 0);
    if states_body && status < 200 {
        return Err(Wrong::malformed("a body in an interim response"));
    }
    // What a server sends that states a body in 204 is known only to the server, so it must send no more.
    connection.closes |= states_body && status == 204;
    let framing = match length {
        _ if status < 200 || matches!(status, 204 | 304) || method == Method::Head => Framing::None,
        _ if is_chunked => Framing::Chunked,
        Some(length) => Framing::Length(length),
        None => Framing::UntilClose,
    };
    let upgrade = upgrade.filter(|_| connection.upgrades && version == Version::Http11);
    Ok(Response { status, reason, version, fields, framing, length, connection, upgrade })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::http::referee;

    const LIMITS: Limits = Limits { line: 8192, fields: 100, head: 32768 };

    fn framing_for(method: Method, head: &str) -> Result<Framing, Cause> {
        referee::response(head.as_bytes(), 1, &LIMITS);
        let mut room = Fields::new();
        let read = read(head.as_bytes(), &LIMITS, method, &mut room);
        read.map(|read| read.expect("a whole head").0.framing).map_err(|wrong| wrong.cause)
    }

    /// A response of HTTP/1.1 with this status and these fields, each with its CRLF.
    fn response(status: &str, fields: &str) -> String {
        format!("HTTP/1.1 {status}\r\n{fields}\r\n")
    }

    fn framing(fields: &str) -> Result<Framing, Cause> {
        framing_for(Method::Get, &response("200 OK", fields))
    }

    #[track_caller]
    fn all_bad(heads: impl IntoIterator<Item = String>) {
        for head in heads {
            assert_eq!(framing_for(Method::Get, &head), Err(Cause::BadResponse), "{head:?}");
        }
    }

    #[test]
    fn a_response_is_read_as_it_is_written() {
        let bytes = b"HTTP/1.1 404 Not Found\r\nServer: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabcHTTP";
        let mut room = Fields::new();
        let (response, length) = read(bytes, &LIMITS, Method::Get, &mut room).unwrap().unwrap();
        assert_eq!(&bytes[length..], b"abcHTTP");
        assert_eq!((response.status, response.reason, response.version), (404, "Not Found", Version::Http11));
        assert_eq!((response.framing, response.length), (Framing::Length(3), Some(3)));
        assert!(response.connection.closes);
        assert_eq!(response.fields.len(), 3);
    }

    #[test]
    fn a_reason_may_be_missing() {
        for line in ["HTTP/1.1 200 ", "HTTP/1.1 200", "HTTP/1.0 599 a b\tc", "HTTP/1.1 100 \u{e9}"] {
            framing_for(Method::Get, &format!("{line}\r\n\r\n")).unwrap();
        }
    }

    #[test]
    fn what_ends_a_body_depends_on_method_status_and_fields() {
        assert_eq!(framing(""), Ok(Framing::UntilClose));
        assert_eq!(framing("Content-Length: 0\r\n"), Ok(Framing::Length(0)));
        assert_eq!(framing("Content-Length: 7\r\n"), Ok(Framing::Length(7)));
        assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
        for (method, status) in
            [(Method::Head, "200 OK"), (Method::Get, "304 Not Modified"), (Method::Get, "204 No Content")]
        {
            for fields in ["", "Content-Length: 7\r\n", "Transfer-Encoding: chunked\r\n"] {
                assert_eq!(framing_for(method, &response(status, fields)), Ok(Framing::None));
            }
        }
        assert_eq!(framing_for(Method::Get, &response("101 Switching Protocols", "")), Ok(Framing::None));
        assert_eq!(
            framing_for(Method::Get, &response("205 Reset Content", "Content-Length: 0\r\n")),
            Ok(Framing::Length(0))
        );
    }

    #[test]
    fn a_length_that_no_body_follows_is_told() {
        let length = |method, status| {
            let head = response(status, "Content-Length: 7\r\n");
            read(head.as_bytes(), &LIMITS, method, &mut Fields::new()).unwrap().unwrap().0.length
        };
        assert_eq!(length(Method::Head, "200 OK"), Some(7));
        assert_eq!(length(Method::Get, "304 Not Modified"), Some(7));
    }

    #[test]
    fn a_server_that_states_a_body_where_there_is_none_is_not_used_again() {
        let closes = |status, fields| {
            let head = response(status, fields);
            read(head.as_bytes(), &LIMITS, Method::Get, &mut Fields::new()).unwrap().unwrap().0.connection.closes
        };
        assert!(closes("204 No Content", "Content-Length: 7\r\n"));
        assert!(closes("204 No Content", "Transfer-Encoding: chunked\r\n"));
        assert!(!closes("204 No Content", "Content-Length: 0\r\n"));
        assert!(!closes("304 Not Modified", "Content-Length: 7\r\n"));
        let bodies = ["Content-Length: 7\r\n", "Transfer-Encoding: chunked\r\n"];
        all_bad(bodies.map(|fields| response("100 Continue", fields)));
        all_bad(bodies.map(|fields| response("101 Switching Protocols", fields)));
    }

    #[test]
    fn framing_that_two_parsers_could_read_differently_is_a_bad_response() {
        let fields = [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length:\r\n",
            "Content-Length: 9223372036854775808\r\n",
            "Content-Length : 5\r\n",
            "Content_Length: 5\r\n",
            "Transfer-Encoding: gzip\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding : chunked\r\n",
            "X: a\r\n Transfer-Encoding: chunked\r\n",
            "X: a\r\n folded\r\n",
            "X: a\nY: b\r\n",
            "X: a\rY: b\r\n",
            "X: a\0b\r\n",
            ": a\r\n",
            "X\r\n",
        ];
        all_bad(fields.map(|fields| response("200 OK", fields)));
        all_bad([String::from("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")]);
    }

    #[test]
    fn a_status_line_has_a_known_version_and_a_status_of_three_digits() {
        let lines = [
            "HTTP/1.2 200 OK",
            "HTTP/2.0 200 OK",
            "HTTP/2 200",
            "HTTP/0.9 200 OK",
            "http/1.1 200 OK",
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000 OK",
            "HTTP/1.1 099 OK",
            "HTTP/1.1 000 OK",
            "HTTP/1.1 600 OK",
            "HTTP/1.1 999 OK",
            "HTTP/1.1  200 OK",
            "HTTP/1.1\t200 OK",
            " HTTP/1.1 200 OK",
            "HTTP/1.1 +20 OK",
            "HTTP/1.1 200 O\0K",
            "HTTP/1.1 200 O\rK",
            "ICY 200 OK",
            "\r\nHTTP/1.1 200 OK",
            "HTTP/1.1 200\tOK",
            "HTTP/1.1",
        ];
        all_bad(lines.map(|line| format!("{line}\r\n\r\n")));
        all_bad([String::from("HTTP/1.1 200 OK\n\n"), String::from("HTTP/1.1 200 OK\nX: y\r\n\r\n")]);
    }

    #[test]
    fn limits_are_those_of_requests() {
        let limits = Limits { line: 20, fields: 3, head: 80 };
        let read = |head: &str| {
            let read = read(head.as_bytes(), &limits, Method::Get, &mut Fields::new()).map(|read| read.is_some());
            referee::response(head.as_bytes(), 1, &limits);
            read.map_err(|wrong| wrong.cause)
        };
        assert_eq!(read("HTTP/1.1 200 Fine ok\r\n\r\n"), Ok(true));
        assert_eq!(read("HTTP/1.1 200 Fine, ok\r\n\r\n"), Err(Cause::BadResponse));
        assert_eq!(read("HTTP/1.1 200 OK\r\nA:b\r\nA:b\r\nA:b\r\n\r\n"), Ok(true));
        assert_eq!(read("HTTP/1.1 200 OK\r\nA:b\r\nA:b\r\nA:b\r\nA:b\r\n\r\n"), Err(Cause::BadResponse));
        assert_eq!(read(&response("200 OK", &format!("A: {}\r\n", "b".repeat(80 - 24)))), Ok(true));
        assert_eq!(read(&response("200 OK", &format!("A: {}\r\n", "b".repeat(80 - 23)))), Err(Cause::BadResponse));
    }

    #[test]
    fn an_upgrade_is_one_that_connection_names() {
        let upgrade = |head: &str| {
            let mut room = Fields::new();
            read(head.as_bytes(), &LIMITS, Method::Get, &mut room).unwrap().unwrap().0.upgrade.map(<[u8]>::to_vec)
        };
        let switching = "101 Switching Protocols";
        let websocket = upgrade(&response(switching, "Upgrade: websocket\r\nConnection: Upgrade\r\n"));
        assert_eq!(websocket.as_deref(), Some(&b"websocket"[..]));
        assert_eq!(upgrade(&response(switching, "Upgrade: websocket\r\n")), None);
        assert_eq!(upgrade(&response("200 OK", "Connection: upgrade\r\n")), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_parts_make_no_difference(bytes in vec(any::<u8>(), 0..300), part in 1..64_usize) {
            referee::response(&bytes, part, &LIMITS);
            referee::response(&[b"HTTP/1.1 200 OK\r\n", &bytes[..]].concat(), part, &referee::SMALL);
        }

        #[test]
        fn heads_of_any_pieces_are_refused_or_framed_as_the_most_lenient_parser_would(
            status in prop::sample::select(vec!["200 OK", "204 x", "304", "101 s", "600 a", "301 \r"]),
            lines in vec(prop::sample::select(vec![
                "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Connection: close\r\n", "X: y\r\n", "X: y\n", " z\r\n",
                "Content-Length : 5\r\n", "X: \r\n", "\r\n", "X: y\r", "Transfer-Encoding: chunked", "Content_Length: 5\r\n",
            ]), 0..6),
            part in 1..64_usize,
        ) {
            let head = format!("HTTP/1.1 {status}\r\n{}\r\nrest", lines.concat());
            referee::response(head.as_bytes(), part, &LIMITS);
            referee::response(head.as_bytes(), part, &referee::SMALL);
        }
    }
}
