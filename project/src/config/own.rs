//! `berth.toml` beside a wrangler configuration: of each class with a container, what wrangler has no key for. What
//! wrangler has a key for stays there.

use std::collections::BTreeSet;

use berth_common::ids::ClassName;
use berth_common::manifest::{MAX_INSTANCES, MAX_PREPARED, nearest};
use berth_common::spec::{Capability, NODE_LOSS_BOUNDS, TimeOrNever};

use super::containers::Container;
use super::environment::View;
use super::keys::{self, BERTHS_OWN};
use super::objects::{CLASS_RULE, MAX_CLASSES};
use super::section::{Reading, Section, hint};
use crate::report::{Report, Source, named, quoted};
use crate::value::{Node, Table};

/// Most regions of a class.
const MAX_REGIONS: usize = 64;
/// Longest name of a region, in bytes.
const MAX_REGION_BYTES: usize = 63;

/// Adds what the file says to the containers.
pub(super) fn add(
    report: &mut Report,
    (wrangler, view): (&Source, &View<'_>),
    (source, table): (&Source, &Table),
    containers: &mut [Container],
) {
    let mut reading = Reading { source, report };
    for entry in table.entries.iter().filter(|entry| entry.key != "containers") {
        refuse_key(&mut reading, wrangler, view, &entry.key, entry.at);
    }
    let Some(node) = table.get("containers") else { return };
    let mut told = BTreeSet::new();
    for section in reading.sections(node, "containers", MAX_CLASSES) {
        let declared = Declared::of(view, &section);
        read(&mut reading, wrangler, &section, &declared, containers, &mut told);
    }
}

/// The container of the same class in wrangler's file.
struct Declared<'t>(Option<&'t Table>);

impl<'t> Declared<'t> {
    fn of(view: &View<'t>, section: &Section<'_>) -> Self {
        let class = section.get("class_name").and_then(Node::as_text);
        let found = view.given("containers");
        let tables = found.iter().flat_map(|found| match &found.node.value {
            crate::value::Value::List(items) => items.as_slice(),
            _ => &[],
        });
        let mut tables = tables.filter_map(Node::as_table);
        Self(tables.find(|table| class.is_some() && table.get("class_name").and_then(Node::as_text) == class))
    }
}

fn refuse_key(reading: &mut Reading<'_>, wrangler: &Source, view: &View<'_>, key: &str, at: usize) {
    let file = wrangler.file.display();
    let message = if let Some(found) = view.get(key) {
        let line = wrangler.position(found.node.at).line;
        format!("{} is in {file} too, in line {line}; expected it there alone", named(key))
    } else if keys::known(key).is_some() {
        format!("{} belongs into {file}; beside it this file holds only [[containers]]", named(key))
    } else {
        format!("{} is not a key of this file: beside {file} it holds only [[containers]]", named(key))
    };
    reading.wrong(at, message);
}

fn read(
    reading: &mut Reading<'_>,
    wrangler: &Source,
    section: &Section<'_>,
    declared: &Declared<'_>,
    containers: &mut [Container],
    told: &mut BTreeSet<ClassName>,
) {
    check_keys(reading, wrangler, section, declared);
    let Some(node) = reading.required(section, "class_name", "a class of the configuration's `containers`")
    else {
        return;
    };
    let Some(class) = reading.parsed::<ClassName>(node, "containers.class_name", CLASS_RULE) else { return };
    if !told.insert(class.clone()) {
        reading.wrong(node.at, format!("the class `{class}` is there already; expected it once"));
    }
    let names: Vec<String> = containers.iter().map(|container| container.class.to_string()).collect();
    let Some(container) = containers.iter_mut().find(|container| container.class == class) else {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let near = nearest(class.as_str(), &names).map(|near| format!("; did you mean `{near}`?"));
        // A container that is wrong itself is not there to be found.
        if declared.0.is_none() {
            let file = wrangler.file.display();
            reading.wrong(
                node.at,
                format!("{file} has no container of a class `{class}`{}", near.unwrap_or_default()),
            );
        }
        return;
    };
    fill(reading, section, container);
}

fn check_keys(reading: &mut Reading<'_>, wrangler: &Source, section: &Section<'_>, declared: &Declared<'_>) {
    let file = wrangler.file.display();
    for entry in section.table.entries.iter().filter(|entry| entry.key != "class_name") {
        let key = section.key(&entry.key);
        let there = declared.0.and_then(|table| table.entry(&entry.key));
        if let Some(there) = there {
            let line = wrangler.position(there.at).line;
            reading.wrong(
                entry.at,
                format!("{} is in {file} too, in line {line}; expected it in one of the two", named(&key)),
            );
        } else if !BERTHS_OWN.contains(&entry.key.as_str()) {
            let hint = hint(&entry.key, &BERTHS_OWN);
            reading.wrong(entry.at, format!("{} cannot be set beside {file}; {hint}", named(&key)));
        }
    }
}

fn fill(reading: &mut Reading<'_>, section: &Section<'_>, container: &mut Container) {
    let mut number = |key: &str, most: u32| {
        let node = section.get(key)?;
        let found = reading.whole(node, &section.key(key), 0..=u64::from(most))?;
        u32::try_from(found).ok()
    };
    container.prepared = number("prepared", MAX_PREPARED);
    container.warm = number("warm", MAX_INSTANCES);
    container.init = section.get("init").and_then(|node| reading.boolean(node, &section.key("init")));
    container.node_loss = section.get("node_loss").and_then(|node| node_loss(reading, node));
    if let Some(node) = section.get("capabilities") {
        let path = section.key("capabilities");
        let items = reading.list(node, &path, Capability::NAMES.len()).iter();
        let found = items.filter_map(|item| reading.word(item, &path, &Capability::NAMES)).collect();
        container.capabilities = found;
    }
    if let Some(node) = section.get("regions") {
        container.regions = regions(reading, node, &section.key("regions"));
    }
}

fn node_loss(reading: &mut Reading<'_>, node: &Node) -> Option<TimeOrNever> {
    let text = reading.text(node, "containers.node_loss")?;
    if text == "never" {
        return Some(TimeOrNever::NEVER);
    }
    let found = humantime::parse_duration(text).ok().filter(|found| NODE_LOSS_BOUNDS.contains(found));
    if found.is_none() {
        let (least, most) = (NODE_LOSS_BOUNDS.start(), NODE_LOSS_BOUNDS.end());
        let (least, most) = (humantime::format_duration(*least), humantime::format_duration(*most));
        let expected = format!("expected \"never\" or a time such as \"30s\", from {least} to {most}");
        reading.wrong(node.at, format!("containers.node_loss: {} cannot be; {expected}", quoted(text)));
    }
    found.map(Into::into)
}

fn regions(reading: &mut Reading<'_>, node: &Node, path: &str) -> Vec<String> {
    let good = |name: &str| {
        (1..=MAX_REGION_BYTES).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    let mut found = Vec::new();
    for (name, at) in reading.texts(node, path, MAX_REGIONS) {
        if good(&name) {
            found.push(name);
        } else {
            let rule = format!("expected up to {MAX_REGION_BYTES} letters, digits, `-`, `_` and `.`");
            reading.wrong(at, format!("{path}: {} is no name of a region; {rule}", quoted(&name)));
        }
    }
    found
}
