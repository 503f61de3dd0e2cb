//! Certificates with their keys, and bundles of certificates to trust, as they are configured.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Invalid, Name};

/// What every PEM text contains, and no path.
const PEM_BEGIN: &str = "-----BEGIN";

/// What takes a reference away in an update, and so can't be a name.
pub(super) const NONE: &str = "none";

/// A text in PEM: certificates. Whether it is one is found out when it comes into use. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pem(Arc<str>);

/// A text in PEM that must stay secret: a private key. No `Debug` or `Display` shows it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretPem(Arc<str>);

impl Pem {
    /// Takes a text as it is.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// False for what can't be PEM: the path of a file, say.
    pub fn is_pem(&self) -> bool {
        self.0.contains(PEM_BEGIN)
    }
}

impl SecretPem {
    /// Takes a text as it is.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text. It must not be shown to anybody.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// False for what can't be PEM: the path of a file, say.
    pub fn is_pem(&self) -> bool {
        self.0.contains(PEM_BEGIN)
    }
}

impl fmt::Debug for Pem {
    /// Its length only: it is long, and who mixes up two fields has written a key here.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "[PEM, {} bytes]", self.0.len())
    }
}

impl fmt::Debug for SecretPem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

/// What a certificate entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateContent {
    /// A certificate with what leads from it to its CA, and its private key: shown to clients, or to servers.
    Pair {
        /// The certificate first, then those of the intermediate CAs.
        chain: Pem,
        /// The certificate's private key.
        key: SecretPem,
    },
    /// Certificates of CAs, by which others are trusted. Intermediate ones in it help to build chains.
    Bundle {
        /// The certificates in any order.
        bundle: Pem,
    },
}

impl CertificateContent {
    /// `pair` or `bundle`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Pair { .. } => "pair",
            Self::Bundle { .. } => "bundle",
        }
    }
}

/// A certificate with its key, or a bundle of certificates to trust, under the name by which frontends and servers use it.
/// Written `(name: "site", chain: "…", key: "…")` or `(name: "corp-ca", bundle: "…")`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Certificate {
    name: Name,
    content: CertificateContent,
}

impl Certificate {
    /// A certificate with its key, both in PEM. Whether they are sound and fit is checked when it comes into use.
    ///
    /// # Errors
    /// A name that is not allowed: see [`Name`]; and `none`, which means no certificate.
    pub fn pair(name: &str, chain: &str, key: &str) -> Result<Self, Invalid> {
        let content = CertificateContent::Pair { chain: Pem::new(chain), key: SecretPem::new(key) };
        Self::new(Name::new(name)?, content)
    }

    /// Certificates to trust, in PEM. Whether they are sound is checked when they come into use.
    ///
    /// # Errors
    /// As for [`Certificate::pair`].
    pub fn bundle(name: &str, pem: &str) -> Result<Self, Invalid> {
        Self::new(Name::new(name)?, CertificateContent::Bundle { bundle: Pem::new(pem) })
    }

    /// An entry of this name and content.
    ///
    /// # Errors
    /// The name `none`, which means no certificate.
    pub fn new(name: Name, content: CertificateContent) -> Result<Self, Invalid> {
        Ok(Self { name: not_none("name", name)?, content })
    }

    /// Checks what it holds, as is done when it comes into use.
    ///
    /// # Errors
    /// What is broken, with the field `chain`, `key` or `bundle`.
    pub fn check(&self) -> Result<(), Invalid> {
        crate::tls::certificate::load(self).map(drop)
    }

    /// The same without its private key, to be shown.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        let content = match &self.content {
            CertificateContent::Pair { chain, .. } => {
                CertificateContent::Pair { chain: chain.clone(), key: SecretPem::new("[secret]") }
            }
            bundle => bundle.clone(),
        };
        Self { name: self.name.clone(), content }
    }

    /// The name by which frontends and servers use it, unique in the balancer.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What it holds.
    pub fn content(&self) -> &CertificateContent {
        &self.content
    }
}

