//! Tests of files that are sent, named by versions, forgotten and collected, also after a kill.

use std::fs;

use berth_store::fixtures::app;
use berth_store::{AppHistory, SledStore, Write};

use super::*;

struct Stage {
    directory: tempfile::TempDir,
    store: Arc<dyn Store>,
    files: Files,
}

const SMALL: Limits = Limits { blob_bytes: 1000, total_bytes: 1500 };

fn stage() -> Stage {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(SledStore::open(&directory.path().join("store")).unwrap());
    let files = Files::with_limits(&directory.path().join("files"), Arc::clone(&store), SMALL).unwrap();
    Stage { directory, store, files }
}

impl Stage {
    /// Stores a version of an app that names this as a module, and this as its source map.
    fn names(&self, module: &Digest, map: &Digest) {
        let mut spec = app("a", &[]);
        let program = serde_json::json!({"entry": "a", "compatibility_date": "2026-01-31",
            "modules": [{"name": "a", "digest": module, "map": map}]});
        spec.program = Some(serde_json::from_value(program).unwrap());
        let (sender, stored) = std::sync::mpsc::channel();
        let done = Box::new(move |result| sender.send(result).unwrap());
        self.store.commit(vec![Write::App(AppHistory::begin(spec, 1))], done);
        stored.recv().unwrap().unwrap();
    }

    async fn collect(&self, grace: Duration) {
        self.files.on_a_thread(move |core| core.collect(grace)).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_kept_version_names_stays_and_the_rest_goes_after_the_grace() {
    let stage = stage();
    let [module, map, other] = [b"module".to_vec(), b"map".to_vec(), b"other".to_vec()];
    let (module, map, other) = (
        stage.files.put(module).await.unwrap(),
        stage.files.put(map).await.unwrap(),
        stage.files.put(other).await.unwrap(),
    );
    stage.names(&module, &map);
    stage.collect(Duration::from_secs(60)).await;
    let all = vec![module, map, other];
    assert_eq!(stage.files.missing(all.clone()).await.unwrap(), []);
    stage.collect(Duration::ZERO).await;
    assert_eq!(stage.files.missing(all).await.unwrap(), [other]);
    assert_eq!(stage.files.read(&module, 10).unwrap().unwrap(), b"module");
}

#[tokio::test]
async fn what_was_asked_for_or_claimed_a_moment_ago_is_not_collected() {
    let stage = stage();
    let digest = stage.files.put(b"x".to_vec()).await.unwrap();
    let path = stage.directory.path().join("files/blobs").join(digest.hex());
    let old = std::time::SystemTime::now() - Duration::from_secs(10_000);
    let age = || File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    for claim in [false, true] {
        age();
        if claim {
            assert_eq!(
                stage.files.claim(HashSet::from([digest])).await.unwrap(),
                HashMap::from([(digest, 1)])
            );
        } else {
            assert_eq!(stage.files.missing(vec![digest]).await.unwrap(), []);
        }
        stage.collect(Duration::from_secs(1_000)).await;
        assert!(path.exists());
    }
    age();
    stage.collect(Duration::from_secs(1_000)).await;
    assert!(!path.exists());
    assert_eq!(stage.files.claim(HashSet::from([digest])).await.unwrap(), HashMap::new());
}

#[tokio::test]
async fn an_upload_without_its_end_leaves_nothing_also_after_a_kill() {
    let stage = stage();
    let upload = stage.files.begin().unwrap();
    let upload = stage.files.write(upload, vec![Bytes::from_static(b"half")]).await.unwrap();
    // What a killed edge leaves is what lies there now.
    let uploads = stage.directory.path().join("files/uploads");
    let left = fs::read_dir(&uploads).unwrap().next().unwrap().unwrap().path();
    fs::copy(&left, uploads.join(".tmpOfTheKilled")).unwrap();
    drop(upload);
    let Stage { directory, store, files } = stage;
    assert_eq!(files.0.content.used().0, 0);
    drop(files);
    let files = Files::open(&directory.path().join("files"), store).unwrap();
    assert_eq!((fs::read_dir(&uploads).unwrap().count(), files.0.content.used().0), (0, 0));
}

#[tokio::test]
async fn each_bound_has_its_name() {
    let stage = stage();
    let send = async |length: usize| {
        let upload = stage.files.begin().unwrap();
        let bytes = Bytes::from(vec![b'x'; length]);
        let digest = Digest::of(&bytes);
        let upload = stage.files.write(upload, vec![bytes]).await?;
        stage.files.finish(upload, digest).await
    };
    assert!(matches!(send(1001).await, Err(FilesError::TooLarge { limit: 1000 })));
    assert!(send(900).await.is_ok());
    let refused = send(901).await.unwrap_err();
    assert!(matches!(refused, FilesError::Quota) && refused.to_string().contains("all apps"), "{refused}");
    let upload = stage.files.begin().unwrap();
    let wrong = stage.files.finish(upload, Digest::of(b"y")).await;
    assert!(matches!(wrong, Err(FilesError::Digest { .. })));
    assert_eq!(stage.files.0.content.used().0, 900);
}

#[tokio::test]
async fn without_room_what_nobody_names_makes_it() {
    let stage = stage();
    let digest = stage.files.put(vec![b'o'; 900]).await.unwrap();
    let path = stage.directory.path().join("files/blobs").join(digest.hex());
    let old = std::time::SystemTime::now() - GRACE - Duration::from_secs(10);
    File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
    let upload = stage.files.begin().unwrap();
    let bytes = Bytes::from(vec![b'n'; 900]);
    let upload = stage.files.write(upload, vec![bytes.clone()]).await.unwrap();
    stage.files.finish(upload, Digest::of(&bytes)).await.unwrap();
    assert_eq!(stage.files.missing(vec![digest]).await.unwrap(), [digest]);
}

#[tokio::test]
async fn damaged_files_are_not_read() {
    let stage = stage();
    let digest = stage.files.put(b"x".to_vec()).await.unwrap();
    fs::write(stage.directory.path().join("files/blobs").join(digest.hex()), b"y").unwrap();
    assert!(matches!(stage.files.read(&digest, 10), Err(FilesError::Digest { .. })));
}
