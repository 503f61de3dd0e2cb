//! Logging in and out: `/api/v1/session`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Extension, Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;

use super::answer::json_response;
use super::api::read_json;
use super::json::{self, Json};
use super::problem::Problem;
use super::sessions::Given;
use super::{Console, User, guard};
use crate::web::{Client, read_body};

/// Most bytes of a login.
const LOGIN_MAX: usize = 4096;

const COOKIE: &str = "lb_session";

/// What somebody says to log in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    token: Option<String>,
    password: Option<String>,
}

pub(super) fn routes() -> Router<Arc<Console>> {
    Router::new().route("/api/v1/session", get(show).post(log_in).delete(log_out))
}

/// Says whether there is a session, and what the page needs to know of it.
async fn show(State(console): State<Arc<Console>>, headers: HeaderMap) -> Result<Response, Problem> {
    let session = console.session(&headers).ok_or_else(|| console.log_in_please())?;
    let (csrf, version) = (session.csrf.expose(), env!("CARGO_PKG_VERSION"));
    let found = json!({"csrf": csrf, "version": version, "login": console.login()});
    Ok(json_response(StatusCode::OK, &found))
}

async fn log_in(
    State(console): State<Arc<Console>>,
    Extension(client): Extension<Client>,
    request: HttpRequest,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let text = read_body(&client, body, LOGIN_MAX).await?;
    let login = json::read::<Login>(Json::Object(read_json(&parts.headers, &text)?));
    let login = login.map_err(|refused| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, refused))?;
    console.attempt(&client).map_err(Problem::too_many_logins)?;
    let is_known = console.knows(login).await.ok_or_else(|| Problem::too_many_logins(Duration::from_secs(1)))?;
    if !is_known {
        tracing::warn!("console: a login from {client} is refused");
        return Err(Problem::unknown_user(console.login(), &format!("this is not the {}", console.login())));
    }
    let given = console.begin_session(&client, &parts.headers).map_err(|reason| Problem::internal(&reason))?;
    tracing::info!("console: {} from {client} begins", User::Session(given.number));
    let mut response = json_response(StatusCode::OK, &json!({"csrf": given.csrf.expose()}));
    set_cookie(&mut response, given.id.expose(), console.cookie_attributes());
    Ok(response)
}

async fn log_out(
    State(console): State<Arc<Console>>,
    Extension(client): Extension<Client>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let user = console.user(&method, &headers)?;
    if let User::Session(number) = user {
        console.state().sessions.end(number);
        tracing::info!("console: {user} from {client} ends");
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&mut response, "", &format!("{}; Max-Age=0", console.cookie_attributes()));
    Ok(response)
}

fn set_cookie(response: &mut Response, value: &str, attributes: &str) {
    // It is made of what is in the program and hexadecimal digits.
    if let Ok(cookie) = HeaderValue::from_str(&format!("{COOKIE}={value}; {attributes}")) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
}

impl Console {
    /// What has to be known to log in.
    fn login(&self) -> &'static str {
        if self.password.is_some() { "password" } else { "token" }
    }

    fn log_in_please(&self) -> Problem {
        Problem::unknown_user(self.login(), "log in first, or send Authorization: Bearer and the token")
    }

    /// Who sends a request.
    ///
    /// # Errors
    /// Nobody who is known, or the page of another site with this one's cookie.
    pub(super) fn user(&self, method: &Method, headers: &HeaderMap) -> Result<User, Problem> {
        if let Some(said) = guard::bearer(headers) {
            let known = self.token.is(said);
            return if known { Ok(User::Token) } else { Err(self.log_in_please()) };
        }
        let session = self.session(headers).ok_or_else(|| self.log_in_please())?;
        let said = headers.get("x-csrf-token").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if guard::is_reading(method) || session.csrf.is(said) {
            Ok(User::Session(session.number))
        } else {
            Err(Problem::no_csrf())
        }
    }

    fn session(&self, headers: &HeaderMap) -> Option<Given> {
        self.state().sessions.find(guard::cookies(headers, COOKIE), Instant::now())
    }

    fn attempt(&self, client: &Client) -> Result<(), Duration> {
        let Some(ip) = client.ip else { return Ok(()) };
        let (now, mut state) = (Instant::now(), self.state());
        let taken = state.attempts.take(ip, now);
        if taken.is_err() && state.attempts.is_to_be_told(now) {
            tracing::warn!("console: too many logins are tried from {client}");
        }
        taken
    }

    /// Whether somebody says the right thing; `None` if too many are being looked at.
    async fn knows(&self, login: Login) -> Option<bool> {
        match (login, &self.password) {
            (Login { token: Some(said), password: None }, _) => Some(self.token.is(&said)),
            (Login { token: None, password: Some(said) }, Some(password)) => password.opens(said).await,
            _ => Some(false),
        }
    }

    /// Begins a session; the one that the client had ends.
    fn begin_session(&self, client: &Client, headers: &HeaderMap) -> Result<Given, String> {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(ip) = client.ip {
            state.attempts.give_back(ip, now);
        }
        if let Some(old) = state.sessions.find(guard::cookies(headers, COOKIE), now) {
            state.sessions.end(old.number);
        }
        state.sessions.begin(now)
    }

    fn cookie_attributes(&self) -> &'static str {
        match self.certificate {
            Some(_) => "HttpOnly; SameSite=Strict; Path=/; Secure",
            None => "HttpOnly; SameSite=Strict; Path=/",
        }
    }
}
