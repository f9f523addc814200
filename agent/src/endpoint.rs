//! The agent's QUIC endpoint: its socket, its transport settings, and the key for stateless resets (RFC 9000 §10.3), by
//! which a restarted agent ends its predecessor's connections at once.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_common::service;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    AckFrequencyConfig, Connection, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Config;

/// The name of the socket that is stored in the service manager.
const SOCKET_NAME: &str = "quic";
/// Bytes of the secret in `reset.key`.
const RESET_KEY_BYTES: usize = 64;
/// Requested buffer size of the UDP socket per direction, in bytes; the kernel may give less.
const UDP_BUFFER_BYTES: usize = 4 << 20;
/// Largest UDP payload, in bytes. quinn sends ten packets a batch, and a batch must stay under 64 KiB.
const MAX_UDP_PAYLOAD_BYTES: u16 = 6500;
/// Packets that may arrive before they are acknowledged: fewer acknowledgements cost less work.
const ACK_THRESHOLD_PACKETS: u32 = 10;
/// Longest that an acknowledgement is held back, in milliseconds.
const ACK_DELAY: Duration = Duration::from_millis(5);
/// Idle timeout of a connection, in milliseconds. Edges send keep-alives.
const IDLE_TIMEOUT_MS: u32 = 10_000;
/// Bytes that a stream may have in flight towards this agent: 25 MB/s over a round trip of 20 ms.
const STREAM_WINDOW_BYTES: u32 = 512 << 10;
/// Most unacknowledged bytes that are buffered per connection.
const SEND_WINDOW_BYTES: u64 = 8 << 20;
/// Streams of a connection for calls: twice as many as an edge sends at once.
const CALL_STREAMS: u32 = 128;
/// Streams of a connection for tunnels. Apps have shares of them, which the edge sees to, so that none waits for one.
const TUNNEL_STREAMS: u32 = 16_384;
/// Most connection attempts that wait to be accepted.
const MAX_INCOMING: usize = 256;

/// Why the endpoint could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address cannot be bound.
    #[error(
        "cannot listen on UDP {address}: {source}; is another agent running there, or the address not this machine's?"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The key file cannot be read or made.
    #[error("cannot read or make {path}: {source}")]
    ResetKey {
        /// The key file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The TLS configuration cannot be used for QUIC.
    #[error("the TLS configuration does not fit QUIC: {0}")]
    Tls(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// Makes the endpoint and starts to listen.
pub(crate) fn open(config: &Config) -> Result<quinn::Endpoint, EndpointError> {
    let path = config.state.join("reset.key");
    let secret = reset_secret(&path).map_err(|source| EndpointError::ResetKey { path, source })?;
    let tls = QuicServerConfig::try_from(berth_certs::server_config(&config.credentials))?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(tls));
    server.transport_config(Arc::new(transport())).max_incoming(MAX_INCOMING);
    let bind = |source| EndpointError::Bind { address: config.listen, source };
    let socket = bind_socket(config.listen).map_err(bind)?;
    quinn::Endpoint::new(endpoint_config(&secret), Some(server), socket, Arc::new(quinn::TokioRuntime))
        .map_err(bind)
}

/// With the reset key and the key of connection ids both kept over a restart, packets of earlier connections are
/// recognised and answered with a stateless reset.
fn endpoint_config(secret: &[u8]) -> EndpointConfig {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let derived = hmac::sign(&key, b"berth connection ids");
    let ids = derived.as_ref().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let mut config = EndpointConfig::new(Arc::new(key));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    config.max_udp_payload_size(MAX_UDP_PAYLOAD_BYTES).expect("QUIC allows 1200 to 65527 bytes");
    config
}

fn transport() -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_THRESHOLD_PACKETS)).max_ack_delay(Some(ACK_DELAY));
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MAX_UDP_PAYLOAD_BYTES);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(CALL_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(window_of(CALL_STREAMS))
        .send_window(SEND_WINDOW_BYTES)
        .ack_frequency_config(Some(acks))
        .mtu_discovery_config(Some(mtu))
        .enable_segmentation_offload(true);
    transport
}

/// The window of a connection with so many streams: as much as all of them may hold, so that what one does not read
/// never stops another. It is a promise and no memory; what tenants leave unread has shares (`tunnels`).
fn window_of(streams: u32) -> VarInt {
    let bytes = u64::from(streams) * u64::from(STREAM_WINDOW_BYTES);
    VarInt::from_u64(bytes).expect("QUIC's numbers have 62 bits")
}

/// Gives a connection the streams and the window for tunnels. Before that it has those for calls.
pub(crate) fn widen(connection: &Connection) {
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(TUNNEL_STREAMS));
    connection.set_receive_window(window_of(TUNNEL_STREAMS));
}

/// The socket of the previous agent if the service manager has stored it, with the packets that arrived meanwhile; else
/// a new one. Without `SO_REUSEADDR`: for UDP that would let a second agent take the first one's packets.
fn bind_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    if let Some(socket) = kept_socket().filter(|socket| socket.local_addr().is_ok_and(|at| at == address)) {
        tracing::debug!(%address, "took over the socket of the previous agent");
        return Ok(socket);
    }
    let socket = new_socket(address)?;
    service::keep_socket(SOCKET_NAME, socket.as_fd());
    Ok(socket)
}

fn kept_socket() -> Option<UdpSocket> {
    let kept = service::kept_socket(SOCKET_NAME)?;
    berth_shim::process::inherited(kept).ok().map(UdpSocket::from)
}

fn new_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Best effort: smaller buffers only cost speed.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(UDP_BUFFER_BYTES);
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The secret in the key file, which is created if missing.
fn reset_secret(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Ok(secret) if secret.len() == RESET_KEY_BYTES => Ok(secret),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is damaged: remove it, a new one will be made",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_secret(path),
        Err(error) => Err(error),
    }
}

/// Written under another name first and then renamed, so that a crash leaves no damaged key.
fn make_secret(path: &Path) -> io::Result<Vec<u8>> {
    let mut secret = vec![0; RESET_KEY_BYTES];
    SystemRandom::new()
        .fill(&mut secret)
        .map_err(|_| io::Error::other("the system gives no random bytes"))?;
    let draft = path.with_extension("key.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_reset_key_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reset.key");
        let first = reset_secret(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(reset_secret(&path).unwrap(), first);
        assert_ne!(make_secret(&dir.path().join("other.key")).unwrap(), first);
    }

    #[test]
    fn a_damaged_reset_key_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reset.key");
        fs::write(&path, b"short").unwrap();
        assert!(reset_secret(&path).unwrap_err().to_string().contains("damaged"));
    }

    #[test]
    fn an_address_is_not_shared() {
        let first = bind_socket("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(bind_socket(first.local_addr().unwrap()).is_err());
    }
}
