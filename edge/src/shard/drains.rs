//! Empties the nodes that operators have drained: has all shards end what they have there, in good order.
//!
//! ```text
//! drained ──each second: an instance that nobody holds ends──▶ ... ──after PATIENCE: those that are held, too──▶ empty
//! ```
//!
//! What fails, and what happens then:
//! * An instance was still to be started, or its node is not connected: the order comes again, as long as some are left.
//! * This process is restarted: who is drained is in the store, and since when.

use std::sync::Arc;
use std::time::Duration;

use berth_common::clock::wall_ms;
use berth_engine::Input;

use super::objects::Mailbox;
use crate::nodes::Nodes;

/// How often is looked what is left: people wait for it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long those that are held are waited for: longer than nearly all requests take, and not so long that who waits for an empty
/// node gives up. From then on they have the grace of their class.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks for as long as the edge runs. `mailboxes`: those of all shards.
pub(crate) async fn watch(nodes: Arc<Nodes>, mailboxes: Vec<Mailbox>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        for (node, since_ms) in nodes.to_be_emptied() {
            let even_held = is_impatient(since_ms, wall_ms());
            for mailbox in &mailboxes {
                mailbox.input(Input::Drain { node: node.clone(), even_held });
            }
        }
    }
}

fn is_impatient(since_ms: u64, now_ms: u64) -> bool {
    u128::from(now_ms.saturating_sub(since_ms)) >= PATIENCE.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_their_time() {
        assert!(!is_impatient(1_000, 60_999) && is_impatient(1_000, 61_000));
        assert!(!is_impatient(90_000, 1_000), "the time of day was set back");
    }
}
