//! The configuration file: RON text into a validated [`Config`] and [`Settings`], or the place and the reason of what is
//! wrong.

use std::fmt;
use std::fs;
use std::path::Path;

use lb_core::Balancer;
use lb_core::config::{Certificate, CertificateContent, Config};

use crate::document::Document;
use crate::ron_text::Step;
use crate::settings::{ConsoleSettings, Settings};
use crate::{certificates, console, ron_text};

/// What is wrong with a configuration, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Line of the wrong value, from 1.
    pub line: usize,
    /// Column of the wrong value in characters, from 1.
    pub column: usize,
    /// One sentence: what was found, what is allowed.
    pub reason: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.line, self.column, self.reason)
    }
}

/// Reads a configuration from its text. Files that it names are not read: their paths stand in the place of their content.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn parse_config(text: &str) -> Result<(Config, Settings), ConfigError> {
    let read = ron_text::read::<Document>(text);
    let fault = |fault: ron_text::Fault| ConfigError { line: fault.line, column: fault.column, reason: fault.reason };
    let Document { config, settings } = read.map_err(fault)?;
    check_console(&config, &settings, text)?;
    Ok((config, settings))
}

/// The console's certificate has to be there.
fn check_console(config: &Config, settings: &Settings, text: &str) -> Result<(), ConfigError> {
    let Some(name) = settings.console.as_ref().and_then(ConsoleSettings::certificate) else { return Ok(()) };
    let found = config.certificates.iter().find(|certificate| certificate.name() == name);
    let reason = match found.map(Certificate::content) {
        Some(CertificateContent::Pair { .. }) => return Ok(()),
        Some(CertificateContent::Bundle { .. }) => format!("console: certificate {name} is a bundle, a pair is needed"),
        None => format!("console: there is no certificate {name}"),
    };
    let place = ron_text::place_of(text, &[Step::Field("console"), Step::Field("certificate")]);
    let (line, column) = place.unwrap_or((1, 1));
    Err(ConfigError { line, column, reason })
}

/// A configuration together with the text it was read from.
pub(crate) struct Source {
    pub(crate) config: Config,
    pub(crate) settings: Settings,
    /// Of the text alone, without the files that it names.
    pub(crate) hash: u64,
}

/// Reads a configuration file, and the certificates that it names.
///
/// # Errors
/// `FILE: reason` if it can't be read, `FILE:LINE:COLUMN: reason` if it is wrong.
pub(crate) fn read_config(path: &Path) -> Result<Source, String> {
    let text = read(path)?;
    let place = |error| format!("{}:{error}", path.display());
    let (mut config, settings) = parse_config(&text).map_err(place)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    certificates::read_all(&mut config, &text, folder).map_err(place)?;
    Ok(Source { config, settings, hash: hash(&text) })
}

/// Reads a configuration file as [`read_config`] does, and looks at what else it needs to be there.
///
/// # Errors
/// As those of [`read_config`], or what is wrong with another file.
pub(crate) fn read_whole(path: &Path) -> Result<Source, String> {
    let source = read_config(path)?;
    if let Some(settings) = &source.settings.console {
        console::check(settings, path)?;
    }
    Ok(source)
}

