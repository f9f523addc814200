//! Unpacks one image layer, as the root of a user namespace: files get the owners that the image says.
//!
//! Runs as a process of its own (hidden mode `unpack`): the compressed layer comes on standard input, and is only
//! kept if it has the expected digest. An image is not trusted: nothing outside the target can be reached, sizes and
//! counts are bounded, device nodes and FIFOs are left out.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail, ensure};
use flate2::read::MultiGzDecoder;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use sha2::{Digest, Sha256};
use tar::{Archive, Entry, EntryType};

use super::landlock::{self, Files};
use super::{namespaces, stage, sweep, sys};

/// Most bytes that a layer may unpack to.
const MAX_UNPACKED_BYTES: u64 = 16 << 30;
/// Most entries of a layer.
const MAX_ENTRIES: u64 = 1_000_000;
/// Longest path of an entry, in bytes.
const MAX_PATH_BYTES: usize = 4095;
/// Most directories above an entry: each is looked at for every entry below it. Trees of packages have some dozens.
const MAX_DEPTH: usize = 256;
/// A file of this name makes its directory hide what lower layers have in it.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// A file whose name starts with this hides the lower layers' file with the rest of the name.
const WHITEOUT: &[u8] = b".wh.";

/// Entry of the hidden `unpack` mode: makes `target`/fs from the layer on standard input.
pub fn main(target: &Path, digest: &str) -> anyhow::Result<()> {
    super::refuse_root()?;
    let (uids, gids) = sweep::my_subordinate_ids()?;
    DirBuilder::new().mode(0o700).create(target).with_context(|| format!("make {}", target.display()))?;
    // The namespace's root is a user that this process cannot name outside; nobody else gets past the directory above.
    fs::set_permissions(target, fs::Permissions::from_mode(0o777))?;
    namespaces::enter_user_namespace(uids, gids)?;
    let directory = stage::open_directories([target])?;
    sys::become_root()?;
    sys::set_dumpable(true)?;
    stage::mount_stage()?;
    let target = stage::bind_in_stage(&directory[0], "layer")?;
    let root = target.join("fs");
    DirBuilder::new().mode(0o755).create(&root)?;
    landlock::keep_to(&Files { own: &[&target], read: &[] }).context("keep the unpacker to its directory")?;
    let mut layer = Hashed { from: BufReader::new(io::stdin().lock()), hash: Sha256::new() };
    unpack(&mut layer, &root)?;
    // What follows the archive counts for the digest too.
    io::copy(&mut layer, &mut io::sink())?;
    let found = format!("sha256:{}", hex::encode(layer.hash.finalize()));
    ensure!(found == digest, "the layer has the digest {found}, not {digest}: the image is damaged");
    Ok(nix::unistd::syncfs(File::open(&root)?)?)
}

/// Counts what it reads into a digest.
struct Hashed<R> {
    from: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(into)?;
        self.hash.update(&into[..n]);
        Ok(n)
    }
}

fn unpack(layer: &mut Hashed<impl Read>, root: &Path) -> anyhow::Result<()> {
    let mut magic = [0; 2];
    layer.read_exact(&mut magic).context("the layer is empty")?;
    let whole = io::Cursor::new(magic).chain(layer);
    if magic == [0x1f, 0x8b] {
        unpack_tar(MultiGzDecoder::new(whole), root, MAX_ENTRIES)
    } else {
        unpack_tar(whole, root, MAX_ENTRIES)
    }
}

fn unpack_tar(from: impl Read, root: &Path, max_entries: u64) -> anyhow::Result<()> {
    let mut archive = Archive::new(from.take(MAX_UNPACKED_BYTES));
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.set_preserve_mtime(true);
    archive.set_overwrite(true);
    let mut directories = Vec::new();
    for (count, entry) in (1..).zip(archive.entries()?) {
        ensure!(count <= max_entries, "the layer has more than {max_entries} entries");
        let mut entry = entry.context("read the layer's archive")?;
        let path = entry.path()?.into_owned();
        ensure!(
            path.as_os_str().len() <= MAX_PATH_BYTES,
            "a path in the layer is longer than {MAX_PATH_BYTES} bytes"
        );
        ensure!(
            path.components().count() <= MAX_DEPTH,
            "a path in the layer is more than {MAX_DEPTH} directories deep"
        );
        if entry.header().entry_type() == EntryType::Directory {
            directories.push((path.clone(), entry.header().mode()?, entry.header().mtime()?));
        }
        place(&mut entry, &path, root).with_context(|| format!("unpack {}", path.display()))?;
    }
    finish_directories(root, &directories)
}

