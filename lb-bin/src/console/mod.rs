//! The console: a web page in the program, and the HTTP API under it, both for who has logged in.
//!
//! A request is looked at by `guard` (is it for this console, does it come from its own page), then `login` finds out who
//! sends it (`token`, `password`, `sessions`, `attempts`), and `api` turns it by `change` and `json` into a request of the
//! admin protocol. `answer` and `problem` are what is said to it, `page` the files of the page, `certificate` is what
//! TLS is spoken with.

mod answer;
mod api;
mod attempts;
mod certificate;
mod change;
mod guard;
mod json;
mod login;
mod page;
mod password;
mod problem;
mod samples;
mod sessions;
mod token;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use lb_core::config::Certificate;

use self::attempts::Attempts;
use self::guard::Own;
use self::password::{Gate, Password};
use self::problem::Problem;
use self::samples::Samples;
use self::sessions::Sessions;
use crate::admin::Handler;
use crate::settings::ConsoleSettings;
use crate::web::{At, Site};

pub(crate) use self::certificate::{Renewing, Shown};
pub(crate) use self::password::{line as password_line, read as read_password};
pub(crate) use self::token::Token;

const OPENAPI: &str = include_str!("openapi.json");

/// What every answer has. Nothing of the page is from elsewhere, and nothing is kept or shown by others.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CACHE_CONTROL, "no-store"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// What the console needs, checked before the balancer starts.
#[derive(Debug)]
pub(crate) struct Prepared {
    bind: SocketAddr,
    token: Token,
    password: Option<Password>,
    certificate: Option<Shown>,
}

/// The console.
struct Console {
    handler: Arc<Handler>,
    bind: SocketAddr,
    token: Token,
    password: Option<Gate>,
    certificate: Option<Shown>,
    state: Mutex<Known>,
    samples: Mutex<Samples>,
}

/// Who was here.
#[derive(Debug, Default)]
struct Known {
    sessions: Sessions,
    attempts: Attempts,
}

/// Who sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum User {
    Token,
    Session(u64),
}

impl fmt::Display for User {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token => formatter.write_str("who has the token"),
            Self::Session(number) => write!(formatter, "session {number}"),
        }
    }
}

impl Prepared {
    /// Reads what belongs to the console of the configuration at `file`. Its certificate is one of `certificates`.
    ///
    /// # Errors
    /// Its token, password or certificate can't be used: one sentence.
    pub(crate) fn new(settings: &ConsoleSettings, file: &Path, certificates: &[Certificate]) -> Result<Self, String> {
        let password = password(settings, file)?;
        let certificate = settings.certificate().map(|name| Shown::find(name, certificates)).transpose()?;
        Ok(Self { bind: settings.bind(), token: Token::of_config(file)?, password, certificate })
    }

    pub(crate) fn token(&self) -> &Token {
        &self.token
    }

    pub(crate) fn certificate(&self) -> Option<&Shown> {
        self.certificate.as_ref()
    }

    /// The site at which it is served.
    ///
    /// # Errors
    /// TLS can't be set up.
    pub(crate) fn site(self, handler: Arc<Handler>) -> Result<Site, String> {
        let Self { bind, token, password, certificate } = self;
        let tls = certificate.as_ref().map(Shown::server_config).transpose()?;
        let (password, state, samples) = (password.map(Gate::new), Mutex::default(), Mutex::default());
        let console = Arc::new(Console { handler, bind, token, password, certificate, state, samples });
        let router = router(&console);
        let alongside = Box::pin(async move { console.keep_samples().await });
        Ok(Site { name: "console", path: "/", at: At::Tcp(bind), tls, router, alongside })
    }
}

/// Checks the files that the console of the configuration at `file` needs to be there.
///
/// # Errors
/// One can't be used: one sentence.
pub(crate) fn check(settings: &ConsoleSettings, file: &Path) -> Result<(), String> {
    password(settings, file).map(drop)
}

/// Checks the token of the console of the configuration at `file`, which may still have to be made.
///
/// # Errors
/// It can't be used: one sentence.
pub(crate) fn check_token(file: &Path) -> Result<(), String> {
    Token::find(file).map(drop)
}

fn password(settings: &ConsoleSettings, file: &Path) -> Result<Option<Password>, String> {
    let folder = file.parent().unwrap_or(Path::new("."));
    settings.password_file().map(|path| Password::of_file(&folder.join(path))).transpose()
}

fn router(console: &Arc<Console>) -> Router {
    let mut files =
        Router::new().route("/api/v1/openapi.json", get(async || answer::text("application/json", OPENAPI)));
    for file in &page::FILES {
        let path = if file.name == "index.html" { "/".to_owned() } else { format!("/{}", file.name) };
        files = files.route(&path, get(async || answer::text(file.media_type, file.content)));
    }
    files
        .merge(login::routes())
        .merge(api::routes(console))
        .fallback(async || Problem::not_found("such path"))
        .method_not_allowed_fallback(async || Problem::wrong_method())
        .layer(from_fn_with_state(Arc::clone(console), guard_all))
        .with_state(Arc::clone(console))
}

/// Looks at every request before anything else does, and gives every answer its headers.
async fn guard_all(State(console): State<Arc<Console>>, request: HttpRequest, next: Next) -> Response {
    let mut response = match console.check(&request) {
        Ok(()) => next.run(request).await,
        Err(stray) => Problem::from(stray).into_response(),
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

impl Console {
    fn check(&self, request: &HttpRequest) -> Result<(), guard::Stray> {
        let certificate_is_for = |name: &str| self.certificate.as_ref().is_some_and(|shown| shown.is_for(name));
        let (ip, tls) = (self.bind.ip(), self.certificate.is_some());
        let own = Own { ip, tls, certificate_is_for: &certificate_is_for };
        own.check(request.method(), request.uri(), request.headers())
    }

    async fn keep_samples(&self) {
        loop {
            // While it stops, or is handed over, there is nothing new.
            if let Ok(status) = self.handler.control.status().await {
                let at = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
                self.samples().add(at, &status);
            }
            tokio::time::sleep(samples::EVERY).await;
        }
    }

    fn samples(&self) -> MutexGuard<'_, Samples> {
        // At worst one sample is missing.
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, Known> {
        // What is in it is whole at every moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
