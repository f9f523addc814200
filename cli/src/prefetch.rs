//! Deploys a version of an app to an edge, which has nodes fetch its images first, and shows their progress.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Error, Result};
use berth_api::apps::{self, DeployParameters, PREFETCH_TIMEOUT};
use berth_api::client::ClientError;
use berth_api::images::{Holder, HolderList, HolderState};
use berth_common::ids::Version;
use berth_common::image::Digest;
use berth_common::spec::{AppSpec, StoredSecret};

use crate::admin::Admin;
use crate::progress::{Transfer, Transfers};

/// How often the nodes' progress is asked for.
const INTERVAL: Duration = Duration::from_millis(300);

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
        Self { nodes: WaitFor::All, timeout: PREFETCH_TIMEOUT }
    }
}

/// A change of an app: the condition that it is made under, and whether containers of other versions end.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Terms {
    /// The version that must be current.
    pub(crate) expect: Option<Version>,
    pub(crate) now: bool,
    /// Which nodes have the images of a new version before it becomes current.
    pub(crate) prefetch: Prefetch,
    /// Make a version also of what is current already.
    pub(crate) force: bool,
    /// Send also the files that the edge has: they may be damaged there.
    pub(crate) resend: bool,
    /// Deploy also what no node can run, with a warning.
    pub(crate) allow_unplaceable: bool,
    /// The longest `stop_grace` of a class, if not what it says.
    pub(crate) longest_stop_grace: Option<Duration>,
}

impl Terms {
    /// As it is sent to an edge; what an edge does by default is left out.
    fn parameters(&self) -> DeployParameters {
        let Prefetch { nodes, timeout } = self.prefetch;
        let usual = nodes == WaitFor::All && timeout == PREFETCH_TIMEOUT;
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        DeployParameters {
            now: self.now,
            prefetch: (!usual).then(|| nodes.to_string()),
            prefetch_timeout_ms: (!usual).then_some(timeout_ms),
            force: self.force,
            allow_unplaceable: self.allow_unplaceable,
        }
    }
}

/// The result of a change.
#[derive(Debug)]
pub(crate) struct Deployed(pub(crate) apps::Deployed);

impl Deployed {
    /// Prints why it cannot run, and which secrets are still missing.
    pub(crate) fn warn(&self) {
        let app = &self.0.app;
        for reason in &self.0.unplaceable {
            crate::output::note!("warning: {app} cannot run: {reason}");
        }
        for name in &self.0.missing_secrets {
            crate::output::note!(
                "warning: {app} has no secret {name}, and containers that need it do not start: `berth secret put {name} --app \
                 {app}` puts it"
            );
        }
        for StoredSecret { store, name } in &self.0.missing_store_secrets {
            crate::output::note!(
                "warning: the store {store} has no secret {name}, and get() of it fails in the program of {app}: `berth secret put \
                 {name} --store {store}` puts it"
            );
        }
    }

    /// The same for a Workers project, of which the edge does not say how large it is.
    pub(crate) fn describe_worker(&self, parts: &str) -> String {
        if self.0.unchanged {
            return self.describe("deployed");
        }
        format!("deployed {} version {}: {parts}", self.0.app, self.0.version.version)
    }

    /// What was done, in one line. An edge of an earlier version makes a version in any case.
    pub(crate) fn describe(&self, what: &str) -> String {
        let apps::Deployed { app, version: made, ended, .. } = &self.0;
        let apps::VersionView { version, classes, routes, .. } = made;
        if self.0.unchanged {
            let ended = if *ended > 0 { format!("; containers told to end: {ended}") } else { String::new() };
            return format!(
                "{app} is unchanged: version {version} is current and no other was made, which --force would do{ended}"
            );
        }
        let ended = if *ended > 0 { format!(", containers told to end: {ended}") } else { String::new() };
        format!("{what} {app} version {version}: classes: {classes}, routes: {routes}{ended}")
    }
}

