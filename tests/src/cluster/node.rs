//! One node of a cluster, with its network link and its file system, which tests can disturb.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use berth_cluster::Process;
use berth_cluster::certificates::Credentials;

use crate::client::Client;
use crate::disk::Small;
use crate::metrics::Page;
use crate::relay::Relay;

/// One node.
#[derive(Debug)]
pub struct Node {
    /// `n1`, `n2`, ...
    pub name: String,
    /// Where its agent listens.
    pub address: SocketAddr,
    /// Its state directory.
    pub state: PathBuf,
    pub(super) credentials: Credentials,
    pub(super) cgroup: PathBuf,
    pub(super) supervisor: Option<Process>,
    pub(super) agent: Option<Process>,
    pub(super) relay: Option<Relay>,
    pub(super) disk: Option<Small>,
    pub(super) monitor: Option<SocketAddr>,
}

impl Node {
    /// The cgroup that its instances' are made in.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The wire that the edge reaches it through.
    pub fn relay(&self) -> Result<&Relay> {
        self.relay.as_ref().context("the cluster was set up without relays")
    }

    /// The file system that its state has to itself.
    pub fn disk(&self) -> Result<&Small> {
        self.disk.as_ref().context("the node was set up without a disk of its own")
    }

    /// The sum of a metric that its agent serves.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let address = self.monitor.context("the cluster was set up without metrics of agents")?;
        let page = Client::of(address).get("/metrics").await?.success()?.text;
        Page::read(&page)?.sum(name, &[])
    }
}
