//! What the next process of an edge has to know of the terms of its nodes: who keeps them; and until when those last that this one
//! gives as it is told to end, which are longer, so that a restart or a reboot pauses nothing.
//!
//! ```text
//! told to end ──▶ the window is durable ──▶ each node gets its term until then ──▶ this process ends
//!                                                  the next process: gives no node up before that
//! ```
//!
//! What fails, and what happens then:
//! * It cannot be written: no longer terms are given, and containers pause if the next process takes longer than a term.
//! * A node does not answer in time: it has its usual term.
//! * This process is killed in between: the next one waits for longer than it would have to.
//! * The process before has given longer terms, and not all nodes were heard of since: those count on.
//! * A node goes back to a version that keeps no terms: that is noted within a second. Only if within that second this process and the
//!   node are lost too, the next process takes what runs there for paused.

use std::sync::Arc;
use std::time::Duration;

use berth_common::wire::term::BootId;
use berth_store::{Store, StoreError, Window, Write};

use crate::nodes::Nodes;
use crate::terms::{boot_id, boot_ms};

/// How long nodes may take to hear of it. What they do not hear makes a term shorter, and nothing worse.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often is looked whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How often is looked what is to be noted of nodes.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// What the process before this one has known and left open.
pub(crate) fn read(store: &dyn Store, nodes: &Nodes) -> Result<(), StoreError> {
    store.keeping_terms()?.iter().for_each(|node| nodes.is_known_to_keep_terms(node));
    if let Some(window) = store.window()? {
        nodes.given_before(window.until_ms(boot_id(), boot_ms()));
    }
    Ok(())
}

/// Notes which nodes keep terms, for as long as the edge runs.
pub(crate) async fn note_who_keeps_terms(store: Arc<dyn Store>, nodes: Arc<Nodes>) {
    loop {
        tokio::time::sleep(NOTE_EVERY).await;
        for (node, keeps) in nodes.to_be_noted() {
            match berth_store::write(&*store, Write::KeepsTerms(node.clone(), keeps)).await {
                Ok(()) => nodes.noted(&node, keeps),
                Err(error) => tracing::warn!(%node, %error, "cannot note whether the node keeps terms"),
            }
        }
    }
}

/// Gives every node its term until this much later. Returns once all that are connected have heard of it, or in a while.
pub(crate) async fn open(store: Arc<dyn Store>, nodes: Arc<Nodes>, length: Duration) {
    let length_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let now_ms = boot_ms();
    // Where the kernel does not name its boot, the next process takes it for another one, and waits for the whole length.
    let boot = boot_id().unwrap_or(BootId::from_bytes([0; 16]));
    let window = Window::from(boot, now_ms, length_ms, nodes.given_before_ms());
    if let Err(error) = berth_store::write(&*store, Write::Window(window)).await {
        tracing::warn!(%error, "containers pause soon: the restart window cannot be noted");
        return;
    }
    let since_ms = boot_ms();
    nodes.stretch_terms(now_ms.saturating_add(length_ms));
    let told = async {
        while !nodes.all_heard_since(since_ms) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, told).await.is_ok();
    tracing::info!(?length, in_time, "containers go on without this edge for a while");
}
