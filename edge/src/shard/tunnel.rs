//! Tunnel streams: one QUIC stream that an agent joins to one TCP connection inside an instance; and the endpoint that
//! all of a shard's connections share. Does not know HTTP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use berth_certs::Credentials;
use berth_common::ids::NodeId;
use berth_common::wire::close;
use berth_common::wire::tunnel::{TunnelAnswer, TunnelHeader};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    AckFrequencyConfig, MtuDiscoveryConfig, ReadError, SendStream, TransportConfig, VarInt, WriteError,
};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::streams::Permit;
use super::unread::{Reading, Unread};

/// Wait for an agent's reply to a tunnel header: longer than an agent tries to connect to a port.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Flow-control window of a tunnel stream: 25 MB/s over a round trip of 20 ms, and the most that one slow reader occupies.
const STREAM_WINDOW_BYTES: u32 = 512 << 10;
/// Flow-control window of a connection for tunnels: as much as all streams that an agent allows may hold, so that what one
/// client does not read never stops another. It is a promise and no memory; unread bytes have shares (`unread`).
const CONNECTION_WINDOW_BYTES: u64 = 16_384 * STREAM_WINDOW_BYTES as u64;
/// The same for calls: answers and reports are short, and a node is not trusted with more of the edge's memory.
const CALL_WINDOW_BYTES: u32 = 128 << 10;
/// Flow-control window of a connection for calls: that of as many calls as an agent serves at once.
const CALLS_WINDOW_BYTES: u32 = 128 * CALL_WINDOW_BYTES;
/// Flow-control window of a connection for images, on which a node sends reports and short requests.
const IMAGES_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes sent and not yet acknowledged, over all streams of a connection.
const SEND_WINDOW_BYTES: u64 = 8 << 20;
/// Kernel buffers of the UDP socket: bursts of a whole congestion window must fit.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Packets that an agent may leave unacknowledged: fewer acknowledgements are less work on both sides.
const ACK_THRESHOLD_PACKETS: u32 = 10;
/// Longest delay of an acknowledgement.
const ACK_DELAY: Duration = Duration::from_millis(5);
/// Largest packet that is tried: ten of them, the size of one batch, must fit into 64 KiB.
const MTU_BYTES: u16 = 6500;
/// Silence after which a keep-alive is sent.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Silence after which a connection is lost.
const IDLE_TIMEOUT_MS: u32 = 10_000;
/// Round-trip time that is assumed while dialling: makes a lost first packet cost 0.3 s and not a second.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// Blobs that a node may fetch at once.
const MAX_BLOB_STREAMS: u32 = 16;

const IDENTIFIED: &str = "the configuration of `certs` has TLS 1.3's initial cipher suite";

/// A UDP socket for all QUIC connections of a shard.
pub(crate) fn endpoint() -> io::Result<quinn::Endpoint> {
    let socket = bind(Domain::IPV6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)))
        .or_else(|_| bind(Domain::IPV4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))))?;
    let mut config = quinn::EndpointConfig::default();
    config.max_udp_payload_size(MTU_BYTES).map_err(io::Error::other)?;
    quinn::Endpoint::new(config, None, socket, Arc::new(quinn::TokioRuntime))
}

fn bind(domain: Domain, address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(domain, Type::DGRAM, None)?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(false)?;
    }
    // Best effort: the kernel's own limit may be lower.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// The QUIC configuration for dialling a node for calls.
pub(crate) fn calls_config(credentials: &Credentials, node: &NodeId) -> quinn::ClientConfig {
    let mut transport = transport();
    transport
        .stream_receive_window(VarInt::from_u32(CALL_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CALLS_WINDOW_BYTES));
    client_config(credentials, node, transport)
}

/// The QUIC configuration for dialling a node for tunnels.
pub(crate) fn data_config(credentials: &Credentials, node: &NodeId) -> quinn::ClientConfig {
    let mut transport = transport();
    transport.receive_window(data_window());
    client_config(credentials, node, transport)
}

/// The QUIC configuration for dialling a node that fetches images: there the node opens the streams.
pub(crate) fn delivery_config(credentials: &Credentials, node: &NodeId) -> quinn::ClientConfig {
    let mut transport = transport();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_BLOB_STREAMS))
        .receive_window(VarInt::from_u32(IMAGES_WINDOW_BYTES));
    client_config(credentials, node, transport)
}

fn client_config(
    credentials: &Credentials,
    node: &NodeId,
    transport: TransportConfig,
) -> quinn::ClientConfig {
    let tls = berth_certs::client_config(credentials, node);
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect(IDENTIFIED)));
    config.transport_config(Arc::new(transport));
    config
}

/// Lets a connection for calls carry tunnels too, to an agent that knows no other.
pub(crate) fn widen(connection: &quinn::Connection) {
    connection.set_receive_window(data_window());
}

fn data_window() -> VarInt {
    VarInt::from_u64(CONNECTION_WINDOW_BYTES).expect("QUIC's numbers have 62 bits")
}

