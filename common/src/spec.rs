//! The checked form of an app: classes, their limits and images, and routes. Later code sees only checked values;
//! `manifest` parses `berth.toml` into these types.

mod content;
mod logs;
mod path;
mod placement;
mod program;
mod route;
mod start_rate;
mod time;
mod trigger;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{AppName, ClassName, SecretName, VariableName, Version};
use crate::image::{Architecture, Digest, Repository};

pub use content::{
    ContentField, MAX_APP_CONTENT_BYTES, MAX_CONTENT_BYTES, MAX_PROGRAM_BYTES, MAX_SOURCE_MAP_BYTES,
};
pub use logs::{LOG_BYTES, LOG_RETENTION, LogSpec};
pub use path::{PathPattern, PatternError};
pub use placement::{MAX_LABELS, OnNodeGone, PlacementSpec, Spread, label_fault, parse_label, region_fault};
pub use program::{
    BeforeAssets, ImportTarget, MAX_FLAGS, MAX_IMPORTS, MAX_MODULE_NAME_BYTES, MAX_MODULES,
    MAX_PROGRAM_NAMES, MAX_PROGRAM_ROUTES, MAX_VARS, Program, ProgramLimits, ProgramModule, ProgramRoute,
    ProgramVar, StoredSecret,
};
pub use route::{HostPattern, MAX_INTERCHANGEABLE, NameSource, RouteSpec};
pub use start_rate::{RATE, Rate, StartRates};
pub use time::{NODE_LOSS_BOUNDS, Never, TimeOrNever};
pub use trigger::{
    ACTION_METHODS, Action, Callbacks, CronSpec, HookKind, HooksSpec, MAX_ACTION_BODY_BYTES, MAX_CALLBACKS,
    MAX_CRONS, RequestAction, fill,
};

/// Most bytes that the names and values of an instance's environment may take together: they travel in one frame.
pub const MAX_ENV_BYTES: usize = 256 * 1024;

/// Most secrets of an app, of one class, and of one store that apps share.
pub const MAX_SECRETS: usize = 256;
/// Most stores of secrets that apps share: all are listed on one page.
pub const MAX_SECRET_STORES: usize = 64;
/// Longest value of a secret, in bytes: half of what Linux allows for one variable (`MAX_ARG_STRLEN`).
pub const MAX_SECRET_BYTES: usize = 64 * 1024;

/// The secrets of a class: variables and the names of the secrets that set them. The values are added only to what is
/// sent to a node.
pub type Secrets = BTreeMap<VariableName, SecretName>;

/// Most required ports of a class, besides its default one: each is polled while an instance starts.
pub const MAX_REQUIRED_PORTS: usize = 16;
/// Longest path that is put into requests, in bytes.
const MAX_PATH_BYTES: usize = 1024;

/// What is wrong with a path that is put into requests unchanged, if anything.
pub fn path_fault(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        Some("must start with `/`")
    } else if path.len() > MAX_PATH_BYTES {
        Some("is longer than 1024 bytes")
    } else if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        Some("may only hold visible ASCII characters")
    } else {
        None
    }
}

/// One version of an app.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppSpec {
    /// The app's name.
    #[cfg_attr(feature = "schema", schema(value_type = String, max_length = 63, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
    pub name: AppName,
    /// Its classes by name.
    #[cfg_attr(feature = "schema", schema(value_type = BTreeMap<String, ClassSpec>))]
    pub classes: BTreeMap<ClassName, ClassSpec>,
    /// Its routes; the first that matches a request takes it.
    pub routes: Vec<RouteSpec>,
    /// What all its live instances may take together.
    #[serde(default)]
    pub limits: AppLimits,
    /// How many new objects requests may start.
    #[serde(default)]
    pub start_rate: StartRates,
    /// Files that the edge serves itself.
    #[serde(default)]
    pub assets: Option<AssetsSpec>,
    /// What is done again and again.
    #[serde(default)]
    pub crons: Vec<CronSpec>,
    /// How the output of its instances is kept.
    #[serde(default)]
    pub logs: LogSpec,
    /// The JavaScript that the edge runs for its requests.
    #[serde(default)]
    pub program: Option<Program>,
}

/// Most static files of an app: the edge knows all of their names.
pub const MAX_ASSETS: usize = 20_000;
/// Most files of an app with the compressed ones beside them.
pub const MAX_ASSET_FILES: usize = 2 * MAX_ASSETS;
/// Longest path of a static file, in bytes.
pub const MAX_ASSET_PATH_BYTES: usize = 4096;

