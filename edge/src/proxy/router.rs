//! Which object a request is for: the routes of all apps, in order of the apps' names, and within an app in its own
//! order. A table is immutable; a deployment replaces it.

mod fronts;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use berth_common::ids::{AppName, ClassName, IdError, ObjectKey, ObjectName};
use berth_common::spec::{AppSpec, ClassSpec, NameSource, RouteSpec, StartRates};
use http::Request;
use http::header::{COOKIE, HOST};

use super::assets::Found;
use super::load::{LoadGuard, Loads};
use crate::metrics::{ClassCounts, Metrics, Requests};

pub(crate) use self::fronts::First;
use self::fronts::Fronts;

/// The routes of all apps.
#[derive(Debug, Default)]
pub(crate) struct Router {
    routes: Vec<Route>,
    /// What apps have besides containers.
    fronts: Fronts,
}

#[derive(Debug)]
struct Route {
    app: AppName,
    class: Arc<ClassSpec>,
    /// How many new objects requests may start; none where clients do not choose the names.
    rates: Option<StartRates>,
    spec: RouteSpec,
    /// The load of its objects, if the least loaded one is chosen.
    loads: Option<Arc<Loads>>,
    /// The counters of its class.
    counts: Arc<ClassCounts>,
}

/// The load of interchangeable objects, by their app, class and number. Routes to the same ones share it.
type KnownLoads = HashMap<(AppName, ClassName, usize), Arc<Loads>>;

/// The destination of a request.
#[derive(Debug)]
pub(crate) struct Matched {
    pub(crate) key: ObjectKey,
    pub(crate) class: Arc<ClassSpec>,
    /// How many new objects of the app requests may start; none where clients do not choose the names.
    pub(crate) rates: Option<StartRates>,
    /// Overrides the default port of the class that the instance was started with.
    pub(crate) port: Option<u16>,
    /// Replaces the request's own path.
    pub(crate) path: Option<String>,
    /// Counts the request as load of its object, if the route balances load.
    pub(crate) load: Option<LoadGuard>,
    /// Index of the matching route.
    pub(crate) route: usize,
}

