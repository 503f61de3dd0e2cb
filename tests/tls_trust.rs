//! Which servers and clients are trusted: a server whose certificate is wrong in any way gets no byte of a client's, and the
//! operator is told which check failed.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use rustls::{ClientConfig, ServerConfig};
use tests::channel::{
    Manner, Tap, client_config, client_config_as, client_config_of, client_config_with, server_config,
    server_config_for_known, server_config_with,
};
use tests::client::{connect, try_connect};
use tests::openssl::SServer;
use tests::program::{Nginx, Site, run, succeeds};
use tests::{Authority, Backend, Channel, Config, Frontend, Identity, Lb, bundle, tls, tls_failed, wait};

#[test]
fn a_server_of_an_unknown_authority_gets_nothing() {
    let identity = Authority::root("stranger").issue(&["app.example"]);
    gets_nothing(&Case::new(&identity, "unknown_ca", &["stranger", "corp-ca"]));
}

#[test]
fn a_server_whose_certificate_has_expired_gets_nothing() {
    let authority = Authority::root("corp");
    let identity = authority.issue_expired(&["app.example"]);
    gets_nothing(&Case::new(&identity, "expired", &["expired", "2021"]).trusting(&authority));
}

#[test]
fn a_server_whose_certificate_is_not_yet_valid_gets_nothing() {
    let authority = Authority::root("corp");
    let identity = authority.issue_not_yet_valid(&["app.example"]);
    gets_nothing(&Case::new(&identity, "not_yet_valid", &["2120"]).trusting(&authority));
}

#[test]
fn a_server_whose_certificate_is_for_another_name_gets_nothing() {
    let authority = Authority::root("corp");
    let identity = authority.issue(&["other.example"]);
    gets_nothing(&Case::new(&identity, "name_mismatch", &["app.example", "other.example"]).trusting(&authority));
}

#[test]
fn a_server_whose_certificate_is_for_another_address_gets_nothing() {
    let authority = Authority::root("corp");
    let identity = authority.issue(&["127.0.0.2"]);
    let case = Case::new(&identity, "name_mismatch", &["127.0.0.1", "127.0.0.2"]).trusting(&authority);
    gets_nothing(&case.expecting(BY_ADDRESS));
}

#[test]
fn without_a_server_name_a_dns_name_is_not_enough() {
    let authority = Authority::root("corp");
    let identity = authority.issue(&["app.example", "localhost"]);
    let case = Case::new(&identity, "name_mismatch", &["127.0.0.1", "app.example"]).trusting(&authority);
    gets_nothing(&case.expecting(BY_ADDRESS));
}

#[test]
fn a_server_that_leaves_out_the_intermediate_gets_nothing() {
    let authority = Authority::root("corp");
    let identity = authority.intermediate("between").issue(&["app.example"]).without_intermediates();
    gets_nothing(&Case::new(&identity, "unknown_ca", &["between"]).trusting(&authority));
}

#[test]
fn a_server_that_has_signed_its_certificate_itself_gets_nothing() {
    let identity = Identity::self_signed(&["app.example"]);
    gets_nothing(&Case::new(&identity, "unknown_ca", &["app.example"]));
}

#[test]
fn a_server_whose_certificate_another_servers_has_signed_gets_nothing() {
    let authority = Authority::root("corp");
    let identity = authority.issue(&["other.example"]).as_authority().issue(&["app.example"]);
    gets_nothing(&Case::new(&identity, ANY, &["no CA"]).trusting(&authority));
}

#[test]
fn a_certificate_of_a_server_in_the_bundle_vouches_for_no_other() {
    let pinned = Identity::self_signed(&["other.example"]).as_authority();
    let identity = pinned.issue(&["app.example"]);
    gets_nothing(&Case::new(&identity, "bad_certificate", &["no CA"]).trusting(&pinned));
}

