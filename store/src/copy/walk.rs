//! Reads everything in a store, entry by entry, in the order of an export.

use anyhow::Result;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::de::DeserializeOwned;

use super::damage::Damage;
use super::entry::{Contents, Entry};
use crate::sled::{CronMark, SledStore, Table, dead_id};
use crate::{Delivery, SecretRecord, StateHead, StoreError};

/// Passes every entry to `each`, and returns how many there are. What is damaged goes to `damage`, which may end it with an error.
pub(super) fn walk(
    store: &SledStore,
    damage: &mut Damage,
    mut each: impl FnMut(Entry) -> Result<()>,
) -> Result<Contents> {
    let mut contents = Contents::default();
    let mut taken = |entry: Result<Entry, StoreError>| match entry {
        Ok(entry) => {
            contents.count(&entry);
            each(entry)
        }
        Err(error) => damage.take(error),
    };
    apps_and_objects(store, &mut taken)?;
    schedules_and_events(store, &mut taken)?;
    logins_and_usage(store, &mut taken)?;
    all(store, Table::ImageManifests, |record| Entry::Image(Box::new(record)), &mut taken)?;
    all(store, Table::ImageTags, Entry::Tag, &mut taken)?;
    all(store, Table::Nodes, Entry::Node, &mut taken)?;
    all(store, Table::Members, |record| Entry::Member(Box::new(record)), &mut taken)?;
    all(store, Table::Revoked, Entry::Revoked, &mut taken)?;
    all(store, Table::Happenings, |happening| Entry::Happening(Box::new(happening)), &mut taken)?;
    states(store, &mut taken)?;
    Ok(contents)
}

/// Takes an entry, or why there is none.
trait Take: FnMut(Result<Entry, StoreError>) -> Result<()> {}

impl<F: FnMut(Result<Entry, StoreError>) -> Result<()>> Take for F {}

/// All values of a table.
fn all<T: DeserializeOwned>(
    store: &SledStore,
    table: Table,
    entry: impl Fn(T) -> Entry,
    take: &mut impl Take,
) -> Result<()> {
    store.trees().each(table, None).try_for_each(|value| take(value.map(&entry)))
}

fn apps_and_objects(store: &SledStore, take: &mut impl Take) -> Result<()> {
    store.each_app().try_for_each(|app| take(app.map(|app| Entry::App(Box::new(app)))))?;
    all(store, Table::LastVersions, Entry::LastVersion, take)?;
    all(store, Table::Tokens, |token| Entry::Token(Box::new(token)), take)?;
    all(store, Table::Objects, |record| Entry::Object(Box::new(record)), take)?;
    let value = |(object, key, value): (_, _, Vec<u8>)| {
        let base64 = BASE64_STANDARD.encode(value);
        Entry::Value { object, key, base64 }
    };
    store.all_values().try_for_each(|read| take(read.map(value)))
}

fn schedules_and_events(store: &SledStore, take: &mut impl Take) -> Result<()> {
    all(store, Table::Schedules, |schedule| Entry::Schedule(Box::new(schedule)), take)?;
    all(store, Table::Crons, |CronMark { key, last_ms }| Entry::Cron { key, last_ms }, take)?;
    all(store, Table::Hooks, |delivery: Delivery| Entry::Event(Box::new(delivery)), take)?;
    let dead = store.trees().each_entry(Table::Dead, None);
    let dead = dead.map(|entry| {
        let (key, delivery) = entry?;
        Ok(Entry::Dead { id: dead_id(&key)?.to_string(), delivery: Box::new(delivery) })
    });
    dead.into_iter().try_for_each(take)
}

fn logins_and_usage(store: &SledStore, take: &mut impl Take) -> Result<()> {
    for table in [Table::Secrets, Table::StoreSecrets] {
        all(store, table, |secret: SecretRecord| Entry::Secret(Box::new(secret)), take)?;
    }
    all(store, Table::Registries, |registry| Entry::Registry(Box::new(registry)), take)?;
    all(store, Table::Usage, |record| Entry::Usage(Box::new(record)), take)
}

fn states(store: &SledStore, take: &mut impl Take) -> Result<()> {
    let heads = store.trees().each::<StateHead>(Table::States, None);
    heads.into_iter().try_for_each(|head| {
        take(head.and_then(|head| {
            let of = shown(&head);
            store.state_of(head).map(Entry::of_state).map_err(|error| named(error, &of))
        }))
    })
}

/// An object as people know it.
fn shown(head: &StateHead) -> String {
    let name = head.name.as_ref().map(|name| format!(", made of the name {name:?}"));
    format!("state of the object {}{}", head.key, name.unwrap_or_default())
}

/// The same damage, as one of this.
fn named(error: StoreError, of: &str) -> StoreError {
    match error {
        StoreError::Damaged { what, reason } => {
            StoreError::Damaged { what: of.to_owned(), reason: format!("{what}: {reason}") }
        }
        other => other,
    }
}
