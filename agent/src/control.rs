//! The agent's control socket: `berth-agent drain` and `undrain` take the node out of service and into it again.
//!
//! ```text
//!  in service ──drain──▶ draining: no new instances, SIGTERM to all ──the last has ended──▶ empty
//!      ▲                    │                                                                │
//!      └──────undrain───────┴────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A marker file in the node's state keeps the node out of service over restarts of the agent. One frame there, one
//! frame back, as with edges.

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
/// The marker file, present while the node is out of service.
const MARK: &str = "draining";
/// How long a caller may take to send its call.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Delay after a failed accept.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// A call to the agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ControlCall {
    /// Empty the node: SIGTERM to all instances, SIGKILL after the grace.
    Drain { grace_ms: u64 },
    /// Take instances again.
    Undrain,
    /// Report the node's state.
    Status,
}

/// The agent's answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ControlAnswer {
    /// The call was carried out; this is the state of the node now.
    Status {
        /// It takes no new instances.
        draining: bool,
        /// How many instances have not ended.
        instances: usize,
        /// How many prepared containers there are.
        held: usize,
    },
    /// The call was not carried out.
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
    /// Listens. The path goes through a descriptor, because a socket's path may be no longer than 107 bytes.
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

    /// Serves until the agent ends. One caller at a time is enough: calls are short and have a timeout.
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
        // Defence in depth: other users cannot enter the directory anyway.
        let caller = stream.peer_cred().map(|caller| caller.uid()).unwrap_or(u32::MAX);
        if caller != 0 && caller != Uid::effective().as_raw() {
            return Ok(());
        }
        let Some(call) = frame::read::<ControlCall>(&mut stream).await? else { return Ok(()) };
        let answer = match self.carry_out(agent, &call) {
            Ok(()) => ControlAnswer::Status {
                draining: agent.instances.is_draining(),
                instances: agent.instances.alive().len(),
                held: agent.runtime.prepared(),
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

/// The number of instances and containers on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Instances that have not ended.
    pub(crate) instances: usize,
    /// Prepared containers.
    pub(crate) held: usize,
}

/// The caller's end: calls the agent of the node with this state directory.
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
