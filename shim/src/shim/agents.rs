//! The agents that are connected to a shim: one, and briefly also its successor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::messages::{self, ShimCall, ShimEvent};
use crate::sys;

/// Agents that may be connected at once.
const MAX_AGENTS: usize = 4;
/// Most calls of one agent that are read before those of others.
const MAX_CALLS: usize = 64;

/// The id of a connected agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AgentId(u64);

/// A listening socket and its connections.
pub(super) struct Agents {
    listener: OwnedFd,
    connected: Vec<(AgentId, OwnedFd)>,
    next: u64,
    /// Sent to each agent that connects.
    greeting: Option<ShimEvent>,
    /// Whether the container is frozen: also told to each that connects.
    frozen: bool,
}

impl Agents {
    pub(super) fn new(listener: OwnedFd) -> Self {
        Self { listener, connected: Vec::new(), next: 0, greeting: None, frozen: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.connected.is_empty()
    }

    /// The descriptors to wait for; pass the result to `serve`.
    pub(super) fn sources(&self) -> Vec<Option<BorrowedFd<'_>>> {
        let connected = self.connected.iter().map(|(_, socket)| socket.as_fd());
        [self.listener.as_fd()].into_iter().chain(connected).map(Some).collect()
    }

    /// Reads calls and accepts connections. Drops agents that are gone.
    pub(super) fn serve(&mut self, ready: &[bool]) -> Vec<(AgentId, ShimCall)> {
        let (incoming, ready) = ready.split_first().map_or((false, ready), |(first, rest)| (*first, rest));
        let mut calls = Vec::new();
        for ((id, socket), ready) in std::mem::take(&mut self.connected).into_iter().zip(ready) {
            if !ready || receive(id, &socket, &mut calls).is_ok() {
                self.connected.push((id, socket));
            }
        }
        if incoming {
            // A failed accept is ignored: the agent may connect again.
            let _ = self.accept();
        }
        calls
    }

    fn accept(&mut self) -> io::Result<()> {
        let Some(socket) = sys::accept(self.listener.as_fd())? else { return Ok(()) };
        if self.connected.len() >= MAX_AGENTS || !sys::peer_is_same_user(socket.as_fd())? {
            return Ok(());
        }
        if let Some(greeting) = &self.greeting {
            messages::send(socket.as_fd(), greeting, &[])?;
        }
        if self.frozen {
            messages::send(socket.as_fd(), &ShimEvent::Frozen { frozen: true }, &[])?;
        }
        self.connected.push((AgentId(self.next), socket));
        self.next += 1;
        Ok(())
    }

    /// Sends an event to all agents, and to every one that connects from now on.
    pub(super) fn greet(&mut self, event: ShimEvent) {
        self.send(&event);
        self.greeting = Some(event);
    }

    /// Tells all agents that the container is frozen or thawed now, and those that connect as long as it is frozen.
    pub(super) fn tell_frozen(&mut self, frozen: bool) {
        self.frozen = frozen;
        self.send(&ShimEvent::Frozen { frozen });
    }

    /// Stops sending events to agents when they connect.
    pub(super) fn clear_greeting(&mut self) {
        self.greeting = None;
    }

    /// Sends an event to all agents.
    pub(super) fn send(&mut self, event: &ShimEvent) {
        self.connected.retain(|(_, socket)| messages::send(socket.as_fd(), event, &[]).is_ok());
    }

    /// Answers one agent.
    pub(super) fn answer(&mut self, to: AgentId, event: &ShimEvent, with: &[BorrowedFd<'_>]) {
        self.connected
            .retain(|(id, socket)| *id != to || messages::send(socket.as_fd(), event, with).is_ok());
    }

    /// Answers one agent that its call failed.
    pub(super) fn refuse(&mut self, to: AgentId, message: &str) {
        self.answer(to, &ShimEvent::Failed { message: message.to_owned() }, &[]);
    }
}

/// Reads the calls of an agent. An error means that it is gone.
fn receive(id: AgentId, socket: &OwnedFd, calls: &mut Vec<(AgentId, ShimCall)>) -> io::Result<()> {
    for _ in 0..MAX_CALLS {
        match messages::receive::<ShimCall>(socket.as_fd()) {
            Ok(Some((call, _))) => calls.push((id, call)),
            Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let message = format!("the shim does not know this call: {error}");
                messages::send(socket.as_fd(), &ShimEvent::Failed { message }, &[])?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
