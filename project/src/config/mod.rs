//! A project's configuration: `wrangler.jsonc`, `wrangler.json` or `wrangler.toml`, and beside it a `berth.toml` with what
//! wrangler has no key for. From the files' text to a checked [`Config`]. Knows nothing of modules.

mod assets;
mod build;
mod compatibility;
mod containers;
mod environment;
mod exports;
mod find;
mod images;
mod keys;
mod lineage;
mod migrations;
mod objects;
mod own;
mod parse;
mod routes;
mod section;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::path::PathBuf;

use berth_common::cron::Cron;
use berth_common::ids::{AppName, ClassName, VariableName};
use berth_common::manifest::Position;

pub use assets::{Assets, HtmlHandling, NotFoundHandling, RunWorkerFirst};
#[cfg(test)]
pub(crate) use build::Rule;
pub(crate) use build::{Build, RuleKind};
pub use compatibility::Compatibility;
pub use containers::Container;
pub use exports::ExportedClass;
pub use lineage::Lineage;
pub use migrations::Migration;
pub use objects::{ClassStorage, ObjectBinding};
pub use routes::Route;
pub use values::{Limits, StoreSecret, Var};

use crate::report::{Report, Source};
use environment::View;
use section::Reading;

pub(crate) use find::{find, is_there, read_bytes, split};

/// A checked configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file, relative to the project's directory.
    pub file: PathBuf,
    /// The environment that was asked for.
    pub environment: Option<String>,
    /// The app's name. In an environment that does not name its own, the environment's follows it.
    pub name: AppName,
    /// The entry module, relative to the project's directory. An app of assets alone has none.
    pub main: Option<Main>,
    /// What programs see of the runtime's age.
    pub compatibility: Compatibility,
    /// Variables in `env`.
    pub vars: BTreeMap<String, Var>,
    /// Namespaces of objects in `env`.
    pub objects: Vec<ObjectBinding>,
    /// How the classes of objects came to be.
    pub lineage: Lineage,
    /// Classes whose objects have a container.
    pub containers: Vec<Container>,
    /// When `scheduled` is called.
    pub crons: Vec<Cron>,
    /// Static files.
    pub assets: Option<Assets>,
    /// Which requests are the app's. All where there are none.
    pub routes: Vec<Route>,
    /// Secrets that must be there, as texts in `env`.
    pub secrets_required: Vec<VariableName>,
    /// Secrets of stores in `env`.
    pub store_secrets: Vec<StoreSecret>,
    /// What one event may use.
    pub limits: Limits,
    /// Whether output is kept.
    pub observability: bool,
    /// A command that makes the entry module. It is not run here.
    pub build_command: Option<String>,
    /// Address and port of `dev`.
    pub dev: (Option<String>, Option<u16>),
    /// The classes that there are, each with where it is declared.
    pub(crate) live: Vec<(ClassName, Position)>,
    /// How modules are read.
    pub(crate) build: Build,
}

/// The entry module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Main {
    /// Relative to the project's directory.
    pub path: PathBuf,
    /// Where the configuration names it.
    pub position: Position,
}

/// The files of a configuration.
pub(crate) struct Files {
    source: Source,
    language: parse::Language,
    /// `berth.toml`.
    own: Option<Source>,
}

impl Files {
    /// The file that names classes and bindings.
    pub(crate) fn source(&self) -> &Source {
        &self.source
    }
}

/// Reads a configuration. None where there are problems that leave nothing to go on with.
pub(crate) fn read(report: &mut Report, files: &Files, environment: Option<&str>) -> Option<Config> {
    let table = parse::parse(report, &files.source, files.language)?;
    let own =
        files.own.as_ref().and_then(|own| Some((own, parse::parse(report, own, parse::Language::Toml)?)));
    let mut reading = Reading { source: &files.source, report };
    let view = View::of(&mut reading, &table, environment);
    let config = read_view(&mut reading, &view);
    let mut config = config?;
    config.file = files.source.file.clone();
    if let Some((own_source, own)) = &own {
        own::add(report, (&files.source, &view), (own_source, own), &mut config.containers);
    }
    Some(config)
}

/// Reads every key before it gives nothing for any, so that all problems are told.
fn read_view(reading: &mut Reading<'_>, view: &View<'_>) -> Option<Config> {
    let name = values::name(reading, view);
    let main = values::main(reading, view);
    let compatibility = compatibility::read(reading, view);
    let mut names = values::Names::default();
    let vars = values::vars(reading, view, &mut names);
    let bindings = objects::bindings(reading, view, &mut names);
    let containers = containers::read(reading, view);
    let lineage = lineage::read(reading, view);
    lineage::check(reading, &lineage, &bindings, &containers, compatibility.as_ref());
    let live = lineage.live().map(|(class, at)| (class.clone(), reading.source.position(at))).collect();
    let containers = lineage::attach(&lineage, containers);
    let lineage = lineage.into_lineage();
    let assets = assets::read(reading, view, &mut names);
    let secrets_required = values::secrets(reading, view, &mut names);
    let store_secrets = values::store_secrets(reading, view, &mut names);
    let crons = values::crons(reading, view);
    let routes = routes::read(reading, view);
    let limits = values::limits(reading, view);
    let observability = values::observability(reading, view);
    let (build, build_command) = build::read(reading, view);
    let dev = values::dev(reading, view);
    if main.is_none() && view.get("main").is_none() && assets.is_none() {
        let message = "main is missing; expected the entry module, such as \"src/index.ts\", or `assets`";
        reading.wrong(view.at(), message);
    }
    Some(Config {
        file: PathBuf::new(),
        environment: view.environment.map(str::to_owned),
        name: name?,
        main,
        compatibility: compatibility?,
        vars,
        objects: bindings,
        containers,
        lineage,
        live,
        crons,
        assets,
        routes,
        secrets_required,
        store_secrets,
        limits,
        observability,
        build_command,
        dev,
        build,
    })
}
