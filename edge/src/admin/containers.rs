//! Objects and their containers: what there is, and orders to single ones. Reads and checks what is asked; the engine
//! decides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{AppendHeaders, IntoResponse, Response};
use berth_common::ids::{
    AppName, ClassName, Generation, InstanceId, NodeId, ObjectId, ObjectKey, ObjectName, Version,
};
use berth_common::outcome::Outcome;
use berth_common::spec::{ClassSpec, MAX_ENV_BYTES, MAX_SECRETS, Secrets};
use berth_common::wire::call::Signal;
use berth_engine::{EndOrder, Input, ObjectView, PublicState};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::{Conflicting, Denied, Missing, Problem, Unavailable, Wrong};
use super::read::{self, Body, OptionalBody, Parameters, invalid, object_id};
use super::{Admin, signal};
use crate::proxy::error::ProxyError;
use crate::shard::objects::Mailbox;
use crate::shard::shard_of;

/// Objects that one answer lists unless it is asked for another number, and most that it does.
const PAGE: usize = 1_000;
const MAX_PAGE: usize = 10_000;
/// Longest time from a signal to SIGKILL that an order may give, in milliseconds: a day, as for a class.
const MAX_GRACE_MS: u64 = 24 * 60 * 60 * 1000;
/// Numbers of the signals of Linux.
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;

type Answer = Result<Json<ContainerView>, Problem>;

/// An object and its container.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ContainerView {
    /// 32 hexadecimal digits, from app, class and name.
    #[schema(value_type = String, pattern = "^[0-9a-f]{32}$")]
    id: ObjectId,
    #[schema(value_type = String)]
    app: AppName,
    #[schema(value_type = String)]
    class: ClassName,
    /// Any text of up to 1024 bytes without control characters.
    #[schema(value_type = String)]
    name: ObjectName,
    state: ContainerState,
    /// Where its container is.
    #[schema(value_type = Option<String>)]
    node: Option<NodeId>,
    /// Its container; 32 hexadecimal digits.
    #[schema(value_type = Option<String>)]
    instance: Option<InstanceId>,
    /// The version of the app that its container is of.
    #[schema(value_type = Option<u64>)]
    version: Option<Version>,
    /// How many containers it has had.
    #[schema(value_type = u64)]
    generation: Generation,
    /// When its state changed, in milliseconds since 1970.
    last_change_ms: u64,
    /// How its last container ended.
    exit: Option<Outcome>,
    /// Set where its containers failed several times in a row.
    crash_loop: Option<CrashLoopView>,
}

/// The state of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ContainerState {
    /// It has no container.
    Stopped,
    /// Its container is started, or runs and does not answer yet.
    Running,
    /// Its container answers.
    Healthy,
    /// Its container was told to end.
    Stopping,
    /// It has no container, and the last one ended by itself with a code other than 0.
    StoppedWithCode,
}

/// Containers that failed in a row.
#[derive(Debug, Serialize, ToSchema)]
struct CrashLoopView {
    /// How many.
    failures: u32,
    /// When the next one may be started, in milliseconds since 1970.
    next_try_ms: u64,
}

impl From<PublicState> for ContainerState {
    fn from(state: PublicState) -> Self {
        match state {
            PublicState::Stopped => Self::Stopped,
            PublicState::Running => Self::Running,
            PublicState::Healthy => Self::Healthy,
            PublicState::Stopping => Self::Stopping,
            PublicState::StoppedWithCode => Self::StoppedWithCode,
        }
    }
}

impl From<ObjectView> for ContainerView {
    fn from(view: ObjectView) -> Self {
        let ObjectView { id, key, node, instance, version, generation, last_change_ms, exit, .. } = view;
        let (app, class, name) = (key.app, key.class, key.name);
        let crash_loop = view
            .crash_loop
            .map(|known| CrashLoopView { failures: known.failures, next_try_ms: known.next_try_ms });
        let state = view.state.into();
        Self {
            id,
            app,
            class,
            name,
            state,
            node,
            instance,
            version,
            generation,
            last_change_ms,
            exit,
            crash_loop,
        }
    }
}

