//! `berth wrangler`: what the scripts of a Workers project call wrangler for, with the commands that Berth has for it. What it has
//! none for is refused by name.

mod containers;
mod secrets;
mod types;

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use berth_project::{Config, Mode};

use super::{deploy, dev};
use crate::args::{
    AsWrangler, Deploy, Dev, DevDirs, OfProject, Rest, Show, TermArgs, Wrangler, WranglerCommand,
    WranglerDeploy, WranglerDev,
};
use crate::deployable::Deployable;
use crate::failure::bad_input;
use crate::prefetch::Prefetch;
use crate::{output, worker};

/// The port that wrangler takes where none is named.
const USUAL_PORT: u16 = 8787;
/// The variable that names an environment where the command line does not.
const ENVIRONMENT: &str = "CLOUDFLARE_ENV";
/// What the names of configurations end in.
const ENDINGS: [&str; 3] = ["jsonc", "json", "toml"];

pub(crate) async fn run(args: Wrangler) -> Result<()> {
    if args.version {
        return Ok(output::line(env!("CARGO_PKG_VERSION"))?);
    }
    if let Some(directory) = &args.of.cwd {
        let failed = || format!("--cwd {}", directory.display());
        std::env::set_current_dir(directory).with_context(failed).map_err(bad_input)?;
    }
    let project = Project::of(args.of)?;
    let mut command = args.command;
    if let Some(admin) = command.as_mut().and_then(WranglerCommand::admin) {
        admin.beside = Some(project.directory.clone());
    }
    match command {
        Some(WranglerCommand::Dev(args)) => dev_as(&project, args).await,
        Some(WranglerCommand::Deploy(args)) => deploy_as(&project, args).await,
        Some(WranglerCommand::Types(args)) => types::run(&project, &args),
        Some(WranglerCommand::Secret(command)) => secrets::run(&project, command).await,
        Some(WranglerCommand::SecretsStore(command)) => secrets::run_stores(command).await,
        Some(WranglerCommand::Containers(command)) => containers::run(command).await,
        Some(WranglerCommand::Other(words)) => Err(not_there("", &words)),
        None => Err(bad_input(anyhow!("expected a command, such as dev or deploy; --help lists them"))),
    }
}

/// The project that is meant.
struct Project {
    /// Its configuration where that is named, or else its directory.
    at: PathBuf,
    directory: PathBuf,
    environment: Option<String>,
}

impl Project {
    fn of(args: OfProject) -> Result<Self> {
        let variable = || std::env::var(ENVIRONMENT).ok();
        let environment = args.env.or_else(variable).filter(|name| !name.is_empty());
        if let Some(file) = &args.config {
            check_config(file)?;
        }
        let at = args.config.unwrap_or_else(|| PathBuf::from("."));
        let directory = worker::directory_of(&at).to_owned();
        Ok(Self { at, directory, environment })
    }

    fn configuration(&self) -> Result<Config> {
        worker::configuration(&self.at, self.environment.as_deref())
    }

    /// The entry module is the configuration's. On the command line its path begins at the current directory.
    fn check_script(&self, script: Option<&Path>, config: &Config) -> Result<()> {
        let Some(script) = script else { return Ok(()) };
        let main = config.main.as_ref().map(|main| whole(&self.directory.join(&main.path))).transpose()?;
        if main == Some(whole(script)?) {
            return Ok(());
        }
        Err(bad_input(anyhow!(
            "{}: the entry module is what the configuration's `main` names; expected it there",
            script.display()
        )))
    }
}

/// A path from the root on, without steps back. Links on it are not followed.
fn whole(path: &Path) -> Result<PathBuf> {
    let mut whole = PathBuf::new();
    for part in std::path::absolute(path)?.components() {
        match part {
            Component::ParentDir => drop(whole.pop()),
            part => whole.push(part),
        }
    }
    Ok(whole)
}

/// A configuration may have any name, whose ending says how it is written.
fn check_config(file: &Path) -> Result<()> {
    let wrong = |what| Err(bad_input(anyhow!("--config {}: {what}", file.display())));
    let ending = file.extension().and_then(OsStr::to_str).unwrap_or_default();
    if !ENDINGS.contains(&ending) {
        return wrong("expected a file whose name ends in .jsonc, .json or .toml");
    }
    if file.is_file() { Ok(()) } else { wrong("there is no such file") }
}

async fn dev_as(project: &Project, args: WranglerDev) -> Result<()> {
    refuse(&args.rest)?;
    let config = project.configuration()?;
    project.check_script(args.script.as_deref(), &config)?;
    let as_wrangler = AsWrangler { project: project.at.clone(), vars: args.vars.iter().cloned().collect() };
    dev::run(&Dev {
        command: None,
        at: DevDirs { dir: project.directory.clone(), state: args.persist_to.clone() },
        env: project.environment.clone(),
        listen: listen(&args, &config)?,
        nodes: 1,
        quiet_containers: false,
        detach: false,
        disk_slots: None,
        background: false,
        as_wrangler: Some(as_wrangler),
    })
    .await
}

