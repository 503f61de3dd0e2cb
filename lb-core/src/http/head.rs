//! What requests' and responses' heads have in common: where they end, how large they may be, and how lines end.

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

/// Checks that every CR of a head is followed by LF, and that every LF follows a CR.
pub(super) fn check_line_ends(head: &[u8]) -> Result<(), Wrong> {
    let pairs = head.iter().zip(&head[head.len().min(1)..]);
    // Without a branch per byte, so that the compiler takes many of them at once.
    let wrong = pairs.fold(0, |wrong, (&one, &next)| wrong | (u8::from(one == b'\r') ^ u8::from(next == b'\n')));
    if wrong != 0 || head.first() == Some(&b'\n') || head.last() == Some(&b'\r') {
        return Err(Wrong::malformed("a line ends by LF without CR, or CR stands alone"));
    }
    Ok(())
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
    fn line_ends_are_crlf() {
        for good in [&b""[..], b"\r\n", b"a\r\n\r\n", b"abc"] {
            assert_eq!(check_line_ends(good), Ok(()));
        }
        for bad in [&b"\n"[..], b"\r", b"a\n", b"a\r", b"a\rb\r\n", b"a\r\n\n", b"\r\r\n", b"\n\r\n", b"a\r\nb\n\r\n"] {
            assert!(check_line_ends(bad).is_err(), "{bad:?}");
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
