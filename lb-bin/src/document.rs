//! The outermost value of a configuration file: fields of the balancer and fields of the process side by side.

use std::fmt;
use std::sync::OnceLock;

use lb_core::config::Config;
use serde::de::{DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

use crate::settings::{AccessLogSettings, ConsoleSettings, LogSettings, MetricsAt, Settings};

/// What a configuration file says.
pub(crate) struct Document {
    pub(crate) config: Config,
    pub(crate) settings: Settings,
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut own = Own::default();
        let config = Config::deserialize(Dividing { inner: deserializer, own: &mut own })?;
        let Own { metrics, console, log, access_log } = own;
        let settings = Settings { metrics, console, log: log.unwrap_or_default(), access_log };
        Ok(Self { config, settings })
    }
}

/// The settings of the process that were read so far.
#[derive(Default)]
struct Own {
    metrics: Option<MetricsAt>,
    console: Option<ConsoleSettings>,
    log: Option<LogSettings>,
    access_log: Option<AccessLogSettings>,
}

impl Own {
    /// Reads the value of a setting; `false` if `name` is none.
    fn read<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "metrics" => once(&mut self.metrics, "metrics", map),
            "console" => once(&mut self.console, "console", map),
            "log" => once(&mut self.log, "log", map),
            "access_log" => once(&mut self.access_log, "access_log", map),
            _ => return Ok(false),
        }?;
        Ok(true)
    }
}

fn once<'de, T, A>(slot: &mut Option<T>, name: &'static str, map: &mut A) -> Result<(), A::Error>
where
    T: Deserialize<'de>,
    A: MapAccess<'de>,
{
    if slot.is_some() {
        return Err(A::Error::duplicate_field(name));
    }
    *slot = Some(map.next_value()?);
    Ok(())
}

/// Reads a struct, but for the settings of the process: these go to `own`.
struct Dividing<'a, D> {
    inner: D,
    own: &'a mut Own,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Dividing<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_struct(name, fields, DividingVisitor { visitor, fields, own: self.own })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct DividingVisitor<'a, V> {
    visitor: V,
    fields: &'static [&'static str],
    own: &'a mut Own,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for DividingVisitor<'_, V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(formatter)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(Rest { map, fields: self.fields, own: self.own })
    }
}

/// The fields that are not settings of the process.
struct Rest<'a, A> {
    map: A,
    fields: &'static [&'static str],
    own: &'a mut Own,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Rest<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(name) = self.map.next_key::<String>()? {
            if self.fields.contains(&name.as_str()) {
                return seed.deserialize(name.into_deserializer()).map(Some);
            }
            if !self.own.read(&name, &mut self.map)? {
                return Err(A::Error::unknown_field(&name, known(self.fields)));
            }
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// All fields, of the balancer and of the process. An error needs them for ever.
fn known(fields: &[&'static str]) -> &'static [&'static str] {
    static KNOWN: OnceLock<Vec<&'static str>> = OnceLock::new();
    KNOWN.get_or_init(|| [fields, Settings::NAMES].concat())
}
