//! A wire for UDP between an edge and a node that can be slow, and can be cut, in one direction or both.
//!
//! ```text
//!  edge ──▶ Relay (an address on loopback) ──▶ agent       one socket towards the agent for each of the edge's
//! ```

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::SockRef;

/// Largest datagram, in bytes.
const MAX_DATAGRAM_BYTES: usize = 65_536;
/// Receive buffers, in bytes: large enough that a thread that is late on a busy machine loses no packets.
const BUFFER_BYTES: usize = 4 << 20;
/// How often threads poll whether the wire is gone.
const POLL: Duration = Duration::from_millis(100);
/// How far the wire may run ahead of its rate: shorter than the kernel sleeps exactly.
const BURST: Duration = Duration::from_millis(5);

/// The directions.
const THERE: usize = 0;
const BACK: usize = 1;

/// A wire. It is gone with this value.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    wire: Arc<Wire>,
}

#[derive(Debug)]
struct Wire {
    target: SocketAddr,
    /// Towards the target, and back.
    cut: [AtomicBool; 2],
    gone: AtomicBool,
    /// Bytes a second towards the target; 0 for as many as there are.
    rate: AtomicU64,
    carried: AtomicU64,
}

impl Relay {
    /// A wire to this address.
    pub fn start(target: SocketAddr) -> Result<Self> {
        let socket = bind()?;
        let address = socket.local_addr()?;
        let wire = Wire {
            target,
            cut: [AtomicBool::new(false), AtomicBool::new(false)],
            gone: AtomicBool::new(false),
            rate: AtomicU64::new(0),
            carried: AtomicU64::new(0),
        };
        let wire = Arc::new(wire);
        let own = Arc::clone(&wire);
        thread::spawn(move || own.forward(&Arc::new(socket)));
        Ok(Self { address, wire })
    }

    /// Where it begins.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts it, or mends it: while it is cut, nothing comes through in either direction.
    pub fn cut(&self, cut: bool) {
        self.cut_ways(cut, cut);
    }

    /// The same for each direction by itself: towards the target, and back.
    pub fn cut_ways(&self, there: bool, back: bool) {
        self.wire.cut[THERE].store(there, Ordering::Relaxed);
        self.wire.cut[BACK].store(back, Ordering::Relaxed);
    }

    /// Lets only so many bytes a second through to the target; 0 for as many as there are.
    pub fn limit(&self, bytes_per_second: u64) {
        self.wire.rate.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Bytes that it has carried to the target.
    pub fn carried(&self) -> u64 {
        self.wire.carried.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.wire.gone.store(true, Ordering::Relaxed);
    }
}

impl Wire {
    /// From the edge's sockets to the target.
    fn forward(self: &Arc<Self>, listener: &Arc<UdpSocket>) {
        let (mut sockets, mut buffer) = (HashMap::new(), vec![0; MAX_DATAGRAM_BYTES]);
        let mut pace = Pace::new();
        while !self.gone.load(Ordering::Relaxed) {
            // A timeout, or an end that is gone: the wire ignores both, as a network does.
            let Ok((length, from)) = listener.recv_from(&mut buffer) else { continue };
            if self.cut[THERE].load(Ordering::Relaxed) {
                continue;
            }
            pace.wait(length, self.rate.load(Ordering::Relaxed));
            let Ok(socket) = self.socket_for(from, &mut sockets, listener) else { continue };
            // Counted before it is sent: the receiver may read the count at once. What the system does not take is lost
            // on the wire.
            self.carried.fetch_add(length as u64, Ordering::Relaxed);
            let _ = socket.send(&buffer[..length]);
        }
    }

