//! Writes OCI image layouts. One is staged next to its destination and appears there whole, or not at all.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use oci_spec::image::{Descriptor, ImageIndexBuilder, MediaType, OciLayoutBuilder, Sha256Digest};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::stop::Stop;

/// The file that marks a directory as a layout.
pub(crate) const MARKER: &str = "oci-layout";
/// The file that lists its images.
pub(crate) const INDEX: &str = "index.json";
const BLOBS: &str = "blobs/sha256";
const LAYOUT_VERSION: &str = "1.0.0";
const SCHEMA_VERSION: u32 = 2;
/// Nodes read images as another user.
const DIRECTORY_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// Whether a directory is an image layout.
pub(crate) fn is_layout(directory: &Path) -> bool {
    directory.join(MARKER).is_file()
}

/// The name of a blob's file in a layout.
pub(crate) fn blob_name(digest: &berth_common::image::Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// A layout under construction. Dropped, it is removed.
pub(crate) struct Staging {
    directory: TempDir,
    stop: Stop,
}

impl Staging {
    /// Begins a layout in a directory, which is created if missing. It must be the parent of the destination, for the
    /// rename.
    pub(crate) fn in_directory(parent: &Path) -> Result<Self> {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        let directory = tempfile::Builder::new().prefix(".berth-pack-").tempdir_in(parent);
        let directory =
            directory.with_context(|| format!("cannot make a directory in {}", parent.display()))?;
        fs::create_dir_all(directory.path().join(BLOBS))?;
        Ok(Self { directory, stop: Stop::default() })
    }

    /// Begins a layout without a destination, in a temporary directory. `stop` cancels it.
    pub(crate) fn temporary(stop: &Stop) -> Result<Self> {
        Ok(Self { stop: stop.clone(), ..Self::in_directory(&super::scratch())? })
    }

    /// The directory of a layout that stays where it is, without a list of images; it is gone when this is dropped.
    pub(crate) fn stay(self) -> TempDir {
        self.directory
    }

    /// Begins a blob.
    pub(crate) fn blob(&self) -> Result<Blob> {
        let blobs = self.directory.path().join(BLOBS);
        let file = tempfile::Builder::new().prefix(".blob-").tempfile_in(&blobs)?;
        Ok(Blob { blobs, stop: self.stop.clone(), out: Hashed::new(BufWriter::new(file)) })
    }

    /// Adds a value as a JSON blob.
    pub(crate) fn json(&self, media_type: MediaType, value: &impl Serialize) -> Result<Descriptor> {
        let mut blob = self.blob()?;
        serde_json::to_writer(&mut blob, value)?;
        blob.finish(media_type)
    }

    /// Writes the index with the layout's one image and moves all to the destination, durably. Replaces an existing
    /// layout.
    pub(crate) fn publish(self, image: Descriptor, destination: &Path) -> Result<()> {
        self.seal(image)?;
        let replaced = move_into(self.directory.path(), destination)
            .with_context(|| format!("cannot move the image layout to {}", destination.display()))?;
        // The staging directory's parent: that of the destination may be an empty path.
        let parent = self.directory.path().parent().context("the staging place has no parent")?;
        File::open(parent)?.sync_all()?;
        if !replaced {
            // The staging directory is gone; dropping the guard would only try to remove it.
            let _ = self.directory.keep();
        }
        Ok(())
    }

    fn seal(&self, image: Descriptor) -> Result<()> {
        let root = self.directory.path();
        let index = ImageIndexBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageIndex)
            .manifests(vec![image])
            .build()?;
        let marker = OciLayoutBuilder::default().image_layout_version(LAYOUT_VERSION.to_owned()).build()?;
        write_json(&root.join(INDEX), &index)?;
        write_json(&root.join(MARKER), &marker)?;
        for directory in [&root.join(BLOBS), &root.join("blobs"), root] {
            fs::set_permissions(directory, Permissions::from_mode(DIRECTORY_MODE))?;
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }
}

/// Moves a layout to its destination atomically; `true` if an earlier layout was exchanged and is now at `staged`.
fn move_into(staged: &Path, destination: &Path) -> Result<bool> {
    match renameat_with(CWD, staged, CWD, destination, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(false),
        Err(Errno::EXIST) if is_layout(destination) || is_empty(destination) => {
            renameat_with(CWD, staged, CWD, destination, RenameFlags::EXCHANGE)?;
            Ok(true)
        }
        Err(Errno::EXIST) => bail!("it exists and is no image layout; choose another place or remove it"),
        Err(error) => Err(error.into()),
    }
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let file = File::create(path)?;
    serde_json::to_writer(&file, value)?;
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    Ok(file.sync_all()?)
}

/// A blob under construction: written bytes go to the file and into the digest.
pub(crate) struct Blob {
    blobs: PathBuf,
    stop: Stop,
    out: Hashed<BufWriter<tempfile::NamedTempFile>>,
}

impl Blob {
    /// Renames the blob to its digest.
    pub(crate) fn finish(self, media_type: MediaType) -> Result<Descriptor> {
        let (out, hex, size) = self.out.finish();
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.as_file().set_permissions(Permissions::from_mode(FILE_MODE))?;
        file.as_file().sync_all()?;
        let path = self.blobs.join(&hex);
        file.persist(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Descriptor::new(media_type, size, hex.parse::<Sha256Digest>()?))
    }
}

impl Write for Blob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stop.check()?;
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A writer that also computes the SHA-256 and the number of the bytes.
pub(crate) struct Hashed<W> {
    out: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Hashed<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, hash: Sha256::new(), bytes: 0 }
    }

    /// The writer, the digest in hexadecimal, and the number of bytes.
    pub(crate) fn finish(self) -> (W, String, u64) {
        (self.out, hex::encode(self.hash.finalize()), self.bytes)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += u64::try_from(written).map_err(io::Error::other)?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
