//! Manifests: read, put, and deleted.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use berth_common::image::{Algorithm, Digest, Named, Pick, Repository, Tag};
use berth_images::manifest::{MANIFEST_TYPES, MAX_DOCUMENT_BYTES, Manifest};

use super::Registry;
use super::blobs::{CONTENT_DIGEST, insert};
use super::error::{Answered, RegistryError};
use super::stream;
use crate::images::ImageError;

/// Most tags of one request: the specification wants at least ten.
const MAX_TAGS: usize = 32;

impl Registry {
    /// Returns the stored manifest, whatever `Accept` says: manifests are not converted.
    pub(super) async fn manifest(
        &self,
        repository: Repository,
        pick: Pick,
        whole: bool,
    ) -> Answered<Response> {
        let named = Named { repository, pick };
        let digest = self.images.resolve(&named).await?.ok_or_else(RegistryError::no_manifest)?;
        let repository = named.repository;
        let found = self.images.with_store(move |store, content| {
            // Counts as an access, so that the manifest is not collected for a while.
            let there = content.size(&digest)?.is_some();
            let record = store.manifest(&repository, &digest)?.filter(|_| there);
            let bytes = if whole { content.read(&digest, MAX_DOCUMENT_BYTES)? } else { None };
            Ok(record.map(|record| (record, bytes)))
        });
        let (record, bytes) = found.await?.ok_or_else(RegistryError::no_manifest)?;
        if whole {
            self.counts.pulls.count();
        }
        let mut response = Body::from(bytes.unwrap_or_default()).into_response();
        let headers = response.headers_mut();
        insert(headers, "content-type", &record.media_type);
        headers.insert(header::CONTENT_LENGTH, record.size.into());
        insert(headers, "etag", &format!("\"{digest}\""));
        insert(headers, CONTENT_DIGEST, &digest.to_string());
        Ok(response)
    }

    pub(super) async fn put_manifest(
        &self,
        repository: Repository,
        pick: Pick,
        request: Request,
    ) -> Answered<Response> {
        let said = said_kind(request.headers());
        let tags = tags(&pick, request.uri().query().unwrap_or_default())?;
        let bytes = stream::read_all(request.into_body(), MAX_DOCUMENT_BYTES).await?;
        let manifest = Manifest::read(&bytes).map_err(ImageError::from)?;
        if let Some(said) = said.filter(|said| said != manifest.media_type()) {
            let found = manifest.media_type().to_owned();
            return Err(ImageError::MediaType { said, found }.into());
        }
        let algorithm = match &pick {
            Pick::Digest(expected) => expected.algorithm(),
            Pick::Tag(_) => Algorithm::Sha256,
        };
        let found = Digest::with(algorithm, &bytes);
        if let Pick::Digest(expected) = &pick
            && *expected != found
        {
            return Err(other_digest(expected, &found));
        }
        self.images.put_manifest(&repository, &tags, algorithm, bytes).await?;
        self.counts.pushes.count();
        let mut response = StatusCode::CREATED.into_response();
        let headers = response.headers_mut();
        insert(headers, "location", &format!("/v2/{repository}/manifests/{found}"));
        insert(headers, CONTENT_DIGEST, &found.to_string());
        if let Some(subject) = manifest.subject() {
            insert(headers, "oci-subject", &subject.digest.to_string());
        }
        if let Pick::Digest(_) = pick {
            for tag in tags.iter().filter_map(|tag| HeaderValue::from_str(tag.as_str()).ok()) {
                headers.append("oci-tag", tag);
            }
        }
        Ok(response)
    }

    /// Deletes a tag, or a manifest with its tags. An image that an app uses is refused.
    pub(super) async fn delete_manifest(&self, repository: Repository, pick: Pick) -> Answered<Response> {
        self.images.delete(&Named { repository, pick }, false).await?;
        Ok(StatusCode::ACCEPTED.into_response())
    }
}

/// The tags that a manifest is to have: that of its path, or those that the query names beside a digest.
fn tags(pick: &Pick, query: &str) -> Answered<Vec<Tag>> {
    if let Pick::Tag(tag) = pick {
        return Ok(vec![tag.clone()]);
    }
    let named = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "tag");
    let parse = |tag: &str| tag.parse().map_err(|error| RegistryError::name("the tag", error));
    let tags: Vec<Tag> = named.map(|(_, tag)| parse(&tag)).collect::<Answered<_>>()?;
    if tags.len() > MAX_TAGS {
        let message = format!("{} tags are given at once, and {MAX_TAGS} are the most", tags.len());
        return Err(RegistryError::new(StatusCode::PAYLOAD_TOO_LARGE, "TAG_INVALID", message));
    }
    Ok(tags)
}

/// The media type of the request, if it has one.
fn said_kind(headers: &HeaderMap) -> Option<String> {
    let said = headers.get(header::CONTENT_TYPE).and_then(|value: &HeaderValue| value.to_str().ok())?;
    let said = said.split(';').next().unwrap_or_default().trim().to_owned();
    // Tools without a specific media type send one of these.
    let nothing = ["", "application/json", "application/octet-stream", "application/x-www-form-urlencoded"];
    let known = MANIFEST_TYPES.contains(&said.as_str());
    (known || !nothing.contains(&said.as_str())).then_some(said)
}

fn other_digest(expected: &Digest, found: &Digest) -> RegistryError {
    let message = format!("the manifest has the digest {found}, not {expected}");
    RegistryError::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message)
}
