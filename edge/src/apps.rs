//! The deployed apps: a new version is validated, stored durably, and only then routed to.

mod files;
mod images;
mod leftovers;
mod program;
mod triggers;
pub(crate) mod versions;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use berth_api::apps::VersionView;
use berth_common::clock::wall_ms;
use berth_common::ids::{AppName, ClassName, Version};
use berth_common::manifest::{MAX_CLASSES, MAX_PREPARED, MAX_ROUTES};
use berth_common::spec::{
    AppSpec, AssetsSpec, ClassSpec, MAX_ENV_BYTES, MAX_INTERCHANGEABLE, MAX_REQUIRED_PORTS, MAX_SECRETS,
    NODE_LOSS_BOUNDS, NameSource, RouteSpec, TimeOrNever, path_fault,
};
use berth_registry::files::{Files, FilesError};
use berth_registry::images::{ImageError, Images};
use berth_store::{self as store, AppHistory, Store, StoreError, Write};
use tokio::sync::{Mutex, MutexGuard, watch};

use crate::metrics::Metrics;
use crate::prepared::{PreparedClass, wanted};
use crate::programs::Programs;
use crate::proxy::router::{CurrentRouter, Router};

/// Longest duration in a class, as in `berth.toml`.
const MAX_DURATION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Why a change of an app was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeployError {
    /// The specification is invalid; lists everything that is wrong with it.
    #[error("{}", .0.iter().map(Fault::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Fault>),
    /// The current version is not the one that the request expects.
    #[error("{}", conflict(*.0))]
    Conflict(Option<Version>),
    /// There is no such app or version.
    #[error("{0}")]
    Unknown(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The images could not be checked.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The files could not be checked.
    #[error(transparent)]
    Files(#[from] FilesError),
}

fn conflict(current: Option<Version>) -> String {
    match current {
        Some(version) => {
            format!("the current version is {version}: look at what it changed, and deploy again")
        }
        None => "the app is not deployed".to_owned(),
    }
}

/// An error in a specification, with the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// A path such as `routes[0].port`.
    pub(crate) field: String,
    pub(crate) message: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Which version a request expects to be current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Any version, or none.
    Anything,
    /// The app must not be deployed yet.
    Nothing,
    /// This version.
    Version(Version),
}

impl Expect {
    fn check(self, current: Option<Version>) -> Result<(), DeployError> {
        match self {
            Self::Anything => Ok(()),
            Self::Nothing if current.is_none() => Ok(()),
            Self::Version(version) if current == Some(version) => Ok(()),
            Self::Nothing | Self::Version(_) => Err(DeployError::Conflict(current)),
        }
    }
}

/// The version that a deployment has made current, or has found to be.
pub(crate) struct Deployment {
    pub(crate) version: VersionView,
    /// The specification is that of the version that was current: none was made.
    pub(crate) unchanged: bool,
}

/// What [`Apps`] is built from.
pub(crate) struct Dependencies {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) router: Arc<CurrentRouter>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) images: Arc<Images>,
    pub(crate) files: Files,
    pub(crate) programs: Arc<Programs>,
}

/// No app is deployed as long as this is held.
pub(crate) struct Removed<'a>(#[expect(dead_code, reason = "held")] MutexGuard<'a, ()>);

type Histories = BTreeMap<AppName, Arc<AppHistory>>;

/// The deployed apps.
pub(crate) struct Apps {
    store: Arc<dyn Store>,
    router: Arc<CurrentRouter>,
    /// The counters that routes refer to.
    metrics: Arc<Metrics>,
    images: Arc<Images>,
    /// What apps name by digest.
    files: Files,
    programs: Arc<Programs>,
    /// Where they lie.
    blobs: Arc<Path>,
    /// Held for a whole change, until it is durable and routed, so that there is one at a time.
    changing: Mutex<()>,
    /// The current state. The lock is held only to read or replace it.
    current: std::sync::RwLock<Arc<Histories>>,
    /// The containers that nodes are to keep prepared.
    wanted: watch::Sender<Arc<[PreparedClass]>>,
    /// Notified of each change.
    published: watch::Sender<()>,
}

