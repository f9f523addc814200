//! `berth containers`: the objects of all apps with their states, and orders to single ones.

use std::time::SystemTime;

use anyhow::Result;
use berth_api::containers::{
    ContainerView, CrashLoopView, FailureView, SignalOrder, StartOrder, StopOrder, Verb,
};
use berth_api::lists::{ContainerListing, Paged};
use berth_api::placement::{NodeVerdictView, PlacementView, TakenView};
use berth_common::ids::ObjectKey;
use berth_common::outcome::Outcome;
use serde::Serialize;
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::args::{Containers, ListContainers, OneContainer, StartContainer, StopContainer};
use crate::{ids, output};

const HEADINGS: [&str; 6] = ["APP/CLASS/NAME", "STATE", "NODE", "SINCE", "END", "ID"];
/// What `--wide` adds.
const MORE_HEADINGS: [&str; 3] = ["INSTANCE", "VERSION", "STARTS"];

/// Of the last failures of one object.
const FAILURE_HEADINGS: [&str; 3] = ["FAILED", "HOW", "REASON"];

pub(crate) async fn run(command: Containers) -> Result<()> {
    match command {
        Containers::List(args) => list(&args).await,
        Containers::Info(args) => {
            let admin = args.show.admin.edge()?;
            let id = ids::object(&admin, &args.object).await?;
            info(&args, admin.get(&format!("/v1/containers/{id}")).await?)
        }
        Containers::Why(args) => {
            let admin = args.show.admin.edge()?;
            let id = ids::object(&admin, &args.object).await?;
            why(&args, admin.get(&format!("/v1/containers/{id}/placement")).await?)
        }
        Containers::Start(args) => start(args).await,
        Containers::Stop(args) => stop(&args).await,
        Containers::Destroy { one, dry_run: true } => would_end(&one, "killed").await,
        Containers::Destroy { one, dry_run: false } => order(&one, Verb::Destroy, &()).await,
        Containers::Signal(args) => {
            order(&args.one, Verb::Signal, &SignalOrder { signal: args.signal }).await
        }
        Containers::Renew(args) => order(&args, Verb::Renew, &()).await,
    }
}

async fn start(args: StartContainer) -> Result<()> {
    let admin = args.one.show.admin.edge()?;
    let ObjectKey { app, class, name } = match ids::object_key(&args.one.object)? {
        Some(key) => key,
        None => {
            let id = ids::object(&admin, &args.one.object).await?;
            let view: ContainerView = admin.get(&format!("/v1/containers/{id}")).await?;
            ObjectKey { app: view.app, class: view.class, name: view.name }
        }
    };
    let order = StartOrder {
        app,
        class,
        name,
        env: args.env.into_iter().collect(),
        secrets: args.secret.into_iter().collect(),
        entrypoint: (!args.entrypoint.is_empty()).then_some(args.entrypoint),
        enable_internet: args.internet,
    };
    show(&args.one, admin.start(&order).await?)
}

/// What an order to end a container would end.
async fn would_end(args: &OneContainer, how: &str) -> Result<()> {
    let admin = args.show.admin.edge()?;
    let id = ids::object(&admin, &args.object).await?;
    let view: ContainerView = admin.get(&format!("/v1/containers/{id}")).await?;
    let (name, state) = (format!("{}/{}/{}", view.app, view.class, view.name), view.state);
    let text = match view.node.filter(|_| state.has_container()) {
        Some(node) => format!("{name} would be {how}: it is {state}, on {node}"),
        None => format!("{name} has no container: nothing would be done"),
    };
    Ok(output::line(text)?)
}

async fn stop(args: &StopContainer) -> Result<()> {
    if args.dry_run {
        return would_end(&args.one, "stopped").await;
    }
    let grace_ms = args.grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
    order(&args.one, Verb::Stop, &StopOrder { signal: args.signal, grace_ms }).await
}

async fn order(args: &OneContainer, verb: Verb, body: &impl Serialize) -> Result<()> {
    let admin = args.show.admin.edge()?;
    let id = ids::object(&admin, &args.object).await?;
    show(args, admin.order(verb, id, body).await?)
}

fn show(args: &OneContainer, answer: Value) -> Result<()> {
    if args.show.json {
        return output::json(&answer);
    }
    let view: ContainerView = serde_json::from_value(answer)?;
    table(&[view], args.show.wide)
}

/// All that the edge tells of one object: what fits no table is below it.
fn info(args: &OneContainer, answer: Value) -> Result<()> {
    if args.show.json {
        return output::json(&answer);
    }
    let view: ContainerView = serde_json::from_value(answer)?;
    table(std::slice::from_ref(&view), args.show.wide)?;
    details(&view).into_iter().try_for_each(output::line)?;
    if !view.failures.is_empty() {
        output::line("")?;
        let now = SystemTime::now();
        output::table(&FAILURE_HEADINGS, view.failures.iter().map(|failure| failed(failure, now)).collect())?;
    }
    Ok(())
}

/// How the container came to its node, and then all nodes.
fn why(args: &OneContainer, answer: Value) -> Result<()> {
    if args.show.json {
        return output::json(&answer);
    }
    let view: PlacementView = serde_json::from_value(answer)?;
    output::line(came_about(&view))?;
    output::line("")?;
    let row = |NodeVerdictView { node, verdict, detail }: NodeVerdictView| {
        vec![node.to_string(), verdict.word().to_owned(), detail]
    };
    Ok(output::table(&["NODE", "NOW", "WHY"], view.nodes.into_iter().map(row).collect())?)
}

