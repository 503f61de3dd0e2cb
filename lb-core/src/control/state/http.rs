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

#[cfg(test)]
mod tests {
    use super::super::tests::certificate;
    use super::*;
    use crate::config::{Bind, FrontendUpdate, ServerUpdate};
    use crate::control::change::Change;

    fn name(name: &str) -> Name {
        Name::new(name).unwrap()
    }

    fn server(name: &str) -> Server {
        Server::new(name, ([127, 0, 0, 1], 80).into()).unwrap()
    }

    fn frontend(protocol: Protocol) -> Frontend {
        Frontend::new("web", Bind::Addr(([127, 0, 0, 1], 80).into())).unwrap().with_protocol(protocol)
    }

    /// A state with a pair `n0`, a bundle `n1` and this frontend, checked.
    fn state(frontend: Frontend) -> Result<State, Refused> {
        let mut state = State::default();
        state.apply(&Change::AddCertificate { certificate: certificate(0, 0, false) })?;
        state.apply(&Change::AddCertificate { certificate: certificate(1, 1, true) })?;
        state.apply(&Change::AddFrontend { frontend })?;
        state.check_whole(&State::default()).map(|()| state)
    }

    fn change(state: &State, change: Change) -> Result<State, Refused> {
        let mut next = state.clone();
        next.apply(&change)?;
        next.check_whole(state).map(|()| next)
    }

    fn identities(state: &State) -> Vec<(&str, &str)> {
        let servers = state.entries()[0].frontend.servers().iter();
        servers.map(|server| (server.name().as_str(), server.identity().as_str())).collect()
    }

    fn rename(from: &str, to: &str) -> Change {
        let update = ServerUpdate { rename: Some(name(to)), ..ServerUpdate::default() };
        Change::UpdateServer { frontend: name("web"), name: name(from), update }
    }

    #[test]
    fn what_does_not_go_with_a_protocol_is_refused_with_what_to_do() {
        let route = || crate::config::SniRoute::new(vec!["a.example".parse().unwrap()], name("blue")).unwrap();
        let plain = |field: &str, whose: &str| {
            format!("{whose} web has {field}, but protocol: http is without TLS: write protocol: https")
        };
        let secure = || frontend(Protocol::Https).with_certificates(vec![name("n0")]);
        let cases = [
            (
                frontend(Protocol::Https),
                "protocol",
                "protocol: https ends the client's TLS, which needs certificates: give frontend web some".to_owned(),
            ),
            (frontend(Protocol::Http).with_certificates(vec![name("n0")]), "certificates", plain("certificates", "frontend")),
            (frontend(Protocol::Http).with_alpn(vec!["http/1.1".parse().unwrap()]), "alpn", plain("alpn", "frontend")),
            (
                frontend(Protocol::Http).with_client_ca(Some(name("n1")), Default::default()),
                "client_ca",
                plain("client_ca", "frontend"),
            ),
            (frontend(Protocol::Http).with_sni_routes(vec![route()]), "sni_routes", plain("sni_routes", "frontend")),
            (
                frontend(Protocol::Http).with_server(server("a").with_ssl_offload(true)),
                "ssl_offload",
                "server web/a has ssl_offload, but protocol: http is without TLS: write protocol: https".to_owned(),
            ),
            (
                secure().with_alpn(vec!["http/1.1".parse().unwrap(), "h2".parse().unwrap()]),
                "alpn",
                "frontend web offers \"h2\", but protocol: https speaks http/1.1 only".to_owned(),
            ),
            (
                frontend(Protocol::Tcp).with_cookie_persistence(true),
                "cookie_persistence",
                "cookie_persistence needs protocol: http or https, where cookies can be seen: frontend web has protocol: tcp"
                    .to_owned(),
            ),
            (
                frontend(Protocol::Http).with_cookie_persistence(true).with_cookie("name=__Secure-a".parse().unwrap()),
                "cookie",
                "browsers take a cookie __Secure-a only over TLS: frontend web has protocol: http".to_owned(),
            ),
            (
                frontend(Protocol::Http).with_http("max_line=8192,max_head=4096".parse().unwrap()),
                "http",
                "frontend web: a line of max_line 8192 does not fit max_head 4096".to_owned(),
            ),
        ];
        for (frontend, field, reason) in cases {
            let refused = state(frontend).unwrap_err();
            assert_eq!((refused.field.as_deref(), refused.reason), (Some(field), reason));
        }
        let whole = secure()
            .with_alpn(vec!["http/1.1".parse().unwrap()])
            .with_client_ca(Some(name("n1")), Default::default())
            .with_sni_routes(vec![route()])
            .with_cookie_persistence(true)
            .with_cookie("name=__Host-a".parse().unwrap())
            .with_server(server("a").with_ssl_offload(true))
            .with_server(server("b"));
        state(whole).unwrap();
    }

