//! Which servers are available, and which therefore get connections: from what the operator wants, what checks say and what
//! real connections met. Pure, time is an argument.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Time;
use super::check::Checked;
use super::ejection::Ejection;
use super::health::Verdict;
use super::standby::Standby;
use super::state::{Entry, FrontendId, ServerId, State};
use super::status::{ServerHealth, Service};
use crate::config::{Millis, Mode, Server};
use crate::table::{Failure, Suspicion};

/// Into how many steps a slow start is divided.
const STEPS: Time = 10;

/// What is known of all servers.
#[derive(Debug, Default)]
pub(super) struct Availability {
    /// By frontend, in the order of its servers, whose identities ascend: in one piece, as views look at all of them.
    known: HashMap<FrontendId, Vec<Known>>,
}

/// What is known of a server.
#[derive(Debug)]
struct Known {
    server: ServerId,
    /// Where it was found out.
    addr: SocketAddr,
    /// How often it was forgotten.
    epoch: u32,
    /// False while it is not to be checked: a verdict that is on its way says nothing then.
    is_checked: bool,
    /// `None` until it was checked.
    checked: Option<Checked>,
    ejection: Ejection,
    /// True while the operator has it drained or disabled.
    is_out: bool,
    /// While it is drained with a limit: that limit, and when it is reached.
    drained: Option<(Millis, Time)>,
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

/// A server as a view is made of it.
struct Standing<'a> {
    /// `None` for one that was just added or re-addressed: it gets connections at once.
    known: Option<&'a Known>,
    fitness: Fitness,
    is_passive: bool,
}

/// Whether a server may get connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fitness {
    Available,
    /// Until then.
    Ejected(Time),
    /// It is drained, and would be available otherwise. Until then, or as long as it is.
    Drained(Option<Time>),
    /// It is down or disabled.
    Unfit,
}

impl<'a> Standing<'a> {
    fn new(server: &Server, known: Option<&'a Known>) -> Self {
        let known = known.filter(|known| known.addr == server.addr());
        let ejected = known.and_then(|known| known.ejection.until());
        let fitness = match ejected {
            _ if server.mode() == Mode::Disabled || known.is_some_and(Known::is_down) => Fitness::Unfit,
            Some(_) if server.mode() != Mode::Enabled => Fitness::Unfit,
            None if server.mode() != Mode::Enabled => {
                Fitness::Drained(known.and_then(|known| known.drained).map(|(_, until)| until))
            }
            Some(until) => Fitness::Ejected(until),
            None => Fitness::Available,
        };
        Self { known, fitness, is_passive: server.is_passive() }
    }
}

/// What a server is to its frontend at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It gets connections: so many tenths of its share.
    Main { tenths: u8 },
    /// It gets those that the main servers have failed or have no room for.
    Standby,
    /// It gets those of clients that stay on it.
    Drained,
    /// It gets none.
    Out,
}

impl Known {
    fn new(server: ServerId, addr: SocketAddr) -> Self {
        Self {
            server,
            addr,
            epoch: 0,
            is_checked: true,
            checked: None,
            ejection: Ejection::default(),
            is_out: false,
            drained: None,
            back_since: None,
        }
    }

    /// Follows a change of the server. True if it is seen otherwise by that: it is in service again, or for some time only
    /// by clients that stay on it.
    fn follow(&mut self, server: &Server, has_check: bool, now: Time) -> bool {
        let was_out = self.is_out;
        let was_down = self.is_down();
        if self.addr != server.addr() || server.mode() == Mode::Disabled {
            // What was found out before a move or a maintenance says nothing about the time after it.
            let (epoch, drained) = (self.epoch + 1, self.drained);
            *self = Self { epoch, drained, ..Self::new(self.server, server.addr()) };
        }
        self.is_out = server.mode() != Mode::Enabled;
        self.is_checked = has_check && server.mode() != Mode::Disabled;
        if !self.is_checked {
            // Nobody would find out that it is up.
            self.checked = None;
            self.epoch += 1;
        }
        let is_back = !self.is_out && (was_out || was_down && !self.is_down());
        if is_back {
            self.back_since = Some(now);
        }
        self.follow_drain(server, now) || is_back
    }

