//! The classes of a Workers project whose objects have a container, as edges know them: each under the first name that it had,
//! so that one that is renamed keeps its containers.

use std::collections::BTreeMap;
use std::path::Path;

use berth_common::ids::ClassName;
use berth_common::manifest::{
    ClassManifest, DeclaredImage, PORT_TIMEOUT, SLEEP_AFTER, START_TIMEOUT, STOP_GRACE,
};
use berth_common::spec::{OnNodeGone, PlacementSpec, StartBoost, WAKE_GRACE};
use berth_project::{Config, Container, Problem};

use super::problem;
use crate::app::resolve;
use crate::supply::{BuildOptions, Local, Wanted};

/// A class with a container, and the image that it asks for.
#[derive(Debug)]
pub(super) struct Contained {
    pub(super) class: ClassManifest,
    pub(super) image: Wanted,
}

/// All of them. `names` are the first names of the classes.
pub(super) fn of(
    config: &Config,
    names: &BTreeMap<ClassName, ClassName>,
    directory: &Path,
) -> Vec<Contained> {
    let contained = |container: &Container| {
        let first = names.get(&container.class).unwrap_or(&container.class);
        Contained { class: class(container, first.clone()), image: image(container, directory) }
    };
    config.containers.iter().map(contained).collect()
}

/// The image as it is reached from here.
pub(super) fn image(container: &Container, directory: &Path) -> Wanted {
    let at = |path: &Path| directory.join(path).components().collect();
    let context = container.build_context.as_deref().map(at);
    let build = BuildOptions { context, vars: container.build_vars.clone() };
    Wanted { source: resolve(&container.image, directory), build: Some(build) }
}

/// Requests reach its objects through the program alone, which also says when an instance starts and ends. So it has neither port nor
/// hooks, and `sleep_after` is how long an instance goes on while no object of the program has it.
fn class(container: &Container, name: ClassName) -> ClassManifest {
    let image = DeclaredImage {
        source: container.image.clone(),
        position: container.position,
        has_entrypoint: false,
    };
    ClassManifest {
        name,
        image,
        entrypoint: None,
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        resources: container.resources,
        start_boost: Some(StartBoost::default()),
        max_instances: container.max_instances,
        default_port: None,
        sleep_after: SLEEP_AFTER.into(),
        start_timeout: START_TIMEOUT,
        port_timeout: PORT_TIMEOUT,
        stop_grace: STOP_GRACE,
        wake_grace: WAKE_GRACE,
        // Each start says it anew.
        enable_internet: true,
        init: container.init.unwrap_or(true),
        capabilities: container.capabilities.clone(),
        // What is prepared fits no start: each has the id of its object, and what the code adds, in its environment.
        prepared: container.prepared.unwrap_or(0),
        placement: PlacementSpec {
            regions: container.regions.iter().cloned().collect(),
            ..PlacementSpec::default()
        },
        // The program says when its containers start.
        on_node_gone: OnNodeGone::OnDemand,
        node_loss: container.node_loss,
        manual_start: false,
        required_ports: Vec::new(),
        ping_endpoint: None,
        hooks: None,
        callbacks: BTreeMap::new(),
    }
}

/// The images that cannot be used, as far as that is quick to see.
pub(super) fn unusable(config: &Config, directory: &Path) -> Vec<Problem> {
    let fault = |container: &Container| {
        let error = Local::look_at(&image(container, directory), false).err()?;
        let message = format!("containers.image: the image cannot be used: {error:#}");
        Some(problem(&config.file, Some(container.position), &message))
    };
    config.containers.iter().filter_map(fault).collect()
}

/// What of a container edges of this version do not do.
pub(super) fn lacking(container: &Container) -> Vec<String> {
    container.warm.iter().map(|_| format!("containers: {}: warm", container.class)).collect()
}
