//! Debian packages that a bench or a scenario needs: installed by root, with a line that says so; named to everybody else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::machine;

/// Held while packages are looked for and installed: scenarios run at the same time, and apt takes one at a time.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Makes sure that each of these programs is there, by installing the package beside it.
pub fn need(programs: &[(&str, &str)]) -> Result<()> {
    let _alone = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let missing: Vec<&str> =
        programs.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    ensure!(machine::is_root(), "more programs are needed; as root run: apt-get install {list}");
    println!("installing the Debian packages that are needed: {list}");
    apt_get(&["update", "-q"])?;
    apt_get(&[&["install", "-q", "-y", "--no-install-recommends"], &missing[..]].concat())
}

/// Unpacks a package below a directory, without installing it: some would start a service that nobody asked for.
pub fn unpack(package: &str, directory: &Path) -> Result<PathBuf> {
    let root = directory.join(package);
    if root.is_dir() {
        return Ok(root);
    }
    fs::create_dir_all(directory)?;
    let work = tempfile::tempdir_in(directory)?;
    let user = "APT::Sandbox::User=root";
    run(Command::new("apt-get").args(["download", "-q", "-o", user, package]).current_dir(work.path()))?;
    let fetched = fs::read_dir(work.path())?.next().context("apt-get has fetched nothing")??.path();
    let unpacked = work.path().join("unpacked");
    run(Command::new("dpkg-deb").arg("-x").args([&fetched, &unpacked]))?;
    fs::rename(unpacked, &root).with_context(|| format!("make {}", root.display()))?;
    Ok(root)
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(Into::into);
    std::env::split_paths(&path).chain(usual).any(|directory| directory.join(program).is_file())
}

fn apt_get(words: &[&str]) -> Result<()> {
    run(Command::new("apt-get").args(words).env("DEBIAN_FRONTEND", "noninteractive"))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", said.trim());
    Ok(())
}
