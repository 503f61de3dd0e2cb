//! The desired state and what a change does to it: pure, without sockets, files or clock.
//!
//! Every change gives its inverse, so that a revision can be taken back. Frontends and servers carry an identity that
//! survives renaming and re-addressing: counters and connections hang on it.

mod certificates;
mod http;

use std::collections::HashMap;
use std::sync::Arc;

use super::change::{Change, Refused};
use crate::config::{
    Bind, Certificate, Config, FRONTENDS_MAX, Frontend, FrontendUpdate, Mode, Name, PersistenceKey, PolicyKind,
    SERVERS_MAX, Server, ServerUpdate,
};
pub(crate) use certificates::{CertificateEntry, days_until};

/// Identity of a frontend over its life.
pub(crate) type FrontendId = u32;
/// Identity of a server over its life, unique in the process.
pub(crate) type ServerId = u64;

/// A frontend with the identities of its servers.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) id: FrontendId,
    pub(crate) frontend: Arc<Frontend>,
    /// In the order of `frontend.servers`.
    pub(crate) server_ids: Vec<ServerId>,
}

/// All frontends and certificates. Cloning is cheap: what does not change is shared.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// Their identities ascend: frontends are added at the end and never reordered.
    entries: Vec<Arc<Entry>>,
    certificates: Vec<Arc<CertificateEntry>>,
    next_frontend: FrontendId,
    next_server: ServerId,
    /// Names of the policies that the embedding program registered.
    policies: Arc<[Name]>,
    /// The same for as long as the balancer runs.
    persistence_key: Option<PersistenceKey>,
}

/// What a change came to: the change that takes it back, and a sentence. `None` if it changed nothing.
pub(crate) type Effect = Option<(Change, String)>;

impl State {
    pub(crate) fn new(policies: Arc<[Name]>, persistence_key: Option<PersistenceKey>) -> Self {
        Self { policies, persistence_key, ..Self::default() }
    }

    /// Puts in what a configuration has, and checks it as a whole. On a refusal the state must be thrown away.
    pub(crate) fn fill(&mut self, config: &Config) -> Result<(), Refused> {
        for certificate in &config.certificates {
            self.apply(&Change::AddCertificate { certificate: certificate.clone() })?;
        }
        for frontend in &config.frontends {
            self.apply(&Change::AddFrontend { frontend: frontend.clone() })?;
        }
        self.check_whole(&Self::default())
    }

    pub(crate) fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    pub(crate) fn frontends(&self) -> Vec<Arc<Frontend>> {
        self.entries.iter().map(|entry| Arc::clone(&entry.frontend)).collect()
    }

    /// The frontend of this identity.
    pub(crate) fn entry_with(&self, id: FrontendId) -> Option<&Arc<Entry>> {
        self.entries.binary_search_by_key(&id, |entry| entry.id).ok().map(|index| &self.entries[index])
    }

    /// The frontend of a server.
    pub(crate) fn entry_of(&self, server: ServerId) -> Option<&Arc<Entry>> {
        // Identities ascend in an entry: servers are added at the end and never reordered.
        self.entries.iter().find(|entry| entry.server_ids.binary_search(&server).is_ok())
    }

    /// Whether other servers than in `before` are to be checked, or otherwise.
    pub(crate) fn checks_otherwise_than(&self, before: &Self) -> bool {
        let is_same_server = |(one, other): (&Arc<Server>, &Arc<Server>)| {
            let checked = |server: &Server| (server.addr(), server.mode() == Mode::Disabled, server.send_proxy());
            Arc::ptr_eq(one, other)
                || checked(one) == checked(other) && one.check() == other.check() && one.is_trusted_like(other)
        };
        let is_same = |(one, other): (&Arc<Entry>, &Arc<Entry>)| {
            let (servers, others) = (one.frontend.servers(), other.frontend.servers());
            Arc::ptr_eq(one, other)
                || one.server_ids == other.server_ids
                    && one.frontend.check() == other.frontend.check()
                    && servers.iter().zip(others).all(is_same_server)
        };
        let is_same_count = self.entries.len() == before.entries.len();
        let (certificates, others) = (&self.certificates, &before.certificates);
        let has_same_certificates = certificates.len() == others.len()
            && certificates.iter().zip(others).all(|(one, other)| Arc::ptr_eq(one, other));
        !(is_same_count && has_same_certificates && self.entries.iter().zip(&before.entries).all(is_same))
    }

