//! How clients stay on their servers: by a cookie, by their address, and the key that cookies are made with.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::failover::argument;
use super::text::{Assignments, assignments, bounded, by_text, number, parsed, within};
use super::{Invalid, Millis};

/// Longest name, domain or path of a cookie, in bytes.
const TEXT_MAX: usize = 256;
/// The longest that browsers keep a cookie: 400 days (RFC 6265bis, 5.5), in seconds.
const AGE_MAX: u64 = 400 * 24 * 3600;

/// The name of a cookie: a token (RFC 6265, 4.1.1).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CookieName(Arc<str>);

impl CookieName {
    /// Checks a name.
    ///
    /// # Errors
    /// Empty, longer than 256 bytes, or with a character that a token can't have.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        match text.len() {
            1..=TEXT_MAX if text.bytes().all(is_token) => Ok(Self(text.into())),
            _ => Err(Invalid::new(
                "name",
                format!("{text:?} is no cookie's name: 1 to {TEXT_MAX} letters, digits and of !#$%&'*+-.^_`|~"),
            )),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether browsers take a cookie of this name only over TLS.
    pub(crate) fn is_for_tls(&self) -> bool {
        let has = |prefix: &str| self.0.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        has("__Secure-") || self.is_for_host()
    }

    /// Whether browsers take a cookie of this name only without a domain, and for all paths.
    pub(crate) fn is_for_host(&self) -> bool {
        self.0.get(.."__Host-".len()).is_some_and(|start| start.eq_ignore_ascii_case("__Host-"))
    }
}

/// The domain of a cookie: browsers send it to its subdomains too.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CookieDomain(Arc<str>);

impl CookieDomain {
    /// Checks a domain.
    ///
    /// # Errors
    /// Not a DNS name, with or without a dot in front.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let name = text.strip_prefix('.').unwrap_or(text);
        match rustls::pki_types::DnsName::try_from(name) {
            Ok(_) if name.len() <= TEXT_MAX => Ok(Self(text.into())),
            _ => Err(Invalid::new("domain", format!("{text:?} is not a DNS name"))),
        }
    }

    /// The domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The path of a cookie: browsers send it for what is under it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CookiePath(Arc<str>);

impl CookiePath {
    /// Checks a path.
    ///
    /// # Errors
    /// It does not begin with `/`, is longer than 256 bytes, or has a character that ends it in a cookie or a list.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let may_stand = |byte: u8| byte.is_ascii_graphic() && !b";,\"\\".contains(&byte);
        match text.len() {
            ..=TEXT_MAX if text.starts_with('/') && text.bytes().all(may_stand) => Ok(Self(text.into())),
            _ => Err(Invalid::new(
                "path",
                format!(
                    "{text:?} is no cookie's path: it begins with /, has at most {TEXT_MAX} bytes and none of ;,\"\\ or space"
                ),
            )),
        }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CookieName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for CookieDomain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for CookiePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

by_text!(CookieName);
by_text!(CookieDomain);
by_text!(CookiePath);

/// How long a browser keeps a cookie, in whole seconds: `"1h"`, `"30days"`; 1 second to 400 days.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CookieAge(u32);

impl CookieAge {
    /// Checks a duration.
    ///
    /// # Errors
    /// Not a duration of whole seconds, none at all, or longer than browsers keep a cookie: 400 days.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let refuse = |reason: String| Err(Invalid::new("max_age", format!("{text:?} {reason}")));
        match humantime::parse_duration(text) {
            Ok(age) if age.subsec_nanos() == 0 && (1..=AGE_MAX).contains(&age.as_secs()) => {
                Ok(Self(age.as_secs() as u32))
            }
            Ok(_) => refuse("is not in 1 second to 400 days, in whole seconds".to_owned()),
            Err(error) => refuse(format!("is not a duration ({error}): write \"1h\" or \"30days\"")),
        }
    }

    /// The number of seconds.
    pub fn as_seconds(self) -> u32 {
        self.0
    }
}

impl fmt::Display for CookieAge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(Duration::from_secs(self.0.into())).fmt(formatter)
    }
}

by_text!(CookieAge);

/// Whose cookie says which server a client stays on. Written `insert`, `passive("JSESSIONID")`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CookieMode {
    /// One of our own, which responses are given.
    #[default]
    Insert,
    /// The application's, of this name: it is remembered which server gave it which value.
    Passive(CookieName),
}

impl fmt::Display for CookieMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Insert => formatter.write_str("insert"),
            Self::Passive(name) => write!(formatter, "passive({name})"),
        }
    }
}

