//! The secrets of apps: set, deleted, and listed without values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use berth_api::secrets::{Rotation, SecretEntry, SecretList, SecretOfApp};
use berth_common::ids::{AppName, ClassName, SecretName};
use berth_common::secret::Secret;
use berth_common::spec::{MAX_SECRET_BYTES, StoredSecret};
use berth_registry::remote::LoginError;
use berth_store::{AppHistory, SecretHolder};

use super::Admin;
use super::problem::{Conflicting, Denied, Missing, Problem, Unavailable, Wrong};
use super::read::{self, Raw, invalid};
use crate::secrets::{Rotated, SecretError, SecretView};

/// Largest body, in bytes. Above the limit of a value, so that a slightly too long one is refused with its length.
pub(super) const MAX_BODY_BYTES: usize = 2 * MAX_SECRET_BYTES;

impl From<SecretError> for Problem {
    fn from(error: SecretError) -> Self {
        let title = "the secret was not changed";
        let detail = error.to_string();
        match error {
            SecretError::NoKeys(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, title, detail),
            SecretError::Missing { .. } => Self::new(StatusCode::NOT_FOUND, title, detail),
            SecretError::BadValue(_) | SecretError::BadLogin(_) | SecretError::TooLarge(_) => {
                invalid("", detail)
            }
            SecretError::TooMany(_) | SecretError::TooManyStores | SecretError::TooManyRegistries => {
                Self::new(StatusCode::CONFLICT, title, detail)
            }
            SecretError::LoginUnreadable { .. } => Self::new(StatusCode::CONFLICT, title, detail),
            SecretError::OtherKey { .. } | SecretError::Damaged { .. } | SecretError::NoRandomness => {
                Self::internal(&error)
            }
            SecretError::Store(error) => error.into(),
        }
    }
}

impl From<LoginError> for Problem {
    fn from(error: LoginError) -> Self {
        let title = "the secret was not changed";
        let detail = error.to_string();
        match error {
            LoginError::Unavailable(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, title, detail),
            LoginError::Unreadable(_) => Self::new(StatusCode::CONFLICT, title, detail),
            LoginError::Store(error) => error.into(),
        }
    }
}

/// Lists the secrets of an app, which need not be deployed. No response contains a value.
#[utoipa::path(get, path = "/v1/apps/{app}/secrets", tag = "secrets",
    params(("app" = String, Path, max_length = 63, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$")),
    responses((status = 200, body = SecretList), Denied,
        (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    Path(app): Path<String>,
) -> Result<Json<SecretList>, Problem> {
    let app: AppName = read::name("app", &app)?;
    let users = admin.apps.get(&app).map(|history| users(&history)).unwrap_or_default();
    let secrets = Arc::clone(&admin.secrets);
    let views = tokio::task::spawn_blocking(move || secrets.list(&app)).await;
    let views = views.map_err(|error| Problem::internal(&error))??;
    let entry = |view: SecretView| {
        let SecretView { name, created_ms, updated_ms, version, readable } = view;
        let used_by = users.get(&name).cloned().unwrap_or_default();
        SecretEntry { name, created_ms, updated_ms, version, readable, used_by }
    };
    Ok(Json(SecretList { secrets: views.into_iter().map(entry).collect() }))
}

/// The classes of the current version by the secrets that they use.
fn users(history: &AppHistory) -> BTreeMap<SecretName, BTreeSet<ClassName>> {
    let mut users: BTreeMap<SecretName, BTreeSet<ClassName>> = BTreeMap::new();
    for (class, spec) in &history.current().spec.classes {
        for name in spec.secret_names() {
            users.entry(name).or_default().insert(class.clone());
        }
    }
    users
}

/// Sets a secret; containers get it when they are started. Responds once it is durable.
#[utoipa::path(put, path = "/v1/apps/{app}/secrets/{name}", tag = "secrets",
    params(("app" = String, Path, max_length = 63, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$"),
        ("name" = String, Path, max_length = 128, pattern = "^[A-Za-z_][A-Za-z0-9_]*$")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream",
        description = "The value: UTF-8 of up to 64 KiB without zero bytes"),
    responses((status = 204), Denied, Wrong, Conflicting, Unavailable))]
pub(super) async fn put(
    State(admin): State<Arc<Admin>>,
    Path((app, name)): Path<(String, String)>,
    Raw(body): Raw,
) -> Result<StatusCode, Problem> {
    let (app, name) = (read::name("app", &app)?, read::name("name", &name)?);
    admin.secrets.put::<AppName>(app, name, value(body)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The value that a body is.
pub(super) fn value(body: Bytes) -> Result<Secret, Problem> {
    // A parse error would reveal the position of the invalid byte, and so something of the value.
    let value = String::from_utf8(body.into()).map(Secret::new);
    value.map_err(|_| invalid("", "the value is not UTF-8, which a variable must be"))
}

/// Deletes a secret. Running containers keep it; those that need it cannot be started any more. Responds once that is
/// durable.
#[utoipa::path(delete, path = "/v1/apps/{app}/secrets/{name}", tag = "secrets",
    params(("app" = String, Path, max_length = 63, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$"),
        ("name" = String, Path, max_length = 128, pattern = "^[A-Za-z_][A-Za-z0-9_]*$")),
    responses((status = 204), Denied, Missing,
        (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    Path((app, name)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let (app, name): (AppName, SecretName) = (read::name("app", &app)?, read::name("name", &name)?);
    let detail = format!("the app `{app}` has no secret `{name}`");
    if admin.secrets.delete(app, name).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::new(StatusCode::NOT_FOUND, "no such secret", detail))
}

/// Reads the key file and encrypts all secrets with its current key. Responds once that is durable; then the older keys
/// can be removed from the file.
#[utoipa::path(post, path = "/v1/secrets/rotate", tag = "secrets",
    responses((status = 200, body = Rotation), Denied, Unavailable))]
pub(super) async fn rotate(State(admin): State<Arc<Admin>>) -> Result<Json<Rotation>, Problem> {
    Ok(Json(rotation(admin.secrets.rotate().await?)))
}

/// What a rotation to a new key would do now: `rotated` is how many secrets and passwords it would encrypt again. Changes
/// nothing.
#[utoipa::path(get, path = "/v1/secrets/rotate", tag = "secrets",
    responses((status = 200, body = Rotation), Denied, Unavailable))]
pub(super) async fn try_rotation(State(admin): State<Arc<Admin>>) -> Result<Json<Rotation>, Problem> {
    Ok(Json(rotation(admin.secrets.try_rotation().await?)))
}

fn rotation(rotated: Rotated) -> Rotation {
    let (mut unreadable, mut unreadable_of_stores) = (Vec::new(), Vec::new());
    for (holder, name) in rotated.unreadable {
        match holder {
            SecretHolder::App(app) => unreadable.push(SecretOfApp { app, name }),
            SecretHolder::Store(store) => unreadable_of_stores.push(StoredSecret { store, name }),
        }
    }
    Rotation {
        current: rotated.current.to_string(),
        rotated: rotated.rotated,
        unreadable,
        unreadable_of_stores,
        unreadable_registries: rotated.unreadable_registries,
        in_use: rotated.in_use.iter().map(ToString::to_string).collect(),
    }
}
