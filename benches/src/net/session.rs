//! TLS on a connection of the traffic.

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{self, RecvFlags};
use rustls::{Connection, HandshakeKind};

use super::epoll::Received;
use crate::Result;

/// One end of a TLS connection, by rustls' buffered interface. It owns no socket.
#[derive(Debug)]
pub struct Session {
    tls: Connection,
    /// A full handshake would be a fault.
    must_resume: bool,
    /// Bytes that have been decrypted and not yet received.
    waiting: usize,
    /// The other end has said that nothing more comes (close_notify). One that has been told so first may leave it out: no
    /// byte of a load can be lost by that.
    is_over: bool,
    has_finished: bool,
    /// This has been told.
    has_told_end: bool,
}

impl Session {
    /// A session that has said nothing yet.
    pub fn new(tls: impl Into<Connection>, must_resume: bool) -> Self {
        Self { tls: tls.into(), must_resume, waiting: 0, is_over: false, has_finished: false, has_told_end: false }
    }

    /// Whether the handshake is under way.
    pub fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Whether there is something to receive of which the socket won't tell.
    pub fn has_more(&self) -> bool {
        self.waiting > 0 || (self.is_over && !self.has_told_end)
    }

    /// Goes on with the handshake. Whether it is done.
    ///
    /// # Errors
    /// It failed, or was not of the kind that is measured.
    pub fn shake_hands(&mut self, socket: &OwnedFd) -> Result<bool> {
        self.take_in(socket)?;
        self.flush(socket)?;
        let is_done = !self.tls.is_handshaking();
        if is_done && self.must_resume && self.tls.handshake_kind() != Some(HandshakeKind::Resumed) {
            return Err("a TLS session was not resumed".into());
        }
        Ok(is_done)
    }

    /// Receives once.
    ///
    /// # Errors
    /// What came is not of this session, or it ended without a word.
    pub fn receive(&mut self, socket: &OwnedFd, buffer: &mut [u8]) -> Result<Received> {
        loop {
            if self.waiting > 0 {
                let bytes = self.tls.reader().read(buffer)?;
                self.waiting -= bytes;
                return Ok(Received::Bytes(bytes));
            }
            if self.is_over {
                self.has_told_end = true;
                return Ok(Received::End);
            }
            if !self.take_in(socket)? {
                return Ok(Received::Nothing);
            }
        }
    }

    /// Receives once, decrypts, and drops what came; `wire` is room for it as it comes.
    ///
    /// # Errors
    /// See [`Session::receive`].
    pub fn discard(&mut self, socket: &OwnedFd, wire: &mut [u8]) -> Result<Received> {
        let mut dropped = self.drop_waiting()?;
        match net::recv(socket, &mut *wire, RecvFlags::empty()) {
            Ok((_, 0)) => self.on_end_of_socket()?,
            Ok((_, bytes)) => {
                let mut rest = &wire[..bytes];
                while !rest.is_empty() && !self.is_over {
                    self.tls.read_tls(&mut rest)?;
                    self.process()?;
                    dropped += self.drop_waiting()?;
                }
            }
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(format!("receiving: {error}").into()),
        }
        Ok(match dropped {
            0 if self.is_over => {
                self.has_told_end = true;
                Received::End
            }
            0 => Received::Nothing,
            bytes => Received::Bytes(bytes),
        })
    }

    /// Encrypts what it takes of `bytes` and sends it; how many it took. It takes none while there is no room.
    ///
    /// # Errors
    /// The connection has been reset.
    pub fn send(&mut self, socket: &OwnedFd, bytes: &[u8]) -> Result<usize> {
        // During the handshake nothing can be sent, but kept.
        if !self.flush(socket)? && !self.tls.is_handshaking() {
            return Ok(0);
        }
        let taken = self.tls.writer().write(bytes)?;
        self.flush(socket)?;
        Ok(taken)
    }

    /// Says that nothing more will be sent. Whether this is on its way, and all before it.
    ///
    /// # Errors
    /// The connection has been reset.
    pub fn finish_sending(&mut self, socket: &OwnedFd) -> Result<bool> {
        self.tls.send_close_notify();
        self.has_finished = true;
        self.flush(socket)
    }

    /// Sends what is ready to be sent. Whether all of it went.
    ///
    /// # Errors
    /// The connection has been reset.
    pub fn flush(&mut self, socket: &OwnedFd) -> Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Wire(socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(format!("sending by TLS: {error}").into()),
            }
        }
        Ok(true)
    }

    /// Receives once and decrypts. Whether anything came.
    fn take_in(&mut self, socket: &OwnedFd) -> Result<bool> {
        match self.tls.read_tls(&mut Wire(socket)) {
            Ok(0) => self.on_end_of_socket().map(|()| true),
            Ok(_) => self.process().map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(format!("receiving by TLS: {error}").into()),
        }
    }

    fn on_end_of_socket(&mut self) -> Result<()> {
        self.is_over |= self.has_finished;
        match self.is_over {
            true => Ok(()),
            false => Err("the balancer closed a TLS connection without saying so (close_notify)".into()),
        }
    }

    fn process(&mut self) -> Result<()> {
        let state = self.tls.process_new_packets()?;
        self.waiting = state.plaintext_bytes_to_read();
        self.is_over = state.peer_has_closed();
        Ok(())
    }

    fn drop_waiting(&mut self) -> Result<usize> {
        let waiting = self.waiting;
        while self.waiting > 0 {
            let mut reader = self.tls.reader();
            let bytes = reader.fill_buf()?.len();
            reader.consume(bytes);
            self.waiting -= bytes;
        }
        Ok(waiting)
    }
}

/// A socket, as rustls wants it.
struct Wire<'a>(&'a OwnedFd);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self.0, buffer)?)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self.0, bytes)?)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(self.0, pieces)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
