//! What the objects of programs keep, in the edge's store: read whole when a script asks for an object, written commit by commit. An
//! object's alarm is a schedule of the agenda, changed in the same write as what it keeps.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use berth_common::ids::{AppName, ClassName, ObjectId, ObjectKey, ObjectName, ScheduleId, Version};
use berth_script::message::{Changes, Object, ObjectClass, PART_BYTES, STATE_BYTES, ScriptError};
use berth_store::{
    self as store, Schedule, StateChange, StateHead, Store, StoreError, StoredState, What, Write,
};
use serde_bytes::ByteBuf;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use crate::script::{Keeper, Settled};

/// What the objects of one app may keep together, in bytes: the store is one for all apps, and is exported and verified whole.
const APP_BYTES: u64 = 4 << 30;

/// What the record takes up that an object exists, in bytes, with its place in the tables; its name comes on top.
const HEAD_BYTES: u64 = 512;

/// What an object's alarm takes up, in bytes: a schedule, perhaps with why it failed, and its entries in the index of what is due. It has
/// the name once more.
const ALARM_BYTES: u64 = 1024;

/// Most bytes of one object as they are counted here: more than a script's own bound comes to, which counts pages otherwise.
const OBJECT_BYTES: u64 = (STATE_BYTES + (STATE_BYTES >> 2)) as u64;

/// Longest key, and longest value or page, in bytes: the script's own bounds.
const KEY_BYTES: usize = 2048;
const VALUE_BYTES: usize = 2 << 20;

/// Objects whose heads are read at once.
const HEADS: usize = 1024;

/// The class whose objects a program has under this name. `lineage` is the class's first name: ids stay the same when it is renamed.
pub(super) fn class(app: &AppName, name: &str, lineage: &ClassName, container: bool) -> ObjectClass {
    let mut digest = Sha256::new();
    for part in ["berth objects 1", app.as_str(), lineage.as_str()] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    ObjectClass { name: name.to_owned(), key: digest.finalize().into(), container }
}

/// The key of an object in the store and the agenda.
pub(super) fn key_of(app: &AppName, lineage: &ClassName, object: &Object) -> Result<ObjectKey, ScriptError> {
    let name = ObjectName::new(object.id.to_string()).map_err(|error| broken(&error))?;
    Ok(ObjectKey { app: app.clone(), class: lineage.clone(), name })
}

/// What is kept of an object, and what keeps more.
pub(super) type State = (Changes, Box<dyn Keeper>);

fn broken(error: &dyn std::fmt::Display) -> ScriptError {
    ScriptError::new("Error", format!("Internal error in Durable Object storage: {error}"))
}

/// The states of all programs' objects.
#[derive(Clone)]
pub(super) struct States(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    /// What the objects of one app may keep together, in bytes.
    share: u64,
    /// What the objects of each app will keep more, in bytes, once what is on its way to the store is durable.
    ordered: Mutex<HashMap<AppName, u64>>,
    /// Apps of which all was removed, each with its last version. For none of its versions up to that one anything is read or written
    /// any more: a process of one may go on for a while, also when the app is there again, under a higher number. There are as few as
    /// are purged while an edge runs. A commit is ordered under the lock: so a purge finds what was ordered before it.
    purged: RwLock<HashMap<AppName, Version>>,
    /// Notified when an earlier alarm may have been set.
    agenda: Arc<Notify>,
}

impl States {
    pub(super) fn new(store: Arc<dyn Store>, agenda: Arc<Notify>) -> Self {
        Self::with_share(store, agenda, APP_BYTES)
    }

    fn with_share(store: Arc<dyn Store>, agenda: Arc<Notify>, share: u64) -> Self {
        Self(Arc::new(Inner { store, share, ordered: Mutex::default(), purged: RwLock::default(), agenda }))
    }

    /// Reads what is kept of an object for this version of its app, on a thread that may block.
    pub(super) async fn open(
        self,
        key: ObjectKey,
        name: Option<String>,
        version: Version,
    ) -> Result<State, ScriptError> {
        if self.purged().has(&key.app, version) {
            return Err(broken(&"the app was deleted, and what its objects kept was removed"));
        }
        let reading = tokio::task::spawn_blocking(move || self.read(key, name, version));
        let read = reading.await.map_err(|error| broken(&error))?;
        read.map_err(|error| {
            tracing::error!(%error, "what an object keeps cannot be read");
            broken(&error)
        })
    }

