//! The admin API: HTTP/1.1 on a Unix socket for the edge's own user and root, and over TLS for clients with a token.
//! Reads views, deploys apps, and passes orders on to objects; decides nothing. `openapi` describes it,
//! docs/admin-api.md explains it.

mod access;
mod apps;
mod connect;
mod containers;
mod events;
mod files;
mod holders;
mod hooks;
mod images;
mod kv;
mod leftover;
mod listen;
mod live;
mod logs;
mod metrics;
mod nodes;
mod openapi;
mod placeable;
mod problem;
mod purge;
mod read;
mod registries;
mod schedules;
mod secrets;
mod stores;
mod tokens;
mod transfers;
mod usage;
mod why;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use berth_api::edge::Health;
use berth_certs::Credentials;
use berth_common::ids::NodeId;
use berth_engine::WaiterId;
use berth_registry::files::Files;
use berth_registry::images::Images;
use berth_registry::remote::Remote;
use berth_registry::server::Registry;
use berth_store::{Scope, Store};
use tokio::sync::{Notify, Semaphore, broadcast};
use utoipa_axum::routes;

use self::problem::Problem;
use crate::apps::Apps;
use crate::delivery::Delivery;
use crate::nodes::Nodes;
use crate::page::MonitorView;
use crate::programs::Programs;
use crate::proxy::Proxy;
use crate::proxy::lines::Lines;
use crate::secrets::Secrets;
use crate::shard::Shards;
use crate::shard::objects::{Change, Mailbox};
use crate::shard::wakes::Wakes;
use crate::tokens::Tokens;

pub(crate) use self::listen::{AdminConnections, Listeners, serve};
pub(crate) use self::transfers::permits as transfers;

/// Largest specification of an app, in bytes: larger than one with the most classes and the largest environments.
const MAX_SPEC_BYTES: usize = 16 << 20;
/// Largest body of any other request, in bytes: an environment, and a few other fields.
const MAX_ORDER_BYTES: usize = 1 << 20;
/// Most watchers and raw connections at once: each holds a connection for as long as it likes.
const MAX_WATCHERS: usize = 256;

type Router = utoipa_axum::router::OpenApiRouter<Arc<Admin>>;

/// The state that the handlers share.
pub(crate) struct Admin {
    pub(crate) apps: Arc<Apps>,
    /// Wakes the hook delivery for objects with new events.
    pub(crate) wakes: Wakes,
    /// Wakes the scheduler when an earlier schedule may have been added.
    pub(crate) schedules_changed: Arc<Notify>,
    pub(crate) nodes: Arc<Nodes>,
    /// What refuses revoked keys.
    pub(crate) credentials: Credentials,
    /// Which nodes hold which images.
    pub(crate) delivery: Delivery,
    /// The edge's metrics.
    pub(crate) watch: Arc<MonitorView>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) remote: Arc<Remote>,
    /// Permits for pulls and pushes.
    pub(crate) transfers: Arc<Semaphore>,
    /// The mailbox of each shard.
    pub(crate) mailboxes: Vec<Mailbox>,
    /// Runs work for an object on the object's shard.
    pub(crate) shards: Shards<Proxy>,
    /// Changes of objects.
    pub(crate) changes: broadcast::Sender<Arc<Change>>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) images: Arc<Images>,
    /// What apps name by digest.
    pub(crate) files: Files,
    pub(crate) registry: Arc<Registry>,
    pub(crate) programs: Arc<Programs>,
    /// The edge's name, as its own lines of logs show it.
    pub(crate) name: NodeId,
    /// Where clients connect.
    pub(crate) listen: SocketAddr,
    /// Draws waiter ids for orders.
    pub(crate) waiters: Waiters,
    /// Permits for watchers and raw connections.
    pub(crate) watchers: Arc<Semaphore>,
    /// Lines about logins that failed.
    pub(crate) failed_logins: Lines,
}

/// Draws the waiter ids of this API, from a range apart from those that the shards draw for requests.
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

/// Permits for watchers and raw connections.
pub(crate) fn watchers() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_WATCHERS))
}

/// All resources, each with the scope that it needs.
fn router() -> Router {
    let deploy = deploying().merge(orders()).merge(values()).merge(secret_values());
    looking()
        .layer(from_fn_with_state(Scope::Read, access::check))
        .merge(deploy.layer(from_fn_with_state(Scope::Deploy, access::check)))
        .merge(keys().merge(machines()).layer(from_fn_with_state(Scope::Admin, access::check)))
}

