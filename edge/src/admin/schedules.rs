//! Alarms, schedules and crons of objects. Changes are durable when they are answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use berth_api::lists::{Listing, Paged};
use berth_api::schedules::{CronList, CronView, ObjectNames, Order, SchedulePage, ScheduleView};
use berth_common::clock::wall_ms;
use berth_common::cron::Cron;
use berth_common::ids::{AppName, CallbackName, ObjectId, ObjectKey, ScheduleId};
use berth_common::spec::{Action, AppSpec};
use berth_store::{self as store, CronKey, Schedule, What, Write};

use super::Admin;
use super::problem::{Conflicting, Denied, Missing, Problem, Wrong};
use super::read::{Body, Parameters, invalid, name, object_id};
use crate::scheduler::crons::{key_of, key_of_programs};

/// Most schedules of one object.
const MAX_SCHEDULES: usize = 1_000;
/// Longest payload, in bytes of JSON: it is passed in environment variables and requests.
const MAX_PAYLOAD_BYTES: usize = 64 << 10;
/// How far in the future something can be scheduled.
const MAX_AHEAD: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);
/// The callback of an alarm by default.
const ALARM_CALLBACK: &str = "alarm";

fn view(schedule: Schedule) -> ScheduleView {
    let id = (!schedule.is_alarm()).then_some(schedule.id);
    let Schedule { what, payload, scheduled_ms, due_ms, attempts, last_error, .. } = schedule;
    let callback = match what {
        What::Callback(name) => Some(name),
        What::Cron(_) | What::Program(_) | What::Alarm { .. } => None,
    };
    ScheduleView { id, callback, payload, scheduled_ms, due_ms, attempts, last_error }
}

/// Shows the alarm of an object.
#[utoipa::path(get, path = "/v1/containers/{id}/alarm", tag = "schedules",
    params(("id" = String, Path, pattern = "^[0-9a-f]{32}$")),
    responses((status = 200, body = ScheduleView), Denied, Missing, Wrong))]
pub(super) async fn alarm(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<Json<ScheduleView>, Problem> {
    admin.scheduled(object_id(&id)?, ScheduleId::ALARM)
}

/// Sets the alarm of an object, replacing the one it has.
#[utoipa::path(put, path = "/v1/containers/{id}/alarm", tag = "schedules", request_body = Order,
    params(("id" = String, Path, pattern = "^[0-9a-f]{32}$")),
    responses((status = 200, body = ScheduleView), Denied, Missing, Wrong))]
pub(super) async fn set_alarm(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    Body(order): Body<Order>,
) -> Result<Json<ScheduleView>, Problem> {
    admin.put(object_id(&id)?, ScheduleId::ALARM, order).await
}

/// Deletes the alarm of an object, if it has one.
#[utoipa::path(delete, path = "/v1/containers/{id}/alarm", tag = "schedules",
    params(("id" = String, Path, pattern = "^[0-9a-f]{32}$")),
    responses((status = 204), Denied, Wrong))]
pub(super) async fn delete_alarm(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    admin.unschedule(object_id(&id)?, ScheduleId::ALARM).await
}

/// Lists the schedules of an object, without its alarm.
#[utoipa::path(get, path = "/v1/containers/{id}/schedules", tag = "schedules",
    params(("id" = String, Path, pattern = "^[0-9a-f]{32}$"), Listing),
    responses((status = 200, body = SchedulePage), Denied, Wrong))]
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    Parameters(listing): Parameters<Listing>,
) -> Result<Json<SchedulePage>, Problem> {
    let object = object_id(&id)?;
    let (after, limit) = listing.page(Listing::MAX_PAGE)?;
    let found = admin.store.schedules(object, Some(after.unwrap_or(ScheduleId::ALARM)), limit)?;
    let next_cursor = found.last().filter(|_| found.len() == limit).map(|last| last.id.to_string());
    Ok(Json(SchedulePage { schedules: found.into_iter().map(view).collect(), next_cursor }))
}

/// Adds a schedule to an object.
#[utoipa::path(post, path = "/v1/containers/{id}/schedules", tag = "schedules", request_body = Order,
    params(("id" = String, Path, pattern = "^[0-9a-f]{32}$")),
    responses((status = 200, body = ScheduleView), Denied, Missing, Conflicting, Wrong))]
