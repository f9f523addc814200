//! The key-value store of objects. Changes are durable when they are answered.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use berth_api::kv::{Batch, KeyPage, KeyView, MAX_CHANGES, MAX_KEY_BYTES, MAX_VALUE_BYTES, Put};
use berth_api::lists::{KeyListing, Paged};
use berth_common::ids::ObjectId;
use berth_store::{self as store, KvChange, Write};

use super::Admin;
use super::problem::{Denied, Missing, Problem, Wrong};
use super::read::{Body, Parameters, Raw, invalid, object_id};

/// Largest body of a batch, in bytes: the most changes of the largest size, base64-encoded, with the JSON around them.
pub(super) const MAX_BATCH_BYTES: usize = 2 * MAX_CHANGES * (MAX_KEY_BYTES + MAX_VALUE_BYTES);
/// Keys on a page by default.
const PAGE: usize = 1_000;

fn change(put: Put, index: usize) -> Result<KvChange, Problem> {
    let field = format!("put[{index}]");
    let value = match (put.value, put.value_base64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(text)) => {
            BASE64_STANDARD.decode(text).map_err(|error| invalid(&format!("{field}.value_base64"), error))?
        }
        _ => return Err(invalid(&field, "needs a value or a value_base64")),
    };
    Ok(KvChange { key: checked(&format!("{field}.key"), put.key)?, value: Some(sized(&field, value)?) })
}

/// Lists an object's keys.
#[utoipa::path(get, path = "/v1/containers/{id}/kv", tag = "kv",
    params(("id" = String, Path, pattern = "^[0-9a-f]{32}$"), KeyListing),
    responses((status = 200, body = KeyPage), Denied, Wrong))]
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    Parameters(listing): Parameters<KeyListing>,
) -> Result<Json<KeyPage>, Problem> {
    let object = object_id(&id)?;
    let (cursor, limit) = listing.page::<String>(PAGE)?;
    let store = Arc::clone(&admin.store);
    let found =
        tokio::task::spawn_blocking(move || store.keys(object, &listing.prefix, cursor.as_deref(), limit))
            .await;
    let found = found.map_err(|error| Problem::internal(&error))??;
    let next_cursor = found.last().filter(|_| found.len() == limit).map(|(key, _)| key.clone());
    let keys = found.into_iter().map(|(key, bytes)| KeyView { key, bytes }).collect();
    Ok(Json(KeyPage { keys, next_cursor }))
}

/// Returns the value of a key.
#[utoipa::path(get, path = "/v1/containers/{id}/kv/{key}", tag = "kv",
    params(("id" = String, Path, pattern = "^[0-9a-f]{32}$"), ("key" = String, Path)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"), Denied, Missing, Wrong))]
pub(super) async fn get(
    State(admin): State<Arc<Admin>>,
    Path((id, key)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let (object, key) = (object_id(&id)?, checked("key", key)?);
    let value = admin.store.value(object, &key)?.ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "no such key", format!("the object has no value under {key:?}"))
    })?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], value).into_response())
}

/// Sets the value of a key. Responds once that is durable.
#[utoipa::path(put, path = "/v1/containers/{id}/kv/{key}", tag = "kv",
    params(("id" = String, Path, pattern = "^[0-9a-f]{32}$"), ("key" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 204), Denied, Wrong))]
pub(super) async fn put(
    State(admin): State<Arc<Admin>>,
    Path((id, key)): Path<(String, String)>,
    Raw(body): Raw,
) -> Result<StatusCode, Problem> {
    let (object, key) = (object_id(&id)?, checked("key", key)?);
    let value = Some(sized("the value", body.to_vec())?);
    admin.change(object, vec![KvChange { key, value }]).await
}

/// Deletes a key, if it exists. Responds once that is durable.
#[utoipa::path(delete, path = "/v1/containers/{id}/kv/{key}", tag = "kv",
    params(("id" = String, Path, pattern = "^[0-9a-f]{32}$"), ("key" = String, Path)),
    responses((status = 204), Denied, Wrong))]
pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    Path((id, key)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let (object, key) = (object_id(&id)?, checked("key", key)?);
    admin.change(object, vec![KvChange { key, value: None }]).await
}

/// Applies several changes, all of them or none. Responds once they are durable.
#[utoipa::path(post, path = "/v1/containers/{id}/kv", tag = "kv", request_body = Batch,
    params(("id" = String, Path, pattern = "^[0-9a-f]{32}$")),
    responses((status = 204), Denied, Wrong))]
pub(super) async fn batch(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    Body(Batch { put, delete }): Body<Batch>,
) -> Result<StatusCode, Problem> {
    let object = object_id(&id)?;
    if put.len() + delete.len() > MAX_CHANGES {
        return Err(invalid("put", format!("at most {MAX_CHANGES} changes are made together")));
    }
    let puts = put.into_iter().enumerate().map(|(index, put)| change(put, index));
    let deletes = delete
        .into_iter()
        .enumerate()
        .map(|(index, key)| Ok(KvChange { key: checked(&format!("delete[{index}]"), key)?, value: None }));
    let changes: Vec<KvChange> = puts.chain(deletes).collect::<Result<_, Problem>>()?;
    let mut keys: Vec<&str> = changes.iter().map(|change| change.key.as_str()).collect();
    keys.sort_unstable();
    if let Some(twice) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(invalid("put", format!("the key {:?} is changed twice", twice[0])));
    }
    admin.change(object, changes).await
}

fn checked(field: &str, key: String) -> Result<String, Problem> {
    let fault = if key.is_empty() || key.len() > MAX_KEY_BYTES {
        Some(format!("must have 1 to {MAX_KEY_BYTES} bytes"))
    } else {
        let control = key.chars().find(|c| c.is_control());
        control.map(|c| format!("holds the control character {c:?}, which is not allowed"))
    };
    fault.map_or(Ok(key), |fault| Err(invalid(field, fault)))
}

fn sized(field: &str, value: Vec<u8>) -> Result<Vec<u8>, Problem> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(invalid(
            field,
            format!("is {} bytes long; at most {MAX_VALUE_BYTES} are allowed", value.len()),
        ));
    }
    Ok(value)
}

impl Admin {
    async fn change(&self, object: ObjectId, changes: Vec<KvChange>) -> Result<StatusCode, Problem> {
        store::write(&*self.store, Write::Kv { object, changes }).await?;
        Ok(StatusCode::NO_CONTENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_have_limits() {
        assert!(checked("k", "größe/1".to_owned()).is_ok());
        for bad in ["", "a\u{7}", "a\0b", &"x".repeat(MAX_KEY_BYTES + 1)] {
            assert!(checked("k", bad.to_owned()).is_err(), "{bad:?}");
        }
        assert!(
            sized("v", vec![0; MAX_VALUE_BYTES]).is_ok() && sized("v", vec![0; MAX_VALUE_BYTES + 1]).is_err()
        );
    }
}
