//! A layer that is being fetched: its compressed bytes are written to a spool file, from which the unpacking process
//! reads. An interrupted transfer is resumed at the end of the file.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_common::wire::images::ReadBlob;
use berth_images::manifest::Descriptor;
use berth_monitor::cells::Counter;
use quinn::RecvStream;
use tokio::time::Instant;

use super::Failure;
use super::modes::Unpacker;
use super::sources::{SourceError, Sources};

/// Size of one write. Bytes that were received but not written when the agent is killed are fetched again.
const CHUNK_BYTES: usize = 256 << 10;
/// How long a transfer may stall before it is requested again.
const IDLE: Duration = Duration::from_secs(10);
/// How long a transfer may stall over all attempts before it fails: long enough for an edge to restart.
const PATIENCE: Duration = Duration::from_secs(30);
/// Delay after a failed attempt.
const PAUSE: Duration = Duration::from_millis(100);

/// The spool file of a layer.
#[derive(Debug)]
pub(super) struct Spool {
    path: PathBuf,
    file: Arc<File>,
    there: u64,
}

impl Spool {
    /// Opens the spool at this path, with the bytes that it has. One that is longer than its blob is emptied.
    pub(super) fn open(path: PathBuf, length: u64) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        let mut there = file.metadata()?.len();
        if there > length {
            file.set_len(0)?;
            there = 0;
        }
        Ok(Self { path, file: Arc::new(file), there })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, once it is unpacked or found to be damaged.
    pub(super) fn remove(self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    async fn append(&mut self, bytes: Vec<u8>, length: usize) -> io::Result<Vec<u8>> {
        let (file, at) = (Arc::clone(&self.file), self.there);
        let write = move || file.write_all_at(&bytes[..length], at).map(|()| bytes);
        let bytes = tokio::task::spawn_blocking(write).await.map_err(io::Error::other)??;
        self.there += length as u64;
        Ok(bytes)
    }
}

/// The transfer of a blob into a spool.
pub(super) struct Transfer<'a> {
    pub(super) sources: &'a Sources,
    pub(super) blob: &'a Descriptor,
    pub(super) fetched: &'a Counter,
    /// Its progress in bytes.
    pub(super) done: &'a Cell<u64>,
}

/// Why an attempt has ended.
enum Cut {
    /// The unpacking process has ended: the rest is not needed.
    Unwanted,
    /// The stream was lost: it may be requested again.
    Lost,
    Failed(Failure),
}

impl Transfer<'_> {
    /// Fetches the missing bytes. Ends early if the unpacking process has ended.
    pub(super) async fn run(&self, spool: &mut Spool, unpacker: &mut Unpacker) -> Result<(), Failure> {
        let mut until = Instant::now() + PATIENCE;
        self.done.set(spool.there);
        let mut wanted = unpacker.advance(spool.there).await;
        while wanted && spool.there < self.blob.size {
            let before = spool.there;
            match self.attempt(spool, unpacker, until).await {
                Ok(()) => {}
                Err(Cut::Unwanted) => wanted = false,
                Err(Cut::Lost) => tokio::time::sleep(PAUSE).await,
                Err(Cut::Failed(failure)) => return Err(failure),
            }
            if spool.there > before {
                until = Instant::now() + PATIENCE;
            } else if wanted && Instant::now() >= until {
                return Err(Failure::transient(format!(
                    "no byte of {} came for {} s",
                    self.blob.digest,
                    PATIENCE.as_secs()
                )));
            }
        }
        Ok(())
    }

    async fn attempt(&self, spool: &mut Spool, unpacker: &mut Unpacker, until: Instant) -> Result<(), Cut> {
        let ask = ReadBlob { digest: self.blob.digest, from: spool.there };
        let response =
            self.sources.read(&ask, until).await.map_err(|error| Cut::Failed(not_fetched(&ask, &error)))?;
        if response.length != self.blob.size {
            let text = format!(
                "its manifest says that {} has {} bytes, and it has {}",
                self.blob.digest, self.blob.size, response.length
            );
            return Err(Cut::Failed(Failure::permanent(text)));
        }
        let (mut stream, mut buffer) = (response.bytes, vec![0; CHUNK_BYTES]);
        while spool.there < self.blob.size {
            let left = usize::try_from(self.blob.size - spool.there).unwrap_or(usize::MAX);
            let (count, cut) = fill(&mut stream, &mut buffer[..left.min(CHUNK_BYTES)]).await;
            buffer = spool.append(buffer, count).await.map_err(|error| Cut::Failed(error.into()))?;
            self.fetched.add(count as u64);
            self.done.set(spool.there);
            if !unpacker.advance(spool.there).await {
                return Err(Cut::Unwanted);
            }
            if cut {
                return Err(Cut::Lost);
            }
        }
        Ok(())
    }
}

/// The failure of an image with a blob that no edge sends.
pub(super) fn not_fetched(ask: &ReadBlob, error: &SourceError) -> Failure {
    let text = format!("{} cannot be fetched: {error}", ask.digest);
    match error {
        SourceError::Nowhere => Failure::transient(text),
        SourceError::Refused(_) => Failure::permanent(text),
    }
}

/// Reads until the buffer is full. True if the stream ended or stalled before that.
async fn fill(stream: &mut RecvStream, buffer: &mut [u8]) -> (usize, bool) {
    let mut filled = 0;
    while filled < buffer.len() {
        match tokio::time::timeout(IDLE, stream.read(&mut buffer[filled..])).await {
            Ok(Ok(Some(count))) => filled += count,
            Ok(Ok(None) | Err(_)) | Err(_) => return (filled, true),
        }
    }
    (filled, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_spool_resumes_at_its_end_and_is_emptied_if_it_is_longer_than_its_blob() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let mut spool = Spool::open(path.clone(), 10).unwrap();
        spool.append(b"12345678".to_vec(), 5).await.unwrap();
        drop(spool);
        let mut spool = Spool::open(path.clone(), 10).unwrap();
        assert_eq!(spool.there, 5);
        spool.append(b"678".to_vec(), 3).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"12345678");
        assert_eq!(Spool::open(path.clone(), 7).unwrap().there, 0);
        spool.remove().unwrap();
        assert!(!path.exists());
    }
}
