//! The PROXY protocol, versions 1 and 2: whom a connection comes from, told in front of its first byte. Pure.
//!
//! Defined by HAProxy's `proxy-protocol.txt`. Own code, because of what the crates for it do: ppp 2.3 takes a header that
//! was cut before its last port for a wrong one, and accepts the port `+80`; proxy-header 0.1 accepts `PROXYxTCP4`,
//! `UNKNOWNX` and `080`; proxy-protocol-codec 0.3 can't tell what is no header from what is not all of one.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::SendProxy;

/// How a header of version 1 begins, which is a line.
const LINE: &[u8] = b"PROXY ";
/// How one of version 2 begins, which is binary.
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest line with its end: `UNKNOWN` and two long addresses.
const LINE_MAX: usize = 107;
/// What every binary header has: its beginning, version and command, family, length.
const FIXED: usize = BINARY.len() + 4;
/// Most bytes of a binary header after the fixed ones: addresses, and values (TLVs) such as names of TLS certificates.
const REST_MAX: usize = 2048;

/// Most bytes of a header: nobody needs to keep more to read one.
#[cfg(any(test, feature = "internal"))]
const HEADER_MAX: usize = FIXED + REST_MAX;

/// Version 2 in the upper half of a byte, the command in the lower one.
const V2_LOCAL: u8 = 0x20;
const V2_PROXY: u8 = 0x21;
/// The address family in the upper half of a byte, the transport in the lower one.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
/// UNIX sockets, and datagrams: there are no others after them.
const FAMILY_MAX: u8 = 3;
const TRANSPORT_MAX: u8 = 2;

/// What a header says of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// Nothing: the proxy speaks for itself, or of something that is not TCP. The connection's own addresses are what
    /// there is.
    Local,
    /// Who has connected, and to what. IPv4 addresses that were mapped into IPv6 are IPv4 ones here.
    Proxied { source: SocketAddr, destination: SocketAddr },
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wrong {
    #[error("it does not begin with a PROXY header")]
    NotProxy,
    #[error("the line of the PROXY header is longer than {LINE_MAX} bytes, or does not end with CR and LF")]
    Line,
    #[error("the PROXY header's protocol is none of TCP4, TCP6 and UNKNOWN")]
    Protocol,
    #[error("the PROXY header does not have two addresses of its protocol and two ports, with one space between them")]
    Addresses,
    #[error("the binary PROXY header is of another version than 2, or its command is unknown")]
    Command,
    #[error("the binary PROXY header has an unknown address family or transport")]
    Family,
    #[error("the binary PROXY header is too short for its addresses")]
    TooShort,
    #[error("the binary PROXY header has more than {REST_MAX} bytes of addresses and values")]
    TooLong,
}

/// Whether bytes begin as a header does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    No,
    /// They do as far as they go.
    Maybe,
    Yes,
}

/// Whether these bytes begin as a header of either version does.
pub(crate) fn starts(bytes: &[u8]) -> Start {
    if bytes.starts_with(LINE) || bytes.starts_with(BINARY) {
        Start::Yes
    } else if LINE.starts_with(bytes) || BINARY.starts_with(bytes) {
        Start::Maybe
    } else {
        Start::No
    }
}

/// Reads a header of either version; with how many bytes it has. `None`: more bytes are needed.
///
/// # Errors
/// They are no header, however they go on.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<(Header, usize)>, Wrong> {
    match starts(bytes) {
        Start::No => Err(Wrong::NotProxy),
        Start::Maybe => Ok(None),
        Start::Yes if bytes.starts_with(LINE) => read_line(bytes),
        Start::Yes => read_binary(bytes),
    }
}

fn read_line(bytes: &[u8]) -> Result<Option<(Header, usize)>, Wrong> {
    let line = &bytes[..bytes.len().min(LINE_MAX)];
    let is_whole = line.len() == LINE_MAX;
    let Some(end) = line.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if is_whole { Err(Wrong::Line) } else { Ok(None) };
    };
    match &line[end..] {
        [b'\r', b'\n', ..] => Ok(Some((parse_line(&line[LINE.len()..end])?, end + 2))),
        [b'\r'] if !is_whole => Ok(None),
        _ => Err(Wrong::Line),
    }
}

