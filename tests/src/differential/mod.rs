//! Berth beside workerd, the runtime that programs are written for: small programs, each driven through the same steps on both,
//! and whatever differs.
//!
//! ```text
//!  tests/differential/cases/NAME/   wrangler.jsonc, worker.js   the program, as a user has it
//!                                   drive.json                  what is asked of it, in which order (`case`, `drive`, `socket`)
//!                                   truth.json                  what workerd answered (`truth`), or what is written by hand
//!  tests/differential/differences.json                          what may differ, and why (`compare`)
//!  tests/differential/lists.json                                what workerd made of lists of operations (`fuzz`)
//! ```
//!
//! Times are never compared, nor what each hop of HTTP decides for itself.

pub mod berth;
pub mod case;
pub mod compare;
pub mod drive;
pub mod fuzz;
pub mod origin;
mod socket;
pub mod truth;

use std::path::{Path, PathBuf};

use crate::programs::ROOT;

/// Where cases, truths and accepted differences are.
pub fn directory() -> PathBuf {
    Path::new(ROOT).join("tests/differential")
}