/// Why a request has no destination.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RouteError {
    /// No route matches.
    #[error("no route of any app matches this path, host and method")]
    NoRoute,
    /// Routes match the path and the host, with these methods.
    #[error("this path is not for the request's method")]
    Method(Vec<String>),
    /// The text is not a valid name of an object.
    #[error("the object's name in the {0} {1}")]
    Name(&'static str, IdError),
    /// The text is not UTF-8, or not percent-encoded correctly.
    #[error("the object's name in the {0} is not UTF-8, or not encoded correctly")]
    Encoding(&'static str),
    /// There is no name, or more than one.
    #[error("the request must have exactly one {0} `{1}`: it names the object")]
    NotGiven(&'static str, String),
}

impl Router {
    /// The routes of these apps, in the place of those before. What has not changed stays: the load of objects, and the
    /// files of all apps but the one that was deployed just now. `blobs` has those that are named by digest.
    pub(crate) fn new(
        apps: &BTreeMap<AppName, AppSpec>,
        metrics: &Metrics,
        blobs: &Arc<Path>,
        before: &Self,
        deployed: Option<&AppName>,
    ) -> Self {
        let mut kept = before.loads();
        let routes = apps.values().flat_map(|app| routes(app, metrics, &mut kept)).collect();
        Self { fronts: Fronts::new(apps, blobs, &before.fronts, deployed), routes }
    }

    fn loads(&self) -> KnownLoads {
        let known = |route: &Route| {
            let loads = route.loads.as_ref()?;
            Some(((route.app.clone(), route.spec.class.clone(), loads.count()), Arc::clone(loads)))
        };
        self.routes.iter().filter_map(known).collect()
    }

    /// The static file that a request is for, or the program that is before the files.
    pub(crate) fn first<B>(&self, request: &Request<B>) -> Option<First> {
        self.fronts.first(request)
    }

    /// The app whose program answers a request that is for no file and for no container.
    pub(crate) fn program<B>(&self, request: &Request<B>) -> Option<&AppName> {
        self.fronts.program(request)
    }

    /// What a program gets of its app's files.
    pub(crate) fn file_of<B>(&self, app: &str, request: &Request<B>) -> Option<Found> {
        self.fronts.file_of(app, request)
    }

    /// The response to a request that matches no route.
    pub(crate) fn otherwise<B>(&self, request: &Request<B>) -> Option<Found> {
        self.fronts.assets().find_map(|assets| assets.otherwise(request, host(request)))
    }

    /// Finds the object of a request.
    pub(crate) fn route<B>(&self, request: &Request<B>) -> Result<Matched, RouteError> {
        let taken = self
            .routes
            .iter()
            .enumerate()
            .find_map(|(index, route)| Some((index, route, route.takes(request)?)));
        let (route, Route { app, class, rates, spec, loads, .. }, captures) =
            taken.ok_or_else(|| self.not_taken(request))?;
        let load = loads.as_ref().map(Loads::choose);
        let name = match &load {
            Some(load) => numbered(load.index())?,
            None => captures.name(&spec.object, request)?,
        };
        let key = ObjectKey { app: app.clone(), class: spec.class.clone(), name };
        let path = spec.rewrite.as_ref().map(|text| spec.path.rewrite(request.uri().path(), text));
        Ok(Matched { key, class: Arc::clone(class), rates: *rates, port: spec.port, path, load, route })
    }

    /// Why no route takes a request.
    fn not_taken<B>(&self, request: &Request<B>) -> RouteError {
        let at_place = self.routes.iter().filter(|route| route.is_at(request).is_some());
        let mut methods: Vec<String> =
            at_place.flat_map(|route| route.spec.methods.iter().cloned()).collect();
        if self.is_file(request) {
            methods.extend(["GET", "HEAD"].map(str::to_owned));
        }
        methods.sort_unstable();
        methods.dedup();
        if methods.is_empty() { RouteError::NoRoute } else { RouteError::Method(methods) }
    }

    /// Whether there is a static file at a request's path.
    fn is_file<B>(&self, request: &Request<B>) -> bool {
        let path = percent_decode(request.uri().path());
        path.is_ok_and(|path| self.fronts.assets().any(|assets| assets.has(host(request), &path)))
    }

    /// The counters of a shard for the requests that matched a route.
    pub(crate) fn counts(&self, route: usize, shard: usize) -> Option<&Arc<Requests>> {
        Some(self.routes.get(route)?.counts.shard(shard))
    }
}

/// What the patterns of a route have captured in a request.
struct Captures<'r> {
    path: Vec<(&'r str, &'r str)>,
    host_label: &'r str,
}

impl Route {
    fn takes<'r, B>(&'r self, request: &'r Request<B>) -> Option<Captures<'r>> {
        let methods = &self.spec.methods;
        if !methods.is_empty() && !methods.iter().any(|method| method == request.method().as_str()) {
            return None;
        }
        self.is_at(request)
    }

    /// The same whatever the method is.
    fn is_at<'r, B>(&'r self, request: &'r Request<B>) -> Option<Captures<'r>> {
        let path = self.spec.path.captures(request.uri().path())?;
        let host_label = match &self.spec.hosts[..] {
            [] => "",
            hosts => {
                let host = host(request)?;
                hosts.iter().find_map(|pattern| pattern.capture(host))?
            }
        };
        Some(Captures { path, host_label })
    }
}

/// The host that the client named, without a port, and without the dot that ends a name that is whole.
fn host<B>(request: &Request<B>) -> Option<&str> {
    let authority = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => request.headers().get(HOST)?.to_str().ok()?,
    };
    // An IPv6 address never matches a host pattern, whatever is cut off it.
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    Some(host.strip_suffix('.').unwrap_or(host))
}

impl Captures<'_> {
    fn name<B>(&self, source: &NameSource, request: &Request<B>) -> Result<ObjectName, RouteError> {
        let (part, name) = match source {
            NameSource::Constant(name) => return Ok(name.clone()),
            NameSource::PathParameter(parameter) => {
                let raw = self.path.iter().find(|(name, _)| name == parameter).ok_or(RouteError::NoRoute)?;
                ("path", percent_decode(raw.1)?)
            }
            NameSource::HostParameter(_) => ("host", self.host_label.to_ascii_lowercase()),
            NameSource::Header(name) => ("header", header(request, name)?),
            NameSource::Cookie(name) => ("cookie", cookie(request, name)?),
            NameSource::Query(name) => ("query", query(request, name)?),
            NameSource::Random(count) | NameSource::LeastLoaded(count) => {
                return numbered(fastrand::u32(0..(*count).max(1)));
            }
        };
        ObjectName::new(name).map_err(|error| RouteError::Name(part, error))
    }
}

/// The name of an interchangeable object.
fn numbered(number: impl ToString) -> Result<ObjectName, RouteError> {
    ObjectName::new(number.to_string()).map_err(|error| RouteError::Name("route", error))
}

