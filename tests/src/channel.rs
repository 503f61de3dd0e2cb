//! One end of a connection, in plain text or in TLS, as a client or as a server: read and written alike, from two threads
//! if need be. TLS is rustls, as the balancer's own, but the buffered interface of it; what is to be right for everybody is
//! tested with openssl and others.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
};

use crate::client::try_connect;
use crate::pki::{Authority, Identity};

/// What every byte that comes from the other side is written into, as it comes.
pub type Tap = Arc<Mutex<Vec<u8>>>;

/// How an end of TLS receives and sends.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Where what comes is written down, also if no handshake becomes of it.
    pub tap: Option<Tap>,
    /// Most bytes that are sent at a time, in a packet of their own.
    pub piece: usize,
}

impl Default for Manner {
    fn default() -> Self {
        Self { tap: None, piece: usize::MAX }
    }
}

/// One end of a connection.
#[derive(Debug, Clone)]
pub struct Channel {
    stream: Arc<TcpStream>,
    tls: Option<Arc<Tls>>,
}

#[derive(Debug)]
struct Tls {
    session: Mutex<Session>,
    /// Held while records are taken from the session and sent, so that they are sent in order.
    sending: Mutex<()>,
    manner: Manner,
}

#[derive(Debug)]
struct Session {
    connection: Connection,
    /// What came and was not yet taken: rustls takes no more while it holds much that was not read.
    pending: Vec<u8>,
}

impl Channel {
    /// Without TLS.
    pub fn plain(stream: TcpStream) -> Self {
        Self { stream: Arc::new(stream), tls: None }
    }

    /// Connects, as [`try_connect`], and makes the handshake of a client that trusts `config` and asks for `name`.
    ///
    /// # Errors
    /// No connection, or no handshake.
    pub fn connect(addr: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> io::Result<Self> {
        Self::over(try_connect(addr)?, name, config, Manner::default())
    }

    /// The same over a connection that is there, in a particular manner.
    ///
    /// # Errors
    /// No handshake.
    pub fn over(stream: TcpStream, name: &str, config: &Arc<ClientConfig>, manner: Manner) -> io::Result<Self> {
        Self::shake_hands(stream, client_connection(name, config).into(), manner)
    }

    /// Makes the handshake of a server.
    ///
    /// # Errors
    /// No handshake.
    pub fn accept(stream: TcpStream, config: &Arc<ServerConfig>) -> io::Result<Self> {
        Self::accept_with(stream, config, Manner::default())
    }

    /// The same in a particular manner.
    ///
    /// # Errors
    /// No handshake.
    pub fn accept_with(stream: TcpStream, config: &Arc<ServerConfig>, manner: Manner) -> io::Result<Self> {
        Self::shake_hands(stream, ServerConnection::new(Arc::clone(config)).unwrap().into(), manner)
    }

    fn shake_hands(stream: TcpStream, connection: Connection, manner: Manner) -> io::Result<Self> {
        let session = Mutex::new(Session { connection, pending: Vec::new() });
        let tls = Tls { session, sending: Mutex::new(()), manner };
        let channel = Self { stream: Arc::new(stream), tls: Some(Arc::new(tls)) };
        let tls = channel.tls();
        tls.flush(&channel.stream)?;
        while tls.lock().connection.is_handshaking() {
            if tls.receive(&channel.stream)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            tls.flush(&channel.stream)?;
        }
        Ok(channel)
    }

    /// Says that nothing more will come from here: close_notify, where this is TLS, and the end of the TCP stream.
    ///
    /// # Errors
    /// The connection breaks.
    pub fn end(&self) -> io::Result<()> {
        self.close_notify()?;
        self.stream.shutdown(Shutdown::Write)
    }

    /// Sends close_notify, where this is TLS, and leaves the TCP stream open.
    ///
    /// # Errors
    /// The connection breaks.
    pub fn close_notify(&self) -> io::Result<()> {
        let Some(tls) = &self.tls else { return Ok(()) };
        tls.lock().connection.send_close_notify();
        tls.flush(&self.stream)
    }

    /// Ends the TCP stream without a word, as somebody would who wants it to look as if this were all.
    ///
    /// # Errors
    /// The connection breaks.
    pub fn cut_off(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// The TCP connection under it.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// True in TLS.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// The protocol that was agreed on.
    pub fn alpn(&self) -> Option<String> {
        let session = self.tls().lock();
        session.connection.alpn_protocol().map(|protocol| String::from_utf8(protocol.to_vec()).unwrap())
    }

    /// True if the handshake was short, because the two knew each other.
    pub fn is_resumed(&self) -> bool {
        self.tls().lock().connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// True if the other side showed a certificate of `identity`.
    pub fn peer_is(&self, identity: &Identity) -> bool {
        let session = self.tls().lock();
        let shown = session.connection.peer_certificates().and_then(|chain| chain.first());
        shown == certificates(identity.leaf()).first()
    }

    fn tls(&self) -> &Tls {
        self.tls.as_ref().expect("a channel with TLS")
    }
}

impl Read for Channel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return (&*self.stream).read(buffer) };
        loop {
            let mut session = tls.lock();
            match session.connection.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
            let took = session.take_pending()?;
            drop(session);
            if !took {
                tls.receive(&self.stream)?;
            }
            // An answer to the other side, such as new keys; who is sending now takes it along.
            if let Ok(sending) = tls.sending.try_lock() {
                tls.flush_while(&self.stream, &sending)?;
            }
        }
    }
}