impl Apps {
    /// Loads the apps from the store, and routes requests by them.
    pub(crate) fn load(dependencies: Dependencies) -> Result<Self, StoreError> {
        let Dependencies { store, router, metrics, images, files, programs } = dependencies;
        let histories = store.apps()?.into_iter();
        let histories: Histories =
            histories.map(|app| (app.current().spec.name.clone(), Arc::new(app))).collect();
        let blobs = files.directory().into();
        let wanted = watch::Sender::new(Arc::default());
        let (changing, current) = (Mutex::new(()), Default::default());
        let published = watch::Sender::default();
        let apps = Self {
            store,
            router,
            metrics,
            images,
            files,
            programs,
            blobs,
            changing,
            current,
            wanted,
            published,
        };
        apps.publish(histories, None);
        Ok(apps)
    }

    /// The containers that nodes are to keep prepared, and their changes.
    pub(crate) fn wanted(&self) -> watch::Receiver<Arc<[PreparedClass]>> {
        self.wanted.subscribe()
    }

    /// Notifies of each change of the apps.
    pub(crate) fn published(&self) -> watch::Receiver<()> {
        self.published.subscribe()
    }

    /// The current versions of the apps that have crons.
    pub(crate) fn with_crons(&self) -> Vec<AppSpec> {
        let histories = self.histories();
        let current = histories.values().map(|app| app.current());
        let has_some = |spec: &AppSpec| {
            !spec.crons.is_empty() || spec.program.as_ref().is_some_and(|program| !program.crons.is_empty())
        };
        current.filter(|current| has_some(&current.spec)).map(|current| current.spec.clone()).collect()
    }

    /// All apps.
    pub(crate) fn all(&self) -> Vec<Arc<AppHistory>> {
        self.histories().values().cloned().collect()
    }

    /// One app.
    pub(crate) fn get(&self, app: &AppName) -> Option<Arc<AppHistory>> {
        self.histories().get(app).cloned()
    }

    /// What the process of an app's program has in memory now, in bytes, if there is one.
    pub(crate) fn memory_of_program(&self, app: &AppName) -> Option<u64> {
        self.programs.memory_bytes(app)
    }

    /// A class of the current version.
    pub(crate) fn class(&self, app: &AppName, class: &ClassName) -> Option<ClassSpec> {
        self.get(app)?.routed().classes.remove(class)
    }

    /// Validates a version without deploying it, and completes it (the architectures of its images).
    pub(crate) async fn checked(&self, mut spec: AppSpec, expect: Expect) -> Result<AppSpec, DeployError> {
        expect.check(self.get(&spec.name).map(|known| known.current().version))?;
        let mut faults = faults(&spec);
        for class in spec.classes.values_mut() {
            class.recipe.start_boost = class.recipe.start_boost.map(|boost| boost.within(&spec.limits));
        }
        faults.extend(images::pin(&self.images, &mut spec).await?);
        faults.extend(files::claim(&self.files, &spec).await?);
        if let Some(program) = spec.program.as_ref().filter(|_| faults.is_empty()) {
            faults.extend(program::fault_of_load(&self.programs, &spec.name, program, &spec.classes).await);
        }
        if faults.is_empty() { Ok(spec) } else { Err(DeployError::Invalid(faults)) }
    }

    /// Makes this the current version of the app. Returns once that is durable and requests are routed by it. What the
    /// current version is already makes another one only where that is forced.
    pub(crate) async fn deploy(
        &self,
        spec: AppSpec,
        expect: Expect,
        force: bool,
    ) -> Result<Deployment, DeployError> {
        let spec = self.checked(spec, expect).await?;
        let _changing = self.changing.lock().await;
        let known = self.get(&spec.name);
        expect.check(known.as_ref().map(|known| known.current().version))?;
        let history = match known {
            Some(known) if known.current().spec == spec && !force => {
                return current_view(&known).map(|version| Deployment { version, unchanged: true });
            }
            Some(known) => known.deploy(spec, wall_ms()),
            None => {
                // Numbers go on where a deleted app of this name has ended.
                let last = self.store.last_version(&spec.name)?;
                AppHistory::begin_after(last, spec, wall_ms())
            }
        };
        self.change(history).await.map(|version| Deployment { version, unchanged: false })
    }

