//! The certificates of the desired state, who uses them, and what must hold of both together.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Effect, Entry, State, first_twice, list};
use crate::config::{CERTIFICATES_MAX, Certificate, Frontend, Name, Server};
use crate::control::change::{Change, Refused};
use crate::tls::certificate::{Facts, Loaded, load};

/// How long before its end a certificate is warned of, in days.
const WARNED_DAYS: i64 = 14;
const DAY: i64 = 24 * 3600;

/// A certificate with what was loaded from it.
#[derive(Debug)]
pub(crate) struct CertificateEntry {
    pub(crate) certificate: Arc<Certificate>,
    pub(crate) loaded: Loaded,
}

impl CertificateEntry {
    /// When the first of its certificates expires, in seconds since 1970.
    pub(crate) fn not_after(&self) -> i64 {
        self.facts().iter().map(|facts| facts.not_after).min().unwrap_or(i64::MAX)
    }

    pub(crate) fn facts(&self) -> &[Facts] {
        self.loaded.facts()
    }

    fn is_kind(&self, kind: &str) -> bool {
        self.certificate.content().kind() == kind
    }

    /// What is to be said of its times.
    fn warning(&self, now: i64) -> Option<String> {
        let name = self.certificate.name();
        // The subject matters only where there are several.
        let which = |facts: &Facts| match self.facts().len() {
            1 => format!("certificate {name}"),
            _ => format!("certificate {name}, {:?} in it,", facts.subject),
        };
        let ends_first = self.facts().iter().min_by_key(|facts| facts.not_after)?;
        let left = ends_first.not_after.saturating_sub(now);
        if left < 0 {
            return Some(format!("{} has expired on {}", which(ends_first), date(ends_first.not_after)));
        }
        if let Some(early) = self.facts().iter().find(|facts| facts.not_before > now) {
            return Some(format!("{} is not valid before {}", which(early), date(early.not_before)));
        }
        let days = left / DAY;
        (days < WARNED_DAYS).then(|| format!("{} expires in {}", which(ends_first), plural(days)))
    }
}

impl State {
    /// All certificates, in the order they were added.
    pub(crate) fn certificates(&self) -> &[Arc<CertificateEntry>] {
        &self.certificates
    }

    /// The same, as they are configured.
    pub(crate) fn plain_certificates(&self) -> Vec<Arc<Certificate>> {
        self.certificates.iter().map(|entry| Arc::clone(&entry.certificate)).collect()
    }

    /// The certificate of this name.
    pub(crate) fn certificate(&self, name: &Name) -> Option<&Arc<CertificateEntry>> {
        self.certificates.iter().find(|entry| entry.certificate.name() == name)
    }

    /// Who uses a certificate: `frontend web`, `server web/app1`.
    pub(crate) fn users_of(&self, name: &Name) -> Vec<String> {
        let mut users = Vec::new();
        for frontend in self.entries.iter().map(|entry| &entry.frontend) {
            if frontend.own_certificates().any(|(_, used)| used == name) {
                users.push(format!("frontend {}", frontend.name()));
            }
            let servers =
                frontend.servers().iter().filter(|server| server.certificates().any(|(_, used)| used == name));
            users.extend(servers.map(|server| format!("server {}/{}", frontend.name(), server.name())));
        }
        users
    }

    pub(super) fn add_certificate(&mut self, certificate: &Certificate) -> Result<Effect, Refused> {
        let name = certificate.name();
        if self.certificate(name).is_some() {
            return Err(Refused::field("name", format!("there is already a certificate {name}")));
        }
        if self.certificates.len() == CERTIFICATES_MAX {
            return Err(Refused::field(
                "name",
                format!("there are {CERTIFICATES_MAX} certificates, the most possible"),
            ));
        }
        let entry = loaded(certificate)?;
        let summary = format!("certificate {name} added: valid until {}", date(entry.not_after()));
        self.certificates.push(entry);
        self.renew_users(name);
        Ok(Some((Change::RemoveCertificate { name: name.clone() }, summary)))
    }

