//! OCI image layouts written by hand, with whatever an image must not have in it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

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

    /// Names as they are: nothing here checks them. Long ones have an entry of their own before them.
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

/// Writes a layout that holds one image of these layers, the lowest first, and returns how `berth.toml` names it.
/// `config` replaces keys of the image's own `config`, `platform` its architecture.
pub fn write(directory: &Path, layers: Vec<Layer>, config: Value, architecture: &str) -> Result<String> {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let blob = |media_type: &str, bytes: &[u8]| -> Result<Value> {
        let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(blobs.join(&hex), bytes)?;
        Ok(json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len()}))
    };
    let mut descriptors = Vec::new();
    for layer in layers {
        let tar = layer.tar.into_inner().context("end a layer")?;
        descriptors.push(blob("application/vnd.oci.image.layer.v1.tar", &tar)?);
    }
    let diff_ids: Vec<_> = descriptors.iter().map(|descriptor| descriptor["digest"].clone()).collect();
    let image = json!({"architecture": architecture, "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = blob("application/vnd.oci.image.config.v1+json", image.to_string().as_bytes())?;
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": descriptors});
    let manifest = blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes())?;
    fs::write(
        directory.join("index.json"),
        json!({"schemaVersion": 2, "manifests": [manifest]}).to_string(),
    )?;
    fs::write(directory.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
    Ok(format!("oci:{}", directory.display()))
}
