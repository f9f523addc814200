//! Sends a signal to an instance, over the link of its object's shard.

use std::time::Duration;

use berth_common::ids::NodeId;
use berth_common::wire::call::{Answer, Call, Signal};
use tokio::time::Instant;

use super::error::ProxyError;
use crate::shard::link::{Links, call};

/// Longest wait for a node to connect and to deliver the signal.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends a signal to an instance on a node, and waits until the node has delivered it.
pub(crate) async fn send(links: &Links, node: &NodeId, signal: Signal) -> Result<(), ProxyError> {
    let unreachable = |retry| ProxyError::NodeUnreachable { node: node.clone(), retry };
    let link = links.get(node).ok_or_else(|| unreachable(None))?;
    let deadline = Instant::now() + SIGNAL_TIMEOUT;
    let connection = link.connected(deadline).await.ok_or_else(|| unreachable(link.given_up_in()))?;
    match call::ask(&connection, &Call::Signal(signal)).await {
        Ok(Answer::Done) => Ok(()),
        Ok(Answer::Refused(refusal)) => Err(ProxyError::Signal(refusal.to_string())),
        Ok(_) => Err(ProxyError::Signal("the agent sent a reply of another type than expected".to_owned())),
        Err(error) => Err(ProxyError::Signal(error.to_string())),
    }
}
