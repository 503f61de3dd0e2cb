//! One shard's io_uring: submission of its operations, and their completions.
//!
//! Two kinds of memory are pointed at by operations. Addresses and vectors are read by the kernel while it takes the
//! submission (IORING_FEAT_SUBMIT_STABLE), so they live in `Staging` until then. Relay buffers belong to `Buffers`
//! and `OwnBuffers`, which keep them mapped until the ring is gone.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};
use socket2::SockAddr;

use super::buffers::{BufferId, BufferSize, Buffers};
use super::doorbell::Doorbell;
use super::own_buffers::OwnBuffers;

/// Submissions that fit between two enters; a full queue is submitted early.
const SUBMISSIONS: u32 = 512;
/// Completions of one turn: every connection of a busy shard may have some. More fall to the kernel's slow list.
const COMPLETIONS: u32 = 8192;
/// Most pieces that one send gathers.
pub(crate) const PIECES_MAX: usize = 16;

/// What an operation came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Completion {
    /// What the submission carried.
    pub(crate) user_data: u64,
    /// A count or descriptor, or a negated errno.
    pub(crate) result: i32,
    flags: u32,
}

impl Completion {
    /// True if the multishot operation goes on.
    pub(crate) fn has_more(&self) -> bool {
        cqueue::more(self.flags)
    }

    fn buffer_index(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

/// A part of a relay buffer that is to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) buffer: BufferId,
    pub(crate) start: u16,
    pub(crate) end: u16,
}

/// Whether an accept takes one connection or all that come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Multishot {
    Yes,
    No,
}

/// What a socket is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Bytes to receive, or their end.
    Read,
    /// Room for bytes to send.
    Write,
}

/// What a send does when the socket does not take all bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendMode {
    /// Sends what it takes, or fails with EAGAIN: either way it is done once it was submitted. That it has sent everything
    /// is not completed: see [`Ring::is_settled`].
    AtOnce,
    /// Waits until it takes some.
    Wait,
}

/// More than one completion to wait for, for a little while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gather {
    pub(crate) completions: usize,
    /// Microseconds after which one is enough; or none, if the wait has no timeout.
    pub(crate) micros: u32,
}

pub(crate) struct Ring {
    // Dropped before the buffers: closing the ring ends every operation that may write to them or read from them.
    ring: IoUring,
    buffers: Buffers,
    own_buffers: OwnBuffers,
    /// Bytes of our own buffers beyond which nothing more is received that might need some.
    own_bytes_max: usize,
    staging: Staging,
    /// Completions that had to be taken out early, because the kernel took no submission before.
    early: Vec<Completion>,
    /// What a submitted alarm points at; boxed, so that it stays where it is.
    alarm: Box<Timespec>,
    /// Where the kernel puts what it reads from the doorbell; boxed, so that it stays where it is.
    doorbell_count: Box<u64>,
}

/// What submissions point at until the kernel has taken them. Never grows past its capacity, so nothing in it moves.
struct Staging {
    addresses: Vec<SockAddr>,
    vectors: Vec<[libc::iovec; PIECES_MAX]>,
    messages: Vec<libc::msghdr>,
}

impl Ring {
    /// Sets a ring up for the calling thread, which must be the one to use it (SINGLE_ISSUER).
    pub(crate) fn new(buffer_bytes_max: usize) -> io::Result<Self> {
        let ring = build()?;
        let buffers = Buffers::new(&ring.submitter(), buffer_bytes_max)?;
        let capacity = SUBMISSIONS as usize;
        let staging = Staging {
            addresses: Vec::with_capacity(capacity),
            vectors: Vec::with_capacity(capacity),
            messages: Vec::with_capacity(capacity),
        };
        let (alarm, doorbell_count) = (Box::new(Timespec::new()), Box::new(0));
        let own_buffers = OwnBuffers::default();
        let own_bytes_max = buffer_bytes_max;
        Ok(Self { ring, buffers, own_buffers, own_bytes_max, staging, early: Vec::new(), alarm, doorbell_count })
    }