    pub(super) fn update_certificate(&mut self, certificate: &Certificate) -> Result<Effect, Refused> {
        let name = certificate.name();
        let index = self.certificate_index(name)?;
        let old = Arc::clone(&self.certificates[index]);
        if *old.certificate == *certificate {
            return Ok(None);
        }
        let (was, is) = (old.certificate.content().kind(), certificate.content().kind());
        if was != is {
            let reason =
                format!("certificate {name} is a {was}, and no {is} can take its place: add that as another one");
            return Err(Refused::field("name", reason));
        }
        let entry = loaded(certificate)?;
        let (new, before) = (date(entry.not_after()), date(old.not_after()));
        let summary = format!("certificate {name} updated: valid until {new}, was until {before}");
        self.certificates[index] = entry;
        self.renew_users(name);
        let inverse = Change::UpdateCertificate { certificate: Certificate::clone(&old.certificate) };
        Ok(Some((inverse, summary)))
    }

    pub(super) fn remove_certificate(&mut self, name: &Name) -> Result<Effect, Refused> {
        let index = self.certificate_index(name)?;
        let entry = self.certificates.remove(index);
        let inverse = Change::AddCertificate { certificate: Certificate::clone(&entry.certificate) };
        Ok(Some((inverse, format!("certificate {name} removed"))))
    }

    /// Gives every frontend that uses a certificate, by itself or by a server, a new entry of the same content: by that it
    /// is known that what runs for it must be built anew.
    fn renew_users(&mut self, name: &Name) {
        for entry in &mut self.entries {
            let frontend = &entry.frontend;
            let is_own = frontend.own_certificates().any(|(_, used)| used == name);
            if is_own || frontend.servers().iter().any(|server| server.certificates().any(|(_, used)| used == name)) {
                *entry = Arc::new(Entry::clone(entry));
            }
        }
    }

    fn certificate_index(&self, name: &Name) -> Result<usize, Refused> {
        let is_it = |entry: &Arc<CertificateEntry>| entry.certificate.name() == name;
        self.certificates.iter().position(is_it).ok_or_else(|| self.missing_certificate("name", name))
    }

    fn missing_certificate(&self, field: &str, name: &Name) -> Refused {
        let known = self.certificates.iter().map(|entry| entry.certificate.name().as_str());
        Refused::field(field, format!("there is no certificate {name}, {}", list(known)))
    }

    /// Checks that what frontends and servers name is there and of the right kind, and what their settings of TLS must be
    /// together. Only once all changes of a transaction are made, so that their order does not matter; `before` is the
    /// state before them.
    pub(crate) fn check_certificates(&self, before: &Self) -> Result<(), Refused> {
        for frontend in self.entries.iter().map(|entry| &entry.frontend) {
            self.check_frontend_tls(frontend, before)?;
            for server in frontend.servers() {
                self.check_server_tls(frontend, server, before)?;
            }
        }
        Ok(())
    }

    fn check_frontend_tls(&self, frontend: &Frontend, before: &Self) -> Result<(), Refused> {
        let name = frontend.name();
        for (field, certificate) in frontend.own_certificates() {
            let kind = if field == "client_ca" { "bundle" } else { "pair" };
            self.check_use(field, certificate, kind, &format!("frontend {name}"), before)?;
        }
        if let Some(twice) = first_twice(frontend.certificates().iter()) {
            return Err(Refused::field("certificates", format!("frontend {name} names certificate {twice} twice")));
        }
        if frontend.client_ca().is_some() && frontend.certificates().is_empty() {
            let reason =
                format!("frontend {name} has client_ca but no certificates: clients are asked for theirs in TLS");
            return Err(Refused::field("client_ca", reason));
        }
        Ok(())
    }

    fn check_server_tls(&self, frontend: &Frontend, server: &Server, before: &Self) -> Result<(), Refused> {
        let whose = || format!("server {}/{}", frontend.name(), server.name());
        server.check_tls()?;
        for (field, certificate) in server.certificates() {
            let kind = if field == "server_certificate" { "bundle" } else { "pair" };
            self.check_use(field, certificate, kind, &whose(), before)?;
        }
        if server.ssl_offload() && frontend.certificates().is_empty() {
            let how = format!("give frontend {} certificates first", frontend.name());
            let reason = format!("{}: ssl_offload ends the client's TLS, which needs a certificate: {how}", whose());
            return Err(Refused::field("ssl_offload", reason));
        }
        Ok(())
    }