/// Deploys a version of an app, and shows the progress of its images on the nodes until the edge has answered.
pub(crate) async fn deploy(admin: &Admin, spec: &AppSpec, terms: Terms) -> Result<Deployed> {
    let digests = spec.classes.values().map(|class| class.recipe.image.digest).collect();
    let how = terms.parameters();
    tokio::select! {
        deployed = admin.deploy(spec, &how, terms.expect) => {
            deployed.map(Deployed).map_err(|error| explain(error, spec))
        }
        never = watch(admin, digests) => match never {},
    }
}

fn explain(error: ClientError, spec: &AppSpec) -> Error {
    if error.is_refusal() {
        return error.into();
    }
    let app = &spec.name;
    Error::from(error).context(format!(
        "the edge was not heard to the end. What nodes have fetched stays with them; whether {app} has its new version, \
         `berth versions {app}` tells; if not, deploy again"
    ))
}

/// Shows the nodes' progress for as long as it is polled.
async fn watch(admin: &Admin, digests: BTreeSet<Digest>) -> Infallible {
    let mut progress =
        ProgressBars { shown: Transfers::new(), bars: BTreeMap::new(), ended: BTreeSet::new() };
    loop {
        tokio::time::sleep(INTERVAL).await;
        let mut nodes: BTreeMap<String, Holder> = BTreeMap::new();
        for digest in &digests {
            // It is only displayed: an edge that does not report it is no reason to fail.
            let Ok(progress) = on_nodes(admin, digest).await else { continue };
            progress.nodes.into_iter().for_each(|node| add(&mut nodes, node));
        }
        nodes.into_values().for_each(|node| progress.show(node));
    }
}

/// How far an image is on the nodes.
pub(crate) async fn on_nodes(admin: &Admin, digest: &Digest) -> Result<HolderList> {
    Ok(admin.get(&format!("/v1/images/{digest}/nodes")).await?)
}

/// Combines the states of a node's images: the node's is that of the one furthest from ready.
fn add(nodes: &mut BTreeMap<String, Holder>, image: Holder) {
    let Some(known) = nodes.get_mut(&image.node) else {
        nodes.insert(image.node.clone(), image);
        return;
    };
    known.done += image.done;
    known.total += image.total;
    if rank(image.state) > rank(known.state) {
        known.state = image.state;
        known.message = image.message;
    }
}

/// How far a state is from ready.
fn rank(state: HolderState) -> u8 {
    match state {
        HolderState::Failed => 4,
        HolderState::Waiting => 3,
        HolderState::Fetching => 2,
        HolderState::Ready => 1,
        HolderState::Away => 0,
    }
}

struct ProgressBars {
    shown: Transfers,
    bars: BTreeMap<String, Transfer>,
    /// Nodes and their last reported state.
    ended: BTreeSet<(String, HolderState)>,
}

impl ProgressBars {
    fn show(&mut self, node: Holder) {
        let state_text = node
            .message
            .as_ref()
            .map_or_else(|| node.state.to_string(), |why| format!("{}: {why}", node.state));
        match node.state {
            HolderState::Fetching | HolderState::Waiting => {
                // It was at its end, and is at it again.
                self.ended.retain(|(name, _)| *name != node.node);
                let begin = || self.shown.begin(&node.node, node.total);
                let bar = self.bars.entry(node.node.clone()).or_insert_with(begin);
                bar.set_total(node.total);
                bar.set(node.done);
                bar.say(&state_text);
            }
            _ if self.ended.insert((node.node.clone(), node.state)) => {
                let bar = self.bars.remove(&node.node);
                bar.unwrap_or_else(|| self.shown.begin(&node.node, node.total)).done(&state_text);
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
        let image = |state, done| Holder {
            node: "n1".to_owned(),
            state,
            done,
            total: 10,
            message: (state == HolderState::Failed).then(|| "disk full".to_owned()),
        };
        let mut nodes = BTreeMap::new();
        for (state, done) in [(HolderState::Ready, 10), (HolderState::Failed, 2), (HolderState::Fetching, 3)]
        {
            add(&mut nodes, image(state, done));
        }
        let node = &nodes["n1"];
        assert_eq!((node.state, node.done, node.total), (HolderState::Failed, 15, 30));
        assert_eq!(node.message.as_deref(), Some("disk full"));
    }
}