    /// Accepts on a listening socket: one connection, or all until cancelled.
    pub(crate) fn accept(&mut self, listener: RawFd, multishot: Multishot, user_data: u64) {
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        self.push(match multishot {
            Multishot::Yes => opcode::AcceptMulti::new(Fd(listener)).flags(flags).build().user_data(user_data),
            Multishot::No => opcode::Accept::new(Fd(listener), std::ptr::null_mut(), std::ptr::null_mut())
                .flags(flags)
                .build()
                .user_data(user_data),
        });
    }

    /// Connects a socket.
    pub(crate) fn connect(&mut self, socket: &OwnedFd, addr: SocketAddr, user_data: u64) {
        self.reserve();
        self.staging.addresses.push(addr.into());
        let Some(staged) = self.staging.addresses.last() else { return };
        let connect = opcode::Connect::new(Fd(socket.as_raw_fd()), staged.as_ptr().cast(), staged.len());
        self.push(connect.build().user_data(user_data));
    }

    /// Receives, into buffers of the group that it returns: small ones until cancelled, or a single large one, or small where
    /// there is none. `None` if no buffer is to be had.
    pub(crate) fn receive(
        &mut self,
        socket: &OwnedFd,
        size: BufferSize,
        user_data: impl FnOnce(u16) -> u64,
    ) -> Option<u16> {
        if self.own_buffers.is_beyond(self.own_bytes_max) {
            return None;
        }
        let group = self.buffers.group(size, &self.ring.submitter())?;
        let fd = Fd(socket.as_raw_fd());
        let receive = match size {
            BufferSize::Small => opcode::RecvMulti::new(fd, group).build(),
            BufferSize::Large => {
                let anywhere = opcode::Recv::new(fd, std::ptr::null_mut(), 0).buf_group(group).build();
                anywhere.flags(squeue::Flags::BUFFER_SELECT)
            }
        };
        self.push(receive.user_data(user_data(group)));
        Some(group)
    }

    /// The buffer that a completed receive on `group` filled; now ours until [`Ring::give_back`].
    pub(crate) fn received(&mut self, completion: &Completion, group: u16) -> Option<BufferId> {
        let buffer = BufferId::new(group, completion.buffer_index()?);
        self.buffers.take(buffer);
        Some(buffer)
    }

    /// Lets the kernel fill a buffer again. No send of it may be in flight, or other bytes may go out in its place.
    pub(crate) fn give_back(&mut self, buffer: BufferId) {
        match buffer.is_own() {
            true => self.own_buffers.give_back(buffer),
            false => self.buffers.give_back(buffer),
        }
    }

    /// What was received into a piece's buffer, to be read and changed; and our own buffers, for what is made of it. Only for a
    /// piece that is ours and not being sent.
    pub(crate) fn open(&mut self, piece: Piece) -> (&mut [u8], &mut OwnBuffers) {
        let bytes = self.buffers.received_mut(piece.buffer, piece.end.into());
        (bytes.get_mut(piece.start.into()..).unwrap_or_default(), &mut self.own_buffers)
    }

    /// Buffers for bytes that are made here.
    pub(crate) fn own_buffers(&mut self) -> &mut OwnBuffers {
        &mut self.own_buffers
    }

    /// Unmaps buffers that are not needed any more. To be called when every reaped completion has been dealt with.
    pub(crate) fn shrink_buffers(&mut self) {
        if self.own_buffers.has_grown() {
            self.own_buffers.shrink();
        }
        if !self.buffers.has_grown() || !self.early.is_empty() || !self.is_settled() {
            return;
        }
        // Operations complete only while this thread enters the kernel, so an empty queue stays empty here.
        if self.ring.completion().is_empty() {
            self.buffers.shrink(&self.ring.submitter());
        }
    }

