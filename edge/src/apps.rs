//! The apps that are deployed: checked, stored durably, and only then routed to.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use berth_common::ids::{AppName, ClassName};
use berth_common::spec::{AppSpec, ClassSpec, MAX_ENV_BYTES, MAX_INTERCHANGEABLE, NameSource, RouteSpec};
use berth_common::wire::call::{Prepare, Stock};
use berth_common::wire::frame::MAX_FRAME_BYTES;
use tokio::sync::{Mutex, oneshot, watch};

use crate::router::{CurrentRouter, Router};
use crate::store::{Store, StoreError};

/// Most bytes of what nodes are told to keep ready: it travels in one frame, with a little around it.
const MAX_STOCKS_BYTES: usize = MAX_FRAME_BYTES - 1024;

/// Why an app was not deployed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeployError {
    /// The specification is at odds with itself. All that is wrong with it.
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
    /// It was not stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The deployed apps.
pub(crate) struct Apps {
    store: Arc<dyn Store>,
    router: Arc<CurrentRouter>,
    /// One deploy at a time: the lock is held until the app is durable and routed, by design, and by nobody else.
    apps: Mutex<BTreeMap<AppName, AppSpec>>,
    /// The same, for readers.
    current: std::sync::RwLock<Arc<BTreeMap<AppName, AppSpec>>>,
    /// What of them nodes are to keep ready.
    stocks: watch::Sender<Arc<Prepare>>,
}

impl Apps {
    /// The apps that the store knows, routed.
    pub(crate) fn load(store: Arc<dyn Store>, router: Arc<CurrentRouter>) -> Result<Self, StoreError> {
        let apps: BTreeMap<_, _> = store.apps()?.into_iter().map(|app| (app.name.clone(), app)).collect();
        router.replace(Router::new(&apps));
        let current = std::sync::RwLock::new(Arc::new(apps.clone()));
        let stocks = watch::Sender::new(Arc::new(stocks(&apps)));
        Ok(Self { store, router, apps: Mutex::new(apps), current, stocks })
    }

    /// The containers that nodes are to keep ready, now and as that changes.
    pub(crate) fn stocks(&self) -> watch::Receiver<Arc<Prepare>> {
        self.stocks.subscribe()
    }

    /// All apps.
    pub(crate) fn all(&self) -> Vec<AppSpec> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// A class as it is now.
    pub(crate) fn class(&self, app: &AppName, class: &ClassName) -> Option<ClassSpec> {
        let apps = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        apps.get(app)?.classes.get(class).cloned()
    }

    /// Makes this the current version of the app. Returns once it is durable and routed to.
    pub(crate) async fn deploy(&self, app: AppSpec) -> Result<(), DeployError> {
        let faults = faults(&app);
        if !faults.is_empty() {
            return Err(DeployError::Invalid(faults));
        }
        let mut apps = self.apps.lock().await;
        self.persist(app.clone()).await?;
        tracing::info!(app = %app.name, classes = app.classes.len(), routes = app.routes.len(), "app deployed");
        apps.insert(app.name.clone(), app);
        self.router.replace(Router::new(&apps));
        self.stocks.send_replace(Arc::new(stocks(&apps)));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(apps.clone());
        Ok(())
    }

