//! podman, buildah, skopeo and umoci, with all their state in one directory. Needs root.
//!
//! See `tests/images/isolated`: their mounts end with them, and nothing is left on the machine.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::{machine, packages, programs};

/// What is needed of the machine: programs, and the packages that they are in.
const PROGRAMS: [(&str, &str); 4] =
    [("podman", "podman"), ("buildah", "buildah"), ("skopeo", "skopeo"), ("umoci", "umoci")];
/// How long one command may take: none here moves more than some hundred megabytes on this machine.
const TIMEOUT: Duration = Duration::from_secs(90);

/// The programs, and where they keep everything.
#[derive(Debug, Clone)]
pub struct Isolated {
    directory: PathBuf,
}

impl Isolated {
    /// Installs missing packages. Creates the directory; the owner of its parent removes it.
    pub fn prepare(directory: &Path) -> Result<Self> {
        ensure!(machine::is_root(), "podman and buildah mount file systems here: run this as root");
        packages::need(&PROGRAMS)?;
        std::fs::create_dir_all(directory)?;
        Ok(Self { directory: directory.canonicalize()? })
    }

    /// A path for files that they exchange: `oci:PATH:tag`, `docker-archive:PATH`, `dir:PATH`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Runs a command and returns its output, also if it fails. Dropping the future kills it.
    pub async fn output(&self, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(Path::new(programs::ROOT).join("tests/images/isolated"));
        command.arg(&self.directory).args(args).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(TIMEOUT, command.output()).await;
        output.with_context(|| format!("{args:?} did not end"))?.with_context(|| format!("run {args:?}"))
    }

    /// Runs a command that succeeds, and returns what it printed.
    pub async fn run(&self, args: &[&str]) -> Result<String> {
        let output = self.output(args).await?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {}", args.join(" "), stderr.trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs a command that must fail, and returns its error message.
    pub async fn refused(&self, args: &[&str]) -> Result<String> {
        let output = self.output(args).await?;
        ensure!(!output.status.success(), "{} succeeded, and should not have", args.join(" "));
        Ok(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}
