//! The programs under test: built once a process, in the target directory and with the profile that this program was
//! built in.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};

/// Set to a directory, its programs are used and nothing is built: `berth`, `berth-agent`, `berth-edge`, `hello` and
/// `probe`.
pub const READY_PROGRAMS: &str = "BERTH_TEST_PROGRAMS";

/// The daemons and the command.
pub const DAEMONS: [&str; 3] = ["berth", "berth-agent", "berth-edge"];
/// The static server that containers run.
pub const HELLO: &str = "hello";
/// The static app that attacks what it runs in.
pub const PROBE: &str = "probe";
/// All programs.
pub const ALL: [&str; 5] = ["berth", "berth-agent", "berth-edge", HELLO, PROBE];

/// The top of the repository.
pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Where the programs were built.
#[derive(Debug, Clone)]
pub struct Programs {
    directory: PathBuf,
    hello: &'static str,
    probe: &'static str,
}

impl Programs {
    /// Builds them, or waits for another thread that does.
    pub fn get() -> Result<&'static Self> {
        static BUILT: OnceLock<Result<Programs, String>> = OnceLock::new();
        let built = BUILT.get_or_init(|| Self::find_or_build().map_err(|error| format!("{error:#}")));
        built.as_ref().map_err(|error| anyhow!("{error}"))
    }

    /// The file of one program.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(match name {
            HELLO => self.hello,
            PROBE => self.probe,
            name => name,
        })
    }

    fn find_or_build() -> Result<Self> {
        if let Some(ready) = std::env::var_os(READY_PROGRAMS) {
            return Ok(Self { directory: ready.into(), hello: HELLO, probe: PROBE });
        }
        let profile = profile_directory()?;
        let target = profile.parent().context("the target directory is missing")?;
        let name = profile.file_name().and_then(|name| name.to_str()).context("the profile has no name")?;
        cargo(&mut build(target, name))?;
        let examples = examples()?;
        examples.iter().try_for_each(|(name, package)| install(&profile.join(package), name))?;
        Ok(Self { directory: profile, hello: "example-hello", probe: "berth-probe" })
    }
}

/// The examples with a program of their own: names, and packages.
fn examples() -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(Path::new(ROOT).join("examples"))? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").exists() {
            let name = entry.file_name().to_string_lossy().into_owned();
            found.push((name.clone(), format!("example-{name}")));
        }
    }
    Ok(found)
}

/// Puts an example where its `berth.toml` expects it, as `./dev examples` does. Atomically: another process may be
/// reading it.
fn install(program: &Path, name: &str) -> Result<()> {
    let directory = Path::new(ROOT).join("target/examples");
    fs::create_dir_all(&directory)?;
    let new = directory.join(format!(".{name}-{}", std::process::id()));
    fs::copy(program, &new).with_context(|| format!("copy {} to {}", program.display(), new.display()))?;
    Ok(fs::rename(&new, directory.join(name))?)
}

/// `target/debug`, from the path of this program: `target/debug/NAME` or `target/debug/deps/NAME`.
fn profile_directory() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program's own file")?;
    let directory = own.parent().context("this program has no directory")?;
    let above = || directory.parent().map(Path::to_owned).context("`deps` has no parent");
    if directory.ends_with("deps") { above() } else { Ok(directory.to_owned()) }
}

/// Builds all programs as `cargo test --workspace` and the benches' `cargo build` have them, so that nothing is built
/// twice.
fn build(target: &Path, profile_name: &str) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--quiet", "--workspace", "--bins", "--target-dir"]).arg(target);
    match profile_name {
        // The directory of the profile `dev`. Dependencies have the features that tests ask for only where a test is
        // built.
        "debug" => command.args(["--profile", "dev", "--test", "e2e"]),
        name => command.args(["--profile", name]),
    };
    command.current_dir(ROOT);
    std::env::vars_os().map(|(name, _)| name).filter(|name| is_of_this_package(name)).for_each(|name| {
        command.env_remove(name);
    });
    command
}

/// What cargo tells the program that it runs about its package. Build scripts of others must not see it: some then run
/// again, and all that depends on them is built anew.
fn is_of_this_package(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_"]
        .iter()
        .any(|start| name.starts_with(start))
}

fn cargo(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {}", env!("CARGO")))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "building the programs under test failed:\n{stderr}");
    Ok(())
}
