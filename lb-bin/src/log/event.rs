//! An event as a line of JSON or as an entry of the journal.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::journal::{Entry, Priority};

/// `{"time":…,"level":…,"target":…,"message":…}`, with `fields` if there are any.
pub(super) fn json_line(event: &Event<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Line<'a> {
        time: String,
        level: String,
        target: &'a str,
        message: String,
        #[serde(skip_serializing_if = "Map::is_empty")]
        fields: Map<String, Value>,
    }
    let Said { message, fields } = Said::of(event);
    let (level, target) = (event.metadata().level().as_str().to_lowercase(), event.metadata().target());
    let line = Line { time: format!("{:.6}", Timestamp::now()), level, target, message, fields };
    // Nothing in it can't be written as JSON.
    let mut text = serde_json::to_vec(&line).unwrap_or_default();
    text.push(b'\n');
    text
}

pub(super) fn journal_entry(event: &Event<'_>) -> Vec<u8> {
    let priority = match *event.metadata().level() {
        Level::ERROR => Priority::Error,
        Level::WARN => Priority::Warning,
        Level::INFO => Priority::Info,
        _ => Priority::Debug,
    };
    let Said { message, fields } = Said::of(event);
    let mut entry = Entry::new("lb", priority, &message);
    entry.push("TARGET", event.metadata().target());
    for (name, value) in fields {
        match value {
            Value::String(text) => entry.push(&name, &text),
            other => entry.push(&name, &other.to_string()),
        }
    }
    entry.into_bytes()
}

/// What an event says.
#[derive(Default)]
struct Said {
    message: String,
    fields: Map<String, Value>,
}

impl Said {
    fn of(event: &Event<'_>) -> Self {
        let mut said = Self::default();
        event.record(&mut said);
        said
    }

    fn note(&mut self, field: &Field, value: impl Into<Value>) {
        match (field.name(), value.into()) {
            ("message", Value::String(message)) => self.message = message,
            (name, value) => drop(self.fields.insert(name.to_owned(), value)),
        }
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.note(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.note(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.note(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.note(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.note(field, value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    use super::*;

    /// Renders what is logged while `log` runs.
    fn rendered(render: fn(&Event<'_>) -> Vec<u8>, log: impl FnOnce()) -> Vec<u8> {
        struct Keep(fn(&Event<'_>) -> Vec<u8>, Arc<Mutex<Vec<u8>>>);
        impl<S: tracing::Subscriber> Layer<S> for Keep {
            fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
                self.1.lock().unwrap().extend((self.0)(event));
            }
        }
        let kept = Arc::new(Mutex::new(Vec::new()));
        let subscriber = tracing_subscriber::registry().with(Keep(render, kept.clone()));
        tracing::subscriber::with_default(subscriber, log);
        kept.lock().unwrap().clone()
    }

    #[test]
    fn a_json_line_has_the_event_and_its_fields() {
        let hostile = "a \"quoted\"\nline\u{1b}[31m";
        let line =
            rendered(json_line, || tracing::warn!(target: "part", client = hostile, tries = 3, "it fails: {hostile}"));
        assert_eq!(line.iter().filter(|byte| byte.is_ascii_control()).count(), 1, "only the end of the line");
        let value: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!((&value["level"], &value["target"]), (&Value::from("warn"), &Value::from("part")));
        assert_eq!(value["message"], format!("it fails: {hostile}"));
        assert_eq!(value["fields"], serde_json::json!({ "client": hostile, "tries": 3 }));
        assert!(value["time"].as_str().unwrap().parse::<Timestamp>().is_ok(), "{value}");
    }

    #[test]
    fn a_json_line_without_fields_has_none() {
        let value: Value = serde_json::from_slice(&rendered(json_line, || tracing::info!("ready"))).unwrap();
        assert_eq!(value["message"], "ready");
        assert_eq!(value.get("fields"), None);
    }

    #[test]
    fn a_journal_entry_has_the_event_and_its_fields() {
        let entry = rendered(journal_entry, || tracing::error!(target: "part", tries = 3, "it fails"));
        let text = String::from_utf8(entry).unwrap();
        assert_eq!(text, "SYSLOG_IDENTIFIER=lb\nPRIORITY=3\nMESSAGE=it fails\nTARGET=part\nLB_TRIES=3\n");
    }
}