    /// Sends pieces in order, and returns how many bytes that are. A completion says how many went out; with
    /// [`SendMode::AtOnce`] there is one only if not all did.
    pub(crate) fn send(
        &mut self,
        socket: &OwnedFd,
        pieces: impl Iterator<Item = Piece>,
        mode: SendMode,
        user_data: u64,
    ) -> usize {
        self.reserve();
        let mut vector = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; PIECES_MAX];
        let mut count = 0;
        // No more than fit into the vector.
        for piece in pieces.take(PIECES_MAX) {
            let address = match piece.buffer.is_own() {
                true => self.own_buffers.address(piece.buffer),
                false => self.buffers.address(piece.buffer),
            };
            let Some(address) = address else { continue };
            let start = address.wrapping_add(piece.start.into());
            vector[count] =
                libc::iovec { iov_base: start.cast_mut().cast(), iov_len: (piece.end - piece.start).into() };
            count += 1;
        }
        let fd = Fd(socket.as_raw_fd());
        // WAITALL makes a send of some of the bytes count as failed, so that it is completed in spite of SKIP_SUCCESS.
        let (flags, completes) = match mode {
            SendMode::AtOnce => (libc::MSG_DONTWAIT | libc::MSG_WAITALL, squeue::Flags::SKIP_SUCCESS),
            SendMode::Wait => (0, squeue::Flags::empty()),
        };
        let flags = flags | libc::MSG_NOSIGNAL;
        let entry = if count == 1 {
            let start = vector[0].iov_base.cast_const().cast();
            opcode::Send::new(fd, start, vector[0].iov_len as u32).flags(flags).build()
        } else {
            opcode::SendMsg::new(fd, self.staging.message(vector, count)).flags(flags as u32).build()
        };
        self.push(entry.flags(completes).user_data(user_data));
        vector[..count].iter().map(|piece| piece.iov_len).sum()
    }

    /// Completes once when a socket can be read or written, as asked, or has failed.
    pub(crate) fn await_ready(&mut self, socket: &OwnedFd, readiness: Readiness, user_data: u64) {
        let events = match readiness {
            Readiness::Read => libc::POLLIN | libc::POLLRDHUP,
            Readiness::Write => libc::POLLOUT,
        };
        let poll = opcode::PollAdd::new(Fd(socket.as_raw_fd()), events as u32);
        self.push(poll.build().user_data(user_data));
    }

    /// Cancels every operation on a socket. Each of them still completes, with ECANCELED or its result.
    pub(crate) fn cancel_all(&mut self, socket: &OwnedFd, user_data: u64) {
        let which = CancelBuilder::fd(Fd(socket.as_raw_fd())).all();
        self.push(opcode::AsyncCancel2::new(which).build().user_data(user_data));
    }

    /// Cancels the operation with user data `target`.
    pub(crate) fn cancel(&mut self, target: u64, user_data: u64) {
        self.push(opcode::AsyncCancel::new(target).build().user_data(user_data));
    }

    /// Closes a descriptor.
    pub(crate) fn close(&mut self, fd: OwnedFd, user_data: u64) {
        let close = opcode::Close::new(Fd(fd.into_raw_fd()));
        self.push(close.build().flags(squeue::Flags::SKIP_SUCCESS).user_data(user_data));
    }

    /// Completes when the doorbell is rung.
    pub(crate) fn await_doorbell(&mut self, doorbell: &Doorbell, user_data: u64) {
        let target = (&raw mut *self.doorbell_count).cast();
        let read = opcode::Read::new(Fd(doorbell.as_raw_fd()), target, size_of::<u64>() as u32);
        self.push(read.build().user_data(user_data));
    }

    /// Completes once after a time. An alarm that is set already is moved there. For waits that are long and many this is
    /// cheaper than a timeout of [`Ring::enter`], which costs a kernel timer each time.
    pub(crate) fn set_alarm(&mut self, after: Duration, is_set: bool, user_data: u64, nobody: u64) {
        *self.alarm = Timespec::from(after);
        let alarm = &raw const *self.alarm;
        self.push(match is_set {
            // That it was moved is no news.
            true => opcode::TimeoutUpdate::new(user_data, alarm)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(nobody),
            false => opcode::Timeout::new(alarm).build().user_data(user_data),
        });
    }

    /// Submits what was queued, without waiting.
    pub(crate) fn submit(&mut self) -> io::Result<()> {
        let entered = self.ring.submit();
        self.after_submit();
        accept_passing(entered)
    }

    /// Submits what was queued and waits for a completion, at most for `timeout`; `None` waits without end. Kernels before
    /// 6.12 don't gather.
    pub(crate) fn enter(&mut self, timeout: Option<Duration>, gather: Option<Gather>) -> io::Result<()> {
        let entered = match timeout {
            Some(timeout) if timeout.is_zero() => self.enter_without_waiting(),
            _ => self.enter_and_wait(timeout, gather),
        };
        self.after_submit();
        accept_passing(entered)
    }

    fn enter_and_wait(&self, timeout: Option<Duration>, gather: Option<Gather>) -> io::Result<usize> {
        let timespec = timeout.map(Timespec::from);
        let mut args = SubmitArgs::new();
        if let Some(timespec) = &timespec {
            args = args.timespec(timespec);
        }
        let mut wanted = 1;
        if let Some(Gather { completions, micros }) = gather
            && self.ring.params().is_feature_min_timeout()
        {
            wanted = completions;
            args = args.min_wait_usec(micros);
        }
        self.ring.submitter().submit_with_args(wanted, &args)
    }

    /// Unlike `submit`, has the kernel complete what it can (DEFER_TASKRUN leaves that to calls that ask for events).
    fn enter_without_waiting(&mut self) -> io::Result<usize> {
        const GET_EVENTS: u32 = 1;
        let queued = self.ring.submission().len() as u32;
        // SAFETY: no argument is passed that the kernel could read; what the submissions point at is as in `push`.
        unsafe { self.ring.submitter().enter::<libc::sigset_t>(queued, 0, GET_EVENTS, None) }
    }

    /// Moves all completions to the end of `into`.
    pub(crate) fn reap(&mut self, into: &mut Vec<Completion>) {
        into.append(&mut self.early);
        into.extend(completions(&mut self.ring));
    }

    /// True if the kernel has taken every submission, and every completion that it had for them has been reaped. Then the
    /// sends at once that were not completed have sent everything.
    pub(crate) fn is_settled(&mut self) -> bool {
        let submission = self.ring.submission();
        submission.is_empty() && !submission.cq_overflow()
    }

    /// Completions that fell to the kernel's slow list so far.
    pub(crate) fn overflows(&mut self) -> u32 {
        self.ring.completion().overflow()
    }

    /// Relay buffers that the kernel has filled and that are not given back.
    pub(crate) fn buffers_in_use(&self) -> usize {
        self.buffers.in_use()
    }

    /// Bytes mapped for relay buffers.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffers.bytes() + self.own_buffers.bytes()
    }

    fn push(&mut self, entry: squeue::Entry) {
        self.reserve();
        // SAFETY: what the entry points at stays valid until the kernel is done with it: addresses, vectors and messages
        // are in `staging`, which is cleared only after the kernel took the submission; relay buffers, the alarm and
        // the doorbell's count live until the ring is closed. Descriptors may be stale at worst, which the kernel answers with EBADF.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        debug_assert!(pushed.is_ok(), "a place was reserved");
    }

    /// Makes sure that one more entry and what it points at find a place.
    fn reserve(&mut self) {
        while self.ring.submission().is_full() || self.staging.is_full() {
            // Fails only for reasons that pass: memory, or completions that have to be reaped first.
            if self.ring.submit().is_err() {
                self.early.extend(completions(&mut self.ring));
            }
            self.after_submit();
        }
    }

    fn after_submit(&mut self) {
        // Entries that the kernel did not take yet still point into the staging.
        if self.ring.submission().is_empty() {
            self.staging.addresses.clear();
            self.staging.vectors.clear();
            self.staging.messages.clear();
        }
    }
}