impl FromStr for CookieMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, argument(text, "passive")) {
            ("insert", _) => Ok(Self::Insert),
            (_, Some(name)) => CookieName::new(name).map(Self::Passive).map_err(|invalid| invalid.reason),
            _ => Err(format!("{text:?} is neither insert nor passive(NAME)")),
        }
    }
}

/// The cookie of a frontend with cookie persistence. Written `(name: "LBSERVER", max_age: "1h", strip: true)`, or as text
/// `name=LBSERVER,max_age=1h,strip=true`; what is not written has its default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CookieSettings {
    name: CookieName,
    mode: CookieMode,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age: Option<CookieAge>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<CookieDomain>,
    path: CookiePath,
    strip: bool,
}

impl Default for CookieSettings {
    fn default() -> Self {
        Self {
            name: CookieName("LBSERVER".into()),
            mode: CookieMode::Insert,
            max_age: None,
            domain: None,
            path: CookiePath("/".into()),
            strip: false,
        }
    }
}

impl CookieSettings {
    /// The same under another name.
    #[must_use]
    pub fn with_name(mut self, name: CookieName) -> Self {
        self.name = name;
        self
    }

    /// The same in another mode.
    #[must_use]
    pub fn with_mode(mut self, mode: CookieMode) -> Self {
        self.mode = mode;
        self
    }

    /// The same, kept by browsers for this long, or until they are closed.
    #[must_use]
    pub fn with_max_age(mut self, max_age: Option<CookieAge>) -> Self {
        self.max_age = max_age;
        self
    }

    /// The same for this domain with its subdomains, or only for the host that gives it; and for what is under this path.
    #[must_use]
    pub fn with_scope(mut self, domain: Option<CookieDomain>, path: CookiePath) -> Self {
        (self.domain, self.path) = (domain, path);
        self
    }

    /// The same, taken out of requests before they go to a server, or not.
    #[must_use]
    pub fn with_strip(mut self, strip: bool) -> Self {
        self.strip = strip;
        self
    }

    /// The name of our own cookie.
    pub fn name(&self) -> &CookieName {
        &self.name
    }

    /// Whose cookie it is.
    pub fn mode(&self) -> &CookieMode {
        &self.mode
    }

    /// How long browsers keep it; `None` is until they are closed.
    pub fn max_age(&self) -> Option<CookieAge> {
        self.max_age
    }

    /// The domain that it is for; `None` is the host that gives it.
    pub fn domain(&self) -> Option<&CookieDomain> {
        self.domain.as_ref()
    }

    /// The path that it is for.
    pub fn path(&self) -> &CookiePath {
        &self.path
    }

    /// Whether it is taken out of requests before they go to a server.
    pub fn strip(&self) -> bool {
        self.strip
    }

    /// What its fields must be together.
    ///
    /// # Errors
    /// A name that browsers take only of a host and for all paths, with a domain or another path.
    pub(crate) fn check_whole(&self) -> Result<(), Invalid> {
        let is_for_host = self.domain.is_none() && self.path.as_str() == "/";
        match self.mode == CookieMode::Insert && self.name.is_for_host() && !is_for_host {
            true => Err(Invalid::new(
                "cookie",
                format!("browsers take a cookie {} only without domain and with path: \"/\"", self.name),
            )),
            false => Ok(()),
        }
    }
}

impl FromStr for CookieSettings {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut settings = Self::default();
        assignments("cookie", text, &["name", "mode", "max_age", "domain", "path", "strip"], |name, value| {
            match name {
                "name" => settings.name = checked(CookieName::new(value))?,
                "mode" => settings.mode = parsed(value)?,
                "max_age" => settings.max_age = Some(checked(CookieAge::new(value))?),
                "domain" => settings.domain = Some(checked(CookieDomain::new(value))?),
                "path" => settings.path = checked(CookiePath::new(value))?,
                _ => settings.strip = parsed(value)?,
            }
            Ok(())
        })?;
        Ok(settings)
    }
}

fn checked<T>(value: Result<T, Invalid>) -> Result<T, String> {
    value.map_err(|invalid| invalid.reason)
}

impl fmt::Display for CookieSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = Assignments::default()
            .with("name", &self.name)
            .with("mode", &self.mode)
            .with_if("max_age", self.max_age)
            .with_if("domain", self.domain.as_ref())
            .with("path", &self.path)
            .with("strip", self.strip);
        formatter.write_str(written.text())
    }
}

const SIZE_MAX: u32 = 100_000_000;

