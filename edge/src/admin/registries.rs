//! Users of other registries: given, listed without their passwords, forgotten.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use berth_common::image::Registry;
use berth_common::secret::Secret;
use berth_registry::content::ContentError;
use berth_registry::images::ImageError;
use berth_registry::remote::{Login, RemoteError, canonical};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Admin;
use super::problem::{Conflicting, Denied, Missing, Problem, Unavailable, Wrong};
use super::read::{self, Body, Parameters};
use crate::secrets::{RegistryView, check_login};

/// A user and a password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    /// Up to 256 bytes without colons.
    username: String,
    /// Or a token that the registry takes in its place; up to 16 KiB.
    #[schema(value_type = String, format = Password)]
    password: Password,
}

/// A text that is wiped when it is dropped.
pub(super) struct Password(Secret);

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|text| Self(Secret::new(text)))
    }
}

impl From<Credentials> for Login {
    fn from(Credentials { username, password }: Credentials) -> Self {
        Self { username, password: password.0 }
    }
}

impl Credentials {
    /// A login that registries can be told.
    pub(super) fn check(self) -> Result<Login, Problem> {
        let login = Login::from(self);
        check_login(&login)?;
        Ok(login)
    }
}

/// A registry that the edge knows a user of.
#[derive(Serialize, ToSchema)]
struct RegistryEntry {
    #[schema(value_type = String)]
    host: Registry,
    username: String,
    /// When the password was given, in milliseconds since 1970.
    updated_ms: u64,
    /// Whether the edge can decrypt the password with the keys that it has.
    readable: bool,
}

/// The registries that the edge knows users of.
#[derive(Serialize, ToSchema)]
pub(super) struct RegistryList {
    /// In the order of their names.
    registries: Vec<RegistryEntry>,
}

/// How a user is taken.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Checked {
    /// Without asking the registry whether it knows them.
    #[serde(default = "yes")]
    #[param(required = false, default = true)]
    verify: bool,
}

fn yes() -> bool {
    true
}

impl From<RemoteError> for Problem {
    fn from(error: RemoteError) -> Self {
        let detail = error.to_string();
        let title = "the registry was not used";
        let status = match error {
            RemoteError::Login(error) => return error.into(),
            RemoteError::Image(ImageError::Content(ContentError::Quota { .. })) => {
                StatusCode::INSUFFICIENT_STORAGE
            }
            RemoteError::Image(error) => return error.into(),
            RemoteError::Content(ContentError::Quota { .. }) => StatusCode::INSUFFICIENT_STORAGE,
            RemoteError::Internal(_) | RemoteError::Io(_) | RemoteError::Content(ContentError::Io(_)) => {
                return Self::internal(&error);
            }
            RemoteError::Missing(_) | RemoteError::NotHere(_) => StatusCode::NOT_FOUND,
            RemoteError::LoginNeeded { .. } | RemoteError::Refused { .. } => StatusCode::CONFLICT,
            RemoteError::Platform { .. }
            | RemoteError::TooManyChildren(_)
            | RemoteError::Name { .. }
            | RemoteError::OtherDigest { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            RemoteError::TimedOut(_) | RemoteError::TooSlow { .. } | RemoteError::TooLong(_) => {
                StatusCode::GATEWAY_TIMEOUT
            }
            _ => StatusCode::BAD_GATEWAY,
        };
        Self::new(status, title, detail)
    }
}

/// Lists the registries that the edge knows users of. No resource shows their passwords.
#[utoipa::path(get, path = "/v1/registries", tag = "images", responses((status = 200, body = RegistryList), Denied))]
pub(super) async fn list(State(admin): State<Arc<Admin>>) -> Result<Json<RegistryList>, Problem> {
    let secrets = Arc::clone(&admin.secrets);
    let views = tokio::task::spawn_blocking(move || secrets.registries()).await;
    let views = views.map_err(|error| Problem::internal(&error))??;
    let entry = |RegistryView { registry, username, updated_ms, readable }| RegistryEntry {
        host: registry,
        username,
        updated_ms,
        readable,
    };
    Ok(Json(RegistryList { registries: views.into_iter().map(entry).collect() }))
}

/// Keeps a user and a password for a registry, in place of those that are known. The registry is asked first whether it takes
/// them, unless `verify` is false; 409 and 502 say what it answered. Answered once they are durable.
#[utoipa::path(put, path = "/v1/registries/{host}", tag = "images",
    params(("host" = String, Path, max_length = 255, description = "With the port where it is not the usual one"), Checked),
    request_body = Credentials,
    responses((status = 204), Denied, Wrong, Missing, Conflicting, Unavailable))]
pub(super) async fn put(
    State(admin): State<Arc<Admin>>,
    Path(host): Path<String>,
    Parameters(checked): Parameters<Checked>,
    Body(credentials): Body<Credentials>,
) -> Result<StatusCode, Problem> {
    let registry = canonical(&read::name("host", &host)?);
    let login = credentials.check()?;
    if checked.verify {
        admin.remote.check(&registry, login.clone()).await?;
    }
    admin.secrets.put_login(registry, login).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Forgets the user of a registry. Answered once that is durable.
#[utoipa::path(delete, path = "/v1/registries/{host}", tag = "images",
    params(("host" = String, Path, max_length = 255)),
    responses((status = 204), Denied, Missing,
        (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    Path(host): Path<String>,
) -> Result<StatusCode, Problem> {
    let registry = canonical(&read::name("host", &host)?);
    if admin.secrets.delete_login(&registry).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    let detail = format!("the edge knows no user of {registry}");
    Err(Problem::new(StatusCode::NOT_FOUND, "no such registry", detail))
}
