//! The modules as the runtime gets them: those of CommonJS are two or three, one with the body, and one for each way of
//! importing it.

use std::collections::{BTreeMap, BTreeSet};

use super::compile;
use super::graph::{Content, Graph, Node, To};
use super::helpers::{self, COMMONJS};
use super::link::Linked;
use super::scan::How;
use super::wrap::{self, BODY, Of, Required};
use super::{Module, Target};
use crate::report::Report;

pub(super) fn emit(report: &mut Report, graph: &Graph, linked: &Linked) -> BTreeMap<String, Module> {
    let mut emitter = Emitter { graph, linked, modules: BTreeMap::new(), facades: BTreeSet::new() };
    for (name, node) in &graph.nodes {
        emitter.node(report, name, node);
    }
    if let Some(entry) = graph.nodes.get(&graph.entry).filter(|entry| entry.is_commonjs()) {
        emitter.facades.insert((graph.entry.clone(), entry.as_node));
    }
    emitter.facades();
    emitter.modules
}

/// The name of what is imported of a CommonJS module.
pub(super) fn facade_name(module: &str, as_node: bool) -> String {
    if as_node { format!("{module}?node") } else { module.to_owned() }
}

fn body_name(module: &str) -> String {
    format!("{module}?body")
}

struct Emitter<'g> {
    graph: &'g Graph,
    linked: &'g Linked,
    modules: BTreeMap<String, Module>,
    /// CommonJS modules that are imported, and whether as Node does.
    facades: BTreeSet<(String, bool)>,
}

impl Emitter<'_> {
    fn node(&mut self, report: &mut Report, name: &str, node: &Node) {
        let plain = |source: String| Module { source, map: None, imports: BTreeMap::new() };
        let module = match &node.content {
            Content::Program(_) if node.is_commonjs() => return self.commonjs(report, name, node),
            Content::Program(compiled) => Module {
                source: compiled.code.clone(),
                map: Some(compiled.map.clone()),
                imports: self.imports(node),
            },
            Content::Json(value) => plain(wrap::json(&node.source.text, value).0),
            Content::Text => plain(wrap::text(&node.source.text)),
            Content::Data(bytes) => plain(wrap::data(bytes)),
            Content::Helper(text) => plain((*text).to_owned()),
        };
        self.modules.insert(name.to_owned(), module);
    }

    /// What `import` and `import()` lead to.
    fn imports(&mut self, node: &Node) -> BTreeMap<String, Target> {
        node.imports.iter().map(|(specifier, to)| (specifier.clone(), self.target(node, to))).collect()
    }

    fn target(&mut self, node: &Node, to: &To) -> Target {
        match to {
            To::Builtin(name) => Target::Builtin(name.clone()),
            To::Module(name) => {
                if !self.graph.nodes.get(name).is_some_and(Node::is_commonjs) {
                    return Target::Module(name.clone());
                }
                self.facades.insert((name.clone(), node.as_node));
                Target::Module(facade_name(name, node.as_node))
            }
        }
    }

    fn commonjs(&mut self, report: &mut Report, name: &str, node: &Node) {
        let Some(compiled) = node.compiled() else { return };
        let mut imports = self.imports(node);
        let mut required: Vec<Required<'_>> = Vec::new();
        for import in
            compiled.scanned.imports.iter().filter(|import| matches!(import.how, How::Require { .. }))
        {
            let twice = required.iter().any(|other| other.specifier == import.specifier);
            let Some(to) = node.target(&import.specifier, true).filter(|_| !twice) else {
                continue;
            };
            let (of, target) = self.required(to);
            imports.insert(wrap::requirement(required.len()), target);
            required.push(Required { specifier: &import.specifier, of });
        }
        self.add_runtime(&mut imports);
        let (source, lines) = wrap::body(&compiled.code, name, &required);
        if let Some(fault) = compile::strict_fault(&source) {
            let message = format!("cannot be run within a module, where all code is strict: {fault}");
            report.wrong(&node.source, 0, message);
        }
        let map = Some(wrap::shifted(&compiled.map, lines));
        self.modules.insert(body_name(name), Module { source, map, imports });
    }

    fn required(&self, to: &To) -> (Of, Target) {
        match to {
            To::Builtin(name) => {
                let of = if name.starts_with("node:") { Of::Value } else { Of::Module };
                (of, Target::Builtin(name.clone()))
            }
            To::Module(name) => match self.graph.nodes.get(name) {
                Some(node) if node.is_commonjs() => (Of::CommonJs, Target::Module(body_name(name))),
                Some(node) if node.compiled().is_none() => (Of::Value, Target::Module(name.clone())),
                _ => (Of::Module, Target::Module(name.clone())),
            },
        }
    }

    fn add_runtime(&mut self, imports: &mut BTreeMap<String, Target>) {
        imports.insert(COMMONJS.to_owned(), Target::Module(COMMONJS.to_owned()));
        if let Some((name, text)) = helpers::helper(COMMONJS) {
            let module = Module { source: text.to_owned(), map: None, imports: BTreeMap::new() };
            self.modules.entry(name).or_insert(module);
        }
    }

    fn facades(&mut self) {
        for (name, as_node) in std::mem::take(&mut self.facades) {
            let names = self.linked.commonjs.get(&name).cloned().unwrap_or_default();
            let imports = BTreeMap::from([(BODY.to_owned(), Target::Module(body_name(&name)))]);
            let module = Module { source: wrap::facade(&names, as_node), map: None, imports };
            self.modules.insert(facade_name(&name, as_node), module);
        }
    }
}
