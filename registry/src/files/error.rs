//! Why files of apps were not stored or found.

use std::io;

use berth_common::image::Digest;
use berth_store::StoreError;

use super::MAX_FILES_BYTES;
use crate::content::ContentError;

/// Why files were not stored or found.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The bytes have another digest than announced; or those on the disk have, which is damaged then.
    #[error("the content has the digest {found}, not {expected}")]
    Digest {
        /// The announced digest.
        expected: Digest,
        /// The actual digest.
        found: Box<Digest>,
    },
    /// A file is too large.
    #[error("a file of more than {limit} bytes; that is the most one may have")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// All files together would take too much.
    #[error(
        "that would be more than the {MAX_FILES_BYTES} bytes that the files of all apps may take: delete apps that nobody needs; \
         what no version names any more goes within hours"
    )]
    Quota,
    /// Too many uploads are open.
    #[error("as many files are being written as can be at once: try again later")]
    Busy,
    /// The disk is almost full.
    #[error("the edge's disk is as good as full ({free} bytes are free): nothing was kept; make room there")]
    Full {
        /// Free bytes of the disk.
        free: u64,
    },
    /// Reading or writing failed.
    #[error("the disk of the files failed: {0}")]
    Io(io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The edge is stopping.
    #[error("the edge is stopping")]
    Stopping,
}

impl From<ContentError> for FilesError {
    fn from(error: ContentError) -> Self {
        match error {
            ContentError::Digest { expected, found } => Self::Digest { expected, found },
            ContentError::Quota { .. } => Self::Quota,
            ContentError::TooLarge { limit } => Self::TooLarge { limit },
            ContentError::Unexpected(limit) => Self::TooLarge { limit: limit as u64 },
            ContentError::Busy => Self::Busy,
            ContentError::Full { free } => Self::Full { free },
            ContentError::Io(error) => Self::Io(error),
        }
    }
}
