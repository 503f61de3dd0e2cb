//! Commands as request lines, the same as a person would type into the admin socket.
//!
//! Values go out as they were given: the balancer checks them, so that there is one check and one wording.

use lb_core::config::{IpPersistence, OrNone};
use serde::Serialize;

use std::path::Path;

use crate::cli::{
    AddFrontend, AddServer, CertificateCommand, CertificateFiles, ChangeOptions, ClientCommand, FrontendCommand,
    FrontendSettings, LogCommand, PersistenceCommand, ServerCommand, ServerName, ServerTls, UpdateFrontend,
    UpdateServer,
};
use crate::{apply, certificates, config, ron_text};

/// The request that a command stands for.
///
/// # Errors
/// `lb apply` was given a configuration that is wrong: where and why. A certificate's file can't be read.
pub(crate) fn request_line(command: &ClientCommand) -> Result<String, String> {
    let call = match command {
        ClientCommand::Server(command) => server(command),
        ClientCommand::Frontend(command) => frontend(command),
        ClientCommand::Certificate(command) => certificate(command)?,
        ClientCommand::Persistence(command) => persistence(command),
        ClientCommand::Console(_) => Call::new("ConsoleToken"),
        ClientCommand::Apply { config: path, options } => {
            let source = config::read_config(path)?;
            let file =
                Call::new("").field("path", &apply::identity(path)).field("hash", &format!("{:016x}", source.hash));
            let call = Call::new("Apply").field("config", &source.config).field("settings", &source.settings);
            call.nested("file", file).options(options, false)
        }
        ClientCommand::History { .. } => Call::new("History"),
        ClientCommand::Undo { revision, options } => {
            Call::new("Undo").field_if("revision", revision.as_ref()).options(options, false)
        }
        ClientCommand::Status { .. } => Call::new("Status"),
        ClientCommand::Metrics { format } => Call::new("Metrics").field("format", format),
        ClientCommand::Log(LogCommand::Level { level: None }) => Call::new("LogLevel"),
        ClientCommand::Log(LogCommand::Level { level }) => Call::new("SetLogLevel").field_if("level", level.as_ref()),
        ClientCommand::Version => Call::new("Version"),
    };
    call.line()
}

fn server(command: &ServerCommand) -> Call {
    match command {
        ServerCommand::Add(args) => add_server(args),
        ServerCommand::Update(args) => update_server(args),
        ServerCommand::Remove(args) => named_server("RemoveServer", args),
        ServerCommand::Drain { server, within } => {
            let ServerName { frontend, name, options } = server;
            let call = Call::new("DrainServer").field("frontend", frontend).field("name", name);
            call.field_if("within", within.as_ref()).options(options, false)
        }
        ServerCommand::Disable(args) => named_server("DisableServer", args),
        ServerCommand::Enable(args) => named_server("EnableServer", args),
        ServerCommand::List { frontend, .. } => Call::new("ListServers").field_if("frontend", frontend.as_ref()),
    }
}

fn add_server(args: &AddServer) -> Call {
    let server = Call::new("")
        .field("name", &args.name)
        .field("ip", &args.ip)
        .field("port", &args.port)
        .field_if("weight", args.weight.as_ref())
        .field_if("max_connections", args.max_connections.as_ref())
        .field_if("check", args.check.as_ref())
        .flag("ssl_offload", args.ssl_offload)
        .flag("passive", args.passive)
        .field_if("server_certificate", given(args.server_certificate.as_ref()))
        .server_tls(&args.tls, given);
    Call::new("AddServer").field("frontend", &args.frontend).nested("server", server).options(&args.options, args.probe)
}

fn update_server(args: &UpdateServer) -> Call {
    Call::new("UpdateServer")
        .field("frontend", &args.frontend)
        .field("name", &args.name)
        .field_if("rename", args.rename.as_ref())
        .field_if("ip", args.ip.as_ref())
        .field_if("port", args.port.as_ref())
        .field_if("weight", args.weight.as_ref())
        .field_if("max_connections", args.max_connections.as_ref())
        .field_if("check", args.check.as_ref())
        .field_if("ssl_offload", args.ssl_offload.as_ref())
        .field_if("passive", args.passive.as_ref())
        .field_if("server_certificate", args.server_certificate.as_ref())
        .server_tls(&args.tls, |value| value)
        .options(&args.options, args.probe)
}

fn named_server(request: &str, args: &ServerName) -> Call {
    Call::new(request).field("frontend", &args.frontend).field("name", &args.name).options(&args.options, false)
}

