//! `berth events`: what has happened to nodes, and to objects when theirs was lost.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use berth_api::events::ObjectEvent;
use berth_api::lists::{HappeningListing, Paged};
use berth_common::happening::Happening;
use serde_json::Value;

use crate::admin::Admin;
use crate::args::Events;
use crate::output;

pub(crate) async fn run(args: &Events) -> Result<()> {
    let admin = args.admin.edge()?;
    tokio::select! {
        shown = show(&admin, args) => shown,
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}

async fn show(admin: &Admin, args: &Events) -> Result<()> {
    if !args.follow {
        return past(admin, args, None).await.map(drop);
    }
    // Followed before the past is read, so that nothing is missed in between.
    let mut stream = admin.watch(&format!("happenings=true{}", asked(args))).await?;
    let mut last = past(admin, args, None).await?;
    loop {
        let next = stream.next().await;
        match next.with_context(|| format!("the edge at {admin} is gone"))? {
            Some(ObjectEvent::Happening(happening)) if last.is_none_or(|last| happening.number > last) => {
                last = Some(happening.number);
                print(&happening, args.json)?;
            }
            Some(ObjectEvent::Lagged { .. }) => last = past(admin, args, last).await?.or(last),
            Some(_) => {}
            None => bail!("the edge at {admin} is gone: it ended the answer"),
        }
    }
}

fn asked(args: &Events) -> String {
    let app = args.app.as_ref().map(|app| format!("&app={app}")).unwrap_or_default();
    let node = args.node.as_ref().map(|node| format!("&node={node}")).unwrap_or_default();
    app + &node
}

/// Shows what is kept after this number, and returns the last one's.
async fn past(admin: &Admin, args: &Events, after: Option<u64>) -> Result<Option<u64>> {
    let cursor = after.map(|number| format!("&cursor={number}")).unwrap_or_default();
    let path = format!("/v1/events/past?limit={}{}", HappeningListing::MAX_PAGE, asked(args));
    let found = match after {
        // `pages` has cursors of its own: what a slow follower has missed fits a page.
        Some(_) => {
            let mut page: Value = admin.get(&format!("{path}{cursor}")).await?;
            serde_json::from_value::<Vec<Happening>>(page["happenings"].take())?
        }
        None => serde_json::from_value(Value::Array(admin.pages(&path, "happenings").await?))?,
    };
    let first = args.tail.filter(|_| after.is_none()).map_or(0, |tail| found.len().saturating_sub(tail));
    found[first..].iter().try_for_each(|happening| print(happening, args.json))?;
    Ok(found.last().map(|happening| happening.number))
}

fn print(happening: &Happening, json: bool) -> Result<()> {
    let text = if json { serde_json::to_string(happening)? } else { human(happening) };
    Ok(output::line(text)?)
}

/// `2026-11-30T12:00:00Z  object given up   shop/Cart/7 on n1: its node was not heard of ...`
fn human(happening: &Happening) -> String {
    let Happening { time_ms, kind, node, object, reason, left_out, .. } = happening;
    let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(*time_ms));
    let node = node.as_ref().map(ToString::to_string);
    let who = match (object.as_ref().map(|key| format!("{}/{}/{}", key.app, key.class, key.name)), node) {
        (Some(object), Some(node)) => format!("{object} on {node}"),
        (object, node) => object.or(node).unwrap_or_default(),
    };
    let reason = reason.as_ref().filter(|reason| !reason.is_empty()).map(|reason| format!(": {reason}"));
    let before = if *left_out > 0 { format!(" ({left_out} before it were left out)") } else { String::new() };
    format!("{time}  {kind:<16}  {who}{}{before}", reason.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_happened_is_a_line() {
        let line = |text: &str| human(&serde_json::from_str(text).unwrap());
        let lost = r#"{"number":1,"time_ms":1769860800123,"kind":"node_lost","node":"n1","reason":"silent"}"#;
        assert_eq!(line(lost), "2026-01-31T12:00:00Z  node lost         n1: silent");
        let given = r#"{"number":2,"time_ms":1769860800123,"kind":"object_given_up","node":"n1","left_out":3,
            "object":{"app":"a","class":"C","name":"7"}}"#;
        let expected = "2026-01-31T12:00:00Z  object given up   a/C/7 on n1 (3 before it were left out)";
        assert_eq!(line(given), expected);
    }
}
