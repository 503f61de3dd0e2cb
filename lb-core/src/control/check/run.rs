//! The checker's thread: its ring, its sockets, and the loop that turns completions into conversations and their ends into
//! verdicts. Nothing here waits for a single server.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use socket2::SockRef;

use super::conversation::{ANSWER_MAX, Conversation, Step};
use super::schedule::{Outcome, Schedule};
use super::{Checked, Orders, tls};
use crate::sys::ring::{Completion, Readiness, Ring};
use crate::sys::socket;
use crate::turns::alarm::Alarm;
use crate::turns::slots::{Key, Slots};
use crate::turns::timers::Time;

/// How long no check is begun after descriptors have run out.
const SHORTAGE: Duration = Duration::from_millis(100);

/// Runs the checker on this thread until it is over. `started` is told when the ring stands, or why it does not.
pub(super) fn on_this_thread(
    orders: &Orders,
    at_once: usize,
    report: impl Fn(Vec<Checked>),
    on_death: impl FnOnce(String),
    started: impl FnOnce(io::Result<()>),
) {
    let run = match Run::new(orders, at_once, report) {
        Ok(run) => run,
        Err(error) => return started(Err(error)),
    };
    started(Ok(()));
    match std::panic::catch_unwind(AssertUnwindSafe(|| run.run())) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => on_death(format!("the checker died: its ring failed: {error}")),
        Err(_) => on_death("the checker died: it panicked".to_owned()),
    }
}

/// What an operation of the ring is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    /// Nobody waits for it.
    Nothing,
    Doorbell,
    Alarm,
    /// A connect of the attempt under this key.
    Connect(Key),
    /// Its socket can be read or written.
    Ready(Key),
}

impl Operation {
    /// Packs it: kind, generation, slot, from the high bits to the low ones.
    fn encode(self) -> u64 {
        let (kind, key) = match self {
            Self::Nothing => (0, Key::NOBODY),
            Self::Doorbell => (1, Key::NOBODY),
            Self::Alarm => (2, Key::NOBODY),
            Self::Connect(key) => (3, key),
            Self::Ready(key) => (4, key),
        };
        kind << Key::BITS | key.pack()
    }

    fn decode(user_data: u64) -> Self {
        let key = Key::unpack(user_data);
        match user_data >> Key::BITS {
            1 => Self::Doorbell,
            2 => Self::Alarm,
            3 => Self::Connect(key),
            4 => Self::Ready(key),
            _ => Self::Nothing,
        }
    }
}

/// A check that runs. Between turns it waits for exactly one operation.
struct Attempt {
    /// Its server in the schedule.
    subject: Key,
    socket: OwnedFd,
    /// Once connected.
    conversation: Option<Conversation>,
    /// What it waits for.
    awaited: Operation,
    began: Instant,
}

struct Run<'a, R> {
    orders: &'a Orders,
    report: R,
    ring: Ring,
    schedule: Schedule,
    attempts: Slots<Attempt>,
    tls: Arc<ClientConfig>,
    /// Where received bytes are put, before a conversation looks at them.
    input: Box<[u8]>,
    /// Verdicts of this turn.
    news: Vec<Checked>,
    started: Instant,
    now: Time,
    /// When the kernel wakes this thread for its timers.
    alarm: Alarm,
    /// Until then no check is begun.
    short_until: Time,
}

impl<'a, R: Fn(Vec<Checked>)> Run<'a, R> {
    fn new(orders: &'a Orders, at_once: usize, report: R) -> io::Result<Self> {
        Ok(Self {
            orders,
            report,
            // Nothing is received by way of its buffers, so they take addresses but no memory.
            ring: Ring::new(0)?,
            schedule: Schedule::new(at_once, fastrand::Rng::new()),
            attempts: Slots::new(),
            tls: tls::config().map_err(io::Error::other)?,
            input: vec![0; ANSWER_MAX].into_boxed_slice(),
            news: Vec::new(),
            started: Instant::now(),
            now: 0,
            alarm: Alarm::default(),
            short_until: 0,
        })
    }

