//! Judges what is read, for the tests and the fuzzer: it must not matter how much has come at a time, and the most lenient
//! parser behind must find the same framing as this one.

use super::chunked::{Chunked, Part};
use super::{Fields, Framing, Limits, Method, Wrong, end, request, response};

/// Small, so that short inputs reach them.
pub(crate) const SMALL: Limits = Limits { line: 64, fields: 8, head: 256 };

/// Reads bytes as a request, in parts of this size too.
///
/// # Panics
/// The parts make a difference, or a lenient parser finds other framing.
pub(crate) fn request(bytes: &[u8], part: usize, limits: &Limits) {
    let mut room = Fields::new();
    let whole = request::read(bytes, limits, &mut room);
    for come in parts(bytes, part) {
        let mut room = Fields::new();
        let read = request::read(&bytes[..come], limits, &mut room);
        if read != Ok(None) {
            assert_eq!(read, whole, "with {come} of {} bytes", bytes.len());
        }
    }
    if let Ok(Some((request, length))) = whole {
        assert_eq!(end_in_parts(bytes, part), Some(length));
        lenient(&bytes[..length], request.framing);
        assert_eq!(lenient_values(&bytes[..length], "host"), request.host.into_iter().collect::<Vec<_>>());
        assert_ne!(request.framing, Framing::UntilClose);
    }
}

/// Reads bytes as the response to GET and to HEAD, in parts of this size too.
///
/// # Panics
/// The parts make a difference, or a lenient parser finds other framing.
pub(crate) fn response(bytes: &[u8], part: usize, limits: &Limits) {
    for method in [Method::Get, Method::Head] {
        let mut room = Fields::new();
        let whole = response::read(bytes, limits, method, &mut room);
        for come in parts(bytes, part) {
            let mut room = Fields::new();
            let read = response::read(&bytes[..come], limits, method, &mut room);
            if read != Ok(None) {
                assert_eq!(read, whole, "with {come} of {} bytes", bytes.len());
            }
        }
        if let Ok(Some((response, length))) = whole {
            assert_eq!(end_in_parts(bytes, part), Some(length));
            let is_without = method == Method::Head || matches!(response.status, 100..200 | 204 | 304);
            assert_eq!(response.framing == Framing::None, is_without);
            if !is_without {
                lenient(&bytes[..length], response.framing);
            }
        }
    }
}

/// How many bytes have come after each part of this size.
fn parts(bytes: &[u8], part: usize) -> impl Iterator<Item = usize> {
    (0..bytes.len()).step_by(part.max(1))
}

fn end_in_parts(bytes: &[u8], part: usize) -> Option<usize> {
    let mut seen = 0;
    parts(bytes, part).chain([bytes.len()]).find_map(|come| end(&bytes[..come], std::mem::replace(&mut seen, come)))
}

/// What a parser finds that takes anything for the end of a line, and overlooks what is no letter in a name.
fn lenient(head: &[u8], framing: Framing) {
    let lengths = lenient_values(head, "contentlength");
    let codings = lenient_values(head, "transferencoding");
    match framing {
        Framing::Chunked => {
            assert!(lengths.is_empty() && codings.len() == 1);
            assert!(codings[0].eq_ignore_ascii_case(b"chunked"));
        }
        Framing::Length(length) => {
            assert!(lengths.len() == 1 && codings.is_empty());
            assert_eq!(str::from_utf8(lengths[0]).unwrap().parse(), Ok(length));
            assert!(lengths[0].iter().all(u8::is_ascii_digit));
        }
        Framing::None | Framing::UntilClose => assert!(lengths.is_empty() && codings.is_empty()),
    }
}

