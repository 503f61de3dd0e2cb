//! What is answered when all is well.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lb_core::{CertificateStatus, FrontendStatus, ServerStatus, Status};
use serde::Serialize;
use serde_json::json;

use super::problem::Problem;
use crate::admin::Reply;

const JSON: &str = "application/json";

pub(super) fn json_response(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(text) => with_type(status, JSON, text.into()),
        Err(error) => {
            tracing::error!("console: an answer can't be written: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A text that is in the program.
pub(super) fn text(media_type: &'static str, text: &'static str) -> Response {
    with_type(StatusCode::OK, media_type, text.into())
}

fn with_type(status: StatusCode, media_type: &'static str, body: Body) -> Response {
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static(media_type))], body).into_response()
}

/// The answer to a change, or to a question for everything.
pub(super) fn of_reply(reply: &Reply) -> Response {
    match reply {
        Reply::Confirmed { revision, shards, durable, connections_on_replaced, message, warnings } => {
            let confirmed = json!({
                "revision": revision, "shards": shards, "durable": durable,
                "connections_on_replaced": connections_on_replaced, "message": message, "warnings": warnings,
            });
            json_response(StatusCode::OK, &confirmed)
        }
        Reply::Proposed { revision, changes, warnings } => {
            let proposed = json!({"revision": revision, "changes": changes, "warnings": warnings});
            json_response(StatusCode::OK, &proposed)
        }
        Reply::History(records) => json_response(StatusCode::OK, records),
        Reply::Status(status) => json_response(StatusCode::OK, status),
        _ => Problem::internal("the answer is none of the console's").into_response(),
    }
}

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Frontend(String),
    Server(String, String),
    Certificate(String),
}

impl Place {
    /// What is there, as JSON.
    ///
    /// # Errors
    /// Nothing is.
    pub(super) fn show(&self, status: &Status) -> Result<Response, Problem> {
        Ok(match self {
            Self::Frontend(name) => json_response(StatusCode::OK, frontend(status, name)?),
            Self::Server(of, name) => json_response(StatusCode::OK, server(status, of, name)?),
            Self::Certificate(name) => json_response(StatusCode::OK, certificate(status, name)?),
        })
    }

    /// The servers of the frontend that is there.
    ///
    /// # Errors
    /// No frontend is.
    pub(super) fn servers(&self, status: &Status) -> Result<Response, Problem> {
        match self {
            Self::Frontend(name) => Ok(json_response(StatusCode::OK, &frontend(status, name)?.servers)),
            _ => Err(Problem::not_found("such list")),
        }
    }
}

fn frontend<'a>(status: &'a Status, name: &str) -> Result<&'a FrontendStatus, Problem> {
    let found = status.frontends.iter().find(|frontend| frontend.frontend.name().as_str() == name);
    found.ok_or_else(|| Problem::not_found(&format!("frontend {name}")))
}

fn server<'a>(status: &'a Status, of: &str, name: &str) -> Result<&'a ServerStatus, Problem> {
    let found = frontend(status, of)?.servers.iter().find(|server| server.server.name().as_str() == name);
    found.ok_or_else(|| Problem::not_found(&format!("server {name} of frontend {of}")))
}

fn certificate<'a>(status: &'a Status, name: &str) -> Result<&'a CertificateStatus, Problem> {
    let found = status.certificates.iter().find(|certificate| certificate.name.as_str() == name);
    found.ok_or_else(|| Problem::not_found(&format!("certificate {name}")))
}
