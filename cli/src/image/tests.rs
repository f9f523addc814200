//! Whole images, made and read back.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use oci_spec::image::{ImageConfiguration, ImageIndex, ImageManifest};
use sha2::{Digest as _, Sha256};

use super::elf::tests::elf;
use super::*;

const X86_64: u16 = 62;

fn pack_to(source: &Path, settings: &Settings, layout: &Path) -> Result<String> {
    let staging = Staging::in_directory(layout.parent().unwrap())?;
    let image = pack(&Source::open(source)?, settings, &staging)?;
    let digest = image.digest().to_string();
    staging.publish(image, layout)?;
    Ok(digest)
}

struct ReadBack {
    manifest: ImageManifest,
    config: ImageConfiguration,
    archive: Vec<u8>,
}

fn blob_path(layout: &Path, descriptor: &Descriptor) -> PathBuf {
    layout.join(layout::blob_name(&descriptor.digest().to_string().parse().unwrap()))
}

/// Reads a layout back and checks every digest.
fn read(layout: &Path) -> ReadBack {
    assert!(layout::is_layout(layout));
    let index = ImageIndex::from_file(layout.join(layout::INDEX)).unwrap();
    let blob = |descriptor: &Descriptor| {
        let bytes = fs::read(blob_path(layout, descriptor)).unwrap();
        assert_eq!(hex::encode(Sha256::digest(&bytes)), descriptor.as_digest_sha256().unwrap());
        assert_eq!(bytes.len() as u64, descriptor.size());
        bytes
    };
    let manifest: ImageManifest = serde_json::from_slice(&blob(&index.manifests()[0])).unwrap();
    let config: ImageConfiguration = serde_json::from_slice(&blob(manifest.config())).unwrap();
    let mut archive = Vec::new();
    let layer = blob(&manifest.layers()[0]);
    flate2::read::GzDecoder::new(&layer[..]).read_to_end(&mut archive).unwrap();
    let diff_id = format!("sha256:{}", hex::encode(Sha256::digest(&archive)));
    assert_eq!(config.rootfs().diff_ids(), &[diff_id]);
    ReadBack { manifest, config, archive }
}

/// Kind, mode, owner, path and link of each entry, in order.
fn listing(image: &ReadBack) -> Vec<String> {
    let mut archive = tar::Archive::new(&image.archive[..]);
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!(header.mtime().unwrap(), 0);
        assert_eq!(header.username().unwrap().unwrap_or_default(), "");
        let link = entry.link_name().unwrap().map(|link| format!(" -> {}", link.display()));
        format!(
            "{:?} {:o} {}:{} {}{}",
            header.entry_type(),
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            entry.path().unwrap().display(),
            link.unwrap_or_default()
        )
    });
    entries.collect()
}

#[test]
fn a_binary_becomes_an_image_that_runs_it() {
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("hello");
    fs::write(&binary, elf(X86_64, &[1])).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o600)).unwrap();
    let layout = dir.path().join("new/layout");
    let settings =
        Settings { env: vec!["A=b".into()], user: Some("1000:1000".into()), ..Settings::default() };
    let digest = pack_to(&binary, &settings, &layout).unwrap();
    let image = read(&layout);
    assert_eq!(image.manifest.layers().len(), 1);
    assert_eq!(
        listing(&image),
        ["Directory 755 0:0 app/", "Regular 755 0:0 app/hello", "Directory 1777 0:0 tmp/"]
    );
    assert_eq!((image.config.architecture(), image.config.os()), (&Arch::Amd64, &Os::Linux));
    let config = image.config.config().as_ref().unwrap();
    assert_eq!(config.entrypoint().as_deref(), Some(&["/app/hello".to_owned()][..]));
    assert_eq!(config.env().as_deref(), Some(&[DEFAULT_PATH.to_owned(), "A=b".to_owned()][..]));
    assert_eq!(config.user().as_deref(), Some("1000:1000"));
    assert!(digest.starts_with("sha256:") && digest.len() == 71);
}

fn make_root(at: &Path) {
    fs::create_dir_all(at.join("bin")).unwrap();
    fs::create_dir_all(at.join("b")).unwrap();
    fs::write(at.join("bin/tool"), elf(X86_64, &[3])).unwrap();
    fs::write(at.join("b/first"), "same").unwrap();
    fs::hard_link(at.join("b/first"), at.join("b/second")).unwrap();
    symlink("/bin/tool", at.join("b/link")).unwrap();
    symlink("../no/where", at.join("b/dangling")).unwrap();
    let long = "d".repeat(120);
    fs::write(at.join(&long), "long").unwrap();
    let mode =
        |path: &str, mode| fs::set_permissions(at.join(path), fs::Permissions::from_mode(mode)).unwrap();
    mode("bin/tool", 0o4755);
    mode("b/first", 0o640);
    mode("b", 0o750);
    mode("bin", 0o755);
    mode(&long, 0o644);
}