/// Reads what a configuration file says of the process.
///
/// # Errors
/// As those of [`read_config`].
pub(crate) fn read_settings(path: &Path) -> Result<Settings, String> {
    let text = read(path)?;
    let (_, settings) = parse_config(&text).map_err(|error| format!("{}:{error}", path.display()))?;
    Ok(settings)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// By what it is recognised that a file was edited.
pub(crate) fn hash(text: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}

/// `lb check`: a line that says what the configuration holds, and one for each thing that may surprise.
///
/// # Errors
/// What is wrong with it, with the file's name in front.
pub fn check(path: &Path) -> Result<String, String> {
    let Source { config, .. } = read_whole(path)?;
    let warnings = Balancer::builder().config(config.clone()).check();
    let warnings = warnings.map_err(|refused| format!("{}: {refused}", path.display()))?;
    let servers: usize = config.frontends.iter().map(|frontend| frontend.servers().len()).sum();
    let (frontends, servers) = (count(config.frontends.len(), "frontend"), count(servers, "server"));
    let mut good = format!("{}: good, {frontends} with {servers}", path.display());
    if !config.certificates.is_empty() {
        good += &format!(", {}", count(config.certificates.len(), "certificate"));
    }
    warnings.iter().for_each(|warning| good += &format!("\nwarning: {warning}"));
    Ok(good)
}

/// `1 server`, `2 servers`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use lb_core::config::{Check, CheckKind};

    const EXAMPLE: &str = r#"
(
    shards: 1,                             // default: one per core
    frontends: [
        ( name: "web", bind: "127.0.0.1:7000", policy: round_robin,
          servers: [ (name: "app1", ip: "127.0.0.1", port: 9001), (name: "app2", ip: "127.0.0.1", port: 9002, weight: 2) ] ),
    ],
)
"#;

    fn error(text: &str) -> String {
        parse_config(text).unwrap_err().to_string()
    }

    /// A configuration whose third line is `server`.
    fn with_server(server: &str) -> String {
        format!("(frontends: [\n (name: \"web\", bind: \"127.0.0.1:7000\", servers: [\n  {server},\n ]),\n])")
    }

    #[test]
    fn the_documented_example_is_read() {
        let (config, settings) = parse_config(EXAMPLE).unwrap();
        assert_eq!(config.shards, Some(1));
        assert_eq!(config.frontends[0].servers()[1].weight(), 2);
        assert_eq!(settings, Settings::default());
        assert_eq!(parse_config("()").unwrap(), (Config::default(), Settings::default()));
    }

    #[test]
    fn a_wrong_name_is_pointed_at_and_the_right_one_suggested() {
        let cases = [
            ("(\n  shards: 1,\n  frontnds: [],\n)", "3:3: unknown field \"frontnds\", did you mean \"frontends\"?"),
            (
                "(frontends: [\n (name: \"web\", bind: \"127.0.0.1:7000\", polcy: round_robin),\n])",
                "2:40: unknown field \"polcy\", did you mean \"policy\"?",
            ),
            (
                "(frontends: [\n (name: \"web\", bind: \"127.0.0.1:7000\", policy: rond_robin, servers: []),\n])",
                "2:48: unknown policy \"rond_robin\", did you mean \"round_robin\"?",
            ),
            (
                "(colour: 1)",
                "1:2: unknown field \"colour\", known are shards, max_connections, shutdown_grace, persistence_key, certificates, frontends, \
                 metrics, console, log, access_log",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(error(text), expected);
        }
    }

    #[test]
    fn a_wrong_value_is_pointed_at() {
        let cases = [
            ("(name: \"a\", ip: \"127.0.0.1\", port: 70000)", "3:38: port 70000 is not in 1 to 65535"),
            ("(name: \"a\", ip: \"127.0.0.300\", port: 1)", "3:20: ip: \"127.0.0.300\" is not an IP address"),
            (
                "(name: \"a b\", ip: \"127.0.0.1\", port: 1)",
                "3:11: ' ' in a name: only letters, digits, '.', '_' and '-' are allowed",
            ),
            ("(name: \"a\", ip: \"127.0.0.1\", port: -1)", "3:39: port: the number is out of range"),
            ("(name: \"a\", ip: \"127.0.0.1\", port: \"1\")", "3:38: port: a whole number is expected here"),
            ("(name: \"a\", ip: \"127.0.0.1\", port: 1, weight: 257)", "3:49: weight 257 is not in 1 to 256"),
            (
                "(name: \"a\", ip: \"127.0.0.1\", port: 1, send_proxy: v3)",
                "3:53: unknown value \"v3\", did you mean \"v1\"?",
            ),
            (
                "(name: \"a\", ip: \"127.0.0.1\", port: 1, server_name: \"a b\")",
                "3:55: server_name: \"a b\" is neither a DNS name nor an IP address",
            ),
            (
                "(name: \"a\", ip: \"127.0.0.1\", port: 1, drain_within: \"5\")",
                "3:56: drain_within: \"5\" is not a duration (time unit needed, for example 5sec or 5ms): write \"200ms\", \"5s\" or \"10m\"",
            ),
            ("(name: \"a\", ip: \"127.0.0.1\", port: 1, port: 2)", "3:41: port is there twice"),
            ("(name: \"a\", ip: \"127.0.0.1\")", "3:30: port is missing"),
        ];
        for (server, expected) in cases {
            assert_eq!(error(&with_server(server)), expected);
        }
        assert_eq!(error("(\n  shards: 0,\n)"), "2:11: 0 shards asked for, 1 to 1024 are possible");
        assert_eq!(
            error("(max_connections: 0)"),
            "1:19: max_connections: 0 connections would serve nobody: leave it out for no limit"
        );
    }

    #[test]
    fn what_is_there_twice_is_refused_on_its_line() {
        let server = "(name: \"a\", ip: \"127.0.0.1\", port: 1)";
        let found = error(&with_server(&format!("{server},\n  {server}")));
        assert!(found.starts_with("4:") && found.ends_with("server a is there twice"), "{found}");
    }

    #[test]
    fn broken_text_is_refused() {
        assert_eq!(error(""), "1:1: an opening \"(\" is expected here");
        assert_eq!(error("(frontends: [\n (name: \"web\","), "2:14: the text ends in the middle of a value");
        assert_eq!(error("(shards: 1) x"), "1:13: there is more text after the end of the value");
        assert_eq!(error("(shards: 7.5)"), "1:11: a comma or a closing bracket is expected here");
        assert!(error("(\0").contains("1:2"));
    }

    #[test]
    fn deep_nesting_is_refused_without_using_up_the_stack() {
        for opening in ["(", "[", "(frontends:[(servers:[(name:", "Some(", "((((frontends:"] {
            let text = opening.repeat(200_000);
            assert!(parse_config(&text).is_err());
            assert!(parse_config(&format!("(frontends:{text}")).is_err());
        }
    }

    #[test]
    fn every_kind_of_check_reads_and_is_written_again() {
        let all = [
            "()",
            "(kind: off)",
            "(kind: tls, interval: \"500ms\", timeout: \"1s\", fall: 1, rise: 100)",
            "(kind: http(path: \"/health\"))",
            "(kind: http(path: \"/\", host: \"app.example\", status: 204))",
            r#"(kind: send_expect(send: "PING\r\n", expect: "+PONG"))"#,
            r#"(kind: send_expect(send: "\x00\u{80}\u{ff}\\'", expect: "\""))"#,
        ];
        for text in all {
            let check: Check = ron_text::read(text).unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
            let written = ron_text::write(&check).unwrap();
            assert_eq!(ron_text::read(&written), Ok(check), "{written}");
        }
        let CheckKind::SendExpect { send, .. } = ron_text::read::<Check>(all[6]).unwrap().kind().clone() else {
            panic!("another kind");
        };
        assert_eq!(send.as_slice(), b"\x00\x80\xff\\'");
    }

    #[test]
    fn a_wrong_check_is_pointed_at() {
        let cases = [
            ("(kind: http(path: \"health\"))", "1:20 path: \"health\" does not begin with '/'"),
            ("(kind: http(path: \"/\", port: 1))", "unknown field \"port\""),
            ("(kind: htpt(path: \"/\"))", "did you mean \"http\""),
            ("(kind: send_expect(send: \"\", expect: \"\"))", "nothing to expect"),
            ("(fall: 0)", "0 results in a row"),
            ("(fal: 1)", "did you mean \"fall\""),
        ];
        let found = cases.map(|(text, _)| {
            let fault = ron_text::read::<Check>(text).unwrap_err();
            format!("{}:{} {}", fault.line, fault.column, fault.reason)
        });
        let are_named = cases.iter().zip(&found).all(|((_, reason), found)| found.contains(reason));
        assert!(are_named, "{found:#?}");
    }

    #[test]
    fn check_says_what_is_there_or_where_it_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lb.ron");
        let name = path.display();
        assert!(check(&path).unwrap_err().starts_with(&format!("{name}: No such file")));
        fs::write(&path, EXAMPLE).unwrap();
        assert_eq!(check(&path).unwrap(), format!("{name}: good, 1 frontend with 2 servers"));
        fs::write(&path, "(\n shards: 0)").unwrap();
        assert_eq!(check(&path).unwrap_err(), format!("{name}:2:10: 0 shards asked for, 1 to 1024 are possible"));
        fs::write(&path, b"(\xff)").unwrap();
        assert!(check(&path).unwrap_err().contains("UTF-8"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = parse_config(&text);
        }

        #[test]
        fn no_damage_of_a_good_text_makes_it_panic(at in 0..EXAMPLE.len(), with in "\\PC{0,4}", cut in 0..40_usize) {
            let end = (at + cut).min(EXAMPLE.len());
            let _ = parse_config(&format!("{}{with}{}", &EXAMPLE[..at], &EXAMPLE[end..]));
        }
    }
}
