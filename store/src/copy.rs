//! A whole store as lines of JSON, to keep elsewhere or to move: written out, read back, and checked.
//!
//! ```text
//! {"berth_store":4,"epoch":7}        the head
//! {"app":{...}}  {"token":{...}}  {"object":{...}}  {"value":{...}}        one line for each, in this order; then also
//! {"schedule":{...}}  {"cron":{...}}  {"event":{...}}  {"dead":{...}}  {"secret":{...}}  {"usage":{...}}
//! {"image":{...}}  {"tag":{...}}  {"registry":{...}}
//! {"lines":3,"sha256":"..."}         the end: how many lines there were between, and their digest
//! ```
//!
//! What is read becomes a store beside the one that is there, and takes its place only when all of it is right.

use std::fs;
use std::io::{self, BufRead, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use berth_common::ids::{Epoch, ObjectId};
use berth_engine::{Record, UsageRecord};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::sled::{FORMAT, SledStore};
use super::{
    Catalogue, CronKey, Done, KvChange, ManifestRecord, Outbox, Schedules, Store, StoreError, TagRecord,
    Write,
};
use crate::AppHistory;
use crate::Delivery;
use crate::Schedule;
use crate::TokenRecord;
use crate::UsageKey;
use crate::{RegistryRecord, SecretRecord};

/// Objects that are read at once.
const PAGE: usize = 1024;
/// Longest line that is read, in bytes: an app with all its versions.
const MAX_LINE_BYTES: usize = 256 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    berth_store: u32,
    epoch: Epoch,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    App(Box<AppHistory>),
    Token(Box<TokenRecord>),
    Object(Box<Record>),
    Value {
        object: ObjectId,
        key: String,
        base64: String,
    },
    Schedule(Box<Schedule>),
    Cron {
        key: CronKey,
        last_ms: u64,
    },
    Event(Box<Delivery>),
    Dead {
        id: String,
        delivery: Box<Delivery>,
    },
    /// Sealed as it is: it opens only under the edge's key file, which is not part of an export.
    Secret(Box<SecretRecord>),
    Usage(Box<UsageRecord>),
    /// With a password, sealed as it is.
    Registry(Box<RegistryRecord>),
    /// A manifest of a repository. The content is no part of an export.
    Image(Box<ManifestRecord>),
    Tag(TagRecord),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    lines: u64,
    sha256: String,
}

/// What a store holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// Apps.
    pub apps: u64,
    /// Tokens.
    pub tokens: u64,
    /// Records of objects.
    pub objects: u64,
    /// Values of objects.
    pub values: u64,
    /// Secrets, sealed.
    pub secrets: u64,
    /// Alarms and schedules.
    pub schedules: u64,
    /// Events to be told, and those that were set aside.
    pub events: u64,
    /// Records of what instances took.
    pub lives: u64,
    /// Users of registries, with sealed passwords.
    pub registries: u64,
    /// Manifests of images.
    pub images: u64,
    /// Tags of images.
    pub tags: u64,
}

/// Writes all that the store holds. The edge must not run.
pub fn export(directory: &Path, to: impl io::Write) -> Result<Contents> {
    let store = open_existing(directory)?;
    let mut to = Digesting { to: io::BufWriter::new(to), digest: Sha256::new(), lines: 0 };
    let head = Head { berth_store: FORMAT, epoch: store.epoch()? };
    serde_json::to_writer(&mut to.to, &head)?;
    to.to.write_all(b"\n")?;
    let contents = walk(&store, |line| to.line(&line))?;
    let end = End { lines: to.lines, sha256: hex::encode(to.digest.finalize()) };
    serde_json::to_writer(&mut to.to, &end)?;
    to.to.write_all(b"\n")?;
    to.to.flush().context("the export cannot be written")?;
    Ok(contents)
}

/// Reads all values and checks them. The edge must not run.
pub fn verify(directory: &Path) -> Result<Contents> {
    walk(&open_existing(directory)?, |_| Ok(()))
}

