//! What honest layers say is what is there afterwards.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use berth_common::image::Digest;
use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::archive::{block, number};
use super::*;

#[test]
fn files_have_data_owners_modes_and_times() {
    let layer = Tar::default()
        .directory("etc")
        .pax(&[("mtime", b"1350244992.023960108")])
        .entry(E { path: b"etc/passwd", data: b"root", mode: 0o4755, ids: (1000, 65_535), ..E::default() })
        .entry(E { kind: b'5', path: b"./tmp/", mode: 0o1777, ids: (5, 6), mtime: 5, ..E::default() })
        .file("tmp/after", "x")
        .entry(E { kind: b'2', path: b"link", link: b"/nowhere", ids: (7, 8), mtime: 9, ..E::default() })
        .hardlink("hard", "/etc/passwd");
    let (place, summary) = unpacked(layer, Form::Overlay);
    let summary = summary.unwrap();
    let of = |path: &str| fs::symlink_metadata(place.root.join(path)).unwrap();
    let (passwd, tmp, link) = (of("etc/passwd"), of("tmp"), of("link"));
    assert_eq!(place.read("etc/passwd"), "root");
    assert_eq!((passwd.mtime(), passwd.mtime_nsec()), (1_350_244_992, 23_960_108));
    assert_eq!((passwd.mode() & 0o7777, tmp.mode() & 0o7777), (0o4755, 0o1777));
    assert_eq!((tmp.mtime(), link.mtime()), (5, 9));
    assert_eq!((passwd.ino(), passwd.nlink()), (of("hard").ino(), 2));
    if Place::owners() == Owners::Said {
        assert_eq!([(passwd.uid(), passwd.gid()), (tmp.uid(), tmp.gid())], [(1000, 65_535), (5, 6)]);
        assert_eq!((link.uid(), link.gid()), (7, 8));
    }
    assert_eq!((summary.files, summary.directories, summary.links, summary.bytes), (2, 2, 2, 5));
    assert!(!summary.needs_parents && summary.left_out == 0);
    assert_eq!(place.list(), "etc/ etc/passwd hard link>/nowhere tmp/ tmp/after");
}

#[test]
fn the_root_can_be_described() {
    let layer = Tar::default().entry(E { kind: b'5', path: b"./", mode: 0o711, mtime: 3, ..E::default() });
    let (place, summary) = unpacked(layer.file("./a", ""), Form::Overlay);
    assert_eq!(summary.unwrap().directories, 1);
    let root = fs::metadata(&place.root).unwrap();
    assert_eq!((root.mode() & 0o7777, root.mtime()), (0o711, 3));
}

#[test]
fn every_compression_unpacks_and_has_the_digest_of_the_archive() {
    let plain = Tar::default().file("a", &"text ".repeat(100_000)).done();
    let gzip = |bytes: &[u8]| {
        let mut to = GzEncoder::new(Vec::new(), Compression::fast());
        to.write_all(bytes).unwrap();
        to.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| compress_to_vec(bytes, CompressionLevel::Fastest);
    let (one, two) = plain.split_at(77_777);
    let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
    for layer in [
        plain.clone(),
        gzip(&plain),
        [gzip(one), gzip(two)].concat(),
        zstd(&plain),
        [skippable.clone(), zstd(one), skippable.clone(), zstd(two), zstd(b""), skippable].concat(),
    ] {
        let place = Place::new();
        let summary = place.unpack(&layer, Form::Overlay, Limits::default()).unwrap();
        assert_eq!(summary.diff_id, Some(Digest::of(&plain)));
        assert_eq!(place.read("a").len(), 500_000);
    }
}

#[test]
fn what_follows_the_archive_counts_for_its_digest() {
    let layer = [Tar::default().file("a", "x").done(), vec![7; 70_000]].concat();
    let place = Place::new();
    let summary = place.unpack(&layer, Form::Overlay, Limits::default()).unwrap();
    assert_eq!((summary.diff_id, place.list().as_str()), (Some(Digest::of(&layer)), "a"));
}

#[test]
fn names_may_be_long_and_need_not_be_text() {
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(255));
    let pax = format!("{}/p", "d".repeat(200));
    let layer = Tar::default()
        .directory(&"d".repeat(200))
        .file(&long, "long")
        .pax(&[("path", pax.as_bytes()), ("linkpath", b"over\nlines")])
        .entry(E { kind: b'2', path: b"short", link: b"short", ..E::default() })
        .entry(E { path: b"caf\xe9", data: b"latin", ..E::default() })
        .entry(E { kind: b'g', data: &archive::record("path", b"global"), ..E::default() })
        .file("after", "");
    let (place, summary) = unpacked(layer, Form::Overlay);
    summary.unwrap();
    assert_eq!(place.read(&long), "long");
    assert_eq!(fs::read_link(place.root.join(pax)).unwrap(), Path::new("over\nlines"));
    assert!(place.root.join("after").exists() && !place.root.join("global").exists());
    assert_eq!(fs::read_dir(&place.root).unwrap().count(), 3);
}

#[test]
fn old_archives_have_prefixes_and_directories_that_end_in_a_slash() {
    let mut ustar = block(&E { path: b"name", ..E::default() }, 0);
    ustar[257..265].copy_from_slice(b"ustar\x0000");
    ustar[345..348].copy_from_slice(b"a/b");
    let mut v7 = block(&E { kind: 0, path: b"a/", mode: 0o755, ..E::default() }, 0);
    v7[257..265].fill(0);
    let (place, summary) = unpacked(Tar::default().block(v7).directory("a/b").block(ustar), Form::Overlay);
    summary.unwrap();
    assert_eq!(place.list(), "a/ a/b/ a/b/name");
}

