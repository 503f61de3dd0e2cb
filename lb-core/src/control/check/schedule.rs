//! Who is checked when: pure, time is an argument. It has the servers, their health and their deadlines, and decides which
//! checks run at once; the sockets are the thread's.

use std::collections::{HashMap, VecDeque};

use super::Target;
use crate::control::health::{Health, Verdict};
use crate::control::state::ServerId;
use crate::turns::slots::{Key, Slots};
use crate::turns::timers::{Time, Timers};

/// Milliseconds over which the first checks of new servers are spread, if their interval is not shorter.
const FIRST_WITHIN: u64 = 1_000;

/// The part of an interval by which a check may be late, at random, so that checks that fell together part again.
const JITTER: u64 = 16;

/// Milliseconds of which checks begin at a multiple. With thousands of servers several share a turn: measured with 10 000, that
/// saves a tenth of the CPU time.
const TICK: u64 = 5;

/// All servers that are checked.
#[derive(Debug)]
pub(super) struct Schedule {
    subjects: Slots<Subject>,
    by_server: HashMap<ServerId, Key>,
    /// By the subject's slot: when its next check is due or, while one runs, when its time is over.
    timers: Timers,
    due: Vec<u32>,
    /// Due, in order.
    queue: VecDeque<Key>,
    /// Due, and hung the last time: with no more than half of the places, so that they hold up no others.
    suspects: VecDeque<Key>,
    running: usize,
    running_suspects: usize,
    at_once: usize,
    random: fastrand::Rng,
}

#[derive(Debug)]
struct Subject {
    target: Target,
    health: Health,
    stage: Stage,
    /// When its last check was due, or the next one is. Jitter is not in it, so that it does not add up.
    phase: Time,
    /// Whether it hung the last time.
    is_suspect: bool,
    is_first: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its timer says when it is due.
    Resting,
    /// It is in one of the queues.
    Due,
    /// Under this key of the thread's.
    Running(Key),
}

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
    /// It has failed because its time was over.
    Hung,
}

impl Schedule {
    /// One without servers, and at most this many checks at once.
    pub(super) fn new(at_once: usize, random: fastrand::Rng) -> Self {
        Self {
            subjects: Slots::new(),
            by_server: HashMap::new(),
            timers: Timers::new(),
            due: Vec::new(),
            queue: VecDeque::new(),
            suspects: VecDeque::new(),
            running: 0,
            running_suspects: 0,
            at_once,
            random,
        }
    }

    /// Goes on with these servers. Gives the keys of the running checks of those that are gone, which are to be broken off.
    pub(super) fn replace(&mut self, targets: Vec<Target>, now: Time) -> Vec<Key> {
        let mut gone = std::mem::take(&mut self.by_server);
        let mut new = Vec::new();
        for target in targets.into_iter().filter(|target| target.check.is_on()) {
            let stays = gone.get(&target.server).copied().filter(|key| self.is_same(*key, &target));
            match stays {
                Some(key) => {
                    gone.remove(&target.server);
                    self.by_server.insert(target.server, key);
                }
                None => new.push(target),
            }
        }
        let broken_off = gone.into_values().filter_map(|key| self.remove(key)).collect();
        let count = new.len() as u64;
        for (place, target) in (0..).zip(new) {
            let within = u64::from(target.check.interval().as_millis()).min(FIRST_WITHIN);
            self.add(target, now + within * place / count);
        }
        broken_off
    }

    fn is_same(&self, key: Key, target: &Target) -> bool {
        self.subjects.get(key).is_some_and(|subject| subject.target.is_checked_like(target))
    }

    fn add(&mut self, target: Target, when: Time) {
        let server = target.server;
        let subject = Subject {
            target,
            health: Health::unproven(),
            stage: Stage::Resting,
            phase: when,
            is_suspect: false,
            is_first: true,
        };
        // There are fewer servers than slots: 4096 frontends could have more, but no memory would hold them.
        let Some(key) = self.subjects.insert(subject) else { return };
        self.timers.set(key.slot, when);
        self.by_server.insert(server, key);
    }

    /// Takes a subject away; a key of it in a queue is found stale later.
    fn remove(&mut self, key: Key) -> Option<Key> {
        let subject = self.subjects.remove(key)?;
        self.timers.clear(key.slot);
        match subject.stage {
            Stage::Running(check) => {
                self.on_left(subject.is_suspect);
                Some(check)
            }
            Stage::Resting | Stage::Due => None,
        }
    }