    /// Notes until when the server is drained. True if that is news.
    fn follow_drain(&mut self, server: &Server, now: Time) -> bool {
        let Mode::Drain(Some(limit)) = server.mode() else {
            self.drained = None;
            return false;
        };
        let is_new = self.drained.is_none_or(|(before, _)| before != limit);
        if is_new {
            self.drained = Some((limit, now + Time::from(limit.as_millis())));
        }
        is_new
    }

    fn is_down(&self) -> bool {
        self.checked.as_ref().is_some_and(|checked| checked.verdict == Verdict::Down)
    }

    fn health(&self, role: Role, now: Time) -> ServerHealth {
        if let Some(until) = self.ejection.until() {
            return ServerHealth::Ejected { for_milliseconds: until.saturating_sub(now) };
        }
        match &self.checked {
            Some(checked) if checked.verdict == Verdict::Down => ServerHealth::Down { why: checked.detail.clone() },
            _ if matches!(role, Role::Main { tenths } if Time::from(tenths) < STEPS) => ServerHealth::Starting,
            Some(_) => ServerHealth::Up,
            None => ServerHealth::Unproven,
        }
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
    /// Follows a change of the state: forgets servers that are gone, and what was found out at addresses that were replaced.
    /// True if a server is seen otherwise by that: see [`Known::follow`].
    pub(super) fn follow(&mut self, state: &State, before: &State, now: Time) -> bool {
        let mut is_back = false;
        for entry in state.entries() {
            match before.entry_with(entry.id) {
                Some(before) if Arc::ptr_eq(before, entry) => {}
                before => is_back |= self.follow_entry(entry, before, now),
            }
        }
        self.known.retain(|frontend, _| state.entry_with(*frontend).is_some());
        is_back
    }

    fn follow_entry(&mut self, entry: &Entry, before: Option<&Arc<Entry>>, now: Time) -> bool {
        let frontend = &entry.frontend;
        let known = self.known.entry(entry.id).or_default();
        let same = before.filter(|before| before.server_ids == entry.server_ids);
        if same.is_none() {
            known.retain(|known| entry.server_ids.binary_search(&known.server).is_ok());
            // New ones stand at the end.
            let new = entry.server_ids.iter().zip(frontend.servers()).skip(known.len());
            known.extend(new.map(|(id, server)| Known::new(*id, server.addr())));
        }
        let same = same.filter(|before| before.frontend.check() == frontend.check());
        let mut is_back = false;
        for (index, (known, server)) in known.iter_mut().zip(frontend.servers()).enumerate() {
            if same.is_none_or(|before| !Arc::ptr_eq(&before.frontend.servers()[index], server)) {
                is_back |= known.follow(server, frontend.check_of(server).is_on(), now);
            }
        }
        is_back
    }

    /// What is known of each server of a frontend. Of one that was just added nothing is yet.
    fn of<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = Option<&'a Known>> {
        let known = self.known.get(&entry.id).map_or(&[][..], Vec::as_slice);
        let mut known = known.iter().peekable();
        entry.server_ids.iter().map(move |id| {
            while known.next_if(|known| known.server < *id).is_some() {}
            known.next_if(|known| known.server == *id)
        })
    }

    /// What is known of a server at this address.
    fn at(&mut self, entry: &Entry, server: ServerId, addr: SocketAddr) -> Option<&mut Known> {
        let known = self.known.get_mut(&entry.id)?;
        let index = known.binary_search_by_key(&server, |known| known.server).ok()?;
        known.get_mut(index).filter(|known| known.addr == addr)
    }

