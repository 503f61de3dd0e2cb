//! The endpoint: metrics for who collects them, and whether the process lives and is ready for who starts and stops it.

use std::future::pending;

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use lb_core::Status;

use super::{Exporter, Format};
use crate::web::{At, Site};

/// The site at `at`.
pub(crate) fn site(exporter: Exporter, at: At) -> Site {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .fallback(async || (StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n"))
        .with_state(exporter);
    Site { name: "metrics", path: "/metrics", at, tls: None, router, alongside: Box::pin(pending()) }
}

async fn metrics(State(exporter): State<Exporter>, fields: HeaderMap) -> Response {
    let accept: Vec<_> = fields.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::accepted(&accept.join(","));
    match exporter.text(format).await {
        Ok(text) => ([(CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(refused) => unavailable(refused),
    }
}

async fn ready(State(exporter): State<Exporter>) -> Response {
    let is_ready = match exporter.control.status().await {
        Ok(status) => readiness(&status, exporter.is_stopping()),
        Err(refused) => Err(refused.to_string()),
    };
    is_ready.map_or_else(unavailable, |()| "ready\n".into_response())
}

fn unavailable(reason: impl std::fmt::Display) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response()
}

/// Whether new clients are accepted by what is in effect, or why not.
fn readiness(status: &Status, is_stopping: bool) -> Result<(), String> {
    if is_stopping {
        return Err("the balancer stops: it accepts nobody any more".to_owned());
    }
    if status.frontends.iter().all(|frontend| frontend.paused) {
        let why =
            if status.frontends.is_empty() { "there is no frontend" } else { "accepting pauses at every frontend" };
        return Err(why.to_owned());
    }
    match status.shards.iter().position(|shard| shard.revision < status.revision) {
        Some(shard) => Err(format!("shard {shard} does not use revision {} yet", status.revision)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn it_is_ready_when_a_frontend_accepts_and_every_shard_uses_the_revision() {
        let mut status = example().status;
        status.frontends[0].paused = true;
        status.frontends[1].paused = false;
        assert_eq!(readiness(&status, false), Ok(()));
        assert!(readiness(&status, true).unwrap_err().contains("stops"));

        status.frontends[1].paused = true;
        assert_eq!(readiness(&status, false).unwrap_err(), "accepting pauses at every frontend");
        let mut without = status.clone();
        without.frontends.clear();
        assert_eq!(readiness(&without, false).unwrap_err(), "there is no frontend");

        status.frontends[1].paused = false;
        status.shards.push(status.shards[0].clone());
        status.shards[1].revision = status.revision - 1;
        assert_eq!(readiness(&status, false).unwrap_err(), "shard 1 does not use revision 3 yet");
    }
}