fn came_about(view: &PlacementView) -> String {
    match (&view.taken, view.instance) {
        (Some(TakenView { node, is_last: true, .. }), _) => format!("on {node}: it had the last container"),
        (Some(TakenView { node, other: Some(other), .. }), _) => {
            format!("on {node}: drawn with {other}, and had more room")
        }
        (Some(TakenView { node, other: None, .. }), _) => {
            format!("on {node}: no other could take it as well")
        }
        (None, Some(_)) => "its container was started before the edge was".to_owned(),
        (None, None) => "it has no container".to_owned(),
    }
}

/// A failure: when, how, and the whole reason.
fn failed(failure: &FailureView, now: SystemTime) -> Vec<String> {
    let reason = failure.exit.message.clone().unwrap_or_else(|| "-".to_owned());
    vec![output::ago(failure.time_ms, now), failure.exit.to_string(), reason]
}

/// A line for each of what is known.
fn details(view: &ContainerView) -> Vec<String> {
    let message = view.exit.as_ref().and_then(|exit| exit.message.clone());
    let known = [
        ("id", Some(view.id.to_string())),
        ("instance", view.instance.map(|id| id.to_string())),
        ("version", view.version.map(|version| version.to_string())),
        ("starts", Some(view.generation.0.to_string())),
        ("failures", view.crash_loop.as_ref().map(|series| format!("{} in a row", series.failures))),
        ("last end", message),
    ];
    known
        .into_iter()
        .filter_map(|(name, text)| Some(format!("{:<9} {}", format!("{name}:"), text?)))
        .collect()
}

fn table(views: &[ContainerView], wide: bool) -> Result<()> {
    let now = SystemTime::now();
    let mut rows: Vec<_> = views.iter().map(|view| row(view, now, wide)).collect();
    // The edge sorts them by id, which means nothing to users.
    rows.sort();
    let more = if wide { &MORE_HEADINGS[..] } else { &[] };
    Ok(output::table(&[&HEADINGS[..], more].concat(), rows)?)
}

/// All objects that match a query, as the edge returns them.
pub(super) async fn all(admin: &Admin, query: &str) -> Result<Vec<Value>> {
    let path = format!("/v1/containers?limit={}{query}", ContainerListing::MAX_PAGE);
    Ok(admin.pages(&path, "containers").await?)
}

async fn list(args: &ListContainers) -> Result<()> {
    let admin = args.show.admin.edge()?;
    let app = args.app.name().map(|app| format!("&app={app}")).unwrap_or_default();
    let state = args.state.as_ref().map(|state| format!("&state={state}")).unwrap_or_default();
    let containers = all(&admin, &format!("{app}{state}")).await?;
    if let Some(app) = args.app.name().filter(|_| containers.is_empty()) {
        ids::expect_app(&admin, app).await?;
    }
    if args.show.json {
        return output::json(&json!({ "containers": containers }));
    }
    let views: Result<Vec<ContainerView>, _> = containers.into_iter().map(serde_json::from_value).collect();
    table(&views?, args.show.wide)
}

fn row(view: &ContainerView, now: SystemTime, wide: bool) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut row = vec![
        format!("{}/{}/{}", view.app, view.class, view.name),
        state(view, now),
        or_dash(view.node.as_ref().map(ToString::to_string)),
        output::ago(view.last_change_ms, now),
        or_dash(view.exit.as_ref().map(Outcome::to_string)),
        output::id(view.id, wide),
    ];
    if wide {
        row.push(or_dash(view.instance.map(|id| id.to_string())));
        row.push(or_dash(view.version.map(|version| version.to_string())));
        row.push(view.generation.0.to_string());
    }
    row
}

/// The state, and when the next start is tried if containers failed repeatedly.
fn state(view: &ContainerView, now: SystemTime) -> String {
    match &view.crash_loop {
        Some(CrashLoopView { failures, next_try_ms }) => {
            let wait = output::until(*next_try_ms, now);
            format!("{} ({failures} failures, next try {wait})", view.state)
        }
        None => view.state.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_container_came_to_its_node_is_one_line() {
        let (node, other) = ("n1".parse().unwrap(), "n2".parse().ok());
        let taken = Some(TakenView { node, is_last: false, other });
        let mut view = PlacementView { taken, instance: None, nodes: Vec::new() };
        assert_eq!(came_about(&view), "on n1: drawn with n2, and had more room");
        view.taken = None;
        assert_eq!(came_about(&view), "it has no container");
    }

    #[test]
    fn an_edges_answer_becomes_a_row() {
        let view: ContainerView = serde_json::from_str(
            r#"{"id":"000102030405060708090a0b0c0d0e0f","app":"a","class":"C","name":"7","state":"stopped",
                "node":null,"instance":null,"generation":2,"last_change_ms":0,
                "exit":{"reason":"idle","code":0},"newer":true}"#,
        )
        .unwrap();
        let failures = r#"[{"time_ms":0,"instance":"000102030405060708090a0b0c0d0e0f","exit":{"reason":"start_failed",
            "message":"no such file"}}]"#;
        let failures: Vec<FailureView> = serde_json::from_str(failures).unwrap();
        assert_eq!(failed(&failures[0], std::time::UNIX_EPOCH), ["0s ago", "start failed", "no such file"]);
        let short = row(&view, std::time::UNIX_EPOCH, false);
        assert_eq!(short, ["a/C/7", "stopped", "-", "0s ago", "idle (code 0)", "000102030405"]);
        let wide = row(&view, std::time::UNIX_EPOCH, true);
        assert_eq!(wide[5..], ["000102030405060708090a0b0c0d0e0f", "-", "-", "2"]);
    }
}
