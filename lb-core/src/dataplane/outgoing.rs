//! Bytes that a shard has made for the two peers of a connection, in buffers of our own, before they are put into its relay.

use std::io;

use super::relay::Side;
use crate::sys::own_buffers::{OwnBuffers, OwnSize};
use crate::sys::ring::Piece;

/// Pieces for client and server, in order.
pub(super) type Pieces = [Vec<Piece>; 2];

/// Where the bytes of one step are gathered.
pub(super) struct Outgoing<'a> {
    buffers: &'a mut OwnBuffers,
    pieces: &'a mut Pieces,
}

impl<'a> Outgoing<'a> {
    /// Gathers into `pieces`, of which the last ones may still be filled up.
    pub(super) fn new(buffers: &'a mut OwnBuffers, pieces: &'a mut Pieces) -> Self {
        Self { buffers, pieces }
    }

    /// Room for that many bytes more to a peer.
    ///
    /// # Errors
    /// The system has no memory.
    pub(super) fn room(&mut self, sink: Side, bytes: usize) -> io::Result<&mut [u8]> {
        let pieces = &mut self.pieces[sink as usize];
        let has_room = |piece: &Piece| self.buffers.size(piece.buffer) - usize::from(piece.end) >= bytes;
        if !pieces.last().is_some_and(has_room) {
            let buffer = self.buffers.lend(bytes)?;
            pieces.push(Piece { buffer, start: 0, end: 0 });
        }
        let Some(piece) = pieces.last() else { return Err(io::ErrorKind::OutOfMemory.into()) };
        let room = self.buffers.bytes_mut(piece.buffer).get_mut(piece.end.into()..);
        room.filter(|room| room.len() >= bytes).ok_or(io::ErrorKind::OutOfMemory.into())
    }

    /// So many bytes of the room are filled.
    pub(super) fn fill(&mut self, sink: Side, bytes: usize) {
        if let Some(piece) = self.pieces[sink as usize].last_mut() {
            piece.end += bytes as u16;
        }
    }

    /// These bytes go to a peer.
    ///
    /// # Errors
    /// The system has no memory.
    pub(super) fn put(&mut self, sink: Side, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.room(sink, bytes.len().min(OwnSize::Record.bytes()))?;
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            self.fill(sink, count);
            bytes = &bytes[count..];
        }
        Ok(())
    }
}
