//! The static files of an app: found in a directory, and named by their paths in requests and their digests. Beside each
//! file of text comes a compressed one, as the edge compresses nothing itself.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use berth_common::image::Digest;
use berth_common::spec::MAX_ASSETS;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::content::Content;

/// Largest file, in bytes, and largest sum of all: enough for a web site, not for videos.
const MAX_FILE_BYTES: u64 = 100 << 20;
const MAX_BYTES: u64 = 2 << 30;
/// How deeply directories may be nested.
const MAX_DEPTH: usize = 32;
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

/// Checks the files, and returns their number.
pub(crate) fn look_at(source: &Path) -> Result<usize> {
    Ok(list(source)?.len())
}

/// Adds the files of a directory to what is sent to the edge, and returns their digests by their paths in requests.
pub(crate) fn pack(source: &Path, content: &mut Content) -> Result<BTreeMap<String, Digest>> {
    let files = list(source)?;
    let mut packed = BTreeMap::new();
    for name in &files {
        let from = source.join(name);
        let digest =
            content.add_file(from.clone()).with_context(|| format!("cannot read {}", from.display()))?;
        packed.insert(path_of(name), digest);
        let beside = beside(name);
        if is_text(name) && files.binary_search(&beside).is_err() {
            let compressed =
                compress(&from).with_context(|| format!("cannot compress {}", from.display()))?;
            packed.extend(compressed.map(|bytes| (path_of(&beside), content.add(bytes))));
        }
    }
    Ok(packed)
}

/// The path of a file in requests.
fn path_of(name: &Path) -> String {
    let parts = name.components().map(|part| part.as_os_str().to_string_lossy());
    parts.fold(String::new(), |path, part| path + "/" + &part)
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

/// A compressed copy, the same of the same file, unless it would save less than a tenth.
fn compress(from: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = File::open(from)?;
    if !COMPRESSED_BYTES.contains(&file.metadata()?.len()) {
        return Ok(None);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let bytes = io::copy(&mut file.take(*COMPRESSED_BYTES.end()), &mut encoder)?;
    let compressed = encoder.finish()?;
    Ok((compressed.len() as u64 <= bytes - bytes / 10).then_some(compressed))
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

    fn pack_here(source: &Path) -> BTreeMap<String, Digest> {
        pack(source, &mut Content::default()).unwrap()
    }

    #[test]
    fn files_are_named_by_path_and_digest() {
        let source = tempfile::tempdir().unwrap();
        fs::create_dir(source.path().join("css")).unwrap();
        fs::write(source.path().join("index.html"), "x").unwrap();
        fs::write(source.path().join("css/a b.css"), "y").unwrap();
        fs::write(source.path().join(".env"), "secret").unwrap();
        let expected = [("/css/a b.css", "y"), ("/index.html", "x")];
        let expected = expected.map(|(path, text)| (path.to_owned(), Digest::of(text.as_bytes())));
        assert_eq!(pack_here(source.path()), expected.into());
        assert_eq!(pack_here(source.path()), pack_here(source.path()));
    }

    #[test]
    fn texts_have_a_compressed_file_beside_them_where_that_is_worth_it() {
        let source = tempfile::tempdir().unwrap();
        let text = "let x = 1;\n".repeat(1000);
        let noise: Vec<u8> =
            (0..4000_u32).flat_map(|n| Digest::of(&n.to_be_bytes()).as_bytes().to_vec()).collect();
        for (name, content) in [("a.JS", text.as_bytes()), ("a.bin", text.as_bytes()), ("b.js", b"short")] {
            fs::write(source.path().join(name), content).unwrap();
        }
        fs::write(source.path().join("noise.txt"), noise).unwrap();
        fs::write(source.path().join("own.css"), &text).unwrap();
        fs::write(source.path().join("own.css.gz"), "own").unwrap();
        let made = pack_here(source.path());
        let names: Vec<&str> = made.keys().map(String::as_str).collect();
        assert_eq!(names, ["/a.JS", "/a.JS.gz", "/a.bin", "/b.js", "/noise.txt", "/own.css", "/own.css.gz"]);
        assert_eq!(made["/own.css.gz"], Digest::of(b"own"));
        let compressed = compress(&source.path().join("a.JS")).unwrap().unwrap();
        assert_eq!(made["/a.JS.gz"], Digest::of(&compressed));
        let mut unpacked = String::new();
        flate2::read::GzDecoder::new(&compressed[..]).read_to_string(&mut unpacked).unwrap();
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
