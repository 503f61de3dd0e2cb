//! A request: a line of RON into what is asked for.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use lb_core::config::{
    AlpnName, Bind, Certificate, Check, ClientAuth, Config, CookieSettings, Delay, Frontend, HttpSettings,
    IpPersistence, Millis, Name, Network, OnUnavailable, OrNone, PassiveConnections, PassiveUse, PassiveWhen, Pem,
    Percent, PolicyKind, Port, Protocol, SecretPem, SendProxy, Server, ServerCheck, ServerNameText, SniRoute, Weight,
};
use lb_core::{Change, FrontendUpdate, Options, ServerUpdate, Transaction};
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::reply::Refusal;
use crate::metrics::Format;
use crate::ron_text;
use crate::settings::{LogLevel, Settings};

/// What can be asked of a running balancer. `if_revision`, `dry_run` and `probe` are those of [`Options`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields are those of `Change`")]
pub enum Request {
    /// Puts a server behind a frontend.
    AddServer {
        frontend: Name,
        server: Server,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// Changes some of a server's settings.
    UpdateServer {
        frontend: Name,
        name: Name,
        rename: Option<Name>,
        ip: Option<IpAddr>,
        port: Option<Port>,
        weight: Option<Weight>,
        /// 0 takes the limit away.
        max_connections: Option<u32>,
        check: Option<ServerCheck>,
        ssl_offload: Option<bool>,
        passive: Option<bool>,
        server_certificate: Option<OrNone<Name>>,
        server_name: Option<OrNone<ServerNameText>>,
        verify_name: Option<bool>,
        client_certificate: Option<OrNone<Name>>,
        send_proxy: Option<SendProxy>,
        group: Option<OrNone<Name>>,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// Takes a server away; its connections go on.
    RemoveServer {
        frontend: Name,
        name: Name,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// Gives a server no new connections.
    DrainServer {
        frontend: Name,
        name: Name,
        within: Option<Millis>,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// Takes a server out of service for maintenance.
    DisableServer {
        frontend: Name,
        name: Name,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// Takes a draining or disabled server into balancing again.
    EnableServer {
        frontend: Name,
        name: Name,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// Lists the servers of one frontend, or of all.
    ListServers { frontend: Option<Name> },
    /// Starts a frontend.
    AddFrontend {
        frontend: Frontend,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// Changes some of a frontend's settings.
    UpdateFrontend {
        name: Name,
        rename: Option<Name>,
        bind: Option<Bind>,
        protocol: Option<Protocol>,
        policy: Option<PolicyKind>,
        /// 0 takes the limit away.
        max_connections: Option<u32>,
        connect_timeout: Option<Millis>,
        redispatch_timeout: Option<Millis>,
        idle_timeout: Option<Millis>,
        queue: Option<u32>,
        queue_timeout: Option<Millis>,
        on_unavailable: Option<OnUnavailable>,
        check: Option<Check>,
        slow_start: Option<Delay>,
        eject_after: Option<u32>,
        eject_time: Option<Millis>,
        eject_time_max: Option<Millis>,
        max_ejected: Option<Percent>,
        passive_use: Option<PassiveUse>,
        passive_when: Option<PassiveWhen>,
        passive_connections: Option<PassiveConnections>,
        fail_back_after: Option<Delay>,
        certificates: Option<Vec<Name>>,
        alpn: Option<Vec<AlpnName>>,
        client_ca: Option<OrNone<Name>>,
        client_auth: Option<ClientAuth>,
        handshake_timeout: Option<Millis>,
        max_handshakes: Option<NonZeroU32>,
        sni_routes: Option<Vec<SniRoute>>,
        accept_proxy_from: Option<Vec<Network>>,
        cookie_persistence: Option<bool>,
        cookie: Option<CookieSettings>,
        ip_persistence: Option<OrNone<IpPersistence>>,
        http: Option<HttpSettings>,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// Stops a frontend; its connections go on.
    RemoveFrontend {
        name: Name,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// Lists the frontends.
    ListFrontends {},
    /// Makes a certificate known: `chain` and `key`, or `bundle`, in PEM.
    AddCertificate {
        name: Name,
        #[serde(default, deserialize_with = "pem")]
        chain: Option<Pem>,
        #[serde(default, deserialize_with = "secret_pem")]
        key: Option<SecretPem>,
        #[serde(default, deserialize_with = "pem")]
        bundle: Option<Pem>,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// Replaces a certificate.
    UpdateCertificate {
        name: Name,
        #[serde(default, deserialize_with = "pem")]
        chain: Option<Pem>,
        #[serde(default, deserialize_with = "secret_pem")]
        key: Option<SecretPem>,
        #[serde(default, deserialize_with = "pem")]
        bundle: Option<Pem>,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// Forgets a certificate that nobody uses.
    RemoveCertificate {
        name: Name,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// Lists the certificates.
    ListCertificates {},
    /// The key that cookies are made with.
    PersistenceKey {},
    /// The token that opens the console.
    ConsoleToken {},
    /// Lists the clients that are remembered, of one frontend or of all; at most `limit`, 1000 if it is not given.
    ListPersistence { frontend: Option<Name>, limit: Option<usize> },
    /// Forgets clients that are remembered, of one frontend or of all, all or those of a server.
    ClearPersistence { frontend: Option<Name>, server: Option<Name> },
    /// Several changes, all or none, as one revision.
    Transaction(Changes),
    /// Makes the running frontends those of a configuration, as one revision.
    Apply {
        config: Box<Config>,
        /// What the same file says of the process. They are used at its next start only, so that they are compared.
        settings: Option<Box<Settings>>,
        /// The file that the configuration is from. If it is the one the balancer was started with, the balancer
        /// remembers that it has been applied.
        file: Option<AppliedFile>,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// Takes a revision back (the last one, unless named), as a new revision.
    Undo {
        revision: Option<u64>,
        if_revision: Option<u64>,
        #[serde(default)]
        dry_run: bool,
        #[serde(default)]
        probe: bool,
    },
    /// The last revisions.
    History {},
    /// What runs, and how much.
    Status {},
    /// The same and more, as a text for whoever collects metrics.
    Metrics {
        #[serde(default)]
        format: Format,
    },
    /// The program's and the protocol's version.
    Version {},
    /// What is logged.
    LogLevel {},
    /// Changes what is logged, until the process ends.
    SetLogLevel { level: LogLevel },
    /// Asks for the listening sockets, to take the balancer's place.
    TakeOver {},
    /// Says that this is done: the successor accepts.
    TakenOver {},
}

/// The content of a `Transaction`: `[…]`, or `(changes: […], if_revision: 3, dry_run: true, probe: true)`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    changes: Vec<Request>,
    options: Options,
}

/// Which file a configuration was read from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppliedFile {
    /// Its full path.
    pub(crate) path: PathBuf,
    /// The hash of its text, in hexadecimal digits.
    pub(crate) hash: String,
}

/// Reads a request from a line, without the line's end.
///
/// # Errors
/// What is wrong with it, as it is to be answered.
pub fn parse_request(line: &[u8]) -> Result<Request, Refusal> {
    let text = std::str::from_utf8(line).map_err(|error| {
        Refusal::other(format!("the request is not UTF-8 text: byte {} is wrong", error.valid_up_to() + 1))
    })?;
    let text = text.trim();
    // `Status` is short for `Status()`.
    let is_word = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let read = if is_word { ron_text::read(&format!("{text}()")) } else { ron_text::read(text) };
    read.map_err(|fault| match fault.field {
        Some(field) => Refusal::field(&field, fault.reason),
        None if fault.column == 1 || is_word => Refusal::other(fault.reason),
        None => Refusal::other(format!("{} (column {})", fault.reason, fault.column)),
    })
}

impl Request {
    /// The transaction that a changing request stands for; `None` for the other requests.
    ///
    /// # Errors
    /// A `Transaction` holds something other than plain changes.
    pub(crate) fn into_transaction(self) -> Result<Option<Transaction>, Refusal> {
        match self {
            Self::Transaction(Changes { changes, options }) => {
                let changes = changes.into_iter().enumerate().map(|(index, request)| request.into_plain_change(index));
                let changes = changes.collect::<Result<Vec<_>, _>>()?;
                Ok(Some(Transaction::from(changes).with(options)))
            }
            other => Ok(other.into_change()?.map(|(change, options)| Transaction::from(change).with(options))),
        }
    }

    /// The change of one element of a transaction.
    fn into_plain_change(self, index: usize) -> Result<Change, Refusal> {
        let place = format!("change {} of the transaction", index + 1);
        match self.into_change()? {
            None => Err(Refusal::other(format!("{place} is not a change of a server, frontend or certificate"))),
            Some((change, options)) if options == Options::default() => Ok(change),
            Some((_, options)) => {
                let field = match options {
                    Options { if_revision: Some(_), .. } => "if_revision",
                    Options { dry_run: true, .. } => "dry_run",
                    _ => "probe",
                };
                let form = format!("write Transaction((changes: […], {field}: …))");
                Err(Refusal::field(field, format!("{place} has its own {field}, which holds for all or none: {form}")))
            }
        }
    }

    /// A single change with its options; `None` for the other requests.
    ///
    /// # Errors
    /// A certificate is neither a pair nor a bundle.
    fn into_change(self) -> Result<Option<(Change, Options)>, Refusal> {
        Ok(Some(match self {
            Self::AddServer { frontend, server, if_revision, dry_run, probe } => {
                (Change::AddServer { frontend, server }, Options { if_revision, dry_run, probe })
            }
            Self::UpdateServer {
                frontend,
                name,
                rename,
                ip,
                port,
                weight,
                max_connections,
                check,
                ssl_offload,
                passive,
                server_certificate,
                server_name,
                verify_name,
                client_certificate,
                send_proxy,
                group,
                if_revision,
                dry_run,
                probe,
            } => {
                let update = ServerUpdate {
                    rename,
                    ip,
                    port,
                    weight,
                    max_connections,
                    check,
                    ssl_offload,
                    passive,
                    server_certificate,
                    server_name,
                    verify_name,
                    client_certificate,
                    send_proxy,
                    group,
                    ..ServerUpdate::default()
                };
                (Change::UpdateServer { frontend, name, update }, Options { if_revision, dry_run, probe })
            }
            Self::RemoveServer { frontend, name, if_revision, dry_run, probe } => {
                (Change::RemoveServer { frontend, name }, Options { if_revision, dry_run, probe })
            }
            Self::DrainServer { frontend, name, within, if_revision, dry_run, probe } => {
                (Change::DrainServer { frontend, name, within }, Options { if_revision, dry_run, probe })
            }
            Self::DisableServer { frontend, name, if_revision, dry_run, probe } => {
                (Change::DisableServer { frontend, name }, Options { if_revision, dry_run, probe })
            }
            Self::EnableServer { frontend, name, if_revision, dry_run, probe } => {
                (Change::EnableServer { frontend, name }, Options { if_revision, dry_run, probe })
            }
            Self::AddFrontend { frontend, if_revision, dry_run, probe } => {
                (Change::AddFrontend { frontend }, Options { if_revision, dry_run, probe })
            }
            Self::UpdateFrontend {
                name,
                rename,
                bind,
                protocol,
                policy,
                max_connections,
                connect_timeout,
                redispatch_timeout,
                idle_timeout,
                queue,
                queue_timeout,
                on_unavailable,
                check,
                slow_start,
                eject_after,
                eject_time,
                eject_time_max,
                max_ejected,
                passive_use,
                passive_when,
                passive_connections,
                fail_back_after,
                certificates,
                alpn,
                client_ca,
                client_auth,
                handshake_timeout,
                max_handshakes,
                sni_routes,
                accept_proxy_from,
                cookie_persistence,
                cookie,
                ip_persistence,
                http,
                if_revision,
                dry_run,
                probe,
            } => {
                let update = FrontendUpdate {
                    rename,
                    bind,
                    protocol,
                    policy,
                    max_connections,
                    connect_timeout,
                    redispatch_timeout,
                    idle_timeout,
                    queue,
                    queue_timeout,
                    on_unavailable,
                    check,
                    slow_start,
                    eject_after,
                    eject_time,
                    eject_time_max,
                    max_ejected,
                    passive_use,
                    passive_when,
                    passive_connections,
                    fail_back_after,
                    certificates,
                    alpn,
                    client_ca,
                    client_auth,
                    handshake_timeout,
                    max_handshakes,
                    sni_routes,
                    accept_proxy_from,
                    cookie_persistence,
                    cookie,
                    ip_persistence,
                    http,
                };
                (Change::UpdateFrontend { name, update }, Options { if_revision, dry_run, probe })
            }
            Self::RemoveFrontend { name, if_revision, dry_run, probe } => {
                (Change::RemoveFrontend { name }, Options { if_revision, dry_run, probe })
            }
            Self::AddCertificate { name, chain, key, bundle, if_revision, dry_run, probe } => {
                let certificate = Certificate::from_parts(name, chain, key, bundle)?;
                (Change::AddCertificate { certificate }, Options { if_revision, dry_run, probe })
            }
            Self::UpdateCertificate { name, chain, key, bundle, if_revision, dry_run, probe } => {
                let certificate = Certificate::from_parts(name, chain, key, bundle)?;
                (Change::UpdateCertificate { certificate }, Options { if_revision, dry_run, probe })
            }
            Self::RemoveCertificate { name, if_revision, dry_run, probe } => {
                (Change::RemoveCertificate { name }, Options { if_revision, dry_run, probe })
            }
            Self::ListServers { .. }
            | Self::ListCertificates {}
            | Self::ListFrontends {}
            | Self::PersistenceKey {}
            | Self::ConsoleToken {}
            | Self::ListPersistence { .. }
            | Self::ClearPersistence { .. }
            | Self::Transaction(_)
            | Self::Apply { .. }
            | Self::Undo { .. }
            | Self::History {}
            | Self::Status {}
            | Self::Metrics { .. }
            | Self::Version {}
            | Self::LogLevel {}
            | Self::SetLogLevel { .. }
            | Self::TakeOver {}
            | Self::TakenOver {} => return Ok(None),
        }))
    }
}

/// What is said of a string that is no PEM. It is not shown: it may be a key that has lost its first line.
const NO_PEM: &str = "the PEM text itself is wanted here (with \\n for its line ends), not the path of a file: \
                      `lb certificate` reads files and sends them";

fn pem<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Pem>, D::Error> {
    match Option::<Pem>::deserialize(deserializer)? {
        Some(pem) if !pem.is_pem() => Err(D::Error::custom(NO_PEM)),
        pem => Ok(pem),
    }
}

fn secret_pem<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretPem>, D::Error> {
    match Option::<SecretPem>::deserialize(deserializer)? {
        Some(pem) if !pem.is_pem() => Err(D::Error::custom(NO_PEM)),
        pem => Ok(pem),
    }
}

impl<'de> Deserialize<'de> for Changes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ChangesVisitor)
    }
}

struct ChangesVisitor;

impl<'de> Visitor<'de> for ChangesVisitor {
    type Value = Changes;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of changes, or (changes: […], …),")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Changes, A::Error> {
        let changes = Vec::deserialize(SeqAccessDeserializer::new(list))?;
        Ok(Changes { changes, options: Options::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Changes, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            changes: Vec<Request>,
            #[serde(default)]
            if_revision: Option<u64>,
            #[serde(default)]
            dry_run: bool,
            #[serde(default)]
            probe: bool,
        }
        let Fields { changes, if_revision, dry_run, probe } = Fields::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Changes { changes, options: Options { if_revision, dry_run, probe } })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::admin::Reply;

    /// What is answered to a line that is refused when it is read or when it becomes a transaction.
    fn refusal(line: &str) -> String {
        let refusal = parse_request(line.as_bytes()).and_then(Request::into_transaction).expect_err(line);
        Reply::from(refusal).to_line()
    }

    fn transaction(line: &str) -> Transaction {
        let request = parse_request(line.as_bytes()).unwrap_or_else(|refusal| panic!("{line}: {refusal}"));
        request.into_transaction().unwrap().unwrap()
    }

    #[test]
    fn the_documented_example_is_a_change() {
        let line = "AddServer(frontend:\"web\",server:(name:\"app3\",ip:\"127.0.0.1\",port:9003))";
        let server = Server::new("app3", "127.0.0.1:9003".parse().unwrap()).unwrap();
        let change = Change::AddServer { frontend: "web".parse().unwrap(), server };
        assert_eq!(transaction(line), Transaction::from(change));
    }

    #[test]
    fn clients_that_are_remembered_are_asked_for_by_frontend_and_server() {
        let (frontend, server) = ("web".parse().ok(), "app1".parse().ok());
        let read = |line: &str| parse_request(line.as_bytes());
        let list = Request::ListPersistence { frontend: "web".parse().ok(), limit: Some(5) };
        assert_eq!(read(r#"ListPersistence(frontend:"web",limit:5)"#), Ok(list));
        let clear = Request::ClearPersistence { frontend, server };
        assert_eq!(read(r#"ClearPersistence(frontend:"web",server:"app1")"#), Ok(clear));
        assert_eq!(read("ClearPersistence"), Ok(Request::ClearPersistence { frontend: None, server: None }));
    }

    #[test]
    fn words_stand_for_calls_without_fields() {
        for (word, request) in [
            ("Status", Request::Status {}),
            ("Version", Request::Version {}),
            ("TakeOver", Request::TakeOver {}),
            ("TakenOver", Request::TakenOver {}),
            ("History", Request::History {}),
            ("ListFrontends", Request::ListFrontends {}),
            ("PersistenceKey", Request::PersistenceKey {}),
            ("ConsoleToken", Request::ConsoleToken {}),
            ("LogLevel", Request::LogLevel {}),
            ("ListPersistence", Request::ListPersistence { frontend: None, limit: None }),
            ("ListServers", Request::ListServers { frontend: None }),
        ] {
            for line in [word.to_owned(), format!("{word}()"), format!(" {word} ( ) \r")] {
                assert_eq!(parse_request(line.as_bytes()).as_ref(), Ok(&request), "{line}");
            }
        }
    }

    #[test]
    fn options_are_plain_fields() {
        let line = "RemoveServer(frontend:\"web\",name:\"a\",if_revision:3,dry_run:true,probe:true)";
        assert_eq!(transaction(line).options, Options { if_revision: Some(3), dry_run: true, probe: true });
    }

    #[test]
    fn a_transaction_is_a_list_with_or_without_options() {
        let change = "DrainServer(frontend:\"web\",name:\"a\")";
        let plain = transaction(&format!("Transaction([{change},{change}])"));
        assert_eq!((plain.changes.len(), plain.options), (2, Options::default()));
        let options = "if_revision:3,dry_run:true,probe:true";
        for line in [
            format!("Transaction((changes:[{change}],{options}))"),
            format!("Transaction((if_revision:3,changes:[{change}],dry_run:true,probe:true))"),
        ] {
            let with = transaction(&line);
            assert_eq!(with.changes.len(), 1);
            assert_eq!(with.options, Options { if_revision: Some(3), dry_run: true, probe: true });
        }
        assert_eq!(transaction("Transaction([])").changes, []);
    }

    #[test]
    fn refused_lines_and_their_exact_replies() {
        let add = |server: &str| format!("AddServer(frontend:\"web\",server:({server}))");
        let cases = [
            ("Stats".to_owned(), r#"Refused(reason:"unknown request \"Stats\", did you mean \"Status\"?")"#),
            ("status()".to_owned(), r#"Refused(reason:"unknown request \"status\", did you mean \"Status\"?")"#),
            (
                add("name:\"a\",ip:\"127.0.0.1\",port:70000"),
                r#"Refused(reason:"port 70000 is not in 1 to 65535",field:"port")"#,
            ),
            (
                add("name:\"a\",ip:\"127.0.0.1\",port:0"),
                r#"Refused(reason:"port 0 is not in 1 to 65535",field:"port")"#,
            ),
            (
                add("name:\"a\",ip:\"127.0.0.1\",port:\"http\""),
                r#"Refused(reason:"port: a whole number is expected here",field:"port")"#,
            ),
            (
                add("name:\"a\",ip:\"127.0.0\",port:1"),
                r#"Refused(reason:"ip: \"127.0.0\" is not an IP address",field:"ip")"#,
            ),
            (
                add("name:\"a\",ip:\"0.0.0.0\",port:1"),
                r#"Refused(reason:"ip: 0.0.0.0 is not the address of one server",field:"ip")"#,
            ),
            (
                add("name:\"a b\",ip:\"127.0.0.1\",port:1"),
                r#"Refused(reason:"' ' in a name: only letters, digits, '.', '_' and '-' are allowed",field:"name")"#,
            ),
            (
                add("name:\"a\",ip:\"127.0.0.1\",port:1,weight:0"),
                r#"Refused(reason:"weight 0 is not in 1 to 256",field:"weight")"#,
            ),
            (
                add("name:\"a\",ip:\"127.0.0.1\",port:1,server_name:\"a b\""),
                r#"Refused(reason:"server_name: \"a b\" is neither a DNS name nor an IP address",field:"server_name")"#,
            ),
            (
                add("name:\"a\",ip:\"127.0.0.1\",port:1,max_connections:0"),
                r#"Refused(reason:"max_connections: 0 connections would serve nobody: leave it out for no limit",field:"max_connections")"#,
            ),
            (
                add("name:\"a\",ip:\"127.0.0.1\",port:1,group:\"none\""),
                r#"Refused(reason:"group: \"none\" stands for no name and can't be one",field:"group")"#,
            ),
            (
                add("name:\"a\",ip:\"127.0.0.1\",port:1,wieght:2"),
                r#"Refused(reason:"unknown field \"wieght\", did you mean \"weight\"?",field:"wieght")"#,
            ),
            (add("name:\"a\",ip:\"127.0.0.1\""), r#"Refused(reason:"port is missing",field:"port")"#),
            ("AddServer".to_owned(), r#"Refused(reason:"frontend is missing",field:"frontend")"#),
            (
                "RemoveServer(frontend:\"\",name:\"a\")".to_owned(),
                r#"Refused(reason:"frontend: a name can't be empty",field:"frontend")"#,
            ),
            (
                "UpdateServer(frontend:\"web\",name:\"a\",port:-1)".to_owned(),
                r#"Refused(reason:"port: the number is out of range",field:"port")"#,
            ),
            (
                "UpdateServer(frontend:\"web\",name:\"a\",ip:\"x\")".to_owned(),
                r#"Refused(reason:"ip: invalid IP address syntax",field:"ip")"#,
            ),
            (
                "UpdateFrontend(name:\"web\",policy:fastest)".to_owned(),
                r#"Refused(reason:"unknown policy \"fastest\", known are round_robin, least_connections, random_two, least_latency, source_hash, custom",field:"policy")"#,
            ),
            (
                "UpdateFrontend(name:\"web\",bind:\"localhost\")".to_owned(),
                r#"Refused(reason:"bind: \"localhost\" is not an IP address and port: write \"127.0.0.1:80\", \"[::1]:80\" or \"fd:3\"",field:"bind")"#,
            ),
            (
                "AddFrontend(frontend:(name:\"web\",bind:\"fd:1\"))".to_owned(),
                r#"Refused(reason:"bind: \"fd:1\": the descriptor is a number from 3 on",field:"bind")"#,
            ),
            (
                "ListServers(frontend:1)".to_owned(),
                r#"Refused(reason:"frontend: text in quotes is expected here",field:"frontend")"#,
            ),
            ("Status(".to_owned(), r#"Refused(reason:"the text ends in the middle of a value (column 7)")"#),
            (
                "Status() Status()".to_owned(),
                r#"Refused(reason:"there is more text after the end of the value (column 10)")"#,
            ),
            ("{}".to_owned(), r#"Refused(reason:"a word without quotes is expected here")"#),
        ];
        for (line, reply) in cases {
            assert_eq!(refusal(&line), format!("{reply}\n"), "{line}");
        }
    }

    #[test]
    fn persistence_is_written_as_in_the_configuration_or_as_on_the_command_line() {
        let update = |fields: &str| match &transaction(&format!("UpdateFrontend(name:\"web\",{fields})")).changes[0] {
            Change::UpdateFrontend { update, .. } => update.clone(),
            other => panic!("{other:?}"),
        };
        let by_text = update("ip_persistence:\"ttl=5m,size=7\"");
        assert_eq!(update("ip_persistence:(ttl:\"5m\",size:7)"), by_text);
        assert!(matches!(by_text.ip_persistence, Some(OrNone::Some(_))));
        assert_eq!(update("ip_persistence:\"none\"").ip_persistence, Some(OrNone::None));
        assert_eq!(update("cookie:()").cookie, Some(CookieSettings::default()));
        let cases = [
            ("ip_persistence:(size:0)", r#"Refused(reason:"size: 0 is not in 1 to 100000000",field:"size")"#),
            (
                "ip_persistence:\"size=0\"",
                r#"Refused(reason:"ip_persistence: size: 0 is not in 1 to 100000000",field:"ip_persistence")"#,
            ),
            ("http:(max_head:1)", r#"Refused(reason:"max_head: 1 is not in 256 to 65536",field:"max_head")"#),
            (
                "http:(max_hea:1)",
                r#"Refused(reason:"unknown field \"max_hea\", did you mean \"max_head\"?",field:"max_hea")"#,
            ),
            (
                "cookie:(path:\"a;b\")",
                r#"Refused(reason:"\"a;b\" is no cookie's path: it begins with /, has at most 256 bytes and none of ;,\"\\ or space",field:"path")"#,
            ),
            ("protocol:htp", r#"Refused(reason:"unknown value \"htp\", did you mean \"http\"?",field:"protocol")"#),
        ];
        for (fields, reply) in cases {
            assert_eq!(refusal(&format!("UpdateFrontend(name:\"web\",{fields})")), format!("{reply}\n"), "{fields}");
        }
    }

    #[test]
    fn no_refusal_and_no_debug_shows_a_key_of_cookies() {
        let key = "ab".repeat(32);
        let request = parse_request(format!("Apply(config:(persistence_key:\"{key}\"))").as_bytes()).unwrap();
        assert!(!format!("{request:?}").contains("abab"));
        for wrong in [format!("{key}ab"), key.replace('b', "g")] {
            let refused = refusal(&format!("Apply(config:(persistence_key:\"{wrong}\"))"));
            let reason = "persistence_key: a key is 64 hexadecimal digits: `openssl rand -hex 32` makes one";
            assert_eq!(refused, format!("Refused(reason:\"{reason}\",field:\"persistence_key\")\n"));
        }
    }

    #[test]
    fn refused_transactions_and_their_exact_replies() {
        let change = "DrainServer(frontend:\"web\",name:\"a\")";
        let with_option = "DrainServer(frontend:\"web\",name:\"a\",dry_run:true)";
        let cases = [
            (
                "Transaction([Status()])".to_owned(),
                r#"Refused(reason:"change 1 of the transaction is not a change of a server, frontend or certificate")"#,
            ),
            (
                format!("Transaction([{change},Transaction([{change}])])"),
                r#"Refused(reason:"change 2 of the transaction is not a change of a server, frontend or certificate")"#,
            ),
            (
                format!("Transaction([{with_option}])"),
                r#"Refused(reason:"change 1 of the transaction has its own dry_run, which holds for all or none: write Transaction((changes: […], dry_run: …))",field:"dry_run")"#,
            ),
            (
                "Transaction((changes:[],dry_run:true,dry_run:false))".to_owned(),
                r#"Refused(reason:"dry_run is there twice",field:"dry_run")"#,
            ),
            ("Transaction((dry_run:true))".to_owned(), r#"Refused(reason:"changes is missing",field:"changes")"#),
            (
                format!("Transaction((changes:[{change}],dryrun:true))"),
                r#"Refused(reason:"unknown field \"dryrun\", did you mean \"dry_run\"?",field:"dryrun")"#,
            ),
            (
                "Transaction([DrainServer(frontend:\"web\",name:\"\")])".to_owned(),
                r#"Refused(reason:"a name can't be empty",field:"name")"#,
            ),
        ];
        for (line, reply) in cases {
            assert_eq!(refusal(&line), format!("{reply}\n"), "{line}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_without_using_up_the_stack() {
        for opening in ["Transaction([", "Transaction((changes:[", "(", "[", "AddServer(server:(", "Some("] {
            let refused = parse_request(opening.repeat(20_000).as_bytes());
            assert!(refused.is_err(), "{opening}");
        }
        let nested = format!("{}{}", "Transaction([".repeat(100), "])".repeat(100));
        assert!(refusal(&nested).contains("nested too deeply"), "{}", refusal(&nested));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_request(&line).and_then(Request::into_transaction);
        }

        #[test]
        fn no_words_make_it_panic(
            words in proptest::collection::vec(
                prop_oneof![
                    Just("Transaction"), Just("AddServer"), Just("UpdateServer"), Just("Apply"), Just("("), Just(")"),
                    Just("["), Just("]"), Just(":"), Just(","), Just("changes"), Just("server"), Just("config"),
                    Just("frontend"), Just("port"), Just("1"), Just("-1"), Just("\"a\""), Just("None"), Just("Some"),
                    Just("#![enable(implicit_some)]"), Just("/*"), Just("r#\"")
                ],
                0..24,
            )
        ) {
            let _ = parse_request(words.concat().as_bytes()).and_then(Request::into_transaction);
        }
    }
}
