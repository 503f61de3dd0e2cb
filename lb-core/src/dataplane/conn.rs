//! The life of a connection as a state machine. Pure: no socket, no clock, no table. The shard tells it what completed
//! and asks for the next [`Action`] until there is none.

use super::relay::{Filled, ReceiveEnd, Relay, Side, Step};
use crate::sys::buffers::BufferSize;
use crate::sys::ring::Piece;

/// What a connection wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Choose a server that was not tried yet and connect to it.
    Connect,
    /// Cancel the connect that is under way: it took too long.
    StopConnecting,
    /// Receive from a peer: into small buffers until told to stop, or into a single large one.
    Receive(Side, BufferSize),
    /// Stop receiving from a peer.
    StopReceiving(Side),
    /// Send to a peer what waits for it.
    Send(Side),
    /// Splice what a peer has sent into a pipe, and say at once what came of it.
    Fill(Side),
    /// Splice what is in the pipe to a peer, and say at once what came of it.
    Drain(Side),
    /// Tell when a peer has sent something.
    AwaitReadable(Side),
    /// Tell when a peer takes more.
    AwaitWritable(Side),
    /// End our side towards a peer.
    CloseWrite(Side),
    /// Cancel the operations on the server's socket.
    CancelServer,
    /// Nothing of the server is in the kernel any more: give it up. Another one is chosen next.
    LeaveServer,
    /// Cancel every operation: the connection is over as soon as the kernel has let go of it.
    CancelAll,
    /// Nothing is in the kernel any more: close the sockets, with a reset or in order, and free the slot.
    Finish(Ending),
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By FIN.
    Close,
    /// By RST.
    Reset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// What the client says first is heard and answered: where it comes from, whom it wants, its TLS handshake.
    Greeting,
    /// A server is to be chosen.
    Choosing,
    /// No descriptor was to be had for the server's socket: waits to choose again.
    Waiting,
    /// No server was to be had: waits to choose again.
    WaitingForServer,
    /// A connect is in the kernel.
    Connecting,
    /// A connect that took too long is in the kernel and was asked to stop.
    ConnectStopping,
    /// The server has accepted, and a TLS handshake with it is under way. It gets nothing of the client's yet.
    Meeting,
    /// The server has failed: the last words to it are sent, and operations on its socket awaited.
    Leaving { is_cancelled: bool, then: Then },
    /// Bytes go both ways.
    Relaying,
    /// Nothing more is done for the client: it gets what waits for it, our end, and time to hear that.
    Parting,
    /// Over; operations may still be in the kernel.
    Closing { ending: Ending, is_cancelled: bool, is_connecting: bool },
    /// The slot is free.
    Finished,
}

/// What comes after a server was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Another one.
    Choose,
    /// The client's end.
    Part,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Conn {
    phase: Phase,
    relay: Relay,
}

/// How long a connection may stay as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As long as the client may take to say what is to be known before a server is chosen.
    Greeting,
    /// As long as one server may take to accept, its handshake included.
    Connect,
    /// As long as the client may wait for a server.
    Server,
    /// As long as no byte may be moved.
    Idle,
    /// As long as a server may take to begin its answer to a request.
    Answer,
    /// As long as nothing may move of what a peer that is gone has left for the other one, which may wait for that peer itself.
    Remains,
    /// As long as a client that is refused may take to hear why, and then to stop sending.
    Parting,
    /// As long as the kernel may take to cancel.
    Cancel,
}

impl Conn {
    /// A connection that was just accepted. With `greets` the client is heard before a server is chosen.
    pub(crate) fn new(greets: bool) -> Self {
        let phase = if greets { Phase::Greeting } else { Phase::Choosing };
        Self { phase, relay: Relay::new() }
    }

    /// What to do next. Each action is given once; that it was done is assumed until an `on_` call says otherwise.
    pub(crate) fn next_action(&mut self) -> Option<Action> {
        match self.phase {
            Phase::Choosing => self.next_early_action().or_else(|| {
                self.phase = Phase::Connecting;
                Some(Action::Connect)
            }),
            Phase::Greeting | Phase::Waiting | Phase::WaitingForServer | Phase::Connecting | Phase::ConnectStopping => {
                self.next_early_action()
            }
            Phase::Meeting => self.next_early_action().or_else(|| self.next_action_of_server()),
            Phase::Leaving { is_cancelled, then } => {
                self.next_early_action().or_else(|| self.next_leaving_action(is_cancelled, then))
            }
            Phase::Relaying => self.next_relay_action(),
            Phase::Parting => self.next_parting_action(),
            Phase::Closing { ending, is_cancelled, is_connecting } => {
                if self.in_kernel() == 0 {
                    self.phase = Phase::Finished;
                    return Some(Action::Finish(ending));
                }
                self.phase = Phase::Closing { ending, is_cancelled: true, is_connecting };
                (!is_cancelled).then_some(Action::CancelAll)
            }
            Phase::Finished => None,
        }
    }