/// What is between `PROXY ` and the line's end.
fn parse_line(fields: &[u8]) -> Result<Header, Wrong> {
    let mut fields = fields.split(|byte| *byte == b' ');
    match fields.next() {
        // Whatever follows is to be ignored.
        Some(b"UNKNOWN") => Ok(Header::Local),
        Some(b"TCP4") => addresses::<Ipv4Addr>(fields).ok_or(Wrong::Addresses),
        Some(b"TCP6") => addresses::<Ipv6Addr>(fields).ok_or(Wrong::Addresses),
        _ => Err(Wrong::Protocol),
    }
}

fn addresses<'a, Ip>(fields: impl Iterator<Item = &'a [u8]>) -> Option<Header>
where
    Ip: std::str::FromStr + Into<IpAddr>,
{
    let mut fields = fields.map(|field| str::from_utf8(field).ok());
    let mut next = || fields.next().flatten();
    let [source, destination] = [next()?, next()?].map(|text| text.parse::<Ip>().ok().map(Into::into));
    let [source_port, destination_port] = [next()?, next()?].map(port);
    if fields.next().is_some() {
        return None;
    }
    Some(proxied((source?, source_port?), (destination?, destination_port?)))
}

/// A port in decimal digits and nothing else: neither a sign nor a leading zero.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

fn proxied(source: (IpAddr, u16), destination: (IpAddr, u16)) -> Header {
    let [source, destination] = [source, destination].map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port));
    Header::Proxied { source, destination }
}

fn read_binary(bytes: &[u8]) -> Result<Option<(Header, usize)>, Wrong> {
    let mut fixed = bytes[BINARY.len()..].iter().copied();
    let Some(command) = fixed.next() else { return Ok(None) };
    if !matches!(command, V2_LOCAL | V2_PROXY) {
        return Err(Wrong::Command);
    }
    let Some(family) = fixed.next() else { return Ok(None) };
    let parse: fn(&[u8]) -> Option<Header> = match family {
        // With this command the family means nothing.
        _ if command == V2_LOCAL => |_| Some(Header::Local),
        TCP4 => parse_binary::<4>,
        TCP6 => parse_binary::<16>,
        _ if family >> 4 <= FAMILY_MAX && family & 0xf <= TRANSPORT_MAX => |_| Some(Header::Local),
        _ => return Err(Wrong::Family),
    };
    let (Some(high), Some(low)) = (fixed.next(), fixed.next()) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > REST_MAX {
        return Err(Wrong::TooLong);
    }
    let Some(rest) = bytes.get(FIXED..FIXED + length) else { return Ok(None) };
    let header = parse(rest).ok_or(Wrong::TooShort)?;
    Ok(Some((header, FIXED + length)))
}

/// Two addresses of `IP` bytes, and two ports. What follows them (TLVs) is skipped.
fn parse_binary<const IP: usize>(rest: &[u8]) -> Option<Header>
where
    [u8; IP]: Into<IpAddr>,
{
    let (source, rest) = rest.split_first_chunk::<IP>()?;
    let (destination, rest) = rest.split_first_chunk::<IP>()?;
    let (source_port, rest) = rest.split_first_chunk()?;
    let (destination_port, _) = rest.split_first_chunk()?;
    let [source_port, destination_port] = [source_port, destination_port].map(|port| u16::from_be_bytes(*port));
    Some(proxied(((*source).into(), source_port), ((*destination).into(), destination_port)))
}

/// Writes the header of a connection from `source` to `destination` to the end of `into`. IPv4 addresses that were mapped
/// into IPv6 are written as IPv4 ones; of two families, version 1 says `UNKNOWN`, and version 2 maps one into the other.
pub(crate) fn write(version: SendProxy, source: SocketAddr, destination: SocketAddr, into: &mut Vec<u8>) {
    let ips = [source.ip().to_canonical(), destination.ip().to_canonical()];
    let ports = [source.port(), destination.port()];
    match version {
        SendProxy::Off => {}
        SendProxy::V1 => write_line(ips, ports, into),
        SendProxy::V2 => write_binary(ips, ports, into),
    }
}

/// Writes the header of a connection that the proxy makes for itself, to look whether the server is there.
pub(crate) fn write_local(version: SendProxy, into: &mut Vec<u8>) {
    match version {
        SendProxy::Off => {}
        SendProxy::V1 => into.extend_from_slice(b"PROXY UNKNOWN\r\n"),
        SendProxy::V2 => {
            into.extend_from_slice(BINARY);
            into.extend_from_slice(&[V2_LOCAL, 0, 0, 0]);
        }
    }
}

