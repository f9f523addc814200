//! An app's program, and its static files: what they are made of, by digest. The content itself lies with the edge, which
//! takes it over the admin API before an app names it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::route::HostPattern;
use crate::cron::Cron;
use crate::ids::{ClassName, SecretName, StoreName, VariableName};
use crate::image::Digest;

/// Most modules of a program: as many as a compiler of projects takes.
pub const MAX_MODULES: usize = 5_000;
/// Most imports of all modules together: each is a line of the message that loads the program.
pub const MAX_IMPORTS: usize = 50_000;
/// Longest name of a module, and longest import as it is written, in bytes.
pub const MAX_MODULE_NAME_BYTES: usize = 4_096;
/// Most compatibility flags.
pub const MAX_FLAGS: usize = 256;
/// Most routes of a program.
pub const MAX_PROGRAM_ROUTES: usize = 1_024;
/// Most variables of a program.
pub const MAX_VARS: usize = 4_096;
/// Most classes and handlers that a program names.
pub const MAX_PROGRAM_NAMES: usize = 256;

/// The program of an app: JavaScript that the edge runs for its requests.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The name of the module whose exports are the handlers.
    #[cfg_attr(feature = "schema", schema(max_length = 4096))]
    pub entry: String,
    /// All modules; nothing else can be imported.
    #[cfg_attr(feature = "schema", schema(max_items = 5000))]
    pub modules: Vec<ProgramModule>,
    /// The day, as `2026-01-31`, of which the runtime's behaviour is meant.
    #[cfg_attr(feature = "schema", schema(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"))]
    pub compatibility_date: String,
    /// Compatibility flags.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(max_items = 256))]
    pub compatibility_flags: BTreeSet<String>,
    /// The handlers of the default export that its syntax shows. There may be more.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(max_items = 256))]
    pub handlers: BTreeSet<String>,
    /// The classes that the entry exports, as far as syntax shows.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(max_items = 256))]
    pub classes: BTreeSet<String>,
    /// The classes whose instances are objects that keep something, each with its first name: what they keep is found by that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schema(value_type = BTreeMap<String, String>))]
    pub object_classes: BTreeMap<ClassName, ClassName>,
    /// The classes whose namespaces are in `env`, by the names that they have there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schema(value_type = BTreeMap<String, String>))]
    pub durable_objects: BTreeMap<String, ClassName>,
    /// Variables in `env`.
    #[serde(default)]
    pub vars: BTreeMap<String, ProgramVar>,
    /// Secrets of the app in `env`, as texts, by the names that they have there.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = BTreeMap<String, String>))]
    pub secrets: BTreeMap<VariableName, SecretName>,
    /// Secrets of stores in `env`, as objects with `get()`, by the names that they have there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub store_secrets: BTreeMap<String, StoredSecret>,
    /// The name in `env` of the app's static files, if it has one.
    #[serde(default)]
    pub assets_binding: Option<String>,
    /// Which requests it gets before the static files.
    #[serde(default)]
    pub before_assets: BeforeAssets,
    /// The requests that are the program's: those that one of these takes. All where there are none.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(max_items = 1024))]
    pub routes: Vec<ProgramRoute>,
    /// When `scheduled` is called, in UTC.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub crons: Vec<Cron>,
    /// What one event may use.
    #[serde(default)]
    pub limits: ProgramLimits,
}

/// A secret of a store that apps share.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredSecret {
    /// The store.
    #[cfg_attr(feature = "schema", schema(value_type = String, max_length = 63, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
    pub store: StoreName,
    /// Its name there.
    #[cfg_attr(feature = "schema", schema(value_type = String, max_length = 128, pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: SecretName,
}

/// One module of a program.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramModule {
    /// As stack traces show it.
    #[cfg_attr(feature = "schema", schema(max_length = 4096))]
    pub name: String,
    /// The digest of its JavaScript, an ES module in UTF-8.
    #[cfg_attr(feature = "schema", schema(value_type = String, pattern = "^sha256:[0-9a-f]{64}$"))]
    pub digest: Digest,
    /// The digest of the way back to its source, a source map in JSON, where it was made of another file.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, pattern = "^sha256:[0-9a-f]{64}$"))]
    pub map: Option<Digest>,
    /// Where its imports lead, by what is written there.
    #[serde(default)]
    pub imports: BTreeMap<String, ImportTarget>,
}