    /// What is allowed but may surprise about this state, where `before` was otherwise, at `now` in seconds since 1970.
    pub(crate) fn warnings_since(&self, before: &Self, now: i64) -> Vec<String> {
        let relies_on_passive = |entry: &Entry| {
            let servers = entry.frontend.servers();
            let mut enabled = servers.iter().filter(|server| server.mode() == Mode::Enabled).peekable();
            enabled.peek().is_some() && enabled.all(|server| server.is_passive())
        };
        let did_before = |entry: &Entry| before.entry_with(entry.id).is_some_and(|before| relies_on_passive(before));
        let surprising = self.entries.iter().filter(|entry| relies_on_passive(entry) && !did_before(entry));
        let sentence = |entry: &Arc<Entry>| {
            format!("frontend {} has no active server: passive ones serve it", entry.frontend.name())
        };
        surprising.map(sentence).chain(self.tls_warnings_since(before, now)).collect()
    }

    /// Applies one change. On a refusal the state must be thrown away if it is to be as before: the caller works on a clone.
    pub(crate) fn apply(&mut self, change: &Change) -> Result<Effect, Refused> {
        match change {
            Change::AddServer { frontend, server } => self.add_server(frontend, server),
            Change::UpdateServer { frontend, name, update } => self.update_server(frontend, name, update),
            Change::RemoveServer { frontend, name } => self.remove_server(frontend, name),
            Change::DrainServer { frontend, name, within } => self.set_mode(frontend, name, Mode::Drain(*within)),
            Change::DisableServer { frontend, name } => self.set_mode(frontend, name, Mode::Disabled),
            Change::EnableServer { frontend, name } => self.set_mode(frontend, name, Mode::Enabled),
            Change::AddFrontend { frontend } => self.add_frontend(frontend),
            Change::UpdateFrontend { name, update } => self.update_frontend(name, update),
            Change::RemoveFrontend { name } => self.remove_frontend(name),
            Change::AddCertificate { certificate } => self.add_certificate(certificate),
            Change::UpdateCertificate { certificate } => self.update_certificate(certificate),
            Change::RemoveCertificate { name } => self.remove_certificate(name),
        }
    }

    fn add_server(&mut self, frontend: &Name, server: &Server) -> Result<Effect, Refused> {
        server.check_whole()?;
        let id = self.next_server;
        let entry = self.entry(frontend)?;
        if find(&entry.frontend, &server.name).is_some() {
            return Err(Refused::field("name", format!("frontend {frontend} already has a server {}", server.name)));
        }
        if entry.frontend.servers.len() == SERVERS_MAX {
            return Err(Refused::field(
                "frontend",
                format!("frontend {frontend} has {SERVERS_MAX} servers, the most possible"),
            ));
        }
        entry.server_ids.push(id);
        let server = http::with_free_identity(server, entry.frontend.servers.iter().map(|other| &**other));
        let (inverse, summary) = (
            Change::RemoveServer { frontend: frontend.clone(), name: server.name.clone() },
            format!("server {} added to {frontend}{}", server.name, known_as(&server)),
        );
        Arc::make_mut(&mut entry.frontend).servers.push(Arc::new(server));
        self.next_server += 1;
        Ok(Some((inverse, summary)))
    }

