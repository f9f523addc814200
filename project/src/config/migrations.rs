//! `migrations`: how the classes of objects came to be, step by step. Each step is checked against those before it.

use std::collections::{BTreeMap, BTreeSet};

use berth_common::ids::ClassName;

use super::environment::{Found, View};
use super::objects::{CLASS_RULE, ClassStorage, MAX_CLASSES};
use super::section::{Reading, Section};
use crate::report::quoted;

/// Most migrations: one a change of classes, over the life of an app.
const MAX_MIGRATIONS: usize = 1024;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Its name, which no other has.
    pub tag: String,
    /// The classes that come to be.
    pub new: Vec<(ClassName, ClassStorage)>,
    /// The classes that get another name, with it.
    pub renamed: Vec<(ClassName, ClassName)>,
    /// The classes whose objects end for good.
    pub deleted: Vec<ClassName>,
}

/// A class that there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Live {
    pub(super) storage: ClassStorage,
    /// Where it is declared.
    pub(super) at: usize,
}

/// The classes that there are after all steps, and those that there were.
#[derive(Debug, Default)]
pub(super) struct Classes {
    pub(super) live: BTreeMap<ClassName, Live>,
    /// What became of the others.
    pub(super) gone: BTreeMap<ClassName, String>,
}

/// All steps, where there are any, and what they lead to.
pub(super) fn read(reading: &mut Reading<'_>, view: &View<'_>) -> (Vec<Migration>, Classes) {
    let mut classes = Classes::default();
    let Some(Found { node, path }) = view.given("migrations") else { return (Vec::new(), classes) };
    let sections = reading.sections(node, &path, MAX_MIGRATIONS);
    let mut tags = BTreeSet::new();
    let steps = sections.iter().map(|section| step(reading, section, &mut tags, &mut classes)).collect();
    (steps, classes)
}

const KEYS: [&str; 6] =
    ["tag", "new_classes", "new_sqlite_classes", "renamed_classes", "deleted_classes", "transferred_classes"];

fn step(
    reading: &mut Reading<'_>,
    section: &Section<'_>,
    tags: &mut BTreeSet<String>,
    classes: &mut Classes,
) -> Migration {
    reading.unknown_keys(section, &KEYS);
    let tag = tag(reading, section, tags);
    if let Some(node) = section.get("transferred_classes").filter(|node| !node.is_empty()) {
        reading.wrong(
            node.at,
            format!("{}: objects cannot come from another app", section.key("transferred_classes")),
        );
    }
    // What a step takes away is free for what it adds.
    let deleted = listed(reading, section, "deleted_classes");
    for (class, at) in &deleted {
        delete(reading, classes, class, *at, &tag);
    }
    let renamed = renames(reading, section);
    for (from, to, at) in &renamed {
        rename(reading, classes, (from, to), *at, &tag);
    }
    let kinds = [("new_sqlite_classes", ClassStorage::Sqlite), ("new_classes", ClassStorage::KeyValue)];
    let mut new = Vec::new();
    for (key, storage) in kinds {
        for (class, at) in listed(reading, section, key) {
            create(reading, classes, &class, storage, at);
            new.push((class, storage));
        }
    }
    Migration {
        tag,
        new,
        renamed: renamed.into_iter().map(|(from, to, _)| (from, to)).collect(),
        deleted: deleted.into_iter().map(|(class, _)| class).collect(),
    }
}

fn tag(reading: &mut Reading<'_>, section: &Section<'_>, tags: &mut BTreeSet<String>) -> String {
    let node = reading.required(section, "tag", "a name for the step, such as \"v1\"");
    let Some((node, tag)) = node.and_then(|node| Some((node, reading.text(node, &section.key("tag"))?)))
    else {
        return String::new();
    };
    if tag.is_empty() {
        reading.wrong(node.at, format!("{} is empty; expected a name for the step", section.key("tag")));
    } else if !tags.insert(tag.to_owned()) {
        reading.wrong(node.at, format!("the migration {} is there twice; expected another tag", quoted(tag)));
    }
    tag.to_owned()
}

fn listed(reading: &mut Reading<'_>, section: &Section<'_>, key: &str) -> Vec<(ClassName, usize)> {
    let Some(node) = section.get(key) else { return Vec::new() };
    let path = section.key(key);
    let items = reading.list(node, &path, MAX_CLASSES).iter();
    items.filter_map(|item| Some((reading.parsed(item, &path, CLASS_RULE)?, item.at))).collect()
}

fn renames(reading: &mut Reading<'_>, section: &Section<'_>) -> Vec<(ClassName, ClassName, usize)> {
    let Some(node) = section.get("renamed_classes") else { return Vec::new() };
    let sections = reading.sections(node, &section.key("renamed_classes"), MAX_CLASSES);
    let mut found = Vec::new();
    for section in sections {
        reading.unknown_keys(&section, &["from", "to"]);
        let mut class = |key| -> Option<ClassName> {
            let node = reading.required(&section, key, "the name of a class")?;
            reading.parsed(node, &section.key(key), CLASS_RULE)
        };
        if let (Some(from), Some(to)) = (class("from"), class("to")) {
            found.push((from, to, section.at));
        }
    }
    found
}

fn delete(reading: &mut Reading<'_>, classes: &mut Classes, class: &ClassName, at: usize, tag: &str) {
    if classes.live.remove(class).is_none() {
        reading.wrong(at, format!("the class `{class}` cannot be deleted: {}", classes.fate(class)));
    }
    classes.gone.insert(class.clone(), format!("it was deleted by the migration {}", quoted(tag)));
}

fn rename(
    reading: &mut Reading<'_>,
    classes: &mut Classes,
    (from, to): (&ClassName, &ClassName),
    at: usize,
    tag: &str,
) {
    let Some(live) = classes.live.remove(from) else {
        reading.wrong(at, format!("the class `{from}` cannot be renamed: {}", classes.fate(from)));
        return;
    };
    classes.gone.insert(from.clone(), format!("it was renamed to `{to}` by the migration {}", quoted(tag)));
    if classes.live.insert(to.clone(), Live { at, ..live }).is_some() {
        reading.wrong(at, format!("the class `{from}` cannot be renamed: there is a class `{to}` already"));
    }
}

fn create(
    reading: &mut Reading<'_>,
    classes: &mut Classes,
    class: &ClassName,
    storage: ClassStorage,
    at: usize,
) {
    classes.gone.remove(class);
    if classes.live.insert(class.clone(), Live { storage, at }).is_some() {
        reading.wrong(at, format!("the class `{class}` is there already; expected it to be new once"));
    }
}

impl Classes {
    /// Why a class is not live.
    pub(super) fn fate(&self, class: &ClassName) -> String {
        self.gone.get(class).cloned().unwrap_or_else(|| "no migration before makes it".to_owned())
    }
}