/// Static files of an app. A request for one of them gets it; others go on to the routes.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssetsSpec {
    /// The directory on the edge's machine that versions of earlier edges have them in. Nothing is deployed with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(ignore))]
    pub directory: Option<PathBuf>,
    /// The digests of the files, by their decoded paths in requests: `/a b/index.html`. The file `/a.css.gz` (or `.br`)
    /// is what `/a.css` is compressed.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = BTreeMap<String, String>))]
    pub files: BTreeMap<String, Digest>,
    /// The hosts that they are served for; all where there are none.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    #[serde(default)]
    pub hosts: Vec<HostPattern>,
    /// What requests get that name no file and that no route takes.
    #[serde(default)]
    pub not_found: NotFound,
}

impl AssetsSpec {
    /// What is wrong with it, if it is to be deployed: fields, and what is expected.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if self.directory.is_some() {
            let message =
                "is of an earlier version of Berth: static files are sent to the edge by digest now";
            faults.push(("directory", message.to_owned()));
        }
        if self.files.len() > MAX_ASSET_FILES {
            faults.push(("files", format!("at most {MAX_ASSET_FILES} are allowed")));
        }
        let is_path = |path: &&String| {
            path.starts_with('/') && path.len() <= MAX_ASSET_PATH_BYTES && !path.contains('\0')
        };
        if let Some(other) = self.files.keys().find(|path| !is_path(path)) {
            let start: String = other.chars().take(80).collect();
            let rule = format!("expected paths from `/` on of up to {MAX_ASSET_PATH_BYTES} bytes");
            faults.push(("files", format!("{rule}, and not {start:?}")));
        }
        faults
    }
}

/// What requests get that name no file and that no route takes.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotFound {
    /// What any path gets that nothing takes.
    #[default]
    None,
    /// `404.html`, with the status 404.
    Page,
    /// `index.html`, with the status 200.
    SinglePage,
}

/// What the live instances of one app may take together.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppLimits {
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// CPU, in sixteenths of a virtual CPU.
    pub cpu_sixteenths: u32,
    /// Writable disk, in bytes.
    pub disk_bytes: u64,
}

impl Default for AppLimits {
    /// 40 GB, 20 vCPU and 100 GB, as the reference has them.
    fn default() -> Self {
        Self { memory_bytes: 40 * GB, cpu_sixteenths: 20 * 16, disk_bytes: 100 * GB }
    }
}

/// What a class has from the version of the app that declares it. The edge sets it when it deploys the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OfApp {
    /// The version.
    pub version: Version,
    /// The app's limits.
    pub limits: AppLimits,
    /// How the output of its instances is kept.
    #[serde(default)]
    pub logs: LogSpec,
}

/// The `wake_grace` of a class that names none: most apps end within seconds, and few clients wait longer.
pub const WAKE_GRACE: Duration = Duration::from_secs(30);

/// One kind of container.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassSpec {
    /// What the containers of its instances are made from.
    #[serde(flatten)]
    pub recipe: Recipe,
    /// Most instances that may live at once, if limited.
    #[serde(default)]
    pub max_instances: Option<u32>,
    /// TCP port that requests go to unless their route says otherwise. An instance without one is ready as soon as it runs.
    #[cfg_attr(feature = "schema", schema(minimum = 1))]
    #[serde(default)]
    pub default_port: Option<u16>,
    /// How long after its last activity an instance is put to sleep.
    pub sleep_after: TimeOrNever,
    /// How long requests wait for an instance to be placed and started.
    #[serde(with = "millis")]
    #[cfg_attr(feature = "schema", schema(value_type = u64))]
    pub start_timeout: Duration,
    /// How long they then wait for its port.
    #[serde(with = "millis")]
    #[cfg_attr(feature = "schema", schema(value_type = u64))]
    pub port_timeout: Duration,
    /// How long after the signal to end an instance is killed.
    #[serde(with = "millis")]
    #[cfg_attr(feature = "schema", schema(value_type = u64))]
    pub stop_grace: Duration,
    /// At most this much of it is left once a request waits behind a stop for idleness.
    #[serde(with = "millis", default = "default_wake_grace")]
    #[cfg_attr(feature = "schema", schema(value_type = u64))]
    pub wake_grace: Duration,
    /// How many containers each node keeps made and waiting.
    #[serde(default)]
    pub prepared: u32,
    /// Where its instances may be.
    #[serde(default, skip_serializing_if = "PlacementSpec::is_default")]
    pub placement: PlacementSpec,
    /// What becomes of its instances when their nodes are gone.
    #[serde(default, skip_serializing_if = "OnNodeGone::is_default")]
    pub on_node_gone: OnNodeGone,
    /// How long after its node was last heard of an instance counts as lost, if not as its edge has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_loss: Option<TimeOrNever>,
    /// Whether requests to a stopped object are refused instead of starting it.
    #[serde(default)]
    pub manual_start: bool,
    /// Ports that must take connections, besides the default one, before requests are sent.
    #[serde(default)]
    pub required_ports: Vec<u16>,
    /// A path that must be answered on the default port before requests are sent.
    #[serde(default)]
    pub ping_endpoint: Option<String>,
    /// The secrets that its containers get, by the variables that they become.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = BTreeMap<String, String>))]
    pub secrets: Secrets,
    /// Who is told of the lives of its objects.
    #[serde(default)]
    pub hooks: Option<HooksSpec>,
    /// What its objects can do when it is due, by name.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = BTreeMap<String, Action>))]
    pub callbacks: Callbacks,
    /// What it has from its app.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(ignore))]
    pub of_app: OfApp,
}

