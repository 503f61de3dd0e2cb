//! Messages that other projects have collected, with what they say of them.
//!
//! They lie beside the project, not in it: where they are missing these tests say so and pass.

use std::fs;
use std::path::PathBuf;

use super::{Cause, Chunked, Fields, Framing, Limits, Method, Part, Wrong, referee, request, response};

const LIMITS: Limits = Limits { line: 8192, fields: 100, head: 32768 };

/// The files of a folder of the corpora by their names, or none and a line that says so.
fn files(folder: &str) -> Vec<(String, String)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(folder);
    let Ok(entries) = fs::read_dir(&path) else {
        eprintln!("skipped: there is no folder shared/data/{folder} beside the workspace");
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    paths.sort();
    let name = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    paths.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// What a message was read as.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    /// The method and the target, or the status.
    start: String,
    body: Vec<u8>,
}

/// Reads messages one after another as long as they are whole and the connection persists.
fn read_all(mut bytes: &[u8], is_request: bool) -> (Vec<Message>, Result<(), Wrong>) {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        match read_one(bytes, is_request) {
            Ok(Some((message, length, goes_on))) => {
                messages.push(message);
                bytes = &bytes[length..];
                if !goes_on {
                    break;
                }
            }
            Ok(None) => break,
            Err(wrong) => return (messages, Err(wrong)),
        }
    }
    (messages, Ok(()))
}

fn read_one(bytes: &[u8], is_request: bool) -> Result<Option<(Message, usize, bool)>, Wrong> {
    let mut room = Fields::new();
    let (start, head, framing, goes_on) = if is_request {
        referee::request(bytes, 5, &LIMITS);
        let Some((request, head)) = request::read(bytes, &LIMITS, &mut room)? else { return Ok(None) };
        let goes_on = request.connection.persists(request.version) && request.upgrade.is_none();
        (format!("{} {}", request.method_name, request.target), head, request.framing, goes_on)
    } else {
        referee::response(bytes, 5, &LIMITS);
        let Some((response, head)) = response::read(bytes, &LIMITS, Method::Get, &mut room)? else { return Ok(None) };
        let goes_on = response.connection.persists(response.version) && response.upgrade.is_none();
        (response.status.to_string(), head, response.framing, goes_on)
    };
    let body = read_body(&bytes[head..], framing)?;
    Ok(body.map(|(body, length)| (Message { start, body }, head + length, goes_on)))
}

fn read_body(bytes: &[u8], framing: Framing) -> Result<Option<(Vec<u8>, usize)>, Wrong> {
    match framing {
        Framing::None => Ok(Some((Vec::new(), 0))),
        Framing::Length(length) => {
            Ok(usize::try_from(length).ok().and_then(|length| Some((bytes.get(..length)?.to_vec(), length))))
        }
        Framing::UntilClose => Ok(None),
        Framing::Chunked => {
            referee::chunked(bytes, 5, &LIMITS);
            let (mut chunked, mut at, mut data) = (Chunked::new(&LIMITS), 0, Vec::new());
            loop {
                let (part, length) = chunked.read(&bytes[at..])?;
                at += length;
                match part {
                    Part::More => return Ok(None),
                    Part::Data(bytes) => data.extend(bytes),
                    Part::End => return Ok(Some((data, at))),
                    Part::Size(_) | Part::DataEnd | Part::Trailer(_) => {}
                }
            }
        }
    }
}

/// Requests that HTTP Desync Guardian classifies; its files use little of YAML.
mod guardian {
    use super::*;

    #[derive(Debug, Default)]
    struct Case {
        name: String,
        uri: Vec<u8>,
        method: Vec<u8>,
        version: Vec<u8>,
        headers: Vec<(Vec<u8>, Vec<u8>)>,
        tier: String,
    }

    impl Case {
        fn is_refused(&self) -> bool {
            matches!(self.tier.as_str(), "Severe" | "Ambiguous")
        }

