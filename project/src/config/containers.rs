//! `containers`: classes whose objects have a container, with image and size.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use berth_common::ids::ClassName;
use berth_common::manifest::{
    DISK_BYTES, ImageSource, MAX_CPU_SIXTEENTHS, MAX_INSTANCES, MEMORY_BYTES, Position,
};
use berth_common::spec::{Capability, Resources, TimeOrNever};

use super::environment::{Found, Meaningless, View};
use super::images;
use super::keys::{BERTHS_OWN, CONTAINER_MEANINGLESS};
use super::objects::{CLASS_RULE, MAX_CLASSES};
use super::section::{Reading, Section};
use super::values::relative_path;
use crate::report::named;
use crate::value::{Node, Value};

/// Most variables of a build.
const MAX_BUILD_VARS: usize = 256;
const MIB: u64 = 1 << 20;
const MB: u64 = 1_000_000;

/// A class whose objects have a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The class.
    pub class: ClassName,
    /// The container's own name, if it has one.
    pub name: Option<String>,
    /// Where its image comes from. Paths are relative to the project's directory.
    pub image: ImageSource,
    /// Where the configuration names the image.
    pub position: Position,
    /// The directory that an image is built in, where it is not the Dockerfile's.
    pub build_context: Option<PathBuf>,
    /// Arguments of the build.
    pub build_vars: BTreeMap<String, String>,
    /// Limits of each instance.
    pub resources: Resources,
    /// Most instances at once, if limited.
    pub max_instances: Option<u32>,
    /// Containers that each node keeps prepared.
    pub prepared: Option<u32>,
    /// Capabilities of root inside.
    pub capabilities: BTreeSet<Capability>,
    /// Whether the first process is Berth's.
    pub init: Option<bool>,
    /// How long after its node was last heard of an instance counts as lost.
    pub node_loss: Option<TimeOrNever>,
    /// The regions of nodes that it may be placed on. All where there are none.
    pub regions: Vec<String>,
    /// Instances that are kept started and frozen.
    pub warm: Option<u32>,
}

/// A container whose class may be named elsewhere.
pub(super) struct Declared {
    pub(super) class: Option<(ClassName, usize)>,
    pub(super) name: Option<String>,
    /// The offset of the section.
    pub(super) at: usize,
    image: Option<(ImageSource, Position)>,
    build_context: Option<PathBuf>,
    build_vars: BTreeMap<String, String>,
    resources: Resources,
    max_instances: Option<u32>,
}

impl Declared {
    /// None without an image, of which there is a problem then.
    pub(super) fn into_container(self, class: ClassName) -> Option<Container> {
        let (image, position) = self.image?;
        Some(Container {
            class,
            name: self.name,
            image,
            position,
            build_context: self.build_context,
            build_vars: self.build_vars,
            resources: self.resources,
            max_instances: self.max_instances,
            prepared: None,
            capabilities: BTreeSet::new(),
            init: None,
            node_loss: None,
            regions: Vec::new(),
            warm: None,
        })
    }
}

const KEYS: [&str; 8] = [
    "class_name",
    "name",
    "image",
    "image_build_context",
    "image_vars",
    "instance_type",
    "max_instances",
    "instances",
];

pub(super) fn read(reading: &mut Reading<'_>, view: &View<'_>) -> Vec<Declared> {
    let Some(Found { node, path }) = view.given("containers") else { return Vec::new() };
    let sections = reading.sections(node, &path, MAX_CLASSES);
    let mut meaningless = Meaningless::default();
    let found: Vec<Declared> =
        sections.iter().map(|section| container(reading, section, &mut meaningless)).collect();
    meaningless.tell(reading);
    refuse_twice(reading, &found);
    found
}

fn container(reading: &mut Reading<'_>, section: &Section<'_>, meaningless: &mut Meaningless) -> Declared {
    check_keys(reading, section, meaningless);
    let class = section.get("class_name").and_then(|node| {
        let class: ClassName = reading.parsed(node, &section.key("class_name"), CLASS_RULE)?;
        Some((class, node.at))
    });
    let name =
        section.get("name").and_then(|node| reading.text(node, &section.key("name"))).map(str::to_owned);
    let context = section.get("image_build_context").and_then(|node| {
        let path = section.key("image_build_context");
        let text = reading.text(node, &path)?;
        relative_path(reading, text, node.at, &path)
    });
    Declared {
        class,
        name,
        at: section.at,
        image: image(reading, section),
        build_context: context,
        build_vars: build_vars(reading, section),
        resources: resources(reading, section).unwrap_or(LITE),
        max_instances: max_instances(reading, section),
    }
}

fn check_keys(reading: &mut Reading<'_>, section: &Section<'_>, meaningless: &mut Meaningless) {
    for entry in &section.table.entries {
        let key = entry.key.as_str();
        if CONTAINER_MEANINGLESS.contains(&key) {
            meaningless.add(entry.at, section.key(key));
        } else if key == "configuration" {
            let message = format!(
                "{} is of an old form; expected its `image` and an `instance_type` in the container itself",
                section.key(key)
            );
            reading.wrong(entry.at, message);
        } else if key == "unsafe" && !entry.node.is_empty() {
            reading.wrong(
                entry.at,
                format!("{} is for the reference alone; expected it not to be there", section.key(key)),
            );
        } else if BERTHS_OWN.contains(&key) {
            let message = format!(
                "{} is not a key of wrangler's; expected it in a berth.toml beside this file, in [[containers]] of the same class_name",
                section.key(key)
            );
            reading.wrong(entry.at, message);
        }
    }
    let known: Vec<&str> = KEYS.iter().chain(&CONTAINER_MEANINGLESS).chain(&BERTHS_OWN).copied().collect();
    let known: Vec<&str> = known.into_iter().chain(["configuration", "unsafe"]).collect();
    reading.unknown_keys(section, &known);
}

