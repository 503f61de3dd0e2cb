//! From settings and certificates to what shards greet clients with, and how they speak to servers.

use std::collections::HashMap;
use std::sync::Arc;

use super::change::Refused;
use super::state::{CertificateEntry, Entry, State};
use crate::config::{Frontend, Name, Server};
use crate::table::{Greeting, Transport};
use crate::tls::accept::{Acceptor, Tickets};
use crate::tls::certificate::{Identity, Loaded, Trust};
use crate::tls::dial::{Dialer, Expected};

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
    if acceptor.is_none() && config.sni_routes().is_empty() && config.accept_proxy_from().is_empty() {
        return Ok(None);
    }
    let servers = config.servers();
    let terminates = acceptor.is_some() && !servers.is_empty() && servers.iter().all(|server| server.ssl_offload());
    Ok(Some(Arc::new(Greeting { config: Arc::clone(config), acceptor, terminates })))
}

fn acceptor(config: &Frontend, used: &Used, tickets: &Arc<Tickets>, shards: usize) -> Result<Acceptor, Refused> {
    let identities = config.certificates().iter().map(|name| used.identity("certificates", name).map(Arc::clone));
    let identities = identities.collect::<Result<Vec<_>, _>>()?;
    let client = config.client_ca().map(|name| used.trust("client_ca", name)).transpose()?;
    let alpn: Vec<_> = config.alpn().map(|name| name.as_bytes().to_vec()).collect();
    let client = client.map(|trust| (trust, config.client_auth()));
    Ok(Acceptor::new(&identities, &alpn, client, tickets, shards)?)
}

/// How a server is spoken to.
pub(super) fn transport(server: &Server, used: &Used, shards: usize) -> Result<Transport, Refused> {
    let dialer = server.server_certificate().map(|bundle| dialer(server, bundle, used, shards)).transpose()?;
    Ok(Transport { offload: server.ssl_offload(), dialer: dialer.map(Arc::new), send_proxy: server.send_proxy() })
}

/// How a server is dialled that is trusted by this bundle.
pub(super) fn dialer(server: &Server, bundle: &Name, used: &Used, shards: usize) -> Result<Dialer, Refused> {
    let trust = used.trust("server_certificate", bundle)?;
    let identity = server.client_certificate().map(|name| used.identity("client_certificate", name)).transpose()?;
    let (server_name, verify_name, ip) = (server.server_name(), server.verify_name(), server.addr().ip());
    Ok(Dialer::new(trust, Expected { server_name, verify_name, ip }, identity.map(AsRef::as_ref), shards)?)
}

/// Whether two servers are at the same address and spoken to in the same way, each with the certificates that it uses.
pub(super) fn is_same_endpoint((one, by_one): (&Arc<Server>, &Used), (other, by_other): (&Arc<Server>, &Used)) -> bool {
    let settings = |server: &Server| (server.addr(), server.ssl_offload(), server.send_proxy());
    let is_same_server = Arc::ptr_eq(one, other) || settings(one) == settings(other) && one.is_trusted_like(other);
    is_same_server && one.certificates().all(|(_, name)| by_one.is_same(by_other, name))
}
