//! Tunnel streams: one QUIC stream that an agent joins to one TCP connection inside an instance; and the endpoint that
//! all of a shard's connections share. Does not know HTTP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use berth_certs::Credentials;
use berth_common::ids::NodeId;
use berth_common::wire::close;
use berth_common::wire::tunnel::{TunnelAnswer, TunnelHeader};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{AckFrequencyConfig, MtuDiscoveryConfig, RecvStream, SendStream, TransportConfig, VarInt};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Wait for an agent's reply to a tunnel header: longer than an agent tries to connect to a port.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Flow-control window of one stream: what a fast network needs, and the most that one slow reader occupies.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Flow-control window of a connection: what this many slow readers may occupy before they block everybody else. Only
/// memory that is used counts; one download uses one stream's window.
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
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

/// The QUIC configuration for dialling a node.
pub(crate) fn client_config(credentials: &Credentials, node: &NodeId) -> quinn::ClientConfig {
    let tls = berth_certs::client_config(credentials, node);
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect(IDENTIFIED)));
    config.transport_config(Arc::new(transport()));
    config
}

/// The QUIC configuration for dialling a node that fetches images: there the node opens the streams.
pub(crate) fn delivery_config(credentials: &Credentials, node: &NodeId) -> quinn::ClientConfig {
    let tls = berth_certs::client_config(credentials, node);
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect(IDENTIFIED)));
    let mut transport = transport();
    transport.max_concurrent_bidi_streams(VarInt::from_u32(MAX_BLOB_STREAMS));
    config.transport_config(Arc::new(transport));
    config
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
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
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

/// Opens a stream to a port of an instance.
pub(crate) async fn open(
    connection: &quinn::Connection,
    header: TunnelHeader,
) -> Result<TunnelStream, OpenError> {
    tokio::time::timeout(OPEN_TIMEOUT, try_open(connection, header)).await.map_err(|_| OpenError::TimedOut)?
}

async fn try_open(connection: &quinn::Connection, header: TunnelHeader) -> Result<TunnelStream, OpenError> {
    let (send, recv) = connection.open_bi().await.map_err(|_| OpenError::Lost)?;
    let mut stream = TunnelStream { send, recv, ended: false };
    stream.send.write_all(&header.encode()).await.map_err(|_| OpenError::Lost)?;
    let mut answer = [0];
    stream.recv.read_exact(&mut answer).await.map_err(|_| OpenError::Lost)?;
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
    recv: RecvStream,
    ended: bool,
}

impl TunnelStream {
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
        let _ = self.recv.stop(VarInt::from_u32(close::RESET));
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.recv.poll_read_buf(cx, buf).map_err(io::Error::from)
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
