//! An image from an archive as `docker save` writes it. Newer ones are OCI image layouts too, and taken as that where
//! their layers are compressed. Else layers are compressed here, always to the same bytes, and the image gets a
//! manifest of its own; its configuration, which is its identity, stays.

use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use berth_common::image::Digest;
use berth_images::manifest::{Config, MAX_LAYERS};
use oci_spec::image::{Descriptor, ImageManifestBuilder, MediaType};
use serde::Deserialize;

use super::archive::{Archive, is_compressed};
use super::files::Files;
use super::layout::{Hashed, MARKER, Staging};
use super::part::Part;
use super::{Image, SCHEMA_VERSION, gzip, oci};
use crate::stop::Stop;

/// The list of an archive's images.
const LIST: &str = "manifest.json";
/// Magic bytes of compressed layers: gzip (deflate), zstd and xz; and the kind of the last, which OCI does not name.
const GZIP_MAGIC: [u8; 3] = [0x1f, 0x8b, 0x08];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const XZ_MAGIC: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];
const XZ_KIND: &str = "application/vnd.oci.image.layer.v1.tar+xz";

/// One image of the list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Inspects an archive without unpacking it.
pub(crate) fn look_at(path: &Path) -> Result<()> {
    if is_compressed(path)? {
        // To index it takes long.
        return Ok(());
    }
    match open(path, &Stop::default())? {
        Found::Layout(..) => Ok(()),
        Found::Saved(files, saved) => checked(&files, &saved).map(drop),
    }
}

/// Reads the image of an archive.
pub(crate) fn import(path: &Path, stop: &Stop) -> Result<Image> {
    match open(path, stop)? {
        Found::Layout(files, contents) => Ok(Image::of(contents, files)),
        Found::Saved(files, saved) => convert(&files, &saved, stop),
    }
}

enum Found {
    Layout(Files, oci::Contents),
    Saved(Files, Saved),
}

fn open(path: &Path, stop: &Stop) -> Result<Found> {
    let files = Files::Archive(Archive::open(path, stop)?);
    if files.has(MARKER) {
        let contents = oci::read(&files)?;
        if !contents.bare_layers || !files.has(LIST) {
            return Ok(Found::Layout(files, contents));
        }
    }
    ensure!(
        files.has(LIST),
        "{} holds no {LIST}; expected an archive as `docker save` or `podman save` writes it",
        path.display()
    );
    let list = files.find(LIST)?.document()?;
    let mut list: Vec<Saved> = serde_json::from_slice(&list)
        .with_context(|| format!("{}: {LIST} cannot be used", path.display()))?;
    match (list.pop(), list.len()) {
        (Some(saved), 0) => Ok(Found::Saved(files, saved)),
        (last, _) => bail!("{} holds {}; expected one image", path.display(), names(&list, last.as_ref())),
    }
}

fn names(list: &[Saved], last: Option<&Saved>) -> String {
    let tags = list.iter().chain(last).filter_map(|saved| saved.repo_tags.as_ref()?.first().cloned());
    match tags.collect::<Vec<_>>().join(", ") {
        tags if tags.is_empty() => "no image, or several".to_owned(),
        tags => tags,
    }
}

/// The configuration and where the layers are, the lowest first.
fn checked(files: &Files, saved: &Saved) -> Result<(Config, Vec<Part>)> {
    let config = Config::read(&files.find(&saved.config)?.document()?)
        .with_context(|| format!("its configuration {} cannot be used", saved.config))?;
    let (layers, ids) = (saved.layers.len(), config.diff_ids.len());
    ensure!(layers <= MAX_LAYERS, "it has {layers} layers; at most {MAX_LAYERS} are allowed");
    ensure!(layers == ids, "its list names {layers} layers, and its configuration {ids}");
    let contents = saved.layers.iter().map(|name| files.find(name)).collect::<Result<_>>()?;
    Ok((config, contents))
}

fn convert(files: &Files, saved: &Saved, stop: &Stop) -> Result<Image> {
    let (config, contents) = checked(files, saved)?;
    let staging = Staging::temporary(stop)?;
    let mut layers = Vec::new();
    for (part, diff_id) in contents.iter().zip(&config.diff_ids) {
        layers.push(layer(part, diff_id, &staging).with_context(|| format!("the layer {diff_id}"))?);
    }
    let mut document = staging.blob()?;
    document.write_all(&files.find(&saved.config)?.document()?)?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(document.finish(MediaType::ImageConfig)?)
        .layers(layers)
        .build()?;
    let image = staging.json(MediaType::ImageManifest, &manifest)?;
    Image::staged(staging, &image)
}

