//! Tests of images that are pushed, used, deleted and collected.

use std::time::SystemTime;

use berth_common::image::Architecture;
use berth_images::manifest::{OCI_INDEX, OCI_MANIFEST};
use berth_store::fixtures::app;
use berth_store::{AppHistory, SledStore};
use serde_json::{Value, json};

use super::*;

/// The images of a test.
struct Stage {
    directory: tempfile::TempDir,
    store: Arc<dyn Store>,
    images: Arc<Images>,
}

fn stage(limits: ImageLimits) -> Stage {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(SledStore::open(&directory.path().join("store")).unwrap());
    let images = Images::open(&directory.path().join("images"), limits, Arc::clone(&store)).unwrap();
    Stage { directory, store, images }
}

const LIMITS: ImageLimits = ImageLimits { image_bytes: 10_000, total_bytes: 100_000 };

fn name(text: &str) -> Named {
    text.parse().unwrap()
}

fn descriptor(media_type: &str, digest: &Digest, size: usize) -> Value {
    json!({"mediaType": media_type, "digest": digest, "size": size})
}

#[tokio::test]
async fn layers_that_only_their_maker_distributes_may_be_missing_until_somebody_runs_them() {
    let stage = stage(LIMITS);
    let bytes = stage.manifest(b"layer");
    let mut manifest: Value = serde_json::from_slice(&bytes).unwrap();
    let missing =
        descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", &Digest::of(b"theirs"), 6);
    manifest["layers"].as_array_mut().unwrap().push(missing.clone());
    let bytes = manifest.to_string().into_bytes();
    let digest = stage.put("a/b:1", &bytes).unwrap();
    let image = ImageRef::new("a/b".parse().unwrap(), digest);
    let refused = stage.images.pin(&image).await.unwrap_err().to_string();
    assert!(refused.contains("only be fetched from its maker"), "{refused}");
    // One that is here must be what the manifest says.
    stage.blob(b"theirs");
    assert!(stage.images.pin(&image).await.is_ok());
    manifest["layers"][1]["size"] = 7.into();
    let lie = manifest.to_string().into_bytes();
    assert!(matches!(stage.put("a/b:1", &lie), Err(ImageError::Size { .. })));
}

#[test]
fn a_manifest_is_stored_under_the_digest_that_was_asked_for() {
    let stage = stage(LIMITS);
    let (repository, bytes) = ("a/b".parse().unwrap(), stage.manifest(b"layer"));
    let tags = ["1", "2"].map(|tag| tag.parse().unwrap());
    let digest = stage.core().put_manifest(&repository, &tags, Algorithm::Sha512, &bytes).unwrap();
    assert!(digest.to_string().starts_with("sha512:"));
    for picked in ["a/b:1".to_owned(), "a/b:2".to_owned(), format!("a/b@{digest}")] {
        assert_eq!(stage.core().resolve(&name(&picked)).unwrap(), Some(digest), "{picked}");
    }
    assert_eq!(stage.core().resolve(&name(&format!("a/b@{}", Digest::of(&bytes)))).unwrap(), None);
    // Each access is renewed, and a collection keeps it for its tags.
    assert_eq!(stage.core().gc_with(Duration::ZERO, false).unwrap().manifests, []);
    assert_eq!(stage.core().manifest(&digest).unwrap().unwrap().1, bytes.len() as u64);
    stage.core().delete(&name(&format!("a/b@{digest}")), false).unwrap();
    assert_eq!(stage.core().gc_with(Duration::ZERO, false).unwrap().blobs.len(), 3);
}

impl Stage {
    fn core(&self) -> &Core {
        &self.images.0
    }

    fn blob(&self, bytes: &[u8]) -> (Digest, usize) {
        (self.images.content().put(bytes).unwrap(), bytes.len())
    }

