//! How servers are checked: what is asked of them, how often, and how many answers decide.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Invalid, Millis};

/// Most bytes of a path, of what is sent, and of what is expected.
const BYTES_MAX: usize = 4096;
/// Most characters of a host: a name in DNS has 253, a port six more.
const HOST_MAX: usize = 260;
/// Shortest interval, in milliseconds.
const INTERVAL_MIN: u32 = 10;
/// Most results that have to agree.
const IN_A_ROW_MAX: u32 = 100;

/// How a server is checked. The default is to connect to it every 2 s: 3 failures and it is down, 2 successes and it is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Check {
    pub(crate) kind: CheckKind,
    /// From the begin of one check to that of the next; shorter while a server is in between.
    #[serde(deserialize_with = "interval")]
    pub(crate) interval: Millis,
    /// How long a check may take as a whole, connecting and answering.
    pub(crate) timeout: Millis,
    /// Failures in a row after which a server is down.
    #[serde(deserialize_with = "in_a_row")]
    pub(crate) fall: u32,
    /// Successes in a row after which it is up again.
    #[serde(deserialize_with = "in_a_row")]
    pub(crate) rise: u32,
}

impl Default for Check {
    fn default() -> Self {
        let two_seconds = Millis::from_duration_clamped(Duration::from_secs(2));
        Self { kind: CheckKind::default(), interval: two_seconds, timeout: two_seconds, fall: 3, rise: 2 }
    }
}

impl Check {
    /// A check of this kind, as often as the default.
    pub fn new(kind: CheckKind) -> Self {
        Self { kind, ..Self::default() }
    }

    /// The same check with another interval.
    ///
    /// # Errors
    /// Less than 10 ms.
    pub fn with_interval(mut self, interval: Millis) -> Result<Self, Invalid> {
        self.interval = check_interval(interval)?;
        Ok(self)
    }

    /// The same check with another time limit.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Millis) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same check with another number of failures in a row after which a server is down.
    ///
    /// # Errors
    /// Zero, or more than 100.
    pub fn with_fall(mut self, fall: u32) -> Result<Self, Invalid> {
        self.fall = check_in_a_row(fall).map_err(|reason| Invalid::new("fall", reason))?;
        Ok(self)
    }

    /// The same check with another number of successes in a row after which a server is up again.
    ///
    /// # Errors
    /// Zero, or more than 100.
    pub fn with_rise(mut self, rise: u32) -> Result<Self, Invalid> {
        self.rise = check_in_a_row(rise).map_err(|reason| Invalid::new("rise", reason))?;
        Ok(self)
    }

    /// What is asked of the server.
    pub fn kind(&self) -> &CheckKind {
        &self.kind
    }

    /// True unless servers are not checked at all.
    pub fn is_on(&self) -> bool {
        self.kind != CheckKind::Off
    }

    /// The time from the begin of one check to that of the next.
    pub fn interval(&self) -> Millis {
        self.interval
    }

    /// How long a check may take as a whole.
    pub fn timeout(&self) -> Millis {
        self.timeout
    }

    /// Failures in a row after which a server is down, 1 to 100.
    pub fn fall(&self) -> u32 {
        self.fall
    }

    /// Successes in a row after which it is up again, 1 to 100.
    pub fn rise(&self) -> u32 {
        self.rise
    }
}

impl fmt::Display for Check {
    /// Short, for lists: the kind, and for `http` the path.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(formatter)
    }
}

/// What a server has to do to pass.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CheckKind {
    /// Nothing: it counts as up.
    Off,
    /// Accept a connection, which is reset at once.
    #[default]
    Tcp,
    /// Complete a TLS handshake. Its certificate is **not** judged: any will do, expired and self-signed ones too.
    Tls,
    /// Answer a `GET` by HTTP/1.1.
    Http {
        /// What is asked for.
        path: HttpPath,
        /// The `Host` header; the server's address and port unless set.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host: Option<HttpHost>,
        /// The only status that passes; any of 200 to 399 unless set.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<HttpStatus>,
    },
    /// Say something particular, in whatever protocol.
    SendExpect {
        /// What is sent first; nothing if the server speaks first.
        send: Bytes,
        /// What has to be in the first 16 KiB of the answer, anywhere.
        #[serde(deserialize_with = "expected")]
        expect: Bytes,
    },
}

impl CheckKind {
    /// `http`: asks for `path`, and any status of 200 to 399 passes.
    ///
    /// # Errors
    /// See [`HttpPath::new`].
    pub fn http(path: &str) -> Result<Self, Invalid> {
        Ok(Self::Http { path: HttpPath::new(path)?, host: None, status: None })
    }

    /// `send_expect`.
    ///
    /// # Errors
    /// Nothing is expected, or more than 4096 bytes are sent or expected.
    pub fn send_expect(send: &[u8], expect: &[u8]) -> Result<Self, Invalid> {
        let send = Bytes::new(send).map_err(|reason| Invalid::new("send", reason))?;
        let expect = Bytes::new(expect).and_then(check_expected);
        Ok(Self::SendExpect { send, expect: expect.map_err(|reason| Invalid::new("expect", reason))? })
    }
}

