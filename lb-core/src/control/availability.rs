//! Which servers are available, and which therefore get connections: from what the operator wants, what checks say and what
//! real connections met. Pure, time is an argument.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::Time;
use super::check::Checked;
use super::ejection::Ejection;
use super::health::Verdict;
use super::standby::Standby;
use super::state::{Entry, ServerId, State};
use super::status::{ServerHealth, Service};
use crate::config::{Frontend, Mode, Server};
use crate::table::{Failure, Suspicion};

/// Into how many steps a slow start is divided.
const STEPS: Time = 10;

/// What is known of all servers.
#[derive(Debug, Clone, Default)]
pub(super) struct Availability(HashMap<ServerId, Known>);

/// What is known of a server.
#[derive(Debug, Clone)]
struct Known {
    /// Where it was found out.
    addr: SocketAddr,
    /// False while it is not to be checked: a verdict that is on its way says nothing then.
    is_checked: bool,
    /// `None` until it was checked.
    checked: Option<Checked>,
    ejection: Ejection,
    /// True while the operator has it drained or disabled.
    is_out: bool,
    /// When it came back after it had been out, down or ejected.
    back_since: Option<Time>,
}

/// What a frontend's servers are to it at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    /// In the order of the servers.
    pub(super) roles: Vec<Role>,
    pub(super) service: Service,
    pub(super) standby: Standby,
    /// When time alone changes it, at the latest.
    pub(super) until: Option<Time>,
}

/// What a server is to its frontend at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It gets connections: so many tenths of its share.
    Main { tenths: u8 },
    /// It gets those that the main servers have failed or have no room for.
    Standby,
    /// It gets none.
    Out,
}

impl Known {
    fn new(addr: SocketAddr) -> Self {
        Self { addr, is_checked: true, checked: None, ejection: Ejection::default(), is_out: false, back_since: None }
    }

    fn is_down(&self) -> bool {
        self.checked.as_ref().is_some_and(|checked| checked.verdict == Verdict::Down)
    }

    fn is_available(&self) -> bool {
        !self.is_down() && self.ejection.until().is_none()
    }

    /// How much of its share it gets, and when that changes.
    fn tenths(&self, slow_start: u32, now: Time) -> (u8, Option<Time>) {
        let (Some(since), 1..) = (self.back_since, slow_start) else { return (STEPS as u8, None) };
        let step = Time::from(slow_start).div_ceil(STEPS);
        let done = now.saturating_sub(since) / step;
        match done {
            0..STEPS => ((done + 1).min(STEPS) as u8, Some(since + (done + 1) * step)),
            _ => (STEPS as u8, None),
        }
    }
}

impl Availability {
    /// Forgets servers that are gone, and what was found out at addresses that were replaced.
    pub(super) fn follow(&mut self, state: &State, now: Time) {
        let mut before = std::mem::take(&mut self.0);
        for entry in state.entries() {
            for (id, server) in entry.server_ids.iter().zip(entry.frontend.servers()) {
                let known = before.remove(id).filter(|known| known.addr == server.addr());
                let mut known = known.unwrap_or_else(|| Known::new(server.addr()));
                let was_out = std::mem::replace(&mut known.is_out, server.mode() != Mode::Enabled);
                if was_out && !known.is_out {
                    known.back_since = Some(now);
                }
                if server.mode() == Mode::Disabled {
                    // It is not checked: what was found out before the maintenance says nothing about the time after it.
                    known = Known { is_out: true, ..Known::new(server.addr()) };
                }
                known.is_checked = server.mode() != Mode::Disabled && entry.frontend.check_of(server).is_on();
                if !known.is_checked {
                    // Nobody would find out that it is up.
                    known.checked = None;
                }
                self.0.insert(*id, known);
            }
        }
    }

    /// Takes a verdict in. True if it is news.
    pub(super) fn on_checked(&mut self, checked: Checked, now: Time) -> bool {
        let known = self.0.get_mut(&checked.server).filter(|known| known.is_checked && known.addr == checked.addr);
        let Some(known) = known else { return false };
        let was_down = known.is_down();
        let is_down = checked.verdict == Verdict::Down;
        if was_down && !is_down {
            known.back_since = Some(now);
            // What ejected it was the failure that is over now.
            known.ejection.end(now);
        }
        known.checked = Some(checked);
        was_down != is_down
    }

