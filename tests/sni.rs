//! Servers chosen by the name that a client asks for, which is read from its first words and not decrypted: those words and
//! all that follows reach the server as they were.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};
use tests::channel::{Manner, client_config, client_hello, server_config};
use tests::client::{connect, read_until_closed};
use tests::openssl::{SClient, SServer};
use tests::program::{Nginx, Site, succeeds};
use tests::{Authority, Backend, Channel, Config, Frontend, Lb, Listener};

#[test]
fn the_name_chooses_the_group_and_the_servers_show_their_own_certificates() {
    let farm = Farm::new();
    let lb = farm.start(2);
    for (name, group) in [
        ("www.example.com", "exact"),
        ("WWW.Example.com", "exact"),
        ("api.example.com", "wildcard"),
        ("mail.example.net", "second"),
        ("a.b.example.com", "rest"),
        ("example.com", "rest"),
        ("nobody.example", "rest"),
    ] {
        for _ in 0..4 {
            assert_eq!(farm.ask(lb.addr("web"), name), group, "{name}");
        }
    }
}

#[test]
fn those_without_a_name_go_to_the_servers_without_a_group() {
    let farm = Farm::new();
    let lb = farm.start(1);
    let client = SClient::start(lb.addr("web"), &["-noservername", "-ign_eof"]);
    client.expect("rest");
    // An address is no name.
    let config = client_config(&farm.authority);
    let mut client = Channel::connect(lb.addr("web"), "127.0.0.1", &config).unwrap();
    let mut answer = [0; 4];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"rest");
}

#[test]
fn the_first_words_may_come_in_pieces_of_any_length() {
    let farm = Farm::new();
    let lb = farm.start(1);
    for piece in [1, 2, 5, 6, 43, 100] {
        let stream = connect(lb.addr("web"));
        let manner = Manner { piece, ..Manner::default() };
        let client = Channel::over(stream, "api.example.com", &client_config(&farm.authority), manner).unwrap();
        assert_eq!(answer(client), "wildcard", "in pieces of {piece}");
    }
}

#[test]
fn the_first_words_may_come_in_records_of_any_length() {
    let (listener, hello) = (Listener::new(), hello_of("www.example.com", 0));
    let lb = to_group(listener.addr());
    for length in [1, 4, 40, 100] {
        let mut stream = connect(lb.addr("web"));
        let records = in_records(&hello, length);
        stream.write_all(&records).unwrap();
        arrives(&listener, &records);
    }
}

#[test]
fn the_first_words_may_be_16_kib_long_and_reach_the_server_as_they_were() {
    let listener = Listener::new();
    let lb = to_group(listener.addr());
    for length in [2000, 8000, 16_000] {
        let hello = hello_of("www.example.com", length);
        assert!(hello.len() > length && hello.len() <= 16 * 1024, "{}", hello.len());
        for piece in [hello.len(), 1000] {
            let mut stream = connect(lb.addr("web"));
            hello.chunks(piece).for_each(|piece| stream.write_all(piece).unwrap());
            stream.write_all(b"and what follows").unwrap();
            arrives(&listener, &[&hello[..], b"and what follows"].concat());
        }
    }
}

#[test]
fn what_is_no_greeting_of_tls_goes_to_the_servers_without_a_group_or_nowhere() {
    let (rest, group) = (Backend::echo(), Backend::echo());
    let frontend = Frontend::new("web").set("sni_routes", ROUTES).set("handshake_timeout", "\"300ms\"");
    let frontend = frontend.server_with("rest", rest.addr(), "weight: 1");
    let lb = Lb::start(Config::of(frontend.server_with("exact", group.addr(), "group: \"exact\"")));
    let too_long = hello_of("www.example.com", 20_000);
    for said in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[22, 3, 1, 0, 0], &[0; 100], &too_long] {
        let mut stream = connect(lb.addr("web"));
        let _ = stream.write_all(said);
        // Sent back by the server, or closed.
        let _ = stream.read(&mut [0; 1]);
    }
    assert_eq!(group.accepted(), 0);
    lb.until_idle();
}

