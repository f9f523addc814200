//! An existing OCI image layout, in a directory or an archive: its documents are checked, and its bytes are used
//! unchanged. Layers are checked by their receiver, the edge.
//!
//! For several machines, what is for linux/amd64 and linux/arm64 is taken. An index that lists more than that becomes
//! one that lists just that.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use berth_common::image::{Architecture, Digest};
use berth_images::manifest::{
    Config, Descriptor, ImageManifest, Index, MANIFEST_TYPES, Manifest, ManifestError, OCI_INDEX, Platform,
};
use serde_json::{Value, json};

use super::files::{Files, MissingPart};
use super::layout::{INDEX, MARKER, blob_name};
use super::part::Part;

/// How deep indexes may refer to indexes.
const MAX_DEPTH: usize = 4;

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

/// All that an image is made of, where it lies.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// The image itself last, and what a document names before it.
    pub(crate) documents: Vec<Document>,
    /// Configurations and layers.
    pub(crate) blobs: BTreeMap<Digest, Part>,
    pub(crate) architectures: BTreeSet<Architecture>,
    /// Which of them are layers of file systems.
    pub(crate) layers: BTreeSet<Digest>,
    /// Whether there are layers that are not compressed.
    pub(crate) bare_layers: bool,
    /// What was left out.
    pub(crate) notes: Vec<String>,
}

/// Reads the image that a layout holds.
pub(crate) fn read(files: &Files) -> Result<Contents> {
    let path = files.path().display();
    ensure!(files.has(MARKER), "{path} is no OCI image layout: it holds no file {MARKER}");
    let bytes = files.find(INDEX)?.document()?;
    let index = Manifest::read(&bytes).with_context(|| format!("{path}: {INDEX} cannot be used"))?;
    let Manifest::Index(index) = index else { bail!("{path}: {INDEX} is no list of images") };
    match fitting(&index).as_slice() {
        [] => bail!("{path} lists no image for linux/amd64 or linux/arm64"),
        [image] => read_image(files, image),
        images => {
            one_for_each(images).with_context(|| format!("{path} cannot be used"))?;
            let mut reader = Reader { files, contents: Contents::default() };
            let children = reader.children(images, MAX_DEPTH)?;
            reader.contents.documents.push(index_of(&children)?);
            Ok(reader.contents)
        }
    }
}

/// Reads one image of a layout, and ignores the others.
pub(crate) fn read_image(files: &Files, image: &Descriptor) -> Result<Contents> {
    let mut reader = Reader { files, contents: Contents::default() };
    reader.tree(image, MAX_DEPTH)?;
    Ok(reader.contents)
}

/// The images for platforms that run Berth, one for each.
fn fitting(index: &Index) -> Vec<&Descriptor> {
    let mut seen = BTreeSet::new();
    let fits = |of: &&Descriptor| {
        let known = of.media_type.is_empty() || MANIFEST_TYPES.contains(&of.media_type.as_str());
        known && of.platform.as_ref().is_none_or(|platform| machine(platform).is_some())
    };
    index.manifests.iter().filter(fits).filter(|of| seen.insert(of.digest)).collect()
}

fn machine(platform: &Platform) -> Option<Architecture> {
    Architecture::of_name(&platform.architecture).filter(|_| platform.os == "linux")
}

/// A layout may hold one image for several machines, and not several images.
fn one_for_each(images: &[&Descriptor]) -> Result<()> {
    let machines: Option<Vec<_>> = images.iter().map(|of| of.platform.as_ref().and_then(machine)).collect();
    let distinct = machines
        .as_ref()
        .is_some_and(|machines| machines.iter().collect::<BTreeSet<_>>().len() == machines.len());
    ensure!(distinct, "it lists {} images; expected one, or one for each machine", images.len());
    Ok(())
}

fn index_of(children: &[&Descriptor]) -> Result<Document> {
    let entry = |of: &&Descriptor| {
        let platform = of.platform.as_ref();
        json!({
            "mediaType": of.media_type,
            "digest": of.digest,
            "size": of.size,
            "platform": platform.map(|of| json!({ "os": of.os, "architecture": of.architecture })),
        })
    };
    let manifests: Vec<Value> = children.iter().map(entry).collect();
    document(OCI_INDEX, &json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests }))
}

fn document(media_type: &str, value: &Value) -> Result<Document> {
    let bytes = serde_json::to_vec(value)?;
    Ok(Document { digest: Digest::of(&bytes), media_type: media_type.to_owned(), bytes })
}