#[test]
fn attributes_of_users_are_kept_and_others_left_out() {
    let layer = Tar::default()
        .pax(&[
            ("SCHILY.xattr.user.mine", b"a\nb\0"),
            ("SCHILY.xattr.security.capability", b"\x01\n"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.redirect", b"/x"),
        ])
        .directory("d")
        .pax(&[("SCHILY.xattr.user.mine", b"x")])
        .symlink("l", "d");
    let (place, summary) = unpacked(layer, Form::Overlay);
    let summary = summary.unwrap();
    let mut value = [0; 8];
    assert_eq!(rustix::fs::getxattr(place.root.join("d"), "user.mine", &mut value[..]), Ok(4));
    assert_eq!(&value[..4], b"a\nb\0");
    assert_eq!((place.list().as_str(), summary.left_out), ("d/ l>d", 5));
    assert!(summary.notes[0].contains("`d` has the attribute `security.capability`"), "{:?}", summary.notes);
}

#[test]
fn devices_are_left_out_and_pipes_are_made() {
    let of = |kind, path| E { kind, path, mode: 0o640, ..E::default() };
    let layer = Tar::default()
        .file("f", "in the way")
        .entry(of(b'3', b"c"))
        .entry(of(b'4', b"b"))
        .entry(of(b'6', b"f"))
        .file("a", "");
    let (place, summary) = unpacked(layer, Form::Overlay);
    let summary = summary.unwrap();
    assert_eq!((place.list().as_str(), summary.left_out, summary.needs_parents), ("a f", 2, false));
    assert_eq!(summary.notes[0], "`c` is a device node");
    let pipe = fs::symlink_metadata(place.root.join("f")).unwrap();
    assert!(pipe.file_type().is_fifo() && pipe.mode() & 0o7777 == 0o640, "{pipe:?}");
}

#[test]
fn sparse_files_have_holes() {
    let data = [vec![b'a'; 512], vec![b'b'; 100]].concat();
    let mut gnu = block(&E { kind: b'S', path: b"gnu", ..E::default() }, 612);
    number(&mut gnu[386..398], 1024);
    number(&mut gnu[398..410], 512);
    gnu[482] = 1;
    number(&mut gnu[483..495], 20_000);
    let mut more = [0; 512];
    number(&mut more[..12], 8192);
    number(&mut more[12..24], 100);
    number(&mut more[24..36], 20_000);
    number(&mut more[36..48], 0);
    let in_data = [&b"2\n1024\n512\n8192\n100\n"[..], &[0; 512 - 20], &data].concat();
    let old: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", b"20000"),
        ("GNU.sparse.offset", b"1024"),
        ("GNU.sparse.numbytes", b"512"),
        ("GNU.sparse.offset", b"8192"),
        ("GNU.sparse.numbytes", b"100"),
    ];
    let layer = Tar::default()
        .block(gnu)
        .data(&more)
        .data(&data)
        .pax(old)
        .entry(E { path: b"old", data: &data, ..E::default() })
        .pax(&[
            ("GNU.sparse.map", b"1024,512,8192,100"),
            ("GNU.sparse.size", b"20000"),
            ("GNU.sparse.name", b"map"),
        ])
        .entry(E { path: b"GNUSparseFile.1/map", data: &data, ..E::default() })
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"new"),
            ("GNU.sparse.realsize", b"20000"),
        ])
        .entry(E { path: b"GNUSparseFile.1/new", data: &in_data, ..E::default() });
    let (place, summary) = unpacked(layer.file("after", "x"), Form::Overlay);
    assert_eq!(summary.unwrap().bytes, 80_001);
    let expected =
        [&[0; 1024][..], &[b'a'; 512], &[0; 8192 - 1536], &[b'b'; 100], &[0; 20_000 - 8292]].concat();
    for name in ["gnu", "old", "map", "new"] {
        assert_eq!(fs::read(place.root.join(name)).unwrap(), expected, "{name}");
    }
    assert_eq!(place.list(), "after gnu map new old");
}

#[test]
fn later_entries_win() {
    let layer = Tar::default()
        .file("a", "one")
        .file("a", "two")
        .directory("d")
        .file("d/in", "x")
        .file("d", "a file now")
        .file("f", "x")
        .directory("f")
        .file("f/in", "y")
        .directory("f")
        .symlink("l", "a")
        .file("l", "not followed")
        .file("h", "same")
        .hardlink("h", "h");
    let (place, summary) = unpacked(layer, Form::Merged);
    summary.unwrap();
    assert_eq!(
        (place.read("a"), place.read("d"), place.read("l")),
        ("two".into(), "a file now".into(), "not followed".into())
    );
    assert_eq!(place.list(), "a d f/ f/in h l");
}

#[test]
fn directories_that_let_nobody_in_can_be_unpacked_into() {
    let closed = E { kind: b'5', path: b"d", mode: 0o000, ..E::default() };
    let (place, summary) =
        unpacked(Tar::default().entry(closed).directory("d/e").file("d/e/f", "x"), Form::Overlay);
    summary.unwrap();
    assert_eq!(fs::metadata(place.root.join("d")).unwrap().mode() & 0o7777, 0);
    fs::set_permissions(place.root.join("d"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(place.read("d/e/f"), "x");
}

#[test]
fn archives_of_another_program_are_read() {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o640);
    header.set_size(3);
    tar.append_data(&mut header, "x".repeat(150), &b"abc"[..]).unwrap();
    let place = Place::new();
    place.unpack(&tar.into_inner().unwrap(), Form::Overlay, Limits::default()).unwrap();
    assert_eq!(place.read(&"x".repeat(150)), "abc");
}
