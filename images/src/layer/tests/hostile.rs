//! Layers that want out, or that two programs would read differently. Each test looks at what lies beside the
//! directory.

use super::archive::{block, number};
use super::*;

#[test]
fn names_that_lead_up_are_refused() {
    for name in ["..", "../a", "a/../../b", "/..", "./../a", "../../../../../../tmp/escaped"] {
        assert!(refused(Tar::default().file(name, "x")).contains("leads out of the image"), "{name}");
        assert!(refused(Tar::default().hardlink("h", name)).contains("leads out of the image"), "{name}");
    }
}

#[test]
fn absolute_names_are_inside() {
    let sandbox = Sandbox::new();
    let canary = sandbox.canary();
    sandbox.add(Tar::default().file(&canary, "x"), Form::Overlay);
    assert_eq!(sandbox.read(&canary[1..]), "x");
}

#[test]
fn links_on_the_way_are_followed_inside() {
    let sandbox = Sandbox::new();
    let canary = sandbox.canary();
    let outside = Path::new(&canary).parent().unwrap().display().to_string();
    let layer = Tar::default()
        .symlink("out", &outside)
        .file("out/canary", "x")
        .symlink("up", "../../../..")
        .file("up/at-the-root", "x")
        .symlink("both", "up/out/../made")
        .file("both/b", "x")
        .file("out/.wh.gone", "")
        .directory("out/d")
        .symlink("out/l", "/")
        .hardlink("out/h", "out/canary");
    sandbox.add(layer, Form::Overlay);
    assert_eq!(sandbox.read(&canary[1..]), "x");
    assert_eq!(sandbox.read("at-the-root"), "x");
}

#[test]
fn links_at_the_end_are_not_followed() {
    let sandbox = Sandbox::new();
    let canary = sandbox.canary();
    let layer = Tar::default()
        .symlink("a", &canary)
        .file("a", "x")
        .symlink("b", &canary)
        .hardlink("c", "b")
        .file("c", "x")
        .symlink("d", "/tmp")
        .directory("d")
        .file("d/x", "x")
        .symlink("e", "..")
        .file("e/.wh..wh..opq", "");
    sandbox.add(layer, Form::Merged);
    assert_eq!(sandbox.read("a"), "x");
}

#[test]
fn hard_links_do_not_reach_out() {
    let sandbox = Sandbox::new();
    let canary = sandbox.canary();
    let outside = Path::new(&canary).parent().unwrap().display().to_string();
    let layer = Tar::default().symlink("out", &outside).hardlink("h", &canary).hardlink("i", "out/canary");
    let summary = sandbox.add(layer, Form::Overlay);
    assert!(summary.needs_parents);
    assert!(!sandbox.list().contains(" h") && !sandbox.list().starts_with('i'), "{}", sandbox.list());
}

#[test]
fn removing_follows_no_links() {
    let sandbox = Sandbox::new();
    let outside = Path::new(&sandbox.canary()).parent().unwrap().display().to_string();
    let layer = Tar::default().directory("d").symlink("d/out", &outside).file("d", "x");
    sandbox.add(layer, Form::Merged);
    sandbox.add(Tar::default().directory("e").symlink("e/out", &outside), Form::Merged);
    sandbox.add(Tar::default().file(".wh.e", "").file(".wh.d", ""), Form::Merged);
    assert_eq!(sandbox.list(), "");
}

#[test]
fn links_that_lead_in_circles_are_told() {
    let layer = Tar::default().symlink("a", "b").symlink("b", "a").file("a/x", "");
    assert!(refused(layer).contains("symbolic links"));
    let long = Tar::default().symlink("s", &"s/".repeat(2000)).file("s/x", "");
    assert!(refused(long).contains("symbolic links"));
}

#[test]
fn nothing_is_inside_a_file() {
    assert_eq!(refused(Tar::default().file("a", "").file("a/b", "")), "unpack `a/b`: `a` is not a directory");
}

#[test]
fn odd_names_are_refused_or_kept() {
    let whiteouts = [".wh.", ".wh..", ".wh...", "d/.wh."];
    assert!(
        whiteouts
            .iter()
            .all(|name| refused(Tar::default().file(name, "")).contains("whiteout without a name"))
    );
    assert!(refused(Tar::default().directory(".wh.d").file(".wh.d/x", "")).contains("nothing can be inside"));
    assert!(refused(Tar::default().pax(&[("path", b"a\0b")]).file("c", "")).contains("NUL"));
    assert!(refused(Tar::default().file("", "x")).contains("only a directory"));
    assert!(refused(Tar::default().symlink("/", "x")).contains("only a directory"));
    assert!(refused(Tar::default().symlink("a", "")).contains("No such file"));
    assert!(refused(Tar::default().file(&"n".repeat(256), "")).contains("too long"));
}

#[test]
fn errors_show_names_without_control_characters() {
    let error = refused(Tar::default().file("\x1b[31m\n/../..", ""));
    assert!(!error.chars().any(char::is_control) && error.len() < 400, "{error:?}");
    assert!(refused(Tar::default().file(&format!("{}/../..", "x".repeat(4000)), "")).len() < 400);
}

#[test]
fn owners_that_no_container_has_are_told() {
    for ids in [(65_536, 0), (0, 65_536), (u64::MAX >> 1, 0)] {
        let error = refused(Tar::default().entry(E { path: b"a", ids, ..E::default() }));
        assert!(error.contains("ids 0 to 65535"), "{error}");
    }
    let error = refused(Tar::default().pax(&[("uid", b"-1")]).file("a", ""));
    assert!(error.contains("group -1"), "{error}");
}

