//! The admin API: HTTP/1.1 on a Unix socket that only the edge's own user can open. Looks, deploys, and passes orders to
//! objects on; decides nothing. docs/admin-api.md describes it.

mod commands;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path as UrlPath, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use berth_common::ids::{AppName, ClassName, Generation, InstanceId, NodeId, ObjectId, ObjectName};
use berth_common::outcome::Outcome;
use berth_common::spec::AppSpec;
use berth_engine::{ObjectView, PublicState, Refused, WaiterId};
use serde::Serialize;
use serde_json::json;
use tokio::net::UnixListener;

use crate::apps::{Apps, DeployError};
use crate::error::refused_status;
use crate::nodes::{NodeView, Nodes};
use crate::objects::Mailbox;
use crate::store::{Store, StoreError};

/// Most objects that one answer lists.
const MAX_LISTED: usize = 10_000;
/// Largest specification of an app.
const MAX_SPEC_BYTES: usize = 16 << 20;
/// Who may open the socket: its owner.
const SOCKET_MODE: u32 = 0o600;

/// What the API shows and changes.
pub(crate) struct Admin {
    pub(crate) apps: Apps,
    pub(crate) nodes: Arc<Nodes>,
    /// Of every shard.
    pub(crate) mailboxes: Vec<Mailbox>,
    pub(crate) store: Arc<dyn Store>,
    /// Where images are put for the nodes of this machine.
    pub(crate) images: PathBuf,
    /// Numbers its waiters.
    pub(crate) waiters: Waiters,
}

/// Draws the numbers of those who wait here, apart from the numbers that the shards draw for requests.
#[derive(Debug)]
pub(crate) struct Waiters(AtomicU64);

impl Default for Waiters {
    fn default() -> Self {
        Self(AtomicU64::new(1 << 63))
    }
}

impl Waiters {
    fn next(&self) -> WaiterId {
        WaiterId(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// Binds the socket. It never is open to others: it gets its mode in a directory of its own, and then its place.
pub(crate) fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    bind(path).with_context(|| format!("cannot bind the admin socket {}", path.display()))
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let nursery = parent.join(format!(".admin-{}", std::process::id()));
    std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), 0o700).create(&nursery)?;
    let place = || {
        let born = nursery.join("s");
        let listener = UnixListener::bind(&born)?;
        fs::set_permissions(&born, fs::Permissions::from_mode(SOCKET_MODE))?;
        // Takes the place of the socket of a process that was killed; a living one would hold the store.
        fs::rename(&born, path)?;
        Ok(listener)
    };
    let placed = place();
    fs::remove_dir_all(&nursery)?;
    placed
}

/// Serves the API for as long as it is polled.
pub(crate) async fn serve(listener: UnixListener, admin: Admin) {
    let routes = axum::Router::new()
        .route("/v1/health", get(async || Json(json!({ "status": "ok" }))))
        .route("/v1/containers", get(containers).post(commands::start))
        .route("/v1/containers/{id}", get(commands::show))
        .route("/v1/containers/{id}/stop", post(commands::stop))
        .route("/v1/containers/{id}/destroy", post(commands::destroy))
        .route("/v1/containers/{id}/renew", post(commands::renew))
        .route("/v1/nodes", get(nodes))
        .route("/v1/apps", get(apps))
        .route("/v1/apps/{name}", put(deploy))
        .route("/v1/images", get(images))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "no such resource", "see docs/admin-api.md"))
        .layer(DefaultBodyLimit::max(MAX_SPEC_BYTES))
        .with_state(Arc::new(admin));
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!(%error, "admin API ended");
    }
}

/// An object, for people and programs.
#[derive(Debug, Serialize)]
struct ContainerView {
    id: ObjectId,
    app: AppName,
    class: ClassName,
    name: ObjectName,
    state: PublicState,
    node: Option<NodeId>,
    instance: Option<InstanceId>,
    generation: Generation,
    last_change_ms: u64,
    exit: Option<Outcome>,
}

impl From<ObjectView> for ContainerView {
    fn from(view: ObjectView) -> Self {
        let ObjectView { id, key, state, node, instance, generation, last_change_ms, exit } = view;
        let (app, class, name) = (key.app, key.class, key.name);
        Self { id, app, class, name, state, node, instance, generation, last_change_ms, exit }
    }
}

async fn containers(State(admin): State<Arc<Admin>>) -> Result<Json<serde_json::Value>, Problem> {
    // What is stored is behind what the engines have in memory, where they have it.
    let store = Arc::clone(&admin.store);
    let stored = tokio::task::spawn_blocking(move || store.records(MAX_LISTED)).await;
    let stored = stored.map_err(|error| Problem::internal(&error))??;
    let stored = stored.iter().map(ObjectView::from);
    let mut objects: BTreeMap<ObjectId, ObjectView> = stored.map(|view| (view.id, view)).collect();
    for mailbox in &admin.mailboxes {
        objects.extend(mailbox.views().await.into_iter().map(|view| (view.id, view)));
    }
    let mut containers: Vec<ContainerView> = objects.into_values().map(ContainerView::from).collect();
    containers.sort_by(|a, b| (&a.app, &a.class, &a.name).cmp(&(&b.app, &b.class, &b.name)));
    Ok(Json(json!({ "containers": containers })))
}

async fn nodes(State(admin): State<Arc<Admin>>) -> Json<serde_json::Value> {
    let nodes: Vec<NodeView> = admin.nodes.views();
    Json(json!({ "nodes": nodes }))
}

async fn apps(State(admin): State<Arc<Admin>>) -> Json<serde_json::Value> {
    Json(json!({ "apps": admin.apps.all() }))
}

async fn images(State(admin): State<Arc<Admin>>) -> Json<serde_json::Value> {
    Json(json!({ "directory": admin.images }))
}

async fn deploy(
    State(admin): State<Arc<Admin>>,
    UrlPath(name): UrlPath<String>,
    body: Bytes,
) -> Result<Json<serde_json::Value>, Problem> {
    let title = "the app was not deployed";
    let spec: AppSpec = serde_json::from_slice(&body).map_err(|error| {
        let detail = format!("the specification cannot be read: {error}");
        Problem::new(StatusCode::BAD_REQUEST, title, detail)
    })?;
    if spec.name.as_str() != name {
        let detail = format!("the path names the app `{name}`, the specification `{}`", spec.name);
        return Err(Problem::new(StatusCode::BAD_REQUEST, title, detail));
    }
    let deployed = json!({ "app": spec.name, "classes": spec.classes.len(), "routes": spec.routes.len() });
    match admin.apps.deploy(spec).await {
        Ok(()) => Ok(Json(deployed)),
        Err(error @ DeployError::Invalid(_)) => {
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, title, error.to_string()))
        }
        Err(DeployError::Store(error)) => Err(error.into()),
    }
}

/// An error, as RFC 9457 has it.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    title: &'static str,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, title, detail: detail.into() }
    }

    fn internal(error: &dyn std::error::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the edge failed", error.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        Self::new(refused_status(&refused), "the order was not carried out", refused.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({ "title": self.title, "detail": self.detail, "status": self.status.as_u16() });
        (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
    }
}