    fn remove_server(&mut self, frontend: &Name, name: &Name) -> Result<Effect, Refused> {
        let (entry, index) = self.server(frontend, name)?;
        entry.server_ids.remove(index);
        let server = Arc::make_mut(&mut entry.frontend).servers.remove(index);
        let inverse = Change::AddServer { frontend: frontend.clone(), server: Server::clone(&server) };
        Ok(Some((inverse, format!("server {name} removed from {frontend}"))))
    }

    fn update_server(&mut self, frontend: &Name, name: &Name, update: &ServerUpdate) -> Result<Effect, Refused> {
        let (entry, index) = self.server(frontend, name)?;
        let old = Arc::clone(&entry.frontend.servers[index]);
        if let Some(new) = update.rename.as_ref().filter(|new| *new != name)
            && find(&entry.frontend, new).is_some()
        {
            return Err(Refused::field("name", format!("frontend {frontend} already has a server {new}")));
        }
        let server = Server::clone(&old).with(update)?;
        if server == *old {
            return Ok(None);
        }
        let summary = format!("server {name} of {frontend} updated: {}", ServerUpdate::describe(&old, &server));
        let inverse = Change::UpdateServer {
            frontend: frontend.clone(),
            name: server.name.clone(),
            update: ServerUpdate::between(&server, &old),
        };
        Arc::make_mut(&mut entry.frontend).servers[index] = Arc::new(server);
        Ok(Some((inverse, summary)))
    }

    fn set_mode(&mut self, frontend: &Name, name: &Name, mode: Mode) -> Result<Effect, Refused> {
        let (entry, index) = self.server(frontend, name)?;
        let server = &mut Arc::make_mut(&mut entry.frontend).servers[index];
        let before = server.mode();
        if before == mode {
            return Ok(None);
        }
        *server = Arc::new(Server::clone(server).with_mode(mode));
        let what = match mode {
            Mode::Enabled => "enabled".to_owned(),
            Mode::Drain(None) => "drains".to_owned(),
            Mode::Drain(Some(within)) => format!("drains within {within}"),
            Mode::Disabled => "disabled".to_owned(),
        };
        Ok(Some((mode_change(frontend, name, before), format!("server {name} of {frontend} {what}"))))
    }

    fn add_frontend(&mut self, frontend: &Frontend) -> Result<Effect, Refused> {
        if self.entries.len() == FRONTENDS_MAX {
            return Err(Refused::field("name", format!("there are {FRONTENDS_MAX} frontends, the most possible")));
        }
        self.check_frontend(frontend, None)?;
        frontend.servers.iter().try_for_each(|server| server.check_whole())?;
        if let Some(twice) = first_twice(frontend.servers.iter().map(|server| &server.name)) {
            return Err(Refused::field(
                "servers",
                format!("server {twice} is there twice in frontend {}", frontend.name),
            ));
        }
        if frontend.servers.len() > SERVERS_MAX {
            return Err(Refused::field("servers", format!("a frontend has at most {SERVERS_MAX} servers")));
        }
        let servers = frontend.servers.len() as ServerId;
        let server_ids = (self.next_server..self.next_server + servers).collect();
        self.next_server += servers;
        self.next_frontend += 1;
        let entry =
            Entry { id: self.next_frontend, frontend: Arc::new(http::with_free_identities(frontend)), server_ids };
        self.entries.push(Arc::new(entry));
        let inverse = Change::RemoveFrontend { name: frontend.name.clone() };
        Ok(Some((inverse, format!("frontend {} added at {}", frontend.name, frontend.bind))))
    }

    fn remove_frontend(&mut self, name: &Name) -> Result<Effect, Refused> {
        let index = self.index(name)?;
        let entry = self.entries.remove(index);
        let inverse = Change::AddFrontend { frontend: Frontend::clone(&entry.frontend) };
        Ok(Some((inverse, format!("frontend {name} removed"))))
    }

