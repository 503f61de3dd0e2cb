//! The course of events, in virtual time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use lb_core::config::PolicyKind;

use super::balancer::Balancer;
use super::scenario::{ROUND_TRIP, SERVICE, SLOW_DOWN};
use super::server::{Id, Server};
use super::{Outcome, PATIENCE, Scenario, Time, Trouble};
use crate::Result;
use crate::latency::Latency;

/// Different client addresses; each request is of one of them, all alike.
const CLIENTS: u32 = 1_000;
/// Makes the seed of the policy's random bits differ from the clients'.
const OTHER_SEED: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A connect has come back from the server.
    ConnectEnded(Id),
    /// A worker is done with a request.
    Served(Id),
    /// The answer has come.
    Answered(Id),
    /// An answer that is an error has come.
    Erred(Id),
    /// A reset has come instead of an answer.
    Reset(Id),
}

struct Request {
    begun: Time,
    client: u32,
    /// What it takes a server, 1 on average.
    demand: f64,
    /// The server that it is given to.
    position: usize,
    /// When that was connected to, then when it was asked.
    since: Time,
    /// Servers that have refused.
    tried: Vec<usize>,
    is_over: bool,
}

struct World<'a> {
    scenario: &'a Scenario,
    balancer: Balancer,
    servers: Vec<Server>,
    clients: fastrand::Rng,
    requests: Vec<Request>,
    /// When the next request comes; it has a fraction of a microsecond.
    next_request: f64,
    now: Time,
    /// Of events at the same time those that were scheduled first come first.
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    scheduled: u64,
    /// When clients give up, in order, as all have the same patience.
    patience: VecDeque<(Time, Id)>,
    is_trouble: bool,
    outcome: Outcome,
}

pub(super) fn run(scenario: &Scenario, policy: &PolicyKind, seed: u64, requests: u64) -> Result<Outcome> {
    let servers = scenario.slowness.len();
    let mut world = World {
        scenario,
        balancer: Balancer::new(policy, servers, seed ^ OTHER_SEED)?,
        servers: (0..servers).map(|_| Server::default()).collect(),
        clients: fastrand::Rng::with_seed(seed),
        requests: Vec::new(),
        next_request: 0.0,
        now: 0,
        events: BinaryHeap::new(),
        scheduled: 0,
        patience: VecDeque::new(),
        is_trouble: scenario.trouble == Trouble::None,
        outcome: Outcome { latency: Latency::new()?, failed: 0, requests, to_troubled: 0, connects: 0 },
    };
    world.run();
    Ok(world.outcome)
}

