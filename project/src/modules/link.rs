//! Which name of which module leads where. Checks that what is imported is exported, and finds what a CommonJS module is
//! asked for.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashSet};

use berth_common::manifest::nearest;

use super::builtins;
use super::graph::{Content, Graph, Node, To};
use super::kinds::Format;
use super::scan::{Exported, How, Local};
use super::types::Dropped;
use crate::report::{Report, named};

/// Most steps of following names through modules: real programs take a few for each import.
pub(super) const MAX_STEPS: usize = 3_000_000;
/// Most rounds of leaving types out: each goes through one more module that passes them on.
const MAX_ROUNDS: usize = 64;

/// Where a name leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// A name at the top of a module. None is a value without one: that of `export default`.
    Local {
        module: String,
        name: Option<String>,
    },
    /// All names of a module, as an object.
    Namespace,
    Builtin {
        module: String,
        name: String,
    },
    /// Only running it shows.
    Open,
    Missing,
}

/// The names of modules that were asked for on the way to one.
type Seen<'g> = HashSet<(&'g str, &'g str)>;

/// Follows names through modules.
pub(super) struct Linker<'g> {
    graph: &'g Graph,
    /// What CommonJS modules are asked for.
    requests: RefCell<BTreeMap<String, BTreeSet<String>>>,
    steps: Cell<usize>,
    /// All names that any module exports itself: what is not among them need not be looked for behind `export *`. None if
    /// there may be names behind it that no syntax shows.
    exported: Option<HashSet<&'g str>>,
}

impl<'g> Linker<'g> {
    pub(super) fn new(graph: &'g Graph) -> Self {
        Self { graph, requests: RefCell::default(), steps: Cell::new(0), exported: exported(graph) }
    }

    /// Where a module's exported name leads.
    pub(super) fn export(&self, module: &'g str, name: &'g str) -> Found {
        self.follow(module, name, &mut HashSet::new())
    }

    /// Where what a module imports leads.
    pub(super) fn import(&self, node: &'g Node, specifier: &'g str, name: &'g str) -> Found {
        self.follow_import(node, specifier, name, &mut HashSet::new())
    }

    fn follow_import(&self, node: &'g Node, specifier: &'g str, name: &'g str, seen: &mut Seen<'g>) -> Found {
        match node.target(specifier, false) {
            // Why it leads nowhere was said already.
            None => Found::Open,
            Some(To::Builtin(module)) => match builtins::exports(module) {
                _ if name == "*" => Found::Namespace,
                Some(known) if !known.contains(&name) => Found::Missing,
                Some(_) => Found::Builtin { module: module.clone(), name: name.to_owned() },
                None => Found::Open,
            },
            Some(To::Module(_)) if name == "*" => Found::Namespace,
            Some(To::Module(module)) => self.follow(module, name, seen),
        }
    }

