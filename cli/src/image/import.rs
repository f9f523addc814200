//! Takes over an image from a layout that something else made: the image for this machine and every blob that it
//! needs, each checked against its digest.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use oci_spec::image::{Arch, Descriptor, ImageIndex, ImageManifest, MediaType, Os};

use super::layout::{self, Staging};

/// Largest index or manifest, in bytes: they are read into memory.
const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// How deep indexes may refer to indexes.
const MAX_DEPTH: usize = 4;

/// The image that a layout holds for this machine.
pub(crate) fn choose(source: &Path) -> Result<Descriptor> {
    if !layout::is_layout(source) {
        bail!("{} is no OCI image layout: it holds no file oci-layout", source.display());
    }
    let path = layout::index_path(source);
    let index: ImageIndex = serde_json::from_slice(&read_small(&path)?)
        .with_context(|| format!("{} is not an image index", path.display()))?;
    let fitting: Vec<&Descriptor> = index.manifests().iter().filter(|image| fits(image)).collect();
    match fitting.as_slice() {
        [image] => Ok((*image).clone()),
        [] => bail!("{} lists no image for linux/{}", path.display(), Arch::default()),
        several => bail!("{} lists {} images for this machine; expected one", path.display(), several.len()),
    }
}

fn fits(image: &Descriptor) -> bool {
    let is_image = matches!(image.media_type(), MediaType::ImageManifest | MediaType::ImageIndex);
    let platform = image.platform().as_ref();
    is_image && platform.is_none_or(|p| *p.os() == Os::Linux && *p.architecture() == Arch::default())
}

/// Copies an image and all that it refers to.
pub(crate) fn copy(source: &Path, image: &Descriptor, staging: &Staging) -> Result<()> {
    Copy { source, staging, done: HashSet::new() }.tree(image, MAX_DEPTH)
}

struct Copy<'a> {
    source: &'a Path,
    staging: &'a Staging,
    done: HashSet<String>,
}

impl Copy<'_> {
    fn tree(&mut self, descriptor: &Descriptor, depth: usize) -> Result<()> {
        ensure!(depth > 0, "the indexes are nested more than {MAX_DEPTH} deep");
        self.blob(descriptor)?;
        let hex = hex_of(descriptor)?;
        let read = || read_small(&layout::blob_path(self.source, hex));
        match descriptor.media_type() {
            MediaType::ImageIndex => {
                let index: ImageIndex = serde_json::from_slice(&read()?)?;
                for image in index.manifests().iter().filter(|image| fits(image)) {
                    self.tree(image, depth - 1)?;
                }
                Ok(())
            }
            MediaType::ImageManifest => {
                let manifest: ImageManifest = serde_json::from_slice(&read()?)?;
                for part in std::iter::once(manifest.config()).chain(manifest.layers()) {
                    self.blob(part)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn blob(&mut self, descriptor: &Descriptor) -> Result<()> {
        let hex = hex_of(descriptor)?;
        if !self.done.insert(hex.to_owned()) {
            return Ok(());
        }
        let path = layout::blob_path(self.source, hex);
        let mut file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut blob = self.staging.blob()?;
        io::copy(&mut file, &mut blob).with_context(|| format!("cannot copy {}", path.display()))?;
        let copied = blob.finish(descriptor.media_type().clone())?;
        ensure!(
            copied.digest() == descriptor.digest(),
            "{} is damaged: its digest is {}",
            path.display(),
            copied.digest()
        );
        Ok(())
    }
}

fn hex_of(descriptor: &Descriptor) -> Result<&str> {
    descriptor
        .as_digest_sha256()
        .with_context(|| format!("the digest {} is not a SHA-256 one", descriptor.digest()))
}

fn read_small(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut bytes = Vec::new();
    let read = file.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut bytes);
    read.with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        u64::try_from(bytes.len())? <= MAX_MANIFEST_BYTES,
        "{} is too large for what it should be",
        path.display()
    );
    Ok(bytes)
}
