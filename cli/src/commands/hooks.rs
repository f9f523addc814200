//! `berth hooks`: events that are still to be delivered to hooks, and those whose delivery was given up.

use std::time::SystemTime;

use anyhow::Result;
use berth_api::client::encode;
use berth_api::hooks::EventView;
use berth_api::lists::{Listing, Paged};
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::args::{ChosenEvents, Hooks, Show};
use crate::{ids, output};

const HEADINGS: [&str; 7] = ["ID", "TYPE", "OBJECT", "HAPPENED", "TRIES", "NEXT TRY", "LAST ERROR"];

pub(crate) async fn run(command: Hooks) -> Result<()> {
    match command {
        Hooks::Pending(show) => list("pending", &show).await,
        Hooks::Failed(show) => list("failed", &show).await,
        Hooks::Retry { which } => {
            let admin = which.admin.edge()?;
            for id in chosen(&admin, &which).await? {
                admin.post_nothing(&format!("/v1/hooks/failed/{}/retry", encode(&id))).await?;
                output::line(format_args!("will be told: {id}"))?;
            }
            Ok(())
        }
        Hooks::Discard { which, dry_run } => {
            let admin = which.admin.edge()?;
            for id in chosen(&admin, &which).await? {
                if dry_run {
                    output::line(format_args!("would be forgotten: {id}"))?;
                } else {
                    admin.delete(&format!("/v1/hooks/failed/{}", encode(&id))).await?;
                    output::line(format_args!("forgotten: {id}"))?;
                }
            }
            Ok(())
        }
    }
}

async fn chosen(admin: &Admin, which: &ChosenEvents) -> Result<Vec<String>> {
    let all = all(admin, "failed").await?;
    let all: Vec<String> = all.iter().filter_map(|event| event["id"].as_str().map(str::to_owned)).collect();
    if which.all {
        return Ok(all);
    }
    which.ids.iter().map(|id| ids::among("event", id, &all)).collect()
}

async fn all(admin: &Admin, which: &str) -> Result<Vec<Value>> {
    Ok(admin.pages(&format!("/v1/hooks/{which}?limit={}", Listing::MAX_PAGE), "events").await?)
}

async fn list(which: &str, show: &Show) -> Result<()> {
    let all = all(&show.admin.edge()?, which).await?;
    if show.json {
        return output::json(&json!({ "events": all }));
    }
    let events: Vec<EventView> = serde_json::from_value(Value::Array(all))?;
    let (now, pending) = (SystemTime::now(), which == "pending");
    let row = |event: &EventView| {
        vec![
            ids::event(&event.id, show.wide),
            event.kind.name().to_owned(),
            format!("{}/{}/{}", event.app, event.class, event.name),
            output::ago(event.time_ms, now),
            event.attempts.to_string(),
            if pending { output::until(event.next_ms, now) } else { "set aside".to_owned() },
            event.last_error.clone().unwrap_or_default(),
        ]
    };
    Ok(output::table(&HEADINGS, events.iter().map(row).collect())?)
}