    /// Without a server yet. The client is received from already: what it has sent can go out as soon as there is a server,
    /// and if it has reset the connection before it sent anything, no server is troubled.
    fn next_early_action(&mut self) -> Option<Action> {
        if self.relay.is_broken_off() {
            self.begin_close(Ending::Reset);
            return self.next_action();
        }
        if let Some(step) = self.relay.from(Side::Client).next_receipt() {
            return Some(of_step(step, Side::Client));
        }
        let bytes = self.relay.to(Side::Client).next_bytes()?;
        Some(of_step(bytes, Side::Server))
    }

    /// The server's part of a handshake.
    fn next_action_of_server(&mut self) -> Option<Action> {
        if let Some(step) = self.relay.from(Side::Server).next_receipt() {
            return Some(of_step(step, Side::Server));
        }
        let step = self.relay.to(Side::Server).next_send()?;
        Some(of_step(step, Side::Client))
    }

    fn next_leaving_action(&mut self, is_cancelled: bool, then: Then) -> Option<Action> {
        if !is_cancelled && let Some(step) = self.relay.to(Side::Server).next_send() {
            return Some(of_step(step, Side::Client));
        }
        let is_sending = self.relay.to(Side::Server).is_sending();
        let is_awaiting_room = self.relay.to(Side::Server).is_awaiting_room();
        let is_receiving = self.relay.from(Side::Server).is_receiving();
        match () {
            () if !is_sending && !is_awaiting_room && !is_receiving => {
                self.phase = match then {
                    Then::Choose => Phase::Choosing,
                    Then::Part => Phase::Parting,
                };
                Some(Action::LeaveServer)
            }
            // Only who failed its handshake gets last words.
            () if is_cancelled || is_sending && then == Then::Choose => None,
            () => {
                self.phase = Phase::Leaving { is_cancelled: true, then };
                Some(Action::CancelServer)
            }
        }
    }

    fn next_parting_action(&mut self) -> Option<Action> {
        let is_told = self.relay.to(Side::Client).is_complete() || self.relay.to(Side::Client).is_sink_broken();
        if is_told && !self.relay.from(Side::Client).is_source_open() {
            self.begin_close(Ending::Close);
            return self.next_action();
        }
        let step = self.relay.to(Side::Client).next_delivery().map(|step| of_step(step, Side::Server));
        step.or_else(|| self.relay.from(Side::Client).next_receipt().map(|step| of_step(step, Side::Client)))
    }

    fn next_relay_action(&mut self) -> Option<Action> {
        if self.relay.is_broken_off() {
            self.begin_close(Ending::Reset);
            return self.next_action();
        }
        if self.relay.is_complete() {
            self.begin_close(Ending::Close);
            return self.next_action();
        }
        let next = |source: Side, relay: &mut Relay| Some(of_step(relay.from(source).next_step()?, source));
        next(Side::Client, &mut self.relay).or_else(|| next(Side::Server, &mut self.relay))
    }

    /// The server has accepted the connection.
    pub(crate) fn on_connected(&mut self) {
        match self.phase {
            Phase::Connecting | Phase::ConnectStopping => self.phase = Phase::Relaying,
            _ => self.on_connect_ended(),
        }
    }

    /// The server has accepted the connection, and a handshake with it begins.
    pub(crate) fn on_connected_to_meet(&mut self) {
        match self.phase {
            Phase::Connecting | Phase::ConnectStopping => self.phase = Phase::Meeting,
            _ => self.on_connect_ended(),
        }
    }

    /// The handshake with the server is done.
    pub(crate) fn on_met(&mut self) {
        if self.phase == Phase::Meeting {
            self.phase = Phase::Relaying;
        }
    }

