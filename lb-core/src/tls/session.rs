//! One TLS session, ours towards one peer: bytes from the wire in, plain bytes out, and the other way round. It owns no socket.
//!
//! The only file that knows how rustls is driven: by its unbuffered interface, which keeps no buffers of its own. What has
//! not been processed, an unfinished record mostly, is kept here and only while there is some: an idle session holds none.
//! Whole records are decrypted where they are.

use std::io;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
use rustls::{ClientConfig, Error, HandshakeKind, ProtocolVersion, ServerConfig};

/// Plain bytes in one record, at most (RFC 8446, section 5.1).
const FRAGMENT_MAX: usize = 16 << 10;
/// What a record is longer than its plain bytes, at most: header, nonce (TLS 1.2), content type (TLS 1.3) and tag.
const RECORD_OVERHEAD: usize = 5 + 8 + 1 + 16;
/// What a message of a handshake takes, mostly; it asks for more where it does not.
const MESSAGE_BYTES: usize = 1 << 10;

/// Where a session's bytes go.
pub(crate) trait Outlets {
    /// Room for that many bytes that are to go to the peer.
    ///
    /// # Errors
    /// There is no memory.
    fn room(&mut self, bytes: usize) -> io::Result<&mut [u8]>;

    /// So many bytes of the room have become the next bytes to the peer.
    fn wire(&mut self, bytes: usize);

    /// The peer has sent these plain bytes.
    ///
    /// # Errors
    /// There is no memory, or they can't be passed on.
    fn plain(&mut self, bytes: &[u8]) -> Result<(), Failed>;
}

/// Why a session can't go on.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The peer, or we, have broken the protocol, or one does not trust the other.
    Tls(Error),
    /// There is no memory for bytes that are to be sent.
    Memory(io::Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Tls(error)
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Memory(error)
    }
}

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The handshake goes on.
    Handshake,
    /// Bytes may go both ways.
    Open,
    /// The peer has said that it sends nothing more (close_notify). We still may.
    PeerEnded,
}

/// A session.
pub(crate) struct Session {
    machine: Machine,
    stage: Stage,
    /// Received and not processed. While a handshake goes on, its messages may span records.
    pending: Vec<u8>,
    /// It has failed: nothing comes of it any more, and rustls is not to be asked.
    is_over: bool,
}

enum Machine {
    Accepts(Box<UnbufferedServerConnection>),
    Dials(Box<UnbufferedClientConnection>),
}

impl Session {
    /// A session with a client.
    ///
    /// # Errors
    /// None that a valid configuration gives.
    pub(crate) fn accept(config: &Arc<ServerConfig>) -> Result<Self, Error> {
        let connection = UnbufferedServerConnection::new(Arc::clone(config))?;
        Ok(Self::new(Machine::Accepts(Box::new(connection))))
    }

    /// A session with a server of this name. It begins to speak with the first [`Session::receive`], of no bytes.
    ///
    /// # Errors
    /// None that a valid configuration gives.
    pub(crate) fn dial(config: &Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        let connection = UnbufferedClientConnection::new(Arc::clone(config), name)?;
        Ok(Self::new(Machine::Dials(Box::new(connection))))
    }

    fn new(machine: Machine) -> Self {
        Self { machine, stage: Stage::Handshake, pending: Vec::new(), is_over: false }
    }

    /// How far it is.
    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether all that has come was processed: no record is unfinished.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether the handshake has agreed on TLS 1.2 and not on 1.3.
    pub(crate) fn is_tls12(&self) -> bool {
        let version = match &self.machine {
            Machine::Accepts(connection) => connection.protocol_version(),
            Machine::Dials(connection) => connection.protocol_version(),
        };
        version == Some(ProtocolVersion::TLSv1_2)
    }