fn frontend(command: &FrontendCommand) -> Call {
    match command {
        FrontendCommand::Add(args) => add_frontend(args),
        FrontendCommand::Update(args) => update_frontend(args),
        FrontendCommand::Remove { name, options } => {
            Call::new("RemoveFrontend").field("name", name).options(options, false)
        }
        FrontendCommand::List { .. } => Call::new("ListFrontends"),
    }
}

fn add_frontend(args: &AddFrontend) -> Call {
    let frontend = Call::new("")
        .field("name", &args.name)
        .field("bind", &args.bind)
        .field_if("policy", args.policy.as_ref())
        .field_if("max_connections", args.max_connections.as_ref())
        .settings(&args.settings, given)
        .field_if("ip_persistence", given_ip(&args.settings));
    Call::new("AddFrontend").nested("frontend", frontend).options(&args.options, false)
}

fn update_frontend(args: &UpdateFrontend) -> Call {
    Call::new("UpdateFrontend")
        .field("name", &args.name)
        .field_if("rename", args.rename.as_ref())
        .field_if("bind", args.bind.as_ref())
        .field_if("policy", args.policy.as_ref())
        .field_if("max_connections", args.max_connections.as_ref())
        .settings(&args.settings, |value| value)
        .field_if("ip_persistence", args.settings.ip_persistence.as_ref())
        .options(&args.options, false)
}

fn certificate(command: &CertificateCommand) -> Result<Call, String> {
    match command {
        CertificateCommand::Add(args) => certificate_files("AddCertificate", args),
        CertificateCommand::Update(args) => certificate_files("UpdateCertificate", args),
        CertificateCommand::Remove { name, options } => {
            Ok(Call::new("RemoveCertificate").field("name", name).options(options, false))
        }
        CertificateCommand::List { .. } => Ok(Call::new("ListCertificates")),
    }
}

fn persistence(command: &PersistenceCommand) -> Call {
    match command {
        PersistenceCommand::List { frontend, limit, .. } => {
            Call::new("ListPersistence").field_if("frontend", frontend.as_ref()).field_if("limit", limit.as_ref())
        }
        PersistenceCommand::Clear { frontend, server } => {
            Call::new("ClearPersistence").field_if("frontend", frontend.as_ref()).field_if("server", server.as_ref())
        }
        PersistenceCommand::Key { .. } => Call::new("PersistenceKey"),
    }
}

fn certificate_files(request: &str, args: &CertificateFiles) -> Result<Call, String> {
    let mut call = Call::new(request).field("name", &args.name);
    for (field, path) in [("chain", &args.chain), ("key", &args.key), ("bundle", &args.bundle)] {
        if let Some(path) = path {
            call = call.field(field, &read_pem(path)?);
        }
    }
    Ok(call.options(&args.options, args.probe))
}

fn read_pem(path: &Path) -> Result<String, String> {
    let wrong = |reason: String| format!("lb: {}: {reason}", path.display());
    let text = certificates::read_pem(path).map_err(wrong)?;
    match text.contains("-----BEGIN") {
        true => Ok(text),
        false => Err(wrong("this is not PEM: there is no line that begins with -----BEGIN".to_owned())),
    }
}

/// What a new thing has for a setting: `none` is left out.
fn given(value: Option<&String>) -> Option<&String> {
    value.filter(|value| *value != "none")
}

/// As `given`, and written as in the configuration.
fn given_ip(settings: &FrontendSettings) -> Option<&IpPersistence> {
    match &settings.ip_persistence {
        Some(OrNone::Some(value)) => Some(value),
        _ => None,
    }
}

/// `Name(field:value,field:value)`, built field by field.
struct Call {
    name: String,
    fields: Vec<String>,
    failure: Option<ron::Error>,
}