/// Where an import leads.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportTarget {
    /// A module of the program, by its name.
    Module(String),
    /// A module that the runtime has, such as `cloudflare:workers`.
    Builtin(String),
}

/// A value of `env`.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgramVar {
    /// A text.
    Text(String),
    /// The JSON of another value.
    Json(String),
}

/// Leaves the value out: it may be a secret.
impl fmt::Debug for ProgramVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::Text(_)) { "Text(…)" } else { "Json(…)" })
    }
}

/// Hosts and a path whose requests are a program's.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramRoute {
    /// The hosts; all where there are none.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub hosts: Vec<HostPattern>,
    /// The path; one that ends in `*` takes all that begin so.
    #[cfg_attr(feature = "schema", schema(max_length = 4096, pattern = "^/"))]
    pub path: String,
}

impl ProgramRoute {
    /// Whether it takes requests for this host, if one was named, and this path as it was sent.
    pub fn takes(&self, host: Option<&str>, path: &str) -> bool {
        let of_host = self.hosts.is_empty()
            || host.is_some_and(|host| self.hosts.iter().any(|pattern| pattern.capture(host).is_some()));
        of_host && matches_path(&self.path, path)
    }
}

/// Whether a path is this one, or begins so where it ends in `*`.
fn matches_path(pattern: &str, path: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == path, |start| path.starts_with(start))
}

/// Which requests a program gets before the app's static files.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BeforeAssets {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// Those whose path is one of these (`/api/*`), but for those that match one with `!` before it.
    Paths(Vec<String>),
}

impl BeforeAssets {
    /// Whether a request for this path is the program's, whether there is a file or not.
    pub fn takes(&self, path: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Paths(patterns) => {
                let out = patterns.iter().filter_map(|pattern| pattern.strip_prefix('!'));
                let mut within = patterns.iter().filter(|pattern| !pattern.starts_with('!'));
                within.any(|pattern| matches_path(pattern, path))
                    && !out.into_iter().any(|pattern| matches_path(pattern, path))
            }
        }
    }
}

/// What one event of a program may use. None is the runtime's default.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramLimits {
    /// CPU time, in milliseconds.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 300_000))]
    pub cpu_ms: Option<u32>,
    /// Requests to others.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(minimum = 1, maximum = 10_000_000))]
    pub subrequests: Option<u32>,
}

/// Longest CPU time of one event that can be asked for, in milliseconds, and most subrequests: the reference's bounds.
const MAX_CPU_MS: u32 = 300_000;
const MAX_SUBREQUESTS: u32 = 10_000_000;

