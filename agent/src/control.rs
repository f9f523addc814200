//! The agent's control socket: how somebody on the node has it emptied, and taken into service again.
//!
//! ```text
//!  in service ──drain──▶ draining: no new instances, SIGTERM to all ──the last has ended──▶ empty
//!      ▲                    │                                                                │
//!      └──────undrain───────┴────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A mark in the node's state keeps the node out of service over restarts of the agent. One frame there, one frame back,
//! as with edges.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use berth_common::wire::frame::{self, FrameError};
use nix::unistd::Uid;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};

use crate::agent::Agent;
use crate::runtime::Runtime;

/// The socket, in the node's state directory.
const SOCKET: &str = "agent.sock";
/// Kept there while the node is out of service.
const MARK: &str = "draining";
/// How long a caller may take to say what it wants.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a connection that could not be taken.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// What is asked of the agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ControlCall {
    /// Empty the node: SIGTERM to all instances, SIGKILL after the grace.
    Drain { grace_ms: u64 },
    /// Take instances again.
    Undrain,
    /// Say how it is.
    Status,
}

/// What the agent answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ControlAnswer {
    /// It was done, and this is how the node is now.
    Status {
        /// It takes no new instances.
        draining: bool,
        /// How many instances have not ended.
        instances: usize,
        /// How many containers wait for one.
        held: usize,
    },
    /// It was not done.
    Failed { message: String },
}

/// Why a node cannot be controlled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("no agent answers at {path}: {source}; is it running, and this its state directory?")]
    Connect { path: PathBuf, source: io::Error },
    #[error("the agent's answer: {0}")]
    Frame(#[from] FrameError),
    #[error("the agent hung up")]
    NoAnswer,
    #[error("the agent did not do it: {0}")]
    Failed(String),
}

/// The agent's end.
pub(crate) struct Control {
    listener: UnixListener,
    mark: PathBuf,
}

impl Control {
    /// Listens. By descriptor: a socket's path may be no longer than 107 bytes.
    pub(crate) fn open(state: &Path) -> io::Result<Self> {
        let directory = File::open(state)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self { listener: UnixListener::bind(&path)?, mark: state.join(MARK) })
    }

    /// Whether the node was out of service when the last agent ended.
    pub(crate) fn is_marked(&self) -> bool {
        self.mark.exists()
    }

    /// Serves until the agent ends. One caller after the other: each has little to say, in bounded time.
    pub(crate) async fn run<R: Runtime + 'static>(self, agent: Rc<Agent<R>>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let served = tokio::time::timeout(CALL_TIMEOUT, self.serve(&agent, stream)).await;
                    if !matches!(served, Ok(Ok(()))) {
                        tracing::debug!(?served, "a caller of the control socket was not served");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection to the control socket");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
        }
    }

    async fn serve<R: Runtime>(&self, agent: &Agent<R>, mut stream: UnixStream) -> Result<(), FrameError> {
        // The directory is this user's alone; this is the second lock on the door.
        let caller = stream.peer_cred().map(|caller| caller.uid()).unwrap_or(u32::MAX);
        if caller != 0 && caller != Uid::effective().as_raw() {
            return Ok(());
        }
        let Some(call) = frame::read::<ControlCall>(&mut stream).await? else { return Ok(()) };
        let answer = match self.carry_out(agent, &call) {
            Ok(()) => ControlAnswer::Status {
                draining: agent.instances.is_draining(),
                instances: agent.instances.alive().len(),
                held: agent.runtime.held(),
            },
            Err(error) => ControlAnswer::Failed { message: error.to_string() },
        };
        frame::write(&mut stream, &answer).await
    }

    fn carry_out<R: Runtime>(&self, agent: &Agent<R>, call: &ControlCall) -> io::Result<()> {
        match call {
            ControlCall::Status => {}
            ControlCall::Drain { grace_ms } => {
                File::create(&self.mark)?.sync_all()?;
                set_draining(agent, true);
                agent.instances.drain_all(Duration::from_millis(*grace_ms));
            }
            ControlCall::Undrain => {
                match fs::remove_file(&self.mark) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                set_draining(agent, false);
            }
        }
        Ok(())
    }
}

/// Takes the node out of service, or into it.
pub(crate) fn set_draining<R: Runtime>(agent: &Agent<R>, draining: bool) {
    tracing::info!(draining, "the node takes {} instances", if draining { "no new" } else { "new" });
    agent.instances.set_draining(draining);
    agent.runtime.pause(draining);
}

/// What is on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Instances that have not ended.
    pub(crate) instances: usize,
    /// Containers that wait for one.
    pub(crate) held: usize,
}

/// The caller's end: asks the agent of the node with this state.
pub(crate) async fn ask(state: &Path, call: &ControlCall) -> Result<Contents, ControlError> {
    let connect = async || {
        let directory = File::open(state)?;
        UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd())).await
    };
    let path = state.join(SOCKET);
    let mut stream = connect().await.map_err(|source| ControlError::Connect { path, source })?;
    frame::write(&mut stream, call).await?;
    match frame::read(&mut stream).await?.ok_or(ControlError::NoAnswer)? {
        ControlAnswer::Status { instances, held, .. } => Ok(Contents { instances, held }),
        ControlAnswer::Failed { message } => Err(ControlError::Failed(message)),
    }
}
