//! A Workers project on disk as an app: read and compiled here, sent to an edge by digest, and deployed. What edges of this
//! version do not run is refused by name before anything is sent.

mod containers;
mod env_file;
mod given;
#[cfg(test)]
mod tests;
mod vars;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use berth_api::secrets::SecretList;
use berth_common::ids::{AppName, ClassName, SecretName, VariableName};
use berth_common::image::Digest;
use berth_common::manifest::Position;
use berth_common::spec::{
    AppSpec, AssetsSpec, BeforeAssets, HostPattern, ImportTarget, NotFound, Program, ProgramLimits,
    ProgramModule, ProgramRoute, ProgramVar, StoredSecret,
};
use berth_project::{
    Config, ExportedClass, HtmlHandling, Lineage, Mode, NotFoundHandling, Problem, Project, Refused,
    RunWorkerFirst, StoreSecret, Target, Var,
};

use crate::admin::Admin;
use crate::app::{MANIFEST, in_directory};
use crate::assets;
use crate::content::Content;
use crate::failure::{BadInput, bad_input};
use crate::output;
use crate::prefetch::Terms;
use crate::stop::blocking;
use crate::supply::{Supply, Wanted};
pub(crate) use berth_project::directory_of;
use containers::Contained;
pub(crate) use env_file::{FileVariable, variables};
pub(crate) use given::Given;
pub(crate) use vars::NAME_RULE;
use vars::Vars;

/// Files of static sites that say how others are served, and are none themselves.
const RULES: [&str; 2] = ["_headers", "_redirects"];

/// A checked project.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) project: Project,
    directory: PathBuf,
    contained: Vec<Contained>,
    /// The secrets of whoever works on it. None elsewhere.
    vars: Vars,
}

/// Whether a directory is a Workers project: it has a wrangler configuration, and no `berth.toml` that declares an app of its
/// own beside it.
pub(crate) fn is_there(directory: &Path) -> bool {
    berth_project::is_project(directory) && !declares_app(&directory.join(MANIFEST))
}

/// The configuration of a project, without a look at its modules. It is named by its directory, or by the configuration in it.
pub(crate) fn configuration(at: &Path, environment: Option<&str>) -> Result<Config> {
    let read = berth_project::configuration(at, environment);
    read.map(|(config, _)| config).map_err(|refused| refusal(directory_of(at), &refused))
}

/// The name of the app that a project is.
pub(crate) fn name_of(at: &Path, environment: Option<&str>) -> Result<AppName> {
    configuration(at, environment).map(|config| config.name)
}

/// The names of the secrets that a program has while it is worked on.
pub(crate) fn secret_names(directory: &Path, config: &Config) -> Result<BTreeSet<String>> {
    let own = vars::read(directory, config)?.into_keys().map(|name| name.to_string());
    let listed = config.secrets_required.iter().map(ToString::to_string);
    Ok(own.chain(listed).collect())
}

/// What the images of a project are made of, as far as its configuration can be read.
pub(crate) fn image_files(at: &Path, environment: Option<&str>) -> Vec<PathBuf> {
    let Ok((config, _)) = berth_project::configuration(at, environment) else { return Vec::new() };
    let directory = directory_of(at);
    config.containers.iter().flat_map(|container| containers::image(container, directory).files()).collect()
}

/// Whether a `berth.toml` names an app: one that only adds to a project does not.
fn declares_app(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let (table, _) = toml::de::DeTable::parse_recoverable(&text);
    table.get_ref().contains_key("name")
}

impl Worker {
    /// Reads a project for the default environment or the one that is named. All errors are reported together.
    pub(crate) fn read(at: &Path, environment: Option<&str>, mode: Mode) -> Result<Self> {
        let (directory, read) = (directory_of(at), berth_project::read(at, environment, mode));
        let project = read.map_err(|refused| refusal(directory, &refused))?;
        let mut worker =
            Self { project, directory: directory.to_owned(), contained: Vec::new(), vars: Vars::new() };
        let mut problems = worker.unsupported();
        problems.extend(containers::unusable(&worker.project.config, directory));
        problems.sort();
        if !problems.is_empty() {
            let remarks = worker.project.remarks.clone();
            return Err(refusal(directory, &Refused { problems, more: 0, remarks }));
        }
        let names = lineages(&worker.project.config.lineage).map_err(BadInput)?;
        worker.contained = containers::of(&worker.project.config, &names, directory);
        if mode == Mode::Development {
            worker.vars = vars::read(directory, &worker.project.config)?;
        }
        if let Some(assets) = &worker.project.config.assets {
            let config = &worker.project.config.file;
            let found = assets::look_at(&directory.join(&assets.directory));
            let place = problem(&in_directory(directory, config), Some(assets.position), "assets.directory");
            found.with_context(|| place.to_string()).map_err(bad_input)?;
        }
        Ok(worker)
    }