    fn check_use(&self, field: &str, name: &Name, kind: &str, user: &str, before: &Self) -> Result<(), Refused> {
        match self.certificate(name) {
            Some(entry) if entry.is_kind(kind) => Ok(()),
            Some(_) => {
                let other = if kind == "pair" { "a bundle" } else { "a pair" };
                let needs = if kind == "pair" { "a pair of chain and key" } else { "a bundle to trust" };
                Err(Refused::field(field, format!("{user}: certificate {name} is {other}, {field} needs {needs}")))
            }
            None if before.certificate(name).is_some() => {
                let users = self.users_of(name).join(", ");
                Err(Refused::field("name", format!("certificate {name} can't be removed, it is used by {users}")))
            }
            None => {
                let missing = self.missing_certificate(field, name);
                Err(Refused { reason: format!("{user}: {}", missing.reason), ..missing })
            }
        }
    }

    /// What may surprise about certificates that are new since `before`, at `now` in seconds since 1970; and routes to
    /// groups without servers.
    pub(super) fn tls_warnings_since(&self, before: &Self, now: i64) -> Vec<String> {
        let is_new = |entry: &&Arc<CertificateEntry>| {
            before.certificate(entry.certificate.name()).is_none_or(|before| !Arc::ptr_eq(before, entry))
        };
        let mut warnings: Vec<_> =
            self.certificates.iter().filter(is_new).filter_map(|entry| entry.warning(now)).collect();
        for entry in &self.entries {
            let known = before.entry_with(entry.id).map(|entry| empty_groups(&entry.frontend)).unwrap_or_default();
            let empty = empty_groups(&entry.frontend).into_iter().filter(|group| !known.contains(group));
            let name = entry.frontend.name();
            warnings.extend(
                empty.map(|group| format!("frontend {name} has a route to group {group}, and no server in it")),
            );
        }
        warnings
    }
}

/// Groups that routes lead to and no server is in.
fn empty_groups(frontend: &Frontend) -> Vec<&Name> {
    let groups = frontend.sni_routes().iter().map(|route| route.group());
    groups.filter(|group| !frontend.servers().iter().any(|server| server.group() == Some(group))).collect()
}

fn loaded(certificate: &Certificate) -> Result<Arc<CertificateEntry>, Refused> {
    let loaded = load(certificate).map_err(|invalid| {
        let reason = format!("certificate {}: {}: {}", certificate.name(), invalid.field, invalid.reason);
        Refused::field(&invalid.field, reason)
    })?;
    Ok(Arc::new(CertificateEntry { certificate: Arc::new(certificate.clone()), loaded }))
}

/// The changes that lead from the certificates of `from` to these: what is new or other, and what is to be removed once
/// nobody uses it any more.
pub(super) fn differences(from: &State, to: &[Certificate]) -> (Vec<Change>, Vec<Change>) {
    let (mut changes, mut removals) = (Vec::new(), Vec::new());
    for certificate in to {
        let (name, certificate) = (certificate.name(), certificate.clone());
        match from.certificate(name) {
            None => changes.push(Change::AddCertificate { certificate }),
            Some(old) if *old.certificate == certificate => {}
            Some(old) if old.is_kind(certificate.content().kind()) => {
                changes.push(Change::UpdateCertificate { certificate });
            }
            Some(_) => {
                changes.push(Change::RemoveCertificate { name: name.clone() });
                changes.push(Change::AddCertificate { certificate });
            }
        }
    }
    for old in from.certificates() {
        if !to.iter().any(|new| new.name() == old.certificate.name()) {
            removals.push(Change::RemoveCertificate { name: old.certificate.name().clone() });
        }
    }
    (changes, removals)
}

/// `2026-11-24`, in UTC.
fn date(seconds: i64) -> String {
    // The year 9999 is the last one that certificates can name.
    const LAST: u64 = 253_402_300_799;
    let seconds = u64::try_from(seconds).unwrap_or(0).min(LAST);
    let time = humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
    time.split('T').next().unwrap_or_default().to_owned()
}

/// Whole days until `seconds` since 1970; negative once it is over.
pub(crate) fn days_until(seconds: i64, now: i64) -> i64 {
    seconds.saturating_sub(now).div_euclid(DAY)
}

