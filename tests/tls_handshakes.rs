//! Handshakes and what keeps sessions honest: those that are slow, silent or nonsense harm nobody, sessions are taken up again
//! on any shard but are no way around a check, and what was cut off never looks complete.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::thread;

use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};
use serde_json::Value;
use tempfile::TempDir;
use tests::channel::{
    Manner, client_config, client_config_of, client_config_with, client_hello, server_config, server_config_with,
};
use tests::client::{connect, read_to_end, read_until_closed, reset, try_connect};
use tests::modes::{self, Mode, SITE};
use tests::openssl::SClient;
use tests::tries::{self, Tries};
use tests::{
    Authority, Backend, Channel, Config, Frontend, Identity, Lb, Listener, bundle, stream, tls, tls_failed, wait,
};

#[test]
fn slow_and_garbage_handshakes_by_the_thousand_harm_no_good_client() {
    const SLOW: usize = 1000;
    const GARBAGE: u64 = 2000;
    let scene = Scene::with(|frontend| frontend.set("handshake_timeout", "\"6s\""));
    let (trusting, buffers) = (Arc::clone(&scene.trusting), scene.lb.buffer_bytes());
    let tries = Tries::start(scene.addr, move |addr| tries::echo_in_tls(addr, &trusting));
    let hello = client_hello(SITE, &scene.trusting);
    let mut slow: Vec<_> = (0..SLOW).map(|_| connect(scene.addr)).collect();
    // All but the last byte, so that nothing becomes of it.
    for byte in &hello[..hello.len().min(60)] {
        slow.iter_mut().for_each(|stream| drop(stream.write_all(&[*byte])));
    }
    for seed in 0..GARBAGE {
        let mut stream = connect(scene.addr);
        let _ = stream.write_all(&garbage(seed, &hello));
        let _ = stream.shutdown(Shutdown::Write);
        read_until_closed(&mut stream);
    }
    for stream in &mut slow {
        read_until_closed(stream);
    }
    tries.until_more(20);
    let failed: Vec<_> = tries.stop().into_iter().filter(|client| client.result.is_err()).collect();
    assert!(failed.is_empty(), "good clients failed: {failed:?}");
    scene.lb.until_idle();
    let status = scene.lb.frontend("web");
    assert_eq!(tls_failed(&status, "timeout"), SLOW as u64, "{}", status["tls"]);
    assert_eq!(all_failed(&status), SLOW as u64 + GARBAGE, "{}", status["tls"]);
    assert_eq!(tls(&status, "in_progress"), 0);
    // A group of buffers may stay mapped.
    wait::until("buffers are given back", || scene.lb.buffer_bytes() <= buffers + (2 << 20));
}

#[test]
fn a_handshake_in_pieces_of_a_byte_is_a_handshake() {
    let scene = Scene::new();
    for version in [&TLS12, &TLS13] {
        let manner = Manner { piece: 1, ..Manner::default() };
        let config = client_config_with(&scene.authority, &[version]);
        let client = Channel::over(connect(scene.addr), SITE, &config, manner).unwrap();
        is_echoed(client);
    }
}

#[test]
fn a_server_may_answer_in_pieces_of_a_byte() {
    let authority = Authority::root("ca");
    let config = server_config(&authority.issue(&["127.0.0.1"]));
    let server = Backend::run(move |stream| {
        let manner = Manner { piece: 1, ..Manner::default() };
        let mut channel = Channel::accept_with(stream, &config, manner).unwrap();
        channel.write_all(b"piece by piece").and_then(|()| channel.end()).unwrap();
        let _ = channel.read(&mut [0]);
    });
    let frontend = Frontend::new("web").server_with("a", server.addr(), "server_certificate: \"ca\"");
    let lb = Lb::start(Config::of(frontend).bundle("ca", authority.pem()));
    assert_eq!(read_to_end(connect(lb.addr("web"))).unwrap(), "piece by piece");
}

