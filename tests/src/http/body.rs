//! Bodies in both framings, read and written piece by piece.

use std::io::{self, BufRead, ErrorKind, Read, Write};

use super::message::{Message, read_fields, without_line_end, wrong};

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
    /// With the connection.
    UntilClose,
}

impl Framing {
    /// That of a request.
    pub fn of_request(head: &Message) -> Self {
        Self::said(head).unwrap_or(Self::Length(0))
    }

    /// That of a response to a request of `method`.
    pub fn of_response(head: &Message, method: &str) -> Self {
        match head.status() {
            100..=199 | 204 | 304 => Self::Length(0),
            _ if method == "HEAD" => Self::Length(0),
            _ => Self::said(head).unwrap_or(Self::UntilClose),
        }
    }

    /// What the fields say.
    ///
    /// # Panics
    /// If they say it twice or wrongly.
    fn said(head: &Message) -> Option<Self> {
        let codings: Vec<_> = head.all("transfer-encoding").collect();
        let lengths: Vec<_> = head.all("content-length").collect();
        match (codings.as_slice(), lengths.as_slice()) {
            ([], []) => None,
            (["chunked"], []) => Some(Self::Chunked),
            ([], [length]) => Some(Self::Length(length.parse().expect("a length is a number"))),
            _ => panic!("no single framing: {head:?}"),
        }
    }
}

/// Reads a body to its end and not a byte more. What ends too early is an error.
#[derive(Debug)]
pub struct Body<'s, S> {
    source: &'s mut S,
    framing: Framing,
    /// Of the body, or of the chunk that is being read.
    left: u64,
    is_over: bool,
    trailers: Vec<(String, String)>,
}

impl<'s, S: BufRead> Body<'s, S> {
    /// What comes from `source` in `framing`.
    pub fn new(source: &'s mut S, framing: Framing) -> Self {
        let left = match framing {
            Framing::Length(length) => length,
            Framing::Chunked => 0,
            Framing::UntilClose => u64::MAX,
        };
        Self { source, framing, left, is_over: false, trailers: Vec::new() }
    }

    /// The fields behind it, once it was read to its end.
    pub fn trailers(self) -> Vec<(String, String)> {
        self.trailers
    }

    fn begin_chunk(&mut self) -> io::Result<()> {
        let mut line = Vec::new();
        self.source.read_until(b'\n', &mut line)?;
        let line = without_line_end(line)?;
        self.left = u64::from_str_radix(&line, 16).map_err(|_| wrong("no size of a chunk", &line))?;
        if self.left == 0 {
            self.trailers = read_fields(self.source)?;
            self.is_over = true;
        }
        Ok(())
    }

    fn end_chunk(&mut self) -> io::Result<()> {
        let mut end = [0; 2];
        self.source.read_exact(&mut end)?;
        if end != *b"\r\n" {
            return Err(wrong("no CRLF behind a chunk", &end.escape_ascii().to_string()));
        }
        Ok(())
    }
}

impl<S: BufRead> Read for Body<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.framing == Framing::Chunked && self.left == 0 && !self.is_over {
            self.begin_chunk()?;
        }
        if self.is_over || self.left == 0 {
            return Ok(0);
        }
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.source.read(&mut buffer[..most])?;
        match self.framing {
            Framing::UntilClose => return Ok(count),
            _ if count == 0 => return Err(ErrorKind::UnexpectedEof.into()),
            _ => self.left -= count as u64,
        }
        if self.framing == Framing::Chunked && self.left == 0 {
            self.end_chunk()?;
        }
        Ok(count)
    }
}

/// Writes a body in chunks, one for each write.
#[derive(Debug)]
pub struct Chunks<'t, T: Write> {
    target: &'t mut T,
}

impl<'t, T: Write> Chunks<'t, T> {
    /// Begins a body.
    pub fn new(target: &'t mut T) -> Self {
        Self { target }
    }

    /// Ends it, with lines behind it, each with its CRLF.
    ///
    /// # Errors
    /// Those of the target.
    pub fn end(self, trailers: &str) -> io::Result<()> {
        self.target.write_all(format!("0\r\n{trailers}\r\n").as_bytes())
    }
}

impl<T: Write> Write for Chunks<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            self.target.write_all(format!("{:x}\r\n", bytes.len()).as_bytes())?;
            self.target.write_all(bytes)?;
            self.target.write_all(b"\r\n")?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_to_its_end_and_no_further() {
        let chunked = {
            let mut wire = Vec::new();
            let mut chunks = Chunks::new(&mut wire);
            chunks.write_all(b"hel").and_then(|()| chunks.write_all(b"lo")).unwrap();
            chunks.end("X-Sum: 1\r\n").unwrap();
            wire
        };
        for (wire, framing) in [(b"hello".to_vec(), Framing::Length(5)), (chunked, Framing::Chunked)] {
            let all = [&wire[..], b"next"].concat();
            let mut source = all.as_slice();
            let mut text = String::new();
            Body::new(&mut source, framing).read_to_string(&mut text).unwrap();
            assert_eq!((text.as_str(), source), ("hello", &b"next"[..]));
            for end in 0..wire.len() {
                let mut cut = &wire[..end];
                let result = Body::new(&mut cut, framing).read_to_end(&mut Vec::new());
                assert!(result.is_err(), "{framing:?} cut off at {end}");
            }
        }
    }
}
