//! Which clients stay on which servers: told, and forgotten.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Time;
use super::change::Refused;
use super::running::{Running, RunningFrontend};
use super::state::ServerId;
use crate::config::{IpPersistence, Millis, Name};
use crate::table::affinities::{Affinities, Entry, Key};
use crate::table::counters::{Counter, PersistenceCounters};
use crate::table::sources::{address_of, span};

/// Most clients in one list.
pub(super) const LIST_MAX: usize = 100_000;

/// Clients that stay on their servers, those first that were seen last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedClients {
    /// As many as were asked for.
    pub clients: Vec<RememberedClient>,
    /// How many more there are.
    pub more: u64,
}

/// A client that is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedClient {
    /// The frontend that it came to.
    pub frontend: Name,
    /// Its address, or the network that it is known by: `10.1.2.3`, `10.1.2.0/24`. `cookie` for a value of the application's
    /// cookie, of which only a hash is kept.
    pub client: String,
    /// The server that it stays on; `None` if that is gone, so that it is balanced anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Name>,
    /// For how much longer it is remembered, unless it is seen again.
    pub expires_in_milliseconds: u64,
}

/// How clients of a frontend stay on their servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersistenceStatus {
    /// Addresses, and values of the application's cookie, that are remembered; some may have expired.
    pub remembered: u64,
    /// The most that can be.
    pub size: u64,
    /// How often a client got the server that it stays on, since the frontend was added.
    pub hits: u64,
    /// How often an address was new, or had been forgotten.
    pub new: u64,
    /// How often an address got another server, because its own was gone, down, or had failed it.
    pub moved: u64,
}

impl Running {
    /// The clients that are remembered, of all frontends or of one; at most `limit`.
    pub(super) fn remembered(
        &self,
        frontend: Option<&Name>,
        limit: usize,
        now: Time,
    ) -> Result<RememberedClients, Refused> {
        let limit = limit.min(LIST_MAX);
        let (mut latest, mut count) = (BinaryHeap::new(), 0_u64);
        for (index, frontend) in self.those(frontend)?.enumerate() {
            for (kind, affinities, ttl) in frontend.memories() {
                affinities.for_each(span(now, ttl).since, |entry| {
                    count += 1;
                    let order = (entry.used, index, kind, entry.key.bits, entry.key.scope, entry.server);
                    latest.push(Reverse(order));
                    if latest.len() > limit {
                        latest.pop();
                    }
                });
            }
        }
        let frontends: Vec<_> = self.those(frontend)?.collect();
        let clients = latest.into_sorted_vec().into_iter().map(|Reverse((used, index, kind, bits, scope, server))| {
            frontends[index].client(kind, &Entry { key: Key { bits, scope }, server, used }, now)
        });
        let clients: Vec<_> = clients.collect();
        let more = count - clients.len() as u64;
        Ok(RememberedClients { clients, more })
    }

    /// Forgets the clients of all frontends or of one, all or those that stay on a server. Gives how many.
    pub(super) fn forget(&self, frontend: Option<&Name>, server: Option<&Name>) -> Result<u64, Refused> {
        let (mut forgotten, mut is_known) = (0, false);
        for frontend in self.those(frontend)? {
            let id = server.and_then(|name| frontend.server_named(name));
            if server.is_some() && id.is_none() {
                continue;
            }
            is_known = true;
            forgotten += frontend.memories().map(|(_, affinities, _)| affinities.clear(id)).sum::<u64>();
        }
        match server {
            Some(server) if !is_known => Err(Refused::field("server", format!("there is no server {server}"))),
            _ => Ok(forgotten),
        }
    }

    fn those<'a>(&'a self, name: Option<&'a Name>) -> Result<impl Iterator<Item = &'a RunningFrontend>, Refused> {
        let is_meant =
            move |frontend: &&RunningFrontend| name.is_none_or(|name| frontend.entry.frontend.name() == name);
        match name {
            Some(name) if !self.0.iter().any(|frontend| is_meant(&frontend)) => {
                Err(Refused::field("frontend", format!("there is no frontend {name}")))
            }
            _ => Ok(self.0.iter().filter(is_meant)),
        }
    }
}

/// What clients are known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Address,
    Cookie,
}

impl RunningFrontend {
    fn memories(&self) -> impl Iterator<Item = (Kind, &Affinities, Millis)> {
        let (sources, learned) = (self.kept.sources.as_ref(), self.kept.learned.as_ref());
        let sources = sources.map(|sources| (Kind::Address, &*sources.affinities, sources.settings().ttl()));
        let learned = learned.map(|learned| (Kind::Cookie, &*learned.affinities, learned.ttl));
        sources.into_iter().chain(learned)
    }

    fn client(&self, kind: Kind, entry: &Entry, now: Time) -> RememberedClient {
        let config = &self.entry.frontend;
        let ttl = self.memories().find(|(other, ..)| *other == kind).map_or(0, |(_, _, ttl)| ttl.as_millis());
        let settings = self.kept.sources.as_ref().map(|sources| sources.settings());
        let client = match (kind, settings) {
            (Kind::Address, Some(settings)) => network(address_of(&entry.key), settings),
            _ => "cookie".to_owned(),
        };
        RememberedClient {
            frontend: config.name().clone(),
            client,
            server: self.name_of(entry.server).cloned(),
            expires_in_milliseconds: (entry.used + Time::from(ttl)).saturating_sub(now),
        }
    }

    fn name_of(&self, server: ServerId) -> Option<&Name> {
        let index = self.entry.server_ids.binary_search(&server).ok()?;
        self.entry.frontend.servers().get(index).map(|server| server.name())
    }

    fn server_named(&self, name: &Name) -> Option<ServerId> {
        let index = self.entry.frontend.servers().iter().position(|server| server.name() == name)?;
        self.entry.server_ids.get(index).copied()
    }

    /// How its clients stay, if they do.
    pub(super) fn persistence(&self) -> Option<PersistenceStatus> {
        self.table.persistence.as_ref()?;
        let shards = &self.table.counters.shards;
        let sum = |counter: fn(&PersistenceCounters) -> &Counter| {
            shards.iter().map(|shard| counter(&shard.persistence).get()).sum()
        };
        Some(PersistenceStatus {
            remembered: self.memories().map(|(_, affinities, _)| affinities.len()).sum(),
            size: self.memories().map(|(_, affinities, _)| affinities.size()).sum(),
            hits: sum(|counters| &counters.hits),
            new: sum(|counters| &counters.new),
            moved: sum(|counters| &counters.moved),
        })
    }
}

fn network(addr: IpAddr, settings: IpPersistence) -> String {
    match (addr, settings.prefix_v4(), settings.prefix_v6()) {
        (IpAddr::V4(_), 32, _) | (IpAddr::V6(_), _, 128) => addr.to_string(),
        (IpAddr::V4(_), prefix, _) | (IpAddr::V6(_), _, prefix) => format!("{addr}/{prefix}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_written_with_its_prefix_and_a_whole_address_without() {
        let written = |addr: &str, v4, v6| {
            let settings = IpPersistence::default().with_prefixes(v4, v6).unwrap();
            network(addr.parse().unwrap(), settings)
        };
        assert_eq!(written("10.1.2.3", 32, 64), "10.1.2.3");
        assert_eq!(written("10.1.2.0", 24, 64), "10.1.2.0/24");
        assert_eq!(written("2001:db8::", 32, 64), "2001:db8::/64");
        assert_eq!(written("2001:db8::1", 24, 128), "2001:db8::1");
    }
}