#[test]
fn who_does_not_finish_the_handshake_in_time_is_closed_and_counted() {
    let scene = Scene::with(|frontend| frontend.set("handshake_timeout", "\"400ms\""));
    let hello = client_hello(SITE, &scene.trusting);
    for said in [&hello[..0], &hello[..1], &hello[..hello.len() - 1], &hello[..]] {
        let mut stream = connect(scene.addr);
        stream.write_all(said).unwrap();
        read_until_closed(&mut stream);
    }
    scene.lb.until_idle();
    let status = scene.lb.frontend("web");
    assert_eq!((tls_failed(&status, "timeout"), all_failed(&status)), (4, 4), "{}", status["tls"]);
    // A client that is done may be silent for as long as it likes.
    let echo = |client: &mut Channel| client.write_all(b"hello").and_then(|()| client.read_exact(&mut [0; 5]));
    let mut client = wait::until_some("a client is done in time, on a slow machine too", || {
        let mut client = Channel::connect(scene.addr, SITE, &scene.trusting).ok()?;
        echo(&mut client).is_ok().then_some(client)
    });
    let mut stream = connect(scene.addr);
    read_until_closed(&mut stream);
    echo(&mut client).unwrap();
}

#[test]
fn a_server_that_does_not_finish_the_handshake_in_time_is_passed_over() {
    let (authority, silent) = (Authority::root("ca"), Listener::new());
    let good = Backend::secure_who_and_echo("good", server_config(&authority.issue(&["127.0.0.1"])));
    let settings = "server_certificate: \"ca\"";
    let frontend = Frontend::new("web").set("handshake_timeout", "\"400ms\"");
    let frontend = frontend.server_with("silent", silent.addr(), settings).server_with("good", good.addr(), settings);
    let lb = Lb::start(Config::of(frontend).bundle("ca", authority.pem()));
    wait::until("the silent server was chosen", || {
        let mut answer = [0; 4];
        connect(lb.addr("web")).read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"good");
        tls_failed(&lb.server("web", "silent"), "timeout") > 0
    });
}

#[test]
fn more_handshakes_than_allowed_are_not_in_progress_at_once() {
    const MOST: u64 = 4;
    let scene = Scene::with_more(|frontend| frontend.set("max_handshakes", MOST), |config| config.set("shards", 1));
    let hello = client_hello(SITE, &scene.trusting);
    let begin = |_| {
        let mut stream = connect(scene.addr);
        stream.write_all(&hello[..10]).unwrap();
        stream
    };
    let silent: Vec<_> = (0..20).map(begin).collect();
    wait::until("those who are too many are turned away", || {
        let status = scene.lb.frontend("web");
        // One that begins is counted before the oldest is turned away for it.
        assert!(tls(&status, "in_progress") <= MOST + 1, "{}", status["tls"]);
        tls_failed(&status, "crowded_out") == 20 - MOST
    });
    drop(silent);
    wait::until("nobody is left", || tls(&scene.lb.frontend("web"), "in_progress") == 0);
    for _ in 0..20 {
        is_echoed(Channel::connect(scene.addr, SITE, &scene.trusting).unwrap());
    }
    assert_eq!(tls_failed(&scene.lb.frontend("web"), "crowded_out"), 20 - MOST);
}

#[test]
fn what_a_client_cut_off_never_looks_complete_to_a_server() {
    for mode in [Mode::Termination, Mode::ReEncryption] {
        for way in [Way::CutOff, Way::Reset, Way::Nonsense] {
            let pair = modes::Scene::new(mode);
            let (mut client, server) = pair.ends();
            client.write_all(b"half of it").unwrap();
            let mut server = server;
            server.read_exact(&mut [0; 10]).unwrap();
            way.end(client);
            breaks(server, mode, way);
            pair.lb.until_idle();
        }
    }
}

