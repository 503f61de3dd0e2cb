//! RON text into values, with errors that a person can act on: where, which field, what is wrong, what was meant.

use std::fmt;

use ron::Error;
use ron::Options;
use ron::de::Deserializer;
use ron::error::SpannedError;
use ron::extensions::Extensions;
use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_path_to_error::{Path, Segment, Track};

/// How RON is read and written here: optional values bare, and no doubled brackets around an enum's only value.
///
/// The recursion limit is far above what any value here needs and keeps a hostile text from using up the stack.
pub(crate) fn options() -> Options {
    Options::default()
        .with_default_extension(Extensions::IMPLICIT_SOME | Extensions::UNWRAP_VARIANT_NEWTYPES)
        .with_recursion_limit(32)
}

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Line of the wrong value, from 1.
    pub(crate) line: usize,
    /// Column of the wrong value in characters, from 1.
    pub(crate) column: usize,
    /// The field at fault, where there is one.
    pub(crate) field: Option<String>,
    /// One sentence.
    pub(crate) reason: String,
}

/// Reads one value that takes up the whole text.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    let fault = |error: SpannedError, field| Fault::new(&error, field, text);
    let mut deserializer = Deserializer::from_str_with_options(text, &options()).map_err(|error| fault(error, None))?;
    let mut track = Track::new();
    let read = T::deserialize(serde_path_to_error::Deserializer::new(&mut deserializer, &mut track));
    let value = read.map_err(|error| fault(deserializer.span_error(error), innermost_field(&track.path())))?;
    deserializer.end().map_err(|error| fault(deserializer.span_error(error), None))?;
    Ok(value)
}

/// Where the value is that these steps lead to from the outermost value: line and column from 1. The text has been read
/// before.
pub(crate) fn place_of(text: &str, steps: &[Step<'_>]) -> Option<(usize, usize)> {
    let mut deserializer = Deserializer::from_str_with_options(text, &options()).ok()?;
    let stopped = Steps(steps).deserialize(&mut deserializer);
    let fault = Fault::new(&deserializer.span_error(stopped.err()?), None, text);
    Some((fault.line, fault.column))
}

/// The way to a value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step<'a> {
    Field(&'a str),
    Element(usize),
}

/// Reads up to the value that these steps lead to, and fails there: where a reader fails, it says where it is.
struct Steps<'a>(&'a [Step<'a>]);

impl<'de> DeserializeSeed<'de> for Steps<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.0.first() {
            None => Err(D::Error::custom("here")),
            Some(Step::Field(_)) => deserializer.deserialize_struct("", &[], self),
            Some(Step::Element(_)) => deserializer.deserialize_seq(self),
        }
    }
}

impl<'de> Visitor<'de> for Steps<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the value that was read before")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            match self.0.first() {
                Some(Step::Field(field)) if name == *field => map.next_value_seed(Steps(&self.0[1..]))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if let Some(Step::Element(index)) = self.0.first() {
            for _ in 0..*index {
                list.next_element::<IgnoredAny>()?;
            }
            list.next_element_seed(Steps(&self.0[1..]))?;
        }
        Ok(())
    }
}

/// Writes a value on one line.
///
/// # Errors
/// A type that RON can't express.
pub(crate) fn write(value: &impl serde::Serialize) -> Result<String, Error> {
    // The writer escapes each ' although nothing here is quoted by it, which makes sentences hard to read.
    options().to_string(value).map(|text| text.replace("\\'", "'"))
}

impl Fault {
    fn new(error: &SpannedError, path_field: Option<String>, text: &str) -> Self {
        let field = match &error.code {
            Error::NoSuchStructField { found, .. } => Some(found.clone()),
            Error::MissingStructField { field, .. } | Error::DuplicateStructField { field, .. } => {
                Some((*field).to_owned())
            }
            _ => path_field,
        };
        let reason = reason(&error.code, field.as_deref());
        let (line, column) = (error.span.start.line, error.span.start.col);
        Self { line, column: column + spaces_at(text, line, column), field, reason }
    }
}

/// How many spaces lie between where the reader was and the value that it could not read.
fn spaces_at(text: &str, line: usize, column: usize) -> usize {
    let rest = text.lines().nth(line.saturating_sub(1)).unwrap_or_default().chars().skip(column.saturating_sub(1));
    let spaces = rest.clone().take_while(|c| c.is_whitespace()).count();
    // At the end of a line there is nothing to point at.
    if rest.count() > spaces { spaces } else { 0 }
}

