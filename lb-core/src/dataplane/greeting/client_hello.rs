//! The server name in a TLS ClientHello (RFC 8446, 4.1.2; RFC 6066, 3), read without answering it. Pure.
//!
//! Own code, because rustls' `Acceptor`, which reads one too, refuses clients that rustls could not serve, among them
//! OpenSSL's of TLS 1.1 (a test below has one). But who serves them here is another server, which may be able to.

use std::borrow::Cow;

use rustls::pki_types::DnsName;

/// Most bytes of the handshake message, with its header.
const MESSAGE_MAX: usize = 16 << 10;
/// Most bytes that are looked at. A client may cut its message into records, with 5 bytes more for each: in pieces of 27
/// bytes, which is the least that rustls makes, the longest message still fits.
pub(crate) const BYTES_MAX: usize = 20 << 10;

/// Most bytes in a record; before them come type, version and length (RFC 8446, 5.1).
const RECORD_MAX: usize = 1 << 14;
const HANDSHAKE: u8 = 22;
const MAJOR_VERSION: u8 = 3;

/// Type and length of a message (RFC 8446, 4).
const MESSAGE_HEADER: usize = 4;
const CLIENT_HELLO: u8 = 1;

const VERSION_AND_RANDOM: usize = 2 + 32;
const SESSION_ID_MAX: usize = 32;
const SERVER_NAME: usize = 0;
const HOST_NAME: usize = 0;

/// What is of interest in a ClientHello.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    /// The host's name (server name indication) in lower case, without a dot at its end. `None`: the client has named none,
    /// or what is no DNS name, such as an IP address.
    pub(crate) sni: Option<String>,
}

/// Why bytes are no ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wrong {
    #[error("it does not begin with a TLS ClientHello")]
    NotTls,
    #[error("the TLS ClientHello is longer than {} KiB, or in too many records", MESSAGE_MAX >> 10)]
    TooLong,
    #[error("a record of the TLS ClientHello is of another kind, empty, or too long")]
    Record,
    #[error("the lengths in the TLS ClientHello contradict each other")]
    Lengths,
    #[error("the TLS ClientHello has an extension twice, or two host names")]
    Twice,
}

/// Reads the ClientHello that the bytes begin with, in however many records it comes. `None`: more bytes are needed, which
/// is never so with [`BYTES_MAX`] of them.
///
/// # Errors
/// They are none, however they go on. What is wrong outside the message is told at its first byte, what is wrong inside
/// once the message is whole.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<Hello>, Wrong> {
    match message(bytes)? {
        Some(message) => Ok(Some(Hello { sni: server_name(&message)? })),
        None if bytes.len() >= BYTES_MAX => Err(Wrong::TooLong),
        None => Ok(None),
    }
}

/// The message with its header, put together where it comes in several records; what comes after it may follow. `None`
/// while it is not whole.
fn message(bytes: &[u8]) -> Result<Option<Cow<'_, [u8]>>, Wrong> {
    let mut rest = bytes;
    let mut message = Cow::Borrowed(&[][..]);
    while let Some(fragment) = next_fragment(&mut rest, if message.is_empty() { Wrong::NotTls } else { Wrong::Record })?
    {
        if message.is_empty() {
            message = Cow::Borrowed(fragment);
        } else {
            message.to_mut().extend_from_slice(fragment);
        }
        if length(&message)?.is_some_and(|length| message.len() >= length) {
            return Ok(Some(message));
        }
    }
    Ok(None)
}

/// Takes a record off, and gives what there is of its content. `None`: its header is not whole. `wrong` is what it means
/// where it is of another kind.
fn next_fragment<'a>(rest: &mut &'a [u8], wrong: Wrong) -> Result<Option<&'a [u8]>, Wrong> {
    match *rest {
        [kind, ..] if *kind != HANDSHAKE => Err(wrong),
        [_, major, ..] if *major != MAJOR_VERSION => Err(wrong),
        [_, _, _, high, low, content @ ..] => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if length == 0 || length > RECORD_MAX {
                return Err(Wrong::Record);
            }
            let (fragment, next) = content.split_at(length.min(content.len()));
            *rest = next;
            Ok(Some(fragment))
        }
        _ => Ok(None),
    }
}

