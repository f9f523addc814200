//! `berth images list` and `info`.

use std::collections::BTreeSet;
use std::time::SystemTime;

use anyhow::{Context, Result};
use berth_api::images::{Holder, ImageEntry, ImageOf, ImageView, LayerInfo, Use};
use berth_api::lists::{Listing, Paged};
use berth_common::ids::AppName;
use berth_common::image::{Architecture, Digest, Repository};
use berth_images::manifest::{Config, MANIFEST_TYPES, Manifest};
use serde_json::{Value, json};

use crate::admin::{self, Admin};
use crate::args::Show;
use crate::ids::{self, ImageName};
use crate::output;
use crate::prefetch::on_nodes;
use crate::progress::bytes;
use crate::push::short;

const HEADINGS: [&str; 7] = ["REPOSITORY", "TAG", "DIGEST", "SIZE", "MACHINES", "PUSHED", "USED BY"];
const LAYER_HEADINGS: [&str; 3] = ["LAYER", "SIZE", "KIND"];
const NODE_HEADINGS: [&str; 3] = ["NODE", "STATE", "FETCHED"];

/// All images of the edge, as it returns them.
pub(super) async fn all(admin: &Admin) -> Result<Vec<Value>> {
    Ok(admin.pages(&format!("/v1/images?limit={}", Listing::MAX_PAGE), "images").await?)
}

pub(super) async fn list(args: &Show) -> Result<()> {
    let images = all(&args.admin.edge()?).await?;
    if args.json {
        return output::json(&json!({ "images": images }));
    }
    let now = SystemTime::now();
    let images: Vec<ImageEntry> = serde_json::from_value(images.into())?;
    let rows = images.iter().flat_map(|image| rows(image, now)).collect();
    Ok(output::table(&HEADINGS, rows)?)
}

/// A row for each tag; one without for an image that has none.
fn rows(image: &ImageEntry, now: SystemTime) -> Vec<Vec<String>> {
    let row = |tag: &str| {
        vec![
            image.repository.to_string(),
            tag.to_owned(),
            short(&image.digest),
            bytes(image.bytes),
            machines(&image.architectures),
            output::ago(image.pushed_ms, now),
            users(&image.used_by),
        ]
    };
    if image.tags.is_empty() {
        vec![row("-")]
    } else {
        image.tags.iter().map(|tag| row(tag.as_str())).collect()
    }
}

fn machines(architectures: &BTreeSet<Architecture>) -> String {
    or_dash(architectures.iter().map(Architecture::to_string).collect())
}

/// The versions of each app: `shop 3, 5*`, with a star at the current one.
pub(super) fn users(uses: &[Use]) -> String {
    let mut apps: Vec<(&AppName, String)> = Vec::new();
    for of in uses {
        let version = format!("{}{}", of.version, if of.current { "*" } else { "" });
        match apps.last_mut().filter(|(app, _)| **app == of.app) {
            Some((_, versions)) => versions.push_str(&format!(",{version}")),
            None => apps.push((&of.app, version)),
        }
    }
    or_dash(apps.into_iter().map(|(app, versions)| format!("{app} {versions}")).collect())
}

fn or_dash(parts: Vec<String>) -> String {
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}

pub(super) async fn info(image: &ImageName, args: &Show) -> Result<()> {
    let admin = args.admin.edge()?;
    let image = &ids::image(&admin, image).await?;
    let digest = admin::resolve(&admin, image).await?;
    let digest = digest.with_context(|| format!("the edge has no image {image}"))?;
    let mut answer: Value = admin.get(&format!("/v1/images/{digest}")).await?;
    let nodes = on_nodes(&admin, &digest).await.map_or_else(|_| Vec::new(), |list| list.nodes);
    if args.json {
        answer["nodes"] = nodes.iter().map(for_programs).collect::<Result<_, _>>()?;
        return output::json(&answer);
    }
    let view: ImageView = serde_json::from_value(answer)?;
    output::line(format_args!("{image}"))?;
    output::line(format_args!("digest:   {}", view.info.digest))?;
    output::line(format_args!("size:     {}", bytes(view.info.bytes)))?;
    output::line(format_args!("used by:  {}", users(&view.used_by)))?;
    for of in &view.info.images {
        one(&admin, &image.repository, of).await?;
    }
    if !nodes.is_empty() {
        output::line("")?;
        output::table(&NODE_HEADINGS, nodes.iter().map(node).collect())?;
    }
    Ok(())
}

