//! Tests of exports and imports: complete, damaged, and from older versions.

use berth_common::ids::{ObjectId, Version};

use super::*;
use crate::fixtures::app;
use crate::fixtures::delivery;
use crate::fixtures::happening;
use crate::fixtures::life;
use crate::fixtures::schedule;
use crate::fixtures::state;
use crate::fixtures::tagged;
use crate::sled::Table;
use crate::sled::tests::{persist, record};
use crate::{
    AddedBy, AppHistory, CronKey, EventId, KvChange, MemberRecord, NUMBER_BYTES, NodeRecord, RegistryRecord,
    RevokedRecord, Schedules, Scope, SecretHolder, SecretRecord, StateChange, States, TokenRecord, Write,
};

fn filled(directory: &Path) -> Vec<u8> {
    let store = SledStore::open(directory).unwrap();
    store.next_epoch().unwrap();
    for index in 0..3 {
        persist(&store, record(&format!("o{index}"), 1, index == 0));
    }
    store.commit(vec![Write::App(AppHistory::begin(app("a", &[]), 1))], Box::new(drop));
    store.commit(vec![Write::LastVersion("gone".parse().unwrap(), Version(7))], Box::new(drop));
    let token = TokenRecord {
        id: "00112233445566ff".parse().unwrap(),
        name: "ci".to_owned(),
        scope: Scope::Read,
        hash: "0".repeat(64),
        created_ms: 1,
        last_used_ms: None,
    };
    store.commit(vec![Write::Token(token)], Box::new(drop));
    let change = KvChange { key: "a key".to_owned(), value: Some(vec![0, 255]) };
    let object = ObjectId::from_bytes([7; 16]);
    store.commit(vec![Write::Kv { object, changes: vec![change] }], Box::new(drop));
    store.commit(vec![Write::Usage(Box::new(life(1, 5_000)))], Box::new(drop));
    store.commit(vec![Write::Usage(Box::new(life(2, 4_000)))], Box::new(drop));
    let secret = serde_json::json!({
        "app": "a", "name": "S", "created_ms": 1, "updated_ms": 2, "version": 3,
        "key": "0123456789abcdef", "nonce": "AAECAwQFBgcICQoL", "ciphertext": "c2VhbGVk",
    });
    let secret: SecretRecord = serde_json::from_value(secret).unwrap();
    let shared = SecretRecord { holder: SecretHolder::Store("a".parse().unwrap()), ..secret.clone() };
    store.commit(vec![Write::Secret(secret), Write::Secret(shared)], Box::new(drop));
    let registry = serde_json::json!({
        "registry": "r.example:5000", "username": "me", "updated_ms": 2,
        "key": "0123456789abcdef", "nonce": "AAECAwQFBgcICQoL", "ciphertext": "c2VhbGVk",
    });
    let registry: RegistryRecord = serde_json::from_value(registry).unwrap();
    store.commit(vec![Write::Registry(registry)], Box::new(drop));
    store.commit(vec![Write::Schedule(Box::new(schedule("o", 1, 100)))], Box::new(drop));
    store.commit(vec![Write::Event(Box::new(delivery("o", 1)))], Box::new(drop));
    let id = EventId { object, number: [1; NUMBER_BYTES] };
    store.commit(vec![Write::SetAside(id, Box::new(delivery("o", 2)))], Box::new(drop));
    let cron = CronKey { app: "a".parse().unwrap(), cron: "0".to_owned() };
    store.commit(vec![Write::CronMark(cron, 7)], Box::new(drop));
    let (image, tag) = tagged("a/b", "v1", b"m");
    store.commit(vec![Write::ImageManifest(Box::new(image)), Write::ImageTag(tag)], Box::new(drop));
    store.commit(vec![Write::State(Box::new(StateChange::whole(state("5e"))))], Box::new(drop));
    store.commit(vec![Write::Node(drained("n1")), Write::Node(drained("n2"))], Box::new(drop));
    store.commit(vec![Write::RemoveNode("n2".parse().unwrap())], Box::new(drop));
    store.commit(vec![Write::Member(Box::new(member("m1"))), Write::Revoked(revoked())], Box::new(drop));
    let happened = [1, 256, 7].map(|number| Write::Happening(Box::new(happening(number))));
    store.commit(happened.into(), Box::new(drop));
    store.commit(vec![Write::RemoveHappenings(vec![7])], Box::new(drop));
    drop(store);
    let mut text = Vec::new();
    export(directory, &mut text, false).unwrap();
    text
}