#[test]
fn who_does_not_say_the_name_in_time_is_closed() {
    let listener = Listener::new();
    let lb = to_group(listener.addr());
    lb.change("UpdateFrontend(name:\"web\",handshake_timeout:\"200ms\")");
    let hello = hello_of("www.example.com", 0);
    for said in [&hello[..0], &hello[..1], &hello[..hello.len() - 1]] {
        let mut stream = connect(lb.addr("web"));
        stream.write_all(said).unwrap();
        read_until_closed(&mut stream);
    }
    lb.until_idle();
}

#[test]
fn routes_and_groups_are_changed_live() {
    let farm = Farm::new();
    let lb = farm.start(2);
    let ask = |name: &str| farm.ask(lb.addr("web"), name);
    assert_eq!(ask("www.example.com"), "exact");
    lb.done(&["server", "update", "web", "rest", "--group", "exact"]);
    lb.done(&["server", "update", "web", "exact", "--group", "none"]);
    assert_eq!((ask("www.example.com"), ask("nobody.example")), ("rest".into(), "exact".into()));
    lb.change("UpdateFrontend(name:\"web\",sni_routes:[(names:[\"nobody.example\"],group:\"second\")])");
    assert_eq!((ask("www.example.com"), ask("nobody.example")), ("exact".into(), "second".into()));
}

#[test]
fn a_route_to_a_group_without_servers_is_taken_with_a_warning_and_serves_nobody() {
    let farm = Farm::new();
    let lb = farm.start(1);
    let said = lb.change("UpdateFrontend(name:\"web\",sni_routes:[(names:[\"www.example.com\"],group:\"empty\")])");
    assert!(said.warnings.iter().any(|warning| warning.contains("empty")), "{said:?}");
    assert!(Channel::connect(lb.addr("web"), "www.example.com", &farm.trusting).is_err());
    assert_eq!(farm.ask(lb.addr("web"), "nobody.example"), "rest");
}

#[test]
fn routes_choose_before_termination_too() {
    let authority = Authority::root("ca");
    let (shop, rest) = (Backend::who("shop"), Backend::who("rest"));
    let frontend = Frontend::new("web").certificates(&["site"]).set("sni_routes", ROUTES);
    let frontend = frontend.server_with("shop", shop.addr(), "ssl_offload: true, group: \"exact\"");
    let frontend = frontend.server_with("rest", rest.addr(), "ssl_offload: true");
    let site = authority.issue(&["www.example.com", "other.example"]);
    let lb = Lb::start(Config::of(frontend).pair("site", &site));
    let config = client_config(&authority);
    for (name, said) in [("www.example.com", "shop"), ("other.example", "rest")] {
        assert_eq!(answer(Channel::connect(lb.addr("web"), name, &config).unwrap()), said);
    }
}

#[test]
fn curl_and_openssl_are_routed_to_nginx_and_openssl() {
    let authority = Authority::root("ca");
    let nginx = Nginx::start_sites(&[Site::new("page").secure(&authority.issue(&["www.example.com"]))]);
    let server = SServer::reversing(&authority.issue(&["other.example"]), &[]);
    let frontend = Frontend::new("web").set("sni_routes", ROUTES).server("rest", server.addr());
    let lb = Lb::start(Config::of(frontend.server_with("www", nginx.addrs()[0], "group: \"exact\"")));
    let port = lb.addr("web").port();
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--fail", "--resolve", &format!("www.example.com:{port}:127.0.0.1"), "--cacert"]);
    let page = succeeds(curl.arg(authority.pem_path()).arg(format!("https://www.example.com:{port}/")));
    assert_eq!(page, "page");
    let mut client = SClient::strict(lb.addr("web"), "other.example", authority.pem_path(), &[]);
    client.send("drawer");
    client.expect("reward");
}