/// An image for one platform: its settings and its layers.
async fn one(admin: &Admin, repository: &Repository, of: &ImageOf) -> Result<()> {
    output::line(format_args!("\nlinux/{}: {} ({})", of.architecture, of.digest, bytes(of.bytes)))?;
    let config = config(admin, repository, &of.digest).await?;
    let env = config.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let user = if config.user.is_empty() { "root" } else { &config.user };
    output::line(format_args!("made:     {}", of.created.as_deref().unwrap_or("-")))?;
    output::line(format_args!("runs:     {}", serde_json::to_string(&config.args)?))?;
    output::line(format_args!("in:       {} as {user}", config.cwd))?;
    output::line(format_args!("env:      {}", or_dash(env)))?;
    let row = |layer: &LayerInfo| vec![short(&layer.digest), bytes(layer.bytes), kind(&layer.media_type)];
    Ok(output::table(&LAYER_HEADINGS, of.layers.iter().map(row).collect())?)
}

async fn config(admin: &Admin, repository: &Repository, manifest: &Digest) -> Result<Config> {
    let path = format!("/v2/{repository}/manifests/{manifest}");
    let bytes = admin::registry_document(admin, &path, &MANIFEST_TYPES.join(", ")).await?;
    let Manifest::Image(image) = Manifest::read(&bytes)? else {
        anyhow::bail!("{manifest} is a list of images where one is expected")
    };
    let path = format!("/v2/{repository}/blobs/{}", image.config.digest);
    Ok(Config::read(&admin::registry_document(admin, &path, "*/*").await?)?)
}

/// The last part of a media type: how the layer is compressed.
fn kind(media_type: &str) -> String {
    media_type.rsplit(['.', '+']).next().unwrap_or(media_type).to_owned()
}

/// A node for `--json`: each has a `message`.
fn for_programs(of: &Holder) -> serde_json::Result<Value> {
    let mut node = serde_json::to_value(of)?;
    node["message"] = json!(of.message);
    Ok(node)
}

fn node(of: &Holder) -> Vec<String> {
    let state =
        of.message.as_ref().map_or_else(|| of.state.to_string(), |why| format!("{}: {why}", of.state));
    // Reported only while it is fetched.
    let fetched =
        if of.total == 0 { "-".to_owned() } else { format!("{} of {}", bytes(of.done), bytes(of.total)) };
    vec![of.node.clone(), state, fetched]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_a_row_for_each_of_its_tags() {
        let text = format!(
            r#"{{"repository":"a/b","digest":"{}","tags":["1","latest"],"media_type":"x","bytes":2048,
                "architectures":["arm64","amd64"],"pushed_ms":0,"used_by":[
                {{"app":"shop","version":3,"current":false}},{{"app":"shop","version":5,"current":true}},
                {{"app":"web","version":1,"current":true}}]}}"#,
            Digest::of(b"x")
        );
        let mut image: ImageEntry = serde_json::from_str(&text).unwrap();
        let now = SystemTime::UNIX_EPOCH;
        let all = rows(&image, now);
        assert_eq!(all.len(), 2);
        let expected =
            ["a/b", "latest", "2d711642b726", "2.0 KiB", "amd64, arm64", "0s ago", "shop 3,5*, web 1*"];
        assert_eq!(all[1], expected);
        image.tags.clear();
        image.used_by.clear();
        assert_eq!((rows(&image, now)[0][1].as_str(), rows(&image, now)[0][6].as_str()), ("-", "-"));
    }

    #[test]
    fn layers_are_shown_with_their_compression() {
        assert_eq!(kind("application/vnd.oci.image.layer.v1.tar+zstd"), "zstd");
        assert_eq!(kind("application/vnd.docker.image.rootfs.diff.tar.gzip"), "gzip");
    }
}
