//! Handshakes of both ends as they are configured here, over every certificate that can be wrong.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection,
    SupportedProtocolVersion, version,
};

use super::accept::{Acceptor, Tickets};
use super::cause::Cause;
use super::certificate::{Identity, Trust};
use super::dial::{Dialer, Expected};
use super::provider;
use super::testing::*;
use super::verify::{ByBundle, Presented};
use crate::config::ClientAuth;

const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7));

fn acceptor(identities: &[Arc<Identity>]) -> Acceptor {
    Acceptor::new(identities, &[], None, &Tickets::new().unwrap(), 1).unwrap()
}

fn by_name(name: &str) -> Expected<'_> {
    Expected { server_name: Some(name), verify_name: true, ip: IP }
}

const BY_IP: Expected<'static> = Expected { server_name: None, verify_name: true, ip: IP };
const UNNAMED: Expected<'static> = Expected { server_name: None, verify_name: false, ip: IP };

fn dialer(trust: &Arc<Trust>, expected: Expected<'_>) -> Dialer {
    Dialer::new(trust, expected, None, 1).unwrap()
}

/// What a client that trusts `trust` makes of a server with this identity: why it refuses, as a cause and as a sentence.
fn judge(trust: &Arc<Trust>, expected: Expected<'_>, identity: Arc<Identity>) -> Result<(), (Cause, String)> {
    judge_config(trust, expected, acceptor(&[identity]).config(0))
}

fn judge_config(trust: &Arc<Trust>, expected: Expected<'_>, server: &Arc<ServerConfig>) -> Result<(), (Cause, String)> {
    let dialer = dialer(trust, expected);
    let shaken = shake(dialer.config(0), dialer.name(), server);
    match shaken.client {
        Ok(client) => {
            assert!(!client.is_handshaking() && shaken.server.is_ok());
            Ok(())
        }
        Err(error) => {
            assert_eq!(shaken.server.err().as_ref().map(Cause::of), Some(Cause::RefusedByPeer));
            Err((Cause::of(&error), dialer.explain(&error)))
        }
    }
}

fn refused(cause: Cause, sentence: &str) -> Result<(), (Cause, String)> {
    Err((cause, sentence.to_owned()))
}

#[test]
fn a_server_of_the_bundle_is_trusted_by_name_by_ip_and_without_a_name() {
    let ca = Made::ca("Corp CA");
    let server = Made::new("app1", &["app1.example", "10.0.0.7"], PLAIN, Some(&ca)).identity(&[]);
    let trust = bundle(&[&ca]);
    for expected in [by_name("app1.example"), by_name("APP1.example"), by_name("10.0.0.7"), BY_IP, UNNAMED] {
        assert_eq!(judge(&trust, expected, Arc::clone(&server)), Ok(()), "{expected:?}");
    }
}

#[test]
fn an_unknown_ca_is_refused_whether_or_not_the_server_sends_it() {
    let (ca, other) = (Made::ca("Corp CA"), Made::ca("Other CA"));
    let server = Made::new("app1", &["10.0.0.7"], PLAIN, Some(&other));
    let trust = bundle(&[&ca]);
    let sentence = "its certificate \"CN=app1\" is issued by \"CN=Other CA\", which the server does not send and bundle corp-ca \
                    does not hold: add the certificate of \"CN=Other CA\" to the bundle or have the server send it";
    assert_eq!(judge(&trust, BY_IP, server.identity(&[])), refused(Cause::UnknownCa, sentence));
    let sentence = "its certificate \"CN=app1\" is issued by \"CN=Other CA\", which bundle corp-ca does not hold: add that CA to \
                    the bundle";
    assert_eq!(judge(&trust, BY_IP, server.identity(&[&other])), refused(Cause::UnknownCa, sentence));
    assert_eq!(judge(&trust, UNNAMED, server.identity(&[&other])), refused(Cause::UnknownCa, sentence));
}

