//! TLS of a run: the certificates, and how the traffic's own ends speak it.
//!
//! One kind of key (ECDSA P-256), one group (X25519), one cipher (AES-128-GCM): clients offer nothing else, so that
//! balancers are compared in how they do the same, not in what they choose. Clients know the run's certificates by heart and
//! check no signatures: that would take as long as the balancer's part of a handshake.

use std::collections::VecDeque;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::aws_lc_rs::{self, Ticketer, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, NamedGroup, ServerConfig, ServerConnection};
use rustls::{SignatureScheme, SupportedCipherSuite};

use crate::Result;
use crate::net::Session;

/// What the balancers' certificate is for, and who clients ask for.
const SITE: &str = "site.bench";
/// What the servers' certificates are for.
pub const SERVER: &str = "server.bench";
/// The files that [`Identities::write`] makes: the balancers' certificate, its key (called so that HAProxy finds it by
/// the name of the other), and the authority that issued the servers' certificate.
pub const CHAIN_FILE: &str = "site.pem";
/// See [`CHAIN_FILE`].
pub const KEY_FILE: &str = "site.pem.key";
/// See [`CHAIN_FILE`].
pub const AUTHORITY_FILE: &str = "ca.pem";

/// How clients begin their connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hello {
    /// TLS 1.3, never resumed.
    Full,
    /// TLS 1.3, resumed by ticket as soon as there is one.
    Resumed,
    /// TLS 1.2, likewise.
    Resumed12,
}

/// How traffic is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrap {
    /// What clients say.
    pub hello: Hello,
    /// Whether servers speak TLS too.
    pub to_servers: bool,
}

/// Who the parties of a run are.
#[derive(Debug)]
pub struct Identities {
    authority: Certificate,
    site: Identity,
    server: Identity,
}

#[derive(Debug)]
struct Identity {
    certificate: Certificate,
    key: KeyPair,
}

impl Identities {
    /// New ones.
    ///
    /// # Errors
    /// No key could be made.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "bench CA");
        let key = KeyPair::generate()?;
        let authority = params.self_signed(&key)?;
        let issuer = Issuer::new(params, key);
        Ok(Self { authority, site: Identity::issue(SITE, &issuer)?, server: Identity::issue(SERVER, &issuer)? })
    }

    /// Writes what balancers need into a folder.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        fs::write(folder.join(CHAIN_FILE), self.site.certificate.pem())?;
        fs::write(folder.join(KEY_FILE), self.site.key.serialize_pem())?;
        fs::set_permissions(folder.join(KEY_FILE), Permissions::from_mode(0o600))?;
        Ok(fs::write(folder.join(AUTHORITY_FILE), self.authority.pem())?)
    }

    /// The sessions of one load. Tickets are not kept from one to the next: each balancer has its own.
    ///
    /// # Errors
    /// rustls does not take what it is given.
    pub fn sessions(&self, wrap: Wrap) -> Result<Sessions> {
        let tickets = (wrap.hello != Hello::Full).then(Arc::<Tickets>::default);
        let client = self.client(wrap.hello, tickets.clone())?;
        let server = wrap.to_servers.then(|| self.server.serve()).transpose()?;
        Ok(Sessions { client, server, tickets, site: ServerName::try_from(SITE)? })
    }

    fn client(&self, hello: Hello, tickets: Option<Arc<Tickets>>) -> Result<Arc<ClientConfig>> {
        let (provider, version) = match hello {
            Hello::Full | Hello::Resumed => (provider(&SUITES[..1], &GROUPS[..1]), &TLS13),
            // Up to TLS 1.2 the certificate's curve has to be among the groups.
            Hello::Resumed12 => (provider(&SUITES[1..], &GROUPS), &TLS12),
        };
        let known = [&self.site, &self.server].map(|identity| identity.certificate.der().clone());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ByHeart(known)))
            .with_no_client_auth();
        config.resumption = match tickets {
            Some(tickets) => Resumption::store(tickets),
            None => Resumption::disabled(),
        };
        Ok(Arc::new(config))
    }
}

impl Identity {
    fn issue(name: &str, issuer: &Issuer<'_, KeyPair>) -> Result<Self> {
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, issuer)?;
        Ok(Self { certificate, key })
    }

    fn serve(&self) -> Result<Arc<ServerConfig>> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(provider(&SUITES, &GROUPS))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.der().clone()], key)?;
        config.ticketer = Ticketer::new()?;
        config.send_tls13_tickets = 1;
        Ok(Arc::new(config))
    }
}

/// The suites of TLS 1.3 and 1.2.
const SUITES: [SupportedCipherSuite; 2] =
    [cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256];
/// The one for key exchange first.
const GROUPS: [&dyn SupportedKxGroup; 2] = [kx_group::X25519, kx_group::SECP256R1];

fn provider(suites: &[SupportedCipherSuite], groups: &[&'static dyn SupportedKxGroup]) -> Arc<CryptoProvider> {
    let (cipher_suites, kx_groups) = (suites.to_vec(), groups.to_vec());
    Arc::new(CryptoProvider { cipher_suites, kx_groups, ..aws_lc_rs::default_provider() })
}

/// Makes the sessions of a load's connections.
#[derive(Debug)]
pub struct Sessions {
    client: Arc<ClientConfig>,
    server: Option<Arc<ServerConfig>>,
    tickets: Option<Arc<Tickets>>,
    site: ServerName<'static>,
}

impl Sessions {
    /// For a new connection to a balancer. It has to be resumed if there is a session to resume.
    ///
    /// # Errors
    /// rustls can't begin.
    pub fn of_client(&self) -> Result<Session> {
        let must_resume = self.tickets.as_ref().is_some_and(|tickets| tickets.has_some());
        Ok(Session::new(ClientConnection::new(self.client.clone(), self.site.clone())?, must_resume))
    }

    /// For a connection that a server has accepted. None: it speaks no TLS.
    ///
    /// # Errors
    /// rustls can't begin.
    pub fn of_server(&self) -> Result<Option<Session>> {
        let Some(config) = &self.server else { return Ok(None) };
        Ok(Some(Session::new(ServerConnection::new(config.clone())?, false)))
    }
}

/// Takes the certificates of this run, and no other.
#[derive(Debug)]
struct ByHeart([CertificateDer<'static>; 2]);

impl ServerCertVerifier for ByHeart {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        match self.0.contains(certificate) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(rustls::Error::General("a certificate that is not of this run".to_owned())),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// What the clients of a load may resume. rustls' own store keeps eight tickets for a name, fewer than connections begin
/// at once.
#[derive(Debug, Default)]
struct Tickets(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    tls12: Option<Tls12ClientSessionValue>,
    tls13: VecDeque<Tls13ClientSessionValue>,
}

impl Tickets {
    fn has_some(&self) -> bool {
        self.with(|kept| kept.tls12.is_some() || !kept.tls13.is_empty())
    }

    fn with<T>(&self, what: impl FnOnce(&mut Kept) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.with(|kept| kept.tls12 = Some(value));
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.with(|kept| kept.tls12.clone())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.with(|kept| kept.tls12 = None);
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.with(|kept| kept.tls13.push_back(value));
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.with(|kept| kept.tls13.pop_front())
    }
}