        /// With a Host, if it has none: that the corpus leaves it out is not what it is about.
        fn head(&self) -> Vec<u8> {
            let mut head = [&self.method[..], b" ", &self.uri, b" ", &self.version, b"\r\n"].concat();
            if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"host")) {
                head.extend(b"Host: example.com\r\n");
            }
            for (name, value) in &self.headers {
                head.extend([&name[..], b": ", value, b"\r\n"].concat());
            }
            head.extend(b"\r\n");
            head
        }

        fn has(&self, name: &str) -> Option<&[u8]> {
            let found = self.headers.iter().find(|(written, _)| written.eq_ignore_ascii_case(name.as_bytes()));
            found.map(|(_, value)| value.trim_ascii())
        }
    }

    fn cases(text: &str) -> Vec<Case> {
        let mut cases: Vec<Case> = Vec::new();
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = scalar(value.trim());
            let text = || String::from_utf8_lossy(&value).into_owned();
            match (key, cases.last_mut()) {
                ("- name", _) => cases.push(Case { name: text(), ..Case::default() }),
                ("  uri", Some(case)) => case.uri = value,
                ("  method", Some(case)) => case.method = value,
                ("  version", Some(case)) => case.version = value,
                ("    - name", Some(case)) => case.headers.push((value, Vec::new())),
                ("      value", Some(case)) => case.headers.last_mut().expect("its name is before it").1 = value,
                ("    tier", Some(case)) => case.tier = text(),
                _ => {}
            }
        }
        cases
    }

    /// A scalar in double quotes, single quotes or none.
    fn scalar(written: &str) -> Vec<u8> {
        if let Some(text) = written.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
            return text.replace("''", "'").into_bytes();
        }
        let Some(text) = written.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else {
            return written.as_bytes().to_vec();
        };
        let (mut bytes, mut rest) = (Vec::new(), text);
        while let Some((before, escaped)) = rest.split_once('\\') {
            bytes.extend(before.bytes());
            let length = if escaped.starts_with('x') { 3 } else { 1 };
            bytes.push(match &escaped[..1] {
                "x" => u8::from_str_radix(&escaped[1..3], 16).unwrap(),
                "t" => b'\t',
                "r" => b'\r',
                "n" => b'\n',
                other => other.as_bytes()[0],
            });
            rest = &escaped[length..];
        }
        bytes.extend(rest.bytes());
        bytes
    }

    #[test]
    fn severe_and_ambiguous_requests_are_refused() {
        for (file, text) in files("http-desync-guardian").into_iter().filter(|(file, _)| file != "LICENSE") {
            let cases = cases(&text);
            assert!(!cases.is_empty(), "{file} has none");
            for case in cases.iter().filter(|case| case.is_refused()) {
                let (messages, end) = read_all(&case.head(), true);
                assert!(messages.is_empty() && end.is_err(), "{file}: {}: {messages:?}", case.name);
            }
        }
    }

    #[test]
    fn compliant_requests_are_read_or_are_of_a_kind_that_is_known_to_be_refused() {
        for (file, text) in files("http-desync-guardian") {
            for case in cases(&text).iter().filter(|case| case.tier == "Compliant") {
                let head = case.head();
                let mut room = Fields::new();
                let read = request::read(&head, &LIMITS, &mut room).map(|read| read.expect("a whole head"));
                let coding = case.has("transfer-encoding");
                let expected = match (coding, case.has("content-length")) {
                    (Some(coding), _) if coding.contains(&b';') => Err(Cause::Malformed),
                    (Some(b"chunked"), _) => Ok(Framing::Chunked),
                    (Some(_), _) => Err(Cause::UnknownCoding),
                    // A fragment, bytes that are not ASCII, nothing at all: no target is so.
                    _ if case.uri.contains(&b'#') || !case.uri.is_ascii() || case.uri.is_empty() => {
                        Err(Cause::Malformed)
                    }
                    (None, Some(length)) => Ok(Framing::Length(str::from_utf8(length).unwrap().parse().unwrap())),
                    (None, None) => Ok(Framing::None),
                };
                let framing = read.as_ref().map(|(request, _)| request.framing).map_err(|wrong| wrong.cause);
                assert_eq!(framing, expected, "{file}: {}", case.name);
                if let Ok((request, length)) = read {
                    assert_eq!((request.target.as_bytes(), length), (&case.uri[..], head.len()));
                    assert_eq!(request.fields.len(), case.headers.len() + 1);
                }
            }
        }
    }
}

