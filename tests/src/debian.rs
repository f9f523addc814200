//! Debian with Node.js as an image, made once. Needs root; see `tests/images/debian`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::{Context, Result, ensure};

use crate::{machine, packages, programs};

/// What is needed to make it: programs, and the packages that they are in.
const PROGRAMS: [(&str, &str); 3] =
    [("debootstrap", "debootstrap"), ("buildah", "buildah"), ("umoci", "umoci")];

/// Held while it is made: scenarios that need it run at the same time.
static MAKING: Mutex<()> = Mutex::new(());

/// The directory of its layout, in which `app` runs as an ordinary user, and `root` as root.
pub fn layout() -> Result<PathBuf> {
    ensure!(machine::is_root(), "an image of Debian is made by root only");
    packages::need(&PROGRAMS)?;
    let _alone = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new(script("debian")).output().context("run tests/images/debian")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "tests/images/debian: {}", stderr.trim());
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// A file next to the script that makes the image.
pub fn script(name: &str) -> PathBuf {
    Path::new(programs::ROOT).join("tests/images").join(name)
}