    /// Whether the handshake took up an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        let kind = match &self.machine {
            Machine::Accepts(connection) => connection.handshake_kind(),
            Machine::Dials(connection) => connection.handshake_kind(),
        };
        kind == Some(HandshakeKind::Resumed)
    }

    /// Takes what the peer has sent; `bytes` serve as working memory.
    ///
    /// # Errors
    /// The session is over. What tells the peer why has gone to the outlets.
    pub(crate) fn receive(&mut self, bytes: &mut [u8], outlets: &mut impl Outlets) -> Result<Stage, Failed> {
        if self.is_over {
            return Ok(self.stage);
        }
        let received = self.process(bytes, outlets);
        self.is_over = received.is_err();
        if self.pending.is_empty() && self.pending.capacity() > 0 {
            self.pending = Vec::new();
        }
        received.map(|()| self.stage)
    }

    fn process(&mut self, mut bytes: &mut [u8], outlets: &mut impl Outlets) -> Result<(), Failed> {
        while let (Stage::Open, Some(missing)) = (self.stage, missing(&self.pending)) {
            // Only what completes the record is copied.
            let (first, rest) = bytes.split_at_mut(missing.min(bytes.len()));
            self.pending.extend_from_slice(first);
            bytes = rest;
            match self::missing(&self.pending) {
                None => self.process_pending(outlets)?,
                Some(_) if bytes.is_empty() => return Ok(()),
                // The header was completed: now it is known how long the record is.
                Some(_) => {}
            }
        }
        if self.stage == Stage::PeerEnded {
            return Ok(());
        }
        if self.pending.is_empty() {
            let used = self.machine.run(bytes, &mut self.stage, outlets)?;
            if self.stage != Stage::PeerEnded {
                self.pending.extend_from_slice(&bytes[used..]);
            }
            return Ok(());
        }
        self.pending.extend_from_slice(bytes);
        self.process_pending(outlets)
    }

    fn process_pending(&mut self, outlets: &mut impl Outlets) -> Result<(), Failed> {
        let used = self.machine.run(&mut self.pending, &mut self.stage, outlets)?;
        self.pending.drain(..used);
        Ok(())
    }

    /// Has these bytes go to the peer. Only once the handshake is done.
    ///
    /// # Errors
    /// There is no memory, or the session can encrypt no more.
    pub(crate) fn send(&mut self, bytes: &[u8], outlets: &mut impl Outlets) -> Result<(), Failed> {
        bytes.chunks(FRAGMENT_MAX).try_for_each(|fragment| self.write(Writing::Bytes(fragment), outlets))
    }

    /// Tells the peer that nothing more comes from us (close_notify).
    ///
    /// # Errors
    /// See [`Session::send`].
    pub(crate) fn end(&mut self, outlets: &mut impl Outlets) -> Result<(), Failed> {
        match self.stage {
            Stage::Handshake => Ok(()),
            Stage::Open | Stage::PeerEnded => self.write(Writing::End, outlets),
        }
    }

    fn write(&mut self, what: Writing<'_>, outlets: &mut impl Outlets) -> Result<(), Failed> {
        if self.is_over {
            return Ok(());
        }
        let written = self.machine.write(&mut self.pending, what, outlets);
        self.is_over = written.is_err();
        written
    }
}

/// Bytes that a record lacks, as far as is known; `None` if there is a whole one, or nothing.
fn missing(pending: &[u8]) -> Option<usize> {
    const HEADER: usize = 5;
    match *pending {
        [] => None,
        [_, _, _, high, low, ..] => {
            let whole = HEADER + usize::from(u16::from_be_bytes([high, low]));
            whole.checked_sub(pending.len()).filter(|missing| *missing > 0)
        }
        _ => Some(HEADER - pending.len()),
    }
}

impl Machine {
    /// Processes records, and gives how many bytes are done with.
    fn run(&mut self, bytes: &mut [u8], stage: &mut Stage, outlets: &mut impl Outlets) -> Result<usize, Failed> {
        let mut used = 0;
        loop {
            let (discard, step) = self.step(&mut bytes[used..], outlets);
            used += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::PeerEnded) => *stage = Stage::PeerEnded,
                Ok(Step::Done) => break,
                Err(Failed::Tls(error)) => {
                    // Its last word: the alert that says why, or the same error. It is asked for with the same bytes, to
                    // which the session still refers, and only once: rustls must not process what is wrong again.
                    let _ = self.step(&mut bytes[used..], outlets);
                    return Err(error.into());
                }
                Err(failed) => return Err(failed),
            }
        }
        if *stage == Stage::Handshake && !self.is_handshaking() {
            *stage = Stage::Open;
        }
        Ok(used)
    }

    fn step(&mut self, bytes: &mut [u8], outlets: &mut impl Outlets) -> (usize, Result<Step, Failed>) {
        match self {
            Self::Accepts(connection) => step(connection.process_tls_records(bytes), outlets),
            Self::Dials(connection) => step(connection.process_tls_records(bytes), outlets),
        }
    }

    fn is_handshaking(&self) -> bool {
        match self {
            Self::Accepts(connection) => connection.is_handshaking(),
            Self::Dials(connection) => connection.is_handshaking(),
        }
    }

    /// Writes one record, after what the session itself has to say. What is pending is shown to the session again, as it still
    /// refers to it.
    fn write(&mut self, pending: &mut Vec<u8>, what: Writing<'_>, outlets: &mut impl Outlets) -> Result<(), Failed> {
        loop {
            let (discard, step) = match self {
                Self::Accepts(connection) => write_step(connection.process_tls_records(pending), what, outlets),
                Self::Dials(connection) => write_step(connection.process_tls_records(pending), what, outlets),
            };
            pending.drain(..discard);
            if step? == Step::Done {
                return Ok(());
            }
        }
    }
}