impl Call {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), fields: Vec::new(), failure: None }
    }

    fn field(mut self, name: &str, value: &impl Serialize) -> Self {
        match ron_text::write(value) {
            Ok(value) => self.fields.push(format!("{name}:{value}")),
            Err(error) => self.failure = Some(error),
        }
        self
    }

    fn field_if(self, name: &str, value: Option<&impl Serialize>) -> Self {
        match value {
            Some(value) => self.field(name, value),
            None => self,
        }
    }

    fn flag(self, name: &str, set: bool) -> Self {
        if set { self.field(name, &true) } else { self }
    }

    fn nested(mut self, name: &str, value: Self) -> Self {
        match value.line() {
            Ok(value) => self.fields.push(format!("{name}:{value}")),
            Err(_) => self.failure = Some(ron::Error::Fmt),
        }
        self
    }

    /// With `of` a setting that may be missing is taken.
    fn server_tls(self, tls: &ServerTls, of: fn(Option<&String>) -> Option<&String>) -> Self {
        self.field_if("server_name", of(tls.server_name.as_ref()))
            .field_if("verify_name", tls.verify_name.as_ref())
            .field_if("client_certificate", of(tls.client_certificate.as_ref()))
            .field_if("send_proxy", tls.send_proxy.as_ref())
            .field_if("group", of(tls.group.as_ref()))
    }

    /// With `of` a setting that may be missing is taken.
    fn settings(self, settings: &FrontendSettings, of: fn(Option<&String>) -> Option<&String>) -> Self {
        self.field_if("protocol", settings.protocol.as_ref())
            .field_if("connect_timeout", settings.connect_timeout.as_ref())
            .field_if("redispatch_timeout", settings.redispatch_timeout.as_ref())
            .field_if("idle_timeout", settings.idle_timeout.as_ref())
            .field_if("queue", settings.queue.as_ref())
            .field_if("queue_timeout", settings.queue_timeout.as_ref())
            .field_if("on_unavailable", settings.on_unavailable.as_ref())
            .field_if("check", settings.check.as_ref())
            .field_if("slow_start", settings.slow_start.as_ref())
            .field_if("eject_after", settings.eject_after.as_ref())
            .field_if("eject_time", settings.eject_time.as_ref())
            .field_if("eject_time_max", settings.eject_time_max.as_ref())
            .field_if("max_ejected", settings.max_ejected.as_ref())
            .field_if("passive_use", settings.passive_use.as_ref())
            .field_if("passive_when", settings.passive_when.as_ref())
            .field_if("passive_connections", settings.passive_connections.as_ref())
            .field_if("fail_back_after", settings.fail_back_after.as_ref())
            .field_if("certificates", settings.certificates.as_ref().map(|list| &list.0))
            .field_if("alpn", settings.alpn.as_ref().map(|list| &list.0))
            .field_if("client_ca", of(settings.client_ca.as_ref()))
            .field_if("client_auth", settings.client_auth.as_ref())
            .field_if("handshake_timeout", settings.handshake_timeout.as_ref())
            .field_if("max_handshakes", settings.max_handshakes.as_ref())
            .field_if("sni_routes", settings.sni_routes.as_ref().map(|list| &list.0))
            .field_if("accept_proxy_from", settings.accept_proxy_from.as_ref().map(|list| &list.0))
            .field_if("cookie_persistence", settings.cookie_persistence.as_ref())
            .field_if("cookie", settings.cookie.as_ref())
            .field_if("http", settings.http.as_ref())
    }

    fn options(self, options: &ChangeOptions, probe: bool) -> Self {
        self.field_if("if_revision", options.if_revision.as_ref()).flag("dry_run", options.dry_run).flag("probe", probe)
    }

    fn line(self) -> Result<String, String> {
        match self.failure {
            None => Ok(format!("{}({})", self.name, self.fields.join(","))),
            Some(error) => Err(format!("lb: the request can't be written: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::admin::parse_request;
    use crate::cli::{Cli, Command};

    fn line(args: &str) -> String {
        let cli = Cli::try_parse_from(std::iter::once("lb").chain(args.split(' '))).unwrap();
        let Command::Client(command) = cli.command else { panic!("{args} is not a client command") };
        request_line(&command).unwrap()
    }

    #[test]
    fn each_command_is_a_request_that_is_understood() {
        let cases = [
            (
                "server add web app3 127.0.0.1 9003",
                "AddServer(frontend:\"web\",server:(name:\"app3\",ip:\"127.0.0.1\",port:9003))",
            ),
            (
                "server add web app3 ::1 9003 --weight 5 --probe --dry-run --if-revision 4",
                "AddServer(frontend:\"web\",server:(name:\"app3\",ip:\"::1\",port:9003,weight:5),\
                 if_revision:4,dry_run:true,probe:true)",
            ),
            (
                "server update web app3 --rename app4 --ip ::1 --port 1 --weight 2 --ssl-offload false --passive false \
                 --server-certificate none",
                "UpdateServer(frontend:\"web\",name:\"app3\",rename:\"app4\",ip:\"::1\",port:1,weight:2,\
                 ssl_offload:false,passive:false,server_certificate:\"none\")",
            ),
            ("server remove web a", "RemoveServer(frontend:\"web\",name:\"a\")"),
            ("server drain web a", "DrainServer(frontend:\"web\",name:\"a\")"),
            (
                "server drain web a --within 30s --dry-run",
                "DrainServer(frontend:\"web\",name:\"a\",within:\"30s\",dry_run:true)",
            ),
            ("server disable web a", "DisableServer(frontend:\"web\",name:\"a\")"),
            (
                "server add web a 127.0.0.1 1 --passive --max-connections 5 --check off",
                "AddServer(frontend:\"web\",server:(name:\"a\",ip:\"127.0.0.1\",port:1,max_connections:5,\
                 check:own(kind:off,interval:\"2s\",timeout:\"2s\",fall:3,rise:2),passive:true))",
            ),
            (
                "server update web a --passive true --max-connections none --check frontend",
                "UpdateServer(frontend:\"web\",name:\"a\",max_connections:0,check:frontend,passive:true)",
            ),
            (
                "frontend update web --queue 9 --queue-timeout 1s --on-unavailable wait(5s) --slow-start 30s --eject-after 3 \
                 --eject-time 1s --eject-time-max 2s --max-ejected 30 --passive-use first --passive-when fewer_than(2) \
                 --passive-connections drain_after(30s) --fail-back-after 0s --redispatch-timeout 3s",
                "UpdateFrontend(name:\"web\",redispatch_timeout:\"3s\",queue:9,queue_timeout:\"1s\",\
                 on_unavailable:wait(\"5s\"),slow_start:\"30s\",eject_after:3,eject_time:\"1s\",eject_time_max:\"2s\",\
                 max_ejected:30,passive_use:first,passive_when:fewer_than(2),passive_connections:drain_after(\"30s\"),\
                 fail_back_after:\"0s\")",
            ),
            (
                "server add web a ::1 1 --ssl-offload --server-certificate ca --server-name a.example --verify-name false \
                 --client-certificate none --send-proxy v2 --group blue",
                "AddServer(frontend:\"web\",server:(name:\"a\",ip:\"::1\",port:1,ssl_offload:true,\
                 server_certificate:\"ca\",server_name:\"a.example\",verify_name:false,send_proxy:v2,group:\"blue\"))",
            ),
            (
                "server update web a --server-certificate ca --server-name none --client-certificate own --group none",
                "UpdateServer(frontend:\"web\",name:\"a\",server_certificate:\"ca\",server_name:\"none\",\
                 client_certificate:\"own\",group:\"none\")",
            ),
            (
                "frontend update web --certificates site,other --alpn h2,http/1.1 --client-ca ca --client-auth optional \
                 --handshake-timeout 3s --max-handshakes 9 --sni-routes a.com,*.b.com=blue;c.com=red \
                 --accept-proxy-from 10.0.0.0/8,::1",
                "UpdateFrontend(name:\"web\",certificates:[\"site\",\"other\"],alpn:[\"h2\",\"http/1.1\"],client_ca:\"ca\",\
                 client_auth:optional,handshake_timeout:\"3s\",max_handshakes:9,\
                 sni_routes:[(names:[\"a.com\",\"*.b.com\"],group:\"blue\"),(names:[\"c.com\"],group:\"red\")],\
                 accept_proxy_from:[\"10.0.0.0/8\",\"::1\"])",
            ),
            (
                "frontend update web --certificates none --client-ca none --sni-routes none",
                "UpdateFrontend(name:\"web\",certificates:[],client_ca:\"none\",sni_routes:[])",
            ),
            (
                "frontend add web 127.0.0.1:0 --protocol http --cookie-persistence true --ip-persistence ttl=5m",
                "AddFrontend(frontend:(name:\"web\",bind:\"127.0.0.1:0\",protocol:http,cookie_persistence:true,\
                 ip_persistence:(ttl:\"5m\",size:1000000,prefix_v4:32,prefix_v6:64)))",
            ),
            (
                "frontend update web --protocol https --cookie name=app,mode=passive(JSESSIONID),max_age=1h,strip=true \
                 --ip-persistence prefix_v6=48 --http max_line=4096,forwarded=true",
                "UpdateFrontend(name:\"web\",protocol:https,cookie:(name:\"app\",mode:passive(\"JSESSIONID\"),\
                 max_age:\"1h\",path:\"/\",strip:true),http:(max_line:4096,max_fields:100,max_head:32768,\
                 header_timeout:\"10s\",keep_alive_timeout:\"1m\",response_timeout:\"1m\",x_forwarded:true,\
                 forwarded:true),ip_persistence:\"ttl=30m,size=1000000,prefix_v4=32,prefix_v6=48\")",
            ),
            ("frontend update web --ip-persistence none", "UpdateFrontend(name:\"web\",ip_persistence:\"none\")"),
            ("persistence key", "PersistenceKey()"),
            ("console token", "ConsoleToken()"),
            ("log level", "LogLevel()"),
            ("log level debug", "SetLogLevel(level:\"debug\")"),
            ("persistence list", "ListPersistence()"),
            ("persistence list --frontend web --limit 5", r#"ListPersistence(frontend:"web",limit:5)"#),
            ("persistence clear", "ClearPersistence()"),
            ("persistence clear --frontend web --server app1", r#"ClearPersistence(frontend:"web",server:"app1")"#),
            ("certificate remove site --if-revision 3", "RemoveCertificate(name:\"site\",if_revision:3)"),
            ("certificate list", "ListCertificates()"),
            ("server enable web a", "EnableServer(frontend:\"web\",name:\"a\")"),
            ("server list", "ListServers()"),
            ("server list web", "ListServers(frontend:\"web\")"),
            (
                "frontend add web 127.0.0.1:0 --policy random_two --max-connections 9 --connect-timeout 1s --idle-timeout 1h",
                "AddFrontend(frontend:(name:\"web\",bind:\"127.0.0.1:0\",policy:random_two,max_connections:9,\
                 connect_timeout:\"1s\",idle_timeout:\"1h\"))",
            ),
            (
                "frontend update web --rename w --bind 127.0.0.1:0 --policy source_hash --max-connections none",
                "UpdateFrontend(name:\"web\",rename:\"w\",bind:\"127.0.0.1:0\",policy:source_hash,max_connections:0)",
            ),
            ("frontend remove web", "RemoveFrontend(name:\"web\")"),
            ("frontend list", "ListFrontends()"),
            ("history", "History()"),
            ("undo", "Undo()"),
            ("undo 7 --dry-run", "Undo(revision:7,dry_run:true)"),
            ("status", "Status()"),
            ("version", "Version()"),
        ];
        for (args, expected) in cases {
            assert_eq!(line(args), expected);
            parse_request(expected.as_bytes()).unwrap_or_else(|refusal| panic!("{expected}: {refusal}"));
        }
    }

    #[test]
    fn certificates_are_sent_in_full_on_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let [chain, key] = ["site.pem", "site.key"].map(|name| folder.path().join(name));
        std::fs::write(&chain, "-----BEGIN CERTIFICATE-----\nx\n").unwrap();
        std::fs::write(&key, "-----BEGIN PRIVATE KEY-----\n\"y\n").unwrap();
        let args = format!("--chain {} --key {}", chain.display(), key.display());
        let sent = line(&format!("certificate update site {args} --probe --dry-run"));
        assert_eq!(
            sent,
            "UpdateCertificate(name:\"site\",chain:\"-----BEGIN CERTIFICATE-----\\nx\\n\",\
             key:\"-----BEGIN PRIVATE KEY-----\\n\\\"y\\n\",dry_run:true,probe:true)"
        );
        let request = parse_request(sent.as_bytes()).unwrap();
        assert!(!format!("{request:?}").contains("PRIVATE"), "{request:?}");
        std::fs::write(&chain, "MIIB").unwrap();
        let cli = Cli::try_parse_from(format!("lb certificate add site {args}").split(' ')).unwrap();
        let Command::Client(command) = cli.command else { panic!("no client command") };
        let reason = request_line(&command).unwrap_err();
        assert!(
            reason.ends_with("site.pem: this is not PEM: there is no line that begins with -----BEGIN"),
            "{reason}"
        );
    }

    #[test]
    fn apply_sends_the_configuration_and_where_it_is_from() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lb.ron");
        std::fs::write(&path, "(frontends: [(name: \"web\", bind: \"127.0.0.1:0\", max_connections: 4)])").unwrap();
        let line = line(&format!("apply --config {} --dry-run", path.display()));
        assert!(line.contains("file:(path:\"") && line.ends_with("dry_run:true)"), "{line}");
        parse_request(line.as_bytes()).unwrap();
        std::fs::write(&path, "(frontends: 1)").unwrap();
        let command =
            ClientCommand::Apply { config: path.clone(), options: ChangeOptions { dry_run: false, if_revision: None } };
        let reason = request_line(&command).unwrap_err();
        assert!(reason.starts_with(&format!("{}:1:13: ", path.display())), "{reason}");
    }

    #[test]
    fn a_value_can_not_break_out_of_its_field() {
        let name = "x\"),probe:true,(\n";
        let args = ServerName {
            frontend: "web".into(),
            name: name.into(),
            options: ChangeOptions { dry_run: false, if_revision: None },
        };
        let line = named_server("RemoveServer", &args).line().unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(parse_request(line.as_bytes()).unwrap_err().field.as_deref(), Some("name"));
    }
}
