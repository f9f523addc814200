//! Gives an image to an edge's registry. First it finds out what that lacks, and looks at those layers; then it sends: missing configurations and layers, several at once, in chunks that are resumed
//! after a cut; then the manifests, referenced ones first. Pushing again sends only what is missing.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use berth_api::client::{Answer, ClientError, Connection, UploadBody};
use berth_common::image::{Digest, Repository, Tag};
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName, HeaderValue, RANGE};
use hyper::{Method, StatusCode};
use tokio::task::JoinSet;

use crate::admin::Admin;
use crate::image::oci::Document;
use crate::image::part::Part;
use crate::image::{Image, check};
use crate::progress::{Transfer, Transfers, bytes};
use crate::stop::blocking;

/// Parallel connections: enough to use the network while some of them wait for the edge's disk.
const CONNECTIONS: usize = 4;
/// Bytes that are sent in one request, held in memory, and sent again after a cut.
const CHUNK_BYTES: usize = 8 << 20;
/// How many times in a row a connection may be cut without progress at the edge, and the wait after each: longer in all
/// than the restart of an edge takes.
const PAUSES: [Duration; 6] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1500),
    Duration::from_millis(2000),
    Duration::from_millis(5000),
    Duration::from_millis(10_000),
];
/// Longest `Retry-After` of an edge that is respected.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);
/// How long the other requests may take to end once one has failed. Those that do not are cut off.
const END_WITHIN: Duration = Duration::from_secs(10);

/// What was done.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Pushed {
    pub(crate) sent: usize,
    pub(crate) sent_bytes: u64,
    pub(crate) there: usize,
}

impl Pushed {
    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.sent_bytes += other.sent_bytes;
        self.there += other.there;
    }

    /// A one-line summary.
    pub(crate) fn describe(&self) -> String {
        let Self { sent, sent_bytes, there } = *self;
        format!("sent {sent} of {} parts ({}), {there} were there", sent + there, bytes(sent_bytes))
    }
}

/// Pushes an image to a repository, by digest and with a tag if there is one.
pub(crate) async fn push(
    admin: &Admin,
    image: &Image,
    repository: &Repository,
    tag: Option<&Tag>,
) -> Result<Pushed> {
    let blobs = &image.contents.blobs;
    let shared = Arc::new(Shared {
        given_up: AtomicBool::new(false),
        queue: Mutex::new(blobs.iter().map(|(digest, part)| (*digest, part.clone())).collect()),
        layers: image.contents.layers.clone(),
        missing: Mutex::default(),
        open: Mutex::default(),
        repository: repository.clone(),
        shown: Transfers::new(),
    });
    let mut worker = Worker { connection: admin.connection(), shared: Arc::clone(&shared) };
    let mut pushed = push_blobs(admin, &shared, Step::LookAt).await?;
    // Nothing is sent of an image that no node could use.
    std::mem::swap(&mut *lock(&shared.queue), &mut *lock(&shared.missing));
    match push_blobs(admin, &shared, Step::Send).await {
        Ok(sent) => pushed.add(sent),
        Err(error) => {
            worker.cancel_open().await;
            return Err(error);
        }
    }
    for document in &image.contents.documents {
        worker.put_manifest(document, &document.digest.to_string()).await?;
    }
    if let (Some(tag), Some(image)) = (tag, image.contents.documents.last()) {
        worker.put_manifest(image, tag.as_str()).await?;
    }
    Ok(pushed)
}

/// Has several workers do this with what is in the queue. After an error the others end their current request first: one that
/// is cut off could begin an upload that nobody cancels, or finish one after this has returned.
async fn push_blobs(admin: &Admin, shared: &Arc<Shared>, step: Step) -> Result<Pushed> {
    // Dropped, it ends the work of all.
    let mut workers = JoinSet::new();
    for _ in 0..CONNECTIONS.min(lock(&shared.queue).len()) {
        workers.spawn(work(Worker { connection: admin.connection(), shared: Arc::clone(shared) }, step));
    }
    let mut pushed = Pushed::default();
    while let Some(done) = workers.join_next().await {
        match done.context("pushing was broken off").and_then(|done| done) {
            Ok(done) => pushed.add(done),
            Err(error) => {
                shared.given_up.store(true, Ordering::Relaxed);
                let ending = async { while workers.join_next().await.is_some() {} };
                let _ = tokio::time::timeout(END_WITHIN, ending).await;
                return Err(error);
            }
        }
    }
    Ok(pushed)
}