/// Requires exactly one value: with two, it is not clear which one is meant.
fn only_one(
    part: &'static str,
    name: &str,
    mut found: impl Iterator<Item = String>,
) -> Result<String, RouteError> {
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        _ => Err(RouteError::NotGiven(part, name.to_owned())),
    }
}

fn header<B>(request: &Request<B>, name: &str) -> Result<String, RouteError> {
    let values: Result<Vec<_>, _> = request
        .headers()
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8(value.as_bytes().to_vec()))
        .collect();
    only_one("header", name, values.map_err(|_| RouteError::Encoding("header"))?.into_iter())
}

fn cookie<B>(request: &Request<B>, name: &str) -> Result<String, RouteError> {
    let headers: Result<Vec<_>, _> =
        request.headers().get_all(COOKIE).iter().map(|value| value.to_str()).collect();
    let headers = headers.map_err(|_| RouteError::Encoding("cookie"))?;
    let pairs = headers.iter().flat_map(|header| header.split(';')).filter_map(|pair| pair.split_once('='));
    let found = pairs.filter(|(known, _)| known.trim() == name).map(|(_, value)| value.trim().to_owned());
    only_one("cookie", name, found)
}

fn query<B>(request: &Request<B>, name: &str) -> Result<String, RouteError> {
    let query = request.uri().query().unwrap_or_default();
    let found = form_urlencoded::parse(query.as_bytes()).filter(|(known, _)| known == name);
    only_one("query parameter", name, found.map(|(_, value)| value.into_owned()))
}

/// The routes of one app whose classes exist; a deployment checks that all do.
fn routes(app: &AppSpec, metrics: &Metrics, kept: &mut KnownLoads) -> Vec<Route> {
    let classes: BTreeMap<_, _> =
        app.classes.iter().map(|(name, class)| (name, Arc::new(class.clone()))).collect();
    let mut route = |spec: &RouteSpec| {
        let class = Arc::clone(classes.get(&spec.class)?);
        let loads = match spec.object {
            NameSource::LeastLoaded(count) => {
                let fresh = Loads::new(count);
                let key = (app.name.clone(), spec.class.clone(), fresh.count());
                Some(Arc::clone(kept.entry(key).or_insert(fresh)))
            }
            _ => None,
        };
        let counts = metrics.class(&app.name, &spec.class);
        let chosen_here = matches!(
            spec.object,
            NameSource::LeastLoaded(_) | NameSource::Random(_) | NameSource::Constant(_)
        );
        let rates = (!chosen_here).then_some(app.start_rate);
        Some(Route { app: app.name.clone(), class, rates, spec: spec.clone(), loads, counts })
    };
    app.routes.iter().filter_map(&mut route).collect()
}

/// Decodes a part of a path. Only valid sequences are taken, which the crate does not check: it passes `%zz` through.
fn percent_decode(text: &str) -> Result<String, RouteError> {
    let is_encoded = |after: &str| {
        after.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.split('%').skip(1).all(is_encoded) {
        return Err(RouteError::Encoding("path"));
    }
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|_| RouteError::Encoding("path"))
}

/// The table that is in use, for all shards. Read once a request; written when an app is deployed.
#[derive(Debug, Default)]
pub(crate) struct CurrentRouter(RwLock<Arc<Router>>);

impl CurrentRouter {
    pub(crate) fn get(&self) -> Arc<Router> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a table in the place of the one in use. Requests that have been routed keep what they have.
    pub(crate) fn replace(&self, router: Router) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(router);
    }
}

#[cfg(test)]
mod tests {
    use berth_common::spec::{AssetsSpec, HostPattern};
    use berth_store::fixtures::app;

    use super::*;

    fn blobs() -> Arc<Path> {
        Path::new("/none").into()
    }

    fn router(apps: &[AppSpec]) -> Router {
        let apps = apps.iter().map(|app| (app.name.clone(), app.clone())).collect();
        Router::new(&apps, &Metrics::new(1), &blobs(), &Router::default(), None)
    }

    /// The router after a deployment of the first of these apps.
    fn deployed(before: &Router, apps: &[AppSpec]) -> Router {
        let known = apps.iter().map(|app| (app.name.clone(), app.clone())).collect();
        Router::new(&known, &Metrics::new(1), &blobs(), before, Some(&apps[0].name))
    }