impl Program {
    /// What is wrong with it and its types do not already rule out: fields, and what is expected.
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut check = |sound: bool, field: &str, message: String| {
            if !sound {
                faults.push((field.to_owned(), message));
            }
        };
        let names: BTreeSet<&str> = self.modules.iter().map(|module| module.name.as_str()).collect();
        let imports: usize = self.modules.iter().map(|module| module.imports.len()).sum();
        check(self.modules.len() <= MAX_MODULES, "modules", format!("at most {MAX_MODULES} are allowed"));
        check(imports <= MAX_IMPORTS, "modules", format!("at most {MAX_IMPORTS} imports are allowed"));
        check(names.len() == self.modules.len(), "modules", "two have the same name".to_owned());
        check(names.contains(self.entry.as_str()), "entry", "is none of the modules".to_owned());
        check(is_date(&self.compatibility_date), "compatibility_date", "expected yyyy-mm-dd".to_owned());
        let flags = self.compatibility_flags.len();
        check(flags <= MAX_FLAGS, "compatibility_flags", format!("at most {MAX_FLAGS} are allowed"));
        let named = self.handlers.len().max(self.classes.len());
        check(named <= MAX_PROGRAM_NAMES, "classes", format!("at most {MAX_PROGRAM_NAMES} are allowed"));
        check(self.vars.len() <= MAX_VARS, "vars", format!("at most {MAX_VARS} are allowed"));
        for (count, field) in [(self.secrets.len(), "secrets"), (self.store_secrets.len(), "store_secrets")] {
            let most = super::MAX_SECRETS;
            check(count <= most, field, format!("at most {most} are allowed"));
        }
        check(
            self.crons.len() <= super::MAX_CRONS,
            "crons",
            format!("at most {} are allowed", super::MAX_CRONS),
        );
        let routes =
            self.routes.len() <= MAX_PROGRAM_ROUTES && self.routes.iter().all(|route| is_path(&route.path));
        check(
            routes,
            "routes",
            format!("at most {MAX_PROGRAM_ROUTES} are allowed, each with a path from `/` on"),
        );
        let BeforeAssets::Paths(paths) = &self.before_assets else { return self.rest(faults, &names) };
        let sound = |path: &String| is_path(path.strip_prefix('!').unwrap_or(path));
        check(
            paths.len() <= MAX_PROGRAM_ROUTES && paths.iter().all(sound),
            "before_assets",
            "expected paths from `/` on".to_owned(),
        );
        self.rest(faults, &names)
    }

    fn rest(&self, mut faults: Vec<(String, String)>, names: &BTreeSet<&str>) -> Vec<(String, String)> {
        let bytes: usize = self.vars.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > super::MAX_ENV_BYTES {
            faults.push((
                "vars".to_owned(),
                format!("take {bytes} bytes; at most {} are allowed", super::MAX_ENV_BYTES),
            ));
        }
        faults.extend(self.fault_of_objects().map(|fault| ("durable_objects".to_owned(), fault)));
        if let Some(name) = self.twice() {
            faults.push(("vars".to_owned(), format!("`{name}` is in `env` twice")));
        }
        let json = |var: &&ProgramVar| matches!(var, ProgramVar::Json(text) if !is_json(text));
        if self.vars.values().any(|var| json(&var)) {
            faults.push(("vars".to_owned(), "one of them is no JSON".to_owned()));
        }
        let ProgramLimits { cpu_ms, subrequests } = self.limits;
        if cpu_ms.is_some_and(|ms| !(1..=MAX_CPU_MS).contains(&ms)) {
            faults.push(("limits.cpu_ms".to_owned(), format!("expected 1 to {MAX_CPU_MS}")));
        }
        if subrequests.is_some_and(|count| !(1..=MAX_SUBREQUESTS).contains(&count)) {
            faults.push(("limits.subrequests".to_owned(), format!("expected 1 to {MAX_SUBREQUESTS}")));
        }
        let modules = self.modules.iter().enumerate();
        faults.extend(modules.filter_map(|(index, module)| {
            module.fault(names).map(|fault| (format!("modules[{index}]"), fault))
        }));
        faults
    }

    /// What is wrong with its classes of objects.
    fn fault_of_objects(&self) -> Option<String> {
        let most = self.object_classes.len().max(self.durable_objects.len());
        if most > MAX_PROGRAM_NAMES {
            return Some(format!("at most {MAX_PROGRAM_NAMES} are allowed"));
        }
        let lineages: BTreeSet<&ClassName> = self.object_classes.values().collect();
        if lineages.len() < self.object_classes.len() {
            return Some("two classes have the same first name".to_owned());
        }
        let unknown = self.durable_objects.values().find(|class| !self.object_classes.contains_key(class));
        unknown.map(|class| format!("`{class}` is none of the classes of objects"))
    }

    /// A name that two of the things in `env` have.
    fn twice(&self) -> Option<&str> {
        let secrets = self.secrets.keys().map(VariableName::as_str);
        let mut names: Vec<&str> = self.vars.keys().map(String::as_str).chain(secrets).collect();
        names.extend(self.assets_binding.as_deref());
        names.extend(self.durable_objects.keys().map(String::as_str));
        names.extend(self.store_secrets.keys().map(String::as_str));
        names.sort_unstable();
        names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
    }
}

