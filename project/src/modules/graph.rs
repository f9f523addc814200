//! All modules of a program, and where their imports lead.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::compile::Compiled;
use super::kinds::{self, Format};
use crate::report::Source;

/// One module.
pub(super) struct Node {
    pub(super) source: Source,
    pub(super) content: Content,
    /// Where its imports lead, by specifier.
    pub(super) imports: BTreeMap<String, To>,
    /// The same of `require`.
    pub(super) requires: BTreeMap<String, To>,
    /// Whether it takes imports of CommonJS as Node does: its default is all.
    pub(super) as_node: bool,
    pub(super) path: PathBuf,
    pub(super) program: kinds::Program,
}

/// What a module is.
pub(super) enum Content {
    Program(Box<Compiled>),
    Json(serde_json::Value),
    Text,
    Data(Vec<u8>),
    /// One of ours.
    Helper(&'static str),
}

/// Where an import leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum To {
    Module(String),
    Builtin(String),
}

pub(super) struct Graph {
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) entry: String,
}

impl Node {
    pub(super) fn compiled(&self) -> Option<&Compiled> {
        if let Content::Program(compiled) = &self.content { Some(compiled) } else { None }
    }

    /// Where an import leads.
    pub(super) fn target(&self, specifier: &str, require: bool) -> Option<&To> {
        if require { self.requires.get(specifier) } else { self.imports.get(specifier) }
    }

    pub(super) fn is_commonjs(&self) -> bool {
        self.compiled().is_some_and(|compiled| compiled.format == Format::CommonJs)
    }
}
