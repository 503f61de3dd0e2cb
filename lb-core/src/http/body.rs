//! Bodies: what belongs to one, and how it is framed anew on its way out.

use super::{Chunked, Part, Wrong, write};
use crate::tls::session::Failed;

/// What is longer goes out as it is, what is shorter together with its neighbours: each way out may cost a record of TLS.
const JOINED_MAX: usize = 2 << 10;

/// Takes bytes that go out.
pub(crate) type Emit<'a> = dyn FnMut(&[u8]) -> Result<(), Failed> + 'a;

/// What is left of a body.
#[derive(Debug)]
pub(super) enum Body {
    /// So many bytes more.
    Length(u64),
    Chunked(Chunked),
    /// Until the server closes.
    UntilClose,
}

/// Why a body can't be read on.
pub(super) enum Broken {
    Wrong(Wrong),
    Failed(Failed),
}

impl From<Wrong> for Broken {
    fn from(wrong: Wrong) -> Self {
        Self::Wrong(wrong)
    }
}

impl From<Failed> for Broken {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

impl Body {
    /// Reads from `bytes` what belongs to it, and writes that: how much it was, and whether it was the last. What frames
    /// chunks is left out unless `is_chunked`.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        is_chunked: bool,
        out: &mut Joined<'_, '_>,
    ) -> Result<(usize, bool), Broken> {
        match self {
            Self::Length(left) => {
                let read = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                out.put(&bytes[..read])?;
                *left -= read as u64;
                Ok((read, *left == 0))
            }
            Self::UntilClose => {
                out.put(bytes)?;
                Ok((bytes.len(), false))
            }
            Self::Chunked(chunked) => read_chunks(chunked, bytes, is_chunked, out),
        }
    }
}

fn read_chunks(
    chunked: &mut Chunked,
    bytes: &[u8],
    is_chunked: bool,
    out: &mut Joined<'_, '_>,
) -> Result<(usize, bool), Broken> {
    let mut read = 0;
    while read < bytes.len() {
        let (part, length) = chunked.read(&bytes[read..])?;
        read += length;
        match part {
            Part::More => break,
            Part::Data(data) => out.put(data)?,
            Part::End => {
                if is_chunked {
                    out.put(b"\r\n")?;
                }
                return Ok((read, true));
            }
            _ if !is_chunked => {}
            Part::Size(size) => out.put_size(size)?,
            Part::DataEnd => out.put(b"\r\n")?,
            Part::Trailer(line) => {
                out.put(line)?;
                out.put(b"\r\n")?;
            }
        }
    }
    Ok((read, false))
}

/// What goes out, short pieces together.
pub(super) struct Joined<'a, 'e> {
    pub(super) made: &'a mut Vec<u8>,
    /// `None` while there is nobody to send it to.
    pub(super) emit: Option<&'a mut Emit<'e>>,
}

impl Joined<'_, '_> {
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        if bytes.len() < JOINED_MAX || self.emit.is_none() {
            self.made.extend_from_slice(bytes);
            return Ok(());
        }
        self.flush()?;
        match &mut self.emit {
            Some(emit) => emit(bytes),
            None => Ok(()),
        }
    }

    fn put_size(&mut self, size: u64) -> Result<(), Failed> {
        write::chunk_size(size, self.made);
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<(), Failed> {
        if let Some(emit) = &mut self.emit
            && !self.made.is_empty()
        {
            emit(self.made)?;
            self.made.clear();
        }
        Ok(())
    }
}