/// How long the message is that begins so, with its header. `None`: its header is not whole.
fn length(message: &[u8]) -> Result<Option<usize>, Wrong> {
    match message {
        [kind, ..] if *kind != CLIENT_HELLO => Err(Wrong::NotTls),
        [_, high, middle, low, ..] => {
            let length = MESSAGE_HEADER + u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            if length > MESSAGE_MAX { Err(Wrong::TooLong) } else { Ok(Some(length)) }
        }
        _ => Ok(None),
    }
}

fn server_name(message: &[u8]) -> Result<Option<String>, Wrong> {
    let mut message = Reader(message);
    let _kind = message.number(1)?;
    let mut hello = message.vector(3)?;
    hello.take(VERSION_AND_RANDOM)?;
    if hello.vector(1)?.0.len() > SESSION_ID_MAX {
        return Err(Wrong::Lengths);
    }
    let _cipher_suites = hello.vector(2)?;
    let _compression_methods = hello.vector(1)?;
    if hello.is_empty() {
        // Before TLS 1.3 there may be no extensions.
        return Ok(None);
    }
    let extensions = hello.vector(2)?;
    if hello.is_empty() { find_server_name(extensions) } else { Err(Wrong::Lengths) }
}

/// Looks through all extensions: the same one twice could mean one thing here and another one to the server.
fn find_server_name(mut extensions: Reader<'_>) -> Result<Option<String>, Wrong> {
    let mut sni = None;
    // A bit for each kind there can be. There may be thousands in a ClientHello, so they are not compared with each other.
    let mut seen = [0_u64; (1 << 16) / 64];
    while !extensions.is_empty() {
        let kind = extensions.number(2)?;
        let content = extensions.vector(2)?;
        let (word, bit) = (kind / 64, 1 << (kind % 64));
        if seen[word] & bit != 0 {
            return Err(Wrong::Twice);
        }
        seen[word] |= bit;
        if kind == SERVER_NAME {
            sni = host_name(content)?;
        }
    }
    Ok(sni)
}

/// The host's name in the content of the extension, if it is a DNS name.
fn host_name(mut content: Reader<'_>) -> Result<Option<String>, Wrong> {
    let mut names = content.vector(2)?;
    if names.is_empty() || !content.is_empty() {
        return Err(Wrong::Lengths);
    }
    let mut host = None;
    // Where a name of another kind ends can't be told.
    while !names.is_empty() && names.number(1)? == HOST_NAME {
        if host.replace(names.vector(2)?.0).is_some() {
            return Err(Wrong::Twice);
        }
    }
    let Some(Ok(name)) = host.map(DnsName::try_from) else { return Ok(None) };
    let name = name.as_ref();
    Ok(Some(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()))
}

/// What was not read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Wrong> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Wrong::Lengths)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of so many bytes.
    fn number(&mut self, bytes: usize) -> Result<usize, Wrong> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// What comes after its length, which has so many bytes.
    fn vector(&mut self, length_bytes: usize) -> Result<Self, Wrong> {
        let length = self.number(length_bytes)?;
        Ok(Self(self.take(length)?))
    }
}

