//! How modules are read: rules for their types, aliases, replacements, JSX, the TypeScript configuration.

use std::path::PathBuf;

use super::environment::{Found, View};
use super::section::Reading;
use super::values::relative_path;
use crate::report::{named, quoted};
use crate::value::{Node, Value};

/// Most rules, aliases and replacements each.
const MAX_ENTRIES: usize = 256;
/// Longest pattern of a rule, in bytes: it is matched against each module's name.
const MAX_PATTERN_BYTES: usize = 256;

/// How modules are read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Build {
    /// In order; the first that matches counts.
    pub(crate) rules: Vec<Rule>,
    /// Names of modules and what is taken in their place.
    pub(crate) alias: Vec<(String, String)>,
    /// Expressions and what is put in their place.
    pub(crate) define: Vec<(String, String)>,
    /// The TypeScript configuration, where it is named.
    pub(crate) tsconfig: Option<PathBuf>,
    pub(crate) jsx: Jsx,
}

/// The functions that JSX calls, where they are named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Jsx {
    /// For elements.
    pub(crate) factory: Option<String>,
    /// For fragments.
    pub(crate) fragment: Option<String>,
}

/// The type of modules whose names match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The type.
    pub(crate) kind: RuleKind,
    /// Patterns of names: `**` is any directories, `*` any part of a name.
    pub(crate) globs: Vec<String>,
}

/// The type of a module, as a rule gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RuleKind {
    /// A module with `import` and `export`.
    EsModule,
    /// A module with `require`.
    CommonJs,
    /// A text.
    Text,
    /// Bytes.
    Data,
    /// WebAssembly, which cannot be run.
    Wasm,
}

const KINDS: [(&str, RuleKind); 5] = [
    ("ESModule", RuleKind::EsModule),
    ("CommonJS", RuleKind::CommonJs),
    ("Text", RuleKind::Text),
    ("Data", RuleKind::Data),
    ("CompiledWasm", RuleKind::Wasm),
];

/// How modules are read, and the command that makes the entry.
pub(super) fn read(reading: &mut Reading<'_>, view: &View<'_>) -> (Build, Option<String>) {
    let tsconfig = view.given("tsconfig").and_then(|Found { node, path }| {
        let text = reading.text(node, &path)?;
        relative_path(reading, text, node.at, &path)
    });
    let mut text = |key| {
        let Found { node, path } = view.given(key)?;
        reading.text(node, &path).map(str::to_owned)
    };
    let jsx = Jsx { factory: text("jsx_factory"), fragment: text("jsx_fragment") };
    if let Some(Found { node, path }) = view.given("keep_names")
        && reading.boolean(node, &path) == Some(false)
    {
        reading.note(node.at, format!("{path}: names of functions and classes are always kept"));
    }
    let (rules, alias, define) =
        (rules(reading, view), pairs(reading, view, "alias"), pairs(reading, view, "define"));
    (Build { rules, alias, define, tsconfig, jsx }, command(reading, view))
}

fn rules(reading: &mut Reading<'_>, view: &View<'_>) -> Vec<Rule> {
    let Some(Found { node, path }) = view.given("rules") else { return Vec::new() };
    let mut found = Vec::new();
    for section in reading.sections(node, &path, MAX_ENTRIES) {
        reading.unknown_keys(&section, &["type", "globs", "fallthrough"]);
        let kind = reading.required(&section, "type", "a type such as \"Text\"");
        let kind = kind.and_then(|node| reading.word(node, &section.key("type"), &KINDS));
        let globs = reading.required(&section, "globs", "patterns such as [\"**/*.txt\"]");
        let globs = globs.map(|node| globs_of(reading, node, &section.key("globs")));
        if let (Some(kind), Some(globs)) = (kind, globs) {
            found.push(Rule { kind, globs });
        }
    }
    found
}

fn globs_of(reading: &mut Reading<'_>, node: &Node, path: &str) -> Vec<String> {
    let globs = reading.texts(node, path, MAX_ENTRIES);
    let fits = |(glob, at): (String, usize)| {
        let fits = glob.len() <= MAX_PATTERN_BYTES;
        if !fits {
            reading.wrong(at, format!("{path}: {} is longer than {MAX_PATTERN_BYTES} bytes", quoted(&glob)));
        }
        fits.then_some(glob)
    };
    globs.into_iter().filter_map(fits).collect()
}

/// Texts by name.
fn pairs(reading: &mut Reading<'_>, view: &View<'_>, key: &str) -> Vec<(String, String)> {
    let Some(Found { node, path }) = view.given(key) else { return Vec::new() };
    let Some(section) = reading.section(node, &path) else { return Vec::new() };
    let count = section.table.entries.len();
    if count > MAX_ENTRIES {
        reading.wrong(node.at, format!("{path} has {count} entries; expected at most {MAX_ENTRIES}"));
    }
    let entries = section.table.entries.iter().take(MAX_ENTRIES);
    entries
        .filter_map(|entry| {
            let text = reading.text(&entry.node, &section.key(&entry.key))?;
            if entry.key.is_empty() {
                reading.wrong(entry.at, format!("{path}: the empty text is no name; expected one"));
            }
            (!entry.key.is_empty()).then(|| (entry.key.clone(), text.to_owned()))
        })
        .collect()
}

fn command(reading: &mut Reading<'_>, view: &View<'_>) -> Option<String> {
    let Found { node, path } = view.given("build")?;
    let section = reading.section(node, &path)?;
    reading.unknown_keys(&section, &["command", "cwd", "watch_dir", "upload"]);
    let node = section.get("command").filter(|node| node.value != Value::Null)?;
    let command = reading.text(node, &section.key("command"))?;
    if command.trim().is_empty() {
        return None;
    }
    let message = format!("{} is not run: run {} first", section.key("command"), named(command));
    reading.note(node.at, message);
    Some(command.to_owned())
}
