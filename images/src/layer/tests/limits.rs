//! What a layer may take, and not a bit more.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn with(layer: &[u8], limits: Limits) -> Result<Summary, String> {
    Sandbox::new().unpack(layer, Form::Overlay, limits).map_err(|error| error.to_string())
}

#[test]
fn entries_are_counted_with_directories_that_have_none() {
    let limits = Limits { entries: 3, ..Limits::default() };
    assert!(with(&Tar::default().file("a", "").file("b", "").file("c", "").done(), limits).is_ok());
    assert!(with(&Tar::default().file("a/b/c", "").done(), limits).is_ok());
    assert!(
        with(&Tar::default().file("a/b/c/d", "").done(), limits).unwrap_err().contains("more than 3 entries")
    );
    let four = Tar::default().file("a", "").file("b", "").file("c", "").file("d", "").done();
    assert!(with(&four, limits).unwrap_err().contains("more than 3 entries"));
}

/// One entry more than the default allows: extended headers for all, which make nothing.
#[test]
fn a_million_entries_and_no_more() {
    let block = Tar::default().entry(E { kind: b'g', ..E::default() }).cut(512);
    let mut layer = Repeat { block, at: 0, left: 1_000_001 * 512 };
    let sandbox = Sandbox::new();
    let target = Target::open(&sandbox.root, Form::Overlay, Owners::Mine).unwrap();
    let error = unpack(&mut layer, &target, &Limits::default(), None).unwrap_err();
    assert!(matches!(error, LayerError::Entries(1_000_000)), "{error}");
}

struct Repeat {
    block: Vec<u8>,
    at: usize,
    left: u64,
}

impl Read for Repeat {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let some = (self.block.len() - self.at).min(into.len()).min(usize::try_from(self.left).unwrap());
        into[..some].copy_from_slice(&self.block[self.at..self.at + some]);
        self.at = (self.at + some) % self.block.len();
        self.left -= some as u64;
        Ok(some)
    }
}

#[test]
fn bombs_are_stopped() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(
        &Tar::default().entry(E { path: b"bomb", size: Some(100 << 20), ..E::default() }).cut(512),
    )
    .unwrap();
    io::copy(&mut io::repeat(0).take(100 << 20), &mut gzip).unwrap();
    let bomb = gzip.finish().unwrap();
    assert!(bomb.len() < 200 << 10);
    let limits = Limits { bytes: 1 << 20, ..Limits::default() };
    assert!(with(&bomb, limits).unwrap_err().contains("more than 1048576 bytes"));
    // What is after the archive, or before a file in it, is a bomb too.
    let mut after = GzEncoder::new(Vec::new(), Compression::best());
    after.write_all(&Tar::default().file("a", "").done()).unwrap();
    io::copy(&mut io::repeat(0).take(10 << 20), &mut after).unwrap();
    assert!(with(&after.finish().unwrap(), limits).unwrap_err().contains("more than 1048576 bytes"));
    // Holes count.
    let holes: &[(&str, &[u8])] = &[("GNU.sparse.size", b"600000"), ("GNU.sparse.map", b"0,1")];
    let hole = |tar: Tar, path: &str| tar.pax(holes).file(path, "x");
    assert!(with(&hole(Tar::default(), "a").done(), limits).is_ok());
    assert!(
        with(&hole(hole(Tar::default(), "a"), "b").done(), limits).unwrap_err().contains("more than 1048576")
    );
}

#[test]
fn the_limit_itself_is_allowed() {
    let layer = Tar::default().file("a", "x").done();
    let bytes = layer.len() as u64;
    assert!(with(&layer, Limits { bytes, ..Limits::default() }).is_ok());
    assert!(with(&layer, Limits { bytes: bytes - 1, ..Limits::default() }).is_err());
}

#[test]
fn descriptions_are_bounded() {
    let long = |kind| {
        Tar::default().entry(E { kind, data: &vec![b'x'; (1 << 20) + 1], ..E::default() }).file("a", "")
    };
    for kind in [b'L', b'K', b'x'] {
        assert!(refused(long(kind)).contains("more than 1 MiB"));
    }
    assert!(refused(Tar::default().file(&"d/".repeat(3000), "")).contains("longer than 4095 bytes"));
    assert!(refused(Tar::default().file(&("d/".repeat(256) + "f"), "")).contains("256 directories deep"));
    assert!(refused(Tar::default().symlink("a", &"x".repeat(4096))).contains("longer than 4095 bytes"));
    let names: Vec<String> = (0..257).map(|at| format!("SCHILY.xattr.user.{at}")).collect();
    let xattrs: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    assert!(refused(Tar::default().pax(&xattrs).file("a", "")).contains("256 extended attributes"));
}

#[test]
fn links_do_not_make_paths_deeper() {
    let deep = "d/".repeat(200);
    let layer =
        Tar::default().directory(&deep).symlink("l", &deep).file(&format!("l/{}f", "e/".repeat(100)), "");
    assert!(refused(layer).contains("256 directories deep"));
}

#[test]
fn windows_of_zstd_are_bounded() {
    let window =
        |log: u8| with(&[0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3], Limits::default()).unwrap_err();
    assert!(window(26).contains("window_size"), "{}", window(26));
    // This one has nothing in it, but may ask.
    assert!(!window(25).contains("window_size"), "{}", window(25));
}
