//! What is left of an app that was deleted: its secrets, and of each of its objects the values, the schedules and the row
//! in lists. Usage records stay: they are what was taken.
//!
//! An object whose container still ends keeps its row until that has ended, and is counted: the record is what makes sure
//! that there is never a second instance. Values of objects that never had a container cannot be told from those of
//! other apps, as an id is a hash: they stay.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use berth_api::apps::{Purge, Purged};
use berth_common::ids::{AppName, ObjectId, Version};
use berth_engine::{Record, RecordState};
use berth_store::{KvChange, SecretHolder, Store, StoreError, Write, commit};

use super::Admin;
use super::problem::{Conflicting, Denied, Problem, Wrong};
use super::read::{self, OptionalBody};
use crate::apps::Removed;

/// Records that are read at once.
const PAGE: usize = 1024;
/// Values and schedules that are removed in one batch, as many as a client may change in one.
const BATCH: usize = 128;

/// Removes what a deleted app has left: its secrets, and its objects with their values and schedules. Responds once that is
/// durable. Objects whose containers still end are counted in `ending`, and removed by doing it again.
#[utoipa::path(post, path = "/v1/apps/{app}/purge", tag = "apps", request_body = Option<Purge>,
    params(("app" = String, Path, max_length = 63, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$")),
    responses((status = 200, body = Purged), Denied, Wrong, Conflicting))]
pub(super) async fn purge(
    State(admin): State<Arc<Admin>>,
    Path(app): Path<String>,
    OptionalBody(Purge { dry_run }): OptionalBody<Purge>,
) -> Result<Json<Purged>, Problem> {
    let app: AppName = read::name("app", &app)?;
    let mut purged = Purged::default();
    if !dry_run {
        let _removed = admin.removed(&app).await?;
        // Those that a deletion which was cut off has not stopped.
        admin.end_others(&app, Version::default()).await?;
    }
    for (_, name) in admin.store.secret_names(Some(&SecretHolder::from(&app)))? {
        purged.secrets += 1;
        if !dry_run {
            let _removed = admin.removed(&app).await?;
            admin.secrets.delete(app.clone(), name).await?;
        }
    }
    for id in admin.objects_of(&app).await? {
        let _removed = if dry_run { None } else { Some(admin.removed(&app).await?) };
        admin.purge_object(id, dry_run, &mut purged).await?;
    }
    {
        let _removed = if dry_run { None } else { Some(admin.removed(&app).await?) };
        purged.values += admin.programs.purge(&app, dry_run).await?;
    }
    if !dry_run {
        tracing::info!(%app, ?purged, "app purged");
    }
    Ok(Json(purged))
}

impl Admin {
    /// Keeps the app from being deployed while a part of what it has left is removed: what its new objects write is not that.
    async fn removed(&self, app: &AppName) -> Result<Removed<'_>, Problem> {
        self.apps.while_removed(app).await.ok_or_else(|| {
            let detail = format!("the app `{app}` is deployed: delete it first");
            Problem::new(StatusCode::CONFLICT, "the app is deployed", detail)
        })
    }

    /// The objects of an app that have records.
    async fn objects_of(&self, app: &AppName) -> Result<Vec<ObjectId>, Problem> {
        let (store, app) = (Arc::clone(&self.store), app.clone());
        let read = tokio::task::spawn_blocking(move || {
            let (mut found, mut last) = (Vec::new(), None);
            loop {
                let page = store.records(last, PAGE)?;
                let Some(end) = page.last() else { return Ok::<_, StoreError>(found) };
                last = Some(end.key.id());
                found
                    .extend(page.iter().filter(|record| record.key.app == app).map(|record| record.key.id()));
            }
        });
        Ok(read.await.map_err(|error| Problem::internal(&error))??)
    }

    /// Removes one object, unless it has a container. One whose containers have failed in a row is removed too, and shown
    /// until the engine forgets that.
    async fn purge_object(&self, id: ObjectId, dry_run: bool, purged: &mut Purged) -> Result<(), Problem> {
        let live = self.live(id).await.is_some_and(|view| view.instance.is_some());
        if !dry_run && (live || self.store.load(id)?.is_some_and(is_placed)) {
            purged.ending += 1;
            return Ok(());
        }
        purged.values += remove_values(&*self.store, id, dry_run).await?;
        purged.schedules += remove_schedules(&*self.store, id, dry_run).await?;
        if !dry_run {
            // The last: a purge that is cut off finds by it what it has to go on with.
            commit(&*self.store, vec![Write::RemoveRecord(id)]).await?;
            // A request that still waited may have got a container meanwhile: the store keeps the record then.
            if self.store.load(id)?.is_some() {
                purged.ending += 1;
                return Ok(());
            }
        }
        purged.objects += 1;
        Ok(())
    }
}

fn is_placed(record: Record) -> bool {
    matches!(record.state, RecordState::Placed { .. })
}

async fn remove_values(store: &dyn Store, object: ObjectId, dry_run: bool) -> Result<usize, StoreError> {
    let (mut count, mut last) = (0, None::<String>);
    loop {
        let keys = store.keys(object, "", last.as_deref(), BATCH)?;
        let Some((end, _)) = keys.last() else { return Ok(count) };
        (count, last) = (count + keys.len(), Some(end.clone()));
        let changes = keys.into_iter().map(|(key, _)| KvChange { key, value: None }).collect();
        if !dry_run {
            commit(store, vec![Write::Kv { object, changes }]).await?;
        }
    }
}

async fn remove_schedules(store: &dyn Store, object: ObjectId, dry_run: bool) -> Result<usize, StoreError> {
    let (mut count, mut last) = (0, None);
    loop {
        let schedules = store.schedules(object, last, BATCH)?;
        let Some(end) = schedules.last() else { return Ok(count) };
        (count, last) = (count + schedules.len(), Some(end.id));
        let writes =
            schedules.into_iter().map(|schedule| Write::RemoveSchedule(object, schedule.id)).collect();
        if !dry_run {
            commit(store, writes).await?;
        }
    }
}