    /// The manifest of an image with this layer, whose parts exist.
    fn manifest(&self, layer: &[u8]) -> Vec<u8> {
        let (layer, layer_size) = self.blob(layer);
        let config = json!({"os": "linux", "architecture": "arm64", "rootfs": {"diff_ids": [layer]}});
        let (config, config_size) = self.blob(config.to_string().as_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config, config_size),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer, layer_size)],
        });
        manifest.to_string().into_bytes()
    }

    fn put(&self, named: &str, manifest: &[u8]) -> Result<Digest, ImageError> {
        let named = name(named);
        let tags = if let Pick::Tag(tag) = named.pick { vec![tag] } else { Vec::new() };
        self.core().put_manifest(&named.repository, &tags, Algorithm::Sha256, manifest)
    }

    fn untagged(&self, manifest: &[u8]) -> Digest {
        self.core().put_manifest(&"r".parse().unwrap(), &[], Algorithm::Sha256, manifest).unwrap()
    }

    fn index(&self, parts: &[&[u8]]) -> Vec<u8> {
        let part = |bytes: &&[u8]| descriptor(OCI_MANIFEST, &Digest::of(bytes), bytes.len());
        let parts: Vec<Value> = parts.iter().map(part).collect();
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": parts}).to_string().into_bytes()
    }

    /// As if nothing had been accessed for long.
    fn age(&self) {
        for entry in std::fs::read_dir(self.directory.path().join("images/blobs")).unwrap() {
            let file = std::fs::File::open(entry.unwrap().path()).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(2 * 60 * 60)).unwrap();
        }
    }

    fn use_in_an_app(&self, digest: Digest) {
        let mut spec = app("shop", &[]);
        spec.classes
            .values_mut()
            .for_each(|class| class.recipe.image = ImageRef::new("r".parse().unwrap(), digest));
        // Another version is current: the one with the image can be rolled back to.
        let history = AppHistory::begin(spec, 1).deploy(app("shop", &[]), 2);
        self.core().commit(vec![Write::App(history)]).unwrap();
    }
}

#[test]
fn a_manifest_needs_all_of_its_parts_as_it_says() {
    let stage = stage(LIMITS);
    let manifest = stage.manifest(b"layer");
    let digest = stage.put("r:v1", &manifest).unwrap();
    assert_eq!(stage.core().resolve(&name("r:v1")).unwrap(), Some(digest));
    assert_eq!(stage.core().resolve(&name(&format!("r@{digest}"))).unwrap(), Some(digest));
    assert_eq!(stage.core().resolve(&name("other:v1")).unwrap(), None);
    let text = String::from_utf8(manifest.clone()).unwrap();
    let layer = Digest::of(b"layer").to_string();
    let missing = text.replace(&layer, &Digest::of(b"gone").to_string());
    assert!(matches!(
        stage.put("r:v2", missing.as_bytes()),
        Err(ImageError::MissingPart { what: "blob", .. })
    ));
    let longer = text.replace("\"size\":5", "\"size\":6");
    assert!(matches!(stage.put("r:v2", longer.as_bytes()), Err(ImageError::Size { said: 6, found: 5, .. })));
    let other = stage.index(&[b"{}"]);
    assert!(matches!(stage.put("r:v2", &other), Err(ImageError::MissingPart { what: "manifest", .. })));
    assert!(matches!(stage.put("r:v2", b"{}"), Err(ImageError::Manifest(_))));
    assert_eq!(stage.core().resolve(&name("r:v2")).unwrap(), None);
    stage.put("r:multi", &stage.index(&[&manifest])).unwrap();
}

#[test]
fn an_image_is_described_also_through_an_index() {
    let stage = stage(LIMITS);
    let manifest = stage.manifest(b"layer");
    let digest = stage.put("r:v1", &manifest).unwrap();
    let index = stage.put("r:multi", &stage.index(&[&manifest])).unwrap();
    for of in [digest, index] {
        let info = stage.core().describe(&of).unwrap().unwrap();
        assert_eq!(info.architectures, [Architecture::Arm64].into());
        assert_eq!((info.images.len(), info.images[0].digest, info.images[0].layers.len()), (1, digest, 1));
    }
    assert_eq!(stage.core().describe(&Digest::of(b"none")).unwrap(), None);
}

#[test]
fn an_image_that_is_too_large_is_refused_whatever_its_blobs_are() {
    let stage = stage(ImageLimits { image_bytes: 200, ..LIMITS });
    let manifest = stage.manifest(&[7; 150]);
    assert!(matches!(stage.put("r:v1", &manifest), Err(ImageError::TooLarge { limit: 200, .. })));
}

#[test]
fn an_image_in_use_is_deleted_only_by_force_and_its_content_is_kept() {
    let stage = stage(LIMITS);
    let manifest = stage.manifest(b"layer");
    let digest = stage.put("r:v1", &manifest).unwrap();
    let index = stage.put("r:multi", &stage.index(&[&manifest])).unwrap();
    stage.use_in_an_app(index);
    for used in ["r:v1", "r:multi", &format!("r@{digest}"), &format!("r@{index}")] {
        let refused = stage.core().delete(&name(used), false).unwrap_err();
        assert!(refused.to_string().contains("version 1 of the app shop"), "{refused}");
    }
    stage.core().delete(&name(&format!("r@{index}")), true).unwrap();
    assert_eq!(stage.core().resolve(&name("r:multi")).unwrap(), None);
    stage.core().delete(&name("r:v1"), true).unwrap();
    assert!(matches!(stage.core().delete(&name("r:v1"), true), Err(ImageError::Unknown(_))));
    stage.age();
    let swept = stage.core().gc(false).unwrap();
    assert_eq!(swept, Swept::default());
    assert!(stage.core().describe(&index).unwrap().is_some_and(|info| info.images.len() == 1));
    let part = stage.core().delete_blob(&Digest::of(b"layer"));
    assert!(matches!(part, Err(ImageError::Part { .. })));
}

