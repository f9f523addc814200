//! Upgraded connections, WebSockets above all: bytes pass in both directions until both sides have ended. Such a
//! connection has no hold; each message on it is a moment of activity. Where the instance has its share of unread bytes
//! and is cut, a WebSocket is closed with the code 1013.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::load::LoadGuard;
use crate::http::frames::{CLOSE_TRY_AGAIN, FrameScanner};
use crate::shard::objects::{Activity, Hold};
use crate::shard::tunnel::{self, TunnelStream};

/// Buffer of each direction.
const BUFFER_BYTES: usize = 16 * 1024;
/// How long one direction may stay open after the other has ended.
const HALF_OPEN_LIMIT: Duration = Duration::from_secs(30);
/// Messages closer together than this count as one moment of activity.
const TOUCH_EVERY_MS: u64 = 200;

/// The instance's side of an upgraded connection.
pub(crate) struct Tunnelled {
    /// The stream to the instance.
    pub(crate) stream: TunnelStream,
    /// Bytes that the instance sent directly after its 101.
    pub(crate) early: Bytes,
    /// Whether it is a WebSocket, with frames; in other protocols every byte is activity.
    pub(crate) websocket: bool,
    /// Notified of messages.
    pub(crate) activity: Activity,
    /// Counts for the object's load until both sides have ended.
    pub(crate) load: Option<LoadGuard>,
}

impl Tunnelled {
    /// Takes over a held connection: the hold ends here.
    pub(crate) fn of(
        stream: TunnelStream,
        early: Bytes,
        websocket: bool,
        hold: Hold,
        load: Option<LoadGuard>,
    ) -> Self {
        Self { stream, early, websocket, activity: hold.into_activity(), load }
    }
}

/// Carries bytes in both directions, from the client's 101 until both sides have ended.
pub(crate) async fn carry(client: OnUpgrade, instance: Tunnelled) {
    let passed = match client.await {
        Ok(client) => pass_both_ways(TokioIo::new(client), instance).await,
        Err(error) => {
            tracing::debug!(%error, "upgrade failed");
            return;
        }
    };
    tracing::debug!(error = passed.err().map(tracing::field::display), "upgraded connection ended");
}

async fn pass_both_ways(client: impl AsyncRead + AsyncWrite + Unpin, instance: Tunnelled) -> io::Result<()> {
    let Tunnelled { stream, early, websocket, activity, load: _load } = instance;
    let pulse = Pulse::new(activity);
    let (client_reader, mut client_writer) = tokio::io::split(client);
    let (instance_reader, instance_writer) = tokio::io::split(stream);
    let scanner = || websocket.then(FrameScanner::default);
    let mut down = Direction { scanner: scanner(), pulse: &pulse, to_client: true };
    let up = Direction { scanner: scanner(), pulse: &pulse, to_client: false };
    if !early.is_empty() {
        down.note(&early);
        client_writer.write_all(&early).await?;
    }
    let up = up.pass(client_reader, instance_writer);
    let down = down.pass(instance_reader, client_writer);
    until_both_end(up, down).await
}

/// A direction that fails ends both; after one that ends cleanly the other may finish.
async fn until_both_end(
    up: impl Future<Output = io::Result<()>>,
    down: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    let (mut up, mut down) = (pin!(up), pin!(down));
    let rest = tokio::select! {
        ended = &mut up => {
            ended?;
            timeout(HALF_OPEN_LIMIT, down).await
        }
        ended = &mut down => {
            ended?;
            timeout(HALF_OPEN_LIMIT, up).await
        }
    };
    rest.unwrap_or_else(|late| Err(late.into()))
}

/// One direction, scanned for messages.
struct Direction<'a> {
    scanner: Option<FrameScanner>,
    pulse: &'a Pulse,
    to_client: bool,
}

impl Direction<'_> {
    async fn pass(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let read = match from.read(&mut buffer).await {
                Ok(0) => return to.shutdown().await,
                Ok(read) => read,
                Err(error) if tunnel::is_unread(&error) => return self.close_for_now(to, error).await,
                Err(error) => return Err(error),
            };
            self.note(&buffer[..read]);
            match to.write_all(&buffer[..read]).await {
                // The other direction tells the client, whose bytes nobody will read: it must not be reset before.
                Err(error) if tunnel::is_unread(&error) => return drain(from, &mut buffer).await,
                written => written?,
            }
        }
    }

    /// Tells a client why the instance's side was cut, if a frame can be told from what was sent before.
    async fn close_for_now(&self, mut to: impl AsyncWrite + Unpin, error: io::Error) -> io::Result<()> {
        let between = self.scanner.as_ref().is_some_and(FrameScanner::is_between_frames);
        if !self.to_client || !between {
            return Err(error);
        }
        to.write_all(&CLOSE_TRY_AGAIN).await?;
        to.shutdown().await
    }

    fn note(&mut self, bytes: &[u8]) {
        if self.scanner.as_mut().is_none_or(|scanner| scanner.scan(bytes)) {
            self.pulse.beat();
        }
    }
}

/// Reads to the end, and drops what comes.
async fn drain(mut from: impl AsyncRead + Unpin, buffer: &mut [u8]) -> io::Result<()> {
    while from.read(buffer).await? > 0 {}
    Ok(())
}

/// Reports activity, with a minimum interval.
struct Pulse {
    activity: Activity,
    start: Instant,
    /// When activity may be reported again, in milliseconds after the start.
    next_ms: AtomicU64,
}

impl Pulse {
    fn new(activity: Activity) -> Self {
        Self { activity, start: Instant::now(), next_ms: AtomicU64::new(0) }
    }

    fn beat(&self) {
        let now_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        if now_ms >= self.next_ms.load(Ordering::Relaxed) {
            self.next_ms.store(now_ms + TOUCH_EVERY_MS, Ordering::Relaxed);
            self.activity.touch();
        }
    }
}