#[test]
fn kinds_that_mean_nothing_are_refused() {
    for kind in [b'D', b'M', b'V', b'A', 0x1b] {
        assert!(
            refused(Tar::default().entry(E { kind, path: b"a", ..E::default() })).contains("not supported")
        );
    }
}

/// The size in an extended header counts for the file, and only for it: a program that read another one would find
/// other entries.
#[test]
fn sizes_are_read_in_one_way() {
    let inner = Tar::default().file("smuggled", "x").cut(1024);
    let lie = E { path: b"a", data: &inner, size: Some(0), ..E::default() };
    let (sandbox, summary) = unpacked(
        Tar::default()
            .pax(&[("SCHILY.xattr.user.x", b"\n"), ("size", b"1024")])
            .entry(lie.clone())
            .file("b", ""),
        Form::Overlay,
    );
    summary.unwrap();
    assert_eq!((sandbox.list().as_str(), sandbox.read("a").len()), ("a b", 1024));
    // Between the header and its file: the long name has its own size.
    let layer = Tar::default().pax(&[("size", b"1024")]).long(b'L', b"long").entry(lie.clone()).file("b", "");
    assert_eq!(unpacked(layer, Form::Overlay).0.list(), "b long");
    // Links have no data, whatever is said.
    let link = E { kind: b'1', link: b"b", data: b"", size: Some(1024), ..lie };
    assert_eq!(
        unpacked(Tar::default().file("b", "").entry(link).file("c", ""), Form::Overlay).0.list(),
        "a b c"
    );
}

#[test]
fn descriptions_are_not_repeated_and_describe_something() {
    let pax: &[(&str, &[u8])] = &[("path", b"x")];
    assert!(
        refused(Tar::default().pax(pax).pax(pax).file("a", "")).contains("two names or extended headers")
    );
    assert!(refused(Tar::default().long(b'L', b"a").long(b'L', b"b").file("a", "")).contains("two names"));
    assert!(refused(Tar::default().pax(pax)).contains("cut off"));
    assert!(
        refused(Tar::default().entry(E { kind: b'x', data: b"30 path=x\n", ..E::default() }).file("a", ""))
            .contains("malformed")
    );
}

#[test]
fn what_is_cut_off_is_told() {
    let whole = Tar::default().file("a", &"x".repeat(600)).pax(&[("path", b"b")]).file("c", "y");
    let length = whole.clone().done().len() - 1024;
    for cut in (1..length).step_by(37).filter(|cut| *cut != 1536) {
        let sandbox = Sandbox::new();
        let done = sandbox.unpack(&whole.clone().cut(cut), Form::Overlay, Limits::default());
        assert!(matches!(done, Err(LayerError::Truncated)), "{cut}: {done:?}");
    }
    let negative = Tar::default().block({
        let mut block = block(&E { path: b"a", ..E::default() }, 0);
        block[124..136].fill(0xff);
        block
    });
    assert!(refused(negative).contains("negative"));
    let mut huge = block(&E { path: b"a", ..E::default() }, 0);
    number(&mut huge[124..136], u64::MAX >> 1);
    assert!(refused(Tar::default().block(huge)).contains("more than 17179869184 bytes"));
}

#[test]
fn what_is_no_layer_is_told() {
    let sandbox = Sandbox::new();
    let unpack =
        |bytes: &[u8]| sandbox.unpack(bytes, Form::Overlay, Limits::default()).unwrap_err().to_string();
    assert!(unpack(b"x").contains("cut off"));
    assert!(unpack(&[b'7'; 600]).contains("checksum"));
    assert!(unpack(&[0x1f, 0x8b, 8, 0]).contains("cut off"));
    assert!(unpack(&[0x1f, 0x8b, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7]).contains("cannot be read"));
    assert!(unpack(&[0x28, 0xb5, 0x2f, 0xfd, 0xff, 0xff]).contains("cannot be read"));
    assert!(unpack(&[0x51, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0x7f, 0]).contains("cut off"));
    assert!(unpack(b"BZh91AY&SY").contains("bzip2, which is not understood"));
    let xz = content::xz();
    assert!(unpack(&xz[..xz.len() / 2]).contains("cut off"), "{}", unpack(&xz[..xz.len() / 2]));
    let mut damaged = xz.clone();
    damaged[30] ^= 0xff;
    assert!(unpack(&damaged).contains("cannot be read"), "{}", unpack(&damaged));
}

#[test]
fn sparse_files_that_contradict_themselves_are_refused() {
    let sparse = |records: &[(&str, &[u8])], data: &[u8]| {
        refused(Tar::default().pax(records).entry(E { path: b"a", data, ..E::default() }))
    };
    assert!(
        sparse(&[("GNU.sparse.size", b"5"), ("GNU.sparse.map", b"0,6")], b"123456").contains("contradicts")
    );
    assert!(
        sparse(&[("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"0,6")], b"12345").contains("contradicts")
    );
    let new: &[(&str, &[u8])] = &[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"5")];
    for data in [&b"99999999999999999999999\n"[..], b"4000000000\n1\n", b"1\n0\n", b"x\n", b"-1\n"] {
        assert!(!sparse(new, data).is_empty());
    }
    let huge: &[(&str, &[u8])] = &[("GNU.sparse.size", b"9223372036854775807"), ("GNU.sparse.map", b"0,1")];
    assert!(sparse(huge, b"1").contains("more than 17179869184 bytes"));
    assert!(
        refused(Tar::default().entry(E { kind: b'S', path: b"a", data: b"x", ..E::default() }))
            .contains("contradicts")
    );
}