/// Where to take requests: as the command line says, or the configuration, or wrangler's usual port if that is free.
fn listen(args: &WranglerDev, config: &Config) -> Result<SocketAddr> {
    let (ip, port) = &config.dev;
    let configured = || -> Result<IpAddr> {
        let Some(ip) = ip else { return Ok(Ipv4Addr::LOCALHOST.into()) };
        let ip = if ip == "localhost" { "127.0.0.1" } else { ip.as_str() };
        ip.parse().map_err(|_| bad_input(anyhow!("dev.ip: {ip:?} is no address")))
    };
    let ip = args.ip.map_or_else(configured, Ok)?;
    let port = args.port.or(*port).unwrap_or_else(|| {
        let free = TcpListener::bind((ip, USUAL_PORT)).is_ok();
        if free { USUAL_PORT } else { 0 }
    });
    Ok(SocketAddr::new(ip, port))
}

async fn deploy_as(project: &Project, args: WranglerDeploy) -> Result<()> {
    refuse(&args.rest)?;
    project.check_script(args.script.as_deref(), &project.configuration()?)?;
    let mut app = Deployable::project(&project.at, project.environment.as_deref(), Mode::Production)?;
    app.set_vars(&args.vars.into_iter().collect());
    if let Some(name) = args.name {
        app.set_name(name);
    }
    app.remark();
    if args.dry_run {
        return Ok(output::line(format_args!("{} could be deployed", app.name()))?);
    }
    let Prefetch { nodes, timeout } = Prefetch::default();
    let terms = Deploy {
        dir: project.directory.clone(),
        env: project.environment.clone(),
        dry_run: false,
        terms: TermArgs { now: false, expect: None },
        wait_for: nodes,
        wait_timeout: timeout,
        force: false,
        allow_unplaceable: false,
        show: Show { json: false, wide: false, admin: args.admin },
    };
    deploy::give(&terms, &app).await
}

/// Refuses options that would be wrong to ignore, all at once.
fn refuse(rest: &Rest) -> Result<()> {
    if rest.refused.is_empty() {
        return Ok(());
    }
    let line = |(name, instead): &(&str, &str)| {
        format!("--{name}: not supported by this version of Berth: {instead}")
    };
    Err(bad_input(anyhow!(rest.refused.iter().map(line).collect::<Vec<_>>().join("\n"))))
}

/// Commands of wrangler's, and what Berth has in their place.
const ELSEWHERE: [(&str, &str); 14] = [
    ("tail", "`berth logs -f --app APP` shows what programs write"),
    ("delete", "`berth apps delete APP` ends an app"),
    ("rollback", "`berth rollback APP` goes back to an earlier version"),
    ("versions", "`berth versions APP` lists them"),
    ("deployments", "`berth versions APP` lists them"),
    ("init", "`berth init` writes a berth.toml"),
    ("login", "`berth token` makes tokens for an edge"),
    ("check", "`berth check` reads a project"),
    ("containers delete", "`berth apps delete APP` ends an app with its containers"),
    ("containers registries", "`berth registries` keeps users of other registries"),
    ("containers ssh", "`berth connect` reaches a port of a container"),
    (
        "secrets-store store create",
        "a store is there once it has a secret, which `secrets-store secret create` puts",
    ),
    (
        "secrets-store store delete",
        "a store goes with its last secret, which `secrets-store secret delete` deletes",
    ),
    (
        "secrets-store secret update",
        "`secrets-store secret create` puts a secret in place of the one that is there",
    ),
];

/// What there is no command for.
fn not_there(group: &str, words: &[OsString]) -> anyhow::Error {
    let word = words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let name = format!("{group}{word}");
    let instead = ELSEWHERE.iter().find(|(known, _)| *known == name);
    let instead = instead.map(|(_, instead)| format!(": {instead}")).unwrap_or_default();
    bad_input(anyhow!("wrangler {name}: not supported by this version of Berth{instead}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_refused_by_name_with_what_is_in_its_place() {
        let told = |group: &str, word: &str| not_there(group, &[word.into(), "x".into()]).to_string();
        assert_eq!(told("", "kv"), "wrangler kv: not supported by this version of Berth");
        assert!(told("", "tail").contains("berth logs -f"));
        assert!(told("containers ", "registries").contains("berth registries"));
        let rest = Rest { refused: vec![("outdir", "a"), ("remote", "b")] };
        assert_eq!(refuse(&rest).unwrap_err().to_string().lines().count(), 2);
        assert!(refuse(&Rest::default()).is_ok());
    }

    #[test]
    fn paths_are_compared_from_the_root_on() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(whole(Path::new("./a/../b/c")).unwrap(), here.join("b/c"));
        assert_eq!(whole(Path::new("/a/./b/../../../c")).unwrap(), Path::new("/c"));
    }
}