/// What a class has that was deployed before there was a `wake_grace`.
fn default_wake_grace() -> Duration {
    WAKE_GRACE
}

impl ClassSpec {
    /// All secrets that it uses: those of its containers, and the one that signs its hook's events.
    pub fn secret_names(&self) -> impl Iterator<Item = SecretName> {
        let signing = self.hooks.as_ref().and_then(|hooks| hooks.secret.parse().ok());
        self.secrets.values().cloned().chain(signing)
    }
}

/// What a container is made from: all of it that does not depend on whose container it will be. A container made from
/// one recipe can take the place of another made from an equal one.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// What it runs.
    pub image: ImageRef,
    /// Replaces the image's entrypoint and command, where given.
    #[serde(default)]
    pub entrypoint: Option<Vec<String>>,
    /// Added to the image's environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Its limits.
    pub resources: Resources,
    /// More CPU than that until its port answers.
    #[serde(default)]
    pub start_boost: Option<StartBoost>,
    /// Whether it may reach the internet.
    pub enable_internet: bool,
    /// What its root may do, besides what any user may.
    #[serde(default)]
    pub capabilities: BTreeSet<Capability>,
    /// Whether its first process is Berth's, which passes signals on and ends what has lost its parent, and the app that
    /// one's child. Else the app is the first process.
    #[serde(default = "yes")]
    pub init: bool,
}

/// What older versions did not say, and is to be.
fn yes() -> bool {
    true
}

/// Leaves the values of the environment out: they may be secrets.
impl fmt::Debug for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recipe")
            .field("image", &self.image)
            .field("env", &self.env.keys())
            .field("resources", &self.resources)
            .finish_non_exhaustive()
    }
}

/// An image in the edge's registry. Nodes fetch it from the edge by its digest.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageRef {
    /// The repository that it was pushed to. Apps and instances of versions that knew no repositories have a made-up one: they are
    /// still read, and their images have to be deployed again.
    #[serde(default = "Repository::none")]
    #[cfg_attr(feature = "schema", schema(value_type = String, max_length = 255))]
    pub repository: Repository,
    /// The digest of its manifest, or of an index of manifests for several machines.
    #[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^sha(256:[0-9a-f]{64}|512:[0-9a-f]{128})$"))]
    pub digest: Digest,
    /// What was asked for, for people: a tag or reference that had this digest at the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The machines that it runs on. The edge finds them out when the app is deployed; empty where it does not know.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[cfg_attr(feature = "schema", schema(ignore))]
    pub architectures: BTreeSet<Architecture>,
}

impl ImageRef {
    /// An image whose reference and architectures are not known.
    pub fn new(repository: Repository, digest: Digest) -> Self {
        Self { repository, digest, name: None, architectures: BTreeSet::new() }
    }
}

/// Limits of one instance.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// CPU, in sixteenths of a virtual CPU.
    pub cpu_sixteenths: u32,
    /// Memory, in bytes. There is no swap.
    pub memory_bytes: u64,
    /// Writable disk, in bytes.
    pub disk_bytes: u64,
    /// Whether the disk is kept in memory, and counts as such.
    #[serde(default)]
    pub disk_in_memory: bool,
}

