//! Certificates of every kind, and handshakes in memory, for tests.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection};

use super::certificate::{Identity, Loaded, Trust, load};
use crate::config::Certificate;

/// A certificate with its key.
pub(crate) struct Made {
    params: CertificateParams,
    pub(crate) key: KeyPair,
    pub(crate) der: Vec<u8>,
}

/// What a certificate is to be like, beside its name.
pub(crate) type Shape = fn(&mut CertificateParams);

pub(crate) const PLAIN: Shape = |_| {};
pub(crate) const CA: Shape = |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
pub(crate) const EXPIRED: Shape = |params| params.not_after = date_time_ymd(2020, 1, 2);
pub(crate) const NOT_YET_VALID: Shape = |params| params.not_before = date_time_ymd(4000, 1, 2);

impl Made {
    /// Common name `name`, for `names`, issued by `issuer` or by itself.
    pub(crate) fn new(name: &str, names: &[&str], shape: Shape, issuer: Option<&Self>) -> Self {
        Self::with_key(KeyPair::generate().unwrap(), name, names, shape, issuer)
    }

    pub(crate) fn with_key(key: KeyPair, name: &str, names: &[&str], shape: Shape, issuer: Option<&Self>) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        shape(&mut params);
        let certificate = match issuer {
            Some(issuer) => params.signed_by(&key, &Issuer::from_params(&issuer.params, &issuer.key)),
            None => params.self_signed(&key),
        };
        let der = certificate.unwrap().der().to_vec();
        Self { params, key, der }
    }

    pub(crate) fn ca(name: &str) -> Self {
        Self::new(name, &[], CA, None)
    }

    pub(crate) fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    pub(crate) fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key.serialize_der())
    }

    /// It, followed by `others`, with its key.
    pub(crate) fn identity(&self, others: &[&Self]) -> Arc<Identity> {
        let chain: String = std::iter::once(self).chain(others.iter().copied()).map(Self::pem).collect();
        match load(&Certificate::pair("site", &chain, &self.key_pem()).unwrap()).unwrap() {
            Loaded::Identity(identity) => identity,
            Loaded::Trust(_) => panic!("a bundle"),
        }
    }
}

pub(crate) fn rsa() -> KeyPair {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap()
}

pub(crate) fn bundle_of(pem: &str) -> Arc<Trust> {
    match load(&Certificate::bundle("corp-ca", pem).unwrap()).unwrap() {
        Loaded::Trust(trust) => trust,
        Loaded::Identity(_) => panic!("a pair"),
    }
}

pub(crate) fn bundle(certificates: &[&Made]) -> Arc<Trust> {
    bundle_of(&certificates.iter().map(|made| made.pem()).collect::<String>())
}

/// A section of PEM.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut lines = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for bytes in line.chunks(3) {
            let group = bytes.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - bytes.len()));
            for digit in 0..4 {
                let value = group >> (18 - 6 * digit) & 63;
                lines.push(if digit <= bytes.len() { DIGITS[value as usize].into() } else { '=' });
            }
        }
        lines.push('\n');
    }
    format!("{lines}-----END {label}-----\n")
}

/// Both ends after a handshake, or why either could not go on.
pub(crate) struct Shaken {
    pub(crate) client: Result<ClientConnection, Error>,
    pub(crate) server: Result<ServerConnection, Error>,
}

/// Carries bytes between both ends until nobody has any to send.
pub(crate) fn shake(client: &Arc<ClientConfig>, name: ServerName<'static>, server: &Arc<ServerConfig>) -> Shaken {
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    let (mut client_error, mut server_error) = (None, None);
    while client.wants_write() || server.wants_write() {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        while client.wants_write() {
            client.write_tls(&mut up).unwrap();
        }
        hear(&mut up.as_slice(), &mut server, &mut server_error);
        while server.wants_write() {
            server.write_tls(&mut down).unwrap();
        }
        hear(&mut down.as_slice(), &mut client, &mut client_error);
    }
    Shaken { client: client_error.map_or(Ok(client), Err), server: server_error.map_or(Ok(server), Err) }
}

fn hear<D>(
    bytes: &mut &[u8],
    end: &mut impl std::ops::DerefMut<Target = rustls::ConnectionCommon<D>>,
    error: &mut Option<Error>,
) {
    while !bytes.is_empty() && error.is_none() {
        end.read_tls(bytes).unwrap();
        *error = end.process_new_packets().err();
    }
}

/// A folder for what openssl reads and writes. It goes with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// One for the test that calls itself `name`.
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("lb-core-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self, file: &str) -> String {
        self.0.join(file).to_str().unwrap().to_owned()
    }

    pub(crate) fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap()
    }

    pub(crate) fn write(&self, file: &str, text: &str) -> String {
        std::fs::write(self.path(file), text).unwrap();
        self.path(file)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs openssl: for what neither rcgen nor rustls would make.
pub(crate) fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is needed for this test");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// `openssl s_server`, until it is dropped.
pub(crate) struct Openssl {
    process: Child,
    pub(crate) addr: SocketAddr,
}

impl Openssl {
    pub(crate) fn serve(arguments: &[&str]) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-accept", "127.0.0.1:0"]).args(arguments);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let addr = lines.find_map(|line| line.unwrap().strip_prefix("ACCEPT ").map(|addr| addr.parse().unwrap()));
        // Reads on, or the server would fail to write.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, addr: addr.expect("an address that it listens on") }
    }
}

impl Drop for Openssl {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
