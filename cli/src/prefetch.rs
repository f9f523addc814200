//! Makes a version of an app known to an edge, which has nodes fetch its images first, and shows how far they are.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Error, Result};
use berth_common::image::Digest;
use berth_common::spec::AppSpec;
use serde::{Deserialize, Serialize};

use crate::admin::{Admin, Deployed, Refusal, Terms};
use crate::progress::{Transfer, Transfers};

/// How often the nodes' progress is asked for.
const INTERVAL: Duration = Duration::from_millis(300);
/// How long is waited for nodes, unless somebody says otherwise: a large image on a slow line.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// How many nodes must have an app's images before its version becomes current.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitFor {
    /// All that are connected and can run them.
    #[default]
    All,
    /// So many of them.
    Nodes(u32),
}

impl FromStr for WaitFor {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "none" => Ok(Self::Nodes(0)),
            number => {
                number.parse().map(Self::Nodes).map_err(|_| "expected all, none or a number".to_owned())
            }
        }
    }
}

impl fmt::Display for WaitFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Nodes(0) => f.write_str("none"),
            Self::Nodes(count) => count.fmt(f),
        }
    }
}

/// What is waited for before a version becomes current.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prefetch {
    pub(crate) nodes: WaitFor,
    pub(crate) timeout: Duration,
}

impl Default for Prefetch {
    fn default() -> Self {
        Self { nodes: WaitFor::All, timeout: DEFAULT_TIMEOUT }
    }
}

impl Prefetch {
    /// The part of a query that says it, unless it is what every edge does unasked.
    pub(crate) fn query(&self) -> String {
        let Self { nodes, timeout } = self;
        if *nodes == WaitFor::All && *timeout == DEFAULT_TIMEOUT {
            return String::new();
        }
        format!("&prefetch={nodes}&prefetch_timeout_ms={}", timeout.as_millis())
    }
}

/// Answer to `GET /v1/images/DIGEST/nodes`.
#[derive(Debug, Deserialize)]
pub(crate) struct NodeProgress {
    pub(crate) nodes: Vec<OnNode>,
}

/// How far an image is on a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OnNode {
    pub(crate) node: String,
    /// `fetching`, `ready`, `failed`, `waiting`, or `unfit` for it.
    pub(crate) state: String,
    #[serde(default)]
    pub(crate) done: u64,
    #[serde(default)]
    pub(crate) total: u64,
    #[serde(default)]
    pub(crate) message: Option<String>,
}

/// Makes an app's version known, and shows how far its images are on the nodes meanwhile.
pub(crate) async fn deploy(admin: &Admin, spec: &AppSpec, terms: Terms) -> Result<Deployed> {
    let digests = spec.classes.values().map(|class| class.recipe.image.digest).collect();
    tokio::select! {
        deployed = admin.deploy(spec, terms) => deployed.map_err(|error| explain(error, spec)),
        never = watch(admin, digests) => match never {},
    }
}

fn explain(error: Error, spec: &AppSpec) -> Error {
    if error.downcast_ref::<Refusal>().is_some() {
        return error;
    }
    let app = &spec.name;
    error.context(format!(
        "the edge was not heard to the end. What nodes have fetched stays with them; whether {app} has its new version, \
         `berth versions {app}` tells; if not, deploy again"
    ))
}

/// Shows the nodes' progress for as long as it is polled.
async fn watch(admin: &Admin, digests: BTreeSet<Digest>) -> Infallible {
    let mut board = Board { shown: Transfers::new(), bars: BTreeMap::new(), ended: BTreeSet::new() };
    loop {
        tokio::time::sleep(INTERVAL).await;
        let mut nodes: BTreeMap<String, OnNode> = BTreeMap::new();
        for digest in &digests {
            // It is for show only: an edge that does not tell is no reason to fail.
            let Ok(progress) = on_nodes(admin, digest).await else { continue };
            progress.nodes.into_iter().for_each(|node| add(&mut nodes, node));
        }
        nodes.into_values().for_each(|node| board.show(node));
    }
}

/// How far an image is on the nodes.
pub(crate) async fn on_nodes(admin: &Admin, digest: &Digest) -> Result<NodeProgress> {
    admin.get(&format!("/v1/images/{digest}/nodes")).await
}

/// Adds an image of a node to its others: the node is as far as the one that is least far.
fn add(nodes: &mut BTreeMap<String, OnNode>, image: OnNode) {
    let Some(known) = nodes.get_mut(&image.node) else {
        nodes.insert(image.node.clone(), image);
        return;
    };
    known.done += image.done;
    known.total += image.total;
    if rank(&image.state) > rank(&known.state) {
        known.state = image.state;
        known.message = image.message;
    }
}

/// How far a state is from ready.
fn rank(state: &str) -> u8 {
    match state {
        "failed" => 4,
        "waiting" => 3,
        "fetching" => 2,
        "ready" => 1,
        _ => 0,
    }
}

struct Board {
    shown: Transfers,
    bars: BTreeMap<String, Transfer>,
    /// Nodes and the state that was told last.
    ended: BTreeSet<(String, String)>,
}

impl Board {
    fn show(&mut self, node: OnNode) {
        let words =
            node.message.clone().map_or_else(|| node.state.clone(), |why| format!("{}: {why}", node.state));
        match node.state.as_str() {
            "fetching" | "waiting" => {
                // It was at its end, and is at it again.
                self.ended.retain(|(name, _)| *name != node.node);
                let begin = || self.shown.begin(&node.node, node.total);
                let bar = self.bars.entry(node.node.clone()).or_insert_with(begin);
                bar.set_total(node.total);
                bar.set(node.done);
                bar.say(&words);
            }
            _ if self.ended.insert((node.node.clone(), node.state.clone())) => {
                let bar = self.bars.remove(&node.node);
                bar.unwrap_or_else(|| self.shown.begin(&node.node, node.total)).done(&words);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_all_none_or_a_number() {
        for text in ["all", "none", "3"] {
            assert_eq!(text.parse::<WaitFor>().unwrap().to_string(), text);
        }
        assert!("some".parse::<WaitFor>().is_err() && "-1".parse::<WaitFor>().is_err());
    }

    #[test]
    fn a_node_is_as_far_as_its_last_image() {
        let image = |state: &str, done| OnNode {
            node: "n1".to_owned(),
            state: state.to_owned(),
            done,
            total: 10,
            message: (state == "failed").then(|| "disk full".to_owned()),
        };
        let mut nodes = BTreeMap::new();
        for (state, done) in [("ready", 10), ("failed", 2), ("fetching", 3)] {
            add(&mut nodes, image(state, done));
        }
        let node = &nodes["n1"];
        assert_eq!((node.state.as_str(), node.done, node.total), ("failed", 15, 30));
        assert_eq!(node.message.as_deref(), Some("disk full"));
    }
}
