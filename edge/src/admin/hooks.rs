//! Events that wait for delivery to hooks, and those whose delivery failed for good.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use berth_api::hooks::{EventPage, EventView};
use berth_api::lists::{Listing, Paged};
use berth_store::{self as store, Delivery, EventId, Write};

use super::Admin;
use super::problem::{Denied, Missing, Problem, Wrong};
use super::read::{Parameters, name};
use crate::hooks::delivery::reset_tries;

/// Events on a page by default.
const PAGE: usize = 100;

fn view((id, delivery): (EventId, Delivery)) -> EventView {
    let Delivery { event, callback, attempts, next_ms, last_error } = delivery;
    EventView {
        id: id.to_string(),
        kind: event.kind,
        object: id.object,
        app: event.key.app.to_string(),
        class: event.key.class.to_string(),
        name: event.key.name.to_string(),
        callback: callback.and_then(|due| due.callback),
        time_ms: event.time_ms,
        url: event.url,
        attempts,
        next_ms,
        last_error,
    }
}

fn page(found: Vec<(EventId, Delivery)>, limit: usize) -> Json<EventPage> {
    let next_cursor = found.last().filter(|_| found.len() == limit).map(|(id, _)| id.to_string());
    Json(EventPage { events: found.into_iter().map(view).collect(), next_cursor })
}

/// Lists the events that wait for delivery, by object, those of one object in order.
#[utoipa::path(get, path = "/v1/hooks/pending", tag = "hooks", params(Listing),
    responses((status = 200, body = EventPage), Denied, Wrong))]
pub(super) async fn pending(
    State(admin): State<Arc<Admin>>,
    Parameters(listing): Parameters<Listing>,
) -> Result<Json<EventPage>, Problem> {
    let (after, limit) = listing.page(PAGE)?;
    Ok(page(admin.store.events(after, limit)?, limit))
}

/// Lists the events whose delivery failed for good, the oldest first.
#[utoipa::path(get, path = "/v1/hooks/failed", tag = "hooks", params(Listing),
    responses((status = 200, body = EventPage), Denied, Wrong))]
pub(super) async fn failed(
    State(admin): State<Arc<Admin>>,
    Parameters(listing): Parameters<Listing>,
) -> Result<Json<EventPage>, Problem> {
    let (after, limit) = listing.page(PAGE)?;
    Ok(page(admin.store.dead_events(after, limit)?, limit))
}

/// Queues a failed event for delivery again, after all waiting events of its object, and under a new id.
#[utoipa::path(post, path = "/v1/hooks/failed/{event}/retry", tag = "hooks", params(("event" = String, Path)),
    responses((status = 204), Denied, Missing, Wrong))]
pub(super) async fn retry(
    State(admin): State<Arc<Admin>>,
    Path(event): Path<String>,
) -> Result<StatusCode, Problem> {
    let id: EventId = name("event", &event)?;
    let Some(delivery) = admin.store.dead_event(id)? else { return Err(no_event()) };
    let writes = vec![Write::Event(Box::new(reset_tries(delivery))), Write::RemoveDead(id)];
    store::commit(&*admin.store, writes).await?;
    admin.wakes.wake(id.object);
    Ok(StatusCode::NO_CONTENT)
}

/// Discards a failed event.
#[utoipa::path(delete, path = "/v1/hooks/failed/{event}", tag = "hooks", params(("event" = String, Path)),
    responses((status = 204), Denied, Missing, Wrong))]
pub(super) async fn discard(
    State(admin): State<Arc<Admin>>,
    Path(event): Path<String>,
) -> Result<StatusCode, Problem> {
    let id: EventId = name("event", &event)?;
    if admin.store.dead_event(id)?.is_none() {
        return Err(no_event());
    }
    store::write(&*admin.store, Write::RemoveDead(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn no_event() -> Problem {
    let detail = "no event with this id was set aside: `berth hooks failed` lists them";
    Problem::new(StatusCode::NOT_FOUND, "no such event", detail)
}
