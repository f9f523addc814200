//! Parses `berth.toml`: from text to a checked [`Manifest`]. Reports all problems at once, each with its position and
//! what is expected there.
//!
//! Touches no file. The caller checks whether the images exist, adds what is missing to the same [`Problems`], and
//! packs the images; then the manifest becomes an [`AppSpec`].

mod assets;
mod classes;
mod container;
mod environment;
mod limits;
mod observability;
mod placement;
mod report;
mod route;
mod secrets;
mod source;
mod start_rate;
#[cfg(test)]
mod tests;
mod trigger;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::ids::{AppName, ClassName};
use crate::image::Digest;
use crate::spec::{
    AppLimits, AppSpec, AssetsSpec, Callbacks, Capability, ClassSpec, CronSpec, HooksSpec, HostPattern,
    ImageRef, LogSpec, MAX_ENV_BYTES, NotFound, OfApp, OnNodeGone, PlacementSpec, Recipe, Resources,
    RouteSpec, Secrets, StartBoost, StartRates, TimeOrNever,
};

pub use container::{
    DISK_BYTES, MAX_CPU_SIXTEENTHS, MAX_INSTANCES, MAX_PREPARED, MEMORY_BYTES, PORT_TIMEOUT, PREPARED,
    SLEEP_AFTER, START_TIMEOUT, STOP_GRACE,
};
pub use report::{Position, Problem, Problems, nearest};
pub use source::ImageSource;

use classes::ClassNames;
use report::{Report, Section};
use values::optional;

/// Most classes an app may have.
pub const MAX_CLASSES: usize = 256;
/// Most routes an app may have: each request is matched against them in order.
pub const MAX_ROUTES: usize = 1024;

/// A checked `berth.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The app's name.
    pub name: AppName,
    /// Its classes, in the order of the file.
    pub classes: Vec<ClassManifest>,
    /// Its routes, in the order of the file.
    pub routes: Vec<RouteSpec>,
    /// The limits of all its live instances together.
    pub limits: AppLimits,
    /// How many new objects requests may start.
    pub start_rate: StartRates,
    /// Its static files.
    pub assets: Option<AssetsManifest>,
    /// Its crons.
    pub crons: Vec<CronSpec>,
    /// How the output of its instances is kept.
    pub logs: LogSpec,
}

/// `[assets]`: all of an [`AssetsSpec`] but the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssetsManifest {
    /// Where they are, as the file says it.
    pub directory: PathBuf,
    /// The hosts that they are served for; all where there are none.
    pub hosts: Vec<HostPattern>,
    /// What requests get that name no file and that no route takes.
    pub not_found: NotFound,
}

impl AssetsManifest {
    /// The same with the files, which the caller supplies.
    pub fn to_spec(&self, files: BTreeMap<String, Digest>) -> AssetsSpec {
        AssetsSpec { directory: None, files, hosts: self.hosts.clone(), not_found: self.not_found }
    }
}

/// One `[[containers]]`: all of a [`ClassSpec`] but the packed image.
#[derive(Clone, PartialEq, Eq)]
pub struct ClassManifest {
    /// The class's name.
    pub name: ClassName,
    /// Where its image comes from.
    pub image: DeclaredImage,
    /// Replaces the image's entrypoint and command, where given.
    pub entrypoint: Option<Vec<String>>,
    /// Added to the image's environment.
    pub env: BTreeMap<String, String>,
    /// The secrets that become variables too.
    pub secrets: Secrets,
    /// Limits of each instance.
    pub resources: Resources,
    /// Extra CPU until the port answers.
    pub start_boost: Option<StartBoost>,
    /// Most instances that may live at once, if limited.
    pub max_instances: Option<u32>,
    /// TCP port that requests go to unless their route says otherwise.
    pub default_port: Option<u16>,
    /// How long after its last activity an instance is put to sleep.
    pub sleep_after: TimeOrNever,
    /// How long requests wait for an instance to be placed and started.
    pub start_timeout: Duration,
    /// How long they then wait for its port.
    pub port_timeout: Duration,
    /// The grace period between the signal to end and SIGKILL.
    pub stop_grace: Duration,
    /// What is left of it at most once a request waits behind a stop for idleness.
    pub wake_grace: Duration,
    /// Whether instances may reach the internet.
    pub enable_internet: bool,
    /// Whether the first process of its containers is Berth's, and the app that one's child.
    pub init: bool,
    /// Capabilities of root inside its containers.
    pub capabilities: BTreeSet<Capability>,
    /// How many prepared containers each node keeps.
    pub prepared: u32,
    /// Where its instances may be.
    pub placement: PlacementSpec,
    /// What becomes of them when their nodes are gone.
    pub on_node_gone: OnNodeGone,
    /// How long after its node was last heard of an instance counts as lost, if not as its edge has it.
    pub node_loss: Option<TimeOrNever>,
    /// Whether requests to a stopped object are refused instead of starting it.
    pub manual_start: bool,
    /// Ports that must take connections, besides the default one, before requests are sent.
    pub required_ports: Vec<u16>,
    /// A path that must be answered on the default port before requests are sent.
    pub ping_endpoint: Option<String>,
    /// The hook that receives events of its objects.
    pub hooks: Option<HooksSpec>,
    /// The callbacks that alarms and schedules of its objects can run.
    pub callbacks: Callbacks,
}