/// Not errors: a timeout, a signal, or completions that must be reaped before the kernel takes more.
fn accept_passing(entered: io::Result<usize>) -> io::Result<()> {
    match entered {
        Err(error) => match error.raw_os_error() {
            Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
            _ => Err(error),
        },
        Ok(_) => Ok(()),
    }
}

fn completions(ring: &mut IoUring) -> impl Iterator<Item = Completion> {
    ring.completion().map(|entry| Completion {
        user_data: entry.user_data(),
        result: entry.result(),
        flags: entry.flags(),
    })
}

impl Staging {
    fn is_full(&self) -> bool {
        let is_full = |length: usize| length >= SUBMISSIONS as usize;
        is_full(self.addresses.len()) || is_full(self.vectors.len()) || is_full(self.messages.len())
    }

    fn message(&mut self, vector: [libc::iovec; PIECES_MAX], count: usize) -> *const libc::msghdr {
        debug_assert!(self.vectors.len() < self.vectors.capacity(), "at most one per submission");
        self.vectors.push(vector);
        // SAFETY: a `msghdr` is plain data; all zeroes means no address, no control data, no vector.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        if let Some(staged) = self.vectors.last_mut() {
            message.msg_iov = staged.as_mut_ptr();
            message.msg_iovlen = count;
        }
        self.messages.push(message);
        &raw const self.messages[self.messages.len() - 1]
    }
}

