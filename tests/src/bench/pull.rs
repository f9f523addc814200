//! What a pull by Berth is compared with: Debian's docker-registry, and those who pull from it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::server::Server;
use crate::isolated::Isolated;
use crate::{packages, ports};

/// A registry on loopback, and its clients.
#[derive(Debug)]
pub struct Peers {
    tools: Isolated,
    address: SocketAddr,
    program: String,
    _registry: Server,
}

impl Peers {
    /// Starts the registry, with all that it keeps in this directory. `cache` is where its program stays for the next time.
    pub fn start(directory: &Path, cache: &Path) -> Result<Self> {
        let tools = Isolated::prepare(&directory.join("tools"))?;
        let program = packages::unpack("docker-registry", cache)?.join("usr/bin/docker-registry");
        let (address, config) = (ports::free_address()?, directory.join("registry.yml"));
        let storage = directory.join("registry");
        let settings = format!(
            "version: 0.1\nlog: {{ level: error }}\nhttp: {{ addr: \"{address}\" }}\n\
             storage: {{ filesystem: {{ rootdirectory: \"{}\" }} }}\n",
            storage.display()
        );
        fs::write(&config, settings)?;
        let mut command = Command::new(&program);
        command.arg("serve").arg(&config);
        let registry = Server::start(&command, &directory.join("registry.log"), address)?;
        Ok(Self { tools, address, program: program.to_string_lossy().into_owned(), _registry: registry })
    }

    /// Gives the registry the image of a layout.
    pub async fn push(&self, layout: &Path, name: &str) -> Result<()> {
        let from = format!("oci:{}", layout.display());
        self.tools.run(&["skopeo", "copy", "--dest-tls-verify=false", &from, &self.reference(name)]).await?;
        Ok(())
    }

    /// Pulls it with skopeo and unpacks it with umoci. With `fresh`, nothing of an earlier pull is there.
    pub async fn skopeo_and_umoci(&self, name: &str, fresh: bool) -> Result<Duration> {
        if fresh {
            self.tools
                .run(&["rm", "-rf", "layout", "bundle-first", "bundle-second", "fixed/0/cache"])
                .await?;
        }
        self.settle().await?;
        let (from, bundle) = (self.reference(name), format!("bundle-{name}"));
        let pull = format!(
            "skopeo copy --quiet --src-tls-verify=false {from} oci:layout:{name} && umoci unpack --image layout:{name} {bundle}"
        );
        self.timed(&["sh", "-c", &pull]).await
    }

    /// Pulls it with podman, in the same way.
    pub async fn podman(&self, name: &str, fresh: bool) -> Result<Duration> {
        if fresh {
            self.tools.run(&["podman", "rmi", "--all", "--force"]).await?;
            self.tools.run(&["rm", "-rf", "fixed/0/cache"]).await?;
        }
        self.settle().await?;
        self.timed(&["podman", "pull", "--quiet", "--tls-verify=false", &self.reference(name)]).await
    }

    /// What they are, for the report.
    pub async fn versions(&self) -> Result<String> {
        let registry = self.tools.run(&[&self.program, "--version"]).await?;
        let mut versions =
            vec![format!("docker-registry {}", registry.split(' ').next_back().context("no version")?)];
        for program in ["skopeo", "umoci", "podman"] {
            versions.push(self.tools.run(&[program, "--version"]).await?);
        }
        Ok(versions.join(", "))
    }

    fn reference(&self, name: &str) -> String {
        format!("docker://{}/bench/{name}:latest", self.address)
    }

    /// What was written before is on disk, and no part of what is measured.
    async fn settle(&self) -> Result<()> {
        self.tools.run(&["sync"]).await.map(drop)
    }

    async fn timed(&self, words: &[&str]) -> Result<Duration> {
        let began = Instant::now();
        self.tools.run(words).await?;
        Ok(began.elapsed())
    }
}