struct Reader<'a> {
    files: &'a Files,
    contents: Contents,
}

impl Reader<'_> {
    fn tree(&mut self, of: &Descriptor, depth: usize) -> Result<()> {
        ensure!(depth > 0, "the indexes are nested more than {MAX_DEPTH} deep");
        let bytes = self.part(of)?.document()?;
        ensure!(
            of.digest.fits(&bytes),
            "the manifest {} is damaged: its content has another digest",
            of.digest
        );
        let unusable = || format!("the manifest {} cannot be used", of.digest);
        match Manifest::read(&bytes).with_context(unusable)? {
            Manifest::Image(image) => {
                self.image(&image).with_context(unusable)?;
                self.keep(of.digest, image.media_type, bytes);
            }
            Manifest::Index(index) => {
                let wanted = fitting(&index);
                ensure!(!wanted.is_empty(), "{} lists no image for linux/amd64 or linux/arm64", of.digest);
                let taken = self.children(&wanted, depth - 1)?;
                if taken.len() == index.manifests.len() {
                    self.keep(of.digest, index.media_type, bytes);
                } else {
                    self.contents.documents.push(reduced(&index.media_type, &bytes, &taken)?);
                }
            }
        }
        Ok(())
    }

    /// The complete images of an index. Tools often keep an index with only the image for their own platform.
    fn children<'d>(&mut self, wanted: &[&'d Descriptor], depth: usize) -> Result<Vec<&'d Descriptor>> {
        let mut taken = Vec::new();
        let mut missing = None;
        for child in wanted {
            let mut reader = Reader { files: self.files, contents: Contents::default() };
            match reader.tree(child, depth) {
                Ok(()) => {
                    self.take(reader.contents);
                    taken.push(*child);
                }
                Err(error) if error.downcast_ref::<MissingPart>().is_some() => {
                    let machine = child.platform.as_ref().map_or("", |platform| &platform.architecture);
                    self.contents.notes.push(format!("the image for linux/{machine} is left out: {error:#}"));
                    missing = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        match missing {
            Some(error) if taken.is_empty() => Err(error),
            _ => Ok(taken),
        }
    }

    fn take(&mut self, contents: Contents) {
        self.contents.documents.extend(contents.documents);
        self.contents.blobs.extend(contents.blobs);
        self.contents.layers.extend(contents.layers);
        self.contents.architectures.extend(contents.architectures);
        self.contents.bare_layers |= contents.bare_layers;
        self.contents.notes.extend(contents.notes);
    }

    fn keep(&mut self, digest: Digest, media_type: String, bytes: Vec<u8>) {
        self.contents.documents.push(Document { digest, media_type, bytes });
    }

    fn image(&mut self, image: &ImageManifest) -> Result<()> {
        let config = Config::read(&self.part(&image.config)?.document()?)?;
        // Every node would refuse it, and only once it was sent.
        config.has_user_of_containers()?;
        self.contents.architectures.insert(config.architecture);
        for of in image.blobs() {
            let part = self.part(of);
            let part =
                if of.is_withheld() { part.context(ManifestError::Withheld(of.digest))? } else { part? };
            self.contents.blobs.insert(of.digest, part);
        }
        self.contents.layers.extend(image.layers.iter().filter(|of| of.is_layer()).map(|of| of.digest));
        self.contents.bare_layers |= image.layers.iter().any(|layer| layer.media_type.ends_with("tar"));
        Ok(())
    }

    fn part(&self, of: &Descriptor) -> Result<Part> {
        let part = self.files.find(&blob_name(&of.digest))?;
        ensure!(
            part.length() == of.size,
            "{} is damaged: it has {} bytes and should have {}",
            of.digest,
            part.length(),
            of.size
        );
        Ok(part)
    }
}

/// An index with some of its entries, each as it was.
fn reduced(media_type: &str, bytes: &[u8], taken: &[&Descriptor]) -> Result<Document> {
    let mut value: Value = serde_json::from_slice(bytes)?;
    let digests: BTreeSet<String> = taken.iter().map(|of| of.digest.to_string()).collect();
    let wanted = |entry: &Value| entry["digest"].as_str().is_some_and(|digest| digests.contains(digest));
    if let Some(manifests) = value["manifests"].as_array_mut() {
        manifests.retain(wanted);
    }
    document(media_type, &value)
}