/// Some of the objects, in the order of their ids.
#[derive(Serialize, ToSchema)]
pub(super) struct ContainerPage {
    containers: Vec<ContainerView>,
    /// What to ask for the next ones with; null where there are no more.
    next_cursor: Option<String>,
}

/// Which objects are listed.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// Only those of this app.
    #[param(value_type = Option<String>)]
    app: Option<AppName>,
    /// Only those of this class.
    #[param(value_type = Option<String>)]
    class: Option<ClassName>,
    /// Only those in this state.
    #[param(inline)]
    state: Option<ContainerState>,
    /// How many objects are looked at: with a filter, a page may hold fewer, or none, and not be the last.
    #[param(minimum = 1, maximum = 10000)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl Listing {
    fn wants(&self, view: &ContainerView) -> bool {
        self.app.as_ref().is_none_or(|app| *app == view.app)
            && self.class.as_ref().is_none_or(|class| *class == view.class)
            && self.state.is_none_or(|state| state == view.state)
    }
}

/// A container to start.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StartOrder {
    #[schema(value_type = String)]
    app: AppName,
    #[schema(value_type = String)]
    class: ClassName,
    /// Any text of up to 1024 bytes without control characters.
    #[schema(value_type = String)]
    name: ObjectName,
    /// Added to the class's environment, for this container alone.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Secrets of the app that it gets too, by the variables that they become, for this container alone.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    secrets: Secrets,
    /// In place of the class's.
    entrypoint: Option<Vec<String>>,
    /// In place of the class's.
    enable_internet: Option<bool>,
}

/// How a container is to end.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StopOrder {
    /// Number of the signal; SIGTERM (15) unless given.
    #[schema(minimum = 1, maximum = 64)]
    signal: Option<i32>,
    /// How long after it SIGKILL follows, in milliseconds; the class's `stop_grace` unless given.
    #[schema(maximum = 86400000)]
    grace_ms: Option<u64>,
}

/// A signal to send.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignalOrder {
    /// Its number.
    #[schema(minimum = 1, maximum = 64)]
    signal: i32,
}

/// Lists objects, those with a container and those without.
#[utoipa::path(get, path = "/v1/containers", tag = "containers", params(Listing),
    responses((status = 200, body = ContainerPage), Denied, Wrong))]
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    Parameters(listing): Parameters<Listing>,
) -> Result<Json<ContainerPage>, Problem> {
    let limit = listing.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(invalid("limit", format!("must be from 1 to {MAX_PAGE}")));
    }
    let after: Option<ObjectId> =
        listing.cursor.as_deref().map(|text| read::name("cursor", text)).transpose()?;
    let (views, next) = admin.page(after, limit).await?;
    let containers = views.into_iter().map(ContainerView::from).filter(|view| listing.wants(view)).collect();
    Ok(Json(ContainerPage { containers, next_cursor: next.map(|id| id.to_string()) }))
}

/// Starts an object's container and waits until its port answers, as a request would.
#[utoipa::path(post, path = "/v1/containers", tag = "containers", request_body = StartOrder,
    responses((status = 200, body = ContainerView), Denied, Wrong, Missing, Conflicting, Unavailable))]
pub(super) async fn start(State(admin): State<Arc<Admin>>, Body(order): Body<StartOrder>) -> Answer {
    let class = admin.class(&order.app, &order.class)?;
    let key = ObjectKey { app: order.app.clone(), class: order.class.clone(), name: order.name.clone() };
    let id = key.id();
    let own = !(order.env.is_empty() && order.secrets.is_empty())
        || order.entrypoint.is_some()
        || order.enable_internet.is_some();
    if own && admin.live(id).await.is_some_and(|view| view.instance.is_some()) {
        let detail = "its container lives already, with what it was started with; stop it first";
        return Err(Problem::new(StatusCode::CONFLICT, "the object runs", detail));
    }
    let class = order.apply(class)?;
    let hold = admin.mailbox(id).acquire(admin.waiters.next(), id, key, Arc::new(class)).await?;
    // From here on it lives as long as after any request.
    drop(hold);
    admin.view(id).await
}

