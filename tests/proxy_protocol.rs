//! The PROXY protocol, as HAProxy's proxy-protocol.txt has it: told to servers that ask for it, and believed from listed
//! networks only.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::thread;

use tests::channel::{client_config, server_config};
use tests::client::{End, connect, connect_from, read_to_end, read_until_closed};
use tests::program::{Haproxy, Nginx, Site, succeeds};
use tests::{Authority, Backend, Channel, Config, Frontend, Lb, Listener, stream};

#[test]
fn nginx_and_haproxy_are_told_who_the_client_is() {
    let (nginx, haproxy) = (Nginx::start_sites(&[Site::new("told").behind_proxy()]), Haproxy::behind_proxy());
    for (what, addr) in [("nginx", nginx.addrs()[0]), ("haproxy", haproxy.addr())] {
        for version in ["v1", "v2"] {
            let lb = start(addr, &format!("send_proxy: {version}"));
            let to = lb.addr("web");
            for source in ["127.0.0.1", "127.0.0.77"] {
                let mut client = connect_from(source.parse().unwrap(), to);
                let from = client.local_addr().unwrap();
                let answer = get(&mut client);
                assert!(answer.ends_with(&format!("{from} to {to}")), "{what}, {version}: {answer}");
            }
        }
    }
}

#[test]
fn a_server_with_tls_is_told_before_the_handshake() {
    let authority = Authority::root("ca");
    let nginx = Nginx::start_sites(&[Site::new("told").secure(&authority.issue(&["app.example"])).behind_proxy()]);
    let settings = "send_proxy: v2, server_certificate: \"ca\", server_name: \"app.example\"";
    let frontend = Frontend::new("web").server_with("a", nginx.addrs()[0], settings);
    let lb = Lb::start(Config::of(frontend).bundle("ca", authority.pem()));
    let mut client = connect(lb.addr("web"));
    let (from, to) = (client.local_addr().unwrap(), lb.addr("web"));
    assert!(get(&mut client).ends_with(&format!("{from} to {to}")));
}

#[test]
fn curl_behind_haproxy_is_known_by_its_own_address() {
    let nginx = Nginx::start_sites(&[Site::new("told").behind_proxy()]);
    for version in ["send-proxy", "send-proxy-v2"] {
        let frontend = Frontend::new("web").set("accept_proxy_from", LOCAL);
        let lb = Lb::start(Config::of(frontend.server_with("a", nginx.addrs()[0], "send_proxy: v1")));
        let haproxy = Haproxy::before(lb.addr("web"), version);
        let url = format!("http://{}/", haproxy.addr());
        let answer = succeeds(Command::new("curl").args(["-sS", "--fail", "--interface", "127.0.0.55", &url]));
        assert!(answer.starts_with("127.0.0.55:"), "{version}: {answer}");
        assert!(answer.ends_with(&format!(" to {}", haproxy.addr())), "{version}: {answer}");
    }
}

#[test]
fn every_family_and_version_is_written_as_the_specification_has_it() {
    let listener = Listener::new();
    for (version, bind) in [("v1", "127.0.0.1:0"), ("v2", "127.0.0.1:0"), ("v1", "[::1]:0"), ("v2", "[::1]:0")] {
        let frontend = Frontend::new("web").bind(bind);
        let settings = format!("send_proxy: {version}");
        let lb = Lb::start(Config::of(frontend.server_with("a", listener.addr(), &settings)));
        let mut client = connect(lb.addr("web"));
        client.write_all(b"hello").unwrap();
        let header = header_of(version, client.local_addr().unwrap(), lb.addr("web"));
        let mut came = vec![0; header.len() + 5];
        listener.accept().read_exact(&mut came).unwrap();
        assert_eq!(came, [&header[..], b"hello"].concat(), "{version} {bind}");
    }
}

#[test]
fn a_server_that_speaks_first_is_told_at_once() {
    let server = Backend::run(|mut stream| {
        let mut header = [0; 28];
        if stream.read_exact(&mut header).is_ok() {
            let _ = stream.write_all(b"220 ready");
        }
    });
    let lb = start(server.addr(), "send_proxy: v2");
    assert_eq!(read_to_end(connect(lb.addr("web"))).unwrap(), "220 ready");
}

