//! Tests of the contents of a store after it was closed, killed, copied or damaged.

mod nodes;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use berth_common::ids::{Generation, InstanceId, ObjectKey};
use berth_common::metering::Metered;
use berth_common::wire::term::BootId;
use berth_engine::RecordState;
use serde::Serialize;
use tempfile::TempDir;

use super::super::KvChange;
use super::change::{Change, Numbers};
use super::journal::Draft;
use super::writer::{BATCH_BYTES, BATCH_ENTRIES, BLOBS_DIRECTORY, RESERVE_BYTES, enough, needed_bytes};
use super::*;
use crate::fixtures::{app, class, life};

pub(crate) fn record(name: &str, generation: u64, placed: bool) -> Record {
    let key =
        ObjectKey { app: "a".parse().unwrap(), class: "b".parse().unwrap(), name: name.parse().unwrap() };
    let state = if placed {
        let instance = InstanceId::from_bytes([7; 16]);
        RecordState::Placed {
            node: "n1".parse().unwrap(),
            instance,
            class: Box::new(class()),
            stop_reason: None,
            placed_ms: 5,
            announced: false,
            stop: None,
        }
    } else {
        RecordState::Stopped { outcome: None, node: None }
    };
    Record { key, generation: Generation(generation), state, last_change_ms: 5, failures: Vec::new() }
}

/// Writes and waits until that is durable.
pub(crate) fn commit(store: &SledStore, writes: Vec<Write>) {
    let (tell, told) = sync_channel(1);
    store.commit(writes, Box::new(move |result| tell.send(result).unwrap()));
    told.recv().unwrap().unwrap();
}

/// Writes a record and waits until it is durable.
pub(crate) fn persist(store: &SledStore, record: Record) {
    commit(store, vec![Write::Record(Box::new(record))]);
}

/// Writes a value without the writer, as another version would.
fn put(store: &SledStore, table: Table, key: &[u8], value: &impl Serialize) {
    let Change::Value { pieces, .. } = Change::put(table, key, value).unwrap() else { panic!() };
    for (key, piece) in pieces {
        store.trees.get(table).insert(key, piece).unwrap();
    }
}

fn names(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record.key.name.as_str()).collect()
}

#[test]
fn acknowledged_writes_are_there_after_reopening() {
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    persist(&store, record("x", 1, true));
    persist(&store, record("y", 1, true));
    persist(&store, record("x", 2, false));
    let (tell, told) = sync_channel(1);
    let shop = AppHistory::begin(app("shop", &[("/{id}", None)]), 7);
    store.commit(vec![Write::App(shop.clone())], Box::new(move |result| tell.send(result).unwrap()));
    told.recv().unwrap().unwrap();
    drop(store);

    let store = SledStore::open(directory.path()).unwrap();
    let x = store.load(record("x", 0, false).key.id()).unwrap().unwrap();
    assert_eq!(x.generation, Generation(2));
    assert!(store.load(record("z", 0, false).key.id()).unwrap().is_none());
    assert_eq!(names(&store.placed().unwrap()), ["y"]);
    let all = store.records(None, 10).unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(store.records(None, 1).unwrap(), all[..1]);
    assert_eq!(store.records(Some(all[0].key.id()), 10).unwrap(), all[1..]);
    assert_eq!(store.apps().unwrap(), [shop]);
}

/// Who removes it has read it before: it may have been placed since, in the same batch too.
#[test]
fn the_record_of_a_placed_instance_is_not_removed() {
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    let id = record("x", 0, false).key.id();
    persist(&store, record("x", 1, false));
    commit(&store, vec![Write::Record(Box::new(record("x", 2, true))), Write::RemoveRecord(id)]);
    assert_eq!(store.load(id).unwrap(), Some(record("x", 2, true)));
    assert_eq!(names(&store.placed().unwrap()), ["x"]);
    commit(&store, vec![Write::Record(Box::new(record("x", 2, false))), Write::RemoveRecord(id)]);
    assert_eq!(store.load(id).unwrap(), None);
}

#[test]
fn each_start_has_a_larger_epoch() {
    let directory = TempDir::new().unwrap();
    for epoch in 1..4 {
        assert_eq!(SledStore::open(directory.path()).unwrap().next_epoch().unwrap(), Epoch(epoch));
    }
}