pub(super) async fn add(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
    Body(order): Body<Order>,
) -> Result<Json<ScheduleView>, Problem> {
    let object = object_id(&id)?;
    if admin.store.schedules(object, None, MAX_SCHEDULES)?.len() >= MAX_SCHEDULES {
        let detail = format!("the object has {MAX_SCHEDULES}: delete some, those that failed too");
        return Err(Problem::new(StatusCode::CONFLICT, "too many schedules", detail));
    }
    admin.put(object, ScheduleId::random(), order).await
}

/// Shows one schedule of an object.
#[utoipa::path(get, path = "/v1/containers/{id}/schedules/{schedule}", tag = "schedules",
    params(("id" = String, Path, pattern = "^[0-9a-f]{32}$"), ("schedule" = String, Path, pattern = "^[0-9a-f]{32}$")),
    responses((status = 200, body = ScheduleView), Denied, Missing, Wrong))]
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    Path((id, schedule)): Path<(String, String)>,
) -> Result<Json<ScheduleView>, Problem> {
    admin.scheduled(object_id(&id)?, name("schedule", &schedule)?)
}

/// Deletes a schedule, if it still exists.
#[utoipa::path(delete, path = "/v1/containers/{id}/schedules/{schedule}", tag = "schedules",
    params(("id" = String, Path, pattern = "^[0-9a-f]{32}$"), ("schedule" = String, Path, pattern = "^[0-9a-f]{32}$")),
    responses((status = 204), Denied, Wrong))]
pub(super) async fn delete(
    State(admin): State<Arc<Admin>>,
    Path((id, schedule)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    admin.unschedule(object_id(&id)?, name("schedule", &schedule)?).await
}

/// Lists the crons of an app's current version.
#[utoipa::path(get, path = "/v1/apps/{app}/crons", tag = "schedules", params(("app" = String, Path)),
    responses((status = 200, body = CronList), Denied, Missing, Wrong))]
pub(super) async fn crons(
    State(admin): State<Arc<Admin>>,
    Path(app): Path<String>,
) -> Result<Json<CronList>, Problem> {
    let app: AppName = name("app", &app)?;
    let Some(history) = admin.apps.get(&app) else {
        return Err(Problem::new(StatusCode::NOT_FOUND, "no such app", format!("there is no app `{app}`")));
    };
    let marks = admin.store.cron_marks()?;
    Ok(Json(CronList { crons: cron_views(&history.current().spec, &marks, wall_ms()) }))
}

/// The crons of an app: those that are for objects, then its program's.
fn cron_views(app: &AppSpec, marks: &BTreeMap<CronKey, u64>, now_ms: u64) -> Vec<CronView> {
    let view = |cron: &Cron, key: CronKey, class: String, object: String, action: &str| CronView {
        cron: cron.as_str().to_owned(),
        class,
        object,
        action: action.to_owned(),
        // The mark of a cron that was never due is the time of its deployment.
        last_ms: marks.get(&key).copied().filter(|ms| cron.last(*ms) == Some(*ms)),
        next_ms: cron.after(now_ms),
    };
    let of_objects = app.crons.iter().map(|cron| {
        let (class, object) = (cron.class.to_string(), cron.object.to_string());
        view(&cron.cron, key_of(app, cron), class, object, action_name(&cron.action))
    });
    let of_program = app.program.iter().flat_map(|program| &program.crons);
    let of_program = of_program
        .map(|cron| view(cron, key_of_programs(app, cron), String::new(), String::new(), "scheduled"));
    of_objects.chain(of_program).collect()
}

fn action_name(action: &Action) -> &'static str {
    match action {
        Action::Request(_) => "request",
        Action::Start { .. } => "start",
        Action::Hook => "hook",
    }
}

/// The time that an order is for.
fn due_ms(order: &Order, now_ms: u64) -> Result<u64, Problem> {
    let (field, due_ms) = match (order.at_ms, order.after_ms) {
        (Some(at_ms), None) => ("at_ms", at_ms),
        (None, Some(after_ms)) => ("after_ms", now_ms.saturating_add(after_ms)),
        _ => return Err(invalid("at_ms", "needs at_ms or after_ms, and not both")),
    };
    if due_ms < now_ms {
        return Err(invalid(field, format!("{due_ms} is in the past: it is {now_ms} now")));
    }
    if u128::from(due_ms - now_ms) > MAX_AHEAD.as_millis() {
        return Err(invalid(field, "is more than 10 years ahead"));
    }
    Ok(due_ms)
}

