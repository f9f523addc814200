//! Upgraded connections, WebSockets above all: bytes pass in both directions until both sides have ended. Such a
//! connection has no hold; each message on it is a moment of activity. Where the instance has its share of unread bytes
//! and is cut, a WebSocket is closed with the code 1013; when the edge stops, with 1012.
//!
//! ```text
//!  both flow ──one has ended──▶ the other flows ──ended, or silent for too long──▶ over
//! ```
//!
//! What fails, and what happens then:
//! * The instance reads no more: what the client still sends is dropped; what the instance sends still arrives.
//! * The client reads no more, or the instance's side breaks off: both end at once.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::load::LoadGuard;
use crate::http::frames::{CLOSE_RESTART, CLOSE_TRY_AGAIN, FrameScanner};
use crate::http::parts::InParts;
use crate::script::Stream;
use crate::shard::objects::{Activity, Hold};
use crate::shard::tunnel::{self, TunnelStream};

/// Buffer of each direction.
const BUFFER_BYTES: usize = 16 * 1024;
/// How long one direction of a WebSocket may be silent after the other has ended: its end is a handshake.
const HALF_OPEN_LIMIT: Duration = Duration::from_secs(30);
/// The same of other connections: input that has ended may be an order whose answer takes long.
const RAW_HALF_OPEN_LIMIT: Duration = Duration::from_secs(60 * 60);
/// How long a client may take to answer that the edge stops, and an instance to end its message. A part of the grace
/// that requests get.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);
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

/// Carries bytes in both directions, from the client's 101 until both sides have ended, or the edge has begun to drain: a
/// WebSocket is closed then, and what has no way to be told is cut soon after.
pub(crate) async fn carry(client: OnUpgrade, instance: Tunnelled, drain: &CancellationToken) {
    carry_raw(client, false, instance, drain).await;
}

/// The same; what the instance sends may go in parts.
pub(crate) async fn carry_raw(
    client: OnUpgrade,
    in_parts: bool,
    instance: Tunnelled,
    drain: &CancellationToken,
) {
    let passed = match client.await.map(TokioIo::new) {
        Ok(client) if in_parts => pass_both_ways(InParts::new(client), instance, drain).await,
        Ok(client) => pass_both_ways(client, instance, drain).await,
        Err(error) => {
            tracing::debug!(%error, "upgrade failed");
            return;
        }
    };
    tracing::debug!(error = passed.err().map(tracing::field::display), "upgraded connection ended");
}

/// The same between a client and a server that a program has reached for it.
pub(crate) async fn carry_through(client: OnUpgrade, server: Box<dyn Stream>, drain: &CancellationToken) {
    let kind = Kind { websocket: true, early: Bytes::new() };
    let passed = match client.await.map(TokioIo::new) {
        Ok(client) => pass(client, server, kind, &Pulse::new(|| {}), drain).await,
        Err(error) => {
            tracing::debug!(%error, "upgrade failed");
            return;
        }
    };
    tracing::debug!(error = passed.err().map(tracing::field::display), "upgraded connection ended");
}

async fn pass_both_ways(
    client: impl AsyncRead + AsyncWrite + Unpin,
    instance: Tunnelled,
    drain: &CancellationToken,
) -> io::Result<()> {
    let Tunnelled { stream, early, websocket, activity, load: _load } = instance;
    let pulse = Pulse::new(move || activity.touch());
    pass(client, stream, Kind { websocket, early }, &pulse, drain).await
}

/// What is known of a connection when it begins.
struct Kind {
    websocket: bool,
    early: Bytes,
}