#[test]
fn a_server_whose_certificate_is_for_clients_only_gets_nothing() {
    let authority = Authority::root("corp");
    let identity = authority.issue_with(&["app.example"], |params| {
        params.extended_key_usages.retain(|usage| *usage == rcgen::ExtendedKeyUsagePurpose::ClientAuth);
    });
    gets_nothing(&Case::new(&identity, "bad_certificate", &["serverAuth"]).trusting(&authority));
}

#[test]
fn a_server_with_a_weak_key_gets_nothing() {
    let authority = Authority::root("corp");
    let identity = authority.issue_weak("app.example");
    for version in ["-tls1_2", "-tls1_3"] {
        let server = SServer::writing_down(&identity, &[version, "-cipher", "DEFAULT@SECLEVEL=0"]);
        let scene = Distrusted::start(&authority, server.addr(), BY_NAME);
        scene.next_server_serves_all_and_the_first_is_told_of(ANY, &["2048"]);
        assert!(!server.log().contains(SECRET), "{version}: {}", server.log().text());
    }
}

#[test]
fn a_server_that_speaks_plain_text_or_nothing_gets_nothing() {
    let authority = Authority::root("corp");
    let seen = Tap::default();
    let tap = Arc::clone(&seen);
    let talks = move |answer: &'static [u8]| {
        let tap = Arc::clone(&tap);
        Backend::run(move |stream| {
            let _ = (&stream).write_all(answer);
            write_down(&stream, &tap);
        })
    };
    for (answer, cause) in [(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "not_tls"), (b"220 mail.example\r\n", "not_tls")]
    {
        let server = talks(answer);
        let scene = Distrusted::start(&authority, server.addr(), BY_NAME);
        scene.next_server_serves_all_and_the_first_is_told_of(cause, &[]);
    }
    let silent = talks(b"");
    let frontend = Frontend::new("web").set("handshake_timeout", "\"500ms\"");
    let scene = Distrusted::start_with(&authority, silent.addr(), BY_NAME, frontend);
    scene.next_server_serves_all_and_the_first_is_told_of("timeout", &[]);
    drop(scene);
    assert!(!contains(&seen.lock().unwrap(), SECRET));
}

#[test]
fn a_server_that_speaks_only_what_is_outdated_gets_nothing() {
    let authority = Authority::root("corp");
    let identity = authority.issue(&["app.example"]);
    for (arguments, causes) in [
        (&["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"][..], &["no_shared_version", "refused_by_peer"][..]),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"], &["no_shared_cipher", "refused_by_peer"]),
    ] {
        let server = SServer::writing_down(&identity, arguments);
        let scene = Distrusted::start(&authority, server.addr(), BY_NAME);
        scene.next_server_serves_all_and_the_first_is_told_of(ANY, &[]);
        let bad = scene.bad();
        assert!(causes.iter().any(|cause| tls_failed(&bad, cause) > 0), "one of {causes:?}: {bad}");
        assert!(!server.log().contains(SECRET), "{}", server.log().text());
    }
}

#[test]
fn what_is_right_is_trusted() {
    let authority = Authority::root("corp");
    let between = authority.intermediate("between");
    let own = Identity::self_signed(&["app.example"]);
    let both = authority.pem().to_owned() + between.pem();
    let incomplete = between.issue(&["app.example"]).without_intermediates();
    for (what, identity, trusted, settings) in [
        ("a name", &authority.issue(&["app.example"]), authority.pem(), BY_NAME),
        ("a wildcard", &authority.issue(&["*.app.example"]), authority.pem(), ", server_name: \"www.app.example\""),
        ("an address", &authority.issue(&["127.0.0.1"]), authority.pem(), BY_ADDRESS),
        ("an address as a name", &authority.issue(&["10.1.2.3"]), authority.pem(), ", server_name: \"10.1.2.3\""),
        ("an intermediate that the server sends", &between.issue(&["app.example"]), authority.pem(), BY_NAME),
        ("an intermediate from the bundle", &incomplete, &both, BY_NAME),
        ("an unchecked name", &authority.issue(&["other.example"]), authority.pem(), UNCHECKED),
        (
            "one of two authorities",
            &authority.issue(&["app.example"]),
            &(Authority::root("x").pem().to_owned() + authority.pem()),
            BY_NAME,
        ),
        ("a certificate that is in the bundle itself", &own, own.leaf(), BY_NAME),
    ] {
        let server = Backend::secure_who_and_echo("good", server_config(identity));
        let frontend = Frontend::new("web").server_with("a", server.addr(), &to_server(settings));
        let lb = Lb::start(Config::of(frontend).bundle("corp-ca", trusted));
        let mut answer = [0; 4];
        connect(lb.addr("web")).read_exact(&mut answer).unwrap_or_else(|error| {
            panic!("{what}: {error}: {}", lb.server("web", "a")["tls"]);
        });
        assert_eq!(&answer, b"good", "{what}");
        assert!(lb.server("web", "a")["tls"]["trouble"].is_null(), "{what}");
    }
}

