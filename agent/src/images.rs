//! The node's images: opens OCI image layouts, checks every digest, and keeps each layer unpacked once.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;

use berth_common::spec::ImageRef;
use berth_common::wire::call::RefusalCode;
use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, Os};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use crate::runtime::LaunchError;

/// Largest manifest, index or configuration read, in bytes: they are kept in memory whole.
const MAX_JSON_BYTES: u64 = 4 << 20;
/// How deep indexes may refer to indexes.
const MAX_INDEX_DEPTH: usize = 3;
/// Images remembered as opened. More than a node has at once; the map is emptied when it is full.
const MAX_OPENED: usize = 1024;

/// An image, ready to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Directories of its unpacked layers, the topmost first.
    pub layers: Vec<PathBuf>,
    /// Entrypoint and command.
    pub args: Vec<String>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Its user: empty, `user`, `user:group`, by number or name.
    pub user: String,
}

/// The images of a node.
#[derive(Debug)]
pub struct Images {
    layers: PathBuf,
    opened: RefCell<HashMap<ImageRef, Rc<OnceCell<Rc<Image>>>>>,
    unpacking: RefCell<HashMap<String, Rc<OnceCell<PathBuf>>>>,
}

impl Images {
    /// Images whose layers are unpacked in this directory.
    pub fn new(layers: PathBuf) -> Self {
        Self { layers, opened: RefCell::default(), unpacking: RefCell::default() }
    }

    /// Opens an image, unpacking what is not yet. Concurrent calls share the work.
    pub async fn open(&self, image: &ImageRef) -> Result<Rc<Image>, LaunchError> {
        let cell = {
            let mut opened = self.opened.borrow_mut();
            if opened.len() >= MAX_OPENED {
                opened.clear();
            }
            opened.entry(image.clone()).or_default().clone()
        };
        cell.get_or_try_init(|| self.read(image)).await.cloned().map_err(|message| {
            let text = format!("image {}: {message}", image.digest);
            LaunchError::new(RefusalCode::Image, text)
        })
    }

    async fn read(&self, image: &ImageRef) -> Result<Rc<Image>, String> {
        let layout = OciLayout::open(&self.layers.join("../layout"))?;
        let manifest = layout.manifest(&image.digest.to_string())?;
        let config: ImageConfiguration = layout.json(manifest.config().digest().as_ref())?;
        check_platform(&config)?;
        let mut layers = Vec::new();
        for layer in manifest.layers() {
            layers.push(self.layer(&layout, layer).await?);
        }
        if layers.is_empty() {
            return Err("it has no layers".to_owned());
        }
        layers.reverse();
        Ok(Rc::new(describe(layers, &config)))
    }

    /// The directory of an unpacked layer.
    async fn layer(&self, layout: &OciLayout, layer: &Descriptor) -> Result<PathBuf, String> {
        let digest = layer.digest().as_ref();
        let hex = checked_hex(digest)?;
        let cell = self.unpacking.borrow_mut().entry(digest.to_owned()).or_default().clone();
        let path = cell.get_or_try_init(|| self.unpack(layout, digest, hex)).await.cloned();
        self.unpacking.borrow_mut().remove(digest);
        path
    }

    async fn unpack(&self, layout: &OciLayout, digest: &str, hex: &str) -> Result<PathBuf, String> {
        let done = self.layers.join(hex);
        if !done.exists() {
            let partial = self.layers.join(format!("{hex}.partial"));
            // Left by an agent that was killed. What is in it belongs to the container's users.
            remove_as_container_root(&partial).await?;
            let unpacked = unpack(&layout.blob(digest)?, &partial, digest).await;
            if unpacked.is_err() {
                remove_as_container_root(&partial).await?;
            }
            unpacked?;
            fs::set_permissions(&partial, std::os::unix::fs::PermissionsExt::from_mode(0o700))
                .map_err(text)?;
            fs::rename(&partial, &done).map_err(text)?;
            tracing::info!(digest, "unpacked a layer");
        }
        Ok(done.join("fs"))
    }
}

async fn remove_as_container_root(path: &Path) -> Result<(), String> {
    if path.exists() { run_mode("wipe", path, &[], Stdio::null()).await } else { Ok(()) }
}

async fn unpack(blob: &Path, partial: &Path, digest: &str) -> Result<(), String> {
    let said = |e: io::Error| format!("layer {digest}: {e}");
    let length = fs::metadata(blob).map_err(said)?.len();
    // All of the layer is there: one total is all that is to be told.
    let (totals, mut to) = io::pipe().map_err(said)?;
    io::Write::write_all(&mut to, &length.to_be_bytes()).map_err(said)?;
    let (blob, length) = (blob.display().to_string(), length.to_string());
    let args = ["--digest", digest, "--blob", &blob, "--length", &length];
    run_mode("unpack", partial, &args, Stdio::from(totals)).await
}