/// What a record is to hold.
#[derive(Clone, Copy)]
enum Writing<'a> {
    /// These plain bytes.
    Bytes(&'a [u8]),
    /// That nothing more comes.
    End,
}

/// What came of a step of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// There may be more to do.
    Again,
    /// The peer has ended its side; there may be more to do.
    PeerEnded,
    /// Nothing more to do before more has come.
    Done,
}

/// Does what the session asks for, and gives how many bytes it is done with.
fn step<Data>(status: UnbufferedStatus<'_, '_, Data>, outlets: &mut impl Outlets) -> (usize, Result<Step, Failed>) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = match state {
        Err(error) => Err(error.into()),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                None => break Ok(Step::Again),
                Some(Err(error)) => break Err(error.into()),
                Some(Ok(record)) => {
                    discard += record.discard;
                    if let Err(failed) = outlets.plain(record.payload) {
                        break Err(failed);
                    }
                }
            }
        },
        Ok(state) => say(state, outlets),
    };
    (discard, step)
}

/// What a session has to say by itself goes to the peer.
fn say<Data>(state: ConnectionState<'_, '_, Data>, outlets: &mut impl Outlets) -> Result<Step, Failed> {
    Ok(match state {
        ConnectionState::EncodeTlsData(mut message) => {
            let mut room = MESSAGE_BYTES;
            loop {
                match message.encode(outlets.room(room)?) {
                    Ok(bytes) => break outlets.wire(bytes),
                    Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => room = required_size,
                    Err(EncodeError::AlreadyEncoded) => break,
                }
            }
            Step::Again
        }
        ConnectionState::TransmitTlsData(said) => {
            said.done();
            Step::Again
        }
        ConnectionState::PeerClosed => Step::PeerEnded,
        // Early data is never offered, and plain bytes are taken out as they come.
        _ => Step::Done,
    })
}

fn write_step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    what: Writing<'_>,
    outlets: &mut impl Outlets,
) -> (usize, Result<Step, Failed>) {
    let step = match status.state {
        Err(error) => Err(error.into()),
        Ok(ConnectionState::WriteTraffic(mut traffic)) => write(&mut traffic, what, outlets).map(|bytes| {
            outlets.wire(bytes);
            Step::Done
        }),
        Ok(state) => say(state, outlets),
    };
    (status.discard, step)
}