#[test]
fn a_large_record_may_be_followed_by_a_small_one() {
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    let mut large = record("x", 1, true);
    let RecordState::Placed { class, .. } = &mut large.state else { panic!() };
    class.recipe.env.insert("K".to_owned(), "v".repeat(250 * 1024));
    persist(&store, large);
    assert_eq!(store.records(None, 9).unwrap().len(), 1);
    persist(&store, record("x", 2, true));
    assert_eq!(store.records(None, 9).unwrap().len(), 1);
    assert_eq!(store.trees.get(Table::Objects).len(), 1);
}

#[test]
fn an_app_of_format_1_becomes_a_history_with_one_version() {
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    put(&store, Table::Apps, b"old", &app("old", &[]));
    assert_eq!(store.apps().unwrap(), [AppHistory::begin(app("old", &[]), 0)]);
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_unchanged() {
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    put(&store, Table::Meta, FORMAT_KEY, &(FORMAT + 1));
    drop(store);
    let opened = SledStore::open(directory.path());
    let Err(StoreError::Newer { found, known, .. }) = opened else { panic!("a newer store is refused") };
    assert_eq!((found, known), (FORMAT + 1, FORMAT));
}

/// Wherever the file is damaged, and however much of it is missing: the acknowledged writes are there, or the store is
/// refused and unchanged.
#[test]
fn a_damaged_store_is_refused_and_unchanged() {
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join("store");
    let store = SledStore::open(&directory).unwrap();
    for index in 0..400 {
        store.commit(vec![Write::Record(Box::new(record(&format!("o{index}"), 1, false)))], Box::new(drop));
    }
    persist(&store, record("last", 1, false));
    drop(store);
    let file = directory.join(DATABASE_FILE);
    let (whole, mark) = (fs::read(&file).unwrap(), fs::read(directory.join("mark")).unwrap());
    let conf = fs::read(directory.join("conf")).unwrap();
    for part in 0..8 {
        let mut bytes = whole.clone();
        let at = whole.len() * part / 8;
        bytes.iter_mut().skip(at).take(512).for_each(|byte| *byte ^= 0x5a);
        fs::write(&file, &bytes).unwrap();
        match SledStore::open(&directory) {
            Err(StoreError::Open { .. } | StoreError::Damaged { .. }) => {
                assert!(fs::read(&file).unwrap() == bytes, "it was changed (damaged at {at})");
            }
            Ok(store) => {
                let found = store.records(None, 1_000).map(|records| records.len());
                assert!(matches!(found, Ok(401) | Err(StoreError::Damaged { .. })), "{at}: {found:?}");
            }
            Err(other) => panic!("{other}"),
        }
        let left: Vec<_> = fs::read_dir(parent.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["store"], "damaged at {at}");
        fs::remove_dir_all(&directory).unwrap();
        fs::create_dir(&directory).unwrap();
        fs::write(&file, &whole).unwrap();
        fs::write(directory.join("mark"), &mark).unwrap();
        fs::write(directory.join("conf"), &conf).unwrap();
    }
}

/// A power failure while the store's first files are made leaves whatever it leaves of them. Nothing was acknowledged.
#[test]
fn a_store_that_was_never_finished_is_made_anew() {
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join("store");
    let unfinished = directory.join("unfinished");
    drop(SledStore::open(&directory).unwrap());
    assert!(!unfinished.exists());
    let names: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    for torn in names.iter().filter(|path| path.is_file()) {
        fs::remove_dir_all(&directory).unwrap();
        drop(SledStore::open(&directory).unwrap());
        let bytes = fs::metadata(torn).unwrap().len();
        fs::write(torn, vec![0; usize::try_from(bytes).unwrap()]).unwrap();
        fs::write(&unfinished, "").unwrap();
        let store = SledStore::open(&directory).unwrap_or_else(|error| panic!("{}: {error}", torn.display()));
        persist(&store, record("first", 1, false));
        drop(store);
        assert_eq!(SledStore::open(&directory).unwrap().records(None, 10).unwrap().len(), 1);
    }
    // One that has been used is never removed, even if it says that it is not finished.
    fs::write(&unfinished, "").unwrap();
    let store = SledStore::open(&directory).unwrap();
    assert_eq!(store.records(None, 10).unwrap().len(), 1);
    assert!(!unfinished.exists());
}

#[test]
fn a_store_is_open_once() {
    let directory = TempDir::new().unwrap();
    let _open = SledStore::open(directory.path()).unwrap();
    assert!(matches!(SledStore::open(directory.path()), Err(StoreError::InUse(_))));
}

#[test]
fn a_store_that_is_just_being_closed_is_waited_for() {
    let directory = TempDir::new().unwrap();
    drop(SledStore::open(directory.path()).unwrap());
    let file = File::open(directory.path().join(DATABASE_FILE)).unwrap();
    let held = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).unwrap();
    assert!(matches!(SledStore::try_open(directory.path()), Err(StoreError::InUse(_))));
    let closer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        drop(held);
    });
    SledStore::open(directory.path()).unwrap();
    closer.join().unwrap();
}

