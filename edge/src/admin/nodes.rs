//! The nodes, and orders to them: to add one, to put nothing new on one and empty it, to use it again, to give it up for good.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use berth_api::edge::{
    AddedNode, NewNode, NodeList, NodeOrder, NodeOrdered, ObjectOnNode, Revocation, RevokedNode,
};
use berth_certs::KeyHash;
use berth_common::clock::wall_ms;
use berth_common::happening::HappeningKind;
use berth_common::ids::{NodeId, ObjectKey};
use berth_common::spec::{MAX_LABELS, label_fault};
use berth_engine::{Input, ObjectView};
use berth_store::{self as store, MemberRecord, NodeRecord, RevokedRecord, Write};

use super::Admin;
use super::apps::to_its_end;
use super::problem::{Conflicting, Denied, Missing, Problem, Wrong};
use super::read::{self, Body, OptionalBody, invalid};
use crate::config::node_address;
use crate::nodes::{CannotAdd, Changing, Given, StillThere, by_hand};

/// Most keys that are revoked: each is kept for ever, and read as the edge starts. Who has revoked so many needs another authority.
const MAX_REVOKED: usize = 10_000;
/// Most objects that an answer names: enough to see what they are.
const MAX_NAMED: usize = 1_000;

type Ordered = Result<Json<NodeOrdered>, Problem>;

impl From<StillThere> for Problem {
    fn from(still: StillThere) -> Self {
        Self::new(StatusCode::CONFLICT, "the node may still be there", still.to_string())
    }
}

impl From<CannotAdd> for Problem {
    fn from(cannot: CannotAdd) -> Self {
        Self::new(StatusCode::CONFLICT, "the nodes stay as they are", cannot.to_string())
    }
}

/// Lists the nodes with their capacity, whether they are connected and how long they were not heard of.
#[utoipa::path(get, path = "/v1/nodes", tag = "edge", responses((status = 200, body = NodeList), Denied))]
pub(super) async fn nodes(State(admin): State<Arc<Admin>>) -> Json<NodeList> {
    Json(NodeList { nodes: admin.nodes.views() })
}

/// Adds a node, without a restart: the edge connects to it at once, and again and again until it answers. It stays over restarts, until it
/// is forgotten. Answered once that is durable, whether the node is there or not. Refused (409) if there is one of this name, or if
/// the edge has 256 nodes that were added.
#[utoipa::path(post, path = "/v1/nodes", tag = "edge", request_body = NewNode,
    responses((status = 201, body = AddedNode), Denied, Wrong, Conflicting))]
pub(super) async fn add(
    State(admin): State<Arc<Admin>>,
    Body(NewNode { node, address, labels }): Body<NewNode>,
) -> Result<(StatusCode, Json<AddedNode>), Problem> {
    let address = node_address(&address).map_err(|why| invalid("address", why))?;
    check_labels(&labels)?;
    let record = by_hand(node.clone(), address.clone(), labels);
    to_its_end(add_now(admin, record)).await?;
    Ok((StatusCode::CREATED, Json(AddedNode { node, address })))
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Problem> {
    if labels.len() > MAX_LABELS {
        return Err(invalid("labels", format!("{} labels; at most {MAX_LABELS}", labels.len())));
    }
    let mut parts = labels.iter().flat_map(|(key, value)| [key, value]);
    let wrong = parts.find_map(|part| Some((part, label_fault(part)?)));
    wrong.map_or(Ok(()), |(part, fault)| Err(invalid("labels", format!("`{part}` {fault}"))))
}

/// Drains a node: this edge puts nothing new on it, and ends what it has there, each container once no request holds it, and all
/// after a minute; with SIGTERM and the grace of its class. That lasts until `undrain`, also over restarts of the edge. Answered
/// once it is durable, with what is to end.
#[utoipa::path(post, path = "/v1/nodes/{node}/drain", tag = "edge", request_body = Option<NodeOrder>,
    params(("node" = String, Path)), responses((status = 200, body = NodeOrdered), Denied, Wrong, Missing))]
pub(super) async fn drain(
    State(admin): State<Arc<Admin>>,
    Path(node): Path<String>,
    OptionalBody(NodeOrder { dry_run }): OptionalBody<NodeOrder>,
) -> Ordered {
    let node = admin.configured(&node)?;
    // Whoever drains it again does not begin anew with the patience for what is held.
    if !dry_run && admin.nodes.drained_ms(&node).is_none() {
        to_its_end(drain_now(Arc::clone(&admin), node.clone())).await?;
    }
    Ok(Json(admin.ordered(node, true, false).await))
}

