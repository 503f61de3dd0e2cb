//! What the configuration file says of the process itself: what it logs, and where it shows how it does.
//!
//! These settings hold from the start of the process to its end. Paths are relative to the configuration's folder.

use std::net::SocketAddr;
use std::path::PathBuf;

use lb_core::config::{Invalid, Name};
use serde::de::{Error, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

use crate::ron_text;

/// The settings of the process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where metrics are served; `None` is nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsAt>,
    /// The console; `None` is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console: Option<ConsoleSettings>,
    /// The log.
    pub log: LogSettings,
    /// The access log; `None` is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLogSettings>,
}

impl Settings {
    /// The names of the settings, as they are written in the configuration.
    pub(crate) const NAMES: &[&str] = &["metrics", "console", "log", "access_log"];

    /// What `wanted` has otherwise, a sentence for each.
    pub(crate) fn differences(&self, wanted: &Self) -> Vec<String> {
        let same = [
            self.metrics == wanted.metrics,
            self.console == wanted.console,
            self.log == wanted.log,
            self.access_log == wanted.access_log,
        ];
        let different = Self::NAMES.iter().zip(same).filter(|(_, same)| !same);
        let say = |(name, _)| format!("{name} is set otherwise than in force: it is used from the next start on");
        different.map(say).collect()
    }
}

/// Where metrics are served: `"127.0.0.1:9101"`, or the path of a Unix socket, which has a `/` in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum MetricsAt {
    /// A TCP address; with port 0 the kernel chooses.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl TryFrom<String> for MetricsAt {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.contains('/') {
            return Ok(Self::Unix(PathBuf::from(text)));
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            format!(
                "{text:?} is neither an address with a port, as \"127.0.0.1:9101\", nor a path, as \"/run/lb/lb.sock\""
            )
        })
    }
}

impl From<MetricsAt> for String {
    fn from(at: MetricsAt) -> Self {
        match at {
            MetricsAt::Tcp(addr) => addr.to_string(),
            MetricsAt::Unix(path) => path.display().to_string(),
        }
    }
}

/// The console: `"127.0.0.1:8404"`, or `(bind: "0.0.0.0:8404", certificate: "site", password_file: "console.password")`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConsoleSettings {
    bind: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_file: Option<PathBuf>,
}

impl ConsoleSettings {
    /// Checks that nobody but this machine reaches the console without TLS and a password.
    ///
    /// # Errors
    /// It is not on a loopback address, and has no certificate or no password.
    pub fn new(bind: SocketAddr, certificate: Option<Name>, password_file: Option<PathBuf>) -> Result<Self, Invalid> {
        if !bind.ip().to_canonical().is_loopback() && (certificate.is_none() || password_file.is_none()) {
            let reason = format!(
                "{bind} can be reached from other machines: give the console a certificate and a password_file too, or \
                 bind it to 127.0.0.1"
            );
            return Err(Invalid::new("console", reason));
        }
        Ok(Self { bind, certificate, password_file })
    }

    /// Where it listens; with port 0 the kernel chooses.
    pub fn bind(&self) -> SocketAddr {
        self.bind
    }

    /// The name of the pair that it speaks TLS with; `None` is no TLS.
    pub fn certificate(&self) -> Option<&Name> {
        self.certificate.as_ref()
    }

    /// The file with what the password is recognised by; `None` is a login by token.
    pub fn password_file(&self) -> Option<&PathBuf> {
        self.password_file.as_ref()
    }
}

impl<'de> Deserialize<'de> for ConsoleSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ConsoleVisitor)
    }
}

struct ConsoleVisitor;

