//! TLS as both planes need it: certificates that are loaded, what a frontend accepts with, what a server is dialled with, and
//! why a handshake failed. Nothing here owns a socket.
//!
//! Cryptography is rustls' with aws-lc-rs, with rustls' own choice of versions, ciphers and curves.

pub(crate) mod accept;
pub(crate) mod cause;
pub(crate) mod certificate;
pub(crate) mod dial;
mod explain;
mod facts;
mod pem;
mod pick;
pub(crate) mod session;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod verify;

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

use crate::config::PersistenceKey;

/// A key that nobody can guess.
///
/// # Errors
/// The system has no random bytes: one sentence.
pub(crate) fn random_key() -> Result<PersistenceKey, String> {
    let mut bytes = [0; 32];
    let filled = provider().secure_random.fill(&mut bytes);
    filled.map(|()| PersistenceKey::new(bytes)).map_err(|_| "the system has no random bytes for a key".to_owned())
}

/// The cryptography of the whole process.
fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    &PROVIDER
}