    fn follow(&self, module: &'g str, name: &'g str, seen: &mut Seen<'g>) -> Found {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > MAX_STEPS {
            return Found::Open;
        }
        let Some(node) = self.graph.nodes.get(module) else { return Found::Open };
        let compiled = match &node.content {
            Content::Program(compiled) if compiled.format == Format::EsModule => compiled,
            Content::Program(_) => {
                self.requests.borrow_mut().entry(module.to_owned()).or_default().insert(name.to_owned());
                return Found::Open;
            }
            Content::Json(value) if name != "default" => {
                return if value.get(name).is_some() { Found::Open } else { Found::Missing };
            }
            Content::Text | Content::Data(_) if name != "default" => return Found::Missing,
            _ => return Found::Open,
        };
        if !seen.insert((module, name)) {
            return Found::Missing;
        }
        let scanned = &compiled.scanned;
        match scanned.exports.get(name) {
            Some(Exported::Value) => Found::Local { module: module.to_owned(), name: None },
            Some(Exported::Other { specifier, name }) => self.follow_import(node, specifier, name, seen),
            Some(Exported::Local(local)) => match scanned.locals.get(local) {
                Some(Local::Imported { specifier, name }) => self.follow_import(node, specifier, name, seen),
                _ => Found::Local { module: module.to_owned(), name: Some(local.clone()) },
            },
            None => self.follow_stars(node, name, seen),
        }
    }

    /// `export *` passes on all names but the default.
    fn follow_stars(&self, node: &'g Node, name: &'g str, seen: &mut Seen<'g>) -> Found {
        let mut best = Found::Missing;
        if self.exported.as_ref().is_some_and(|exported| !exported.contains(name)) {
            return best;
        }
        let stars = node.compiled().into_iter().flat_map(|compiled| &compiled.scanned.stars);
        for specifier in stars.filter(|_| name != "default") {
            match self.follow_import(node, specifier, name, seen) {
                Found::Missing => {}
                Found::Open => best = Found::Open,
                found => return found,
            }
        }
        best
    }

    /// The names that a module exports, and whether it may have more. Goes at most so many steps through `export *`; behind
    /// them, there may be more.
    pub(super) fn names(&self, module: &'g str, most: usize) -> (BTreeSet<&'g str>, bool) {
        let (mut names, mut open, mut steps) = (BTreeSet::new(), false, 0);
        let (mut seen, mut waiting) = (HashSet::from([module]), vec![module]);
        while let Some(one) = waiting.pop() {
            let Some(node) = self.graph.nodes.get(one) else { continue };
            let Some(compiled) = node.compiled().filter(|_| !node.is_commonjs()) else {
                open = true;
                continue;
            };
            let own = compiled.scanned.exports.keys().map(String::as_str);
            names.extend(own.filter(|name| one == module || *name != "default"));
            for specifier in &compiled.scanned.stars {
                steps += 1;
                match node.target(specifier, false) {
                    _ if steps > most => return (names, true),
                    Some(To::Module(module)) if seen.insert(module) => waiting.push(module),
                    Some(To::Module(_)) => {}
                    _ => open = true,
                }
            }
        }
        (names, open)
    }

    fn requests(self) -> BTreeMap<String, BTreeSet<String>> {
        self.requests.into_inner()
    }
}

fn exported(graph: &Graph) -> Option<HashSet<&str>> {
    let mut exported = HashSet::new();
    for node in graph.nodes.values() {
        let Some(compiled) = node.compiled() else { continue };
        let of_modules = |specifier: &String| match node.target(specifier, false) {
            Some(To::Module(module)) => {
                graph.nodes.get(module).is_some_and(|node| node.compiled().is_some() && !node.is_commonjs())
            }
            _ => false,
        };
        if !compiled.scanned.stars.iter().all(of_modules) {
            return None;
        }
        exported.extend(compiled.scanned.exports.keys().map(String::as_str));
    }
    Some(exported)
}

/// What was found out of all imports.
pub(super) struct Linked {
    /// Names that are left out of modules, since they are types.
    pub(super) dropped: BTreeMap<String, Dropped>,
    /// What CommonJS modules export, as far as anybody asks or syntax shows.
    pub(super) commonjs: BTreeMap<String, BTreeSet<String>>,
}

/// Checks all imports.
pub(super) fn link(report: &mut Report, graph: &mut Graph) -> Linked {
    let mut dropped: BTreeMap<String, Dropped> = BTreeMap::new();
    for _ in 0..MAX_ROUNDS {
        let types = types(graph);
        if types.is_empty() {
            break;
        }
        for (module, names) in types {
            leave_out(graph, &module, &names);
            dropped.entry(module).or_default().extend(names);
        }
    }
    let linker = Linker::new(graph);
    for node in graph.nodes.values() {
        check(report, &linker, node);
    }
    if linker.steps.get() > MAX_STEPS
        && let Some(entry) = graph.nodes.get(&graph.entry)
    {
        report.wrong(
            &entry.source,
            0,
            "leads through too many modules that pass names on; expected fewer `export *`",
        );
    }
    let mut commonjs = linker.requests();
    for (module, node) in graph.nodes.iter().filter(|(_, node)| node.is_commonjs()) {
        commonjs.entry(module.clone()).or_default().extend(detected(graph, node));
    }
    Linked { dropped, commonjs }
}