/// Shows one object.
#[utoipa::path(get, path = "/v1/containers/{id}", tag = "containers", params(("id" = String, Path, pattern = "^[0-9a-f]{32}$")),
    responses((status = 200, body = ContainerView,
        headers(("server-timing" = String, description = "how long the look-up took, in milliseconds"))), Denied, Missing,
        (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = object_id(&id)?;
    let start = Instant::now();
    let view = admin.view(id).await?;
    let timing = format!("lookup;dur={:.4}", start.elapsed().as_secs_f64() * 1e3);
    Ok((AppendHeaders([("server-timing", timing)]), view).into_response())
}

/// Has an object's container end with a signal, and SIGKILL after a while. Answered once that is durable.
#[utoipa::path(post, path = "/v1/containers/{id}/stop", tag = "containers", params(("id" = String, Path, pattern = "^[0-9a-f]{32}$")),
    request_body = Option<StopOrder>,
    responses((status = 200, body = ContainerView), Denied, Wrong, Missing, Unavailable))]
pub(super) async fn stop(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    OptionalBody(StopOrder { signal, grace_ms }): OptionalBody<StopOrder>,
) -> Answer {
    signal.map_or(Ok(()), check_signal)?;
    if grace_ms.is_some_and(|grace| grace > MAX_GRACE_MS) {
        return Err(invalid("grace_ms", format!("at most {MAX_GRACE_MS} is allowed, which is a day")));
    }
    admin.end(object_id(&id)?, EndOrder::Stop { signal, grace_ms }).await
}

