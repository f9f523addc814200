//! The program of an app: its modules by digest, and what they are run with. Does not know what is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::HostPattern;
use crate::image::Digest;

/// Most modules of a program: each is a file of the edge's.
pub const MAX_MODULES: usize = 10_000;

/// Most bytes of all modules of a program together: the compiler needs many times as much.
pub const MAX_PROGRAM_BYTES: usize = 10 << 20;

/// Most bytes of the variables of a program together: they are part of each version's record.
pub const MAX_VARIABLES_BYTES: usize = 256 << 10;

/// JavaScript that answers an app's requests. The edge has its modules as content by digest, before the app is deployed.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The name of the module whose exports are the handlers.
    pub entry: String,
    /// All modules. Nothing else can be imported but what the platform has.
    pub modules: Vec<ProgramModule>,
    /// The day, as `2026-01-31`, of which the platform's behaviour is meant.
    pub compatibility_date: String,
    /// Compatibility flags.
    #[serde(default)]
    pub compatibility_flags: Vec<String>,
    /// The handlers of the entry's default export, as far as syntax shows.
    #[serde(default)]
    pub handlers: Vec<String>,
    /// The classes that the entry exports, as far as syntax shows.
    #[serde(default)]
    pub classes: Vec<String>,
    /// What handlers find in `env`: strings, and other values of JSON.
    #[cfg_attr(feature = "schema", schema(value_type = BTreeMap<String, Object>))]
    #[serde(default)]
    pub vars: BTreeMap<String, serde_json::Value>,
    /// The hosts that it answers for; all where there are none.
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    #[serde(default)]
    pub hosts: Vec<HostPattern>,
}

/// A module of a program.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramModule {
    /// As stack traces show it.
    pub name: String,
    /// What it is.
    #[serde(default)]
    pub kind: ModuleKind,
    /// Its content.
    #[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^sha(256:[0-9a-f]{64}|512:[0-9a-f]{128})$"))]
    pub digest: Digest,
    /// Its source map, where it was made of another file.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    #[serde(default)]
    pub map: Option<Digest>,
    /// Where its imports lead: names of modules by what stands in the source. The platform's own need not be here.
    #[serde(default)]
    pub imports: BTreeMap<String, String>,
}

/// What a module is.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleKind {
    /// JavaScript with `import` and `export`.
    #[default]
    Esm,
}

/// Leaves the values of the variables out: they may be secrets.
impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("entry", &self.entry)
            .field("modules", &self.modules)
            .field("vars", &self.vars.keys())
            .finish_non_exhaustive()
    }
}

impl Program {
    /// All content that it is made of.
    pub fn digests(&self) -> impl Iterator<Item = Digest> + '_ {
        self.modules.iter().flat_map(|module| std::iter::once(module.digest).chain(module.map))
    }

    /// What is wrong with it by itself: a field, and a text.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let names: BTreeSet<&str> = self.modules.iter().map(|module| module.name.as_str()).collect();
        let astray = self.modules.iter().find_map(|module| {
            let import = module.imports.iter().find(|(specifier, target)| {
                !names.contains(target.as_str()) && !is_platform(specifier) && !is_platform(target)
            });
            import.map(|(specifier, _)| {
                format!("`{}` imports `{specifier}`, which is none of them", module.name)
            })
        });
        let vars: usize = self.vars.iter().map(|(name, value)| name.len() + value.to_string().len()).sum();
        let checks = [
            (names.contains(self.entry.as_str()), "entry", format!("there is no module `{}`", self.entry)),
            (self.modules.len() <= MAX_MODULES, "modules", format!("at most {MAX_MODULES} are allowed")),
            (names.len() == self.modules.len(), "modules", "two have the same name".to_owned()),
            (astray.is_none(), "modules", astray.unwrap_or_default()),
            (
                is_date(&self.compatibility_date),
                "compatibility_date",
                "must be a day such as `2026-01-31`".to_owned(),
            ),
            (
                vars <= MAX_VARIABLES_BYTES,
                "vars",
                format!("take {vars} bytes; at most {MAX_VARIABLES_BYTES} are allowed"),
            ),
        ];
        checks.into_iter().filter(|(sound, ..)| !sound).map(|(_, field, fault)| (field, fault)).collect()
    }
}

/// Whether this is a module that the platform has.
fn is_platform(name: &str) -> bool {
    name.starts_with("cloudflare:") || name.starts_with("node:")
}

fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    matches!(&parts[..], [year, month, day]
        if year.len() == 4 && month.len() == 2 && day.len() == 2 && parts.iter().all(|part| number(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Program {
        let module = |name: &str, imports: &[(&str, &str)]| ProgramModule {
            name: name.to_owned(),
            kind: ModuleKind::Esm,
            digest: Digest::of(name.as_bytes()),
            map: None,
            imports: imports.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect(),
        };
        Program {
            entry: "index.js".to_owned(),
            modules: vec![
                module("index.js", &[("./b", "b.js"), ("cloudflare:workers", "cloudflare:workers")]),
                module("b.js", &[]),
            ],
            compatibility_date: "2026-01-31".to_owned(),
            compatibility_flags: Vec::new(),
            handlers: Vec::new(),
            classes: Vec::new(),
            vars: BTreeMap::new(),
            hosts: Vec::new(),
        }
    }

    #[test]
    fn a_sound_program_has_no_faults_and_comes_back_as_it_was() {
        let program = program();
        assert_eq!(program.faults(), Vec::new());
        assert_eq!(program.digests().count(), 2);
        let text = serde_json::to_string(&program).unwrap();
        assert_eq!(serde_json::from_str::<Program>(&text).unwrap(), program);
    }

    #[test]
    fn all_faults_are_told() {
        let mut bad = program();
        bad.entry = "main.js".to_owned();
        bad.compatibility_date = "yesterday".to_owned();
        bad.modules[0].imports.insert("./c".to_owned(), "c.js".to_owned());
        bad.modules[1].name = "index.js".to_owned();
        bad.vars.insert("A".to_owned(), "x".repeat(MAX_VARIABLES_BYTES).into());
        let fields: Vec<&str> = bad.faults().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["entry", "modules", "modules", "compatibility_date", "vars"]);
    }
}
