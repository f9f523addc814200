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

/// Flags that make the examples images by themselves; the same as `./dev examples` uses, so that one build serves both.
const STATIC_FLAGS: &str = "-C target-feature=+crt-static -C strip=symbols";

/// The top of the repository.
pub(crate) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Where the programs were built.
#[derive(Debug, Clone)]
pub struct Programs {
    daemons: PathBuf,
    hello: PathBuf,
    probe: PathBuf,
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
        match name {
            HELLO => self.hello.clone(),
            PROBE => self.probe.clone(),
            _ => self.daemons.join(name),
        }
    }

    fn find_or_build() -> Result<Self> {
        if let Some(ready) = std::env::var_os(READY_PROGRAMS) {
            let ready = PathBuf::from(ready);
            return Ok(Self { hello: ready.join(HELLO), probe: ready.join(PROBE), daemons: ready });
        }
        let profile = profile_directory()?;
        let target = profile.parent().context("the target directory is missing")?;
        let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let name = profile.file_name().and_then(|name| name.to_str()).context("the profile has no name")?;
        // With all of the workspace's features, as `cargo test --workspace` has them: nothing is built twice.
        cargo(&mut build(target, name, &["--workspace", "--bins"]))?;
        let examples = examples()?;
        let mut packages = vec!["-p", "berth-probe", "--target", &triple];
        packages.extend(examples.iter().flat_map(|(_, package)| ["-p", package]));
        cargo(build(target, name, &packages).env("RUSTFLAGS", STATIC_FLAGS))?;
        let built = target.join(triple).join(name);
        examples.iter().try_for_each(|(name, package)| install(&built.join(package), name))?;
        Ok(Self { daemons: profile, hello: built.join("example-hello"), probe: built.join("berth-probe") })
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

/// Puts an example where its `berth.toml` expects it, as `./dev examples` does. In one step: somebody may be reading it.
fn install(program: &Path, name: &str) -> Result<()> {
    let directory = Path::new(ROOT).join("target/examples");
    fs::create_dir_all(&directory)?;
    let new = directory.join(format!(".{name}-{}", std::process::id()));
    fs::copy(program, &new).with_context(|| format!("copy {} to {}", program.display(), new.display()))?;
    Ok(fs::rename(&new, directory.join(name))?)
}

/// `target/debug`, from the place of this program: `target/debug/NAME` or `target/debug/deps/NAME`.
fn profile_directory() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program's own file")?;
    let directory = own.parent().context("this program has no directory")?;
    let above = || directory.parent().map(Path::to_owned).context("`deps` has no parent");
    if directory.ends_with("deps") { above() } else { Ok(directory.to_owned()) }
}

fn build(target: &Path, profile_name: &str, what: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    // The directory of the profile `dev` is called `debug`.
    let profile = if profile_name == "debug" { "dev" } else { profile_name };
    command.args(["build", "--quiet", "--profile", profile, "--target-dir"]).arg(target).args(what);
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
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "building the programs under test failed:\n{said}");
    Ok(())
}