/// A node that was added, with all that may be known of it.
fn member(node: &str) -> MemberRecord {
    let labels = [("rack".to_owned(), "7".to_owned())].into();
    let (address, by) = ("192.0.2.1:7443".to_owned(), AddedBy::Join);
    MemberRecord { node: node.parse().unwrap(), address, labels, added_ms: 5, by }
}

fn revoked() -> RevokedRecord {
    RevokedRecord { key: "ab".repeat(32), node: "m1".parse().unwrap(), revoked_ms: 6 }
}

fn drained(node: &str) -> NodeRecord {
    NodeRecord { node: node.parse().unwrap(), drained_ms: 9 }
}

#[test]
fn an_export_becomes_an_equal_store() {
    let directory = tempfile::tempdir().unwrap();
    let text = filled(&directory.path().join("one"));
    let two = directory.path().join("two");
    let (contents, aside) = import(&two, &text[..], false).unwrap();
    assert_eq!(
        (contents, aside),
        (
            Contents {
                apps: 1,
                tokens: 1,
                objects: 3,
                values: 1,
                schedules: 1,
                events: 1,
                secrets: 2,
                registries: 1,
                usage: 2,
                images: 1,
                tags: 1,
                files: 0,
                states: 1,
            },
            None
        )
    );
    assert_eq!(sound(&two), contents);
    let mut again = Vec::new();
    export(&two, &mut again, false).unwrap();
    assert_eq!(String::from_utf8(again).unwrap(), String::from_utf8(text).unwrap());
    let store = SledStore::open(&two).unwrap();
    assert_eq!(store.placed().unwrap().len(), 1);
    assert_eq!(store.last_version(&"gone".parse().unwrap()).unwrap(), Version(7));
    assert_eq!(store.last_version(&"a".parse().unwrap()).unwrap(), Version(0));
    assert_eq!(store.next_epoch().unwrap(), Epoch(2));
    assert_eq!(sample_names(&store), 3);
    assert_eq!(store.nodes().unwrap(), [drained("n1")]);
    assert_eq!(store.members().unwrap(), [member("m1")]);
    assert_eq!(store.revoked().unwrap(), [revoked()]);
    assert_eq!(store.happenings(), [happening(1), happening(256)]);
    assert_eq!(store.state(state("5e").head.key.id()).unwrap(), Some(state("5e")));
}

#[test]
fn an_import_that_is_only_tried_reads_all_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("one"), directory.path().join("two"));
    let text = filled(&one);
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    };
    let before = (names(), fs::read(one.join(DATABASE_FILE)).unwrap());
    let (contents, replaces) = try_import(&two, &text[..], false).unwrap();
    assert!(!replaces && contents.objects == 3);
    assert_eq!(try_import(&one, &text[..], true).unwrap(), (contents, true));
    // What the import would refuse is refused: a store that is there, a damaged export, another directory, one in use.
    let refused = |directory: &Path, text: &[u8], replace| {
        format!("{:#}", try_import(directory, text, replace).unwrap_err())
    };
    assert!(refused(&one, &text, false).contains("--replace"));
    let last_line = text[..text.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    assert!(refused(&two, &text[..last_line], false).contains("a part is missing"));
    assert_eq!((names(), fs::read(one.join(DATABASE_FILE)).unwrap()), before);
    assert!(refused(directory.path(), &text, false).contains("is not a store"));
    let _open = SledStore::open(&one).unwrap();
    assert!(try_import(&one, &text[..], true).unwrap_err().is::<StoreError>());
}

/// An export's text, as if another version had written it.
fn of_format(text: &str, format: u32) -> String {
    let ours = format!("\"berth_store\":{FORMAT}");
    assert!(text.contains(&ours), "{text}");
    text.replacen(&ours, &format!("\"berth_store\":{format}"), 1)
}

#[test]
fn an_export_of_an_older_version_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let text = String::from_utf8(filled(&directory.path().join("one"))).unwrap();
    // Version 3 has no images, orders to nodes, added nodes, revoked keys, happenings and states, so fewer lines and another digest.
    let lines: Vec<&str> = text.lines().collect();
    let body: String = lines[1..lines.len() - 9].iter().map(|line| format!("{line}\n")).collect();
    let end = End { lines: lines.len() as u64 - 10, sha256: hex::encode(Sha256::digest(&body)) };
    let old = format!("{}\n{body}{}\n", of_format(lines[0], 3), serde_json::to_string(&end).unwrap());
    let (contents, _) = import(&directory.path().join("two"), old.as_bytes(), false).unwrap();
    assert_eq!((contents.apps, contents.objects, contents.images, contents.states), (1, 3, 0, 0));
}

