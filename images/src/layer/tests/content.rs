//! What honest layers say is what is there afterwards.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use base64::Engine as _;
use berth_common::image::Digest;
use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::archive::{block, number};
use super::*;

/// An archive of the file `a`, as `xz -9` compresses it.
const XZ: &str = "/Td6WFoAAATm1rRGAgAhARwAAAAQz1jM4Cf/AF5dADCAM1AYaImDAdzibkSLJlFiq4E2NTGNIt/XJHQ0D5LdMm9kWN/6NKWBVJ4i\
     MVfg477scin/nl5EcgpqdqNKHLczoOSdNd2yzBqdXYCxLrrrkQrEBuIBWh8SdpJBfwAAAAAspQ2E5ng7gQABeoBQAAAASkUHE7HE\
     Z/sCAAAAAARZWg==";
/// Its digest without compression.
const XZ_DIFF_ID: &str = "sha256:9c95b6f8cc2d9bfbd96d013a5f178d2d75006b6d1c05d8c968b12584c27ee5a4";
/// The same with a window of 256 MiB.
const XZ_WIDE: &str = "/Td6WFoAAATm1rRGAgAhASAAAAAJiKV24Cf/AF5dADCAM1AYaImDAdzibkSLJlFiq4E2NTGNIt/XJHQ0D5LdMm9kWN/6NKWBVJ4i\
     MVfg477scin/nl5EcgpqdqNKHLczoOSdNd2yzBqdXYCxLrrrkQrEBuIBWh8SdpJBfwAAAAAspQ2E5ng7gQABeoBQAAAASkUHE7HE\
     Z/sCAAAAAARZWg==";
/// The same with the filter for x86 programs and SHA-256.
const XZ_X86: &str = "/Td6WFoAAArh+wyhAgEEACEBFgANhjUf4Cf/AF5dADCAM1AYaImDAdzibkSLJlFiq4E2NTGNIt/XJHQ0D5LdMm9kWN/6NKWBVJ4i\
     MVfg477scin/nl5EcgpqdqNKHLczoOSdNd2yzBqdXYCxLrrrkQrEBuIBWh8SdpJBfwAAAACclbb4zC2b+9ltATpfF40tdQBrbRwF\
     2MlosSWEwn7lpAABkgGAUAAArtJ+L7bp3xwCAAAAAApZWg==";

pub(super) fn xz() -> Vec<u8> {
    decoded(XZ)
}

fn decoded(text: &str) -> Vec<u8> {
    base64::prelude::BASE64_STANDARD.decode(text).unwrap()
}

#[test]
fn xz_is_unpacked_within_a_bound_of_memory() {
    for layer in [xz(), decoded(XZ_X86), [xz(), vec![0; 4]].concat()] {
        let sandbox = Sandbox::new();
        let summary = sandbox.unpack(&layer, Form::Overlay, Limits::default()).unwrap();
        assert_eq!((sandbox.read("a"), summary.files), ("text ".repeat(400), 1));
        assert_eq!(summary.diff_id.unwrap().to_string(), XZ_DIFF_ID);
    }
    let error = Sandbox::new().unpack(&decoded(XZ_WIDE), Form::Overlay, Limits::default()).unwrap_err();
    assert!(error.to_string().contains("66560 KiB of memory"), "{error}");
}

#[test]
fn a_layer_is_looked_at_without_being_unpacked() {
    let look = |layer: Tar| super::super::check(&mut &*layer.done(), &Limits::default());
    let sound = Tar::default()
        .directory("d")
        .entry(E { path: b"d/last", data: b"x", ids: (65_535, 65_535), ..E::default() })
        .entry(E { path: b"d/.wh.gone", ids: (70_000, 0), ..E::default() });
    look(sound).unwrap();
    for ids in [(65_536, 0), (0, 65_536), (1_516_583_083, 0)] {
        let layer = Tar::default().file("a", "x").entry(E { path: b"its/file", ids, ..E::default() });
        let error = look(layer).unwrap_err().to_string();
        assert!(error.contains("unpack `its/file`: it belongs to the user or group"), "{error}");
        assert!(error.contains("(chown)"), "{error}");
    }
    assert!(look(Tar::default().entry(E { path: b"../a", ..E::default() })).is_err());
    assert!(super::super::check(&mut &xz()[..], &Limits::default()).is_ok());
    assert!(super::super::check(&mut &b""[..], &Limits::default()).is_ok());
}

#[test]
fn a_layer_of_no_bytes_is_an_empty_one() {
    let (sandbox, empty) = (Sandbox::new(), Digest::of(b""));
    for form in [Form::Overlay, Form::Merged] {
        let summary = sandbox.unpack(b"", form, Limits::default()).unwrap();
        assert_eq!(summary, Summary { diff_id: Some(empty), ..Summary::default() });
    }
    assert_eq!(sandbox.list(), "");
}

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
    let (sandbox, summary) = unpacked(layer, Form::Overlay);
    let summary = summary.unwrap();
    let of = |path: &str| fs::symlink_metadata(sandbox.root.join(path)).unwrap();
    let (passwd, tmp, link) = (of("etc/passwd"), of("tmp"), of("link"));
    assert_eq!(sandbox.read("etc/passwd"), "root");
    assert_eq!((passwd.mtime(), passwd.mtime_nsec()), (1_350_244_992, 23_960_108));
    assert_eq!((passwd.mode() & 0o7777, tmp.mode() & 0o7777), (0o4755, 0o1777));
    assert_eq!((tmp.mtime(), link.mtime()), (5, 9));
    assert_eq!((passwd.ino(), passwd.nlink()), (of("hard").ino(), 2));
    if Sandbox::owners() == Owners::Said {
        assert_eq!([(passwd.uid(), passwd.gid()), (tmp.uid(), tmp.gid())], [(1000, 65_535), (5, 6)]);
        assert_eq!((link.uid(), link.gid()), (7, 8));
    }
    assert_eq!((summary.files, summary.directories, summary.links, summary.bytes), (2, 2, 2, 5));
    assert!(!summary.needs_parents && summary.left_out == 0);
    assert_eq!(sandbox.list(), "etc/ etc/passwd hard link>/nowhere tmp/ tmp/after");
}