/// Names that TypeScript programs only pass on, and that are nowhere: types, of which nothing is left.
fn types(graph: &Graph) -> BTreeMap<String, Dropped> {
    let linker = Linker::new(graph);
    let mut found: BTreeMap<String, Dropped> = BTreeMap::new();
    for (module, node) in &graph.nodes {
        let Some(compiled) = node.compiled().filter(|compiled| compiled.typescript) else { continue };
        for import in compiled.scanned.imports.iter().filter(|import| import.how == How::Import) {
            for name in import.names.iter().filter(|name| name.passed_on && name.imported != "*") {
                if linker.import(node, &import.specifier, &name.imported) == Found::Missing {
                    let names = found.entry(module.clone()).or_default();
                    names.insert((import.specifier.clone(), name.imported.clone()));
                }
            }
        }
    }
    found
}

fn leave_out(graph: &mut Graph, module: &str, names: &Dropped) {
    let Some(Content::Program(compiled)) = graph.nodes.get_mut(module).map(|node| &mut node.content) else {
        return;
    };
    let scanned = &mut compiled.scanned;
    let is_out = |specifier: &str, name: &str| names.contains(&(specifier.to_owned(), name.to_owned()));
    for import in &mut scanned.imports {
        let specifier = import.specifier.clone();
        import.names.retain(|name| !(name.passed_on && is_out(&specifier, &name.imported)));
    }
    let locals = &scanned.locals;
    scanned.exports.retain(|_, of| match of {
        Exported::Other { specifier, name } => !is_out(specifier, name),
        Exported::Local(local) => match locals.get(local) {
            Some(Local::Imported { specifier, name }) => !is_out(specifier, name),
            _ => true,
        },
        Exported::Value => true,
    });
}

fn check<'g>(report: &mut Report, linker: &Linker<'g>, node: &'g Node) {
    let Some(compiled) = node.compiled() else { return };
    for import in compiled.scanned.imports.iter().filter(|import| import.how == How::Import) {
        for name in import.names.iter().filter(|name| name.imported != "*") {
            if linker.import(node, &import.specifier, &name.imported) == Found::Missing {
                let more = report.is_overfull();
                let message = if more {
                    String::new()
                } else {
                    missing(linker, node, &import.specifier, &name.imported)
                };
                report.wrong(&node.source, name.at, message);
            }
        }
    }
}

/// Most steps of looking for a name that was meant.
const MAX_HINT_STEPS: usize = 1000;

fn missing<'g>(linker: &Linker<'g>, node: &'g Node, specifier: &'g str, name: &str) -> String {
    let (of, names): (&str, Vec<&str>) = match node.target(specifier, false) {
        Some(To::Builtin(module)) => (module, builtins::exports(module).unwrap_or_default().to_vec()),
        Some(To::Module(module)) => (module, linker.names(module, MAX_HINT_STEPS).0.into_iter().collect()),
        None => (specifier, Vec::new()),
    };
    let what = if name == "default" {
        "there is no default export in".to_owned()
    } else {
        format!("{} is not exported by", named(name))
    };
    let hint = if name.len() < 256 { nearest(name, &names) } else { None };
    format!("{what} {of}{}", hint.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())
}

/// The names that a CommonJS module shows by its syntax, with those of modules that it passes on.
fn detected(graph: &Graph, node: &Node) -> BTreeSet<String> {
    let (mut names, mut seen, mut waiting) = (BTreeSet::new(), BTreeSet::new(), vec![node]);
    while let Some(node) = waiting.pop() {
        let Some(compiled) = node.compiled() else { continue };
        names.extend(compiled.scanned.commonjs.names.iter().cloned());
        for specifier in &compiled.scanned.commonjs.all_of {
            if let Some(To::Module(module)) = node.target(specifier, true)
                && seen.insert(module)
            {
                waiting.extend(graph.nodes.get(module));
            }
        }
    }
    names
}
