//! `exports`: the classes that the app has now, each with what becomes of its objects. Takes the place of migrations.

use std::collections::BTreeMap;

use berth_common::ids::ClassName;

use super::environment::{Found, View};
use super::migrations::{Classes, Live};
use super::objects::{CLASS_RULE, ClassStorage, MAX_CLASSES};
use super::section::{Reading, Section};
use crate::report::{named, quoted};

/// A class as `exports` declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportedClass {
    /// It is there.
    Live {
        /// How its objects keep their state.
        storage: ClassStorage,
        /// The `name` of the container that its objects have.
        container: Option<String>,
    },
    /// Its objects end for good.
    Deleted,
    /// Its objects are those of another class now.
    Renamed(ClassName),
}

/// The classes by name, each with its offset.
pub(super) type Exports = BTreeMap<ClassName, (ExportedClass, usize)>;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Objects,
    Entrypoint,
    Workflow,
}

#[derive(Clone, Copy)]
enum State {
    Created,
    Deleted,
    Renamed,
    BetweenApps,
}

const KINDS: [(&str, Kind); 3] =
    [("durable-object", Kind::Objects), ("worker", Kind::Entrypoint), ("workflow", Kind::Workflow)];
const STATES: [(&str, State); 5] = [
    ("created", State::Created),
    ("deleted", State::Deleted),
    ("renamed", State::Renamed),
    ("transferred", State::BetweenApps),
    ("expecting-transfer", State::BetweenApps),
];
const STORAGES: [(&str, ClassStorage); 2] =
    [("sqlite", ClassStorage::Sqlite), ("legacy-kv", ClassStorage::KeyValue)];

/// The classes of objects that are declared in this way.
pub(super) fn read(reading: &mut Reading<'_>, view: &View<'_>) -> Exports {
    let mut exports = Exports::new();
    let Some(Found { node, path }) = view.given("exports") else { return exports };
    let Some(section) = reading.section(node, &path) else { return exports };
    if section.table.entries.len() > MAX_CLASSES {
        let message =
            format!("{path} has {} entries; expected at most {MAX_CLASSES}", section.table.entries.len());
        reading.wrong(node.at, message);
    }
    for entry in section.table.entries.iter().take(MAX_CLASSES) {
        let Some(own) = reading.section(&entry.node, &section.key(&entry.key)) else { continue };
        let Some(class) = declared(reading, &own) else { continue };
        match entry.key.parse::<ClassName>() {
            Ok(name) => drop(exports.insert(name, (class, entry.at))),
            Err(error) => {
                reading.wrong(entry.at, format!("{path}: {} {error}; {CLASS_RULE}", quoted(&entry.key)));
            }
        }
    }
    refuse_renames_to_nothing(reading, &exports);
    exports
}

fn declared(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<ExportedClass> {
    let kind = reading.required(section, "type", "\"durable-object\"")?;
    match reading.word(kind, &section.key("type"), &KINDS)? {
        Kind::Objects => objects(reading, section),
        // Nothing has to be declared of an entrypoint: it is there when it is exported.
        Kind::Entrypoint => None,
        Kind::Workflow => {
            reading
                .wrong(kind.at, format!("{}: this version of Berth has no workflows", section.key("type")));
            None
        }
    }
}

fn objects(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<ExportedClass> {
    let known = ["type", "state", "storage", "container", "renamed_to", "transferred_to", "transfer_from"];
    reading.unknown_keys(section, &known);
    let state = section.get("state");
    let given = state.map(|node| reading.word(node, &section.key("state"), &STATES));
    match given.unwrap_or(Some(State::Created))? {
        State::Created => live(reading, section),
        State::Deleted => Some(ExportedClass::Deleted),
        State::Renamed => {
            let node = reading.required(section, "renamed_to", "the name of a class in `exports`")?;
            reading.parsed(node, &section.key("renamed_to"), CLASS_RULE).map(ExportedClass::Renamed)
        }
        State::BetweenApps => {
            let at = state.map_or(section.at, |node| node.at);
            reading.wrong(at, format!("{}: objects cannot move between apps", section.key("state")));
            None
        }
    }
}

fn live(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<ExportedClass> {
    let storage = reading.required(section, "storage", "\"sqlite\"");
    let storage = storage.and_then(|node| reading.word(node, &section.key("storage"), &STORAGES));
    let container = section.get("container");
    let container = match container {
        None => Some(None),
        Some(node) => reading.text(node, &section.key("container")).map(|name| Some(name.to_owned())),
    };
    Some(ExportedClass::Live { storage: storage?, container: container? })
}

fn refuse_renames_to_nothing(reading: &mut Reading<'_>, exports: &Exports) {
    for (class, (declared, at)) in exports {
        if let ExportedClass::Renamed(to) = declared
            && !matches!(exports.get(to), Some((ExportedClass::Live { .. }, _)))
        {
            let message = format!(
                "the class `{class}` is renamed to {}, which `exports` does not have",
                named(to.as_str())
            );
            reading.wrong(*at, message);
        }
    }
}

/// The classes that there are.
pub(super) fn classes(exports: &Exports) -> Classes {
    let mut classes = Classes::default();
    for (name, (class, at)) in exports {
        match class {
            ExportedClass::Live { storage, .. } => {
                classes.live.insert(name.clone(), Live { storage: *storage, at: *at });
            }
            ExportedClass::Deleted => {
                classes.gone.insert(name.clone(), "`exports` says that it is deleted".to_owned());
            }
            ExportedClass::Renamed(to) => {
                classes.gone.insert(name.clone(), format!("`exports` says that it is `{to}` now"));
            }
        }
    }
    classes
}