    /// The server has failed the handshake. The next one is tried.
    pub(crate) fn on_meeting_failed(&mut self) {
        if self.phase == Phase::Meeting {
            self.phase = Phase::Leaving { is_cancelled: false, then: Then::Choose };
        }
    }

    /// The server has not answered what was asked of it: the same is asked again, over another connection.
    pub(crate) fn leave_to_repeat(&mut self, give_back: impl FnMut(Piece)) {
        self.leave(Then::Choose, give_back);
    }

    fn leave(&mut self, then: Then, give_back: impl FnMut(Piece)) {
        self.relay.to(Side::Server).break_sink(give_back);
        self.relay.from(Side::Client).set_splicing(false);
        self.phase = Phase::Leaving { is_cancelled: false, then };
    }

    /// The server that was left is forgotten: both directions begin anew at its end.
    pub(crate) fn forget_server(&mut self, give_back: impl FnMut(Piece)) {
        self.relay.to(Side::Server).renew_sink(give_back);
        self.relay.from(Side::Server).renew_source();
        if self.phase == Phase::Parting {
            self.relay.to(Side::Client).end_source();
        }
    }

    /// The client has to be heard before the server that was chosen can be connected to.
    pub(crate) fn on_must_greet(&mut self) {
        self.phase = Phase::Greeting;
    }

    /// The client has said what is to be known.
    pub(crate) fn on_greeted(&mut self) {
        if self.phase == Phase::Greeting {
            self.phase = Phase::Choosing;
        }
    }

    /// Nothing more is done for the client: what waits for it is sent, then our end. A server that it has is left.
    pub(crate) fn part(&mut self, give_back: impl FnMut(Piece)) {
        self.relay.to(Side::Client).end_source();
        match self.phase {
            Phase::Greeting | Phase::Choosing | Phase::Waiting | Phase::WaitingForServer | Phase::Connecting => {
                self.phase = Phase::Parting;
            }
            Phase::Meeting | Phase::Relaying => self.leave(Then::Part, give_back),
            Phase::Leaving { is_cancelled, .. } => self.phase = Phase::Leaving { is_cancelled, then: Then::Part },
            Phase::ConnectStopping | Phase::Parting | Phase::Closing { .. } | Phase::Finished => {}
        }
    }

    /// The server's part is done, and nothing of it is in the kernel but a receive: the client is heard again. True if there
    /// is that receive, which is not this connection's any more.
    pub(crate) fn release_server(&mut self, give_back: impl FnMut(Piece)) -> bool {
        self.phase = Phase::Greeting;
        let is_receiving = self.relay.from(Side::Server).hand_over_receive();
        self.forget_server(give_back);
        is_receiving
    }

    /// Whether the server's part can be done: nothing of it is in the kernel but a receive, and nothing is left for it.
    pub(crate) fn is_server_quiet(&mut self) -> bool {
        let to_server = self.relay.to(Side::Server);
        let is_quiet = !to_server.is_sending() && !to_server.has_bytes() && to_server.in_pipe() == 0;
        self.phase == Phase::Relaying && is_quiet && !self.relay.from(Side::Server).is_awaiting()
    }

    /// A connection to the server is there already, from which is received if `is_receiving`.
    pub(crate) fn on_server_taken(&mut self, is_receiving: bool) {
        if is_receiving {
            self.relay.from(Side::Server).take_over_receive();
        }
        self.on_connected();
    }

    /// True while the client is heard.
    pub(crate) fn is_greeting(&self) -> bool {
        self.phase == Phase::Greeting
    }

    /// True while bytes go both ways.
    pub(crate) fn is_relaying(&self) -> bool {
        self.phase == Phase::Relaying
    }

    /// Whether something is left to be sent to a peer that takes it.
    pub(crate) fn is_delivering(&self, sink: Side) -> bool {
        self.relay.towards(sink).is_delivering()
    }

    /// Whether the server has certainly not heard all that it is to hear. `is_at_once`: the send to it, if there is one, may
    /// have sent all it should.
    pub(crate) fn is_unheard(&self, is_at_once: bool) -> bool {
        let to_server = self.relay.towards(Side::Server);
        to_server.has_more_than_is_sent() || to_server.in_pipe() > 0 || to_server.is_sending() && !is_at_once
    }

    /// Whether more waits for a peer than what the kernel is sending.
    pub(crate) fn has_more_than_is_sent(&self, sink: Side) -> bool {
        self.relay.towards(sink).has_more_than_is_sent()
    }