    /// Moves time on. Adds to `over` the running checks whose time is over.
    pub(super) fn advance(&mut self, now: Time, over: &mut Vec<Key>) {
        let mut due = std::mem::take(&mut self.due);
        self.timers.advance(now, &mut due);
        for slot in due.drain(..) {
            let Some(key) = self.subjects.key_of(slot) else { continue };
            let Some(subject) = self.subjects.get_mut(key) else { continue };
            match subject.stage {
                Stage::Resting => {
                    subject.stage = Stage::Due;
                    let queue = if subject.is_suspect { &mut self.suspects } else { &mut self.queue };
                    queue.push_back(key);
                }
                Stage::Running(check) => over.push(check),
                // Has no timer.
                Stage::Due => {}
            }
        }
        self.due = due;
    }

    /// The next server to check, if there is one and there is room. To be followed by [`Schedule::on_begun`],
    /// [`Schedule::postpone`] or [`Schedule::on_outcome`].
    pub(super) fn next(&mut self) -> Option<(Key, &Target)> {
        let key = loop {
            let key = match () {
                () if self.running >= self.at_once => return None,
                () if !self.queue.is_empty() => self.queue.pop_front()?,
                () if self.running_suspects < self.at_once.div_ceil(2) => self.suspects.pop_front()?,
                () => return None,
            };
            // The others were taken away since.
            if self.subjects.get(key).is_some() {
                break key;
            }
        };
        self.subjects.get(key).map(|subject| (key, &subject.target))
    }

    /// The check of a server runs under this key of the thread's. It has its timeout from now on.
    pub(super) fn on_begun(&mut self, key: Key, check: Key, now: Time) {
        let Some(subject) = self.subjects.get_mut(key) else { return };
        subject.stage = Stage::Running(check);
        self.running += 1;
        self.running_suspects += usize::from(subject.is_suspect);
        self.timers.set(key.slot, now + u64::from(subject.target.check.timeout().as_millis()));
    }

    /// A server can't be checked yet, for reasons of our own: it is the next one as soon as there is room.
    pub(super) fn postpone(&mut self, key: Key) {
        let Some(subject) = self.subjects.get_mut(key) else { return };
        let (was, is_suspect) = (std::mem::replace(&mut subject.stage, Stage::Due), subject.is_suspect);
        self.timers.clear(key.slot);
        if matches!(was, Stage::Running(_)) {
            self.on_left(is_suspect);
        }
        let queue = if is_suspect { &mut self.suspects } else { &mut self.queue };
        queue.push_front(key);
    }

    /// A check has come to its end. Gives the server and the verdict if that is a new one.
    pub(super) fn on_outcome(&mut self, key: Key, outcome: Outcome, now: Time) -> Option<(&Target, Verdict)> {
        let subject = self.subjects.get_mut(key)?;
        let (was, was_suspect) = (std::mem::replace(&mut subject.stage, Stage::Resting), subject.is_suspect);
        let check = &subject.target.check;
        let verdict = subject.health.on_result(outcome == Outcome::Passed, check.fall(), check.rise());
        subject.is_suspect = outcome == Outcome::Hung;
        let mut pause = subject.health.next_in(check).as_millis() as u64;
        if std::mem::take(&mut subject.is_first) {
            // Spreads over the whole interval those that were first checked within a part of it.
            pause -= self.random.u64(0..=pause / 2);
        }
        subject.phase += pause;
        if subject.phase < now {
            // The check took longer than the interval, or this thread did not run. What is late by as much is spread.
            subject.phase = now + self.random.u64(0..=(now - subject.phase).min(pause));
        }
        let when = subject.phase + self.random.u64(0..=pause / JITTER);
        self.timers.set(key.slot, when.next_multiple_of(TICK));
        if matches!(was, Stage::Running(_)) {
            self.on_left(was_suspect);
        }
        verdict.and_then(|verdict| Some((&self.subjects.get(key)?.target, verdict)))
    }

    /// The server that is checked under this key.
    pub(super) fn target(&self, key: Key) -> Option<&Target> {
        self.subjects.get(key).map(|subject| &subject.target)
    }

    /// When to look again.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    /// True if checks are due that did not begin.
    pub(super) fn has_due(&self) -> bool {
        !(self.queue.is_empty() && self.suspects.is_empty())
    }

    fn on_left(&mut self, is_suspect: bool) {
        self.running -= 1;
        self.running_suspects -= usize::from(is_suspect);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Check, CheckKind, Millis};
    use proptest::prelude::*;
    use std::net::SocketAddr;
    use std::time::Duration;

    fn target(server: ServerId, check: &Arc<Check>) -> Target {
        Target::plain(server, SocketAddr::from(([127, 0, 0, 1], 1)), Arc::clone(check))
    }