#[test]
fn an_untagged_image_is_collected_after_a_while_with_its_own_parts() {
    let stage = stage(LIMITS);
    let (kept, gone) = (stage.manifest(b"kept"), stage.manifest(b"gone"));
    stage.put("r:v1", &kept).unwrap();
    let gone = stage.untagged(&gone);
    assert_eq!(stage.core().gc(false).unwrap(), Swept::default());
    stage.age();
    let would = stage.core().gc(true).unwrap();
    assert_eq!((would.manifests.len(), would.blobs.len()), (1, 3));
    assert_eq!(stage.core().gc(false).unwrap(), would);
    assert_eq!(stage.core().resolve(&name(&format!("r@{gone}"))).unwrap(), None);
    assert_eq!(stage.core().gc(false).unwrap(), Swept::default());
    assert_eq!(stage.core().changing().manifests, 1);
    let again =
        Images::open(&stage.directory.path().join("images"), LIMITS, Arc::clone(&stage.store)).unwrap();
    let counts = again.0.changing();
    assert_eq!((counts.tags, counts.manifests), (1, 1));
}

#[test]
fn referrers_of_a_kept_image_are_kept() {
    let stage = stage(LIMITS);
    let manifest = stage.manifest(b"layer");
    let digest = stage.put("r:v1", &manifest).unwrap();
    let mut about: Value = serde_json::from_slice(&stage.manifest(b"signature")).unwrap();
    about["subject"] = descriptor(OCI_MANIFEST, &digest, manifest.len());
    stage.untagged(about.to_string().as_bytes());
    stage.age();
    assert_eq!(stage.core().gc(false).unwrap(), Swept::default());
    stage.core().delete(&name("r:v1"), false).unwrap();
    stage.age();
    assert_eq!(stage.core().gc(false).unwrap().manifests.len(), 2);
    assert_eq!(stage.images.content().used().0, 0);
}

#[test]
fn a_pin_keeps_an_old_image_until_the_app_is_stored() {
    let stage = stage(LIMITS);
    let repository = "r".parse().unwrap();
    let digest = stage.untagged(&stage.manifest(b"layer"));
    stage.age();
    assert!(stage.core().pin(&repository, &digest).unwrap().is_some());
    assert_eq!(stage.core().gc(false).unwrap(), Swept::default());
    stage.age();
    stage.core().gc(false).unwrap();
    assert!(stage.core().pin(&repository, &digest).unwrap().is_none());
}

#[test]
fn a_push_collects_garbage_once_and_is_then_refused() {
    let stage = stage(ImageLimits { image_bytes: 5_000, total_bytes: 5_000 });
    stage.untagged(&stage.manifest(&[1; 3_000]));
    stage.age();
    let write = |bytes: usize| -> Result<(), ImageError> {
        let mut upload = stage.images.content().begin().unwrap();
        let bytes = vec![2; bytes];
        stage.core().with_room(|| upload.write(&bytes))?;
        upload.finish(&Digest::of(&bytes)).map(drop).map_err(ImageError::from)
    };
    write(3_000).unwrap();
    let refused = write(2_500).unwrap_err();
    assert!(refused.to_string().contains("berth images gc"), "{refused}");
}

#[test]
fn pushes_concurrent_with_collections_lose_nothing() {
    let stage = stage(ImageLimits { total_bytes: 10_000_000, ..LIMITS });
    std::thread::scope(|scope| {
        for thread in 0..3_u8 {
            let stage = &stage;
            scope.spawn(move || {
                for n in 0..20_u8 {
                    let manifest = stage.manifest(&[n, thread % 2]);
                    let digest = stage.put(&format!("r{thread}:v{n}"), &manifest).unwrap();
                    assert!(stage.core().describe(&digest).unwrap().is_some());
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..20 {
                stage.core().gc_with(Duration::from_secs(5), false).unwrap();
            }
        });
    });
    stage.age();
    assert_eq!(stage.core().gc(false).unwrap(), Swept::default());
    let tags = stage.store.all_tags(None, 1000).unwrap();
    assert_eq!(tags.len(), 60);
    for tag in tags {
        let info = stage.core().describe(&tag.digest).unwrap().unwrap();
        assert!(stage.images.content().size(&info.images[0].layers[0].digest).unwrap().is_some());
    }
}