    fn update_frontend(&mut self, name: &Name, update: &FrontendUpdate) -> Result<Effect, Refused> {
        let index = self.index(name)?;
        let old = Arc::clone(&self.entries[index].frontend);
        let new = Frontend::clone(&old).with(update);
        let inverse = FrontendUpdate::between(&new, &old);
        if inverse == FrontendUpdate::default() {
            return Ok(None);
        }
        self.check_frontend(&new, Some(index))?;
        let summary = format!("frontend {name} updated: {}", FrontendUpdate::describe(&old, &new));
        let inverse = Change::UpdateFrontend { name: new.name.clone(), update: inverse };
        Arc::make_mut(&mut self.entries[index]).frontend = Arc::new(new);
        Ok(Some((inverse, summary)))
    }

    /// Checks what a frontend must not share with the others, `except` itself.
    fn check_frontend(&self, frontend: &Frontend, except: Option<usize>) -> Result<(), Refused> {
        if let PolicyKind::Custom(name) = &frontend.policy
            && !self.policies.contains(name)
        {
            return Err(Refused::field("policy", format!("no policy {name} is registered in this program")));
        }
        let others = self.entries.iter().enumerate().filter(|(index, _)| Some(*index) != except);
        for (_, other) in others {
            let other = &other.frontend;
            if other.name == frontend.name {
                return Err(Refused::field("name", format!("there is already a frontend {}", frontend.name)));
            }
        }
        Ok(())
    }

    /// What must hold once all changes of a transaction are made, and may not in between; `before` is the state before them.
    pub(crate) fn check_whole(&self, before: &Self) -> Result<(), Refused> {
        self.check_binds()?;
        self.check_http()?;
        self.check_certificates(before)
    }

    /// Checks that no two frontends share an address. Only once all changes of a transaction are made: in between they may,
    /// for example when two swap theirs.
    pub(crate) fn check_binds(&self) -> Result<(), Refused> {
        let mut taken = HashMap::new();
        for frontend in self.entries.iter().map(|entry| &entry.frontend) {
            let is_free = matches!(frontend.bind, Bind::Addr(addr) if addr.port() == 0);
            if is_free {
                continue;
            }
            if let Some(other) = taken.insert(frontend.bind.to_string(), &frontend.name) {
                let reason =
                    format!("{} is taken by frontend {other}, {} can't have it too", frontend.bind, frontend.name);
                return Err(Refused::field("bind", reason));
            }
        }
        Ok(())
    }

    fn index(&self, name: &Name) -> Result<usize, Refused> {
        self.entries.iter().position(|entry| entry.frontend.name == *name).ok_or_else(|| {
            let known = self.entries.iter().map(|entry| entry.frontend.name.as_str());
            Refused::field("frontend", format!("there is no frontend {name}, {}", list(known)))
        })
    }

    fn entry(&mut self, name: &Name) -> Result<&mut Entry, Refused> {
        let index = self.index(name)?;
        Ok(Arc::make_mut(&mut self.entries[index]))
    }

    fn server(&mut self, frontend: &Name, name: &Name) -> Result<(&mut Entry, usize), Refused> {
        let entry = self.entry(frontend)?;
        match find(&entry.frontend, name) {
            Some(index) => Ok((entry, index)),
            None => {
                let known = entry.frontend.servers.iter().map(|server| server.name.as_str());
                Err(Refused::field("name", format!("frontend {frontend} has no server {name}, {}", list(known))))
            }
        }
    }
}