#[test]
fn the_root_can_be_described() {
    let layer = Tar::default().entry(E { kind: b'5', path: b"./", mode: 0o711, mtime: 3, ..E::default() });
    let (sandbox, summary) = unpacked(layer.file("./a", ""), Form::Overlay);
    assert_eq!(summary.unwrap().directories, 1);
    let root = fs::metadata(&sandbox.root).unwrap();
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
        let sandbox = Sandbox::new();
        let summary = sandbox.unpack(&layer, Form::Overlay, Limits::default()).unwrap();
        assert_eq!(summary.diff_id, Some(Digest::of(&plain)));
        assert_eq!(sandbox.read("a").len(), 500_000);
    }
}

#[test]
fn what_follows_the_archive_counts_for_its_digest() {
    let layer = [Tar::default().file("a", "x").done(), vec![7; 70_000]].concat();
    let sandbox = Sandbox::new();
    let summary = sandbox.unpack(&layer, Form::Overlay, Limits::default()).unwrap();
    assert_eq!((summary.diff_id, sandbox.list().as_str()), (Some(Digest::of(&layer)), "a"));
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
    let (sandbox, summary) = unpacked(layer, Form::Overlay);
    summary.unwrap();
    assert_eq!(sandbox.read(&long), "long");
    assert_eq!(fs::read_link(sandbox.root.join(pax)).unwrap(), Path::new("over\nlines"));
    assert!(sandbox.root.join("after").exists() && !sandbox.root.join("global").exists());
    assert_eq!(fs::read_dir(&sandbox.root).unwrap().count(), 3);
}

#[test]
fn old_archives_have_prefixes_and_directories_that_end_in_a_slash() {
    let mut ustar = block(&E { path: b"name", ..E::default() }, 0);
    ustar[257..265].copy_from_slice(b"ustar\x0000");
    ustar[345..348].copy_from_slice(b"a/b");
    let mut v7 = block(&E { kind: 0, path: b"a/", mode: 0o755, ..E::default() }, 0);
    v7[257..265].fill(0);
    let (sandbox, summary) = unpacked(Tar::default().block(v7).directory("a/b").block(ustar), Form::Overlay);
    summary.unwrap();
    assert_eq!(sandbox.list(), "a/ a/b/ a/b/name");
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
    let (sandbox, summary) = unpacked(layer, Form::Overlay);
    let summary = summary.unwrap();
    let mut value = [0; 8];
    assert_eq!(rustix::fs::getxattr(sandbox.root.join("d"), "user.mine", &mut value[..]), Ok(4));
    assert_eq!(&value[..4], b"a\nb\0");
    assert_eq!((sandbox.list().as_str(), summary.left_out), ("d/ l>d", 5));
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
    let (sandbox, summary) = unpacked(layer, Form::Overlay);
    let summary = summary.unwrap();
    assert_eq!((sandbox.list().as_str(), summary.left_out, summary.needs_parents), ("a f", 2, false));
    assert_eq!(summary.notes[0], "`c` is a device node");
    let pipe = fs::symlink_metadata(sandbox.root.join("f")).unwrap();
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
    let (sandbox, summary) = unpacked(layer.file("after", "x"), Form::Overlay);
    assert_eq!(summary.unwrap().bytes, 80_001);
    let expected =
        [&[0; 1024][..], &[b'a'; 512], &[0; 8192 - 1536], &[b'b'; 100], &[0; 20_000 - 8292]].concat();
    for name in ["gnu", "old", "map", "new"] {
        assert_eq!(fs::read(sandbox.root.join(name)).unwrap(), expected, "{name}");
    }
    assert_eq!(sandbox.list(), "after gnu map new old");
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
    let (sandbox, summary) = unpacked(layer, Form::Merged);
    summary.unwrap();
    assert_eq!(
        (sandbox.read("a"), sandbox.read("d"), sandbox.read("l")),
        ("two".into(), "a file now".into(), "not followed".into())
    );
    assert_eq!(sandbox.list(), "a d f/ f/in h l");
}

#[test]
fn directories_that_let_nobody_in_can_be_unpacked_into() {
    let closed = E { kind: b'5', path: b"d", mode: 0o000, ..E::default() };
    let (sandbox, summary) =
        unpacked(Tar::default().entry(closed).directory("d/e").file("d/e/f", "x"), Form::Overlay);
    summary.unwrap();
    assert_eq!(fs::metadata(sandbox.root.join("d")).unwrap().mode() & 0o7777, 0);
    fs::set_permissions(sandbox.root.join("d"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(sandbox.read("d/e/f"), "x");
}

#[test]
fn archives_of_another_program_are_read() {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o640);
    header.set_size(3);
    tar.append_data(&mut header, "x".repeat(150), &b"abc"[..]).unwrap();
    let sandbox = Sandbox::new();
    sandbox.unpack(&tar.into_inner().unwrap(), Form::Overlay, Limits::default()).unwrap();
    assert_eq!(sandbox.read(&"x".repeat(150)), "abc");
}