/// Makes the store from an export. With one there already it takes its place only if told to, and sets that one aside.
/// Gives what was read, and where the earlier one is now.
pub fn import(directory: &Path, from: impl BufRead, replace: bool) -> Result<(Contents, Option<PathBuf>)> {
    let there = directory.join("db").exists();
    if there && !replace {
        bail!("there is a store in {}: with --replace it is set aside, not removed", directory.display());
    }
    if there {
        // A running edge has it locked. One that cannot be opened for another reason is what this is there for.
        if let Err(error @ StoreError::InUse(_)) = SledStore::open(directory).map(drop) {
            return Err(error.into());
        }
    }
    let parent = directory.parent().context("the store has no parent directory")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    // Only its owner reads it: it is made with the mode 0700.
    let fresh = tempfile::Builder::new().prefix(".import-").tempdir_in(parent)?;
    let contents = read_into(fresh.path(), from)?;
    let aside = there.then(|| set_aside(directory)).transpose()?;
    if !there && directory.exists() {
        fs::remove_dir(directory).with_context(|| format!("{} is not a store", directory.display()))?;
    }
    fs::rename(fresh.keep(), directory).context("the new store cannot be put in its place")?;
    fs::File::open(parent)?.sync_all()?;
    Ok((contents, aside))
}

fn set_aside(directory: &Path) -> Result<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let aside = directory.with_file_name(format!("store-set-aside-{now}"));
    fs::rename(directory, &aside)
        .with_context(|| format!("cannot move {} to {}", directory.display(), aside.display()))?;
    Ok(aside)
}

fn open_existing(directory: &Path) -> Result<SledStore> {
    ensure!(directory.join("db").exists(), "there is no store in {}", directory.display());
    Ok(SledStore::open(directory)?)
}

fn walk(store: &SledStore, mut each: impl FnMut(Entry) -> Result<()>) -> Result<Contents> {
    let mut contents = Contents::default();
    for app in store.apps()? {
        contents.apps += 1;
        each(Entry::App(Box::new(app)))?;
    }
    for token in store.tokens()? {
        contents.tokens += 1;
        each(Entry::Token(Box::new(token)))?;
    }
    walk_records(store, &mut contents, &mut each)?;
    for entry in store.all_values() {
        let (object, key, value) = entry?;
        contents.values += 1;
        each(Entry::Value { object, key, base64: BASE64_STANDARD.encode(value) })?;
    }
    walk_schedules(store, &mut contents, &mut each)?;
    walk_events(store, &mut contents, &mut each)?;
    for (app, name) in store.secret_names(None)? {
        contents.secrets += 1;
        let secret = store.secret(&app, &name)?.context("a secret has gone meanwhile")?;
        each(Entry::Secret(Box::new(secret)))?;
    }
    for registry in store.registries()? {
        contents.registries += 1;
        each(Entry::Registry(Box::new(registry)))?;
    }
    walk_usage(store, &mut contents, &mut each)?;
    walk_images(store, &mut contents, &mut each)?;
    Ok(contents)
}

fn walk_images(
    store: &SledStore,
    contents: &mut Contents,
    each: &mut impl FnMut(Entry) -> Result<()>,
) -> Result<()> {
    let mut last: Option<ManifestRecord> = None;
    loop {
        let after = last.as_ref().map(|last| (&last.repository, &last.digest));
        let page = store.all_manifests(after, PAGE)?;
        let Some(newest) = page.last() else { break };
        last = Some(newest.clone());
        for record in page {
            contents.images += 1;
            each(Entry::Image(Box::new(record)))?;
        }
    }
    let mut last: Option<TagRecord> = None;
    loop {
        let page = store.all_tags(last.as_ref().map(|last| (&last.repository, &last.tag)), PAGE)?;
        let Some(newest) = page.last() else { return Ok(()) };
        last = Some(newest.clone());
        for record in page {
            contents.tags += 1;
            each(Entry::Tag(record))?;
        }
    }
}

fn walk_usage(
    store: &SledStore,
    contents: &mut Contents,
    each: &mut impl FnMut(Entry) -> Result<()>,
) -> Result<()> {
    let mut last = None;
    loop {
        let page = store.usage(last, PAGE)?;
        let Some(newest) = page.last() else { return Ok(()) };
        last = Some(UsageKey::of(newest));
        for record in page {
            contents.lives += 1;
            each(Entry::Usage(Box::new(record)))?;
        }
    }
}

fn walk_schedules(
    store: &SledStore,
    contents: &mut Contents,
    each: &mut impl FnMut(Entry) -> Result<()>,
) -> Result<()> {
    for schedule in store.all_schedules() {
        contents.schedules += 1;
        each(Entry::Schedule(Box::new(schedule?)))?;
    }
    for (key, last_ms) in store.cron_marks()? {
        each(Entry::Cron { key, last_ms })?;
    }
    Ok(())
}

