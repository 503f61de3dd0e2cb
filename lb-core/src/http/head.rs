//! What requests' and responses' heads have in common: where they end, how large they may be, and how lines end.

use super::{Cause, Limits, Wrong};

/// Where a head that had not ended within the first `from` bytes ends: after its blank line. For a head that comes in
/// small pieces, so that it is not parsed again for each of them; a line that ends without CR counts as an end, which
/// reading then refuses.
pub(crate) fn end(bytes: &[u8], from: usize) -> Option<usize> {
    // The line before the blank one may end within what was seen already.
    let mut at = from.saturating_sub(3);
    while let Some(found) = bytes.get(at..)?.iter().position(|&byte| byte == b'\n') {
        at += found + 1;
        match bytes[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// The part of `bytes` that may be a head by its limits, after an empty line before it if `may_skip` allows one, and how
/// many bytes were left out before it.
///
/// # Errors
/// More than one empty line. Some implementations skip none, some any number.
pub(super) fn within<'b>(bytes: &'b [u8], limits: &Limits, may_skip: bool) -> Result<(&'b [u8], usize), Wrong> {
    let skipped = if may_skip && bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let most = bytes.len().min(limits.head as usize + skipped);
    let head = &bytes[skipped..most];
    match head {
        [b'\n', ..] => Err(Wrong::malformed("an empty line before the head")),
        [b'\r', ..] if !may_skip || skipped > 0 || head.len() > 1 => {
            Err(Wrong::malformed("an empty line before the head"))
        }
        _ => Ok((head, skipped)),
    }
}

/// The first line without its end, if it is there.
///
/// # Errors
/// It is longer than the limits allow, ended or not.
pub(super) fn first_line<'b>(head: &'b [u8], limits: &Limits, cause: Cause) -> Result<Option<&'b [u8]>, Wrong> {
    let most = limits.line as usize;
    let looked_at = &head[..head.len().min(most + 2)];
    match looked_at.iter().position(|&byte| byte == b'\n') {
        Some(end) => {
            let line = looked_at[..end].strip_suffix(b"\r").unwrap_or(&looked_at[..end]);
            if line.len() > most { Err(Wrong::new(cause, "the first line is too long")) } else { Ok(Some(line)) }
        }
        None if looked_at.len() == most + 2 => Err(Wrong::new(cause, "the first line is too long")),
        None => Ok(None),
    }
}

/// Whether every CR of a head is followed by LF, and every LF follows a CR.
pub(super) fn has_whole_line_ends(head: &[u8]) -> bool {
    let [first, rest @ ..] = head else { return true };
    // Without a branch per byte, so that the compiler takes many bytes at once.
    let wrong = head
        .iter()
        .zip(rest)
        .fold(0, |wrong, (&one, &next)| wrong | (u8::from(one == b'\r') ^ u8::from(next == b'\n')));
    *first != b'\n' && wrong == 0 && head.last() != Some(&b'\r')
}

/// What it means that a parser knows no end within `head`: more must come, unless this is all that may.
pub(super) fn unfinished<T>(head: &[u8], limits: &Limits) -> Result<Option<T>, Wrong> {
    if head.len() < limits.head as usize {
        Ok(None)
    } else {
        Err(Wrong::new(Cause::HeadTooLarge, "the head is too large"))
    }
}

/// How a parser's error is counted and said.
pub(super) fn explain(error: httparse::Error) -> Wrong {
    use httparse::Error as Why;
    match error {
        Why::HeaderName => Wrong::malformed("a field's name is no token, or no colon follows it"),
        Why::HeaderValue => Wrong::malformed("a control character in a field"),
        Why::NewLine => Wrong::malformed("a line does not end by CRLF"),
        Why::Status => Wrong::malformed("a bad status line"),
        Why::Token => Wrong::malformed("a bad request line"),
        Why::TooManyHeaders => Wrong::new(Cause::HeadTooLarge, "too many fields"),
        Why::Version => Wrong::malformed("this is not HTTP"),
    }
}