#[test]
fn what_a_server_cut_off_never_looks_complete_to_a_client() {
    for mode in [Mode::Origination, Mode::ReEncryption] {
        for way in [Way::CutOff, Way::Reset, Way::Nonsense] {
            let pair = modes::Scene::new(mode);
            let (mut client, mut server) = pair.ends();
            server.write_all(b"half of it").unwrap();
            client.read_exact(&mut [0; 10]).unwrap();
            way.end(server);
            breaks(client, mode, way);
            pair.lb.until_idle();
        }
    }
}

#[test]
fn a_reset_in_plain_text_never_looks_complete_in_tls() {
    let pair = modes::Scene::new(Mode::Termination);
    let (client, server) = pair.ends();
    Way::Reset.end(server);
    breaks(client, Mode::Termination, Way::Reset);
    let pair = modes::Scene::new(Mode::Origination);
    let (client, server) = pair.ends();
    Way::Reset.end(client);
    breaks(server, Mode::Origination, Way::Reset);
}

#[test]
fn what_was_cut_off_is_counted_where_it_was() {
    let pair = modes::Scene::new(Mode::ReEncryption);
    let (client, server) = pair.ends();
    Way::CutOff.end(client);
    breaks(server, Mode::ReEncryption, Way::CutOff);
    wait::until("it is counted", || tls_failed(&pair.lb.frontend("web"), "truncated") == 1);
    let (client, server) = pair.ends();
    Way::CutOff.end(server);
    breaks(client, Mode::ReEncryption, Way::CutOff);
    wait::until("it is counted", || tls_failed(&pair.lb.server("web", "a"), "truncated") == 1);
    assert_eq!(tls_failed(&pair.lb.frontend("web"), "truncated"), 1);
}

#[test]
fn close_notify_alone_is_an_orderly_end_both_ways() {
    for mode in [Mode::Termination, Mode::Origination, Mode::ReEncryption] {
        let pair = modes::Scene::new(mode);
        let (mut client, mut server) = pair.ends();
        client.write_all(b"question").unwrap();
        say_goodbye(&client);
        assert_eq!(read_to_end(&mut server).unwrap(), "question", "{mode:?}");
        server.write_all(b"answer").unwrap();
        say_goodbye(&server);
        assert_eq!(read_to_end(&mut client).unwrap(), "answer", "{mode:?}");
        pair.lb.until_idle();
        let (web, server) = (pair.lb.frontend("web"), pair.lb.server("web", "a"));
        let failed = [&web, &server].map(|status| if status["tls"].is_null() { 0 } else { all_failed(status) });
        assert_eq!(failed, [0, 0], "{mode:?}");
    }
}

#[test]
fn a_session_is_taken_up_again_on_whichever_shard_the_client_lands() {
    for version in [&TLS12, &TLS13] {
        let scene = Scene::new();
        let config = client_config_with(&scene.authority, &[version]);
        let mut connections = 0;
        wait::until("every shard has had several clients", || {
            let client = Channel::connect(scene.addr, SITE, &config).unwrap();
            assert_eq!(client.is_resumed(), connections > 0, "connection {connections} of {version:?}");
            is_echoed(client);
            connections += 1;
            scene.lb.accepted_by_every_shard() >= 5
        });
        let status = scene.lb.frontend("web");
        assert_eq!(tls(&status, "handshakes"), connections);
        assert_eq!(tls(&status, "resumed"), connections - 1);
    }
}

#[test]
fn openssl_reconnects_with_its_session_in_tls_1_2() {
    let scene = Scene::new();
    wait::until("every shard has had several clients", || {
        let client = SClient::strict(scene.addr, SITE, scene.authority.pem_path(), &["-tls1_2", "-reconnect"]);
        wait::until("it has reconnected five times", || client.log().count(|line| line.starts_with("Reused, ")) == 5);
        assert_eq!(client.log().count(|line| line.starts_with("New, ")), 1);
        scene.lb.accepted_by_every_shard() >= 8
    });
}

