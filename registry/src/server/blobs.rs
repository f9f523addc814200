//! Blobs: checked, read, and deleted.

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use berth_common::image::Digest;

use super::Registry;
use super::error::{Answered, RegistryError};

/// The header with the digest of the content.
pub(super) const CONTENT_DIGEST: &str = "docker-content-digest";

impl Registry {
    /// A blob, or a range of it.
    pub(super) async fn blob(
        self: &Arc<Self>,
        digest: Digest,
        whole: bool,
        headers: HeaderMap,
    ) -> Answered<Response> {
        let found = self.images.with_store(move |_, content| {
            // Counts as an access, so that the blob is not collected for a while.
            content.size(&digest)?;
            Ok(content.get(&digest)?)
        });
        let (file, length) = found.await?.ok_or_else(RegistryError::no_blob)?;
        let (status, part) = match range(&headers, length) {
            Asked::All => (StatusCode::OK, 0..length),
            Asked::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
            Asked::Senseless => return Err(no_such_range(length)),
        };
        let count = part.end - part.start;
        let body = if whole { self.send(file, part.start, count) } else { Body::empty() };
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(header::CONTENT_LENGTH, count.into());
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if status == StatusCode::PARTIAL_CONTENT {
            let range = format!("bytes {}-{}/{length}", part.start, part.end - 1);
            insert(headers, "content-range", &range);
        }
        insert(headers, "etag", &format!("\"{digest}\""));
        insert(headers, CONTENT_DIGEST, &digest.to_string());
        Ok(response)
    }

    pub(super) async fn delete_blob(&self, digest: Digest) -> Answered<Response> {
        if self.images.delete_blob(&digest).await? {
            Ok(StatusCode::ACCEPTED.into_response())
        } else {
            Err(RegistryError::no_blob())
        }
    }
}

/// Sets a header; digests, numbers and names are all valid header values.
pub(super) fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn no_such_range(length: u64) -> RegistryError {
    let message = format!("the blob has {length} bytes, and the range begins behind them");
    let error = RegistryError::new(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", message);
    match HeaderValue::from_str(&format!("bytes */{length}")) {
        Ok(value) => error.with_header(header::CONTENT_RANGE, value),
        Err(_) => error,
    }
}

/// The requested range.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    All,
    Part(Range<u64>),
    Senseless,
}

/// A single range is supported; a request for several gets the whole blob, as RFC 9110 §14.2 permits.
fn range(headers: &HeaderMap, length: u64) -> Asked {
    let text = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let Some((first, last)) = text.and_then(|text| text.strip_prefix("bytes=")?.split_once('-')) else {
        return Asked::All;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let part = match (first.trim(), last.trim()) {
        ("", last) => number(last).map(|count| length.saturating_sub(count)..length),
        (first, "") => number(first).map(|first| first..length),
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Some(first..length.min(last.saturating_add(1))),
            _ => None,
        },
    };
    match part {
        None => Asked::All,
        Some(part) if part.start < part.end => Asked::Part(part),
        Some(_) => Asked::Senseless,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_has_them() {
        let asked = |text: &str| {
            range(&HeaderMap::from_iter([(header::RANGE, HeaderValue::from_str(text).unwrap())]), 10)
        };
        assert_eq!(range(&HeaderMap::new(), 10), Asked::All);
        assert_eq!(asked("bytes=2-4"), Asked::Part(2..5));
        assert_eq!(asked("bytes=2-"), Asked::Part(2..10));
        assert_eq!(asked("bytes=-3"), Asked::Part(7..10));
        assert_eq!(asked("bytes=0-99999999999999999999"), Asked::All);
        assert_eq!(asked("bytes=0-18446744073709551615"), Asked::Part(0..10));
        assert_eq!(asked("bytes=-99"), Asked::Part(0..10));
        assert_eq!(asked("bytes=10-"), Asked::Senseless);
        assert_eq!(asked("bytes=-0"), Asked::Senseless);
        for all in ["bytes=4-2", "bytes=a-b", "lines=1-2", "bytes=1-2,4-5", "bytes"] {
            assert_eq!(asked(all), Asked::All, "{all}");
        }
    }
}
