//! `berth alarm`, `berth schedules` and `berth crons`: orders to objects for a later time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use berth_api::client::encode;
use berth_api::lists::{Listing, Paged};
use berth_api::schedules::{CronList, CronView, ScheduleView};
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::args::{AdminArgs, Alarm, Crons, OneObject, Schedules, Show, When};
use crate::{ids, output};

const HEADINGS: [&str; 6] = ["ID", "CALLBACK", "FOR", "NEXT TRY", "TRIES", "LAST ERROR"];
const CRON_HEADINGS: [&str; 6] = ["CRON", "CLASS", "OBJECT", "ACTION", "LAST", "NEXT"];

pub(crate) async fn alarm(command: Alarm) -> Result<()> {
    match command {
        Alarm::Get(OneObject { object, show }) => {
            let (admin, path) = of(&object, &show.admin, "alarm").await?;
            present(admin.get(&path).await?, &show)
        }
        Alarm::Set { object: OneObject { object, show }, when, callback } => {
            let body = when.body(&object, &callback)?;
            let (admin, path) = of(&object, &show.admin, "alarm").await?;
            present(admin.put_json(&path, &body).await?, &show)
        }
        Alarm::Delete { object, dry_run, admin } => {
            let (admin, path) = of(&object, &admin, "alarm").await?;
            if dry_run {
                let view: ScheduleView = admin.get(&path).await?;
                return would_go(&object, &view);
            }
            Ok(admin.delete(&path).await?)
        }
    }
}

pub(crate) async fn schedules(command: Schedules) -> Result<()> {
    match command {
        Schedules::List(OneObject { object, show }) => {
            let (admin, path) = of(&object, &show.admin, "schedules").await?;
            let all = all(&admin, &path).await?;
            if show.json {
                return output::json(&json!({ "schedules": all }));
            }
            let views: Vec<ScheduleView> = serde_json::from_value(Value::Array(all))?;
            table(&views, show.wide)
        }
        Schedules::Add { object: OneObject { object, show }, callback, when } => {
            let body = when.body(&object, &callback)?;
            let (admin, path) = of(&object, &show.admin, "schedules").await?;
            let made: Value = admin.post(&path, &body).await?;
            if show.json {
                return output::json(&made);
            }
            Ok(output::line(made["id"].as_str().unwrap_or_default())?)
        }
        Schedules::Delete { object, id, dry_run, admin } => {
            let (admin, path) = of(&object, &admin, "schedules").await?;
            let views: Vec<ScheduleView> = serde_json::from_value(Value::Array(all(&admin, &path).await?))?;
            let known: Vec<String> = views.iter().filter_map(|view| Some(view.id?.to_string())).collect();
            let id = ids::among("schedule", &id, &known)?;
            if dry_run {
                let view = views.iter().find(|view| view.id.is_some_and(|known| known.to_string() == id));
                return view.map_or(Ok(()), |view| would_go(&object, view));
            }
            Ok(admin.delete(&format!("{path}/{}", encode(&id))).await?)
        }
    }
}

/// The edge, and where a part of an object is there.
async fn of(object: &str, admin: &AdminArgs, part: &str) -> Result<(Admin, String)> {
    let admin = admin.edge()?;
    let id = ids::object(&admin, object).await?;
    Ok((admin, format!("/v1/containers/{id}/{part}")))
}

async fn all(admin: &Admin, path: &str) -> Result<Vec<Value>> {
    Ok(admin.pages(&format!("{path}?limit={}", Listing::MAX_PAGE), "schedules").await?)
}

fn would_go(object: &str, view: &ScheduleView) -> Result<()> {
    let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(view.scheduled_ms));
    let what = view.callback.as_ref().map_or_else(|| "(cron)".to_owned(), ToString::to_string);
    Ok(output::line(format_args!("{object} would not be called any more: {what}, due {time}"))?)
}

impl When {
    fn body(&self, object: &str, callback: &str) -> Result<Value> {
        let mut body = json!({ "callback": callback, "payload": self.payload });
        match (self.after, self.at) {
            (Some(after), _) => body["after_ms"] = json!(whole_ms(after)?),
            (None, Some(at)) => body["at_ms"] = json!(whole_ms(at.duration_since(UNIX_EPOCH)?)?),
            (None, None) => {}
        }
        // A bare ID only names an object that has had a container.
        if let Some(key) = ids::object_key(object)? {
            body["object"] = json!({ "app": key.app, "class": key.class, "name": key.name });
        }
        Ok(body)
    }
}

fn whole_ms(duration: Duration) -> Result<u64> {
    u64::try_from(duration.as_millis()).context("the time is too far ahead")
}

fn present(view: Value, show: &Show) -> Result<()> {
    if show.json {
        return output::json(&view);
    }
    table(&[serde_json::from_value(view)?], show.wide)
}

fn table(views: &[ScheduleView], wide: bool) -> Result<()> {
    let now = SystemTime::now();
    let row = |view: &ScheduleView| {
        let time = UNIX_EPOCH + Duration::from_millis(view.scheduled_ms);
        vec![
            view.id.map_or_else(|| "(alarm)".to_owned(), |id| output::id(id, wide)),
            view.callback.as_ref().map_or_else(|| "(cron)".to_owned(), ToString::to_string),
            humantime::format_rfc3339_seconds(time).to_string(),
            view.due_ms.map_or_else(|| "failed".to_owned(), |ms| output::until(ms, now)),
            view.attempts.to_string(),
            view.last_error.clone().unwrap_or_default(),
        ]
    };
    Ok(output::table(&HEADINGS, views.iter().map(row).collect())?)
}

pub(crate) async fn crons(args: &Crons) -> Result<()> {
    let answer: Value = args.show.admin.edge()?.get(&format!("/v1/apps/{}/crons", args.app.name()?)).await?;
    if args.show.json {
        return output::json(&answer);
    }
    let list: CronList = serde_json::from_value(answer)?;
    let now = SystemTime::now();
    let or_none = |name: &str| if name.is_empty() { "-".to_owned() } else { name.to_owned() };
    let row = |cron: &CronView| {
        vec![
            cron.cron.clone(),
            or_none(&cron.class),
            or_none(&cron.object),
            cron.action.clone(),
            cron.last_ms.map_or_else(|| "never".to_owned(), |ms| output::ago(ms, now)),
            cron.next_ms.map_or_else(|| "never".to_owned(), |ms| output::until(ms, now)),
        ]
    };
    Ok(output::table(&CRON_HEADINGS, list.crons.iter().map(row).collect())?)
}