fn sample_names(store: &SledStore) -> usize {
    store.records(None, 10).unwrap().len()
}

#[test]
fn a_changed_or_truncated_export_is_refused_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let text = String::from_utf8(filled(&directory.path().join("one"))).unwrap();
    let target = directory.path().join("new/store");
    let changed = text.replacen("\"o1\"", "\"oX\"", 1);
    let cut = &text[..text.len() / 2];
    for bad in [changed.as_str(), cut, "", "{}\n", &of_format(&text, FORMAT + 1)] {
        assert!(import(&target, bad.as_bytes(), false).is_err(), "{bad}");
    }
    assert!(!target.exists());
    assert_eq!(fs::read_dir(directory.path().join("new")).unwrap().count(), 0);
}

#[test]
fn a_store_is_replaced_only_on_demand_and_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let one = directory.path().join("one");
    let text = filled(&one);
    assert!(import(&one, &text[..], false).unwrap_err().to_string().contains("--replace"));
    let open = SledStore::open(&one).unwrap();
    assert!(import(&one, &text[..], true).is_err());
    drop(open);
    let (_, aside) = import(&one, &text[..], true).unwrap();
    assert_eq!(sound(&aside.unwrap()), sound(&one));
}

/// One of each kind cannot be read: the others are found and exported all the same, and each of these is named.
#[test]
fn what_is_damaged_is_named_and_hides_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("one"), directory.path().join("two"));
    drop(filled(&one));
    let whole = sound(&one);
    let store = SledStore::open(&one).unwrap();
    for other in ["00", "ff"] {
        store.commit(vec![Write::State(Box::new(StateChange::whole(state(other))))], Box::new(drop));
        persist(&store, record(other, 1, false));
    }
    store.settle().unwrap();
    // The last batch is written again when the store is opened, which would mend it.
    store.next_epoch().unwrap();
    let (object, state_of) = (record("o1", 1, false).key, state("5e").head.key);
    damage(&store, Table::Objects, object.id().as_bytes());
    damage(&store, Table::StateParts, state_of.id().as_bytes());
    damage(&store, Table::States, state("ff").head.key.id().as_bytes());
    for table in [Table::Apps, Table::Tokens, Table::Kv, Table::Schedules, Table::Hooks, Table::Dead] {
        damage(&store, table, b"");
    }
    for table in [Table::Secrets, Table::Usage, Table::ImageTags, Table::LastVersions, Table::Crons] {
        damage(&store, table, b"");
    }
    drop(store);
    let (left, damage) = verify(&one).unwrap();
    let named: Vec<String> = damage.named.iter().map(ToString::to_string).collect();
    assert_eq!((damage.count, named.len()), (14, 14), "{named:#?}");
    assert!(named.iter().any(|text| text.contains(&state_of.to_string())), "{named:#?}");
    assert!(named.iter().any(|text| text.contains(&hex::encode(object.id().as_bytes()))), "{named:#?}");
    let expected = Contents {
        apps: 0,
        tokens: 0,
        values: 0,
        schedules: 0,
        events: 0,
        tags: 0,
        objects: whole.objects + 1,
        secrets: 1,
        usage: 1,
        ..whole
    };
    assert_eq!(left, expected);
    let error = export(&one, Vec::new(), false).unwrap_err().to_string();
    assert!(error.contains("--without-damaged") && error.contains("verify"), "{error}");
    let mut text = Vec::new();
    assert_eq!(export(&one, &mut text, true).unwrap().0, left);
    assert_eq!(import(&two, &text[..], false).unwrap().0, left);
    // Those who look for what is an app's find what can be read.
    let store = SledStore::open(&one).unwrap();
    assert_eq!(store.states(None, 9).unwrap().len(), 2);
    assert!(store.schedules_of_app(&object.app, 9).unwrap().is_empty());
}

/// All that is sound of a store that has no damage.
fn sound(directory: &Path) -> Contents {
    let (contents, damage) = verify(directory).unwrap();
    assert_eq!(damage.count, 0);
    contents
}

/// Changes the last byte of the first value whose key begins like this.
fn damage(store: &SledStore, table: Table, prefix: &[u8]) {
    let tree = store.trees().get(table);
    let (key, value) = tree.scan_prefix(prefix).next().unwrap().unwrap();
    let mut value = value.to_vec();
    *value.last_mut().unwrap() ^= 1;
    tree.insert(key, value).unwrap();
}
