//! Effects on their way out of a thread.

use std::cell::RefCell;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::rc::Rc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::message::{Effect, encode};

/// Capacity that is kept for the next time, in bytes.
const KEPT_BYTES: usize = 256 << 10;

pub(super) struct Outbox {
    socket: Rc<File>,
    bytes: RefCell<Bytes>,
}

#[derive(Default)]
struct Bytes {
    all: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// Over a socket that does not block.
    pub(super) fn new(socket: Rc<File>) -> Self {
        Self { socket, bytes: RefCell::default() }
    }

    /// Takes an effect in. Each is bounded where it is made; one that is too long all the same is a fault of ours.
    pub(super) fn push(&self, effect: &Effect) {
        encode(effect, &mut self.bytes.borrow_mut().all).expect("an effect fits into a frame");
    }

    /// Writes what the socket takes now. That the edge is gone is found out elsewhere.
    pub(super) fn flush_some(&self) {
        let _ = self.write();
    }

    /// Writes all, however long the edge takes.
    pub(super) fn flush(&self) -> std::io::Result<()> {
        while !self.write()? {
            let mut wait = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
            poll(&mut wait, PollTimeout::NONE)?;
        }
        Ok(())
    }

    /// Writes what the socket takes; whether that was all.
    fn write(&self) -> std::io::Result<bool> {
        let mut bytes = self.bytes.borrow_mut();
        while bytes.sent < bytes.all.len() {
            match (&*self.socket).write(&bytes.all[bytes.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.all.clear();
        bytes.all.shrink_to(KEPT_BYTES);
        bytes.sent = 0;
        Ok(true)
    }
}