    fn read(self, key: ObjectKey, name: Option<String>, version: Version) -> Result<State, StoreError> {
        // All heads are read the first time: here, where that may take its time.
        self.0.store.kept_bytes(&key.app)?;
        let id = key.id();
        let alarm = self.0.store.schedule(id, ScheduleId::ALARM)?.map(|alarm| alarm.scheduled_ms);
        let stored = self.0.store.state(id)?;
        let mut keeper = StateKeeper {
            states: self,
            key,
            version,
            // As it is written: some characters take six bytes.
            name_bytes: name.as_ref().map_or(0, |name| serde_json::json!(name).to_string().len() as u64),
            name,
            page_count: 0,
            counted: 0,
            bytes: 0,
            has_alarm: alarm.is_some(),
            values: HashMap::new(),
            pages: BTreeMap::new(),
        };
        let mut changes = Changes { alarm: Some(alarm), ..Changes::default() };
        if let Some(StoredState { head, values, pages }) = stored {
            changes.entries =
                values.into_iter().map(|(key, value)| (key, Some(ByteBuf::from(value)))).collect();
            changes.pages = pages.into_iter().map(|(number, page)| (number, ByteBuf::from(page))).collect();
            changes.page_count = Some(head.page_count);
            keeper.note(&changes);
            keeper.counted = head.bytes;
        }
        Ok((changes, Box::new(keeper)))
    }

    fn purged(&self) -> Purged<'_> {
        Purged(self.0.purged.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn ordered(&self) -> MutexGuard<'_, HashMap<AppName, u64>> {
        self.0.ordered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes room of an app's share for what an object will keep more, in bytes; whether there was as much. `settle` gives it back.
    fn order(&self, app: &AppName, more: u64) -> bool {
        if more == 0 {
            return true;
        }
        let mut ordered = self.ordered();
        let Ok(kept) = self.0.store.kept_bytes(app) else { return false };
        let on_its_way = ordered.get(app).copied().unwrap_or_default();
        let fits = kept.saturating_add(on_its_way).saturating_add(more) <= self.0.share;
        if fits {
            ordered.insert(app.clone(), on_its_way + more);
        }
        fits
    }

    /// What was ordered is durable, and counted by the store, or has failed, and counts no more.
    fn settle(&self, app: &AppName, more: u64) {
        let mut ordered = self.ordered();
        let Some(sum) = ordered.get_mut(app) else { return };
        *sum = sum.saturating_sub(more);
        if *sum == 0 {
            ordered.remove(app);
        }
    }

    /// Removes what the objects of a removed app keep, for good: for no version that it has had anything is read or written any more.
    /// Returns how many there are.
    pub(super) async fn purge(&self, app: &AppName, dry_run: bool) -> Result<usize, StoreError> {
        if !dry_run {
            let last = self.0.store.last_version(app)?;
            self.0.purged.write().unwrap_or_else(PoisonError::into_inner).insert(app.clone(), last);
            // What scripts have ordered before is written then, and found.
            store::commit(&*self.0.store, Vec::new()).await?;
        }
        let (states, of) = (self.clone(), app.clone());
        let found = tokio::task::spawn_blocking(move || states.objects_of(&of)).await;
        let found = found.map_err(|error| StoreError::Io(error.to_string()))??;
        for object in found.iter().filter(|_| !dry_run) {
            let state = Write::State(Box::new(StateChange::gone(*object)));
            store::commit(&*self.0.store, vec![state, Write::RemoveSchedule(*object, ScheduleId::ALARM)])
                .await?;
        }
        Ok(found.len())
    }

    fn objects_of(&self, app: &AppName) -> Result<Vec<ObjectId>, StoreError> {
        let (mut found, mut last) = (Vec::new(), None);
        loop {
            let heads = self.0.store.states(last, HEADS)?;
            let Some(end) = heads.last() else { return Ok(found) };
            last = Some(end.key.id());
            found.extend(heads.iter().filter(|head| head.key.app == *app).map(|head| head.key.id()));
        }
    }
}

/// The versions of apps for which nothing is kept any more.
struct Purged<'a>(RwLockReadGuard<'a, HashMap<AppName, Version>>);

impl Purged<'_> {
    fn has(&self, app: &AppName, version: Version) -> bool {
        self.0.get(app).is_some_and(|last| version <= *last)
    }
}

/// What an entry or page takes up, as it is counted.
fn weight(key: usize, value: usize) -> u64 {
    (key + value + PART_BYTES) as u64
}

/// Writes what changes of one object.
struct StateKeeper {
    states: States,
    key: ObjectKey,
    /// The version of the app that has the object.
    version: Version,
    name: Option<String>,
    name_bytes: u64,
    page_count: u32,
    /// What it takes up as the app's share has it, in bytes.
    counted: u64,
    /// What its entries and pages take up, in bytes.
    bytes: u64,
    has_alarm: bool,
    values: HashMap<String, u64>,
    pages: BTreeMap<u32, u64>,
}

