//! Checks the ways in which classes are named against each other: migrations or exports, bindings, containers.

use std::collections::{BTreeMap, BTreeSet};

use berth_common::ids::ClassName;
use berth_common::manifest::nearest;

use super::compatibility::Compatibility;
use super::containers::{Container, Declared};
use super::environment::View;
use super::exports::{self, ExportedClass, Exports};
use super::migrations::{self, Classes, Migration};
use super::objects::{ClassStorage, ObjectBinding};
use super::section::Reading;
use crate::report::named;

/// How the classes of objects came to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Lineage {
    /// Step by step; none where the app has no objects.
    Migrations(Vec<Migration>),
    /// By what there is now.
    Exports(BTreeMap<ClassName, ExportedClass>),
}

/// The same with what checks need.
pub(super) struct Read {
    steps: Vec<Migration>,
    exports: Exports,
    classes: Classes,
}

impl Read {
    pub(super) fn into_lineage(self) -> Lineage {
        if self.exports.is_empty() {
            return Lineage::Migrations(self.steps);
        }
        Lineage::Exports(self.exports.into_iter().map(|(name, (class, _))| (name, class)).collect())
    }

    /// The classes that there are, each with where it is declared.
    pub(super) fn live(&self) -> impl Iterator<Item = (&ClassName, usize)> {
        self.classes.live.iter().map(|(class, live)| (class, live.at))
    }
}

pub(super) fn read(reading: &mut Reading<'_>, view: &View<'_>) -> Read {
    let (steps, classes) = migrations::read(reading, view);
    let exports = exports::read(reading, view);
    if exports.is_empty() {
        return Read { steps, exports, classes };
    }
    if let Some(found) = view.given("migrations").filter(|_| !steps.is_empty()) {
        let message = format!(
            "{} and `exports` both say what classes there are; expected one of the two",
            named(&found.path)
        );
        reading.wrong(found.node.at, message);
    }
    let classes = exports::classes(&exports);
    Read { steps, exports, classes }
}

/// Tells of classes that are bound, or have a container, and are not there.
pub(super) fn check(
    reading: &mut Reading<'_>,
    lineage: &Read,
    bindings: &[ObjectBinding],
    containers: &[Declared],
    compatibility: Option<&Compatibility>,
) {
    let mut told = BTreeSet::new();
    for binding in bindings {
        if told.insert(&binding.class) {
            check_class(reading, lineage, &binding.class, binding.at);
        }
    }
    for (declared, class, at) in
        containers.iter().filter_map(|found| found.class.as_ref().map(|(c, at)| (found, c, *at)))
    {
        if told.insert(class) {
            check_class(reading, lineage, class, at);
        }
        check_container(reading, lineage, declared, class, at);
        let exported = compatibility.is_none_or(Compatibility::has_context_exports);
        if !exported && !bindings.iter().any(|binding| binding.class == *class) {
            let message = format!(
                "no binding of `durable_objects` leads to the class `{class}`; expected one, so that it can be reached"
            );
            reading.warn(at, message);
        }
    }
    check_attached(reading, lineage, containers);
}

fn check_class(reading: &mut Reading<'_>, lineage: &Read, class: &ClassName, at: usize) {
    if lineage.classes.live.contains_key(class) {
        return;
    }
    let live: Vec<&str> = lineage.classes.live.keys().map(ClassName::as_str).collect();
    let message = if let Some(fate) = lineage.classes.gone.get(class) {
        format!("the class `{class}` cannot be used: {fate}")
    } else if let Some(near) = nearest(class.as_str(), &live) {
        format!("there is no class `{class}`; did you mean `{near}`?")
    } else if !lineage.exports.is_empty() {
        format!(
            "the class `{class}` is not in `exports`; expected \"{class}\": {{ \"type\": \"durable-object\", \"storage\": \"sqlite\" }} there"
        )
    } else {
        let tag = free_tag(&lineage.steps);
        format!(
            "no migration makes the class `{class}`; expected {{ \"tag\": \"{tag}\", \"new_sqlite_classes\": [\"{class}\"] }} at the end of `migrations`"
        )
    };
    reading.wrong(at, message);
}

/// A tag for one more step.
fn free_tag(steps: &[Migration]) -> String {
    let taken = |tag: &String| steps.iter().any(|step| step.tag == *tag);
    (steps.len() + 1..).map(|n| format!("v{n}")).find(|tag| !taken(tag)).unwrap_or_default()
}

fn check_container(
    reading: &mut Reading<'_>,
    lineage: &Read,
    declared: &Declared,
    class: &ClassName,
    at: usize,
) {
    if lineage.classes.live.get(class).is_some_and(|live| live.storage == ClassStorage::KeyValue) {
        let message = format!(
            "the class `{class}` has a container, and such objects need SQL; expected it in `new_sqlite_classes`, or with the storage \"sqlite\""
        );
        reading.wrong(at, message);
    }
    if let Some((ExportedClass::Live { container: Some(name), .. }, _)) = lineage.exports.get(class)
        && declared.name.as_deref() != Some(name)
    {
        let message = format!(
            "`exports` gives the class `{class}` the container {}; expected no other for it",
            named(name)
        );
        reading.wrong(at, message);
    }
}

/// Containers that `exports` attaches are there, and each is a class's only.
fn check_attached(reading: &mut Reading<'_>, lineage: &Read, containers: &[Declared]) {
    let mut taken: BTreeMap<&str, &ClassName> = BTreeMap::new();
    for (class, (declared, at)) in &lineage.exports {
        let ExportedClass::Live { container: Some(name), storage } = declared else { continue };
        let names: Vec<&str> = containers.iter().filter_map(|declared| declared.name.as_deref()).collect();
        if !names.contains(&name.as_str()) {
            let hint = nearest(name, &names).map(|near| format!("; did you mean `{near}`?"));
            let message = format!("no container has the name {}{}", named(name), hint.unwrap_or_default());
            reading.wrong(*at, message);
        } else if let Some(other) = taken.insert(name, class) {
            reading.wrong(*at, format!("the container {} is that of `{other}` already", named(name)));
        }
        if *storage == ClassStorage::KeyValue {
            reading.wrong(*at, format!("the class `{class}` has a container, and such objects need SQL; expected the storage \"sqlite\""));
        }
    }
    for declared in containers.iter().filter(|declared| declared.class.is_none()) {
        if attached(&lineage.exports, declared).is_none() {
            reading.wrong(
                declared.at,
                "containers.class_name is missing; expected the class whose objects have this container",
            );
        }
    }
}

fn attached<'e>(exports: &'e Exports, declared: &Declared) -> Option<&'e ClassName> {
    let name = declared.name.as_deref()?;
    let has = |class: &ExportedClass| matches!(class, ExportedClass::Live { container: Some(own), .. } if own == name);
    exports.iter().find(|(_, (class, _))| has(class)).map(|(name, _)| name)
}

/// The containers, each with its class.
pub(super) fn attach(lineage: &Read, containers: Vec<Declared>) -> Vec<Container> {
    let with_class = |declared: Declared| {
        let class = declared.class.as_ref().map(|(class, _)| class.clone());
        let class = class.or_else(|| attached(&lineage.exports, &declared).cloned())?;
        declared.into_container(class)
    };
    containers.into_iter().filter_map(with_class).collect()
}
