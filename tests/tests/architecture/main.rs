//! What ARCHITECTURE.md says about the code is true: which packages a crate is built from (`crates`), and which module
//! imports which (`modules`, against the page's table, `page`). Files and functions that the pages name exist (`documents`). And what `systemd/install` says of itself is (`install`).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod crates;
mod documents;
mod imports;
mod install;
mod modules;
mod page;

use std::path::{Path, PathBuf};

/// The directory of the workspace.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