    /// Makes an earlier version current again. Returns once that is durable and requests are routed by it.
    pub(crate) async fn roll_back(
        &self,
        app: &AppName,
        to: Option<Version>,
        expect: Expect,
    ) -> Result<VersionView, DeployError> {
        let _changing = self.changing.lock().await;
        let known = self.get(app).ok_or_else(|| DeployError::Unknown(format!("there is no app `{app}`")))?;
        expect.check(Some(known.current().version))?;
        let history = known.roll_back(to).ok_or_else(|| {
            DeployError::Unknown(match to {
                Some(version) => {
                    format!("the app `{app}` has no version {version}, or it is not kept any more")
                }
                None => format!("the app `{app}` has no version before {}", known.current().version),
            })
        })?;
        self.change(history).await
    }

    /// Removes an app with its schedules and events: requests are no longer routed to it. The records of its
    /// objects stay. False if there was none.
    pub(crate) async fn remove(&self, app: &AppName, expect: Expect) -> Result<bool, DeployError> {
        let _changing = self.changing.lock().await;
        let known = self.get(app);
        expect.check(known.as_ref().map(|known| known.current().version))?;
        let Some(known) = known else { return Ok(false) };
        leftovers::remove_most(&self.store, app).await?;
        let ended = Write::LastVersion(app.clone(), known.newest());
        store::commit(&*self.store, vec![Write::RemoveApp(app.clone()), ended]).await?;
        tracing::info!(%app, "app removed");
        let mut histories = Histories::clone(&self.histories());
        histories.remove(app);
        self.publish(histories, None);
        // Its objects may have added some until now. From here on they add no more than their ends.
        leftovers::remove(&self.store, app).await?;
        Ok(true)
    }

    /// Keeps all apps as they are for as long as the result is held, if this one is not deployed.
    pub(crate) async fn while_removed(&self, app: &AppName) -> Option<Removed<'_>> {
        let changing = self.changing.lock().await;
        self.get(app).is_none().then_some(Removed(changing))
    }

    /// Stores an app's history durably, and then routes by it.
    async fn change(&self, history: AppHistory) -> Result<VersionView, DeployError> {
        store::write(&*self.store, Write::App(history.clone())).await?;
        let current = history.current();
        let (app, version) = (current.spec.name.clone(), current.version);
        tracing::info!(%app, %version, "app deployed");
        let view = current_view(&history);
        let mut histories = Histories::clone(&self.histories());
        histories.insert(app.clone(), Arc::new(history));
        self.publish(histories, Some(&app));
        view
    }

    fn publish(&self, histories: Histories, deployed: Option<&AppName>) {
        let routed = histories.iter().map(|(name, app)| (name.clone(), app.routed())).collect();
        self.wanted.send_replace(Arc::from(wanted(&routed)));
        let programs = histories.iter().filter_map(|(name, app)| {
            let spec = routed.get(name)?;
            Some((name, app.current().version, spec.program.as_ref()?, &spec.classes))
        });
        self.programs.publish(programs);
        let before = self.router.get();
        self.router.replace(Router::new(&routed, &self.metrics, &self.blobs, &before, deployed));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(histories);
        self.published.send_replace(());
    }

    fn histories(&self) -> Arc<Histories> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn current_view(history: &AppHistory) -> Result<VersionView, DeployError> {
    let view = versions::views(history).into_iter().find(|view| view.current);
    view.ok_or_else(|| DeployError::Unknown("the version is gone".to_owned()))
}