async fn pass<F: Fn()>(
    client: impl AsyncRead + AsyncWrite + Unpin,
    instance: impl AsyncRead + AsyncWrite + Unpin,
    Kind { websocket, early }: Kind,
    pulse: &Pulse<F>,
    drain: &CancellationToken,
) -> io::Result<()> {
    let (client_reader, mut client_writer) = tokio::io::split(client);
    let (instance_reader, instance_writer) = tokio::io::split(instance);
    let scanner = || websocket.then(FrameScanner::default);
    let mut down = Direction { scanner: scanner(), pulse, to_client: true };
    let up = Direction { scanner: scanner(), pulse, to_client: false };
    if !early.is_empty() {
        down.note(&early);
        client_writer.write_all(&early).await?;
    }
    let up = up.pass(client_reader, instance_writer, drain);
    let down = down.pass(instance_reader, client_writer, drain);
    let limit = if websocket { HALF_OPEN_LIMIT } else { RAW_HALF_OPEN_LIMIT };
    tokio::select! {
        ended = until_both_end(up, down, limit, &pulse.bytes) => ended,
        () = left(drain) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Returns once those who were told that the edge stops have had their time.
async fn left(drain: &CancellationToken) {
    drain.cancelled().await;
    tokio::time::sleep(LEAVE_LIMIT).await;
}

/// A direction that fails ends both; after one that ends cleanly the other may finish, for as long as it flows.
async fn until_both_end(
    up: impl Future<Output = io::Result<()>>,
    down: impl Future<Output = io::Result<()>>,
    limit: Duration,
    bytes: &AtomicU64,
) -> io::Result<()> {
    let (mut up, mut down) = (pin!(up), pin!(down));
    tokio::select! {
        ended = &mut up => {
            ended?;
            while_it_flows(down, limit, bytes).await
        }
        ended = &mut down => {
            ended?;
            while_it_flows(up, limit, bytes).await
        }
    }
}

async fn while_it_flows(
    mut direction: Pin<&mut impl Future<Output = io::Result<()>>>,
    limit: Duration,
    bytes: &AtomicU64,
) -> io::Result<()> {
    loop {
        let before = bytes.load(Ordering::Relaxed);
        match timeout(limit, &mut direction).await {
            Ok(ended) => return ended,
            Err(late) if bytes.load(Ordering::Relaxed) == before => return Err(late.into()),
            Err(_) => {}
        }
    }
}

/// One direction, scanned for messages.
struct Direction<'a, F> {
    scanner: Option<FrameScanner>,
    pulse: &'a Pulse<F>,
    to_client: bool,
}

impl<F: Fn()> Direction<'_, F> {
    async fn pass(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        drain: &CancellationToken,
    ) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut drains = pin!(drain.cancelled());
        loop {
            let read = tokio::select! {
                biased;
                () = &mut drains, if self.can_close() => return self.close(to, &CLOSE_RESTART).await,
                read = from.read(&mut buffer) => read,
            };
            let read = match read {
                Ok(0) => return to.shutdown().await,
                Ok(read) => read,
                Err(error) if tunnel::is_unread(&error) && self.can_close() => {
                    return self.close(to, &CLOSE_TRY_AGAIN).await;
                }
                Err(error) => return Err(error),
            };
            self.note(&buffer[..read]);
            match to.write_all(&buffer[..read]).await {
                // The other direction tells how it ended: what the instance has sent is still on its way, and the client
                // must not be reset before it is read.
                Err(_) if !self.to_client => return drop_rest(from, &mut buffer).await,
                written => written?,
            }
        }
    }

    /// Whether the client can be told something, in a frame of its own.
    fn can_close(&self) -> bool {
        self.to_client && self.scanner.as_ref().is_some_and(FrameScanner::is_between_frames)
    }

    async fn close(&self, mut to: impl AsyncWrite + Unpin, frame: &[u8]) -> io::Result<()> {
        to.write_all(frame).await?;
        to.shutdown().await
    }

    fn note(&mut self, bytes: &[u8]) {
        self.pulse.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if self.scanner.as_mut().is_none_or(|scanner| scanner.scan(bytes)) {
            self.pulse.beat();
        }
    }
}

/// Reads to the end, and drops what comes.
async fn drop_rest(mut from: impl AsyncRead + Unpin, buffer: &mut [u8]) -> io::Result<()> {
    while from.read(buffer).await? > 0 {}
    Ok(())
}

