//! An access record as a line.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use jiff::Timestamp;
use lb_core::access::AccessRecord;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::settings::AccessField;

/// What a record says in one of its fields.
#[derive(Debug)]
pub(super) struct Value<'a> {
    pub(super) field: AccessField,
    /// `None` if it is not known.
    pub(super) said: Option<Said<'a>>,
}

#[derive(Debug)]
pub(super) enum Said<'a> {
    /// What others may have chosen.
    Text(&'a str),
    Made(String),
    Number(u64),
    Flag(bool),
    Millis(Duration),
}

/// The values of these fields, in their order.
pub(super) fn values<'a>(record: &'a AccessRecord, fields: &[AccessField]) -> Vec<Value<'a>> {
    fields.iter().map(|&field| Value { field, said: said(record, field) }).collect()
}

fn said(record: &AccessRecord, field: AccessField) -> Option<Said<'_>> {
    let (request, tls) = (record.request.as_ref(), record.tls.as_ref());
    match field {
        AccessField::Time => Timestamp::try_from(record.began).ok().map(|time| Said::Made(format!("{time:.3}"))),
        AccessField::Shard => Some(Said::Number(record.shard as u64)),
        AccessField::Frontend => Some(Said::Text(record.frontend.as_str())),
        AccessField::Client => record.client.map(|client| Said::Made(client.to_string())),
        AccessField::Server => record.server.as_ref().map(|name| Said::Text(name.as_str())),
        AccessField::ServerAddr => record.server_addr.map(|addr| Said::Made(addr.to_string())),
        AccessField::Tries => Some(Said::Number(record.tries.into())),
        AccessField::End => Some(Said::Text(record.end.word())),
        AccessField::DurationMs => Some(Said::Millis(record.duration)),
        AccessField::UntilServerMs => record.until_server.map(Said::Millis),
        AccessField::ConnectMs => record.connect.map(Said::Millis),
        AccessField::FirstByteMs => record.first_byte.map(Said::Millis),
        AccessField::BytesToServer => Some(Said::Number(record.bytes_to_server)),
        AccessField::BytesToClient => Some(Said::Number(record.bytes_to_client)),
        AccessField::TlsVersion => tls.map(|tls| Said::Text(tls.version)),
        AccessField::TlsResumed => tls.map(|tls| Said::Flag(tls.resumed)),
        AccessField::Method => request.map(|request| &*request.method).filter(|text| !text.is_empty()).map(Said::Text),
        AccessField::Host => request.and_then(|request| request.host.as_deref()).map(Said::Text),
        AccessField::Target => request.map(|request| &*request.target).filter(|text| !text.is_empty()).map(Said::Text),
        AccessField::Status => request.and_then(|request| request.status).map(|status| Said::Number(status.into())),
        AccessField::Cause => request.and_then(|request| request.cause).map(|cause| Said::Text(cause.as_str())),
        AccessField::Reused => request.map(|request| Said::Flag(request.reused)),
    }
}

/// Adds one object, without what is not known.
pub(super) fn json(line: &mut Vec<u8>, values: &[Value<'_>]) {
    let mut serializer = serde_json::Serializer::new(&mut *line);
    let written = serializer.serialize_map(None).and_then(|mut map| {
        for value in values {
            if let Some(said) = &value.said {
                map.serialize_entry(value.field.name(), said)?;
            }
        }
        SerializeMap::end(map)
    });
    debug_assert!(written.is_ok(), "it is written to memory");
    line.push(b'\n');
}

/// Adds the values, a space between each two, and `-` for what is not known.
pub(super) fn text(line: &mut Vec<u8>, values: &[Value<'_>]) {
    for (index, value) in values.iter().enumerate() {
        let separator = if index == 0 { "" } else { " " };
        // It is written to memory.
        let _ = match &value.said {
            None => write!(line, "{separator}-"),
            Some(said) => write!(line, "{separator}{}", Word(said)),
        };
    }
    line.push(b'\n');
}

/// A value that has no spaces, or is in quotes and escaped.
struct Word<'a>(&'a Said<'a>);

impl fmt::Display for Word<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Said::Text(text) if !is_plain(text) => write!(formatter, "{text:?}"),
            said => said.fmt(formatter),
        }
    }
}

/// Whether a text can be taken for nothing but itself.
fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    !text.is_empty() && text != "-" && text.bytes().all(plain)
}

impl fmt::Display for Said<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => formatter.write_str(text),
            Self::Made(text) => formatter.write_str(text),
            Self::Number(number) => number.fmt(formatter),
            Self::Flag(flag) => flag.fmt(formatter),
            Self::Millis(time) => write!(formatter, "{}.{:03}", time.as_millis(), time.subsec_micros() % 1000),
        }
    }
}

impl Serialize for Said<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Made(text) => serializer.serialize_str(text),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Millis(time) => serializer.serialize_f64(time.as_micros() as f64 / 1000.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOSTILE: &str = "/a \"b\" \\ \r\nGET \u{1b}[2J\u{202e}\u{85}\u{0}ä";

    fn values(target: &str) -> Vec<Value<'_>> {
        vec![
            Value { field: AccessField::Time, said: Some(Said::Made("2026-01-02T03:04:05.678Z".to_owned())) },
            Value { field: AccessField::Server, said: None },
            Value { field: AccessField::DurationMs, said: Some(Said::Millis(Duration::from_micros(1_234_005))) },
            Value { field: AccessField::Status, said: Some(Said::Number(200)) },
            Value { field: AccessField::Reused, said: Some(Said::Flag(true)) },
            Value { field: AccessField::Target, said: Some(Said::Text(target)) },
        ]
    }

    fn as_json(target: &str) -> String {
        let mut line = Vec::new();
        json(&mut line, &values(target));
        String::from_utf8(line).unwrap()
    }

    fn as_text(target: &str) -> String {
        let mut line = Vec::new();
        text(&mut line, &values(target));
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_line_of_json_has_what_is_known_in_order() {
        let expected = concat!(
            r#"{"time":"2026-01-02T03:04:05.678Z","duration_ms":1234.005,"status":200,"reused":true,"target":"/"}"#,
            "\n"
        );
        assert_eq!(as_json("/"), expected);
    }

    #[test]
    fn a_line_of_text_has_every_value_in_its_place() {
        assert_eq!(as_text("/a?b=c"), "2026-01-02T03:04:05.678Z - 1234.005 200 true /a?b=c\n");
        for (target, word) in
            [("", r#""""#), ("-", r#""-""#), ("a b", r#""a b""#), ("\"", r#""\"""#), ("\\", r#""\\""#)]
        {
            assert!(as_text(target).ends_with(&format!(" true {word}\n")), "{target}: {}", as_text(target));
        }
    }

    #[test]
    fn a_hostile_target_stays_in_its_value() {
        let value: serde_json::Value = serde_json::from_str(&as_json(HOSTILE)).unwrap();
        assert_eq!(value["target"], HOSTILE);
        let text = as_text(HOSTILE);
        assert!(text.ends_with("\"/a \\\"b\\\" \\\\ \\r\\nGET \\u{1b}[2J\\u{202e}\\u{85}\\0ä\"\n"), "{text}");
    }

    proptest! {
        #[test]
        fn whatever_a_target_is_it_is_one_line_without_control_characters(target in any::<String>()) {
            let (text, json) = (as_text(&target), as_json(&target));
            prop_assert!(text.trim_end_matches('\n').chars().all(|c| !c.is_control()), "{text:?}");
            prop_assert_eq!(json.lines().count(), 1);
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(value["target"].as_str(), Some(&*target));
        }
    }
}
