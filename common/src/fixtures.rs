//! An app and a class for tests, here and in other crates. A test that needs more changes the fields it is about.

#![allow(clippy::unwrap_used, reason = "for tests only")]

use std::collections::BTreeMap;
use std::time::Duration;

use crate::image::Digest;
use crate::spec::{AppSpec, ClassSpec, ImageRef, NameSource, PathPattern, Recipe, Resources, RouteSpec};

/// An app with one class and routes with these paths and ports, the object's name in `{id}` or constant.
pub fn app(name: &str, routes: &[(&str, Option<u16>)]) -> AppSpec {
    let route = |(path, port): &(&str, Option<u16>)| {
        let path = PathPattern::new(path).unwrap();
        let object = if path.has_parameter("id") {
            NameSource::PathParameter("id".to_owned())
        } else {
            NameSource::Constant("only".parse().unwrap())
        };
        let class = "Class".parse().unwrap();
        RouteSpec { hosts: Vec::new(), methods: Vec::new(), path, class, object, port: *port, rewrite: None }
    };
    AppSpec {
        limits: Default::default(),
        start_rate: Default::default(),
        assets: None,
        crons: Vec::new(),
        logs: Default::default(),
        program: None,
        name: name.parse().unwrap(),
        classes: BTreeMap::from([("Class".parse().unwrap(), class())]),
        routes: routes.iter().map(route).collect(),
    }
}

/// A class that needs nothing special.
pub fn class() -> ClassSpec {
    ClassSpec {
        recipe: Recipe {
            image: ImageRef::new("x".parse().unwrap(), Digest::of(b"x")),
            entrypoint: None,
            env: BTreeMap::new(),
            resources: Resources::of_type("lite").unwrap(),
            enable_internet: false,
            init: true,
            start_boost: None,
            capabilities: Default::default(),
        },
        max_instances: None,
        default_port: Some(8080),
        sleep_after: Duration::from_secs(600).into(),
        start_timeout: Duration::from_secs(8),
        port_timeout: Duration::from_secs(20),
        stop_grace: Duration::from_secs(900),
        wake_grace: Duration::from_secs(30),
        prepared: 0,
        placement: Default::default(),
        on_node_gone: Default::default(),
        node_loss: None,
        manual_start: false,
        required_ports: Vec::new(),
        ping_endpoint: None,
        secrets: Default::default(),
        hooks: None,
        callbacks: Default::default(),
        of_app: Default::default(),
    }
}
