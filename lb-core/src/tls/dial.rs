//! What a server is dialled with by TLS.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, Error};

use super::certificate::{Identity, Trust};
use super::verify::{ByBundle, Presented};
use super::{explain, provider};
use crate::config::Invalid;

/// Sessions that a shard keeps of a server. They are used once each.
const SESSIONS: usize = 8;

/// What a server's certificate must be for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected<'a> {
    /// A DNS name or an IP address in its place; without it, `ip`.
    pub(crate) server_name: Option<&'a str>,
    /// Whether the name is checked at all. The chain is, always.
    pub(crate) verify_name: bool,
    /// Where the server is.
    pub(crate) ip: IpAddr,
}

/// How a server is dialled: one configuration per shard, each with sessions of its own, so that shards share no lock.
#[derive(Debug)]
pub(crate) struct Dialer {
    shards: Vec<Arc<ClientConfig>>,
    trial: Arc<ClientConfig>,
    name: ServerName<'static>,
    trust: Arc<Trust>,
    presented: Presented,
}

impl Dialer {
    /// Trusts what `trust` does, and shows `identity` to a server that asks.
    ///
    /// # Errors
    /// The server's name is none.
    pub(crate) fn new(
        trust: &Arc<Trust>,
        expected: Expected<'_>,
        identity: Option<&Identity>,
        shards: usize,
    ) -> Result<Self, Invalid> {
        let name = match expected.server_name {
            Some(name) => ServerName::try_from(name.to_owned()).map_err(|_| {
                Invalid::new("server_name", format!("{name:?} is neither a DNS name nor an IP address"))
            })?,
            None => ServerName::from(expected.ip),
        };
        let presented = Presented::default();
        let make = |resumption| {
            let verifier = ByBundle::new(Arc::clone(trust), expected.verify_name, Arc::clone(&presented));
            let config = config(verifier, identity, resumption).map(Arc::new);
            config.map_err(|error| Invalid::new("server_certificate", error.to_string()))
        };
        let shards = (0..shards).map(|_| make(Resumption::in_memory_sessions(SESSIONS))).collect::<Result<_, _>>()?;
        let trial = make(Resumption::disabled())?;
        Ok(Self { shards, trial, name, trust: Arc::clone(trust), presented })
    }

    /// The configuration of a shard.
    pub(crate) fn config(&self, shard: usize) -> &Arc<ClientConfig> {
        &self.shards[shard]
    }

    /// The configuration of checks and trials: no session is resumed, so that the certificate is judged each time.
    pub(crate) fn trial(&self) -> &Arc<ClientConfig> {
        &self.trial
    }

    /// What the server's certificate must be for. It is sent to the server (SNI) if it is a DNS name.
    pub(crate) fn name(&self) -> ServerName<'static> {
        self.name.clone()
    }

    /// What the server presented, which check failed and how to mend it, after a handshake failed by `error`. If several fail
    /// at once, what was presented may be another one's.
    pub(crate) fn explain(&self, error: &Error) -> String {
        let presented = self.presented.lock().unwrap_or_else(PoisonError::into_inner).clone();
        explain::explain(error, presented.as_deref().unwrap_or_default(), &self.trust)
    }
}

fn config(verifier: ByBundle, identity: Option<&Identity>, resumption: Resumption) -> Result<ClientConfig, Error> {
    let versions = ClientConfig::builder_with_provider(Arc::clone(provider())).with_safe_default_protocol_versions()?;
    let verified = versions.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(identity) => {
            let key = SingleCertAndKey::from(rustls::sign::CertifiedKey::clone(&identity.key));
            verified.with_client_cert_resolver(Arc::new(key))
        }
        None => verified.with_no_client_auth(),
    };
    config.resumption = resumption;
    Ok(config)
}
