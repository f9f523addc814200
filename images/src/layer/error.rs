//! Why a layer is refused.

use std::fmt;
use std::io;

/// Longest part of an image's name that an error shows, in bytes.
const MAX_SHOWN_BYTES: usize = 200;

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// It could not be read.
    #[error("the layer cannot be read: {0}")]
    Read(#[source] io::Error),
    /// It ends too early.
    #[error("the layer is cut off: it ends in the middle of an entry")]
    Truncated,
    /// It is compressed in a way that is not understood.
    #[error("the layer is compressed with {0}, which is not understood: gzip, zstd, xz and plain tar are")]
    Compression(&'static str),
    /// It needs too much memory to be decompressed.
    #[error(
        "the layer needs more than {0} KiB of memory to be decompressed: compress it with a smaller window, as up to \
         `xz -9` does"
    )]
    Memory(u32),
    /// It is not a valid archive.
    #[error("the layer is not a sound archive: {0}")]
    Archive(&'static str),
    /// It has too many entries.
    #[error("the layer has more than {0} entries, with the directories that it does not name")]
    Entries(u64),
    /// It is too large.
    #[error("the layer unpacks to more than {0} bytes")]
    Bytes(u64),
    /// The names of its directories are too long.
    #[error("the names of the layer's directories have more than {0} bytes in all")]
    Names(usize),
    /// The directory that it is unpacked into failed.
    #[error("the directory for the layer cannot be used: {0}")]
    Target(#[source] io::Error),
    /// One entry is the reason.
    #[error("unpack {name}: {problem}")]
    Entry {
        /// Its name.
        name: Name,
        /// What is wrong with it.
        problem: Problem,
    },
}

/// What is wrong with an entry.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Its path leads out of the image.
    #[error("the path leads out of the image")]
    LeadsOut,
    /// Its path is too long.
    #[error("the path is longer than {0} bytes")]
    TooLong(usize),
    /// Its path has too many parts.
    #[error("the path is more than {0} directories deep")]
    TooDeep(usize),
    /// Its path has a NUL byte.
    #[error("the path has a NUL in it")]
    Nul,
    /// It has no name.
    #[error("only a directory can be the root of the image")]
    Root,
    /// A whiteout of nothing.
    #[error("a whiteout without a name")]
    Whiteout,
    /// An entry inside a whiteout.
    #[error("names that begin with `.wh.` are whiteouts, and nothing can be inside one")]
    InWhiteout,
    /// Its owner is not a valid id.
    #[error(
        "it belongs to the user or group {0}, and containers have only the ids 0 to {most}: give it another owner where \
         the image is built (chown)", most = u64::from(*.1).saturating_sub(1)
    )]
    Owner(i64, u32),
    /// An unsupported kind of entry.
    #[error("an archive entry of the kind `{kind}` is not supported", kind = char::from(*.0).escape_default())]
    Kind(u8),
    /// The target of a hard link is missing.
    #[error("it is a hard link to {0}, which is not there")]
    LinkTarget(Name),
    /// A component of its path is not a directory.
    #[error("{0} is not a directory")]
    NotADirectory(Name),
    /// It is too large.
    #[error("it would make the layer unpack to more than {0} bytes")]
    Bytes(u64),
    /// There would be too many entries.
    #[error("it would make the layer have more than {0} entries, with the directories that it does not name")]
    Entries(u64),
    /// The system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The archive is invalid, not the entry.
    #[error("{0}")]
    Layer(#[source] Box<LayerError>),
}

impl From<rustix::io::Errno> for Problem {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}

impl From<LayerError> for Problem {
    fn from(error: LayerError) -> Self {
        Self::Layer(Box::new(error))
    }
}

/// A name from an image, escaped and shortened for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(Vec<u8>);

impl Name {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(bytes[..bytes.len().min(MAX_SHOWN_BYTES)].to_vec())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.0);
        let shown = text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c });
        let more = if self.0.len() == MAX_SHOWN_BYTES { "…" } else { "" };
        write!(f, "`{}{more}`", shown.collect::<String>())
    }
}