    /// How often what was found out of each server of a frontend was forgotten.
    pub(super) fn epochs<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = u32> {
        self.of(entry).map(|known| known.map_or(0, |known| known.epoch))
    }

    /// Takes a verdict on a server of a frontend in. True if it is news.
    pub(super) fn on_checked(&mut self, checked: Checked, entry: &Entry, now: Time) -> bool {
        let known = self.at(entry, checked.server, checked.addr).filter(|known| known.is_checked);
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
        let ejected = self.of(entry).flatten().filter(|known| known.ejection.until().is_some()).count();
        if ejected >= frontend.max_ejected().of(entry.server_ids.len()) {
            return None;
        }
        let known = self.at(entry, suspicion.server, suspicion.addr)?;
        known.ejection.until().is_none().then(|| {
            known.ejection.begin(now, frontend.eject_time().as_millis(), frontend.eject_time_max().as_millis())
        })
    }

    /// Ends the ejections that are over by now. Gives the servers.
    pub(super) fn on_time(&mut self, now: Time) -> Vec<ServerId> {
        let mut back = Vec::new();
        for known in self.known.values_mut().flatten() {
            if known.ejection.has_ended(now) {
                known.back_since = Some(now);
                back.push(known.server);
            }
        }
        back
    }

    /// What a frontend's servers are to it now, given what they were.
    pub(super) fn view(&self, entry: &Entry, before: Option<&View>, now: Time) -> View {
        let frontend = &entry.frontend;
        let servers = frontend.servers().iter().zip(self.of(entry));
        let standings: Vec<Standing<'_>> = servers.map(|(server, known)| Standing::new(server, known)).collect();
        let count = |is_passive| {
            let is_counted = |it: &&Standing<'_>| it.fitness == Fitness::Available && it.is_passive == is_passive;
            standings.iter().filter(is_counted).count()
        };
        let (active, passive) = (count(false), count(true));
        let hold = frontend.fail_back_after().as_millis();
        let standby = before.map_or(Standby::default(), |before| before.standby);
        let standby = standby.next(frontend.passive_when(), active, hold, now);
        let uses_passive = standby.takes_part() && passive > 0;
        let service = match (uses_passive, active) {
            (true, _) => Service::Passive,
            (false, 0) => Service::Unavailable,
            (false, _) => Service::Active,
        };
        let mut view =
            View { roles: Vec::with_capacity(standings.len()), service, standby, until: standby.until(hold) };
        let mut main_passive = if uses_passive { frontend.passive_use().most() } else { 0 };
        let slow_start = frontend.slow_start().as_millis();
        for Standing { known, fitness, is_passive } in standings {
            let (role, until) = match fitness {
                // It may have recovered: better than nobody.
                Fitness::Ejected(until) if passive == 0 => (Role::Standby, Some(until)),
                Fitness::Ejected(until) => (Role::Out, Some(until)),
                Fitness::Drained(until)
                    if is_passive && !standby.takes_part() || until.is_some_and(|until| until <= now) =>
                {
                    (Role::Out, None)
                }
                Fitness::Drained(until) => (Role::Drained, until),
                Fitness::Unfit => (Role::Out, None),
                Fitness::Available if is_passive && main_passive == 0 => (Role::Standby, None),
                Fitness::Available => {
                    main_passive -= usize::from(is_passive);
                    let (tenths, next) = known.map_or((STEPS as u8, None), |known| known.tenths(slow_start, now));
                    (Role::Main { tenths }, next)
                }
            };
            view.roles.push(role);
            view.until = earlier(view.until, until);
        }
        view
    }

