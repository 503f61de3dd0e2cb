//! On which servers clients stay.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::sources::{Learned, Sources};
use super::{Endpoint, Frontend};
use crate::config::Name;
use crate::turns::timers::Time;

/// On which servers a frontend's clients stay.
pub(crate) struct Persistence {
    pub(crate) cookie: Option<CookiePersistence>,
    pub(crate) sources: Option<Arc<Sources>>,
    /// By identity.
    stays: BTreeMap<u64, Stay>,
}

/// A server that clients stay on.
pub(crate) struct Stay {
    pub(crate) name: Name,
    pub(crate) endpoint: Arc<Endpoint>,
    /// Most connections, `u32::MAX` for no limit.
    pub(crate) max_connections: u32,
    /// Which of the frontend's groups it is in.
    pub(crate) group: usize,
}

/// By which cookie clients stay.
pub(crate) struct CookiePersistence {
    /// The one to look for.
    pub(crate) name: Arc<str>,
    pub(crate) mode: CookieMode,
    /// Whether it is taken out of requests.
    pub(crate) strip: bool,
}

/// Whose cookie it is.
pub(crate) enum CookieMode {
    /// Ours: responses get what is before the value, the value of their server, and what is after it.
    Insert { before: Box<[u8]>, after: Box<[u8]>, values: Arc<CookieValues> },
    /// The application's.
    Passive(Arc<Learned>),
}

/// What stands for a server in a cookie.
pub(crate) type Value = [u8; 22];

/// The values that stand for servers, both ways.
#[derive(Default)]
pub(crate) struct CookieValues {
    by_server: BTreeMap<u64, Value>,
    /// By a hash with a key, so that the time that a look takes tells nobody how much of a value was right.
    by_value: HashMap<Value, u64>,
}

impl CookieValues {
    /// The value of a server.
    pub(crate) fn get(&self, server: &u64) -> Option<&Value> {
        self.by_server.get(server)
    }

    /// The server that a value stands for.
    fn server_of(&self, value: &[u8]) -> Option<u64> {
        self.by_value.get(value).copied()
    }
}

impl FromIterator<(u64, Value)> for CookieValues {
    fn from_iter<I: IntoIterator<Item = (u64, Value)>>(pairs: I) -> Self {
        let by_server: BTreeMap<_, _> = pairs.into_iter().collect();
        let by_value = by_server.iter().map(|(server, value)| (*value, *server)).collect();
        Self { by_server, by_value }
    }
}

impl Persistence {
    /// Clients stay on `stays`, by server.
    pub(crate) fn new(
        cookie: Option<CookiePersistence>,
        sources: Option<Arc<Sources>>,
        stays: BTreeMap<u64, Stay>,
    ) -> Self {
        Self { cookie, sources, stays }
    }

    /// The server with this identity, if clients stay on it: one that gets new connections as well, or that is drained, and
    /// neither down nor ejected. Clients of others are balanced anew.
    pub(crate) fn stay(&self, server: u64) -> Option<&Stay> {
        self.stays.get(&server)
    }

    /// The server that the value of a client's cookie stands for, if clients stay on it.
    pub(crate) fn by_cookie(&self, value: &[u8], now: Time) -> Option<&Stay> {
        let server = match &self.cookie.as_ref()?.mode {
            CookieMode::Insert { values, .. } => values.server_of(value),
            CookieMode::Passive(learned) => learned.get(value, now),
        };
        self.stay(server?)
    }

    /// The application has given a client this cookie, which stands for the server that has answered.
    pub(crate) fn learn(&self, value: &[u8], server: u64, now: Time) {
        if let Some(CookieMode::Passive(learned)) = self.cookie.as_ref().map(|cookie| &cookie.mode) {
            learned.learn(value, server, now);
        }
    }
}

impl Stay {
    /// Gives a connection to the server, unless it is full. Its policy is told, if it has one.
    pub(crate) fn claim(&self, frontend: &Frontend) -> bool {
        let is_claimed = self.endpoint.open_one(self.max_connections);
        if is_claimed
            && let Some(place) = self.endpoint.load.place()
            && let Some(tier) = frontend.tier(place)
        {
            tier.policy.on_opened(place.position);
        }
        is_claimed
    }
}
