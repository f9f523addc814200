//! Uploads: in one request, or begun, continued and finished in several.

use std::sync::Arc;
use std::time::Instant;

use crate::content::Upload;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use berth_common::image::{Digest, Repository};
use ring::rand::{SecureRandom, SystemRandom};

use super::Registry;
use super::blobs::{CONTENT_DIGEST, insert};
use super::error::{Answered, RegistryError};
use super::lists::parameter;
use super::route::digest;
use super::stream::drain;
use crate::images::ImageError;

/// Random bytes of an upload's id: too many to guess.
const ID_BYTES: usize = 16;

impl Registry {
    /// Begins an upload; or stores a whole blob, if the request has its digest; or mounts a blob that exists already.
    pub(super) async fn begin(self: &Arc<Self>, name: Repository, request: Request) -> Answered<Response> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        if let Some(wanted) = parameter(&query, "mount") {
            let wanted = digest(&wanted)?;
            // Blobs belong to no repository, so it does not matter which one it is mounted from.
            if self.images.with_store(move |_, content| Ok(content.size(&wanted)?)).await?.is_some() {
                return Ok(created(&name, &wanted));
            }
        }
        if let Some(expected) = parameter(&query, "digest") {
            let expected = digest(&expected)?;
            return self.in_one_request(name, expected, request).await;
        }
        let mut id = [0; ID_BYTES];
        let random = SystemRandom::new().fill(&mut id);
        random.map_err(|_| unavailable("the system has no random bytes"))?;
        let id = hex::encode(id);
        self.images.sessions().begin(id.clone(), name.clone(), Instant::now())?;
        Ok(accepted(StatusCode::ACCEPTED, &name, &id, 0))
    }

    async fn in_one_request(
        self: &Arc<Self>,
        name: Repository,
        expected: Digest,
        request: Request,
    ) -> Answered<Response> {
        let upload = self.images.content().begin()?;
        let (upload, received) = self.receive(upload, request.into_body(), drop).await;
        received?;
        let upload = upload.ok_or(ImageError::Stopping)?;
        self.store_blob(upload, expected).await?;
        Ok(created(&name, &expected))
    }

    /// The progress of an upload.
    pub(super) fn upload(&self, name: &Repository, id: &str) -> Answered<Response> {
        let length = self.images.sessions().length(id, name, Instant::now())?;
        Ok(accepted(StatusCode::NO_CONTENT, name, id, length))
    }

    /// Appends a chunk.
    pub(super) async fn go_on(
        self: &Arc<Self>,
        name: Repository,
        id: String,
        request: Request,
    ) -> Answered<Response> {
        let upload = self.add_to(&name, &id, request).await?;
        let length = upload.length();
        self.images.sessions().put_back(&id, upload, Instant::now());
        Ok(accepted(StatusCode::ACCEPTED, &name, &id, length))
    }

    /// Appends the last chunk, which may be empty, and stores the blob.
    pub(super) async fn finish(
        self: &Arc<Self>,
        name: Repository,
        id: String,
        request: Request,
    ) -> Answered<Response> {
        let expected = parameter(request.uri().query().unwrap_or_default(), "digest");
        let expected = digest(&expected.unwrap_or_default())?;
        let upload = self.add_to(&name, &id, request).await?;
        // The upload ends, whether its digest is right or wrong.
        self.images.sessions().remove(&id, &name);
        self.store_blob(upload, expected).await?;
        Ok(created(&name, &expected))
    }

    pub(super) fn cancel(&self, name: &Repository, id: &str) -> Answered<Response> {
        if self.images.sessions().remove(id, name) {
            Ok(StatusCode::NO_CONTENT.into_response())
        } else {
            Err(crate::sessions::SessionError::Unknown.into())
        }
    }

    /// Takes an upload and appends a request's body. After an error it can be continued, unless there is no space for
    /// more: then it is dropped, as the space it holds is of use to others.
    async fn add_to(self: &Arc<Self>, name: &Repository, id: &str, request: Request) -> Answered<Upload> {
        let upload = self.images.sessions().take(id, name, Instant::now())?;
        if let Err(error) = fits(request.headers(), upload.length()) {
            let length = upload.length();
            self.images.sessions().put_back(id, upload, Instant::now());
            drain(request.into_body()).await;
            return Err(with_location(error, name, id, length));
        }
        let (registry, its_name, its_id) = (Arc::clone(self), name.clone(), id.to_owned());
        let alone = move |upload| registry.give_back(&its_name, &its_id, upload);
        match self.receive(upload, request.into_body(), alone).await {
            (Some(upload), Ok(())) => Ok(upload),
            (Some(upload), Err(error)) if error.is_out_of_space() => {
                upload.discard();
                self.images.sessions().remove(id, name);
                Err(error)
            }
            (upload, received) => {
                self.give_back(name, id, upload);
                received.and(Err(ImageError::Stopping.into()))
            }
        }
    }

    /// Puts an upload back so that it can be continued, also if it was lost in a panic; or by the next edge, if it was lost
    /// as this one ends.
    fn give_back(&self, name: &Repository, id: &str, upload: Option<Upload>) {
        match upload {
            Some(upload) => self.images.sessions().put_back(id, upload, Instant::now()),
            None => self.images.sessions().recover(id, name, Instant::now()),
        }
    }

    async fn store_blob(&self, upload: Upload, expected: Digest) -> Answered<()> {
        let placed = self.images.with_store(move |_, _| Ok(upload.finish(&expected)?)).await;
        Ok(placed.map(|_| ())?)
    }
}

