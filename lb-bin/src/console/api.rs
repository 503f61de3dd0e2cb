//! The HTTP API: `/api/v1/…`. Every change goes through the same door as those of the admin socket.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{Extension, Query, RawPathParams, Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, get, on};
use lb_core::Status;
use serde::Deserialize;

use super::answer::{self, Place, json_response};
use super::change::{self, Kind};
use super::json::{self, Fields, Json};
use super::problem::Problem;
use super::{Console, User};
use crate::admin::{Refusal, Reply, Request};
use crate::web::{Client, read_body};

/// Most bytes of a body.
const BODY_MAX: usize = 1 << 20;

type Params = Result<RawPathParams, RawPathParamsRejection>;

/// The routes that need a login, but for those of the session itself.
pub(super) fn routes(console: &Arc<Console>) -> Router<Arc<Console>> {
    const GET: MethodFilter = MethodFilter::GET;
    let (frontends, certificates) = ("/api/v1/frontends", "/api/v1/certificates");
    let (frontend, certificate) = (format!("{frontends}/{{name}}"), format!("{certificates}/{{name}}"));
    let servers = format!("{frontends}/{{frontend}}/servers");
    let server = format!("{servers}/{{name}}");
    let post = |request| change(MethodFilter::POST, request, None);
    let delete = |request| change(MethodFilter::DELETE, request, None);
    Router::new()
        .route("/api/v1/status", get(status))
        .route("/api/v1/history", get(history))
        .route("/api/v1/samples", get(samples))
        .route(frontends, on(GET, all_frontends))
        .route(frontends, change(MethodFilter::POST, "AddFrontend", Some("frontend")))
        .route(&frontend, get(show))
        .route(&frontend, change(MethodFilter::PATCH, "UpdateFrontend", None))
        .route(&frontend, delete("RemoveFrontend"))
        .route(&servers, get(all_servers))
        .route(&servers, change(MethodFilter::POST, "AddServer", Some("server")))
        .route(&server, get(show))
        .route(&server, change(MethodFilter::PATCH, "UpdateServer", None))
        .route(&server, delete("RemoveServer"))
        .route(&format!("{server}/drain"), post("DrainServer"))
        .route(&format!("{server}/enable"), post("EnableServer"))
        .route(&format!("{server}/disable"), post("DisableServer"))
        .route(certificates, get(all_certificates))
        .route(certificates, post("AddCertificate"))
        .route(&certificate, get(show))
        .route(&certificate, change(MethodFilter::PUT, "UpdateCertificate", None))
        .route(&certificate, delete("RemoveCertificate"))
        .route("/api/v1/transaction", post("Transaction"))
        .route("/api/v1/undo", post("Undo"))
        .route_layer(from_fn_with_state(Arc::clone(console), log_in_first))
}

async fn log_in_first(
    State(console): State<Arc<Console>>,
    mut request: HttpRequest,
    next: Next,
) -> Result<Response, Problem> {
    let user = console.user(request.method(), request.headers())?;
    request.extensions_mut().insert(user);
    Ok(next.run(request).await)
}

async fn status(State(console): State<Arc<Console>>) -> Result<Response, Problem> {
    Ok(json_response(StatusCode::OK, &console.status().await?))
}

async fn all_frontends(State(console): State<Arc<Console>>) -> Result<Response, Problem> {
    Ok(json_response(StatusCode::OK, &console.status().await?.frontends))
}

async fn all_certificates(State(console): State<Arc<Console>>) -> Result<Response, Problem> {
    Ok(json_response(StatusCode::OK, &console.status().await?.certificates))
}

async fn all_servers(State(console): State<Arc<Console>>, uri: Uri, params: Params) -> Result<Response, Problem> {
    let (_, place) = names(&uri, params)?;
    place.ok_or_else(|| Problem::not_found("such path"))?.servers(&console.status().await?)
}

async fn show(State(console): State<Arc<Console>>, uri: Uri, params: Params) -> Result<Response, Problem> {
    let (_, place) = names(&uri, params)?;
    place.ok_or_else(|| Problem::not_found("such path"))?.show(&console.status().await?)
}

/// Which samples are asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    after: u64,
}

async fn samples(State(console): State<Arc<Console>>, uri: Uri) -> Result<Response, Problem> {
    let Query(Wanted { after }) = Query::try_from_uri(&uri).map_err(|_| {
        let refused =
            Refusal::field("after", "after: the time of the last sample that is known is expected, in seconds");
        Problem::new(StatusCode::BAD_REQUEST, refused)
    })?;
    let samples = console.samples().after(after);
    Ok(json_response(StatusCode::OK, &samples))
}

