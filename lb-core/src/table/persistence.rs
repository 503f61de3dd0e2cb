//! On which servers clients stay. STUB until http-persist is merged.

use std::collections::HashMap;
use std::sync::Arc;

use super::Endpoint;
use crate::turns::timers::Time;

pub(crate) struct Stay {
    pub(crate) endpoint: Arc<Endpoint>,
}

pub(crate) struct Persistence {
    pub(crate) cookie: Option<CookiePersistence>,
    stays: HashMap<u64, Stay>,
}

pub(crate) struct CookiePersistence {
    pub(crate) name: Arc<str>,
    pub(crate) mode: Mode,
    pub(crate) strip: bool,
}

pub(crate) enum Mode {
    Insert { before: Box<[u8]>, after: Box<[u8]>, values: HashMap<u64, [u8; 22]> },
    Passive(()),
}

impl Persistence {
    pub(crate) fn stay(&self, server: u64) -> Option<&Stay> {
        self.stays.get(&server)
    }
    pub(crate) fn by_cookie(&self, _value: &[u8]) -> Option<&Stay> {
        None
    }
    pub(crate) fn learn(&self, _value: &[u8], _server: u64, _now: Time) {}
}
