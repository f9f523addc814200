//! Changes of objects as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use berth_api::events::{ObjectEvent, WatchParameters};
use berth_engine::ObjectView;
use futures_util::{Stream, StreamExt, stream};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use super::Admin;
use super::containers::shown;
use super::problem::{Denied, Problem, Unavailable, Wrong};
use super::read::Parameters;

/// Interval of comment lines on a silent stream, by which both sides notice that the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

fn is_watched(watched: &WatchParameters, view: &ObjectView) -> bool {
    watched.app.as_ref().is_none_or(|app| *app == view.key.app)
        && watched.object.is_none_or(|object| object == view.id)
}

/// Streams changes of objects: first an event `container` for each object that has, or just had, a container, with what
/// `GET /v1/containers/{id}` shows; then `ready`; then an event for every change. A client that reads too slowly gets
/// `lagged` with the number of events lost, and should list the objects again.
#[utoipa::path(get, path = "/v1/events", tag = "containers", params(WatchParameters),
    responses((status = 200, body = String, content_type = "text/event-stream"), Denied, Wrong, Unavailable))]
pub(super) async fn watch(
    State(admin): State<Arc<Admin>>,
    Parameters(watched): Parameters<WatchParameters>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let permit = admin.watch()?;
    // Subscribed before listing, so that no change is missed.
    let changes = BroadcastStream::new(admin.changes.subscribe());
    let mut now = Vec::new();
    for mailbox in &admin.mailboxes {
        now.extend(mailbox.views().await);
    }
    let now: Vec<Event> = now.into_iter().filter(|view| is_watched(&watched, view)).map(container).collect();
    let ready = event(&ObjectEvent::Ready);
    let changes = changes.filter_map(move |change| {
        // The stream holds the permit for as long as it lives.
        let _ = &permit;
        std::future::ready(match change {
            Ok(change) if is_watched(&watched, &change.view) => Some(container(change.view.clone())),
            Ok(_) => None,
            Err(BroadcastStreamRecvError::Lagged(lost)) => Some(event(&ObjectEvent::Lagged { lost })),
        })
    });
    let events = stream::iter(now).chain(stream::once(std::future::ready(ready))).chain(changes);
    Ok(Sse::new(events.map(Ok)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn container(view: ObjectView) -> Event {
    event(&ObjectEvent::Container(Box::new(shown(view))))
}

fn event(event: &ObjectEvent) -> Event {
    Event::default().event(event.name()).data(event.data().unwrap_or_default())
}
