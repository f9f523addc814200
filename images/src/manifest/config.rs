//! Image configurations: how to run an image. Parsed tolerantly, since each build tool leaves out other fields.

use std::collections::BTreeMap;

use berth_common::image::{Architecture, Digest};
use serde::Deserialize;

use super::{MAX_DOCUMENT_BYTES, MAX_LAYERS, ManifestError, bounded};
use crate::CONTAINER_IDS;

/// Most volumes of an image: each is made when a container is.
const MAX_VOLUMES: usize = 128;

/// The configuration of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The architecture that it runs on.
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
    /// The signal that asks it to end, by name or number, if it names one.
    pub stop_signal: Option<String>,
    /// Directories for its data.
    pub volumes: Vec<String>,
    /// When it was built, as declared.
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
    entrypoint: Option<Words>,
    cmd: Option<Words>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

/// A command: a list, or in old images a single string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    Many(Vec<String>),
    One(String),
}

impl Words {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::Many(words) => words,
            Self::One(word) => vec![word],
        }
    }
}

impl Config {
    /// Parses a configuration.
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
        let diff_ids = rootfs.diff_ids.unwrap_or_default();
        bounded(diff_ids.len(), "layers", MAX_LAYERS)?;
        let pairs = run.env.unwrap_or_default();
        let env = pairs.iter().filter_map(|pair| pair.split_once('=')).filter(|(name, _)| !name.is_empty());
        let volumes = run.volumes.unwrap_or_default();
        bounded(volumes.len(), "volumes", MAX_VOLUMES)?;
        // An entrypoint of one empty word is none: this is how a Dockerfile takes away that of its base.
        let entrypoint = run.entrypoint.map_or_else(Vec::new, Words::into_vec);
        let mut args = if entrypoint == [""] { Vec::new() } else { entrypoint };
        args.extend(run.cmd.map_or_else(Vec::new, Words::into_vec));
        Ok(Self {
            architecture,
            diff_ids,
            args,
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            cwd: absolute(&run.working_dir.unwrap_or_default()),
            user: run.user.unwrap_or_default(),
            stop_signal: run.stop_signal.filter(|signal| !signal.is_empty()),
            volumes: volumes.keys().map(|path| absolute(path)).collect(),
            created,
        })
    }
}

impl Config {
    /// Whether the image's user is one that containers have; else the reason.
    pub fn has_user_of_containers(&self) -> Result<(), ManifestError> {
        user_of_containers(&self.user)
    }
}

/// Whether a user and a group, where they are numbers, are ones that containers have; else the reason.
pub fn user_of_containers(user: &str) -> Result<(), ManifestError> {
    let ids = user.split(':').filter_map(|id| id.parse::<u64>().ok());
    let Some(id) = ids.into_iter().find(|id| *id >= u64::from(CONTAINER_IDS)) else { return Ok(()) };
    Err(ManifestError::Senseless(format!(
        "its user {id} is none that containers have, which are 0 to {}: set another where it is built (USER)",
        CONTAINER_IDS - 1
    )))
}

/// Relative working directories are below the root.
fn absolute(directory: &str) -> String {
    if directory.starts_with('/') { directory.to_owned() } else { format!("/{directory}") }
}