#[test]
fn a_directory_becomes_the_root_with_links_and_modes() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    make_root(&root);
    let settings = Settings { entrypoint: vec!["/bin/tool".into()], ..Settings::default() };
    pack_to(&root, &settings, &dir.path().join("layout")).unwrap();
    let image = read(&dir.path().join("layout"));
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    let expected = [
        format!("Directory 750 {uid}:{gid} b/"),
        format!("Symlink 777 {uid}:{gid} b/dangling -> ../no/where"),
        format!("Regular 640 {uid}:{gid} b/first"),
        format!("Symlink 777 {uid}:{gid} b/link -> /bin/tool"),
        format!("Link 640 {uid}:{gid} b/second -> b/first"),
        format!("Directory 755 {uid}:{gid} bin/"),
        format!("Regular 4755 {uid}:{gid} bin/tool"),
        format!("Regular 644 {uid}:{gid} {}", "d".repeat(120)),
    ];
    assert_eq!(listing(&image), expected);
    // A dynamic program is fine here: the directory holds its libraries.
    assert_eq!(image.config.architecture(), &Arch::Amd64);
}

#[test]
fn the_same_input_gives_the_same_digest() {
    let dir = tempfile::tempdir().unwrap();
    let digest = |name: &str| {
        let root = dir.path().join(name);
        make_root(&root);
        pack_to(&root, &Settings::default(), &dir.path().join(format!("{name}.layout"))).unwrap()
    };
    let first = digest("one");
    assert_eq!(first, digest("two"), "time and place do not matter");
    fs::write(dir.path().join("one/b/first"), "other").unwrap();
    let changed = pack_to(&dir.path().join("one"), &Settings::default(), &dir.path().join("x")).unwrap();
    assert_ne!(first, changed);
}

#[test]
fn what_an_image_cannot_hold_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let out = dir.path().join("out");
    let refusal = |name: &str| {
        let error = pack_to(&root, &Settings::default(), &out.join("layout")).unwrap_err();
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "nothing half-made stays");
        fs::remove_file(root.join(name)).unwrap();
        format!("{error:#}")
    };
    let _socket = UnixListener::bind(root.join("s")).unwrap();
    assert!(refusal("s").contains("socket"));
    nix::unistd::mkfifo(&root.join("p"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(refusal("p").contains("named pipe"));
    fs::write(root.join(".wh.x"), "").unwrap();
    assert!(refusal(".wh.x").contains(".wh."));
}

#[test]
fn a_layout_is_replaced_but_nothing_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("hello");
    let layout = dir.path().join("layout");
    fs::write(&binary, elf(X86_64, &[])).unwrap();
    let first = pack_to(&binary, &Settings::default(), &layout).unwrap();
    fs::write(&binary, elf(X86_64, &[1])).unwrap();
    let second = pack_to(&binary, &Settings::default(), &layout).unwrap();
    assert_ne!(first, second);
    read(&layout);
    assert_eq!(fs::read_dir(layout.join("blobs/sha256")).unwrap().count(), 3, "only the new image's blobs");
    let precious = dir.path().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "mine").unwrap();
    let error = pack_to(&binary, &Settings::default(), &precious).unwrap_err();
    assert!(format!("{error:#}").contains("no image layout"), "{error:#}");
    assert_eq!(fs::read(precious.join("file")).unwrap(), b"mine");
    let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["hello", "layout", "precious"]);
}

#[test]
fn others_can_read_a_layout() {
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("hello");
    fs::write(&binary, elf(X86_64, &[])).unwrap();
    let layout = dir.path().join("layout");
    pack_to(&binary, &Settings::default(), &layout).unwrap();
    let mut open = vec![layout.clone()];
    while let Some(path) = open.pop() {
        let metadata = fs::metadata(&path).unwrap();
        let expected = if metadata.is_dir() { 0o755 } else { 0o644 };
        assert_eq!(metadata.permissions().mode() & 0o7777, expected, "{}", path.display());
        if metadata.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
}

#[test]
fn a_foreign_layout_is_taken_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("hello");
    let foreign = dir.path().join("foreign");
    fs::write(&binary, elf(X86_64, &[])).unwrap();
    let digest = pack_to(&binary, &Settings::default(), &foreign).unwrap();
    let image = Image::of_layout(&foreign).unwrap();
    assert_eq!(image.digest().unwrap().to_string(), digest);
    assert_eq!((image.contents.documents.len(), image.contents.blobs.len()), (1, 2));

    let refusal = || format!("{:#}", Image::of_layout(&foreign).unwrap_err());
    let path = blob_path(&foreign, &read(&foreign).manifest.layers()[0]);
    fs::write(&path, "damaged").unwrap();
    assert!(refusal().contains("is damaged: it has 7 bytes"));
    fs::remove_file(&path).unwrap();
    assert!(refusal().contains("holds no blobs/sha256/"));
    // A FIFO without a writer would block forever.
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(refusal().contains("is no file"));
    assert!(Image::of_layout(dir.path()).unwrap_err().to_string().contains("oci-layout"));
}

