//! `berth alarm`, `berth schedules` and `berth crons`: orders to objects for a later time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use berth_api::client::encode;
use berth_api::lists::{Listing, Paged};
use berth_api::schedules::{CronList, CronView, ScheduleView};
use serde_json::{Value, json};

use super::containers::{object_id, object_key};
use crate::args::{AdminArgs, Alarm, Crons, OneObject, Schedules, When};
use crate::output;

const HEADINGS: [&str; 6] = ["ID", "CALLBACK", "FOR", "NEXT TRY", "TRIES", "LAST ERROR"];
const CRON_HEADINGS: [&str; 6] = ["CRON", "CLASS", "OBJECT", "ACTION", "LAST", "NEXT"];

pub(crate) async fn alarm(command: Alarm) -> Result<()> {
    match command {
        Alarm::Get(OneObject { object, show }) => {
            let path = format!("/v1/containers/{}/alarm", object_id(&object)?);
            present(show.admin.edge()?.get(&path).await?, show.json)
        }
        Alarm::Set { object: OneObject { object, show }, when, callback } => {
            let body = when.body(&object, &callback)?;
            let path = format!("/v1/containers/{}/alarm", object_id(&object)?);
            present(show.admin.edge()?.put_json(&path, &body).await?, show.json)
        }
        Alarm::Delete { object, admin } => {
            delete(&admin, &format!("/v1/containers/{}/alarm", object_id(&object)?)).await
        }
    }
}

pub(crate) async fn schedules(command: Schedules) -> Result<()> {
    match command {
        Schedules::List(OneObject { object, show }) => {
            let path =
                format!("/v1/containers/{}/schedules?limit={}", object_id(&object)?, Listing::MAX_PAGE);
            let all = show.admin.edge()?.pages(&path, "schedules").await?;
            if show.json {
                return output::json(&json!({ "schedules": all }));
            }
            let views: Vec<ScheduleView> = serde_json::from_value(Value::Array(all))?;
            table(&views)
        }
        Schedules::Add { object: OneObject { object, show }, callback, when } => {
            let body = when.body(&object, &callback)?;
            let path = format!("/v1/containers/{}/schedules", object_id(&object)?);
            let made: Value = show.admin.edge()?.post(&path, &body).await?;
            if show.json {
                return output::json(&made);
            }
            Ok(output::line(made["id"].as_str().unwrap_or_default())?)
        }
        Schedules::Delete { object, id, admin } => {
            delete(&admin, &format!("/v1/containers/{}/schedules/{}", object_id(&object)?, encode(&id))).await
        }
    }
}

async fn delete(admin: &AdminArgs, path: &str) -> Result<()> {
    Ok(admin.edge()?.delete(path).await?)
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
        if let Some(key) = object_key(object)? {
            body["object"] = json!({ "app": key.app, "class": key.class, "name": key.name });
        }
        Ok(body)
    }
}

fn whole_ms(duration: Duration) -> Result<u64> {
    u64::try_from(duration.as_millis()).context("the time is too far ahead")
}

fn present(view: Value, json: bool) -> Result<()> {
    if json {
        return output::json(&view);
    }
    table(&[serde_json::from_value(view)?])
}

fn table(views: &[ScheduleView]) -> Result<()> {
    let now = SystemTime::now();
    let row = |view: &ScheduleView| {
        let time = UNIX_EPOCH + Duration::from_millis(view.scheduled_ms);
        vec![
            view.id.map_or_else(|| "(alarm)".to_owned(), |id| id.to_string()),
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
    let answer: Value = args.show.admin.edge()?.get(&format!("/v1/apps/{}/crons", args.app)).await?;
    if args.show.json {
        return output::json(&answer);
    }
    let list: CronList = serde_json::from_value(answer)?;
    let now = SystemTime::now();
    let row = |cron: &CronView| {
        vec![
            cron.cron.clone(),
            cron.class.clone(),
            cron.object.clone(),
            cron.action.clone(),
            cron.last_ms.map_or_else(|| "never".to_owned(), |ms| output::ago(ms, now)),
            cron.next_ms.map_or_else(|| "never".to_owned(), |ms| output::until(ms, now)),
        ]
    };
    Ok(output::table(&CRON_HEADINGS, list.crons.iter().map(row).collect())?)
}