/// Whether a chunk begins where the upload ends, and has the announced length, if the request says so.
fn fits(headers: &HeaderMap, length: u64) -> Answered<()> {
    let Some(range) = headers.get(header::CONTENT_RANGE) else { return Ok(()) };
    let wrong = |message: String| {
        Err(RegistryError::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", message))
    };
    let text = range.to_str().unwrap_or_default();
    let text = text.strip_prefix("bytes ").unwrap_or(text);
    let text = text.split_once('/').map_or(text, |(range, _)| range);
    let numbers =
        text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    let Some((first, last)): Option<(u64, u64)> = numbers else {
        return wrong("the Content-Range is not valid: FIRST-LAST is expected".to_owned());
    };
    if first != length {
        return wrong(format!("the upload has {length} bytes, and the piece begins at {first}"));
    }
    let said = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match last.checked_sub(first).and_then(|count| count.checked_add(1)) {
        Some(count) if said.is_none_or(|said| said == count) => Ok(()),
        _ => wrong("the Content-Range is not as long as the body".to_owned()),
    }
}

fn with_location(error: RegistryError, name: &Repository, id: &str, length: u64) -> RegistryError {
    let location = HeaderValue::from_str(&location(name, id));
    let range = HeaderValue::from_str(&range(length));
    let error = location.into_iter().fold(error, |error, value| error.with_header(header::LOCATION, value));
    range.into_iter().fold(error, |error, value| error.with_header(header::RANGE, value))
}

fn location(name: &Repository, id: &str) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

/// The range of the received bytes. An empty one cannot be expressed, and is written as clients expect it.
fn range(length: u64) -> String {
    format!("0-{}", length.saturating_sub(1))
}

fn accepted(status: StatusCode, name: &Repository, id: &str, length: u64) -> Response {
    let mut response = status.into_response();
    let headers = response.headers_mut();
    insert(headers, "location", &location(name, id));
    insert(headers, "range", &range(length));
    insert(headers, "docker-upload-uuid", id);
    response
}

fn created(name: &Repository, digest: &Digest) -> Response {
    let mut response = StatusCode::CREATED.into_response();
    insert(response.headers_mut(), "location", &format!("/v2/{name}/blobs/{digest}"));
    insert(response.headers_mut(), CONTENT_DIGEST, &digest.to_string());
    response
}

fn unavailable(message: &str) -> RegistryError {
    RegistryError::new(StatusCode::SERVICE_UNAVAILABLE, "UNKNOWN", message)
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use axum::body::{Body, Bytes};
    use berth_store::{Scope, SledStore, Store, TokenId};
    use futures_util::stream;

    use super::super::TokenLookup;
    use super::*;
    use crate::images::{ImageLimits, Images};

    struct NoTokens;

    impl TokenLookup for NoTokens {
        fn identify(&self, _: &str) -> Option<(TokenId, Scope)> {
            None
        }

        fn scope_of(&self, _: TokenId) -> Option<Scope> {
            None
        }
    }

    #[tokio::test]
    async fn an_upload_whose_request_panics_can_be_continued() {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SledStore::open(&directory.path().join("store")).unwrap());
        let limits = ImageLimits { image_bytes: 1_000, total_bytes: 1_000 };
        let images = Images::open(&directory.path().join("images"), limits, store).unwrap();
        let registry = Arc::new(Registry::new(images, Arc::new(NoTokens)).unwrap());
        let name: Repository = "r".parse().unwrap();
        let begun = registry.begin(name.clone(), Request::new(Body::empty())).await.ok().unwrap();
        let id = begun.headers()["docker-upload-uuid"].to_str().unwrap().to_owned();
        let go_on = |body| registry.go_on(name.clone(), id.clone(), Request::new(body));
        assert!(go_on(Body::from("he")).await.is_ok());
        let fails = stream::poll_fn(|_| -> Poll<Option<std::io::Result<Bytes>>> { panic!("on purpose") });
        assert!(go_on(Body::from_stream(fails)).await.is_err());
        let went_on = go_on(Body::from("y")).await.ok().unwrap();
        assert_eq!(went_on.headers()[header::RANGE], "0-2");
    }

    #[test]
    fn chunks_must_be_contiguous() {
        let fits = |range: &'static str, body: u64, length: u64| {
            let mut headers =
                HeaderMap::from_iter([(header::CONTENT_RANGE, HeaderValue::from_static(range))]);
            headers.insert(header::CONTENT_LENGTH, body.into());
            fits(&headers, length).is_ok()
        };
        assert!(fits("0-4", 5, 0) && fits("5-5", 1, 5) && fits("bytes 5-9/10", 5, 5));
        assert!(!fits("1-4", 4, 0) && !fits("0-4", 5, 5) && !fits("0-4", 4, 0) && !fits("4-0", 5, 4));
        assert!(!fits("", 1, 0) && !fits("0-18446744073709551615", 1, 0));
    }
}