/// Everything that is wrong with an app and that its types do not already rule out.
fn faults(app: &AppSpec) -> Vec<Fault> {
    let mut faults = Vec::new();
    let of_assets = app.assets.iter().flat_map(AssetsSpec::faults);
    faults.extend(of_assets.map(|(field, message)| Fault { field: format!("assets.{field}"), message }));
    faults.extend(app.program.iter().flat_map(|program| program::faults(program, &app.classes)));
    if let Some(fault) = app.logs.fault() {
        faults.push(Fault { field: "logs".to_owned(), message: fault.to_owned() });
    }
    for (name, class) in &app.classes {
        faults.extend(
            class_faults(class)
                .into_iter()
                .map(|(field, message)| Fault { field: format!("classes.{name}.{field}"), message }),
        );
    }
    for (index, route) in app.routes.iter().enumerate() {
        faults.extend(
            route_faults(app, route)
                .into_iter()
                .map(|(field, message)| Fault { field: format!("routes[{index}].{field}"), message }),
        );
    }
    faults.extend(triggers::faults(app));
    if app.classes.len() > MAX_CLASSES || app.routes.len() > MAX_ROUTES {
        let message = format!("at most {MAX_CLASSES} classes and {MAX_ROUTES} routes are allowed");
        faults.push(Fault { field: "routes".to_owned(), message });
    }
    faults
}

