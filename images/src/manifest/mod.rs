//! Manifests, indexes and configurations, OCI's and Docker's: read with bounds, and reduced to what Berth needs.
//!
//! What can be read can be kept; only what [`ImageManifest::layers_of`] accepts can be run. Signatures and the like are
//! manifests too, and need no layers that anybody could unpack.

mod config;

use std::collections::BTreeMap;

use berth_common::image::{Architecture, Digest};
use serde::{Deserialize, Deserializer};

pub use self::config::Config;

/// Largest manifest, index or configuration, in bytes: they are kept in memory whole.
pub const MAX_DOCUMENT_BYTES: usize = 4 << 20;
/// Most layers of an image: overlay file systems are mounted from one page of options.
pub const MAX_LAYERS: usize = 127;
/// Most manifests of an index.
pub const MAX_MANIFESTS: usize = 256;
/// Most indexes on the way to a manifest: an index may name indexes, and these may not. Layouts on disk are made so.
pub const MAX_INDEXES: usize = 2;

/// Media types of manifests.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The same.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The same.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// The same.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// All that are understood, the first the most wanted.
pub const MANIFEST_TYPES: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];

/// Media types of layers that can be unpacked. Which compression a layer has, its first bytes tell.
const LAYER_TYPES: [&str; 6] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];
/// What media types of layers have in them that registries may not hand out.
const WITHHELD: [&str; 2] = [".nondistributable.", ".foreign."];

/// Why a document is refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is too large.
    #[error("it has {0} bytes; at most {MAX_DOCUMENT_BYTES} are allowed")]
    TooLarge(usize),
    /// It is not what it should be.
    #[error("it is not what it should be: {0}")]
    Json(#[from] serde_json::Error),
    /// It is a kind that is not understood.
    #[error("its media type `{0}` is not understood")]
    MediaType(String),
    /// It has too many parts.
    #[error("it has {0} {1}; at most {2} are allowed")]
    TooMany(usize, &'static str, usize),
    /// Something that it names is too large.
    #[error("it names something of {0} bytes where at most {1} are allowed")]
    PartTooLarge(u64, usize),
    /// It has a layer that nobody can unpack.
    #[error(
        "its layer {digest} is of the kind `{media_type}`, which cannot be unpacked: tar archives are, plain or with gzip or \
         zstd; is it an image?"
    )]
    Layer {
        /// The layer.
        digest: Digest,
        /// Its kind.
        media_type: String,
    },
    /// It has a layer that is somewhere else.
    #[error(
        "its layer {0} may only be fetched from its maker (it is «foreign» or «nondistributable»): build the image on one \
         without such layers"
    )]
    Withheld(Digest),
    /// Manifest and configuration contradict each other.
    #[error("it has {0} layers, and its configuration speaks of {1}: build the image again")]
    LayerCount(usize, usize),
    /// It has nothing in it.
    #[error("it has no layers: there is nothing to run")]
    NoLayers,
    /// It says something that cannot be.
    #[error("{0}")]
    Senseless(String),
}

/// Something that a manifest names.
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
    /// What it runs on, in indexes.
    #[serde(default)]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// Whether a node may run what this is in an index. One that does not say what it is for is for all.
    pub fn may_run(&self) -> bool {
        let runs = |platform: &Platform| {
            platform.os == "linux" && Architecture::of_name(&platform.architecture).is_some()
        };
        self.platform.as_ref().is_none_or(runs)
    }
}

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Platform {
    /// `linux`
    #[serde(default, deserialize_with = "null_is_default")]
    pub os: String,
    /// `amd64` or `arm64`
    #[serde(default, deserialize_with = "null_is_default")]
    pub architecture: String,
    /// `v3`: a machine that has more than the architecture promises
    #[serde(default)]
    pub variant: Option<String>,
}

/// Some programs write null where they have nothing to say.
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
    /// What it is about, where it is about another manifest.
    pub subject: Option<Descriptor>,
    /// What it is, where it is no image.
    pub artifact_type: Option<String>,
    /// What its maker says of it.
    pub annotations: BTreeMap<String, String>,
}

impl ImageManifest {
    /// Configuration and layers: all that it needs.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.layers)
    }

    /// Bytes of all that it needs. [`Manifest::read`] has seen to it that there are not too many to be counted.
    pub fn bytes(&self) -> u64 {
        self.blobs().fold(0, |sum, blob| sum.saturating_add(blob.size))
    }

    /// Its layers, the lowest first, each with its digest before compression; or why it cannot be run.
    pub fn layers_of<'a>(
        &'a self,
        config: &'a Config,
    ) -> Result<Vec<(&'a Descriptor, &'a Digest)>, ManifestError> {
        self.layers.iter().try_for_each(can_be_unpacked)?;
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
    if LAYER_TYPES.contains(&media_type) {
        Ok(())
    } else if WITHHELD.iter().any(|mark| media_type.contains(mark)) {
        Err(ManifestError::Withheld(layer.digest))
    } else {
        Err(ManifestError::Layer { digest: layer.digest, media_type: media_type.to_owned() })
    }
}

/// A list of manifests, for several machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its kind.
    pub media_type: String,
    /// What it lists.
    pub manifests: Vec<Descriptor>,
    /// What it is about, where it is about another manifest.
    pub subject: Option<Descriptor>,
    /// What it is, where it lists no images.
    pub artifact_type: Option<String>,
    /// What its maker says of it.
    pub annotations: BTreeMap<String, String>,
}

/// What a digest of an image leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// One image.
    Image(ImageManifest),
    /// One for each of several machines.
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
    /// Reads one.
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

    /// What it is about, where it is about another manifest.
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

/// What is read whole must not be too large for that.
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
    /// The manifest for a machine, or an index that may have it. What does not say what it is for is for all.
    pub fn choose(&self, architecture: Architecture) -> Option<&Descriptor> {
        let manifests = || self.manifests.iter().filter(|of| leads_to_an_image(of));
        let fits = |of: &&Descriptor| of.platform.as_ref().is_some_and(|it| it.fits(architecture));
        // Programs for a better machine than usual may not run on this one.
        let plain = manifests().filter(fits).find(|of| of.platform.as_ref().is_some_and(Platform::is_plain));
        plain.or_else(|| manifests().find(fits)).or_else(|| manifests().find(|of| of.platform.is_none()))
    }
}

/// Indexes name other things too.
fn leads_to_an_image(of: &Descriptor) -> bool {
    of.media_type.is_empty() || MANIFEST_TYPES.contains(&of.media_type.as_str())
}

impl Platform {
    fn fits(&self, architecture: Architecture) -> bool {
        self.os == "linux" && Architecture::of_name(&self.architecture) == Some(architecture)
    }

    /// Whether every machine of the architecture is meant. All with 64 bits have `v8` of ARM.
    fn is_plain(&self) -> bool {
        matches!(self.variant.as_deref(), None | Some("" | "v1" | "v8"))
    }
}

#[cfg(test)]
mod tests;