    /// True while the handshake with a server is under way.
    pub(crate) fn is_meeting(&self) -> bool {
        self.phase == Phase::Meeting
    }

    /// The server has refused, or did not accept in time. The next one is tried.
    pub(crate) fn on_connect_failed(&mut self) {
        match self.phase {
            Phase::Connecting | Phase::ConnectStopping => self.phase = Phase::Choosing,
            _ => self.on_connect_ended(),
        }
    }

    fn on_connect_ended(&mut self) {
        if let Phase::Closing { is_connecting, .. } = &mut self.phase {
            *is_connecting = false;
        }
    }

    /// True if the client has sent something for the server.
    pub(crate) fn has_early_bytes(&mut self) -> bool {
        self.relay.from(Side::Client).has_bytes()
    }

    /// There is no server left to try. Only where none is being connected to.
    pub(crate) fn on_no_server(&mut self) {
        self.phase = Phase::Closing { ending: Ending::Reset, is_cancelled: false, is_connecting: false };
    }

    /// There was no descriptor for the server's socket.
    pub(crate) fn on_no_descriptor(&mut self) {
        self.phase = Phase::Waiting;
    }

    /// There is no server yet: the client has to wait.
    pub(crate) fn on_no_server_yet(&mut self) {
        self.phase = Phase::WaitingForServer;
    }

    /// There may be a server now.
    pub(crate) fn on_turn(&mut self) {
        if self.waits_for_server() {
            self.phase = Phase::Choosing;
        }
    }

    /// True while the client waits for a server.
    pub(crate) fn waits_for_server(&self) -> bool {
        self.phase == Phase::WaitingForServer
    }

    /// There may be descriptors again.
    pub(crate) fn on_descriptors(&mut self) {
        if self.phase == Phase::Waiting {
            self.phase = Phase::Choosing;
        }
    }

    /// A peer has sent this. Gives it back if nobody wants it.
    pub(crate) fn on_received(&mut self, source: Side, piece: Piece) -> Option<Piece> {
        match self.phase {
            Phase::Parting | Phase::Closing { .. } | Phase::Finished => Some(piece),
            _ => self.relay.from(source).on_received(piece),
        }
    }

    /// Has this sent to a peer, after what waits for it already. Gives it back if it can't be.
    pub(crate) fn put(&mut self, sink: Side, piece: Piece) -> Option<Piece> {
        match self.phase {
            Phase::Closing { .. } | Phase::Finished => Some(piece),
            _ => self.relay.to(sink).put(piece),
        }
    }

    /// Whether what a peer sends is of use.
    pub(crate) fn wants(&mut self, source: Side) -> bool {
        let is_parting = matches!(self.phase, Phase::Parting | Phase::Leaving { then: Then::Part, .. });
        let is_over = is_parting || matches!(self.phase, Phase::Closing { .. } | Phase::Finished);
        !is_over && !self.is_left(source) && self.relay.from(source).is_source_open()
    }

    /// Whether a peer is a server that is being left.
    fn is_left(&self, peer: Side) -> bool {
        peer == Side::Server && matches!(self.phase, Phase::Leaving { .. })
    }

    /// A peer has said that nothing more comes from it.
    pub(crate) fn end_source(&mut self, source: Side) {
        self.relay.from(source).end_source();
    }

    /// Bytes are changed on their way: none may be spliced.
    pub(crate) fn forbid_splicing(&mut self) {
        self.relay.from(Side::Client).forbid_splicing();
        self.relay.from(Side::Server).forbid_splicing();
    }

    /// Whether bytes that come from a peer may be spliced.
    pub(crate) fn set_splicing(&mut self, source: Side, may_splice: bool) {
        self.relay.from(source).set_splicing(may_splice);
    }

    /// Whether to receive no more from the client for the time being.
    pub(crate) fn hold_client(&mut self, is_held: bool) {
        self.relay.from(Side::Client).hold(is_held);
    }

    /// Whether the client has ended its side.
    pub(crate) fn has_client_ended(&mut self) -> bool {
        self.relay.from(Side::Client).is_source_ended()
    }

    /// Takes out what the client has sent so far. Only while there is no server.
    pub(crate) fn take_early(&mut self) -> impl Iterator<Item = Piece> + use<> {
        self.relay.from(Side::Client).take_waiting().into_iter()
    }