    fn targets(servers: std::ops::Range<ServerId>, check: &Arc<Check>) -> Vec<Target> {
        servers.map(|server| target(server, check)).collect()
    }

    fn every(millis: u64) -> Arc<Check> {
        let interval = Millis::new(Duration::from_millis(millis)).unwrap();
        Arc::new(Check::default().with_interval(interval).unwrap())
    }

    fn schedule(at_once: usize) -> Schedule {
        Schedule::new(at_once, fastrand::Rng::with_seed(1))
    }

    /// A key for the thread's side of a server's check.
    fn check_key(server: ServerId) -> Key {
        Key { slot: server as u32, generation: 7 }
    }

    /// Lets time pass, with servers that answer as `outcome` says, at once or by hanging. Gives who was checked when.
    fn run(
        schedule: &mut Schedule,
        times: std::ops::Range<Time>,
        outcome: impl Fn(ServerId) -> Outcome,
    ) -> Vec<(ServerId, Time)> {
        let (mut begun, mut over) = (Vec::new(), Vec::new());
        for now in times {
            schedule.advance(now, &mut over);
            for check in over.drain(..) {
                let key = schedule.by_server[&ServerId::from(check.slot)];
                schedule.on_outcome(key, Outcome::Hung, now);
            }
            while let Some((key, target)) = schedule.next() {
                let server = target.server;
                begun.push((server, now));
                schedule.on_begun(key, check_key(server), now);
                if outcome(server) != Outcome::Hung {
                    schedule.on_outcome(key, outcome(server), now);
                }
            }
        }
        begun
    }

    #[test]
    fn first_checks_are_spread_over_a_second_and_later_ones_over_the_interval() {
        let mut schedule = schedule(10_000);
        schedule.replace(targets(0..1000, &every(2_000)), 0);
        let begun = run(&mut schedule, 0..20_000, |_| Outcome::Passed);
        let within = |from: Time, to: Time| begun.iter().filter(|(_, when)| (from..to).contains(when)).count();
        assert_eq!(within(0, 1_000), 1000);
        assert!((0..10).all(|tenth| within(tenth * 100, tenth * 100 + 100) <= 101), "{begun:?}");
        // Every 2 s each is checked once, give or take the jitter, and no tenth of it has more than twice its share.
        assert!((900..1100).contains(&within(16_000, 18_000)), "{}", within(16_000, 18_000));
        assert!((0..10).all(|tenth| within(16_000 + tenth * 200, 16_200 + tenth * 200) < 200));
    }

    #[test]
    fn a_single_new_server_is_checked_at_once() {
        let mut schedule = schedule(10);
        schedule.replace(targets(0..1, &every(2_000)), 500);
        assert_eq!(run(&mut schedule, 500..600, |_| Outcome::Passed), [(0, 500)]);
    }

    #[test]
    fn who_is_to_be_forgotten_gets_a_first_verdict_again() {
        let mut schedule = schedule(10);
        let verdicts = |schedule: &mut Schedule, now| {
            schedule.advance(now, &mut Vec::new());
            let key = schedule.next().map(|(key, _)| key)?;
            schedule.on_begun(key, check_key(0), now);
            schedule.on_outcome(key, Outcome::Failed, now).map(|(_, verdict)| verdict)
        };
        let first = targets(0..1, &every(100));
        schedule.replace(first.clone(), 0);
        assert_eq!(verdicts(&mut schedule, 1), Some(Verdict::Down));
        schedule.replace(first, 10);
        assert_eq!(verdicts(&mut schedule, 1_000), None, "it is known");
        let anew = vec![Target { epoch: 1, ..target(0, &every(100)) }];
        schedule.replace(anew, 1_000);
        assert_eq!(verdicts(&mut schedule, 1_001), Some(Verdict::Down));
    }

    #[test]
    fn servers_that_hang_hold_up_no_other() {
        let mut schedule = schedule(8);
        let mut all = targets(0..100, &every(2_000));
        schedule.replace(all.clone(), 0);
        run(&mut schedule, 0..60_000, |_| Outcome::Hung);
        all.extend(targets(100..104, &every(2_000)));
        schedule.replace(all, 60_000);
        let begun =
            run(&mut schedule, 60_000..160_000, |server| if server < 100 { Outcome::Hung } else { Outcome::Passed });
        for healthy in 100..104 {
            let times: Vec<_> = begun.iter().filter(|(server, _)| *server == healthy).map(|(_, when)| *when).collect();
            assert!(times[0] < 61_000 && times.windows(2).all(|pair| pair[1] - pair[0] <= 2_130), "{times:?}");
        }
        assert!((0..100).all(|hung| begun.iter().any(|(server, _)| *server == hung)), "a suspect is never checked");
    }