/// Reads any bytes, whole and in parts, for the fuzzer and the tests, which find a panic. What they begin with must not
/// depend on the parts, and where rustls reads a name, it must be the same one.
#[cfg(any(test, feature = "internal"))]
pub(crate) fn read_any(bytes: &[u8], part: usize) {
    let whole = read(bytes);
    assert!(whole != Ok(None) || bytes.len() < BYTES_MAX, "it waits for more than the limit");
    // Beyond the limit nobody asks, and a limit is no verdict on what is there.
    let bytes = &bytes[..bytes.len().min(BYTES_MAX)];
    let ends = (0..bytes.len()).step_by(part.max(1)).chain([bytes.len()]);
    let in_parts = ends.map(|end| read(&bytes[..end])).find(|read| *read != Ok(None)).unwrap_or(Ok(None));
    assert_eq!(in_parts, read(bytes), "in parts of {part} bytes, then whole");
    if let Some(name) = rustls_reads(bytes) {
        assert_eq!(in_parts, Ok(Some(Hello { sni: name })), "and then what rustls reads");
    }
}

/// The name that rustls finds in a ClientHello; `None` where it sees none, or one that it refuses.
#[cfg(any(test, feature = "internal"))]
fn rustls_reads(mut bytes: &[u8]) -> Option<Option<String>> {
    let mut acceptor = rustls::server::Acceptor::default();
    while acceptor.read_tls(&mut bytes).ok()? > 0 {
        if let Some(accepted) = acceptor.accept().ok()? {
            let name = accepted.client_hello().server_name().map(str::to_owned);
            return Some(name.map(|name| name.strip_suffix('.').unwrap_or(&name).to_owned()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    /// `openssl s_client -servername WWW.Example.com`, OpenSSL 3.0.19.
    const OPENSSL: &str = "\
        160301013c01000138030390153d7d06afa52f3fe61a6b6ebc99cacbdccde2a920e90a816eab8390be34a9207d1e23ea8d29b10ac2b6\
        383ad9e41b877bb00bd9376662c68de802234eca8a4f003e130213031301c02cc030009fcca9cca8ccaac02bc02f009ec024c028006b\
        c023c0270067c00ac0140039c009c0130033009d009c003d003c0035002f00ff010000b100000014001200000f5757572e4578616d70\
        6c652e636f6d000b000403000102000a00160014001d0017001e0019001801000101010201030104002300000016000000170000000d\
        002a0028040305030603080708080809080a080b080408050806040105010601030303010302040205020602002b0009080304030303\
        020301002d00020101003300260024001d002026d04730fd223ff2c19a39b00f8c8a73a102282a2a677cb07cc36b7121005a0d";

    /// `openssl s_client -tls1_1 -cipher DEFAULT@SECLEVEL=0 -servername old.example.com`.
    const OPENSSL_TLS11: &str = "\
        160301007b010000770302760124b7e2dfa3c6f6e030625430073680613c81943925600471657e9c532acc000012c00ac0140039c009\
        c01300330035002f00ff0100003c00000014001200000f6f6c642e6578616d706c652e636f6d000b000403000102000a000c000a001d\
        0017001e00190018002300000016000000170000";

    /// `curl https://curl.example.com`, curl 7.88.1 with OpenSSL; it has 173 bytes of padding.
    const CURL: &str = "\
        1603010200010001fc03037116037c77a677c995af396f1739ddf48accdb176f44f74e56b04a482e5aa3de20e2dc1b0af9051994a64e\
        418db5757bcbe03baaf840338b2dab713722e1ece38d003e130213031301c02cc030009fcca9cca8ccaac02bc02f009ec024c028006b\
        c023c0270067c00ac0140039c009c0130033009d009c003d003c0035002f00ff010001750000001500130000106375726c2e6578616d\
        706c652e636f6d000b000403000102000a00160014001d0017001e00190018010001010102010301040010000e000c02683208687474\
        702f312e31001600000017000000310000000d002a0028040305030603080708080809080a080b080408050806040105010601030303\
        010302040205020602002b0009080304030303020301002d00020101003300260024001d0020615645c11646e552c8652b034131d7a5\
        8fd54d88fbc75ab7ea7a5d08a6f61f4e001500ad00000000000000000000000000000000000000000000000000000000000000000000\
        000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
        000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
        00000000000000000000000000000000000000000000000000000000000000";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    /// What rustls says to a server of this name, in records of at most `size` bytes.
    fn rustls_hello(name: &str, size: Option<usize>) -> Vec<u8> {
        let mut config = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        config.max_fragment_size = size;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// A vector after its length, which has so many bytes.
    fn vector(length_bytes: usize, content: &[u8]) -> Vec<u8> {
        [&content.len().to_be_bytes()[8 - length_bytes..], content].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vector(2, content)].concat()
    }

    fn named(name: &[u8]) -> Vec<u8> {
        extension(0, &vector(2, &[&[0], &vector(2, name)[..]].concat()))
    }

    /// A message with this after its compression methods.
    fn message(end: &[u8]) -> Vec<u8> {
        let hello =
            [&[3, 3][..], &[7; 32], &vector(1, &[8; 32]), &vector(2, &[0x13, 1]), &vector(1, &[0]), end].concat();
        [&[CLIENT_HELLO][..], &vector(3, &hello)].concat()
    }

    fn with_extensions(extensions: &[u8]) -> Vec<u8> {
        message(&vector(2, extensions))
    }

    /// In records of at most `size` bytes.
    fn in_records(message: &[u8], size: usize) -> Vec<u8> {
        message.chunks(size).flat_map(|chunk| [&[HANDSHAKE, 3, 1][..], &vector(2, chunk)].concat()).collect()
    }

    fn sni(bytes: &[u8]) -> Result<Option<String>, Wrong> {
        read(bytes).map(|hello| hello.expect("a whole ClientHello").sni)
    }

    /// The name in a ClientHello with these extensions.
    fn sni_of(extensions: &[u8]) -> Result<Option<String>, Wrong> {
        sni(&in_records(&with_extensions(extensions), RECORD_MAX))
    }

    #[test]
    fn the_names_that_real_clients_give_are_read_in_lower_case() {
        for (hex, name) in
            [(OPENSSL, "www.example.com"), (OPENSSL_TLS11, "old.example.com"), (CURL, "curl.example.com")]
        {
            assert_eq!(sni(&bytes(hex)), Ok(Some(name.to_owned())));
        }
    }

    #[test]
    fn rustls_name_is_read_in_records_of_any_size() {
        for size in [None, Some(32), Some(33), Some(100), Some(300)] {
            let bytes = rustls_hello("a.example.com", size);
            assert_eq!(sni(&bytes), Ok(Some("a.example.com".to_owned())), "{size:?}");
        }
        assert_eq!(sni(&rustls_hello("192.0.2.1", None)), Ok(None));
    }

    /// Why rustls' own reader is not used.
    #[test]
    fn a_client_that_rustls_would_refuse_is_read() {
        let bytes = bytes(OPENSSL_TLS11);
        assert_eq!(rustls_reads(&bytes), None, "rustls reads it: is this file still needed?");
        assert_eq!(rustls_reads(&self::bytes(OPENSSL)), Some(Some("www.example.com".to_owned())));
        assert!(sni(&bytes).unwrap().is_some());
    }

    #[test]
    fn every_part_of_a_good_hello_needs_more() {
        let hellos = [bytes(OPENSSL), bytes(OPENSSL_TLS11), bytes(CURL), rustls_hello("a.example.com", Some(40))];
        for bytes in hellos.into_iter().chain([in_records(&with_extensions(&named(b"a.b")), 1)]) {
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end]), Ok(None), "{end} of {}", bytes.len());
            }
            assert!(read(&bytes).unwrap().is_some());
        }
    }

    #[test]
    fn what_comes_after_the_hello_does_not_matter() {
        let early =
            [&in_records(&with_extensions(&named(b"a.b")), 50)[..], b"\x14\x03\x03\0\x01\x01\x17\x03\x03"].concat();
        assert_eq!(sni(&early), Ok(Some("a.b".to_owned())));
        let second = in_records(&[&with_extensions(&named(b"a.b"))[..], b"more"].concat(), 1000);
        assert_eq!(sni(&second), Ok(Some("a.b".to_owned())));
    }

    #[test]
    fn bytes_that_are_not_tls_are_refused_at_the_first_one_that_tells() {
        let wrongs = [
            (&b"GET / HTTP/1.1\r\n"[..], 1),
            (b"SSH-2.0", 1),
            (b"\x80\x2e\x01\x03\x01", 1),     // SSL 2
            (b"\x15\x03\x01\0\x02\x01\0", 1), // an alert
            (b"\x16\x02\0\0\x05", 2),
            (b"\x16\x03\x01\0\x05\x02", 6), // a ServerHello
        ];
        for (bytes, tells) in wrongs {
            assert_eq!(read(&bytes[..tells - 1]), Ok(None), "{bytes:?}");
            assert_eq!(read(&bytes[..tells]), Err(Wrong::NotTls), "{bytes:?}");
            assert_eq!(read(bytes), Err(Wrong::NotTls), "{bytes:?}");
        }
    }

    #[test]
    fn records_that_are_empty_too_long_or_of_another_kind_are_refused() {
        let first = in_records(&with_extensions(&named(b"a.b")), 50)[..55].to_vec();
        for next in [&b"\x17"[..], b"\x14", b"\x16\x02", b"\x16\x03\x01\0\0", b"\x16\x03\x01\x40\x01"] {
            assert_eq!(read(&[&first[..], next].concat()), Err(Wrong::Record), "{next:?}");
        }
        assert_eq!(read(b"\x16\x03\x01\0\0"), Err(Wrong::Record));
        assert_eq!(read(b"\x16\x03\x01\x40\x01"), Err(Wrong::Record));
    }

    #[test]
    fn a_hello_of_16_kib_is_read_in_pieces_as_small_as_rustls_makes_them() {
        let others = with_extensions(&[named(b"a.b"), extension(21, b"")].concat()).len();
        let padding = extension(21, &vec![0; MESSAGE_MAX - others]);
        let longest = with_extensions(&[named(b"a.b"), padding].concat());
        assert_eq!(longest.len(), MESSAGE_MAX);
        for size in [RECORD_MAX, 1000, 27] {
            assert_eq!(sni(&in_records(&longest, size)), Ok(Some("a.b".to_owned())));
        }
        // In smaller ones it would be too much to keep.
        let bytes = in_records(&longest, 10);
        assert_eq!(read(&bytes[..BYTES_MAX - 1]), Ok(None));
        assert_eq!(read(&bytes[..BYTES_MAX]), Err(Wrong::TooLong));
    }

    #[test]
    fn a_longer_hello_is_refused_when_its_length_is_seen() {
        assert_eq!(read(b"\x16\x03\x01\x40\0\x01\0\x3f\xfc"), Ok(None));
        assert_eq!(read(b"\x16\x03\x01\x40\0\x01\0\x3f\xfd"), Err(Wrong::TooLong));
    }

    #[test]
    fn a_client_may_name_no_host() {
        assert_eq!(sni(&in_records(&message(b""), 1000)), Ok(None));
        assert_eq!(sni_of(b""), Ok(None));
        assert_eq!(sni_of(&extension(0xff01, b"\0")), Ok(None));
    }

    #[test]
    fn only_dns_names_count() {
        let long = [&[b'a'; 63][..], b".", &[b'b'; 63], b".", &[b'c'; 63], b".", &[b'd'; 61]].concat();
        assert_eq!(sni_of(&named(&long)).unwrap().unwrap().len(), 253);
        for name in ["example.com", "EXAMPLE.com", "example.com."] {
            assert_eq!(sni_of(&named(name.as_bytes())), Ok(Some("example.com".to_owned())), "{name}");
        }
        for name in ["xn--bcher-kva.example", "_a.b-c.d", "localhost"] {
            assert_eq!(sni_of(&named(name.as_bytes())), Ok(Some(name.to_owned())), "{name}");
        }
        let no_names =
            ["192.0.2.1", "::1", "[::1]", "", ".", "a..b", "-a.b", "a b", "*.b", "a\0b", "b\u{fc}cher.example"];
        for name in
            no_names.map(str::as_bytes).into_iter().chain([&b"\xff\xfe"[..], &[b'a'; 64], &[&long[..], b"d"].concat()])
        {
            assert_eq!(sni_of(&named(name)), Ok(None), "{}", name.escape_ascii());
        }
    }

    #[test]
    fn names_of_other_kinds_are_skipped() {
        let other = |before: &[u8]| extension(0, &vector(2, &[before, &[9, 1, 2, 3]].concat()));
        assert_eq!(sni_of(&other(b"")), Ok(None));
        assert_eq!(sni_of(&other(b"\0\0\x03a.b")), Ok(Some("a.b".to_owned())));
    }

    #[test]
    fn what_is_there_twice_is_refused() {
        let [name, other] = [named(b"a.b"), extension(0xfafa, b"")];
        assert_eq!(sni_of(&[&name[..], &other, &name].concat()), Err(Wrong::Twice));
        assert_eq!(sni_of(&[&other[..], &name, &other].concat()), Err(Wrong::Twice));
        assert_eq!(sni_of(&extension(0, &vector(2, b"\0\0\x03a.b\0\0\x03a.c"))), Err(Wrong::Twice));
    }

    #[test]
    fn lengths_that_contradict_each_other_are_refused() {
        for extensions in [
            &b"\0"[..],
            b"\0\0\0\x01",
            b"\xfa\xfa\0\x02a",
            b"\0\0\0\0",                    // no list of names
            b"\0\0\0\x02\0\0",              // an empty one
            b"\0\0\0\x05\0\x04\0\0\x02a",   // a name that is cut off
            b"\0\0\0\x07\0\x04\0\0\x01aXX", // something after the list
        ] {
            assert_eq!(sni_of(extensions), Err(Wrong::Lengths), "{extensions:?}");
        }
        for end in [&b"\0"[..], b"\0\x01", b"\0\0\0"] {
            assert_eq!(sni(&in_records(&message(end), 1000)), Err(Wrong::Lengths), "{end:?}");
        }
        let long_session =
            [&[CLIENT_HELLO][..], &vector(3, &[&[3; 34][..], &vector(1, &[0; 33]), b"\0\0\0"].concat())].concat();
        assert_eq!(sni(&in_records(&long_session, 1000)), Err(Wrong::Lengths));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_parts_make_no_difference(
            start in 0..3_usize, bytes in vec(any::<u8>(), 0..BYTES_MAX + 8), part in 1..2000_usize,
        ) {
            let start = [&b""[..], b"\x16\x03\x01\x01\0\x01\0\0\xfc", b"\x16\x03\x01\0\x05\x01\0\x3f\0"][start];
            read_any(&[start, &bytes].concat(), part);
        }

        #[test]
        fn a_changed_byte_makes_no_panic_and_rustls_reads_the_same_name(at in 0..400_usize, byte: u8, part in 1..600_usize) {
            for mut bytes in [bytes(CURL), bytes(OPENSSL)] {
                let at = at % bytes.len();
                bytes[at] = byte;
                read_any(&bytes, part);
            }
        }

        #[test]
        fn a_changed_byte_makes_no_panic_and_no_name_but_a_dns_name(at in 5..400_usize, byte: u8, size in 1..600_usize) {
            let mut bytes = bytes(CURL);
            bytes[at] = byte;
            // The same message in other records means the same.
            let [whole, parts] = [RECORD_MAX, size].map(|size| read(&in_records(&bytes[5..], size)));
            prop_assert_eq!(&whole, &parts);
            if let Ok(Some(Hello { sni: Some(name) })) = whole {
                prop_assert!(DnsName::try_from(name.as_str()).is_ok());
                prop_assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()));
            }
        }
    }
}