#[test]
fn a_ca_of_the_same_name_with_another_key_does_not_do() {
    let (old, new) = (Made::ca("Corp CA"), Made::ca("Corp CA"));
    let server = Made::new("app1", &["10.0.0.7"], PLAIN, Some(&new));
    let (cause, sentence) = judge(&bundle(&[&old]), BY_IP, server.identity(&[])).unwrap_err();
    assert!(matches!(cause, Cause::UnknownCa | Cause::BadCertificate), "{cause}");
    assert!(sentence.contains("key") && sentence.contains("bundle corp-ca"), "{sentence}");
}

#[test]
fn a_missing_intermediate_is_found_in_the_bundle_and_named_if_it_is_not_there() {
    let ca = Made::ca("Corp CA");
    let intermediate = Made::new("Intermediate", &[], CA, Some(&ca));
    let server = Made::new("app1", &["10.0.0.7"], PLAIN, Some(&intermediate));
    let sentence = "its certificate \"CN=app1\" is issued by \"CN=Intermediate\", which the server does not send and bundle \
                    corp-ca does not hold: add the certificate of \"CN=Intermediate\" to the bundle or have the server send it";
    assert_eq!(judge(&bundle(&[&ca]), BY_IP, server.identity(&[])), refused(Cause::UnknownCa, sentence));
    assert_eq!(judge(&bundle(&[&ca]), BY_IP, server.identity(&[&intermediate])), Ok(()));
    let both = bundle(&[&intermediate, &ca]);
    assert_eq!((both.roots.len(), both.intermediates.len()), (1, 1));
    assert_eq!(judge(&both, BY_IP, server.identity(&[])), Ok(()));
}

#[test]
fn an_intermediate_alone_is_an_anchor_and_its_siblings_are_not_trusted() {
    let ca = Made::ca("Corp CA");
    let (ours, sibling) = (Made::new("Ours", &[], CA, Some(&ca)), Made::new("Sibling", &[], CA, Some(&ca)));
    let trust = bundle(&[&ours]);
    let server = Made::new("app1", &["10.0.0.7"], PLAIN, Some(&ours));
    assert_eq!(judge(&trust, BY_IP, server.identity(&[])), Ok(()));
    let server = Made::new("app1", &["10.0.0.7"], PLAIN, Some(&sibling));
    assert_eq!(judge(&trust, BY_IP, server.identity(&[&sibling])).unwrap_err().0, Cause::UnknownCa);
}

#[test]
fn time_is_judged_of_every_certificate_that_is_sent() {
    let ca = Made::ca("Corp CA");
    let trust = bundle(&[&ca]);
    let server = Made::new("app1", &["10.0.0.7"], EXPIRED, Some(&ca));
    let sentence = "its certificate \"CN=app1\" expired on 2020-01-02T00:00:00Z: renew it";
    assert_eq!(judge(&trust, BY_IP, server.identity(&[])), refused(Cause::Expired, sentence));
    let server = Made::new("app1", &["10.0.0.7"], NOT_YET_VALID, Some(&ca));
    let sentence =
        "its certificate \"CN=app1\" is not valid before 4000-01-02T00:00:00Z: compare the clocks of both machines";
    assert_eq!(judge(&trust, BY_IP, server.identity(&[])), refused(Cause::NotYetValid, sentence));
    let old = Made::new(
        "Intermediate",
        &[],
        |params| {
            CA(params);
            EXPIRED(params);
        },
        Some(&ca),
    );
    let server = Made::new("app1", &["10.0.0.7"], PLAIN, Some(&old));
    let sentence = "certificate \"CN=Intermediate\", which it sends along, expired on 2020-01-02T00:00:00Z: renew it";
    assert_eq!(judge(&trust, BY_IP, server.identity(&[&old])), refused(Cause::Expired, sentence));
}

