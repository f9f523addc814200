//! Objects and their containers: lists, and orders for single objects. Parses and checks requests; the engine decides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{AppendHeaders, IntoResponse, Response};
use berth_api::containers::{
    ContainerPage, ContainerState, ContainerView, CrashLoopView, Effect, FailureView, SIGNALS, SignalOrder,
    StartOrder, StopOrder, Verb,
};
use berth_api::lists::{ContainerListing, Paged};
use berth_common::ids::{AppName, ClassName, InstanceId, NodeId, ObjectId, ObjectKey};
use berth_common::spec::{ClassSpec, MAX_ENV_BYTES, MAX_SECRETS};
use berth_common::wire::call::Signal;
use berth_engine::{EndOrder, Failure, Input, ObjectView, PublicState};

use super::Admin;
use super::problem::{Conflicting, Denied, Missing, Problem, Unavailable, Wrong};
use super::read::{Body, OptionalBody, Parameters, invalid, object_id};

use crate::proxy::error::ProxyError;
use crate::proxy::signal;
use crate::shard::objects::Mailbox;
use crate::shard::shard_of;

/// Objects on a page by default.
const PAGE: usize = 1_000;
/// Longest grace period from a signal to SIGKILL that an order may ask for, in milliseconds: a day, as for a class.
const MAX_GRACE_MS: u64 = 24 * 60 * 60 * 1000;

type Answer = Result<Json<ContainerView>, Problem>;

/// The representation of one object, with its last failures.
fn shown_in_full(view: ObjectView) -> ContainerView {
    let failure = |Failure { time_ms, instance, outcome }| FailureView { time_ms, instance, exit: outcome };
    let failures = view.failures.iter().cloned().map(failure).collect();
    ContainerView { failures, ..shown(view) }
}

/// The representation of an object among others, or of its change.
pub(super) fn shown(view: ObjectView) -> ContainerView {
    let ObjectView { id, key, node, instance, version, generation, last_change_ms, exit, .. } = view;
    let (app, class, name) = (key.app, key.class, key.name);
    let crash_loop = view
        .crash_loop
        .map(|known| CrashLoopView { failures: known.failures, next_try_ms: known.next_try_ms });
    let state = state(view.state);
    ContainerView {
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
        failures: Vec::new(),
    }
}

fn state(state: PublicState) -> ContainerState {
    match state {
        PublicState::Stopped => ContainerState::Stopped,
        PublicState::Running => ContainerState::Running,
        PublicState::Healthy => ContainerState::Healthy,
        PublicState::Stopping => ContainerState::Stopping,
        PublicState::StoppedWithCode => ContainerState::StoppedWithCode,
    }
}

fn is_listed(listing: &ContainerListing, view: &ContainerView) -> bool {
    listing.app.as_ref().is_none_or(|app| *app == view.app)
        && listing.class.as_ref().is_none_or(|class| *class == view.class)
        && listing.state.is_none_or(|state| state == view.state)
}

/// Lists objects, those with a container and those without.
#[utoipa::path(get, path = "/v1/containers", tag = "containers", params(ContainerListing),
    responses((status = 200, body = ContainerPage), Denied, Wrong))]
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    Parameters(listing): Parameters<ContainerListing>,
) -> Result<Json<ContainerPage>, Problem> {
    let (after, limit) = listing.page::<ObjectId>(PAGE)?;
    let (views, next) = admin.page(after, limit).await?;
    let containers = views.into_iter().map(shown).filter(|view| is_listed(&listing, view)).collect();
    Ok(Json(ContainerPage { containers, next_cursor: next.map(|id| id.to_string()) }))
}

/// Starts an object's container and waits until its port accepts requests, as a request would.
#[utoipa::path(post, path = "/v1/containers", tag = "containers", request_body = StartOrder,
    responses((status = 200, body = ContainerView), Denied, Wrong, Missing, Conflicting, Unavailable))]
