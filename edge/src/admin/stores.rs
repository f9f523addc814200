//! The secrets of stores, which apps share: set, deleted, and listed without values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use berth_api::secrets::{SecretStore, SecretStoreList, SharedSecret, SharedSecretList};
use berth_common::ids::{AppName, SecretName, StoreName};

use super::Admin;
use super::problem::{Conflicting, Denied, Missing, Problem, Unavailable, Wrong};
use super::read::{self, Raw};
use super::secrets::value;
use crate::secrets::SecretView;

/// Lists the stores of secrets. A store is there as long as it has a secret.
#[utoipa::path(get, path = "/v1/secret-stores", tag = "secrets", responses((status = 200, body = SecretStoreList), Denied))]
pub(super) async fn stores(State(admin): State<Arc<Admin>>) -> Result<Json<SecretStoreList>, Problem> {
    let secrets = Arc::clone(&admin.secrets);
    let stores = tokio::task::spawn_blocking(move || secrets.stores()).await;
    let stores = stores.map_err(|error| Problem::internal(&error))??;
    let stores = stores.into_iter().map(|(name, secrets)| SecretStore { name, secrets }).collect();
    Ok(Json(SecretStoreList { stores }))
}

/// Lists the secrets of a store; none if there is no such store. No response contains a value.
#[utoipa::path(get, path = "/v1/secret-stores/{store}/secrets", tag = "secrets",
    params(("store" = String, Path, max_length = 63, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$")),
    responses((status = 200, body = SharedSecretList), Denied,
        (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list_shared(
    State(admin): State<Arc<Admin>>,
    Path(store): Path<String>,
) -> Result<Json<SharedSecretList>, Problem> {
    let store: StoreName = read::name("store", &store)?;
    let users = admin.users(&store);
    let secrets = Arc::clone(&admin.secrets);
    let views = tokio::task::spawn_blocking(move || secrets.list(&store)).await;
    let views = views.map_err(|error| Problem::internal(&error))??;
    let entry = |view: SecretView| {
        let SecretView { name, created_ms, updated_ms, version, readable } = view;
        let used_by = users.get(&name).cloned().unwrap_or_default();
        SharedSecret { name, created_ms, updated_ms, version, readable, used_by }
    };
    Ok(Json(SharedSecretList { secrets: views.into_iter().map(entry).collect() }))
}

impl Admin {
    /// The apps whose current programs use secrets of a store, by these.
    fn users(&self, store: &StoreName) -> BTreeMap<SecretName, BTreeSet<AppName>> {
        let mut users: BTreeMap<SecretName, BTreeSet<AppName>> = BTreeMap::new();
        for history in self.apps.all() {
            let spec = &history.current().spec;
            let used = spec.program.iter().flat_map(|program| program.store_secrets.values());
            for secret in used.filter(|secret| secret.store == *store) {
                users.entry(secret.name.clone()).or_default().insert(spec.name.clone());
            }
        }
        users
    }
}

/// Sets a secret of a store; programs that have it in `env` are started anew. Responds once it is durable.
#[utoipa::path(put, path = "/v1/secret-stores/{store}/secrets/{name}", tag = "secrets",
    params(("store" = String, Path, max_length = 63, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$"),
        ("name" = String, Path, max_length = 128, pattern = "^[A-Za-z_][A-Za-z0-9_]*$")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream",
        description = "The value: UTF-8 of up to 64 KiB without zero bytes"),
    responses((status = 204), Denied, Wrong, Conflicting, Unavailable))]
pub(super) async fn put_shared(
    State(admin): State<Arc<Admin>>,
    Path((store, name)): Path<(String, String)>,
    Raw(body): Raw,
) -> Result<StatusCode, Problem> {
    let (store, name) = (read::name("store", &store)?, read::name("name", &name)?);
    admin.secrets.put::<StoreName>(store, name, value(body)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a secret of a store: to programs that have it in `env`, `get()` fails from their next start on, which is at
/// once. Responds once that is durable.
#[utoipa::path(delete, path = "/v1/secret-stores/{store}/secrets/{name}", tag = "secrets",
    params(("store" = String, Path, max_length = 63, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$"),
        ("name" = String, Path, max_length = 128, pattern = "^[A-Za-z_][A-Za-z0-9_]*$")),
    responses((status = 204), Denied, Missing,
        (status = 400, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn delete_shared(
    State(admin): State<Arc<Admin>>,
    Path((store, name)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let (store, name): (StoreName, SecretName) = (read::name("store", &store)?, read::name("name", &name)?);
    let detail = format!("the store `{store}` has no secret `{name}`");
    if admin.secrets.delete(store, name).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::new(StatusCode::NOT_FOUND, "no such secret", detail))
}