#[test]
fn a_store_that_another_is_opening_is_in_use() {
    let directory = TempDir::new().unwrap();
    drop(SledStore::open(directory.path()).unwrap());
    let opening = Opening::begin(directory.path()).unwrap();
    assert!(matches!(SledStore::try_open(directory.path()), Err(StoreError::InUse(_))));
    drop(opening);
    SledStore::open(directory.path()).unwrap();
}

#[test]
fn of_many_that_open_a_store_at_once_none_moves_what_another_has_open() {
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join("store");
    let store = SledStore::open(&directory).unwrap();
    persist(&store, record("x", 1, true));
    drop(store);
    let opener = || {
        for _ in 0..10 {
            match SledStore::try_open(&directory) {
                Ok(_) | Err(StoreError::InUse(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
    };
    let inode = || fs::metadata(directory.join(DATABASE_FILE)).unwrap().ino();
    let before = inode();
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(opener))));
    assert_eq!(inode(), before);
    let left: Vec<_> = fs::read_dir(parent.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["store"]);
}

#[test]
fn a_damaged_record_is_an_error_and_not_another_record() {
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    persist(&store, record("x", 1, true));
    let id = record("x", 0, false).key.id();
    let key = piece_key(id.as_bytes(), 0);
    let mut bytes = store.trees.get(Table::Objects).get(&key).unwrap().unwrap().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    store.trees.get(Table::Objects).insert(&key, bytes).unwrap();
    assert!(matches!(store.load(id), Err(StoreError::Damaged { .. })));
}

/// What a killed process leaves: the file as it is at some moment, without a close.
#[test]
fn a_copy_taken_during_writes_has_all_writes_acknowledged_before() {
    let directory = TempDir::new().unwrap();
    let store = Arc::new(SledStore::open(directory.path()).unwrap());
    for generation in 1..30 {
        persist(&store, record("x", generation, true));
        store.commit(vec![Write::Record(Box::new(record("later", generation, true)))], Box::new(drop));
    }
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(directory.path()).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    let copied = SledStore::open(copy.path()).unwrap();
    let x = copied.load(record("x", 0, true).key.id()).unwrap().unwrap();
    assert_eq!(x.generation, Generation(29));
}

#[test]
fn writes_after_the_close_are_refused() {
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    store.close();
    let (tell, told) = sync_channel(1);
    store.commit(
        vec![Write::Record(Box::new(record("x", 1, true)))],
        Box::new(move |result| tell.send(result).unwrap()),
    );
    assert!(matches!(told.recv().unwrap(), Err(StoreError::Closed)));
}

#[test]
fn nothing_is_written_to_an_almost_full_disk() {
    assert!(enough(RESERVE_BYTES, needed_bytes(0)).is_ok());
    assert!(matches!(enough(RESERVE_BYTES, needed_bytes(1)), Err(StoreError::Full { .. })));
    assert!(enough(u64::MAX, needed_bytes(u64::MAX)).is_ok());
}

/// Large values make large pages, which are in files of their own.
/// The writer waits, so that all of them are there when it takes the next batch.
#[test]
fn a_write_that_the_disk_has_no_room_for_fails_alone() {
    const ROOM_BYTES: usize = 1 << 20;
    let directory = TempDir::new().unwrap();
    let store = SledStore::open_as_it_is(directory.path(), |_| Ok(needed_bytes(1 << 20))).unwrap();
    let written = |name: &'static str, parts: usize| {
        let change = KvChange { key: name.to_owned(), value: Some(vec![1; ROOM_BYTES / 10 * parts]) };
        vec![Write::Kv { object: record(name, 1, false).key.id(), changes: vec![change] }]
    };
    // In tenths of the room: together they are far too much, and most fit by themselves.
    let writes = [("a", 1), ("b", 20), ("c", 6), ("d", 6), ("e", 11), ("f", 1)];
    let (go_on, waits) = sync_channel::<()>(0);
    store.commit(Vec::new(), Box::new(move |_| waits.recv().unwrap()));
    let told = writes.map(|(name, parts)| {
        let (tell, told) = sync_channel(1);
        store.commit(written(name, parts), Box::new(move |result| tell.send(result).unwrap()));
        told
    });
    go_on.send(()).unwrap();
    let results = told.map(|told| told.recv().unwrap());
    for ((name, parts), result) in writes.iter().zip(results) {
        let expected = *parts < 10;
        assert_eq!(result.is_ok(), expected, "{name}: {result:?}");
        assert!(expected || matches!(result, Err(StoreError::Full { .. })), "{name}: {result:?}");
        let there = store.value(record(name, 1, false).key.id(), name).unwrap();
        assert_eq!(there.is_some(), expected, "{name}");
    }
    assert_eq!(store.vitals().waiting.get(), 0);
    assert_eq!(store.vitals().failures.get(), 2);
}