#[test]
fn openssl_resumes_a_session_from_a_file_in_either_version() {
    for version in ["-tls1_2", "-tls1_3"] {
        let (scene, folder) = (Scene::new(), TempDir::with_prefix("lb-test-sessions-").unwrap());
        let path = folder.path().join("session");
        let path = path.to_str().unwrap();
        let converse = |arguments: &[&str], begins: &str| {
            let arguments = [arguments, &[version, "-sess_out", path]].concat();
            let mut client = SClient::strict(scene.addr, SITE, scene.authority.pem_path(), &arguments);
            client.expect(begins);
            client.send("an echo comes after the tickets");
            client.expect("an echo comes after the tickets");
            let (succeeded, said) = client.end();
            assert!(succeeded, "{said}");
        };
        converse(&[], "New, TLSv1.");
        wait::until("every shard has had several clients", || {
            converse(&["-sess_in", path], "Reused, TLSv1.");
            scene.lb.accepted_by_every_shard() >= 3
        });
    }
}

#[test]
fn a_session_outlives_the_replacement_of_the_certificate() {
    let scene = Scene::new();
    is_echoed(Channel::connect(scene.addr, SITE, &scene.trusting).unwrap());
    let next = scene.authority.issue(&[SITE]);
    scene.lb.change(&format!("UpdateCertificate{}", tests::pair("site", &next)));
    let client = Channel::connect(scene.addr, SITE, &scene.trusting).unwrap();
    assert!(client.is_resumed());
    is_echoed(client);
}

#[test]
fn a_session_from_before_client_certificates_were_required_is_no_way_in() {
    for version in [&TLS12, &TLS13] {
        let (scene, staff) = (Scene::new(), Authority::root("staff"));
        let config = client_config_with(&scene.authority, &[version]);
        is_echoed(Channel::connect(scene.addr, SITE, &config).unwrap());
        scene.lb.change(&format!("AddCertificate{}", bundle("staff", staff.pem())));
        scene.lb.change("UpdateFrontend(name:\"web\",client_ca:\"staff\")");
        assert!(try_echo(scene.addr, &config).is_err(), "{version:?}: let in without a certificate");
    }
}

#[test]
fn a_session_of_an_authority_that_is_not_trusted_any_more_is_no_way_in() {
    for version in [&TLS12, &TLS13] {
        let (old, new) = (Authority::root("old staff"), Authority::root("new staff"));
        let scene = Scene::with_more(
            |frontend| frontend.set("client_ca", "\"staff\""),
            |config| config.bundle("staff", old.pem()),
        );
        let config = client_config_of(&scene.authority, Some(&old.issue(&["nora"])), &[version]);
        try_echo(scene.addr, &config).unwrap();
        scene.lb.change(&format!("UpdateCertificate{}", bundle("staff", new.pem())));
        assert!(try_echo(scene.addr, &config).is_err(), "{version:?}: let in by a session");
    }
}

#[test]
fn a_session_of_one_frontend_is_no_way_into_another() {
    let (authority, staff, server) = (Authority::root("ca"), Authority::root("staff"), Backend::echo());
    let frontend =
        |name| Frontend::new(name).certificates(&["site"]).server_with("a", server.addr(), "ssl_offload: true");
    let config = Config::of(frontend("open")).frontend(frontend("closed").set("client_ca", "\"staff\""));
    let lb = Lb::start(config.pair("site", &authority.issue(&[SITE])).bundle("staff", staff.pem()));
    for version in [&TLS12, &TLS13] {
        let config = client_config_with(&authority, &[version]);
        try_echo(lb.addr("open"), &config).unwrap();
        assert!(try_echo(lb.addr("closed"), &config).is_err());
    }
}

