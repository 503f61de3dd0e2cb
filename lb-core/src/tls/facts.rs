//! What a certificate says, for people and for sorting a bundle. Nothing here is verified.

use std::net::{Ipv4Addr, Ipv6Addr};

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name, X509Version};

/// Most characters of a name that are shown. Certificates of others have any length.
const SHOWN_MAX: usize = 200;
/// Most names that are kept of a certificate.
const NAMES_MAX: usize = 1000;

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// "CN=app1, O=Example".
    pub(crate) subject: String,
    pub(crate) issuer: String,
    /// The DNS names (lower case) and IP addresses it is for.
    pub(crate) names: Vec<String>,
    /// Seconds since 1970, as is `not_after`.
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    /// "ECDSA P-256", "RSA 2048".
    pub(crate) key: String,
}

/// A certificate's facts, and what is needed to tell who issued whom.
#[derive(Debug, Clone)]
pub(super) struct Parsed {
    pub(super) facts: Facts,
    /// Whether it may issue others.
    pub(super) is_ca: bool,
    pub(super) rsa_bits: Option<usize>,
    /// The subject's common name.
    pub(super) common_name: Option<String>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    subject_key: Option<Vec<u8>>,
    issuer_key: Option<Vec<u8>>,
}

impl Parsed {
    /// Reads a certificate.
    ///
    /// # Errors
    /// It is not one. The phrase says what the parser stumbled over.
    pub(super) fn read(der: &CertificateDer<'_>) -> Result<Self, String> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| shown(&error.to_string()))?;
        if !rest.is_empty() {
            return Err("bytes follow its end".into());
        }
        let (subject_key, issuer_key) = key_ids(&certificate);
        let key = certificate.public_key();
        let common_name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        Ok(Self {
            facts: Facts {
                subject: name(certificate.subject()),
                issuer: name(certificate.issuer()),
                names: names(&certificate),
                not_before: certificate.validity().not_before.timestamp(),
                not_after: certificate.validity().not_after.timestamp(),
                key: key_kind(key),
            },
            is_ca: is_ca(&certificate),
            rsa_bits: rsa_bits(key),
            common_name: common_name.map(shown),
            subject: certificate.subject().as_raw().to_vec(),
            issuer: certificate.issuer().as_raw().to_vec(),
            subject_key,
            issuer_key,
        })
    }

    /// Whether its issuer is its subject.
    pub(super) fn is_self_issued(&self) -> bool {
        self.is_issued_by(self)
    }

    /// Whether `issuer` issued it, as far as names and key identifiers tell.
    pub(super) fn is_issued_by(&self, issuer: &Self) -> bool {
        let same_key = match (&self.issuer_key, &issuer.subject_key) {
            (Some(wanted), Some(key)) => wanted == key,
            _ => true,
        };
        self.is_named_after(issuer) && same_key
    }

    /// Whether the name of its issuer is `other`'s.
    pub(super) fn is_named_after(&self, other: &Self) -> bool {
        self.issuer == other.subject
    }
}

/// Whether it may issue: by its basic constraints, or as a root from before there were any.
fn is_ca(certificate: &X509Certificate<'_>) -> bool {
    let is_old_root =
        certificate.version() == X509Version::V1 && certificate.subject().as_raw() == certificate.issuer().as_raw();
    certificate.is_ca() || is_old_root
}

fn name(name: &X509Name<'_>) -> String {
    match shown(&name.to_string()) {
        empty if empty.is_empty() => "(no name)".into(),
        name => name,
    }
}

/// `text` as it may be written to a log or a terminal.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX).map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    names.value.general_names.iter().filter_map(alternative).take(NAMES_MAX).collect()
}

fn alternative(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(shown(&name.to_ascii_lowercase())),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|octets| Ipv4Addr::from(octets).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|octets| Ipv6Addr::from(octets).to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// The identifiers of its own key and of its issuer's.
fn key_ids(certificate: &X509Certificate<'_>) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let (mut own, mut issuer) = (None, None);
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => own = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                issuer = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            _ => {}
        }
    }
    (own, issuer)
}

fn rsa_bits(key: &SubjectPublicKeyInfo<'_>) -> Option<usize> {
    match key.parsed() {
        Ok(PublicKey::RSA(key)) => {
            let first = key.modulus.iter().position(|byte| *byte != 0)?;
            let modulus = &key.modulus[first..];
            Some(modulus.len() * 8 - modulus[0].leading_zeros() as usize)
        }
        _ => None,
    }
}

fn key_kind(key: &SubjectPublicKeyInfo<'_>) -> String {
    if let Some(bits) = rsa_bits(key) {
        return format!("RSA {bits}");
    }
    let algorithm = &key.algorithm.algorithm;
    if *algorithm == oid_registry::OID_SIG_ED25519 {
        return "Ed25519".into();
    }
    if *algorithm != oid_registry::OID_KEY_TYPE_EC_PUBLIC_KEY {
        return algorithm.to_id_string();
    }
    match key.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok()) {
        Some(curve) if curve == oid_registry::OID_EC_P256 => "ECDSA P-256".into(),
        Some(curve) if curve == oid_registry::OID_NIST_EC_P384 => "ECDSA P-384".into(),
        Some(curve) if curve == oid_registry::OID_NIST_EC_P521 => "ECDSA P-521".into(),
        Some(curve) => format!("ECDSA on curve {}", curve.to_id_string()),
        None => "ECDSA".into(),
    }
}
