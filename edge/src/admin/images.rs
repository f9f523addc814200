//! Images: listing, deletion and garbage collection. They are pushed and pulled below `/v2/`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use berth_api::images::{Collection, DeleteParameters, ImageEntry, ImageList, ImageView, Swept};
use berth_api::lists::{Listing, Paged};
use berth_common::image::{Digest, Named, Pick, Repository, Tag};
use berth_registry::images::{ImageError, Uses};
use berth_store::{ManifestRecord, Store};

use super::Admin;
use super::problem::{Conflicting, Denied, Missing, Problem, Wrong};
use super::read::{self, OptionalBody, Parameters, invalid};

/// Images on a page by default.
const PAGE: usize = 100;
/// Tags that are read from the store at once.
const TAGS: usize = 1_000;

impl From<ImageError> for Problem {
    fn from(error: ImageError) -> Self {
        let title = "the images were not changed";
        let detail = error.to_string();
        match error {
            ImageError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, "no such image", detail),
            ImageError::Used { .. } | ImageError::Part { .. } | ImageError::TooMany(_) => {
                Self::new(StatusCode::CONFLICT, title, detail)
            }
            ImageError::Manifest(_)
            | ImageError::MediaType { .. }
            | ImageError::MissingPart { .. }
            | ImageError::Size { .. }
            | ImageError::TooLarge { .. } => Self::new(StatusCode::UNPROCESSABLE_ENTITY, title, detail),
            ImageError::Stopping => Self::new(StatusCode::SERVICE_UNAVAILABLE, title, detail),
            ImageError::Session(_) | ImageError::Content(_) | ImageError::Store(_) => Self::internal(&error),
        }
    }
}

/// Lists images.
#[utoipa::path(get, path = "/v1/images", tag = "images", params(Listing),
    responses((status = 200, body = ImageList), Denied, Wrong))]
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    Parameters(listing): Parameters<Listing>,
) -> Result<Json<ImageList>, Problem> {
    let (after, limit) = listing.page::<Named>(PAGE)?;
    let after = match after {
        Some(Named { repository, pick: Pick::Digest(digest) }) => Some((repository, digest)),
        Some(_) => return Err(invalid("cursor", "is not one that an earlier page has returned")),
        None => None,
    };
    let uses = admin.images.uses().await?;
    let page = admin.images.with_store(move |store, _| records(store, after, limit));
    let (records, tags) = page.await?;
    let full = records.len() == limit;
    let next_cursor =
        records.last().filter(|_| full).map(|last| format!("{}@{}", last.repository, last.digest));
    let mut images = Vec::new();
    for record in records {
        images.push(admin.entry(record, &tags, &uses).await?);
    }
    Ok(Json(ImageList { images, next_cursor }))
}

type TagsOf = HashMap<(Repository, Digest), Vec<Tag>>;

/// A page of manifests, and their tags.
fn records(
    store: &dyn Store,
    after: Option<(Repository, Digest)>,
    limit: usize,
) -> Result<(Vec<ManifestRecord>, TagsOf), ImageError> {
    let after = after.as_ref().map(|(repository, digest)| (repository, digest));
    let records = store.all_manifests(after, limit)?;
    let wanted: BTreeSet<&Repository> = records.iter().map(|record| &record.repository).collect();
    let mut tags = TagsOf::new();
    for repository in wanted {
        let mut last = None;
        loop {
            let page = store.tags(repository, last.as_ref(), TAGS)?;
            let Some(newest) = page.last() else { break };
            last = Some(newest.tag.clone());
            for record in page {
                tags.entry((record.repository, record.digest)).or_default().push(record.tag);
            }
        }
    }
    Ok((records, tags))
}

/// Shows the parts of an image.
#[utoipa::path(get, path = "/v1/images/{digest}", tag = "images",
    params(("digest" = String, Path, pattern = "^sha(256:[0-9a-f]{64}|512:[0-9a-f]{128})$")),
    responses((status = 200, body = ImageView), Denied, Missing,
        (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    Path(digest): Path<String>,
) -> Result<Json<ImageView>, Problem> {
    let digest: Digest = read::name("digest", &digest)?;
    let missing = || ImageError::Unknown(format!("there is no image {digest}"));
    let info = admin.images.describe(&digest).await?.ok_or_else(missing)?;
    let used_by = admin.images.uses().await?.of(&digest);
    Ok(Json(ImageView { info, used_by }))
}

/// Deletes a tag, or a manifest with its tags. Content that nothing uses then is removed by the garbage collection.
#[utoipa::path(delete, path = "/v1/images", tag = "images", params(DeleteParameters),
    responses((status = 204), Denied, Missing, Wrong, Conflicting))]
pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    Parameters(which): Parameters<DeleteParameters>,
) -> Result<StatusCode, Problem> {
    let repository: Repository = read::name("repository", &which.repository)?;
    let pick = match (which.tag, which.digest) {
        (Some(tag), None) => Pick::Tag(read::name("tag", &tag)?),
        (None, Some(digest)) => Pick::Digest(read::name("digest", &digest)?),
        _ => return Err(invalid("tag", "either a tag or a digest is expected")),
    };
    admin.images.delete(&Named { repository, pick }, which.force).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes unused images: those without a tag that no kept version of an app uses, an hour after they were last
/// accessed.
#[utoipa::path(post, path = "/v1/images/gc", tag = "images", request_body = Option<Collection>,
    responses((status = 200, body = Swept), Denied, Wrong))]
pub(super) async fn gc(
    State(admin): State<Arc<Admin>>,
    OptionalBody(Collection { dry_run }): OptionalBody<Collection>,
) -> Result<Json<Swept>, Problem> {
    Ok(Json(admin.images.gc(dry_run).await?))
}

impl Admin {
    async fn entry(&self, record: ManifestRecord, tags: &TagsOf, uses: &Uses) -> Result<ImageEntry, Problem> {
        let ManifestRecord { repository, digest, media_type, size, pushed_ms, .. } = record;
        // An image whose content is missing or damaged is listed too: it can be deleted, or pushed again.
        let info = match self.images.describe(&digest).await {
            Err(ImageError::Manifest(_) | ImageError::Content(_)) => None,
            described => described?,
        };
        let (bytes, architectures) =
            info.map_or((size, BTreeSet::new()), |info| (info.bytes, info.architectures));
        let tags = tags.get(&(repository.clone(), digest)).cloned().unwrap_or_default();
        let used_by = uses.of(&digest);
        Ok(ImageEntry { repository, digest, tags, media_type, bytes, architectures, pushed_ms, used_by })
    }
}
