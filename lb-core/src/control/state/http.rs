//! What must hold of a frontend's protocol and of how its clients stay on their servers; and by what cookies know a server.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::State;
use crate::config::{CookieMode, Frontend, Name, PersistenceKey, Protocol, Server};
use crate::control::change::Refused;
use crate::control::tls::HTTP_1_1;

impl State {
    /// The key that the values of cookies are made with.
    pub(crate) fn persistence_key(&self) -> Option<&PersistenceKey> {
        self.persistence_key.as_ref()
    }

    /// Whether the values of cookies are made with a key at all.
    pub(crate) fn needs_persistence_key(&self) -> bool {
        self.entries.iter().any(|entry| entry.frontend.cookie_persistence())
    }

    /// Checks protocols, cookies and identities. Only once all changes of a transaction are made, so that their order does
    /// not matter.
    pub(super) fn check_http(&self) -> Result<(), Refused> {
        for frontend in self.entries.iter().map(|entry| &entry.frontend) {
            match frontend.protocol() {
                Protocol::Tcp => {}
                Protocol::Http => check_plain(frontend)?,
                Protocol::Https => check_secure(frontend)?,
            }
            check_limits(frontend)?;
            check_cookie(frontend)?;
            check_identities(frontend)?;
        }
        Ok(())
    }
}

/// Where clients come without TLS, nothing may be set that is of TLS with them: who sets it expects that something is
/// protected.
fn check_plain(frontend: &Frontend) -> Result<(), Refused> {
    let name = frontend.name();
    let refuse = |field: &str, whose: String| {
        let reason = format!("{whose} has {field}, but protocol: http is without TLS: write protocol: https");
        Err(Refused::field(field, reason))
    };
    let set = [
        (!frontend.certificates().is_empty(), "certificates"),
        (frontend.alpn().next().is_some(), "alpn"),
        (frontend.client_ca().is_some(), "client_ca"),
        (!frontend.sni_routes().is_empty(), "sni_routes"),
    ];
    if let Some((_, field)) = set.iter().find(|(is_set, _)| *is_set) {
        return refuse(field, format!("frontend {name}"));
    }
    match frontend.servers().iter().find(|server| server.ssl_offload()) {
        Some(server) => refuse("ssl_offload", format!("server {name}/{}", server.name())),
        None => Ok(()),
    }
}

fn check_secure(frontend: &Frontend) -> Result<(), Refused> {
    let name = frontend.name();
    if frontend.certificates().is_empty() {
        let reason =
            format!("protocol: https ends the client's TLS, which needs certificates: give frontend {name} some");
        return Err(Refused::field("protocol", reason));
    }
    match frontend.alpn().find(|protocol| *protocol != HTTP_1_1) {
        Some(other) => {
            let reason = format!("frontend {name} offers {other:?}, but protocol: https speaks {HTTP_1_1} only");
            Err(Refused::field("alpn", reason))
        }
        None => Ok(()),
    }
}

fn check_limits(frontend: &Frontend) -> Result<(), Refused> {
    let (line, head) = (frontend.http().max_line(), frontend.http().max_head());
    match line > head {
        true => {
            let reason =
                format!("frontend {}: a line of max_line {line} does not fit max_head {head}", frontend.name());
            Err(Refused::field("http", reason))
        }
        false => Ok(()),
    }
}

fn check_cookie(frontend: &Frontend) -> Result<(), Refused> {
    let (name, cookie) = (frontend.name(), frontend.cookie());
    if !frontend.cookie_persistence() {
        return Ok(());
    }
    if !frontend.protocol().is_http() {
        let reason = format!(
            "cookie_persistence needs protocol: http or https, where cookies can be seen: frontend {name} has protocol: {}",
            frontend.protocol()
        );
        return Err(Refused::field("cookie_persistence", reason));
    }
    cookie.check_whole()?;
    let is_ours = *cookie.mode() == CookieMode::Insert;
    if is_ours && frontend.protocol() == Protocol::Http && cookie.name().is_for_tls() {
        let reason =
            format!("browsers take a cookie {} only over TLS: frontend {name} has protocol: http", cookie.name());
        return Err(Refused::field("cookie", reason));
    }
    Ok(())
}

/// No two servers may be the same to cookies.
fn check_identities(frontend: &Frontend) -> Result<(), Refused> {
    // Names differ, so without identities beside them there is nothing to find.
    if frontend.servers().iter().all(|server| server.identity.is_none()) {
        return Ok(());
    }
    let mut known: HashMap<&Name, &Name> = HashMap::with_capacity(frontend.servers().len());
    for server in frontend.servers() {
        if let Some(other) = known.insert(server.identity(), server.name()) {
            let (one, identity) = (server.name(), server.identity());
            let reason = format!(
                "servers {other} and {one} of frontend {} have the same identity {identity}, so cookies could not tell \
                 them apart: give one of them another",
                frontend.name()
            );
            return Err(Refused::field("identity", reason));
        }
    }
    Ok(())
}

/// The server as it may join `others`: if its name is the identity of one of them (which had the name before), with
/// another identity, `NAME-2`, `NAME-3` and so on. An identity that it was given stays.
pub(super) fn with_free_identity<'a>(server: &Server, others: impl Iterator<Item = &'a Server> + Clone) -> Server {
    let is_free = |identity: &Name| !others.clone().any(|other| other.identity() == identity);
    let identity = match server.identity.is_some() || is_free(&server.name) {
        true => Some(server.identity().clone()),
        false => (2_u32..).filter_map(|number| numbered(&server.name, number)).find(is_free),
    };
    // There is one: servers are fewer than numbers.
    server.clone().with_identity(identity.unwrap_or_else(|| server.name.clone()))
}

/// `NAME-2`; of a long name as much as leaves room for the number.
fn numbered(name: &Name, number: u32) -> Option<Name> {
    let suffix = format!("-{number}");
    let start = name.as_str().get(..name.as_str().len().min(Name::MAX - suffix.len()))?;
    Name::new(&format!("{start}{suffix}")).ok()
}

/// The servers of a new frontend, each with an identity that no other has, where it was not given one.
pub(super) fn with_free_identities(frontend: &Frontend) -> Frontend {
    let mut frontend = frontend.clone();
    let given = frontend.servers.iter().filter_map(|server| server.identity.clone());
    let given: HashSet<Name> = given.collect();
    if given.is_empty() {
        return frontend;
    }
    for index in 0..frontend.servers.len() {
        let server = &frontend.servers[index];
        if server.identity.is_some() || given.contains(&server.name) {
            let others = frontend.servers.iter().enumerate().filter(|(other, _)| *other != index);
            let others = others.map(|(_, other)| &**other);
            frontend.servers[index] = Arc::new(with_free_identity(server, others));
        }
    }
    frontend
}
