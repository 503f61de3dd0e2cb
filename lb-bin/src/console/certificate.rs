//! The certificate that the console shows: one of the balancer's, as it is now.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use lb_core::config::{Certificate, CertificateContent, Name};
use lb_core::{Saved, Snapshot, Store};
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The console's certificate. Clones are handles to the same.
#[derive(Clone)]
pub(crate) struct Shown(Arc<Inner>);

struct Inner {
    name: Name,
    current: RwLock<Current>,
}

struct Current {
    from: Certificate,
    key: Arc<CertifiedKey>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Shown({})", self.0.name)
    }
}

impl Shown {
    /// The pair of this name among the certificates.
    ///
    /// # Errors
    /// There is none, or it can't be used: one sentence.
    pub(super) fn find(name: &Name, certificates: &[Certificate]) -> Result<Self, String> {
        let found = certificates.iter().find(|certificate| certificate.name() == name);
        let from = found.ok_or_else(|| format!("console: there is no certificate {name}"))?.clone();
        let key = certified(&from).map_err(|reason| format!("console: certificate {name}: {reason}"))?;
        let current = RwLock::new(Current { from, key });
        Ok(Self(Arc::new(Inner { name: name.clone(), current })))
    }

    /// How TLS is spoken with it.
    ///
    /// # Errors
    /// The versions of TLS are not available.
    pub(super) fn server_config(&self) -> Result<Arc<ServerConfig>, String> {
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| format!("console: {error}"))?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Whether it is for this DNS name.
    pub(super) fn is_for(&self, name: &str) -> bool {
        let key = self.key();
        let (Some(first), Ok(name)) = (key.cert.first(), ServerName::try_from(name)) else { return false };
        ParsedCertificate::try_from(first).is_ok_and(|parsed| verify_server_name(&parsed, &name).is_ok())
    }

    fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner).key)
    }

    /// Takes the present one of these, if it is still there.
    fn renew(&self, certificates: &[Arc<Certificate>]) {
        let Some(found) = certificates.iter().find(|certificate| *certificate.name() == self.0.name) else { return };
        let mut current = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.from == **found {
            return;
        }
        match certified(found) {
            Ok(key) => {
                *current = Current { from: Certificate::clone(found), key };
                tracing::info!("the console shows the new certificate {}", self.0.name);
            }
            Err(reason) => tracing::warn!("the console goes on with the old certificate {}: {reason}", self.0.name),
        }
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key())
    }
}

fn certified(certificate: &Certificate) -> Result<Arc<CertifiedKey>, String> {
    let CertificateContent::Pair { chain, key } = certificate.content() else {
        return Err("it is a bundle, a pair is needed".to_owned());
    };
    let chain = CertificateDer::pem_slice_iter(chain.as_str().as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| format!("chain: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|error| format!("key: {error}"))?;
    let certified = CertifiedKey::from_der(chain, key, &default_provider()).map_err(|error| error.to_string())?;
    Ok(Arc::new(certified))
}

/// A store that also tells the console of its certificate's renewals.
#[derive(Debug)]
pub(crate) struct Renewing<S> {
    pub(crate) store: S,
    /// `None` if there is no console, or one without TLS.
    pub(crate) shown: Option<Shown>,
}

impl<S: Store> Store for Renewing<S> {
    fn save(&mut self, snapshot: Snapshot<'_>) -> Result<Saved, String> {
        let saved = self.store.save(snapshot)?;
        if let Some(shown) = &self.shown {
            shown.renew(snapshot.certificates);
        }
        Ok(saved)
    }
}
