//! Manifests, indexes and configurations, OCI's and Docker's: parsed with limits, reduced to what Berth needs.
//!
//! Every valid manifest can be stored; only one that [`ImageManifest::layers_of`] accepts can be run. Signatures and
//! other artifacts are manifests too, without layers to unpack.

mod config;

use std::collections::BTreeMap;

use berth_common::image::{Architecture, Digest};
use serde::{Deserialize, Deserializer};

pub use self::config::{Config, user_of_containers};

/// Largest manifest, index or configuration, in bytes: they are held in memory.
pub const MAX_DOCUMENT_BYTES: usize = 4 << 20;
/// Most layers of an image: the mount options of an overlay must fit one page.
pub const MAX_LAYERS: usize = 127;
/// Most manifests of an index.
pub const MAX_MANIFESTS: usize = 256;
/// Deepest nesting of indexes: an index may list indexes, as OCI layouts do, but those may not.
pub const MAX_INDEXES: usize = 2;

/// Media types of manifests.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The same.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The same.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// The same.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// All supported ones, the preferred first.
pub const MANIFEST_TYPES: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

/// Media types of layers that can be unpacked. The compression is detected from the first bytes.
const LAYER_TYPES: [&str; 12] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.v1.tar+xz",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
];
/// Part of the media types of layers that registries may not distribute.
const WITHHELD: [&str; 2] = [".nondistributable.", ".foreign."];

/// Why a manifest, index or configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is too large.
    #[error("it has {0} bytes; at most {MAX_DOCUMENT_BYTES} are allowed")]
    TooLarge(usize),
    /// It is not valid.
    #[error("it is not what it should be: {0}")]
    Json(#[from] serde_json::Error),
    /// Its media type is not supported.
    #[error("its media type `{0}` is not understood")]
    MediaType(String),
    /// It lists too many items.
    #[error("it has {0} {1}; at most {2} are allowed")]
    TooMany(usize, &'static str, usize),
    /// A descriptor's size is too large.
    #[error("it names something of {0} bytes where at most {1} are allowed")]
    PartTooLarge(u64, usize),
    /// It has a layer that cannot be unpacked.
    #[error(
        "its layer {digest} is of the kind `{media_type}`, which cannot be unpacked: tar archives are, plain or with gzip, \
         zstd or xz; is it an image?"
    )]
    Layer {
        /// The layer.
        digest: Digest,
        /// Its kind.
        media_type: String,
    },
    /// It has a layer that is stored elsewhere.
    #[error(
        "its layer {0} is not here, and may only be fetched from its maker (it is «foreign» or «nondistributable»): push \
         it with its content, or build the image on one without such layers"
    )]
    Withheld(Digest),
    /// Manifest and configuration contradict each other.
    #[error("it has {0} layers, and its configuration speaks of {1}: build the image again")]
    LayerCount(usize, usize),
    /// It has no layers.
    #[error("it has no layers: there is nothing to run")]
    NoLayers,
    /// A value is impossible.
    #[error("{0}")]
    Senseless(String),
}

/// A descriptor: a reference to content.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Its kind.
    #[serde(default, deserialize_with = "null_is_default")]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length, in bytes.
    pub size: u64,
    /// Its platform, in indexes.
    #[serde(default)]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// Whether it is a layer of a file system.
    pub fn is_layer(&self) -> bool {
        LAYER_TYPES.contains(&self.media_type.as_str())
    }

    /// Whether it is a layer that registries need not have, as only its maker distributes it.
    pub fn is_withheld(&self) -> bool {
        WITHHELD.iter().any(|mark| self.media_type.contains(mark))
    }

    /// Whether nodes can run it. A descriptor without a platform is for all.
    pub fn may_run(&self) -> bool {
        let runs = |platform: &Platform| {
            platform.os == "linux" && Architecture::of_name(&platform.architecture).is_some()
        };
        self.platform.as_ref().is_none_or(runs)
    }
}

/// The platform of an image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Platform {
    /// `linux`
    #[serde(default, deserialize_with = "null_is_default")]
    pub os: String,
    /// `amd64` or `arm64`
    #[serde(default, deserialize_with = "null_is_default")]
    pub architecture: String,
    /// `v3`: extensions of the architecture
    #[serde(default)]
    pub variant: Option<String>,
}

/// Some tools write null for missing values.
fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// The manifest of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageManifest {
    /// Its kind.
    pub media_type: String,
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, the lowest first.
    pub layers: Vec<Descriptor>,
    /// The manifest that it refers to, as a signature does.
    pub subject: Option<Descriptor>,
    /// Its artifact type, if it is no image.
    pub artifact_type: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

impl ImageManifest {
    /// Configuration and layers.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.layers)
    }

    /// Total bytes of configuration and layers. [`Manifest::read`] has checked that the sum does not overflow.
    pub fn bytes(&self) -> u64 {
        self.blobs().fold(0, |sum, blob| sum.saturating_add(blob.size))
    }

    /// Its layers, the lowest first, each with its diff id; or why it cannot be run.
    pub fn layers_of<'a>(
        &'a self,
        config: &'a Config,
    ) -> Result<Vec<(&'a Descriptor, &'a Digest)>, ManifestError> {
        self.layers.iter().try_for_each(can_be_unpacked)?;
        config.has_user_of_containers()?;
        if self.layers.is_empty() {
            return Err(ManifestError::NoLayers);
        }
        if self.layers.len() != config.diff_ids.len() {
            return Err(ManifestError::LayerCount(self.layers.len(), config.diff_ids.len()));
        }
        Ok(self.layers.iter().zip(&config.diff_ids).collect())
    }
}

