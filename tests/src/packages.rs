//! Debian packages that a bench or a scenario needs: root installs them, with a message; for other users an error names
//! them.

use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::machine;

/// Held while packages are looked for and installed: scenarios run at the same time, and apt takes one at a time.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Makes sure that each of these programs exists, by installing the package that is given with it.
pub fn need(programs: &[(&str, &str)]) -> Result<()> {
    let _alone = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
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

fn apt_get(args: &[&str]) -> Result<()> {
    run(Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive"))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", stderr.trim());
    Ok(())
}
