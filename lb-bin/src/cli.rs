//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lb_core::config::{
    Check, ClientAuth, CookieSettings, HttpSettings, IpPersistence, OnUnavailable, OrNone, PassiveConnections,
    PassiveUse, PassiveWhen, PolicyKind, Protocol, SendProxy, ServerCheck, SniPattern, SniRoute,
};

use crate::metrics::Format;
use crate::ron_text;

/// A TCP, TLS and HTTP load balancer that is changed while it runs.
#[derive(Debug, Parser)]
#[command(name = "lb", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// The admin socket [default: /run/lb/admin.sock as root, else $XDG_RUNTIME_DIR/lb/admin.sock].
    #[arg(long, global = true, env = "LB_ADMIN", value_name = "PATH")]
    pub admin: Option<PathBuf>,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 no balancer answers at the admin socket.";

/// What to do.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of it in a process")]
pub enum Command {
    /// Try it: two built-in web servers behind 127.0.0.1:8080
    Demo(DemoArgs),
    /// Run a balancer in the foreground
    Run(RunArgs),
    /// Say whether a configuration is good, or where it is wrong
    Check(CheckArgs),
    /// Say whether a balancer would run well here, and what to do where not
    Doctor(DoctorArgs),
    /// Watch a running balancer in the terminal, and drain or enable its servers
    Top,
    /// Print a script that makes a shell complete lb's commands
    Completion {
        /// The shell
        shell: ShellName,
    },
    /// Print the manual page lb(1), or write the pages of all commands
    #[command(visible_alias = "man")]
    Manual {
        /// The folder that the pages are written into
        folder: Option<PathBuf>,
    },
    /// Ask or change a running balancer.
    #[command(flatten)]
    Client(ClientCommand),
}

/// A shell that commands are completed in.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ShellName {
    /// GNU Bash
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
}

/// Arguments of `lb demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where it accepts on 127.0.0.1; 0 lets the kernel choose
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
}

/// Arguments of `lb run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The configuration; run-time changes are kept beside it in FILE.state
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Take the place of the lb that answers at the admin socket, if one does, without refusing a connection
    #[arg(long)]
    pub take_over: bool,
}

