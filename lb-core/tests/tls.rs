//! TLS through the library's own door: no file, no program, certificates made on the spot.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use lb_core::config::{Bind, Certificate, Config, Frontend, Name, Server};
use lb_core::{Balancer, Drain};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// A CA, and a certificate by it with its key.
struct Made {
    ca: rcgen::Certificate,
    certificate: rcgen::Certificate,
    key: rcgen::KeyPair,
}

fn made() -> Made {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["site.example".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    Made { ca, certificate, key }
}

impl Made {
    fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
    }

    fn server(&self) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let chain = vec![self.certificate.der().clone()];
        Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap())
    }
}

/// Sends everything back, until the client has ended.
fn echo(stream: &mut (impl Read + Write)) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}

fn serve(tls: Option<Arc<ServerConfig>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            stream.set_nodelay(true).unwrap();
            let tls = tls.clone();
            thread::spawn(move || match tls {
                Some(config) => {
                    let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
                    echo(&mut stream);
                    stream.conn.send_close_notify();
                    let _ = stream.flush();
                }
                None => echo(&mut stream),
            });
        }
    });
    addr
}

/// A free port: nobody else in this process asks for it.
fn free_addr() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Sends bytes and reads them back, some at a time.
fn exchange(stream: &mut (impl Read + Write), length: usize) {
    let bytes: Vec<u8> = (0..length).map(|number| (number % 251) as u8).collect();
    let mut back = vec![0; length];
    for (piece, back) in bytes.chunks(20_000).zip(back.chunks_mut(20_000)) {
        stream.write_all(piece).unwrap();
        stream.flush().unwrap();
        stream.read_exact(back).unwrap();
    }
    assert!(back == bytes, "bytes were changed");
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

#[test]
fn every_mode_carries_bytes_as_they_are() {
    let made = made();
    let (chain, key) = (made.certificate.pem(), made.key.serialize_pem());
    for (offload, verified) in [(false, false), (true, false), (true, true), (false, true)] {
        println!("offload {offload}, verified {verified}");
        let speaks_tls = verified || !offload;
        let server = Server::new("app1", serve(speaks_tls.then(|| made.server()))).unwrap().with_ssl_offload(offload);
        let server = server.with_server_certificate(verified.then(|| name("ca")));
        let addr = free_addr();
        let frontend = Frontend::new("web", Bind::Addr(addr)).unwrap();
        let frontend = frontend.with_certificates(vec![name("site")]).with_server(server);
        let config = Config::default().with_shards(1).unwrap();
        let config = config.certificate(Certificate::pair("site", &chain, &key).unwrap());
        let config = config.certificate(Certificate::bundle("ca", &made.ca.pem()).unwrap()).frontend(frontend);
        let balancer = Balancer::builder().config(config).start().unwrap();
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        if offload || !verified {
            let session = ClientConnection::new(made.client(), ServerName::try_from("site.example").unwrap()).unwrap();
            let mut stream = StreamOwned::new(session, stream);
            exchange(&mut stream, 10);
            exchange(&mut stream, 3_000_000);
            stream.conn.send_close_notify();
            assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0, "a clean end");
        } else {
            exchange(&mut stream, 10);
            exchange(&mut stream, 3_000_000);
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0);
        }
        balancer.shutdown(Drain::now()).unwrap();
    }
}