    #[test]
    fn a_running_frontend_changes_its_protocol_and_cookies_only_with_one_that_shows_them() {
        let tcp = state(frontend(Protocol::Tcp).with_server(server("a"))).unwrap();
        let update = |update| Change::UpdateFrontend { name: name("web"), update };
        let cookies = |on| FrontendUpdate { cookie_persistence: Some(on), ..FrontendUpdate::default() };
        let protocol = |protocol| FrontendUpdate { protocol: Some(protocol), ..FrontendUpdate::default() };
        let refused = change(&tcp, update(cookies(true))).unwrap_err();
        assert_eq!(refused.field.as_deref(), Some("cookie_persistence"));
        let http = change(&tcp, update(protocol(Protocol::Http))).unwrap();
        assert!(!http.needs_persistence_key());
        let with_cookies = change(&http, update(cookies(true))).unwrap();
        assert!(with_cookies.needs_persistence_key());
        let refused = change(&with_cookies, update(protocol(Protocol::Tcp))).unwrap_err();
        assert_eq!(refused.field.as_deref(), Some("cookie_persistence"));
    }

    #[test]
    fn a_renamed_server_keeps_its_identity_and_a_new_one_of_its_name_gets_another() {
        let first = state(frontend(Protocol::Http).with_server(server("a")).with_server(server("b"))).unwrap();
        let renamed = change(&first, rename("a", "c")).unwrap();
        assert_eq!(identities(&renamed), [("c", "a"), ("b", "b")]);
        let add = |server| Change::AddServer { frontend: name("web"), server };
        let added = change(&renamed, add(server("a"))).unwrap();
        assert_eq!(identities(&added), [("c", "a"), ("b", "b"), ("a", "a-2")]);
        let again = change(&change(&added, rename("a", "d")).unwrap(), add(server("a"))).unwrap();
        assert_eq!(identities(&again), [("c", "a"), ("b", "b"), ("d", "a-2"), ("a", "a-3")]);
        let back = change(&renamed, rename("c", "a")).unwrap();
        assert_eq!(identities(&back), [("a", "a"), ("b", "b")]);
        assert!(back.entries()[0].frontend.servers()[0].identity.is_none());
        let refused = change(&first, add(server("c").with_identity(name("b")))).unwrap_err();
        assert_eq!(
            (refused.field.as_deref(), refused.reason.as_str()),
            (
                Some("identity"),
                "servers b and c of frontend web have the same identity b, so cookies could not tell them apart: give one \
                 of them another"
            )
        );
    }

    #[test]
    fn a_rename_is_taken_back_with_the_identity() {
        let first = state(frontend(Protocol::Http).with_server(server("a").with_identity(name("x")))).unwrap();
        for forward in [rename("a", "c"), rename("a", "x")] {
            let mut next = first.clone();
            let (inverse, _) = next.apply(&forward).unwrap().unwrap();
            assert_eq!(identities(&next)[0].1, "x");
            next.apply(&inverse).unwrap();
            assert_eq!(identities(&next), [("a", "x")]);
        }
    }

    #[test]
    fn of_a_configuration_written_identities_hold_and_the_others_make_room() {
        let config = frontend(Protocol::Http)
            .with_server(server("a"))
            .with_server(server("b").with_identity(name("a")))
            .with_server(server("a-2"));
        assert_eq!(identities(&state(config.clone()).unwrap()), [("a", "a-3"), ("b", "a"), ("a-2", "a-2")]);
        assert!(state(config.with_server(server("c").with_identity(name("a")))).is_err());
        // A configuration that does not say an identity leaves it as it is.
        let before =
            change(&state(frontend(Protocol::Http).with_server(server("a"))).unwrap(), rename("a", "b")).unwrap();
        let wanted = frontend(Protocol::Http).with_server(server("b"));
        let certificates: Vec<_> = before.plain_certificates().iter().map(|entry| (**entry).clone()).collect();
        assert_eq!(super::super::difference(&before, &certificates, &[wanted]), []);
        let wanted = frontend(Protocol::Http).with_server(server("b").with_identity(name("c")));
        let changes = super::super::difference(&before, &certificates, &[wanted]);
        let mut after = before;
        changes.iter().for_each(|change| drop(after.apply(change).unwrap()));
        assert_eq!(identities(&after), [("b", "c")]);
    }

    #[test]
    fn a_long_name_leaves_room_for_the_number() {
        let long = name(&"x".repeat(64));
        let joining = server(long.as_str());
        let free = with_free_identity(&joining, [server("y").with_identity(long)].iter());
        assert_eq!(free.identity().as_str(), format!("{}-2", "x".repeat(62)));
    }
}