/// Reports activity, with a minimum interval, and counts bytes.
struct Pulse<F> {
    touch: F,
    start: Instant,
    /// When activity may be reported again, in milliseconds after the start.
    next_ms: AtomicU64,
    /// Bytes that came from either side.
    bytes: AtomicU64,
}

impl<F: Fn()> Pulse<F> {
    fn new(touch: F) -> Self {
        Self { touch, start: Instant::now(), next_ms: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    fn beat(&self) {
        let now_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        if now_ms >= self.next_ms.load(Ordering::Relaxed) {
            self.next_ms.store(now_ms + TOUCH_EVERY_MS, Ordering::Relaxed);
            (self.touch)();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use super::*;

    /// The ends of a client and of an instance, between which bytes are carried.
    fn carried(
        websocket: bool,
        drain: &CancellationToken,
    ) -> (DuplexStream, DuplexStream, JoinHandle<io::Result<()>>) {
        let ((client, near), (instance, far)) = (duplex(64), duplex(64));
        let drain = drain.clone();
        let passing = tokio::spawn(async move {
            let kind = Kind { websocket, early: Bytes::new() };
            pass(near, far, kind, &Pulse::new(|| {}), &drain).await
        });
        (client, instance, passing)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_flows_is_not_cut_however_long_ago_the_input_ended() {
        for (websocket, pause) in [(true, HALF_OPEN_LIMIT), (false, RAW_HALF_OPEN_LIMIT)] {
            let (mut client, mut instance, passing) = carried(websocket, &CancellationToken::new());
            client.shutdown().await.unwrap();
            assert_eq!(instance.read(&mut [0]).await.unwrap(), 0);
            for _ in 0..10 {
                tokio::time::sleep(pause - Duration::from_secs(1)).await;
                instance.write_all(b"x").await.unwrap();
                client.read_exact(&mut [0]).await.unwrap();
            }
            drop(instance);
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
            assert!(passing.await.unwrap().is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_is_left_alone_and_silent_is_given_up() {
        let began = tokio::time::Instant::now();
        let (client, mut instance, passing) = carried(true, &CancellationToken::new());
        instance.shutdown().await.unwrap();
        assert_eq!(passing.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), HALF_OPEN_LIMIT.as_secs());
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_that_reads_no_more_is_still_heard() {
        // The sides of an instance that are not one stream, so that one can be gone.
        let (mut client, near) = duplex(64);
        let (mut answer, from_instance) = duplex(64);
        let (to_instance, gone) = duplex(64);
        drop(gone);
        let passing = tokio::spawn(async move {
            let far = tokio::io::join(from_instance, to_instance);
            let kind = Kind { websocket: false, early: Bytes::new() };
            pass(near, far, kind, &Pulse::new(|| {}), &CancellationToken::new()).await
        });
        client.write_all(&[7; 1000]).await.unwrap();
        answer.write_all(b"enough").await.unwrap();
        drop(answer);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"enough");
        drop(client);
        assert!(passing.await.unwrap().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_edge_that_stops_closes_websockets_between_two_messages() {
        let drain = CancellationToken::new();
        let (mut client, mut instance, passing) = carried(true, &drain);
        // Half of a message of two bytes.
        instance.write_all(&[0x81, 2, b'a']).await.unwrap();
        client.read_exact(&mut [0; 3]).await.unwrap();
        drain.cancel();
        instance.write_all(b"b").await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, [b"b", &CLOSE_RESTART[..]].concat());
        // The client's answer is the instance's news.
        client.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.unwrap();
        drop(client);
        let mut news = Vec::new();
        instance.read_to_end(&mut news).await.unwrap();
        assert_eq!(news, [0x88, 0x80, 0, 0, 0, 0]);
        assert!(passing.await.unwrap().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_edge_that_stops_does_not_wait_for_a_client_that_does_not_answer() {
        let drain = CancellationToken::new();
        let (client, instance, passing) = carried(true, &drain);
        drain.cancel();
        assert!(timeout(LEAVE_LIMIT * 2, passing).await.unwrap().unwrap().is_err());
        drop((client, instance));
    }
}