/// A layout of these files.
fn write_layout(at: &Path, index: &serde_json::Value, blobs: &[Vec<u8>]) {
    fs::create_dir_all(at.join("blobs/sha256")).unwrap();
    fs::write(at.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(at.join("index.json"), index.to_string()).unwrap();
    for blob in blobs {
        fs::write(at.join(layout::blob_name(&Digest::of(blob))), blob).unwrap();
    }
}

/// The configuration and manifest of an image without layers, and its entry in an index.
fn bare_image(architecture: &str, os: &str) -> (Vec<Vec<u8>>, serde_json::Value) {
    image_of_user(architecture, os, "")
}

/// The same, run as this user.
fn image_of_user(architecture: &str, os: &str, user: &str) -> (Vec<Vec<u8>>, serde_json::Value) {
    use serde_json::json;
    let config = json!({
        "os": os, "architecture": architecture, "rootfs": { "diff_ids": [] }, "config": { "User": user },
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [],
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(&config),
            "size": config.len() },
    });
    let manifest = manifest.to_string().into_bytes();
    let entry = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": Digest::of(&manifest),
        "size": manifest.len(), "platform": { "os": os, "architecture": architecture },
    });
    (vec![config, manifest], entry)
}

#[test]
fn an_image_of_a_user_that_no_container_has_is_refused_before_it_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let of = |user: &str| {
        let (blobs, entry) = image_of_user("amd64", "linux", user);
        let at = dir.path().join(format!("user {user}"));
        write_layout(&at, &serde_json::json!({ "schemaVersion": 2, "manifests": [entry] }), &blobs);
        Image::of_layout(&at).map(drop)
    };
    for good in ["", "web", "65535:65535"] {
        assert!(of(good).is_ok(), "{good}");
    }
    for bad in ["65536", "0:70000"] {
        let error = format!("{:#}", of(bad).unwrap_err());
        assert!(error.contains("0 to 65535") && error.contains("USER"), "{error}");
    }
}

#[test]
fn of_an_index_what_runs_here_is_taken() {
    use serde_json::json;
    let dir = tempfile::tempdir().unwrap();
    let (amd64, amd64_entry) = bare_image("amd64", "linux");
    let (arm64, arm64_entry) = bare_image("arm64", "linux");
    let (_, other_entry) = bare_image("s390x", "linux");
    let (_, attested) = bare_image("unknown", "unknown");
    let both = [amd64.clone(), arm64].concat();
    let index_of = |entries: &[&serde_json::Value]| json!({ "schemaVersion": 2, "manifests": entries });
    let take = |name: &str, index: &serde_json::Value, blobs: &[Vec<u8>]| {
        let at = dir.path().join(name);
        write_layout(&at, index, blobs);
        Image::of_layout(&at)
    };

    let image = take("both", &index_of(&[&amd64_entry, &arm64_entry, &attested]), &both).unwrap();
    assert_eq!((image.contents.architectures.len(), image.contents.documents.len()), (2, 3));

    // An index within is kept as it is where all of it runs here, and else lists what does.
    let nested = |entries: &[&serde_json::Value]| {
        let nested = index_of(entries).to_string().into_bytes();
        let entry = json!({ "mediaType": "application/vnd.oci.image.index.v1+json", "digest": Digest::of(&nested),
            "size": nested.len() });
        (nested, index_of(&[&entry]))
    };
    let (whole, index) = nested(&[&amd64_entry, &arm64_entry]);
    let image = take("whole", &index, &[both.clone(), vec![whole.clone()]].concat()).unwrap();
    assert_eq!(image.digest().unwrap(), Digest::of(&whole));
    let (more, index) = nested(&[&amd64_entry, &other_entry, &attested]);
    let image = take("more", &index, &[both.clone(), vec![more.clone()]].concat()).unwrap();
    assert_ne!(image.digest().unwrap(), Digest::of(&more));
    assert_eq!((image.contents.architectures.len(), image.contents.documents.len()), (1, 2));

    // An image that is listed and whose parts are missing is left out, with a note.
    let image = take("half", &index_of(&[&amd64_entry, &arm64_entry]), &amd64).unwrap();
    assert!(image.contents.notes[0].contains("linux/arm64 is left out"), "{:?}", image.contents.notes);
    let refusal = |name: &str, index: &serde_json::Value, blobs: &[Vec<u8>]| {
        format!("{:#}", take(name, index, blobs).unwrap_err())
    };
    assert!(refusal("none", &index_of(&[&amd64_entry]), &[]).contains("holds no blobs"));
    assert!(refusal("other", &index_of(&[&other_entry]), &both).contains("lists no image for linux"));
    let mut unnamed = amd64_entry.clone();
    unnamed["platform"] = serde_json::Value::Null;
    let several = index_of(&[&unnamed, &arm64_entry]);
    assert!(refusal("several", &several, &both).contains("lists 2 images"));
}