    /// The kernel has no receive from this peer any more.
    pub(crate) fn on_receive_ended(&mut self, source: Side, how: ReceiveEnd) {
        self.relay.from(source).on_receive_ended(how);
        if how == ReceiveEnd::SourceEnded && source == Side::Server && self.is_meeting() {
            return self.on_meeting_failed();
        }
        // The error that a send has reported is not reported to the receive again: that looks like an orderly end. How a
        // server ends that is left does not matter.
        if how == ReceiveEnd::SourceEnded && self.relay.to(source).is_sink_broken() && !self.is_left(source) {
            self.relay.from(source).break_source();
        }
    }

    /// What [`Action::Fill`] came to.
    pub(crate) fn on_filled(&mut self, source: Side, filled: Filled) {
        self.relay.from(source).on_filled(filled);
    }

    /// What [`Action::Drain`] came to: so many bytes have gone to a peer; `None` if it takes none at the moment.
    pub(crate) fn on_drained(&mut self, sink: Side, bytes: Option<usize>) {
        self.relay.to(sink).on_drained(bytes);
    }

    /// A peer has sent something, or its end or failure.
    pub(crate) fn on_readable(&mut self, source: Side) {
        self.relay.from(source).on_source_ready();
    }

    /// A peer takes more, or has failed.
    pub(crate) fn on_writable(&mut self, sink: Side) {
        self.relay.to(sink).on_sink_ready();
    }

    /// Bytes for a peer that are in a pipe.
    pub(crate) fn in_pipe_for(&self, sink: Side) -> usize {
        self.relay.towards(sink).in_pipe()
    }

    /// There are buffers to receive into again.
    pub(crate) fn on_buffers(&mut self) {
        self.relay.from(Side::Client).on_buffers();
        self.relay.from(Side::Server).on_buffers();
    }

    /// This many bytes have gone to a peer.
    pub(crate) fn on_sent(&mut self, sink: Side, sent: usize, give_back: impl FnMut(Piece)) {
        self.relay.to(sink).on_sent(sent, give_back);
    }

    /// A peer takes no bytes any more: it is gone. What it had sent before still comes, and then the receive's end.
    pub(crate) fn on_send_failed(&mut self, sink: Side, give_back: impl FnMut(Piece)) {
        self.relay.to(sink).break_sink(give_back);
        if sink == Side::Server && self.has_no_server_yet() {
            return self.on_meeting_failed();
        }
        if !self.relay.from(sink).is_source_open() {
            self.relay.from(sink).break_source();
        }
    }

    /// Nothing more comes from a peer, and nothing can go to it.
    pub(crate) fn on_broken(&mut self, side: Side, give_back: impl FnMut(Piece)) {
        self.relay.to(side).break_sink(give_back);
        if side == Side::Server && self.has_no_server_yet() {
            return self.on_meeting_failed();
        }
        self.relay.from(side).break_source();
    }

    /// True while there is a server's socket and no server: its handshake is under way, or has failed.
    fn has_no_server_yet(&self) -> bool {
        matches!(self.phase, Phase::Meeting | Phase::Leaving { .. })
    }

    /// Patience has run out.
    pub(crate) fn on_timeout(&mut self) -> Option<Action> {
        match &mut self.phase {
            Phase::Connecting => {
                self.phase = Phase::ConnectStopping;
                Some(Action::StopConnecting)
            }
            Phase::Closing { is_cancelled, .. } => {
                *is_cancelled = false;
                None
            }
            Phase::Leaving { is_cancelled, .. } => {
                *is_cancelled = true;
                Some(Action::CancelServer)
            }
            Phase::Meeting => {
                self.on_meeting_failed();
                None
            }
            Phase::Greeting | Phase::Parting => {
                self.begin_close(Ending::Close);
                None
            }
            Phase::Choosing | Phase::Waiting | Phase::WaitingForServer | Phase::ConnectStopping => {
                self.begin_close(Ending::Reset);
                None
            }
            Phase::Relaying => {
                self.begin_close(if self.has_lost_peer() { Ending::Reset } else { Ending::Close });
                None
            }
            Phase::Finished => None,
        }
    }

    /// The server may not have this connection any more. It ends, or goes to another server if it is not there yet.
    pub(crate) fn leave_server(&mut self) -> Option<Action> {
        match self.phase {
            Phase::Connecting | Phase::Meeting => self.on_timeout(),
            // It is not there yet: whether it may go there is asked again.
            Phase::Greeting | Phase::ConnectStopping | Phase::Leaving { .. } => None,
            _ => {
                self.begin_close(Ending::Close);
                None
            }
        }
    }