/// There is always room for a second record: the answer to a KeyUpdate may come first.
fn write<Data>(
    traffic: &mut WriteTraffic<'_, Data>,
    what: Writing<'_>,
    outlets: &mut impl Outlets,
) -> Result<usize, Failed> {
    let written = match what {
        Writing::Bytes(bytes) => traffic.encrypt(bytes, outlets.room(bytes.len() + 2 * RECORD_OVERHEAD)?),
        Writing::End => traffic.queue_close_notify(outlets.room(2 * RECORD_OVERHEAD + 2)?),
    };
    written.map_err(|error| match error {
        EncryptError::EncryptExhausted => Error::EncryptError.into(),
        EncryptError::InsufficientSize(_) => Error::General("a record is longer than TLS allows".to_owned()).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Outlets that keep everything.
    #[derive(Default)]
    struct Kept {
        room: Vec<u8>,
        wire: Vec<u8>,
        plain: Vec<u8>,
    }

    impl Outlets for Kept {
        fn room(&mut self, bytes: usize) -> io::Result<&mut [u8]> {
            self.room.resize(bytes, 0);
            Ok(&mut self.room)
        }

        fn wire(&mut self, bytes: usize) {
            self.wire.extend_from_slice(&self.room[..bytes]);
        }

        fn plain(&mut self, bytes: &[u8]) -> Result<(), Failed> {
            self.plain.extend_from_slice(bytes);
            Ok(())
        }
    }

    fn configs(version: &'static rustls::SupportedProtocolVersion) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
        let made = rcgen::generate_simple_self_signed(["lb.example".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[version]).unwrap();
        let server = server.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        (Arc::new(server), Arc::new(client.with_root_certificates(roots).with_no_client_auth()))
    }

    /// Two sessions with each other, whose bytes go over in pieces of a length.
    struct Pair {
        sessions: [Session; 2],
        kept: [Kept; 2],
        piece: usize,
    }

    impl Pair {
        fn new(version: &'static rustls::SupportedProtocolVersion, piece: usize) -> Self {
            let (server, client) = configs(version);
            let name = ServerName::try_from("lb.example").unwrap();
            let sessions = [Session::accept(&server).unwrap(), Session::dial(&client, name).unwrap()];
            let mut pair = Self { sessions, kept: Default::default(), piece };
            pair.sessions[1].receive(&mut [], &mut pair.kept[1]).unwrap();
            pair.exchange();
            pair
        }

        fn exchange(&mut self) {
            while self.kept.iter().any(|kept| !kept.wire.is_empty()) {
                for from in [0, 1] {
                    let mut wire = std::mem::take(&mut self.kept[from].wire);
                    for piece in wire.chunks_mut(self.piece) {
                        self.sessions[1 - from].receive(piece, &mut self.kept[1 - from]).unwrap();
                    }
                }
            }
        }

        fn send(&mut self, from: usize, bytes: &[u8]) {
            self.sessions[from].send(bytes, &mut self.kept[from]).unwrap();
        }
    }

    #[test]
    fn bytes_arrive_whole_both_ways_in_whatever_pieces_records_come() {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            for piece in [1, 7, 100, 4096, 32 << 10, 1 << 20] {
                let mut pair = Pair::new(version, piece);
                assert_eq!(pair.sessions.each_ref().map(Session::stage), [Stage::Open; 2]);
                let bytes: Vec<u8> = (0..100_000u32).map(|number| (number % 251) as u8).collect();
                for from in [0, 1] {
                    bytes.chunks(33_000).for_each(|chunk| pair.send(from, chunk));
                    pair.exchange();
                    assert!(pair.kept[1 - from].plain == bytes, "{version:?} {piece}");
                    assert_eq!(pair.sessions[1 - from].pending.capacity(), 0, "an idle session holds memory");
                }
            }
        }
    }

    #[test]
    fn an_end_is_told_and_the_other_way_goes_on() {
        let mut pair = Pair::new(&rustls::version::TLS13, 50);
        pair.send(1, b"last");
        pair.sessions[1].end(&mut pair.kept[1]).unwrap();
        pair.exchange();
        assert_eq!((pair.sessions[0].stage(), &pair.kept[0].plain[..]), (Stage::PeerEnded, &b"last"[..]));
        pair.send(0, b"answer");
        pair.sessions[0].end(&mut pair.kept[0]).unwrap();
        pair.exchange();
        assert_eq!((pair.sessions[1].stage(), &pair.kept[1].plain[..]), (Stage::PeerEnded, &b"answer"[..]));
    }

    #[test]
    fn who_breaks_the_protocol_is_told_so() {
        let mut pair = Pair::new(&rustls::version::TLS13, 50);
        pair.send(1, b"hello");
        let mut wire = std::mem::take(&mut pair.kept[1].wire);
        *wire.last_mut().unwrap() ^= 1;
        let failed = pair.sessions[0].receive(&mut wire, &mut pair.kept[0]);
        assert!(matches!(failed, Err(Failed::Tls(Error::DecryptError))), "{failed:?}");
        assert!(!pair.kept[0].wire.is_empty(), "an alert");
    }

    #[test]
    fn a_client_whose_flight_is_damaged_anywhere_fails_and_nothing_panics() {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let (server, client) = configs(version);
            for at in (0..4_000_usize).step_by(3) {
                let name = ServerName::try_from("lb.example").unwrap();
                let mut sessions = [Session::accept(&server).unwrap(), Session::dial(&client, name).unwrap()];
                let mut kept: [Kept; 2] = Default::default();
                sessions[1].receive(&mut [], &mut kept[1]).unwrap();
                let mut sent = 0;
                while kept.iter().any(|kept| !kept.wire.is_empty()) {
                    for from in [1, 0] {
                        let mut wire = std::mem::take(&mut kept[from].wire);
                        if let Some(byte) = at.checked_sub(sent).and_then(|at: usize| wire.get_mut(at)) {
                            *byte ^= 0x41;
                        }
                        sent += wire.len();
                        for piece in wire.chunks_mut(1 + at % 700) {
                            let _ = sessions[1 - from].receive(piece, &mut kept[1 - from]);
                            let _ = sessions[1 - from].send(b"late", &mut kept[1 - from]);
                        }
                    }
                    if sent > 20_000 {
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn who_does_not_speak_tls_is_told_so() {
        let (server, _) = configs(&rustls::version::TLS13);
        let (mut session, mut kept) = (Session::accept(&server).unwrap(), Kept::default());
        assert!(session.receive(&mut b"GET / HTTP/1.1\r\n\r\n".to_vec(), &mut kept).is_err());
    }
}