/// The changes that lead from `from` to these certificates and frontends. Of frontends and servers removals come first, so
/// that names and addresses are free for what comes; of certificates last, when nobody uses them any more.
pub(crate) fn difference(from: &State, certificates: &[Certificate], to: &[Frontend]) -> Vec<Change> {
    let (mut changes, removals) = certificates::differences(from, certificates);
    let from = from.frontends();
    for old in &from {
        if !to.iter().any(|new| new.name == old.name) {
            changes.push(Change::RemoveFrontend { name: old.name.clone() });
        }
    }
    for new in to {
        let Some(old) = from.iter().find(|old| old.name == new.name) else {
            changes.push(Change::AddFrontend { frontend: new.clone() });
            continue;
        };
        let update = FrontendUpdate::between(old, new);
        if update != FrontendUpdate::default() {
            changes.push(Change::UpdateFrontend { name: new.name.clone(), update });
        }
        server_differences(old, new, &mut changes);
    }
    changes.extend(removals);
    changes
}

fn server_differences(old: &Frontend, new: &Frontend, changes: &mut Vec<Change>) {
    let frontend = || new.name.clone();
    let wanted: HashMap<&Name, &Arc<Server>> = new.servers.iter().map(|server| (&server.name, server)).collect();
    let existing: HashMap<&Name, &Arc<Server>> = old.servers.iter().map(|server| (&server.name, server)).collect();
    for server in old.servers.iter().filter(|server| !wanted.contains_key(&server.name)) {
        changes.push(Change::RemoveServer { frontend: frontend(), name: server.name.clone() });
    }
    for server in &new.servers {
        let Some(before) = existing.get(&server.name) else {
            changes.push(Change::AddServer { frontend: frontend(), server: Server::clone(server) });
            continue;
        };
        let mut update = ServerUpdate::between(before, server);
        if server.identity.is_none() {
            // Who does not say it, leaves it as it is.
            update.identity = None;
        }
        if update != ServerUpdate::default() {
            changes.push(Change::UpdateServer { frontend: frontend(), name: server.name.clone(), update });
        }
        if before.mode() != server.mode() {
            changes.push(mode_change(&new.name, &server.name, server.mode()));
        }
    }
}

/// What is to be said of an identity that is not the name.
fn known_as(server: &Server) -> String {
    match &server.identity {
        Some(identity) => format!(", known to cookies as {identity}"),
        None => String::new(),
    }
}

/// The change that brings a server into a mode.
fn mode_change(frontend: &Name, name: &Name, mode: Mode) -> Change {
    let (frontend, name) = (frontend.clone(), name.clone());
    match mode {
        Mode::Enabled => Change::EnableServer { frontend, name },
        Mode::Drain(within) => Change::DrainServer { frontend, name, within },
        Mode::Disabled => Change::DisableServer { frontend, name },
    }
}

fn find(frontend: &Frontend, name: &Name) -> Option<usize> {
    frontend.servers.iter().position(|server| server.name == *name)
}

