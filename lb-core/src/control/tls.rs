//! From settings and certificates to what shards greet clients with, and how they speak to servers.

use std::collections::HashMap;
use std::sync::Arc;

use super::change::Refused;
use super::state::{CertificateEntry, Entry, State};
use crate::config::{Frontend, Name, Protocol, Server};
use crate::table::{Greeting, Transport};
use crate::tls::accept::{Acceptor, Tickets};
use crate::tls::certificate::{Identity, Loaded, Trust};
use crate::tls::dial::{Dialer, Expected};

/// The only protocol that is offered to clients of a frontend with `https`.
pub(super) const HTTP_1_1: &str = "http/1.1";

/// The certificates that a frontend and its servers use, by name.
#[derive(Clone, Default)]
pub(super) struct Used(HashMap<Name, Arc<CertificateEntry>>);

impl Used {
    /// Those of a frontend.
    pub(super) fn by(entry: &Entry, state: &State) -> Self {
        let frontend = &entry.frontend;
        let of_servers = frontend.servers().iter().flat_map(|server| server.certificates());
        let names = frontend.own_certificates().chain(of_servers).map(|(_, name)| name);
        let entries = names.filter_map(|name| Some((name.clone(), Arc::clone(state.certificate(name)?))));
        Self(entries.collect())
    }

    fn identity(&self, field: &str, name: &Name) -> Result<&Arc<Identity>, Refused> {
        match self.0.get(name).map(|entry| &entry.loaded) {
            Some(Loaded::Identity(identity)) => Ok(identity),
            _ => Err(Refused::field(field, format!("there is no certificate {name} with a chain and a key"))),
        }
    }

    fn trust(&self, field: &str, name: &Name) -> Result<&Arc<Trust>, Refused> {
        match self.0.get(name).map(|entry| &entry.loaded) {
            Some(Loaded::Trust(trust)) => Ok(trust),
            _ => Err(Refused::field(field, format!("there is no certificate {name} with a bundle"))),
        }
    }

    fn is_same(&self, other: &Self, name: &Name) -> bool {
        match (self.0.get(name), other.0.get(name)) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }
}

/// What clients of a frontend are greeted with; `None` if nothing is to be heard of them. Session tickets stay good for as
/// long as `tickets` are the same.
pub(super) fn greeting(
    config: &Arc<Frontend>,
    used: &Used,
    tickets: &Arc<Tickets>,
    shards: usize,
) -> Result<Option<Arc<Greeting>>, Refused> {
    let acceptor = if config.certificates().is_empty() { None } else { Some(acceptor(config, used, tickets, shards)?) };
    let is_heard =
        config.protocol().is_http() || !config.sni_routes().is_empty() || !config.accept_proxy_from().is_empty();
    if acceptor.is_none() && !is_heard {
        return Ok(None);
    }
    let servers = config.servers();
    let is_ended_by_all =
        acceptor.is_some() && !servers.is_empty() && servers.iter().all(|server| server.ssl_offload());
    let terminates = config.protocol() == Protocol::Https || is_ended_by_all;
    Ok(Some(Arc::new(Greeting { config: Arc::clone(config), acceptor, terminates })))
}

fn acceptor(config: &Frontend, used: &Used, tickets: &Arc<Tickets>, shards: usize) -> Result<Acceptor, Refused> {
    let identities = config.certificates().iter().map(|name| used.identity("certificates", name).map(Arc::clone));
    let identities = identities.collect::<Result<Vec<_>, _>>()?;
    let client = config.client_ca().map(|name| used.trust("client_ca", name)).transpose()?;
    let mut alpn: Vec<_> = config.alpn().map(|name| name.as_bytes().to_vec()).collect();
    if alpn.is_empty() && config.protocol() == Protocol::Https {
        alpn.push(HTTP_1_1.as_bytes().to_vec());
    }
    let client = client.map(|trust| (trust, config.client_auth()));
    Ok(Acceptor::new(&identities, &alpn, client, tickets, shards)?)
}

/// A server of a frontend, with the certificates that they use.
#[derive(Clone, Copy)]
pub(super) struct Peer<'a> {
    pub(super) frontend: &'a Frontend,
    pub(super) server: &'a Arc<Server>,
    pub(super) used: &'a Used,
}

/// The servers of a frontend.
pub(super) fn peers<'a>(entry: &'a Entry, used: &'a Used) -> impl Iterator<Item = Peer<'a>> {
    let frontend = &*entry.frontend;
    frontend.servers().iter().map(move |server| Peer { frontend, server, used })
}

/// How a server is spoken to.
pub(super) fn transport(peer: Peer<'_>, shards: usize) -> Result<Transport, Refused> {
    let Peer { frontend, server, used } = peer;
    let dialer = server.server_certificate().map(|bundle| dialer(server, bundle, used, shards)).transpose()?;
    let offload = frontend.offloads(server);
    Ok(Transport { offload, dialer: dialer.map(Arc::new), send_proxy: server.send_proxy() })
}

/// How a server is dialled that is trusted by this bundle.
pub(super) fn dialer(server: &Server, bundle: &Name, used: &Used, shards: usize) -> Result<Dialer, Refused> {
    let trust = used.trust("server_certificate", bundle)?;
    let identity = server.client_certificate().map(|name| used.identity("client_certificate", name)).transpose()?;
    let (server_name, verify_name, ip) = (server.server_name(), server.verify_name(), server.addr().ip());
    Ok(Dialer::new(trust, Expected { server_name, verify_name, ip }, identity.map(AsRef::as_ref), shards)?)
}

/// Whether two servers are at the same address and spoken to in the same way, each with the certificates that it uses.
pub(super) fn is_same_endpoint(one: Peer<'_>, other: Peer<'_>) -> bool {
    let settings = |peer: Peer<'_>| (peer.server.addr(), peer.server.send_proxy());
    let is_same_server = Arc::ptr_eq(one.server, other.server)
        || settings(one) == settings(other) && one.server.is_trusted_like(other.server);
    is_same_server
        && one.frontend.offloads(one.server) == other.frontend.offloads(other.server)
        && one.server.certificates().all(|(_, name)| one.used.is_same(other.used, name))
}
