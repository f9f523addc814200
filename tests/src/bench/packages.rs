//! Debian packages that a bench needs: installed by root, with a line that says so; named to everybody else.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::machine;

/// Makes sure that each of these programs is there, by installing the package beside it.
pub fn need(programs: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> =
        programs.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    ensure!(machine::is_root(), "this needs more programs; as root run: apt-get install {list}");
    println!("installing the Debian packages that this needs: {list}");
    apt_get(&["update", "-q"])?;
    apt_get(&[&["install", "-q", "-y", "--no-install-recommends"], &missing[..]].concat())
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(Into::into);
    std::env::split_paths(&path).chain(usual).any(|directory| directory.join(program).is_file())
}

fn apt_get(words: &[&str]) -> Result<()> {
    let output = Command::new("apt-get").args(words).env("DEBIAN_FRONTEND", "noninteractive").output();
    let output = output.context("run `apt-get`")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "apt-get {}: {}", words.join(" "), said.trim());
    Ok(())
}