fn first_twice<'a>(names: impl Iterator<Item = &'a Name>) -> Option<&'a Name> {
    let mut seen = std::collections::HashSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.take(9).collect();
    match names.len() {
        0 => "there is none".to_owned(),
        9 => format!("there are {} and more", names[..8].join(", ")),
        _ => format!("there is {}", names.join(", ")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::{Millis, OrNone, PassiveWhen, Port, Weight};
    use crate::tls::testing::Made;
    use proptest::prelude::*;
    use std::sync::LazyLock;
    use std::time::Duration;

    fn name(number: u8) -> Name {
        Name::new(&format!("n{number}")).unwrap()
    }

    fn server(number: u8, port: u16, weight: u32) -> Server {
        let server = Server::new(name(number).as_str(), ([127, 0, 0, 1], port).into()).unwrap();
        server.with_weight(weight).unwrap()
    }

    fn frontend(number: u8, port: u16) -> Frontend {
        Frontend::new(name(number).as_str(), Bind::Addr(([127, 0, 0, 1], port).into())).unwrap()
    }

    /// One of three certificates, as a pair or as a bundle.
    pub(super) fn certificate(number: u8, which: usize, is_bundle: bool) -> Certificate {
        static MADE: LazyLock<[Made; 3]> = LazyLock::new(|| ["a", "b", "c"].map(Made::ca));
        let (name, made) = (name(number), &MADE[which]);
        match is_bundle {
            true => Certificate::bundle(name.as_str(), &made.pem()).unwrap(),
            false => Certificate::pair(name.as_str(), &made.pem(), &made.key_pem()).unwrap(),
        }
    }

    fn certificate_change() -> impl Strategy<Value = Change> {
        (0u8..3, 0usize..3, any::<bool>(), 0u8..3).prop_map(|(number, which, is_bundle, kind)| match kind {
            0 => Change::AddCertificate { certificate: certificate(number, which, is_bundle) },
            1 => Change::UpdateCertificate { certificate: certificate(number, which, is_bundle) },
            _ => Change::RemoveCertificate { name: name(number) },
        })
    }

    /// Changes over few names, so that many of them meet.
    pub(in crate::control) fn change() -> impl Strategy<Value = Change> {
        let (few, port) = (0u8..3, 1u16..4);
        prop_oneof![
            (few.clone(), few.clone(), port.clone(), 1u32..4)
                .prop_map(|(f, s, p, w)| Change::AddServer { frontend: name(f), server: server(s, p, w) }),
            (few.clone(), few.clone(), few.clone(), port.clone(), 1u32..4, 0u8..8).prop_map(
                |(f, s, r, p, w, which)| {
                    let update = ServerUpdate {
                        rename: (which & 1 > 0).then(|| name(r)),
                        port: (which & 2 > 0).then(|| Port::new(p.into()).unwrap()),
                        weight: (which & 4 > 0).then(|| Weight::new(w).unwrap()),
                        passive: (which & 3 == 3).then_some(w > 2),
                        max_connections: (which & 6 == 6).then_some(w - 1),
                        ssl_offload: (which == 3).then_some(w == 1),
                        server_certificate: (which & 5 == 5)
                            .then(|| if w == 1 { OrNone::None } else { OrNone::Some(name(r)) }),
                        verify_name: (which == 7).then_some(w > 1),
                        ..ServerUpdate::default()
                    };
                    Change::UpdateServer { frontend: name(f), name: name(s), update }
                }
            ),
            (few.clone(), few.clone()).prop_map(|(f, s)| Change::RemoveServer { frontend: name(f), name: name(s) }),
            (few.clone(), few.clone(), prop::option::of(1u64..3)).prop_map(|(f, s, within)| {
                let within = within.map(|seconds| Millis::from_duration_clamped(Duration::from_secs(seconds)));
                Change::DrainServer { frontend: name(f), name: name(s), within }
            }),
            (few.clone(), few.clone()).prop_map(|(f, s)| Change::DisableServer { frontend: name(f), name: name(s) }),
            (few.clone(), few.clone()).prop_map(|(f, s)| Change::EnableServer { frontend: name(f), name: name(s) }),
            (few.clone(), port.clone()).prop_map(|(f, p)| Change::AddFrontend { frontend: frontend(f, p) }),
            (few.clone(), few.clone(), port, 0u8..4).prop_map(|(f, r, p, which)| {
                let update = FrontendUpdate {
                    rename: (which & 1 > 0).then(|| name(r)),
                    bind: (which & 2 > 0).then(|| Bind::Addr(([127, 0, 0, 1], p).into())),
                    policy: (which == 0).then_some(PolicyKind::SourceHash),
                    max_connections: (which == 3).then_some(u32::from(p) - 1),
                    passive_when: (which == 1).then_some(PassiveWhen::FewerThan(p.into())),
                    certificates: (which & 1 == 0).then(|| (0..p as u8 - 1).map(name).collect()),
                    ..FrontendUpdate::default()
                };
                Change::UpdateFrontend { name: name(f), update }
            }),
            few.prop_map(|f| Change::RemoveFrontend { name: name(f) }),
            certificate_change(),
            certificate_change(),
        ]
    }

    /// What leads from one state to the other.
    pub(in crate::control) fn between(from: &State, to: &State) -> Vec<Change> {
        let certificates: Vec<_> =
            to.certificates().iter().map(|entry| Certificate::clone(&entry.certificate)).collect();
        let frontends: Vec<_> = to.frontends().iter().map(|frontend| Frontend::clone(frontend)).collect();
        difference(from, &certificates, &frontends)
    }

    fn is_same(one: &State, other: &State) -> bool {
        between(one, other).is_empty() && between(other, one).is_empty()
    }

    /// What must hold after every change.
    fn check(state: &State) {
        for (index, entry) in state.entries().iter().enumerate() {
            assert_eq!(entry.server_ids.len(), entry.frontend.servers().len());
            assert!(entry.server_ids.is_sorted(), "identities ascend");
            assert!(first_twice(entry.frontend.servers().iter().map(|server| server.name())).is_none());
            for other in &state.entries()[..index] {
                assert_ne!(other.frontend.name(), entry.frontend.name());
                assert_ne!(other.frontend.bind(), entry.frontend.bind());
            }
        }
    }

    proptest! {
        #[test]
        fn every_change_is_taken_back_by_its_inverse(changes in prop::collection::vec(change(), 0..40)) {
            let mut state = State::default();
            for change in changes {
                let mut next = state.clone();
                let Ok(effect) = next.apply(&change) else { continue };
                if next.check_whole(&state).is_err() {
                    continue;
                }
                check(&next);
                match effect {
                    None => prop_assert!(is_same(&state, &next), "{change:?} claims to change nothing"),
                    Some((inverse, _)) => {
                        let mut back = next.clone();
                        back.apply(&inverse).unwrap();
                        check(&back);
                        prop_assert!(is_same(&state, &back), "{change:?} is not taken back by {inverse:?}");
                    }
                }
                state = next;
            }
        }

        #[test]
        fn the_difference_leads_from_one_state_to_the_other(
            to_one in prop::collection::vec(change(), 0..30),
            to_other in prop::collection::vec(change(), 0..30),
        ) {
            let reach = |changes: Vec<Change>| {
                let mut state = State::default();
                for change in changes {
                    let mut next = state.clone();
                    if next.apply(&change).is_ok() && next.check_whole(&state).is_ok() {
                        state = next;
                    }
                }
                state
            };
            let (one, other) = (reach(to_one), reach(to_other));
            let mut reached = one.clone();
            for change in between(&one, &other) {
                reached.apply(&change).unwrap();
            }
            reached.check_whole(&one).unwrap();
            prop_assert!(is_same(&reached, &other));
        }
    }

    #[test]
    fn refusals_name_the_field_and_what_there_is() {
        let mut state = State::default();
        state.apply(&Change::AddFrontend { frontend: frontend(0, 80).with_server(server(0, 1, 1)) }).unwrap();
        let cases = [
            (
                Change::AddServer { frontend: name(0), server: server(0, 2, 1) },
                "name",
                "frontend n0 already has a server n0",
            ),
            (
                Change::AddServer { frontend: name(9), server: server(1, 2, 1) },
                "frontend",
                "there is no frontend n9, there is n0",
            ),
            (
                Change::RemoveServer { frontend: name(0), name: name(7) },
                "name",
                "frontend n0 has no server n7, there is n0",
            ),
            (Change::AddFrontend { frontend: frontend(0, 81) }, "name", "there is already a frontend n0"),
        ];
        for (change, field, reason) in cases {
            let refused = state.clone().apply(&change).unwrap_err();
            assert_eq!((refused.field.as_deref(), refused.reason.as_str()), (Some(field), reason));
        }
        state.apply(&Change::AddFrontend { frontend: frontend(1, 80) }).unwrap();
        let refused = state.check_binds().unwrap_err();
        assert_eq!(refused.reason, "127.0.0.1:80 is taken by frontend n0, n1 can't have it too");
    }
}