impl ProgramModule {
    fn fault(&self, names: &BTreeSet<&str>) -> Option<String> {
        let long = |text: &str| text.is_empty() || text.len() > MAX_MODULE_NAME_BYTES || text.contains('\0');
        if long(&self.name) || self.imports.keys().any(|specifier| long(specifier)) {
            return Some(format!(
                "names and imports have 1 to {MAX_MODULE_NAME_BYTES} bytes, none of them 0"
            ));
        }
        self.imports.iter().find_map(|(specifier, target)| match target {
            ImportTarget::Module(name) if !names.contains(name.as_str()) => {
                Some(format!("imports.{specifier}: `{name}` is none of the modules"))
            }
            ImportTarget::Builtin(name) if long(name) => Some(format!("imports.{specifier}: has no name")),
            ImportTarget::Module(_) | ImportTarget::Builtin(_) => None,
        })
    }
}

impl ProgramVar {
    fn len(&self) -> usize {
        let (Self::Text(text) | Self::Json(text)) = self;
        text.len()
    }
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.len() <= MAX_MODULE_NAME_BYTES && !path.contains('\0')
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

fn is_date(text: &str) -> bool {
    chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok() && text.len() == 10
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Program {
        let module = ProgramModule {
            name: "src/index.js".to_owned(),
            digest: Digest::of(b"x"),
            map: None,
            imports: [(
                "cloudflare:workers".to_owned(),
                ImportTarget::Builtin("cloudflare:workers".to_owned()),
            )]
            .into(),
        };
        let text = r#"{"entry": "src/index.js", "modules": [], "compatibility_date": "2026-01-31"}"#;
        Program { modules: vec![module], ..serde_json::from_str(text).unwrap() }
    }

    #[test]
    fn a_program_is_written_and_read() {
        let mut program = program();
        program.vars.insert("A".to_owned(), ProgramVar::Json("[1]".to_owned()));
        program.before_assets = BeforeAssets::Paths(vec!["/api/*".to_owned()]);
        let text = serde_json::to_string(&program).unwrap();
        assert_eq!(serde_json::from_str::<Program>(&text).unwrap(), program);
        assert_eq!(program.faults(), []);
        assert!(serde_json::from_str::<Program>(&text.replace("\"entry\"", "\"entri\"")).is_err());
    }

    #[test]
    fn what_cannot_be_a_program_is_named_with_its_field() {
        let mut bad = program();
        bad.entry = "none".to_owned();
        bad.compatibility_date = "2026-02-30".to_owned();
        bad.modules.push(bad.modules[0].clone());
        bad.modules[0].imports.insert("./x".to_owned(), ImportTarget::Module("x".to_owned()));
        bad.vars.insert("A".to_owned(), ProgramVar::Json("{".to_owned()));
        bad.assets_binding = Some("A".to_owned());
        bad.routes.push(ProgramRoute { hosts: Vec::new(), path: "x".to_owned() });
        bad.limits.cpu_ms = Some(0);
        let fields: Vec<String> = bad.faults().into_iter().map(|(field, _)| field).collect();
        let expected = [
            "modules",
            "entry",
            "compatibility_date",
            "routes",
            "vars",
            "vars",
            "limits.cpu_ms",
            "modules[0]",
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn requests_are_told_apart_by_host_and_path() {
        let hosts = vec![HostPattern::new("*.example.com").unwrap()];
        let route = ProgramRoute { hosts, path: "/api*".to_owned() };
        assert!(route.takes(Some("a.example.com"), "/api/x") && route.takes(Some("a.example.com"), "/apis"));
        assert!(!route.takes(None, "/api") && !route.takes(Some("example.com"), "/api"));
        let first = BeforeAssets::Paths(["/api/*", "!/api/docs/*"].map(str::to_owned).into());
        assert!(first.takes("/api/x") && !first.takes("/api/docs/x") && !first.takes("/"));
    }
}
