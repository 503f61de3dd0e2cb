//! JSON into the requests of the admin protocol, with the same errors: which field, what was found, what was meant.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer, StringDeserializer};
use serde::de::{
    self, DeserializeOwned, Deserializer, Error as _, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::Number;
use serde_path_to_error::Track;

use crate::admin::Refusal;
use crate::ron_text::{innermost_field, unknown};

/// A value as it was written: objects keep fields that are there twice, so that they are refused and not chosen among.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Self>),
    Object(Fields),
}

/// The fields of an object.
pub(super) type Fields = Vec<(String, Json)>;

/// Reads the text of one object. No text at all is one without fields.
///
/// # Errors
/// It is not JSON, or no object.
pub(super) fn read_object(text: &[u8]) -> Result<Fields, Refusal> {
    if text.is_empty() {
        return Ok(Fields::new());
    }
    match serde_json::from_slice(text) {
        Ok(Json::Object(fields)) => Ok(fields),
        Ok(_) => Err(Refusal::other("the body is to be a JSON object, as {\"name\": \"web\"}")),
        Err(error) => Err(Refusal::other(format!("the body is not JSON: {error}"))),
    }
}

/// Reads a value from JSON.
///
/// # Errors
/// What is wrong with it, with the field at fault.
pub(super) fn read<T: DeserializeOwned>(json: Json) -> Result<T, Refusal> {
    let mut track = Track::new();
    T::deserialize(serde_path_to_error::Deserializer::new(json, &mut track)).map_err(|fault| {
        let Fault { reason, field } = fault;
        match field.or_else(|| innermost_field(&track.path())) {
            // The types' own checks often, but not always, name their field.
            Some(field) if !reason.contains(&field) => Refusal::field(&field, format!("{field}: {reason}")),
            Some(field) => Refusal::field(&field, reason),
            None => Refusal::other(reason),
        }
    })
}

/// What is wrong with a value. The value itself is not shown: it may be a key.
#[derive(Debug)]
pub(super) struct Fault {
    reason: String,
    field: Option<String>,
}

impl Fault {
    fn expected(expected: &dyn Expected) -> Self {
        let expected = expected.to_string();
        let known = match expected.as_str() {
            "u8" | "u16" | "u32" | "u64" | "usize" | "i64" | "a nonzero u32" => "a whole number",
            "a boolean" => "true or false",
            "a string" | "a character" => "text in quotes",
            "a sequence" => "a list",
            other => other,
        };
        Self::custom(format!("{known} is expected here"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.reason)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { reason: message.to_string(), field: None }
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(expected)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        match found {
            Unexpected::Unsigned(_) | Unexpected::Signed(_) => Self::custom("the number is out of range"),
            _ => Self::expected(expected),
        }
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self { reason: unknown("field", field, known), field: Some(field.to_owned()) }
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        Self::custom(unknown("value", variant, known))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { reason: format!("{field} is missing"), field: Some(field.to_owned()) }
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self { reason: format!("{field} is there twice"), field: Some(field.to_owned()) }
    }
}

impl<'de> Deserializer<'de> for Json {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self {
            Self::Null => Err(Fault::custom("null is no value here: leave the field out")),
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (_, Some(number)) => visitor.visit_i64(number),
                _ => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Self::Text(text) => visitor.visit_string(text),
            Self::List(list) => {
                let mut list = SeqDeserializer::new(list.into_iter());
                let value = visitor.visit_seq(&mut list)?;
                list.end().map(|()| value)
            }
            Self::Object(fields) => {
                let mut fields = MapDeserializer::new(fields.into_iter());
                let value = visitor.visit_map(&mut fields)?;
                fields.end().map(|()| value)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    /// Types that have fields would also read a list of their values.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self {
            Self::Object(_) => self.deserialize_any(visitor),
            _ => Err(Fault::custom("an object is expected here")),
        }
    }