/// Routes to groups `exact`, `wildcard` and `second`, in an order that must not matter.
const ROUTES: &str = "[(names: [\"*.example.com\"], group: \"wildcard\"), \
                       (names: [\"other.example.org\", \"www.example.com\"], group: \"exact\"), \
                       (names: [\"*.example.net\"], group: \"second\")]";

/// A server in each group, and one without, that say in TLS which one they are.
struct Farm {
    authority: Authority,
    trusting: Arc<ClientConfig>,
    servers: Vec<(&'static str, Backend)>,
}

impl Farm {
    fn new() -> Self {
        let authority = Authority::root("ca");
        let names = [
            "www.example.com",
            "*.example.com",
            "*.b.example.com",
            "example.com",
            "*.example.net",
            "nobody.example",
            "127.0.0.1",
        ];
        let config = server_config(&authority.issue(&names));
        let servers = ["exact", "wildcard", "second", "rest"].map(|name| (name, sayer(name, &config)));
        Self { trusting: client_config(&authority), authority, servers: servers.into() }
    }

    fn start(&self, shards: u32) -> Lb {
        let frontend = Frontend::new("web").set("sni_routes", ROUTES);
        let frontend = self.servers.iter().fold(frontend, |frontend, (name, server)| match *name {
            "rest" => frontend.server(name, server.addr()),
            _ => frontend.server_with(name, server.addr(), &format!("group: \"{name}\"")),
        });
        Lb::start(Config::of(frontend).set("shards", shards))
    }

    fn ask(&self, addr: SocketAddr, name: &str) -> String {
        answer(Channel::connect(addr, name, &self.trusting).unwrap())
    }
}

/// Says its name on a line, and waits until the client has gone.
fn sayer(name: &'static str, config: &Arc<ServerConfig>) -> Backend {
    Backend::secure(Arc::clone(config), move |mut channel| {
        let _ = writeln!(channel, "{name}");
        let _ = channel.end();
        let _ = channel.read(&mut [0]);
    })
}

fn answer(client: Channel) -> String {
    tests::client::read_to_end(client).unwrap().trim().to_owned()
}

/// A frontend whose group `exact` is one server, and which has no other.
fn to_group(addr: SocketAddr) -> Lb {
    let frontend = Frontend::new("web").set("sni_routes", ROUTES);
    Lb::start(Config::of(frontend.server_with("exact", addr, "group: \"exact\"")))
}

/// The next connection brings exactly these bytes, as far as they have come.
fn arrives(listener: &Listener, bytes: &[u8]) {
    let mut came = vec![0; bytes.len()];
    let mut stream: TcpStream = listener.accept();
    stream.read_exact(&mut came).unwrap();
    assert!(came == bytes, "what came differs from what was sent");
}

/// A greeting that asks for `name`, longer by `more` bytes of an extension that nobody knows.
fn hello_of(name: &str, more: usize) -> Vec<u8> {
    let hello = client_hello(name, &client_config(&Authority::root("ca")));
    if more == 0 {
        return hello;
    }
    let mut message = hello[5..].to_vec();
    let at = 4 + 2 + 32;
    let session = 1 + usize::from(message[at]);
    let suites = at + session;
    let suites = suites + 2 + number(&message[suites..]);
    let extensions = suites + 1 + usize::from(message[suites]);
    let length = number(&message[extensions..]) + 4 + more;
    message[extensions..extensions + 2].copy_from_slice(&(length as u16).to_be_bytes());
    message.extend([0xfa, 0xfa]);
    message.extend((more as u16).to_be_bytes());
    message.extend(vec![0x2a; more]);
    let length = (message.len() - 4) as u32;
    message[1..4].copy_from_slice(&length.to_be_bytes()[1..]);
    record(&message)
}

fn number(bytes: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// The message of the record `hello` in records of `length` bytes.
fn in_records(hello: &[u8], length: usize) -> Vec<u8> {
    hello[5..].chunks(length).flat_map(record).collect()
}

fn record(message: &[u8]) -> Vec<u8> {
    let mut record = vec![22, 3, 1];
    record.extend((message.len() as u16).to_be_bytes());
    record.extend(message);
    record
}
