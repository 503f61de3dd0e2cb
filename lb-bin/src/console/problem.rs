//! What is answered when something is wrong: `{"error":{"reason":"…","field":"…"}}`.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::answer::json_response;
use super::guard::Stray;
use crate::admin::Refusal;
use crate::web::BodyError;

/// A successor, or the next start, takes about so long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a request is not fulfilled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) refusal: Refusal,
    /// What the page has to ask for, where that is why.
    login: Option<&'static str>,
    retry_after: Option<Duration>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, refusal: Refusal) -> Self {
        Self { status, refusal, login: None, retry_after: None }
    }

    fn plain(status: StatusCode, reason: &str) -> Self {
        Self::new(status, Refusal::other(reason))
    }

    /// `login` is what has to be known: `token` or `password`.
    pub(super) fn unknown_user(login: &'static str, reason: &str) -> Self {
        Self { login: Some(login), ..Self::plain(StatusCode::UNAUTHORIZED, reason) }
    }

    pub(super) fn too_many_logins(wait: Duration) -> Self {
        let reason = "too many logins were tried from there: try again later";
        Self { retry_after: Some(wait), ..Self::plain(StatusCode::TOO_MANY_REQUESTS, reason) }
    }

    pub(super) fn no_csrf() -> Self {
        Self::plain(StatusCode::FORBIDDEN, "the header X-CSRF-Token is not the session's: log in again")
    }

    pub(super) fn not_found(what: &str) -> Self {
        Self::plain(StatusCode::NOT_FOUND, &format!("there is no {what}"))
    }

    pub(super) fn wrong_method() -> Self {
        Self::plain(StatusCode::METHOD_NOT_ALLOWED, "this method is not for this path: see Allow")
    }

    pub(super) fn no_json() -> Self {
        let reason = "the body is to be JSON: send it with Content-Type: application/json";
        Self::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason)
    }

    /// Nothing is wrong with what was asked, but now it can't be done.
    pub(super) fn unavailable(refusal: Refusal) -> Self {
        Self { retry_after: Some(RETRY_AFTER), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, refusal) }
    }

    pub(super) fn internal(reason: &str) -> Self {
        Self::plain(StatusCode::INTERNAL_SERVER_ERROR, reason)
    }
}

impl From<Stray> for Problem {
    fn from(stray: Stray) -> Self {
        match stray {
            Stray::Host => {
                let reason =
                    "this is not the console of the host that was asked for: use the address that the log names";
                Self::plain(StatusCode::MISDIRECTED_REQUEST, reason)
            }
            Stray::Origin => Self::plain(StatusCode::FORBIDDEN, "the request comes from a page of another site"),
        }
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLong => Self::plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than allowed"),
            BodyError::TooSlow => Self::plain(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
            BodyError::Broken => Self::plain(StatusCode::BAD_REQUEST, "the body is broken"),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut error = json!({"reason": self.refusal.reason});
        if let Some(field) = self.refusal.field {
            error["field"] = Value::String(field);
        }
        let mut body = json!({"error": error});
        if let Some(login) = self.login {
            body["login"] = Value::from(login);
        }
        let mut response = json_response(self.status, &body);
        if self.login.is_some() {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs_f64().ceil() as u64;
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}
