//! Reading PEM, with a sentence for everything that is wrong with it.

use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Invalid;

/// A section as it is written: what it holds, and the decoded bytes.
type Section = (SectionKind, Vec<u8>);

/// The certificates in `text`, at least one. Anything but keys may stand beside them and is left out.
///
/// # Errors
/// Not PEM, broken PEM, a private key (which is no secret there), no certificate.
pub(super) fn certificates(field: &str, text: &str) -> Result<Vec<CertificateDer<'static>>, Invalid> {
    let sections = sections(field, text)?;
    if text.contains("PRIVATE KEY-----") {
        let reason = "a private key is among the certificates: keep it apart, as `key` of a pair, or it would be shown";
        return Err(Invalid::new(field, reason));
    }
    let certificates: Vec<_> =
        sections.into_iter().filter_map(|(kind, der)| CertificateDer::from_pem(kind, der)).collect();
    match certificates.is_empty() {
        false => Ok(certificates),
        true => Err(Invalid::new(field, "there is no certificate in it: -----BEGIN CERTIFICATE----- is looked for")),
    }
}

/// The one private key in `text`.
///
/// # Errors
/// Not PEM, broken PEM, an encrypted key, no key, several.
pub(super) fn private_key(field: &str, text: &str) -> Result<PrivateKeyDer<'static>, Invalid> {
    let refuse = |reason: &str| Err(Invalid::new(field, reason));
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return refuse(
            "the key is encrypted: decrypt it with `openssl pkey -in KEY -out DECRYPTED` and keep that at mode 0600",
        );
    }
    let sections = sections(field, text)?;
    let mut keys = sections.into_iter().filter_map(|(kind, der)| PrivateKeyDer::from_pem(kind, der));
    match (keys.next(), keys.next()) {
        (Some(key), None) => Ok(key),
        (None, _) => refuse("there is no private key in it: -----BEGIN PRIVATE KEY----- is looked for"),
        (Some(_), Some(_)) => refuse("there are several private keys in it, one is needed"),
    }
}

fn sections(field: &str, text: &str) -> Result<Vec<Section>, Invalid> {
    if text.trim().is_empty() {
        return Err(Invalid::new(field, "it is empty"));
    }
    if !text.contains("-----BEGIN ") {
        return Err(Invalid::new(field, "this is not PEM: there is no line that begins with -----BEGIN"));
    }
    let sections = Section::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>();
    // The error's own text may quote a line, be it of a key.
    sections.map_err(|_| Invalid::new(field, "the PEM is broken: a section has no end, or is not base64"))
}