    /// Gives the program a variable, before secrets and variables of the same name.
    pub(crate) fn set_var(&mut self, name: &str, value: &str) {
        self.vars.retain(|secret, _| secret.as_str() != name);
        self.project.config.secrets_required.retain(|secret| secret.as_str() != name);
        self.project.config.vars.insert(name.to_owned(), Var::Text(value.to_owned()));
    }

    /// The configuration file, for messages.
    pub(crate) fn file(&self) -> PathBuf {
        in_directory(&self.directory, &self.project.config.file)
    }

    /// Prints what is worth saying of it.
    pub(crate) fn remark(&self) {
        for remark in &self.project.remarks {
            output::note!("{remark}");
        }
    }

    /// How many modules and static files it has, and classes with containers.
    pub(crate) fn describe(&self) -> Result<String> {
        let modules = self.project.program.as_ref().map_or(0, |program| program.modules.len());
        let classes = self.contained.len();
        let classes =
            if classes > 0 { format!(", classes with containers: {classes}") } else { String::new() };
        Ok(format!("modules: {modules}, static files: {}{classes}", self.assets()?))
    }

    /// The classes that have containers, under their first names, with the images that they ask for.
    pub(crate) fn images(&self) -> impl Iterator<Item = (&ClassName, &Wanted)> {
        self.contained.iter().map(|contained| (&contained.class.name, &contained.image))
    }

    /// How many static files there are.
    pub(crate) fn assets(&self) -> Result<usize> {
        let assets = self.project.config.assets.as_ref();
        assets.map_or(Ok(0), |assets| assets::look_at(&self.directory.join(&assets.directory)))
    }

    /// Sends what the edge does not have, and returns the app as edges know it.
    pub(crate) async fn spec(&self, admin: &Admin, terms: Terms) -> Result<AppSpec> {
        let config = &self.project.config;
        let mut classes = BTreeMap::new();
        let mut supply = Supply::of(admin);
        for Contained { class, image } in &self.contained {
            let found = supply.image(image, &config.name, &class.name).await;
            let found = found.with_context(|| format!("the image of the class {}", class.name))?;
            classes.insert(class.name.clone(), class.to_spec(found));
        }
        let mut content = Content::default();
        let program = self.project.program.as_ref().map(|read| program(config, read, &mut content));
        let mut program = program.transpose()?;
        if let Some(program) = &mut program {
            self.bind_secrets(admin, program).await?;
        }
        let (content, assets) = self.pack_assets(content).await?;
        let sent = content.send(admin, terms.resend).await.context("the app's files")?;
        output::note!("files: {}", sent.describe());
        Ok(AppSpec {
            name: config.name.clone(),
            classes,
            routes: Vec::new(),
            limits: Default::default(),
            start_rate: Default::default(),
            assets,
            crons: Vec::new(),
            logs: Default::default(),
            program,
        })
    }

    /// The same content with the static files.
    async fn pack_assets(&self, mut content: Content) -> Result<(Content, Option<AssetsSpec>)> {
        let config = &self.project.config;
        let Some(declared) = &config.assets else { return Ok((content, None)) };
        let source = self.directory.join(&declared.directory);
        let packed = blocking(move |_| {
            let files = assets::pack(&source, &mut content)?;
            Ok((content, files))
        });
        let (content, files) = packed.await?;
        Ok((content, Some(assets_spec(config, declared.not_found_handling, files))))
    }

    /// Gives the edge the secrets of whoever works on it, as far as it does not have them.
    pub(crate) async fn put_secrets(&self, admin: &Admin, given: &mut Given) -> Result<()> {
        let none = Vars::new();
        // Static files alone have nothing that could ask for a secret.
        let vars = if self.project.program.is_some() { &self.vars } else { &none };
        given.give(admin, &self.project.config.name, vars).await
    }

