//! The same relay by the customary means: one thread, one epoll, `recv` and `send`. It is the rival that shows what
//! io_uring is worth; it balances round robin and is otherwise no product.
//!
//! Both sockets of a connection are watched once, for all that may happen (edge-triggered). Bytes are received into one
//! buffer that all connections share and sent at once; what the other side doesn't take is set aside, and until it has gone
//! nothing more is received. A direction that fills the buffer carries bulk, and goes on through a pipe (`splice(2)`).
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use benches::Result;
use benches::relay_args::RelayArgs;
use clap::Parser;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, sockopt};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use rustix::time::Timespec;

const BUFFER: usize = 64 << 10;
const EVENTS: usize = 256;
const BACKLOG: i32 = 4096;
/// How often a direction is served before others have their turn.
const TURNS: usize = 4;
const LISTENER: u64 = u64::MAX;
const NONBLOCKING: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

fn main() -> Result<()> {
    Relay::new(RelayArgs::parse())?.run()
}

struct Relay {
    args: RelayArgs,
    epoll: OwnedFd,
    listener: OwnedFd,
    pairs: Vec<Option<Pair>>,
    free: Vec<usize>,
    accepted: usize,
    buffer: Vec<u8>,
    /// Directions that had their turns and may have more to do.
    again: Vec<(usize, usize)>,
}

/// The sockets of a connection, client's and server's; direction `i` goes from socket `i` to the other.
struct Pair {
    sockets: [OwnedFd; 2],
    directions: [Direction; 2],
    /// The server's socket is established.
    connected: bool,
}

#[derive(Default)]
struct Direction {
    /// Received and not taken by the other side.
    rest: Vec<u8>,
    pipe: Option<Pipe>,
    /// The source has finished.
    ended: bool,
    /// And the other side has been told.
    told: bool,
}

struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
    bytes: usize,
}

/// What one step of a direction came to.
enum Step {
    /// Something was relayed: there may be more.
    More,
    /// Waits for the source, or for room at the other side.
    Wait,
    /// Nothing will follow.
    Done,
}

impl Relay {
    fn new(args: RelayArgs) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let listener = net::socket_with(AddressFamily::INET, SocketType::STREAM, NONBLOCKING, None)?;
        sockopt::set_socket_reuseaddr(&listener, true)?;
        // Accepted sockets inherit it.
        sockopt::set_tcp_nodelay(&listener, true)?;
        net::bind(&listener, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, args.port))?;
        net::listen(&listener, BACKLOG)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        let (pairs, free, again) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { args, epoll, listener, pairs, free, accepted: 0, buffer: vec![0; BUFFER], again })
    }

    fn run(&mut self) -> Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
            let wait = if self.again.is_empty() { None } else { Some(&at_once) };
            match epoll::wait(&self.epoll, spare_capacity(&mut events), wait) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    token => self.on_event((token / 2) as usize, (token % 2) as usize, event.flags),
                }
            }
            for (id, from) in std::mem::take(&mut self.again) {
                self.drive(id, from, false);
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            match net::accept_with(&self.listener, NONBLOCKING) {
                // A connection for which no socket is left is dropped, which resets it.
                Ok(client) => drop(self.open(client)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn open(&mut self, client: OwnedFd) -> Result<()> {
        let server = net::socket_with(AddressFamily::INET, SocketType::STREAM, NONBLOCKING, None)?;
        sockopt::set_tcp_nodelay(&server, true)?;
        let target = self.args.servers[self.accepted % self.args.servers.len()];
        self.accepted += 1;
        match net::connect(&server, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.pairs.push(None);
            self.pairs.len() - 1
        });
        let all = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        for (side, socket) in [&client, &server].into_iter().enumerate() {
            epoll::add(&self.epoll, socket, EventData::new_u64((2 * id + side) as u64), all)?;
        }
        self.pairs[id] = Some(Pair { sockets: [client, server], directions: Default::default(), connected: false });
        Ok(())
    }

    fn on_event(&mut self, id: usize, side: usize, flags: EventFlags) {
        let Some(pair) = self.pairs[id].as_mut() else { return };
        let ends = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        let mut is_new = false;
        if side == 1 && !pair.connected {
            is_new = flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR);
            pair.connected = is_new;
        }
        if flags.contains(EventFlags::IN) || ends {
            self.drive(id, side, ends);
        }
        // Sockets are nearly always writable: that matters only to what has been waiting for it.
        let waits = |pair: &Pair| is_new || pair.directions[1 - side].waits_for_room();
        if flags.contains(EventFlags::OUT) && self.pairs[id].as_ref().is_some_and(waits) {
            self.drive(id, 1 - side, true);
        }
    }

    /// Relays in one direction until it has to wait. Without `to_the_end` a short receive counts as the last: then an event
    /// tells of more.
    fn drive(&mut self, id: usize, from: usize, to_the_end: bool) {
        let Some(pair) = self.pairs[id].as_mut() else { return };
        if !pair.connected {
            return;
        }
        for _ in 0..TURNS {
            match pair.step(from, &mut self.buffer, to_the_end) {
                Ok(Step::More) => {}
                Ok(Step::Wait) => return,
                Ok(Step::Done) if !pair.directions[1 - from].told => return,
                Ok(Step::Done) | Err(_) => {
                    self.pairs[id] = None;
                    self.free.push(id);
                    return;
                }
            }
        }
        self.again.push((id, from));
    }
}

