//! What a removed app leaves in the store, and takes with it because it acts by itself: its schedules, and its events for hooks.
//!
//! Secrets, values, records and usage of its objects do nothing, and stay. What is removed here is gone in steps, nearly all
//! of it before the app is: if the edge dies in between, the app is still deployed, and removing it again goes on.

use std::sync::Arc;

use berth_common::ids::AppName;
use berth_store::{self as store, Delivery, EventId, Store, StoreError, Write};

/// What is removed in one commit at most: commits of others wait for it.
const STEP: usize = 256;
/// Most steps while the app may add as much meanwhile as is removed: no other app is changed as long as they take.
const MAX_STEPS: usize = 1_000;
/// Events that are read at once to look for those of the app.
const PAGE: usize = 1_024;

/// Removes what there is of an app that is still routed, and may add to it meanwhile.
pub(super) async fn remove_most(store: &Arc<dyn Store>, app: &AppName) -> Result<(), StoreError> {
    for _ in 0..MAX_STEPS {
        if step(store, app).await? < STEP {
            break;
        }
    }
    Ok(())
}

/// Removes all of it.
pub(super) async fn remove(store: &Arc<dyn Store>, app: &AppName) -> Result<(), StoreError> {
    while step(store, app).await? > 0 {}
    Ok(())
}

/// Removes a part. Returns how much that was.
async fn step(store: &Arc<dyn Store>, app: &AppName) -> Result<usize, StoreError> {
    let (reader, of) = (Arc::clone(store), app.clone());
    let found = tokio::task::spawn_blocking(move || find(&*reader, &of)).await;
    let writes = found.map_err(|error| StoreError::Io(error.to_string()))??;
    let count = writes.len();
    if count > 0 {
        store::commit(&**store, writes).await?;
    }
    Ok(count)
}

/// The next step's writes; none if nothing is left.
fn find(store: &dyn Store, app: &AppName) -> Result<Vec<Write>, StoreError> {
    let schedules = store.schedules_of_app(app, STEP)?.into_iter();
    let mut writes: Vec<Write> = schedules.map(|(object, id)| Write::RemoveSchedule(object, id)).collect();
    let waiting = of_app(app, |after| store.events(after, PAGE))?;
    writes.extend(waiting.into_iter().map(Write::EventDelivered));
    let dead = of_app(app, |after| store.dead_events(after, PAGE))?;
    writes.extend(dead.into_iter().map(Write::RemoveDead));
    writes.truncate(STEP);
    Ok(writes)
}

/// The first events of the app in a list that is read page by page.
fn of_app(
    app: &AppName,
    page: impl Fn(Option<EventId>) -> Result<Vec<(EventId, Delivery)>, StoreError>,
) -> Result<Vec<EventId>, StoreError> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let events = page(after)?;
        let Some((last, _)) = events.last() else { return Ok(found) };
        after = Some(*last);
        found.extend(events.iter().filter(|(_, event)| event.event.key.app == *app).map(|(id, _)| *id));
        if found.len() >= STEP {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use berth_store::SledStore;
    use berth_store::fixtures::{delivery, schedule};

    use super::*;

    #[tokio::test]
    async fn an_app_takes_its_schedules_and_events_with_it_and_no_others() {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SledStore::open(directory.path()).unwrap());
        let (gone, stays) = (schedule("o", 1, 5).key.app, "other".parse::<AppName>().unwrap());
        for n in 0..u8::try_from(STEP - 1).unwrap() {
            let mut of_other = schedule(&n.to_string(), n, 5);
            of_other.key.app = stays.clone();
            let writes = vec![
                Write::Schedule(Box::new(schedule(&n.to_string(), n, 5))),
                Write::Schedule(Box::new(of_other)),
                Write::Event(Box::new(delivery(&n.to_string(), 1))),
            ];
            store::commit(&*store, writes).await.unwrap();
        }
        remove(&store, &gone).await.unwrap();
        assert_eq!(store.schedules_of_app(&gone, 1).unwrap(), []);
        assert_eq!(store.schedules_of_app(&stays, STEP).unwrap().len(), STEP - 1);
        assert_eq!(store.events(None, 1).unwrap().len(), 0);
        assert_eq!(store.next_due_ms(0).unwrap(), Some(5), "the index has those that stay");
    }

    /// An app that is routed emits events all the time: its removal does not wait until it happens not to.
    #[tokio::test]
    async fn what_is_added_all_the_time_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SledStore::open(directory.path()).unwrap());
        let app = delivery("o", 1).event.key.app;
        let event = |store: Arc<dyn Store>| async move {
            store::write(&*store, Write::Event(Box::new(delivery("o", 1)))).await.unwrap();
        };
        event(Arc::clone(&store)).await;
        // One more with each commit of the removal.
        let (adding, has_removed) = (Arc::clone(&store), tokio_util::sync::CancellationToken::new());
        let removed = has_removed.clone();
        let adds = tokio::spawn(async move {
            while !removed.is_cancelled() {
                event(Arc::clone(&adding)).await;
            }
        });
        remove_most(&store, &app).await.unwrap();
        has_removed.cancel();
        adds.await.unwrap();
        remove(&store, &app).await.unwrap();
        assert_eq!(store.events(None, 1).unwrap().len(), 0);
    }
}
