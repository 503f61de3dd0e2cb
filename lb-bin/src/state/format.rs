//! The state file's text: a line of RON for the header, each certificate, each frontend, each of its servers and each
//! revision of the history, and a checksum as the last line.
//!
//! ```text
//! State(format:3,revision:7,config:"00112233aabbccdd",persistence_key:"…",read:{"site":"2233445566778899"})
//! Certificate(name:"site",chain:"-----BEGIN…",key:"-----BEGIN…")
//! Frontend(name:"web",bind:"127.0.0.1:7000",…)
//! Server(name:"app1",ip:"127.0.0.1",port:9001)
//! Record(revision:7,…)
//! Checksum("0123456789abcdef")
//! ```
//!
//! Lines are kept in memory: of ten thousand servers, only those that changed are written anew.
//!
//! Format 1 had no certificates, format 2 no key; both are still read.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use lb_core::config::{Certificate, Frontend, Name, PersistenceKey, Server};
use lb_core::{Record, Snapshot};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::ron_text;

/// The format that is written, and the newest one that is read.
const FORMAT: u32 = 3;

/// What a state goes with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Base {
    /// The hash of the configuration's text.
    pub text: u64,
    /// The certificates of the configuration by the hash of their content, files included, as they were last read.
    pub read: BTreeMap<Name, u64>,
}

/// What a state file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// The revision.
    pub revision: u64,
    /// The configuration that it goes with.
    pub base: Base,
    /// The key that cookies are made with.
    pub persistence_key: Option<PersistenceKey>,
    /// The certificates.
    pub certificates: Vec<Certificate>,
    /// The frontends with their servers.
    pub frontends: Vec<Frontend>,
    /// The last revisions, oldest first.
    pub history: Vec<Record>,
}

/// The header's fields.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    format: u32,
    revision: u64,
    config: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    persistence_key: Option<PersistenceKey>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    read: BTreeMap<Name, String>,
}

/// Reads a state file's content.
///
/// # Errors
/// It is not whole, or not what this program writes: one sentence.
pub fn parse_state(bytes: &[u8]) -> Result<Kept, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("byte {} is not text", error.valid_up_to() + 1))?;
    let mut lines = whole(text)?.lines().zip(1..);
    let (header, _) = lines.next().ok_or("it is empty")?;
    let header: State = entry(header, "State", 1)?.ok_or("line 1 is not a header")?;
    if !(1..=FORMAT).contains(&header.format) {
        return Err(format!("it has format {}, this lb reads formats up to {FORMAT}", header.format));
    }
    let hash = |text: &str| parse_hex(text).ok_or("line 1: that is not a hash");
    let text = hash(&header.config)?;
    let read = header.read.iter().map(|(name, content)| Ok((name.clone(), hash(content)?)));
    let base = Base { text, read: read.collect::<Result<_, &str>>()? };
    let (certificates, frontends, history) = (Vec::new(), Vec::new(), Vec::new());
    let revision = header.revision;
    let mut kept = Kept { revision, base, persistence_key: header.persistence_key, certificates, frontends, history };
    for (line, number) in lines {
        if let Some(server) = entry::<Server>(line, "Server", number)? {
            let frontend = kept.frontends.pop().ok_or_else(|| format!("line {number}: a server without a frontend"))?;
            kept.frontends.push(frontend.with_server(server));
        } else if let Some(frontend) = entry(line, "Frontend", number)? {
            kept.frontends.push(frontend);
        } else if let Some(record) = entry(line, "Record", number)? {
            kept.history.push(record);
        } else if let Some(certificate) = entry(line, "Certificate", number)? {
            kept.certificates.push(certificate);
        } else {
            return Err(format!("line {number} is neither a certificate, a frontend, a server nor a record"));
        }
    }
    Ok(kept)
}

/// The text before the checksum, if the checksum is right.
fn whole(text: &str) -> Result<&str, String> {
    let cut = || "its end is missing".to_owned();
    let (body, last) = text.strip_suffix('\n').ok_or_else(cut)?.rsplit_once('\n').ok_or_else(cut)?;
    let body = &text[..=body.len()];
    let sum = last.strip_prefix("Checksum(\"").and_then(|rest| rest.strip_suffix("\")")).ok_or_else(cut)?;
    if parse_hex(sum) != Some(xxh3_64(body.as_bytes())) {
        return Err("its checksum is wrong, so something in it was changed".to_owned());
    }
    Ok(body)
}

/// The value of a line that begins with `tag`, or `None` if it begins otherwise.
fn entry<T: serde::de::DeserializeOwned>(line: &str, tag: &str, number: usize) -> Result<Option<T>, String> {
    let Some(value) = line.strip_prefix(tag) else { return Ok(None) };
    ron_text::read(value).map(Some).map_err(|fault| format!("line {number}: {}", fault.reason))
}

fn parse_hex(text: &str) -> Option<u64> {
    if text.len() == 16 { u64::from_str_radix(text, 16).ok() } else { None }
}

/// The lines of the file, without header and checksum, brought up to date snapshot by snapshot.
#[derive(Debug, Default)]
pub(super) struct Image {
    revision: u64,
    persistence_key: Option<PersistenceKey>,
    certificates: Lines<Certificate>,
    frontends: Vec<Section>,
    history: Lines<Record>,
}