#[test]
fn a_wrong_name_and_a_wrong_address_are_refused_with_those_it_is_for() {
    let ca = Made::ca("Corp CA");
    let trust = bundle(&[&ca]);
    let server = Made::new("app1", &["app1.example", "10.0.0.8"], PLAIN, Some(&ca)).identity(&[]);
    let wrong = |asked: &str| {
        let what = "its certificate \"CN=app1\" is for app1.example, 10.0.0.8, not for";
        refused(Cause::NameMismatch, &format!("{what} {asked}: set server_name to a name it is for"))
    };
    assert_eq!(judge(&trust, by_name("app2.example"), Arc::clone(&server)), wrong("app2.example"));
    assert_eq!(judge(&trust, BY_IP, Arc::clone(&server)), wrong("10.0.0.7"));
    assert_eq!(judge(&trust, UNNAMED, server), Ok(()));
    // A common name is no name that is verified.
    let unnamed = Made::new("app1.example", &[], PLAIN, Some(&ca)).identity(&[]);
    let (cause, sentence) = judge(&trust, by_name("app1.example"), unnamed).unwrap_err();
    assert_eq!(cause, Cause::NameMismatch);
    assert!(sentence.starts_with("its certificate \"CN=app1.example\" is for no name at all, not for"), "{sentence}");
}

#[test]
fn a_self_signed_certificate_is_trusted_only_if_the_bundle_holds_it() {
    let ca = Made::ca("Corp CA");
    for shape in [PLAIN, CA] {
        let own = Made::new("app1", &["10.0.0.7"], shape, None);
        let sentence =
            "its certificate \"CN=app1\" is self-signed and not in bundle corp-ca: add it there if it is the right one";
        assert_eq!(judge(&bundle(&[&own]), BY_IP, own.identity(&[])), Ok(()));
        assert_eq!(judge(&bundle(&[&own]), by_name("other"), own.identity(&[])).unwrap_err().0, Cause::NameMismatch);
        assert_eq!(judge(&bundle(&[&ca]), BY_IP, own.identity(&[])), refused(Cause::UnknownCa, sentence));
    }
    let expired = Made::new("app1", &["10.0.0.7"], EXPIRED, None);
    assert_eq!(judge(&bundle(&[&expired]), BY_IP, expired.identity(&[])).unwrap_err().0, Cause::Expired);
    let early = Made::new("app1", &["10.0.0.7"], NOT_YET_VALID, None);
    assert_eq!(judge(&bundle(&[&early]), BY_IP, early.identity(&[])).unwrap_err().0, Cause::NotYetValid);
}

#[test]
fn a_leaf_issues_nothing_whether_its_ca_or_it_itself_is_in_the_bundle() {
    let ca = Made::ca("Corp CA");
    let leaf = Made::new("app1", &["app1.example"], PLAIN, Some(&ca));
    let forged = Made::new("app2", &["10.0.0.7"], PLAIN, Some(&leaf));
    let sentence =
        "its certificate \"CN=app2\" is issued by \"CN=app1\", which is no CA: have it issued by a CA of the bundle";
    assert_eq!(judge(&bundle(&[&ca]), BY_IP, forged.identity(&[&leaf])), refused(Cause::BadCertificate, sentence));
    for trust in [bundle(&[&leaf]), bundle(&[&leaf, &ca])] {
        for sent in [&[&leaf][..], &[]] {
            let (cause, _) = judge(&trust, BY_IP, forged.identity(sent)).unwrap_err();
            assert!(matches!(cause, Cause::UnknownCa | Cause::BadCertificate), "{cause}");
        }
    }
    let own = Made::new("app1", &["app1.example"], PLAIN, None);
    let forged = Made::new("app2", &["10.0.0.7"], PLAIN, Some(&own));
    assert_eq!(judge(&bundle(&[&own]), BY_IP, forged.identity(&[])).unwrap_err().0, Cause::UnknownCa);
}

