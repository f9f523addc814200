//! Errors in the format of the OCI distribution specification.

use crate::content::ContentError;
use crate::sessions::SessionError;
use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use berth_common::image::ImageNameError;
use berth_store::Scope;
use serde_json::json;

use crate::images::ImageError;

/// Seconds after which a client may retry without space (`Retry-After`).
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("5");

/// An error: a status, a code that clients know, and what to do.
#[derive(Debug)]
pub(super) struct RegistryError {
    pub(super) status: StatusCode,
    code: &'static str,
    message: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    out_of_space: bool,
}

pub(super) type Answered<T> = Result<T, RegistryError>;

impl RegistryError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), headers: Vec::new(), out_of_space: false }
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "UNSUPPORTED", "there is nothing at this path: see docs/registry.md")
    }

    pub(super) fn no_method() -> Self {
        let message = "this resource has no such method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
    }

    pub(super) fn denied(needed: Scope, has: Scope) -> Self {
        let message = format!("a token with the scope `{needed}` is needed, and this one has `{has}`");
        Self::new(StatusCode::FORBIDDEN, "DENIED", message)
    }

    pub(super) fn no_blob() -> Self {
        Self::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "there is no such blob")
    }

    pub(super) fn no_manifest() -> Self {
        Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "there is no such manifest")
    }

    pub(super) fn no_repository() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "there is no such repository")
    }

    /// A part of the request is invalid.
    pub(super) fn name(what: &str, error: ImageNameError) -> Self {
        let code = match error {
            ImageNameError::Digest => "DIGEST_INVALID",
            ImageNameError::Tag => "TAG_INVALID",
            ImageNameError::Repository | ImageNameError::Registry => "NAME_INVALID",
        };
        Self::new(StatusCode::BAD_REQUEST, code, format!("{what} {error}"))
    }

    /// Whether there is no space for the content, now or ever.
    pub(super) fn is_out_of_space(&self) -> bool {
        self.out_of_space
    }

    /// Whether the client is not permitted, or there is no space.
    pub(super) fn is_refusal(&self) -> bool {
        let statuses = [
            StatusCode::UNAUTHORIZED,
            StatusCode::FORBIDDEN,
            StatusCode::CONFLICT,
            StatusCode::PAYLOAD_TOO_LARGE,
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::INSUFFICIENT_STORAGE,
        ];
        statuses.contains(&self.status)
    }
}

impl From<ImageError> for RegistryError {
    fn from(error: ImageError) -> Self {
        let (status, code) = match &error {
            ImageError::Manifest(_) | ImageError::MediaType { .. } => {
                (StatusCode::BAD_REQUEST, "MANIFEST_INVALID")
            }
            ImageError::MissingPart { .. } => (StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN"),
            ImageError::Size { .. } => (StatusCode::BAD_REQUEST, "SIZE_INVALID"),
            ImageError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
            ImageError::TooMany(_) => (StatusCode::FORBIDDEN, "DENIED"),
            ImageError::Unknown(_) => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            ImageError::Used { .. } | ImageError::Part { .. } => (StatusCode::CONFLICT, "DENIED"),
            ImageError::Session(SessionError::Content(error)) | ImageError::Content(error) => {
                of_content(error)
            }
            ImageError::Session(error) => of_session(error),
            ImageError::Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
            ImageError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "UNKNOWN"),
        };
        let mut answer = Self::new(status, code, error.to_string());
        answer.out_of_space = matches!(
            error,
            ImageError::Content(
                ContentError::Quota { .. } | ContentError::Full { .. } | ContentError::TooLarge { .. }
            )
        );
        match status {
            StatusCode::TOO_MANY_REQUESTS => answer.with_header(header::RETRY_AFTER, RETRY_AFTER_S),
            _ => answer,
        }
    }
}

fn of_session(error: &SessionError) -> (StatusCode, &'static str) {
    match error {
        SessionError::Unknown => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
        SessionError::Busy => (StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID"),
        SessionError::TooMany => (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
        SessionError::Content(error) => of_content(error),
    }
}

fn of_content(error: &ContentError) -> (StatusCode, &'static str) {
    match error {
        ContentError::Digest { .. } => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
        // Not a status at which clients retry: only somebody who frees space helps.
        ContentError::Quota { .. } => (StatusCode::FORBIDDEN, "DENIED"),
        ContentError::TooLarge { .. } | ContentError::Unexpected(_) => {
            (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID")
        }
        ContentError::Busy => (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
        ContentError::Full { .. } => (StatusCode::INSUFFICIENT_STORAGE, "UNKNOWN"),
        ContentError::Io(_) => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
    }
}

impl From<ContentError> for RegistryError {
    fn from(error: ContentError) -> Self {
        ImageError::from(error).into()
    }
}

impl From<SessionError> for RegistryError {
    fn from(error: SessionError) -> Self {
        ImageError::from(error).into()
    }
}

impl IntoResponse for RegistryError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::warn!(status = %self.status, error = %self.message, "registry failed");
        }
        let body = json!({"errors": [{"code": self.code, "message": self.message}]});
        let mut response = (self.status, Json(body)).into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}
