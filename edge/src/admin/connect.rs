//! Raw connections to a port of an object's container, by an HTTP upgrade.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use berth_api::containers::{CONNECT_PARTS, CONNECT_PROTOCOL as PROTOCOL, ConnectParameters};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Admin;
use super::problem::{Conflicting, Denied, Missing, Problem, Unavailable, Wrong};
use super::read::{NOT_READ, Parameters, object_id};
use crate::proxy::connect::Connect;
use crate::proxy::error::ProxyError;

/// Opens a raw connection to a port of an object's container, which is started if it sleeps, as by a request. Ask with
/// `connection: upgrade` and `upgrade: berth-tcp`; after the response 101 both sides send bytes freely. The bytes count
/// as activity. With `berth-parts: 1`, if the response has it too, what the container sends comes in parts, each after its length
/// in two bytes, big-endian; the length 0 is its end, and without it the connection was cut.
#[utoipa::path(get, path = "/v1/containers/{id}/connect", tag = "containers", params(("id" = String, Path, pattern = "^[0-9a-f]{32}$"), ConnectParameters),
    responses((status = 101, description = "the connection is one to the port from here on"),
        (status = 426, body = Problem, content_type = "application/problem+json"), Denied, Wrong, Missing, Conflicting,
        Unavailable))]
pub(super) async fn connect(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    Parameters(ConnectParameters { port }): Parameters<ConnectParameters>,
    mut request: Request,
) -> Result<Response, Problem> {
    let object = object_id(&id)?;
    if port == Some(0) {
        return Err(Problem::field(StatusCode::BAD_REQUEST, NOT_READ, "port", "must not be 0"));
    }
    if request.headers().get(header::UPGRADE).is_none_or(|protocol| protocol != PROTOCOL) {
        let detail = format!("this takes `connection: upgrade` and `upgrade: {PROTOCOL}`");
        let problem = Problem::new(StatusCode::UPGRADE_REQUIRED, "another protocol is needed", detail);
        return Err(problem.with_header(header::UPGRADE, HeaderValue::from_static(PROTOCOL)));
    }
    let view = admin.known(object).await?;
    let class = admin.class(&view.key.app, &view.key.class)?;
    let permit = admin.watch()?;
    let in_parts = request.headers().get(CONNECT_PARTS).is_some_and(|wanted| wanted == "1");
    let client = hyper::upgrade::on(&mut request);
    let (answer, answered) = oneshot::channel();
    let work = Connect { key: view.key, class: Arc::new(class), port, client, in_parts, answer, permit };
    let shard = admin.shards.of(object);
    let started = admin.shards.start(shard, |proxy| async move { proxy.carry_bytes(work).await });
    started.await.map_err(ProxyError::from)?;
    answered.await.unwrap_or(Err(ProxyError::Stopping))?;
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, PROTOCOL)];
    let mut response = (StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response();
    if in_parts {
        response.headers_mut().insert(CONNECT_PARTS, HeaderValue::from_static("1"));
    }
    Ok(response)
}

impl Admin {
    /// A permit to watch or to be connected.
    pub(super) fn watch(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.watchers).try_acquire_owned().map_err(|_| {
            let detail = "too many watchers and raw connections; try again later";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no room", detail)
        })
    }
}
