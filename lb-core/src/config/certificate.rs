//! STUB until CONFIG's is merged.
#![allow(missing_docs)]

use std::fmt;
use std::sync::Arc;

use super::{Invalid, Name};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    #[default]
    Required,
    Optional,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pem(Arc<str>);

impl Pem {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Clone, PartialEq, Eq)]
pub struct SecretPem(Arc<str>);

impl SecretPem {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretPem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateContent {
    Pair { chain: Pem, key: SecretPem },
    Bundle { bundle: Pem },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    name: Name,
    content: CertificateContent,
}

impl Certificate {
    pub fn pair(name: &str, chain: &str, key: &str) -> Result<Self, Invalid> {
        let content = CertificateContent::Pair { chain: Pem(chain.into()), key: SecretPem(key.into()) };
        Ok(Self { name: Name::new(name)?, content })
    }

    pub fn bundle(name: &str, bundle: &str) -> Result<Self, Invalid> {
        Ok(Self { name: Name::new(name)?, content: CertificateContent::Bundle { bundle: Pem(bundle.into()) } })
    }

    pub fn name(&self) -> &Name {
        &self.name
    }

    pub fn content(&self) -> &CertificateContent {
        &self.content
    }
}