impl Write for Channel {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return (&*self.stream).write(buffer) };
        let taken = tls.lock().connection.writer().write(buffer)?;
        tls.flush(&self.stream)?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Tls {
    fn lock(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap()
    }

    /// Receives something. 0 if the TCP stream has ended.
    fn receive(&self, mut stream: &TcpStream) -> io::Result<usize> {
        let mut chunk = vec![0; 32 * 1024];
        let count = stream.read(&mut chunk)?;
        if let Some(tap) = &self.manner.tap {
            tap.lock().unwrap().extend_from_slice(&chunk[..count]);
        }
        let mut session = self.lock();
        if count == 0 {
            session.connection.read_tls(&mut io::empty())?;
            return Ok(0);
        }
        session.pending.extend_from_slice(&chunk[..count]);
        let result = session.take_pending();
        drop(session);
        if result.is_err() {
            // The alert that says why.
            let _ = self.flush(stream);
        }
        result.map(|_| count)
    }

    fn flush(&self, stream: &TcpStream) -> io::Result<()> {
        let sending = self.sending.lock().unwrap();
        self.flush_while(stream, &sending)
    }

    fn flush_while(&self, mut stream: &TcpStream, _sending: &MutexGuard<'_, ()>) -> io::Result<()> {
        let mut records = Vec::new();
        let mut session = self.lock();
        while session.connection.wants_write() {
            session.connection.write_tls(&mut records)?;
        }
        drop(session);
        records.chunks(self.manner.piece).try_for_each(|piece| stream.write_all(piece))
    }
}

impl Session {
    /// Gives rustls of what came as much as it takes. True if it took something.
    fn take_pending(&mut self) -> io::Result<bool> {
        let mut rest = self.pending.as_slice();
        while !rest.is_empty() {
            // Refused while much is waiting to be read.
            let Ok(1..) = self.connection.read_tls(&mut rest) else { break };
            self.connection.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
        let taken = self.pending.len() - rest.len();
        self.pending.drain(..taken);
        Ok(taken > 0)
    }
}

/// The settings of a server that shows `identity`.
pub fn server_config(identity: &Identity) -> Arc<ServerConfig> {
    server_config_with(identity, rustls::ALL_VERSIONS)
}

/// The same for some versions only.
pub fn server_config_with(identity: &Identity, versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_protocol_versions(versions).unwrap().with_no_client_auth();
    Arc::new(builder.with_single_cert(certificates(identity.chain()), key(identity)).unwrap())
}

/// The settings of a server that shows `identity` and wants a certificate of `authority` from its clients.
pub fn server_config_for_known(identity: &Identity, authority: &Authority) -> Arc<ServerConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots = Arc::new(roots(authority.pem()));
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build().unwrap();
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_client_cert_verifier(verifier);
    Arc::new(builder.with_single_cert(certificates(identity.chain()), key(identity)).unwrap())
}

/// The settings of a client that trusts `authority`.
pub fn client_config(authority: &Authority) -> Arc<ClientConfig> {
    client_config_with(authority, rustls::ALL_VERSIONS)
}

/// The same for some versions only.
pub fn client_config_with(authority: &Authority, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    client_config_of(authority, None, versions)
}

/// The settings of a client that trusts `authority` and shows `identity` if it is asked.
pub fn client_config_as(authority: &Authority, identity: &Identity) -> Arc<ClientConfig> {
    client_config_of(authority, Some(identity), rustls::ALL_VERSIONS)
}

/// The settings of a client with all of this.
pub fn client_config_of(
    authority: &Authority,
    identity: Option<&Identity>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots(authority.pem()));
    Arc::new(match identity {
        Some(identity) => builder.with_client_auth_cert(certificates(identity.chain()), key(identity)).unwrap(),
        None => builder.with_no_client_auth(),
    })
}

/// The first that a client says that asks for `name`.
pub fn client_hello(name: &str, config: &Arc<ClientConfig>) -> Vec<u8> {
    let mut hello = Vec::new();
    client_connection(name, config).write_tls(&mut hello).unwrap();
    hello
}

fn client_connection(name: &str, config: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    ClientConnection::new(Arc::clone(config), name).unwrap()
}

fn roots(pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    certificates(pem).into_iter().for_each(|certificate| roots.add(certificate).unwrap());
    roots
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

fn key(identity: &Identity) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(identity.key().as_bytes()).unwrap()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::{Listener, client, stream};

    #[test]
    fn both_directions_go_on_at_once_and_end_one_by_one() {
        let (mut client, server) = ends();
        let writers = [(&client, 1), (&server, 2)].map(|(end, seed)| {
            let mut end = end.clone();
            thread::spawn(move || stream::write(&mut end, seed, 3_000_000).and_then(|_| end.end()).unwrap())
        });
        let mut reader = server;
        let at_server = thread::spawn(move || stream::read(&mut reader).unwrap());
        assert_eq!(stream::read(&mut client).unwrap(), stream::digest(2, 3_000_000));
        assert_eq!(at_server.join().unwrap(), stream::digest(1, 3_000_000));
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    }

    #[test]
    fn an_end_without_close_notify_is_an_error() {
        let (client, mut server) = ends();
        client.cut_off().unwrap();
        assert_eq!(server.read(&mut [0]).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    fn ends() -> (Channel, Channel) {
        let authority = Authority::root("ca");
        let (accepting, listener) = (server_config(&authority.issue(&["127.0.0.1"])), Listener::new());
        let stream = client::connect(listener.addr());
        let manner = Manner { piece: 100_000, ..Manner::default() };
        let server = thread::spawn(move || Channel::accept(listener.accept(), &accepting).unwrap());
        let client = Channel::over(stream, "127.0.0.1", &client_config(&authority), manner).unwrap();
        (client, server.join().unwrap())
    }
}
