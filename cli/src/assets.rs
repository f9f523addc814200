//! The static files of an app, copied to where the edge serves them from: under a name that holds their digest, so that
//! those of a version that is deployed are never changed. Beside each file of text comes a compressed one, as the edge
//! compresses nothing itself.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use berth_common::ids::AppName;
use berth_common::spec::MAX_ASSETS;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use crate::image::layout::Hashed;

/// Largest file, in bytes, and largest sum of all: enough for a web site, not for videos.
const MAX_FILE_BYTES: u64 = 100 << 20;
const MAX_BYTES: u64 = 2 << 30;
/// How deeply directories may be nested.
const MAX_DEPTH: usize = 32;
/// File modes: readable by all, because the edge serves the files to everyone.
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;
/// Digits of the digest in the directory's name.
const DIGEST_DIGITS: usize = 16;

/// Least and most size of a file that is compressed, in bytes: a smaller one fits a packet or two, and one that is larger
/// would keep whoever deploys waiting.
const COMPRESSED_BYTES: std::ops::RangeInclusive<u64> = 1024..=(32 << 20);
/// Endings of files that become much smaller. All others are compressed already, or unknown.
const TEXTS: [&str; 15] = [
    "css",
    "csv",
    "htm",
    "html",
    "ico",
    "js",
    "json",
    "map",
    "md",
    "mjs",
    "svg",
    "txt",
    "wasm",
    "webmanifest",
    "xml",
];
/// Part of the digest: directories that an earlier version made lack the compressed files.
const FORMAT: &[u8] = b"with .gz";

/// Checks the files, and returns their number.
pub(crate) fn look_at(source: &Path) -> Result<usize> {
    Ok(list(source)?.len())
}

