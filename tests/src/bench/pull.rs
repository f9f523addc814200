//! What a pull by Berth is compared with: Debian's docker-registry, and tools that pull from it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::isolated::Isolated;
use crate::peer::{Manner, Peer};

/// A registry on loopback, and its clients.
#[derive(Debug)]
pub struct Peers {
    directory: PathBuf,
    tools: Isolated,
    registry: Peer,
}

/// Clients that have pulled nothing yet, in a directory of their own. What they leave goes with all the rest at the
/// end: what is removed in between costs the disk something while others are measured.
#[derive(Debug)]
pub struct Fresh {
    tools: Isolated,
    address: SocketAddr,
}

impl Peers {
    /// Starts the registry. Its clients keep everything in this directory.
    pub async fn start(directory: &Path) -> Result<Self> {
        let tools = Isolated::prepare(&directory.join("tools"))?;
        let registry = Peer::start(Manner::default()).await?;
        Ok(Self { directory: directory.to_owned(), tools, registry })
    }

    /// Gives the registry the image of a layout.
    pub async fn push(&self, layout: &Path, name: &str) -> Result<()> {
        let (from, to) = (format!("oci:{}", layout.display()), reference(self.registry.address, name));
        self.tools.run(&["skopeo", "copy", "--dest-tls-verify=false", &from, &to]).await.map(drop)
    }

    /// Clients that have pulled nothing yet.
    pub fn fresh(&self, turn: usize) -> Result<Fresh> {
        let tools = Isolated::prepare(&self.directory.join(format!("turn-{turn}")))?;
        Ok(Fresh { tools, address: self.registry.address })
    }

    /// What they are, for the report.
    pub async fn versions(&self) -> Result<String> {
        let registry = self.tools.run(&["docker-registry", "--version"]).await?;
        let registry = registry.split(' ').next_back().context("docker-registry says no version")?.to_owned();
        let mut versions = vec![format!("docker-registry {registry}")];
        for program in ["skopeo", "umoci", "podman"] {
            versions.push(self.tools.run(&[program, "--version"]).await?);
        }
        Ok(versions.join(", "))
    }
}

impl Fresh {
    /// Pulls an image with skopeo and unpacks it with umoci.
    pub async fn skopeo_and_umoci(&self, name: &str) -> Result<Duration> {
        let from = reference(self.address, name);
        let pull = format!(
            "skopeo copy --quiet --src-tls-verify=false {from} oci:layout:{name} && umoci unpack --image layout:{name} bundle-{name}"
        );
        self.timed(&["sh", "-c", &pull]).await
    }

    /// Pulls it with podman.
    pub async fn podman(&self, name: &str) -> Result<Duration> {
        let from = reference(self.address, name);
        self.timed(&["podman", "pull", "--quiet", "--tls-verify=false", &from]).await
    }

    async fn timed(&self, args: &[&str]) -> Result<Duration> {
        // Earlier writes are synced first, so that they are not measured.
        self.tools.run(&["sync"]).await?;
        let began = Instant::now();
        self.tools.run(args).await?;
        Ok(began.elapsed())
    }
}

fn reference(address: SocketAddr, name: &str) -> String {
    format!("docker://{address}/bench/{name}:latest")
}