#[test]
fn sessions_with_servers_are_taken_up_again() {
    for version in [&TLS12, &TLS13] {
        let authority = Authority::root("ca");
        let server = server_config_with(&authority.issue(&["127.0.0.1"]), &[version]);
        let server = Backend::secure_who_and_echo("app", server);
        let frontend = Frontend::new("web").server_with("a", server.addr(), "server_certificate: \"ca\"");
        let lb = Lb::start(Config::of(frontend).bundle("ca", authority.pem()).set("shards", 1));
        // Who is refused may be so before the connect returns.
        let ask = || try_connect(lb.addr("web"))?.read_exact(&mut [0; 3]);
        for _ in 0..10 {
            ask().unwrap();
            lb.until_idle();
        }
        let status = lb.server("web", "a");
        assert_eq!((tls(&status, "handshakes"), tls(&status, "resumed")), (10, 9), "{version:?}");

        // A session is no way around the bundle.
        let other = Authority::root("other");
        lb.change(&format!("UpdateCertificate{}", bundle("ca", other.pem())));
        assert!(ask().is_err(), "{version:?}: a server is trusted by a session of earlier");
    }
}

#[test]
fn the_protocol_is_agreed_on_as_configured() {
    let scene = Scene::with(|frontend| frontend.set("alpn", "[\"h2\", \"http/1.1\"]"));
    for (offered, agreed) in [
        (&["http/1.1"][..], Some("http/1.1")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["spdy/3", "http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let client = Channel::connect(scene.addr, SITE, &offering(&scene.trusting, offered)).unwrap();
        assert_eq!(client.alpn().as_deref(), agreed, "{offered:?}");
        is_echoed(client);
    }
    assert!(try_echo(scene.addr, &offering(&scene.trusting, &["spdy/3"])).is_err(), "nothing in common");
    let client = SClient::strict(scene.addr, SITE, scene.authority.pem_path(), &["-alpn", "http/1.1"]);
    client.expect("ALPN protocol: http/1.1");

    scene.lb.done(&["frontend", "update", "web", "--alpn", "http/1.1"]);
    let client = Channel::connect(scene.addr, SITE, &offering(&client_config(&scene.authority), &["h2", "http/1.1"]));
    assert_eq!(client.unwrap().alpn().as_deref(), Some("http/1.1"));
}

#[test]
fn versions_and_ciphers_are_those_of_today() {
    let scene = Scene::new();
    for (version, cipher) in [
        ("-tls1_2", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        ("-tls1_2", "ECDHE-ECDSA-CHACHA20-POLY1305"),
        ("-tls1_3", "TLS_AES_128_GCM_SHA256"),
        ("-tls1_3", "TLS_CHACHA20_POLY1305_SHA256"),
    ] {
        let option = if version == "-tls1_2" { "-cipher" } else { "-ciphersuites" };
        let client = SClient::strict(scene.addr, SITE, scene.authority.pem_path(), &[version, option, cipher]);
        assert!(client.expect("Cipher is").ends_with(cipher), "{version}");
    }
    for (arguments, cause) in [
        (&["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"][..], "no_shared_version"),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"], "no_shared_cipher"),
    ] {
        let (succeeded, said) = SClient::start(scene.addr, arguments).end();
        assert!(!succeeded, "{arguments:?}: {said}");
        let counted = || scene.lb.frontend("web")["tls"].clone();
        wait::until(&format!("{cause} is counted: {}", counted()), || {
            tls_failed(&scene.lb.frontend("web"), cause) == 1
        });
    }
    let mut stream = connect(scene.addr);
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    read_until_closed(&mut stream);
    wait::until("it is counted", || tls_failed(&scene.lb.frontend("web"), "not_tls") == 1);
}

#[test]
fn nobody_renegotiates() {
    let scene = Scene::new();
    let mut client = SClient::strict(scene.addr, SITE, scene.authority.pem_path(), &["-tls1_2"]);
    client.expect("Cipher is");
    client.send("R");
    client.expect("RENEGOTIATING");
    client.expect("no renegotiation");
    drop(client);
    scene.lb.until_idle();
    is_echoed(Channel::connect(scene.addr, SITE, &scene.trusting).unwrap());
}

/// A frontend `web` on two shards that shows a certificate for [`SITE`], before a server that echoes in plain text.
struct Scene {
    authority: Authority,
    trusting: Arc<ClientConfig>,
    lb: Lb,
    addr: SocketAddr,
    _server: Backend,
}

impl Scene {
    fn new() -> Self {
        Self::with(|frontend| frontend)
    }

    fn with(settings: impl FnOnce(Frontend) -> Frontend) -> Self {
        Self::with_more(settings, |config| config.set("shards", 2))
    }

    fn with_more(settings: impl FnOnce(Frontend) -> Frontend, more: impl FnOnce(Config) -> Config) -> Self {
        let (authority, server) = (Authority::root("ca"), Backend::echo());
        let site: Identity = authority.issue(&[SITE]);
        let frontend = settings(Frontend::new("web").certificates(&["site"]));
        let config = Config::of(frontend.server_with("a", server.addr(), "ssl_offload: true")).pair("site", &site);
        let lb = Lb::start(more(config));
        Self { trusting: client_config(&authority), authority, addr: lb.addr("web"), lb, _server: server }
    }
}

fn is_echoed(mut client: Channel) {
    client.write_all(b"hello").unwrap();
    client.end().unwrap();
    assert_eq!(read_to_end(client).unwrap(), "hello");
}

fn try_echo(addr: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<()> {
    tries::echo_in_tls(addr, config)
}

fn offering(config: &Arc<ClientConfig>, protocols: &[&str]) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(config);
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

fn all_failed(status: &Value) -> u64 {
    let failed = status["tls"]["failed"].as_object().expect("failures by cause");
    failed.values().map(|count| count.as_u64().unwrap()).sum()
}

/// Something that is no handshake, of many kinds.
fn garbage(seed: u64, hello: &[u8]) -> Vec<u8> {
    let mut noise = Vec::new();
    stream::write(&mut noise, seed, 200 + seed % 3000).unwrap();
    match seed % 8 {
        0 => noise,
        1 => b"GET / HTTP/1.1\r\nhost: site.example\r\n\r\n".to_vec(),
        // A record of the right kind with nonsense in it, and one that is longer than any may be.
        2 => [&[22, 3, 1, 0, 200][..], &noise[..200]].concat(),
        3 => [&[22, 3, 3, 0xff, 0xff][..], &noise].concat(),
        // Said to be application data, or an alert.
        4 => [&[23, 3, 3, 0, 100][..], &noise[..100]].concat(),
        5 => vec![21, 3, 3, 0, 2, 2, 40],
        // A greeting with one byte wrong, and one that ends too early.
        6 => {
            let mut hello = hello.to_vec();
            let at = 5 + (seed as usize / 8) % 38;
            hello[at] ^= 0x55;
            hello.truncate(hello.len() - 1);
            hello
        }
        _ => hello[..hello.len() / 2].to_vec(),
    }
}

/// How a connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The TCP stream ends without close_notify.
    CutOff,
    Reset,
    /// A record that nobody who has the keys has made.
    Nonsense,
}

impl Way {
    fn end(self, end: Channel) {
        match self {
            Self::CutOff => end.cut_off().unwrap(),
            Self::Reset => reset(end.stream().try_clone().unwrap()),
            Self::Nonsense => {
                let record = [&[23, 3, 3, 0, 64][..], &[7; 64]].concat();
                end.stream().write_all(&record).unwrap();
                // Held open, so that nothing but the record ends it.
                thread::spawn(move || read_until_closed(&mut end.stream().try_clone().unwrap()));
            }
        }
    }
}

/// Says that this is all, in TLS by close_notify alone.
fn say_goodbye(end: &Channel) {
    if end.is_secure() { end.close_notify().unwrap() } else { end.end().unwrap() }
}

/// The connection ends, and not as if all had been said.
fn breaks(mut end: Channel, mode: Mode, way: Way) {
    let error = loop {
        match end.read(&mut [0; 100]) {
            Ok(0) => panic!("{mode:?}, {way:?}: it looks complete"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let broken = [ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof, ErrorKind::BrokenPipe, ErrorKind::InvalidData];
    assert!(broken.contains(&error.kind()), "{mode:?}, {way:?}: {error}");
}