fn build() -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(COMPLETIONS)
        .dontfork();
    // NO_SQARRAY (kernel 6.6) saves an indirection; older kernels refuse it.
    builder.setup_no_sqarray();
    builder.build(SUBMISSIONS).or_else(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => {
            let mut builder = IoUring::builder();
            builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all().setup_clamp();
            builder.setup_cqsize(COMPLETIONS).dontfork().build(SUBMISSIONS)
        }
        _ => Err(error),
    })
}

/// Sets up the simplest ring: whether any is allowed.
pub(crate) fn try_plain() -> io::Result<()> {
    IoUring::new(1).map(drop)
}

/// Why a feature can't be used.
#[derive(Debug)]
pub(crate) enum Missing {
    /// The kernel refuses it.
    Failed(io::Error),
    /// The kernel lacks some of what it consists of.
    Parts(Vec<&'static str>),
}

/// Tries each feature that a shard uses: its name, the kernel that has it first, and what is missing of it. After one that a
/// ring can't do without no further one is tried.
pub(crate) fn features() -> Vec<(&'static str, &'static str, Option<Missing>)> {
    let (name, since) = ("io_uring: completions when asked for, for one thread", "6.1");
    let ring = match build() {
        Ok(ring) => ring,
        Err(error) => return vec![(name, since, Some(Missing::Failed(error)))],
    };
    let parameters = ring.params();
    let parts = [
        ("IORING_FEAT_SUBMIT_STABLE", parameters.is_feature_submit_stable()),
        ("IORING_FEAT_EXT_ARG", parameters.is_feature_ext_arg()),
    ];
    let buffers = Buffers::new(&ring.submitter(), 0).err().map(Missing::Failed);
    vec![
        (name, since, None),
        ("io_uring: timeouts of waits, stable submissions", "5.11", missing_parts(&parts)),
        ("io_uring: provided buffer rings", "5.19", buffers),
        ("io_uring: operations", "5.5", missing_operations(&ring)),
    ]
}

fn missing_operations(ring: &IoUring) -> Option<Missing> {
    let mut probe = Probe::new();
    if let Err(error) = ring.submitter().register_probe(&mut probe) {
        return Some(Missing::Failed(error));
    }
    let operations = [
        ("IORING_OP_ACCEPT", opcode::Accept::CODE),
        ("IORING_OP_CONNECT", opcode::Connect::CODE),
        ("IORING_OP_RECV", opcode::Recv::CODE),
        ("IORING_OP_SEND", opcode::Send::CODE),
        ("IORING_OP_SENDMSG", opcode::SendMsg::CODE),
        ("IORING_OP_POLL_ADD", opcode::PollAdd::CODE),
        ("IORING_OP_ASYNC_CANCEL", opcode::AsyncCancel::CODE),
        ("IORING_OP_CLOSE", opcode::Close::CODE),
        ("IORING_OP_READ", opcode::Read::CODE),
        ("IORING_OP_TIMEOUT", opcode::Timeout::CODE),
    ];
    missing_parts(&operations.map(|(name, code)| (name, probe.is_supported(code))))
}

fn missing_parts(parts: &[(&'static str, bool)]) -> Option<Missing> {
    let missing: Vec<_> = parts.iter().filter(|(_, is_there)| !is_there).map(|(name, _)| *name).collect();
    (!missing.is_empty()).then_some(Missing::Parts(missing))
}