/// The last field's name of `frontends[0].servers[2].port`; none if the error is not in a field.
pub(crate) fn innermost_field(path: &Path) -> Option<String> {
    let segments: Vec<_> = path.iter().collect();
    match segments.iter().rev().find(|segment| !matches!(segment, Segment::Seq { .. } | Segment::Enum { .. })) {
        Some(Segment::Map { key }) => Some(key.clone()),
        _ => None,
    }
}

fn reason(error: &Error, field: Option<&str>) -> String {
    match error {
        Error::NoSuchStructField { expected, found, .. } => unknown("field", found, expected),
        Error::NoSuchEnumVariant { expected, found, outer } => unknown(kind(outer.as_deref()), found, expected),
        Error::MissingStructField { field, .. } => format!("{field} is missing"),
        Error::DuplicateStructField { field, .. } => format!("{field} is there twice"),
        // Written by the types' own checks. They often, but not always, name their field.
        Error::Message(message) => match field {
            Some(field) if !message.contains(field) => format!("{field}: {message}"),
            _ => message.clone(),
        },
        _ => match field {
            Some(field) => format!("{field}: {}", syntax(error)),
            None => syntax(error),
        },
    }
}

/// What an enum's variants are called in the configuration and the protocol.
fn kind(type_name: Option<&str>) -> &'static str {
    match type_name {
        Some("PolicyKind") => "policy",
        Some("Request") => "request",
        _ => "value",
    }
}

fn syntax(error: &Error) -> String {
    let expected = match error {
        Error::ExpectedInteger => "a whole number",
        Error::ExpectedFloat => "a number",
        Error::ExpectedString => "text in quotes",
        Error::ExpectedBoolean => "true or false",
        Error::ExpectedArray => "a list, opened by \"[\",",
        Error::ExpectedArrayEnd => "a \"]\" that closes the list",
        Error::ExpectedStructLike | Error::ExpectedNamedStructLike(_) => "an opening \"(\"",
        Error::ExpectedStructLikeEnd => "a closing \")\"",
        Error::ExpectedMapColon => "a colon",
        Error::ExpectedComma => "a comma or a closing bracket",
        Error::ExpectedIdentifier => "a word without quotes",
        Error::Eof => return "the text ends in the middle of a value".to_owned(),
        Error::ExpectedStringEnd => return "a text's closing quote is missing".to_owned(),
        Error::TrailingCharacters => return "there is more text after the end of the value".to_owned(),
        Error::ExceededRecursionLimit => return "brackets are nested too deeply".to_owned(),
        Error::IntegerOutOfBounds => return "the number is out of range".to_owned(),
        Error::InvalidValueForType { expected, found } => return format!("{expected} is expected, not {found}"),
        other => return lower_first(&other.to_string()),
    };
    format!("{expected} is expected here")
}

fn lower_first(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// Says what is unknown, and the nearest known one, or all if none is near.
pub(crate) fn unknown(kind: &str, found: &str, known: &[&str]) -> String {
    match nearest(found, known) {
        Some(near) => format!("unknown {kind} {found:?}, did you mean {near:?}?"),
        None if known.is_empty() => format!("unknown {kind} {found:?}, there is none here"),
        None => format!("unknown {kind} {found:?}, known are {}", known.join(", ")),
    }
}

fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let found = found.to_lowercase();
    // A slip of the finger for every four characters, and one more.
    let slips = found.len() / 4 + 1;
    known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&found, &name.to_lowercase()), *name))
        .filter(|(distance, _)| *distance <= slips)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_only_if_it_is_near() {
        let known = ["policy", "max_connections", "name"];
        assert_eq!(nearest("polcy", &known), Some("policy"));
        assert_eq!(nearest("maxConnections", &known), Some("max_connections"));
        assert_eq!(nearest("Name", &known), Some("name"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(
            unknown("field", "colour", &known),
            "unknown field \"colour\", known are policy, max_connections, name"
        );
    }

    #[test]
    fn a_place_is_found_past_everything_that_can_stand_before_it() {
        let text = "(// (certificates: [\n shards: 1, frontends: [(name: \"w\", check: (kind: http(path: \"/)\")),\n\
             on_unavailable: wait(\"5s\"), servers: [(check: own(kind: off), passive: true)])],\n\
             certificates: [(name: \"a\", bundle: \"x\"), (key: \"k\",\n  chain:   \"c\")],\n)";
        let place =
            |index, field| place_of(text, &[Step::Field("certificates"), Step::Element(index), Step::Field(field)]);
        assert_eq!(place(1, "chain"), Some((5, 12)));
        assert_eq!(place(0, "bundle"), Some((4, 36)));
        assert_eq!(place(2, "chain"), None);
    }

    #[test]
    fn a_long_name_is_compared_without_harm() {
        assert_eq!(nearest(&"x".repeat(10_000), &["policy"]), None);
    }
}
