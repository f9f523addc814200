//! What ARCHITECTURE.md says of the code is true of the code: which packages a crate is built from (`crates`), and which
//! module imports which (`modules`, against the page's table, `page`).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod crates;
mod imports;
mod modules;
mod page;

use std::path::{Path, PathBuf};

/// The directory of the workspace.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