impl Image {
    /// Takes over a snapshot.
    ///
    /// # Errors
    /// Something in it can't be written in RON.
    pub(super) fn update(&mut self, snapshot: Snapshot<'_>) -> Result<(), ron::Error> {
        self.revision = snapshot.revision;
        self.persistence_key = snapshot.persistence_key.cloned();
        self.certificates.update(snapshot.certificates.iter(), "Certificate")?;
        let old = std::mem::take(&mut self.frontends);
        let mut old: HashMap<Name, Section> = old.into_iter().map(|section| (section.name(), section)).collect();
        for frontend in snapshot.frontends {
            let section = old.remove(frontend.name());
            self.frontends.push(Section::updated(section, frontend)?);
        }
        self.history.update(snapshot.history.iter(), "Record")
    }

    /// Takes over what was read from the file. The balancer goes on with the same servers, so that already its first
    /// change writes only its own line.
    ///
    /// # Errors
    /// See [`Image::update`].
    pub(super) fn restore(&mut self, kept: &Kept) -> Result<(), ron::Error> {
        let certificates: Vec<_> = kept.certificates.iter().cloned().map(Arc::new).collect();
        let frontends: Vec<_> = kept.frontends.iter().cloned().map(Arc::new).collect();
        let (revision, history) = (kept.revision, kept.history.iter().cloned().map(Arc::new).collect());
        let persistence_key = kept.persistence_key.as_ref();
        let (certificates, frontends, history) = (&certificates, &frontends, &history);
        self.update(Snapshot { revision, persistence_key, certificates, frontends, history })
    }

    /// The file's text.
    ///
    /// # Errors
    /// See [`Image::update`].
    pub(super) fn text(&self, base: &Base) -> Result<String, ron::Error> {
        let lists = self.certificates.text.len() + self.history.text.len();
        let length: usize = self.frontends.iter().map(Section::len).sum::<usize>() + lists;
        let mut text = String::with_capacity(length + 256 + 64 * base.read.len());
        let read = base.read.iter().map(|(name, content)| (name.clone(), format!("{content:016x}"))).collect();
        let (config, persistence_key) = (format!("{:016x}", base.text), self.persistence_key.clone());
        let header = State { format: FORMAT, revision: self.revision, config, persistence_key, read };
        text.push_str(&format!("State{}\n", ron_text::write(&header)?));
        text.push_str(&self.certificates.text);
        for section in &self.frontends {
            text.push_str(&section.settings);
            text.push_str(&section.servers.text);
        }
        text.push_str(&self.history.text);
        let sum = xxh3_64(text.as_bytes());
        text.push_str(&format!("Checksum(\"{sum:016x}\")\n"));
        Ok(text)
    }
}

/// A frontend's lines.
#[derive(Debug)]
struct Section {
    frontend: Arc<Frontend>,
    settings: String,
    servers: Lines<Server>,
}

impl Section {
    fn updated(old: Option<Self>, frontend: &Arc<Frontend>) -> Result<Self, ron::Error> {
        let mut servers = Lines::default();
        if let Some(old) = old {
            if Arc::ptr_eq(&old.frontend, frontend) {
                return Ok(old);
            }
            servers = old.servers;
        }
        servers.update(frontend.servers().iter(), "Server")?;
        let settings = format!("Frontend{}\n", ron_text::write(&frontend.without_servers())?);
        Ok(Self { frontend: Arc::clone(frontend), settings, servers })
    }

    fn name(&self) -> Name {
        self.frontend.name().clone()
    }

    fn len(&self) -> usize {
        self.settings.len() + self.servers.text.len()
    }
}

/// A line for each of a list of values. A value that was there before, behind the same `Arc`, keeps its line: as the
/// `Arc` is held here, nothing behind it can have changed.
#[derive(Debug)]
struct Lines<T> {
    values: Vec<Arc<T>>,
    text: String,
    /// Where each value's line ends in `text`.
    ends: Vec<usize>,
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self { values: Vec::new(), text: String::new(), ends: Vec::new() }
    }
}

impl<T: Serialize> Lines<T> {
    fn update<'a>(&mut self, values: impl ExactSizeIterator<Item = &'a Arc<T>>, tag: &str) -> Result<(), ron::Error>
    where
        T: 'a,
    {
        let old: HashMap<*const T, Range<usize>> =
            self.values.iter().enumerate().map(|(index, value)| (Arc::as_ptr(value), self.range(index))).collect();
        let mut new = Self {
            values: Vec::with_capacity(values.len()),
            text: String::with_capacity(self.text.len() + 256),
            ends: Vec::with_capacity(values.len()),
        };
        for value in values {
            match old.get(&Arc::as_ptr(value)) {
                Some(range) => new.text.push_str(&self.text[range.clone()]),
                None => new.text.push_str(&format!("{tag}{}\n", ron_text::write(&**value)?)),
            }
            new.ends.push(new.text.len());
            new.values.push(Arc::clone(value));
        }
        *self = new;
        Ok(())
    }

    fn range(&self, index: usize) -> Range<usize> {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[index]
    }
}
