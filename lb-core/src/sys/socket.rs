//! Sockets: those we make, those the kernel hands us as numbers, and those the process inherited.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn` (listen(2)).
const BACKLOG: i32 = 4096;

/// How long a connection is silent before the kernel asks whether the peer is still there, and how often it asks again.
/// Linux' own default, two hours, is longer than most idle timeouts and NAT tables live.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));

/// Takes over a descriptor that an operation of the ring returned.
pub(crate) fn from_completion(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel opened this descriptor for the operation whose completion carries its number, and a completion
    // is handed out once. So nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A listening socket that the process inherited as `fd`, as a descriptor of our own.
///
/// The inherited descriptor itself stays open, so the same number can be asked for again.
///
/// # Errors
/// `fd` is not open, or not a listening TCP socket.
pub fn inherited_listener(fd: RawFd) -> io::Result<OwnedFd> {
    let refuse = |text: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("descriptor {fd} {text}"));
    // SAFETY: the borrow ends with this function. Were `fd` closed or another's, the calls below fail or look at a
    // wrong file, and nothing but the duplicate is kept.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let owned = borrowed.try_clone_to_owned().map_err(|_| refuse("is not open"))?;
    let socket = SockRef::from(&owned);
    let is_listener = socket.is_listener().map_err(|_| refuse("is not a socket"))?;
    let is_tcp = socket.r#type()? == Type::STREAM && socket.local_addr()?.as_socket().is_some();
    if !(is_listener && is_tcp) {
        return Err(refuse("is not a listening TCP socket"));
    }
    let socket = Socket::from(owned);
    prepare_listener(&socket)?;
    Ok(socket.into())
}

/// One listening socket per shard, all on `addr`, between which the kernel spreads connections (SO_REUSEPORT, socket(7)).
///
/// With `is_alone` the port must not be shared with anyone: SO_REUSEPORT would let another process of ours have it too,
/// unnoticed, and take a part of the connections.
pub(crate) fn listen(addr: SocketAddr, shards: usize, is_alone: bool) -> io::Result<Vec<OwnedFd>> {
    if is_alone && addr.port() != 0 {
        bound(addr, false)?;
    }
    let mut listeners: Vec<OwnedFd> = Vec::with_capacity(shards);
    let mut addr = addr;
    for _ in 0..shards {
        let socket = bound(addr, true)?;
        socket.listen(BACKLOG)?;
        // With port 0 the first shard's socket decides the port of all.
        addr = local_addr(&socket)?;
        listeners.push(socket.into());
    }
    Ok(listeners)
}

/// A socket that is bound as a listening one is, and does not listen.
pub(crate) fn bound(addr: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    if addr.is_ipv6() {
        // An IPv6 frontend and an IPv4 one on the same port are two frontends.
        socket.set_only_v6(true)?;
    }
    prepare_listener(&socket)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// Accepted sockets inherit these options from the listener (tcp(7)), which saves two calls per connection.
fn prepare_listener(socket: &Socket) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)
}

/// Makes a listening socket refuse connections at once, whoever still has a descriptor of it.
pub(crate) fn stop_listening(listener: &OwnedFd) {
    // Fails only if it does not listen any more.
    let _ = SockRef::from(listener).shutdown(std::net::Shutdown::Both);
}

/// A socket for a connection to a server.
///
/// Non-blocking, for splice(2): with a blocking socket one slow peer would hold up the shard. Operations of the ring wait
/// nevertheless.
///
/// Its first acknowledgement waits for the first bytes, which saves a packet: see [`acknowledge`].
pub(crate) fn for_server(addr: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    // On a socket that connects, Linux takes this as a promise that bytes follow (`tcp_rcv_synsent_state_process`).
    set_option(&socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 1)?;
    Ok(socket.into())
}

/// Sends the acknowledgement that completes a connection to a server, when there are no bytes yet that carry it. Without it
/// the kernel would wait 200 ms for them, and a server that speaks first would too.
pub(crate) fn acknowledge(server: &OwnedFd) -> io::Result<()> {
    SockRef::from(server).set_tcp_quickack(true)
}

/// Ends the connection of a socket for good, so that it can be connected anew (connect(2), AF_UNSPEC): cheaper than closing it
/// and making another one, and its options stay. False if the kernel still needs it, because the peer has not acknowledged
/// everything: bytes would be lost. Both sides must have ended.
pub(crate) fn disconnect(socket: &OwnedFd) -> io::Result<bool> {
    let mut unacknowledged: libc::c_int = 0;
    // SAFETY: the kernel writes one int (SIOCOUTQ, tcp(7)) into the variable, which we own, and keeps nothing.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut unacknowledged) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if unacknowledged != 0 {
        return Ok(false);
    }
    // SAFETY: all zeroes is an address of no family, AF_UNSPEC.
    let nobody: libc::sockaddr = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel reads the address, of the given size, during the call.
    match unsafe { libc::connect(socket.as_raw_fd(), &raw const nobody, size_of_val(&nobody) as libc::socklen_t) } {
        0 => Ok(true),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_option(socket: &Socket, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the kernel reads the int, of the given size, during the call.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets the kernel find out whether a silent peer is still there.
pub(crate) fn keep_alive(socket: &OwnedFd) -> io::Result<()> {
    SockRef::from(socket).set_tcp_keepalive(&KEEPALIVE)
}

/// Ends our side of a connection while the peer's goes on (shutdown(2), FIN).
pub(crate) fn close_write(socket: &OwnedFd) -> io::Result<()> {
    SockRef::from(socket).shutdown(std::net::Shutdown::Write)
}

/// Makes closing the socket reset the connection instead of ending it (SO_LINGER with zero, socket(7)).
pub(crate) fn reset_on_close(socket: &OwnedFd) -> io::Result<()> {
    SockRef::from(socket).set_linger(Some(Duration::ZERO))
}

/// The address on which a socket listens.
pub(crate) fn local_addr(socket: &impl std::os::fd::AsFd) -> io::Result<SocketAddr> {
    let addr = SockRef::from(socket).local_addr()?;
    addr.as_socket().ok_or_else(|| io::Error::other("not an IP socket"))
}

/// The address of a socket's peer.
pub(crate) fn peer_addr(socket: &OwnedFd) -> io::Result<SocketAddr> {
    let addr = SockRef::from(socket).peer_addr()?;
    addr.as_socket().ok_or_else(|| io::Error::other("not an IP socket"))
}
