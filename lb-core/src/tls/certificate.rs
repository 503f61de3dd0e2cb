//! Loading what a configuration names: a chain with its key, or a bundle of those who are trusted. What is broken is refused here,
//! once, so that handshakes can only fail for what the other end does.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};

pub(crate) use super::facts::Facts;
use super::facts::Parsed;
use super::{pem, provider};
use crate::config::{Certificate, CertificateContent, Invalid, Name};

/// The shortest RSA key that is used or trusted. webpki verifies nothing by a shorter one.
const RSA_BITS_MIN: usize = 2048;

/// A certificate that can be used.
#[derive(Debug, Clone)]
pub(crate) enum Loaded {
    /// What is shown to others.
    Identity(Arc<Identity>),
    /// What others are judged by.
    Trust(Arc<Trust>),
}

impl Loaded {
    /// What its certificates say, in their order, a chain's leaf first.
    pub(crate) fn facts(&self) -> &[Facts] {
        match self {
            Self::Identity(identity) => &identity.facts,
            Self::Trust(trust) => &trust.facts,
        }
    }
}

/// A chain and the key of its first certificate.
pub(crate) struct Identity {
    pub(crate) key: Arc<CertifiedKey>,
    /// What the first certificate is for: its alternative names or, where it has none, its common name.
    pub(crate) names: Vec<String>,
    /// Of the whole chain.
    facts: Vec<Facts>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Identity").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// Who is trusted.
#[derive(Debug)]
pub(crate) struct Trust {
    /// Its name in the configuration.
    pub(super) name: Name,
    /// Who may issue.
    pub(super) roots: Arc<RootCertStore>,
    /// Those that help to get from a server's certificate to a root.
    pub(super) intermediates: Vec<CertificateDer<'static>>,
    /// All that it holds, with what they say.
    pub(super) certificates: Vec<CertificateDer<'static>>,
    facts: Vec<Facts>,
}

impl Trust {
    /// The facts of `certificate` if the bundle holds exactly it.
    pub(super) fn held(&self, certificate: &CertificateDer<'_>) -> Option<&Facts> {
        let position = self.certificates.iter().position(|held| held == certificate);
        position.and_then(|position| self.facts.get(position))
    }
}

/// Loads a certificate.
///
/// # Errors
/// What is wrong with it, with `chain`, `key` or `bundle` as the field.
pub(crate) fn load(certificate: &Certificate) -> Result<Loaded, Invalid> {
    match certificate.content() {
        CertificateContent::Pair { chain, key } => {
            Ok(Loaded::Identity(Arc::new(load_pair(chain.as_str(), key.expose())?)))
        }
        CertificateContent::Bundle { bundle } => {
            Ok(Loaded::Trust(Arc::new(load_bundle(certificate.name(), bundle.as_str())?)))
        }
    }
}

fn load_pair(chain: &str, key: &str) -> Result<Identity, Invalid> {
    let chain = pem::certificates("chain", chain)?;
    let parsed = parse_all("chain", &chain)?;
    let key = pem::private_key("key", key)?;
    let key = provider().key_provider.load_private_key(key).map_err(|_| {
        let supported = "RSA of at least 2048 bits, ECDSA on P-256, P-384 or P-521, and Ed25519";
        Invalid::new("key", format!("the key is broken or of a kind that is not supported: {supported} are"))
    })?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|error| mismatch(&error, &certified, &parsed))?;
    let names = match (parsed.first(), parsed.first().and_then(|leaf| leaf.common_name.as_ref())) {
        (Some(leaf), Some(name)) if leaf.facts.names.is_empty() => vec![name.to_ascii_lowercase()],
        (Some(leaf), _) => leaf.facts.names.clone(),
        (None, _) => Vec::new(),
    };
    let facts = parsed.into_iter().map(|parsed| parsed.facts).collect();
    Ok(Identity { key: Arc::new(certified), names, facts })
}