pub(super) async fn start(State(admin): State<Arc<Admin>>, Body(order): Body<StartOrder>) -> Answer {
    let class = admin.class(&order.app, &order.class)?;
    let key = ObjectKey { app: order.app.clone(), class: order.class.clone(), name: order.name.clone() };
    let id = key.id();
    if let Some(view) = admin.live(id).await {
        allow(order.on(state(view.state)))?;
    }
    let class = apply(order, class)?;
    let hold = admin.mailbox(id).acquire(admin.waiters.next(), id, key, Arc::new(class), None).await?;
    // The hold ends here; the container sleeps as after any request.
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

/// Stops an object's container with a signal, and with SIGKILL after a grace period. Responds once that is durable.
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

/// Kills an object's container with SIGKILL. Responds once that is durable.
#[utoipa::path(post, path = "/v1/containers/{id}/destroy", tag = "containers", params(("id" = String, Path, pattern = "^[0-9a-f]{32}$")),
    responses((status = 200, body = ContainerView), Denied, Missing, Unavailable,
        (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn destroy(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Answer {
    admin.end(object_id(&id)?, EndOrder::Destroy).await
}

/// Sends a container a signal and nothing else: the app decides what it does.
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
    let (node, instance) = container(Verb::Signal, view)?;
    let (shard, signal) = (admin.shards.of(object), Signal { instance, signal });
    let sent =
        admin.shards.run(shard, move |proxy| async move { signal::send(&proxy.links, &node, signal).await });
    sent.await.map_err(ProxyError::from)??;
    admin.view(object).await
}

/// Counts as activity: the container does not sleep before `sleep_after` from now.
#[utoipa::path(post, path = "/v1/containers/{id}/renew", tag = "containers", params(("id" = String, Path, pattern = "^[0-9a-f]{32}$")),
    responses((status = 200, body = ContainerView), Denied, Missing, Conflicting,
        (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn renew(State(admin): State<Arc<Admin>>, Path(id): Path<String>) -> Answer {
    let object = object_id(&id)?;
    let view = admin.known(object).await?;
    let (_, instance) = container(Verb::Renew, view)?;
    admin.mailbox(object).input(Input::Touch { object, instance });
    admin.view(object).await
}

fn check_signal(signal: i32) -> Result<(), Problem> {
    if SIGNALS.contains(&signal) {
        return Ok(());
    }
    Err(invalid("signal", format!("{signal} is not the number of a signal, which is 1 to 64")))
}

/// Passes an order through unless it is refused.
fn allow(effect: Effect) -> Result<(), Problem> {
    match effect {
        Effect::Refused { title, detail } => Err(Problem::new(StatusCode::CONFLICT, title, detail)),
        Effect::Acts | Effect::Nothing => Ok(()),
    }
}

/// The container that an order is for, and its node.
fn container(verb: Verb, view: ObjectView) -> Result<(NodeId, InstanceId), Problem> {
    allow(verb.on(state(view.state)))?;
    view.node.zip(view.instance).ok_or_else(|| {
        Problem::new(StatusCode::CONFLICT, "the object is stopped", "its container has just ended")
    })
}

/// The class with the settings of this one container. An order may start classes that requests may not.
fn apply(order: StartOrder, mut class: ClassSpec) -> Result<ClassSpec, Problem> {
    class.manual_start = false;
    let recipe = &mut class.recipe;
    if let Some(name) = order.env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
        return Err(invalid("env", format!("{name:?} cannot name a variable")));
    }
    if let Some((name, _)) = order.env.iter().find(|(_, value)| value.contains('\0')) {
        return Err(invalid("env", format!("the value of {name} holds a zero byte")));
    }
    if let Some(name) = order.secrets.keys().find(|name| order.env.contains_key(name.as_str())) {
        return Err(invalid("secrets", format!("{name} is in env too")));
    }
    // Settings of this one container override those of the class, also when one is a secret and the other is not.
    class.secrets.retain(|name, _| !order.env.contains_key(name.as_str()));
    recipe.env.retain(|name, _| !order.secrets.keys().any(|secret| secret.as_str() == name));
    class.secrets.extend(order.secrets);
    if class.secrets.len() > MAX_SECRETS {
        return Err(invalid("secrets", format!("with the class's own there are more than {MAX_SECRETS}")));
    }
    recipe.env.extend(order.env);
    if recipe.env.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_ENV_BYTES {
        let message = format!("with the class's own it takes more than {MAX_ENV_BYTES} bytes");
        return Err(invalid("env", message));
    }
    if let Some(words) = order.entrypoint {
        if words.first().is_none_or(String::is_empty) || words.iter().any(|word| word.contains('\0')) {
            return Err(invalid("entrypoint", "names no program, or holds a zero byte"));
        }
        recipe.entrypoint = Some(words);
    }
    recipe.enable_internet = order.enable_internet.unwrap_or(recipe.enable_internet);
    Ok(class)
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

    /// The engine's view of an object, if it has it in memory.
    pub(super) async fn live(&self, object: ObjectId) -> Option<ObjectView> {
        self.mailbox(object).view(object).await
    }

    async fn end(&self, object: ObjectId, order: EndOrder) -> Answer {
        self.known(object).await?;
        self.mailbox(object).end(self.waiters.next(), object, order).await?;
        self.view(object).await
    }

    pub(super) async fn view(&self, object: ObjectId) -> Answer {
        self.known(object).await.map(|view| Json(shown_in_full(view)))
    }

    /// An object from the engine, or else from the store.
    pub(super) async fn known(&self, object: ObjectId) -> Result<ObjectView, Problem> {
        if let Some(view) = self.live(object).await {
            return Ok(view);
        }
        // Some microseconds, or one disk access: cheaper than a switch to another thread, and requests of clients do
        // not run here.
        let record = self.store.load(object)?;
        record.as_ref().map(ObjectView::from).ok_or_else(|| {
            let detail = format!("no object with the id {object} was ever started");
            Problem::new(StatusCode::NOT_FOUND, "no such object", detail)
        })
    }

    /// Objects after this one, and the last one looked at if there may be more.
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
        // The engines' state is newer than the store's, for objects that they have in memory.
        let mut views: BTreeMap<ObjectId, ObjectView> =
            stored.iter().map(|record| (record.key.id(), record.into())).collect();
        for mailbox in &self.mailboxes {
            views
                .extend(mailbox.views().await.into_iter().filter(|v| here(v.id)).map(|view| (view.id, view)));
        }
        Ok((views.into_values().collect(), last))
    }
}
