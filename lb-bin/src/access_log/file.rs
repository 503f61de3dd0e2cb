//! The access log's file, which others may move away.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Owner and group read it; it tells who came.
const MODE: u32 = 0o640;

/// A file that lines are appended to.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl LogFile {
    pub(super) fn open(path: PathBuf) -> Result<Self, String> {
        let file = open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { file, path })
    }

    /// Opens the path anew if another file is there, or none.
    pub(super) fn follow(&mut self) {
        let here = self.file.metadata().map(|found| (found.dev(), found.ino()));
        let there = fs::metadata(&self.path).map(|found| (found.dev(), found.ino()));
        if here.ok() == there.ok() {
            return;
        }
        match open(&self.path) {
            Ok(file) => self.file = file,
            Err(error) => {
                tracing::warn!("{}: {error}; the access log goes to the file that was there", self.path.display());
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // A pipe that nobody reads is as a disk that is full: opening and writing it must not wait.
    options.append(true).custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32);
    options.read(fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo()));
    match options.clone().create_new(true).mode(MODE).open(path) {
        Ok(file) => {
            // Whatever the umask is.
            file.set_permissions(Permissions::from_mode(MODE))?;
            Ok(file)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => options.open(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let mut log = LogFile::open(path.clone()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
        log.follow();
        log.file.write_all(b"one\n").unwrap();
        fs::rename(&path, &moved).unwrap();
        log.file.write_all(b"two\n").unwrap();
        log.follow();
        log.file.write_all(b"three\n").unwrap();
        assert_eq!(fs::read_to_string(&moved).unwrap(), "one\ntwo\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn a_file_that_can_not_be_made_anew_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let mut log = LogFile::open(inner.join("access.log")).unwrap();
        let moved = folder.path().join("moved");
        fs::rename(&inner, &moved).unwrap();
        log.follow();
        log.file.write_all(b"one\n").unwrap();
        assert_eq!(fs::read_to_string(moved.join("access.log")).unwrap(), "one\n");
        assert!(LogFile::open(inner.join("access.log")).unwrap_err().contains("inner/access.log: No such file"));
    }
}
