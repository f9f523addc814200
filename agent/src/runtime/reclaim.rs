//! Cleans up after containers: determines how those ended whose shim is gone, and frees their disks. What needs the ids
//! of the containers' users is done by separate processes (`sweep`, `wipe`).

use std::io;
use std::path::Path;
use std::process::Stdio;

use berth_common::ids::InstanceId;
use berth_common::outcome::{ExitReason, Outcome};
use berth_shim::metering::{self, Ended};
use berth_shim::removal::remove_tree;
use berth_shim::state_files::{read_json, write_json};

use super::disks::Disks;
use crate::helpers;

/// The end of a container whose shim is gone: as the shim recorded it, or else as lost, after a sweep.
pub(crate) async fn recorded_end(directory: &Path) -> Ended {
    let path = directory.join("exit.json");
    if let Ok(Some(ended)) = read_json(&path) {
        return ended;
    }
    if let Err(error) = run_sweep(directory).await {
        tracing::error!(directory = %directory.display(), %error, "cannot clean up after a lost container");
    }
    match read_json(&path) {
        Ok(Some(ended)) => ended,
        _ => {
            let outcome = Outcome::because(ExitReason::RuntimeLost, "the container's shim is gone");
            let ended = Ended { outcome, metered: metering::estimate(directory, None) };
            let _ = write_json(&path, &ended);
            ended
        }
    }
}

/// Completes the end of a shim that has ended without a record, and has not wiped its disk. The supervisor sweeps it as
/// well, but later, perhaps: when another has its disk already.
pub(crate) async fn sweep_left(directory: &Path) {
    // A sweep removes that once the disk is wiped.
    if !directory.join("disk.json").exists() {
        return;
    }
    if let Err(error) = run_sweep(directory).await {
        tracing::error!(directory = %directory.display(), %error, "cannot clean up after a lost container");
    }
}

/// Releases the disk of an ended instance.
pub(crate) async fn release(disks: &Disks, instance: InstanceId) {
    if let Some(dirty) = disks.release(instance) {
        wipe(disks, &dirty).await;
    }
}

/// Wipes a disk that its shim has not wiped. One that cannot be wiped is not used until root has made it anew.
pub(crate) async fn wipe(disks: &Disks, path: &Path) {
    let done = run_wipe(path).await;
    if let Err(error) = &done {
        tracing::error!(disk = %path.display(), %error, "cannot wipe a disk");
    }
    if disks.wiped(path) {
        return;
    }
    if done.is_ok() {
        tracing::error!(disk = %path.display(), "a disk is not empty after it was wiped");
    }
    disks.set_broken(path);
}

/// Removes a directory that may contain files of the container's users.
pub(crate) async fn remove(directory: &Path) -> io::Result<()> {
    match remove_tree(directory) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => run_wipe(directory).await,
        other => other,
    }
}

async fn run_wipe(directory: &Path) -> io::Result<()> {
    let status = helpers::command("wipe", directory).stdin(Stdio::null()).status().await?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("the wipe ended with {status}"))) }
}

async fn run_sweep(directory: &Path) -> io::Result<()> {
    let status = helpers::command("sweep", directory).stdin(Stdio::null()).status().await?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("the sweep ended with {status}"))) }
}