    async fn persist(&self, app: AppSpec) -> Result<(), StoreError> {
        let (tell, told) = oneshot::channel();
        self.store.put_app(app, Box::new(move |result| drop(tell.send(result))));
        told.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// What nodes are to keep ready: of each class that wants it, as far as one call can say it.
fn stocks(apps: &BTreeMap<AppName, AppSpec>) -> Prepare {
    let classes =
        apps.values().flat_map(|app| app.classes.iter().map(move |(name, class)| (app, name, class)));
    let mut room = MAX_STOCKS_BYTES;
    let mut stocks = Vec::new();
    for (app, name, class) in classes.filter(|(_, _, class)| class.prepared > 0) {
        let stock = Stock { recipe: class.recipe.clone(), count: class.prepared };
        let bytes = serde_json::to_vec(&stock).map_or(usize::MAX, |json| json.len() + 1);
        if let Some(left) = room.checked_sub(bytes) {
            room = left;
            stocks.push(stock);
        } else {
            tracing::warn!(app = %app.name, class = %name, "no containers are kept prepared: there are too many classes");
        }
    }
    Prepare { stocks }
}

/// Everything that is wrong with an app that the types do not already rule out.
fn faults(app: &AppSpec) -> Vec<String> {
    let classes = app.classes.iter().flat_map(|(name, class)| {
        class_faults(class).into_iter().map(move |fault| format!("class `{name}`: {fault}"))
    });
    let routes = app.routes.iter().flat_map(|route| {
        route_faults(app, route).into_iter().map(move |fault| format!("route `{}`: {fault}", route.path))
    });
    classes.chain(routes).collect()
}

fn class_faults(class: &ClassSpec) -> Vec<String> {
    let env_bytes: usize = class.recipe.env.iter().map(|(name, value)| name.len() + value.len()).sum();
    let digest = class.recipe.image.digest.strip_prefix("sha256:");
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let resources = &class.recipe.resources;
    let checks = [
        (class.default_port != 0, "default_port must not be 0".to_owned()),
        (class.recipe.image.layout.is_absolute(), "the image's layout must be an absolute path".to_owned()),
        (
            digest.is_some_and(|digits| digits.len() == 64 && digits.chars().all(hex)),
            "the image's digest must be `sha256:` and 64 hexadecimal digits".to_owned(),
        ),
        (
            resources.cpu_sixteenths > 0 && resources.memory_bytes > 0,
            "cpu and memory must be more than nothing".to_owned(),
        ),
        (
            env_bytes <= MAX_ENV_BYTES,
            format!("the environment takes {env_bytes} bytes; at most {MAX_ENV_BYTES} are allowed"),
        ),
    ];
    checks.into_iter().filter(|(sound, _)| !sound).map(|(_, fault)| fault).collect()
}

fn route_faults(app: &AppSpec, route: &RouteSpec) -> Vec<String> {
    let mut faults = Vec::new();
    if !app.classes.contains_key(&route.class) {
        faults.push(format!("there is no class `{}`", route.class));
    }
    if route.port == Some(0) {
        faults.push("port must not be 0".to_owned());
    }
    match &route.object {
        NameSource::PathParameter(name) if !route.path.has_parameter(name) => {
            faults.push(format!("the path has no parameter `{name}`"));
        }
        NameSource::HostParameter(name)
            if route.hosts.is_empty() || !route.hosts.iter().all(|host| host.has_parameter(name)) =>
        {
            faults.push(format!("not each of its hosts has the parameter `{name}`"));
        }
        NameSource::Random(count) if !(1..=MAX_INTERCHANGEABLE).contains(count) => {
            faults.push(format!("random must be from 1 to {MAX_INTERCHANGEABLE}"));
        }
        NameSource::Header(name) if http::HeaderName::try_from(name.as_str()).is_err() => {
            faults.push(format!("`{name}` is not the name of a header"));
        }
        NameSource::PathParameter(_)
        | NameSource::HostParameter(_)
        | NameSource::Header(_)
        | NameSource::Cookie(_)
        | NameSource::Query(_)
        | NameSource::Random(_)
        | NameSource::Constant(_) => {}
    }
    faults
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use berth_common::spec::{ImageRef, PathPattern, Recipe, Resources};

    use super::*;

    /// An app with one class and routes with these paths and ports, the object's name in `{id}` or constant.
    pub(crate) fn app(name: &str, routes: &[(&str, Option<u16>)]) -> AppSpec {
        let route = |(path, port): &(&str, Option<u16>)| {
            let path = PathPattern::new(path).unwrap();
            let object = if path.has_parameter("id") {
                NameSource::PathParameter("id".to_owned())
            } else {
                NameSource::Constant("only".parse().unwrap())
            };
            let class = "Class".parse().unwrap();
            RouteSpec { hosts: Vec::new(), methods: Vec::new(), path, class, object, port: *port }
        };
        AppSpec {
            name: name.parse().unwrap(),
            classes: BTreeMap::from([("Class".parse().unwrap(), class())]),
            routes: routes.iter().map(route).collect(),
        }
    }

    pub(crate) fn class() -> ClassSpec {
        ClassSpec {
            recipe: Recipe {
                image: ImageRef { layout: "/images/x".into(), digest: format!("sha256:{}", "0".repeat(64)) },
                entrypoint: None,
                env: BTreeMap::new(),
                resources: Resources::of_type("lite").unwrap(),
                enable_internet: false,
                start_boost: None,
                capabilities: Default::default(),
            },
            max_instances: None,
            default_port: 8080,
            sleep_after: Duration::from_secs(600),
            start_timeout: Duration::from_secs(8),
            port_timeout: Duration::from_secs(20),
            stop_grace: Duration::from_secs(900),
            prepared: 0,
            manual_start: false,
        }
    }

    #[test]
    fn a_sound_app_has_no_faults() {
        assert_eq!(faults(&app("a", &[("/{id}", None), ("/*", Some(1))])), Vec::<String>::new());
    }

    #[test]
    fn nodes_are_told_of_as_many_classes_as_one_frame_holds() {
        let mut apps = BTreeMap::new();
        for index in 0..6 {
            let mut app = app(&format!("a{index}"), &[]);
            let class = app.classes.values_mut().next().unwrap();
            class.prepared = u32::from(index != 0);
            class.recipe.env.insert("K".to_owned(), "x".repeat(MAX_ENV_BYTES - 1));
            apps.insert(app.name.clone(), app);
        }
        let told = stocks(&apps);
        assert_eq!(told.stocks.len(), 3);
        let call = berth_common::wire::call::Call::Prepare(told);
        assert!(berth_common::wire::frame::encode(&call).is_ok());
    }

    #[test]
    fn all_faults_come_at_once() {
        let mut bad = app("a", &[("/{id}", Some(0))]);
        bad.routes[0].class = "Other".parse().unwrap();
        bad.routes[0].object = NameSource::PathParameter("x".to_owned());
        let class = bad.classes.values_mut().next().unwrap();
        class.default_port = 0;
        class.recipe.image.digest = "sha256:short".to_owned();
        class.recipe.env.insert("K".to_owned(), "secret".repeat(MAX_ENV_BYTES));
        let faults = faults(&bad);
        assert_eq!(faults.len(), 6, "{faults:?}");
        assert!(!faults.concat().contains("secretsecret"));
    }
}
