//! What an app names by digest: collected on this machine, and given to an edge. Only what that does not have is sent,
//! several files at once; each is sent again after a cut.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use berth_api::client::{ClientError, Connection, UploadBody};
use berth_api::files::{FileDigests, MAX_DIGESTS, MissingFiles};
use berth_common::image::{Algorithm, Digest, Hasher};
use berth_common::spec::MAX_CONTENT_BYTES;
use bytes::Bytes;
use hyper::{Method, StatusCode};
use tokio::task::JoinSet;

use crate::admin::Admin;
use crate::progress::{Transfers, bytes};
use crate::stop::blocking;

/// Parallel connections: enough to use the network while some of them wait for the edge's disk.
const CONNECTIONS: usize = 4;
/// Bytes that are read at once to compute a digest.
const CHUNK_BYTES: usize = 256 << 10;
/// The waits after the connection was cut, or the edge had no place: longer in all than the restart of an edge takes.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// Where the bytes of a digest are.
#[derive(Debug, Clone)]
enum Source {
    Memory(Bytes),
    File(PathBuf),
}

/// Content by digest.
#[derive(Debug, Default)]
pub(crate) struct Content(BTreeMap<Digest, Source>);

/// What was done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    files: usize,
    bytes: u64,
    there: usize,
}

impl Sent {
    /// A one-line summary.
    pub(crate) fn describe(&self) -> String {
        let Self { files, bytes: sent, there } = *self;
        format!("sent {files} of {} files ({}), {there} were there", files + there, bytes(sent))
    }
}

impl Content {
    /// Adds bytes, and returns their digest.
    pub(crate) fn add(&mut self, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.0.entry(digest).or_insert(Source::Memory(bytes));
        digest
    }

    /// Adds a file that must stay as it is until it was sent, and returns its digest.
    pub(crate) fn add_file(&mut self, path: PathBuf) -> io::Result<Digest> {
        let digest = digest_of(File::open(&path)?)?;
        self.0.entry(digest).or_insert(Source::File(path));
        Ok(digest)
    }

    /// Gives an edge what it does not have; with `again` all of it, also what it has.
    pub(crate) async fn send(self, admin: &Admin, again: bool) -> Result<Sent> {
        let all = self.0.len();
        let missing = if again { self.0.keys().copied().collect() } else { missing(admin, &self.0).await? };
        let queue: VecDeque<_> =
            missing.iter().filter_map(|digest| Some((*digest, self.0.get(digest)?.clone()))).collect();
        let there = all - queue.len();
        let shared = Arc::new(Shared { queue: Mutex::new(queue), shown: Transfers::new() });
        let mut workers = JoinSet::new();
        for _ in 0..CONNECTIONS.min(missing.len()) {
            workers.spawn(Arc::clone(&shared).work(admin.connection()));
        }
        let mut sent = Sent { there, ..Sent::default() };
        while let Some(done) = workers.join_next().await {
            // The first error ends the others: what is cut off leaves nothing.
            let (files, bytes) = done.context("sending was broken off")??;
            sent.files += files;
            sent.bytes += bytes;
        }
        Ok(sent)
    }
}

fn digest_of(mut file: File) -> io::Result<Digest> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hasher.digest()),
            count => hasher.update(&chunk[..count]),
        }
    }
}

/// What the edge does not have.
async fn missing(admin: &Admin, content: &BTreeMap<Digest, Source>) -> Result<Vec<Digest>> {
    let digests: Vec<Digest> = content.keys().copied().collect();
    let mut missing = Vec::new();
    for some in digests.chunks(MAX_DIGESTS) {
        let asked: Result<MissingFiles, ClientError> =
            admin.post("/v1/files/missing", &FileDigests { digests: some.to_vec() }).await;
        missing.extend(asked.context("the edge was not asked which files it has")?.missing);
    }
    Ok(missing)
}

struct Shared {
    queue: Mutex<VecDeque<(Digest, Source)>>,
    shown: Transfers,
}

impl Shared {
    /// Sends one after the other. Returns how many, and how many bytes.
    async fn work(self: Arc<Self>, mut connection: Connection) -> Result<(usize, u64)> {
        let (mut files, mut bytes) = (0, 0);
        loop {
            let next = self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((digest, source)) = next else { return Ok((files, bytes)) };
            let content = source.read().await.with_context(|| format!("{source} cannot be read"))?;
            files += 1;
            bytes += content.len() as u64;
            self.send(&mut connection, &digest, content)
                .await
                .with_context(|| format!("cannot send {source}"))?;
        }
    }

    async fn send(&self, connection: &mut Connection, digest: &Digest, content: Bytes) -> Result<()> {
        let shown = self.shown.begin(&short(digest), content.len() as u64);
        let path = format!("/v1/files/{digest}");
        for pause in PAUSES.iter().map(Some).chain([None]) {
            shown.set(0);
            let body = UploadBody::reporting(content.clone(), shown.reporter());
            let asked = connection.ask(Method::PUT, &path, &[], body).await;
            let error = match asked {
                Ok(answer) if answer.status.is_success() => return Ok(()),
                Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => answer.refusal(),
                Ok(answer) => bail!("{}", answer.refusal()),
                Err(error) => format!("{:#}", anyhow::Error::from(error)),
            };
            match pause {
                Some(pause) => tokio::time::sleep(*pause).await,
                None => bail!("{error}"),
            }
        }
        Ok(())
    }
}

/// The first digits of a digest.
fn short(digest: &Digest) -> String {
    digest.hex().chars().take(12).collect()
}

impl Source {
    async fn read(&self) -> Result<Bytes> {
        let path = match self {
            Self::Memory(bytes) => return Ok(bytes.clone()),
            Self::File(path) => path.clone(),
        };
        let read = blocking(move |_| {
            let mut bytes = Vec::new();
            // It may have grown since it was looked at.
            File::open(&path)?.take(MAX_CONTENT_BYTES + 1).read_to_end(&mut bytes)?;
            ensure!(bytes.len() as u64 <= MAX_CONTENT_BYTES, "it has more than {MAX_CONTENT_BYTES} bytes");
            Ok(bytes)
        });
        Ok(read.await?.into())
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory(bytes) => write!(f, "a file of {} bytes", bytes.len()),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}
