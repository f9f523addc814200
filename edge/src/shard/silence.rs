//! Looks which nodes are silent for longer than their term, and has all shards give them up.
//!
//! ```text
//! heard of ──term and margin over──▶ lost: nothing is promised to it ──each shard: NodeLost to its engine, then Lost to its link──▶
//!    ▲                                                                                     nothing of before is left to be sent ──┐
//!    └───────────────────────────────────heard of again: what it still has is ended there as a stranger ◀───────────────────────┘
//! ```
//!
//! What fails, and what happens then:
//! * This process was stopped, or its machine asleep: then nodes were silent because nobody listened. They get the time of a term to
//!   be heard.
//! * The last node that is connected is silent too: nothing is given up, as nobody could take it.
//! * A node keeps no terms, or was not heard of since this process was started: it is waited for.

use std::sync::Arc;
use std::time::Duration;

use berth_engine::Input;

use super::objects::Mailbox;
use crate::nodes::{LostNode, Nodes};
use crate::terms::{TERM, boot_ms};

/// How often is looked: a small part of the margin.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A pause between two looks after which this process counts as having been stopped: far longer than on a busy machine.
const STALL_MS: u64 = 3_000;

/// Looks for as long as the edge runs. `mailboxes`: those of all shards.
/// `later`: how long after the end of its term a node is still waited for.
pub(crate) async fn watch(nodes: Arc<Nodes>, mailboxes: Vec<Mailbox>, later: Duration) {
    let mut looks = Looks { last_ms: boot_ms(), from_ms: 0 };
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if looks.may_judge(boot_ms()) {
            nodes.lose(mailboxes.len(), later).into_iter().for_each(|lost| give_up(lost, &mailboxes));
        }
    }
}

fn give_up(LostNode { node, heard_ms }: LostNode, mailboxes: &[Mailbox]) {
    tracing::warn!(%node, heard_ms, "a node is lost: what ran there has paused by now, and is given up");
    for mailbox in mailboxes {
        mailbox.input(Input::NodeLost { node: node.clone(), heard_ms });
    }
}

/// When it was looked. In milliseconds of `boot_ms`.
struct Looks {
    last_ms: u64,
    /// Before that, silence says nothing.
    from_ms: u64,
}

impl Looks {
    /// Whether a node that is silent now is silent by itself.
    fn may_judge(&mut self, now_ms: u64) -> bool {
        if now_ms.saturating_sub(self.last_ms) > STALL_MS {
            tracing::warn!("this process was stopped for a while: nodes have time to be heard of");
            self.from_ms = now_ms.saturating_add(u64::try_from(TERM.as_millis()).unwrap_or(u64::MAX));
        }
        self.last_ms = now_ms;
        now_ms >= self.from_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_did_not_listen_does_not_judge() {
        let mut looks = Looks { last_ms: 0, from_ms: 0 };
        assert!(looks.may_judge(250) && looks.may_judge(3_250));
        assert!(!looks.may_judge(60_000) && !looks.may_judge(62_000));
        (63..75).for_each(|second| assert!(!looks.may_judge(second * 1_000)));
        assert!(looks.may_judge(75_000));
    }
}