/// Has a drained node take containers of this edge again. One that its own agent has drained stays so.
#[utoipa::path(post, path = "/v1/nodes/{node}/undrain", tag = "edge", request_body = Option<NodeOrder>,
    params(("node" = String, Path)), responses((status = 200, body = NodeOrdered), Denied, Wrong, Missing))]
pub(super) async fn undrain(
    State(admin): State<Arc<Admin>>,
    Path(node): Path<String>,
    OptionalBody(NodeOrder { dry_run }): OptionalBody<NodeOrder>,
) -> Ordered {
    let node = admin.configured(&node)?;
    if !dry_run && admin.nodes.drained_ms(&node).is_some() {
        to_its_end(use_again(Arc::clone(&admin), node.clone())).await?;
    }
    Ok(Json(admin.ordered(node, true, false).await))
}

/// Gives up for good what a node has, which is gone: its containers count as ended (`node_lost`), and their objects are started on
/// other nodes when they are asked for. Refused (409) while the node is connected, or while what it runs may go on without
/// a word of this edge: the answer says until when. One that was added is removed; one of the edge's command line is given up, and
/// stays until `--node` is taken away (`configured`).
#[utoipa::path(post, path = "/v1/nodes/{node}/forget", tag = "edge", request_body = Option<NodeOrder>,
    params(("node" = String, Path)),
    responses((status = 200, body = NodeOrdered), Denied, Wrong, Missing, Conflicting))]
pub(super) async fn forget(
    State(admin): State<Arc<Admin>>,
    Path(node): Path<String>,
    OptionalBody(NodeOrder { dry_run }): OptionalBody<NodeOrder>,
) -> Ordered {
    let node: NodeId = read::name("node", &node)?;
    if !admin.nodes.is_known(&node) {
        return Err(no_node(&node));
    }
    let Given { is_configured, may_run, .. } = admin.nodes.may_forget(&node)?;
    let ordered = admin.ordered(node.clone(), is_configured, may_run).await;
    if !dry_run {
        let removing = admin.nodes.begin_removing(&node)?;
        to_its_end(forget_now(Arc::clone(&admin), node, removing, ordered.count)).await?;
    }
    Ok(Json(ordered))
}

/// Has the key of a node's certificate count no more, for good: its connections end, none is made with that key any more, and what
/// runs there is given up once its term is over. The node is connected again once it shows a certificate with another key. Without a
/// `key` the one that it has last shown; that is not known (409) of one that was not connected since the edge was started.
/// Answered once it is durable.
#[utoipa::path(post, path = "/v1/nodes/{node}/revoke", tag = "edge", request_body = Option<Revocation>,
    params(("node" = String, Path)), responses((status = 200, body = RevokedNode), Denied, Wrong, Conflicting))]
pub(super) async fn revoke(
    State(admin): State<Arc<Admin>>,
    Path(node): Path<String>,
    OptionalBody(Revocation { key, dry_run }): OptionalBody<Revocation>,
) -> Result<Json<RevokedNode>, Problem> {
    let node: NodeId = read::name("node", &node)?;
    let key = match key {
        Some(key) => key.parse().map_err(|why| invalid("key", why))?,
        None => admin.nodes.key_of(&node).ok_or_else(|| no_key(&node))?,
    };
    let NodeOrdered { count, .. } = admin.ordered(node.clone(), true, false).await;
    if !dry_run {
        to_its_end(revoke_now(admin, node.clone(), key)).await?;
    }
    Ok(Json(RevokedNode { node, key: key.to_string(), count }))
}

fn no_key(node: &NodeId) -> Problem {
    let detail = format!(
        "the edge has not seen a certificate of `{node}` since it was started: name the key (`berth nodes revoke {node} --cert FILE`)"
    );
    Problem::new(StatusCode::CONFLICT, "no key is known", detail)
}

