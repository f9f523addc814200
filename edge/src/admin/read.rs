//! Parses requests, and reports which part of one is wrong.

use axum::body::Bytes;
use axum::extract::FromRequest;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use berth_api::lists::PageError;
use berth_common::ids::{ObjectId, Version};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::problem::Problem;
use crate::apps::Expect;

pub(super) const NOT_READ: &str = "the request cannot be read";

/// A required JSON body without unknown fields.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await.map_err(|error| too_large(&error))?;
        json(&bytes).map(Self)
    }
}

/// An optional JSON body: if it is empty or `null`, the default value.
pub(super) struct OptionalBody<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await.map_err(|error| too_large(&error))?;
        let empty = bytes.is_empty() || &bytes[..] == b"null";
        if empty { Ok(Self(T::default())) } else { json(&bytes).map(Self) }
    }
}

/// Query parameters without unknown ones.
pub(super) struct Parameters<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Query::<T>::from_request_parts(parts, state).await;
        let wrong = |error| Problem::field(StatusCode::BAD_REQUEST, NOT_READ, "query", error);
        read.map(|Query(parameters)| Self(parameters)).map_err(wrong)
    }
}

impl From<PageError> for Problem {
    fn from(error: PageError) -> Self {
        match error {
            PageError::Limit { .. } => invalid("limit", error),
            PageError::Cursor(_) => Self::field(StatusCode::BAD_REQUEST, NOT_READ, "cursor", error),
        }
    }
}

/// A body of bytes.
pub(super) struct Raw(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        Bytes::from_request(request, state).await.map(Self).map_err(|error| too_large(&error))
    }
}

fn too_large(rejection: &BytesRejection) -> Problem {
    let status = rejection.status();
    Problem::new(status, "the body was not taken", rejection.body_text())
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        Problem::field(StatusCode::BAD_REQUEST, NOT_READ, path, error.inner())
    })?;
    reader.end().map_err(|error| Problem::field(StatusCode::BAD_REQUEST, NOT_READ, "", error))?;
    Ok(read)
}

/// Converts a JSON value, and refuses unknown fields: for types that serde cannot make strict (`flatten`).
pub(super) fn strict<T: DeserializeOwned + serde::Serialize>(value: Value) -> Result<T, Problem> {
    let read: T = serde_path_to_error::deserialize(&value).map_err(|error| {
        Problem::field(StatusCode::BAD_REQUEST, NOT_READ, error.path().to_string(), error.inner())
    })?;
    let understood = serde_json::to_value(&read).map_err(|error| Problem::internal(&error))?;
    match unknown_field(&value, &understood) {
        Some(field) => Err(Problem::field(StatusCode::BAD_REQUEST, NOT_READ, field, "is not a known field")),
        None => Ok(read),
    }
}

/// The path of the first unknown field.
fn unknown_field(given: &Value, understood: &Value) -> Option<String> {
    match (given, understood) {
        (Value::Object(given), Value::Object(understood)) => {
            given.iter().find_map(|(key, value)| match understood.get(key) {
                None => Some(key.clone()),
                Some(known) => unknown_field(value, known).map(|rest| {
                    if rest.starts_with('[') { format!("{key}{rest}") } else { format!("{key}.{rest}") }
                }),
            })
        }
        (Value::Array(given), Value::Array(understood)) => {
            given.iter().zip(understood).enumerate().find_map(|(index, (value, known))| {
                let rest = unknown_field(value, known)?;
                Some(if rest.starts_with('[') {
                    format!("[{index}]{rest}")
                } else {
                    format!("[{index}].{rest}")
                })
            })
        }
        _ => None,
    }
}

/// Parses an object id from a path.
pub(super) fn object_id(text: &str) -> Result<ObjectId, Problem> {
    text.parse().map_err(|error| Problem::field(StatusCode::BAD_REQUEST, NOT_READ, "id", error))
}

/// Parses a name from a path.
pub(super) fn name<T>(field: &'static str, text: &str) -> Result<T, Problem>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    text.parse().map_err(|error| Problem::field(StatusCode::BAD_REQUEST, NOT_READ, field, error))
}

/// A field has a value that is not allowed.
pub(super) fn invalid(field: &str, why: impl std::fmt::Display) -> Problem {
    Problem::field(StatusCode::UNPROCESSABLE_ENTITY, "the order makes no sense", field, why)
}

/// Parses the condition of a change: `If-Match: "3"`, or `If-None-Match: *`.
pub(super) fn expectation(headers: &HeaderMap) -> Result<Expect, Problem> {
    let wrong = |name: HeaderName, expected| {
        let message = format!("expected {expected}");
        Err(Problem::field(StatusCode::BAD_REQUEST, NOT_READ, name.as_str(), message))
    };
    match (headers.get(header::IF_MATCH), headers.get(header::IF_NONE_MATCH)) {
        (None, None) => Ok(Expect::Anything),
        (None, Some(value)) if value == "*" => Ok(Expect::Nothing),
        (None, Some(_)) => wrong(header::IF_NONE_MATCH, "`*`: the app must not be deployed yet"),
        (Some(value), _) => {
            let tag = value.to_str().ok().and_then(|text| text.strip_prefix('"')?.strip_suffix('"'));
            match tag.and_then(|tag| tag.parse().ok()) {
                Some(version) => Ok(Expect::Version(version)),
                None => wrong(header::IF_MATCH, "the number of a version in quotes, such as \"3\""),
            }
        }
    }
}

/// A version as the `ETag` header.
pub(super) fn etag(version: Version) -> [(HeaderName, String); 1] {
    [(header::ETAG, format!("\"{version}\""))]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_fields_are_found_with_their_path() {
        let understood = json!({"a": {"b": [1, {"c": 2}]}});
        let given = json!({"a": {"b": [1, {"c": 2, "d": 3}]}});
        assert_eq!(unknown_field(&given, &understood), Some("a.b[1].d".to_owned()));
        assert_eq!(unknown_field(&understood, &understood), None);
    }

    #[test]
    fn conditions_are_read() {
        let read = |name: HeaderName, value: &str| {
            expectation(&HeaderMap::from_iter([(name, value.parse().unwrap())])).ok()
        };
        assert_eq!(read(header::IF_MATCH, "\"3\""), Some(Expect::Version(Version(3))));
        assert_eq!(read(header::IF_NONE_MATCH, "*"), Some(Expect::Nothing));
        assert_eq!(read(header::IF_MATCH, "3"), None);
        assert_eq!(read(header::IF_NONE_MATCH, "\"3\""), None);
        assert_eq!(expectation(&HeaderMap::new()).ok(), Some(Expect::Anything));
    }
}