fn can_be_unpacked(layer: &Descriptor) -> Result<(), ManifestError> {
    let media_type = layer.media_type.as_str();
    if layer.is_layer() {
        Ok(())
    } else {
        Err(ManifestError::Layer { digest: layer.digest, media_type: media_type.to_owned() })
    }
}

/// An index: manifests for several platforms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its kind.
    pub media_type: String,
    /// Its manifests.
    pub manifests: Vec<Descriptor>,
    /// The manifest that it refers to, as a signature does.
    pub subject: Option<Descriptor>,
    /// Its artifact type, if it lists no images.
    pub artifact_type: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// The document that an image's digest identifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// The manifest of one image.
    Image(ImageManifest),
    /// An index of images for several platforms.
    Index(Index),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    subject: Option<Descriptor>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Manifest {
    /// Parses a document.
    pub fn read(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_DOCUMENT_BYTES {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        let document: Document = serde_json::from_slice(bytes)?;
        let senseless = |text: &str| ManifestError::Senseless(text.to_owned());
        if document.schema_version != 2 {
            return Err(senseless("its schemaVersion is not 2"));
        }
        let annotations = document.annotations.unwrap_or_default();
        let (subject, artifact_type) = (document.subject, document.artifact_type);
        match (document.config, document.layers, document.manifests) {
            (Some(config), Some(layers), None) => {
                let media_type = kind(document.media_type, [OCI_MANIFEST, DOCKER_MANIFEST])?;
                bounded(layers.len(), "layers", MAX_LAYERS)?;
                is_document(&config)?;
                countable(std::iter::once(&config).chain(&layers))?;
                Ok(Self::Image(ImageManifest {
                    media_type,
                    config,
                    layers,
                    subject,
                    artifact_type,
                    annotations,
                }))
            }
            (None, None, Some(manifests)) => {
                let media_type = kind(document.media_type, [OCI_INDEX, DOCKER_LIST])?;
                bounded(manifests.len(), "manifests", MAX_MANIFESTS)?;
                manifests.iter().try_for_each(is_document)?;
                Ok(Self::Index(Index { media_type, manifests, subject, artifact_type, annotations }))
            }
            _ => Err(senseless("it is neither the manifest of an image nor a list of manifests")),
        }
    }

    /// Its kind.
    pub fn media_type(&self) -> &str {
        match self {
            Self::Image(image) => &image.media_type,
            Self::Index(index) => &index.media_type,
        }
    }

    /// The manifest that it refers to, as a signature does.
    pub fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Image(image) => image.subject.as_ref(),
            Self::Index(index) => index.subject.as_ref(),
        }
    }
}

fn kind(said: Option<String>, known: [&str; 2]) -> Result<String, ManifestError> {
    match said {
        None => Ok(known[0].to_owned()),
        Some(said) if known.contains(&said.as_str()) => Ok(said),
        Some(said) => Err(ManifestError::MediaType(said)),
    }
}

fn bounded(count: usize, what: &'static str, most: usize) -> Result<(), ManifestError> {
    if count > most { Err(ManifestError::TooMany(count, what, most)) } else { Ok(()) }
}

/// Checks the size of a document that is held in memory.
fn is_document(of: &Descriptor) -> Result<(), ManifestError> {
    match usize::try_from(of.size) {
        Ok(size) if size <= MAX_DOCUMENT_BYTES => Ok(()),
        _ => Err(ManifestError::PartTooLarge(of.size, MAX_DOCUMENT_BYTES)),
    }
}

fn countable<'a>(mut parts: impl Iterator<Item = &'a Descriptor>) -> Result<(), ManifestError> {
    let sum = parts.try_fold(0_i64, |sum, part| sum.checked_add_unsigned(part.size));
    sum.map(|_| ())
        .ok_or_else(|| ManifestError::Senseless("its parts have more bytes than can be".to_owned()))
}

impl Index {
    /// The manifest for an architecture, or an index that may have it. A descriptor without a platform is for all.
    pub fn choose(&self, architecture: Architecture) -> Option<&Descriptor> {
        let manifests = || self.manifests.iter().filter(|of| leads_to_an_image(of));
        let fits = |of: &&Descriptor| of.platform.as_ref().is_some_and(|it| it.fits(architecture));
        // A variant may need CPU extensions that this machine lacks.
        let plain = manifests().filter(fits).find(|of| of.platform.as_ref().is_some_and(Platform::is_plain));
        plain.or_else(|| manifests().find(fits)).or_else(|| manifests().find(|of| of.platform.is_none()))
    }
}

/// Indexes may list other artifacts too.
fn leads_to_an_image(of: &Descriptor) -> bool {
    of.media_type.is_empty() || MANIFEST_TYPES.contains(&of.media_type.as_str())
}

impl Platform {
    fn fits(&self, architecture: Architecture) -> bool {
        self.os == "linux" && Architecture::of_name(&self.architecture) == Some(architecture)
    }

    /// Whether the variant is the baseline of its architecture. Every 64-bit ARM machine has `v8`.
    fn is_plain(&self) -> bool {
        matches!(self.variant.as_deref(), None | Some("" | "v1" | "v8"))
    }
}

#[cfg(test)]
mod tests;
