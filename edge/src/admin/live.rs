//! The usage of running instances, as their nodes report it.

use std::collections::BTreeMap;
use std::time::Duration;

use berth_common::clock::wall_ms;
use berth_common::ids::{InstanceId, NodeId, ObjectId};
use berth_common::metering::STEP_MS;
use berth_common::wire::call::{Answer, AskUsage, Call, RefusalCode, Usage};
use berth_engine::ObjectView;
use futures_util::StreamExt;
use tokio::time::Instant;

use crate::nodes::Nodes;
use crate::proxy::Proxy;
use crate::shard::Shards;
use crate::shard::link::{Links, call};
use crate::shard::objects::Mailbox;
use crate::usage::sums::Life;

/// Longest wait for the reports of all nodes together; instances that are not reported in time are counted without
/// usage.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);
/// Most instances that nodes are asked about at once.
const MAX_CONCURRENT: usize = 64;

/// A node's answer about an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reported {
    Usage(Usage),
    /// Its app does not run yet, or no longer.
    Nothing,
}

/// A running instance and its usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunningInstance {
    pub(super) life: Life,
    /// Whether its node has reported. If not, its CPU time and traffic are unknown.
    pub(super) reported: bool,
}

/// All running instances.
pub(super) async fn all(
    mailboxes: &[Mailbox],
    shards: &Shards<Proxy>,
    nodes: &Nodes,
) -> BTreeMap<InstanceId, RunningInstance> {
    let regions = nodes.regions();
    let deadline = Instant::now() + REPORT_TIMEOUT;
    let mut views = Vec::new();
    for mailbox in mailboxes {
        views.extend(mailbox.views().await.into_iter().filter(|view| view.instance.is_some()));
    }
    let asked = views.into_iter().map(|view| {
        let region = view.node.as_ref().and_then(|node| regions.get(node)).cloned();
        one(view, region, shards, deadline)
    });
    futures_util::stream::iter(asked)
        .buffer_unordered(MAX_CONCURRENT)
        .filter_map(std::future::ready)
        .collect()
        .await
}

async fn one(
    view: ObjectView,
    region: Option<String>,
    shards: &Shards<Proxy>,
    deadline: Instant,
) -> Option<(InstanceId, RunningInstance)> {
    let (instance, node) = (view.instance?, view.node.clone()?);
    let reported = tokio::time::timeout_at(deadline, ask(view.id, node, instance, shards)).await;
    running(&view, region, reported.ok().flatten(), wall_ms()).map(|running| (instance, running))
}

async fn ask(
    object: ObjectId,
    node: NodeId,
    instance: InstanceId,
    shards: &Shards<Proxy>,
) -> Option<Reported> {
    let asked = shards
        .run(shards.of(object), move |proxy| async move { ask_node(&proxy.links, &node, instance).await });
    asked.await.ok().flatten()
}

fn running(
    view: &ObjectView,
    region: Option<String>,
    reported: Option<Reported>,
    now_ms: u64,
) -> Option<RunningInstance> {
    let resources = view.resources?;
    let known = match reported {
        Some(Reported::Nothing) => return None,
        Some(Reported::Usage(usage)) => usage,
        None => Usage::default(),
    };
    let since_ms = known.started_ms.or(view.running_since_ms)?;
    let lived_ms =
        known.lived_cs.map_or_else(|| now_ms.saturating_sub(since_ms), |steps| steps.saturating_mul(STEP_MS));
    let life = Life {
        key: view.key.clone(),
        region,
        started_ms: since_ms,
        lived_ms,
        cpu_us: known.cpu_us,
        memory_bytes: resources.memory_bytes,
        disk_bytes: resources.disk_bytes,
        sent_bytes: known.sent_bytes,
        received_bytes: known.received_bytes,
        estimated: false,
        live: true,
    };
    Some(RunningInstance { life, reported: reported.is_some() })
}

/// Asks a node about an instance, if the node is connected.
pub(super) async fn ask_node(links: &Links, node: &NodeId, instance: InstanceId) -> Option<Reported> {
    let connection = links.get(node)?.connected(Instant::now()).await?;
    match call::ask(&connection, &Call::Usage(AskUsage { instance })).await {
        Ok(Answer::Usage(usage)) => Some(Reported::Usage(usage)),
        Ok(Answer::Refused(refusal)) if refusal.code == RefusalCode::NoInstance => Some(Reported::Nothing),
        _ => None,
    }
}