impl Pair {
    fn step(&mut self, from: usize, buffer: &mut [u8], to_the_end: bool) -> Result<Step> {
        let (source, target) = (&self.sockets[from], &self.sockets[1 - from]);
        let direction = &mut self.directions[from];
        if !direction.flush(target)? {
            return Ok(Step::Wait);
        }
        if direction.ended {
            if !direction.told {
                net::shutdown(target, Shutdown::Write)?;
                direction.told = true;
            }
            return Ok(Step::Done);
        }
        match &mut direction.pipe {
            Some(pipe) => match pipe.fill(source)? {
                None => Ok(Step::Wait),
                Some(bytes) => {
                    direction.ended = bytes == 0;
                    Ok(Step::More)
                }
            },
            None => direction.copy(source, target, buffer, to_the_end),
        }
    }
}

impl Direction {
    fn waits_for_room(&self) -> bool {
        !self.rest.is_empty() || self.pipe.as_ref().is_some_and(|pipe| pipe.bytes > 0)
    }

    /// Receives once, and sends what the other side takes.
    fn copy(&mut self, source: &OwnedFd, target: &OwnedFd, buffer: &mut [u8], to_the_end: bool) -> Result<Step> {
        let bytes = match net::recv(source, &mut *buffer, RecvFlags::empty()) {
            Ok((_, bytes)) => bytes,
            Err(Errno::AGAIN) => return Ok(Step::Wait),
            Err(error) => return Err(error.into()),
        };
        self.ended = bytes == 0;
        let sent = send(target, &buffer[..bytes])?;
        self.rest.extend_from_slice(&buffer[sent..bytes]);
        if bytes == buffer.len() {
            self.pipe = Some(Pipe::new()?);
        }
        Ok(if bytes > 0 && bytes < buffer.len() && !to_the_end { Step::Wait } else { Step::More })
    }

    /// Sends what was set aside; whether it has all gone.
    fn flush(&mut self, target: &OwnedFd) -> Result<bool> {
        if !self.rest.is_empty() {
            let sent = send(target, &self.rest)?;
            self.rest.drain(..sent);
            if !self.rest.is_empty() {
                return Ok(false);
            }
        }
        match &mut self.pipe {
            Some(pipe) => pipe.empty(target),
            None => Ok(true),
        }
    }
}

impl Pipe {
    fn new() -> Result<Self> {
        let (out, into) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        Ok(Self { out, into, bytes: 0 })
    }

    /// Moves bytes from a socket into the pipe, which is empty. How many, 0 at the end, `None` if none are there.
    fn fill(&mut self, source: &OwnedFd) -> Result<Option<usize>> {
        match splice(source, None, &self.into, None, BUFFER, SpliceFlags::MOVE | SpliceFlags::NONBLOCK) {
            Ok(bytes) => {
                self.bytes = bytes;
                Ok(Some(bytes))
            }
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Moves bytes from the pipe to a socket; whether that was all.
    fn empty(&mut self, target: &OwnedFd) -> Result<bool> {
        while self.bytes > 0 {
            match splice(&self.out, None, target, None, self.bytes, SpliceFlags::MOVE | SpliceFlags::NONBLOCK) {
                Ok(bytes) => self.bytes -= bytes,
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}

/// Sends what the socket takes; how many bytes that were.
fn send(socket: &OwnedFd, bytes: &[u8]) -> Result<usize> {
    if bytes.is_empty() {
        return Ok(0);
    }
    match net::send(socket, bytes, SendFlags::NOSIGNAL) {
        Ok(sent) => Ok(sent),
        Err(Errno::AGAIN) => Ok(0),
        Err(error) => Err(error.into()),
    }
}
