//! Whether an app can run: one that cannot is refused before anything is changed. That is no promise of room: nodes may
//! be full when its containers start, and one that has not been connected since the edge started may be as large as needed.

use std::time::Duration;

use axum::http::StatusCode;
use berth_api::problem::FieldError;
use berth_common::spec::{AppSpec, ClassSpec};
use berth_engine::fleet::{Constraints, exceeds_alone};
use bytesize::ByteSize;
use tokio::time::{Instant, sleep};

use super::problem::Problem;
use crate::nodes::{Holds, Nodes};

/// How long to wait for nodes: after a start of the edge they are connected within about a second.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often to look, meanwhile: nobody is told when a node connects.
const INTERVAL: Duration = Duration::from_millis(50);

/// Waits a little until a node is connected, and until it is known whether the nodes could hold the app's instances.
pub(super) async fn wait(nodes: &Nodes, app: &AppSpec) {
    let deadline = Instant::now() + PATIENCE;
    while !is_known(nodes, app) && Instant::now() < deadline {
        sleep(INTERVAL).await;
    }
}

fn is_known(nodes: &Nodes, app: &AppSpec) -> bool {
    // An app without containers needs no node.
    let holds = |class| holds(nodes, class) != Holds::Unknown;
    app.classes.is_empty() || nodes.is_any_connected() && app.classes.values().all(holds)
}

fn holds(nodes: &Nodes, class: &ClassSpec) -> Holds {
    nodes.holds_alone(&class.recipe.resources, &Constraints::of(class))
}

/// Why an app cannot run, each with the field that it is about; nothing if it can. One without containers needs no node.
pub(super) fn faults(nodes: &Nodes, app: &AppSpec) -> Vec<FieldError> {
    if !app.classes.is_empty() && !nodes.is_any_connected() {
        let message =
            "no node is connected: `berth nodes` shows those that the edge was started with".to_owned();
        return vec![FieldError { field: String::new(), message }];
    }
    let classes = app.classes.iter().filter_map(|(name, class)| {
        let message = never_runs(nodes, app, class)?;
        Some(FieldError { field: format!("classes.{name}.resources"), message })
    });
    classes.collect()
}

fn never_runs(nodes: &Nodes, app: &AppSpec, class: &ClassSpec) -> Option<String> {
    let resources = &class.recipe.resources;
    let needs = format!(
        "it needs {} vCPU, {} of memory and a disk of {}",
        f64::from(resources.cpu_sixteenths) / 16.0,
        ByteSize(resources.memory_bytes).display().iec(),
        ByteSize(resources.disk_bytes).display().si()
    );
    if let Some(limit) = exceeds_alone(resources, &app.limits) {
        return Some(format!("{needs}, and [limits] allows the whole app {limit}"));
    }
    let Holds::Never(lacking) = holds(nodes, class) else { return None };
    Some(format!("{needs}, and no node could ever hold it: too little of, or without: {lacking}"))
}

/// The refusal of an app for these reasons.
pub(super) fn refusal(faults: Vec<FieldError>) -> Problem {
    let reasons: Vec<String> = texts(&faults);
    let detail = format!(
        "{}. Nothing was changed; with `allow_unplaceable` (berth deploy --allow-unplaceable) it is deployed all the same",
        reasons.join("; ")
    );
    Problem::new(StatusCode::CONFLICT, "the app cannot run", detail).with_errors(faults)
}

/// The same reasons as texts.
pub(super) fn texts(faults: &[FieldError]) -> Vec<String> {
    let text = |FieldError { field, message }: &FieldError| match field.is_empty() {
        true => message.clone(),
        false => format!("{field}: {message}"),
    };
    faults.iter().map(text).collect()
}
