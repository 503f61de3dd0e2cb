//! The certificates of a configuration: files that it names are read, and what is broken is pointed at.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use lb_core::config::{Certificate, CertificateContent, Config, Invalid, Pem, SecretPem};

use crate::config::{ConfigError, parse_config};
use crate::ron_text::{self, Step};

/// Longest file that is read. A bundle of every public CA has a quarter of it.
const FILE_MAX: u64 = 1 << 20;

const NOT_TEXT: &str =
    "it is no text, as PEM is: `openssl x509 -inform der` and `openssl pkey -inform der` turn DER into it";

/// Puts the content of files in the place of their paths, which are relative to `folder`, and checks all certificates.
/// `text` is what `config` was read from.
///
/// # Errors
/// The first file that can't be read and the first certificate that can't be used, at the place of the path or text.
pub(crate) fn read_all(config: &mut Config, text: &str, folder: &Path) -> Result<(), ConfigError> {
    for (index, certificate) in config.certificates.iter_mut().enumerate() {
        let read = with_files(certificate, folder).and_then(|read| read.check().map(|()| read));
        *certificate = read.map_err(|invalid| {
            let steps = [Step::Field("certificates"), Step::Element(index), Step::Field(&invalid.field)];
            let (line, column) = ron_text::place_of(text, &steps).unwrap_or((1, 1));
            let shown = source(certificate, &invalid.field).map_or_else(String::new, |path| format!("{path}: "));
            let reason = format!("certificate {}: {}: {shown}{}", certificate.name(), invalid.field, invalid.reason);
            ConfigError { line, column, reason }
        })?;
    }
    Ok(())
}

/// The files that hold private keys of a configuration, which is one of them if a key is in it. None if it is wrong.
pub(crate) fn secret_files(path: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let Ok((config, _)) = parse_config(&text) else { return Vec::new() };
    let folder = path.parent().unwrap_or(Path::new("."));
    let own = config.persistence_key.is_some().then(|| path.to_owned());
    let keys = config.certificates.iter().filter_map(|certificate| match certificate.content() {
        CertificateContent::Pair { key, .. } if is_key_path(key) => Some(folder.join(key.expose())),
        CertificateContent::Pair { .. } => Some(path.to_owned()),
        CertificateContent::Bundle { .. } => None,
    });
    let mut files: Vec<PathBuf> = own.into_iter().chain(keys).collect();
    files.sort();
    files.dedup();
    files
}

/// The path that a field of a certificate names; `None` if it holds the text itself.
fn source<'a>(certificate: &'a Certificate, field: &str) -> Option<&'a str> {
    match (certificate.content(), field) {
        (CertificateContent::Pair { chain: pem, .. }, "chain")
        | (CertificateContent::Bundle { bundle: pem }, "bundle") => Some(pem.as_str()).filter(|_| is_path(pem)),
        (CertificateContent::Pair { key, .. }, "key") => Some(key.expose()).filter(|_| is_key_path(key)),
        _ => None,
    }
}

/// What is neither PEM nor has more than one line. A key that has lost its first line is no path, and not to be shown.
fn is_path(pem: &Pem) -> bool {
    !pem.is_pem() && !pem.as_str().contains('\n')
}

fn is_key_path(key: &SecretPem) -> bool {
    !key.is_pem() && !key.expose().contains('\n')
}

/// The same certificate with the content of files in the place of their paths.
fn with_files(certificate: &Certificate, folder: &Path) -> Result<Certificate, Invalid> {
    let content = match certificate.content() {
        CertificateContent::Pair { chain, key } => CertificateContent::Pair {
            chain: if is_path(chain) { Pem::new(&read(folder, chain.as_str(), "chain")?) } else { chain.clone() },
            key: if is_key_path(key) { SecretPem::new(&read(folder, key.expose(), "key")?) } else { key.clone() },
        },
        CertificateContent::Bundle { bundle } if is_path(bundle) => {
            CertificateContent::Bundle { bundle: Pem::new(&read(folder, bundle.as_str(), "bundle")?) }
        }
        inline => inline.clone(),
    };
    Certificate::new(certificate.name().clone(), content)
}

fn read(folder: &Path, path: &str, field: &str) -> Result<String, Invalid> {
    read_pem(&folder.join(path)).map_err(|reason| Invalid::new(field, reason))
}

/// Reads a file that is to hold PEM. Whether it does is checked later.
///
/// # Errors
/// It can't be read, is far too long, or no text: says so without the path.
pub(crate) fn read_pem(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_string(&mut text));
    match read {
        Ok(length) if length as u64 > FILE_MAX => Err(format!("it is longer than the {FILE_MAX} bytes allowed")),
        Ok(_) => Ok(text),
        Err(error) if error.kind() == ErrorKind::InvalidData => Err(NOT_TEXT.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::config::check;

    #[test]
    fn a_certificate_that_can_not_be_used_is_pointed_at_and_a_key_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lb.ron");
        fs::write(folder.path().join("words.pem"), "words").unwrap();
        fs::write(folder.path().join("der.pem"), b"\x30\x82\xff").unwrap();
        for (certificate, at, reason) in [
            ("bundle: \"gone.pem\"", 11, "certificate a: bundle: gone.pem: No such file or directory (os error 2)"),
            ("bundle: \"words.pem\"", 11, "certificate a: bundle: words.pem: this is not PEM"),
            ("key: \"words.pem\", chain: \"der.pem\"", 28, "certificate a: chain: der.pem: it is no text, as PEM is"),
            ("bundle: \"-----BEGIN X\"", 11, "certificate a: bundle: the PEM is broken"),
            // A key that has lost its first line.
            (
                "chain: \"words.pem\", key: \"c2VjcmV0\\nc2VjcmV0\"",
                10,
                "certificate a: chain: words.pem: this is not PEM",
            ),
        ] {
            fs::write(&path, format!("(certificates: [\n(name: \"a\",\n  {certificate})])")).unwrap();
            let found = check(&path).unwrap_err();
            let found = found.strip_prefix(&format!("{}:3:", path.display())).unwrap_or(&found).to_owned();
            assert!(found.starts_with(&format!("{at}: {reason}")), "{certificate}: {found}");
            assert!(!found.contains("c2VjcmV0"));
        }
    }
}