    /// Whether one of both is gone, and the other one may still get what it has sent.
    fn has_lost_peer(&self) -> bool {
        self.has_lost(Side::Client) || self.has_lost(Side::Server)
    }

    /// Whether nothing can go to a peer any more: an end of what comes from it, then, is none in order.
    pub(crate) fn has_lost(&self, side: Side) -> bool {
        self.relay.towards(side).is_sink_broken()
    }

    /// True while the client gets what waits for it, and then our end.
    pub(crate) fn is_parting(&self) -> bool {
        self.phase == Phase::Parting
    }

    /// True while a server is connected to, or the handshake with it is under way.
    pub(crate) fn is_reaching_server(&self) -> bool {
        matches!(self.phase, Phase::Connecting | Phase::ConnectStopping | Phase::Meeting)
    }

    /// Ends the connection as soon as the kernel lets go of it.
    pub(crate) fn begin_close(&mut self, ending: Ending) {
        let is_connecting = matches!(self.phase, Phase::Connecting | Phase::ConnectStopping);
        if !matches!(self.phase, Phase::Closing { .. } | Phase::Finished) {
            self.phase = Phase::Closing { ending, is_cancelled: false, is_connecting };
        }
    }

    /// True if both sides of the server's socket have ended in order.
    pub(crate) fn is_server_done(&mut self) -> bool {
        self.relay.from(Side::Client).is_complete() && self.relay.from(Side::Server).is_source_ended()
    }

    /// True if the server has reset the connection.
    pub(crate) fn is_reset_by_server(&mut self) -> bool {
        self.relay.from(Side::Server).is_source_broken()
    }

    /// Gives back every buffer that is still held. Only after [`Action::Finish`]: the kernel reads none of them.
    pub(crate) fn discard(&mut self, mut give_back: impl FnMut(Piece)) {
        self.relay.from(Side::Client).discard(&mut give_back);
        self.relay.from(Side::Server).discard(&mut give_back);
    }

    /// Whether there is something to do as soon as the send to this peer has sent everything.
    pub(crate) fn is_waiting_for_send(&mut self, sink: Side) -> bool {
        self.phase != Phase::Relaying || self.relay.to(sink).is_waiting_for_send()
    }

    /// True once it is over and only the kernel has to let go.
    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. } | Phase::Finished)
    }

    /// What is to be sent to a peer, in order.
    pub(crate) fn pieces_for(&self, sink: Side) -> impl Iterator<Item = Piece> {
        self.relay.towards(sink).pieces()
    }

    /// Which patience the connection is on.
    pub(crate) fn patience(&self) -> Patience {
        match self.phase {
            Phase::Greeting => Patience::Greeting,
            Phase::Choosing | Phase::Connecting | Phase::Meeting => Patience::Connect,
            Phase::WaitingForServer => Patience::Server,
            Phase::Relaying if self.has_lost_peer() => Patience::Remains,
            // As long as nobody lets go of a descriptor: the client would wait no shorter in the kernel's queue.
            Phase::Waiting | Phase::Relaying => Patience::Idle,
            Phase::Parting if self.relay.towards(Side::Client).is_delivering() => Patience::Idle,
            Phase::Parting => Patience::Parting,
            Phase::ConnectStopping | Phase::Leaving { .. } | Phase::Closing { .. } | Phase::Finished => {
                Patience::Cancel
            }
        }
    }

    fn in_kernel(&self) -> usize {
        let is_connecting = matches!(
            self.phase,
            Phase::Connecting | Phase::ConnectStopping | Phase::Closing { is_connecting: true, .. }
        );
        self.relay.in_kernel() + usize::from(is_connecting)
    }
}

/// What a step of the direction from `source` is to the connection.
fn of_step(step: Step, source: Side) -> Action {
    match step {
        Step::Receive(size) => Action::Receive(source, size),
        Step::StopReceiving => Action::StopReceiving(source),
        Step::Send => Action::Send(source.other()),
        Step::Fill => Action::Fill(source),
        Step::Drain => Action::Drain(source.other()),
        Step::AwaitSource => Action::AwaitReadable(source),
        Step::AwaitSink => Action::AwaitWritable(source.other()),
        Step::CloseWrite => Action::CloseWrite(source.other()),
    }
}
