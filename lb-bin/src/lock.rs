//! Locks between processes: a lock file beside what is locked.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A lock file, locked (flock(2)) for as long as any process has it open through this descriptor or one that was passed
/// on. So it goes from one process to the next without a moment in which nobody holds it. Clones are handles to the same
/// lock.
///
/// The file stays when the lock ends: to remove it would let two processes hold locks on two files of the same name.
#[derive(Debug, Clone)]
pub(crate) struct Lock(Arc<Mutex<Option<File>>>);

/// Opens a lock file, and makes it if it is missing.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

impl Lock {
    /// Locks an open lock file. If it is among those `given` by a predecessor it is locked already.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] if another process has locked it.
    pub(crate) fn take(file: File, given: &[File]) -> Result<Self, TryLockError> {
        let file = match given.iter().find(|given| is_same(given, &file)) {
            Some(given) => given.try_clone().map_err(TryLockError::Error)?,
            None => {
                file.try_lock()?;
                file
            }
        };
        Ok(Self(Arc::new(Mutex::new(Some(file)))))
    }

    /// The lock for another process; `None` if it was given up.
    pub(crate) fn duplicate(&self) -> io::Result<Option<File>> {
        self.file().as_ref().map(File::try_clone).transpose()
    }

    /// Leaves the lock to the process that it was passed on to.
    pub(crate) fn give_up(&self) {
        *self.file() = None;
    }

    /// False after [`Lock::give_up`].
    pub(crate) fn is_held(&self) -> bool {
        self.file().is_some()
    }

    fn file(&self) -> MutexGuard<'_, Option<File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_same(one: &File, other: &File) -> bool {
    let identity = |file: &File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino())).ok();
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_passed_on_without_a_gap() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let is_taken = || matches!(Lock::take(open(&path).unwrap(), &[]), Err(TryLockError::WouldBlock));
        let old = Lock::take(open(&path).unwrap(), &[]).unwrap();
        assert!(is_taken());
        let given = [old.duplicate().unwrap().unwrap()];
        let new = Lock::take(open(&path).unwrap(), &given).unwrap();
        drop(given);
        old.give_up();
        assert!(is_taken() && new.is_held() && !old.is_held());
        drop(new);
        assert!(!is_taken());
    }

    #[test]
    fn another_file_that_was_given_is_no_lock_of_this_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let _held = Lock::take(open(&path).unwrap(), &[]).unwrap();
        let other = open(&folder.path().join("other")).unwrap();
        assert!(Lock::take(open(&path).unwrap(), &[other]).is_err());
    }
}