/// A layer as it is if it is compressed, and else compressed.
fn layer(part: &Part, diff_id: &Digest, staging: &Staging) -> Result<Descriptor> {
    let head = part.read_at(0, XZ_MAGIC.len())?;
    let mut from = part.open()?;
    if head.starts_with(&GZIP_MAGIC) {
        return as_it_is(&mut from, MediaType::ImageLayerGzip, staging);
    }
    if head.starts_with(&ZSTD_MAGIC) {
        return as_it_is(&mut from, MediaType::ImageLayerZstd, staging);
    }
    if head == XZ_MAGIC {
        return as_it_is(&mut from, MediaType::Other(XZ_KIND.to_owned()), staging);
    }
    let mut hashed = Hashed::new(gzip(staging.blob()?));
    io::copy(&mut from, &mut hashed)?;
    let (compressed, hex, _) = hashed.finish();
    ensure!(hex == diff_id.hex(), "is damaged: its digest is sha256:{hex}");
    compressed.finish()?.finish(MediaType::ImageLayerGzip)
}

fn as_it_is(from: &mut impl Read, kind: MediaType, staging: &Staging) -> Result<Descriptor> {
    let mut blob = staging.blob()?;
    io::copy(from, &mut blob)?;
    blob.finish(kind)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use berth_images::manifest::Manifest;
    use serde_json::json;

    use super::*;
    use crate::image::archive::tests::tar_of;

    const LAYER: &[u8] = b"not looked into here, only compressed";

    fn config(diff_ids: &[Digest]) -> Vec<u8> {
        let value = json!({ "os": "linux", "architecture": "amd64", "rootfs": { "diff_ids": diff_ids } });
        value.to_string().into_bytes()
    }

    fn archive(dir: &Path, diff_ids: &[Digest], more: &[(&str, &[u8])]) -> PathBuf {
        let list =
            json!([{ "Config": "c.json", "RepoTags": ["a:1"], "Layers": ["1/layer.tar", "2/layer.tar"] }]);
        let (config, list) = (config(diff_ids), list.to_string());
        let mut files: Vec<(&str, &[u8])> = vec![
            ("c.json", &config),
            ("1/layer.tar", LAYER),
            // This is how `docker save` refers to a layer that is in the archive already.
            ("2/layer.tar@", b"../1/layer.tar"),
        ];
        files.extend(more);
        if more.is_empty() {
            files.push((LIST, list.as_bytes()));
        }
        let path = dir.join("image.tar");
        std::fs::write(&path, tar_of(&files)).unwrap();
        path
    }

    fn refusal(path: &Path) -> String {
        format!("{:#}", import(path, &Stop::default()).unwrap_err())
    }

    #[test]
    fn layers_are_compressed_and_the_same_archive_is_the_same_image() {
        let dir = tempfile::tempdir().unwrap();
        let path = archive(dir.path(), &[Digest::of(LAYER); 2], &[]);
        look_at(&path).unwrap();
        let image = import(&path, &Stop::default()).unwrap();
        let again = import(&path, &Stop::default()).unwrap();
        assert_eq!(image.digest().unwrap(), again.digest().unwrap());
        let document = image.contents.documents.last().unwrap();
        let Manifest::Image(manifest) = Manifest::read(&document.bytes).unwrap() else { panic!() };
        assert_eq!(manifest.config.digest, Digest::of(&config(&[Digest::of(LAYER); 2])));
        assert_eq!(manifest.layers.len(), 2);
        let mut plain = Vec::new();
        let layer = image.contents.blobs[&manifest.layers[1].digest].open().unwrap();
        flate2::read::GzDecoder::new(layer).read_to_end(&mut plain).unwrap();
        assert_eq!(plain, LAYER);
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let damaged = archive(dir.path(), &[Digest::of(b"other"); 2], &[]);
        assert!(refusal(&damaged).contains("is damaged"));
        let short = archive(dir.path(), &[Digest::of(LAYER)], &[]);
        assert!(refusal(&short).contains("names 2 layers, and its configuration 1"));
        assert!(format!("{:#}", look_at(&short).unwrap_err()).contains("names 2 layers"));
        let one = json!({ "Config": "c.json", "RepoTags": ["b:1"], "Layers": [] });
        let list = json!([one, one]).to_string();
        let two = archive(dir.path(), &[], &[(LIST, list.as_bytes())]);
        assert!(refusal(&two).contains("b:1, b:1; expected one image"), "{}", refusal(&two));
        let lost = json!([{ "Config": "../c.json", "Layers": [] }]).to_string();
        let lost = archive(dir.path(), &[], &[(LIST, lost.as_bytes())]);
        assert!(refusal(&lost).contains("holds no ../c.json"), "{}", refusal(&lost));
        let none = archive(dir.path(), &[], &[("x", b"")]);
        assert!(refusal(&none).contains("docker save"));
    }
}