#[test]
fn an_unchecked_name_does_not_make_a_stranger_trusted() {
    let identity = Authority::root("stranger").issue(&["app.example"]);
    gets_nothing(&Case::new(&identity, "unknown_ca", &[]).expecting(UNCHECKED));
    let authority = Authority::root("corp");
    let identity = authority.issue_expired(&["app.example"]);
    gets_nothing(&Case::new(&identity, "expired", &[]).trusting(&authority).expecting(UNCHECKED));
}

#[test]
fn trouble_with_a_server_is_shown_until_its_next_handshake_succeeds() {
    let (authority, other) = (Authority::root("corp"), Authority::root("other"));
    let server = Backend::secure_who_and_echo("good", server_config(&other.issue(&["app.example"])));
    let frontend = Frontend::new("web").server_with("a", server.addr(), &to_server(BY_NAME));
    let lb = Lb::start(Config::of(frontend).bundle("corp-ca", authority.pem()));
    let mut nothing = Vec::new();
    let refused = try_connect(lb.addr("web")).and_then(|mut stream| stream.read_to_end(&mut nothing));
    assert!(refused.is_err(), "no server is left");
    wait::until("the trouble is told", || !lb.server("web", "a")["tls"]["trouble"].is_null());
    lb.change(&format!("UpdateCertificate{}", bundle("corp-ca", other.pem())));
    connect(lb.addr("web")).read_exact(&mut [0; 4]).unwrap();
    wait::until("the trouble is over", || lb.server("web", "a")["tls"]["trouble"].is_null());
    assert_eq!(tls(&lb.server("web", "a"), "handshakes"), 1);
    assert_eq!(tls_failed(&lb.server("web", "a"), "unknown_ca"), 1);
}

#[test]
fn a_probe_refuses_what_would_not_be_trusted_and_says_what_was_presented() {
    let (authority, other) = (Authority::root("corp"), Authority::root("other authority"));
    let right = Backend::secure_who_and_echo("", server_config(&authority.issue(&["app.example"])));
    let wrong = Backend::secure_who_and_echo("", server_config(&other.issue(&["app.example"])));
    let elsewhere = Backend::secure_who_and_echo("", server_config(&authority.issue(&["other.example"])));
    let plain = Backend::who("220 mail.example\r\n");
    let frontend = Frontend::new("web").server_with("a", right.addr(), &to_server(BY_NAME));
    let lb = Lb::start(Config::of(frontend).bundle("corp-ca", authority.pem()));
    let revision = lb.revision();
    let settings = ["--server-certificate", "corp-ca", "--server-name", "app.example", "--probe"];
    let add = |name: &str, addr: SocketAddr| {
        let (ip, port) = (addr.ip().to_string(), addr.port().to_string());
        lb.run(&[&["server", "add", "web", name, &ip, &port], &settings[..]].concat())
    };
    for (server, parts) in
        [(&wrong, &["other authority"][..]), (&elsewhere, &["other.example", "app.example"]), (&plain, &[])]
    {
        let output = add("b", server.addr());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let reason = tests::text(&output.stderr);
        assert!(parts.iter().all(|part| reason.contains(part)), "{parts:?} in: {reason}");
    }
    let update =
        |addr: SocketAddr| format!("UpdateServer(frontend:\"web\",name:\"a\",port:{},probe:true)", addr.port());
    assert!(lb.refuse(&update(wrong.addr())).reason.contains("other authority"));
    let replaced = format!("UpdateCertificate(name:\"corp-ca\",bundle:{:?},probe:true)", other.pem());
    assert!(lb.refuse(&replaced).reason.contains("corp"), "the server that is there would not be trusted any more");
    assert_eq!(lb.revision(), revision, "nothing was changed");
    assert!(add("b", right.addr()).status.success());
    lb.change(&update(right.addr()));
}

