//! A request or a response, read without mending anything.

use std::io::{self, BufRead};

/// A request or a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The first line.
    pub line: String,
    /// The fields in their order, as they were spelled.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The fields behind a chunked body.
    pub trailers: Vec<(String, String)>,
}

impl Message {
    /// Reads first line and fields. `None` if the stream ends before.
    ///
    /// # Errors
    /// The stream ends within it or breaks, or it is no head.
    pub fn read_head(source: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut line = Vec::new();
        if source.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let line = without_line_end(line)?;
        Ok(Some(Self { line, fields: read_fields(source)?, ..Self::default() }))
    }

    /// The status of a response.
    ///
    /// # Panics
    /// If this is none.
    pub fn status(&self) -> u16 {
        let status =
            self.line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse().ok());
        status.unwrap_or_else(|| panic!("no status line: {:?}", self.line))
    }

    /// The method of a request.
    pub fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    /// The target of a request.
    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    /// The first field of a name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All fields of a name, joined as a recipient may join them.
    pub fn joined(&self, name: &str) -> String {
        self.all(name).collect::<Vec<_>>().join(", ")
    }

    /// True if there is a field of that name.
    pub fn has(&self, name: &str) -> bool {
        self.field(name).is_some()
    }

    /// True if the `Connection` fields hold `option`.
    pub fn connection_says(&self, option: &str) -> bool {
        self.joined("connection").split(',').any(|said| said.trim().eq_ignore_ascii_case(option))
    }

    /// All fields of a name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    ///
    /// # Panics
    /// If it is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }
}

/// Reads fields to the empty line.
///
/// # Errors
/// The stream ends or breaks, or something else stands there.
pub(crate) fn read_fields(source: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let mut line = Vec::new();
        source.read_until(b'\n', &mut line)?;
        let line = without_line_end(line)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let Some((name, value)) = line.split_once(':') else { return Err(wrong("a field without a colon", &line)) };
        fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
}

/// A line as text, without its CRLF.
pub(crate) fn without_line_end(mut line: Vec<u8>) -> io::Result<String> {
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if !line.ends_with(b"\r\n") {
        return Err(wrong("a line without CRLF", &String::from_utf8_lossy(&line)));
    }
    line.truncate(line.len() - 2);
    String::from_utf8(line).map_err(|error| wrong("a line that is not UTF-8", &error.to_string()))
}

pub(crate) fn wrong(what: &str, text: &str) -> io::Error {
    io::Error::other(format!("{what}: {text:?}"))
}