    /// Has the program see the secrets of whoever works on it, and those that were put for the app, whether the configuration lists
    /// them or not.
    async fn bind_secrets(&self, admin: &Admin, program: &mut Program) -> Result<()> {
        let app = &self.project.config.name;
        for name in self.vars.keys() {
            // A variable of the same name is what is used elsewhere.
            program.vars.remove(name.as_str());
        }
        let list: SecretList = admin.get(&format!("/v1/apps/{app}/secrets")).await?;
        // One that cannot be decrypted would keep a program from starting that never asked for it.
        let readable = list.secrets.into_iter().filter(|secret| secret.readable);
        bind(program, readable.map(|secret| secret.name));
        Ok(())
    }

    /// What edges of this version do not run, in the order of the configuration's lines.
    fn unsupported(&self) -> Vec<Problem> {
        let config = &self.project.config;
        let mut found = Vec::new();
        for container in &config.containers {
            let lacking = containers::lacking(container).into_iter();
            found.extend(lacking.map(|what| (Some(container.position), what)));
        }
        if let Err(what) = lineages(&config.lineage) {
            found.push((None, what));
        }
        if let Some(assets) = &config.assets {
            if assets.html_handling != HtmlHandling::AutoTrailingSlash {
                let what = "assets.html_handling: another than \"auto-trailing-slash\"";
                found.push((Some(assets.position), what.to_owned()));
            }
            let rules =
                RULES.iter().filter(|name| self.directory.join(&assets.directory).join(name).exists());
            found.extend(
                rules.map(|name| (Some(assets.position), format!("assets.directory: the file {name}"))),
            );
        }
        let told = |what| format!("{what}: not supported by this version of Berth");
        found.into_iter().map(|(position, what)| problem(&config.file, position, &told(what))).collect()
    }
}

fn problem(file: &Path, position: Option<Position>, message: &str) -> Problem {
    Problem { file: file.to_owned(), position, message: message.to_owned() }
}

/// All problems, one a line, each with its file as it is reached from here.
fn refusal(directory: &Path, refused: &Refused) -> anyhow::Error {
    let lines = refused.problems.iter().map(|problem| {
        let file = in_directory(directory, &problem.file);
        Problem { file, ..problem.clone() }.to_string()
    });
    let more = (refused.more > 0).then(|| format!("and {} more", refused.more));
    BadInput(lines.chain(more).collect::<Vec<_>>().join("\n")).into()
}

/// The classes of objects, each with the first name that it had. An error names what edges do not do.
fn lineages(lineage: &Lineage) -> Result<BTreeMap<ClassName, ClassName>, String> {
    let mut names = BTreeMap::new();
    match lineage {
        Lineage::Migrations(steps) => {
            for step in steps {
                if let Some(class) = step.deleted.first() {
                    return Err(format!(
                        "migrations: {}: deleted_classes: {class}: the end of a class",
                        step.tag
                    ));
                }
                for (from, to) in &step.renamed {
                    if let Some(first) = names.remove(from) {
                        names.insert(to.clone(), first);
                    }
                }
                names.extend(step.new.iter().map(|(class, _)| (class.clone(), class.clone())));
            }
        }
        Lineage::Exports(classes) => {
            for (name, class) in classes {
                match class {
                    ExportedClass::Live { .. } => drop(names.insert(name.clone(), name.clone())),
                    _ => return Err(format!("exports: {name}: what became of a class")),
                }
            }
        }
    }
    let first: BTreeSet<&ClassName> = names.values().collect();
    if first.len() < names.len() {
        return Err("migrations: a new class with the first name of one that was renamed".to_owned());
    }
    Ok(names)
}

