//! Tests of transfers with registries that respond wrongly, interrupt, redirect, and are slow.

mod fake;
mod logins;
mod pulls;
mod pushes;

use std::collections::HashMap;
use std::sync::Arc;

use berth_common::image::{Digest, Reference};
use berth_store::{SledStore, Store};
use serde_json::json;
use tempfile::TempDir;

use self::fake::{Answer, Asked, Fake};
use super::*;
use crate::images::ImageLimits;

/// Largest image in these tests, in bytes.
const IMAGE_LIMIT: u64 = 8 << 20;

/// Stored logins.
#[derive(Default)]
struct Known(std::sync::Mutex<HashMap<Registry, Login>>);

impl Logins for Known {
    fn login(&self, registry: &Registry) -> Result<Option<Login>, LoginError> {
        Ok(self.0.lock().unwrap().get(registry).cloned())
    }
}

/// An edge's images, and its client of other registries.
struct Stage {
    images: Arc<Images>,
    logins: Arc<Known>,
    remote: Arc<Remote>,
    directory: TempDir,
}

impl Stage {
    /// One that may reach these registries without TLS.
    fn new(plain: &[&Fake]) -> Self {
        Self::on(tempfile::tempdir().unwrap(), plain)
    }

    /// What the next edge is on the same disk.
    fn again(self, plain: &[&Fake]) -> Self {
        let Self { images, logins, remote, directory } = self;
        drop((images, logins, remote));
        Self::on(directory, plain)
    }

    fn on(directory: TempDir, plain: &[&Fake]) -> Self {
        let store = SledStore::open(&directory.path().join("store")).unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        let limits = ImageLimits { image_bytes: IMAGE_LIMIT, total_bytes: 4 * IMAGE_LIMIT };
        let images = Images::open(&directory.path().join("images"), limits, store).unwrap();
        let logins = Arc::<Known>::default();
        let settings = Settings {
            allowed: vec!["127.0.0.1/32".parse().unwrap()],
            plain: plain.iter().map(|fake| fake.address.to_string().parse().unwrap()).collect(),
            authorities: Vec::new(),
        };
        let remote = Remote::new(settings, Arc::clone(&images), Arc::clone(&logins) as Arc<dyn Logins>);
        let remote = Arc::new(remote);
        Self { images, logins, remote, directory }
    }

    async fn pull(&self, from: &str) -> Result<Moved, RemoteError> {
        self.remote.pull(wanted(from), &Progress::default()).await
    }

    fn has(&self, digest: &Digest) -> bool {
        self.images.content().size(digest).unwrap().is_some()
    }
}

fn wanted(from: &str) -> Pull {
    let from: Reference = from.parse().unwrap();
    Pull { from, login: None, platform: None, into: Destination::Mirror { tag: true } }
}

/// An image as a registry has it.
#[derive(Clone, Default)]
struct Image {
    blobs: HashMap<Digest, Vec<u8>>,
    manifests: HashMap<Digest, Vec<u8>>,
    digest: Option<Digest>,
}

impl Image {
    /// An image for an architecture with these layers.
    fn new(architecture: &str, layers: &[Vec<u8>]) -> Self {
        let mut image = Self::default();
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let config =
            json!({ "os": "linux", "architecture": architecture, "rootfs": { "diff_ids": diff_ids } });
        let config = image.blob(config.to_string().into_bytes(), "application/vnd.oci.image.config.v1+json");
        let kind = "application/vnd.oci.image.layer.v1.tar";
        let layers: Vec<_> = layers.iter().map(|layer| image.blob(layer.clone(), kind)).collect();
        image.manifest(json!({ "schemaVersion": 2, "config": config, "layers": layers }));
        image
    }

    /// An index of these images and of some that do not exist.
    fn list(children: &[(&str, Self)], absent: &[&str]) -> Self {
        let mut list = Self::default();
        let mut entries = Vec::new();
        for (architecture, child) in children {
            list.blobs.extend(child.blobs.clone());
            list.manifests.extend(child.manifests.clone());
            let digest = child.digest.unwrap();
            let size = child.manifests[&digest].len();
            entries.push(json!({ "digest": digest, "size": size, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "platform": { "os": "linux", "architecture": architecture } }));
        }
        for architecture in absent {
            let digest = Digest::of(architecture.as_bytes());
            entries.push(json!({ "digest": digest, "size": 7, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "platform": { "os": "linux", "architecture": architecture } }));
        }
        list.manifest(json!({ "schemaVersion": 2, "manifests": entries }));
        list
    }

    fn blob(&mut self, bytes: Vec<u8>, media_type: &str) -> serde_json::Value {
        let (digest, size) = (Digest::of(&bytes), bytes.len());
        self.blobs.insert(digest, bytes);
        json!({ "mediaType": media_type, "digest": digest, "size": size })
    }

    fn manifest(&mut self, document: serde_json::Value) {
        let bytes = document.to_string().into_bytes();
        self.digest = Some(Digest::of(&bytes));
        self.manifests.insert(Digest::of(&bytes), bytes);
    }

    fn digest(&self) -> Digest {
        self.digest.unwrap()
    }

    /// The response of a registry: below `/v2/`, with the tag `v1` for the last manifest.
    fn answer(&self, asked: &Asked) -> Answer {
        let Some((_, name)) = asked.path.rsplit_once('/') else { return Answer::of(404, "") };
        let digest = if name == "v1" { self.digest } else { name.parse().ok() };
        let bytes = digest.and_then(|digest| {
            let kind = if asked.path.contains("/manifests/") { &self.manifests } else { &self.blobs };
            kind.get(&digest).cloned()
        });
        bytes.map_or_else(
            || Answer::of(404, r#"{"errors":[{"message":"no"}]}"#),
            |bytes| Answer::of(200, bytes),
        )
    }
}

/// Deterministic bytes without repeated blocks.
fn layer(seed: u8, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| u8::try_from((n / 251 + n + usize::from(seed)) % 256).unwrap()).collect()
}