/// Copies the files of a directory to one below `to`, which may exist already.
pub(crate) fn pack(source: &Path, app: &AppName, to: &Path) -> Result<PathBuf> {
    let files = list(source)?;
    let staging = tempfile::Builder::new().prefix(".assets-").tempdir_in(to)?;
    let mut digest = Sha256::new();
    digest.update(FORMAT);
    for name in &files {
        let path = staging.path().join(name);
        fs::create_dir_all(path.parent().unwrap_or(staging.path()))?;
        let from = source.join(name);
        let copied = copy(&from, &path).with_context(|| format!("cannot copy {}", from.display()))?;
        digest.update((name.as_os_str().len() as u64).to_be_bytes());
        digest.update(name.as_os_str().as_encoded_bytes());
        digest.update(copied);
        let beside = beside(name);
        if is_text(name) && files.binary_search(&beside).is_err() {
            let to = staging.path().join(beside);
            compress(&path, &to).with_context(|| format!("cannot compress {}", from.display()))?;
        }
    }
    let digits: String = hex::encode(digest.finalize()).chars().take(DIGEST_DIGITS).collect();
    let path = to.join(format!("{app}-assets-{digits}"));
    if !path.is_dir() {
        open_up(staging.path())?;
        fs::rename(staging.keep(), &path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    // Also for one that exists already: the process that made it may have been killed before this step.
    File::open(to)?.sync_all()?;
    // The moment of its last deployment, by which `remove_old` goes. Only its owner can set it.
    let _ = File::open(&path).and_then(|directory| directory.set_modified(SystemTime::now()));
    Ok(path)
}

/// Removes the files of an app below `to` that have not been deployed for longest, but for so many directories. Returns how many.
pub(crate) fn remove_old(app: &AppName, to: &Path, keep: usize) -> io::Result<usize> {
    let mut found = Vec::new();
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && is_of(app, &entry.file_name()) {
            found.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    found.sort();
    let old = found.len().saturating_sub(keep);
    found[..old].iter().try_for_each(|(_, path)| fs::remove_dir_all(path))?;
    Ok(old)
}

/// Whether a directory has the name of one with an app's files.
fn is_of(app: &AppName, name: &OsStr) -> bool {
    let digits = name.to_str().and_then(|name| name.strip_prefix(app.as_str())?.strip_prefix("-assets-"));
    digits.is_some_and(|digits| {
        digits.len() == DIGEST_DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

/// The name of the compressed file beside one.
fn beside(name: &Path) -> PathBuf {
    let mut beside = name.as_os_str().to_owned();
    beside.push(".gz");
    beside.into()
}

fn is_text(name: &Path) -> bool {
    let ending = name.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
    ending.is_some_and(|ending| TEXTS.contains(&ending.as_str()))
}

/// Writes a compressed copy durably, unless it would save less than a tenth.
fn compress(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = File::open(from)?;
    let bytes = from.metadata()?.len();
    if !COMPRESSED_BYTES.contains(&bytes) {
        return Ok(());
    }
    let mut encoder = GzEncoder::new(File::create(to)?, Compression::best());
    io::copy(&mut from, &mut encoder)?;
    let file = encoder.finish()?;
    if file.metadata()?.len() > bytes - bytes / 10 {
        return fs::remove_file(to);
    }
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    file.sync_all()
}

/// Copies one file durably, and returns its digest.
fn copy(from: &Path, to: &Path) -> io::Result<String> {
    let (mut from, mut to) = (File::open(from)?, Hashed::new(File::create(to)?));
    io::copy(&mut from, &mut to)?;
    let (file, digest, _) = to.finish();
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    file.sync_all()?;
    Ok(digest)
}

/// Lets the edge's user read the directories, and makes the names in them durable.
fn open_up(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    fs::set_permissions(directory, Permissions::from_mode(DIRECTORY_MODE))?;
    File::open(directory)?.sync_all()
}

/// The files below a directory by their names in it, in order, without those that begin with a dot.
fn list(source: &Path) -> Result<Vec<PathBuf>> {
    ensure!(
        source.is_dir(),
        "{} is no directory; expected one with the app's static files",
        source.display()
    );
    let mut files = Vec::new();
    let mut bytes = 0;
    collect(source, Path::new(""), 0, &mut files, &mut bytes)?;
    files.sort();
    Ok(files)
}

fn collect(
    directory: &Path,
    name: &Path,
    depth: usize,
    files: &mut Vec<PathBuf>,
    bytes: &mut u64,
) -> Result<()> {
    ensure!(depth <= MAX_DEPTH, "{}: expected directories at most {MAX_DEPTH} deep", directory.display());
    for entry in fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let entry = entry?;
        let (path, own) = (entry.path(), entry.file_name());
        if own.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        ensure!(own.to_str().is_some(), "{}: expected a name in UTF-8", path.display());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&path, &name.join(own), depth + 1, files, bytes)?;
            continue;
        }
        if !kind.is_file() {
            bail!("{}: expected files and directories, no links or others", path.display());
        }
        let size = entry.metadata()?.len();
        *bytes += size;
        ensure!(size <= MAX_FILE_BYTES, "{}: expected at most {MAX_FILE_BYTES} bytes a file", path.display());
        files.push(name.join(own));
        ensure!(files.len() <= MAX_ASSETS, "expected at most {MAX_ASSETS} files");
        ensure!(*bytes <= MAX_BYTES, "expected at most {MAX_BYTES} bytes in all files");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_copied_once_under_a_name_of_their_own() {
        let (source, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(source.path().join("css")).unwrap();
        fs::write(source.path().join("index.html"), "x").unwrap();
        fs::write(source.path().join("css/a.css"), "y").unwrap();
        fs::write(source.path().join(".env"), "secret").unwrap();
        let app = "a".parse().unwrap();
        let first = pack(source.path(), &app, to.path()).unwrap();
        assert_eq!(pack(source.path(), &app, to.path()).unwrap(), first);
        assert_eq!(fs::read_to_string(first.join("css/a.css")).unwrap(), "y");
        assert!(!first.join(".env").exists());
        fs::write(source.path().join("index.html"), "z").unwrap();
        assert_ne!(pack(source.path(), &app, to.path()).unwrap(), first);
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 2);
    }

    #[test]
    fn of_an_apps_files_those_that_were_deployed_last_are_kept() {
        let (source, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (app, other) = ("a".parse().unwrap(), "a-assets".parse().unwrap());
        let deploy = |app: &AppName, text: &str| {
            fs::write(source.path().join("index.html"), text).unwrap();
            pack(source.path(), app, to.path()).unwrap()
        };
        let at = |path: &Path, second: u64| {
            let moment = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(second);
            File::open(path).unwrap().set_modified(moment).unwrap();
        };
        let (first, second, third) = (deploy(&app, "1"), deploy(&app, "2"), deploy(&app, "3"));
        let foreign = deploy(&other, "1");
        for (path, second) in [(&foreign, 1), (&first, 2), (&second, 3), (&third, 4)] {
            at(path, second);
        }
        assert_eq!(remove_old(&app, to.path(), 3).unwrap(), 0);
        // What is deployed again is the newest again.
        assert_eq!(deploy(&app, "1"), first);
        assert_eq!(remove_old(&app, to.path(), 2).unwrap(), 1);
        assert_eq!([&foreign, &first, &second, &third].map(|path| path.exists()), [true, true, false, true]);
    }

    #[test]
    fn texts_have_a_compressed_file_beside_them_where_that_is_worth_it() {
        let (source, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let text = "let x = 1;\n".repeat(1000);
        let noise: Vec<u8> = (0..4000_u32).flat_map(|n| Sha256::digest(n.to_be_bytes()).to_vec()).collect();
        for (name, content) in [("a.JS", text.as_bytes()), ("a.bin", text.as_bytes()), ("b.js", b"short")] {
            fs::write(source.path().join(name), content).unwrap();
        }
        fs::write(source.path().join("noise.txt"), noise).unwrap();
        fs::write(source.path().join("own.css"), &text).unwrap();
        fs::write(source.path().join("own.css.gz"), "own").unwrap();
        let made = pack(source.path(), &"a".parse().unwrap(), to.path()).unwrap();
        let mut names: Vec<_> = fs::read_dir(&made)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["a.JS", "a.JS.gz", "a.bin", "b.js", "noise.txt", "own.css", "own.css.gz"]);
        assert_eq!(fs::read_to_string(made.join("own.css.gz")).unwrap(), "own");
        let mut unpacked = String::new();
        let file = File::open(made.join("a.JS.gz")).unwrap();
        io::Read::read_to_string(&mut flate2::read::GzDecoder::new(file), &mut unpacked).unwrap();
        assert_eq!(unpacked, text);
    }

    #[test]
    fn links_are_refused() {
        let source = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", source.path().join("x")).unwrap();
        assert!(look_at(source.path()).unwrap_err().to_string().contains("no links"));
        assert!(look_at(&source.path().join("none")).is_err());
    }
}