#[test]
fn clients_must_show_a_certificate_where_it_is_required() {
    let party = Party::new();
    let lb = party.start("client_auth: required");
    let addr = lb.addr("web");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        is_refused(addr, &client_config_with(&party.authority, &[version]));
        is_refused(addr, &party.stranger(version));
    }
    is_refused(addr, &client_config_as(&party.authority, &party.staff.issue_expired(&["nora"])));
    is_served(addr, &client_config_as(&party.authority, &party.staff.issue(&["nora"])));
    is_served(addr, &client_config_as(&party.authority, &party.staff.intermediate("team").issue(&["nora"])));
    let status = lb.frontend("web");
    assert_eq!(tls_failed(&status, "no_certificate"), 2, "{}", status["tls"]);
    assert_eq!(tls_failed(&status, "unknown_ca"), 2, "{}", status["tls"]);
    assert_eq!(tls_failed(&status, "expired"), 1, "{}", status["tls"]);
    assert_eq!(party.app.accepted(), 2, "the server has seen nobody else");
}

#[test]
fn clients_may_show_a_certificate_where_it_is_optional_but_not_a_wrong_one() {
    let party = Party::new();
    let lb = party.start("client_auth: optional");
    let addr = lb.addr("web");
    is_served(addr, &client_config(&party.authority));
    is_served(addr, &client_config_as(&party.authority, &party.staff.issue(&["nora"])));
    is_refused(addr, &party.stranger(&rustls::version::TLS13));
}

#[test]
fn curl_shows_a_client_certificate() {
    let party = Party::new();
    let nginx = Nginx::start(&["page"]);
    let lb = party.start_before(nginx.addrs()[0], "client_auth: required");
    let port = lb.addr("web").port();
    let curl = |identity: Option<&Identity>| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail", "--resolve", &format!("site.example:{port}:127.0.0.1"), "--cacert"]);
        curl.arg(party.authority.pem_path());
        if let Some(identity) = identity {
            curl.arg("--cert").arg(identity.chain_path()).arg("--key").arg(identity.key_path());
        }
        curl.arg(format!("https://site.example:{port}/"));
        curl
    };
    assert_eq!(succeeds(&mut curl(Some(&party.staff.issue(&["nora"])))), "page");
    assert!(!run(&mut curl(None)).status.success());
}

#[test]
fn the_balancer_shows_its_own_certificate_to_servers_that_ask() {
    let (authority, ours) = (Authority::root("corp"), Authority::root("balancers"));
    let (app, balancer) = (authority.issue(&["app.example"]), ours.issue(&["balancer.example"]));
    let nginx = Nginx::start_sites(&[Site::new("asks").secure(&app).for_known(&ours)]);
    let rustls = Backend::secure_who_and_echo("good", server_config_for_known(&app, &ours));
    let shown = to_server(", server_name: \"app.example\", client_certificate: \"balancer\"");
    let start = |addr: SocketAddr, settings: &str| {
        let frontend = Frontend::new("web").server_with("a", addr, settings);
        Lb::start(Config::of(frontend).bundle("corp-ca", authority.pem()).pair("balancer", &balancer))
    };
    let lb = start(nginx.addrs()[0], &shown);
    let page = succeeds(Command::new("curl").args(["-sS", "--fail", &format!("http://{}/", lb.addr("web"))]));
    assert_eq!(page, "asks");
    let lb = start(rustls.addr(), &shown);
    let mut answer = [0; 4];
    connect(lb.addr("web")).read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"good");
    let lb = start(nginx.addrs()[0], &to_server(BY_NAME));
    let page = run(Command::new("curl").args(["-sS", "--fail", &format!("http://{}/", lb.addr("web"))]));
    assert!(!page.status.success(), "without it nginx refuses");
}

