//! What stands before an app's containers, or in their place: its static files and its program, and which of them a request is for.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use berth_common::ids::AppName;
use berth_common::spec::{AppSpec, AssetsSpec, BeforeAssets, Program, ProgramRoute};
use http::Request;

use super::super::assets::{Assets, Found};
use super::{host, percent_decode};

/// What apps have besides containers: those that have something, by their names.
#[derive(Debug, Default)]
pub(super) struct Fronts(Vec<Front>);

/// What an app has besides its containers.
#[derive(Debug)]
struct Front {
    app: AppName,
    assets: Option<Arc<Assets>>,
    /// Which requests are its program's, if it has one.
    program: Option<ProgramRoutes>,
}

/// Which requests are a program's.
#[derive(Debug)]
struct ProgramRoutes {
    /// All where there are none.
    routes: Vec<ProgramRoute>,
    before_assets: BeforeAssets,
}

/// What a request is for before the routes to containers are looked at.
#[derive(Debug)]
pub(crate) enum First {
    /// A static file.
    File(Found),
    /// The program of this app, which wants it whether there is a file or not.
    Program(AppName),
}

impl Fronts {
    /// Those of these apps. Files are read again only for the app that was deployed just now, or where they are not known.
    pub(super) fn new(
        apps: &BTreeMap<AppName, AppSpec>,
        blobs: &Arc<Path>,
        before: &Self,
        deployed: Option<&AppName>,
    ) -> Self {
        let assets = |app: &AppSpec| {
            let (spec, fresh) = (app.assets.as_ref()?, deployed == Some(&app.name));
            let mut known = before.0.iter().filter_map(|front| front.assets.as_ref());
            let known = known.find(|assets| *assets.spec() == *spec).cloned();
            match known {
                Some(known) if !fresh => Some(known),
                known => read(&app.name, spec, blobs).or(known),
            }
        };
        let front = |app: &AppSpec| {
            let (assets, program) = (assets(app), app.program.as_ref().map(ProgramRoutes::of));
            (assets.is_some() || program.is_some()).then(|| Front { app: app.name.clone(), assets, program })
        };
        Self(apps.values().filter_map(front).collect())
    }

    pub(super) fn first<B>(&self, request: &Request<B>) -> Option<First> {
        if self.0.is_empty() {
            return None;
        }
        let path = percent_decode(request.uri().path()).ok();
        self.0.iter().find_map(|front| front.first(request, path.as_deref()))
    }

    pub(super) fn program<B>(&self, request: &Request<B>) -> Option<&AppName> {
        self.0.iter().find(|front| front.is_programs(request)).map(|front| &front.app)
    }

    pub(super) fn file_of<B>(&self, app: &str, request: &Request<B>) -> Option<Found> {
        let front = self.0.iter().find(|front| front.app.as_str() == app)?;
        let path = percent_decode(request.uri().path()).ok()?;
        front.assets.as_ref()?.of_app(request, &path)
    }

    pub(super) fn assets(&self) -> impl Iterator<Item = &Assets> {
        self.0.iter().filter_map(|front| front.assets.as_deref())
    }
}

impl Front {
    /// What a request is for, with its path decoded, if that can be.
    fn first<B>(&self, request: &Request<B>, path: Option<&str>) -> Option<First> {
        let assets = self.assets.as_ref()?;
        if let Some(program) = &self.program
            && program.before_assets.takes(request.uri().path())
            && program.takes(request)
        {
            return Some(First::Program(self.app.clone()));
        }
        assets.find(request, host(request), path?).map(First::File)
    }

    fn is_programs<B>(&self, request: &Request<B>) -> bool {
        self.program.as_ref().is_some_and(|program| program.takes(request))
    }
}

impl ProgramRoutes {
    fn of(program: &Program) -> Self {
        Self { routes: program.routes.clone(), before_assets: program.before_assets.clone() }
    }

    fn takes<B>(&self, request: &Request<B>) -> bool {
        let path = request.uri().path();
        self.routes.is_empty() || self.routes.iter().any(|route| route.takes(host(request), path))
    }
}

/// The static files of an app. If they cannot be read, the app's routes still work.
fn read(app: &AppName, spec: &AssetsSpec, blobs: &Arc<Path>) -> Option<Arc<Assets>> {
    let read = Assets::read(spec, blobs);
    read.inspect_err(|error| {
        tracing::error!(%app, directory = ?spec.directory, %error, "static files cannot be read");
    })
    .ok()
}

#[cfg(test)]
mod tests {
    use berth_store::fixtures::app;

    use super::super::Router;
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn files_come_before_the_program_but_where_it_wants_to_be_first() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("api")).unwrap();
        for file in ["page.html", "api/x.txt"] {
            std::fs::write(directory.path().join(file), "x").unwrap();
        }
        let mut site = app("site", &[("/container/{id}", None)]);
        let (hosts, not_found) = (Vec::new(), Default::default());
        site.assets = Some(AssetsSpec {
            directory: Some(directory.path().to_owned()),
            files: Default::default(),
            hosts,
            not_found,
        });
        let text = r#"{"entry": "a", "modules": [], "compatibility_date": "2026-01-31",
            "before_assets": {"paths": ["/api/*"]}, "routes": [{"hosts": ["site.example"], "path": "/*"}]}"#;
        site.program = Some(serde_json::from_str(text).unwrap());
        let apps = BTreeMap::from([(site.name.clone(), site)]);
        let router =
            Router::new(&apps, &Metrics::new(1), &Arc::from(directory.path()), &Router::default(), None);
        let at = |host: &str, path: &str| Request::get(path).header("host", host).body(()).unwrap();
        let first = |path: &str| router.first(&at("site.example", path));
        assert!(matches!(first("/page"), Some(First::File(_))));
        assert!(matches!(first("/api/x.txt"), Some(First::Program(app)) if app.as_str() == "site"));
        assert!(first("/container/1").is_none() && router.route(&at("site.example", "/container/1")).is_ok());
        assert!(router.program(&at("site.example", "/else")).is_some());
        // What is not the program's by its routes is not before the files either.
        assert!(matches!(router.first(&at("other.example", "/api/x.txt")), Some(First::File(_))));
        assert!(router.program(&at("other.example", "/else")).is_none());
        assert!(router.file_of("site", &at("any", "/page")).is_some());
        assert!(router.file_of("other", &at("any", "/page")).is_none());
    }
}
