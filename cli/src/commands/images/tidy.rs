//! `berth images delete` and `gc`.

use anyhow::{Context, Result, bail};
use berth_common::image::{Digest, Named, Pick};
use serde::Deserialize;
use serde_json::{Value, json};

use super::show::{ImageEntry, all, users};
use crate::admin::Admin;
use crate::args::Show;
use crate::commands::encode;
use crate::output;
use crate::progress::bytes;

/// What a collection has removed, or would.
#[derive(Debug, Deserialize)]
struct Swept {
    manifests: Vec<SweptManifest>,
    blobs: Vec<Value>,
    bytes: u64,
}

#[derive(Debug, Deserialize)]
struct SweptManifest {
    repository: String,
    digest: Digest,
}

pub(super) async fn delete(admin: &Admin, image: &Named, force: bool, dry_run: bool) -> Result<()> {
    if dry_run {
        return foresee(admin, image, force).await;
    }
    let repository = encode(image.repository.as_str());
    let which = match &image.pick {
        Pick::Tag(tag) => format!("tag={}", encode(tag.as_str())),
        Pick::Digest(digest) => format!("digest={}", encode(&digest.to_string())),
    };
    admin.delete(&format!("/v1/images?repository={repository}&{which}&force={force}")).await?;
    Ok(output::line(format_args!("deleted {image}"))?)
}

async fn foresee(admin: &Admin, image: &Named, force: bool) -> Result<()> {
    let images: Vec<ImageEntry> = serde_json::from_value(all(admin).await?.into())?;
    let named = |entry: &&ImageEntry| {
        entry.repository == image.repository
            && match &image.pick {
                Pick::Tag(tag) => entry.tags.iter().any(|known| known == tag.as_str()),
                Pick::Digest(digest) => entry.digest == *digest,
            }
    };
    let found = images.iter().find(named).with_context(|| format!("there is no image {image}"))?;
    let users = users(&found.used_by);
    if !found.used_by.is_empty() && !force {
        bail!("{image} would not be deleted without --force: it is used by {users}");
    }
    let tags = match &image.pick {
        Pick::Tag(tag) => tag.to_string(),
        Pick::Digest(_) if found.tags.is_empty() => "none".to_owned(),
        Pick::Digest(_) => found.tags.join(", "),
    };
    Ok(output::line(format_args!("{image} would be deleted; tags: {tags}, used by: {users}"))?)
}

pub(super) async fn gc(dry_run: bool, show: &Show) -> Result<()> {
    let admin = Admin::find(&show.admin)?;
    let answer: Value = admin.post("/v1/images/gc", &json!({ "dry_run": dry_run })).await?;
    if show.json {
        return output::json(&answer);
    }
    let swept: Swept = serde_json::from_value(answer)?;
    let what = if dry_run { "would be removed" } else { "removed" };
    for SweptManifest { repository, digest } in &swept.manifests {
        output::line(format_args!("{what}: {repository}@{digest}"))?;
    }
    let (images, parts) = (swept.manifests.len(), swept.blobs.len());
    let room = bytes(swept.bytes);
    Ok(output::line(format_args!("{what}: images: {images}, parts of images: {parts}, room: {room}"))?)
}
