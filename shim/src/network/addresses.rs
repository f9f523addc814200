//! The host's own addresses, watched from inside a container's network namespace through a netlink socket that was
//! opened outside: the firewall blocks each of them, including those that the host gets later.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

/// Multicast groups of the routing socket: changes of IPv4 and of IPv6 addresses.
const GROUPS: u32 = (1 << 4) | (1 << 8);
/// How long the kernel may take to list the addresses, in milliseconds.
const ANSWER_TIMEOUT_MS: u16 = 2_000;
/// Most attempts to list the addresses for one change: an attempt that a further change disturbs is repeated.
const MAX_TRIES: usize = 16;

/// The addresses of the network namespace that it was opened in.
pub(super) struct HostAddresses {
    socket: Socket,
    known: BTreeSet<IpAddr>,
}

impl HostAddresses {
    /// Starts to watch the addresses of the calling process's current network namespace.
    pub(super) fn watch() -> io::Result<Self> {
        let said = |e: io::Error| io::Error::other(format!("cannot follow the host's addresses: {e}"));
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(said)?;
        socket.bind(&SocketAddr::new(0, GROUPS)).map_err(said)?;
        socket.set_non_blocking(true).map_err(said)?;
        Ok(Self { socket, known: BTreeSet::new() })
    }

    /// The addresses now.
    pub(super) fn read(&mut self) -> io::Result<BTreeSet<IpAddr>> {
        for _ in 0..MAX_TRIES {
            if let Some(addresses) = self.list()? {
                self.known.clone_from(&addresses);
                return Ok(addresses);
            }
        }
        Err(io::Error::other("the host's addresses change faster than they can be read"))
    }

    /// The addresses, if they have changed.
    pub(super) fn changed(&mut self) -> io::Result<Option<BTreeSet<IpAddr>>> {
        let before = self.known.clone();
        let now = self.read()?;
        Ok((now != before).then_some(now))
    }

    /// One complete list; `None` if a notification was lost meanwhile. It includes all changes from before it began. A
    /// change during the list may be missing, but leaves the socket readable or causes another list.
    fn list(&self) -> io::Result<Option<BTreeSet<IpAddr>>> {
        self.ask()?;
        let mut addresses = BTreeSet::new();
        let mut disturbed = false;
        loop {
            let bytes = match self.receive() {
                Ok(bytes) => bytes,
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => return Ok(None),
                Err(error) => return Err(error),
            };
            for message in messages(&bytes)? {
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok((!disturbed).then_some(addresses)),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(address))
                        if message.header.sequence_number == SEQUENCE =>
                    {
                        addresses.extend(addresses_of(&address));
                    }
                    NetlinkPayload::InnerMessage(_) => disturbed = true,
                    _ => {}
                }
            }
        }
    }

    fn ask(&self) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        header.sequence_number = SEQUENCE;
        let payload = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(payload));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        loop {
            match self.socket.recv_from_full() {
                Ok((bytes, _)) => return Ok(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.await_answer()?,
                Err(error) => return Err(error),
            }
        }
    }

    fn await_answer(&self) -> io::Result<()> {
        let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, ANSWER_TIMEOUT_MS) {
            Ok(0) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel does not list the host's addresses"))
            }
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for HostAddresses {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sequence number of our requests; notifications have 0.
const SEQUENCE: u32 = 1;

fn messages(mut bytes: &[u8]) -> io::Result<Vec<NetlinkMessage<RouteNetlinkMessage>>> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).map_err(io::Error::other)?;
        let length = usize::try_from(message.header.length).map_err(io::Error::other)?;
        if length == 0 {
            break;
        }
        messages.push(message);
        // Netlink messages are aligned to four bytes.
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(messages)
}

/// The local address, and on a point-to-point link also the peer's.
fn addresses_of(message: &AddressMessage) -> impl Iterator<Item = IpAddr> {
    message.attributes.iter().filter_map(|attribute| match attribute {
        AddressAttribute::Local(address) | AddressAttribute::Address(address) => Some(*address),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_loopback_is_among_its_addresses() {
        let mut host = HostAddresses::watch().unwrap();
        let addresses = host.read().unwrap();
        assert!(addresses.contains(&IpAddr::from([127, 0, 0, 1])), "{addresses:?}");
        assert_eq!(host.changed().unwrap(), None);
    }
}