#[test]
fn large_values_are_there_after_reopening_and_their_files_are_synced() {
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    let mut large = record("x", 1, true);
    let RecordState::Placed { class, .. } = &mut large.state else { panic!() };
    class.recipe.env.insert("K".to_owned(), "v".repeat(3 << 20));
    for generation in 1..20 {
        large.generation = Generation(generation);
        persist(&store, large.clone());
    }
    drop(store);
    assert!(fs::read_dir(directory.path().join(BLOBS_DIRECTORY)).unwrap().count() > 0);
    let store = SledStore::open(directory.path()).unwrap();
    assert_eq!(store.load(large.key.id()).unwrap(), Some(large));
}

#[test]
fn values_are_kept_by_object_and_listed_by_prefix() {
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    let (one, two) = (ObjectId::from_bytes([1; 16]), ObjectId::from_bytes([2; 16]));
    let write = |object, changes: &[(&str, Option<Vec<u8>>)]| {
        let change = |(key, value): &(&str, Option<Vec<u8>>)| KvChange {
            key: (*key).to_owned(),
            value: value.clone(),
        };
        let (tell, told) = sync_channel(1);
        let write = Write::Kv { object, changes: changes.iter().map(change).collect() };
        store.commit(vec![write], Box::new(move |result| tell.send(result).unwrap()));
        told.recv().unwrap().unwrap();
    };
    let large = vec![7; 128 * 1024];
    write(
        one,
        &[("a/1", Some(large.clone())), ("a/2", Some(vec![])), ("a", Some(vec![0])), ("b", Some(vec![1, 2]))],
    );
    write(two, &[("a/1", Some(vec![9]))]);
    assert_eq!(store.value(one, "a/1").unwrap(), Some(large));
    assert_eq!(store.value(two, "a/1").unwrap(), Some(vec![9]));
    assert_eq!(store.value(one, "a/3").unwrap(), None);
    let keys = |prefix, after, limit| {
        let found = store.keys(one, prefix, after, limit).unwrap();
        found.into_iter().map(|(key, bytes)| format!("{key}={bytes}")).collect::<Vec<_>>()
    };
    assert_eq!(keys("", None, 9), ["a=1", "a/1=131072", "a/2=0", "b=2"]);
    assert_eq!(keys("a/", None, 9), ["a/1=131072", "a/2=0"]);
    assert_eq!(keys("", Some("a/1"), 1), ["a/2=0"]);
    assert_eq!(keys("a/", Some("a"), 9), ["a/1=131072", "a/2=0"]);
    assert_eq!(keys("a", Some("b"), 9), Vec::<String>::new());
    write(one, &[("a/1", None), ("b", Some(vec![3]))]);
    assert_eq!(keys("", None, 9), ["a=1", "a/2=0", "b=1"]);
    drop(store);
    let store = SledStore::open(directory.path()).unwrap();
    assert_eq!(store.value(one, "b").unwrap(), Some(vec![3]));
}

