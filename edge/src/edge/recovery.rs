//! What an edge reads of its store as it starts: its nodes, and what may still run on them.

use std::sync::Arc;

use anyhow::Context;
use berth_engine::fleet::Demand;
use berth_engine::{Record, RecordState};
use berth_store::{NodeRecord, Store};

use crate::config::Config;
use crate::happenings::Happenings;
use crate::nodes::Nodes;
use crate::shard::shard_of;

/// The nodes of the command line and of the store, with what was ordered of them before. What happens to them is kept from then on.
pub(super) fn nodes(config: &Config, store: &Arc<dyn Store>) -> anyhow::Result<Nodes> {
    let (happenings, keeper) = Happenings::open(store);
    tokio::spawn(keeper.keep());
    let nodes = Nodes::new(&config.nodes).telling(happenings);
    store.members()?.iter().for_each(|member| nodes.restore_member(member));
    for revoked in store.revoked()? {
        let key =
            revoked.key.parse().with_context(|| format!("a revoked key of the node {}", revoked.node))?;
        config.credentials.revoke(key);
        nodes.was_revoked(&revoked);
    }
    for NodeRecord { node, drained_ms } in store.nodes()? {
        // One that is not there now is drained still when it is again.
        nodes.drain(&node, Some(drained_ms));
    }
    Ok(nodes)
}

/// The objects whose instances may have outlived the edge's last process, for each shard.
pub(super) fn recover(store: &dyn Store, nodes: &Nodes, shards: usize) -> anyhow::Result<Vec<Vec<Record>>> {
    let mut recovered: Vec<Vec<Record>> = (0..shards).map(|_| Vec::new()).collect();
    let records = store.placed()?;
    if !records.is_empty() {
        tracing::info!(objects = records.len(), "objects with instances recovered");
    }
    for record in records {
        if let RecordState::Placed { node, class, .. } = &record.state {
            let demand = Demand::of(&record.key, record.generation, class);
            nodes.restore(&demand, node);
        }
        recovered[shard_of(record.key.id(), shards)].push(record);
    }
    Ok(recovered)
}
