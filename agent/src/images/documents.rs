//! Manifests, indexes and configurations on disk, by their digests. A file that does not match its digest counts as
//! missing.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use berth_common::image::Digest;

use berth_shim::state_files::make_private_dir;

/// The manifests, indexes and configurations on disk.
#[derive(Debug)]
pub(super) struct Documents {
    directory: PathBuf,
}

impl Documents {
    /// Opens those under this directory, which is created if missing.
    pub(super) fn open(images: &Path) -> io::Result<Self> {
        make_private_dir(images)?;
        let directory = images.join("documents");
        make_private_dir(&directory)?;
        Ok(Self { directory })
    }

    /// Reads one, if it is there and undamaged.
    pub(super) fn read(&self, digest: &Digest) -> Option<Vec<u8>> {
        let bytes = fs::read(self.path(digest)).ok()?;
        digest.fits(&bytes).then_some(bytes)
    }

    /// Writes one atomically. If it is lost in a crash of the machine, it is fetched again.
    pub(super) fn write(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(digest);
        let partial = path.with_extension("partial");
        fs::write(&partial, bytes)?;
        fs::rename(partial, path)
    }

    /// Removes all but these.
    pub(super) fn keep_only(&self, kept: &HashSet<Digest>) -> io::Result<()> {
        let kept: HashSet<String> = kept.iter().map(Digest::hex).collect();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if !kept.contains(entry.file_name().to_string_lossy().as_ref()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_document_counts_as_missing() {
        let dir = tempfile::tempdir().unwrap();
        let documents = Documents::open(dir.path()).unwrap();
        let digest = Digest::of(b"good");
        documents.write(&digest, b"good").unwrap();
        assert_eq!(documents.read(&digest).as_deref(), Some(&b"good"[..]));
        fs::write(documents.path(&digest), b"bad").unwrap();
        assert_eq!(documents.read(&digest), None);
        documents.write(&digest, b"good").unwrap();
        documents.keep_only(&HashSet::new()).unwrap();
        assert_eq!(documents.read(&digest), None);
    }
}