impl StateKeeper {
    /// Whether each part is one that a script may keep.
    fn is_sound(changes: &Changes) -> bool {
        let values = changes.entries.iter().all(|(key, value)| {
            key.len() <= KEY_BYTES && value.as_ref().is_none_or(|value| value.len() <= VALUE_BYTES)
        });
        values && changes.pages.iter().all(|(_, page)| page.len() <= VALUE_BYTES)
    }

    /// Notes the changes.
    fn note(&mut self, changes: &Changes) {
        if changes.clear {
            self.bytes -= self.values.drain().map(|(_, bytes)| bytes).sum::<u64>();
        }
        for (key, value) in &changes.entries {
            let before = match value {
                Some(value) => {
                    let now = weight(key.len(), value.len());
                    self.bytes += now;
                    self.values.insert(key.clone(), now)
                }
                None => self.values.remove(key),
            };
            self.bytes -= before.unwrap_or(0);
        }
        for (number, page) in &changes.pages {
            let now = weight(0, page.len());
            self.bytes += now;
            self.bytes -= self.pages.insert(*number, now).unwrap_or(0);
        }
        self.page_count = changes.page_count.unwrap_or(self.page_count);
        for (_, bytes) in self.pages.split_off(&self.page_count) {
            self.bytes -= bytes;
        }
        self.has_alarm = changes.alarm.map_or(self.has_alarm, |alarm| alarm.is_some());
    }

    /// What it takes up in all, in bytes.
    fn weight(&self) -> u64 {
        let alarm = if self.has_alarm { ALARM_BYTES + self.name_bytes } else { 0 };
        match self.bytes + alarm {
            0 => 0,
            kept => HEAD_BYTES + self.name_bytes + kept,
        }
    }

    /// What is written, and how many bytes of the app's share were taken for it; None if it is more than may be kept, or is none.
    fn writes(&mut self, changes: Changes) -> Option<(Vec<Write>, u64)> {
        if !Self::is_sound(&changes) {
            return None;
        }
        self.note(&changes);
        let sound = self.bytes <= OBJECT_BYTES && self.pages.len() == self.page_count as usize;
        let weight = self.weight();
        let more = weight.saturating_sub(self.counted);
        if !sound || !self.states.order(&self.key.app, more) {
            return None;
        }
        self.counted = weight;
        let Changes { clear, entries, pages, alarm, .. } = changes;
        let head = StateHead {
            key: self.key.clone(),
            name: self.name.clone(),
            page_count: self.page_count,
            bytes: weight,
        };
        let change = StateChange {
            object: self.key.id(),
            head: (weight > 0).then_some(head),
            clear,
            values: entries.into_iter().map(|(key, value)| (key, value.map(ByteBuf::into_vec))).collect(),
            pages: pages.into_iter().map(|(number, page)| (number, page.into_vec())).collect(),
        };
        // The alarm first: for it alone the head stays.
        let alarm = alarm.map(|due_ms| self.alarm(due_ms)).into_iter();
        Some((alarm.chain([Write::State(Box::new(change))]).collect(), more))
    }

    fn alarm(&self, due_ms: Option<u64>) -> Write {
        let Some(due_ms) = due_ms else { return Write::RemoveSchedule(self.key.id(), ScheduleId::ALARM) };
        Write::Schedule(Box::new(Schedule {
            id: ScheduleId::ALARM,
            key: self.key.clone(),
            what: What::Alarm { name: self.name.clone() },
            payload: serde_json::Value::Null,
            scheduled_ms: due_ms,
            due_ms: Some(due_ms),
            attempts: 0,
            last_error: None,
        }))
    }
}

impl Keeper for StateKeeper {
    fn commit(&mut self, changes: Changes, settled: Settled) {
        let sets_alarm = changes.alarm.is_some_and(|alarm| alarm.is_some());
        let states = self.states.clone();
        let purged = states.purged();
        if purged.has(&self.key.app, self.version) {
            tracing::warn!(object = %self.key, "a commit is refused: what its app kept was removed with it");
            return settled(false);
        }
        let Some((writes, more)) = self.writes(changes) else {
            tracing::warn!(object = %self.key, "a commit is refused: it is more than an object, or its app, may keep");
            return settled(false);
        };
        let (counts, object) = (self.states.clone(), self.key.clone());
        let done = Box::new(move |result: Result<(), StoreError>| {
            counts.settle(&object.app, more);
            if let Err(error) = &result {
                tracing::error!(%error, %object, "what an object keeps cannot be written");
            }
            if sets_alarm {
                counts.0.agenda.notify_one();
            }
            settled(result.is_ok());
        });
        states.0.store.commit(writes, done);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use berth_script::message::ObjectId as Id;
    use berth_store::SledStore;

    use super::*;

    const V1: Version = Version(1);

    fn states() -> (tempfile::TempDir, States, Arc<dyn Store>) {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SledStore::open(directory.path()).unwrap());
        (directory, States::new(Arc::clone(&store), Arc::default()), store)
    }