/// What a container's root can be allowed: what images need that start as root, see to their files, and go on as
/// another user. All of it is power over the container's own users and files only.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// Give files to other users.
    Chown,
    /// Pass over files' permissions.
    DacOverride,
    /// Do with any file what its owner may.
    Fowner,
    /// Keep a file's setuid and setgid bits when it changes.
    Fsetid,
    /// Send signals to other users' processes.
    Kill,
    /// Become a member of other groups.
    Setgid,
    /// Become another user.
    Setuid,
}

impl Capability {
    /// All, by their names in `berth.toml`.
    pub const NAMES: [(&'static str, Self); 7] = [
        ("chown", Self::Chown),
        ("dac_override", Self::DacOverride),
        ("fowner", Self::Fowner),
        ("fsetid", Self::Fsetid),
        ("kill", Self::Kill),
        ("setgid", Self::Setgid),
        ("setuid", Self::Setuid),
    ];

    /// The capability with this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, capability)| *capability)
    }
}

/// More CPU for an instance that starts: until its port answers, and no longer than a limit.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartBoost {
    /// CPU in all, in sixteenths of a virtual CPU. Without effect where the instance has more anyway.
    pub cpu_sixteenths: u32,
    /// When it ends at the latest, counted from the app's start.
    #[serde(with = "millis")]
    #[cfg_attr(feature = "schema", schema(value_type = u64))]
    pub at_most: Duration,
}

/// Most CPU of a boost where four times what the instance has is less, in sixteenths: the usual boost.
const SMALL_BOOST_SIXTEENTHS: u32 = 16;
/// Most that a boost may be of what the instance has.
const BOOST_FACTOR: u32 = 4;

impl StartBoost {
    /// What is wrong with it for an instance with these resources, if anything.
    pub fn fault(&self, resources: &Resources) -> Option<String> {
        let most = resources.cpu_sixteenths.saturating_mul(BOOST_FACTOR).max(SMALL_BOOST_SIXTEENTHS);
        (self.cpu_sixteenths > most).then(|| {
            let (most, has) = (f64::from(most) / 16.0, f64::from(resources.cpu_sixteenths) / 16.0);
            format!("a container with {has} vCPU may start with {most} vCPU at most: others share the node")
        })
    }

    /// The boost within the limits of the app: an instance that starts takes no more than all of them may together.
    pub fn within(self, limits: &AppLimits) -> Self {
        Self { cpu_sixteenths: self.cpu_sixteenths.min(limits.cpu_sixteenths), ..self }
    }
}

impl Default for StartBoost {
    /// One virtual CPU for ten seconds.
    fn default() -> Self {
        Self { cpu_sixteenths: 16, at_most: Duration::from_secs(10) }
    }
}

const MIB: u64 = 1 << 20;
const GB: u64 = 1_000_000_000;

impl Resources {
    /// The instance types by name, as the reference lists them.
    pub const TYPES: [(&'static str, Resources); 8] = [
        ("lite", Self::of(1, 256, 2)),
        ("dev", Self::of(1, 256, 2)),
        ("basic", Self::of(4, 1024, 4)),
        ("standard", Self::of(8, 4096, 8)),
        ("standard-1", Self::of(8, 4096, 8)),
        ("standard-2", Self::of(16, 6144, 12)),
        ("standard-3", Self::of(32, 8192, 16)),
        ("standard-4", Self::of(64, 12288, 20)),
    ];

    const fn of(cpu_sixteenths: u32, memory_mib: u64, disk_gb: u64) -> Self {
        Self {
            cpu_sixteenths,
            memory_bytes: memory_mib * MIB,
            disk_bytes: disk_gb * GB,
            disk_in_memory: false,
        }
    }

    /// The instance type with this name.
    pub fn of_type(name: &str) -> Option<Self> {
        Self::TYPES.iter().find(|(known, _)| *known == name).map(|(_, resources)| *resources)
    }
}

/// Durations as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_versions_that_knew_no_repositories_are_read() {
        let digest = Digest::of(b"x");
        let old = format!(r#"{{"layout":"/images/x","digest":"{digest}"}}"#);
        let read: ImageRef = serde_json::from_str(&old).unwrap();
        assert_eq!(read, ImageRef::new(Repository::none(), digest));
        assert!(Repository::none().as_str().parse::<Repository>().is_ok());
    }

    #[test]
    fn instance_types_are_the_references() {
        let lite = Resources::of_type("lite").unwrap();
        assert_eq!((lite.cpu_sixteenths, lite.memory_bytes), (1, 256 << 20));
        assert_eq!(Resources::of_type("standard"), Resources::of_type("standard-1"));
        assert_eq!(Resources::of_type("huge"), None);
    }
}
