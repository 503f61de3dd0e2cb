//! Waking a thread that waits in the kernel (eventfd(2)).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use glommio::io::BufferedFile;

/// A counter by which others wake a thread.
#[derive(Debug)]
pub(crate) struct Doorbell(OwnedFd);

impl Doorbell {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no memory is involved; the result is checked.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: eventfd(2) has just opened it for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Wakes the thread, now or as soon as it looks.
    pub(crate) fn ring(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the kernel reads eight bytes of `one` during the call. It fails only if the counter would overflow,
        // and then the thread has been woken already.
        let _ = unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

impl AsRawFd for Doorbell {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A doorbell that a task of a glommio executor waits for, read through the executor's own ring.
#[derive(Debug)]
pub(crate) struct Listening(BufferedFile);

impl Listening {
    /// Listens to `doorbell`. Only within an executor, which it must not outlive.
    pub(crate) fn to(doorbell: &Doorbell) -> io::Result<Self> {
        let fd = doorbell.0.try_clone()?.into_raw_fd();
        // SAFETY: the duplicate is open, and ownership of it goes to the file, which closes it.
        Ok(Self(unsafe { BufferedFile::from_raw_fd(fd) }))
    }

    /// Returns when the doorbell has been rung since the last time, or was before.
    pub(crate) async fn rung(&self) -> io::Result<()> {
        let read = self.0.read_at(0, size_of::<u64>()).await;
        read.map(drop).map_err(|error| io::Error::other(error.to_string()))
    }
}
