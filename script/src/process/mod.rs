//! The process that scripts of one app version run in: a few threads, each with a socket to the edge and an isolate of its own.
//!
//! It takes an invitation from its standard input, which is a socket, and with it the threads' sockets; gives up everything
//! else; and ends with the edge, or when the edge closes a socket. Whatever runs in it, the process can only calculate, use
//! its sockets and know the time.

mod invitation;
mod lane;
mod machine;
mod outbox;
mod sandbox;
mod sys;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Barrier};

pub use self::invitation::{Invitation, accept, invite};
use crate::isolate::Web;

pub use self::sandbox::{Confined, SandboxError, confine_memory, keep_from_files, seal};

/// Stack of each thread, in bytes: the interpreter's own limit is a quarter of it.
const THREAD_STACK_BYTES: usize = 4 << 20;

/// Most bytes of the text that a process leaves when it ends by a fault.
pub const LAST_WORDS_BYTES: usize = 1 << 10;

/// Why a process could not begin.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The standard input is no socket of an edge's.
    #[error("there is no invitation on the standard input, which an edge sends: {0}")]
    Invitation(#[source] std::io::Error),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] std::io::Error),
    /// It could not be confined.
    #[error("cannot give up access to the system: {0}")]
    Sandbox(#[from] SandboxError),
}

/// Runs scripts until the edge is gone. Does not return but for an error before it began.
pub fn run(web: Web) -> Result<(), ProcessError> {
    sys::close_all_but_standard();
    let control = std::io::stdin().as_fd().try_clone_to_owned().map_err(ProcessError::Invitation)?;
    let control = UnixStream::from(control);
    let (invitation, sockets) = accept(&control).map_err(ProcessError::Invitation)?;
    sandbox::belong_to_parent()?;
    keep_from_files()?;
    let lanes = sockets.len();
    // Passed twice: when each thread is there, for which it needs calls that the filter refuses, and when the filter is.
    // Sockets as files from here on: they are read and written by the plainest of calls.
    let stage = Arc::new(Barrier::new(lanes + 1));
    for (index, socket) in sockets.into_iter().map(OwnedFd::from).enumerate() {
        let stage = Arc::clone(&stage);
        let run = move || {
            stage.wait();
            stage.wait();
            lane::run(socket.into(), web)
        };
        let thread =
            std::thread::Builder::new().name(format!("script-{index}")).stack_size(THREAD_STACK_BYTES);
        thread.spawn(run).map_err(ProcessError::Thread)?;
    }
    stage.wait();
    confine_memory(lanes, invitation.memory_bytes)?;
    leave_last_words(OwnedFd::from(control).into());
    // The filter is for all threads, and is there before any of them reads what an app has written.
    seal()?;
    stage.wait();
    loop {
        std::thread::park();
    }
}

/// Has a panic end the process, and its text sent to the edge.
fn leave_last_words(control: File) {
    std::panic::set_hook(Box::new(move |panic| {
        let mut text = panic.to_string();
        text.truncate(text.floor_char_boundary(LAST_WORDS_BYTES));
        // Best effort: the edge sees the end of the process anyhow.
        let _ = (&control).write_all(text.as_bytes());
        std::process::abort();
    }));
}