    /// What is said of the health of a frontend's servers, which are in these roles.
    pub(super) fn health<'a>(
        &'a self,
        entry: &'a Entry,
        roles: &'a [Role],
        now: Time,
    ) -> impl Iterator<Item = ServerHealth> {
        self.of(entry)
            .zip(roles)
            .map(move |(known, role)| known.map_or(ServerHealth::Unproven, |known| known.health(*role, now)))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Bind, Check, CheckKind, Delay, Frontend, FrontendUpdate, Name, PassiveUse, PassiveWhen};
    use crate::control::change::Change;

    const ADDR: ([u8; 4], u16) = ([127, 0, 0, 1], 9);

    /// A frontend `web` whose servers are active (`a`) or passive (`p`), with what is known of them and the last view.
    struct World {
        state: State,
        availability: Availability,
        view: Option<View>,
    }

    impl World {
        fn new(servers: &str, update: FrontendUpdate) -> Self {
            let mut frontend = Frontend::new("web", Bind::Addr(ADDR.into())).unwrap().with(&update);
            for (number, kind) in servers.chars().enumerate() {
                let server = Server::new(&format!("{kind}{number}"), ADDR.into()).unwrap();
                frontend = frontend.with_server(server.with_passive(kind == 'p'));
            }
            let mut world = Self { state: State::default(), availability: Availability::default(), view: None };
            world.change(&Change::AddFrontend { frontend }, 0);
            world
        }

        fn change(&mut self, change: &Change, now: Time) {
            let before = self.state.clone();
            self.state.apply(change).unwrap();
            self.availability.follow(&self.state, &before, now);
        }

        fn entry(&self) -> Arc<Entry> {
            Arc::clone(&self.state.entries()[0])
        }

        fn check(&mut self, server: ServerId, verdict: Verdict, now: Time) -> bool {
            let detail = "tested".to_owned();
            let checked = Checked { server, addr: ADDR.into(), verdict, detail, took: Duration::ZERO };
            let entry = self.entry();
            self.availability.on_checked(checked, &entry, now)
        }

        fn suspect(&mut self, server: ServerId, now: Time) -> Option<u32> {
            let suspicion = Suspicion { server, addr: ADDR.into(), failure: Failure::Connect };
            let entry = self.entry();
            self.availability.on_suspicion(&suspicion, &entry, now)
        }

        fn epochs(&self) -> Vec<u32> {
            self.availability.epochs(&self.entry()).collect()
        }

        /// A letter per server: `m` main, `1` to `9` tenths of it, `s` standby, `d` drained, `-` out.
        fn roles(&mut self, now: Time) -> String {
            let view = self.availability.view(&self.entry(), self.view.as_ref(), now);
            let letter = |role: &Role| match role {
                Role::Main { tenths: 10 } => 'm',
                Role::Main { tenths } => char::from(b'0' + tenths),
                Role::Standby => 's',
                Role::Drained => 'd',
                Role::Out => '-',
            };
            let letters = view.roles.iter().map(letter).collect();
            self.view = Some(view);
            letters
        }

        fn service(&self) -> Service {
            self.view.as_ref().unwrap().service
        }
    }

    #[test]
    fn passive_servers_serve_while_no_active_one_is_available() {
        let mut world = World::new("aap", FrontendUpdate::default());
        assert_eq!(world.roles(0), "mms");
        world.check(0, Verdict::Down, 1);
        assert_eq!((world.roles(1), world.service()), ("-ms".to_owned(), Service::Active));
        world.check(1, Verdict::Down, 2);
        assert_eq!((world.roles(2), world.service()), ("--m".to_owned(), Service::Passive));
        world.check(2, Verdict::Down, 3);
        assert_eq!((world.roles(3), world.service()), ("---".to_owned(), Service::Unavailable));
        world.check(0, Verdict::Up, 4);
        assert_eq!((world.roles(4), world.service()), ("m--".to_owned(), Service::Active));
    }

    #[test]
    fn drained_and_disabled_active_servers_are_unavailable_too() {
        let mut world = World::new("aap", FrontendUpdate::default());
        let (frontend, name) = (|| Name::new("web").unwrap(), |name| Name::new(name).unwrap());
        world.change(&Change::DrainServer { frontend: frontend(), name: name("a0"), within: None }, 1);
        world.change(&Change::DisableServer { frontend: frontend(), name: name("a1") }, 1);
        assert_eq!(world.roles(1), "d-m");
        world.change(&Change::EnableServer { frontend: frontend(), name: name("a1") }, 2);
        assert_eq!(world.roles(2), "dms");
    }

    #[test]
    fn clients_stay_on_a_drained_server_unless_it_fails_or_its_time_is_over() {
        let mut world = World::new("aap", FrontendUpdate::default());
        let server = |name| (Name::new("web").unwrap(), Name::new(name).unwrap());
        let drain = |name, within: Option<&str>| {
            let (frontend, name) = server(name);
            Change::DrainServer { frontend, name, within: within.map(|limit| limit.parse().unwrap()) }
        };
        world.change(&drain("a0", None), 1);
        assert_eq!((world.roles(1), world.service()), ("dms".to_owned(), Service::Active));
        world.check(0, Verdict::Down, 2);
        assert_eq!(world.roles(2), "-ms");
        world.check(0, Verdict::Up, 3);
        assert_eq!(world.roles(3), "dms");
        assert_eq!(world.suspect(0, 4), Some(10_000));
        assert_eq!(world.roles(4), "-ms");
        world.availability.on_time(10_004);
        world.change(&drain("a0", Some("1s")), 10_100);
        assert_eq!((world.roles(10_100), world.view.as_ref().unwrap().until), ("dms".to_owned(), Some(11_100)));
        world.change(&drain("a0", Some("1s")), 10_900);
        assert_eq!((world.roles(11_099), world.roles(11_100)), ("dms".to_owned(), "-ms".to_owned()));
        world.change(&drain("p2", None), 12_000);
        assert_eq!(world.roles(12_000), "-m-", "nobody stays on a passive one that is not in use");
        world.check(1, Verdict::Down, 12_001);
        assert_eq!(world.roles(12_001), "--d", "as it would be otherwise");
    }

    #[test]
    fn the_first_passive_server_is_used_alone_if_wanted() {
        let update = FrontendUpdate { passive_use: Some(PassiveUse::First), ..FrontendUpdate::default() };
        let mut world = World::new("appp", update);
        world.check(0, Verdict::Down, 1);
        assert_eq!(world.roles(1), "-mss");
        world.check(1, Verdict::Down, 2);
        assert_eq!(world.roles(2), "--ms");
    }

    #[test]
    fn passive_servers_help_below_the_threshold_and_leave_after_the_hold() {
        let update = FrontendUpdate {
            passive_when: Some(PassiveWhen::FewerThan(2)),
            fail_back_after: Some("10ms".parse::<Delay>().unwrap()),
            ..FrontendUpdate::default()
        };
        let mut world = World::new("aap", update);
        assert_eq!(world.roles(0), "mms");
        world.check(0, Verdict::Down, 1);
        assert_eq!((world.roles(1), world.service()), ("-mm".to_owned(), Service::Passive));
        world.check(0, Verdict::Up, 5);
        assert_eq!(world.roles(5), "mmm");
        assert_eq!(world.view.as_ref().unwrap().until, Some(15));
        assert_eq!((world.roles(14), world.roles(15)), ("mmm".to_owned(), "mms".to_owned()));
    }

    #[test]
    fn no_more_servers_are_ejected_than_allowed_and_they_come_back() {
        let mut world = World::new("aaaa", FrontendUpdate::default());
        assert_eq!(world.suspect(0, 100), Some(10_000));
        assert_eq!(world.suspect(0, 101), None, "it is ejected already");
        assert_eq!(world.suspect(1, 102), Some(10_000));
        assert_eq!(world.suspect(2, 103), None, "half of them are");
        assert_eq!(world.roles(103), "ssmm", "with nobody else left they are better than nobody");
        assert_eq!(world.view.as_ref().unwrap().until, Some(10_100));
        assert_eq!(world.availability.on_time(10_100), [0]);
        assert_eq!(world.roles(10_100), "msmm");
        assert_eq!(world.suspect(0, 10_200), Some(20_000), "twice as long, as it failed again at once");
    }

    #[test]
    fn a_lone_server_is_never_ejected() {
        assert_eq!(World::new("a", FrontendUpdate::default()).suspect(0, 1), None);
    }

    #[test]
    fn a_server_that_has_come_up_gets_its_share_step_by_step() {
        let update = FrontendUpdate { slow_start: Some("1s".parse().unwrap()), ..FrontendUpdate::default() };
        let mut world = World::new("aa", update);
        assert_eq!(world.roles(0), "mm", "a new server is not held back");
        world.check(0, Verdict::Down, 10);
        world.check(0, Verdict::Up, 2_000);
        let steps: String = (0..12).map(|step| world.roles(2_000 + step * 100).remove(0)).collect();
        assert_eq!(steps, "123456789mmm");
        assert_eq!(world.view.as_ref().unwrap().until, None);
    }

    #[test]
    fn slow_start_also_follows_maintenance() {
        let update = FrontendUpdate { slow_start: Some("1s".parse().unwrap()), ..FrontendUpdate::default() };
        let mut world = World::new("aa", update);
        let (frontend, name) = (Name::new("web").unwrap(), Name::new("a0").unwrap());
        world.change(&Change::DisableServer { frontend: frontend.clone(), name: name.clone() }, 10);
        world.change(&Change::EnableServer { frontend, name }, 5_000);
        assert_eq!((world.roles(5_000), world.roles(6_000)), ("1m".to_owned(), "mm".to_owned()));
    }

    #[test]
    fn who_is_not_checked_any_more_is_available() {
        let mut world = World::new("aa", FrontendUpdate::default());
        world.check(0, Verdict::Down, 1);
        assert_eq!(world.roles(1), "-m");
        let update = FrontendUpdate { check: Some(Check::new(CheckKind::Off)), ..FrontendUpdate::default() };
        world.change(&Change::UpdateFrontend { name: Name::new("web").unwrap(), update }, 2);
        assert_eq!(world.roles(2), "mm");
    }

    #[test]
    fn what_is_forgotten_is_to_be_found_out_anew_by_the_checker_too() {
        let mut world = World::new("aa", FrontendUpdate::default());
        let server = |name| (Name::new("web").unwrap(), Name::new(name).unwrap());
        let mut epochs = vec![world.epochs()[0]];
        let (frontend, name) = server("a0");
        world.change(&Change::DisableServer { frontend: frontend.clone(), name: name.clone() }, 1);
        world.change(&Change::EnableServer { frontend, name }, 1);
        epochs.push(world.epochs()[0]);
        for port in [10, 9] {
            let port = Some(crate::config::Port::new(port).unwrap());
            let (frontend, name) = server("a0");
            let update = crate::config::ServerUpdate { port, ..Default::default() };
            world.change(&Change::UpdateServer { frontend, name, update }, 2);
        }
        epochs.push(world.epochs()[0]);
        assert!(epochs.windows(2).all(|pair| pair[0] < pair[1]), "{epochs:?}");
        assert_eq!(world.epochs()[1], 0);
    }

    #[test]
    fn what_was_found_out_at_a_replaced_address_counts_no_more() {
        let mut world = World::new("aa", FrontendUpdate::default());
        world.check(0, Verdict::Down, 1);
        let update =
            crate::config::ServerUpdate { port: Some(crate::config::Port::new(10).unwrap()), ..Default::default() };
        let (frontend, name) = (Name::new("web").unwrap(), Name::new("a0").unwrap());
        world.change(&Change::UpdateServer { frontend, name, update }, 2);
        assert_eq!(world.roles(2), "mm");
        assert!(!world.check(0, Verdict::Down, 3), "a late verdict on the old address is no news");
        assert_eq!(world.roles(3), "mm");
    }
}