impl World<'_> {
    fn run(&mut self) {
        loop {
            let event = self.events.peek().map_or(Time::MAX, |Reverse((at, ..))| *at);
            let end_of_patience = self.patience.front().map_or(Time::MAX, |(at, _)| *at);
            let has_requests = (self.requests.len() as u64) < self.outcome.requests;
            let request = if has_requests { self.next_request as Time } else { Time::MAX };
            let first = event.min(end_of_patience).min(request);
            if first == Time::MAX {
                return;
            }
            self.now = first;
            if first == end_of_patience {
                self.on_end_of_patience();
            } else if first == event {
                self.on_event();
            } else {
                self.on_request();
            }
        }
    }

    fn on_request(&mut self) {
        let id = self.requests.len();
        self.is_trouble |= 2 * id as u64 >= self.outcome.requests;
        self.next_request += self.scenario.interval() * exponential(&mut self.clients);
        self.requests.push(Request {
            begun: self.now,
            client: self.clients.u32(..CLIENTS),
            demand: exponential(&mut self.clients),
            position: 0,
            since: self.now,
            tried: Vec::new(),
            is_over: false,
        });
        self.patience.push_back((self.now + PATIENCE.as_micros() as Time, id));
        self.connect(id);
    }

    /// Gives a request to a server that has not refused it.
    fn connect(&mut self, id: Id) {
        let request = &mut self.requests[id];
        let Some(position) = self.balancer.open(request.client, &request.tried, self.now) else {
            request.is_over = true;
            self.outcome.failed += 1;
            return;
        };
        (request.position, request.since) = (position, self.now);
        if self.is_trouble {
            self.outcome.connects += 1;
            self.outcome.to_troubled += u64::from(position < self.scenario.troubled);
        }
        self.schedule(ROUND_TRIP, Event::ConnectEnded(id));
    }

    fn on_event(&mut self) {
        let Some(Reverse((_, _, event))) = self.events.pop() else { return };
        match event {
            Event::ConnectEnded(id) => self.on_connect_ended(id),
            Event::Served(id) => self.on_served(id),
            Event::Answered(id) => self.on_answered(id),
            Event::Erred(id) => self.on_erred(id),
            Event::Reset(id) => self.on_reset(id),
        }
    }

    fn on_connect_ended(&mut self, id: Id) {
        let request = &mut self.requests[id];
        let position = request.position;
        let trouble =
            if self.is_trouble && position < self.scenario.troubled { self.scenario.trouble } else { Trouble::None };
        if trouble == Trouble::Refuses {
            self.balancer.on_refused(position, self.now);
            request.tried.push(position);
            return self.connect(id);
        }
        self.balancer.on_connected(position, self.now, self.now - request.since);
        request.since = self.now;
        match trouble {
            Trouble::Errors => self.schedule(ROUND_TRIP, Event::Erred(id)),
            Trouble::Resets => self.schedule(ROUND_TRIP, Event::Reset(id)),
            _ if self.servers[position].on_request(id) => self.serve(id),
            _ => {}
        }
    }

    /// A worker begins with a request.
    fn serve(&mut self, id: Id) {
        let Request { position, demand, .. } = self.requests[id];
        let is_slow = self.is_trouble && self.scenario.trouble == Trouble::Slow && position < self.scenario.troubled;
        let slow_down = if is_slow { SLOW_DOWN } else { 1.0 };
        let taken = demand * SERVICE * self.scenario.slowness[position] * slow_down;
        self.schedule(taken as Time, Event::Served(id));
    }

    fn on_served(&mut self, id: Id) {
        let requests = &self.requests;
        let next = self.servers[requests[id].position].on_done(|id| !requests[id].is_over);
        self.schedule(ROUND_TRIP, Event::Answered(id));
        if let Some(next) = next {
            self.serve(next);
        }
    }

    fn on_answered(&mut self, id: Id) {
        let request = &mut self.requests[id];
        if !request.is_over {
            request.is_over = true;
            self.balancer.on_answered(request.position, self.now, self.now - request.since);
            self.outcome.latency.record(Duration::from_micros(self.now - request.begun));
        }
    }

    fn on_erred(&mut self, id: Id) {
        let request = &mut self.requests[id];
        request.is_over = true;
        self.balancer.on_answered(request.position, self.now, self.now - request.since);
        self.outcome.failed += 1;
    }

    fn on_reset(&mut self, id: Id) {
        let request = &mut self.requests[id];
        request.is_over = true;
        self.balancer.on_reset(request.position, self.now);
        self.outcome.failed += 1;
    }

    /// A client gives up, if it still waits. That is no news to the policy, but for its connection's end.
    fn on_end_of_patience(&mut self) {
        let Some((_, id)) = self.patience.pop_front() else { return };
        let request = &mut self.requests[id];
        if !request.is_over {
            request.is_over = true;
            self.balancer.close(request.position);
            self.outcome.latency.record(PATIENCE);
            self.outcome.failed += 1;
        }
    }

    fn schedule(&mut self, after: Time, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((self.now + after, self.scheduled, event)));
    }
}

/// A time of mean 1 that has no memory.
fn exponential(random: &mut fastrand::Rng) -> f64 {
    -(1.0 - random.f64()).ln()
}
