//! Why handshakes fail, as it is counted.

use std::fmt;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};
use serde::{Deserialize, Serialize};

/// Why a TLS handshake or a TLS connection failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
#[non_exhaustive]
pub enum Cause {
    /// Both ends have no version of TLS in common.
    NoSharedVersion,
    /// Both ends have no cipher, curve or kind of signature in common.
    NoSharedCipher,
    /// Both ends name application protocols (ALPN), none of them the same.
    NoSharedProtocol,
    /// The certificate is broken, not for this use, or not signed by whom it says.
    BadCertificate,
    /// No CA that is trusted issued the certificate.
    UnknownCa,
    /// The certificate is for other names.
    NameMismatch,
    /// The certificate, or one it depends on, has expired.
    Expired,
    /// The certificate, or one it depends on, is not valid yet.
    NotYetValid,
    /// A certificate was asked for and none was shown.
    NoCertificate,
    /// What came is not TLS.
    NotTls,
    /// The other end refused, by an alert that has no cause of its own here.
    RefusedByPeer,
    /// The handshake took too long.
    Timeout,
    /// Too many handshakes were going on.
    CrowdedOut,
    /// The connection ended without TLS' own end.
    Truncated,
    /// Anything else.
    Other,
}

impl Cause {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::NoSharedVersion,
        Self::NoSharedCipher,
        Self::NoSharedProtocol,
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

    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// As it is written in a status: `unknown_ca`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSharedVersion => "no_shared_version",
            Self::NoSharedCipher => "no_shared_cipher",
            Self::NoSharedProtocol => "no_shared_protocol",
            Self::BadCertificate => "bad_certificate",
            Self::UnknownCa => "unknown_ca",
            Self::NameMismatch => "name_mismatch",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::NoCertificate => "no_certificate",
            Self::NotTls => "not_tls",
            Self::RefusedByPeer => "refused_by_peer",
            Self::Timeout => "timeout",
            Self::CrowdedOut => "crowded_out",
            Self::Truncated => "truncated",
            Self::Other => "other",
        }
    }

    /// The cause that an error of rustls counts as.
    pub(crate) fn of(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::PeerIncompatible(why) => Self::of_incompatible(why),
            Error::AlertReceived(alert) => Self::of_alert(*alert),
            Error::NoApplicationProtocol => Self::NoSharedProtocol,
            Error::InvalidMessage(_) | Error::PeerSentOversizedRecord => Self::NotTls,
            _ => Self::Other,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        use CertificateError as Why;
        match error {
            Why::Expired | Why::ExpiredContext { .. } => Self::Expired,
            Why::NotValidYet | Why::NotValidYetContext { .. } => Self::NotYetValid,
            Why::UnknownIssuer => Self::UnknownCa,
            Why::NotValidForName | Why::NotValidForNameContext { .. } => Self::NameMismatch,
            _ => Self::BadCertificate,
        }
    }

    fn of_incompatible(why: &PeerIncompatible) -> Self {
        use PeerIncompatible as Why;
        match why {
            Why::ServerDoesNotSupportTls12Or13
            | Why::ServerTlsVersionIsDisabledByOurConfig
            | Why::SupportedVersionsExtensionRequired
            | Why::Tls12NotOffered
            | Why::Tls12NotOfferedOrEnabled
            // Clients of older versions send none.
            | Why::SignatureAlgorithmsExtensionRequired => Self::NoSharedVersion,
            Why::NoCipherSuitesInCommon
            | Why::NoKxGroupsInCommon
            | Why::NoSignatureSchemesInCommon
            | Why::NoCertificateRequestSignatureSchemesInCommon
            | Why::NoEcPointFormatsInCommon
            | Why::UncompressedEcPointsRequired
            | Why::NamedGroupsExtensionRequired
            | Why::KeyShareExtensionRequired => Self::NoSharedCipher,
            _ => Self::Other,
        }
    }

    /// The other end's alert. What it says of a certificate is about ours: that is its refusal, not a cause on this side.
    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::ProtocolVersion => Self::NoSharedVersion,
            // Of all that may be behind it, nothing in common is by far the most frequent.
            AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => Self::NoSharedCipher,
            AlertDescription::NoApplicationProtocol => Self::NoSharedProtocol,
            _ => Self::RefusedByPeer,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_numbered_in_order_and_each_is_written_by_a_name_of_its_own() {
        let names: std::collections::HashSet<_> = Cause::ALL.iter().map(|cause| cause.as_str()).collect();
        assert_eq!(names.len(), Cause::COUNT);
        for (number, cause) in Cause::ALL.iter().enumerate() {
            assert_eq!(*cause as usize, number);
            assert_eq!(serde_json::to_string(cause).unwrap(), format!("\"{cause}\""));
        }
    }
}