    /// Runs until it is over. Checks that run then are broken off by the end of the ring.
    fn run(mut self) -> io::Result<()> {
        self.ring.await_doorbell(&self.orders.doorbell, Operation::Doorbell.encode());
        let (mut completions, mut over) = (Vec::new(), Vec::new());
        while !self.orders.is_over() {
            self.ring.enter(self.timeout(), None)?;
            self.now = self.started.elapsed().as_millis() as Time;
            self.ring.reap(&mut completions);
            for completion in completions.drain(..) {
                self.on_completion(&completion);
            }
            self.schedule.advance(self.now, &mut over);
            for key in over.drain(..) {
                self.on_timeout(key);
            }
            self.begin_due();
            if !self.news.is_empty() {
                (self.report)(std::mem::take(&mut self.news));
            }
            self.set_alarm();
        }
        Ok(())
    }

    fn on_completion(&mut self, completion: &Completion) {
        match Operation::decode(completion.user_data) {
            Operation::Nothing => {}
            Operation::Doorbell => {
                self.ring.await_doorbell(&self.orders.doorbell, Operation::Doorbell.encode());
                self.follow();
            }
            Operation::Alarm => self.alarm.on_rung(),
            Operation::Connect(key) => self.on_connect_ended(key, completion.result),
            Operation::Ready(key) => self.on_ready(key),
        }
    }

    /// Takes new targets.
    fn follow(&mut self) {
        let Some(targets) = self.orders.take_targets() else { return };
        for key in self.schedule.replace(targets, self.now) {
            self.end(key);
        }
    }

    /// Begins the checks that are due, as far as there is room for them.
    fn begin_due(&mut self) {
        while self.now >= self.short_until {
            let Some((subject, target)) = self.schedule.next() else { return };
            let addr = target.addr;
            let began = Instant::now();
            match socket::for_server(addr) {
                Ok(socket) => {
                    let awaited = Operation::Nothing;
                    let attempt = Attempt { subject, socket, conversation: None, awaited, began };
                    // There are more slots than checks at once.
                    let Some(key) = self.attempts.insert(attempt) else { return self.schedule.postpone(subject) };
                    self.schedule.on_begun(subject, key, self.now);
                    if let Some(attempt) = self.attempts.get_mut(key) {
                        attempt.awaited = Operation::Connect(key);
                        self.ring.connect(&attempt.socket, addr, attempt.awaited.encode());
                    }
                }
                Err(error) if is_shortage(&error) => self.on_shortage(subject),
                Err(error) => self.judge(subject, Outcome::Failed, phrase(&error), began),
            }
        }
    }

    /// Descriptors or memory have run out, which says nothing about the server.
    fn on_shortage(&mut self, subject: Key) {
        self.schedule.postpone(subject);
        self.short_until = self.now + SHORTAGE.as_millis() as Time;
    }

    fn on_connect_ended(&mut self, key: Key, result: i32) {
        // Without an attempt it was broken off before.
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        attempt.awaited = Operation::Nothing;
        if result < 0 {
            let error = io::Error::from_raw_os_error(-result);
            return match is_shortage(&error) {
                true => {
                    if let Some(attempt) = self.end(key) {
                        self.on_shortage(attempt.subject);
                    }
                }
                false => self.conclude(key, Outcome::Failed, phrase(&error)),
            };
        }
        let Some(target) = self.schedule.target(attempt.subject) else { return };
        match Conversation::new(target, &self.tls) {
            Ok(mut conversation) => {
                let step = conversation.on_connected();
                if step == Step::More && conversation.outgoing().is_empty() {
                    // The server speaks first. Fails only if the connection is gone again, which reading tells.
                    let _ = socket::acknowledge(&attempt.socket);
                }
                attempt.conversation = Some(conversation);
                self.go_on(key, step);
            }
            Err(reason) => self.conclude(key, Outcome::Failed, reason),
        }
    }