async fn history(State(console): State<Arc<Console>>) -> Result<Response, Problem> {
    let reply = console.handler.fulfil(Request::History {}).await;
    reply.map(|reply| answer::of_reply(&reply)).map_err(Problem::unavailable)
}

/// A route that changes something: by the request of this name, of which the body is a field or all of them.
fn change(method: MethodFilter, request: &'static str, body: Option<&'static str>) -> MethodRouter<Arc<Console>> {
    let kind = Kind { request, body };
    on(
        method,
        async move |State(console): State<Arc<Console>>,
                    Extension(client): Extension<Client>,
                    Extension(user): Extension<User>,
                    params: Params,
                    request: HttpRequest| {
            let what = format!("{} {}", request.method(), request.uri().path());
            let changed = carry_out(&console, kind, &client, params, request).await;
            tell(user, &client, &what, &changed);
            changed.map(|reply| answer::of_reply(&reply))
        },
    )
}

/// What an audit goes by.
fn tell(user: User, client: &Client, what: &str, changed: &Result<Reply, Problem>) {
    match changed {
        Ok(Reply::Confirmed { revision, message, .. }) => {
            tracing::info!("console: {user} from {client}: {message}, revision {revision}");
        }
        Ok(_) => {}
        Err(problem) => {
            let (status, reason) = (problem.status.as_u16(), &problem.refusal.reason);
            tracing::info!("console: {user} from {client}: {what} is refused ({status}): {reason:?}");
        }
    }
}

async fn carry_out(
    console: &Console,
    kind: Kind,
    client: &Client,
    params: Params,
    request: HttpRequest,
) -> Result<Reply, Problem> {
    let (parts, body) = request.into_parts();
    let (names, place) = names(&parts.uri, params)?;
    let options = change::options(&parts.uri).map_err(|refused| Problem::new(StatusCode::BAD_REQUEST, refused))?;
    let text = read_body(client, body, BODY_MAX).await?;
    let body = read_json(&parts.headers, &text)?;
    let done = match kind.request(names, options, body) {
        Ok(request) => console.handler.fulfil(request).await,
        Err(refused) => Err(refused),
    };
    match done {
        Ok(reply) => Ok(reply),
        Err(refused) => Err(why(console, place, refused).await),
    }
}

/// A body is JSON and says so. There may be none.
pub(super) fn read_json(headers: &HeaderMap, text: &[u8]) -> Result<Fields, Problem> {
    let is_json = |value: &HeaderValue| {
        let media_type = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
        media_type.trim().eq_ignore_ascii_case("application/json")
    };
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    if !(types.all(is_json) && (text.is_empty() || headers.contains_key(header::CONTENT_TYPE))) {
        return Err(Problem::no_json());
    }
    json::read_object(text).map_err(|refused| Problem::new(StatusCode::BAD_REQUEST, refused))
}

/// Why a change was refused: the balancer may have ended, or what the path names may not be there.
async fn why(console: &Console, place: Option<Place>, refused: Refusal) -> Problem {
    if refused.is_unavailable {
        return Problem::unavailable(refused);
    }
    let status = console.status().await.ok();
    let missing = status.zip(place).and_then(|(status, place)| place.show(&status).err());
    let status = match refused.field.as_deref() {
        Some("if_revision") => StatusCode::CONFLICT,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    missing.unwrap_or_else(|| Problem::new(status, refused))
}

impl Console {
    async fn status(&self) -> Result<Status, Problem> {
        let status = self.handler.control.status().await;
        status.map_err(Problem::unavailable)
    }
}

/// What a path names: as fields of the request, and as a place of the status.
fn names(uri: &Uri, params: Params) -> Result<(Fields, Option<Place>), Problem> {
    let params = params.map_err(|_| Problem::not_found("such path"))?;
    let names: Vec<(String, String)> = params.iter().map(|(field, name)| (field.to_owned(), name.to_owned())).collect();
    let name_of = |field: &str| names.iter().find(|(found, _)| found == field).map(|(_, name)| name.clone());
    let place = match (name_of("frontend"), name_of("name")) {
        (Some(frontend), Some(name)) => Some(Place::Server(frontend, name)),
        (None, Some(name)) if uri.path().starts_with("/api/v1/certificates/") => Some(Place::Certificate(name)),
        (Some(name), None) | (None, Some(name)) => Some(Place::Frontend(name)),
        (None, None) => None,
    };
    Ok((names.into_iter().map(|(field, name)| (field, Json::Text(name))).collect(), place))
}