/// The client's words.
const SECRET: &str = "the secret of the client";
/// Some cause, whichever.
const ANY: &str = "";
const BY_NAME: &str = ", server_name: \"app.example\"";
const BY_ADDRESS: &str = "";
const UNCHECKED: &str = ", server_name: \"app.example\", verify_name: false";

fn to_server(settings: &str) -> String {
    format!("server_certificate: \"corp-ca\"{settings}")
}

/// A server that must not be trusted.
struct Case<'a> {
    identity: &'a Identity,
    trusted: Option<&'a Authority>,
    settings: &'static str,
    /// What is counted.
    cause: &'static str,
    /// What is in the sentence that says why.
    parts: &'static [&'static str],
}

impl<'a> Case<'a> {
    /// Where it is not said otherwise, the bundle has nothing to do with the server.
    fn new(identity: &'a Identity, cause: &'static str, parts: &'static [&'static str]) -> Self {
        Self { identity, trusted: None, settings: BY_NAME, cause, parts }
    }

    fn trusting(self, authority: &'a Authority) -> Self {
        Self { trusted: Some(authority), ..self }
    }

    fn expecting(self, settings: &'static str) -> Self {
        Self { settings, ..self }
    }
}

/// The server of the case is chosen and refused, in TLS 1.2 and 1.3, and sees nothing of what clients say.
fn gets_nothing(case: &Case<'_>) {
    let unrelated = Authority::root("corp");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let server = Spy::start(&server_config_with(case.identity, &[version]));
        let scene = Distrusted::start(case.trusted.unwrap_or(&unrelated), server.backend.addr(), case.settings);
        scene.next_server_serves_all_and_the_first_is_told_of(case.cause, case.parts);
        server.has_seen_nothing();
    }
}

/// A server that writes down all that comes.
struct Spy {
    backend: Backend,
    raw: Tap,
    decrypted: Tap,
    left: Arc<AtomicU64>,
}

impl Spy {
    fn start(config: &Arc<ServerConfig>) -> Self {
        let (raw, decrypted, left) = (Tap::default(), Tap::default(), Arc::<AtomicU64>::default());
        let (config, own) = (Arc::clone(config), (Arc::clone(&raw), Arc::clone(&decrypted), Arc::clone(&left)));
        let backend = Backend::run(move |stream| {
            if let Ok(channel) =
                Channel::accept_with(stream, &config, Manner { tap: Some(Arc::clone(&own.0)), ..Manner::default() })
            {
                write_down(channel, &own.1);
            }
            own.2.fetch_add(1, SeqCst);
        });
        Self { backend, raw, decrypted, left }
    }

    fn has_seen_nothing(self) {
        wait::until("every connection has left the server", || self.left.load(SeqCst) == self.backend.accepted());
        assert!(self.backend.accepted() > 0, "the server was tried");
        assert!(!contains(&self.raw.lock().unwrap(), SECRET), "what the client said came in plain text");
        assert_eq!(self.decrypted.lock().unwrap().escape_ascii().to_string(), "", "it came in TLS");
    }
}