fn image(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<(ImageSource, Position)> {
    if section.get("configuration").is_some() && section.get("image").is_none() {
        return None;
    }
    let node = reading.required(section, "image", "a Dockerfile's path, or an image of a registry")?;
    let source = images::image(reading, node, &section.key("image"))?;
    Some((source, reading.source.position(node.at)))
}

fn build_vars(reading: &mut Reading<'_>, section: &Section<'_>) -> BTreeMap<String, String> {
    let Some(node) = section.get("image_vars") else { return BTreeMap::new() };
    let Some(vars) = reading.section(node, &section.key("image_vars")) else { return BTreeMap::new() };
    if vars.table.entries.len() > MAX_BUILD_VARS {
        let count = vars.table.entries.len();
        reading
            .wrong(node.at, format!("{} has {count} entries; expected at most {MAX_BUILD_VARS}", vars.path));
    }
    let entries = vars.table.entries.iter().take(MAX_BUILD_VARS);
    entries
        .filter_map(|entry| {
            let value = reading.text(&entry.node, &vars.key(&entry.key))?;
            Some((entry.key.clone(), value.to_owned()))
        })
        .collect()
}

fn max_instances(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<u32> {
    let mut number = |key: &str, least: u64| {
        let node = section.get(key)?;
        let found = reading.whole(node, &section.key(key), least..=u64::from(MAX_INSTANCES))?;
        Some((u32::try_from(found).ok()?, node.at))
    };
    let (max, instances) = (number("max_instances", 1), number("instances", 0));
    let Some((count, at)) = instances else { return max.map(|(max, _)| max) };
    if section.get("max_instances").is_some() {
        reading.note(at, format!("{} counts for nothing beside max_instances", section.key("instances")));
        return max.map(|(max, _)| max);
    }
    // Zero is the default of old configurations, not a bound.
    let taken = Some(count).filter(|count| *count > 0);
    if let Some(taken) = taken {
        reading.note(at, format!("{} is taken as max_instances = {taken}", section.key("instances")));
    }
    taken
}

/// What a container has that names no size.
const LITE: Resources = Resources::TYPES[0].1;

fn resources(reading: &mut Reading<'_>, section: &Section<'_>) -> Option<Resources> {
    let node = section.get("instance_type")?;
    let path = section.key("instance_type");
    match &node.value {
        Value::Text(_) => reading.word(node, &path, &Resources::TYPES),
        Value::Table(_) => custom(reading, node, &path),
        _ => {
            let expected = "a type's name such as \"lite\", or { \"vcpu\": 0.25, \"memory_mib\": 512, \"disk_mb\": 2000 }";
            reading.wrong(node.at, format!("{path}: found {}; expected {expected}", node.kind()));
            None
        }
    }
}

fn custom(reading: &mut Reading<'_>, node: &Node, path: &str) -> Option<Resources> {
    let section = reading.section(node, path)?;
    reading.unknown_keys(&section, &["vcpu", "memory_mib", "disk_mb"]);
    let cpu = section.get("vcpu").map(|node| sixteenths(reading, node, &section.key("vcpu")));
    let mut size = |key: &str, unit: u64, bounds: std::ops::RangeInclusive<u64>| {
        let node = section.get(key)?;
        let bounds = bounds.start().div_ceil(unit)..=bounds.end() / unit;
        Some(reading.whole(node, &section.key(key), bounds).map(|count| count * unit))
    };
    let memory = size("memory_mib", MIB, MEMORY_BYTES);
    let disk = size("disk_mb", MB, DISK_BYTES);
    Some(Resources {
        cpu_sixteenths: cpu.unwrap_or(Some(LITE.cpu_sixteenths))?,
        memory_bytes: memory.unwrap_or(Some(LITE.memory_bytes))?,
        disk_bytes: disk.unwrap_or(Some(LITE.disk_bytes))?,
        disk_in_memory: false,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it was just found to be in range"
)]
fn sixteenths(reading: &mut Reading<'_>, node: &Node, path: &str) -> Option<u32> {
    let number = if let Value::Number(number) = &node.value { number.as_f64() } else { None };
    let sixteenths = number.map(|number| number * 16.0);
    let sound = |n: &f64| n.fract() == 0.0 && (1.0..=f64::from(MAX_CPU_SIXTEENTHS)).contains(n);
    let found = sixteenths.filter(sound).map(|n| n as u32);
    if found.is_none() {
        let most = MAX_CPU_SIXTEENTHS / 16;
        reading.wrong(node.at, format!("{path}: expected a multiple of 1/16 (0.0625) up to {most}"));
    }
    found
}

fn refuse_twice(reading: &mut Reading<'_>, found: &[Declared]) {
    let (mut classes, mut names) = (BTreeSet::new(), BTreeSet::new());
    for declared in found {
        if let Some((class, at)) = &declared.class
            && !classes.insert(class)
        {
            reading.wrong(
                *at,
                format!("the class `{class}` has a container already; expected one for each class"),
            );
        }
        if let Some(name) = &declared.name
            && !names.insert(name)
        {
            reading.wrong(
                declared.at,
                format!("the container {} is there already; expected another name", named(name)),
            );
        }
    }
}