/// Errors of one part, each with the name of a field.
type Faults = Vec<(&'static str, String)>;

fn class_faults(class: &ClassSpec) -> Faults {
    let env_bytes: usize = class.recipe.env.iter().map(|(name, value)| name.len() + value.len()).sum();
    let names = class
        .recipe
        .env
        .iter()
        .all(|(name, value)| !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'));
    let words = class.recipe.entrypoint.as_ref();
    let words = words.is_none_or(|words| {
        words.first().is_some_and(|first| !first.is_empty()) && !words.iter().any(|word| word.contains('\0'))
    });
    let resources = &class.recipe.resources;
    let ping = class.ping_endpoint.as_deref().and_then(path_fault);
    let boost = class.recipe.start_boost.and_then(|boost| boost.fault(resources));
    let durations = [class.start_timeout, class.port_timeout, class.stop_grace, class.wake_grace];
    let waits =
        [Some(class.sleep_after), class.node_loss].into_iter().flatten().filter_map(TimeOrNever::time);
    let twice = class.secrets.keys().find(|variable| class.recipe.env.contains_key(variable.as_str()));
    let checks = [
        (class.default_port != Some(0), "default_port", "must not be 0".to_owned()),
        (
            class.required_ports.len() <= MAX_REQUIRED_PORTS && !class.required_ports.contains(&0),
            "required_ports",
            format!("at most {MAX_REQUIRED_PORTS} ports are allowed, none of them 0"),
        ),
        (ping.is_none(), "ping_endpoint", ping.unwrap_or_default().to_owned()),
        (
            resources.cpu_sixteenths > 0 && resources.memory_bytes > 0,
            "resources",
            "cpu and memory must be more than nothing".to_owned(),
        ),
        (boost.is_none(), "start_boost", boost.unwrap_or_default()),
        (words, "entrypoint", "names no program, or holds a zero byte".to_owned()),
        (names, "env", "holds a name that is empty or has `=` in it, or a zero byte".to_owned()),
        (
            env_bytes <= MAX_ENV_BYTES,
            "env",
            format!("takes {env_bytes} bytes; at most {MAX_ENV_BYTES} are allowed"),
        ),
        (
            durations.into_iter().chain(waits).all(|duration| duration <= MAX_DURATION),
            "sleep_after",
            format!("no duration may be longer than {} days", MAX_DURATION.as_secs() / 86_400),
        ),
        (
            class.node_loss.and_then(TimeOrNever::time).is_none_or(|time| time >= *NODE_LOSS_BOUNDS.start()),
            "node_loss",
            format!("must be at least {} s, or never", NODE_LOSS_BOUNDS.start().as_secs()),
        ),
        (class.secrets.len() <= MAX_SECRETS, "secrets", format!("at most {MAX_SECRETS} are allowed")),
        (
            twice.is_none(),
            "secrets",
            format!("the variable {} is in env too", twice.map_or("", |variable| variable.as_str())),
        ),
        (class.prepared <= MAX_PREPARED, "prepared", format!("at most {MAX_PREPARED} are allowed")),
    ];
    checks.into_iter().filter(|(sound, ..)| !sound).map(|(_, field, fault)| (field, fault)).collect()
}

fn route_faults(app: &AppSpec, route: &RouteSpec) -> Faults {
    let mut faults = Vec::new();
    if !app.classes.contains_key(&route.class) {
        faults.push(("class", format!("there is no class `{}`", route.class)));
    }
    if route.port == Some(0) {
        faults.push(("port", "must not be 0".to_owned()));
    }
    if route.rewrite.is_some() && !route.path.is_prefix() {
        faults.push(("rewrite", "only goes with a path that ends with `/*`".to_owned()));
    }
    if let Some(fault) = route.rewrite.as_deref().and_then(path_fault) {
        faults.push(("rewrite", fault.to_owned()));
    }
    let object = match &route.object {
        NameSource::PathParameter(name) if !route.path.has_parameter(name) => {
            Some(format!("the path has no parameter `{name}`"))
        }
        NameSource::HostParameter(name)
            if route.hosts.is_empty() || !route.hosts.iter().all(|host| host.has_parameter(name)) =>
        {
            Some(format!("not each of its hosts has the parameter `{name}`"))
        }
        NameSource::Random(count) | NameSource::LeastLoaded(count)
            if !(1..=MAX_INTERCHANGEABLE).contains(count) =>
        {
            Some(format!("the number of objects must be from 1 to {MAX_INTERCHANGEABLE}"))
        }
        NameSource::Header(name) if http::HeaderName::try_from(name.as_str()).is_err() => {
            Some(format!("`{name}` is not the name of a header"))
        }
        NameSource::PathParameter(_)
        | NameSource::HostParameter(_)
        | NameSource::Header(_)
        | NameSource::Cookie(_)
        | NameSource::Query(_)
        | NameSource::Random(_)
        | NameSource::LeastLoaded(_)
        | NameSource::Constant(_) => None,
    };
    faults.extend(object.map(|fault| ("object", fault)));
    faults
}

#[cfg(test)]
mod tests {
    use berth_common::image::Digest;
    use berth_store::fixtures::app;

    use super::*;

    #[test]
    fn a_valid_app_has_no_faults() {
        assert_eq!(faults(&app("a", &[("/{id}", None), ("/*", Some(1))])), Vec::new());
    }

    #[test]
    fn static_files_are_named_by_path_and_digest_and_no_directory_is_taken() {
        let found = |directory: Option<&str>, path: &str| -> Vec<String> {
            let files = [(path.to_owned(), Digest::of(b"x"))].into();
            let (directory, hosts) = (directory.map(Into::into), Vec::new());
            let assets = AssetsSpec { directory, files, hosts, not_found: Default::default() };
            let app = AppSpec { assets: Some(assets), ..app("a", &[]) };
            faults(&app).into_iter().map(|fault| fault.field).collect()
        };
        assert_eq!(found(None, "/a b/c"), [""; 0]);
        assert_eq!(found(Some("/etc"), "a"), ["assets.directory", "assets.files"]);
        assert_eq!(found(None, "/a\0"), ["assets.files"]);
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let mut bad = app("a", &[("/{id}", Some(0))]);
        bad.routes[0].class = "Other".parse().unwrap();
        bad.routes[0].object = NameSource::PathParameter("x".to_owned());
        let class = bad.classes.values_mut().next().unwrap();
        class.default_port = Some(0);
        class.recipe.env.insert("K".to_owned(), "secret".repeat(MAX_ENV_BYTES));
        class.secrets.insert("K".parse().unwrap(), "S".parse().unwrap());
        let faults = faults(&bad);
        assert_eq!(faults.len(), 6, "{faults:?}");
        assert!(!format!("{faults:?}").contains("secretsecret"));
    }
}
