//! Unpacks one layer of an image into a directory: an untrusted tar archive, compressed or not.
//!
//! ```text
//! stream ─▶ compression ─▶ archive (header, pax, sparse) ─▶ unpacker ─▶ tree, on disk
//!                                                            path: parses names          own: this layer's own paths
//! ```
//!
//! Nothing outside the directory is read or changed, whatever the archive contains; all sizes are bounded. Entries that
//! an unprivileged container cannot have are left out and reported: device nodes, privileged attributes.
//!
//! Knows nothing of namespaces: owners are set with the rights of the calling process.

mod archive;
mod attributes;
mod compression;
mod error;
mod header;
mod links;
mod own;
mod path;
mod pax;
mod sparse;
#[cfg(test)]
mod tests;
mod tree;
mod unpacker;
mod whiteouts;

use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use berth_common::image::{Algorithm, Digest};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

pub use self::compression::MAX_DECODER_BYTES;
pub use self::error::{LayerError, Name, Problem};
use crate::CONTAINER_IDS;

/// What the directory is that a layer is unpacked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A directory of its own, empty, to be a layer of an overlay file system that is mounted with `userxattr`: what it
    /// hides of lower layers is marked.
    Overlay,
    /// The root of what the lower layers make together: what the layer hides is removed.
    Merged,
}

/// Whose the files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Those that the layer says.
    Said,
    /// The caller's, who may not give files away.
    Mine,
}

/// Where a layer goes.
#[derive(Debug)]
pub struct Target {
    root: OwnedFd,
    form: Form,
    owners: Owners,
}

impl Target {
    /// A directory that is there.
    pub fn open(directory: &Path, form: Form, owners: Owners) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::open(directory, flags, Mode::empty())?, form, owners })
    }
}

/// What a layer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the archive without compression, and likewise of its files with their holes.
    pub bytes: u64,
    /// Entries, and directories that no entry describes. Each may cost an inode.
    pub entries: u64,
    /// Uids and gids that there are.
    pub ids: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: MAX_BYTES, entries: MAX_ENTRIES, ids: CONTAINER_IDS }
    }
}

/// Most bytes that a layer may unpack to, unless the caller says less: the largest images in use have some tens of
/// gigabytes in several layers.
pub const MAX_BYTES: u64 = 16 << 30;
/// Most entries of a layer. Large distributions have some hundred thousand files.
pub const MAX_ENTRIES: u64 = 1_000_000;

/// What was unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Files, hard links to others not counted.
    pub files: u64,
    /// Directories that the layer describes.
    pub directories: u64,
    /// Symbolic and hard links.
    pub links: u64,
    /// Whiteouts and directories that hide what is below them.
    pub whiteouts: u64,
    /// Bytes of the files, with their holes.
    pub bytes: u64,
    /// Device nodes and attributes that were left out.
    pub left_out: u64,
    /// The first of them, to be shown to people.
    pub notes: Vec<String>,
    /// It can only be right where the lower layers are: it does not describe a directory that it has something in,
    /// links to a file that is not its own, or hides all that is in the root. Only told of [`Form::Overlay`].
    pub needs_parents: bool,
    /// Hard links to files that are not its own.
    #[serde(default)]
    pub dangling: u64,
    /// The digest of the archive without compression, where it was asked for.
    pub diff_id: Option<Digest>,
}

/// Unpacks a layer, and reads to the end of it. With `hash`, the summary has the digest of the archive by this algorithm.
///
/// What was unpacked before an error stays.
pub fn unpack(
    layer: &mut impl Read,
    target: &Target,
    limits: &Limits,
    hash: Option<Algorithm>,
) -> Result<Summary, LayerError> {
    let counted = compression::Counted::new(compression::decompress(layer)?, limits.bytes, hash);
    let mut archive =
        archive::Archive::new(BufReader::with_capacity(compression::BUFFER_BYTES, counted), limits.entries);
    let mut summary = unpacker::Unpacker::new(target, limits)?.run(&mut archive)?;
    archive.drain()?;
    summary.diff_id = archive.into_inner().into_inner().digest();
    Ok(summary)
}

/// Looks at a layer without unpacking it, for what would make every node refuse it, and reads to the end of its archive.
pub fn check(layer: &mut impl Read, limits: &Limits) -> Result<(), LayerError> {
    let counted = compression::Counted::new(compression::decompress(layer)?, limits.bytes, None);
    let mut archive =
        archive::Archive::new(BufReader::with_capacity(compression::BUFFER_BYTES, counted), limits.entries);
    unpacker::check(&mut archive, limits.ids)?;
    archive.drain()
}

/// Removes something from a directory, with all that is in it, following no links. It is no error if it is not there.
pub fn remove(within: impl AsFd, name: &str) -> io::Result<()> {
    Ok(tree::remove(within.as_fd(), name.as_bytes())?)
}
