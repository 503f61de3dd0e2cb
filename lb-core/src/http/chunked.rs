//! A body in chunks (RFC 9112 7.1), read as it comes.

use super::fields::{is_token, is_token_byte};
use super::{Cause, Limits, Wrong};

/// Reads a body in chunks. What it has read it never needs again, but for a trailer line that is not whole yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunked {
    state: State,
    /// How many trailer fields, and bytes of them, may still come.
    fields_left: u16,
    bytes_left: u32,
}

/// The next part of a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'b> {
    /// Nothing, until more bytes come.
    More,
    /// A chunk of so many bytes follows. 0 is the last: trailers and the end follow.
    Size(u64),
    /// Bytes of the chunk.
    Data(&'b [u8]),
    /// The chunk is complete.
    DataEnd,
    /// A trailer field without its CRLF.
    Trailer(&'b [u8]),
    /// The body is complete; what follows is another message.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Within a size.
    Size {
        size: u64,
        digits: u8,
    },
    /// Within the extensions of a chunk of `size` bytes, of whose line `read` bytes were read.
    Extension {
        size: u64,
        read: u16,
        at: Extension,
    },
    /// At the LF after the size of a chunk.
    SizeEnd {
        size: u64,
    },
    /// Within a chunk of which so many bytes are left.
    Data {
        left: u64,
    },
    /// At the CR, or the LF, after a chunk.
    DataCr,
    DataLf,
    /// At the beginning of a trailer line, of which `seen` bytes are known to have no LF.
    Trailer {
        seen: u32,
    },
    /// All was read.
    Ended,
}

/// Where within `;name=value;name="value"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
    NameStart,
    Name,
    ValueStart,
    Value,
    Quoted,
    Escaped,
    QuotedEnd,
}

impl Chunked {
    /// The digits of a size; more would be more than 64 bits.
    const DIGITS: u8 = 16;
    /// Bytes of a size with its extensions.
    const LINE: u16 = 256;