fn check_payload(order: &Order) -> Result<(), Problem> {
    let bytes = order.payload.to_string().len();
    if bytes > MAX_PAYLOAD_BYTES {
        let message = format!("takes {bytes} bytes; at most {MAX_PAYLOAD_BYTES} are allowed");
        return Err(invalid("payload", message));
    }
    Ok(())
}

impl Admin {
    fn scheduled(&self, object: ObjectId, id: ScheduleId) -> Result<Json<ScheduleView>, Problem> {
        let found = self.store.schedule(object, id)?;
        found.map(|schedule| Json(view(schedule))).ok_or_else(|| {
            let detail = "the object has none, or it was done";
            Problem::new(StatusCode::NOT_FOUND, "no such alarm or schedule", detail)
        })
    }

    async fn put(
        &self,
        object: ObjectId,
        id: ScheduleId,
        order: Order,
    ) -> Result<Json<ScheduleView>, Problem> {
        let due_ms = due_ms(&order, wall_ms())?;
        check_payload(&order)?;
        let key = self.object_key(object, order.object).await?;
        let callback = match order.callback {
            Some(callback) => callback,
            None if id == ScheduleId::ALARM => name("callback", ALARM_CALLBACK)?,
            None => return Err(invalid("callback", "is needed")),
        };
        let class = self.class(&key.app, &key.class)?;
        if !class.callbacks.contains_key(&callback) {
            let known: Vec<&str> = class.callbacks.keys().map(CallbackName::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let message = format!("the class `{}` has no callback `{callback}`; it has {known}", key.class);
            return Err(invalid("callback", message));
        }
        let schedule = Schedule {
            id,
            key,
            what: What::Callback(callback),
            payload: order.payload,
            scheduled_ms: due_ms,
            due_ms: Some(due_ms),
            attempts: 0,
            last_error: None,
        };
        store::write(&*self.store, Write::Schedule(Box::new(schedule.clone()))).await?;
        self.schedules_changed.notify_one();
        Ok(Json(view(schedule)))
    }

    async fn unschedule(&self, object: ObjectId, id: ScheduleId) -> Result<StatusCode, Problem> {
        store::write(&*self.store, Write::RemoveSchedule(object, id)).await?;
        Ok(StatusCode::NO_CONTENT)
    }

    /// App, class and name of an object: as given in the order if they match the id, or else as known to the edge.
    async fn object_key(&self, object: ObjectId, named: Option<ObjectNames>) -> Result<ObjectKey, Problem> {
        match named {
            Some(ObjectNames { app, class, name }) => {
                let key = ObjectKey { app, class, name };
                let right = key.id() == object;
                right.then_some(key).ok_or_else(|| invalid("object", "has another id than the path names"))
            }
            None => match self.known(object).await {
                Ok(view) => Ok(view.key),
                Err(problem) if problem.is_missing() => {
                    Err(invalid("object", "is needed: the object has never had a container"))
                }
                Err(problem) => Err(problem),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn order(at_ms: Option<u64>, after_ms: Option<u64>) -> Order {
        Order { at_ms, after_ms, callback: None, payload: Value::Null, object: None }
    }

    #[test]
    fn times_are_ahead_and_not_too_far() {
        assert_eq!(due_ms(&order(Some(100), None), 100).ok(), Some(100));
        assert_eq!(due_ms(&order(None, Some(5)), 100).ok(), Some(105));
        for bad in
            [order(Some(99), None), order(None, None), order(Some(200), Some(1)), order(None, Some(u64::MAX))]
        {
            assert!(due_ms(&bad, 100).is_err());
        }
    }

    #[test]
    fn payloads_have_a_limit() {
        let large = Value::String("x".repeat(MAX_PAYLOAD_BYTES));
        assert!(check_payload(&Order { payload: large, ..order(None, None) }).is_err());
        assert!(check_payload(&order(None, None)).is_ok());
    }
}
