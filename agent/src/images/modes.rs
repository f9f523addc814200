//! Starts the processes that unpack and delete layers: separate ones, because the files belong to the containers'
//! users.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use berth_common::image::Digest;
use berth_images::layer::Summary;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};

use super::Failure;
use crate::helpers;

/// A layer to unpack.
#[derive(Debug)]
pub(super) struct Job<'a> {
    /// The directory to create.
    pub(super) target: &'a Path,
    /// The spool file of the compressed layer.
    pub(super) blob: &'a Path,
    pub(super) digest: Digest,
    pub(super) length: u64,
    /// The digest before compression.
    pub(super) diff: Digest,
    /// The layers that it is unpacked onto, the topmost first; empty to unpack it alone.
    pub(super) parents: &'a [PathBuf],
}

/// A process that unpacks a layer while it is being fetched.
pub(super) struct Unpacker {
    child: Child,
    progress: Option<ChildStdin>,
}

impl Unpacker {
    pub(super) fn start(job: &Job<'_>) -> io::Result<Self> {
        let mut command = mode("unpack", job.target);
        command.arg("--digest").arg(job.digest.to_string()).arg("--length").arg(job.length.to_string());
        command.arg("--blob").arg(job.blob).arg("--diff-id").arg(job.diff.to_string());
        for parent in job.parents {
            command.arg("--parent").arg(parent);
        }
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        let progress = child.stdin.take();
        Ok(Self { child, progress })
    }

    /// Reports how many bytes of the layer are in the spool. False if the process has ended: `finish` gives the reason.
    pub(super) async fn advance(&mut self, there: u64) -> bool {
        match &mut self.progress {
            Some(progress) => progress.write_all(&there.to_be_bytes()).await.is_ok(),
            None => false,
        }
    }

    /// Waits for its end.
    pub(super) async fn finish(mut self) -> Result<Summary, Failure> {
        self.progress = None;
        let output = self.child.wait_with_output().await?;
        if !output.status.success() {
            return Err(failure_of(&output.stderr));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| {
            Failure::permanent(format!("the unpacking process wrote an unexpected result: {error}"))
        })
    }
}

/// Deletes a directory whose contents belong to the containers' users.
pub(super) async fn wipe(path: &Path) -> Result<(), Failure> {
    if !path.exists() {
        return Ok(());
    }
    let output = mode("wipe", path).stdin(Stdio::null()).output().await?;
    if output.status.success() { Ok(()) } else { Err(failure_of(&output.stderr)) }
}

/// A hidden mode of this program, on a directory.
fn mode(name: &str, directory: &Path) -> Command {
    let mut command = helpers::command(name, directory);
    command.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Its error text is shown to users, without a backtrace.
    command.env("RUST_BACKTRACE", "0");
    command
}

fn failure_of(stderr: &[u8]) -> Failure {
    let text = String::from_utf8_lossy(stderr);
    let text = text.trim().strip_prefix("Error: ").unwrap_or(text.trim());
    Failure::permanent(text.replace("\n\nCaused by:\n   ", ":").replace("\n   ", ""))
}
