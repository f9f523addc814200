//! `berth images delete` and `gc`.

use anyhow::{Context, Result, bail};
use berth_api::client::encode;
use berth_api::images::{Collection, ImageEntry, Swept, SweptManifest};
use berth_common::image::{Named, Pick, Tag};
use serde_json::Value;

use super::show::{all, users};
use crate::admin::Admin;
use crate::args::Show;
use crate::output;
use crate::progress::bytes;

pub(super) async fn delete(admin: &Admin, image: &Named, force: bool, dry_run: bool) -> Result<()> {
    if dry_run {
        return show_plan(admin, image, force).await;
    }
    let repository = encode(image.repository.as_str());
    let which = match &image.pick {
        Pick::Tag(tag) => format!("tag={}", encode(tag.as_str())),
        Pick::Digest(digest) => format!("digest={}", encode(&digest.to_string())),
    };
    admin.delete(&format!("/v1/images?repository={repository}&{which}&force={force}")).await?;
    Ok(output::line(format_args!("deleted {image}"))?)
}

async fn show_plan(admin: &Admin, image: &Named, force: bool) -> Result<()> {
    let images: Vec<ImageEntry> = serde_json::from_value(all(admin).await?.into())?;
    let named = |entry: &&ImageEntry| {
        entry.repository == image.repository
            && match &image.pick {
                Pick::Tag(tag) => entry.tags.iter().any(|known| known == tag),
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
        Pick::Digest(_) => found.tags.iter().map(Tag::as_str).collect::<Vec<_>>().join(", "),
    };
    Ok(output::line(format_args!("{image} would be deleted; tags: {tags}, used by: {users}"))?)
}

pub(super) async fn gc(dry_run: bool, show: &Show) -> Result<()> {
    let admin = show.admin.edge()?;
    let answer: Value = admin.post("/v1/images/gc", &Collection { dry_run }).await?;
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
