//! What of a frontend's running keeps clients on their servers, and what of that outlives changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use aws_lc_rs::hmac;

use super::Time;
use super::availability::Role;
use super::change::Refused;
use super::state::Entry;
use crate::config::{CookieMode, CookieSettings, Frontend, IpPersistence, Millis, Name, PersistenceKey, Protocol};
use crate::table::affinities::Affinities;
use crate::table::persistence::{self, CookiePersistence, CookieValues, Persistence, Stay, Value};
use crate::table::sources::{Learned, Sources, span};
use crate::table::{Endpoint, Group};

/// How long values of an application's cookie are remembered, unless `max_age` says it.
const LEARNED_TTL: u64 = 30 * 60;
/// How many of them.
const LEARNED_SIZE: u32 = 1_000_000;

/// What is kept for the next table, with what clients are remembered by.
#[derive(Clone, Default)]
pub(super) struct Kept {
    pub(super) sources: Option<Arc<Sources>>,
    pub(super) learned: Option<Arc<Learned>>,
    values: Option<Arc<Values>>,
}

/// The values of cookies, and by what they were made.
struct Values {
    key: PersistenceKey,
    identities: HashMap<u64, Name>,
    table: Arc<CookieValues>,
}

/// A frontend as it comes into effect.
pub(super) struct Coming<'a> {
    pub(super) entry: &'a Entry,
    pub(super) endpoints: &'a [Arc<Endpoint>],
    pub(super) roles: &'a [Role],
    pub(super) groups: &'a [Group],
    pub(super) key: Option<&'a PersistenceKey>,
}

impl Kept {
    /// What is kept for a frontend whose clients stay, given what was.
    ///
    /// # Errors
    /// There is no memory for so many clients.
    pub(super) fn next(&self, coming: &Coming<'_>, now: Time) -> Result<Self, Refused> {
        let config = &coming.entry.frontend;
        let sources = config.ip_persistence().map(|settings| self.sources_for(*settings, now)).transpose()?;
        let cookie = config.cookie_persistence().then(|| config.cookie());
        let learned = match cookie.filter(|cookie| *cookie.mode() != CookieMode::Insert) {
            Some(cookie) => Some(self.learned_for(cookie)?),
            None => None,
        };
        let is_ours = cookie.is_some() && learned.is_none();
        let values = if is_ours { coming.key.map(|key| self.values_for(key, coming.entry)) } else { None };
        Ok(Self { sources, learned, values })
    }

    fn sources_for(&self, settings: IpPersistence, now: Time) -> Result<Arc<Sources>, Refused> {
        let bounds = |settings: IpPersistence| (settings.size(), settings.prefix_v4(), settings.prefix_v6());
        let before = self.sources.as_ref();
        if let Some(before) = before.filter(|before| bounds(before.settings()) == bounds(settings)) {
            return Ok(Arc::new(Sources::new(Arc::clone(&before.affinities), settings)));
        }
        let sources = Sources::new(affinities("ip_persistence", settings.size())?, settings);
        if let Some(before) = before {
            take_over(&sources, before, now);
        }
        Ok(Arc::new(sources))
    }

    fn learned_for(&self, cookie: &CookieSettings) -> Result<Arc<Learned>, Refused> {
        let seconds = cookie.max_age().map_or(LEARNED_TTL, |age| age.as_seconds().into());
        let ttl = Millis::from_duration_clamped(std::time::Duration::from_secs(seconds));
        Ok(Arc::new(match &self.learned {
            Some(before) => before.with_ttl(ttl),
            None => Learned::new(affinities("cookie", LEARNED_SIZE)?, ttl),
        }))
    }

    /// The values of the servers; those of servers that had one already are not made again.
    fn values_for(&self, key: &PersistenceKey, entry: &Entry) -> Arc<Values> {
        let before = self.values.as_ref().filter(|before| before.key == *key);
        let servers = || entry.server_ids.iter().zip(entry.frontend.servers());
        let known = |id: &u64, identity: &Name| {
            before.filter(|before| before.identities.get(id) == Some(identity)).and_then(|before| before.table.get(id))
        };
        let is_all_known = || servers().all(|(id, server)| known(id, server.identity()).is_some());
        if let Some(before) =
            before.filter(|before| before.identities.len() == entry.server_ids.len() && is_all_known())
        {
            return Arc::clone(before);
        }
        let hmac = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        let table = servers().map(|(id, server)| {
            let identity = server.identity();
            (*id, known(id, identity).copied().unwrap_or_else(|| value_of(&hmac, identity)))
        });
        let identities = servers().map(|(id, server)| (*id, server.identity().clone())).collect();
        Arc::new(Values { key: key.clone(), identities, table: Arc::new(table.collect()) })
    }

    /// What shards see of it; `None` if clients don't stay.
    pub(super) fn table(&self, coming: &Coming<'_>) -> Option<Box<Persistence>> {
        let config = &coming.entry.frontend;
        let cookie = self.cookie(config);
        if cookie.is_none() && self.sources.is_none() {
            return None;
        }
        Some(Box::new(Persistence::new(cookie, self.sources.clone(), stays(coming))))
    }

