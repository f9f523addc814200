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
use berth_common::ids::{AppName, ObjectId};
use berth_engine::{Record, RecordState};
use berth_store::{KvChange, Store, StoreError, Write, commit};

use super::Admin;
use super::problem::{Conflicting, Denied, Problem, Wrong};
use super::read::{self, OptionalBody};

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
    if admin.apps.get(&app).is_some() && !dry_run {
        let detail = format!("the app `{app}` is deployed: delete it first");
        return Err(Problem::new(StatusCode::CONFLICT, "the app is deployed", detail));
    }
    let mut purged = Purged::default();
    for (_, name) in admin.store.secret_names(Some(&app))? {
        purged.secrets += 1;
        if !dry_run {
            admin.secrets.delete(app.clone(), name).await?;
        }
    }
    for id in admin.objects_of(&app).await? {
        admin.purge_object(id, dry_run, &mut purged).await?;
    }
    if !dry_run {
        tracing::info!(%app, ?purged, "app purged");
    }
    Ok(Json(purged))
}

impl Admin {
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

    /// Removes one object, unless it has a container or the engine is just concerned with it.
    async fn purge_object(&self, id: ObjectId, dry_run: bool, purged: &mut Purged) -> Result<(), Problem> {
        let live = self.live(id).await.is_some();
        let placed = |record: Record| matches!(record.state, RecordState::Placed { .. });
        if !dry_run && (live || self.store.load(id)?.is_some_and(placed)) {
            purged.ending += 1;
            return Ok(());
        }
        purged.objects += 1;
        purged.values += remove_values(&*self.store, id, dry_run).await?;
        purged.schedules += remove_schedules(&*self.store, id, dry_run).await?;
        if !dry_run {
            commit(&*self.store, vec![Write::RemoveRecord(id)]).await?;
        }
        Ok(())
    }
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