    /// `"name"`, or `{"name": …}`.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self {
            Self::Text(text) => visitor.visit_enum(StringDeserializer::new(text)),
            Self::Object(fields) if fields.len() == 1 => {
                visitor.visit_enum(MapAccessDeserializer::new(MapDeserializer::new(fields.into_iter())))
            }
            _ => Err(Fault::custom("a word in quotes, or an object with one field, is expected here")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct identifier ignored_any
    }
}

impl IntoDeserializer<'_, Fault> for Json {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Number::from_f64(number).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Json::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Json, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = object.next_entry()? {
            fields.push(field);
        }
        Ok(Json::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{Request, parse_request};
    use proptest::prelude::*;

    fn request(text: &str) -> Result<Request, Refusal> {
        read_object(text.as_bytes()).and_then(|fields| read(Json::Object(fields)))
    }

    #[test]
    fn json_and_ron_say_the_same() {
        let cases = [
            (
                r#"{"AddServer":{"frontend":"web","server":{"name":"a","ip":"::1","port":80,"passive":true,
                   "check":{"own":{"kind":{"http":{"path":"/"}}}},"server_certificate":"ca","send_proxy":"v2"}}}"#,
                r#"AddServer(frontend:"web",server:(name:"a",ip:"::1",port:80,passive:true,
                   check:own(kind:http(path:"/")),server_certificate:"ca",send_proxy:v2))"#,
            ),
            (
                r#"{"UpdateServer":{"frontend":"web","name":"a","server_certificate":"none","max_connections":0}}"#,
                r#"UpdateServer(frontend:"web",name:"a",server_certificate:"none",max_connections:0)"#,
            ),
            (
                r#"{"UpdateFrontend":{"name":"web","policy":"least_latency","on_unavailable":{"wait":"5s"},"http":{},
                   "ip_persistence":{"ttl":"1m"},"sni_routes":[{"names":["a.example"],"group":"b"}],
                   "passive_when":{"fewer_than":2},"accept_proxy_from":["10.0.0.0/8"]}}"#,
                r#"UpdateFrontend(name:"web",policy:least_latency,on_unavailable:wait("5s"),http:(),
                   ip_persistence:(ttl:"1m"),sni_routes:[(names:["a.example"],group:"b")],
                   passive_when:fewer_than(2),accept_proxy_from:["10.0.0.0/8"])"#,
            ),
            (
                r#"{"Transaction":{"changes":[{"RemoveFrontend":{"name":"web"}}],"dry_run":true}}"#,
                r#"Transaction((changes:[RemoveFrontend(name:"web")],dry_run:true))"#,
            ),
            (r#"{"Undo":{}}"#, "Undo"),
        ];
        for (json, ron) in cases {
            assert_eq!(request(json), Ok(parse_request(ron.replace('\n', " ").as_bytes()).unwrap()), "{json}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_field() {
        let server = |fields: &str| format!(r#"{{"AddServer":{{"frontend":"web","server":{{{fields}}}}}}}"#);
        let cases = [
            (server(r#""name":"a","ip":"::1","port":70000"#), "port", "port 70000 is not in 1 to 65535"),
            (server(r#""name":"a","ip":"::1","port":-1"#), "port", "port: the number is out of range"),
            (server(r#""name":"a","ip":"::1","port":"80""#), "port", "port: a whole number is expected here"),
            (server(r#""name":"a","ip":"::1","port":1.5"#), "port", "port: a whole number is expected here"),
            (
                server(r#""name":"a","ip":"::1","port":null"#),
                "port",
                "port: null is no value here: leave the field out",
            ),
            (server(r#""name":"a","ip":"::1""#), "port", "port is missing"),
            (server(r#""name":"a","ip":"x","port":1"#), "ip", "ip: \"x\" is not an IP address"),
            (server(r#""name":"a","ip":"::1","port":1,"port":1"#), "port", "port is there twice"),
            (server(r#""name":"a","ip":"::1","prt":1"#), "prt", "unknown field \"prt\", did you mean \"port\"?"),
            (
                server(r#""name":"a","ip":"::1","port":1,"passive":1"#),
                "passive",
                "passive: true or false is expected here",
            ),
            (server(r#""name":["a"],"ip":"::1","port":1"#), "name", "name: text in quotes is expected here"),
            (
                r#"{"AddServer":{"frontend":"web","server":["a","::1",80]}}"#.to_owned(),
                "server",
                "server: an object is expected here",
            ),
            (r#"{"UpdateFrontend":{"name":"web","http":[]}}"#.to_owned(), "http", "http: an object is expected here"),
            (
                r#"{"UpdateFrontend":{"name":"web","policy":{"round_robin":1,"x":2}}}"#.to_owned(),
                "policy",
                "policy: a word in quotes, or an object with one field, is expected here",
            ),
            (r#"{"UpdateFrontend":{"name":"web","alpn":"h2"}}"#.to_owned(), "alpn", "alpn: a list is expected here"),
        ];
        for (json, field, reason) in cases {
            assert_eq!(request(&json), Err(Refusal::field(field, reason)), "{json}");
        }
    }

    #[test]
    fn a_key_in_a_wrong_place_is_not_shown() {
        for text in [
            r#"{"AddCertificate":{"name":"a","chain":["c2VjcmV0"],"key":1}}"#,
            r#"{"AddCertificate":{"name":"a","key":"c2VjcmV0"}}"#,
            r#"{"AddCertificate":{"name":"a","key":{"c2VjcmV0":1}}}"#,
        ] {
            assert!(!request(text).unwrap_err().reason.contains("c2VjcmV0"), "{text}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["[1]", "1", "\"a\"", "{", "{\"a\":}", "\u{feff}{}", "{} {}", "\0"] {
            assert!(read_object(text.as_bytes()).is_err(), "{text}");
        }
        assert!(read_object(b"{\"a\":\"\xff\"}").is_err());
        assert!(read_object("[".repeat(100_000).as_bytes()).is_err());
        assert_eq!(read_object(b""), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}") {
            let _ = request(&text);
            let _ = request(&format!("{{\"AddServer\":{{\"frontend\":{text}}}}}"));
        }
    }
}
