//! What requests' and responses' heads have in common: where they end, how large they may be, and how lines end.

use httparse::Header;
use memchr::{memchr, memchr_iter};

use super::{Cause, Limits, Wrong};

/// Where the head ends, after its blank line, if none had ended within the first `from` bytes. For a head that comes in
/// small pieces, so that it is not parsed again for each of them. Lines that end without CR count; reading refuses them.
pub(crate) fn end(bytes: &[u8], from: usize) -> Option<usize> {
    // The line before the blank one may have ended within what was there already.
    let from = from.saturating_sub(2).min(bytes.len());
    memchr_iter(b'\n', &bytes[from..]).find_map(|at| match bytes[from + at + 1..] {
        [b'\n', ..] => Some(from + at + 2),
        [b'\r', b'\n', ..] => Some(from + at + 3),
        _ => None,
    })
}

/// Bytes that may be a head, or its beginning.
#[derive(Debug)]
pub(super) struct Candidate<'b> {
    pub(super) bytes: &'b [u8],
    /// How many were left out before them.
    pub(super) skipped: usize,
    /// What is wrong if there is no whole head in them; `None`: more may come.
    full: Option<Wrong>,
}

impl<'b> Candidate<'b> {
    /// As much of `bytes` as the limits allow, so that what is said of a head does not depend on how much of it has come. One
    /// empty line before it is left out if `may_skip` says so (RFC 9112 2.2).
    ///
    /// # Errors
    /// More empty lines, or one that ends by LF only. Some parsers skip none, some any.
    pub(super) fn new(bytes: &'b [u8], limits: &Limits, may_skip: bool) -> Result<Self, Wrong> {
        let skipped = if may_skip && bytes.starts_with(b"\r\n") { 2 } else { 0 };
        let bytes = &bytes[skipped..];
        match bytes {
            // The first half of an empty line.
            [b'\r'] if may_skip && skipped == 0 => {}
            [b'\r' | b'\n', ..] => return Err(Wrong::malformed("an empty line before the head")),
            _ => {}
        }
        let bytes = &bytes[..bytes.len().min(limits.head as usize)];
        let line = limits.line as usize + 2;
        if bytes.len() >= line && memchr(b'\n', &bytes[..line]).is_none() {
            let full = Some(Wrong::new(Cause::LineTooLong, "the first line is too long"));
            return Ok(Self { bytes: &bytes[..line], skipped, full });
        }
        let too_large = Wrong::new(Cause::HeadTooLarge, "the head is too large");
        Ok(Self { bytes, skipped, full: (bytes.len() == limits.head as usize).then_some(too_large) })
    }

    /// There is no whole head in it.
    pub(super) fn unfinished<T>(&self) -> Result<Option<T>, Wrong> {
        self.full.map_or(Ok(None), Err)
    }

    /// The first line without its end, if it is whole.
    pub(super) fn line(&self) -> Option<&'b [u8]> {
        let line = &self.bytes[..memchr(b'\n', self.bytes)?];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// Checks that every line of a head ends by CRLF. httparse, which read these fields in it, takes LF alone for an end too, but
/// CR for nothing else.
pub(super) fn check_line_ends(head: &[u8], fields: &[Header<'_>]) -> Result<(), Wrong> {
    // Each line ends where the next one begins, so that nothing needs to be looked for.
    let ends_before = |field: &Header<'_>| {
        let start = field.name.as_ptr().addr().wrapping_sub(head.as_ptr().addr());
        head.get(..start).is_some_and(|before| before.ends_with(b"\r\n"))
    };
    if head.ends_with(b"\r\n\r\n") && fields.iter().all(ends_before) {
        return Ok(());
    }
    Err(Wrong::malformed("a line ends by LF without CR"))
}

/// How an error of httparse is counted and said.
pub(super) fn explain(error: httparse::Error) -> Wrong {
    use httparse::Error as Why;
    match error {
        Why::HeaderName => Wrong::malformed("a field's name is no token, or no colon follows it"),
        Why::HeaderValue => Wrong::malformed("a control character in a field"),
        Why::NewLine => Wrong::malformed("more in the first line, or it does not end by CRLF"),
        Why::Status => Wrong::malformed("a bad status line"),
        Why::Token => Wrong::malformed("a bad request line"),
        Why::TooManyHeaders => Wrong::new(Cause::HeadTooLarge, "too many fields"),
        Why::Version => Wrong::malformed("no version of HTTP"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { line: 8192, fields: 100, head: 32768 };

    #[test]
    fn a_head_ends_after_its_blank_line_however_little_comes_at_a_time() {
        for head in
            [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"\r\nGET / HTTP/1.1\r\n\r\n", b"a\n\n", b"a\r\n\n", b"a\n\r\n"]
        {
            let bytes = [head, b"body\r\n\r\n"].concat();
            assert_eq!(end(&bytes, 0), Some(head.len()));
            for come in 1..head.len() {
                assert_eq!(end(&bytes[..come], come - 1), None);
                assert_eq!(end(&bytes, come), Some(head.len()), "{come} had come");
            }
        }
        assert_eq!(end(b"", 0), None);
        assert_eq!(end(b"ab", 7), None);
    }

    #[test]
    fn lines_end_by_crlf() {
        let check = |head: &str| {
            let mut room = [httparse::EMPTY_HEADER; 4];
            let mut parsed = httparse::Request::new(&mut room);
            let length = parsed.parse(head.as_bytes()).unwrap().unwrap();
            check_line_ends(&head.as_bytes()[..length], parsed.headers).is_ok()
        };
        for good in ["GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nA: b \r\nC:\r\n\r\n"] {
            assert!(check(good));
            for (at, _) in good.match_indices('\r') {
                assert!(!check(&[&good[..at], &good[at + 1..]].concat()), "without CR at {at}");
            }
        }
    }

    #[test]
    fn one_empty_line_before_a_request_is_left_out_and_none_before_a_response() {
        let skipped = |bytes, may_skip| Candidate::new(bytes, &LIMITS, may_skip).map(|head| head.skipped).ok();
        assert_eq!(skipped(b"GET", true), Some(0));
        assert_eq!(skipped(b"\r", true), Some(0));
        assert_eq!(skipped(b"\r\nGET", true), Some(2));
        for bad in [&b"\n"[..], b"\rG", b"\r\n\r", b"\r\n\n", b"\r\n\r\nGET"] {
            assert_eq!(skipped(bad, true), None, "{bad:?}");
        }
        assert_eq!(skipped(b"\r", false), None);
        assert_eq!(skipped(b"\r\nHTTP", false), None);
    }
}