    fn key(number: u8) -> ObjectKey {
        let object = Object { class: "Room".to_owned(), id: Id([number; 32]), name: None };
        key_of(&"a".parse().unwrap(), &"Room".parse().unwrap(), &object).unwrap()
    }

    fn commit(keeper: &mut Box<dyn Keeper>, changes: Changes) -> bool {
        let (tell, told) = mpsc::channel();
        keeper.commit(changes, Box::new(move |durable| tell.send(durable).unwrap()));
        told.recv().unwrap()
    }

    fn put(key: &str, bytes: usize) -> Changes {
        Changes { entries: vec![(key.to_owned(), Some(ByteBuf::from(vec![1; bytes])))], ..Changes::default() }
    }

    #[tokio::test]
    async fn what_is_committed_is_there_when_the_object_is_opened_again_with_its_alarm() {
        let (_directory, states, store) = states();
        let (empty, mut keeper) = states.clone().open(key(1), Some("one".to_owned()), V1).await.unwrap();
        assert_eq!(empty, Changes { alarm: Some(None), ..Changes::default() });
        let page = |byte| ByteBuf::from(vec![byte; 4096]);
        let first = Changes {
            pages: vec![(0, page(1)), (1, page(2))],
            page_count: Some(2),
            alarm: Some(Some(5)),
            ..put("a", 3)
        };
        assert!(
            commit(&mut keeper, first) && commit(&mut keeper, Changes { page_count: Some(1), ..put("b", 1) })
        );
        let (again, _) = states.clone().open(key(1), None, V1).await.unwrap();
        let expected = Changes {
            entries: [put("a", 3).entries, put("b", 1).entries].concat(),
            pages: vec![(0, page(1))],
            page_count: Some(1),
            alarm: Some(Some(5)),
            clear: false,
        };
        assert_eq!(again, expected);
        let alarm = store.schedule(key(1).id(), ScheduleId::ALARM).unwrap().unwrap();
        assert_eq!((alarm.due_ms, alarm.what), (Some(5), What::Alarm { name: Some("one".to_owned()) }));
        let gone = Changes { clear: true, page_count: Some(0), alarm: Some(None), ..Changes::default() };
        assert!(commit(&mut keeper, gone));
        assert!(store.state(key(1).id()).unwrap().is_none() && store.next_due_ms(0).unwrap().is_none());
        assert_eq!(store.kept_bytes(&key(1).app).unwrap(), 0);
    }

    #[tokio::test]
    async fn what_is_more_than_may_be_kept_is_refused_and_nothing_of_it_written() {
        let (_directory, states, _) = states();
        let (_, mut keeper) = states.clone().open(key(1), None, V1).await.unwrap();
        for bad in [
            put(&"k".repeat(KEY_BYTES + 1), 1),
            put("a", VALUE_BYTES + 1),
            Changes { page_count: Some(1), ..put("a", 1) },
        ] {
            let (_, mut keeper) = states.clone().open(key(1), None, V1).await.unwrap();
            assert!(!commit(&mut keeper, bad));
        }
        let most = usize::try_from(OBJECT_BYTES).unwrap() / VALUE_BYTES;
        let written =
            (0..=most).take_while(|n| commit(&mut keeper, put(&n.to_string(), VALUE_BYTES))).count();
        assert!((most - 1..=most).contains(&written), "{written} of {most}");
        let (again, _) = states.clone().open(key(1), None, V1).await.unwrap();
        assert_eq!(again.entries.len(), written);
    }

    /// States over the same store, of which each app may keep this much.
    fn with_share(store: &Arc<dyn Store>, share: u64) -> States {
        States::with_share(Arc::clone(store), Arc::default(), share)
    }