    fn on_ready(&mut self, key: Key) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        attempt.awaited = Operation::Nothing;
        let Some(conversation) = &mut attempt.conversation else { return };
        let step = match conversation.outgoing().is_empty() {
            // Once per turn: a server that sends without end is one of many.
            true => match (&*SockRef::from(&attempt.socket)).read(&mut self.input) {
                Ok(0) => conversation.on_end(),
                Ok(count) => conversation.on_received(&self.input[..count]),
                Err(error) if passes(&error) => Step::More,
                Err(error) => Step::Failed(phrase(&error)),
            },
            false => Step::More,
        };
        self.go_on(key, step);
    }

    /// Sends what a conversation has to send, and waits for what it needs next.
    fn go_on(&mut self, key: Key, mut step: Step) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        let Some(conversation) = &mut attempt.conversation else { return };
        let readiness = loop {
            match step {
                Step::Passed(why) => return self.conclude(key, Outcome::Passed, why),
                Step::Failed(why) => return self.conclude(key, Outcome::Failed, why),
                Step::More if conversation.outgoing().is_empty() => break Readiness::Read,
                Step::More => {}
            }
            let outgoing = conversation.outgoing();
            step = match SockRef::from(&attempt.socket).send_with_flags(outgoing, libc::MSG_NOSIGNAL) {
                Ok(count) => conversation.on_sent(count),
                Err(error) if passes(&error) => break Readiness::Write,
                Err(error) => Step::Failed(phrase(&error)),
            };
        };
        attempt.awaited = Operation::Ready(key);
        self.ring.await_ready(&attempt.socket, readiness, attempt.awaited.encode());
    }

    /// The time of a check is over.
    fn on_timeout(&mut self, key: Key) {
        let Some(attempt) = self.attempts.get(key) else { return };
        let Some(target) = self.schedule.target(attempt.subject) else { return };
        let what = if attempt.conversation.is_some() { "answer" } else { "connection" };
        let why = format!("no {what} within {}", target.check.timeout());
        self.conclude(key, Outcome::Hung, why);
    }

    /// A check has come to its end. Of a server that has passed a conversation we take leave in order; any other connection is
    /// reset: those of `tcp`, which servers hardly ever see (`socket::for_server`), and those that nobody may ever end.
    fn conclude(&mut self, key: Key, outcome: Outcome, why: String) {
        let Some(attempt) = self.attempts.get(key) else { return };
        let has_talked = attempt.conversation.as_ref().is_some_and(Conversation::has_talked);
        if attempt.conversation.is_some() && !(has_talked && outcome == Outcome::Passed) {
            // Fails only if there is nothing to reset.
            let _ = socket::reset_on_close(&attempt.socket);
        }
        if let Some(attempt) = self.end(key) {
            self.judge(attempt.subject, outcome, why, attempt.began);
        }
    }

    fn judge(&mut self, subject: Key, outcome: Outcome, detail: String, began: Instant) {
        let Some((target, verdict)) = self.schedule.on_outcome(subject, outcome, self.now) else { return };
        let (server, addr) = (target.server, target.addr);
        self.news.push(Checked { server, addr, verdict, detail, took: began.elapsed() });
    }

    /// Breaks an attempt off and closes its socket. What it waits for is cancelled and completes under a key that is stale.
    fn end(&mut self, key: Key) -> Option<Ended> {
        let Attempt { subject, socket, awaited, began, .. } = self.attempts.remove(key)?;
        if awaited != Operation::Nothing {
            self.ring.cancel(awaited.encode(), Operation::Nothing.encode());
        }
        self.ring.close(socket, Operation::Nothing.encode());
        Some(Ended { subject, began })
    }

    fn set_alarm(&mut self) {
        if let Some(when) = self.schedule.deadline() {
            let (alarm, nobody) = (Operation::Alarm.encode(), Operation::Nothing.encode());
            self.alarm.set(when, self.started, &mut self.ring, alarm, nobody);
        }
    }

    /// How long the next turn may wait for news. Nothing tells when there are descriptors again.
    fn timeout(&self) -> Option<Duration> {
        (self.now < self.short_until && self.schedule.has_due()).then_some(SHORTAGE)
    }
}

/// What is left of an attempt.
struct Ended {
    subject: Key,
    began: Instant,
}

/// What says nothing about the server: we lack descriptors or memory.
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

fn passes(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// An error as a phrase: "connection refused", without its number and a capital.
fn phrase(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}