#[test]
fn secrets_are_kept_by_app_and_name() {
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    let name = |text: &str| -> SecretName { text.parse().unwrap() };
    let [a, ab] = ["a", "ab"].map(|app| SecretHolder::App(app.parse().unwrap()));
    let store_a = SecretHolder::Store("a".parse().unwrap());
    let secret = |holder: &SecretHolder, name: SecretName, bytes: usize| -> SecretRecord {
        let kind = if *holder == store_a { "store" } else { "app" };
        serde_json::from_value(serde_json::json!({
            kind: holder.name(), "name": name, "created_ms": 1, "updated_ms": 2, "version": 3,
            "key": "0123456789abcdef", "nonce": "", "ciphertext": "A".repeat(bytes),
        }))
        .unwrap()
    };
    let large = secret(&a, name("S"), 88 * 1024);
    let (tell, told) = sync_channel(1);
    let shared = secret(&store_a, name("S"), 4);
    let writes = [large.clone(), secret(&a, name("SA"), 0), secret(&ab, name("S"), 0), shared.clone()];
    let writes = writes.map(Write::Secret);
    store.commit(writes.into(), Box::new(move |result| tell.send(result).unwrap()));
    told.recv().unwrap().unwrap();
    assert_eq!(store.secret(&a, &name("S")).unwrap(), Some(large));
    assert_eq!(store.secret(&ab, &name("SA")).unwrap(), None);
    assert_eq!(store.secret(&store_a, &name("S")).unwrap(), Some(shared));
    assert_eq!(store.secret(&store_a, &name("SA")).unwrap(), None);
    let (first, second) = ((a.clone(), name("S")), (a.clone(), name("SA")));
    let of_store = (store_a.clone(), name("S"));
    assert_eq!(store.secret_names(Some(&a)).unwrap(), [first.clone(), second.clone()]);
    assert_eq!(store.secret_names(Some(&store_a)).unwrap(), std::slice::from_ref(&of_store));
    assert_eq!(store.secret_names(None).unwrap(), [first.clone(), second, (ab, name("S")), of_store.clone()]);
    store.commit(vec![Write::RemoveSecret { holder: a.clone(), name: name("SA") }], Box::new(drop));
    drop(store);
    let store = SledStore::open(directory.path()).unwrap();
    assert_eq!(store.secret_names(Some(&a)).unwrap(), [first]);
}

/// As after a power failure: the journal has the batch, and the database a part of it, or nothing.
#[test]
fn a_batch_that_power_cut_off_is_whole_when_the_store_is_opened() {
    for applied in 0..3 {
        let directory = TempDir::new().unwrap();
        let store = SledStore::open(directory.path()).unwrap();
        persist(&store, record("before", 1, true));
        let number = store.trees().read::<u64>(Table::Meta, BATCHES).unwrap().unwrap() + 1;
        let mut numbers = Numbers::of_batch(number);
        let mut changes = Change::of(&Write::Record(Box::new(record("cut", 1, true))), &mut numbers).unwrap();
        changes.push(Change::put(Table::Meta, BATCHES, &number).unwrap());
        let batch = |changes: &[Change]| {
            let mut draft = Draft::on(store.trees());
            changes.iter().for_each(|change| change.apply(&mut draft).unwrap());
            draft.finish()
        };
        Journal::open(directory.path()).unwrap().write(number, &batch(&changes)).unwrap();
        batch(&changes[..applied]).commit(store.trees()).unwrap();
        drop(store);

        let store = SledStore::open(directory.path()).unwrap();
        let mut placed = store.placed().unwrap();
        placed.sort_by(|a, b| a.key.name.as_str().cmp(b.key.name.as_str()));
        assert_eq!(names(&placed), ["before", "cut"], "{applied} of 3 changes were written");
        persist(&store, record("after", 1, true));
        assert_eq!(store.trees().read(Table::Meta, BATCHES).unwrap(), Some(number + 1));
    }
}

