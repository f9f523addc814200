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
//! * A node keeps no terms, as far as is known: it is waited for.
//! * The class of an instance, or this edge, has it wait for longer: the node is lost, and that instance goes on waiting. While
//!   any does, all shards are asked again and again whether it has waited for long enough.

use std::sync::Arc;
use std::time::Duration;

use berth_engine::Input;
use berth_protocol::edge::{Look, Looks};

use super::objects::Mailbox;
use crate::nodes::{LostNode, Nodes};
use crate::terms::boot_ms;

/// How often is looked: a small part of the margin.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Looks for as long as the edge runs. `mailboxes`: those of all shards.
pub(crate) async fn watch(nodes: Arc<Nodes>, mailboxes: Vec<Mailbox>) {
    let mut looks = Looks::starting(boot_ms());
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        match looks.look(boot_ms()) {
            Look::Judges => {
                nodes.lose(mailboxes.len()).into_iter().for_each(|lost| give_up(lost, &mailboxes));
            }
            Look::Stopped => {
                tracing::warn!("this process was stopped for a while: nodes have time to be heard of");
            }
            Look::Waits => {}
        }
    }
}

fn give_up(LostNode { node, silence }: LostNode, mailboxes: &[Mailbox]) {
    for mailbox in mailboxes {
        mailbox.input(Input::NodeLost { node: node.clone(), silence });
    }
}