/// How a frontend remembers which server a client's address went to. Written `(ttl: "30m", size: 1000000)`, or as text
/// `ttl=30m,size=1000000`; what is not written has its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IpPersistence {
    ttl: Millis,
    #[serde(deserialize_with = "bounded::<_, 1, SIZE_MAX>")]
    size: u32,
    #[serde(deserialize_with = "bounded::<_, 1, 32>")]
    prefix_v4: u32,
    #[serde(deserialize_with = "bounded::<_, 1, 128>")]
    prefix_v6: u32,
}

impl Default for IpPersistence {
    fn default() -> Self {
        Self { ttl: Millis::from_secs(30 * 60), size: 1_000_000, prefix_v4: 32, prefix_v6: 64 }
    }
}

impl IpPersistence {
    /// The same with another time that a client is remembered for after its last connection or request.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Millis) -> Self {
        self.ttl = ttl;
        self
    }

    /// The same for another number of clients.
    ///
    /// # Errors
    /// None, or more than 100 000 000.
    pub fn with_size(mut self, size: u32) -> Result<Self, Invalid> {
        self.size = within(size, 1, SIZE_MAX).map_err(|reason| refused("size", &reason))?;
        Ok(self)
    }

    /// The same, with addresses told apart by their first bits only: of IPv4 and of IPv6.
    ///
    /// # Errors
    /// None of the bits, or more than an address has.
    pub fn with_prefixes(mut self, v4: u32, v6: u32) -> Result<Self, Invalid> {
        self.prefix_v4 = within(v4, 1, 32).map_err(|reason| refused("prefix_v4", &reason))?;
        self.prefix_v6 = within(v6, 1, 128).map_err(|reason| refused("prefix_v6", &reason))?;
        Ok(self)
    }

    /// How long a client is remembered after its last connection or request.
    pub fn ttl(&self) -> Millis {
        self.ttl
    }

    /// Most clients that are remembered at once; the one that was not seen for the longest gives way.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// By how many of its first bits an IPv4 address is known: 1 to 32.
    pub fn prefix_v4(&self) -> u8 {
        self.prefix_v4 as u8
    }

    /// By how many of its first bits an IPv6 address is known: 1 to 128.
    pub fn prefix_v6(&self) -> u8 {
        self.prefix_v6 as u8
    }
}

fn refused(name: &str, reason: &str) -> Invalid {
    Invalid::new("ip_persistence", format!("{name}: {reason}"))
}

impl FromStr for IpPersistence {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut settings = Self::default();
        assignments("ip_persistence", text, &["ttl", "size", "prefix_v4", "prefix_v6"], |name, value| {
            match name {
                "ttl" => settings.ttl = parsed(value)?,
                "size" => settings.size = number(value, 1, SIZE_MAX)?,
                "prefix_v4" => settings.prefix_v4 = number(value, 1, 32)?,
                _ => settings.prefix_v6 = number(value, 1, 128)?,
            }
            Ok(())
        })?;
        Ok(settings)
    }
}

impl fmt::Display for IpPersistence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = Assignments::default()
            .with("ttl", self.ttl)
            .with("size", self.size)
            .with("prefix_v4", self.prefix_v4)
            .with("prefix_v6", self.prefix_v6);
        formatter.write_str(written.text())
    }
}

/// The key that the values of cookies are made with: 32 bytes, written as 64 hexadecimal digits. No `Debug` shows it. Balancers
/// that share it send a client with a cookie to the same server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PersistenceKey(Arc<[u8; 32]>);

impl PersistenceKey {
    /// The key of these bytes. Whoever can guess them can choose his server.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Arc::new(bytes))
    }

    /// The bytes. They must not be shown to anybody.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key as it is written. It must not be shown to anybody who is not to choose his server.
    pub fn expose_text(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl FromStr for PersistenceKey {
    type Err = Invalid;

    /// Never repeats what was given: it may be a key with a slip in it.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
        let mut bytes = [0; 32];
        let is_whole = text.len() == 2 * bytes.len()
            && bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)).all(|(byte, pair)| {
                digit(pair[0]).zip(digit(pair[1])).map(|(high, low)| *byte = high << 4 | low).is_some()
            });
        match is_whole {
            true => Ok(Self::new(bytes)),
            false => {
                let reason = "a key is 64 hexadecimal digits: `openssl rand -hex 32` makes one";
                Err(Invalid::new("persistence_key", reason))
            }
        }
    }
}

impl TryFrom<String> for PersistenceKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|invalid: Invalid| invalid.reason)
    }
}

impl From<PersistenceKey> for String {
    fn from(key: PersistenceKey) -> Self {
        key.expose_text()
    }
}

impl fmt::Debug for PersistenceKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}
