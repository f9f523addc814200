//! The metrics endpoint, and the count of requests to this API.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, header};
use axum::middleware::Next;
use axum::response::Response;
use berth_monitor::Watched;

use super::Admin;
use super::problem::Denied;

/// Returns the edge's metrics in the Prometheus text format; docs/metrics.md lists them.
#[utoipa::path(
    get,
    path = "/v1/metrics",
    tag = "edge",
    responses((status = 200, content_type = "text/plain", body = String), Denied)
)]
pub(super) async fn show(State(admin): State<Arc<Admin>>) -> ([(HeaderName, &'static str); 1], String) {
    ([(header::CONTENT_TYPE, berth_monitor::CONTENT_TYPE)], admin.watch.page().await.text())
}

/// Counts a request, whatever its response is.
pub(super) async fn count(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    admin.watch.metrics.admin.count(response.status());
    response
}
