//! Orders to single objects: start, stop, destroy, renew. Reads and checks what is asked; the engine decides.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use berth_common::ids::{AppName, ClassName, ObjectId, ObjectKey, ObjectName};
use berth_common::spec::{ClassSpec, MAX_ENV_BYTES};
use berth_engine::{EndOrder, Input, ObjectView};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Admin, ContainerView, Problem};
use crate::objects::Mailbox;
use crate::proxy::shard_of;

const NOT_READ: &str = "the order cannot be read";
/// Longest time from a signal to SIGKILL that an order may give, in milliseconds: a day, as for a class.
const MAX_GRACE_MS: u64 = 24 * 60 * 60 * 1000;
/// Numbers of the signals of Linux.
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;

type Answer = Result<Json<ContainerView>, Problem>;

/// Body of `POST /v1/containers`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StartOrder {
    app: AppName,
    class: ClassName,
    name: ObjectName,
    /// Added to the class's environment, for this instance alone.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// In place of the class's.
    entrypoint: Option<Vec<String>>,
    /// In place of the class's.
    enable_internet: Option<bool>,
}

/// Body of `POST /v1/containers/ID/stop`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StopOrder {
    signal: Option<i32>,
    grace_ms: Option<u64>,
}

/// Starts an object's instance and waits until its port answers, as a request would.
pub(super) async fn start(State(admin): State<Arc<Admin>>, body: Bytes) -> Answer {
    let order: StartOrder = read(&body)?;
    let class = admin.apps.class(&order.app, &order.class).ok_or_else(|| {
        let detail = format!("there is no class `{}` in an app `{}`", order.class, order.app);
        Problem::new(StatusCode::NOT_FOUND, "no such class", detail)
    })?;
    let key = ObjectKey { app: order.app.clone(), class: order.class.clone(), name: order.name.clone() };
    let id = key.id();
    let own = !order.env.is_empty() || order.entrypoint.is_some() || order.enable_internet.is_some();
    if own && admin.live(id).await.is_some_and(|view| view.instance.is_some()) {
        let detail = "its instance lives already, with what it was started with; stop it first";
        return Err(Problem::new(StatusCode::CONFLICT, "the object runs", detail));
    }
    let class = order.apply(class)?;
    let hold = admin.mailbox(id).acquire(admin.waiters.next(), id, key, Arc::new(class)).await?;
    // From here on it lives as long as after any request.
    drop(hold);
    admin.show(id).await
}

/// Shows one object.
pub(super) async fn show(State(admin): State<Arc<Admin>>, UrlPath(id): UrlPath<String>) -> Answer {
    admin.show(object_id(&id)?).await
}

/// Has an object's instance end with a signal, and SIGKILL after a while.
pub(super) async fn stop(
    State(admin): State<Arc<Admin>>,
    UrlPath(id): UrlPath<String>,
    body: Bytes,
) -> Answer {
    let StopOrder { signal, grace_ms } =
        if body.is_empty() || &body[..] == b"null" { StopOrder::default() } else { read(&body)? };
    if let Some(signal) = signal.filter(|signal| !SIGNALS.contains(signal)) {
        return Err(invalid("signal", &format!("{signal} is not the number of a signal, which is 1 to 64")));
    }
    if grace_ms.is_some_and(|grace| grace > MAX_GRACE_MS) {
        return Err(invalid("grace_ms", &format!("at most {MAX_GRACE_MS} is allowed, which is a day")));
    }
    admin.end(object_id(&id)?, EndOrder::Stop { signal, grace_ms }).await
}

/// Ends an object's instance with SIGKILL, now.
pub(super) async fn destroy(State(admin): State<Arc<Admin>>, UrlPath(id): UrlPath<String>) -> Answer {
    admin.end(object_id(&id)?, EndOrder::Destroy).await
}

/// Counts as activity: the instance sleeps no earlier than `sleep_after` from now.
pub(super) async fn renew(State(admin): State<Arc<Admin>>, UrlPath(id): UrlPath<String>) -> Answer {
    let object = object_id(&id)?;
    let instance = admin.live(object).await.and_then(|view| view.instance).ok_or_else(|| {
        Problem::new(StatusCode::CONFLICT, "the object is stopped", "it has no instance to be kept up")
    })?;
    admin.mailbox(object).input(Input::Touch { object, instance });
    admin.show(object).await
}

impl StartOrder {
    /// The class as this one instance is to have it. An order starts also what requests may not.
    fn apply(self, mut class: ClassSpec) -> Result<ClassSpec, Problem> {
        class.manual_start = false;
        let recipe = &mut class.recipe;
        if let Some(name) = self.env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return Err(invalid("env", &format!("{name:?} cannot name a variable")));
        }
        if let Some((name, _)) = self.env.iter().find(|(_, value)| value.contains('\0')) {
            return Err(invalid("env", &format!("the value of {name} holds a zero byte")));
        }
        recipe.env.extend(self.env);
        if recipe.env.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_ENV_BYTES {
            return Err(invalid(
                "env",
                &format!("with the class's own it takes more than {MAX_ENV_BYTES} bytes"),
            ));
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
        self.show(object).await
    }

    async fn show(&self, object: ObjectId) -> Answer {
        self.known(object).await.map(|view| Json(view.into()))
    }

    /// An object as the engine has it, or as it is stored.
    async fn known(&self, object: ObjectId) -> Result<ObjectView, Problem> {
        if let Some(view) = self.live(object).await {
            return Ok(view);
        }
        let store = Arc::clone(&self.store);
        let stored = tokio::task::spawn_blocking(move || store.load(object)).await;
        let record = stored.map_err(|error| Problem::internal(&error))??;
        record.as_ref().map(ObjectView::from).ok_or_else(|| {
            let detail = format!("no object with the id {object} was ever started");
            Problem::new(StatusCode::NOT_FOUND, "no such object", detail)
        })
    }
}

fn object_id(text: &str) -> Result<ObjectId, Problem> {
    text.parse().map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, NOT_READ, format!("the id in the path {error}"))
    })
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, NOT_READ, error.to_string()))
}

fn invalid(field: &str, why: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, NOT_READ, format!("{field}: {why}"))
}