/// Leaves the values of the environment out: they may be secrets.
impl fmt::Debug for ClassManifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClassManifest")
            .field("name", &self.name)
            .field("image", &self.image)
            .field("env", &self.env.keys())
            .finish_non_exhaustive()
    }
}

impl ClassManifest {
    /// The class with its packed image.
    pub fn to_spec(&self, image: ImageRef) -> ClassSpec {
        let recipe = Recipe {
            image,
            entrypoint: self.entrypoint.clone(),
            env: self.env.clone(),
            resources: self.resources,
            start_boost: self.start_boost,
            enable_internet: self.enable_internet,
            capabilities: self.capabilities.clone(),
            init: self.init,
        };
        ClassSpec {
            recipe,
            max_instances: self.max_instances,
            default_port: self.default_port,
            sleep_after: self.sleep_after,
            start_timeout: self.start_timeout,
            port_timeout: self.port_timeout,
            stop_grace: self.stop_grace,
            wake_grace: self.wake_grace,
            prepared: self.prepared,
            placement: self.placement.clone(),
            on_node_gone: self.on_node_gone,
            node_loss: self.node_loss,
            manual_start: self.manual_start,
            required_ports: self.required_ports.clone(),
            ping_endpoint: self.ping_endpoint.clone(),
            secrets: self.secrets.clone(),
            hooks: self.hooks.clone(),
            callbacks: self.callbacks.clone(),
            of_app: OfApp::default(),
        }
    }
}

/// An image as the file names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredImage {
    /// Where it comes from.
    pub source: ImageSource,
    /// Its position in the file.
    pub position: Position,
    /// Whether its class also sets an entrypoint.
    pub has_entrypoint: bool,
}

/// A parsed file, with or without problems.
#[derive(Debug)]
pub struct Reading {
    /// The images that it names.
    pub images: Vec<DeclaredImage>,
    /// Its problems. The caller may add more.
    pub problems: Problems,
    manifest: Option<Manifest>,
}

impl Reading {
    /// The manifest, if there are no problems.
    pub fn finish(self) -> Result<Manifest, Problems> {
        match self.manifest {
            Some(manifest) if self.problems.is_empty() => Ok(manifest),
            _ => Err(self.problems),
        }
    }
}

impl Manifest {
    /// Parses the text of a file; the path is only for messages.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Problems> {
        Self::read(file, text).finish()
    }

    /// Like [`Manifest::parse`], but gives the images also of a file with problems, so that the caller can check them.
    pub fn read(file: &Path, text: &str) -> Reading {
        let (table, syntax) = toml::de::DeTable::parse_recoverable(text);
        let mut report = Report::new(text);
        let root = Section { name: "the file", table: table.get_ref(), at: 0 };
        let (manifest, images) = read_root(&mut report, &root);
        report.syntax(&syntax);
        Reading { images, problems: report.into_problems(file), manifest }
    }

    /// The app with its packed images, which the caller supplies for each class, and without its static files.
    pub fn to_spec<E>(
        &self,
        mut image_of: impl FnMut(&ClassManifest) -> Result<ImageRef, E>,
    ) -> Result<AppSpec, E> {
        let mut classes = BTreeMap::new();
        for class in &self.classes {
            classes.insert(class.name.clone(), class.to_spec(image_of(class)?));
        }
        Ok(AppSpec {
            name: self.name.clone(),
            classes,
            routes: self.routes.clone(),
            limits: self.limits,
            start_rate: self.start_rate,
            assets: self.assets.as_ref().map(|assets| assets.to_spec(BTreeMap::new())),
            crons: self.crons.clone(),
            logs: self.logs,
            program: None,
        })
    }
}

