//! workerd, the runtime that Workers are written for, as npm has it: installed when it is first asked for, and started for a
//! Workers project with a configuration that says the same as the project's own.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use berth_project::{ClassStorage, Config, Lineage, Mode, Program, Target, Var};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::programs::ROOT;
use crate::{ports, wait};

/// The version that is held against, exactly: another one may answer otherwise.
pub const VERSION: &str = "1.20261117.1";
/// How long it may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Where what it keeps need not wait for a disk.
const MEMORY: &str = "/dev/shm";
/// What it writes besides the lines of programs: where in its source something went wrong, and the stack below it.
const OWN_LINES: [&str; 2] = ["workerd/", "stack: "];

/// The program, installed below `target` where it is not there yet.
pub async fn program() -> Result<PathBuf> {
    let directory = Path::new(ROOT).join(format!("target/workerd-{VERSION}"));
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "64",
        "aarch64" => "arm64",
        other => bail!("there is no workerd for {other}"),
    };
    let program =
        directory.join(format!("node_modules/@cloudflare/workerd-linux-{architecture}/bin/workerd"));
    if !program.exists() {
        install(&directory).await?;
    }
    ensure!(program.exists(), "npm did not install {}", program.display());
    Ok(program)
}

async fn install(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    let mut command = Command::new("npm");
    command.args(["install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts"]);
    command.arg("--prefix").arg(directory).arg(format!("workerd@{VERSION}"));
    let output = command.output().await.context("workerd is installed with npm, which could not be run")?;
    ensure!(output.status.success(), "npm install: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// workerd with one project.
#[derive(Debug)]
pub struct Workerd {
    program: PathBuf,
    files: TempDir,
    /// Where it listens.
    pub address: SocketAddr,
    running: Option<Child>,
}

impl Workerd {
    /// Starts it for the project in a directory.
    pub async fn start(program: &Path, project: &Path) -> Result<Self> {
        let files =
            if Path::new(MEMORY).is_dir() { tempfile::tempdir_in(MEMORY)? } else { tempfile::tempdir()? };
        let address = ports::free_address()?;
        configure(project, files.path(), address)?;
        let mut started = Self { program: program.to_owned(), files, address, running: None };
        started.run().await?;
        Ok(started)
    }

    /// Kills it and starts it again, with what it has kept.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill().await?;
        self.run().await
    }

    /// Kills it.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(mut running) = self.running.take() {
            running.kill().await?;
        }
        Ok(())
    }

    /// The lines that programs have written.
    pub fn console(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(self.output())?;
        let own = |line: &&str| !OWN_LINES.iter().any(|start| line.starts_with(start));
        Ok(text.lines().filter(own).map(str::to_owned).collect())
    }

    fn output(&self) -> PathBuf {
        self.files.path().join("output")
    }

    async fn run(&mut self) -> Result<()> {
        let output = fs::OpenOptions::new().create(true).append(true).open(self.output())?;
        let mut command = Command::new(&self.program);
        command.args(["serve", "--experimental", "config.capnp"]).current_dir(self.files.path());
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).kill_on_drop(true);
        let mut running = command.spawn().context("start workerd")?;
        let (address, output) = (self.address, self.output());
        wait::until("workerd to listen", START_TIMEOUT, async || {
            if let Some(status) = running.try_wait()? {
                let said = fs::read_to_string(&output)?;
                return Ok(Err(anyhow::anyhow!("workerd has ended: {status}\n{said}")));
            }
            TcpStream::connect(address).await?;
            Ok(Ok(()))
        })
        .await??;
        self.running = Some(running);
        Ok(())
    }
}

/// Writes a configuration with the modules of a project.
fn configure(project: &Path, into: &Path, address: SocketAddr) -> Result<()> {
    let read = berth_project::read(project, None, Mode::Production);
    let read = read.map_err(|refused| anyhow::anyhow!("{}: {:?}", project.display(), refused.problems))?;
    let program = read.program.context("the project has no program")?;
    fs::create_dir_all(into.join("kept"))?;
    let mut config = String::from("using Workerd = import \"/workerd/workerd.capnp\";\n");
    let services = "(name = \"main\", worker = .main), (name = \"kept\", disk = (path = \"kept\", writable = true)), \
        (name = \"world\", network = (allow = [\"public\", \"private\", \"local\"]))";
    writeln!(config, "const config :Workerd.Config = (services = [{services}],")?;
    writeln!(
        config,
        "sockets = [(name = \"http\", address = \"{address}\", http = (), service = \"main\")]);"
    )?;
    writeln!(config, "const main :Workerd.Worker = (globalOutbound = \"world\",")?;
    writeln!(config, "modules = [{}],", modules(&program, into)?)?;
    config.push_str(&described(&read.config));
    config.push_str(");\n");
    Ok(fs::write(into.join("config.capnp"), config)?)
}

/// The modules, that to begin with first.
fn modules(program: &Program, into: &Path) -> Result<String> {
    let others = program.modules.keys().filter(|name| **name != program.entry);
    let mut list = Vec::new();
    for (index, name) in std::iter::once(&program.entry).chain(others).enumerate() {
        let module = program.modules.get(name).with_context(|| format!("no module {name}"))?;
        let strange = module
            .imports
            .values()
            .any(|target| matches!(target, Target::Builtin(name) if name.starts_with("berth:")));
        ensure!(!strange, "{name} imports what only Berth has");
        fs::write(into.join(format!("module-{index}.js")), &module.source)?;
        list.push(format!("(name = {}, esModule = embed \"module-{index}.js\")", quoted(name)));
    }
    Ok(list.join(", "))
}

/// Date, flags, bindings and classes.
fn described(config: &Config) -> String {
    let flags: Vec<String> = config.compatibility.flags.iter().map(|flag| quoted(flag)).collect();
    let objects = config.objects.iter().map(|bound| {
        format!("(name = {}, durableObjectNamespace = {})", quoted(&bound.name), quoted(bound.class.as_str()))
    });
    let vars = config.vars.iter().map(|(name, value)| {
        let (kind, text) = match value {
            Var::Text(text) => ("text", text.clone()),
            Var::Json(value) => ("json", value.to_string()),
        };
        format!("(name = {}, {kind} = {})", quoted(name), quoted(&text))
    });
    let bindings: Vec<String> = objects.chain(vars).collect();
    format!(
        "compatibilityDate = {}, compatibilityFlags = [{}],\nbindings = [{}],\ndurableObjectNamespaces = [{}], \
         durableObjectStorage = (localDisk = \"kept\")",
        quoted(&config.compatibility.date),
        flags.join(", "),
        bindings.join(", "),
        classes(&config.lineage).join(", ")
    )
}

fn classes(lineage: &Lineage) -> Vec<String> {
    let Lineage::Migrations(steps) = lineage else { return Vec::new() };
    let new = steps.iter().flat_map(|step| &step.new);
    new.map(|(class, storage)| {
        let (name, sql) = (quoted(class.as_str()), *storage == ClassStorage::Sqlite);
        format!("(className = {name}, uniqueKey = {name}, enableSql = {sql})")
    })
    .collect()
}

/// A text as the configuration has it.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}
