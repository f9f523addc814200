//! What the entry shows of the program without running it: handlers, classes and what they extend. Checks the classes of the
//! configuration against it.

use std::collections::BTreeSet;

use berth_common::ids::ClassName;
use berth_common::manifest::{Position, nearest};

use super::absent::Absent;
use super::graph::{Graph, Node};
use super::link::{Found, Linker, MAX_STEPS};
use super::scan::{ClassShape, DefaultExport, Keys, Local, Super};
use crate::config::Config;
use crate::report::{Problem, Report, Source, Weight};

/// How many classes above one are looked at.
const MAX_ANCESTORS: usize = 32;
/// The package whose class `Container` runs containers.
const PACKAGE: &str = "node_modules/@cloudflare/containers/";
/// Where modules are that others wrote.
const OF_OTHERS: &str = "node_modules/";

/// What the default export handles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handlers {
    /// Those that syntax shows: `fetch`, `scheduled` and so on, among other methods.
    pub names: BTreeSet<String>,
    /// Whether there may be more, which only running it shows.
    pub open: bool,
}

/// A class that the entry exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryClass {
    /// The name that it is exported by.
    pub name: String,
    /// What it extends in the end.
    pub base: Base,
}

/// What a class extends in the end, as far as syntax shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// `Container` of the package for containers.
    Container,
    /// `DurableObject`.
    DurableObject,
    /// `WorkerEntrypoint`.
    WorkerEntrypoint,
    /// `WorkflowEntrypoint`.
    WorkflowEntrypoint,
    /// `RpcTarget`.
    RpcTarget,
    /// Nothing.
    None,
    /// Something that only running it shows.
    Unknown,
}

pub(super) struct Surface {
    pub(super) handlers: Handlers,
    pub(super) classes: Vec<EntryClass>,
}

pub(super) fn read(report: &mut Report, graph: &Graph, (config, source): (&Config, &Source)) -> Surface {
    let linker = Linker::new(graph);
    let reading = Reading { graph, linker };
    let (names, open) = reading.linker.names(&graph.entry, MAX_STEPS);
    let names: BTreeSet<String> = names.into_iter().map(str::to_owned).collect();
    let classes = names.iter().filter_map(|name| reading.class(name)).collect();
    let surface = Surface { handlers: reading.handlers(), classes };
    let exported = Exported { names, open };
    check_default(report, &reading, &surface, &exported, (config, source));
    check_classes(report, &reading, &surface, &exported, (config, source));
    check_absent(report, graph);
    surface
}

struct Exported {
    names: BTreeSet<String>,
    open: bool,
}

struct Reading<'g> {
    graph: &'g Graph,
    linker: Linker<'g>,
}

/// What a name turned out to be.
enum Seen<'g> {
    Class(&'g Node, &'g ClassShape),
    Object(&'g Keys),
    Function,
    Unknown,
}

impl<'g> Reading<'g> {
    fn entry(&self) -> Option<&'g Node> {
        self.graph.nodes.get(&self.graph.entry)
    }

    fn seen(&self, found: &Found) -> Seen<'g> {
        let Found::Local { module, name } = found else { return Seen::Unknown };
        let Some(node) = self.graph.nodes.get(module) else { return Seen::Unknown };
        let Some(scanned) = node.compiled().map(|compiled| &compiled.scanned) else { return Seen::Unknown };
        let of_local = |name: &str| match scanned.locals.get(name) {
            Some(Local::Class(shape)) => Seen::Class(node, shape),
            Some(Local::Object(keys)) => Seen::Object(keys),
            _ => Seen::Unknown,
        };
        match (name, &scanned.default) {
            (Some(name), _) | (None, DefaultExport::Name(name)) => of_local(name),
            (None, DefaultExport::Class(shape)) => Seen::Class(node, shape),
            (None, DefaultExport::Object(keys)) => Seen::Object(keys),
            (None, DefaultExport::Function) => Seen::Function,
            _ => Seen::Unknown,
        }
    }

    fn class(&self, name: &str) -> Option<EntryClass> {
        match self.seen(&self.linker.export(&self.graph.entry, name)) {
            Seen::Class(node, shape) if name != "default" => {
                Some(EntryClass { name: name.to_owned(), base: self.base(node, shape, 0) })
            }
            _ => None,
        }
    }

    fn base(&self, node: &Node, shape: &ClassShape, depth: usize) -> Base {
        let Some(above) = &shape.extends else { return Base::None };
        let scanned = node.compiled().map(|compiled| &compiled.scanned);
        let (Some(scanned), true) = (scanned, depth < MAX_ANCESTORS) else { return Base::Unknown };
        let found = match above {
            Super::Unknown => return Base::Unknown,
            Super::Name(name) => match scanned.locals.get(name) {
                Some(Local::Class(shape)) => return self.base(node, shape, depth + 1),
                Some(Local::Imported { specifier, name }) => self.linker.import(node, specifier, name),
                _ => return Base::Unknown,
            },
            Super::Member(namespace, name) => match scanned.locals.get(namespace) {
                Some(Local::Imported { specifier, name: all }) if all == "*" => {
                    self.linker.import(node, specifier, name)
                }
                _ => return Base::Unknown,
            },
        };
        match &found {
            Found::Builtin { name, .. } => named_base(name),
            Found::Local { module, name: Some(name) } if name == "Container" && module.contains(PACKAGE) => {
                Base::Container
            }
            found => match self.seen(found) {
                Seen::Class(node, shape) => self.base(node, shape, depth + 1),
                _ => Base::Unknown,
            },
        }
    }

    fn handlers(&self) -> Handlers {
        match self.seen(&self.linker.export(&self.graph.entry, "default")) {
            Seen::Object(keys) => Handlers { names: keys.names.clone(), open: keys.open },
            // What it extends may have handlers of its own.
            Seen::Class(_, shape) => Handlers { names: shape.methods.clone(), open: true },
            Seen::Function => Handlers::default(),
            Seen::Unknown => Handlers { names: BTreeSet::new(), open: true },
        }
    }
}

