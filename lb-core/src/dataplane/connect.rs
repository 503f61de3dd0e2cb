//! Choosing a server and connecting to it; when that fails, the next one, each at most once.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::key::{Key, Operation};
use super::shard::{Shard, Turn};
use super::stopwatch::Event;
use super::timers::Time;
use crate::balance::{Candidate, Choice, Policy};
use crate::sys::ring::Completion;
use crate::sys::socket;
use crate::table::Endpoint;

impl Shard {
    /// Chooses a server for a connection and begins to connect to it.
    pub(super) fn connect(&mut self, key: Key, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let frontend = turn.table.frontend(session.frontend);
        let chosen = frontend.and_then(|frontend| {
            let choice = Choice {
                client: client_ip(&session.client, frontend.policy.as_ref()),
                attempt: session.tried.len() as u32,
                random: self.random.u64(..),
                now: self.now_micros,
            };
            let position = choose(frontend.policy.as_ref(), &frontend.candidates, &session.tried, &choice)?;
            Some((frontend, position))
        });
        let Some((frontend, position)) = chosen else {
            session.counters.shards[self.number].unserved.add(1);
            return session.conn.on_no_server();
        };
        let endpoint = &frontend.candidates[position].endpoint;
        match self.recycled.socket_for(endpoint.addr) {
            Ok(server) => {
                endpoint.on_opened();
                frontend.policy.on_opened(position);
                self.ring.connect(&server, endpoint.addr, Operation::Connect(key).encode());
                session.server = Some(server);
                session.endpoint = Some(Arc::clone(endpoint));
                session.since = self.now;
                if frontend.policy.needs_latency() {
                    session.stopwatch.begin(self.now_micros);
                }
                self.timers.set(key.slot, self.now + Time::from(session.connect_timeout));
            }
            Err(error) if is_shortage(&error) => {
                session.conn.on_no_descriptor();
                self.waiting.push(key);
                self.on_shortage(error.raw_os_error().unwrap_or(libc::EMFILE), turn);
            }
            Err(_) => {
                endpoint.load.shards[self.number].failed.add(1);
                session.tried.push(Arc::clone(endpoint));
                session.conn.on_connect_failed();
            }
        }
    }

    /// A connect has succeeded or failed.
    pub(super) fn on_connect_ended(&mut self, key: Key, completion: &Completion, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else {
            return self.on_stale();
        };
        if completion.result >= 0 {
            if let Some(endpoint) = &session.endpoint {
                endpoint.load.shards[self.number].served.add(1);
            }
            session.tried = Vec::new();
            session.measure(Event::Connected, self.now_micros);
            session.conn.on_connected();
            if let (Some(server), false) = (&session.server, session.conn.has_early_bytes()) {
                // Fails only if the connection is gone again, which the receive from it reports.
                let _ = socket::acknowledge(server);
            }
        } else {
            session.conn.on_connect_failed();
            if !session.conn.is_closing() {
                self.leave_server(key, turn);
            }
        }
        self.drive(key, turn);
    }

    /// Gives up a server that could not be connected to.
    fn leave_server(&mut self, key: Key, turn: &Turn<'_>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.measure(Event::ConnectFailed, self.now_micros);
        if let Some(server) = session.server.take() {
            self.ring.close(server, Operation::Nothing.encode());
        }
        if let Some(endpoint) = session.endpoint.take() {
            endpoint.load.shards[self.number].failed.add(1);
            on_left(&endpoint, session.frontend, turn);
            session.tried.push(endpoint);
        }
    }
}

/// A connection does not count for this address any more.
pub(super) fn on_left(endpoint: &Endpoint, frontend: u32, turn: &Turn<'_>) {
    endpoint.on_closed();
    if let (Some(position), Some(frontend)) = (endpoint.load.position(), turn.table.frontend(frontend)) {
        frontend.policy.on_closed(position);
    }
}

/// What the policy chooses, or if that was tried already, a random candidate that was not: the next in order would be the
/// same neighbour every time, which would get all that a server refuses which the policy prefers.
pub(crate) fn choose(
    policy: &dyn Policy,
    candidates: &[Candidate],
    tried: &[Arc<Endpoint>],
    choice: &Choice,
) -> Option<usize> {
    let first = policy.choose(choice).filter(|&position| position < candidates.len())?;
    let is_new = |position: &usize| {
        let endpoint = &candidates[*position].endpoint;
        !tried.iter().any(|tried| Arc::ptr_eq(tried, endpoint))
    };
    let drawn = (0..4).map(|draw| choice.random.rotate_right(16 * draw) as u32 as usize % candidates.len());
    // In order only where hardly any is left.
    [first].into_iter().chain(drawn).chain(first..candidates.len()).chain(0..first).find(is_new)
}

fn client_ip(client: &OwnedFd, policy: &dyn Policy) -> IpAddr {
    const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    if !policy.needs_client() {
        return UNKNOWN;
    }
    // Fails if the client has gone already: then it does not matter who serves it.
    socket::peer_addr(client).map_or(UNKNOWN, |addr| addr.ip().to_canonical())
}

fn is_shortage(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::testing::{candidates, choice};

    struct Always(Option<usize>);

    impl Policy for Always {
        fn choose(&self, _: &Choice) -> Option<usize> {
            self.0
        }
    }

    #[test]
    fn every_server_is_tried_once_and_then_none_is_left() {
        assert_eq!(order_of_tries(0), [1, 0, 2]);
    }

    #[test]
    fn who_is_tried_after_a_server_that_is_always_chosen_is_left_to_chance() {
        assert_eq!(order_of_tries(2), [1, 2, 0]);
    }

    /// The order in which three servers are tried of which the second is always chosen.
    fn order_of_tries(random: u64) -> Vec<usize> {
        let servers = candidates(&[1, 1, 1]);
        let (mut tried, mut order) = (Vec::new(), Vec::new());
        while let Some(position) = choose(&Always(Some(1)), &servers, &tried, &choice(random)) {
            order.push(position);
            tried.push(Arc::clone(&servers[position].endpoint));
        }
        order
    }

    #[test]
    fn a_policy_that_chooses_out_of_range_chooses_nobody() {
        let servers = candidates(&[1, 1]);
        assert_eq!(choose(&Always(Some(2)), &servers, &[], &choice(0)), None);
        assert_eq!(choose(&Always(None), &servers, &[], &choice(0)), None);
    }
}