fn read_root(report: &mut Report<'_>, root: &Section<'_, '_>) -> (Option<Manifest>, Vec<DeclaredImage>) {
    report.refuse_unknown_keys(
        root,
        &[
            "name",
            "vars",
            "limits",
            "start_rate",
            "assets",
            "triggers",
            "observability",
            "containers",
            "routes",
        ],
    );
    let name = report.required(root, "name", "the app's name, such as name = \"hello\"");
    let name = name.and_then(|value| values::name::<AppName>(report, value));
    if root.get("containers").is_none() {
        report.missing(root, "[[containers]]", "at least one section with a class_name and an image");
    }
    let sections = report.sections(root, "containers", "[[containers]]", MAX_CLASSES);
    let known = ClassNames::collect(report, &sections);
    let vars = optional(root.get("vars"), |value| environment::environment(report, value, "[vars]"));
    let limits = optional(root.get("limits"), |value| limits::read(report, value));
    let start_rate = optional(root.get("start_rate"), |value| start_rate::read(report, value));
    let assets = optional(root.get("assets"), |value| assets::read(report, value));
    let logs = optional(root.get("observability"), |value| observability::read(report, value));
    let parsed: Vec<_> = sections.iter().map(|section| container::read(report, section)).collect();
    let images = parsed.iter().filter_map(|parsed| parsed.image.clone()).collect();
    let classes: Option<Vec<_>> = parsed.into_iter().map(|parsed| parsed.class).collect();
    let classes = classes.zip(vars).map(|(classes, vars)| with_vars(classes, &vars.unwrap_or_default()));
    if let Some(classes) = &classes {
        refuse_large_environments(report, classes, &sections);
    }
    let routes = route::read_all(report, root, &known);
    let crons = root.get("triggers");
    let crons = optional(crons, |value| trigger::crons(report, value, &known, classes.as_deref()));
    let sections = OptionalSections { limits, start_rate, assets, crons, logs };
    (assemble(name, classes, routes, sections), images)
}

fn assemble(
    name: Option<AppName>,
    classes: Option<Vec<ClassManifest>>,
    routes: Option<Vec<RouteSpec>>,
    OptionalSections { limits, start_rate, assets, crons, logs }: OptionalSections,
) -> Option<Manifest> {
    let (limits, start_rate) = (limits?.unwrap_or_default(), start_rate?.unwrap_or_default());
    let (crons, logs) = (crons?.unwrap_or_default(), logs?.unwrap_or_default());
    Some(Manifest {
        name: name?,
        classes: classes?,
        routes: routes?,
        limits,
        start_rate,
        assets: assets?,
        crons,
        logs,
    })
}

/// Sections that a file may leave out: `Some(None)` if it does, `None` if the section is invalid.
struct OptionalSections {
    limits: Option<Option<AppLimits>>,
    start_rate: Option<Option<StartRates>>,
    assets: Option<Option<AssetsManifest>>,
    crons: Option<Option<Vec<CronSpec>>>,
    logs: Option<Option<LogSpec>>,
}

/// Adds the app's variables to each class that does not set them itself.
fn with_vars(mut classes: Vec<ClassManifest>, vars: &BTreeMap<String, String>) -> Vec<ClassManifest> {
    for class in &mut classes {
        let secret = |name: &str| class.secrets.keys().any(|variable| variable.as_str() == name);
        for (name, value) in vars.iter().filter(|(name, _)| !secret(name)) {
            class.env.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    classes
}

fn refuse_large_environments(
    report: &mut Report<'_>,
    classes: &[ClassManifest],
    sections: &[Section<'_, '_>],
) {
    for (class, section) in classes.iter().zip(sections) {
        let bytes: usize = class.env.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > MAX_ENV_BYTES {
            let message = format!(
                "the environment of {} takes {bytes} bytes with [vars]; expected at most {MAX_ENV_BYTES}",
                class.name
            );
            report.wrong(section.at, message);
        }
    }
}
