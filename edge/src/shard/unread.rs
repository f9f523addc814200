//! Bytes that instances have sent and clients do not read. Each stream may hold a window of them; how many streams of an
//! app and of an instance may do so has a share, and what goes beyond it is cut: the newest goes first.
//!
//! ```text
//!  reading ──nothing taken for a while──▶ idle: counts as a window ──read again──▶ reading
//!                                          └──the share is used up──▶ cut: its bytes are dropped at once
//! ```
//!
//! Whoever does read is never cut, however slow. A stream whose reader waits for bytes holds none.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use berth_common::wire::close;
use quinn::{RecvStream, VarInt};
use tokio::io::{AsyncRead, ReadBuf};

use super::streams::{Permit, Shared, Tenant};

/// Streams of one shard that may hold unread bytes at once. Each holds up to a stream's window (512 KiB): 256 MiB.
const MAX_UNREAD: usize = 512;
/// The same of one instance: 64 MiB.
const MAX_UNREAD_PER_INSTANCE: usize = 128;
/// How long a reader may take nothing before its stream counts as unread.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often streams are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The receiving end of a stream, which can be cut while its owner waits for something else.
#[derive(Debug)]
pub(crate) struct Reading(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Locked to read, by the owner's task, and to cut; never over an await.
    recv: Mutex<RecvStream>,
    /// How often bytes were taken.
    reads: AtomicU64,
    /// The owner has found nothing to read, and waits.
    waiting: AtomicBool,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, RecvStream> {
        self.recv.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what was received and asks the agent to send no more. The owner finds out when it reads again.
    fn cut(&self, code: u32) {
        // Fails only if the stream has ended already.
        let _ = self.lock().stop(VarInt::from_u32(code));
    }
}

impl Reading {
    /// Reads as `AsyncRead` does.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut *self.0.lock()).poll_read(cx, buf);
        self.0.waiting.store(read.is_pending(), Relaxed);
        if read.is_ready() {
            self.0.reads.fetch_add(1, Relaxed);
        }
        read
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.cut(close::RESET);
    }
}

/// The open streams of a shard, and the shares of those that hold unread bytes.
#[derive(Debug)]
pub(crate) struct Unread {
    shares: Arc<Shared>,
    /// In the order in which they were opened.
    streams: Mutex<Vec<Watched>>,
}

#[derive(Debug)]
struct Watched {
    stream: Weak<Inner>,
    tenant: Tenant,
    progress: Progress,
    /// Held while it counts as unread.
    permit: Option<Permit>,
}

impl Unread {
    pub(crate) fn new() -> Arc<Self> {
        let shares = Shared::new(MAX_UNREAD, MAX_UNREAD_PER_INSTANCE);
        Arc::new(Self { shares, streams: Mutex::default() })
    }

    /// Watches a stream to this tenant's instance until it is dropped.
    pub(crate) fn watch(&self, recv: RecvStream, tenant: Tenant) -> Reading {
        let (reads, waiting) = (AtomicU64::new(0), AtomicBool::new(true));
        let inner = Arc::new(Inner { recv: Mutex::new(recv), reads, waiting });
        let stream = Arc::downgrade(&inner);
        let progress = Progress::at(Instant::now());
        self.lock().push(Watched { stream, tenant, progress, permit: None });
        Reading(inner)
    }

    /// Looks at the streams again and again, for as long as it is polled.
    pub(crate) async fn look(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let cut = self.look_once(Instant::now());
            if cut > 0 {
                tracing::info!(
                    streams = cut,
                    "cut streams whose clients do not read: their instances' shares are used up"
                );
            }
        }
    }

    /// Returns how many were cut.
    fn look_once(&self, now: Instant) -> usize {
        let mut cut = 0;
        self.lock().retain_mut(|watched| {
            let Some(stream) = watched.stream.upgrade() else { return false };
            let idle = watched.progress.idle(&stream, now) >= PATIENCE;
            if !idle {
                watched.permit = None;
            } else if watched.permit.is_none() {
                watched.permit = self.shares.take(watched.tenant.clone());
                if watched.permit.is_none() {
                    stream.cut(close::UNREAD);
                    cut += 1;
                    return false;
                }
            }
            true
        });
        cut
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a reader last took something.
#[derive(Debug)]
struct Progress {
    reads: u64,
    since: Instant,
}

impl Progress {
    fn at(now: Instant) -> Self {
        Self { reads: 0, since: now }
    }

    /// For how long nothing was taken that was there.
    fn idle(&mut self, stream: &Inner, now: Instant) -> Duration {
        let reads = stream.reads.load(Relaxed);
        if stream.waiting.load(Relaxed) || reads != self.reads {
            *self = Self { reads, since: now };
        }
        now.saturating_duration_since(self.since)
    }
}
