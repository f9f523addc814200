//! Tests of writing, counting, finding and collecting content, also concurrently and after a kill.

use std::thread;

use berth_common::image::Algorithm;
use tempfile::TempDir;

use super::*;

const LIMITS: Limits = Limits { blob_bytes: 1000, total_bytes: 3000 };

fn open(directory: &TempDir) -> Content {
    Content::open(directory.path(), LIMITS).unwrap()
}

fn names(directory: &TempDir, part: &str) -> usize {
    fs::read_dir(directory.path().join(part)).unwrap().count()
}

#[test]
fn a_blob_is_there_after_reopening_and_counts_once() {
    let directory = TempDir::new().unwrap();
    let content = open(&directory);
    let digest = content.put(b"hello").unwrap();
    assert_eq!(content.put(b"hello").unwrap(), digest);
    assert_eq!((content.usage().bytes, content.usage().blobs, content.usage().uploads), (5, 1, 0));
    let content = open(&directory);
    assert_eq!(content.size(&digest).unwrap(), Some(5));
    assert_eq!(content.read(&digest, 5).unwrap().unwrap(), b"hello");
    assert!(matches!(content.read(&digest, 4), Err(ContentError::Unexpected(4))));
    assert_eq!((content.used(), content.usage().blobs), ((5, 3000), 1));
}

#[test]
fn blobs_have_digests_of_either_algorithm() {
    let directory = TempDir::new().unwrap();
    let content = open(&directory);
    let digest = Digest::with(Algorithm::Sha512, b"hello");
    let mut upload = content.begin().unwrap();
    upload.write(b"hel").unwrap();
    upload.write(b"lo").unwrap();
    upload.finish(&digest).unwrap();
    assert_eq!(content.read(&digest, 5).unwrap().unwrap(), b"hello");
    let wrong = content.begin().unwrap().finish(&digest);
    assert!(
        matches!(wrong, Err(ContentError::Digest { found, .. }) if found.algorithm() == Algorithm::Sha512)
    );
    let content = open(&directory);
    assert_eq!(content.size(&digest).unwrap(), Some(5));
    assert_eq!(content.sweep(&HashSet::new(), Duration::ZERO, false).unwrap(), [(digest, 5)]);
}

#[test]
fn a_named_upload_is_gone_on_with_and_is_hashed_whole() {
    let directory = TempDir::new().unwrap();
    let content = open(&directory);
    let mut upload = content.resume("pull-x").unwrap();
    upload.write(b"hel").unwrap();
    drop(upload);
    assert_eq!((content.used().0, content.usage().uploads), (0, 0));
    let content = open(&directory);
    let mut upload = content.resume("pull-x").unwrap();
    assert_eq!((upload.length(), content.used().0), (3, 3));
    upload.write(b"lo").unwrap();
    upload.finish(&Digest::of(b"hello")).unwrap();
    assert_eq!((content.used().0, names(&directory, "uploads")), (5, 0));
    // A wrong one is gone, and so is one that was given up.
    let mut upload = content.resume("pull-x").unwrap();
    upload.write(b"x").unwrap();
    upload.finish(&Digest::of(b"hello")).unwrap_err();
    content.resume("pull-x").unwrap().discard();
    drop(content.resume("pull-x").unwrap());
    content.sweep_uploads("pull-", Duration::from_secs(60)).unwrap();
    assert_eq!(names(&directory, "uploads"), 1);
    content.sweep_uploads("pull-", Duration::ZERO).unwrap();
    assert_eq!((content.used().0, names(&directory, "uploads")), (5, 0));
}

#[test]
fn content_with_another_digest_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let content = open(&directory);
    let mut upload = content.begin().unwrap();
    upload.write(b"hello").unwrap();
    let wrong = upload.finish(&Digest::of(b"other"));
    assert!(matches!(wrong, Err(ContentError::Digest { .. })));
    assert_eq!((content.used().0, names(&directory, "uploads"), names(&directory, "blobs")), (0, 0, 0));
}

#[test]
fn a_damaged_blob_is_noticed_and_replaced() {
    let directory = TempDir::new().unwrap();
    let content = open(&directory);
    let digest = content.put(b"hello").unwrap();
    fs::write(content.path(&digest), b"hallo, ").unwrap();
    assert!(matches!(content.read(&digest, 100), Err(ContentError::Digest { .. })));
    content.put(b"hello").unwrap();
    assert_eq!(content.read(&digest, 100).unwrap().unwrap(), b"hello");
}

