//! Layers of images: any bytes are unpacked or refused, and nothing outside the directory is read or changed.

#![no_main]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use berth_common::image::Algorithm;
use berth_images::layer::{Form, Limits, Owners, Target, remove, unpack};
use libfuzzer_sys::fuzz_target;

/// Small, so that many layers are tried.
const LIMITS: Limits = Limits { bytes: 1 << 20, entries: 200, ids: 65_536 };
const BLOCK_BYTES: usize = 512;
const CANARY: &str = "canary";

// The first byte says how: what the directory is (1), that the checksums in the rest are to be set right, as a fuzzer
// seldom does (2), that the layer is unpacked twice over (4).
fuzz_target!(|bytes: &[u8]| {
    let Some((how, layer)) = bytes.split_first() else { return };
    let mut layer = layer.to_vec();
    if how & 2 != 0 {
        seal(&mut layer);
    }
    // Links in the seeds lead to the file beside the directory as `../canary`.
    let outside = tempfile::tempdir().expect("a temporary directory can be made");
    fs::write(outside.path().join(CANARY), CANARY).expect("a file can be written there");
    let root = outside.path().join("root");
    fs::create_dir(&root).expect("a directory can be made there");
    for _ in 0..=(how >> 2 & 1) {
        let form = if how & 1 == 0 { Form::Overlay } else { Form::Merged };
        let target = Target::open(&root, form, Owners::Mine).expect("it is there");
        if let Ok(summary) = unpack(&mut layer.as_slice(), &target, &LIMITS, Some(Algorithm::Sha256)) {
            assert!(summary.bytes <= LIMITS.bytes && summary.diff_id.is_some());
        }
        expect_untouched(outside.path());
        let entries = count(&root);
        assert!(entries <= 2 * LIMITS.entries, "{entries} entries");
        let _ = fs::set_permissions(&root, fs::Permissions::from_mode(0o755));
    }
    let opened = fs::File::open(outside.path()).expect("it is there");
    remove(&opened, "root").expect("it can be removed");
});

fn expect_untouched(outside: &Path) {
    let canary = outside.join(CANARY);
    assert_eq!(fs::read(&canary).expect("it is there"), CANARY.as_bytes());
    let metadata = fs::symlink_metadata(&canary).expect("it is there");
    assert!(metadata.is_file() && metadata.nlink() == 1 && metadata.mode() & 0o7777 == 0o644);
    assert_eq!(fs::read_dir(outside).expect("it is there").count(), 2, "something was made outside");
}

/// How much is in a directory, as far as it can be looked at. Only what is a directory itself is entered.
fn count(directory: &Path) -> u64 {
    let inside: Vec<PathBuf> = fs::read_dir(directory)
        .map_or_else(|_| Vec::new(), |all| all.flatten().map(|entry| entry.path()).collect());
    let is_directory = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    inside.iter().map(|path| if is_directory(path) { 1 + count(path) } else { 1 }).sum()
}

/// Sets the checksum of each block that describes an entry.
fn seal(layer: &mut [u8]) {
    let mut at = 0;
    while let Some(block) = layer.get_mut(at..at + BLOCK_BYTES) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        if sum != u32::from(b' ') * 8 {
            block[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
            block[154] = 0;
        } else {
            block[148..156].fill(0);
        }
        let has_data = !matches!(block[156], b'1'..=b'6');
        let size =
            std::str::from_utf8(&block[124..135]).ok().and_then(|text| usize::from_str_radix(text, 8).ok());
        let size = size.filter(|size| has_data && *size <= layer.len()).unwrap_or(0);
        at += BLOCK_BYTES + size.next_multiple_of(BLOCK_BYTES);
    }
}