    #[tokio::test]
    async fn an_apps_share_is_that_of_all_its_objects() {
        let (_directory, states, store) = states();
        let (_, mut one) = states.clone().open(key(1), None, V1).await.unwrap();
        assert!(commit(&mut one, put("a", 1000)));
        let kept = store.kept_bytes(&key(1).app).unwrap();
        assert!(kept > 1000);
        let states = with_share(&store, kept + 10);
        let (_, mut two) = states.clone().open(key(2), None, V1).await.unwrap();
        assert!(!commit(&mut two, put("a", 1)));
        let (_, mut one) = states.clone().open(key(1), None, V1).await.unwrap();
        assert!(commit(&mut one, put("a", 900)) && commit(&mut one, put("a", 1010)));
        assert!(!commit(&mut one, put("a", 1011)));
    }

    /// What has neither values nor pages takes room all the same: that it exists, its name, and its alarm.
    #[tokio::test]
    async fn an_object_with_an_alarm_weighs_also_without_values_and_for_the_next_edge() {
        let (_directory, states, store) = states();
        let app = key(1).app;
        let alarm = |alarm| Changes { alarm: Some(alarm), ..Changes::default() };
        let (_, mut one) = states.clone().open(key(1), Some("n".repeat(100)), V1).await.unwrap();
        assert!(commit(&mut one, alarm(Some(5))));
        let weight = store.kept_bytes(&app).unwrap();
        assert!(weight >= HEAD_BYTES + ALARM_BYTES + 200, "{weight}");
        // As the next edge finds it.
        let states = with_share(&store, weight + 100);
        let (_, mut two) = states.clone().open(key(2), None, V1).await.unwrap();
        assert!(!commit(&mut two, alarm(Some(5))), "its alarm is more than is left");
        let (_, mut one) = states.clone().open(key(1), Some("n".repeat(100)), V1).await.unwrap();
        assert!(commit(&mut one, alarm(Some(6))) && commit(&mut one, alarm(None)));
        assert_eq!((store.kept_bytes(&app).unwrap(), store.states(None, 9).unwrap()), (0, vec![]));
        let (_, mut two) = states.clone().open(key(2), None, V1).await.unwrap();
        assert!(commit(&mut two, alarm(Some(5))));
    }

    #[tokio::test]
    async fn what_was_ordered_and_not_written_is_counted_back() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(SledStore::open(directory.path()).unwrap());
        let kept = Arc::clone(&store) as Arc<dyn Store>;
        let states = States::new(Arc::clone(&kept), Arc::default());
        let (_, mut one) = states.clone().open(key(1), None, V1).await.unwrap();
        assert!(commit(&mut one, put("a", 100)));
        let before = kept.kept_bytes(&key(1).app).unwrap();
        store.close();
        assert!(!commit(&mut one, put("b", 5000)));
        assert!(states.ordered().is_empty());
        assert_eq!(kept.kept_bytes(&key(1).app).unwrap(), before);
    }

    #[tokio::test]
    async fn what_an_app_has_left_is_removed_and_nobody_writes_it_again() {
        let (_directory, states, store) = states();
        let mut other = key(2);
        other.app = "other".parse().unwrap();
        let (_, mut one) = states.clone().open(key(1), None, V1).await.unwrap();
        let (_, mut two) = states.clone().open(other.clone(), None, V1).await.unwrap();
        assert!(
            commit(&mut one, Changes { alarm: Some(Some(5)), ..put("a", 1) })
                && commit(&mut two, put("a", 1))
        );
        store::write(&*store, Write::LastVersion(key(1).app, V1)).await.unwrap();
        assert_eq!(states.purge(&key(1).app, true).await.unwrap(), 1);
        assert!(commit(&mut one, put("b", 1)));
        assert_eq!(states.purge(&key(1).app, false).await.unwrap(), 1);
        assert!(!commit(&mut one, put("c", 1)) && commit(&mut two, put("b", 1)));
        // A process that still lives gets nothing to write to either.
        assert!(states.clone().open(key(1), None, V1).await.is_err());
        let left = store.states(None, 9).unwrap();
        assert_eq!((left.len(), &left[0].key, store.next_due_ms(0).unwrap()), (1, &other, None));
        // An app of this name that is deployed later begins anew, and what still lives of the one before writes nothing of it.
        let (empty, mut again) = states.clone().open(key(1), None, Version(2)).await.unwrap();
        assert!(empty.entries.is_empty() && commit(&mut again, put("a", 1)));
        assert!(!commit(&mut one, put("d", 1)) && states.clone().open(key(1), None, V1).await.is_err());
    }

    #[test]
    fn ids_are_an_apps_and_a_lineages() {
        let class = |app: &str, lineage: &str| {
            class(&app.parse().unwrap(), "Now", &lineage.parse().unwrap(), false).key
        };
        assert_eq!(class("a", "Room"), class("a", "Room"));
        assert!(class("a", "Room") != class("b", "Room") && class("a", "Room") != class("aR", "oom"));
    }
}