async fn revoke_now(admin: Arc<Admin>, node: NodeId, key: KeyHash) -> Result<(), Problem> {
    if admin.store.revoked()?.len() >= MAX_REVOKED {
        let detail = format!("{MAX_REVOKED} keys are revoked: make another authority (`berth certs init`)");
        return Err(Problem::new(StatusCode::CONFLICT, "no more keys are revoked", detail));
    }
    let record = RevokedRecord { key: key.to_string(), node, revoked_ms: wall_ms() };
    store::write(&*admin.store, Write::Revoked(record.clone())).await?;
    // First no new connection, then the end of the old ones.
    admin.credentials.revoke(key);
    admin.nodes.revoked(&record);
    tracing::warn!(node = %record.node, %key, "the key of a node is revoked by order");
    Ok(())
}

async fn add_now(admin: Arc<Admin>, record: MemberRecord) -> Result<(), Problem> {
    let adding = admin.nodes.begin_adding(&record.node)?;
    store::write(&*admin.store, Write::Member(Box::new(record.clone()))).await?;
    adding.added(&record);
    tracing::info!(node = %record.node, address = record.address, "node added by order");
    Ok(())
}

async fn drain_now(admin: Arc<Admin>, node: NodeId) -> Result<(), Problem> {
    let drained_ms = wall_ms();
    let record = NodeRecord { node: node.clone(), drained_ms };
    store::write(&*admin.store, Write::Node(record)).await?;
    admin.nodes.drain(&node, Some(drained_ms));
    tracing::info!(%node, "node drained by order");
    let told = "by order: what is there ends, and nothing new is put there";
    admin.nodes.happenings().node(HappeningKind::NodeDrained, &node, told);
    Ok(())
}

async fn use_again(admin: Arc<Admin>, node: NodeId) -> Result<(), Problem> {
    store::write(&*admin.store, Write::RemoveNode(node.clone())).await?;
    admin.nodes.drain(&node, None);
    // Requests may wait for a node.
    admin.mailboxes.iter().for_each(|mailbox| mailbox.input(Input::NodeOpened));
    tracing::info!(%node, "node in use again by order");
    admin.nodes.happenings().node(HappeningKind::NodeUndrained, &node, "by order");
    Ok(())
}

async fn forget_now(
    admin: Arc<Admin>,
    node: NodeId,
    removing: Changing,
    objects: usize,
) -> Result<(), Problem> {
    let lost = admin.nodes.forget(&node, admin.mailboxes.len())?.lost;
    tracing::warn!(%node, objects, "a node is forgotten by order: what it had is given up");
    let told = format!("by order: what it had is given up, of {objects} objects");
    admin.nodes.happenings().node(HappeningKind::NodeForgotten, &node, told);
    for mailbox in &admin.mailboxes {
        mailbox.input(Input::NodeLost { node: node.clone(), silence: lost.silence });
    }
    // Whether it keeps terms is noted again if this edge is configured with it.
    admin.nodes.noted(&node, false);
    let nothing_left = vec![
        Write::RemoveNode(node.clone()),
        Write::KeepsTerms(node.clone(), false),
        Write::RemoveMember(node),
    ];
    store::commit(&*admin.store, nothing_left).await?;
    // Each shard has given up what it had there before the name can be used again: what is put there then is not given up with it.
    for mailbox in &admin.mailboxes {
        mailbox.states().await;
    }
    removing.removed();
    Ok(())
}

fn no_node(node: &NodeId) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no such node", format!("there is no node `{node}`"))
}

impl Admin {
    /// A node that the edge is configured with.
    fn configured(&self, node: &str) -> Result<NodeId, Problem> {
        let node: NodeId = read::name("node", node)?;
        if self.nodes.names().contains(&node) { Ok(node) } else { Err(no_node(&node)) }
    }

    /// What an order to a node is about: the objects that have a container there.
    async fn ordered(&self, node: NodeId, configured: bool, may_run: bool) -> NodeOrdered {
        let mut objects = Vec::new();
        for mailbox in &self.mailboxes {
            let there = mailbox.views().await.into_iter().filter(|view| view.node.as_ref() == Some(&node));
            objects.extend(there.map(object));
        }
        let count = objects.len();
        objects.sort();
        objects.truncate(MAX_NAMED);
        NodeOrdered { node, configured, may_run, count, objects }
    }
}

fn object(ObjectView { id, key: ObjectKey { app, class, name }, .. }: ObjectView) -> ObjectOnNode {
    ObjectOnNode { app, class, name, id }
}