#[test]
fn behind_a_listed_proxy_the_address_of_the_header_is_passed_on() {
    let listener = Listener::new();
    let lb = behind(listener.addr(), LOCAL);
    for (source, destination) in [("198.51.100.7:5000", "203.0.113.9:443"), ("[2001:db8::7]:5000", "[2001:db8::9]:443")]
    {
        let [source, destination]: [SocketAddr; 2] = [source, destination].map(|addr| addr.parse().unwrap());
        for version in ["v1", "v2"] {
            let header = header_of(version, source, destination);
            for piece in [header.len() + 5, 1, 7] {
                let mut client = connect(lb.addr("web"));
                let said = [&header[..], b"hello"].concat();
                said.chunks(piece).for_each(|piece| client.write_all(piece).unwrap());
                let expected = [&header_of("v2", source, destination)[..], b"hello"].concat();
                let mut came = vec![0; expected.len()];
                listener.accept().read_exact(&mut came).unwrap();
                assert_eq!(came, expected, "{version} in pieces of {piece}");
            }
        }
    }
}

#[test]
fn what_a_proxy_says_for_itself_is_passed_on_with_its_own_address() {
    let listener = Listener::new();
    let lb = behind(listener.addr(), LOCAL);
    for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\x03abc"]
    {
        let mut client = connect(lb.addr("web"));
        client.write_all(&[header, b"hello"].concat()).unwrap();
        let expected = header_of("v2", client.local_addr().unwrap(), lb.addr("web"));
        let expected = [&expected[..], b"hello"].concat();
        let mut came = vec![0; expected.len()];
        listener.accept().read_exact(&mut came).unwrap();
        assert_eq!(came, expected, "{}", header.escape_ascii());
    }
}

#[test]
fn behind_a_listed_proxy_the_client_of_the_header_finds_its_server_again() {
    let servers: Vec<_> = (0..4).map(|number| Backend::who(&number.to_string())).collect();
    let frontend = Frontend::new("web").policy("source_hash").set("accept_proxy_from", LOCAL);
    let frontend = servers
        .iter()
        .enumerate()
        .fold(frontend, |frontend, (number, server)| frontend.server(&format!("s{number}"), server.addr()));
    let lb = Lb::start(Config::of(frontend).set("shards", 2));
    let addr = lb.addr("web");
    let ask = |client: u8| {
        let source = SocketAddr::from(([198, 51, 100, client], 5000 + u16::from(client)));
        let mut stream = connect(addr);
        stream.write_all(&header_of("v1", source, addr)).unwrap();
        read_to_end(stream).unwrap()
    };
    let first: Vec<_> = (1..=40).map(ask).collect();
    assert_eq!((1..=40).map(ask).collect::<Vec<_>>(), first);
    for number in 0..4 {
        assert!(first.contains(&number.to_string()), "one proxy, but many clients: {first:?}");
    }
}

#[test]
fn a_listed_proxy_must_say_whom_it_speaks_for() {
    let server = Backend::echo();
    let lb = behind(server.addr(), LOCAL);
    lb.change("UpdateFrontend(name:\"web\",handshake_timeout:\"300ms\")");
    let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
    for said in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x16\x03\x01\x02\0",
        b"PROXY TCP4 198.51.100.7 203.0.113.9 5000\r\n",
        b"PROXY TCP4 198.51.100.7 203.0.113.9 5000 65536\r\n",
        b"PROXY TCP6 198.51.100.7 203.0.113.9 5000 443\r\n",
        b"PROXY TCP4 198.51.100.777 203.0.113.9 5000 443\r\n",
        b"PROXY \r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x50\0\x51",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04\x01\x02\x03\x04",
        &long,
        b"PROXY TCP4",
        b"",
    ] {
        let mut client = connect(lb.addr("web"));
        let _ = client.write_all(said);
        let (answer, _) = read_until_closed(&mut client);
        assert!(answer.is_empty(), "{} was answered: {}", said.escape_ascii(), answer.escape_ascii());
    }
    assert_eq!(server.accepted(), 0);
    lb.until_idle();
}

#[test]
fn a_header_from_anybody_else_is_an_error() {
    let server = Backend::echo();
    let frontend = Frontend::new("web").set("accept_proxy_from", "[\"192.0.2.0/24\", \"127.0.0.7\"]");
    let lb = Lb::start(Config::of(frontend.server("a", server.addr())));
    let to = lb.addr("web");
    let header = header_of("v1", "198.51.100.7:5000".parse().unwrap(), to);
    for header in [&header, &header_of("v2", "198.51.100.7:5000".parse().unwrap(), to)] {
        let mut client = connect(to);
        client.write_all(header).unwrap();
        assert_eq!(read_until_closed(&mut client), (vec![], End::Reset));
    }
    // It may have been connected to, for a client that would have waited for it to speak.
    assert_eq!(lb.traffic("bytes_to_server"), 0, "the server has seen nothing of the header");
    // Without one, others are served as ever, and the listed one only with it.
    let mut listed = connect_from("127.0.0.7".parse::<IpAddr>().unwrap(), to);
    listed.write_all(&header).unwrap();
    for stream in [&mut listed, &mut connect(to)] {
        stream.write_all(b"hello").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let (answer, _) = read_until_closed(stream);
        assert!(answer.ends_with(b"hello"), "{}", answer.escape_ascii());
    }
}