impl<'de> Visitor<'de> for ConsoleVisitor {
    type Value = ConsoleSettings;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("\"127.0.0.1:8404\" or (bind: …, certificate: …, password_file: …)")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ConsoleSettings, E> {
        ConsoleSettings::new(console_bind(text).map_err(E::custom)?, None, None)
            .map_err(|found| E::custom(found.reason))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ConsoleSettings, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            bind: String,
            certificate: Option<Name>,
            password_file: Option<PathBuf>,
        }
        let Fields { bind, certificate, password_file } = Fields::deserialize(MapAccessDeserializer::new(map))?;
        let bind = console_bind(&bind).map_err(A::Error::custom)?;
        ConsoleSettings::new(bind, certificate, password_file).map_err(|found| A::Error::custom(found.reason))
    }
}

fn console_bind(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is no address with a port, as \"127.0.0.1:8404\""))
}

/// The log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// What a line looks like. journald has fields of its own: it gets those instead.
    pub format: LogFormat,
    /// Where it goes.
    pub to: LogTarget,
    /// What is logged.
    pub level: LogLevel,
}

/// What a line of a log looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object.
    Json,
}

/// Where the log goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogTarget {
    /// Standard error.
    #[default]
    Stderr,
    /// systemd's journal, by its own protocol.
    Journald,
}

/// What is logged: `info`, or levels by the part of the program, `info,lb_core::control=debug`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogLevel(String);

impl LogLevel {
    const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

    /// Checks a level.
    ///
    /// # Errors
    /// One that is not known, or a part of the program that can't be one.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        for directive in text.split(',') {
            let (target, level) =
                directive.split_once('=').map_or((None, directive), |(target, level)| (Some(target), level));
            if !Self::LEVELS.contains(&level) {
                return Err(Invalid::new("level", ron_text::unknown("level", level, Self::LEVELS)));
            }
            let is_module = |name: &str| {
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
            };
            if let Some(target) = target.filter(|target| !is_module(target)) {
                let reason = format!("{target:?} is no part of the program: write for example \"info,lb_core=debug\"");
                return Err(Invalid::new("level", reason));
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for LogLevel {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl TryFrom<String> for LogLevel {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text).map_err(|invalid| invalid.reason)
    }
}

impl From<LogLevel> for String {
    fn from(level: LogLevel) -> Self {
        level.0
    }
}

/// The access log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLogSettings {
    /// Where it goes.
    pub to: AccessTarget,
    /// What a line looks like. journald has fields of its own: it gets those instead.
    pub format: AccessFormat,
    /// What is told of each connection or request, in this order.
    pub fields: AccessFields,
}

/// Where the access log goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessTarget {
    /// Standard error.
    #[default]
    Stderr,
    /// systemd's journal, by its own protocol.
    Journald,
    /// A file, which is opened anew on SIGUSR1 and when it was moved away.
    File(PathBuf),
}

/// What a line of the access log looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessFormat {
    /// One object; what is not known is left out.
    #[default]
    Json,
    /// The values, a space between each two; `-` is what is not known.
    Text,
}

/// The fields of the access log: at least one, none twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<AccessField>", into = "Vec<AccessField>")]
pub struct AccessFields(Vec<AccessField>);

impl AccessFields {
    /// Checks a list of fields.
    ///
    /// # Errors
    /// There is none, or one is there twice.
    pub fn new(fields: Vec<AccessField>) -> Result<Self, Invalid> {
        if fields.is_empty() {
            return Err(Invalid::new(
                "fields",
                "an access log without fields says nothing: leave it out for those by default",
            ));
        }
        let twice = fields.iter().enumerate().find(|(index, field)| fields[..*index].contains(field));
        match twice {
            Some((_, field)) => Err(Invalid::new("fields", format!("{} is there twice", field.name()))),
            None => Ok(Self(fields)),
        }
    }

    /// The fields in their order.
    pub fn as_slice(&self) -> &[AccessField] {
        &self.0
    }
}

impl Default for AccessFields {
    fn default() -> Self {
        use AccessField as Field;
        Self(vec![
            Field::Time,
            Field::Frontend,
            Field::Client,
            Field::Server,
            Field::End,
            Field::DurationMs,
            Field::ConnectMs,
            Field::FirstByteMs,
            Field::BytesToServer,
            Field::BytesToClient,
            Field::TlsVersion,
            Field::Method,
            Field::Host,
            Field::Target,
            Field::Status,
            Field::Cause,
        ])
    }
}

