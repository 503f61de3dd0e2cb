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

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn pair(chain: &str, key: &str) -> Result<Loaded, Invalid> {
        load(&Certificate::pair("site", chain, key).unwrap())
    }

    fn refused(loaded: Result<Loaded, Invalid>) -> (String, String) {
        let Invalid { field, reason } = loaded.unwrap_err();
        (field, reason)
    }

    fn because(field: &str, reason: &str) -> (String, String) {
        (field.to_owned(), reason.to_owned())
    }

    #[test]
    fn a_pair_is_loaded_with_its_facts_and_shows_no_key() {
        let ca = Made::ca("Corp CA");
        let site = Made::new("site", &["Site.example", "*.site.example", "10.0.0.7", "::1"], PLAIN, Some(&ca));
        let loaded = pair(&format!("a comment\n{}{}", site.pem(), ca.pem()), &site.key_pem()).unwrap();
        let [leaf, issuer] = loaded.facts() else { panic!("two certificates") };
        assert_eq!((&*leaf.subject, &*leaf.issuer, &*leaf.key), ("CN=site", "CN=Corp CA", "ECDSA P-256"));
        assert_eq!(leaf.names, ["site.example", "*.site.example", "10.0.0.7", "::1"]);
        assert_eq!((leaf.not_before, leaf.not_after), (157_766_400, 67_090_118_400));
        assert_eq!(issuer.subject, "CN=Corp CA");
        let Loaded::Identity(identity) = &loaded else { panic!("a pair") };
        assert_eq!((identity.key.cert.len(), &identity.names), (2, &leaf.names));
        let shown = format!("{loaded:?}");
        assert!(shown.contains("CN=site") && !shown.contains("key: Arc") && !shown.contains("PRIVATE"), "{shown}");
    }

    #[test]
    fn keys_of_every_kind_are_loaded_and_named() {
        for (algorithm, kind) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, "ECDSA P-256"),
            (&rcgen::PKCS_ECDSA_P384_SHA384, "ECDSA P-384"),
            (&rcgen::PKCS_ECDSA_P521_SHA512, "ECDSA P-521"),
            (&rcgen::PKCS_ED25519, "Ed25519"),
            (&rcgen::PKCS_RSA_SHA256, "RSA 2048"),
        ] {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let made = Made::with_key(key, "site", &[], PLAIN, None);
            let loaded = pair(&made.pem(), &made.key_pem()).unwrap();
            assert_eq!(loaded.facts()[0].key, kind);
            // Without other names the common name is what clients may ask for.
            let Loaded::Identity(identity) = loaded else { panic!("a pair") };
            assert_eq!(identity.names, ["site"]);
        }
    }

    #[test]
    fn keys_as_openssl_wrote_them_in_former_times_are_loaded() {
        let folder = Folder::new("traditional");
        for (name, made) in [("rsa", Made::with_key(rsa(), "a", &[], PLAIN, None)), ("ec", Made::ca("b"))] {
            let key = folder.write(name, &made.key_pem());
            openssl(&["pkey", "-in", &key, "-traditional", "-out", &folder.path("traditional")]);
            let text = folder.read("traditional");
            assert!(text.contains("BEGIN RSA PRIVATE KEY") || text.contains("BEGIN EC PRIVATE KEY"), "{name}");
            assert!(pair(&made.pem(), &text).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_broken_pair_is_refused_with_the_field_and_what_to_do() {
        let (ca, other) = (Made::ca("Corp CA"), Made::ca("Other CA"));
        let site = Made::new("site", &["site.example"], PLAIN, Some(&ca));
        let (chain, key) = (site.pem(), site.key_pem());
        let both = format!("{}{chain}", ca.pem());
        let cut = &chain[..chain.len() - 30];
        let cases = [
            (pair("", &key), "chain", "it is empty"),
            (pair("site.pem", &key), "chain", "this is not PEM: there is no line that begins with -----BEGIN"),
            (pair(cut, &key), "chain", "the PEM is broken: a section has no end, or is not base64"),
            (
                pair(&pem("PUBLIC KEY", b"x"), &key),
                "chain",
                "there is no certificate in it: -----BEGIN CERTIFICATE----- is looked for",
            ),
            (
                pair(&format!("{chain}{key}"), &key),
                "chain",
                "a private key is among the certificates: keep it apart, as `key` of a pair, or it would be shown",
            ),
            (pair(&chain, "site.key"), "key", "this is not PEM: there is no line that begins with -----BEGIN"),
            (pair(&chain, &chain), "key", "there is no private key in it: -----BEGIN PRIVATE KEY----- is looked for"),
            (pair(&chain, &format!("{key}{key}")), "key", "there are several private keys in it, one is needed"),
            (pair(&chain, &other.key_pem()), "key", "it does not fit the first certificate of the chain, \"CN=site\""),
            (
                pair(&both, &key),
                "chain",
                "the key is that of \"CN=site\", which must come first, before \"CN=Corp CA\"",
            ),
            (
                pair(&chain, &pem("PRIVATE KEY", b"no key")),
                "key",
                "the key is broken or of a kind that is not supported: RSA of at least 2048 bits, ECDSA on P-256, P-384 or \
                 P-521, and Ed25519 are",
            ),
        ];
        for (loaded, field, reason) in cases {
            assert_eq!(refused(loaded), because(field, reason));
        }
        let (field, reason) = refused(pair(&format!("{chain}{}", pem("CERTIFICATE", b"none")), &key));
        assert!(field == "chain" && reason.starts_with("certificate 2 in it can't be read: "), "{reason}");
    }

    #[test]
    fn an_encrypted_key_is_refused_with_how_to_decrypt_it() {
        let (site, folder) = (Made::ca("site"), Folder::new("encrypted"));
        let key = folder.write("key", &site.key_pem());
        let encrypted = folder.path("encrypted");
        for how in [&["pkcs8", "-topk8"][..], &["ec", "-aes128"]] {
            openssl(&[how, &["-in", &key, "-out", &encrypted, "-passout", "pass:x"]].concat());
            let reason = "the key is encrypted: decrypt it with `openssl pkey -in KEY -out DECRYPTED` and keep that at mode 0600";
            assert_eq!(refused(pair(&site.pem(), &folder.read("encrypted"))), because("key", reason), "{how:?}");
        }
    }

    #[test]
    fn what_is_too_weak_or_of_an_unknown_kind_is_refused() {
        let folder = Folder::new("unusual");
        let (key, chain) = (folder.path("key"), folder.path("chain"));
        let make = |kind: &[&str]| {
            let common = ["req", "-x509", "-nodes", "-subj", "/CN=odd", "-keyout", &key, "-out", &chain, "-newkey"];
            openssl(&[&common, kind].concat());
            (folder.read("chain"), folder.read("key"))
        };
        let (chain, key) = make(&["rsa:1024"]);
        let weak = "the key of \"CN=odd\" is RSA of 1024 bits, at least 2048 are needed";
        assert_eq!(refused(pair(&chain, &key)), because("chain", weak));
        let bundle = load(&Certificate::bundle("ca", &chain).unwrap());
        assert_eq!(refused(bundle), because("bundle", weak));
        let (chain, key) = make(&["ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"]);
        let (field, reason) = refused(pair(&chain, &key));
        assert!(field == "key" && reason.contains("not supported"), "{reason}");
    }

    #[test]
    fn a_broken_bundle_is_refused() {
        let load = |text: &str| refused(load(&Certificate::bundle("ca", text).unwrap()));
        let ca = Made::ca("Corp CA");
        assert_eq!(load(" \n"), because("bundle", "it is empty"));
        let nothing = "there is no certificate in it: -----BEGIN CERTIFICATE----- is looked for";
        assert_eq!(load(&pem("X509 CRL", b"x")), because("bundle", nothing));
        let (field, reason) = load(&format!("{}{}{}", ca.pem(), ca.pem(), pem("CERTIFICATE", b"none")));
        assert!(field == "bundle" && reason.starts_with("certificate 3 in it can't be read: "), "{reason}");
    }

    #[test]
    fn a_bundle_is_sorted_into_roots_intermediates_and_servers_own_certificates() {
        let ca = Made::ca("Corp CA");
        let intermediate = Made::new("Intermediate", &[], CA, Some(&ca));
        let below = Made::new("Below", &[], CA, Some(&intermediate));
        let leaf = Made::new("app1", &["app1.example"], PLAIN, Some(&below));
        let sorted = |certificates: &[&Made]| {
            let trust = bundle(certificates);
            (trust.roots.len(), trust.intermediates.len(), trust.certificates.len())
        };
        assert_eq!(sorted(&[&leaf, &below, &intermediate, &ca]), (1, 2, 4));
        assert_eq!(sorted(&[&below, &intermediate]), (1, 1, 2), "partial chain");
        assert_eq!(sorted(&[&below, &ca]), (2, 0, 2));
        assert_eq!(sorted(&[&leaf]), (0, 0, 1));
        assert_eq!(sorted(&[&ca, &ca]), (1, 0, 1));
        // A CA that was renewed under its name: what the old one issued does not hang on the new one.
        let renewed = Made::ca("Corp CA");
        assert_eq!(sorted(&[&renewed, &intermediate]), (2, 0, 2));
    }
}