/// Refuses `none` as a name: in an update it takes the reference away.
pub(super) fn not_none(field: &str, name: Name) -> Result<Name, Invalid> {
    match name.as_str() {
        NONE => Err(Invalid::new(field, format!("{field}: \"none\" stands for no name and can't be one"))),
        _ => Ok(name),
    }
}

/// A certificate as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename = "Certificate")]
struct Parts {
    name: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chain: Option<Pem>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<SecretPem>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bundle: Option<Pem>,
}

impl TryFrom<Parts> for Certificate {
    type Error = String;

    fn try_from(Parts { name, chain, key, bundle }: Parts) -> Result<Self, String> {
        Self::from_parts(name, chain, key, bundle).map_err(|invalid| invalid.reason)
    }
}

impl Certificate {
    /// An entry of what is given: a chain and its key, or a bundle.
    ///
    /// # Errors
    /// Anything else, or the name `none`, which means no certificate.
    pub fn from_parts(
        name: Name,
        chain: Option<Pem>,
        key: Option<SecretPem>,
        bundle: Option<Pem>,
    ) -> Result<Self, Invalid> {
        let refuse = |field: &str, reason: &str| Err(Invalid::new(field, format!("certificate {name}: {reason}")));
        let content = match (chain, key, bundle) {
            (Some(chain), Some(key), None) => CertificateContent::Pair { chain, key },
            (None, None, Some(bundle)) => CertificateContent::Bundle { bundle },
            (Some(_), None, None) => return refuse("key", "key is missing, the chain's private key"),
            (None, Some(_), None) => return refuse("chain", "chain is missing, the key's certificates"),
            (None, None, None) => {
                return refuse("chain", "give it chain and key, or for certificates to trust bundle");
            }
            _ => return refuse("bundle", "it is either a chain with its key or a bundle, not both"),
        };
        Self::new(name, content)
    }
}

impl From<Certificate> for Parts {
    fn from(Certificate { name, content }: Certificate) -> Self {
        match content {
            CertificateContent::Pair { chain, key } => Self { name, chain: Some(chain), key: Some(key), bundle: None },
            CertificateContent::Bundle { bundle } => Self { name, chain: None, key: None, bundle: Some(bundle) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shows_what_it_holds() {
        let certificate = Certificate::pair("site", "-----BEGIN CHAIN", "-----BEGIN SECRET").unwrap();
        let shown = format!("{certificate:?}");
        assert!(!shown.contains("BEGIN") && shown.contains("[secret]") && shown.contains("site"), "{shown}");
    }

    #[test]
    fn it_is_a_pair_or_a_bundle_and_reads_as_written() {
        let read = |text: &str| serde_json::from_str::<Certificate>(text).map_err(|error| error.to_string());
        for text in [r#"{"name":"site","chain":"c","key":"k"}"#, r#"{"name":"ca","bundle":"b"}"#] {
            assert_eq!(serde_json::to_string(&read(text).unwrap()).unwrap(), text);
        }
        for (text, reason) in [
            (r#"{"name":"a"}"#, "certificate a: give it chain and key, or for certificates to trust bundle"),
            (r#"{"name":"a","chain":"c"}"#, "certificate a: key is missing, the chain's private key"),
            (r#"{"name":"a","key":"k"}"#, "certificate a: chain is missing, the key's certificates"),
            (r#"{"name":"a","chain":"c","bundle":"b"}"#, "it is either a chain with its key or a bundle, not both"),
            (r#"{"name":"none","bundle":"b"}"#, "\"none\" stands for no name and can't be one"),
            (r#"{"name":"a","file":"b"}"#, "unknown field `file`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_path_is_no_pem() {
        assert!(!Pem::new("certs/site.pem").is_pem() && !SecretPem::new("site.key").is_pem());
        assert!(Pem::new("# mine\n-----BEGIN CERTIFICATE-----").is_pem());
    }
}
