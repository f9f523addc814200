//! Small images, and how to push them.

use std::path::Path;

use berth_common::image::Digest;
use http::StatusCode;
use serde_json::{Value, json};

use super::client;

/// The repository of the image of the app under test.
pub(crate) const REPOSITORY: &str = "test/tiny";

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image with one layer.
pub(crate) struct Image {
    pub(crate) layer: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
}

impl Image {
    /// An image with an empty layer.
    pub(crate) fn tiny() -> Self {
        // The end marker of a tar archive, without any entries.
        Self::of(vec![0; 1024])
    }

    pub(crate) fn of(layer: Vec<u8>) -> Self {
        let config = json!({
            "os": "linux", "architecture": "amd64", "config": {"Cmd": ["/run"]},
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer)]},
        });
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
        });
        Self { layer, config, manifest: manifest.to_string().into_bytes() }
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

/// Pushes the image of the app under test through the admin socket.
pub(crate) async fn push(admin: &Path) {
    let image = Image::tiny();
    for blob in [&image.layer, &image.config] {
        let path = format!("/v2/{REPOSITORY}/blobs/uploads/?digest={}", Digest::of(blob));
        put(admin, "POST", &path, blob).await;
    }
    put(admin, "PUT", &format!("/v2/{REPOSITORY}/manifests/latest"), &image.manifest).await;
}

async fn put(admin: &Path, method: &str, path: &str, body: &[u8]) {
    let streaming = client::stream_admin(admin, client::request(method, path, body.to_vec())).await;
    assert_eq!(streaming.response.status(), StatusCode::CREATED, "{path}");
}