const TLS12: &[&SupportedProtocolVersion] = &[&version::TLS12];
const TLS13: &[&SupportedProtocolVersion] = &[&version::TLS13];

/// A provider with only the ciphers that have this in their names.
fn ciphers(part: &str) -> Arc<CryptoProvider> {
    let mut provider = CryptoProvider::clone(provider());
    provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()).contains(part));
    Arc::new(provider)
}

/// A client that is not ours.
fn client(trust: &Trust, versions: &[&'static SupportedProtocolVersion], cipher: &str) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(ciphers(cipher)).with_protocol_versions(versions).unwrap();
    builder.with_root_certificates(Arc::clone(&trust.roots)).with_no_client_auth()
}

/// A server that is not ours.
fn server(identity: &Identity, versions: &[&'static SupportedProtocolVersion], cipher: &str) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(ciphers(cipher)).with_protocol_versions(versions).unwrap();
    let key = CertifiedKey::clone(&identity.key);
    builder.with_no_client_auth().with_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
}

fn causes(shaken: Shaken) -> (Option<Cause>, Option<Cause>) {
    (shaken.client.err().as_ref().map(Cause::of), shaken.server.err().as_ref().map(Cause::of))
}

#[test]
fn a_weak_key_is_refused_though_its_certificate_is_in_order() {
    let (ca, folder) = (Made::ca("Corp CA"), Folder::new("weak"));
    let (ca_pem, ca_key) = (folder.write("ca.pem", &ca.pem()), folder.write("ca.key", &ca.key_pem()));
    let (key, chain) = (folder.path("weak.key"), folder.path("weak.pem"));
    let request = ["req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=app1", "-days", "9"];
    let issuer = ["-CA", &ca_pem, "-CAkey", &ca_key, "-addext", "basicConstraints=critical,CA:FALSE"];
    openssl(&[&request[..], &issuer, &["-keyout", &key, "-out", &chain]].concat());
    for version in ["-tls1_2", "-tls1_3"] {
        let lax = ["-cipher", "DEFAULT@SECLEVEL=0", version, "-naccept", "1"];
        let server = Openssl::serve(&[&["-cert", &chain, "-key", &key][..], &lax].concat());
        let dialer = dialer(&bundle(&[&ca]), UNNAMED);
        let error = call(&dialer, server.addr).unwrap_err();
        let explained = (Cause::of(&error), dialer.explain(&error));
        let sentence =
            "the key of certificate \"CN=app1\" is RSA 1024, at least 2048 bits are needed: issue a longer one";
        assert_eq!(explained, (Cause::BadCertificate, sentence.to_owned()), "{version}: {error}");
    }
}

/// A handshake over TCP: why it failed.
fn call(dialer: &Dialer, addr: SocketAddr) -> Result<(), rustls::Error> {
    let mut tls = ClientConnection::new(Arc::clone(dialer.config(0)), dialer.name()).unwrap();
    let mut socket = TcpStream::connect(addr).unwrap();
    match tls.complete_io(&mut socket) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.downcast::<rustls::Error>().unwrap()),
    }
}

#[test]
fn both_ends_speak_tls_1_2_and_1_3() {
    let ca = Made::ca("Corp CA");
    let (trust, identity) = (bundle(&[&ca]), Made::new("app1", &["10.0.0.7"], PLAIN, Some(&ca)).identity(&[]));
    for versions in [TLS12, TLS13] {
        let shaken =
            shake(&client(&trust, versions, "").into(), IP.into(), acceptor(std::slice::from_ref(&identity)).config(0));
        assert_eq!(shaken.server.unwrap().protocol_version(), Some(versions[0].version));
        assert_eq!(judge_config(&trust, BY_IP, &server(&identity, versions, "").into()), Ok(()));
    }
    let shaken = shake(dialer(&trust, BY_IP).config(0), IP.into(), acceptor(&[identity]).config(0));
    assert_eq!(shaken.client.unwrap().protocol_version(), Some(ProtocolVersion::TLSv1_3));
}