    #[test]
    fn a_server_that_stays_keeps_its_state_and_a_changed_one_starts_anew() {
        let mut schedule = schedule(10);
        let check = every(2_000);
        schedule.replace(targets(0..3, &check), 0);
        run(&mut schedule, 0..10_000, |_| Outcome::Passed);
        let healths = |schedule: &Schedule| -> Vec<_> {
            let health = |server: ServerId| schedule.subjects.get(schedule.by_server[&server]).unwrap().health;
            (0..3).map(health).collect()
        };
        let proven = healths(&schedule)[0];
        let mut moved = target(1, &check);
        moved.addr.set_port(2);
        let other = Check::clone(&check).with_fall(1).unwrap();
        // An equal check is the same check, whoever made it.
        schedule.replace(vec![target(0, &every(2_000)), moved, target(2, &Arc::new(other))], 10_000);
        assert_eq!(healths(&schedule), [proven, Health::unproven(), Health::unproven()]);
        let begun = run(&mut schedule, 10_000..11_100, |_| Outcome::Passed);
        assert!([1, 2].iter().all(|new| begun.iter().any(|(server, _)| server == new)), "{begun:?}");
    }

    #[test]
    fn a_server_that_is_taken_away_or_off_is_not_checked_any_more_and_its_check_is_broken_off() {
        let mut schedule = schedule(10);
        let mut all = targets(0..2, &every(2_000));
        schedule.replace(all.clone(), 0);
        run(&mut schedule, 0..1_500, |_| Outcome::Hung);
        all[0].check = Arc::new(Check::new(CheckKind::Off));
        all.truncate(1);
        let mut broken_off = schedule.replace(all, 1_500);
        broken_off.sort_by_key(|key| key.slot);
        assert_eq!(broken_off, [check_key(0), check_key(1)]);
        assert_eq!(run(&mut schedule, 1_500..9_000, |_| Outcome::Passed), []);
        assert_eq!((schedule.deadline(), schedule.running, schedule.has_due()), (None, 0, false));
    }

    #[test]
    fn what_is_postponed_comes_first_and_counts_as_nothing() {
        let mut schedule = schedule(10);
        schedule.replace(targets(0..2, &every(2_000)), 0);
        schedule.advance(1_000, &mut Vec::new());
        let (first, _) = schedule.next().unwrap();
        schedule.postpone(first);
        assert!(schedule.has_due());
        assert_eq!(schedule.next().unwrap().0, first);
        schedule.on_begun(first, check_key(0), 1_000);
        schedule.postpone(first);
        assert_eq!((schedule.running, schedule.next().unwrap().0), (0, first));
    }

    proptest! {
        /// Whatever happens: no more run at once than may, and each server that is there is checked again.
        #[test]
        fn every_server_is_checked_again_and_never_too_many_at_once(
            seed in any::<u64>(),
            steps in prop::collection::vec((0u64..3_000, 0u64..12, 0u8..3), 1..40),
        ) {
            let mut schedule = Schedule::new(4, fastrand::Rng::with_seed(seed));
            let (mut now, mut over) = (0, Vec::new());
            let mut running: Vec<Key> = Vec::new();
            for (pause, servers, outcome) in steps {
                now += pause;
                let broken_off = schedule.replace(targets(0..servers, &every(500)), now);
                running.retain(|key| schedule.subjects.get(*key).is_some());
                prop_assert!(broken_off.len() <= 4);
                schedule.advance(now, &mut over);
                for check in over.drain(..) {
                    let key = schedule.by_server[&ServerId::from(check.slot)];
                    running.retain(|other| *other != key);
                    schedule.on_outcome(key, Outcome::Hung, now);
                }
                while let Some((key, target)) = schedule.next() {
                    let server = target.server;
                    schedule.on_begun(key, check_key(server), now);
                    match outcome {
                        0 => drop(schedule.on_outcome(key, Outcome::Passed, now)),
                        1 => drop(schedule.on_outcome(key, Outcome::Failed, now)),
                        _ => running.push(key),
                    }
                }
                prop_assert_eq!(schedule.running, running.len());
                prop_assert!(running.len() <= 4);
            }
            let begun = run(&mut schedule, now..now + 10_000, |_| Outcome::Passed);
            for server in schedule.by_server.keys() {
                prop_assert!(begun.iter().any(|(checked, _)| checked == server), "{} is forgotten", server);
            }
        }
    }
}