    /// At the beginning of a body whose trailers are within `limits`.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { state: State::Size { size: 0, digits: 0 }, fields_left: limits.fields, bytes_left: limits.head }
    }

    /// The next part of the body, and how many of the bytes are read with it. With [`Part::More`] the others, if there
    /// are any, must be given again with more after them: a trailer line is given whole.
    ///
    /// # Errors
    /// What breaks a rule of RFC 9112 or a limit. Where the body ends is not known then.
    pub(crate) fn read<'b>(&mut self, bytes: &'b [u8]) -> Result<(Part<'b>, usize), Wrong> {
        let mut at = 0;
        loop {
            match self.state {
                State::Data { left } if left > 0 => {
                    let rest = &bytes[at..];
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    if length == 0 {
                        return Ok((Part::More, at));
                    }
                    self.state = State::Data { left: left - length as u64 };
                    return Ok((Part::Data(&rest[..length]), at + length));
                }
                State::Data { .. } => self.state = State::DataCr,
                State::Trailer { seen } => match self.trailer(&bytes[at..], seen)? {
                    (Some(part), read) => return Ok((part, at + read)),
                    (None, 0) => return Ok((Part::More, at)),
                    (None, read) => at += read,
                },
                State::Ended => return Ok((Part::End, at)),
                _ => {
                    let Some(&byte) = bytes.get(at) else { return Ok((Part::More, at)) };
                    at += 1;
                    if let Some(part) = self.step(byte)? {
                        return Ok((part, at));
                    }
                }
            }
        }
    }

    /// One byte of what is between the chunks' data.
    fn step(&mut self, byte: u8) -> Result<Option<Part<'static>>, Wrong> {
        self.state = match self.state {
            State::Size { size, digits } => Self::size(size, digits, byte)?,
            State::Extension { size, read, at } => Self::extension(size, read, at, byte)?,
            State::SizeEnd { size } if byte == b'\n' => {
                self.state = if size > 0 { State::Data { left: size } } else { State::Trailer { seen: 0 } };
                return Ok(Some(Part::Size(size)));
            }
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => {
                self.state = State::Size { size: 0, digits: 0 };
                return Ok(Some(Part::DataEnd));
            }
            State::SizeEnd { .. } => return Err(Wrong::malformed("a chunk's size does not end by CRLF")),
            _ => return Err(Wrong::malformed("a chunk does not end by CRLF")),
        };
        Ok(None)
    }

    fn size(size: u64, digits: u8, byte: u8) -> Result<State, Wrong> {
        if let Some(digit) = (byte as char).to_digit(16) {
            // What a signed number of 64 bits cannot hold overflows in other parsers.
            let larger = (size << 4) | u64::from(digit);
            if digits == Self::DIGITS || size > (i64::MAX as u64) >> 4 {
                return Err(Wrong::malformed("a chunk's size is too large"));
            }
            return Ok(State::Size { size: larger, digits: digits + 1 });
        }
        match byte {
            _ if digits == 0 => Err(Wrong::malformed("a chunk without a size")),
            b'\r' => Ok(State::SizeEnd { size }),
            b';' => Ok(State::Extension { size, read: u16::from(digits) + 1, at: Extension::NameStart }),
            _ => Err(Wrong::malformed("a chunk's size is no hexadecimal number")),
        }
    }

    /// Extensions are checked, because what one parser skips another reads, and are dropped: no server has use for them.
    /// White space around `;` and `=`, which RFC 9112 lets recipients tolerate, is refused.
    fn extension(size: u64, read: u16, at: Extension, byte: u8) -> Result<State, Wrong> {
        use Extension as At;
        if read >= Self::LINE {
            return Err(Wrong::malformed("a chunk's extensions are too long"));
        }
        let at = match (at, byte) {
            (At::Name | At::Value | At::QuotedEnd, b'\r') => return Ok(State::SizeEnd { size }),
            (At::Name | At::Value | At::QuotedEnd, b';') => At::NameStart,
            (At::NameStart | At::Name, byte) if is_token_byte(byte) => At::Name,
            (At::Name, b'=') => At::ValueStart,
            (At::ValueStart, b'"') => At::Quoted,
            (At::ValueStart | At::Value, byte) if is_token_byte(byte) => At::Value,
            (At::Quoted, b'"') => At::QuotedEnd,
            (At::Quoted, b'\\') => At::Escaped,
            (At::Quoted | At::Escaped, b'\t' | b' '..=b'~' | 0x80..) => At::Quoted,
            _ => return Err(Wrong::malformed("a chunk's extension is none")),
        };
        Ok(State::Extension { size, read: read + 1, at })
    }

    /// The next trailer line, and how many bytes it has: a field, the end, or one that is dropped.
    fn trailer<'b>(&mut self, bytes: &'b [u8], seen: u32) -> Result<(Option<Part<'b>>, usize), Wrong> {
        let seen = bytes.len().min(seen as usize);
        let most = bytes.len().min(self.bytes_left as usize);
        let Some(end) = bytes[..most].iter().skip(seen).position(|&byte| byte == b'\n').map(|end| seen + end) else {
            if bytes.len() >= self.bytes_left as usize {
                return Err(Wrong::new(Cause::HeadTooLarge, "the trailers are too large"));
            }
            self.state = State::Trailer { seen: most as u32 };
            return Ok((None, 0));
        };
        let line = bytes[..end].strip_suffix(b"\r").ok_or(Wrong::malformed("a trailer line ends by LF without CR"))?;
        if line.is_empty() {
            self.state = State::Ended;
            return Ok((Some(Part::End), end + 1));
        }
        self.state = State::Trailer { seen: 0 };
        self.bytes_left -= end as u32 + 1;
        self.fields_left =
            self.fields_left.checked_sub(1).ok_or(Wrong::new(Cause::HeadTooLarge, "too many trailer fields"))?;
        Ok((may_pass(line)?.then_some(Part::Trailer(line)), end + 1))
    }
}

/// Whether a trailer field is passed on (RFC 9110 6.5.1): not if it frames, routes, or authorises, which no trailer may.
///
/// # Errors
/// It is no field.
fn may_pass(line: &[u8]) -> Result<bool, Wrong> {
    const NEVER: [&str; 22] = [
        "transfer-encoding",
        "content-length",
        "host",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "upgrade",
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "content-encoding",
        "content-type",
        "content-range",
        "cache-control",
        "expect",
        "max-forwards",
        "range",
        "forwarded",
        "location",
    ];
    let colon = line.iter().position(|&byte| byte == b':').unwrap_or(0);
    let (name, value) = line.split_at(colon);
    if !is_token(name) || !value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..)) {
        return Err(Wrong::malformed("a trailer line is no field"));
    }
    let begins =
        |beginning: &[u8]| name.len() > beginning.len() && name[..beginning.len()].eq_ignore_ascii_case(beginning);
    Ok(!begins(b"x-forwarded-") && !NEVER.iter().any(|one| one.as_bytes().eq_ignore_ascii_case(name)))
}