#[test]
fn ends_without_a_version_or_a_cipher_in_common_say_so() {
    let ca = Made::ca("Corp CA");
    let (trust, identity) = (bundle(&[&ca]), Made::new("app1", &["10.0.0.7"], PLAIN, Some(&ca)).identity(&[]));
    let shaken = shake(&client(&trust, TLS12, "").into(), IP.into(), &server(&identity, TLS13, "").into());
    assert_eq!(causes(shaken), (Some(Cause::NoSharedVersion), Some(Cause::NoSharedVersion)));
    // The server's key is none for RSA.
    let shaken = shake(
        &client(&trust, TLS12, "ECDHE_RSA").into(),
        IP.into(),
        acceptor(std::slice::from_ref(&identity)).config(0),
    );
    assert_eq!(causes(shaken), (Some(Cause::NoSharedCipher), Some(Cause::NoSharedCipher)));
    let shaken =
        shake(&client(&trust, TLS13, "AES_128").into(), IP.into(), &server(&identity, TLS13, "CHACHA20").into());
    assert_eq!(causes(shaken), (Some(Cause::NoSharedCipher), Some(Cause::NoSharedCipher)));
}

#[test]
fn garbage_and_other_protocols_are_not_tls() {
    let ca = Made::ca("Corp CA");
    let identity = Made::new("app1", &["10.0.0.7"], PLAIN, Some(&ca)).identity(&[]);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[0xff; 64], b"SSH-2.0-OpenSSH\r\n"] {
        let mut server =
            ServerConnection::new(Arc::clone(acceptor(std::slice::from_ref(&identity)).config(0))).unwrap();
        server.read_tls(&mut &garbage[..]).unwrap();
        assert_eq!(Cause::of(&server.process_new_packets().unwrap_err()), Cause::NotTls, "{garbage:?}");
        let dialer = dialer(&bundle(&[&ca]), BY_IP);
        let mut client = ClientConnection::new(Arc::clone(dialer.config(0)), dialer.name()).unwrap();
        client.read_tls(&mut &garbage[..]).unwrap();
        let error = client.process_new_packets().unwrap_err();
        assert_eq!(Cause::of(&error), Cause::NotTls, "{garbage:?}");
        assert_eq!(
            dialer.explain(&error),
            "it does not speak TLS there: check the port, or take server_certificate away"
        );
    }
}

