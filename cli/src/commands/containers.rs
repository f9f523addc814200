//! `berth containers`: the objects of all apps with their states, and orders to single ones.

use std::time::SystemTime;

use anyhow::Result;
use berth_api::containers::{ContainerView, CrashLoopView, SignalOrder, StartOrder, StopOrder, Verb};
use berth_api::lists::{ContainerListing, Paged};
use berth_common::ids::{ObjectId, ObjectKey};
use berth_common::outcome::{ExitReason, Outcome};
use serde::Serialize;
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::args::{Containers, ListContainers, OneContainer, StartContainer, StopContainer};
use crate::failure::bad_input;
use crate::output;

const HEADINGS: [&str; 7] = ["APP/CLASS/NAME", "STATE", "NODE", "INSTANCE", "SINCE", "END", "ID"];

pub(crate) async fn run(command: Containers) -> Result<()> {
    match command {
        Containers::List(args) => list(&args).await,
        Containers::Info(args) => {
            let id = object_id(&args.object)?;
            show(&args, args.show.admin.edge()?.get(&format!("/v1/containers/{id}")).await?)
        }
        Containers::Start(args) => start(args).await,
        Containers::Stop(args) => stop(&args).await,
        Containers::Destroy(args) => order(&args, Verb::Destroy, &()).await,
        Containers::Signal(args) => {
            order(&args.one, Verb::Signal, &SignalOrder { signal: args.signal }).await
        }
        Containers::Renew(args) => order(&args, Verb::Renew, &()).await,
    }
}

async fn start(args: StartContainer) -> Result<()> {
    let admin = args.one.show.admin.edge()?;
    let ObjectKey { app, class, name } = match object_key(&args.one.object)? {
        Some(key) => key,
        None => {
            let id = object_id(&args.one.object)?;
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

async fn stop(args: &StopContainer) -> Result<()> {
    let grace_ms = args.grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
    order(&args.one, Verb::Stop, &StopOrder { signal: args.signal, grace_ms }).await
}

async fn order(args: &OneContainer, verb: Verb, body: &impl Serialize) -> Result<()> {
    let id = object_id(&args.object)?;
    show(args, args.show.admin.edge()?.order(verb, id, body).await?)
}

/// `APP/CLASS/NAME`, where it has these parts. The name may hold slashes.
pub(crate) fn object_key(text: &str) -> Result<Option<ObjectKey>> {
    let mut parts = text.splitn(3, '/');
    let (Some(app), Some(class), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
        return Ok(None);
    };
    let of = |what: &str, text: &str, error| bad_input(anyhow::anyhow!("the {what} {text:?} {error}"));
    Ok(Some(ObjectKey {
        app: app.parse().map_err(|error: berth_common::ids::IdError| of("app", app, error))?,
        class: class.parse().map_err(|error| of("class", class, error))?,
        name: name.parse().map_err(|error| of("name", name, error))?,
    }))
}

pub(crate) fn object_id(text: &str) -> Result<ObjectId> {
    if let Some(key) = object_key(text)? {
        return Ok(key.id());
    }
    text.parse().map_err(|_| {
        bad_input(anyhow::anyhow!("{text:?} is neither APP/CLASS/NAME nor an ID of 32 hexadecimal digits"))
    })
}

fn show(args: &OneContainer, answer: Value) -> Result<()> {
    if args.show.json {
        return output::json(&answer);
    }
    let view: ContainerView = serde_json::from_value(answer)?;
    Ok(output::table(&HEADINGS, vec![row(&view, SystemTime::now())])?)
}

/// All objects that match a query, as the edge returns them.
pub(super) async fn all(admin: &Admin, query: &str) -> Result<Vec<Value>> {
    let path = format!("/v1/containers?limit={}{query}", ContainerListing::MAX_PAGE);
    Ok(admin.pages(&path, "containers").await?)
}

async fn list(args: &ListContainers) -> Result<()> {
    let admin = args.show.admin.edge()?;
    let app = args.app.as_ref().map(|app| format!("&app={app}")).unwrap_or_default();
    let state = args.state.as_ref().map(|state| format!("&state={state}")).unwrap_or_default();
    let containers = all(&admin, &format!("{app}{state}")).await?;
    if args.show.json {
        return output::json(&json!({ "containers": containers }));
    }
    let now = SystemTime::now();
    let views: Result<Vec<ContainerView>, _> = containers.into_iter().map(serde_json::from_value).collect();
    let mut rows: Vec<_> = views?.iter().map(|view| row(view, now)).collect();
    // The edge sorts them by id, which means nothing to users.
    rows.sort();
    Ok(output::table(&HEADINGS, rows)?)
}

fn row(view: &ContainerView, now: SystemTime) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        format!("{}/{}/{}", view.app, view.class, view.name),
        state(view, now),
        or_dash(view.node.as_ref().map(ToString::to_string)),
        or_dash(view.instance.map(|id| id.to_string())),
        output::ago(view.last_change_ms, now),
        or_dash(view.exit.as_ref().map(end)),
        view.id.to_string(),
    ]
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

/// How an instance ended, as a short text.
fn end(outcome: &Outcome) -> String {
    let reason = match outcome.reason {
        ExitReason::Exit => "exited",
        ExitReason::Signal => "killed",
        ExitReason::Oom => "out of memory",
        ExitReason::Idle => "idle",
        ExitReason::Stopped => "stopped",
        ExitReason::Drained => "drained",
        ExitReason::Destroyed => "destroyed",
        ExitReason::StartFailed => "start failed",
        ExitReason::RuntimeLost => "runtime lost",
        ExitReason::NodeLost => "node lost",
        ExitReason::Unknown => "unknown",
    };
    match (outcome.code, outcome.signal) {
        (Some(code), _) => format!("{reason} (code {code})"),
        (None, Some(signal)) => format!("{reason} (signal {signal})"),
        (None, None) => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_shown_as_text() {
        assert_eq!(end(&Outcome::exited(3)), "exited (code 3)");
        assert_eq!(end(&Outcome::signalled(9)), "killed (signal 9)");
        assert_eq!(end(&Outcome::because(ExitReason::Idle, "x")), "idle");
    }

    #[test]
    fn objects_have_names_and_ids() {
        let id = object_id("a/C/x/y").unwrap();
        assert_eq!(object_key("a/C/x/y").unwrap().unwrap().name.as_str(), "x/y");
        assert_eq!(object_id(&id.to_string()).unwrap(), id);
        for bad in ["a/C", "x", "a/C/", "a b/C/x"] {
            assert!(object_id(bad).unwrap_err().is::<crate::failure::BadInput>(), "{bad}");
        }
    }

    #[test]
    fn an_edges_answer_becomes_a_row() {
        let view: ContainerView = serde_json::from_str(
            r#"{"id":"000102030405060708090a0b0c0d0e0f","app":"a","class":"C","name":"7","state":"stopped",
                "node":null,"instance":null,"generation":2,"last_change_ms":0,
                "exit":{"reason":"idle","code":0},"newer":true}"#,
        )
        .unwrap();
        let row = row(&view, std::time::UNIX_EPOCH);
        assert_eq!(row[..6], ["a/C/7", "stopped", "-", "-", "0s ago", "idle (code 0)"]);
    }
}