/// As after a version without a journal has written, or after an older copy was put back.
#[test]
fn a_journal_of_another_time_is_not_used() {
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    persist(&store, record("x", 1, true));
    let number = store.trees().read::<u64>(Table::Meta, BATCHES).unwrap().unwrap();
    let mut draft = Draft::on(store.trees());
    let changes = Change::of(&Write::Record(Box::new(record("x", 9, true))), &mut Numbers::of_batch(1));
    changes.unwrap().iter().for_each(|change| change.apply(&mut draft).unwrap());
    let batch = draft.finish();
    drop(store);
    for other in [number - 1, number + 2, u64::MAX] {
        Journal::open(directory.path()).unwrap().write(other, &batch).unwrap();
        let store = SledStore::open(directory.path()).unwrap();
        assert_eq!(store.placed().unwrap()[0].generation, Generation(1), "{other} after {number}");
    }
}

/// The removal of all that an object keeps is a small order and a large batch.
#[test]
fn removals_weigh_what_they_come_to_in_a_batch() {
    const KEYS: u64 = 7_500;
    const KEY_BYTES: u64 = 2_000;
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    let objects = ["0", "1", "2", "3"].map(|name| {
        let mut state = crate::fixtures::state(name);
        let width = usize::try_from(KEY_BYTES).unwrap();
        state.values = (0..KEYS).map(|n| (format!("{n:0width$}"), Vec::new())).collect();
        let object = state.head.key.id();
        commit(&store, vec![Write::State(Box::new(crate::StateChange::whole(state)))]);
        object
    });
    let batches = || store.trees().read::<u64>(Table::Meta, BATCHES).unwrap().unwrap();
    let before = batches();
    // The writer waits, so that all of them are there when it takes the next batch.
    let (go_on, waits) = sync_channel::<()>(0);
    store.commit(Vec::new(), Box::new(move |_| waits.recv().unwrap()));
    for object in objects {
        store.commit(vec![Write::State(Box::new(crate::StateChange::gone(object)))], Box::new(drop));
    }
    go_on.send(()).unwrap();
    store.settle().unwrap();
    let fit = BATCH_BYTES.div_ceil(KEYS * KEY_BYTES);
    assert!((2..4).contains(&fit), "the test needs more than one batch, and fewer than there are objects");
    assert_eq!(batches() - before, 4_u64.div_ceil(fit));
    assert!(store.trees().get(Table::StateParts).is_empty());
}

/// Entries cost time however small they are.
#[test]
fn many_small_entries_end_a_batch() {
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    let batches = || store.trees().read::<u64>(Table::Meta, BATCHES).unwrap().unwrap();
    let before = batches();
    let (go_on, waits) = sync_channel::<()>(0);
    store.commit(Vec::new(), Box::new(move |_| waits.recv().unwrap()));
    for name in ["x", "y", "z"] {
        let change = |n| KvChange { key: format!("{n}"), value: Some(Vec::new()) };
        let changes = (0..=BATCH_ENTRIES / 2).map(change).collect();
        let object = record(name, 1, false).key.id();
        store.commit(vec![Write::Kv { object, changes }], Box::new(drop));
    }
    go_on.send(()).unwrap();
    store.settle().unwrap();
    assert_eq!(batches() - before, 2);
}

#[test]
fn a_draft_counts_what_is_removed_and_nothing_twice() {
    let directory = TempDir::new().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    let mut draft = Draft::on(store.trees());
    assert_eq!((draft.bytes(), draft.is_empty()), (0, true));
    draft.remove(Table::Kv, vec![1; 100]);
    let removal = draft.bytes();
    assert!(removal >= 100);
    draft.insert(Table::Kv, vec![1; 100], &[2; 50]);
    draft.insert(Table::Kv, vec![1; 100], &[2; 30]);
    assert_eq!(draft.bytes(), removal + 30);
    draft.remove(Table::Kv, vec![1; 100]);
    assert_eq!(draft.bytes(), removal);
}
