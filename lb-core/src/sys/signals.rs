//! Signals of a thread.

use std::io;
use std::mem::zeroed;

/// Keeps SIGPIPE from the calling thread: splice(2) to a peer that is gone sends it to the thread that calls, and knows no
/// MSG_NOSIGNAL. A Rust program ignores it anyway, but this library may live in another one.
pub(crate) fn block_broken_pipe() -> io::Result<()> {
    // SAFETY: `sigset_t` is plain data, and `sigemptyset` and `sigaddset` write to the set that we own. The kernel reads it
    // during the call and changes nothing but the calling thread's mask; the old mask is not asked for.
    let result = unsafe {
        let mut set: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGPIPE);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut())
    };
    match result {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}
