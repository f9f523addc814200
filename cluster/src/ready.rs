//! Waits until a started daemon is ready, by polling: neither supervisor nor edge notifies its parent.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::Process;

/// How long a supervisor may take until it listens, and how often is looked.
const SUPERVISOR_TIMEOUT: Duration = Duration::from_secs(30);
const SUPERVISOR_INTERVAL: Duration = Duration::from_millis(10);
/// How often an edge is asked.
const EDGE_INTERVAL: Duration = Duration::from_millis(50);

/// Waits until the supervisor of a node with this state takes connections.
pub async fn until_listening(supervisor: &mut Process, state: &Path) -> Result<()> {
    let socket = state.canonicalize()?.join("supervisor.sock");
    let socket = socket.to_string_lossy();
    let listening = async {
        loop {
            supervisor.expect_alive()?;
            let sockets = fs::read_to_string(format!("/proc/{}/net/unix", supervisor.pid()))?;
            if listens(&sockets, &socket) {
                return Ok(());
            }
            tokio::time::sleep(SUPERVISOR_INTERVAL).await;
        }
    };
    let waited = tokio::time::timeout(SUPERVISOR_TIMEOUT, listening).await;
    waited.with_context(|| format!("no supervisor listens at {socket} after {SUPERVISOR_TIMEOUT:?}"))?
}

/// Waits until an edge reports so many connected nodes. `connected` asks it, over its admin API.
pub async fn until_connected(
    nodes: usize,
    within: Duration,
    mut connected: impl AsyncFnMut() -> Result<usize>,
) -> Result<()> {
    let mut last = Ok(0);
    let waited = tokio::time::timeout(within, async {
        loop {
            last = connected().await;
            if last.as_ref().is_ok_and(|count| *count >= nodes) {
                return;
            }
            tokio::time::sleep(EDGE_INTERVAL).await;
        }
    });
    if waited.await.is_ok() {
        return Ok(());
    }
    match last {
        Ok(count) => bail!("the edge was connected with {count} of {nodes} node(s) after {within:?}"),
        Err(error) => Err(error.context(format!("the edge did not answer within {within:?}"))),
    }
}

/// Whether a socket listens, by the list of its namespace. One that is bound and does not listen yet refuses
/// connections, and a connection to try it with would be one too many.
fn listens(sockets: &str, path: &str) -> bool {
    /// `__SO_ACCEPTCON`, in the column of flags.
    const ACCEPTS: &str = "00010000";
    sockets.lines().any(|line| {
        let mut columns = line.split_whitespace().skip(3);
        // Blanks in a path are as they are.
        columns.next() == Some(ACCEPTS) && line.ends_with(&format!(" {path}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_listens_once_it_takes_connections() {
        let list = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                    0000000000000000: 00000002 00000000 00010000 0005 01 4711 /a/bound-and-listening\n\
                    0000000000000000: 00000002 00000000 00000000 0005 01 4712 /a/bound\n";
        assert!(listens(list, "/a/bound-and-listening"));
        assert!(!listens(list, "/a/bound"));
        assert!(!listens(list, "/a/missing"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_edge_is_asked_until_all_are_connected() {
        let mut answers = [Err(anyhow::anyhow!("no such file")), Ok(1), Ok(2)].into_iter();
        let connected = async || answers.next().unwrap_or(Ok(2));
        until_connected(2, Duration::from_secs(1), connected).await.unwrap();
        let error = until_connected(2, Duration::from_secs(1), async || Ok(1)).await.unwrap_err();
        assert_eq!(error.to_string(), "the edge was connected with 1 of 2 node(s) after 1s");
    }
}