fn walk_events(
    store: &SledStore,
    contents: &mut Contents,
    each: &mut impl FnMut(Entry) -> Result<()>,
) -> Result<()> {
    let mut last = None;
    loop {
        let page = store.events(last, PAGE)?;
        let Some((newest, _)) = page.last() else { break };
        last = Some(*newest);
        for (_, delivery) in page {
            contents.events += 1;
            each(Entry::Event(Box::new(delivery)))?;
        }
    }
    for (id, delivery) in store.dead_events(None, usize::MAX)? {
        each(Entry::Dead { id: id.to_string(), delivery: Box::new(delivery) })?;
    }
    Ok(())
}

fn walk_records(
    store: &SledStore,
    contents: &mut Contents,
    each: &mut impl FnMut(Entry) -> Result<()>,
) -> Result<()> {
    let mut last = None;
    loop {
        let page = store.records(last, PAGE)?;
        let Some(newest) = page.last() else { return Ok(()) };
        last = Some(newest.key.id());
        for record in page {
            contents.objects += 1;
            each(Entry::Object(Box::new(record)))?;
        }
    }
}

struct Digesting<W: io::Write> {
    to: io::BufWriter<W>,
    digest: Sha256,
    lines: u64,
}

impl<W: io::Write> Digesting<W> {
    fn line(&mut self, line: &Entry) -> Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.digest.update(&bytes);
        self.lines += 1;
        self.to.write_all(&bytes).context("the export cannot be written")
    }
}

/// Writes into a new store, which is durable when this returns.
fn read_into(directory: &Path, mut from: impl BufRead) -> Result<Contents> {
    let store = SledStore::open(directory)?;
    let mut text = String::new();
    read_line(&mut from, &mut text)?;
    let head: Head = serde_json::from_str(&text).context("line 1: this is not an export of a store")?;
    if head.berth_store > FORMAT {
        bail!(
            "the export has the format {}, and this version knows formats up to {FORMAT}",
            head.berth_store
        );
    }
    let failure = Arc::new(OnceLock::new());
    let mut contents = Contents::default();
    let mut digest = Sha256::new();
    let mut number = 0_u64;
    loop {
        text.clear();
        read_line(&mut from, &mut text)?;
        ensure!(!text.is_empty(), "the export ends before its last line: a part is missing");
        if let Ok(end) = serde_json::from_str::<End>(&text) {
            let sound = end.lines == number && end.sha256 == hex::encode(digest.finalize());
            ensure!(sound, "the export's digest does not match: it was damaged or changed");
            break;
        }
        number += 1;
        digest.update(&text);
        let line = serde_json::from_str(&text).with_context(|| format!("line {}", number + 1))?;
        put(&store, line, &mut contents, &failure)?;
    }
    // Written last: when it is, so is everything before it.
    store.set_epoch(head.epoch)?;
    failure.get().cloned().map_or(Ok(contents), |error| Err(error.into()))
}

fn read_line(from: &mut impl BufRead, text: &mut String) -> Result<()> {
    let read = io::Read::take(from, MAX_LINE_BYTES as u64).read_line(text);
    read.context("the export cannot be read")?;
    ensure!(text.len() < MAX_LINE_BYTES, "a line of the export is too long");
    Ok(())
}

/// The first write that failed.
type Failure = Arc<OnceLock<StoreError>>;

