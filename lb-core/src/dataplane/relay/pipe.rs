//! The pipes of a shard: lent to a direction while it has bytes in one.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};

/// Bytes that a pipe should hold, which is what one direction moves before it is the turn of others. Measured on loopback,
/// CPU time per GB: 64 KiB 1.8, 128 KiB 1.2, 256 KiB 1.06, 512 KiB 1, 1 MiB 1.2 (the peers can't keep up with it).
const WANTED_BYTES: usize = 512 << 10;
/// A pipe that holds less is of no use: the kernel makes those of a user with many pipes as small as a page
/// (`fs.pipe-user-pages-soft`, pipe(7)).
const USEFUL_BYTES: usize = 64 << 10;
/// Most empty pipes that are kept. Every busy stream needs one only while it is being served.
const KEPT: usize = 16;

/// Both ends of a pipe. Bytes in it belong to one direction of one connection; a pipe with bytes is never lent again.
#[derive(Debug)]
pub(in crate::dataplane) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    bytes_max: usize,
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // Refused beyond the user's share of pipe memory: then it stays as it is.
        let bytes_max = fcntl_setpipe_size(&write, WANTED_BYTES).or_else(|_| fcntl_getpipe_size(&write))?;
        if bytes_max < USEFUL_BYTES {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(Self { read, write, bytes_max })
    }

    /// Takes what a socket has received, as much as fits and `most` bytes at most. To be called on an empty pipe: then `WouldBlock` can only mean that
    /// the socket has nothing.
    pub(super) fn fill(&self, source: impl AsFd, most: usize) -> io::Result<usize> {
        Ok(splice(source, None, &self.write, None, self.bytes_max.min(most), SpliceFlags::NONBLOCK)?)
    }

    /// Gives up to `bytes` to a socket. Without SPLICE_F_MORE: whether more follows is not known here, and if none did, the
    /// kernel would hold the tail back for 200 ms.
    pub(super) fn drain(&self, sink: impl AsFd, bytes: usize) -> io::Result<usize> {
        Ok(splice(&self.read, None, sink, None, bytes, SpliceFlags::NONBLOCK)?)
    }
}

/// Empty pipes, and how many others there are.
#[derive(Debug)]
pub(in crate::dataplane) struct Pipes {
    /// Boxed, so that a connection without a pipe takes less memory.
    #[allow(clippy::vec_box, reason = "they are lent as boxes")]
    idle: Vec<Box<Pipe>>,
    lent: usize,
    /// Most pipes lent at once: each slow reader of a stream keeps one, two descriptors, as long as it is slow.
    lent_max: usize,
}

impl Pipes {
    pub(in crate::dataplane) const fn new(lent_max: usize) -> Self {
        Self { idle: Vec::new(), lent: 0, lent_max }
    }

    /// An empty pipe.
    ///
    /// # Errors
    /// Too many are lent, or descriptors or the user's pipe memory have run out.
    pub(super) fn lend(&mut self) -> io::Result<Box<Pipe>> {
        if self.lent >= self.lent_max {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let pipe = self.idle.pop().map_or_else(|| Pipe::new().map(Box::new), Ok)?;
        self.lent += 1;
        Ok(pipe)
    }

    /// Takes an empty pipe back.
    pub(super) fn take_back(&mut self, pipe: Box<Pipe>) {
        self.lent -= 1;
        if self.idle.len() < KEPT {
            self.idle.push(pipe);
        }
    }

    /// Destroys a pipe with bytes in it, which nobody may get to see any more.
    pub(in crate::dataplane) fn destroy(&mut self, pipe: Box<Pipe>) {
        self.lent -= 1;
        drop(pipe);
    }

    /// Closes what is not lent, because descriptors are needed for connections.
    pub(in crate::dataplane) fn close_idle(&mut self) {
        self.idle.clear();
    }

    /// Pipes that are open.
    pub(in crate::dataplane) fn open(&self) -> usize {
        self.idle.len() + self.lent
    }
}
