//! What a frontend accepts TLS with.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};

use super::certificate::{Identity, Trust};
use super::pick::Picker;
use super::provider;
use crate::config::{ClientAuth, Invalid};

/// How the clients of a frontend are answered: one configuration per shard, so that shards count no references together.
#[derive(Debug)]
pub(crate) struct Acceptor {
    shards: Vec<Arc<ServerConfig>>,
}

impl Acceptor {
    /// Shows `identities`, the first to clients that ask for no name of theirs, and offers `alpn` in this order. With `client`
    /// clients are asked for a certificate of that bundle.
    ///
    /// # Errors
    /// No identity, or a bundle without a CA.
    pub(crate) fn new(
        identities: &[Arc<Identity>],
        alpn: &[Vec<u8>],
        client: Option<(&Arc<Trust>, ClientAuth)>,
        tickets: &Arc<Tickets>,
        shards: usize,
    ) -> Result<Self, Invalid> {
        if identities.is_empty() {
            return Err(Invalid::new("certificates", "TLS needs at least one certificate"));
        }
        let versions =
            ServerConfig::builder_with_provider(Arc::clone(provider())).with_safe_default_protocol_versions();
        let versions = versions.map_err(|error| Invalid::new("certificates", error.to_string()))?;
        let builder = match client {
            Some((trust, auth)) => versions.with_client_cert_verifier(client_verifier(trust, auth)?),
            None => versions.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(Picker::new(identities)));
        config.alpn_protocols = alpn.to_vec();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        config.ticketer = Arc::new(Bound { tickets: Arc::clone(&tickets.0), mark: mark(client) });
        Ok(Self { shards: (0..shards).map(|_| Arc::new(config.clone())).collect() })
    }

    /// The configuration of a shard.
    pub(crate) fn config(&self, shard: usize) -> &Arc<ServerConfig> {
        &self.shards[shard]
    }
}

fn client_verifier(trust: &Trust, auth: ClientAuth) -> Result<Arc<dyn ClientCertVerifier>, Invalid> {
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(&trust.roots), Arc::clone(provider()));
    let builder = match auth {
        ClientAuth::Required => builder,
        ClientAuth::Optional => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|_| {
        Invalid::new(
            "client_ca",
            format!("bundle {} holds no CA, so nobody could show a certificate of it", trust.name),
        )
    })
}

/// The keys of a frontend's session tickets, the same on all shards. They change every six hours, and a ticket is good for
/// twelve at most.
#[derive(Debug)]
pub(crate) struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    /// New keys.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub(crate) fn new() -> Result<Arc<Self>, Invalid> {
        let ticketer = Ticketer::new();
        let ticketer =
            ticketer.map_err(|error| Invalid::new("certificates", format!("no keys for tickets: {error}")))?;
        Ok(Arc::new(Self(ticketer)))
    }
}

/// What of a frontend a session must have been begun under to be resumed.
type Mark = [u8; 16];

/// Tickets that are good only where clients are judged as they were when the tickets were given. A session that is resumed is
/// not judged again: without this, who was trusted by a bundle that was replaced would be let in until the keys change.
#[derive(Debug)]
struct Bound {
    tickets: Arc<dyn ProducesTickets>,
    mark: Mark,
}

/// The mark of how clients are judged.
fn mark(client: Option<(&Arc<Trust>, ClientAuth)>) -> Mark {
    let Some((trust, auth)) = client else { return Mark::default() };
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(&[u8::from(auth == ClientAuth::Required)]);
    for certificate in &trust.certificates {
        hash.update(&certificate.len().to_le_bytes());
        hash.update(certificate);
    }
    hash.digest128().to_le_bytes()
}

impl ProducesTickets for Bound {
    fn enabled(&self) -> bool {
        self.tickets.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.tickets.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.tickets.encrypt(&[plain, &self.mark].concat())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let mut plain = self.tickets.decrypt(cipher)?;
        let end = plain.strip_suffix(&self.mark)?.len();
        plain.truncate(end);
        Some(plain)
    }
}