#[test]
fn where_no_network_is_listed_a_header_is_the_clients_own_business() {
    let listener = Listener::new();
    let lb = start(listener.addr(), "weight: 1");
    let header = header_of("v1", "198.51.100.7:5000".parse().unwrap(), lb.addr("web"));
    connect(lb.addr("web")).write_all(&header).unwrap();
    let mut came = vec![0; header.len()];
    listener.accept().read_exact(&mut came).unwrap();
    assert_eq!(came, header);
}

#[test]
fn header_termination_and_re_encryption_go_together_byte_for_byte() {
    let authority = Authority::root("ca");
    let (app, listener) = (server_config(&authority.issue(&["127.0.0.1"])), Listener::new());
    let frontend = Frontend::new("web").certificates(&["site"]).set("accept_proxy_from", LOCAL);
    let settings = "ssl_offload: true, server_certificate: \"ca\", send_proxy: v1";
    let frontend = frontend.server_with("a", listener.addr(), settings);
    let site = authority.issue(&["site.example"]);
    let lb = Lb::start(Config::of(frontend).pair("site", &site).bundle("ca", authority.pem()));
    let header = header_of("v1", "198.51.100.7:5000".parse().unwrap(), "203.0.113.9:443".parse().unwrap());
    let (addr, trusting, said) = (lb.addr("web"), client_config(&authority), header.clone());
    let client = thread::spawn(move || {
        let mut stream = connect(addr);
        stream.write_all(&said).unwrap();
        let mut client = Channel::over(stream, "site.example", &trusting, Default::default()).unwrap();
        stream::write(&mut client, 6, 1_000_000).unwrap();
        client.end().unwrap();
        stream::read(&mut client).unwrap()
    });
    let mut stream: TcpStream = listener.accept();
    let mut came = vec![0; header.len()];
    stream.read_exact(&mut came).unwrap();
    assert_eq!(came, header);
    let mut server = Channel::accept(stream, &app).unwrap();
    assert_eq!(stream::read(&mut server).unwrap(), stream::digest(6, 1_000_000));
    stream::write(&mut server, 7, 1_000_000).unwrap();
    server.end().unwrap();
    assert_eq!(client.join().unwrap(), stream::digest(7, 1_000_000));
}

const LOCAL: &str = "[\"127.0.0.0/8\", \"::1\"]";

fn start(addr: SocketAddr, settings: &str) -> Lb {
    Lb::start(Config::of(Frontend::new("web").server_with("a", addr, settings)))
}

/// A frontend that believes the proxies in `networks`, and tells its server whom the connection is for.
fn behind(addr: SocketAddr, networks: &str) -> Lb {
    let frontend = Frontend::new("web").set("accept_proxy_from", networks);
    Lb::start(Config::of(frontend.server_with("a", addr, "send_proxy: v2")))
}

/// The page `/` by HTTP.
fn get(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n").unwrap();
    read_to_end(stream).unwrap()
}

/// The header as proxy-protocol.txt describes it, for two addresses of one family.
fn header_of(version: &str, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if source.is_ipv4() { (4, 0x11) } else { (6, 0x21) };
    let ports = (source.port(), destination.port());
    if version == "v1" {
        let (from, to) = (source.ip(), destination.ip());
        return format!("PROXY TCP{} {from} {to} {} {}\r\n", family.0, ports.0, ports.1).into_bytes();
    }
    let mut addresses = Vec::new();
    for ip in [source.ip(), destination.ip()] {
        match ip {
            IpAddr::V4(ip) => addresses.extend(ip.octets()),
            IpAddr::V6(ip) => addresses.extend(ip.octets()),
        }
    }
    addresses.extend(ports.0.to_be_bytes());
    addresses.extend(ports.1.to_be_bytes());
    let length = (addresses.len() as u16).to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[0x21, family.1][..], &length, &addresses].concat()
}
