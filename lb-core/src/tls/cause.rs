//! STUB until merged.
#![allow(missing_docs, dead_code, reason = "STUB until merged")]

use serde::{Deserialize, Serialize};

/// Why a TLS handshake or connection failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Cause {
    NoSharedVersion,
    NoSharedCipher,
    BadCertificate,
    UnknownCa,
    NameMismatch,
    Expired,
    NotYetValid,
    NoCertificate,
    NotTls,
    RefusedByPeer,
    Timeout,
    CrowdedOut,
    Truncated,
    Other,
}

impl Cause {
    pub const ALL: [Self; 14] = [
        Self::NoSharedVersion,
        Self::NoSharedCipher,
        Self::BadCertificate,
        Self::UnknownCa,
        Self::NameMismatch,
        Self::Expired,
        Self::NotYetValid,
        Self::NoCertificate,
        Self::NotTls,
        Self::RefusedByPeer,
        Self::Timeout,
        Self::CrowdedOut,
        Self::Truncated,
        Self::Other,
    ];
    pub const COUNT: usize = Self::ALL.len();

    pub fn as_str(self) -> &'static str {
        "other"
    }
}
