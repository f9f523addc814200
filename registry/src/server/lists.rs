//! Lists of repositories, of tags, and of manifests that refer to another one. In pages; a `Link` header leads to the
//! next.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use berth_common::image::{Digest, Repository, Tag};
use berth_images::manifest::OCI_INDEX;
use berth_store::{ManifestRecord, Store, Subject};
use serde_json::{Value, json};

use super::Registry;
use super::blobs::insert;
use super::error::{Answered, RegistryError};
use crate::images::ImageError;

/// Most entries of a page, and the default.
const PAGE: usize = 1_000;
/// Most referrers of a page: each may have many annotations.
const REFERRERS_PAGE: usize = 100;

/// The requested part of a list.
struct Wanted {
    count: usize,
    after: Option<String>,
}

impl Wanted {
    fn read(query: &str) -> Answered<Self> {
        let count = match parameter(query, "n") {
            None => PAGE,
            Some(text) => text.parse::<usize>().map_err(|_| wrong("n is not a number"))?.min(PAGE),
        };
        Ok(Self { count, after: parameter(query, "last").filter(|last| !last.is_empty()) })
    }

    fn after<T: std::str::FromStr>(&self) -> Answered<Option<T>> {
        self.after.as_deref().map(str::parse).transpose().map_err(|_| wrong("last names nothing"))
    }
}

fn wrong(message: &str) -> RegistryError {
    RegistryError::new(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", message)
}

/// A query parameter, decoded.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// The first `count` of these, and whether there are more.
fn cut<T>(mut list: Vec<T>, count: usize) -> (Vec<T>, bool) {
    let more = list.len() > count;
    list.truncate(count);
    (list, more)
}

impl Registry {
    pub(super) async fn catalog(&self, query: Option<&str>) -> Answered<Response> {
        let wanted = Wanted::read(query.unwrap_or_default())?;
        let (after, count): (Option<Repository>, _) = (wanted.after()?, wanted.count);
        let found =
            self.images.with_store(move |store, _| Ok(store.repositories(after.as_ref(), count + 1)?));
        let (names, more) = cut(found.await?, count);
        let next = names.last().filter(|_| more).map(|last| format!("/v2/_catalog?n={count}&last={last}"));
        Ok(linked(Json(json!({"repositories": names})).into_response(), next))
    }

    pub(super) async fn tags(&self, name: Repository, query: Option<&str>) -> Answered<Response> {
        let wanted = Wanted::read(query.unwrap_or_default())?;
        let (after, count): (Option<Tag>, _) = (wanted.after()?, wanted.count);
        let repository = name.clone();
        let found = self.images.with_store(move |store, _| {
            let known = !store.manifests(&repository, None, 1)?.is_empty();
            let tags = store.tags(&repository, after.as_ref(), count + 1)?;
            Ok(known.then_some(tags))
        });
        let (tags, more) = cut(found.await?.ok_or_else(RegistryError::no_repository)?, count);
        let tags: Vec<Tag> = tags.into_iter().map(|record| record.tag).collect();
        let next = tags.last().filter(|_| more);
        let next = next.map(|last| format!("/v2/{name}/tags/list?n={count}&last={last}"));
        Ok(linked(Json(json!({"name": name, "tags": tags})).into_response(), next))
    }

    /// The manifests of a repository that refer to this one, whether it exists or not.
    pub(super) async fn referrers(
        &self,
        name: Repository,
        subject: Digest,
        query: Option<&str>,
    ) -> Answered<Response> {
        let query = query.unwrap_or_default();
        let kind = parameter(query, "artifactType").filter(|kind| !kind.is_empty());
        let after: Option<Digest> = Wanted::read(query)?.after()?;
        let (repository, wanted_kind) = (name.clone(), kind.clone());
        let found = self.images.with_store(move |store, _| {
            referrers(store, &repository, &subject, wanted_kind.as_deref(), after)
        });
        let (records, more) = cut(found.await?, REFERRERS_PAGE);
        let next = records.last().filter(|_| more).map(|last| {
            let kind = kind.as_deref().map(encoded).unwrap_or_default();
            format!("/v2/{name}/referrers/{subject}?artifactType={kind}&last={}", last.digest)
        });
        let manifests: Vec<Value> = records.iter().map(descriptor).collect();
        let body = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).to_string();
        let mut response = ([(header::CONTENT_TYPE, OCI_INDEX)], body).into_response();
        if kind.is_some() {
            insert(response.headers_mut(), "oci-filters-applied", "artifactType");
        }
        Ok(linked(response, next))
    }
}

/// One more than a page has, to find out whether there are more.
fn referrers(
    store: &dyn Store,
    repository: &Repository,
    subject: &Digest,
    kind: Option<&str>,
    mut after: Option<Digest>,
) -> Result<Vec<ManifestRecord>, ImageError> {
    let mut found = Vec::new();
    while found.len() <= REFERRERS_PAGE {
        let page = store.manifests(repository, after.as_ref(), PAGE)?;
        let Some(last) = page.last() else { break };
        after = Some(last.digest);
        let about = |record: &ManifestRecord| {
            let of = record.subject.as_ref().filter(|of| of.digest == *subject);
            of.is_some_and(|of| kind.is_none_or(|kind| of.artifact_type.as_deref() == Some(kind)))
        };
        found.extend(page.into_iter().filter(about));
    }
    Ok(found)
}

fn descriptor(record: &ManifestRecord) -> Value {
    let mut descriptor =
        json!({"mediaType": record.media_type, "digest": record.digest, "size": record.size});
    if let Some(Subject { artifact_type, annotations, .. }) = &record.subject {
        if let Some(kind) = artifact_type {
            descriptor["artifactType"] = json!(kind);
        }
        if !annotations.is_empty() {
            descriptor["annotations"] = json!(annotations);
        }
    }
    descriptor
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn linked(mut response: Response, next: Option<String>) -> Response {
    let link = next.and_then(|next| HeaderValue::from_str(&format!("<{next}>; rel=\"next\"")).ok());
    if let Some(link) = link {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}
