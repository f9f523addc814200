//! Changes of objects as server-sent events, and what has happened to nodes and to what they had: as such events too, or in pages.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use berth_api::events::{HappeningPage, ObjectEvent, WatchParameters};
use berth_api::lists::{HappeningListing, Paged};
use berth_common::happening::Happening;
use berth_engine::ObjectView;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use super::Admin;
use super::containers::shown;
use super::problem::{Denied, Problem, Unavailable, Wrong};
use super::read::Parameters;
use crate::happenings::{Asked, Happenings};

/// On a page by default.
const PAGE: usize = 1_000;
/// Interval of comment lines on a silent stream, by which both sides notice that the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

fn is_watched(watched: &WatchParameters, view: &ObjectView) -> bool {
    watched.app.as_ref().is_none_or(|app| *app == view.key.app)
        && watched.object.is_none_or(|object| object == view.id)
}

/// Streams changes of objects: first an event `container` for each object that has, or just had, a container, with what
/// `GET /v1/containers/{id}` shows; then `ready`; then an event for every change. A client that reads too slowly gets
/// `lagged` with the number of events lost, and should list the objects again. With `happenings` there is no `container`: after `ready`
/// comes a `happening` for everything that `GET /v1/events/past` would list from then on.
#[utoipa::path(get, path = "/v1/events", tag = "containers", params(WatchParameters),
    responses((status = 200, body = String, content_type = "text/event-stream"), Denied, Wrong, Unavailable))]
pub(super) async fn watch(
    State(admin): State<Arc<Admin>>,
    Parameters(watched): Parameters<WatchParameters>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let permit = admin.watch()?;
    let events = match watched.happenings {
        true => happening(admin.nodes.happenings(), watched, permit),
        false => changes(&admin, watched, permit).await,
    };
    Ok(Sse::new(events.map(Ok)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// The stream holds the permit for as long as it lives.
async fn changes(
    admin: &Admin,
    watched: WatchParameters,
    permit: OwnedSemaphorePermit,
) -> BoxStream<'static, Event> {
    // Subscribed before listing, so that no change is missed.
    let changes = BroadcastStream::new(admin.changes.subscribe());
    let mut now = Vec::new();
    for mailbox in &admin.mailboxes {
        now.extend(mailbox.views().await);
    }
    let now: Vec<Event> = now.into_iter().filter(|view| is_watched(&watched, view)).map(container).collect();
    let changes = changes.filter_map(move |change| {
        let _ = &permit;
        std::future::ready(match change {
            Ok(change) if is_watched(&watched, &change.view) => Some(container(change.view.clone())),
            Ok(_) => None,
            Err(BroadcastStreamRecvError::Lagged(lost)) => Some(event(&ObjectEvent::Lagged { lost })),
        })
    });
    stream::iter(now).chain(ready()).chain(changes).boxed()
}

/// The same of what happens to nodes and to what they had.
fn happening(
    happenings: &Happenings,
    watched: WatchParameters,
    permit: OwnedSemaphorePermit,
) -> BoxStream<'static, Event> {
    let followed = BroadcastStream::new(happenings.follow());
    let (object, asked) = (watched.object, Asked { app: watched.app, node: watched.node });
    let is_asked = move |happening: &Happening| {
        let own = happening.object.as_ref().map(berth_common::ids::ObjectKey::id);
        asked.matches(happening) && object.is_none_or(|object| own == Some(object))
    };
    let followed = followed.filter_map(move |happening| {
        let _ = &permit;
        std::future::ready(match happening {
            Ok(happening) => {
                is_asked(&happening).then(|| event(&ObjectEvent::Happening(Box::new(happening))))
            }
            Err(BroadcastStreamRecvError::Lagged(lost)) => Some(event(&ObjectEvent::Lagged { lost })),
        })
    });
    ready().chain(followed).boxed()
}

fn ready() -> impl Stream<Item = Event> + Send {
    stream::once(std::future::ready(event(&ObjectEvent::Ready)))
}

/// Lists what has happened to nodes and to what they had, the oldest first: the last 10,000 in all, of which each app and each node has a
/// share. A page's cursor is the number of the last one before it.
#[utoipa::path(get, path = "/v1/events/past", tag = "edge", params(HappeningListing),
    responses((status = 200, body = HappeningPage), Denied, Wrong))]
pub(super) async fn past(
    State(admin): State<Arc<Admin>>,
    Parameters(listing): Parameters<HappeningListing>,
) -> Result<Json<HappeningPage>, Problem> {
    let (after, limit) = listing.page::<u64>(PAGE)?;
    let asked = Asked { app: listing.app, node: listing.node };
    let happenings = admin.nodes.happenings().after(after, &asked, limit);
    let last = happenings.last().filter(|_| happenings.len() == limit);
    let next_cursor = last.map(|happening| happening.number.to_string());
    Ok(Json(HappeningPage { happenings, next_cursor }))
}

fn container(view: ObjectView) -> Event {
    event(&ObjectEvent::Container(Box::new(shown(view))))
}

fn event(event: &ObjectEvent) -> Event {
    Event::default().event(event.name()).data(event.data().unwrap_or_default())
}