/// Messages with the events that llhttp, in strict or in lenient modes, reads in them.
mod llhttp {
    use super::*;

    #[derive(Debug, Default)]
    struct Case {
        heading: String,
        /// `request`, or `response-lenient-headers`.
        kind: String,
        input: Vec<u8>,
        /// The messages that are complete in its log.
        messages: Vec<Message>,
        /// The code of the error in its log, but for those that are pauses.
        error: Option<u32>,
    }

    /// llhttp's own errors: data after `Connection: close`, and pauses.
    const NO_ERRORS: [u32; 4] = [5, 21, 22, 23];

    fn cases(text: &str) -> Vec<Case> {
        let mut cases: Vec<Case> = Vec::new();
        let (mut heading, mut kind) = ("", None);
        let mut blocks = text.split("\n```");
        loop {
            let Some(prose) = blocks.next() else { return cases };
            for line in prose.lines() {
                if let Some(written) = line.strip_prefix('#') {
                    heading = written.trim_start_matches('#').trim();
                } else if let Some((_, meta)) = line.split_once("<!-- meta=") {
                    let skips = ["pause", "skipBody"].iter().any(|word| meta.contains(word));
                    kind = meta.split('"').nth(3).filter(|_| !skips);
                }
            }
            match (blocks.next().and_then(|block| block.split_once('\n')), kind) {
                (Some(("http", input)), Some(kind)) => {
                    let (heading, kind) = (heading.into(), kind.into());
                    cases.push(Case { heading, kind, input: unescape(input), ..Case::default() });
                }
                (Some(("log", log)), Some(_)) => read_log(log, cases.last_mut().unwrap()),
                _ => {}
            }
        }
    }

    /// Lines end by CRLF, and what is escaped is meant.
    fn unescape(input: &str) -> Vec<u8> {
        let input = input.replace("\\\n", "").replace('\n', "\r\n");
        let (mut bytes, mut rest) = (Vec::new(), &input[..]);
        while let Some((before, escaped)) = rest.split_once('\\') {
            bytes.extend(before.bytes());
            let (byte, length) = match escaped.as_bytes() {
                [b'r', ..] => (b'\r', 1),
                [b'n', ..] => (b'\n', 1),
                [b't', ..] => (b'\t', 1),
                [b'f', ..] => (0x0c, 1),
                [b'x', ..] => (u8::from_str_radix(&escaped[1..3], 16).unwrap(), 3),
                [b'0'..=b'3', b'0'..=b'7', b'0'..=b'7', ..] => (u8::from_str_radix(&escaped[..3], 8).unwrap(), 3),
                _ => (b'\\', 0),
            };
            bytes.push(byte);
            rest = &escaped[length..];
        }
        bytes.extend(rest.bytes());
        bytes
    }

    fn read_log(log: &str, case: &mut Case) {
        let (mut start, mut body) = (String::new(), Vec::new());
        for line in log.lines() {
            let span =
                |kind: &str| line.split_once(&format!(" span[{kind}]=\"")).map(|(_, rest)| &rest[..rest.len() - 1]);
            if let Some(method) = span("method") {
                start = format!("{method} ");
            } else if let Some(url) = span("url") {
                start.push_str(url);
            } else if let Some((_, status)) = line.split_once("headers complete status=") {
                start = status.split(' ').next().unwrap().into();
            } else if let Some(written) = span("body") {
                body.extend(unescape(written));
            } else if let Some((_, end)) = line.split_once(" span[body]=") {
                body.push(if end == "cr" { b'\r' } else { b'\n' });
            } else if line.ends_with(" message complete") {
                case.messages.push(Message { start: std::mem::take(&mut start), body: std::mem::take(&mut body) });
            } else if let Some((_, error)) = line.split_once(" error code=") {
                case.error = error.split(' ').next().unwrap().parse().ok().filter(|code| !NO_ERRORS.contains(code));
            }
        }
    }