fn write_line([source, destination]: [IpAddr; 2], [source_port, destination_port]: [u16; 2], into: &mut Vec<u8>) {
    let protocol = match (source, destination) {
        (IpAddr::V4(_), IpAddr::V4(_)) => "TCP4",
        (IpAddr::V6(_), IpAddr::V6(_)) => "TCP6",
        _ => return into.extend_from_slice(b"PROXY UNKNOWN\r\n"),
    };
    // Writing to memory does not fail.
    let _ = write!(into, "PROXY {protocol} {source} {destination} {source_port} {destination_port}\r\n");
}

fn write_binary(ips: [IpAddr; 2], ports: [u16; 2], into: &mut Vec<u8>) {
    into.extend_from_slice(BINARY);
    if let [IpAddr::V4(source), IpAddr::V4(destination)] = ips {
        into.extend_from_slice(&[V2_PROXY, TCP4, 0, 12]);
        into.extend_from_slice(&source.octets());
        into.extend_from_slice(&destination.octets());
    } else {
        into.extend_from_slice(&[V2_PROXY, TCP6, 0, 36]);
        ips.map(mapped).iter().for_each(|ip| into.extend_from_slice(&ip.octets()));
    }
    ports.iter().for_each(|port| into.extend_from_slice(&port.to_be_bytes()));
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// Reads any bytes, whole and every beginning of them, for the fuzzer and the tests, which find a panic. What they begin
/// with must not depend on how much is there, and what is written of a header must be read back.
#[cfg(any(test, feature = "internal"))]
pub(crate) fn read_any(bytes: &[u8]) {
    let whole = read(bytes);
    let needed = match whole {
        Ok(Some((_, length))) => length,
        _ => bytes.len().min(HEADER_MAX),
    };
    assert!(needed <= bytes.len() && needed <= HEADER_MAX, "{needed} of {}", bytes.len());
    assert!(whole != Ok(None) || bytes.len() < HEADER_MAX, "it waits for more than the longest header");
    for end in 0..needed {
        match read(&bytes[..end]) {
            Ok(None) => {}
            early => return assert_eq!((early, early.is_err()), (whole, true), "of {end} bytes, then of all"),
        }
    }
    if let Ok(Some((Header::Proxied { source, destination }, _))) = whole {
        let mut written = Vec::new();
        write(SendProxy::V2, source, destination, &mut written);
        assert_eq!(read(&written), Ok(Some((Header::Proxied { source, destination }, written.len()))));
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The longest lines of the protocol's definition, by family.
    const LONGEST: [&[u8]; 4] = [
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
    ];

    fn proxied(source: &str, destination: &str) -> Header {
        Header::Proxied { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    /// What a line says that is all there is.
    fn line(text: &str) -> Result<Option<Header>, Wrong> {
        let read = read(text.as_bytes())?;
        Ok(read.inspect(|(_, length)| assert_eq!(*length, text.len())).map(|(header, _)| header))
    }

    /// A binary header with this command, family, length and what follows.
    fn binary(command: u8, family: u8, length: u16, rest: &[u8]) -> Vec<u8> {
        [BINARY, &[command, family], &length.to_be_bytes(), rest].concat()
    }

    #[test]
    fn what_a_proxy_says_for_itself_is_read_as_that() {
        for (version, length) in [(SendProxy::V1, 15), (SendProxy::V2, 16)] {
            let mut header = Vec::new();
            write_local(version, &mut header);
            assert_eq!(read(&header), Ok(Some((Header::Local, length))));
        }
    }

    /// 192.168.0.1:56324 to 192.168.0.11:443.
    const REST4: [u8; 12] = [192, 168, 0, 1, 192, 168, 0, 11, 0xdc, 0x04, 0x01, 0xbb];

    /// [2001:db8::1]:56324 to [2001:db8::2]:443.
    fn rest6() -> Vec<u8> {
        let ip = |last| [&[0x20, 0x01, 0x0d, 0xb8][..], &[0; 11], &[last]].concat();
        [ip(1), ip(2), vec![0xdc, 0x04, 0x01, 0xbb]].concat()
    }

    #[test]
    fn the_definitions_example_of_a_line_is_read_up_to_the_request_behind_it() {
        let bytes = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nGET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n";
        let header = proxied("192.168.0.1:56324", "192.168.0.11:443");
        assert_eq!(read(bytes), Ok(Some((header, 47))));
        assert!(bytes[47..].starts_with(b"GET"));
    }

    #[test]
    fn the_definitions_longest_lines_are_read() {
        let v6 = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
        let headers = [proxied("255.255.255.255:65535", "255.255.255.255:65535"), proxied(v6, v6), Header::Local];
        for (bytes, header) in LONGEST.into_iter().zip(headers.into_iter().chain([Header::Local])) {
            assert_eq!(read(bytes), Ok(Some((header, bytes.len()))));
        }
        assert_eq!(LONGEST.map(<[u8]>::len), [56, 104, 15, LINE_MAX]);
    }

    #[test]
    fn a_line_of_more_than_107_bytes_is_refused_whether_it_ends_or_not() {
        let long = |length: usize| [LONGEST[2].strip_suffix(b"\r\n").unwrap(), &vec![b' '; length - 13]].concat();
        assert_eq!(read(&[&long(105)[..], b"\r\n"].concat()), Ok(Some((Header::Local, 107))));
        assert_eq!(read(&[&long(106)[..], b"\r\n"].concat()), Err(Wrong::Line));
        assert_eq!(read(&long(106)), Ok(None));
        assert_eq!(read(&long(107)), Err(Wrong::Line));
    }

    #[test]
    fn a_line_needs_both_cr_and_lf() {
        for text in ["PROXY UNKNOWN\n", "PROXY UNKNOWN\rX", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n\r", "PROXY \n"] {
            assert_eq!(line(text), Err(Wrong::Line), "{text:?}");
        }
    }

    #[test]
    fn what_unknown_says_is_ignored() {
        assert_eq!(line("PROXY UNKNOWN who knows\t\0 999.9.9.9\r\n"), Ok(Some(Header::Local)));
        assert_eq!(line("PROXY UNKNOWNX\r\n"), Err(Wrong::Protocol));
    }

    #[test]
    fn other_protocols_are_refused() {
        for text in
            ["TCP5 1.2.3.4 5.6.7.8 1 2", "tcp4 1.2.3.4 5.6.7.8 1 2", "UDP4 1.2.3.4 5.6.7.8 1 2", "", " TCP4", "TCP"]
        {
            assert_eq!(line(&format!("PROXY {text}\r\n")), Err(Wrong::Protocol), "{text:?}");
        }
    }

    #[test]
    fn bad_addresses_and_ports_are_refused() {
        for fields in [
            "TCP4 1.2.3.04 5.6.7.8 1 2", // a leading zero
            "TCP4 1.2.3 5.6.7.8 1 2",
            "TCP4 1.2.3.256 5.6.7.8 1 2",
            "TCP4 ::1 ::2 1 2", // the other family
            "TCP6 1.2.3.4 5.6.7.8 1 2",
            "TCP6 ::1%lo ::2 1 2",
            "TCP6 [::1] ::2 1 2",
            "TCP6 1::2::3 ::2 1 2",
            "TCP4 1.2.3.4 5.6.7.8 01 2",
            "TCP4 1.2.3.4 5.6.7.8 00 2",
            "TCP4 1.2.3.4 5.6.7.8 +1 2",
            "TCP4 1.2.3.4 5.6.7.8 -1 2",
            "TCP4 1.2.3.4 5.6.7.8 1 65536",
            "TCP4 1.2.3.4 5.6.7.8 1 0x50",
            "TCP4 1.2.3.4 5.6.7.8 1",
            "TCP4 1.2.3.4 5.6.7.8 1 ",
            "TCP4 1.2.3.4 5.6.7.8 1 2 ",
            "TCP4 1.2.3.4 5.6.7.8 1 2 3",
            "TCP4  1.2.3.4 5.6.7.8 1 2",
            "TCP4 1.2.3.4\t5.6.7.8 1 2",
            "TCP4 1.2.3.4 5.6.7.8 1 \u{661}",
            "TCP4",
        ] {
            assert_eq!(line(&format!("PROXY {fields}\r\n")), Err(Wrong::Addresses), "{fields:?}");
        }
    }

    #[test]
    fn ports_may_be_anything_from_0_to_65535() {
        let header = proxied("[::1]:0", "[2001:db8::a]:65535");
        assert_eq!(line("PROXY TCP6 ::1 2001:DB8:0::A 0 65535\r\n"), Ok(Some(header)));
    }

    #[test]
    fn binary_headers_of_both_families_are_read() {
        let header = proxied("192.168.0.1:56324", "192.168.0.11:443");
        assert_eq!(read(&binary(V2_PROXY, TCP4, 12, &REST4)), Ok(Some((header, 28))));
        let header = proxied("[2001:db8::1]:56324", "[2001:db8::2]:443");
        assert_eq!(read(&binary(V2_PROXY, TCP6, 36, &rest6())), Ok(Some((header, 52))));
    }

    #[test]
    fn what_follows_the_addresses_is_skipped() {
        // A name (PP2_TYPE_AUTHORITY) and padding (PP2_TYPE_NOOP).
        let values = b"\x02\0\x0bexample.org\x04\0\x02\0\0";
        let bytes = binary(V2_PROXY, TCP4, 12 + 19, &[&REST4[..], values, b"SSH-2.0"].concat());
        assert_eq!(read(&bytes), Ok(Some((proxied("192.168.0.1:56324", "192.168.0.11:443"), 28 + 19))));
        assert_eq!(&bytes[28 + 19..], b"SSH-2.0");
    }

    #[test]
    fn a_proxy_that_speaks_for_itself_is_local_whatever_its_family() {
        for family in [0, TCP4, TCP6, 0x31, 0xff] {
            assert_eq!(read(&binary(V2_LOCAL, family, 0, b"")), Ok(Some((Header::Local, 16))), "{family:#x}");
            assert_eq!(read(&binary(V2_LOCAL, family, 3, b"abcX")), Ok(Some((Header::Local, 19))), "{family:#x}");
        }
    }

    #[test]
    fn what_is_not_tcp_is_local() {
        for (family, length) in [(0x00, 0), (0x12, 12), (0x22, 36), (0x31, 216), (0x32, 216), (0x10, 5)] {
            let bytes = binary(V2_PROXY, family, length, &[1; 216]);
            assert_eq!(read(&bytes), Ok(Some((Header::Local, 16 + usize::from(length)))), "{family:#x}");
        }
    }

    #[test]
    fn a_binary_header_that_is_too_short_for_its_addresses_is_refused() {
        assert_eq!(read(&binary(V2_PROXY, TCP4, 11, &REST4)), Err(Wrong::TooShort));
        assert_eq!(read(&binary(V2_PROXY, TCP6, 35, &rest6())), Err(Wrong::TooShort));
        assert_eq!(read(&binary(V2_PROXY, TCP6, 12, &REST4)), Err(Wrong::TooShort));
        assert_eq!(read(&binary(V2_PROXY, TCP4, 0, b"")), Err(Wrong::TooShort));
    }

    #[test]
    fn wrong_bytes_of_a_binary_header_are_refused_when_they_come() {
        let read = |rest: &[u8]| read(&[BINARY, rest].concat());
        for command in [0x11, 0x10, 0x22, 0x2f, 0x31, 0x00] {
            assert_eq!(read(&[command]), Err(Wrong::Command), "{command:#x}");
        }
        for family in [0x13, 0x41, 0xf1, 0xff, 0x03] {
            assert_eq!(read(&[V2_PROXY, family]), Err(Wrong::Family), "{family:#x}");
        }
        assert_eq!(read(&[V2_PROXY, TCP4, 8, 1]), Err(Wrong::TooLong));
        assert_eq!(read(&[V2_LOCAL, 0, 0xff, 0xff]), Err(Wrong::TooLong));
    }

    #[test]
    fn the_longest_binary_header_is_read() {
        let bytes = binary(V2_PROXY, TCP4, 2048, &[&REST4[..], &[0; 2048 - 12]].concat());
        assert!(matches!(read(&bytes), Ok(Some((Header::Proxied { .. }, HEADER_MAX)))));
    }

    #[test]
    fn bytes_that_are_no_header_are_refused_at_the_first_one_that_tells() {
        for (bytes, tells) in [(&b"GET /"[..], 1), (b"PROXYxTCP4", 6), (b"PRI * HTTP/2", 3), (b"\r\n\r\nX", 5)] {
            assert_eq!(starts(&bytes[..tells - 1]), Start::Maybe);
            assert_eq!(read(&bytes[..tells - 1]), Ok(None));
            assert_eq!(starts(&bytes[..tells]), Start::No);
            assert_eq!(read(&bytes[..tells]), Err(Wrong::NotProxy));
        }
        assert_eq!(starts(b"PROXY "), Start::Yes);
        assert_eq!(starts(BINARY), Start::Yes);
    }

    #[test]
    fn every_part_of_a_good_header_needs_more() {
        let binaries = [
            binary(V2_PROXY, TCP4, 12, &REST4),
            binary(V2_PROXY, TCP6, 40, &[rest6(), vec![4, 0, 1, 0]].concat()),
            binary(V2_LOCAL, 0, 2, b"ab"),
        ];
        for bytes in LONGEST.map(<[u8]>::to_vec).into_iter().chain(binaries) {
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end]), Ok(None), "{:?}", bytes[..end].escape_ascii().to_string());
            }
            assert!(read(&bytes).unwrap().is_some());
        }
    }

    #[test]
    fn nothing_is_written_where_none_is_sent() {
        let mut bytes = b"before".to_vec();
        write(SendProxy::Off, ([1, 2, 3, 4], 1).into(), ([5, 6, 7, 8], 2).into(), &mut bytes);
        assert_eq!(bytes, b"before");
    }

    #[test]
    fn headers_are_written_as_they_are_defined() {
        let written = |version, source: &str, destination: &str| {
            let mut bytes = Vec::new();
            write(version, source.parse().unwrap(), destination.parse().unwrap(), &mut bytes);
            bytes
        };
        let (v4, other, v6) = ("192.168.0.1:56324", "192.168.0.11:443", "[2001:db8::2]:443");
        assert_eq!(written(SendProxy::V1, v4, other), b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n");
        assert_eq!(written(SendProxy::V1, v6, "[::1]:1"), b"PROXY TCP6 2001:db8::2 ::1 443 1\r\n");
        assert_eq!(written(SendProxy::V1, v4, v6), b"PROXY UNKNOWN\r\n");
        assert_eq!(written(SendProxy::V2, v4, other), binary(V2_PROXY, TCP4, 12, &REST4));
        assert_eq!(written(SendProxy::V2, "[2001:db8::1]:56324", v6), binary(V2_PROXY, TCP6, 36, &rest6()));
        // As a listener on [::] sees clients of IPv4.
        let mapped = "[::ffff:192.168.0.1]:56324";
        assert_eq!(written(SendProxy::V1, mapped, other), written(SendProxy::V1, v4, other));
        assert_eq!(written(SendProxy::V2, mapped, other), written(SendProxy::V2, v4, other));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(source: SocketAddr, destination: SocketAddr, behind: [u8; 3]) {
            let [plain_source, plain_destination] =
                [source, destination].map(|addr| SocketAddr::new(addr.ip().to_canonical(), addr.port()));
            let proxied = Header::Proxied { source: plain_source, destination: plain_destination };
            let is_mixed = plain_source.is_ipv4() != plain_destination.is_ipv4();
            let of_line = if is_mixed { Header::Local } else { proxied };
            for (version, expected) in [(SendProxy::V1, of_line), (SendProxy::V2, proxied)] {
                let mut bytes = Vec::new();
                write(version, source, destination, &mut bytes);
                let length = bytes.len();
                bytes.extend_from_slice(&behind);
                prop_assert_eq!(read(&bytes), Ok(Some((expected, length))));
            }
        }

        #[test]
        fn no_bytes_panic_and_parts_make_no_difference(start in 0..4_usize, bytes in vec(any::<u8>(), 0..HEADER_MAX + 8)) {
            let start = [&b""[..], LINE, BINARY, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x08\0"][start];
            read_any(&[start, &bytes].concat());
        }

        #[test]
        fn a_changed_byte_makes_no_panic_and_parts_make_no_difference(at in 0..LINE_MAX, byte: u8) {
            for mut bytes in LONGEST.map(<[u8]>::to_vec).into_iter().chain([binary(V2_PROXY, TCP6, 36, &rest6())]) {
                let at = at % bytes.len();
                bytes[at] = byte;
                read_any(&bytes);
            }
        }
    }
}
