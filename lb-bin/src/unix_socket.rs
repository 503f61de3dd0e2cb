//! Unix sockets at paths: whether a path is free, and a socket that is at its path only when its mode is set.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// Longest path that fits into a Unix socket's address.
pub(crate) const PATH_MAX: usize = 107;

/// The socket's name in its hidden folder.
const HIDDEN_NAME: &str = "s";

/// What is at a path where a socket is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing, or a socket that nobody listens at.
    Free,
    /// A socket, and somebody listens.
    Answered,
    /// Something that is not a socket.
    Other,
}

/// What is at `path`.
///
/// # Errors
/// The path can't be looked at.
pub(crate) fn look(path: &Path) -> io::Result<Found> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Free),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => return Ok(Found::Other),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => Ok(Found::Free),
        Err(error) => Err(error),
        Ok(_) => Ok(Found::Answered),
    }
}

/// The folder of `path`.
pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A socket that listens in a folder that only this user may enter, until it is moved to its place. So nobody else can
/// connect before its mode is set. If it is dropped before, it is removed.
#[derive(Debug)]
pub(crate) struct Hidden {
    folder: PathBuf,
}

impl Hidden {
    /// A socket of mode `mode` that is to be at `path`, whose folder is there.
    ///
    /// # Errors
    /// It can't be made.
    pub(crate) fn listen(path: &Path, mode: u32) -> io::Result<(Self, UnixListener)> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // About as short as `/lb.sock`, so that this path is not too long if the other is not.
        let inside = folder(path).join(format!(".{}-{number}", process::id()));
        DirBuilder::new().mode(0o700).create(&inside)?;
        let hidden = Self { folder: inside };
        let inside = hidden.folder.join(HIDDEN_NAME);
        let listener = UnixListener::bind(&inside)?;
        fs::set_permissions(&inside, Permissions::from_mode(mode))?;
        Ok((hidden, listener))
    }

    /// Moves the socket to `path`, in one step: where there is another one, clients find the one or the other.
    ///
    /// # Errors
    /// The path can't be used.
    pub(crate) fn put_at(self, path: &Path) -> io::Result<()> {
        fs::rename(self.folder.join(HIDDEN_NAME), path)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // It is not there any more if it was put in its place.
        let _ = fs::remove_file(self.folder.join(HIDDEN_NAME));
        if let Err(error) = fs::remove_dir(&self.folder) {
            tracing::warn!("{}: it can't be removed: {error}", self.folder.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_free_unless_somebody_answers_or_something_else_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        assert_eq!(look(&path).unwrap(), Found::Free);
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(look(&path).unwrap(), Found::Answered);
        drop(listener);
        assert_eq!(look(&path).unwrap(), Found::Free);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "data").unwrap();
        assert_eq!(look(&path).unwrap(), Found::Other);
    }

    #[test]
    fn a_socket_is_at_its_path_with_its_mode_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let (hidden, listener) = Hidden::listen(&path, 0o660).unwrap();
        assert!(!path.exists());
        hidden.put_at(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(look(&path).unwrap(), Found::Answered);
        let (never_placed, _other) = Hidden::listen(&path, 0o600).unwrap();
        drop(never_placed);
        assert_eq!(look(&path).unwrap(), Found::Answered, "the listener is the first one: {listener:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
