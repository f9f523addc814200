//! Reads everything in a store, entry by entry, in the order of an export.

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::entry::{Contents, Entry};
use crate::sled::SledStore;
use crate::{Catalogue, Outbox, Schedules, States, Store, StoreError, UsageKey};

/// Records that are read at once.
const PAGE: usize = 1024;

/// Passes every entry to `each`, and returns how many there are.
pub(super) fn walk(store: &SledStore, mut each: impl FnMut(Entry) -> Result<()>) -> Result<Contents> {
    let mut contents = Contents::default();
    let mut each = |entry: Entry| {
        contents.count(&entry);
        each(entry)
    };
    apps_and_objects(store, &mut each)?;
    schedules_and_events(store, &mut each)?;
    logins_and_usage(store, &mut each)?;
    images(store, &mut each)?;
    states(store, &mut each)?;
    Ok(contents)
}

fn apps_and_objects(store: &SledStore, each: &mut impl FnMut(Entry) -> Result<()>) -> Result<()> {
    for app in store.apps()? {
        each(Entry::App(Box::new(app)))?;
    }
    for last in store.last_versions()? {
        each(Entry::LastVersion(last))?;
    }
    for token in store.tokens()? {
        each(Entry::Token(Box::new(token)))?;
    }
    let read = |last: Option<&_>| store.records(last.copied(), PAGE);
    pages(read, |record| record.key.id(), |record| each(Entry::Object(Box::new(record))))?;
    for value in store.all_values() {
        let (object, key, value) = value?;
        each(Entry::Value { object, key, base64: BASE64_STANDARD.encode(value) })?;
    }
    Ok(())
}

fn schedules_and_events(store: &SledStore, each: &mut impl FnMut(Entry) -> Result<()>) -> Result<()> {
    for schedule in store.all_schedules() {
        each(Entry::Schedule(Box::new(schedule?)))?;
    }
    for (key, last_ms) in store.cron_marks()? {
        each(Entry::Cron { key, last_ms })?;
    }
    let read = |last: Option<&_>| store.events(last.copied(), PAGE);
    pages(read, |(id, _)| *id, |(_, delivery)| each(Entry::Event(Box::new(delivery))))?;
    for (id, delivery) in store.dead_events(None, usize::MAX)? {
        each(Entry::Dead { id: id.to_string(), delivery: Box::new(delivery) })?;
    }
    Ok(())
}

fn logins_and_usage(store: &SledStore, each: &mut impl FnMut(Entry) -> Result<()>) -> Result<()> {
    for (holder, name) in store.secret_names(None)? {
        let secret = store.secret(&holder, &name)?.context("a secret was removed during the export")?;
        each(Entry::Secret(Box::new(secret)))?;
    }
    for registry in store.registries()? {
        each(Entry::Registry(Box::new(registry)))?;
    }
    let read = |last: Option<&_>| store.usage(last.copied(), PAGE);
    pages(read, UsageKey::of, |record| each(Entry::Usage(Box::new(record))))
}

fn states(store: &SledStore, each: &mut impl FnMut(Entry) -> Result<()>) -> Result<()> {
    let read = |last: Option<&_>| store.states(last.copied(), PAGE);
    pages(
        read,
        |head| head.key.id(),
        |head| match store.state(head.key.id())? {
            Some(state) => each(Entry::of_state(state)),
            None => Ok(()),
        },
    )
}

fn images(store: &SledStore, each: &mut impl FnMut(Entry) -> Result<()>) -> Result<()> {
    pages(
        |last| store.all_manifests(last.map(|(repository, digest)| (repository, digest)), PAGE),
        |record| (record.repository.clone(), record.digest),
        |record| each(Entry::Image(Box::new(record))),
    )?;
    pages(
        |last| store.all_tags(last.map(|(repository, tag)| (repository, tag)), PAGE),
        |record| (record.repository.clone(), record.tag.clone()),
        |record| each(Entry::Tag(record)),
    )
}

/// Reads a list page by page: `read` gets the key of the last item of the page before.
fn pages<T, K>(
    read: impl Fn(Option<&K>) -> Result<Vec<T>, StoreError>,
    key: impl Fn(&T) -> K,
    mut each: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    let mut last = None;
    loop {
        let page = read(last.as_ref())?;
        let Some(newest) = page.last() else { return Ok(()) };
        last = Some(key(newest));
        page.into_iter().try_for_each(&mut each)?;
    }
}