#[test]
fn application_protocols_are_agreed_on_or_the_handshake_fails() {
    let ca = Made::ca("Corp CA");
    let (trust, identity) = (bundle(&[&ca]), Made::new("app1", &["10.0.0.7"], PLAIN, Some(&ca)).identity(&[]));
    let offered = [b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = Acceptor::new(&[identity], &offered, None, &Tickets::new().unwrap(), 1).unwrap();
    let shake_with = |protocols: &[&[u8]]| {
        let mut client = client(&trust, TLS13, "");
        client.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        shake(&client.into(), IP.into(), acceptor.config(0))
    };
    let agreed = |protocols: &[&[u8]]| shake_with(protocols).client.unwrap().alpn_protocol().map(<[u8]>::to_vec);
    assert_eq!(agreed(&[b"http/1.1", b"h2"]), Some(b"h2".to_vec()), "the frontend's order decides");
    assert_eq!(agreed(&[b"http/1.1"]), Some(b"http/1.1".to_vec()));
    assert_eq!(agreed(&[]), None);
    let nothing_shared = (Some(Cause::NoSharedProtocol), Some(Cause::NoSharedProtocol));
    assert_eq!(causes(shake_with(&[b"postgresql"])), nothing_shared);
}

#[test]
fn a_client_is_asked_for_a_certificate_of_the_bundle() {
    let (ca, clients, other) = (Made::ca("Corp CA"), Made::ca("Clients"), Made::ca("Other CA"));
    let (trust, client_ca) = (bundle(&[&ca]), bundle(&[&clients]));
    let identity = Made::new("app1", &["10.0.0.7"], PLAIN, Some(&ca)).identity(&[]);
    let known = Made::new("client", &[], PLAIN, Some(&clients)).identity(&[]);
    let foreign = Made::new("client", &[], PLAIN, Some(&other)).identity(&[]);
    let shake_by = |auth, shown: Option<&Identity>| {
        let client = Some((&client_ca, auth));
        let acceptor =
            Acceptor::new(std::slice::from_ref(&identity), &[], client, &Tickets::new().unwrap(), 1).unwrap();
        let dialer = Dialer::new(&trust, BY_IP, shown, 1).unwrap();
        causes(shake(dialer.config(0), dialer.name(), acceptor.config(0)))
    };
    for auth in [ClientAuth::Required, ClientAuth::Optional] {
        assert_eq!(shake_by(auth, Some(&known)), (None, None), "{auth:?}");
        // Whoever shows one is judged by it.
        let (client, server) = shake_by(auth, Some(&foreign));
        assert_eq!((client, server), (Some(Cause::RefusedByPeer), Some(Cause::UnknownCa)), "{auth:?}");
    }
    assert_eq!(shake_by(ClientAuth::Optional, None), (None, None));
    let refused = (Some(Cause::RefusedByPeer), Some(Cause::NoCertificate));
    assert_eq!(shake_by(ClientAuth::Required, None), refused);
}

#[test]
fn sessions_are_resumed_on_every_shard_and_by_whoever_has_the_same_tickets() {
    let ca = Made::ca("Corp CA");
    let (trust, identity) = (bundle(&[&ca]), Made::new("app1", &["10.0.0.7"], PLAIN, Some(&ca)).identity(&[]));
    let tickets = Tickets::new().unwrap();
    let make = |tickets| Acceptor::new(std::slice::from_ref(&identity), &[], None, tickets, 2).unwrap();
    let (first, after_update, foreign) = (make(&tickets), make(&tickets), make(&Tickets::new().unwrap()));
    for versions in [TLS12, TLS13] {
        let client = Arc::new(client(&trust, versions, ""));
        let kind = |acceptor: &Acceptor, shard| {
            shake(&client, IP.into(), acceptor.config(shard)).server.unwrap().handshake_kind()
        };
        assert_eq!(kind(&first, 0), Some(HandshakeKind::Full));
        assert_eq!(kind(&first, 1), Some(HandshakeKind::Resumed));
        assert_eq!(kind(&after_update, 0), Some(HandshakeKind::Resumed));
        assert_eq!(kind(&foreign, 0), Some(HandshakeKind::Full));
    }
}

#[test]
fn a_dialer_resumes_and_another_one_judges_anew() {
    let ca = Made::ca("Corp CA");
    let (trust, identity) = (bundle(&[&ca]), Made::new("app1", &["10.0.0.7"], PLAIN, Some(&ca)).identity(&[]));
    let acceptor = acceptor(&[identity]);
    let first = dialer(&trust, BY_IP);
    let kind =
        |dialer: &Dialer| shake(dialer.config(0), dialer.name(), acceptor.config(0)).client.unwrap().handshake_kind();
    assert_eq!(kind(&first), Some(HandshakeKind::Full));
    assert_eq!(kind(&first), Some(HandshakeKind::Resumed));
    assert_eq!(kind(&dialer(&trust, BY_IP)), Some(HandshakeKind::Full));
}

#[test]
fn no_session_outlives_the_bundle_its_client_was_judged_by() {
    let (ca, clients, others) = (Made::ca("Corp CA"), Made::ca("Clients"), Made::ca("Other CA"));
    let identity = Made::new("app1", &["10.0.0.7"], PLAIN, Some(&ca)).identity(&[]);
    let shown = Made::new("client", &[], PLAIN, Some(&clients)).identity(&[]);
    let tickets = Tickets::new().unwrap();
    let make = |trust: &Arc<Trust>, auth| {
        Acceptor::new(std::slice::from_ref(&identity), &[], Some((trust, auth)), &tickets, 1).unwrap()
    };
    let dialer = Dialer::new(&bundle(&[&ca]), BY_IP, Some(&shown), 1).unwrap();
    let shake_with = |acceptor: &Acceptor| shake(dialer.config(0), dialer.name(), acceptor.config(0)).server;
    let (before, same) = (bundle(&[&clients]), bundle(&[&clients]));
    let kind = |acceptor: &Acceptor| shake_with(acceptor).unwrap().handshake_kind();
    assert_eq!(kind(&make(&before, ClientAuth::Required)), Some(HandshakeKind::Full));
    assert_eq!(kind(&make(&same, ClientAuth::Required)), Some(HandshakeKind::Resumed));
    assert_eq!(kind(&make(&same, ClientAuth::Optional)), Some(HandshakeKind::Full));
    let error = shake_with(&make(&bundle(&[&others]), ClientAuth::Optional)).unwrap_err();
    assert_eq!(Cause::of(&error), Cause::UnknownCa);
}

#[test]
fn a_name_is_indicated_to_the_server_only_if_it_is_one() {
    let ca = Made::ca("Corp CA");
    let trust = bundle(&[&ca]);
    let identity = Made::new("app1", &["app1.example", "10.0.0.7"], PLAIN, Some(&ca)).identity(&[]);
    let acceptor = acceptor(&[identity]);
    let indicated = |expected| {
        let dialer = dialer(&trust, expected);
        let server = shake(dialer.config(0), dialer.name(), acceptor.config(0)).server.unwrap();
        server.server_name().map(str::to_owned)
    };
    assert_eq!(indicated(by_name("app1.example")), Some("app1.example".to_owned()));
    assert_eq!(indicated(by_name("10.0.0.7")), None);
    assert_eq!(indicated(BY_IP), None);
}

/// The names under which a client is shown which certificate.
#[test]
fn the_certificate_is_chosen_by_name_then_wildcard_then_order_and_by_what_the_client_can_verify() {
    let ca = Made::ca("Corp CA");
    let trust = bundle(&[&ca]);
    let make = |name: &str, names: &[&str]| Made::new(name, names, PLAIN, Some(&ca)).identity(&[]);
    let rsa = Made::with_key(rsa(), "rsa", &["www.example"], PLAIN, Some(&ca)).identity(&[]);
    let identities = [
        make("first", &["first.example"]),
        rsa,
        make("www", &["www.example"]),
        make("wild", &["*.example", "*.Deep.example"]),
    ];
    let acceptor = acceptor(&identities);
    let shown = |name: &str, cipher: &str| {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = client(&trust, TLS12, cipher);
        let unnamed = ByBundle::new(Arc::clone(&trust), false, Presented::default());
        client.dangerous().set_certificate_verifier(Arc::new(unnamed));
        let shaken = shake(&client.into(), name, acceptor.config(0)).client.unwrap();
        let leaf = &shaken.peer_certificates().unwrap()[0];
        identities.iter().position(|identity| identity.key.cert[0] == *leaf).unwrap()
    };
    assert_eq!(shown("first.example", ""), 0);
    assert_eq!(shown("WWW.example", "ECDHE_ECDSA"), 2);
    assert_eq!(shown("www.example", ""), 1, "the first of those with the name");
    assert_eq!(shown("other.example", ""), 3);
    assert_eq!(shown("a.deep.example", ""), 3);
    assert_eq!(shown("a.b.deep.example", ""), 0, "a wildcard is one label");
    assert_eq!(shown("example", ""), 0, "the default");
    assert_eq!(shown("10.0.0.9", ""), 0, "no name indicated");
    assert_eq!(shown("10.0.0.9", "ECDHE_RSA"), 1, "the first that the client can verify");
}