/// What is only looked at.
fn looking() -> Router {
    Router::new()
        .routes(routes!(health))
        .routes(routes!(openapi::show))
        .routes(routes!(metrics::show))
        .routes(routes!(nodes::nodes))
        .routes(routes!(holders::of_image))
        .route("/v1/assets/directory", axum::routing::get(assets))
        .routes(routes!(images::list))
        .routes(routes!(images::show))
        .routes(routes!(apps::list))
        .routes(routes!(apps::show))
        .routes(routes!(apps::versions))
        .routes(routes!(containers::list))
        .routes(routes!(containers::show))
        .routes(routes!(why::show))
        .routes(routes!(secrets::list))
        .routes(routes!(stores::stores))
        .routes(routes!(stores::list_shared))
        .routes(routes!(registries::list))
        .routes(routes!(events::watch))
        .routes(routes!(events::past))
        .routes(routes!(schedules::crons))
        .routes(routes!(hooks::pending))
        .routes(routes!(hooks::failed))
        .routes(routes!(logs::of_object))
        .routes(routes!(logs::of_app))
        .routes(routes!(usage::sum))
        .routes(routes!(usage::records))
}

/// The specification of an app, which may be large.
fn deploying() -> Router {
    Router::new().routes(routes!(apps::deploy)).layer(DefaultBodyLimit::max(MAX_SPEC_BYTES))
}

/// Orders to apps, containers and images.
fn orders() -> Router {
    Router::new()
        .routes(routes!(apps::remove))
        .routes(routes!(apps::roll_back))
        .routes(routes!(purge::purge))
        .routes(routes!(containers::start))
        .routes(routes!(containers::stop))
        .routes(routes!(containers::destroy))
        .routes(routes!(containers::signal))
        .routes(routes!(containers::renew))
        .routes(routes!(connect::connect))
        .routes(routes!(schedules::alarm, schedules::set_alarm, schedules::delete_alarm))
        .routes(routes!(schedules::list, schedules::add))
        .routes(routes!(schedules::show, schedules::delete))
        .routes(routes!(hooks::retry))
        .routes(routes!(hooks::discard))
        .routes(routes!(registries::put, registries::delete))
        .routes(routes!(transfers::pull))
        .routes(routes!(transfers::copy))
        .routes(routes!(images::delete))
        .routes(routes!(images::gc))
        .routes(routes!(files::missing))
        .routes(routes!(files::put))
        .layer(DefaultBodyLimit::max(MAX_ORDER_BYTES))
}

/// Values of objects.
fn values() -> Router {
    let value = Router::new()
        .routes(routes!(kv::get, kv::put, kv::delete))
        .layer(DefaultBodyLimit::max(berth_api::kv::MAX_VALUE_BYTES));
    Router::new()
        .routes(routes!(kv::list, kv::batch))
        .layer(DefaultBodyLimit::max(kv::MAX_BATCH_BYTES))
        .merge(value)
}

/// Values of secrets.
fn secret_values() -> Router {
    Router::new()
        .routes(routes!(secrets::put, secrets::delete))
        .routes(routes!(stores::put_shared, stores::delete_shared))
        .layer(DefaultBodyLimit::max(secrets::MAX_BODY_BYTES))
}

/// What keys and tokens there are.
fn keys() -> Router {
    Router::new()
        .routes(routes!(secrets::rotate, secrets::try_rotation))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .layer(DefaultBodyLimit::max(MAX_ORDER_BYTES))
}

/// Orders to nodes, which concern the containers of all apps.
fn machines() -> Router {
    Router::new()
        .routes(routes!(nodes::add))
        .routes(routes!(nodes::drain))
        .routes(routes!(nodes::undrain))
        .routes(routes!(nodes::forget))
        .routes(routes!(nodes::revoke))
        .layer(DefaultBodyLimit::max(MAX_ORDER_BYTES))
}

async fn no_resource() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no such resource", "see docs/admin-api.md, or GET /v1/openapi.json")
}

async fn no_method() -> Problem {
    let detail = "this resource has no such method; GET /v1/openapi.json tells which it has";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "no such method", detail)
}

/// Checks that the edge responds.
#[utoipa::path(get, path = "/v1/health", tag = "edge", responses((status = 200, body = Health), problem::Denied))]
async fn health(State(admin): State<Arc<Admin>>) -> Json<Health> {
    let (status, version) = ("ok".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    Json(Health { status, version, listen: Some(admin.listen.to_string()) })
}

/// A `berth` of an earlier version asks for a directory to put static files into.
async fn assets() -> Problem {
    let detail = "static files are sent by digest now: deploy with the `berth` of this edge's version";
    Problem::new(StatusCode::GONE, "no directory", detail)
}
