//! Clients of a frontend.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use socket2::{Domain, SockRef, Socket, Type};

use crate::wait::HANG;

/// Connects; reads and writes that take longer than [`HANG`] fail.
///
/// # Panics
/// If the connection can't be made.
pub fn connect(addr: SocketAddr) -> TcpStream {
    try_connect(addr).unwrap_or_else(|error| panic!("can't connect to {addr}: {error}"))
}

/// Connects, as [`connect`].
///
/// # Errors
/// The connection can't be made.
pub fn try_connect(addr: SocketAddr) -> io::Result<TcpStream> {
    with_deadlines(TcpStream::connect_timeout(&addr, HANG)?)
}

/// Connects from a source address.
///
/// # Panics
/// If the connection can't be made.
pub fn connect_from(source: IpAddr, addr: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    socket.connect(&addr.into()).unwrap_or_else(|error| panic!("can't connect to {addr} from {source}: {error}"));
    with_deadlines(socket.into()).unwrap()
}

/// Connects with a small receive buffer, so that little is on its way when the reader is slow.
///
/// # Panics
/// If the connection can't be made.
pub fn connect_with_small_buffer(addr: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.connect(&addr.into()).unwrap_or_else(|error| panic!("can't connect to {addr}: {error}"));
    with_deadlines(socket.into()).unwrap()
}

/// Connects and reads to the end: what a server that says its name and closes has said.
///
/// # Panics
/// If the connection can't be made or breaks.
pub fn ask(addr: SocketAddr) -> String {
    try_ask(addr).unwrap_or_else(|error| panic!("no answer from {addr}: {error}"))
}

/// Connects and reads to the end, as [`ask`].
///
/// # Errors
/// The connection can't be made or breaks.
pub fn try_ask(addr: SocketAddr) -> io::Result<String> {
    read_to_end(try_connect(addr)?)
}

/// All that still comes from `stream`, as text.
///
/// # Errors
/// The connection breaks.
pub fn read_to_end(mut stream: impl Read) -> io::Result<String> {
    let mut text = String::new();
    stream.read_to_string(&mut text).map(|_| text)
}

/// Sends `message` to a server that echoes and reads it back.
///
/// # Panics
/// If something else or nothing comes back.
pub fn echo(stream: &mut TcpStream, message: &[u8]) {
    try_echo(stream, message).unwrap_or_else(|error| panic!("no echo: {error}"));
}

/// As [`echo`].
///
/// # Errors
/// The connection breaks.
///
/// # Panics
/// If something else comes back.
pub fn try_echo(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    stream.write_all(message)?;
    let mut back = vec![0; message.len()];
    stream.read_exact(&mut back)?;
    assert_eq!(back, message, "the echo differs");
    Ok(())
}

/// Closes with a reset instead of an orderly end.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(stream);
}

/// Reads until the connection ends and gives what came and whether the end was a reset.
///
/// # Panics
/// If the connection neither ends nor gives a byte for [`HANG`].
pub fn read_until_closed(stream: &mut TcpStream) -> (Vec<u8>, End) {
    let (mut all, mut chunk) = (Vec::new(), [0; 16 * 1024]);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return (all, End::Orderly),
            Ok(count) => all.extend_from_slice(&chunk[..count]),
            Err(error) if is_reset(&error) => return (all, End::Reset),
            Err(error) => panic!("the connection did not end: {error}"),
        }
    }
}

/// Connects and is reset without a byte.
///
/// # Panics
/// If anything else happens.
pub fn is_turned_away(addr: SocketAddr) {
    match try_connect(addr) {
        Ok(mut stream) => assert_eq!(read_until_closed(&mut stream), (vec![], End::Reset)),
        // The reset was faster than the return from connecting.
        Err(error) => assert!(is_reset(&error), "{error}"),
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Orderly,
    Reset,
}

/// True for the errors that a reset shows as.
pub fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

pub(crate) fn with_deadlines(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(HANG))?;
    stream.set_write_timeout(Some(HANG))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
