//! A body in chunks (RFC 9112 7.1), read as it comes.

use memchr::memchr;

use super::fields::{begins_with, is_nearly_framing, is_token, is_token_byte};
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
        if read == Self::LINE && byte != b'\r' {
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
        let Some(end) = memchr(b'\n', &bytes[seen.min(most)..most]).map(|end| seen + end) else {
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

/// Whether a trailer field is passed on. Not if it is of a kind that is to be known before the body (RFC 9110 6.5.1): those
/// that frame, route, authorise, modify the request, control the response or say how the content is coded.
///
/// # Errors
/// It is no field.
fn may_pass(line: &[u8]) -> Result<bool, Wrong> {
    const NEVER: &str = "host connection keep-alive proxy-connection te trailer upgrade via forwarded max-forwards expect \
        authorization proxy-authorization www-authenticate proxy-authenticate cookie set-cookie range cache-control \
        pragma age date expires location retry-after vary warning";
    const NEVER_BEGINNINGS: [&str; 3] = ["content-", "x-forwarded-", "if-"];
    const WRONG: Wrong = Wrong::malformed("a trailer line is no field");
    let (name, value) = line.split_at(memchr(b':', line).ok_or(WRONG)?);
    let name = str::from_utf8(name).ok().filter(|name| is_token(name.as_bytes())).ok_or(WRONG)?;
    if !value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..)) {
        return Err(WRONG);
    }
    let is_one_of = |names: &str| names.split_ascii_whitespace().any(|one| one.eq_ignore_ascii_case(name));
    Ok(!is_one_of(NEVER) && !NEVER_BEGINNINGS.iter().any(|start| begins_with(name, start)) && !is_nearly_framing(name))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::http::referee::{self, Body};

    const LIMITS: Limits = Limits { line: 8192, fields: 100, head: 32768 };

    fn body_within(bytes: &[u8], limits: &Limits) -> Result<Body, Cause> {
        for part in [1, 2, 3, 7] {
            referee::chunked(bytes, part, limits);
        }
        referee::body(bytes, bytes.len(), limits).map_err(|wrong| wrong.cause)
    }

    fn body(bytes: &str) -> Result<Body, Cause> {
        body_within(bytes.as_bytes(), &LIMITS)
    }

    #[track_caller]
    fn all_malformed<B: AsRef<str>>(bodies: impl IntoIterator<Item = B>) {
        for bytes in bodies {
            assert_eq!(body(bytes.as_ref()), Err(Cause::Malformed), "{:?}", bytes.as_ref());
        }
    }

    /// A body whose first chunk, of 5 bytes, has this size line.
    fn sized(line: &str) -> String {
        format!("{line}\r\nabcde\r\n0\r\n\r\n")
    }

    #[test]
    fn a_body_is_read_part_by_part() {
        let mut chunked = Chunked::new(&LIMITS);
        let mut rest = &b"5;a=b\r\nabcde\r\n1\r\nf\r\n0\r\nX: y\r\n\r\nGET"[..];
        let parts = std::iter::from_fn(|| {
            let (part, length) = chunked.read(rest).unwrap();
            rest = &rest[length..];
            (part != Part::End).then_some(part)
        });
        use Part::{Data, DataEnd, Size, Trailer};
        let expected = [Size(5), Data(b"abcde"), DataEnd, Size(1), Data(b"f"), DataEnd, Size(0), Trailer(b"X: y")];
        assert_eq!(parts.collect::<Vec<_>>(), expected);
        assert_eq!(rest, b"GET");
        // Once it has ended it stays so.
        assert_eq!(chunked.read(rest), Ok((Part::End, 0)));
    }

    #[test]
    fn data_is_given_in_one_piece_as_far_as_it_has_come() {
        let mut chunked = Chunked::new(&LIMITS);
        assert_eq!(chunked.read(b"100000\r\n"), Ok((Part::Size(1 << 20), 8)));
        let data = vec![b'x'; 1 << 20];
        assert_eq!(chunked.read(&data[..1000]), Ok((Part::Data(&data[..1000]), 1000)));
        assert_eq!(chunked.read(&[]), Ok((Part::More, 0)));
        assert_eq!(chunked.read(&data), Ok((Part::Data(&data[1000..]), data.len() - 1000)));
        assert_eq!(chunked.read(b"\r"), Ok((Part::More, 1)));
        assert_eq!(chunked.read(b"\n0"), Ok((Part::DataEnd, 1)));
    }

    #[test]
    fn sizes_are_hexadecimal_digits_and_nothing_else() {
        for line in ["5", "05", "0000000000000005"] {
            assert_eq!(body(&sized(line)).unwrap().data, b"abcde");
        }
        let upper_and_lower = format!("aA\r\n{}\r\n0\r\n\r\n", "x".repeat(170));
        assert_eq!(body(&upper_and_lower).unwrap().sizes, [170, 0]);
        let wrong = [
            "",
            " 5",
            "5 ",
            "\t5",
            "5\t",
            "+5",
            "-5",
            "0x5",
            "0X5",
            "5h",
            "5_",
            "0_5",
            "5.",
            "5,",
            "5 5",
            "\r\n5",
            "\n5",
            "5\0",
            "\u{b}5",
            "\u{ff15}",
            "00000000000000005",
            "g",
            "x5",
            ";a",
            "=5",
            "\"5\"",
        ];
        all_malformed(wrong.map(sized));
    }

    #[test]
    fn a_size_does_not_overflow() {
        let size = |line: &str| body(&format!("{line}\r\n")).map(|body| body.sizes);
        assert_eq!(size("7fffffffffffffff"), Ok(vec![i64::MAX as u64]));
        for line in ["8000000000000000", "ffffffffffffffff", "10000000000000005", "fffffffffffffffff", "100000000"] {
            let expected = if line.len() < 16 { Ok(vec![1 << 32]) } else { Err(Cause::Malformed) };
            assert_eq!(size(line), expected, "{line}");
        }
    }

    #[test]
    fn extensions_are_checked_and_dropped() {
        for extension in [";a", ";a=b", ";a=\"b;\\\"\r\n c\"", ";a;b=c;d=\"\"", ";a=\"\t ~\u{e9}\\\\\""] {
            let is_good = !extension.contains('\r');
            assert_eq!(body(&sized(&format!("5{extension}"))).is_ok(), is_good, "{extension}");
        }
        let wrong = [
            ";",
            ";;",
            ";=",
            ";=b",
            ";a=",
            ";a==b",
            ";a=b=c",
            "; a",
            " ;a",
            ";a ",
            ";a =b",
            ";a= b",
            ";a=b c",
            ";a\n",
            ";a\r",
            ";\n",
            ";a=\"",
            ";a=\"b",
            ";a=\"b\"c",
            ";a=\"b\nc\"",
            ";a=\"b\rc\"",
            ";a=\"b\\\nc\"",
            ";a=\"\0\"",
            ";a\0",
            ";\u{e9}",
            ";a,b",
            ":a",
            "a=b;",
        ];
        all_malformed(wrong.map(|extension| sized(&format!("5{extension}"))));
        all_malformed(wrong.map(|extension| format!("0{extension}\r\n\r\n")));
    }

    #[test]
    fn a_size_with_its_extensions_is_bounded() {
        let line = |length: usize| format!("5;{}", "a".repeat(length - 2));
        assert!(body(&sized(&line(usize::from(Chunked::LINE)))).is_ok());
        all_malformed([sized(&line(usize::from(Chunked::LINE) + 1))]);
        // Nor need it end for that.
        all_malformed([line(1000)]);
    }

    #[test]
    fn lines_end_by_crlf_only() {
        let good = "5\r\nabcde\r\n0\r\nX: y\r\n\r\n";
        assert!(body(good).is_ok());
        for (at, _) in good.match_indices("\r\n") {
            for end in ["\n", "\r", "\n\r", "\r\r\n", "\n\n", "\0\r\n"] {
                let mut bytes = String::from(good);
                bytes.replace_range(at..at + 2, end);
                bytes.push_str("0\r\n\r\n");
                all_malformed([bytes]);
            }
        }
    }

    #[test]
    fn data_is_as_long_as_its_size() {
        all_malformed([
            "4\r\nabcde\r\n0\r\n\r\n",
            "6\r\nabcde\r\n0\r\n\r\n",
            "5\r\nabcde0\r\n\r\n",
            "0\r\nabcde\r\n\r\n",
            "5\r\nabcde\r\n\r\n",
        ]);
    }

    #[test]
    fn what_follows_the_end_is_not_read() {
        let Body { length, trailers, .. } = body("0\r\n\r\nGET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!((length, trailers.len()), (Some(5), 0));
    }

    #[test]
    fn trailers_are_fields() {
        let trailers = |lines: &str| body(&format!("0\r\n{lines}\r\n")).map(|body| body.trailers);
        assert_eq!(trailers("X-Sum: a b\r\nY:\r\n"), Ok(vec![b"X-Sum: a b".to_vec(), b"Y:".to_vec()]));
        let wrong = [
            "X\r\n",
            "X : y\r\n",
            ": y\r\n",
            " X: y\r\n",
            "X: y\r\n z\r\n",
            "X: \0\r\n",
            "X: y\rz\r\n",
            "X: y\n",
            "X y: z\r\n",
            "X\u{e9}: y\r\n",
        ];
        for lines in wrong {
            assert_eq!(trailers(lines), Err(Cause::Malformed), "{lines:?}");
        }
    }

    #[test]
    fn trailers_that_frame_or_route_are_dropped() {
        let never = [
            "Content-Length",
            "transfer-encoding",
            "TRAILER",
            "Host",
            "Connection",
            "Cookie",
            "Set-Cookie",
            "Authorization",
            "Content-Type",
            "Content-Encoding",
            "X-Forwarded-For",
            "Forwarded",
            "If-Match",
            "Upgrade",
            "TE",
            "Content_Length",
            "Transfer_Encoding",
        ];
        let lines: String = never.iter().map(|name| format!("{name}: 5\r\n")).collect();
        assert_eq!(body(&format!("0\r\n{lines}X: y\r\n\r\n")).unwrap().trailers, [b"X: y"]);
    }

    #[test]
    fn trailers_are_bounded_in_number_and_size() {
        let limits = Limits { line: 10, fields: 3, head: 50 };
        let with =
            |lines: &str| body_within(format!("0\r\n{lines}\r\n").as_bytes(), &limits).map(|body| body.trailers.len());
        assert_eq!(with(&"A: b\r\n".repeat(3)), Ok(3));
        assert_eq!(with(&"A: b\r\n".repeat(4)), Err(Cause::HeadTooLarge));
        // Those that are dropped count.
        assert_eq!(with(&"Host: b\r\n".repeat(4)), Err(Cause::HeadTooLarge));
        assert_eq!(with(&format!("A: {}\r\n", "b".repeat(50 - 7))), Ok(1));
        assert_eq!(with(&format!("A: {}\r\n", "b".repeat(50 - 6))), Err(Cause::HeadTooLarge));
        // Nor need a line end for that.
        assert_eq!(body_within(&[b"0\r\n", &[b'a'; 50][..]].concat(), &limits), Err(Cause::HeadTooLarge));
    }

    #[test]
    fn a_long_trailer_line_that_comes_byte_by_byte_is_looked_at_once() {
        let mut chunked = Chunked::new(&LIMITS);
        assert_eq!(chunked.read(b"0\r\n").unwrap().0, Part::Size(0));
        let line = [b"X: ", &[b'y'; 1000][..]].concat();
        for come in 0..line.len() {
            assert_eq!(chunked.read(&line[..come]), Ok((Part::More, 0)));
            assert_eq!(chunked.state, State::Trailer { seen: come as u32 });
        }
        let line = [&line[..], b"\r\n"].concat();
        assert_eq!(chunked.read(&line), Ok((Part::Trailer(&line[..line.len() - 2]), line.len())));
    }

    /// Bodies of pieces that often are good ones.
    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            &b"5\r\nabcde\r\n"[..],
            b"a;x=y\r\n0123456789\r\n",
            b"1;q=\"\\\"\"\r\n\r\r\n",
            b"0\r\n",
            b"X: y\r\n",
            b"Host: a\r\n",
            b"\r\n",
            b"\n",
            b"5\nabcde\n",
            b"0",
            b"5 \r\nabcde\r\n",
            b"f",
            b"ffffffffffffffff\r\n",
        ]);
        vec(piece, 0..8).prop_map(|pieces| [&pieces.concat()[..], b"0\r\n\r\n"].concat())
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_parts_make_no_difference(bytes in vec(any::<u8>(), 0..200), part in 1..64_usize) {
            referee::chunked(&bytes, part, &LIMITS);
            referee::chunked(&[b"0\r\n", &bytes[..]].concat(), part, &referee::SMALL);
        }

        #[test]
        fn bodies_of_any_pieces_are_the_same_however_they_come(bytes in pieces(), part in 1..64_usize) {
            referee::chunked(&bytes, part, &LIMITS);
            referee::chunked(&bytes, part, &Limits { line: 0, fields: 1, head: 20 });
        }

        #[test]
        fn data_in_any_chunks_comes_out_as_it_went_in(chunks in vec(vec(any::<u8>(), 1..100), 0..10), part in 1..64_usize) {
            let mut bytes: Vec<u8> = chunks.iter().flat_map(|chunk| [format!("{:X}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()).collect();
            bytes.extend(b"0\r\n\r\n");
            let body = referee::body(&bytes, part, &LIMITS).unwrap();
            prop_assert_eq!((body.data, body.length), (chunks.concat(), Some(bytes.len())));
        }
    }
}
