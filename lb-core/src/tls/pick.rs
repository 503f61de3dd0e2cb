//! Which certificate a client is shown.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Identity;

/// A frontend's certificates by name. Several may have a name, with keys of several kinds.
#[derive(Debug)]
pub(super) struct Picker {
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By what follows "*.".
    wildcards: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// In the order of the configuration.
    all: Vec<Arc<CertifiedKey>>,
}

impl Picker {
    pub(super) fn new(identities: &[Arc<Identity>]) -> Self {
        let all = identities.iter().map(|identity| Arc::clone(&identity.key)).collect();
        let mut picker = Self { exact: HashMap::new(), wildcards: HashMap::new(), all };
        for identity in identities {
            for name in &identity.names {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut picker.wildcards, parent),
                    None => (&mut picker.exact, name.as_str()),
                };
                names.entry(name.to_ascii_lowercase()).or_default().push(Arc::clone(&identity.key));
            }
        }
        picker
    }

    /// The certificate for a client that asks for `name` and can verify `schemes`. An exact name goes before a wildcard, which
    /// stands for one label. Among several the first that the client can verify is taken. Who asks for no name, or for one
    /// that nobody has, gets the first of the frontend's certificates.
    fn pick(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let named = name.and_then(|name| self.named(name)).unwrap_or(&self.all);
        let usable = named.iter().chain(&self.all).find(|key| key.key.choose_scheme(schemes).is_some());
        // Without one rustls says it best: no signature scheme in common.
        usable.or(named.first()).cloned()
    }

    fn named(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let name = match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => Cow::Borrowed(name),
        };
        let parent = || name.split_once('.').and_then(|(_, parent)| self.wildcards.get(parent));
        self.exact.get(&*name).or_else(parent)
    }
}

impl ResolvesServerCert for Picker {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.pick(hello.server_name(), hello.signature_schemes())
    }
}