/// The program as edges know it. Its modules are added to what is sent.
fn program(config: &Config, read: &berth_project::Program, content: &mut Content) -> Result<Program> {
    let modules = read.modules.iter().map(|(name, module)| ProgramModule {
        name: name.clone(),
        digest: content.add(module.source.clone()),
        map: module.map.clone().map(|map| content.add(map)),
        imports: module.imports.iter().map(|(written, to)| (written.clone(), target(to))).collect(),
    });
    let modules = modules.collect();
    let secrets = config.secrets_required.iter().map(|variable| {
        let secret: SecretName =
            variable.as_str().parse().map_err(|error| anyhow::anyhow!("{variable}: {error}"))?;
        Ok((variable.clone(), secret))
    });
    let first = config.assets.as_ref().map(|assets| before_assets(&assets.run_worker_first));
    Ok(Program {
        entry: read.entry.clone(),
        modules,
        compatibility_date: config.compatibility.date.clone(),
        compatibility_flags: config.compatibility.flags.clone(),
        handlers: read.handlers.names.clone(),
        classes: read.classes.iter().map(|class| class.name.clone()).collect(),
        object_classes: lineages(&config.lineage).map_err(|what| anyhow::anyhow!(what))?,
        durable_objects: config
            .objects
            .iter()
            .map(|bound| (bound.name.clone(), bound.class.clone()))
            .collect(),
        vars: config.vars.iter().map(|(name, value)| (name.clone(), var(value))).collect(),
        secrets: secrets.collect::<Result<_>>()?,
        store_secrets: config.store_secrets.iter().map(stored).collect(),
        assets_binding: config.assets.as_ref().and_then(|assets| assets.binding.clone()),
        before_assets: first.unwrap_or_default(),
        routes: config
            .routes
            .iter()
            .map(|route| ProgramRoute { hosts: route.hosts.clone(), path: route.path.clone() })
            .collect(),
        crons: config.crons.clone(),
        limits: ProgramLimits {
            cpu_ms: config.limits.cpu_ms.map(u32::try_from).transpose().context("limits.cpu_ms")?,
            subrequests: config
                .limits
                .subrequests
                .map(u32::try_from)
                .transpose()
                .context("limits.subrequests")?,
        },
    })
}

/// Puts secrets into `env` under their names, where nothing has these.
fn bind(program: &mut Program, secrets: impl Iterator<Item = SecretName>) {
    for secret in secrets {
        let name = secret.as_str();
        let taken = program.vars.contains_key(name)
            || program.durable_objects.contains_key(name)
            || program.assets_binding.as_deref() == Some(name)
            || program.store_secrets.contains_key(name)
            || program.secrets.keys().any(|variable| variable.as_str() == name);
        if !taken && let Ok(variable) = name.parse::<VariableName>() {
            program.secrets.insert(variable, secret);
        }
    }
}

fn stored(secret: &StoreSecret) -> (String, StoredSecret) {
    let StoreSecret { binding, store, secret: name } = secret;
    (binding.clone(), StoredSecret { store: store.clone(), name: name.clone() })
}

fn target(target: &Target) -> ImportTarget {
    match target {
        Target::Module(name) => ImportTarget::Module(name.clone()),
        Target::Builtin(name) => ImportTarget::Builtin(name.clone()),
    }
}

fn var(value: &Var) -> ProgramVar {
    match value {
        Var::Text(text) => ProgramVar::Text(text.clone()),
        Var::Json(value) => ProgramVar::Json(value.to_string()),
    }
}

fn before_assets(first: &RunWorkerFirst) -> BeforeAssets {
    match first {
        RunWorkerFirst::Never => BeforeAssets::None,
        RunWorkerFirst::Always => BeforeAssets::All,
        RunWorkerFirst::Paths(paths) => BeforeAssets::Paths(paths.clone()),
    }
}

/// The static files as edges know them: for the hosts of the routes, if each has some.
fn assets_spec(config: &Config, not_found: NotFoundHandling, files: BTreeMap<String, Digest>) -> AssetsSpec {
    let of_hosts = config.routes.iter().all(|route| !route.hosts.is_empty());
    let mut hosts: Vec<HostPattern> = Vec::new();
    for host in config.routes.iter().filter(|_| of_hosts).flat_map(|route| &route.hosts) {
        if !hosts.contains(host) {
            hosts.push(host.clone());
        }
    }
    let not_found = match not_found {
        NotFoundHandling::None => NotFound::None,
        NotFoundHandling::SinglePageApplication => NotFound::SinglePage,
        NotFoundHandling::NotFoundPage => NotFound::Page,
    };
    AssetsSpec { directory: None, files, hosts, not_found }
}