    fn socket_for(
        self: &Arc<Self>,
        from: SocketAddr,
        sockets: &mut HashMap<SocketAddr, Arc<UdpSocket>>,
        listener: &Arc<UdpSocket>,
    ) -> Result<Arc<UdpSocket>> {
        if let Some(socket) = sockets.get(&from) {
            return Ok(Arc::clone(socket));
        }
        let socket = bind()?;
        socket.connect(self.target)?;
        let socket = Arc::new(socket);
        sockets.insert(from, Arc::clone(&socket));
        let (wire, back, listener) = (Arc::clone(self), Arc::clone(&socket), Arc::clone(listener));
        thread::spawn(move || wire.answer(from, &back, &listener));
        Ok(socket)
    }

    /// From the target to one of the edge's sockets.
    fn answer(&self, to: SocketAddr, socket: &UdpSocket, listener: &UdpSocket) {
        let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
        while !self.gone.load(Ordering::Relaxed) {
            let Ok(length) = socket.recv(&mut buffer) else { continue };
            if !self.cut[BACK].load(Ordering::Relaxed) {
                let _ = listener.send_to(&buffer[..length], to);
            }
        }
    }
}

fn bind() -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("bind a relay's socket")?;
    // As large as the system lets it be.
    let _: io::Result<()> = SockRef::from(&socket).set_recv_buffer_size(BUFFER_BYTES);
    socket.set_read_timeout(Some(POLL))?;
    Ok(socket)
}

/// Keeps to a rate by sleeping.
struct Pace {
    free_at: Instant,
}

impl Pace {
    fn new() -> Self {
        Self { free_at: Instant::now() }
    }

    fn wait(&mut self, bytes: usize, rate: u64) {
        if rate == 0 {
            return;
        }
        let now = Instant::now();
        self.free_at = self.free_at.max(now) + Duration::from_secs_f64(bytes as f64 / rate as f64);
        let ahead = self.free_at - now;
        if ahead > BURST {
            thread::sleep(ahead);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> (UdpSocket, UdpSocket, Relay) {
        let (near, far) = (bind().unwrap(), bind().unwrap());
        let relay = Relay::start(far.local_addr().unwrap()).unwrap();
        near.connect(relay.address()).unwrap();
        (near, far, relay)
    }

    #[test]
    fn what_goes_in_comes_out_at_the_other_end_and_back() {
        let (near, far, relay) = ends();
        near.send(b"there").unwrap();
        let mut buffer = [0; 9];
        let (length, from) = far.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], relay.carried()), (b"there".as_slice(), 5));
        far.send_to(b"back", from).unwrap();
        assert_eq!((near.recv(&mut buffer).unwrap(), &buffer[..4]), (4, b"back".as_slice()));
    }

    #[test]
    fn one_way_may_be_cut_alone() {
        let (near, far, relay) = ends();
        near.send(b"first").unwrap();
        let mut buffer = [0; 9];
        let (_, from) = far.recv_from(&mut buffer).unwrap();
        relay.cut_ways(false, true);
        near.send(b"there").unwrap();
        assert!(far.recv_from(&mut buffer).is_ok());
        far.send_to(b"lost", from).unwrap();
        assert!(near.recv(&mut buffer).is_err());
        relay.cut_ways(true, false);
        far.send_to(b"back", from).unwrap();
        assert_eq!(near.recv(&mut buffer).unwrap(), 4);
        near.send(b"lost").unwrap();
        assert!(far.recv_from(&mut buffer).is_err());
    }

    #[test]
    fn nothing_comes_through_while_it_is_cut() {
        let (near, far, relay) = ends();
        relay.cut(true);
        near.send(b"lost").unwrap();
        assert!(far.recv_from(&mut [0; 9]).is_err());
        relay.cut(false);
        near.send(b"kept").unwrap();
        assert!(far.recv_from(&mut [0; 9]).is_ok());
    }

    #[test]
    fn it_keeps_to_its_rate() {
        let (near, far, relay) = ends();
        relay.limit(100_000);
        let began = Instant::now();
        for _ in 0..20 {
            near.send(&[0; 1_000]).unwrap();
        }
        for _ in 0..20 {
            while far.recv(&mut [0; 2_000]).is_err() {}
        }
        assert!(began.elapsed() > Duration::from_millis(180), "{:?}", began.elapsed());
    }
}
