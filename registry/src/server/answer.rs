//! Handles a request once it is authenticated and its path is parsed.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use berth_store::Scope;
use serde_json::json;

use super::error::{Answered, RegistryError};
use super::route::{Reference, Route};
use super::{API_VERSION, Access, Registry};

/// Says that this is a registry, and that the client is authenticated (`GET /v2/`).
pub(super) async fn ping(State(registry): State<Arc<Registry>>, request: Request) -> Response {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return registry.refuse(RegistryError::no_method());
    }
    with_version(Json(json!({})).into_response())
}

pub(super) async fn answer(
    State(registry): State<Arc<Registry>>,
    Extension(access): Extension<Access>,
    Path(rest): Path<String>,
    request: Request,
) -> Response {
    match carry_out(&registry, access, &rest, request).await {
        Ok(response) => with_version(response),
        Err(error) => registry.refuse(error),
    }
}

/// Adds the header that identifies a registry to clients.
pub(super) fn with_version(mut response: Response) -> Response {
    response.headers_mut().insert(API_VERSION.0, HeaderValue::from_static(API_VERSION.1));
    response
}

async fn carry_out(
    registry: &Arc<Registry>,
    Access(scope): Access,
    path: &str,
    request: Request,
) -> Answered<Response> {
    let reads = request.method() == Method::GET || request.method() == Method::HEAD;
    let needed = if reads { Scope::Read } else { Scope::Deploy };
    if scope < needed {
        return Err(RegistryError::denied(needed, scope));
    }
    let route = Route::read(path)?;
    match (request.method().clone(), route) {
        (Method::GET, Route::Catalog) => registry.catalog(request.uri().query()).await,
        (Method::GET, Route::Tags(name)) => registry.tags(name, request.uri().query()).await,
        (Method::GET, Route::Referrers(name, digest)) => {
            registry.referrers(name, digest, request.uri().query()).await
        }
        (method @ (Method::GET | Method::HEAD), Route::Blob(_, digest)) => {
            registry.blob(digest, method == Method::GET, request.headers().clone()).await
        }
        (Method::DELETE, Route::Blob(_, digest)) => registry.delete_blob(digest).await,
        (method, Route::Manifest(name, reference)) => {
            manifest(registry, method, name, reference, request).await
        }
        (Method::POST, Route::Uploads(name)) => registry.begin(name, request).await,
        (Method::GET, Route::Upload(name, id)) => registry.upload(&name, &id),
        (Method::PATCH, Route::Upload(name, id)) => registry.go_on(name, id, request).await,
        (Method::PUT, Route::Upload(name, id)) => registry.finish(name, id, request).await,
        (Method::DELETE, Route::Upload(name, id)) => registry.cancel(&name, &id),
        _ => Err(RegistryError::no_method()),
    }
}

async fn manifest(
    registry: &Arc<Registry>,
    method: Method,
    name: berth_common::image::Repository,
    reference: Reference,
    request: Request,
) -> Answered<Response> {
    let Reference::Sound(pick) = reference else {
        let error = RegistryError::name("the tag", berth_common::image::ImageNameError::Tag);
        return Err(if method == Method::PUT { error } else { RegistryError::no_manifest() });
    };
    match method {
        Method::GET | Method::HEAD => registry.manifest(name, pick, method == Method::GET).await,
        Method::PUT => registry.put_manifest(name, pick, request).await,
        Method::DELETE => registry.delete_manifest(name, pick).await,
        _ => Err(RegistryError::no_method()),
    }
}