#[test]
fn room_is_reserved_while_writing_and_given_back() {
    let directory = TempDir::new().unwrap();
    let content = open(&directory);
    let mut uploads: Vec<Upload> = (0..3).map(|_| content.begin().unwrap()).collect();
    uploads.iter_mut().for_each(|upload| upload.write(&[0; 1000]).unwrap());
    assert!(matches!(uploads[0].write(&[0]), Err(ContentError::TooLarge { limit: 1000 })));
    let mut fourth = content.begin().unwrap();
    assert!(matches!(fourth.write(&[0]), Err(ContentError::Quota { limit: 3000 })));
    drop(uploads);
    fourth.write(&[0]).unwrap();
    assert_eq!(fourth.length(), 1);
    fourth.finish(&Digest::of(&[0])).unwrap();
    assert_eq!(content.used().0, 1);
}

#[test]
fn leftovers_of_a_kill_are_removed_and_not_counted() {
    let directory = TempDir::new().unwrap();
    let content = open(&directory);
    content.put(b"kept").unwrap();
    let mut upload = content.begin().unwrap();
    upload.write(b"half").unwrap();
    // A killed process leaves it like this: it was not dropped.
    std::mem::forget(upload);
    assert_eq!(names(&directory, "uploads"), 1);
    let content = open(&directory);
    assert_eq!((names(&directory, "uploads"), content.used().0), (0, 4));
}

#[test]
fn only_blobs_without_recent_access_are_collected() {
    let directory = TempDir::new().unwrap();
    let content = open(&directory);
    let old = |digest: &Digest| {
        let file = File::open(content.path(digest)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(100)).unwrap();
    };
    let (kept, accessed, unwanted) =
        (content.put(b"1").unwrap(), content.put(b"22").unwrap(), content.put(b"333").unwrap());
    [kept, accessed, unwanted].iter().for_each(old);
    assert_eq!(content.size(&accessed).unwrap(), Some(2));
    let (keep, grace) = (HashSet::from([kept]), Duration::from_secs(50));
    assert_eq!(content.sweep(&keep, grace, true).unwrap(), [(unwanted, 3)]);
    assert_eq!(content.size(&kept).unwrap().zip(content.idle(&unwanted).unwrap()).map(|(n, _)| n), Some(1));
    assert_eq!(content.sweep(&keep, grace, false).unwrap(), [(unwanted, 3)]);
    assert_eq!(content.size(&unwanted).unwrap(), None);
    assert_eq!((content.used().0, content.usage().blobs), (3, 2));
}

#[test]
fn uploads_are_bounded() {
    let directory = TempDir::new().unwrap();
    let content = open(&directory);
    let uploads: Vec<Upload> = (0..MAX_UPLOADS).map(|_| content.begin().unwrap()).collect();
    assert!(matches!(content.begin(), Err(ContentError::Busy)));
    drop(uploads);
    content.begin().unwrap();
}

/// A client that was told that a blob exists finds it, and the totals match what is stored.
#[test]
fn concurrent_uploads_of_one_blob_and_collections_are_consistent() {
    let directory = TempDir::new().unwrap();
    let content = open(&directory);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for n in 0..100_u8 {
                    let digest = content.put(&[n % 5; 100]).unwrap();
                    assert_eq!(content.size(&digest).unwrap(), Some(100));
                }
            });
        }
        scope.spawn(|| {
            (0..200).for_each(|_| drop(content.sweep(&HashSet::new(), Duration::from_secs(9), false)));
        });
    });
    assert_eq!((content.used().0, content.usage().blobs), (500, 5));
    // Without a grace period everything is removed.
    thread::scope(|scope| {
        scope.spawn(|| (0..100_u8).for_each(|n| assert!(content.put(&[n % 5; 100]).is_ok())));
        scope.spawn(|| {
            (0..100).for_each(|_| drop(content.sweep(&HashSet::new(), Duration::ZERO, false).unwrap()));
        });
    });
    assert_eq!(content.used().0, 100 * names(&directory, "blobs") as u64);
    assert_eq!(content.usage().blobs, names(&directory, "blobs") as u64);
}
