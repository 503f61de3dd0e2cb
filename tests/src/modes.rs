//! The four ways in which TLS stands between a client and a server, and both ends of a connection that goes one of them.

use std::sync::Arc;
use std::thread;

use rustls::{ClientConfig, ServerConfig};

use crate::channel::{client_config, server_config};
use crate::client::connect;
use crate::{Authority, Channel, Config, Frontend, Identity, Lb, Listener};

/// The name that clients ask the balancer for.
pub const SITE: &str = "site.example";

/// The name of the server.
pub const APP: &str = "app.example";

/// Where TLS is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// From end to end, past the balancer.
    Passthrough,
    /// By the client alone.
    Termination,
    /// By both, each with the balancer.
    ReEncryption,
    /// By the server alone.
    Origination,
}

impl Mode {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Passthrough, Self::Termination, Self::ReEncryption, Self::Origination];

    /// A server's settings.
    pub fn settings(self) -> &'static str {
        match self {
            Self::Passthrough => "ssl_offload: false",
            Self::Termination => "ssl_offload: true",
            Self::ReEncryption => "ssl_offload: true, server_certificate: \"corp-ca\", server_name: \"app.example\"",
            Self::Origination => "server_certificate: \"corp-ca\", server_name: \"app.example\"",
        }
    }
}

/// Who speaks TLS: the authority that all trust, the balancer's own certificate, and the clients' and servers' settings.
#[derive(Debug)]
pub struct Party {
    pub authority: Authority,
    pub site: Identity,
    pub trusting: Arc<ClientConfig>,
    pub app: Arc<ServerConfig>,
}

impl Party {
    /// Makes all of it. The balancer's certificate is good for the server's name too.
    #[allow(clippy::new_without_default, reason = "a default is not expected to make keys")]
    pub fn new() -> Self {
        let authority = Authority::root("corp authority");
        let (site, app) = (authority.issue(&[SITE, APP]), server_config(&authority.issue(&[APP])));
        Self { trusting: client_config(&authority), authority, site, app }
    }

    /// A configuration with `frontend`, whose servers may be in any mode.
    pub fn config(&self, frontend: Frontend) -> Config {
        let config = Config::of(frontend.certificates(&["site"]));
        config.pair("site", &self.site).bundle("corp-ca", self.authority.pem())
    }

    /// Both ends of a connection by frontend `web` to its only server, `listener`. `begin` is what the client does before it
    /// is accepted there.
    ///
    /// # Panics
    /// If they do not come together.
    pub fn ends(
        &self,
        lb: &Lb,
        listener: &Listener,
        mode: Mode,
        begin: impl FnOnce(Channel) -> Channel + Send,
    ) -> (Channel, Channel) {
        let addr = lb.addr("web");
        thread::scope(|scope| {
            let client = scope.spawn(move || {
                begin(match mode {
                    Mode::Passthrough => Channel::connect(addr, APP, &self.trusting).unwrap(),
                    Mode::Origination => Channel::plain(connect(addr)),
                    Mode::Termination | Mode::ReEncryption => Channel::connect(addr, SITE, &self.trusting).unwrap(),
                })
            });
            let stream = listener.accept();
            let server = match mode {
                Mode::Termination => Channel::plain(stream),
                _ => Channel::accept(stream, &self.app).unwrap(),
            };
            (client.join().unwrap(), server)
        })
    }
}

/// Frontend `web` with one server, `a`, in one mode; the test plays it.
#[derive(Debug)]
pub struct Scene {
    pub party: Party,
    pub listener: Listener,
    pub lb: Lb,
    mode: Mode,
}

impl Scene {
    /// Starts it.
    pub fn new(mode: Mode) -> Self {
        Self::with(mode, |frontend| frontend)
    }

    /// The same with some settings of the frontend.
    pub fn with(mode: Mode, settings: impl FnOnce(Frontend) -> Frontend) -> Self {
        let (party, listener) = (Party::new(), Listener::new());
        let frontend = settings(Frontend::new("web")).server_with("a", listener.addr(), mode.settings());
        let lb = Lb::start(party.config(frontend));
        Self { party, listener, lb, mode }
    }

    /// Both ends of a new connection: the client's and the server's.
    ///
    /// # Panics
    /// If they do not come together.
    pub fn ends(&self) -> (Channel, Channel) {
        self.ends_after(|client| client)
    }

    /// The same, after the client has done something as soon as it could.
    ///
    /// # Panics
    /// If they do not come together.
    pub fn ends_after(&self, begin: impl FnOnce(Channel) -> Channel + Send) -> (Channel, Channel) {
        self.party.ends(&self.lb, &self.listener, self.mode, begin)
    }
}