    #[test]
    fn a_deployment_resets_no_load_and_reads_no_files_of_other_apps() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("page.html"), "x").unwrap();
        let mut busy = app("busy", &[("/busy", None), ("/also", None)]);
        busy.routes.iter_mut().for_each(|route| route.object = NameSource::LeastLoaded(3));
        let (hosts, not_found) = (Vec::new(), Default::default());
        let (directory_of, files) = (Some(directory.path().to_owned()), Default::default());
        busy.assets = Some(AssetsSpec { directory: directory_of, files, hosts, not_found });
        let before = router(&[busy.clone()]);
        let _held = before.route(&get("/busy")).unwrap();
        // Its files cannot be read for a while, and it is deployed itself, or another app is.
        drop(directory);
        for apps in [vec![app("other", &[]), busy.clone()], vec![busy.clone()]] {
            let after = deployed(&before, &apps);
            assert!(after.first(&get("/page")).is_some());
            let loads =
                |router: &Router, route: usize| Arc::clone(router.routes[route].loads.as_ref().unwrap());
            assert!(Arc::ptr_eq(&loads(&before, 0), &loads(&after, 0)));
            assert!(Arc::ptr_eq(&loads(&after, 0), &loads(&after, 1)), "they are the same objects");
        }
        busy.routes[0].object = NameSource::LeastLoaded(4);
        assert!(deployed(&before, &[busy]).route(&get("/busy")).is_ok());
    }

    #[test]
    fn a_static_file_is_there_for_get_and_head_only() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("docs")).unwrap();
        for file in ["page.html", "a b.txt", "docs/index.html"] {
            std::fs::write(directory.path().join(file), "x").unwrap();
        }
        let mut site = app("site", &[]);
        let (hosts, not_found) = (vec![HostPattern::new("site.example").unwrap()], Default::default());
        let (directory_of, files) = (Some(directory.path().to_owned()), Default::default());
        site.assets = Some(AssetsSpec { directory: directory_of, files, hosts, not_found });
        let router = router(&[site]);
        let asked = |host: &str, path: &str| {
            let request = Request::post(path).header("host", host).body(()).unwrap();
            assert!(router.first(&request).is_none());
            router.route(&request).map(|_| ()).unwrap_err()
        };
        for path in ["/page.html", "/a%20b.txt", "/page", "/docs/", "/docs"] {
            let allowed = RouteError::Method(vec!["GET".to_owned(), "HEAD".to_owned()]);
            assert_eq!(asked("site.example", path), allowed, "{path}");
            assert_eq!(asked("other.example", path), RouteError::NoRoute, "{path}");
        }
        assert_eq!(asked("site.example", "/none"), RouteError::NoRoute);
    }

    fn get(uri: &str) -> Request<()> {
        Request::get(uri).body(()).unwrap()
    }

    /// A router with one route, changed like this.
    fn with(change: impl FnOnce(&mut RouteSpec)) -> Router {
        let mut app = app("shop", &[("/*", None)]);
        change(&mut app.routes[0]);
        router(&[app])
    }

    fn named(router: &Router, request: Request<()>) -> Result<String, RouteError> {
        router.route(&request).map(|matched| matched.key.name.to_string())
    }

    #[test]
    fn hosts_choose_and_name() {
        let router = with(|route| {
            route.hosts = vec![HostPattern::new("{room}.example.com").unwrap()];
            route.object = NameSource::HostParameter("room".to_owned());
        });
        let at = |host: &str| Request::get("/x").header("host", host).body(()).unwrap();
        assert_eq!(named(&router, at("Blue.example.com:8080")), Ok("blue".to_owned()));
        assert_eq!(named(&router, get("http://red.example.com/x")), Ok("red".to_owned()));
        for other in ["example.com", "a.b.example.com", "[::1]:80", ""] {
            assert_eq!(named(&router, at(other)), Err(RouteError::NoRoute), "{other}");
        }
        assert_eq!(named(&router, get("/x")), Err(RouteError::NoRoute));
    }

    #[test]
    fn methods_choose() {
        let router = with(|route| route.methods = vec!["POST".to_owned()]);
        assert!(router.route(&get("/")).is_err());
        assert!(router.route(&Request::post("/").body(()).unwrap()).is_ok());
    }

    #[test]
    fn names_come_from_exactly_one_header_cookie_or_parameter() {
        let router = with(|route| route.object = NameSource::Header("x-user".to_owned()));
        let request = |values: &[&str]| {
            values.iter().fold(Request::get("/"), |r, value| r.header("x-user", *value)).body(()).unwrap()
        };
        assert_eq!(named(&router, request(&["ann"])), Ok("ann".to_owned()));
        assert!(matches!(named(&router, request(&[])), Err(RouteError::NotGiven(..))));
        assert!(matches!(named(&router, request(&["ann", "bob"])), Err(RouteError::NotGiven(..))));
        assert!(matches!(named(&router, request(&[""])), Err(RouteError::Name(..))));

        let router = with(|route| route.object = NameSource::Cookie("user".to_owned()));
        let request = |cookie: &str| Request::get("/").header("cookie", cookie).body(()).unwrap();
        assert_eq!(named(&router, request("a=b; user=ann; c=d")), Ok("ann".to_owned()));
        assert!(named(&router, request("superuser=ann")).is_err());
        assert!(named(&router, request("user=ann; user=bob")).is_err());

        let router = with(|route| route.object = NameSource::Query("user".to_owned()));
        assert_eq!(named(&router, get("/?x=1&user=a%20b")), Ok("a b".to_owned()));
        assert!(named(&router, get("/?user=a&user=b")).is_err() && named(&router, get("/")).is_err());
    }

    #[test]
    fn random_draws_each_of_its_names() {
        let router = with(|route| route.object = NameSource::Random(3));
        let drawn: std::collections::BTreeSet<_> =
            (0..200).map(|_| named(&router, get("/")).unwrap()).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), ["0", "1", "2"]);
    }

    #[test]
    fn the_less_busy_of_interchangeable_objects_is_chosen() {
        let router = with(|route| route.object = NameSource::LeastLoaded(2));
        let held: Vec<Matched> = (0..40).map(|_| router.route(&get("/")).unwrap()).collect();
        let first = held.iter().filter(|matched| matched.key.name.as_str() == "0").count();
        assert!((10..=30).contains(&first), "{first} of 40");
    }

    #[test]
    fn a_rewritten_path_goes_with_the_match() {
        let router = with(|route| route.rewrite = Some("/api".to_owned()));
        assert_eq!(router.route(&get("/a/b?q")).unwrap().path.as_deref(), Some("/api/a/b"));
    }

    fn name(router: &Router, path: &str) -> Result<String, RouteError> {
        router.route(&get(path)).map(|matched| matched.key.name.to_string())
    }

    #[test]
    fn the_name_is_the_decoded_part_of_the_path() {
        let router = router(&[app("shop", &[("/container/{id}/*", None)])]);
        assert_eq!(name(&router, "/container/7"), Ok("7".to_owned()));
        assert_eq!(name(&router, "/container/a%2Fb%20%C3%a4/x%zz"), Ok("a/b ä".to_owned()));
        assert_eq!(name(&router, "/container/größe"), Ok("größe".to_owned()));
        assert_eq!(router.route(&get("/container/7")).unwrap().port, None);
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        let router = router(&[app("shop", &[("/container/{id}", None)])]);
        for bad in ["/container/%", "/container/%4", "/container/%zz", "/container/%ff"] {
            assert_eq!(name(&router, bad), Err(RouteError::Encoding("path")), "{bad}");
        }
        assert_eq!(name(&router, "/container/%00"), Err(RouteError::Name("path", IdError::Character('\0'))));
        let long = format!("/container/{}", "x".repeat(1025));
        assert!(matches!(name(&router, &long), Err(RouteError::Name(_, IdError::TooLong { .. }))));
    }

    #[test]
    fn the_first_route_that_takes_a_path_has_it() {
        let router =
            router(&[app("b", &[("/b/{id}", Some(9)), ("/*", None)]), app("a", &[("/a/{id}", None)])]);
        let app_of =
            |path: &str| router.route(&get(path)).map(|matched| (matched.key.app.to_string(), matched.port));
        assert_eq!(app_of("/a/1"), Ok(("a".to_owned(), None)));
        assert_eq!(app_of("/b/1"), Ok(("b".to_owned(), Some(9))));
    }

    #[test]
    fn unknown_paths_are_not_found() {
        let router = router(&[app("shop", &[("/container/{id}", None)])]);
        for path in ["/", "/container", "/container/", "/container/1/2", "*"] {
            assert_eq!(name(&router, path), Err(RouteError::NoRoute), "{path}");
        }
    }

    #[test]
    fn a_deploy_swaps_the_table_for_later_requests() {
        let current = CurrentRouter::default();
        let before = current.get();
        current.replace(router(&[app("shop", &[("/{id}", None)])]));
        assert!(before.route(&get("/1")).is_err());
        assert!(current.get().route(&get("/1")).is_ok());
    }
}