    /// The input with a Host in each head that has none: that it is left out is not what the corpus is about.
    fn with_hosts(input: &[u8]) -> Vec<u8> {
        const LINE: &[u8] = b" HTTP/1.1\r\n";
        let (mut bytes, mut rest) = (Vec::new(), input);
        while let Some(at) = memchr::memmem::find(rest, LINE) {
            let (line, after) = rest.split_at(at + LINE.len());
            let head = memchr::memmem::find(after, b"\r\n\r\n").map_or(after, |end| &after[..end]);
            bytes.extend(line);
            if !head.to_ascii_lowercase().starts_with(b"host:")
                && !head.to_ascii_lowercase().windows(6).any(|six| six == b"\nhost:")
            {
                bytes.extend(b"Host: example.com\r\n");
            }
            rest = after;
        }
        bytes.extend(rest);
        bytes
    }

    /// What llhttp reads in its strict mode and is refused here, and as what.
    const STRICTER: [(Cause, &[&str]); 4] = [
        (
            Cause::Malformed,
            &[
                // More than one empty line between requests.
                "CRLF between requests, implicit `keep-alive`",
                "Funky `Content-Length` with body", // With GET.
                "No HTTP version",
                "SOURCE request with ICE",
                "OPTIONS request with RTSP",
                "ANNOUNCE request with RTSP",
                // `*` with another method than OPTIONS.
                "M-SEARCH request",
                "PRI request HTTP2",
                // Another authority than Host's.
                "Host terminated by a query string",
                "`host:port` terminated by a query string",
                "`host:port` terminated by a space",
                "`host:port` and basic auth",
                "Fragment in URI",
            ],
        ),
        (
            Cause::NotAllowed,
            &["CONNECT request", "CONNECT request with CAPS", "CONNECT with body", "Underscore in hostname"],
        ),
        (
            Cause::UnknownCoding,
            &[
                "POST with `chunked` as last transfer-encoding",
                "POST with `chunked` as last transfer-encoding (multiple headers)",
            ],
        ),
        (
            Cause::BadResponse,
            &[
                "HTTP 101 response with Upgrade and Content-Length header",
                "HTTP 101 response with Upgrade and Transfer-Encoding header",
                // An empty line before a response.
                "HTTP 304 with Content-Length",
                "HTTP 100 first, then 400",
                "Should parse multiple events",
                "Response starting with CRLF",
                "RTSP response",
                "ICE response",
                "HTTP version 0.9",
                "`chunked` before other transfer-encoding",
                "multiple transfer-encoding where chunked is not the last one",
                "`chunkedchunked` transfer-encoding does not enable chunked enconding",
            ],
        ),
    ];

    /// What llhttp refuses because it knows all methods by name; any token is one (RFC 9110 9.1).
    const METHODS: [&str; 2] = ["HTTP protocol and ANNOUNCE method", "Invalid method"];

    fn check(case: &Case, is_request: bool) {
        let mut input = if is_request { with_hosts(&case.input) } else { case.input.clone() };
        let is_lenient = case.kind.contains("-lenient-") && !case.kind.contains("keep-alive");
        let is_refused = case.error.is_some() || (is_lenient && !case.kind.contains("data-after-close"));
        if is_refused {
            // Some stop where llhttp knows enough; a head is judged when it is whole.
            input.extend(b"\r\n\r\n");
        }
        let (messages, end) = read_all(&input, is_request);
        let end = end.map_err(|wrong| wrong.cause);
        if is_refused {
            assert!(end.is_err() || METHODS.contains(&&case.heading[..]), "{case:?}: {messages:?}");
        } else if end.is_ok() {
            assert_eq!(messages, case.messages, "{case:?}");
        } else {
            let known = STRICTER.iter().find(|(_, headings)| headings.contains(&&case.heading[..]));
            assert_eq!(end.err(), known.map(|(cause, _)| *cause), "{case:?}");
        }
    }

    #[test]
    fn what_llhttp_refuses_is_refused_and_what_it_reads_is_read_alike_or_known_to_be_refused() {
        for (folder, is_request) in [("llhttp/request", true), ("llhttp/response", false)] {
            let files = files(folder);
            let cases: Vec<_> = files.iter().flat_map(|(_, text)| cases(text)).collect();
            assert!(files.is_empty() || cases.len() > 50, "{} of {folder}", cases.len());
            cases.iter().for_each(|case| check(case, is_request));
        }
    }
}
