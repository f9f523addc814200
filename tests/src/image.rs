//! OCI image layouts written by hand, also invalid ones.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// This machine's architecture, as images name it.
pub fn architecture() -> &'static str {
    if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }
}

/// A layer under construction.
pub struct Layer {
    tar: Builder<Vec<u8>>,
}

impl Default for Layer {
    fn default() -> Self {
        Self { tar: Builder::new(Vec::new()) }
    }
}

impl Layer {
    /// A file with these bytes.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, bytes: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, None, mode, bytes)
    }

    /// A directory.
    #[must_use]
    pub fn directory(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path, None, 0o755, &[])
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, Some(target), 0o777, &[])
    }

    /// A hard link.
    #[must_use]
    pub fn hardlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, Some(target), 0o644, &[])
    }

    /// Anything else that has only a name.
    #[must_use]
    pub fn special(self, kind: EntryType, path: &str) -> Self {
        self.entry(kind, path, None, 0o666, &[])
    }

    /// The archive.
    pub fn into_bytes(self) -> Result<Vec<u8>> {
        self.tar.into_inner().context("end a layer")
    }

    /// Names are written unchecked. Long ones get an extension entry before them.
    fn entry(mut self, kind: EntryType, path: &str, link: Option<&str>, mode: u32, bytes: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        for (kind, name) in [(EntryType::GNULongName, Some(path)), (EntryType::GNULongLink, link)] {
            if let Some(name) = name.filter(|name| name.len() > 99) {
                self = self.long_name(kind, name);
            }
        }
        if let Some(gnu) = header.as_gnu_mut() {
            put(&mut gnu.name, path);
            put(&mut gnu.linkname, link.unwrap_or_default());
        }
        header.set_cksum();
        // Into memory: it cannot fail.
        let _ = self.tar.append(&header, bytes);
        self
    }

    fn long_name(mut self, kind: EntryType, name: &str) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(name.len() as u64 + 1);
        if let Some(gnu) = header.as_gnu_mut() {
            put(&mut gnu.name, "././@LongLink");
        }
        header.set_cksum();
        let _ = self.tar.append(&header, [name.as_bytes(), b"\0"].concat().as_slice());
        self
    }
}

fn put(field: &mut [u8; 100], text: &str) {
    let length = text.len().min(99);
    field[..length].copy_from_slice(&text.as_bytes()[..length]);
}

/// Media types.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The same.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The same.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The same.
pub const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// The same.
pub const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A layout under construction. It is not checked for consistency, so that tests can make bad ones.
#[derive(Debug)]
pub struct Layout {
    directory: PathBuf,
}

impl Layout {
    /// An empty one in a directory, which is made.
    pub fn create(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory.join("blobs/sha256"))?;
        fs::write(directory.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// Adds a blob, and returns what names it.
    pub fn blob(&self, media_type: &str, bytes: &[u8]) -> Result<Value> {
        let digest = digest(bytes);
        fs::write(self.path(&digest), bytes)?;
        Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
    }

    /// Where a blob is.
    pub fn path(&self, digest: &str) -> PathBuf {
        self.directory.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    }

    /// Adds an image of these layers, the lowest first, and returns what names it. `config` is the image's own
    /// `config`.
    pub fn image(&self, layers: Vec<Layer>, config: &Value, architecture: &str) -> Result<Value> {
        let mut descriptors = Vec::new();
        for layer in layers {
            descriptors.push(self.blob(TAR, &layer.into_bytes()?)?);
        }
        let diff_ids = descriptors.iter().map(|descriptor| descriptor["digest"].clone()).collect();
        self.image_of(&descriptors, diff_ids, config, architecture)
    }

    /// The same of layers that are there, whose digests before compression these are.
    pub fn image_of(
        &self,
        layers: &[Value],
        diff_ids: Vec<Value>,
        config: &Value,
        architecture: &str,
    ) -> Result<Value> {
        let image = json!({"architecture": architecture, "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = self.blob(CONFIG, image.to_string().as_bytes())?;
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        let mut manifest = self.blob(MANIFEST, manifest.to_string().as_bytes())?;
        manifest["platform"] = json!({"architecture": architecture, "os": "linux"});
        Ok(manifest)
    }

    /// Adds an index of these, and returns what names it.
    pub fn index(&self, manifests: &[Value]) -> Result<Value> {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        self.blob(INDEX, index.to_string().as_bytes())
    }

    /// Makes this the layout's only image, and returns how `berth.toml` names it.
    pub fn finish(self, image: &Value) -> Result<String> {
        let index = json!({"schemaVersion": 2, "manifests": [image]});
        fs::write(self.directory.join("index.json"), index.to_string())?;
        Ok(format!("oci:{}", self.directory.display()))
    }
}

/// The digest of bytes, as images name it.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Writes a layout that holds one image of these layers, the lowest first, and returns how `berth.toml` names it.
/// `config` is the image's own `config`.
pub fn write(directory: &Path, layers: Vec<Layer>, config: Value, architecture: &str) -> Result<String> {
    let layout = Layout::create(directory)?;
    let mut image = layout.image(layers, &config, architecture)?;
    // An image by itself needs no platform: its configuration has one.
    if let Some(fields) = image.as_object_mut() {
        fields.remove("platform");
    }
    layout.finish(&image)
}
