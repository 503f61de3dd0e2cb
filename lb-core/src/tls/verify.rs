//! Judging a server's certificate by a bundle and nothing else.

use std::sync::{Arc, Mutex};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::certificate::{Facts, Trust};
use super::facts::Parsed;
use super::provider;

/// The chain that was refused last, for [`explain`](super::explain).
pub(super) type Presented = Arc<Mutex<Option<Vec<CertificateDer<'static>>>>>;

/// Judges by a bundle. A certificate that the bundle itself holds is trusted as it is, be it self-signed or even a CA, but
/// it issues others only if it is a CA.
#[derive(Debug)]
pub(super) struct ByBundle {
    trust: Arc<Trust>,
    verify_name: bool,
    algorithms: WebPkiSupportedAlgorithms,
    presented: Presented,
}

impl ByBundle {
    pub(super) fn new(trust: Arc<Trust>, verify_name: bool, presented: Presented) -> Self {
        Self { trust, verify_name, algorithms: provider().signature_verification_algorithms, presented }
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let certificate = ParsedCertificate::try_from(leaf)?;
        match self.trust.held(leaf) {
            Some(facts) => judge_validity(facts, now)?,
            None => {
                let judged = self.judge_chain(&certificate, intermediates, now);
                judged.map_err(|error| Self::refusal(leaf, error))?;
            }
        }
        match self.verify_name {
            true => verify_server_name(&certificate, name),
            false => Ok(()),
        }
    }

    fn judge_chain(
        &self,
        certificate: &ParsedCertificate<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let all: Vec<_> = intermediates.iter().chain(&self.trust.intermediates).cloned().collect();
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(certificate, &self.trust.roots, &all, now, algorithms)
    }

    /// The error of a refused certificate. One that issued itself is unknown, be it that it is a CA as well, which webpki looks
    /// at first.
    fn refusal(leaf: &CertificateDer<'_>, error: Error) -> Error {
        let is_other = matches!(error, Error::InvalidCertificate(CertificateError::Other(_)));
        match is_other && Parsed::read(leaf).is_ok_and(|leaf| leaf.is_self_issued()) {
            true => CertificateError::UnknownIssuer.into(),
            false => error,
        }
    }

    /// Keeps what was refused. Never waits: that another shard keeps its own meanwhile is as good.
    fn remember(&self, leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) {
        if let Ok(mut presented) = self.presented.try_lock() {
            let chain = std::iter::once(leaf).chain(intermediates);
            *presented = Some(chain.map(|certificate| certificate.clone().into_owned()).collect());
        }
    }
}

/// Whether a certificate that needs no issuer is valid now.
fn judge_validity(facts: &Facts, now: UnixTime) -> Result<(), Error> {
    let at = |seconds: i64| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds.max(0).unsigned_abs()));
    let (not_before, not_after) = (at(facts.not_before), at(facts.not_after));
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    if now > not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    Ok(())
}

impl ServerCertVerifier for ByBundle {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = self.judge(leaf, intermediates, name, now);
        judged.inspect_err(|_| self.remember(leaf, intermediates)).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = verify_tls12_signature(message, leaf, signature, &self.algorithms);
        verified.inspect_err(|_| self.remember(leaf, &[]))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = verify_tls13_signature(message, leaf, signature, &self.algorithms);
        verified.inspect_err(|_| self.remember(leaf, &[]))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