/// Runs a hidden mode of this program, which must be a process of its own, on a directory.
async fn run_mode(mode: &str, directory: &Path, args: &[&str], stdin: Stdio) -> Result<(), String> {
    let mut command = tokio::process::Command::new(crate::runtime::OWN_PROGRAM);
    command.arg(mode).arg("--directory").arg(directory).stdin(stdin).kill_on_drop(true);
    // What it says on failure is shown to people.
    command.env("RUST_BACKTRACE", "0");
    command.args(args);
    let output = command.output().await.map_err(text)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said
        .trim()
        .strip_prefix("Error: ")
        .unwrap_or(said.trim())
        .replace("\n\nCaused by:\n   ", ":")
        .to_owned())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn describe(layers: Vec<PathBuf>, config: &ImageConfiguration) -> Image {
    let config = config.config().as_ref();
    let list = |of: Option<&Option<Vec<String>>>| of.and_then(Option::clone).unwrap_or_default();
    let mut args = list(config.map(|c| c.entrypoint()));
    args.extend(list(config.map(|c| c.cmd())));
    let pairs = list(config.map(|c| c.env()));
    let env = pairs
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    let cwd = config.and_then(|c| c.working_dir().clone()).filter(|d| d.starts_with('/'));
    Image {
        layers,
        args,
        env,
        cwd: cwd.map_or_else(|| PathBuf::from("/"), PathBuf::from),
        user: config.and_then(|c| c.user().clone()).unwrap_or_default(),
    }
}

fn check_platform(config: &ImageConfiguration) -> Result<(), String> {
    let (os, arch) = (config.os(), config.architecture());
    if *os == Os::Linux && *arch == Arch::default() {
        return Ok(());
    }
    Err(format!("it is for {os}/{arch}, and this node runs {}/{}", Os::Linux, Arch::default()))
}

fn checked_hex(digest: &str) -> Result<&str, String> {
    let hex = digest.strip_prefix("sha256:").filter(|h| h.len() == 64);
    let hex = hex.filter(|h| h.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    hex.ok_or_else(|| format!("`{digest}` is not a digest: `sha256:` and 64 hexadecimal digits are expected"))
}

/// An OCI image layout directory.
struct OciLayout {
    directory: PathBuf,
}

impl OciLayout {
    fn open(directory: &Path) -> Result<Self, String> {
        let marker = directory.join("oci-layout");
        match fs::metadata(&marker) {
            Ok(_) => Ok(Self { directory: directory.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err("there is no OCI image layout; `berth pack` makes one".to_owned())
            }
            Err(error) => Err(format!("{}: {error}", marker.display())),
        }
    }

    fn blob(&self, digest: &str) -> Result<PathBuf, String> {
        Ok(self.directory.join("blobs/sha256").join(checked_hex(digest)?))
    }

    fn json<T: DeserializeOwned>(&self, digest: &str) -> Result<T, String> {
        let path = self.blob(digest)?;
        let said = |e: io::Error| format!("blob {digest}: {e}");
        let length = fs::metadata(&path).map_err(said)?.len();
        if length > MAX_JSON_BYTES {
            return Err(format!(
                "blob {digest} has {length} bytes; at most {MAX_JSON_BYTES} are allowed here"
            ));
        }
        let bytes = fs::read(&path).map_err(said)?;
        let found = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
        if found != digest {
            return Err(format!("blob {digest} is damaged: its digest is {found}"));
        }
        serde_json::from_slice(&bytes).map_err(|e| format!("blob {digest} is not what it should be: {e}"))
    }

    /// The manifest with this digest, or the one for this machine in the index with this digest.
    fn manifest(&self, digest: &str) -> Result<ImageManifest, String> {
        let mut digest = digest.to_owned();
        for _ in 0..MAX_INDEX_DEPTH {
            let value: serde_json::Value = self.json(&digest)?;
            if value.get("manifests").is_none() {
                return serde_json::from_value(value).map_err(|e| format!("manifest {digest}: {e}"));
            }
            let index: ImageIndex =
                serde_json::from_value(value).map_err(|e| format!("index {digest}: {e}"))?;
            digest = choose(&index).ok_or("its index has nothing for this machine")?;
        }
        Err("its indexes are nested too deeply".to_owned())
    }
}

fn choose(index: &ImageIndex) -> Option<String> {
    let fits = |descriptor: &&Descriptor| {
        let known = matches!(descriptor.media_type(), MediaType::ImageManifest | MediaType::ImageIndex);
        let platform = descriptor.platform().as_ref();
        known && platform.is_none_or(|p| *p.os() == Os::Linux && *p.architecture() == Arch::default())
    };
    index.manifests().iter().find(fits).map(|descriptor| descriptor.digest().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_cannot_lead_elsewhere() {
        let good = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(checked_hex(&good).unwrap().len(), 64);
        for bad in
            ["sha256:../../etc", "md5:00", &good.to_uppercase(), &format!("sha256:{}/", "a".repeat(63))]
        {
            assert!(checked_hex(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_missing_or_damaged_layout_is_told() {
        let dir = tempfile::tempdir().unwrap();
        assert!(OciLayout::open(dir.path()).err().unwrap().contains("berth pack"));
        fs::write(dir.path().join("oci-layout"), "{}").unwrap();
        fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        let hex = "0a".repeat(32);
        fs::write(dir.path().join("blobs/sha256").join(&hex), "{}").unwrap();
        let layout = OciLayout::open(dir.path()).unwrap();
        assert!(layout.manifest(&format!("sha256:{hex}")).unwrap_err().contains("damaged"));
    }
}
