//! The first message to a script process: what it may use, and with it the sockets of its threads.

use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Result};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Deserialize, Serialize};

use super::sys;

/// Most threads of a process: as many sockets go with one message.
pub(super) const LANES: usize = 64;

/// Most bytes of the message.
const BYTES: usize = 64;

/// What a process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Memory of the isolate of each thread, in bytes.
    pub memory_bytes: u64,
}

/// Sends an invitation, and the far ends of the threads' sockets, over the other end of a process's standard input.
pub fn invite(control: &UnixStream, invitation: Invitation, sockets: &[UnixStream]) -> Result<()> {
    if sockets.is_empty() || sockets.len() > LANES {
        return Err(Error::new(ErrorKind::InvalidInput, format!("a process has from 1 to {LANES} threads")));
    }
    let bytes = postcard::to_stdvec(&invitation).map_err(Error::other)?;
    let files: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&files)];
    sendmsg::<()>(control.as_raw_fd(), &[IoSlice::new(&bytes)], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Takes the invitation and the sockets, which then do not block.
pub fn accept(control: &UnixStream) -> Result<(Invitation, Vec<UnixStream>)> {
    let mut bytes = [0; BYTES];
    let mut space = nix::cmsg_space!([RawFd; LANES]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(control.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let length = message.bytes;
    let mut sockets = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(files) = part {
            sockets.extend(files.into_iter().map(sys::take).map(UnixStream::from));
        }
    }
    let invitation = postcard::from_bytes(&bytes[..length]).map_err(Error::other)?;
    if sockets.is_empty() {
        return Err(Error::new(ErrorKind::InvalidData, "no socket came with it"));
    }
    // Later there is no call for that any more.
    sockets.iter().try_for_each(|socket| socket.set_nonblocking(true))?;
    Ok((invitation, sockets))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn sockets_go_with_an_invitation() {
        let (near, far) = UnixStream::pair().unwrap();
        let (mut lane, given) = UnixStream::pair().unwrap();
        let invitation = Invitation { memory_bytes: 1 << 40 };
        assert!(invite(&near, invitation, &[]).is_err());
        invite(&near, invitation, &[given]).unwrap();
        let (received, mut sockets) = accept(&far).unwrap();
        assert_eq!((received, sockets.len()), (invitation, 1));
        assert!(sockets[0].read(&mut [0]).is_err());
        lane.write_all(b"x").unwrap();
        sockets[0].read_exact(&mut [0]).unwrap();
        drop(near);
        assert!(accept(&far).is_err());
    }
}
