//! Replacing a file so that at every moment, also after a crash, either the old or the new one is there whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Whether a replaced file survives a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// It does.
    Synced,
    /// The file is in place, but its folder could not be synced: after a crash the old one may be back.
    Unknown,
}

/// Puts `text` in place of the file at `path`: written to a file beside it, synced, renamed, and the folder synced.
///
/// # Errors
/// One sentence that names the file. The old file is as it was.
pub(super) fn replace(path: &Path, text: &str) -> Result<Durability, String> {
    let temporary = crate::paths::with_suffix(path, ".tmp");
    let written = write(&temporary, text).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(format!("the change can't be kept in {}: {error}", path.display()));
    }
    match sync_folder(path) {
        Ok(()) => Ok(Durability::Synced),
        Err(error) => {
            tracing::warn!(
                "{} was written, but may be lost in a crash: its folder can't be synced: {error}",
                path.display()
            );
            Ok(Durability::Unknown)
        }
    }
}

/// Private keys are in it: nobody else may read it, from the first moment on.
fn write(path: &Path, text: &str) -> io::Result<()> {
    // What an earlier crash has left may be readable by others, and open.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Makes names that were added to or taken from the file's folder survive a crash.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.map_or_else(|| PathBuf::from("."), Path::to_owned))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        for text in ["one", "two"] {
            assert_eq!(replace(&path, text), Ok(Durability::Synced));
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn nobody_else_can_read_it_whatever_was_there() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        for left in [&path, &folder.path().join("state.tmp")] {
            fs::write(left, "left").unwrap();
            fs::set_permissions(left, fs::Permissions::from_mode(0o666)).unwrap();
        }
        replace(&path, "secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_failure_names_the_file_and_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        replace(&path, "old").unwrap();
        // A folder in the temporary file's place makes creating it fail, for root too.
        fs::create_dir(folder.path().join("state.tmp")).unwrap();
        let reason = replace(&path, "new").unwrap_err();
        assert!(reason.starts_with(&format!("the change can't be kept in {}: ", path.display())), "{reason}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    }

    #[test]
    fn a_failed_rename_takes_the_temporary_file_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        fs::create_dir_all(path.join("full")).unwrap();
        assert!(replace(&path, "new").is_err());
        assert!(!folder.path().join("state.tmp").exists());
    }
}
