//! Manifests, indexes and configurations, OCI's and Docker's: read with bounds, and reduced to what Berth needs.

use std::collections::BTreeMap;

use berth_common::image::{Architecture, Digest};
use serde::Deserialize;

/// Largest manifest, index or configuration, in bytes: they are kept in memory whole.
pub const MAX_DOCUMENT_BYTES: usize = 4 << 20;
/// Most layers of an image: overlay file systems are mounted from one page of options.
pub const MAX_LAYERS: usize = 127;
/// Most manifests of an index.
pub const MAX_MANIFESTS: usize = 256;

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
    /// It says something that cannot be.
    #[error("{0}")]
    Senseless(String),
}

/// Something that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Its kind.
    #[serde(default)]
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
    #[serde(default)]
    pub os: String,
    /// `amd64` or `arm64`
    #[serde(default)]
    pub architecture: String,
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

impl Index {
    /// The manifest for a machine. One that does not say what it is for is for all.
    pub fn choose(&self, architecture: Architecture) -> Option<&Descriptor> {
        let fits = |platform: &Platform| {
            platform.os == "linux" && Architecture::of_name(&platform.architecture) == Some(architecture)
        };
        let exact = self.manifests.iter().find(|of| of.platform.as_ref().is_some_and(fits));
        exact.or_else(|| self.manifests.iter().find(|of| of.platform.is_none()))
    }
}

/// What an image says about running it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The machine that it runs on.
    pub architecture: Architecture,
    /// Digests of the layers before compression, the lowest first.
    pub diff_ids: Vec<Digest>,
    /// Entrypoint and command.
    pub args: Vec<String>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Its working directory: an absolute path.
    pub cwd: String,
    /// Its user: empty, `user`, `user:group`, by number or name.
    pub user: String,
    /// When it was made, as its maker says.
    pub created: Option<String>,
}

#[derive(Deserialize)]
struct ConfigDocument {
    os: String,
    architecture: String,
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    config: Option<Run>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Run {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
}

impl Config {
    /// Reads one.
    pub fn read(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_DOCUMENT_BYTES {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        let ConfigDocument { os, architecture, created, config, rootfs } = serde_json::from_slice(bytes)?;
        let known = Architecture::of_name(&architecture).filter(|_| os == "linux");
        let architecture = known.ok_or_else(|| {
            ManifestError::Senseless(format!(
                "it is for {os}/{architecture}, and Berth runs linux/amd64 and linux/arm64"
            ))
        })?;
        let run = config.unwrap_or_default();
        let pairs = run.env.unwrap_or_default();
        let env = pairs.iter().filter_map(|pair| pair.split_once('='));
        let mut args = run.entrypoint.unwrap_or_default();
        args.extend(run.cmd.unwrap_or_default());
        Ok(Self {
            architecture,
            diff_ids: rootfs.diff_ids.unwrap_or_default(),
            args,
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            cwd: run.working_dir.filter(|cwd| cwd.starts_with('/')).unwrap_or_else(|| "/".to_owned()),
            user: run.user.unwrap_or_default(),
            created,
        })
    }
}