fn put(store: &SledStore, line: Entry, contents: &mut Contents, failure: &Failure) -> Result<()> {
    let done = || -> Done {
        let failure = Arc::clone(failure);
        Box::new(move |result| result.unwrap_or_else(|error| drop(failure.set(error))))
    };
    match line {
        Entry::App(app) => {
            ensure!(app.is_sound(), "the versions of an app do not fit together");
            contents.apps += 1;
            store.commit(vec![Write::App(*app)], done());
        }
        Entry::Token(token) => {
            contents.tokens += 1;
            store.commit(vec![Write::Token(*token)], done());
        }
        Entry::Object(record) => {
            contents.objects += 1;
            store.commit(vec![Write::Record(record)], done());
        }
        Entry::Value { object, key, base64 } => {
            contents.values += 1;
            let value = Some(BASE64_STANDARD.decode(base64).context("a value is not base64")?);
            store.commit(vec![Write::Kv { object, changes: vec![KvChange { key, value }] }], done());
        }
        Entry::Image(record) => {
            contents.images += 1;
            store.commit(vec![Write::ImageManifest(record)], done());
        }
        Entry::Tag(record) => {
            contents.tags += 1;
            store.commit(vec![Write::ImageTag(record)], done());
        }
        Entry::Usage(record) => {
            contents.lives += 1;
            store.commit(vec![Write::Usage(record)], done());
        }
        Entry::Registry(registry) => {
            contents.registries += 1;
            store.commit(vec![Write::Registry(*registry)], done());
        }
        Entry::Secret(secret) => {
            contents.secrets += 1;
            store.commit(vec![Write::Secret(*secret)], done());
        }
        Entry::Schedule(schedule) => {
            contents.schedules += 1;
            store.commit(vec![Write::Schedule(schedule)], done());
        }
        Entry::Cron { key, last_ms } => store.commit(vec![Write::CronMark(key, last_ms)], done()),
        Entry::Event(delivery) => {
            contents.events += 1;
            store.commit(vec![Write::Event(delivery)], done());
        }
        Entry::Dead { id, delivery } => {
            let id = id.parse().context("an event that was set aside has no id")?;
            store.commit(vec![Write::SetAside(id, delivery)], done());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::app;
    use crate::fixtures::delivery;
    use crate::fixtures::life;
    use crate::fixtures::schedule;
    use crate::fixtures::tagged;
    use crate::sled::tests::{persist, record};
    use crate::{EventId, NUMBER_BYTES};
    use crate::{Scope, TokenRecord};

    fn filled(directory: &Path) -> Vec<u8> {
        let store = SledStore::open(directory).unwrap();
        store.next_epoch().unwrap();
        for index in 0..3 {
            persist(&store, record(&format!("o{index}"), 1, index == 0));
        }
        store.commit(vec![Write::App(AppHistory::begin(app("a", &[]), 1))], Box::new(drop));
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
        store.commit(vec![Write::Secret(secret)], Box::new(drop));
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
        drop(store);
        let mut text = Vec::new();
        export(directory, &mut text).unwrap();
        text
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
                    secrets: 1,
                    registries: 1,
                    lives: 2,
                    images: 1,
                    tags: 1,
                },
                None
            )
        );
        assert_eq!(verify(&two).unwrap(), contents);
        let mut again = Vec::new();
        export(&two, &mut again).unwrap();
        assert_eq!(String::from_utf8(again).unwrap(), String::from_utf8(text).unwrap());
        let store = SledStore::open(&two).unwrap();
        assert_eq!(store.placed().unwrap().len(), 1);
        assert_eq!(store.next_epoch().unwrap(), Epoch(2));
        assert_eq!(sample_names(&store), 3);
    }

    #[test]
    fn an_export_of_an_older_version_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let text = String::from_utf8(filled(&directory.path().join("one"))).unwrap();
        // Version 3 knows no images: it has fewer lines, and another digest.
        let lines: Vec<&str> = text.lines().collect();
        let body: String = lines[1..lines.len() - 3].iter().map(|line| format!("{line}\n")).collect();
        let end = End { lines: lines.len() as u64 - 4, sha256: hex::encode(Sha256::digest(&body)) };
        let head = lines[0].replace("\"berth_store\":4", "\"berth_store\":3");
        let old = format!("{head}\n{body}{}\n", serde_json::to_string(&end).unwrap());
        let (contents, _) = import(&directory.path().join("two"), old.as_bytes(), false).unwrap();
        assert_eq!((contents.apps, contents.objects, contents.images, contents.tags), (1, 3, 0, 0));
    }

    fn sample_names(store: &SledStore) -> usize {
        store.records(None, 10).unwrap().len()
    }

    #[test]
    fn what_was_changed_or_cut_is_refused_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let text = String::from_utf8(filled(&directory.path().join("one"))).unwrap();
        let target = directory.path().join("new/store");
        let changed = text.replacen("\"o1\"", "\"oX\"", 1);
        let cut = &text[..text.len() / 2];
        for bad in
            [changed.as_str(), cut, "", "{}\n", &text.replacen("\"berth_store\":4", "\"berth_store\":5", 1)]
        {
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
        assert_eq!(verify(&aside.unwrap()).unwrap(), verify(&one).unwrap());
    }
}