fn place(entry: &mut Entry<'_, impl Read>, path: &Path, root: &Path) -> anyhow::Result<()> {
    let name = path.file_name().map_or(&b""[..], OsStr::as_bytes);
    if name == OPAQUE {
        let directory = inside(root, path.parent().unwrap_or(Path::new("")))?;
        return Ok(set_opaque(&directory)?);
    }
    if let Some(hidden) = name.strip_prefix(WHITEOUT) {
        ensure!(!hidden.is_empty() && hidden != b"." && hidden != b"..", "a whiteout without a name");
        let directory = inside(root, path.parent().unwrap_or(Path::new("")))?;
        let hidden: OsString = OsStr::from_bytes(hidden).to_owned();
        return Ok(mknod(&directory.join(hidden), SFlag::S_IFCHR, Mode::empty(), makedev(0, 0))?);
    }
    match entry.header().entry_type() {
        EntryType::Regular
        | EntryType::Continuous
        | EntryType::GNUSparse
        | EntryType::Directory
        | EntryType::Symlink
        | EntryType::Link => {
            ensure!(entry.unpack_in(root)?, "the path leads out of the image");
            Ok(())
        }
        // Devices could not be made here anyway; the container gets a /dev of its own.
        EntryType::Char | EntryType::Block | EntryType::Fifo => Ok(()),
        EntryType::XGlobalHeader => Ok(()),
        other => bail!("an archive entry of the kind {other:?} is not supported"),
    }
}

/// A directory of the layer, made with its parents where missing; an error if symbolic links lead out of `root`.
fn inside(root: &Path, path: &Path) -> anyhow::Result<PathBuf> {
    let mut at = root.to_owned();
    for part in path.components() {
        match part {
            Component::Normal(name) => at.push(name),
            Component::CurDir | Component::RootDir => continue,
            Component::ParentDir | Component::Prefix(_) => bail!("the path leads out of the image"),
        }
        match fs::symlink_metadata(&at) {
            Ok(found) => ensure!(found.is_dir(), "{} is not a directory", at.display()),
            Err(_) => fs::create_dir(&at)?,
        }
    }
    Ok(at)
}

fn set_opaque(directory: &Path) -> io::Result<()> {
    sys::set_xattr(directory, c"user.overlay.opaque", b"y")
}

/// Directories get their modes and times last: unpacking into them changed the times.
fn finish_directories(root: &Path, directories: &[(PathBuf, u32, u64)]) -> anyhow::Result<()> {
    for (path, mode, mtime) in directories.iter().rev() {
        let directory = inside(root, path)?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode & 0o7777))?;
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(*mtime);
        File::open(&directory)?.set_modified(time)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(paths: &[&str]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for path in paths {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_uid(nix::unistd::getuid().as_raw().into());
            header.set_gid(nix::unistd::getgid().as_raw().into());
            header.set_size(0);
            tar.append_data(&mut header, path, io::empty()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn unpacked(paths: &[&str], max_entries: u64) -> Result<(), String> {
        let root = tempfile::tempdir().unwrap();
        unpack_tar(layer(paths).as_slice(), root.path(), max_entries).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn entries_are_counted() {
        assert_eq!(unpacked(&["a", "b"], 2), Ok(()));
        assert_eq!(unpacked(&["a", "b", "c"], 2), Err("the layer has more than 2 entries".to_owned()));
    }

    #[test]
    fn deep_and_long_paths_are_refused() {
        let deep = "d/".repeat(300) + "file";
        assert!(unpacked(&[&deep], 9).unwrap_err().contains("directories deep"));
        let long = format!("{}/file", "d".repeat(5000));
        assert!(unpacked(&[&long], 9).unwrap_err().contains("longer than 4095 bytes"));
    }
}