    /// Ejects a server that fails connections, unless too many of its frontend are ejected already. Gives the milliseconds.
    pub(super) fn on_suspicion(&mut self, suspicion: &Suspicion, entry: &Entry, now: Time) -> Option<u32> {
        let frontend = &entry.frontend;
        let is_ejected = |id: &&ServerId| self.0.get(id).is_some_and(|known| known.ejection.until().is_some());
        let ejected = entry.server_ids.iter().filter(is_ejected).count();
        if ejected >= frontend.max_ejected().of(entry.server_ids.len()) {
            return None;
        }
        let known = self.0.get_mut(&suspicion.server).filter(|known| known.addr == suspicion.addr)?;
        known.ejection.until().is_none().then(|| {
            known.ejection.begin(now, frontend.eject_time().as_millis(), frontend.eject_time_max().as_millis())
        })
    }

    /// Ends the ejections that are over by now. Gives the servers.
    pub(super) fn on_time(&mut self, now: Time) -> Vec<ServerId> {
        let mut back = Vec::new();
        for (id, known) in &mut self.0 {
            if known.ejection.has_ended(now) {
                known.back_since = Some(now);
                back.push(*id);
            }
        }
        back
    }

    /// What a frontend's servers are to it now, given what they were.
    pub(super) fn view(&self, entry: &Entry, before: Option<&View>, now: Time) -> View {
        let frontend = &entry.frontend;
        let servers = || frontend.servers().iter().zip(&entry.server_ids);
        let is = |server: &Server, id: &ServerId, what: fn(&Known) -> bool| {
            // One that was just added or re-addressed is not known yet: it gets connections at once.
            let known = self.0.get(id).filter(|known| known.addr == server.addr());
            server.mode() == Mode::Enabled && known.is_none_or(what)
        };
        let available: Vec<bool> = servers().map(|(server, id)| is(server, id, Known::is_available)).collect();
        let count = |is_passive: bool| {
            let of_kind =
                frontend.servers().iter().zip(&available).filter(|(server, _)| server.is_passive() == is_passive);
            of_kind.filter(|(_, available)| **available).count()
        };
        let (active, passive) = (count(false), count(true));
        let hold = frontend.fail_back_after().as_millis();
        let standby = before.map_or(Standby::default(), |before| before.standby);
        let standby = standby.next(frontend.passive_when(), active, hold, now);
        let uses_passive = standby.takes_part() && passive > 0;
        let mut view = View {
            roles: Vec::with_capacity(available.len()),
            service: match (uses_passive, active) {
                (true, _) => Service::Passive,
                (false, 0) => Service::Unavailable,
                (false, _) => Service::Active,
            },
            standby,
            until: standby.until(hold),
        };
        let mut main_passive = if uses_passive { frontend.passive_use().most() } else { 0 };
        for ((server, id), is_available) in servers().zip(available) {
            let role = match (is_available, server.is_passive()) {
                // One that is ejected may have recovered: better than nobody.
                (false, _) if passive == 0 && is(server, id, |known| !known.is_down()) => Role::Standby,
                (false, _) => Role::Out,
                (true, true) if main_passive == 0 => Role::Standby,
                (true, is_passive) => {
                    main_passive -= usize::from(is_passive);
                    self.main(*id, frontend, now, &mut view.until)
                }
            };
            view.roles.push(role);
            let ejected_until = self.0.get(id).and_then(|known| known.ejection.until());
            view.until = earlier(view.until, ejected_until);
        }
        view
    }

    fn main(&self, id: ServerId, frontend: &Frontend, now: Time, until: &mut Option<Time>) -> Role {
        let slow_start = frontend.slow_start().as_millis();
        let (tenths, next) = self.0.get(&id).map_or((STEPS as u8, None), |known| known.tenths(slow_start, now));
        *until = earlier(*until, next);
        Role::Main { tenths }
    }

    /// What is said of a server's health.
    pub(super) fn status(&self, id: ServerId, role: Role, now: Time) -> ServerHealth {
        let Some(known) = self.0.get(&id) else { return ServerHealth::Unproven };
        if let Some(until) = known.ejection.until() {
            return ServerHealth::Ejected { for_milliseconds: until.saturating_sub(now) };
        }
        match &known.checked {
            Some(checked) if checked.verdict == Verdict::Down => ServerHealth::Down { why: checked.detail.clone() },
            _ if matches!(role, Role::Main { tenths } if Time::from(tenths) < STEPS) => ServerHealth::Starting,
            Some(_) => ServerHealth::Up,
            None => ServerHealth::Unproven,
        }
    }
}

/// How a server failed connections, for people.
pub(super) fn describe(failure: Failure) -> &'static str {
    match failure {
        Failure::Connect => "connects to it fail",
        Failure::Reset => "it resets connections without a byte",
    }
}

pub(super) fn earlier(one: Option<Time>, other: Option<Time>) -> Option<Time> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
