//! Which object a request is for: the routes of all apps, in order of the apps' names, and within an app in its own
//! order. A table is never changed; a deploy puts another in its place.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use berth_common::ids::{AppName, ClassName, IdError, ObjectKey, ObjectName};
use berth_common::spec::{AppSpec, ClassSpec, NameSource, PathPattern};

/// The routes of all apps.
#[derive(Debug, Default)]
pub(crate) struct Router {
    routes: Vec<Route>,
}

#[derive(Debug)]
struct Route {
    app: AppName,
    class_name: ClassName,
    class: Arc<ClassSpec>,
    path: PathPattern,
    object: NameSource,
    port: u16,
}

/// Where a request goes.
#[derive(Debug)]
pub(crate) struct Matched {
    pub(crate) key: ObjectKey,
    pub(crate) class: Arc<ClassSpec>,
    pub(crate) port: u16,
}

/// Why a request goes nowhere.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RouteError {
    /// No route takes the path.
    #[error("no route of any app takes this path")]
    NoRoute,
    /// The path's part is not an object's name.
    #[error("the object's name in the path {0}")]
    Name(#[from] IdError),
    /// It is not even text.
    #[error("the object's name in the path is not percent-encoded UTF-8")]
    Encoding,
}

impl Router {
    /// The routes of these apps.
    pub(crate) fn new(apps: &BTreeMap<AppName, AppSpec>) -> Self {
        Self { routes: apps.values().flat_map(routes).collect() }
    }

    /// Finds the object for a request's path.
    pub(crate) fn route(&self, path: &str) -> Result<Matched, RouteError> {
        let taken = self.routes.iter().find_map(|route| Some((route, route.path.captures(path)?)));
        let (route, captures) = taken.ok_or(RouteError::NoRoute)?;
        let name = match &route.object {
            NameSource::Constant(name) => name.clone(),
            NameSource::PathParameter(parameter) => {
                let raw = captures.iter().find(|(name, _)| name == parameter).ok_or(RouteError::NoRoute)?;
                ObjectName::new(percent_decode(raw.1)?)?
            }
        };
        let key = ObjectKey { app: route.app.clone(), class: route.class_name.clone(), name };
        Ok(Matched { key, class: Arc::clone(&route.class), port: route.port })
    }
}

/// The routes of one app whose classes exist; deploying checks that all do.
fn routes(app: &AppSpec) -> Vec<Route> {
    let classes: BTreeMap<_, _> =
        app.classes.iter().map(|(name, class)| (name, Arc::new(class.clone()))).collect();
    let route = |spec: &berth_common::spec::RouteSpec| {
        let class = classes.get(&spec.class)?;
        Some(Route {
            app: app.name.clone(),
            class_name: spec.class.clone(),
            class: Arc::clone(class),
            path: spec.path.clone(),
            object: spec.object.clone(),
            port: spec.port.unwrap_or(class.default_port),
        })
    };
    app.routes.iter().filter_map(route).collect()
}

fn percent_decode(text: &str) -> Result<String, RouteError> {
    if !text.contains('%') {
        return Ok(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = match first {
            b'%' => {
                let (digits, after) = after.split_first_chunk::<2>().ok_or(RouteError::Encoding)?;
                bytes.push(hex_digit(digits[0])? << 4 | hex_digit(digits[1])?);
                after
            }
            plain => {
                bytes.push(*plain);
                after
            }
        };
    }
    String::from_utf8(bytes).map_err(|_| RouteError::Encoding)
}

fn hex_digit(byte: u8) -> Result<u8, RouteError> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        b'A'..=b'F' => Ok(byte - b'A' + 10),
        _ => Err(RouteError::Encoding),
    }
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
    use super::*;
    use crate::apps::tests::app;

    fn router(apps: &[AppSpec]) -> Router {
        Router::new(&apps.iter().map(|app| (app.name.clone(), app.clone())).collect())
    }

    fn name(router: &Router, path: &str) -> Result<String, RouteError> {
        router.route(path).map(|matched| matched.key.name.to_string())
    }

    #[test]
    fn the_name_is_the_decoded_part_of_the_path() {
        let router = router(&[app("shop", &[("/container/{id}/*", None)])]);
        assert_eq!(name(&router, "/container/7"), Ok("7".to_owned()));
        assert_eq!(name(&router, "/container/a%2Fb%20%C3%a4/x%zz"), Ok("a/b ä".to_owned()));
        assert_eq!(name(&router, "/container/größe"), Ok("größe".to_owned()));
        assert_eq!(router.route("/container/7").unwrap().port, 8080);
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        let router = router(&[app("shop", &[("/container/{id}", None)])]);
        for bad in ["/container/%", "/container/%4", "/container/%zz", "/container/%ff"] {
            assert_eq!(name(&router, bad), Err(RouteError::Encoding), "{bad}");
        }
        assert_eq!(name(&router, "/container/%00"), Err(RouteError::Name(IdError::Character('\0'))));
        let long = format!("/container/{}", "x".repeat(1025));
        assert!(matches!(name(&router, &long), Err(RouteError::Name(IdError::TooLong { .. }))));
    }

    #[test]
    fn the_first_route_that_takes_a_path_has_it() {
        let router =
            router(&[app("b", &[("/b/{id}", Some(9)), ("/*", None)]), app("a", &[("/a/{id}", None)])]);
        let app_of =
            |path: &str| router.route(path).map(|matched| (matched.key.app.to_string(), matched.port));
        assert_eq!(app_of("/a/1"), Ok(("a".to_owned(), 8080)));
        assert_eq!(app_of("/b/1"), Ok(("b".to_owned(), 9)));
    }

    #[test]
    fn unknown_paths_are_not_found() {
        let router = router(&[app("shop", &[("/container/{id}", None)])]);
        for path in ["/", "/container", "/container/", "/container/1/2", "*", ""] {
            assert_eq!(name(&router, path), Err(RouteError::NoRoute), "{path}");
        }
    }

    #[test]
    fn a_deploy_swaps_the_table_for_later_requests() {
        let current = CurrentRouter::default();
        let before = current.get();
        current.replace(router(&[app("shop", &[("/{id}", None)])]));
        assert!(before.route("/1").is_err());
        assert!(current.get().route("/1").is_ok());
    }
}
