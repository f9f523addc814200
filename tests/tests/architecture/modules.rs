//! Modules import only what the table of ARCHITECTURE.md has below them, and no circle is hidden further inside.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::imports::{self, Module, Source};
use super::page::Page;
use super::workspace;

/// How deep circles are looked for: a module of a module of the crate.
const DEPTH: usize = 2;

#[test]
fn modules_import_only_what_is_below_them() {
    let page = Page::read();
    let mut faults = Vec::new();
    for (name, layers) in page.layers.iter().filter(|(name, _)| *name != "crates") {
        faults.extend(against_layers(name, layers));
    }
    assert!(faults.is_empty(), "against the table in ARCHITECTURE.md:\n{}", faults.join("\n"));
}

#[test]
fn every_crate_with_modules_is_in_the_table() {
    let page = Page::read();
    let crates = page.layers.get("crates").expect("the table says how the crates are layered");
    for name in crates.iter().flatten().filter(|name| *name != "tests") {
        assert!(page.layers.contains_key(name), "the modules of `{name}` are not in the table");
    }
}

#[test]
fn no_circle_is_hidden_inside_a_module() {
    let page = Page::read();
    for name in page.layers.keys().filter(|name| *name != "crates") {
        let graph = graph(&imports::of_crate(&workspace().join(name)));
        let known = |a: &str, b: &str| {
            let pair = (format!("{name}::{a}"), format!("{name}::{b}"));
            page.pairs.iter().any(|(x, y)| (x, y) == (&pair.0, &pair.1) || (y, x) == (&pair.0, &pair.1))
        };
        for from in graph.keys() {
            let circle = reached(&graph, from, &known).contains(from);
            assert!(!circle, "{name}: {from} imports itself by way of others: {}", way(&graph, from, &known));
        }
    }
}

/// Imports that go up, or to a neighbour in the same layer; modules that the table lacks, and names that are no modules.
fn against_layers(name: &str, layers: &[Vec<String>]) -> Vec<String> {
    let sources = imports::of_crate(&workspace().join(name));
    let height = |module: &str| layers.iter().position(|layer| layer.iter().any(|one| one == module));
    let modules: BTreeSet<&str> =
        sources.iter().filter_map(|source| source.module.first()).map(String::as_str).collect();
    let mut faults: Vec<String> = modules
        .iter()
        .filter(|module| height(module).is_none())
        .map(|module| format!("{name}: the module {module} is not in the table"))
        .collect();
    let listed = layers.iter().flatten().filter(|listed| !modules.contains(listed.as_str()));
    faults.extend(listed.map(|listed| format!("{name}: there is no module {listed}")));
    for source in &sources {
        let Some(own) = source.module.first() else { continue };
        for other in source.names.iter().filter_map(|path| path.first()) {
            if other != own && modules.contains(other.as_str()) && height(own) >= height(other) {
                faults.push(format!("{name}: {own} may not import {other} ({})", shown(&source.path)));
            }
        }
    }
    faults
}

fn shown(path: &Path) -> String {
    path.strip_prefix(workspace()).unwrap_or(path).display().to_string()
}

/// Which module names which, each by at most `DEPTH` names.
fn graph(sources: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let modules: BTreeSet<Module> = sources.iter().map(|source| cut(&source.module)).collect();
    let mut graph = BTreeMap::<String, BTreeSet<String>>::new();
    for source in sources {
        let own = cut(&source.module);
        let named = source.names.iter().filter_map(|path| known_part(path, &modules));
        // What a module shares with its own parts is one thing.
        let others = named.filter(|other| !own.starts_with(other) && !other.starts_with(&own));
        graph.entry(own.join("::")).or_default().extend(others.map(|other| other.join("::")));
    }
    graph
}

fn cut(module: &[String]) -> Module {
    module.iter().take(DEPTH).cloned().collect()
}

/// The longest beginning of a path that is a module.
fn known_part(path: &[String], modules: &BTreeSet<Module>) -> Option<Module> {
    let mut part = cut(path);
    while !part.is_empty() && !modules.contains(&part) {
        part.pop();
    }
    (!part.is_empty()).then_some(part)
}

/// All that a module imports, by however many steps, not counting those that the page allows.
fn reached(
    graph: &BTreeMap<String, BTreeSet<String>>,
    from: &str,
    known: &impl Fn(&str, &str) -> bool,
) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut next = vec![from.to_owned()];
    while let Some(module) = next.pop() {
        for other in graph.get(&module).into_iter().flatten().filter(|other| !known(&module, other)) {
            if found.insert(other.clone()) {
                next.push(other.clone());
            }
        }
    }
    found
}

/// The modules of the circle that this one is in.
fn way(
    graph: &BTreeMap<String, BTreeSet<String>>,
    from: &str,
    known: &impl Fn(&str, &str) -> bool,
) -> String {
    let all = reached(graph, from, known).into_iter();
    let circle = all.filter(|one| reached(graph, one, known).contains(from));
    circle.collect::<Vec<_>>().join(", ")
}
