//! One direction of a connection, from its source to its sink. Pure: no socket, no clock. It takes what the kernel
//! completed and says what to do next.

use std::collections::VecDeque;

use super::gauge::{Gauge, Way};
use crate::sys::buffers::BufferSize;
use crate::sys::ring::{PIECES_MAX, Piece};

/// Receiving pauses when this many buffers wait to be sent. The kernel may deliver 33 more before it stops, together 49
/// buffers or 196 KiB, below the 256 KiB of user memory that a slow reader may hold.
const PAUSE_AT: usize = 16;
/// Or this many bytes: records of TLS are larger than small buffers.
const PAUSE_AT_BYTES: u32 = 64 << 10;
/// Receiving resumes when no more than this many wait: with one large buffer more 240 KiB.
const RESUME_AT: usize = 4;
/// A queue that has grown beyond this for a burst is given back when it is empty again.
const KEPT_CAPACITY: usize = 8;

/// What a direction wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Receive from the source: into small buffers until told to stop, or into a single large one.
    Receive(BufferSize),
    /// Stop that.
    StopReceiving,
    /// Send [`Half::pieces`] to the sink.
    Send,
    /// Splice from the source into a pipe, and say at once what came of it: [`Half::on_filled`].
    Fill,
    /// Splice from the pipe to the sink, and say at once what came of it: [`Half::on_drained`].
    Drain,
    /// Tell when the source can be read.
    AwaitSource,
    /// Tell when the sink can be written.
    AwaitSink,
    /// The source has ended and everything is sent: end the sink's side too.
    CloseWrite,
}

/// What came of splicing from the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    /// So many bytes are in the pipe.
    Bytes(usize),
    /// The source has nothing at the moment.
    Nothing,
    /// The source has ended, or is at an urgent byte, behind which there may be more: splice(2) says the same of both. A
    /// receive finds out which.
    Over,
    /// There is no pipe.
    NoPipe,
}

/// How receiving came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReceiveEnd {
    /// The source has sent all it had to send (FIN).
    SourceEnded,
    /// It was stopped, or the kernel wants it armed anew.
    Stopped,
    /// There is no buffer to receive into.
    Starved,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receive {
    Idle,
    /// Exactly while the kernel has a receive that was not asked to stop.
    Armed,
    /// Exactly while the kernel has a receive that was asked to stop.
    Stopping,
    /// Exactly while the kernel is to tell when the source can be read.
    Awaiting,
}

/// Whether the sink takes spliced bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// As far as is known.
    Some,
    /// Not at the moment.
    None,
    /// Exactly while the kernel is to tell when there is some.
    Awaited,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// Of a source: its FIN has come. Of a sink: ours has gone.
    Ended,
    /// The peer is gone (reset): nothing more comes from it or can go to it.
    Broken,
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Half {
    /// Received and not sent yet. While a send is in the kernel its pieces are at the front.
    queue: VecDeque<Piece>,
    /// Bytes in the queue.
    queued: u32,
    receive: Receive,
    /// True until buffers come back after there was none.
    is_starved: bool,
    /// True while what has come already can't be passed on, and is kept elsewhere.
    is_held: bool,
    /// Pieces at the front of the queue that the kernel is sending; 0 exactly while it has no send.
    sending: u8,
    /// Bytes spliced from the source and not to the sink yet. They come before the queue.
    in_pipe: u32,
    /// True from when the source can be read until it was: one pipe's worth, then it is the turn of others.
    is_source_ready: bool,
    room: Room,
    gauge: Gauge,
    source: End,
    /// Whether the source has said that it ends: what it has sent is whole, whatever becomes of its side of the connection.
    has_said_end: bool,
    sink: End,
}

