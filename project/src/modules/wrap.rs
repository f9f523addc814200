//! Texts of modules that are no programs with `import` and `export` themselves: CommonJS, JSON, texts, bytes.

use std::collections::BTreeSet;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::helpers::COMMONJS;

/// Most names of a module of JSON that can be imported by themselves.
const MAX_JSON_NAMES: usize = 1000;

/// What a `require` of a CommonJS module gives.
pub(super) struct Required<'r> {
    pub(super) specifier: &'r str,
    pub(super) of: Of,
}

/// What kind of module is required.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    CommonJs,
    Module,
    /// One that has a default alone.
    Value,
}

/// The specifier that a body has for what it requires.
pub(super) fn requirement(index: usize) -> String {
    format!("berth:require/{index}")
}

/// The specifier that a facade has for the body.
pub(super) const BODY: &str = "berth:body";

/// A CommonJS module's body as a module that exports `load`, and how many lines are before the body's own.
pub(super) fn body(code: &str, name: &str, required: &[Required<'_>]) -> (String, usize) {
    let mut text =
        format!("import {{ prepare, load as run, fromModule, fromValue }} from {};\n", quoted(COMMONJS));
    let mut table = String::new();
    for (index, Required { specifier, of }) in required.iter().enumerate() {
        let from = quoted(&requirement(index));
        let (clause, value) = match of {
            Of::CommonJs => (format!("{{ load as r{index} }}"), format!("r{index}()")),
            Of::Module => (format!("* as r{index}"), format!("fromModule(r{index})")),
            Of::Value => (format!("* as r{index}"), format!("fromValue(r{index})")),
        };
        // Writing to a text cannot fail.
        let _ = writeln!(text, "import {clause} from {from};");
        let _ =
            write!(table, "{}[{}]: () => {value}", if index == 0 { " " } else { ", " }, quoted(specifier));
    }
    // A declared function is there before the module has run, as circles of modules need it.
    text.push_str("export function load() { return run(state); }\nvar state = prepare(function (module, exports, require) {\n");
    let lines = text.matches('\n').count();
    text.push_str(code);
    let _ = write!(text, "\n}}, {{{table} }}, {});\n", quoted(name));
    (text, lines)
}

/// What modules import of a CommonJS module. To those that follow Node, the default is all that it exports; to others, what
/// it calls its default where it was a module once.
pub(super) fn facade(names: &BTreeSet<String>, as_node: bool) -> String {
    let mut text = format!("import {{ load }} from {};\nconst value = load();\n", quoted(BODY));
    let default = if as_node { "value" } else { "value && value.__esModule ? value.default : value" };
    let _ = writeln!(text, "export default {default};");
    text.push_str("const names = value === null || value === undefined ? {} : value;\n");
    let names: Vec<&String> = names.iter().filter(|name| *name != "default" && is_name(name)).collect();
    export_names(&mut text, "names", names.into_iter());
    text
}

fn export_names<'n>(text: &mut String, of: &str, names: impl Iterator<Item = &'n String>) {
    let mut clause = String::new();
    for (index, name) in names.enumerate() {
        let _ = writeln!(text, "const n{index} = {of}[{}];", quoted(name));
        let _ = write!(clause, "{}n{index} as {name}", if index == 0 { "" } else { ", " });
    }
    if !clause.is_empty() {
        let _ = writeln!(text, "export {{ {clause} }};");
    }
}

/// A module of JSON, whose text is known to be such, and the names that it exports.
pub(super) fn json(text: &str, value: &serde_json::Value) -> (String, BTreeSet<String>) {
    let keys = value.as_object().into_iter().flat_map(|object| object.keys());
    let names: BTreeSet<String> =
        keys.filter(|key| *key != "default" && is_name(key)).take(MAX_JSON_NAMES).cloned().collect();
    // As an expression, the key `__proto__` would mean something else.
    let mut module = format!("const value = JSON.parse({});\nexport default value;\n", quoted(text));
    export_names(&mut module, "value", names.iter());
    (module, names)
}

/// A module of a text.
pub(super) fn text(text: &str) -> String {
    format!("export default {};\n", quoted(text))
}

/// A module of bytes.
pub(super) fn data(bytes: &[u8]) -> String {
    format!("export default Uint8Array.fromBase64({}).buffer;\n", quoted(&STANDARD.encode(bytes)))
}

/// A text as JavaScript has it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Whether it can stand in an `export { … as name }`.
fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || matches!(first, b'_' | b'$'))
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$'))
}

/// A source map of a text that now begins some lines further down.
pub(super) fn shifted(map: &str, lines: usize) -> String {
    // No text within has this: its quotes would be escaped.
    map.replacen("\"mappings\":\"", &format!("\"mappings\":\"{}", ";".repeat(lines)), 1)
}