/// Why a key and the first certificate of a chain don't go together.
fn mismatch(error: &Error, certified: &CertifiedKey, parsed: &[Parsed]) -> Invalid {
    let subject = parsed.first().map_or("", |leaf| &leaf.facts.subject);
    if *error != Error::InconsistentKeys(InconsistentKeys::KeyMismatch) {
        let reason = format!("the first certificate, {subject:?}, can't be used: {error}");
        return Invalid::new("chain", reason);
    }
    let fits = |certificate: &CertificateDer<'static>| {
        CertifiedKey::new(vec![certificate.clone()], Arc::clone(&certified.key)).keys_match().is_ok()
    };
    match certified.cert.iter().position(fits).and_then(|fitting| parsed.get(fitting)) {
        Some(fitting) => {
            let fitting = &fitting.facts.subject;
            Invalid::new("chain", format!("the key is that of {fitting:?}, which must come first, before {subject:?}"))
        }
        None => Invalid::new("key", format!("it does not fit the first certificate of the chain, {subject:?}")),
    }
}

fn load_bundle(name: &Name, text: &str) -> Result<Trust, Invalid> {
    let mut certificates = pem::certificates("bundle", text)?;
    let mut parsed = parse_all("bundle", &certificates)?;
    drop_repeated(&mut certificates, &mut parsed);
    let is_anchor = anchors(&parsed);
    let mut roots = RootCertStore::empty();
    let mut intermediates = Vec::new();
    for (position, (certificate, parsed)) in certificates.iter().zip(&parsed).enumerate() {
        if is_anchor[position] {
            roots.add(certificate.clone()).map_err(|error| unusable("bundle", position, &error.to_string()))?;
        } else if parsed.is_ca {
            intermediates.push(certificate.clone());
        }
    }
    let facts = parsed.into_iter().map(|parsed| parsed.facts).collect();
    Ok(Trust { name: name.clone(), roots: Arc::new(roots), intermediates, certificates, facts })
}

/// Which certificates of a bundle are trusted to issue by themselves: CAs that are self-issued, and those whose issuer the
/// bundle does not hold, as `openssl verify -partial_chain` does. A CA that another one in the bundle issued only helps.
/// What is no CA never issues: it is trusted as the server's own certificate, and for nothing else.
fn anchors(parsed: &[Parsed]) -> Vec<bool> {
    let stands_alone = |certificate: &Parsed| {
        let has_issuer = parsed.iter().any(|other| other.is_ca && certificate.is_issued_by(other));
        certificate.is_ca && (certificate.is_self_issued() || !has_issuer)
    };
    let anchors: Vec<bool> = parsed.iter().map(stands_alone).collect();
    match anchors.contains(&true) {
        true => anchors,
        // They issued each other.
        false => parsed.iter().map(|certificate| certificate.is_ca).collect(),
    }
}

fn drop_repeated(certificates: &mut Vec<CertificateDer<'static>>, parsed: &mut Vec<Parsed>) {
    let mut seen = std::collections::HashSet::new();
    let is_new: Vec<bool> = certificates.iter().map(|certificate| seen.insert(certificate.clone())).collect();
    let (mut first, mut second) = (is_new.iter(), is_new.iter());
    certificates.retain(|_| first.next() == Some(&true));
    parsed.retain(|_| second.next() == Some(&true));
}

fn parse_all(field: &str, certificates: &[CertificateDer<'static>]) -> Result<Vec<Parsed>, Invalid> {
    let parse = |(position, certificate)| {
        let parsed = Parsed::read(certificate).map_err(|why| unusable(field, position, &why))?;
        match parsed.rsa_bits {
            Some(bits) if bits < RSA_BITS_MIN => {
                let subject = &parsed.facts.subject;
                let reason =
                    format!("the key of {subject:?} is RSA of {bits} bits, at least {RSA_BITS_MIN} are needed");
                Err(Invalid::new(field, reason))
            }
            _ => Ok(parsed),
        }
    };
    certificates.iter().enumerate().map(parse).collect()
}

fn unusable(field: &str, position: usize, why: &str) -> Invalid {
    Invalid::new(field, format!("certificate {} in it can't be read: {why}", position + 1))
}