fn named_base(name: &str) -> Base {
    match name {
        "DurableObject" => Base::DurableObject,
        "WorkerEntrypoint" => Base::WorkerEntrypoint,
        "WorkflowEntrypoint" => Base::WorkflowEntrypoint,
        "RpcTarget" => Base::RpcTarget,
        _ => Base::Unknown,
    }
}

fn check_default(
    report: &mut Report,
    reading: &Reading<'_>,
    surface: &Surface,
    exported: &Exported,
    (config, source): (&Config, &Source),
) {
    let Some(entry) = reading.entry().filter(|entry| !entry.is_commonjs()) else { return };
    let Some(compiled) = entry.compiled() else { return };
    if !exported.names.contains("default") {
        let expected = "expected `export default { async fetch(request, env) { … } }`";
        if let Some(at) = compiled.scanned.listener {
            let message = format!("programs that add listeners cannot be run; {expected}");
            report.wrong(&entry.source, at, message);
        } else if exported.names.is_empty() && !exported.open {
            report.wrong(&entry.source, 0, format!("exports nothing; {expected}"));
        } else {
            report.warn(
                &entry.source,
                0,
                format!("has no default export, and so handles no requests; {expected}"),
            );
        }
        return;
    }
    let handlers = &surface.handlers;
    if !handlers.open && !config.crons.is_empty() && !handlers.names.contains("scheduled") {
        let about = Problem {
            file: source.file.clone(),
            position: None,
            message: format!(
                "there are crons, and the default export of {} has no `scheduled`",
                reading.graph.entry
            ),
        };
        report.remark(Weight::Warning, about);
    }
}

/// Tells of classes that the configuration needs and the entry does not export, each once.
fn check_classes(
    report: &mut Report,
    reading: &Reading<'_>,
    surface: &Surface,
    exported: &Exported,
    (config, source): (&Config, &Source),
) {
    let mut told: BTreeSet<&ClassName> = BTreeSet::new();
    let bound = config.objects.iter().map(|binding| (&binding.class, binding.position));
    let contained = config.containers.iter().map(|container| (&container.class, container.position));
    let live = config.live.iter().map(|(class, position)| (class, *position));
    for (class, position) in bound.chain(contained).chain(live) {
        if told.insert(class) {
            check_class(report, reading, exported, source, class, position);
        }
    }
    for container in &config.containers {
        let class = surface.classes.iter().find(|class| class.name == container.class.as_str());
        if class.is_some_and(|class| class.base == Base::None) {
            let message = format!(
                "the class `{}` has a container, and extends nothing; expected `extends Container`",
                container.class
            );
            let (file, position) = (source.file.clone(), Some(container.position));
            report.remark(Weight::Warning, Problem { file, position, message });
        }
    }
}

fn check_class(
    report: &mut Report,
    reading: &Reading<'_>,
    exported: &Exported,
    source: &Source,
    class: &ClassName,
    position: Position,
) {
    let entry = &reading.graph.entry;
    let message = if exported.names.contains(class.as_str()) {
        match reading.seen(&reading.linker.export(entry, class.as_str())) {
            Seen::Object(_) | Seen::Function => format!("`{class}` is exported by {entry}, and is no class"),
            _ => return,
        }
    } else if exported.open {
        return;
    } else {
        let local = reading
            .entry()
            .and_then(Node::compiled)
            .and_then(|compiled| compiled.scanned.locals.get(class.as_str()));
        let names: Vec<&str> = exported.names.iter().map(String::as_str).collect();
        let hint = match (local, nearest(class.as_str(), &names)) {
            (Some(Local::Class(_)), _) => format!("expected `export` before `class {class}`"),
            (Some(_), _) => format!("expected `export {{ {class} }}`"),
            (None, Some(near)) => format!("did you mean `{near}`?"),
            (None, None) => "expected it there".to_owned(),
        };
        format!("the class `{class}` is not exported by {entry}; {hint}")
    };
    report.add(Problem { file: source.file.clone(), position: Some(position), message });
}

/// Warns of what the package for containers does not have, in programs that use it and do not have it themselves.
fn check_absent(report: &mut Report, graph: &Graph) {
    if !graph.nodes.keys().any(|name| name.contains(PACKAGE)) {
        return;
    }
    let own: Vec<(&Node, &Absent)> = graph.nodes.iter().filter_map(own).collect();
    let has_method = own.iter().any(|(_, absent)| absent.has_method);
    let reads_property = own.iter().any(|(_, absent)| absent.reads_property);
    for (node, absent) in own {
        for at in absent.calls.iter().filter(|_| !has_method) {
            let message = "no version of `@cloudflare/containers` has `startContainer()`, and the call fails; \
                expected `start({ envVars: { … } })`, or `startAndWaitForPorts()` where a port is to listen";
            report.warn(&node.source, *at, message);
        }
        for at in absent.properties.iter().filter(|_| !reads_property) {
            let message = "no version of `@cloudflare/containers` has `manualStart`, and it says nothing: \
                a container starts with `start()` or with a request to it, not with `get()`; leave it out";
            report.warn(&node.source, *at, message);
        }
    }
}

/// A module that is the project's own.
fn own<'g>((name, node): (&'g String, &'g Node)) -> Option<(&'g Node, &'g Absent)> {
    let compiled = node.compiled().filter(|_| !name.contains(OF_OTHERS))?;
    Some((node, &compiled.scanned.absent))
}