/// Ends an object's container with SIGKILL, now. Answered once that is durable.
#[utoipa::path(post, path = "/v1/containers/{id}/destroy", tag = "containers", params(("id" = String, Path, pattern = "^[0-9a-f]{32}$")),
    responses((status = 200, body = ContainerView), Denied, Missing, Unavailable,
        (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn destroy(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Answer {
    admin.end(object_id(&id)?, EndOrder::Destroy).await
}

/// Sends a container a signal, and no more: what it does then is up to its app.
#[utoipa::path(post, path = "/v1/containers/{id}/signal", tag = "containers", params(("id" = String, Path, pattern = "^[0-9a-f]{32}$")),
    request_body = SignalOrder,
    responses((status = 200, body = ContainerView), Denied, Wrong, Missing, Conflicting, Unavailable))]
pub(super) async fn signal(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    Body(SignalOrder { signal }): Body<SignalOrder>,
) -> Answer {
    let object = object_id(&id)?;
    check_signal(signal)?;
    let view = admin.known(object).await?;
    let (Some(node), Some(instance)) = (view.node, view.instance) else { return Err(not_running()) };
    let (shard, signal) = (admin.shards.of(object), Signal { instance, signal });
    let sent =
        admin.shards.run(shard, move |proxy| async move { signal::send(&proxy.links, &node, signal).await });
    sent.await.map_err(ProxyError::from)??;
    admin.view(object).await
}

/// Counts as activity: the container sleeps no earlier than `sleep_after` from now.
#[utoipa::path(post, path = "/v1/containers/{id}/renew", tag = "containers", params(("id" = String, Path, pattern = "^[0-9a-f]{32}$")),
    responses((status = 200, body = ContainerView), Denied, Missing, Conflicting,
        (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn renew(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Answer {
    let object = object_id(&id)?;
    let view = admin.known(object).await?;
    let instance = view.instance.ok_or_else(not_running)?;
    admin.mailbox(object).input(Input::Touch { object, instance });
    admin.view(object).await
}

fn check_signal(signal: i32) -> Result<(), Problem> {
    if SIGNALS.contains(&signal) {
        return Ok(());
    }
    Err(invalid("signal", format!("{signal} is not the number of a signal, which is 1 to 64")))
}

fn not_running() -> Problem {
    let detail = "it has no container: `berth containers start` starts one, and so does a request";
    Problem::new(StatusCode::CONFLICT, "the object is stopped", detail)
}

impl StartOrder {
    /// The class as this one container is to have it. An order starts also what requests may not.
    fn apply(self, mut class: ClassSpec) -> Result<ClassSpec, Problem> {
        class.manual_start = false;
        let recipe = &mut class.recipe;
        if let Some(name) = self.env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return Err(invalid("env", format!("{name:?} cannot name a variable")));
        }
        if let Some((name, _)) = self.env.iter().find(|(_, value)| value.contains('\0')) {
            return Err(invalid("env", format!("the value of {name} holds a zero byte")));
        }
        if let Some(name) = self.secrets.keys().find(|name| self.env.contains_key(name.as_str())) {
            return Err(invalid("secrets", format!("{name} is in env too")));
        }
        // What is given for this one container goes before what its class says, whether it is a secret there or not.
        class.secrets.retain(|name, _| !self.env.contains_key(name.as_str()));
        recipe.env.retain(|name, _| !self.secrets.keys().any(|secret| secret.as_str() == name));
        class.secrets.extend(self.secrets);
        if class.secrets.len() > MAX_SECRETS {
            return Err(invalid(
                "secrets",
                format!("with the class's own there are more than {MAX_SECRETS}"),
            ));
        }
        recipe.env.extend(self.env);
        if recipe.env.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_ENV_BYTES {
            let message = format!("with the class's own it takes more than {MAX_ENV_BYTES} bytes");
            return Err(invalid("env", message));
        }
        if let Some(words) = self.entrypoint {
            if words.first().is_none_or(String::is_empty) || words.iter().any(|word| word.contains('\0')) {
                return Err(invalid("entrypoint", "names no program, or holds a zero byte"));
            }
            recipe.entrypoint = Some(words);
        }
        recipe.enable_internet = self.enable_internet.unwrap_or(recipe.enable_internet);
        Ok(class)
    }
}

impl Admin {
    pub(super) fn class(&self, app: &AppName, class: &ClassName) -> Result<ClassSpec, Problem> {
        self.apps.class(app, class).ok_or_else(|| {
            let detail = format!("there is no class `{class}` in an app `{app}`");
            Problem::new(StatusCode::NOT_FOUND, "no such class", detail)
        })
    }

    fn mailbox(&self, object: ObjectId) -> &Mailbox {
        &self.mailboxes[shard_of(object, self.mailboxes.len())]
    }

    /// What the engine has of an object.
    async fn live(&self, object: ObjectId) -> Option<ObjectView> {
        self.mailbox(object).view(object).await
    }

    async fn end(&self, object: ObjectId, order: EndOrder) -> Answer {
        self.known(object).await?;
        self.mailbox(object).end(self.waiters.next(), object, order).await?;
        self.view(object).await
    }

    pub(super) async fn view(&self, object: ObjectId) -> Answer {
        self.known(object).await.map(|view| Json(view.into()))
    }

    /// An object as the engine has it, or as it is stored.
    pub(super) async fn known(&self, object: ObjectId) -> Result<ObjectView, Problem> {
        if let Some(view) = self.live(object).await {
            return Ok(view);
        }
        // Some microseconds, or one access to the disk: less than handing it to another thread, and nobody's requests wait.
        let record = self.store.load(object)?;
        record.as_ref().map(ObjectView::from).ok_or_else(|| {
            let detail = format!("no object with the id {object} was ever started");
            Problem::new(StatusCode::NOT_FOUND, "no such object", detail)
        })
    }

    /// Objects behind this one, and the last one looked at if there may be more.
    async fn page(
        &self,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<(Vec<ObjectView>, Option<ObjectId>), Problem> {
        let store = Arc::clone(&self.store);
        let stored = tokio::task::spawn_blocking(move || store.records(after, limit)).await;
        let stored = stored.map_err(|error| Problem::internal(&error))??;
        let last = stored.last().filter(|_| stored.len() == limit).map(|record| record.key.id());
        let here = |id: ObjectId| after.is_none_or(|after| id > after) && last.is_none_or(|last| id <= last);
        // What is stored is behind what the engines have in memory, where they have it.
        let mut views: BTreeMap<ObjectId, ObjectView> =
            stored.iter().map(|record| (record.key.id(), record.into())).collect();
        for mailbox in &self.mailboxes {
            views
                .extend(mailbox.views().await.into_iter().filter(|v| here(v.id)).map(|view| (view.id, view)));
        }
        Ok((views.into_values().collect(), last))
    }
}
