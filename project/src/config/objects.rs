//! Namespaces of objects in `env`: which name stands for which class.

use berth_common::ids::ClassName;
use berth_common::manifest::Position;

use super::environment::{Found, View};
use super::section::{Reading, Section};
use super::values::Names;
use crate::report::named;

/// Most bindings, and most classes: each is looked for in the entry.
pub(super) const MAX_CLASSES: usize = 256;

pub(super) const CLASS_RULE: &str = "expected the name of an exported class";

/// How a class's objects keep their state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClassStorage {
    /// With SQL.
    Sqlite,
    /// With keys and values only.
    KeyValue,
}

/// A namespace of objects in `env`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectBinding {
    /// Its name in `env`.
    pub name: String,
    /// The class of its objects.
    pub class: ClassName,
    /// Where the configuration names the class.
    pub position: Position,
    pub(super) at: usize,
}

pub(super) fn bindings(reading: &mut Reading<'_>, view: &View<'_>, names: &mut Names) -> Vec<ObjectBinding> {
    let Some(Found { node, path }) = view.given("durable_objects") else { return Vec::new() };
    let Some(section) = reading.section(node, &path) else { return Vec::new() };
    reading.unknown_keys(&section, &["bindings"]);
    let Some(bindings) = section.get("bindings") else { return Vec::new() };
    let sections = reading.sections(bindings, &section.key("bindings"), MAX_CLASSES);
    sections.iter().filter_map(|section| binding(reading, view, section, names)).collect()
}

fn binding(
    reading: &mut Reading<'_>,
    view: &View<'_>,
    section: &Section<'_>,
    names: &mut Names,
) -> Option<ObjectBinding> {
    reading.unknown_keys(section, &["name", "class_name", "script_name", "environment"]);
    let name = reading.required(section, "name", "a name in `env`, such as \"MY_CONTAINER\"");
    let name = name.and_then(|node| Some((reading.text(node, &section.key("name"))?, node.at)));
    let class = reading.required(section, "class_name", "an exported class, such as \"MyContainer\"");
    let class = class.and_then(|node| {
        let class: ClassName = reading.parsed(node, &section.key("class_name"), CLASS_RULE)?;
        Some((class, node.at))
    });
    refuse_others(reading, view, section);
    let ((name, name_at), (class, at)) = (name?, class?);
    let taken = names.take(reading, name, name_at, &section.key("name"));
    taken.then(|| ObjectBinding { name: name.to_owned(), class, position: reading.source.position(at), at })
}

/// Objects of another app cannot be bound.
fn refuse_others(reading: &mut Reading<'_>, view: &View<'_>, section: &Section<'_>) {
    let Some(node) = section.get("script_name") else { return };
    let Some(script) = reading.text(node, &section.key("script_name")) else { return };
    let own = view.given("name").and_then(|found| found.node.as_text());
    let full = own.zip(view.environment).map(|(own, environment)| format!("{own}-{environment}"));
    if own != Some(script) && full.as_deref() != Some(script) {
        let message = format!(
            "{}: objects of another app, {}, cannot be bound yet; expected a class of this one",
            section.key("script_name"),
            named(script)
        );
        reading.wrong(node.at, message);
    }
}