fn transport() -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_THRESHOLD_PACKETS)).max_ack_delay(Some(ACK_DELAY));
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MTU_BYTES);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .ack_frequency_config(Some(acks))
        .mtu_discovery_config(Some(mtu))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_TIMEOUT_MS).into()))
        .initial_rtt(INITIAL_RTT);
    transport
}

/// Why a tunnel stream was not opened. In every case nothing has reached the instance.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The connection to the node is lost: a new one may work.
    #[error("the connection to the node was lost")]
    Lost,
    /// The instance or its app has as many streams over the link as its share.
    #[error("as many connections to the instance or its app are open as one may have")]
    Share,
    /// The agent refuses.
    #[error("{0}")]
    Refused(TunnelAnswer),
    /// The agent replies with a code that this version does not know.
    #[error("the node gave the unknown answer {0:#04x}")]
    Unknown(u8),
    /// The agent does not reply.
    #[error("the node did not answer within {} s", OPEN_TIMEOUT.as_secs())]
    TimedOut,
}

/// Opens a stream to a port of an instance, with a unit of its share.
pub(super) async fn open(
    connection: &quinn::Connection,
    header: TunnelHeader,
    permit: Permit,
    unread: &Unread,
) -> Result<TunnelStream, OpenError> {
    let opened = try_open(connection, header, permit, unread);
    tokio::time::timeout(OPEN_TIMEOUT, opened).await.map_err(|_| OpenError::TimedOut)?
}

async fn try_open(
    connection: &quinn::Connection,
    header: TunnelHeader,
    permit: Permit,
    unread: &Unread,
) -> Result<TunnelStream, OpenError> {
    let (send, recv) = connection.open_bi().await.map_err(|_| OpenError::Lost)?;
    let recv = unread.watch(recv, permit.tenant());
    let mut stream = TunnelStream { send, recv, ended: false, heard: Arc::default(), _permit: permit };
    stream.send.write_all(&header.encode()).await.map_err(|_| OpenError::Lost)?;
    let mut answer = [0];
    stream.read_exact(&mut answer).await.map_err(|_| OpenError::Lost)?;
    match TunnelAnswer::from_code(answer[0]) {
        Some(TunnelAnswer::Connected) => Ok(stream),
        Some(refused) => Err(OpenError::Refused(refused)),
        None => Err(OpenError::Unknown(answer[0])),
    }
}

/// One TCP connection inside an instance, at the other end of a QUIC stream. Dropping it resets it; `end` closes it
/// cleanly.
#[derive(Debug)]
pub(crate) struct TunnelStream {
    send: SendStream,
    recv: Reading,
    ended: bool,
    /// Set when bytes come, for whoever wants to know.
    heard: Arc<AtomicBool>,
    /// Given back with the stream.
    _permit: Permit,
}

/// Whether an error on a tunnel stream, or one that was caused by it, says that the instance did not read what it was
/// sent, and had its share of that already.
pub(crate) fn is_unread(error: &(dyn std::error::Error + 'static)) -> bool {
    let unread = |code: &VarInt| *code == VarInt::from_u32(close::UNREAD);
    let here = |error: &(dyn std::error::Error + 'static)| {
        let read = matches!(error.downcast_ref(), Some(ReadError::Reset(code)) if unread(code));
        read || matches!(error.downcast_ref(), Some(WriteError::Stopped(code)) if unread(code))
    };
    let mut next = Some(error);
    while let Some(error) = next {
        // An `io::Error` has the source of what it wraps for its own.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if here(error) || wrapped.is_some_and(|wrapped| here(wrapped)) {
            return true;
        }
        next = error.source();
    }
    false
}

impl TunnelStream {
    /// Becomes true when bytes come.
    pub(crate) fn heard(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.heard)
    }

    /// Finishes the sending side, instead of the reset that dropping would cause.
    pub(crate) fn end(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        self.ended = true;
        // Fails only if the stream has ended already.
        let _ = self.send.finish();
    }
}

impl Drop for TunnelStream {
    fn drop(&mut self) {
        if !self.ended {
            // A reset, so that an instance does not take a truncated request for a complete one.
            let _ = self.send.reset(VarInt::from_u32(close::RESET));
        }
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = self.recv.poll_read(cx, buf);
        if buf.filled().len() > before {
            self.heard.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.send).poll_write(cx, buf).map_err(io::Error::from)
    }

    /// quinn copies what it is given: claiming vectored writes saves a copy in hyper.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut written = 0;
        for buf in bufs.iter().filter(|buf| !buf.is_empty()) {
            match Pin::new(&mut self.send).poll_write(cx, buf) {
                Poll::Ready(Ok(taken)) if taken == buf.len() => written += taken,
                Poll::Ready(Ok(taken)) => return Poll::Ready(Ok(written + taken)),
                // Bytes that were written count; the stream returns Pending again next time.
                _ if written > 0 => return Poll::Ready(Ok(written)),
                other => return Poll::Ready(ready!(other).map_err(io::Error::from)),
            }
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}
