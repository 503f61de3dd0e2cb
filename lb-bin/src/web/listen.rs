//! Where a site is, and its listening socket.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::unix_socket::{self, Found, Hidden, PATH_MAX, folder};

/// How long the address of a killed process may stay taken.
const TEARDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// Who may connect to a Unix socket: this user and its group.
const MODE: u32 = 0o660;

/// Where a site is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum At {
    /// With port 0 the kernel chooses one.
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for At {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(formatter),
            Self::Unix(path) => path.display().fmt(formatter),
        }
    }
}

/// A socket that listens and does not block. A Unix one is removed when it is dropped.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, Placed),
}

/// What came of opening a listener.
#[derive(Debug)]
pub(super) enum Opened {
    Listens(Listener),
    /// Another program listens there.
    Taken,
    /// One sentence.
    Failed(String),
}

impl Listener {
    /// Opens it. Waits a moment for a process that is being taken down.
    pub(super) fn open(at: &At) -> Opened {
        let deadline = Instant::now() + TEARDOWN_TIMEOUT;
        loop {
            match Self::try_open(at) {
                Opened::Taken if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                opened => return opened,
            }
        }
    }

    /// Opens it, or says at once that it can't be.
    pub(super) fn try_open(at: &At) -> Opened {
        let opened = match at {
            At::Tcp(addr) => tcp(*addr),
            At::Unix(path) => unix(path),
        };
        match opened {
            Ok(listener) => Opened::Listens(listener),
            Err(error) if error.kind() == ErrorKind::AddrInUse => Opened::Taken,
            Err(error) => Opened::Failed(error.to_string()),
        }
    }

    /// Where it listens, with the port that the kernel chose.
    pub(super) fn at(&self) -> io::Result<At> {
        Ok(match self {
            Self::Tcp(listener) => At::Tcp(listener.local_addr()?),
            Self::Unix(_, placed) => At::Unix(placed.path.clone()),
        })
    }
}

fn tcp(addr: SocketAddr) -> io::Result<Listener> {
    let listener = TcpListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    Ok(Listener::Tcp(listener))
}

fn unix(path: &Path) -> io::Result<Listener> {
    if path.as_os_str().len() > PATH_MAX {
        return Err(io::Error::other(format!("the path is longer than {PATH_MAX} bytes")));
    }
    match unix_socket::look(path)? {
        Found::Free => {}
        Found::Answered => return Err(ErrorKind::AddrInUse.into()),
        Found::Other => return Err(io::Error::other("something that is not a socket is there: remove it")),
    }
    let (hidden, listener) = Hidden::listen(path, MODE).map_err(|error| {
        io::Error::new(error.kind(), format!("in {} no socket can be made: {error}", folder(path).display()))
    })?;
    listener.set_nonblocking(true)?;
    hidden.put_at(path)?;
    let inode = fs::symlink_metadata(path)?.ino();
    Ok(Listener::Unix(listener, Placed { path: path.to_owned(), inode }))
}

/// A Unix socket at its path.
#[derive(Debug)]
pub(super) struct Placed {
    path: PathBuf,
    inode: u64,
}

impl Drop for Placed {
    fn drop(&mut self) {
        // Another process may have put its own there.
        if fs::symlink_metadata(&self.path).is_ok_and(|there| there.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
