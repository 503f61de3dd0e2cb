//! Certificates for tests: authorities, what they sign, and everything that can be wrong with it. All are files too, for
//! real programs.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use tempfile::TempDir;

use crate::program::succeeds;

/// Something that signs certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    files: Files,
    /// What a server must send behind a certificate of this authority: itself and those above, but not the root.
    upward: String,
}

impl Authority {
    /// One that nobody has signed.
    pub fn root(name: &str) -> Self {
        let (params, key) = (authority_params(name), KeyPair::generate().unwrap());
        let pem = params.self_signed(&key).unwrap().pem();
        let files = Files::new(pem, key.serialize_pem());
        Self { issuer: Issuer::new(params, key), files, upward: String::new() }
    }

    /// One that this authority has signed.
    pub fn intermediate(&self, name: &str) -> Self {
        let (params, key) = (authority_params(name), KeyPair::generate().unwrap());
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        let files = Files::new(pem.clone(), key.serialize_pem());
        Self { issuer: Issuer::new(params, key), files, upward: pem + &self.upward }
    }

    /// A certificate for these names, each a DNS name or an IP address, with the chain that leads to the root.
    pub fn issue(&self, names: &[&str]) -> Identity {
        self.issue_with(names, |_| {})
    }

    /// The same with something changed about it.
    pub fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = leaf_params(names);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { params, files: Files::new(leaf.clone() + &self.upward, key.serialize_pem()), leaf }
    }

    /// One whose time is over.
    pub fn issue_expired(&self, names: &[&str]) -> Identity {
        self.issue_with(names, |params| {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        })
    }

    /// One whose time has not come.
    pub fn issue_not_yet_valid(&self, names: &[&str]) -> Identity {
        self.issue_with(names, |params| {
            (params.not_before, params.not_after) = (date_time_ymd(2120, 1, 1), date_time_ymd(2121, 1, 1));
        })
    }

    /// One with an RSA key of 1024 bits, made by openssl.
    pub fn issue_weak(&self, name: &str) -> Identity {
        let folder = self.files.folder.path();
        let [key, request, extensions, leaf] =
            ["key", "csr", "ext", "pem"].map(|end| folder.join(format!("weak.{end}")));
        fs::write(&extensions, format!("subjectAltName={}:{name}\n", kind_of(name))).unwrap();
        let mut make = openssl("req");
        make.args(["-new", "-newkey", "rsa:1024", "-nodes", "-subj", &format!("/CN={name}")]);
        succeeds(make.arg("-keyout").arg(&key).arg("-out").arg(&request));
        let mut sign = openssl("x509");
        sign.args(["-req", "-days", "30", "-in"]).arg(&request).arg("-CA").arg(self.pem_path());
        sign.arg("-CAkey").arg(&self.files.key_path).arg("-extfile").arg(&extensions);
        succeeds(sign.args(["-set_serial", "77"]).arg("-out").arg(&leaf));
        let [leaf, key] = [leaf, key].map(|path| fs::read_to_string(path).unwrap());
        Identity { params: leaf_params(&[name]), files: Files::new(leaf.clone() + &self.upward, key), leaf }
    }

    /// Its certificate.
    pub fn pem(&self) -> &str {
        &self.files.chain
    }

    /// The file of its certificate.
    pub fn pem_path(&self) -> &Path {
        &self.files.chain_path
    }
}

/// A certificate with its chain and its key.
#[derive(Debug)]
pub struct Identity {
    params: CertificateParams,
    files: Files,
    leaf: String,
}

impl Identity {
    /// One that nobody but itself has signed.
    pub fn self_signed(names: &[&str]) -> Self {
        let (params, key) = (leaf_params(names), KeyPair::generate().unwrap());
        let leaf = params.self_signed(&key).unwrap().pem();
        Self { params, files: Files::new(leaf.clone(), key.serialize_pem()), leaf }
    }

    /// The same without what is between it and the root.
    #[must_use]
    pub fn without_intermediates(&self) -> Self {
        let files = Files::new(self.leaf.clone(), self.files.key.clone());
        Self { params: self.params.clone(), files, leaf: self.leaf.clone() }
    }

    /// Signs as if it were an authority, which it is not.
    pub fn as_authority(&self) -> Authority {
        let key = KeyPair::from_pem(&self.files.key).unwrap();
        let files = Files::new(self.leaf.clone(), self.files.key.clone());
        Authority { issuer: Issuer::new(self.params.clone(), key), files, upward: self.files.chain.clone() }
    }

    /// The certificate alone.
    pub fn leaf(&self) -> &str {
        &self.leaf
    }

    /// The certificate and what leads to the root.
    pub fn chain(&self) -> &str {
        &self.files.chain
    }

    /// The file of what leads from the certificate to the root, if there is anything between them.
    pub fn above_path(&self) -> Option<PathBuf> {
        let above = &self.files.chain[self.leaf.len()..];
        let path = self.files.folder.path().join("above.pem");
        fs::write(&path, above).unwrap();
        (!above.is_empty()).then_some(path)
    }

    /// The private key.
    pub fn key(&self) -> &str {
        &self.files.key
    }

    /// The file of the chain.
    pub fn chain_path(&self) -> &Path {
        &self.files.chain_path
    }

    /// The file of the key.
    pub fn key_path(&self) -> &Path {
        &self.files.key_path
    }
}

/// A chain and a key, in memory and on disk.
#[derive(Debug)]
struct Files {
    chain: String,
    key: String,
    chain_path: PathBuf,
    key_path: PathBuf,
    folder: Arc<TempDir>,
}

impl Files {
    fn new(chain: String, key: String) -> Self {
        let folder = TempDir::with_prefix("lb-test-pki-").unwrap();
        let [chain_path, key_path] = ["chain.pem", "key.pem"].map(|name| folder.path().join(name));
        fs::write(&chain_path, &chain).unwrap();
        fs::write(&key_path, &key).unwrap();
        Self { chain, key, chain_path, key_path, folder: Arc::new(folder) }
    }
}

/// The command of openssl.
pub(crate) fn openssl(command: &str) -> Command {
    let mut openssl = Command::new("openssl");
    openssl.arg(command);
    openssl
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

fn leaf_params(names: &[&str]) -> CertificateParams {
    // Two certificates for the same name are told apart by their subjects.
    static ISSUED: AtomicU64 = AtomicU64::new(1);
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    let subject = format!("{} {}", names.first().unwrap_or(&"nobody"), ISSUED.fetch_add(1, Relaxed));
    params.distinguished_name.push(DnType::CommonName, subject);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params
}

fn kind_of(name: &str) -> &'static str {
    if name.parse::<IpAddr>().is_ok() { "IP" } else { "DNS" }
}