/// The values of all fields of a name.
fn lenient_values<'b>(head: &'b [u8], name: &str) -> Vec<&'b [u8]> {
    let lines = head.split(|byte| matches!(byte, b'\r' | b'\n' | 0 | 0x0b | 0x0c)).skip(1);
    let fields = lines.filter_map(|line| line.iter().position(|&byte| byte == b':').map(|colon| line.split_at(colon)));
    let is_ignored = |byte: &u8| byte.is_ascii_control() || matches!(byte, b' ' | b'-' | b'_' | b'"' | 0x80..);
    fields
        .filter(|(written, _)| {
            let letters = written.iter().filter(|byte| !is_ignored(byte)).map(|byte| byte.to_ascii_lowercase());
            // A name of another kind is not nearly a Host.
            letters.eq(name.bytes()) && (name != "host" || !written.contains(&b'-') && !written.contains(&b'_'))
        })
        .map(|(_, value)| value[1..].trim_ascii())
        .collect()
}

/// What a body in chunks was read as.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) sizes: Vec<u64>,
    pub(crate) data: Vec<u8>,
    pub(crate) trailers: Vec<Vec<u8>>,
    /// How many bytes it has, if it has ended.
    pub(crate) length: Option<usize>,
}

/// Reads bytes as a body in chunks that come in parts of this size.
///
/// # Panics
/// Parts come in another order than a body has them, or a size is another one to httparse.
pub(crate) fn body(bytes: &[u8], part: usize, limits: &Limits) -> Result<Body, Wrong> {
    let (mut body, mut chunked, mut at) = (Body::default(), Chunked::new(limits), 0);
    let (mut left, mut size_at) = (None, 0);
    for come in parts(bytes, part).chain([bytes.len()]) {
        loop {
            let (read, length) = chunked.read(&bytes[at..come])?;
            at += length;
            match read {
                Part::More => break,
                Part::Size(size) => {
                    assert!(left.is_none_or(|left| left == 0), "a chunk before the last one ended");
                    assert_eq!(
                        httparse::parse_chunk_size(&bytes[size_at..]),
                        Ok(httparse::Status::Complete((at - size_at, size)))
                    );
                    body.sizes.push(size);
                    left = Some(size);
                }
                Part::Data(data) => {
                    assert!(!data.is_empty());
                    body.data.extend(data);
                    left = left.map(|left| left.checked_sub(data.len() as u64).expect("no more than the chunk"));
                }
                Part::DataEnd => {
                    assert_eq!(left, Some(0));
                    size_at = at;
                }
                Part::Trailer(line) => {
                    assert_eq!(body.sizes.last(), Some(&0));
                    assert!(!line.iter().any(|byte| b"\r\n\0".contains(byte)) && line.contains(&b':'));
                    body.trailers.push(line.to_vec());
                }
                Part::End => {
                    assert_eq!(body.sizes.last(), Some(&0));
                    body.length = Some(at);
                    return Ok(body);
                }
            }
        }
    }
    Ok(body)
}

/// Reads bytes as a body in chunks, in parts of this size too, and as it is written again.
///
/// # Panics
/// The parts make a difference, or it is another body when it is written again without extensions.
pub(crate) fn chunked(bytes: &[u8], part: usize, limits: &Limits) {
    let whole = body(bytes, bytes.len(), limits);
    assert_eq!(body(bytes, part, limits), whole);
    let Ok(Body { length: Some(_), .. }) = whole else { return };
    let body = whole.expect("it ended");
    let (mut written, mut data) = (Vec::new(), &body.data[..]);
    for &size in &body.sizes {
        let (chunk, rest) = data.split_at(usize::try_from(size).expect("as many bytes came"));
        data = rest;
        written.extend(format!("{size:x}\r\n").bytes());
        if size > 0 {
            written.extend([chunk, b"\r\n"].concat());
        }
    }
    body.trailers.iter().for_each(|line| written.extend([&line[..], b"\r\n"].concat()));
    written.extend(b"\r\n");
    let again = self::body(&written, written.len(), limits).expect("what was read can be written");
    assert_eq!(again, Body { length: Some(written.len()), ..body });
}