/// What is done with each blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Find out whether the edge has it; if not, whether it is sound.
    LookAt,
    Send,
}

type Queue = Mutex<VecDeque<(Digest, Part)>>;

struct Shared {
    /// One of the workers has failed: the others stop before their next request.
    given_up: AtomicBool,
    queue: Queue,
    /// Which blobs are layers.
    layers: BTreeSet<Digest>,
    /// What the edge lacks.
    missing: Queue,
    /// The locations of unfinished uploads.
    open: Mutex<BTreeMap<Digest, String>>,
    repository: Repository,
    shown: Transfers,
}

/// Sends one blob after the other over a connection of its own.
struct Worker {
    connection: Connection,
    shared: Arc<Shared>,
}

/// How far a blob is.
#[derive(Default)]
struct Upload {
    /// The location of its upload; `None` before it has begun.
    location: Option<String>,
    /// Bytes that the edge has.
    sent: u64,
    /// The most that it ever had: only more than that counts as progress.
    best: u64,
    /// Cuts since then.
    cuts: usize,
}

async fn work(mut worker: Worker, step: Step) -> Result<Pushed> {
    let mut pushed = Pushed::default();
    loop {
        let next = lock(&worker.shared.queue).pop_front();
        let Some((digest, part)) = next else { return Ok(pushed) };
        worker.shared.go_on()?;
        let what = || format!("cannot push {digest}");
        match step {
            Step::LookAt if worker.look_at(digest, &part).await.with_context(what)? => pushed.there += 1,
            Step::LookAt => {}
            Step::Send => {
                worker.send(digest, &part).await.with_context(what)?;
                pushed.sent += 1;
                pushed.sent_bytes += part.length();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// An error once a worker has failed.
    fn go_on(&self) -> Result<()> {
        ensure!(!self.given_up.load(Ordering::Relaxed), "another part could not be pushed");
        Ok(())
    }
}

impl Worker {
    /// Whether the edge has a blob. A layer that it lacks is looked at.
    async fn look_at(&mut self, digest: Digest, part: &Part) -> Result<bool> {
        if self.is_there(&digest, part, &mut Upload::default()).await? {
            return Ok(true);
        }
        if self.shared.layers.contains(&digest) {
            let part = part.clone();
            blocking(move |stop| check::layer(&part, &digest, &stop)).await?;
        }
        lock(&self.shared.missing).push_back((digest, part.clone()));
        Ok(false)
    }

    /// Sends a blob.
    async fn send(&mut self, digest: Digest, part: &Part) -> Result<()> {
        let mut upload = Upload::default();
        let transfer = self.shared.shown.begin(&short(&digest), part.length());
        loop {
            self.shared.go_on()?;
            match self.go_on(digest, part, &transfer, &mut upload).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(Fault::Final(error)) => return Err(error),
                Err(Fault::Cut(cut)) => self.after_cut(cut, part, &mut upload).await?,
            }
            self.note(digest, upload.location.as_ref());
            if upload.sent > upload.best {
                (upload.best, upload.cuts) = (upload.sent, 0);
            }
            transfer.set(upload.sent);
        }
        self.note(digest, None);
        transfer.done("pushed");
        Ok(())
    }

    /// Records the location of an upload, or that it is over.
    fn note(&self, digest: Digest, location: Option<&String>) {
        let mut open = lock(&self.shared.open);
        match location {
            Some(location) => drop(open.insert(digest, location.clone())),
            None => drop(open.remove(&digest)),
        }
    }

    /// Cancels an upload that will not be continued: the edge would keep it for a while, and its room may be what is
    /// lacking.
    async fn cancel_open(&mut self) {
        let open = std::mem::take(&mut *lock(&self.shared.open));
        for location in open.into_values() {
            // Errors are ignored: the upload may be over, or the edge not reachable; it removes old uploads by itself.
            let _ = self.connection.ask(Method::DELETE, &location, &[], UploadBody::empty()).await;
        }
    }

    /// Whether the edge has a blob. One of another length there is damaged, and is replaced.
    async fn is_there(&mut self, digest: &Digest, part: &Part, upload: &mut Upload) -> Result<bool> {
        let path = format!("/v2/{}/blobs/{digest}", self.shared.repository);
        loop {
            match self.connection.ask(Method::HEAD, &path, &[], UploadBody::empty()).await {
                Ok(answer) if answer.status == StatusCode::OK => {
                    let length = answer.header(&CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
                    return Ok(length.is_none_or(|length| length == part.length()));
                }
                Ok(answer) if answer.status == StatusCode::NOT_FOUND => return Ok(false),
                Ok(answer) if passes(answer.status) => pause(Cut::of(&answer), upload).await?,
                Ok(answer) => bail!("{}", answer.refusal()),
                Err(error) => pause(error.into(), upload).await?,
            }
        }
    }

    /// One step of a blob's upload; `true` after the last.
    async fn go_on(
        &mut self,
        digest: Digest,
        part: &Part,
        shown: &Transfer,
        upload: &mut Upload,
    ) -> Result<bool, Fault> {
        let Some(location) = upload.location.clone() else { return self.begin(&digest, part, upload).await };
        if upload.sent < part.length() {
            let chunk = read(part, upload.sent).await?;
            let count = u64::try_from(chunk.len()).map_err(Error::from)?;
            let range = format!("{}-{}", upload.sent, upload.sent + count - 1);
            let headers = [octets(), (CONTENT_RANGE, HeaderValue::try_from(range).map_err(Error::from)?)];
            let answer = self
                .ask(Method::PATCH, &location, &headers, UploadBody::reporting(chunk, shown.reporter()))
                .await?;
            upload.location = Some(accepted(answer, StatusCode::ACCEPTED)?.location().map_err(Error::from)?);
            upload.sent += count;
            return Ok(false);
        }
        let sign = if location.contains('?') { '&' } else { '?' };
        let path = format!("{location}{sign}digest={digest}");
        let answer = self.ask(Method::PUT, &path, &[octets()], UploadBody::empty()).await?;
        if answer.refusal().contains("DIGEST_INVALID") {
            let damaged =
                format!("{} is damaged: what is there has not the digest {digest}", part.path().display());
            return Err(Fault::Final(anyhow!(damaged)));
        }
        accepted(answer, StatusCode::CREATED)?;
        Ok(true)
    }

    /// Begins an upload; `true` if the blob is there because an earlier one succeeded and only its response was lost.
    async fn begin(&mut self, digest: &Digest, part: &Part, upload: &mut Upload) -> Result<bool, Fault> {
        if upload.cuts > 0 && self.is_there(digest, part, upload).await? {
            return Ok(true);
        }
        let path = format!("/v2/{}/blobs/uploads/", self.shared.repository);
        let answer = self.connection.ask(Method::POST, &path, &[], UploadBody::empty()).await.map_err(cut)?;
        if is_busy(answer.status) {
            return Err(Fault::Cut(Cut::of(&answer)));
        }
        upload.location = Some(accepted(answer, StatusCode::ACCEPTED)?.location().map_err(Error::from)?);
        Ok(false)
    }

    /// Asks the edge how much it has received, or begins again if it does not know the upload.
    async fn after_cut(&mut self, cut: Cut, part: &Part, upload: &mut Upload) -> Result<()> {
        pause(cut, upload).await?;
        let Some(location) = upload.location.clone() else { return Ok(()) };
        // If this fails as well, so does the next step, which asks again.
        let Ok(answer) = self.connection.ask(Method::GET, &location, &[], UploadBody::empty()).await else {
            return Ok(());
        };
        let received = received(answer.header(&RANGE)).min(part.length());
        match answer.status {
            StatusCode::NO_CONTENT if received > 0 => {
                upload.sent = received;
                upload.location = Some(answer.location().unwrap_or(location));
            }
            StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => {
                *upload = Upload { best: upload.best, cuts: upload.cuts, ..Upload::default() };
            }
            // The edge may still be writing what came before the cut. Then the next step fails, and this is tried
            // again.
            _ => {}
        }
        Ok(())
    }

    async fn put_manifest(&mut self, document: &Document, name: &str) -> Result<()> {
        let path = format!("/v2/{}/manifests/{name}", self.shared.repository);
        let mut upload = Upload::default();
        loop {
            let headers = [(CONTENT_TYPE, HeaderValue::try_from(&document.media_type)?)];
            match self.connection.ask(Method::PUT, &path, &headers, document.bytes.clone().into()).await {
                Ok(answer) if answer.status == StatusCode::CREATED => return Ok(()),
                Ok(answer) if passes(answer.status) => pause(Cut::of(&answer), &mut upload).await?,
                Ok(answer) => bail!("cannot push the manifest {}: {}", document.digest, answer.refusal()),
                Err(error) => pause(error.into(), &mut upload).await?,
            }
        }
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: UploadBody,
    ) -> Result<Answer, Fault> {
        let answer = self.connection.ask(method, path, headers, body).await.map_err(cut)?;
        // The edge has received another number of bytes, or does not know this upload any more.
        let lost = matches!(answer.status, StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::NOT_FOUND);
        if lost || is_busy(answer.status) { Err(Fault::Cut(Cut::of(&answer))) } else { Ok(answer) }
    }
}

fn accepted(answer: Answer, expected: StatusCode) -> Result<Answer> {
    if answer.status == expected { Ok(answer) } else { bail!("{}", answer.refusal()) }
}

/// Why a step failed.
enum Fault {
    /// It is not known how much the edge has received: ask, and continue from there.
    Cut(Cut),
    /// Permanent: a retry would fail again.
    Final(Error),
}

fn cut(error: ClientError) -> Fault {
    Fault::Cut(error.into())
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// What the edge cannot take now: the connection was lost, or it refuses for the moment.
struct Cut {
    error: Error,
    /// After how long it asks to be asked again.
    retry_after: Option<Duration>,
}

impl Cut {
    fn of(answer: &Answer) -> Self {
        Self { error: anyhow!("{}", answer.refusal()), retry_after: answer.retry_after() }
    }
}

impl From<ClientError> for Cut {
    fn from(error: ClientError) -> Self {
        Self { error: error.into(), retry_after: None }
    }
}

fn is_busy(status: StatusCode) -> bool {
    status == StatusCode::CONFLICT || passes(status)
}

/// Whether a refusal is for the moment only, as that of an edge that ends or starts.
pub(crate) fn passes(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

/// How long to wait where an edge may have asked for a longer pause.
pub(crate) fn at_least(pause: Duration, retry_after: Option<Duration>) -> Duration {
    pause.max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER))
}

/// Waits after a cut; an error after too many in a row.
async fn pause(cut: Cut, upload: &mut Upload) -> Result<()> {
    let Some(pause) = PAUSES.get(upload.cuts) else {
        return Err(cut.error.context(format!("given up after {} tries; push again to go on", PAUSES.len())));
    };
    upload.cuts += 1;
    // In tests the registry cuts connections on purpose: no need to wait.
    tokio::time::sleep(if cfg!(test) { Duration::ZERO } else { at_least(*pause, cut.retry_after) }).await;
    Ok(())
}

async fn read(part: &Part, from: u64) -> Result<Vec<u8>> {
    let (owned, path) = (part.clone(), part.path().display().to_string());
    let read = tokio::task::spawn_blocking(move || owned.read_at(from, CHUNK_BYTES)).await?;
    read.with_context(|| format!("cannot read {path}"))
}

fn octets() -> (HeaderName, HeaderValue) {
    (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
}

/// Bytes received according to `Range: 0-N`. Both none and one byte are reported as `0-0`, which is taken for none.
fn received(range: Option<&str>) -> u64 {
    let last = range.and_then(|range| range.rsplit_once('-')).and_then(|(_, last)| last.parse::<u64>().ok());
    last.filter(|last| *last > 0).map_or(0, |last| last.saturating_add(1))
}

/// Enough of a digest to distinguish the parts of an image.
pub(crate) fn short(digest: &Digest) -> String {
    const DIGITS: usize = 12;
    digest.hex().chars().take(DIGITS).collect()
}