impl TryFrom<Vec<AccessField>> for AccessFields {
    type Error = String;

    fn try_from(fields: Vec<AccessField>) -> Result<Self, String> {
        Self::new(fields).map_err(|invalid| invalid.reason)
    }
}

impl From<AccessFields> for Vec<AccessField> {
    fn from(fields: AccessFields) -> Self {
        fields.0
    }
}

/// What can be told of a connection or request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
#[allow(missing_docs, reason = "CONFIGURATION.md lists them; they are those of `AccessRecord`")]
pub enum AccessField {
    Time,
    Shard,
    Frontend,
    Client,
    Server,
    ServerAddr,
    Tries,
    End,
    DurationMs,
    UntilServerMs,
    ConnectMs,
    FirstByteMs,
    BytesToServer,
    BytesToClient,
    TlsVersion,
    TlsResumed,
    Method,
    Host,
    Target,
    Status,
    Cause,
    Reused,
}

impl AccessField {
    const ALL: [(&str, Self); 22] = [
        ("time", Self::Time),
        ("shard", Self::Shard),
        ("frontend", Self::Frontend),
        ("client", Self::Client),
        ("server", Self::Server),
        ("server_addr", Self::ServerAddr),
        ("tries", Self::Tries),
        ("end", Self::End),
        ("duration_ms", Self::DurationMs),
        ("until_server_ms", Self::UntilServerMs),
        ("connect_ms", Self::ConnectMs),
        ("first_byte_ms", Self::FirstByteMs),
        ("bytes_to_server", Self::BytesToServer),
        ("bytes_to_client", Self::BytesToClient),
        ("tls_version", Self::TlsVersion),
        ("tls_resumed", Self::TlsResumed),
        ("method", Self::Method),
        ("host", Self::Host),
        ("target", Self::Target),
        ("status", Self::Status),
        ("cause", Self::Cause),
        ("reused", Self::Reused),
    ];

    /// Its name in the configuration and in JSON.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

impl TryFrom<String> for AccessField {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        let names = Self::ALL.map(|(name, _)| name);
        found.map(|(_, field)| *field).ok_or_else(|| ron_text::unknown("field", &text, &names))
    }
}

