//! One direction of a connection, from its source to its sink. Pure: no socket, no clock. It takes what the kernel
//! completed and says what to do next.

use std::collections::VecDeque;

use crate::sys::ring::{PIECES_MAX, Piece};

/// Receiving pauses when this many buffers wait to be sent. The kernel may deliver 33 more before it stops, together 49
/// buffers or 196 KiB, below the 256 KiB that a slow reader may hold.
const PAUSE_AT: usize = 16;
/// Receiving resumes when no more than this many wait.
const RESUME_AT: usize = 4;
/// A queue that has grown beyond this for a burst is given back when it is empty again.
const KEPT_CAPACITY: usize = 8;

/// What a direction wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Receive from the source until told to stop.
    Receive,
    /// Stop that.
    StopReceiving,
    /// Send [`Half::pieces`] to the sink.
    Send,
    /// The source has ended and everything is sent: end the sink's side too.
    CloseWrite,
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
    receive: Receive,
    /// True until buffers come back after there was none.
    is_starved: bool,
    /// Pieces at the front of the queue that the kernel is sending; 0 exactly while it has no send.
    sending: usize,
    source: End,
    sink: End,
}

impl Half {
    pub(crate) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            receive: Receive::Idle,
            is_starved: false,
            sending: 0,
            source: End::Open,
            sink: End::Open,
        }
    }

    /// What to do next. Each step is given once; that it was done is assumed until a completion says otherwise.
    pub(crate) fn next_step(&mut self) -> Option<Step> {
        if self.sink == End::Open {
            if self.sending == 0 && !self.queue.is_empty() {
                self.sending = self.queue.len().min(PIECES_MAX);
                return Some(Step::Send);
            }
            if self.source == End::Ended && self.queue.is_empty() {
                self.sink = End::Ended;
                return Some(Step::CloseWrite);
            }
        }
        match self.receive {
            Receive::Idle if self.may_receive() => {
                self.receive = Receive::Armed;
                Some(Step::Receive)
            }
            Receive::Armed if self.queue.len() >= PAUSE_AT || self.sink == End::Broken => {
                self.receive = Receive::Stopping;
                Some(Step::StopReceiving)
            }
            _ => None,
        }
    }

    fn may_receive(&self) -> bool {
        let is_open = self.source == End::Open && self.sink == End::Open;
        is_open && self.queue.len() <= RESUME_AT && !self.is_starved
    }

    /// The source has sent this. Gives it back if there is nobody to send it to.
    pub(crate) fn on_received(&mut self, piece: Piece) -> Option<Piece> {
        if self.sink == End::Broken {
            return Some(piece);
        }
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

    /// Buffers came back.
    pub(crate) fn on_buffers(&mut self) {
        self.is_starved = false;
    }

    /// The first `sent` bytes have gone out; what is sent whole is given to `give_back`.
    pub(crate) fn on_sent(&mut self, mut sent: usize, mut give_back: impl FnMut(Piece)) {
        self.sending = 0;
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
        } else if self.queue.is_empty() && self.queue.capacity() > KEPT_CAPACITY {
            self.queue = VecDeque::new();
        }
    }

    /// Nothing more comes from the source. What has come is still delivered.
    pub(crate) fn break_source(&mut self) {
        self.source = End::Broken;
    }

    pub(crate) fn is_source_open(&self) -> bool {
        self.source == End::Open
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
            self.queue.drain(..).for_each(&mut give_back);
        }
    }

    /// Whether there is something to do as soon as the send that is in the kernel has sent everything: then the shard must not
    /// wait for other news first. Otherwise the next news is the source's.
    pub(crate) fn is_waiting_for_send(&self) -> bool {
        let is_at_rest = self.source == End::Open && self.sink == End::Open && self.receive == Receive::Armed;
        self.sending > 0 && !(is_at_rest && self.queue.len() == self.sending)
    }

    /// What is to be sent, in order.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece> {
        self.queue.iter().copied().take(self.sending)
    }

    /// True if the source ended in order, everything was delivered and the end was passed on.
    pub(crate) fn is_complete(&self) -> bool {
        self.source == End::Ended && self.sink == End::Ended
    }

    /// True if everything is delivered and only the end remains to be passed on.
    pub(crate) fn is_about_to_end(&self) -> bool {
        self.source == End::Ended && self.sink == End::Open && self.queue.is_empty()
    }

    /// True if the source broke and all that can be delivered has been.
    pub(crate) fn is_broken_off(&self) -> bool {
        self.source == End::Broken && (self.queue.is_empty() || self.sink == End::Broken)
    }

    /// Operations of this direction that the kernel has.
    pub(crate) fn in_kernel(&self) -> usize {
        usize::from(self.receive != Receive::Idle) + usize::from(self.sending > 0)
    }
}