impl Half {
    pub(crate) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            queued: 0,
            receive: Receive::Idle,
            is_starved: false,
            is_held: false,
            sending: 0,
            in_pipe: 0,
            is_source_ready: true,
            room: Room::Some,
            gauge: Gauge::new(),
            source: End::Open,
            has_said_end: false,
            sink: End::Open,
        }
    }

    /// What to do next. Each step is given once; that it was done is assumed until a completion says otherwise.
    pub(crate) fn next_step(&mut self) -> Option<Step> {
        self.next_delivery().or_else(|| self.next_receipt())
    }

    /// What to do next for the sink.
    pub(crate) fn next_delivery(&mut self) -> Option<Step> {
        if let Some(step) = self.next_bytes() {
            return Some(step);
        }
        if self.sink == End::Open && self.source == End::Ended && self.is_empty() {
            self.sink = End::Ended;
            return Some(Step::CloseWrite);
        }
        None
    }

    /// What to do next to bring the sink the bytes that wait for it.
    pub(crate) fn next_bytes(&mut self) -> Option<Step> {
        if self.in_pipe > 0 && self.sink == End::Open {
            return match self.room {
                Room::Some => Some(Step::Drain),
                Room::None => {
                    self.room = Room::Awaited;
                    Some(Step::AwaitSink)
                }
                Room::Awaited => None,
            };
        }
        self.next_send()
    }

    /// What to do next where the sink takes bytes that are not the source's yet: those of a handshake.
    pub(crate) fn next_send(&mut self) -> Option<Step> {
        if self.sending > 0 || self.queue.is_empty() || self.sink != End::Open {
            return None;
        }
        self.sending = self.queue.len().min(PIECES_MAX) as u8;
        Some(Step::Send)
    }

    /// What to do next while there is no sink yet.
    pub(crate) fn next_receipt(&mut self) -> Option<Step> {
        match self.receive {
            Receive::Idle if self.may_receive() => Some(self.begin_receipt()),
            Receive::Armed if self.must_stop_receiving() => {
                self.receive = Receive::Stopping;
                Some(Step::StopReceiving)
            }
            _ => None,
        }
    }

    fn begin_receipt(&mut self) -> Step {
        let size = match self.gauge.way() {
            Way::Copy => BufferSize::Small,
            Way::CopyLarge => BufferSize::Large,
            Way::Splice if self.is_source_ready => {
                self.is_source_ready = false;
                return Step::Fill;
            }
            Way::Splice => {
                self.receive = Receive::Awaiting;
                return Step::AwaitSource;
            }
        };
        self.receive = Receive::Armed;
        Step::Receive(size)
    }

    fn may_receive(&self) -> bool {
        let is_open = self.source == End::Open && self.sink == End::Open;
        // What was copied goes out before anything is spliced, and what was spliced before anything is copied.
        let resume_at = if self.gauge.way() == Way::Splice { 0 } else { RESUME_AT };
        is_open && self.queue.len() <= resume_at && self.in_pipe == 0 && !self.is_starved && !self.is_held
    }

    fn must_stop_receiving(&self) -> bool {
        self.queue.len() >= PAUSE_AT
            || self.queued >= PAUSE_AT_BYTES
            || self.sink == End::Broken
            || self.is_held
            || self.gauge.way() == Way::Splice
    }

    /// The source has sent this. Gives it back if there is nobody to send it to, or the source had said that it was done.
    pub(crate) fn on_received(&mut self, piece: Piece) -> Option<Piece> {
        if self.source != End::Open { Some(piece) } else { self.put(piece) }
    }

    /// Has this sent to the sink, after what waits already. Gives it back if the sink is gone.
    pub(crate) fn put(&mut self, piece: Piece) -> Option<Piece> {
        if self.sink != End::Open {
            return Some(piece);
        }
        let bytes = piece.end - piece.start;
        self.gauge.on_moved(bytes.into());
        self.queued += u32::from(bytes);
        self.queue.push_back(piece);
        None
    }

    /// The kernel has no receive of this direction any more.
    pub(crate) fn on_receive_ended(&mut self, how: ReceiveEnd) {
        self.receive = Receive::Idle;
        match how {
            ReceiveEnd::SourceEnded if self.source == End::Open => self.source = End::Ended,
            ReceiveEnd::Starved => self.is_starved = true,
            ReceiveEnd::SourceEnded | ReceiveEnd::Stopped => {}
        }
    }

    /// What [`Step::Fill`] came to.
    pub(crate) fn on_filled(&mut self, filled: Filled) {
        match filled {
            Filled::Bytes(bytes) => {
                self.in_pipe = bytes as u32;
                self.gauge.on_moved(bytes);
                self.gauge.on_rest();
            }
            Filled::Nothing => self.gauge.on_rest(),
            Filled::Over => self.gauge.on_over(),
            Filled::NoPipe => self.gauge.on_no_pipe(),
        }
    }

    /// What [`Step::Drain`] came to: so many bytes have gone out; `None` if the sink takes none at the moment.
    pub(crate) fn on_drained(&mut self, bytes: Option<usize>) {
        match bytes {
            Some(bytes) => self.in_pipe = self.in_pipe.saturating_sub(bytes as u32),
            None => self.room = Room::None,
        }
    }

    /// The source can be read, or its end or failure can be found out.
    pub(crate) fn on_source_ready(&mut self) {
        self.receive = Receive::Idle;
        self.is_source_ready = true;
    }

    /// The sink can be written, or its failure can be found out.
    pub(crate) fn on_sink_ready(&mut self) {
        self.room = Room::Some;
    }

    /// True if bytes wait to be sent.
    pub(crate) fn has_bytes(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Bytes that were spliced from the source and not to the sink yet.
    pub(crate) fn in_pipe(&self) -> usize {
        self.in_pipe as usize
    }

    /// The bytes of this direction are changed on the way: they may not be spliced.
    pub(crate) fn forbid_splicing(&mut self) {
        self.gauge.forbid_splicing();
    }

    /// Whether the bytes that come next may be spliced. What went before is forgotten if that changes: it was another message.
    pub(crate) fn set_splicing(&mut self, may_splice: bool) {
        self.gauge.set_splicing(may_splice);
    }

    /// The source's connection serves another sink from here on, with the receive that it has in the kernel, if any.
    pub(crate) fn hand_over_receive(&mut self) -> bool {
        std::mem::replace(&mut self.receive, Receive::Idle) != Receive::Idle
    }

    /// The source has come with a receive in the kernel.
    pub(crate) fn take_over_receive(&mut self) {
        self.receive = Receive::Armed;
    }

    /// Whether the kernel is to tell when the source can be read.
    pub(crate) fn is_awaiting(&self) -> bool {
        self.receive == Receive::Awaiting
    }

    /// Whether the kernel is to tell when the sink takes more.
    pub(crate) fn is_awaiting_room(&self) -> bool {
        self.room == Room::Awaited
    }

    /// Whether more waits for the sink than what the kernel is sending.
    pub(crate) fn has_more_than_is_sent(&self) -> bool {
        self.queue.len() > usize::from(self.sending)
    }

    /// Whether something is left to be sent to a sink that takes it.
    pub(crate) fn is_delivering(&self) -> bool {
        self.sink == End::Open && !self.is_empty()
    }

    /// Whether to receive no more for the time being.
    pub(crate) fn hold(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    /// The source has said that nothing more comes from it, while its side of the connection is still open.
    pub(crate) fn end_source(&mut self) {
        if self.source == End::Open {
            (self.source, self.has_said_end) = (End::Ended, true);
        }
    }

    /// Takes out what waits for the sink. Only while nothing is being sent to it.
    pub(crate) fn take_waiting(&mut self) -> VecDeque<Piece> {
        debug_assert_eq!(self.sending, 0, "the kernel reads from the queue");
        self.queued = 0;
        std::mem::take(&mut self.queue)
    }

    /// The sink is another one from here on. Only while nothing is being sent to it; what is in a pipe is lost.
    pub(crate) fn renew_sink(&mut self, give_back: impl FnMut(Piece)) {
        self.discard(give_back);
        (self.sink, self.room, self.in_pipe) = (End::Open, Room::Some, 0);
    }

    /// The source is another one from here on. Only while nothing is received from it.
    pub(crate) fn renew_source(&mut self) {
        debug_assert_eq!(self.receive, Receive::Idle, "the kernel receives from the source");
        (self.source, self.has_said_end, self.is_source_ready) = (End::Open, false, true);
    }

    /// Buffers came back.
    pub(crate) fn on_buffers(&mut self) {
        self.is_starved = false;
    }

    /// The first `sent` bytes have gone out; what is sent whole is given to `give_back`.
    pub(crate) fn on_sent(&mut self, mut sent: usize, mut give_back: impl FnMut(Piece)) {
        self.sending = 0;
        self.queued = self.queued.saturating_sub(sent as u32);
        while let Some(piece) = self.queue.front_mut() {
            let length = usize::from(piece.end - piece.start);
            if sent < length {
                piece.start += sent as u16;
                break;
            }
            sent -= length;
            give_back(*piece);
            self.queue.pop_front();
        }
        if self.sink == End::Broken {
            self.discard(give_back);
        } else if self.queue.is_empty() {
            self.gauge.on_rest();
            if self.queue.capacity() > KEPT_CAPACITY {
                self.queue = VecDeque::new();
            }
        }
    }

    /// Nothing more comes from the source. What has come is still delivered; if the source has said before that this was all,
    /// nothing has happened to this direction.
    pub(crate) fn break_source(&mut self) {
        if !self.has_said_end {
            self.source = End::Broken;
        }
    }

    pub(crate) fn is_source_open(&self) -> bool {
        self.source == End::Open
    }

    /// True if the source has sent all it had to send.
    pub(crate) fn is_source_ended(&self) -> bool {
        self.source == End::Ended
    }

    pub(crate) fn is_source_broken(&self) -> bool {
        self.source == End::Broken
    }

    pub(crate) fn is_sink_broken(&self) -> bool {
        self.sink == End::Broken
    }

    /// Nothing more can go to the sink. What waits is given back, now or when the kernel has let go of it.
    pub(crate) fn break_sink(&mut self, give_back: impl FnMut(Piece)) {
        self.sink = End::Broken;
        self.discard(give_back);
    }

    /// Empties the queue unless the kernel still reads from it.
    pub(crate) fn discard(&mut self, mut give_back: impl FnMut(Piece)) {
        if self.sending == 0 {
            self.queued = 0;
            self.queue.drain(..).for_each(&mut give_back);
        }
    }

    /// Whether there is something to do as soon as the send that is in the kernel has sent everything: then the shard must not
    /// wait for other news first. Otherwise the next news is the source's.
    pub(crate) fn is_waiting_for_send(&self) -> bool {
        let is_at_rest = self.source == End::Open && self.sink == End::Open && self.receive == Receive::Armed;
        self.sending > 0 && !(is_at_rest && self.queue.len() == usize::from(self.sending))
    }

    /// What is to be sent, in order.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece> {
        self.queue.iter().copied().take(self.sending.into())
    }

    /// True if the source ended in order, everything was delivered and the end was passed on.
    pub(crate) fn is_complete(&self) -> bool {
        self.source == End::Ended && self.sink == End::Ended
    }

    /// True if everything is delivered and only the end remains to be passed on.
    pub(crate) fn is_about_to_end(&self) -> bool {
        self.source == End::Ended && self.sink == End::Open && self.is_empty()
    }

    /// True if the source broke and all that can be delivered has been.
    pub(crate) fn is_broken_off(&self) -> bool {
        self.source == End::Broken && (self.is_empty() || self.sink == End::Broken)
    }

    fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.in_pipe == 0
    }

    /// Whether the kernel has an operation on the source.
    pub(crate) fn is_receiving(&self) -> bool {
        self.receive != Receive::Idle
    }

    /// Whether the kernel has a send to the sink.
    pub(crate) fn is_sending(&self) -> bool {
        self.sending > 0
    }

    /// Operations of this direction that the kernel has.
    pub(crate) fn in_kernel(&self) -> usize {
        let operations = [self.receive != Receive::Idle, self.sending > 0, self.room == Room::Awaited];
        operations.into_iter().filter(|is_in_kernel| *is_in_kernel).count()
    }
}