/// Reads to the end, whatever that is.
fn write_down(mut from: impl Read, into: &Mutex<Vec<u8>>) {
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        into.lock().unwrap().extend_from_slice(&chunk[..count]);
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// A frontend with a server that is not to be trusted, and one that is.
struct Distrusted {
    lb: Lb,
    good: Backend,
}

impl Distrusted {
    fn start(trusted: &Authority, bad: SocketAddr, settings: &str) -> Self {
        Self::start_with(trusted, bad, settings, Frontend::new("web"))
    }

    fn start_with(trusted: &Authority, bad: SocketAddr, settings: &str, frontend: Frontend) -> Self {
        let authority = Authority::root("authority of the good");
        let good = Backend::secure_who_and_echo("", server_config(&authority.issue(&["app.example", "127.0.0.1"])));
        let frontend = frontend.set("eject_after", 0).server_with("bad", bad, &to_server(settings));
        let by_another = format!("server_certificate: \"good-ca\"{settings}");
        let frontend = frontend.server_with("good", good.addr(), &by_another);
        let config = Config::of(frontend).bundle("corp-ca", trusted.pem()).bundle("good-ca", authority.pem());
        Self { lb: Lb::start(config), good }
    }

    fn bad(&self) -> serde_json::Value {
        self.lb.server("web", "bad")
    }

    /// Clients come until the bad server was chosen; all of them are served.
    fn next_server_serves_all_and_the_first_is_told_of(&self, cause: &str, parts: &[&str]) {
        let addr = self.lb.addr("web");
        wait::until("the server that is not trusted was chosen", || {
            say_and_hear(&mut connect(addr));
            self.bad()["failed"].as_u64() > Some(0)
        });
        assert!(self.good.accepted() > 0);
        wait::until("the trouble is told", || !self.bad()["tls"]["trouble"].is_null());
        let bad = self.bad();
        assert_eq!(tls(&bad, "handshakes"), 0, "{bad}");
        assert_eq!(
            bad["failed"],
            bad["tls"]["failed"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum::<u64>()
        );
        if cause != ANY {
            assert_eq!(tls_failed(&bad, cause), bad["failed"].as_u64().unwrap(), "counted as {cause}: {}", bad["tls"]);
        }
        let trouble = bad["tls"]["trouble"].as_str().unwrap();
        let list = self.lb.done(&["server", "list", "web"]);
        for part in parts {
            assert!(trouble.contains(part), "the trouble says {part}: {trouble}");
            assert!(list.contains(part), "the list says {part}:\n{list}");
        }
        assert!(self.lb.log().wait_for(trouble).is_some(), "the log says: {trouble}");
        assert_eq!(self.lb.unserved("web"), 0);
    }
}

/// Says the secret at once, and hears it again.
fn say_and_hear(stream: &mut TcpStream) {
    stream.write_all(SECRET.as_bytes()).unwrap();
    let mut back = vec![0; SECRET.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, SECRET.as_bytes());
}

/// A frontend that asks its clients who they are.
struct Party {
    authority: Authority,
    site: Identity,
    staff: Authority,
    app: Backend,
}

impl Party {
    fn new() -> Self {
        let authority = Authority::root("site authority");
        let site = authority.issue(&["site.example"]);
        Self { authority, site, staff: Authority::root("staff authority"), app: Backend::who("app") }
    }

    fn start(&self, settings: &str) -> Lb {
        self.start_before(self.app.addr(), settings)
    }

    fn start_before(&self, addr: SocketAddr, settings: &str) -> Lb {
        let (field, value) = settings.split_once(": ").unwrap();
        let frontend = Frontend::new("web").certificates(&["site"]).set("client_ca", "\"staff\"").set(field, value);
        let frontend = frontend.server_with("a", addr, "ssl_offload: true");
        Lb::start(Config::of(frontend).pair("site", &self.site).bundle("staff", self.staff.pem()))
    }

    /// A client with a certificate that nobody knows.
    fn stranger(&self, version: &'static rustls::SupportedProtocolVersion) -> Arc<ClientConfig> {
        let stranger = Authority::root("strangers").issue(&["mallory"]);
        client_config_of(&self.authority, Some(&stranger), &[version])
    }
}

fn is_served(addr: SocketAddr, config: &Arc<ClientConfig>) {
    let mut answer = [0; 3];
    Channel::connect(addr, "site.example", config).unwrap().read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"app");
}

/// In TLS 1.3 a client learns of it after its own part of the handshake.
fn is_refused(addr: SocketAddr, config: &Arc<ClientConfig>) {
    let answer = Channel::connect(addr, "site.example", config).and_then(|mut client| client.read(&mut [0]));
    assert!(answer.is_err(), "the client got an answer: {answer:?}");
}