/// Arguments of `lb check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Arguments of `lb doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Look at what this configuration needs too: its addresses, certificates, files and folders
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How to print it.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What is asked of a running balancer.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of it in a process")]
pub enum ClientCommand {
    /// Add, change, remove, drain, enable or list servers
    #[command(subcommand)]
    Server(ServerCommand),
    /// Add, change, remove or list frontends
    #[command(subcommand)]
    Frontend(FrontendCommand),
    /// Add, replace, remove or list certificates
    #[command(subcommand)]
    Certificate(CertificateCommand),
    /// List or forget the clients that stay on a server, or show the key of cookies
    #[command(subcommand)]
    Persistence(PersistenceCommand),
    /// Show the console's token, or make the line for its password file
    #[command(subcommand)]
    Console(ConsoleCommand),
    /// Show or change what is logged
    #[command(subcommand)]
    Log(LogCommand),
    /// Make the running frontends and certificates those of a configuration, in one transaction
    Apply {
        /// The configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How to apply it.
        #[command(flatten)]
        options: ChangeOptions,
    },
    /// List the last revisions
    History {
        /// How to print it.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Take a revision back, as a new revision
    Undo {
        /// The revision to take back [default: the last one]
        revision: Option<u64>,
        /// How to apply it.
        #[command(flatten)]
        options: ChangeOptions,
    },
    /// Show shards, connections, bytes, rates and the revision
    Status {
        /// How to print it.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show the metrics, as text for Prometheus and whoever reads its formats
    Metrics {
        /// In which format
        #[arg(long, value_enum, default_value_t = Format::Prometheus)]
        format: Format,
    },
    /// Show the version of the running balancer and of its admin protocol
    Version,
}

/// `lb server …`
#[derive(Debug, Subcommand)]
pub enum ServerCommand {
    /// Put a server behind a frontend
    Add(AddServer),
    /// Change some of a server's settings; existing connections go on
    Update(UpdateServer),
    /// Take a server away; its connections go on until they end
    Remove(ServerName),
    /// Give a server no new connections; those that exist finish
    Drain {
        /// Which one.
        #[command(flatten)]
        server: ServerName,
        /// Close those that have not finished after this time, for example 30s
        #[arg(long, value_name = "DURATION")]
        within: Option<String>,
    },
    /// Take a server out of service for maintenance: no new connections, no checks
    Disable(ServerName),
    /// Take a draining or disabled server into balancing again
    Enable(ServerName),
    /// List the servers of a frontend, or of all
    List {
        /// Only this frontend
        frontend: Option<String>,
        /// How to print it.
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// Arguments of `lb server add`.
#[derive(Debug, Args)]
pub struct AddServer {
    /// The frontend's name
    pub frontend: String,
    /// The new server's name
    pub name: String,
    /// Its IPv4 or IPv6 address
    pub ip: String,
    /// Its port
    pub port: u32,
    /// Its share, 1 to 256 [default: 1]
    #[arg(long, value_name = "N")]
    pub weight: Option<u32>,
    /// Most connections at once [default: no limit]
    #[arg(long, value_name = "N")]
    pub max_connections: Option<u32>,
    /// How it is checked [default: as its frontend says]
    #[arg(long, value_name = "CHECK", value_parser = server_check, help = SERVER_CHECK_HELP)]
    pub check: Option<ServerCheck>,
    /// End the client's TLS here
    #[arg(long)]
    pub ssl_offload: bool,
    /// A standby: no traffic unless the active servers are unavailable
    #[arg(long)]
    pub passive: bool,
    /// Talk TLS to it, and check its certificate against this bundle
    #[arg(long, value_name = "NAME")]
    pub server_certificate: Option<String>,
    /// The other settings of TLS.
    #[command(flatten)]
    pub tls: ServerTls,
    /// Connect to the server first, with TLS where it gets any, and refuse if that fails
    #[arg(long)]
    pub probe: bool,
    /// How to apply it.
    #[command(flatten)]
    pub options: ChangeOptions,
}

/// Arguments of `lb server update`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct UpdateServer {
    /// The frontend's name
    pub frontend: String,
    /// The server's name
    pub name: String,
    /// Its new name
    #[arg(long, value_name = "NEW")]
    pub rename: Option<String>,
    /// Its new IPv4 or IPv6 address
    #[arg(long, value_name = "IP")]
    pub ip: Option<String>,
    /// Its new port
    #[arg(long, value_name = "PORT")]
    pub port: Option<u32>,
    /// Its new share, 1 to 256
    #[arg(long, value_name = "N")]
    pub weight: Option<u32>,
    /// Most connections at once, or none for no limit
    #[arg(long, value_name = "N|none", value_parser = limit_or_none)]
    pub max_connections: Option<u32>,
    /// How it is checked.
    #[arg(long, value_name = "CHECK", value_parser = server_check, help = SERVER_CHECK_HELP)]
    pub check: Option<ServerCheck>,
    /// Whether the client's TLS ends here
    #[arg(long, value_name = "true|false")]
    pub ssl_offload: Option<bool>,
    /// Whether it is a standby: no traffic unless the active servers are unavailable
    #[arg(long, value_name = "true|false")]
    pub passive: Option<bool>,
    /// Talk TLS to it, and check its certificate against this bundle; none: no TLS of ours
    #[arg(long, value_name = "NAME|none")]
    pub server_certificate: Option<String>,
    /// The other settings of TLS.
    #[command(flatten)]
    pub tls: ServerTls,
    /// Connect to it as it would be from now on first, with TLS where it gets any, and refuse if that fails
    #[arg(long)]
    pub probe: bool,
    /// How to apply it.
    #[command(flatten)]
    pub options: ChangeOptions,
}

/// The settings of TLS that a server has from the start and that can be changed in the same words.
#[derive(Debug, Args)]
pub struct ServerTls {
    /// The name that its certificate must be for, or none for its IP address [default: none]
    #[arg(long, value_name = "NAME|none")]
    pub server_name: Option<String>,
    /// Whether its certificate must be for that name [default: true]
    #[arg(long, value_name = "true|false")]
    pub verify_name: Option<bool>,
    /// The certificate that is shown to it if it asks for one, or none [default: none]
    #[arg(long, value_name = "NAME|none")]
    pub client_certificate: Option<String>,
    /// Tell it who the client is by a PROXY header of this version [default: off]
    #[arg(long, value_name = "off|v1|v2")]
    pub send_proxy: Option<SendProxy>,
    /// Its group, for the frontend's routes by server name, or none [default: none]
    #[arg(long, value_name = "NAME|none")]
    pub group: Option<String>,
}

/// `lb certificate …`
#[derive(Debug, Subcommand)]
pub enum CertificateCommand {
    /// Make a certificate with its key known, or a bundle to trust
    Add(CertificateFiles),
    /// Replace a certificate or bundle, for every handshake that begins after
    Update(CertificateFiles),
    /// Forget a certificate that nobody uses
    Remove {
        /// The certificate's name
        name: String,
        /// How to apply it.
        #[command(flatten)]
        options: ChangeOptions,
    },
    /// List the certificates, when they expire and who uses them
    List {
        /// How to print it.
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// `lb persistence …`
#[derive(Debug, Subcommand)]
pub enum PersistenceCommand {
    /// List the clients that are remembered by their address, or by the application's cookie, those first that were seen last
    List {
        /// Only this frontend
        #[arg(long, value_name = "NAME")]
        frontend: Option<String>,
        /// Most clients in the list, up to 100000 [default: 1000]
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        /// How to print it.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Forget clients that are remembered: they are balanced anew
    Clear {
        /// Only those of this frontend
        #[arg(long, value_name = "NAME")]
        frontend: Option<String>,
        /// Only those that stay on this server
        #[arg(long, value_name = "NAME")]
        server: Option<String>,
    },
    /// Show the key that cookies are made with, for the persistence_key of other balancers; keep it secret
    Key {
        /// How to print it.
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// `lb console …`
#[derive(Debug, Subcommand)]
pub enum ConsoleCommand {
    /// Show the token that opens the console and its API; keep it secret
    Token,
    /// Read a password and show the line for the console's password_file
    Password,
}

/// `lb log …`
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Show what is logged, or change it until the process ends
    Level {
        /// off, error, warn, info, debug or trace, also by the part of the program: info,lb_core=debug
        level: Option<String>,
    },
}

/// Arguments of `lb certificate add` and `update`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("content").required(true).args(["chain", "bundle"]))]
pub struct CertificateFiles {
    /// The certificate's name
    pub name: String,
    /// The certificate in PEM, followed by those of the CAs between it and the root
    #[arg(long, value_name = "FILE", requires = "key")]
    pub chain: Option<PathBuf>,
    /// Its private key in PEM
    #[arg(long, value_name = "FILE", requires = "chain")]
    pub key: Option<PathBuf>,
    /// Certificates of CAs to trust, in PEM
    #[arg(long, value_name = "FILE")]
    pub bundle: Option<PathBuf>,
    /// Try it at the servers that would use it first, and refuse if that fails
    #[arg(long)]
    pub probe: bool,
    /// How to apply it.
    #[command(flatten)]
    pub options: ChangeOptions,
}

/// A server, for commands that need no more.
#[derive(Debug, Args)]
pub struct ServerName {
    /// The frontend's name
    pub frontend: String,
    /// The server's name
    pub name: String,
    /// How to apply it.
    #[command(flatten)]
    pub options: ChangeOptions,
}

/// `lb frontend …`
#[derive(Debug, Subcommand)]
pub enum FrontendCommand {
    /// Start a frontend, without servers yet
    Add(AddFrontend),
    /// Change some of a frontend's settings; existing connections go on
    Update(UpdateFrontend),
    /// Stop a frontend; its connections go on until they end
    Remove {
        /// The frontend's name
        name: String,
        /// How to apply it.
        #[command(flatten)]
        options: ChangeOptions,
    },
    /// List the frontends
    List {
        /// How to print it.
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// Arguments of `lb frontend add`.
#[derive(Debug, Args)]
pub struct AddFrontend {
    /// The new frontend's name
    pub name: String,
    /// Where it accepts.
    #[arg(help = "Where it accepts: 127.0.0.1:80, [::]:80 (port 0: the kernel chooses) or fd:3")]
    pub bind: String,
    /// round_robin, least_connections, random_two, least_latency or source_hash [default: round_robin]
    #[arg(long)]
    pub policy: Option<PolicyKind>,
    /// Most connections at once [default: no limit]
    #[arg(long, value_name = "N")]
    pub max_connections: Option<u32>,
    /// The other settings.
    #[command(flatten)]
    pub settings: FrontendSettings,
    /// How to apply it.
    #[command(flatten)]
    pub options: ChangeOptions,
}

/// Arguments of `lb frontend update`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct UpdateFrontend {
    /// The frontend's name
    pub name: String,
    /// Its new name
    #[arg(long, value_name = "NEW")]
    pub rename: Option<String>,
    /// Where it accepts from now on
    #[arg(long)]
    pub bind: Option<String>,
    /// round_robin, least_connections, random_two, least_latency or source_hash
    #[arg(long)]
    pub policy: Option<PolicyKind>,
    /// Most connections at once, or none for no limit
    #[arg(long, value_name = "N|none", value_parser = limit_or_none)]
    pub max_connections: Option<u32>,
    /// The other settings.
    #[command(flatten)]
    pub settings: FrontendSettings,
    /// How to apply it.
    #[command(flatten)]
    pub options: ChangeOptions,
}

/// The settings that a frontend has from the start and that can be changed in the same words.
#[derive(Debug, Args)]
pub struct FrontendSettings {
    /// What is spoken with clients: bytes as they come, or HTTP, where each request is balanced by itself [default: tcp]
    #[arg(long, value_name = "tcp|http|https")]
    pub protocol: Option<Protocol>,
    /// How long a server may take to accept, for example 200ms [default: 5s]
    #[arg(long, value_name = "DURATION")]
    pub connect_timeout: Option<String>,
    /// How long servers may be tried for one client, one after the other [default: 15s]
    #[arg(long, value_name = "DURATION")]
    pub redispatch_timeout: Option<String>,
    /// How long a connection may be idle, for example 1h [default: 10m]
    #[arg(long, value_name = "DURATION")]
    pub idle_timeout: Option<String>,
    /// Most clients that wait while every server is at its limit [default: 1024]
    #[arg(long, value_name = "N")]
    pub queue: Option<u32>,
    /// How long each of them may wait [default: 5s]
    #[arg(long, value_name = "DURATION")]
    pub queue_timeout: Option<String>,
    /// What clients get while no server is available: reset, wait(5s) [default: reset]
    #[arg(long, value_name = "WHAT")]
    pub on_unavailable: Option<OnUnavailable>,
    /// How servers are checked [default: tcp]
    #[arg(long, value_name = "CHECK", value_parser = check, help = CHECK_HELP)]
    pub check: Option<Check>,
    /// How long a server that has come up takes to get its full share, 0s for at once [default: 0s]
    #[arg(long, value_name = "DURATION")]
    pub slow_start: Option<String>,
    /// Failed connections in a row after which a server is ejected, 0 for never [default: 5]
    #[arg(long, value_name = "N")]
    pub eject_after: Option<u32>,
    /// How long it is ejected at first, doubling each time [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub eject_time: Option<String>,
    /// How long it is ejected at most [default: 5m]
    #[arg(long, value_name = "DURATION")]
    pub eject_time_max: Option<String>,
    /// Most servers ejected at once, in percent [default: 50]
    #[arg(long, value_name = "PERCENT")]
    pub max_ejected: Option<u32>,
    /// Which passive servers are used: all or the first [default: all]
    #[arg(long, value_name = "all|first")]
    pub passive_use: Option<PassiveUse>,
    /// When passive servers take part, for example fewer_than(2) active ones [default: fewer_than(1)]
    #[arg(long, value_name = "WHEN")]
    pub passive_when: Option<PassiveWhen>,
    /// What becomes of their connections afterwards: keep, drain_after(30s) [default: keep]
    #[arg(long, value_name = "WHAT")]
    pub passive_connections: Option<PassiveConnections>,
    /// How long enough active servers must be there before the passive ones leave [default: 0s]
    #[arg(long, value_name = "DURATION")]
    pub fail_back_after: Option<String>,
    /// Certificates for clients, by the name they ask for, the first one for all others; or none [default: none]
    #[arg(long, value_name = "NAME,…|none", value_parser = names)]
    pub certificates: Option<List<String>>,
    /// Protocols that are offered to clients, the preferred one first, for example h2,http/1.1; or none [default: none]
    #[arg(long, value_name = "NAME,…|none", value_parser = names)]
    pub alpn: Option<List<String>>,
    /// The bundle that clients' certificates are checked against, or none to ask for none [default: none]
    #[arg(long, value_name = "NAME|none")]
    pub client_ca: Option<String>,
    /// Whether clients must show one [default: required]
    #[arg(long, value_name = "required|optional")]
    pub client_auth: Option<ClientAuth>,
    /// How long a TLS handshake may take [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub handshake_timeout: Option<String>,
    /// Most handshakes of clients in progress, for each shard [default: 2000]
    #[arg(long, value_name = "N")]
    pub max_handshakes: Option<u32>,
    /// Which group of servers clients get by the name they ask for: 'www.a.com,*.b.com=GROUP;c.com=OTHER', or none
    #[arg(long, value_name = "NAME,…=GROUP;…|none", value_parser = routes)]
    pub sni_routes: Option<List<SniRoute>>,
    /// Networks whose PROXY headers are accepted, for example 10.0.0.0/8,::1; or none [default: none]
    #[arg(long, value_name = "NETWORK,…|none", value_parser = names)]
    pub accept_proxy_from: Option<List<String>>,
    /// Whether clients stay on their servers by a cookie; needs protocol http or https [default: false]
    #[arg(long, value_name = "true|false")]
    pub cookie_persistence: Option<bool>,
    /// Which cookie.
    #[arg(long, value_name = "NAME=VALUE,…", help = COOKIE_HELP)]
    pub cookie: Option<CookieSettings>,
    /// How clients stay on their servers by their address.
    #[arg(long, value_name = "NAME=VALUE,…|none", help = IP_HELP)]
    pub ip_persistence: Option<OrNone<IpPersistence>>,
    /// How requests are handled.
    #[arg(long, value_name = "NAME=VALUE,…", help = HTTP_HELP)]
    pub http: Option<HttpSettings>,
}

/// A list in one argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

fn names(text: &str) -> Result<List<String>, String> {
    Ok(List(if text == "none" { Vec::new() } else { text.split(',').map(str::to_owned).collect() }))
}

fn routes(text: &str) -> Result<List<SniRoute>, String> {
    let route = |text: &str| {
        let (names, group) = text.split_once('=').ok_or_else(|| format!("{text:?} has no =GROUP"))?;
        let names = names.split(',').map(SniPattern::new).collect::<Result<_, _>>();
        let group = lb_core::config::Name::new(group);
        names.and_then(|names| SniRoute::new(names, group?)).map_err(|invalid| invalid.reason)
    };
    match text {
        "none" => Ok(List(Vec::new())),
        _ => text.split(';').map(route).collect::<Result<_, _>>().map(List),
    }
}

const COOKIE_HELP: &str = "Which cookie; what is not said gets its default: \
    name=LBSERVER,mode=insert|passive(JSESSIONID),max_age=1h,domain=example.com,path=/,strip=true";
const IP_HELP: &str = "How clients stay on their servers by their address; what is not said gets its default: \
    ttl=30m,size=1000000,prefix_v4=32,prefix_v6=64; none switches it off [default: none]";
const HTTP_HELP: &str = "How requests are handled; what is not said gets its default: max_line=8192,max_fields=100,\
    max_head=32768,header_timeout=10s,keep_alive_timeout=60s,response_timeout=60s,x_forwarded=true,forwarded=false";

const CHECK_HELP: &str = "How servers are checked: tcp, tls, off, or in full, for example \
    '(kind: http(path: \"/health\"), interval: \"1s\", fall: 2)'";
const SERVER_CHECK_HELP: &str = "How it is checked: frontend (as the frontend says), tcp, tls, off, or in full, for example \
    '(kind: send_expect(send: \"PING\\r\\n\", expect: \"+PONG\"))'";

/// How a change is applied.
#[derive(Debug, Clone, Args)]
pub struct ChangeOptions {
    /// Say what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Refuse if the running revision is not N
    #[arg(long, value_name = "N")]
    pub if_revision: Option<u64>,
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArgs {
    /// As a table for people, or as RON or JSON for programs
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Output {
    Table,
    Ron,
    Json,
}

/// In the protocol 0 is no limit, which would surprise on a command line.
fn limit_or_none(text: &str) -> Result<u32, String> {
    match (text, text.parse()) {
        ("none", _) => Ok(0),
        (_, Ok(limit @ 1..)) => Ok(limit),
        _ => Err("write a number from 1 on, or none for no limit".to_owned()),
    }
}

/// A check in full, or only its kind where that is a word.
fn check(text: &str) -> Result<Check, String> {
    let is_word = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let read = if is_word { ron_text::read(&format!("(kind: {text})")) } else { ron_text::read(text) };
    read.map_err(|fault| fault.reason)
}

fn server_check(text: &str) -> Result<ServerCheck, String> {
    match text {
        "frontend" => Ok(ServerCheck::Frontend),
        _ => check(text).map(|own| ServerCheck::Own(Box::new(own))),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_usage_has_exit_code_2() {
        for args in [
            &["lb", "server", "add", "web"][..],
            &["lb", "server", "add", "web", "app", "127.0.0.1", "http"],
            &["lb", "frontend", "update", "web", "--max-connections", "0"],
            &["lb", "frontend", "add", "web", "127.0.0.1:80", "--policy", "fastest"],
            &["lb", "run"],
            &["lb", "fly"],
        ] {
            assert_eq!(Cli::try_parse_from(args).unwrap_err().exit_code(), 2, "{args:?}");
        }
    }

    #[test]
    fn the_admin_socket_may_be_named_anywhere() {
        for args in [["lb", "--admin", "x", "status"], ["lb", "status", "--admin", "x"]] {
            assert_eq!(Cli::try_parse_from(args).unwrap().admin.unwrap(), PathBuf::from("x"));
        }
    }
}