impl From<AccessField> for &'static str {
    fn from(field: AccessField) -> Self {
        field.name()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::parse_config;

    use super::*;

    const ALL: &str = r#"
(
    metrics: "127.0.0.1:9101",
    frontends: [],
    console: (bind: "0.0.0.0:8404", certificate: "site", password_file: "console.password"),
    log: (format: json, to: journald, level: "info,lb_core::control=debug"),
    certificates: [(name: "site", chain: "site.pem", key: "site.key")],
    access_log: (to: file("/var/log/lb/access.log"), format: text, fields: ["client", "time"]),
    shards: 2,
)
"#;

    fn settings(text: &str) -> Settings {
        parse_config(text).unwrap_or_else(|error| panic!("{text}: {error}")).1
    }

    #[test]
    fn settings_stand_between_the_fields_of_the_balancer() {
        let (config, settings) = parse_config(ALL).unwrap();
        assert_eq!((config.shards, config.certificates.len()), (Some(2), 1));
        assert_eq!(settings.metrics, Some(MetricsAt::Tcp("127.0.0.1:9101".parse().unwrap())));
        let console = settings.console.unwrap();
        assert_eq!(console.bind(), "0.0.0.0:8404".parse().unwrap());
        assert_eq!(console.certificate().map(Name::as_str), Some("site"));
        assert_eq!(console.password_file(), Some(&PathBuf::from("console.password")));
        let level = LogLevel::new("info,lb_core::control=debug").unwrap();
        assert_eq!(settings.log, LogSettings { format: LogFormat::Json, to: LogTarget::Journald, level });
        let access_log = settings.access_log.unwrap();
        assert_eq!(access_log.to, AccessTarget::File("/var/log/lb/access.log".into()));
        assert_eq!(access_log.format, AccessFormat::Text);
        assert_eq!(access_log.fields.as_slice(), [AccessField::Client, AccessField::Time]);
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let log = settings("(log: (level: \"debug\"))").log;
        assert_eq!((log.format, log.to, log.level.as_str()), (LogFormat::Text, LogTarget::Stderr, "debug"));
        assert_eq!(settings("(access_log: ())").access_log, Some(AccessLogSettings::default()));
        assert_eq!(settings("(metrics: \"./lb.sock\")").metrics, Some(MetricsAt::Unix("./lb.sock".into())));
        assert_eq!(settings("(console: \"[::1]:0\")").console.unwrap().bind(), "[::1]:0".parse().unwrap());
    }

    #[test]
    fn settings_are_read_again_as_they_are_written() {
        for text in [ALL, "()", "(metrics: \"/run/lb/metrics.sock\", console: \"127.0.0.1:8404\", access_log: ())"] {
            let settings = settings(text);
            let written = ron_text::write(&settings).unwrap();
            assert_eq!(ron_text::read(&written), Ok(settings), "{written}");
        }
    }

    #[test]
    fn a_wrong_setting_is_pointed_at() {
        let cases = [
            (
                "metrics: \"9101\"",
                "2:12: metrics: \"9101\" is neither an address with a port, as \"127.0.0.1:9101\", nor",
            ),
            ("metrics: \"a/b\", metrics: \"a/b\"", "2:18: metrics is there twice"),
            ("metricks: \"a/b\"", "2:2: unknown field \"metricks\", did you mean \"metrics\"?"),
            ("console: \"0.0.0.0:80\"", "2:12: 0.0.0.0:80 can be reached from other machines: give the console"),
            ("console: (bind: \"10.0.0.1:80\", certificate: \"a\")", "2:49: 10.0.0.1:80 can be reached"),
            (
                "console: (bind: \"localhost\")",
                "2:29: console: \"localhost\" is no address with a port, as \"127.0.0.1:8404\"",
            ),
            ("console: (bin: \"127.0.0.1:80\")", "2:12: unknown field \"bin\", did you mean \"bind\"?"),
            ("console: (bind: \"[::1]:1\", certificate: \"a\")", "2:42: console: there is no certificate a"),
            ("log: (level: \"debgu\")", "2:16: unknown level \"debgu\", did you mean \"debug\"?"),
            ("log: (level: \"a b=info\")", "2:16: level: \"a b\" is no part of the program: write for example"),
            ("log: (format: jsn)", "2:16: unknown value \"jsn\", did you mean \"json\"?"),
            ("log: (to: file(\"x\"))", "2:12: unknown value \"file\", known are stderr, journald"),
            (
                "access_log: (fields: [\"client\", \"metod\"])",
                "2:35: fields: unknown field \"metod\", did you mean \"method\"?",
            ),
            ("access_log: (fields: [])", "2:24: an access log without fields says nothing"),
            ("access_log: (fields: [\"end\", \"end\"])", "2:36: fields: end is there twice"),
        ];
        let found = cases.map(|(text, _)| parse_config(&format!("(\n {text})")).unwrap_err().to_string());
        assert!(cases.iter().zip(&found).all(|((_, expected), found)| found.starts_with(expected)), "{found:#?}");
    }

    #[test]
    fn differences_are_named() {
        let (all, none) = (settings(ALL), Settings::default());
        assert!(all.differences(&all).is_empty());
        let found = none.differences(&Settings { metrics: all.metrics, ..Settings::default() });
        assert_eq!(found, ["metrics is set otherwise than in force: it is used from the next start on"]);
    }

    #[test]
    fn every_field_has_its_own_name() {
        for (name, field) in AccessField::ALL {
            assert_eq!((field.name(), AccessField::try_from(name.to_owned())), (name, Ok(field)));
        }
    }
}