    fn cookie(&self, config: &Frontend) -> Option<CookiePersistence> {
        let cookie = config.cookie();
        let (name, mode) = match (cookie.mode(), &self.learned, &self.values) {
            (CookieMode::Passive(name), Some(learned), _) => {
                (name, persistence::CookieMode::Passive(Arc::clone(learned)))
            }
            (CookieMode::Insert, _, Some(values)) => {
                let before = format!("{}=", cookie.name()).into_bytes().into();
                let after = attributes(cookie, config.protocol()).into_bytes().into();
                (cookie.name(), persistence::CookieMode::Insert { before, after, values: Arc::clone(&values.table) })
            }
            _ => return None,
        };
        Some(CookiePersistence { name: name.as_str().into(), mode, strip: cookie.strip() })
    }

    /// Takes over what shards have remembered elsewhere until they all used this.
    pub(super) fn on_settled(&self, before: &Self, now: Time) {
        if let (Some(sources), Some(before)) = (&self.sources, &before.sources)
            && !Arc::ptr_eq(&sources.affinities, &before.affinities)
        {
            take_over(sources, before, now);
        }
    }
}

fn take_over(sources: &Sources, before: &Sources, now: Time) {
    let since = span(now, sources.settings().ttl()).since;
    sources.affinities.adopt(&before.affinities, since, |key| sources.rename(key, before.settings()));
}

fn affinities(field: &str, size: u32) -> Result<Arc<Affinities>, Refused> {
    let missing = || Refused::field(field, format!("there is no memory to remember {size} clients"));
    Affinities::new(size).map(Arc::new).ok_or_else(missing)
}

/// The servers that clients stay on.
fn stays(coming: &Coming<'_>) -> BTreeMap<u64, Stay> {
    let has_routes = coming.groups.len() > 1;
    let groups: HashMap<Option<&Name>, usize> =
        coming.groups.iter().enumerate().map(|(index, group)| (group.name.as_ref(), index)).collect();
    let servers = coming.entry.frontend.servers().iter().zip(coming.endpoints).zip(coming.roles);
    let stay = |((server, endpoint), role): ((&Arc<_>, &Arc<Endpoint>), &Role)| {
        let server: &crate::config::Server = server;
        if !matches!(role, Role::Main { .. } | Role::Drained) {
            return None;
        }
        let group = if has_routes { *groups.get(&server.group())? } else { 0 };
        let max_connections = server.max_connections().unwrap_or(u32::MAX);
        Some((
            endpoint.load.id,
            Stay { name: server.name().clone(), endpoint: Arc::clone(endpoint), max_connections, group },
        ))
    };
    servers.filter_map(stay).collect()
}

/// What follows the value in Set-Cookie.
fn attributes(cookie: &CookieSettings, protocol: Protocol) -> String {
    let mut attributes = format!("; Path={}", cookie.path());
    if let Some(age) = cookie.max_age() {
        attributes.push_str(&format!("; Max-Age={}", age.as_seconds()));
    }
    if let Some(domain) = cookie.domain() {
        attributes.push_str(&format!("; Domain={domain}"));
    }
    attributes.push_str("; HttpOnly; SameSite=Lax");
    if protocol == Protocol::Https {
        attributes.push_str("; Secure");
    }
    attributes
}

/// What stands for a server: nobody without the key can tell which one, or make another one's.
fn value_of(key: &hmac::Key, identity: &Name) -> Value {
    let mut context = hmac::Context::with_key(key);
    context.update(b"lb cookie 1\0");
    context.update(identity.as_str().as_bytes());
    let tag = context.sign();
    let mut bits = [0; 16];
    bits.copy_from_slice(&tag.as_ref()[..16]);
    base64url(u128::from_be_bytes(bits))
}

/// In base64 for URLs (RFC 4648, section 5), without padding.
fn base64url(bits: u128) -> Value {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut value = [0; 22];
    for (place, digit) in value.iter_mut().enumerate() {
        // The last digit has two bits only, with four zeros behind them.
        let shifted = if place < 21 { bits >> (122 - 6 * place) } else { bits << 4 };
        *digit = ALPHABET[(shifted & 63) as usize];
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        assert_eq!(&base64url(0), b"AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(&base64url(u128::MAX), b"_____________________w");
        assert_eq!(&base64url(u128::from_be_bytes(*b"Many hands make ")), b"TWFueSBoYW5kcyBtYWtlIA");
    }

    #[test]
    fn a_value_depends_on_the_key_and_the_identity_and_nothing_else() {
        let key = |byte| hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32]);
        let [one, other] = ["app1", "app2"].map(|name| Name::new(name).unwrap());
        // printf 'lb cookie 1\0app1' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0101… -binary | head -c 16 | basenc --base64url
        assert_eq!(&value_of(&key(1), &one), KNOWN);
        assert_ne!(value_of(&key(1), &one), value_of(&key(2), &one));
        assert_ne!(value_of(&key(1), &one), value_of(&key(1), &other));
    }

    const KNOWN: &[u8; 22] = b"V6A63K7Sozq53QPPLrkdqw";

    #[test]
    fn attributes_are_written_as_browsers_read_them() {
        let cookie = CookieSettings::default();
        assert_eq!(attributes(&cookie, Protocol::Http), "; Path=/; HttpOnly; SameSite=Lax");
        let cookie: CookieSettings = "max_age=1h,domain=example.com,path=/app".parse().unwrap();
        assert_eq!(
            attributes(&cookie, Protocol::Https),
            "; Path=/app; Max-Age=3600; Domain=example.com; HttpOnly; SameSite=Lax; Secure"
        );
    }
}
