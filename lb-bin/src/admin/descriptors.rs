//! Passing descriptors over a Unix socket (SCM_RIGHTS, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Most descriptors in one message: the kernel's SCM_MAX_FD.
pub(crate) const PER_MESSAGE: usize = 253;

const SPACE: usize = rustix::cmsg_space!(ScmRights(PER_MESSAGE));

/// Sends at most [`PER_MESSAGE`] descriptors with an empty line, as descriptors don't travel without bytes.
pub(crate) fn send(stream: impl AsFd, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    sendmsg(stream, &[IoSlice::new(b"\n")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives bytes into `buffer` and adds the descriptors that came with them. Gives the number of bytes; 0 is the end.
pub(crate) fn receive(stream: impl AsFd, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(stream, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other("descriptors were lost: raise `ulimit -n`"));
    }
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn descriptors_arrive_with_the_bytes_around_them() {
        let (mut one, other) = UnixStream::pair().unwrap();
        let file = File::open("/dev/null").unwrap();
        one.write_all(b"line\n").unwrap();
        for count in [PER_MESSAGE, 2] {
            send(&one, &vec![file.as_fd(); count]).unwrap();
        }
        drop(one);
        let (mut bytes, mut descriptors, mut buffer) = (Vec::new(), Vec::new(), [0; 64]);
        loop {
            let count = receive(&other, &mut buffer, &mut descriptors).unwrap();
            if count == 0 {
                break;
            }
            bytes.extend_from_slice(&buffer[..count]);
        }
        assert_eq!((bytes.as_slice(), descriptors.len()), (b"line\n\n\n".as_slice(), PER_MESSAGE + 2));
        for descriptor in descriptors {
            let flags = rustix::io::fcntl_getfd(&descriptor).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
        assert!(send(&other, &vec![file.as_fd(); PER_MESSAGE + 1]).is_err());
    }
}
