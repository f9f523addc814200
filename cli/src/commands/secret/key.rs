//! `berth secret init` and `rotate`. Key files are handled by `berth-edge`; this calls it and combines the steps.
//!
//! A rotation: a new key is added to the file; the edge reads it and encrypts everything with it, durably; what is no
//! longer used is dropped from the file. Between any two of these, every secret is under a key that is in the file.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result, bail};
use berth_api::secrets::{Rotation, SecretOfApp};
use berth_common::spec::StoredSecret;
use tokio::process::Command;

use crate::admin::Admin;
use crate::args::{AdminArgs, KeyFileArgs};
use crate::output;

pub(super) async fn init(place: &KeyFileArgs) -> Result<()> {
    let made = edge_program(&["init"], place, &[]).await?;
    output::note!(
        "Keep a copy of it in a safe place, and not beside copies of the store: without it no secret can be read."
    );
    Ok(output::line(made)?)
}

/// Makes the key file of a state directory, unless there is one.
pub(crate) async fn make_if_missing(state: &Path) -> Result<()> {
    if state.join("secret.key").exists() {
        return Ok(());
    }
    let place = KeyFileArgs { state: Some(state.to_owned()), key_file: None };
    edge_program(&["init"], &place, &[]).await.map(drop)
}

pub(super) async fn rotate(place: &KeyFileArgs, admin: &AdminArgs) -> Result<()> {
    let admin = admin.edge()?;
    // An interrupted rotation is finished first, so that keys do not accumulate. If the edge uses another file or does
    // not run, nothing is begun.
    let before = finish(&admin, place).await?;
    let key = edge_program(&["add"], place, &[]).await?;
    let done = finish(&admin, place)
        .await
        .context("the new key is in the file, and the old ones too: do it again")?;
    warn_of_unreadable(&done.rotation);
    let (again, dropped) = (before.rotation.rotated + done.rotation.rotated, before.dropped + done.dropped);
    Ok(output::line(format_args!(
        "the key is now {key}; secrets encrypted again: {again}, old keys dropped: {dropped}"
    ))?)
}

/// Says what a rotation would do. An edge of an earlier version does not know the question, and is not asked to rotate.
pub(super) async fn try_rotation(place: &KeyFileArgs, admin: &AdminArgs) -> Result<()> {
    let rotation: Rotation = admin.edge()?.get("/v1/secrets/rotate").await?;
    let keep = ["keep", "--dry-run", "--current", &rotation.current];
    let older = edge_program(&keep, place, &rotation.in_use).await?;
    warn_of_unreadable(&rotation);
    let (again, dropped) = (rotation.rotated, dropped(&rotation, older.parse().unwrap_or_default()));
    Ok(output::line(format_args!(
        "a new key would be made; secrets that would be encrypted again: {again}, old keys that would be dropped: {dropped}"
    ))?)
}

/// How many keys would be dropped in all: besides these older ones that which is current now, unless something that cannot be
/// read is under it.
fn dropped(rotation: &Rotation, older: usize) -> usize {
    older + usize::from(!rotation.in_use.contains(&rotation.current))
}

fn warn_of_unreadable(rotation: &Rotation) {
    for SecretOfApp { app, name } in &rotation.unreadable {
        output::note!("warning: the secret {name} of {app} cannot be read, and stays as it is");
    }
    for StoredSecret { store, name } in &rotation.unreadable_of_stores {
        output::note!("warning: the secret {name} of the store {store} cannot be read, and stays as it is");
    }
    for registry in &rotation.unreadable_registries {
        output::note!("warning: the password for {registry} cannot be read, and stays as it is");
    }
}

/// What was done.
struct Done {
    rotation: Rotation,
    dropped: usize,
}

/// Has the edge encrypt everything with the file's current key, and drops what is not used any more.
async fn finish(admin: &Admin, place: &KeyFileArgs) -> Result<Done> {
    let rotation: Rotation = admin.post("/v1/secrets/rotate", &()).await?;
    let dropped = edge_program(&["keep", "--current", &rotation.current], place, &rotation.in_use).await?;
    Ok(Done { rotation, dropped: dropped.parse().unwrap_or_default() })
}

/// Runs `berth-edge secret-key`, and returns its output.
async fn edge_program(verb: &[&str], place: &KeyFileArgs, keys: &[String]) -> Result<String> {
    let program = std::env::current_exe().context("the place of this program")?.with_file_name("berth-edge");
    let mut command = Command::new(&program);
    command.arg("secret-key").args(verb).args(options(place)).args(keys);
    let output = command.output().await.with_context(|| {
        format!("cannot run {}: berth-edge must be beside berth for this", program.display())
    })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{}", stderr.trim().trim_start_matches("error: "));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn options(place: &KeyFileArgs) -> Vec<OsString> {
    let named = [("--state", &place.state), ("--key-file", &place.key_file)];
    named
        .into_iter()
        .filter_map(|(name, path)| path.as_ref().map(|path| [OsString::from(name), path.into()]))
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_that_is_current_now_is_dropped_too_unless_it_is_needed() {
        let rotation = |in_use: &[&str]| Rotation {
            current: "2".to_owned(),
            rotated: 1,
            unreadable: Vec::new(),
            unreadable_of_stores: Vec::new(),
            unreadable_registries: Vec::new(),
            in_use: in_use.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(
            [dropped(&rotation(&[]), 0), dropped(&rotation(&["1"]), 3), dropped(&rotation(&["2"]), 3)],
            [1, 4, 3]
        );
    }
}