impl fmt::Display for CheckKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => formatter.write_str("off"),
            Self::Tcp => formatter.write_str("tcp"),
            Self::Tls => formatter.write_str("tls"),
            Self::Http { path, .. } => write!(formatter, "http {}", path.as_str()),
            Self::SendExpect { .. } => formatter.write_str("send_expect"),
        }
    }
}

/// A path as it stands in a request line: from `/` on, without spaces, control characters or other than ASCII, so that it
/// can't end the line. Anything else has to be written in percent-encoding (RFC 3986).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HttpPath(Box<str>);

impl HttpPath {
    /// Checks a path.
    ///
    /// # Errors
    /// It does not begin with `/`, has a character that is not allowed, or is longer than 4096 bytes.
    pub fn new(path: &str) -> Result<Self, Invalid> {
        let refuse = |reason: String| Err(Invalid::new("path", reason));
        if !path.starts_with('/') {
            return refuse(format!("{path:?} does not begin with '/'"));
        }
        if let Some(wrong) = path.chars().find(|character| !character.is_ascii_graphic()) {
            return refuse(format!("{wrong:?} in a path: write it in percent-encoding"));
        }
        if path.len() > BYTES_MAX {
            return refuse(format!("a path of {} bytes, {BYTES_MAX} at most are possible", path.len()));
        }
        Ok(Self(path.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A host as it stands in a `Host` header, with or without a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HttpHost(Box<str>);

impl HttpHost {
    /// Checks a host.
    ///
    /// # Errors
    /// It is empty, longer than 260 characters, or has others than letters, digits, `.`, `-`, `_`, `:`, `[` and `]`.
    pub fn new(host: &str) -> Result<Self, Invalid> {
        let refuse = |reason: String| Err(Invalid::new("host", reason));
        let is_allowed = |character: char| character.is_ascii_alphanumeric() || ".-_:[]".contains(character);
        if let Some(wrong) = host.chars().find(|character| !is_allowed(*character)) {
            return refuse(format!(
                "{wrong:?} in a host: letters, digits, '.', '-', '_', ':', '[' and ']' are allowed"
            ));
        }
        match host.len() {
            0 => refuse("an empty host: leave it out for the server's address".to_owned()),
            1..=HOST_MAX => Ok(Self(host.into())),
            length => refuse(format!("a host of {length} characters, {HOST_MAX} at most are possible")),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A final status of HTTP: 200 to 599.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u16")]
pub struct HttpStatus(u16);

impl HttpStatus {
    /// Checks a status.
    ///
    /// # Errors
    /// Less than 200, or more than 599.
    pub fn new(status: u32) -> Result<Self, Invalid> {
        match status {
            200..=599 => Ok(Self(status as u16)),
            _ => Err(Invalid::new("status", format!("status {status} is not in 200 to 599"))),
        }
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

/// Up to 4096 bytes. As text each character stands for one byte, U+0000 to U+00FF: `"PING\r\n"`, and in
/// RON `"\x7f\u{80}"` (its `\x` ends at 7f).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(Box<[u8]>);

impl Bytes {
    fn new(bytes: &[u8]) -> Result<Self, String> {
        match bytes.len() {
            0..=BYTES_MAX => Ok(Self(bytes.into())),
            length => Err(format!("{length} bytes, {BYTES_MAX} at most are possible")),
        }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{}\"", self.0.escape_ascii())
    }
}

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let byte = |character| {
            u8::try_from(character).map_err(|_| {
                format!("{character:?} is not one byte: characters up to U+00FF are, others write as several")
            })
        };
        Self::new(&text.chars().map(byte).collect::<Result<Vec<u8>, String>>()?)
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        bytes.0.iter().copied().map(char::from).collect()
    }
}

impl TryFrom<String> for HttpPath {
    type Error = String;

    fn try_from(path: String) -> Result<Self, String> {
        Self::new(&path).map_err(|invalid| invalid.reason)
    }
}

impl From<HttpPath> for String {
    fn from(path: HttpPath) -> Self {
        path.0.into()
    }
}

impl TryFrom<String> for HttpHost {
    type Error = String;

    fn try_from(host: String) -> Result<Self, String> {
        Self::new(&host).map_err(|invalid| invalid.reason)
    }
}

impl From<HttpHost> for String {
    fn from(host: HttpHost) -> Self {
        host.0.into()
    }
}

impl TryFrom<u32> for HttpStatus {
    type Error = String;

    fn try_from(status: u32) -> Result<Self, String> {
        Self::new(status).map_err(|invalid| invalid.reason)
    }
}

impl From<HttpStatus> for u16 {
    fn from(status: HttpStatus) -> Self {
        status.0
    }
}

fn check_interval(interval: Millis) -> Result<Millis, Invalid> {
    match interval.as_millis() {
        INTERVAL_MIN.. => Ok(interval),
        _ => {
            Err(Invalid::new("interval", format!("{interval} between checks, {INTERVAL_MIN}ms at least are possible")))
        }
    }
}

fn check_in_a_row(count: u32) -> Result<u32, String> {
    match count {
        1..=IN_A_ROW_MAX => Ok(count),
        _ => Err(format!("{count} results in a row, 1 to {IN_A_ROW_MAX} are possible")),
    }
}

fn check_expected(expect: Bytes) -> Result<Bytes, String> {
    match expect.0.is_empty() {
        true => Err("nothing to expect: use the kind tcp".to_owned()),
        false => Ok(expect),
    }
}

fn interval<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Millis, D::Error> {
    check_interval(Millis::deserialize(deserializer)?).map_err(|invalid| serde::de::Error::custom(invalid.reason))
}

fn in_a_row<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    check_in_a_row(u32::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn expected<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    check_expected(Bytes::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(json: &str) -> Result<Check, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_out_is_as_the_default() {
        assert_eq!(read("{}"), Ok(Check::default()));
        let check = Check::default();
        assert_eq!((check.interval().as_millis(), check.timeout().as_millis()), (2_000, 2_000));
        assert_eq!((check.fall(), check.rise(), check.kind()), (3, 2, &CheckKind::Tcp));
        let kind = r#"{"kind":{"http":{"path":"/health"}},"interval":"5s"}"#;
        let five_seconds = Millis::new(Duration::from_secs(5)).unwrap();
        assert_eq!(
            read(kind),
            Check::new(CheckKind::http("/health").unwrap()).with_interval(five_seconds).map_err(|_| String::new())
        );
    }

    #[test]
    fn every_kind_is_read_as_it_was_written() {
        let http = CheckKind::Http {
            path: HttpPath::new("/a?b=%20").unwrap(),
            host: Some(HttpHost::new("[::1]:8080").unwrap()),
            status: Some(HttpStatus::new(503).unwrap()),
        };
        let all = [
            CheckKind::Off,
            CheckKind::Tcp,
            CheckKind::Tls,
            CheckKind::http("/").unwrap(),
            http,
            CheckKind::send_expect(b"PING\r\n", b"+PONG").unwrap(),
            CheckKind::send_expect(&(0..=255).collect::<Vec<u8>>(), &[0x80]).unwrap(),
        ];
        for check in all.map(Check::new) {
            let json = serde_json::to_string(&check).unwrap();
            assert_eq!(read(&json), Ok(check), "{json}");
        }
    }

    #[test]
    fn what_could_smuggle_a_request_or_never_pass_is_refused_with_a_reason() {
        let long = format!(r#"{{"kind":{{"http":{{"path":"/{}"}}}}}}"#, "a".repeat(4096));
        let cases = [
            (r#"{"kind":{"http":{"path":"health"}}}"#, "does not begin with '/'"),
            (r#"{"kind":{"http":{"path":"/a b"}}}"#, "' ' in a path"),
            (r#"{"kind":{"http":{"path":"/\r\nX: y"}}}"#, "'\\r' in a path"),
            (r#"{"kind":{"http":{"path":"/\u00e9"}}}"#, "'é' in a path"),
            (&long, "a path of 4097 bytes"),
            (r#"{"kind":{"http":{"path":"/","host":"a\nb"}}}"#, "'\\n' in a host"),
            (r#"{"kind":{"http":{"path":"/","host":""}}}"#, "an empty host"),
            (r#"{"kind":{"http":{"path":"/","status":100}}}"#, "status 100 is not in 200 to 599"),
            (r#"{"kind":{"http":{"path":"/","port":1}}}"#, "unknown field `port`"),
            (r#"{"kind":{"http":{}}}"#, "missing field `path`"),
            (r#"{"kind":{"send_expect":{"send":"a","expect":""}}}"#, "nothing to expect"),
            (r#"{"kind":{"send_expect":{"send":"\u0100","expect":"a"}}}"#, "'Ā' is not one byte"),
            (r#"{"kind":"udp"}"#, "unknown variant `udp`"),
            (r#"{"fall":0}"#, "0 results in a row, 1 to 100 are possible"),
            (r#"{"rise":101}"#, "101 results in a row"),
            (r#"{"interval":"9ms"}"#, "9ms between checks, 10ms at least"),
            (r#"{"timeout":"0s"}"#, "can't be zero"),
            (r#"{"colour":1}"#, "unknown field `colour`"),
        ];
        for (json, expected) in cases {
            let error = read(json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }

    #[test]
    fn lists_show_the_kind_and_the_path() {
        let shown = |kind: CheckKind| Check::new(kind).to_string();
        assert_eq!(shown(CheckKind::Tls), "tls");
        assert_eq!(shown(CheckKind::http("/health").unwrap()), "http /health");
        assert_eq!(shown(CheckKind::send_expect(b"a", b"b").unwrap()), "send_expect");
    }

    proptest! {
        #[test]
        fn any_bytes_survive_as_text(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let written = String::from(Bytes::new(&bytes).unwrap());
            let read = Bytes::try_from(written).unwrap();
            prop_assert_eq!(read.as_slice(), &bytes[..]);
        }
    }
}
