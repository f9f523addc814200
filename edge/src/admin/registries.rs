//! Logins for other registries: set, listed without passwords, deleted.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use berth_api::registries::{CheckParameters, Credentials, RegistryEntry, RegistryList};
use berth_common::secret::Secret;
use berth_registry::content::ContentError;
use berth_registry::images::ImageError;
use berth_registry::remote::{Login, RemoteError, canonical};

use super::Admin;
use super::problem::{Conflicting, Denied, Missing, Problem, Unavailable, Wrong};
use super::read::{self, Body, Parameters};
use crate::secrets::{RegistryView, check_login};

/// A valid login.
pub(super) fn login(Credentials { username, password }: Credentials) -> Result<Login, Problem> {
    let login = Login { username, password: Secret::new(password.into_text()) };
    check_login(&login)?;
    Ok(login)
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

/// Lists the registries that the edge has logins for. No response contains a password.
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

/// Sets the login for a registry. The registry is asked first whether it accepts the login, unless `verify` is false;
/// the responses 409 and 502 say what it answered. Responds once the login is durable.
#[utoipa::path(put, path = "/v1/registries/{host}", tag = "images",
    params(("host" = String, Path, max_length = 255, description = "With the port where it is not the usual one"), CheckParameters),
    request_body = Credentials,
    responses((status = 204), Denied, Wrong, Missing, Conflicting, Unavailable))]
pub(super) async fn put(
    State(admin): State<Arc<Admin>>,
    Path(host): Path<String>,
    Parameters(checked): Parameters<CheckParameters>,
    Body(credentials): Body<Credentials>,
) -> Result<StatusCode, Problem> {
    let registry = canonical(&read::name("host", &host)?);
    let login = login(credentials)?;
    if checked.verify {
        admin.remote.check(&registry, login.clone()).await?;
    }
    admin.secrets.put_login(registry, login).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes the login for a registry. Responds once that is durable.
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
