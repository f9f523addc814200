//! Follows the README of an example as its reader would: runs its commands, one block after the other, in one shell at
//! the top of the repository, and compares what they print with what the README says. `page` reads the blocks,
//! `pattern` compares, `shell` runs.
//!
//! What the README takes for granted after its first block (`./dev up`), the scenario's cluster gives: `berth` in the
//! PATH, the admin socket in its variable, the edge. Only the edge's address differs, and replaces the documented one.

mod page;
mod pattern;
mod shell;

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use self::page::Step;
use self::shell::Shell;
use crate::cluster::Cluster;
use crate::programs::ROOT;
use crate::wait;

/// The address of the edge of `./dev up`, as in the READMEs.
const DOCUMENTED_ADDRESS: &str = "127.0.0.1:8080";
/// How long commands that a README says to repeat may take to succeed on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The README of an example, and how far it was followed.
#[derive(Debug)]
pub struct Guide {
    name: String,
    steps: VecDeque<Step>,
    address: String,
    shell: Shell,
}

impl Guide {
    /// Opens the README of an example, for this cluster.
    pub fn open(cluster: &Cluster, name: &str) -> Result<Self> {
        let directory = Path::new(ROOT).join("examples").join(name);
        let read = |file: &str| {
            let path = directory.join(file);
            fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
        };
        let project = directory.join("wrangler.jsonc").is_file();
        let declared = if project { "wrangler.jsonc" } else { "berth.toml" };
        let steps = page::steps(&read("README.md")?, &read(declared)?)
            .with_context(|| format!("examples/{name}/README.md"))?;
        let shell = Shell::start(cluster)?;
        Ok(Self { name: name.to_owned(), steps: steps.into(), address: cluster.address().to_string(), shell })
    }

    /// Follows the next block.
    pub async fn step(&mut self) -> Result<()> {
        let step = self.steps.pop_front().context("the README has no further block of commands")?;
        let location = format!("examples/{}/README.md:{}", self.name, step.line);
        let done = if step.repeat {
            wait::until("it to print what the README says", PATIENCE, async || self.once(&step).await).await
        } else {
            self.once(&step).await
        };
        done.with_context(|| format!("{location}:\n{}\n", step.commands.trim_end()))
    }

    /// Follows all that is left.
    pub async fn rest(&mut self) -> Result<()> {
        ensure!(!self.steps.is_empty(), "examples/{}/README.md: nothing is left to follow", self.name);
        while !self.steps.is_empty() {
            self.step().await?;
        }
        Ok(())
    }

    async fn once(&self, step: &Step) -> Result<()> {
        let here = |text: &str| text.replace(DOCUMENTED_ADDRESS, &self.address);
        let (printed, status) = self.shell.run(&here(&step.commands)).await?;
        ensure!(
            pattern::matches(&here(&step.expected), &printed),
            "expected:\n{}printed:\n{printed}",
            step.expected
        );
        ensure!(status == 0, "the last command of the block failed with {status}:\n{printed}");
        Ok(())
    }
}