fn plural(days: i64) -> String {
    format!("{days} day{}", if days == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::super::tests::certificate;
    use super::*;
    use crate::config::{Bind, ClientAuth, FrontendUpdate, OrNone, ServerUpdate, SniRoute};
    use crate::tls::testing::{EXPIRED, Made, NOT_YET_VALID, PLAIN, Shape};

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn server(text: &str) -> Server {
        Server::new(text, ([127, 0, 0, 1], 1).into()).unwrap()
    }

    fn frontend() -> Frontend {
        Frontend::new("web", Bind::Addr(([127, 0, 0, 1], 80).into())).unwrap()
    }

    /// Pairs `n0` and `n1`, the bundle `n2`, and a frontend `web`.
    fn state(frontend: Frontend) -> Result<State, Refused> {
        let mut state = State::default();
        let certificates = [certificate(0, 0, false), certificate(1, 1, false), certificate(2, 2, true)];
        for certificate in certificates {
            state.apply(&Change::AddCertificate { certificate })?;
        }
        state.apply(&Change::AddFrontend { frontend })?;
        state.check_whole(&State::default())?;
        Ok(state)
    }

    #[test]
    fn what_is_named_must_be_there_and_of_the_right_kind() {
        let cases = [
            (
                frontend().with_certificates(vec![name("n9")]),
                "certificates",
                "frontend web: there is no certificate n9, there is n0, n1, n2",
            ),
            (
                frontend().with_certificates(vec![name("n0"), name("n2")]),
                "certificates",
                "frontend web: certificate n2 is a bundle, certificates needs a pair of chain and key",
            ),
            (
                frontend().with_certificates(vec![name("n0"), name("n0")]),
                "certificates",
                "frontend web names certificate n0 twice",
            ),
            (
                frontend().with_certificates(vec![name("n0")]).with_client_ca(Some(name("n1")), ClientAuth::Required),
                "client_ca",
                "frontend web: certificate n1 is a pair, client_ca needs a bundle to trust",
            ),
            (
                frontend().with_client_ca(Some(name("n2")), ClientAuth::Required),
                "client_ca",
                "frontend web has client_ca but no certificates: clients are asked for theirs in TLS",
            ),
            (
                frontend().with_server(server("a").with_server_certificate(Some(name("n0")))),
                "server_certificate",
                "server web/a: certificate n0 is a pair, server_certificate needs a bundle to trust",
            ),
            (
                frontend().with_server(server("a").with_verify_name(false)),
                "verify_name",
                "server a: verify_name is for TLS to the server, which needs server_certificate: name a bundle there",
            ),
            (
                frontend().with_server(server("a").with_ssl_offload(true)),
                "ssl_offload",
                "server web/a: ssl_offload ends the client's TLS, which needs a certificate: \
                 give frontend web certificates first",
            ),
        ];
        for (frontend, field, reason) in cases {
            let refused = state(frontend).unwrap_err();
            assert_eq!((refused.field.as_deref(), refused.reason.as_str()), (Some(field), reason));
        }
    }

    #[test]
    fn a_certificate_in_use_stays_and_its_users_are_named() {
        let servers = server("a").with_server_certificate(Some(name("n2"))).with_client_certificate(Some(name("n0")));
        let state = state(frontend().with_certificates(vec![name("n0")]).with_server(servers)).unwrap();
        let remove = |number: &str| Change::RemoveCertificate { name: name(number) };
        let mut next = state.clone();
        next.apply(&remove("n0")).unwrap();
        let refused = next.check_whole(&state).unwrap_err();
        assert_eq!(refused.reason, "certificate n0 can't be removed, it is used by frontend web, server web/a");
        // Used by nobody, or by nobody any more: in any order.
        let mut next = state.clone();
        next.apply(&remove("n1")).unwrap();
        next.apply(&remove("n2")).unwrap();
        let update = ServerUpdate {
            server_certificate: Some(OrNone::None),
            client_certificate: Some(OrNone::None),
            ..ServerUpdate::default()
        };
        next.apply(&Change::UpdateServer { frontend: name("web"), name: name("a"), update }).unwrap();
        next.check_whole(&state).unwrap();
    }

    #[test]
    fn an_update_renews_the_frontends_that_use_the_certificate_and_no_others() {
        let mut state = state(frontend().with_server(server("a").with_server_certificate(Some(name("n2"))))).unwrap();
        let before = Arc::clone(&state.entries()[0]);
        state.apply(&Change::UpdateCertificate { certificate: certificate(0, 2, false) }).unwrap();
        assert!(Arc::ptr_eq(&before, &state.entries()[0]));
        state.apply(&Change::UpdateCertificate { certificate: certificate(2, 2, true) }).unwrap();
        assert!(Arc::ptr_eq(&before, &state.entries()[0]), "it is the same as before");
        state.apply(&Change::UpdateCertificate { certificate: certificate(2, 0, true) }).unwrap();
        assert!(!Arc::ptr_eq(&before, &state.entries()[0]));
        assert!(Arc::ptr_eq(&before.frontend, &state.entries()[0].frontend), "only the entry is new");
    }

    #[test]
    fn broken_double_and_changed_kinds_are_refused() {
        let state = state(frontend()).unwrap();
        let (other_key, chain) = (Made::ca("x").key_pem(), Made::ca("y").pem());
        let cases = [
            (
                Change::AddCertificate { certificate: Certificate::pair("site", &chain, &other_key).unwrap() },
                "key",
                "certificate site: key: it does not fit",
            ),
            (
                Change::AddCertificate { certificate: Certificate::bundle("ca", "ca.pem").unwrap() },
                "bundle",
                "certificate ca: bundle: this is not PEM",
            ),
            (
                Change::AddCertificate { certificate: certificate(0, 1, false) },
                "name",
                "there is already a certificate n0",
            ),
            (
                Change::UpdateCertificate { certificate: certificate(0, 1, true) },
                "name",
                "certificate n0 is a pair, and no bundle can take its place",
            ),
            (
                Change::UpdateCertificate { certificate: certificate(7, 1, true) },
                "name",
                "there is no certificate n7, there is n0, n1, n2",
            ),
        ];
        for (change, field, reason) in cases {
            let refused = state.clone().apply(&change).unwrap_err();
            assert_eq!(refused.field.as_deref(), Some(field));
            assert!(refused.reason.starts_with(reason), "{}", refused.reason);
            assert!(!format!("{refused:?} {change:?}").contains(other_key.lines().nth(1).unwrap()));
        }
    }

    #[test]
    fn what_expires_or_is_not_valid_yet_is_warned_of_once() {
        let entry = |shape: Shape| {
            let made = Made::new("a", &["a.example"], shape, None);
            let certificate = Certificate::pair("site", &made.pem(), &made.key_pem()).unwrap();
            let mut state = State::default();
            state.apply(&Change::AddCertificate { certificate }).unwrap();
            state
        };
        let now = 1_800_000_000;
        let warnings = |state: &State, now| state.warnings_since(&State::default(), now);
        assert_eq!(warnings(&entry(EXPIRED), now), ["certificate site has expired on 2020-01-02"]);
        assert_eq!(warnings(&entry(NOT_YET_VALID), now), ["certificate site is not valid before 4000-01-02"]);
        let state = entry(PLAIN);
        assert!(warnings(&state, now).is_empty());
        let end = state.certificates()[0].not_after();
        assert_eq!(warnings(&state, end - 3 * DAY - 5), ["certificate site expires in 3 days"]);
        assert_eq!(warnings(&state, end - DAY - 5), ["certificate site expires in 1 day"]);
        assert!(state.warnings_since(&state, end).is_empty(), "it is not new");
    }

    #[test]
    fn a_route_to_nobody_is_warned_of() {
        let route = SniRoute::new(vec!["a.example".parse().unwrap()], name("blue")).unwrap();
        let before = state(frontend()).unwrap();
        let mut state = before.clone();
        let update = FrontendUpdate { sni_routes: Some(vec![route]), ..FrontendUpdate::default() };
        state.apply(&Change::UpdateFrontend { name: name("web"), update }).unwrap();
        assert_eq!(state.warnings_since(&before, 0), ["frontend web has a route to group blue, and no server in it"]);
        let server = server("a").with_group(Some(name("blue"))).unwrap();
        state.apply(&Change::AddServer { frontend: name("web"), server }).unwrap();
        assert!(state.warnings_since(&before, 0).is_empty());
    }

    #[test]
    fn dates_and_days_round_down() {
        assert_eq!(date(1_800_000_000), "2027-01-15");
        assert_eq!((date(-1), date(i64::MAX)), ("1970-01-01".to_owned(), "9999-12-31".to_owned()));
        assert_eq!([days_until(DAY, 0), days_until(DAY - 1, 0), days_until(-1, 0)], [1, 0, -1]);
    }
}
