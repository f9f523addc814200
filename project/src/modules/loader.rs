//! Loads all modules of a program: from the entry on, each is read, compiled, and what it imports is found. Bounded in
//! number and size.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};

use oxc::transformer_plugins::ReplaceGlobalDefinesConfig;

use super::compile::{self, Compiled, Input};
use super::depth;
use super::graph::{Content, Graph, Node, To};
use super::helpers;
use super::kinds::{self, Format, Kind, Language};
use super::resolve::{Resolved, Resolver};
use super::scan::How;
use super::types::Dropped;
use super::typescript::Options;
use crate::config::{Config, read_bytes};
use crate::report::{Problem, Report, Source, named};

/// Most modules of a program.
pub(super) const MAX_MODULES: usize = 5000;
/// Most bytes of all modules together, as they are in their files. The compiler takes eighty times as much memory.
pub(super) const MAX_SOURCE_BYTES: usize = 10 << 20;
/// What a package has where it says that there is nothing.
const NOTHING: &str = "berth:nothing";

/// Modules by the specifiers that lead to them.
type Targets = BTreeMap<String, To>;

/// Where the work is, for what is told if it fails.
pub(super) type Current = Mutex<PathBuf>;

pub(super) struct Loader<'l> {
    report: &'l mut Report,
    config: &'l Config,
    /// The project's directory, without links.
    base: &'l Path,
    current: &'l Current,
    resolver: Resolver,
    defines: Option<ReplaceGlobalDefinesConfig>,
    nodes: BTreeMap<String, Node>,
    waiting: VecDeque<Waiting>,
    known: BTreeSet<String>,
    bytes: usize,
    full: bool,
}

struct Waiting {
    name: String,
    path: PathBuf,
    kind: Kind,
    module_package: bool,
}

impl<'l> Loader<'l> {
    pub(super) fn new(
        report: &'l mut Report,
        config: &'l Config,
        base: &'l Path,
        defines: Option<ReplaceGlobalDefinesConfig>,
        current: &'l Current,
    ) -> Self {
        let resolver = Resolver::new(base, &config.build, &config.compatibility);
        let (nodes, waiting, known) = Default::default();
        Self {
            report,
            config,
            base,
            current,
            resolver,
            defines,
            nodes,
            waiting,
            known,
            bytes: 0,
            full: false,
        }
    }

    /// Loads all that the entry leads to.
    pub(super) fn load(mut self, entry: &Path) -> Option<Graph> {
        let name = self.name(entry)?;
        let Some(kind @ Kind::Program(_)) = kinds::kind(entry, &name, &self.config.build) else {
            self.whole(&name, "is no program; expected a file that ends in .js, .mjs, .ts or .tsx");
            return None;
        };
        self.queue(Waiting { name: name.clone(), path: entry.to_owned(), kind, module_package: false });
        while let Some(waiting) = self.waiting.pop_front() {
            self.read(waiting);
            if self.full {
                return None;
            }
        }
        Some(Graph { nodes: self.nodes, entry: name })
    }

    fn queue(&mut self, waiting: Waiting) {
        if self.known.insert(waiting.name.clone()) {
            self.waiting.push_back(waiting);
        }
    }

    /// A file's name among the modules: its path from the project's directory.
    fn name(&mut self, path: &Path) -> Option<String> {
        let relative = relative(self.base, path);
        let name = relative.to_str().map(str::to_owned);
        if name.is_none() {
            self.whole(&relative.to_string_lossy(), "has a name that is not UTF-8");
        }
        name
    }

    fn whole(&mut self, name: &str, message: impl Into<String>) {
        self.report.add(Problem { file: name.into(), position: None, message: message.into() });
    }

    fn read(&mut self, waiting: Waiting) {
        let Waiting { name, path, kind, module_package } = waiting;
        if let Ok(mut current) = self.current.lock() {
            current.clone_from(&PathBuf::from(&name));
        }
        let left = MAX_SOURCE_BYTES.saturating_sub(self.bytes);
        let bytes = match read_bytes(&path, left) {
            Ok(bytes) => bytes,
            Err(_) if path.metadata().is_ok_and(|found| found.len() > left as u64) => {
                self.full = true;
                let most = MAX_SOURCE_BYTES >> 20;
                self.whole(
                    &name,
                    format!(
                        "all modules together have more than {most} MiB with this one; expected at most that"
                    ),
                );
                return;
            }
            Err(fault) => return self.whole(&name, fault),
        };
        self.bytes += bytes.len();
        if kind == Kind::Data {
            self.add(name, path, Source::new(Path::new(""), "".into()), Content::Data(bytes), module_package);
            return;
        }
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                return self.whole(&name, format!("is not UTF-8 from byte {at} on"));
            }
        };
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        let source = Source::new(Path::new(&name), text.into());
        match kind {
            Kind::Program(program) => self.program(name, path, source, program, module_package),
            Kind::Json => self.json(name, path, source),
            _ => self.add(name, path, source, Content::Text, module_package),
        }
    }

    fn add(&mut self, name: String, path: PathBuf, source: Source, content: Content, as_node: bool) {
        let program = kinds::Program { language: Language::JavaScript, format: None };
        let (imports, requires) = Default::default();
        let node = Node { source, content, imports, requires, as_node, path, program };
        self.nodes.insert(name, node);
    }

    fn json(&mut self, name: String, path: PathBuf, source: Source) {
        match serde_json::from_str(&source.text) {
            Ok(value) => self.add(name, path, source, Content::Json(value), false),
            Err(error) => {
                let line = source.text.split_inclusive('\n').take(error.line().saturating_sub(1));
                let at = line.map(str::len).sum::<usize>() + error.column().saturating_sub(1);
                let message = error.to_string();
                let message = message.split(" at line ").next().unwrap_or_default().to_owned();
                self.report.wrong(&source, at, format!("cannot be read as JSON: {message}"));
            }
        }
    }

    fn program(
        &mut self,
        name: String,
        path: PathBuf,
        source: Source,
        program: kinds::Program,
        module_package: bool,
    ) {
        if let Some(at) = depth::too_deep(&source.text) {
            let most = depth::MAX_LEVELS;
            self.report.wrong(
                &source,
                at,
                format!("is nested too deeply here; expected at most {most} levels"),
            );
            return;
        }
        let dropped = Dropped::new();
        let Some(compiled) = self.compile(&name, &path, &source, program, &dropped) else { return };
        let (imports, requires) = self.targets(&path, &source, &compiled);
        let by_name = path.extension().is_some_and(|end| end == "mjs" || end == "mts");
        let content = Content::Program(Box::new(compiled));
        let as_node = by_name || module_package;
        let node = Node { source, content, imports, requires, as_node, path, program };
        self.nodes.insert(name, node);
    }

    /// Where a program's imports lead, and where its `require`s.
    fn targets(&mut self, path: &Path, source: &Source, compiled: &Compiled) -> (Targets, Targets) {
        let (mut imports, mut requires) = (Targets::new(), Targets::new());
        // Whoever uses a package can do nothing about what is odd in it.
        let own = !path.iter().any(|part| part == "node_modules");
        for import in &compiled.scanned.imports {
            let require = matches!(import.how, How::Require { .. });
            let tried = import.how == How::Require { tried: true };
            if require && compiled.format == Format::EsModule {
                // Packages ask first whether there is one.
                if own && !tried {
                    let expected = format!("expected `import … from` for {}", named(&import.specifier));
                    let message =
                        format!("there is no `require` in a module with `import` or `export`; {expected}");
                    self.report.wrong(source, import.at, message);
                }
                continue;
            }
            let targets = if require { &mut requires } else { &mut imports };
            if targets.contains_key(&import.specifier) {
                continue;
            }
            if let Some(to) = self.import(path, source, &import.specifier, import.at, (require, tried)) {
                targets.insert(import.specifier.clone(), to);
            }
        }
        for at in compiled.scanned.computed.iter().filter(|_| own) {
            let message = "what is imported here is known only when it runs; it will not be found then";
            self.report.note(source, *at, message);
        }
        (imports, requires)
    }

    fn compile(
        &mut self,
        name: &str,
        path: &Path,
        source: &Source,
        program: kinds::Program,
        dropped: &Dropped,
    ) -> Option<Compiled> {
        let tsconfig = match self.resolver.tsconfig(path) {
            Ok(found) => found,
            Err(error) => {
                let error = error.replace(&format!("{}/", self.base.display()), "");
                self.whole("tsconfig.json", format!("cannot be used: {error}"));
                None
            }
        };
        let options = Options::of(tsconfig.as_ref(), &self.config.build);
        let input =
            Input { source, name, program, options: &options, defines: self.defines.as_ref(), dropped };
        compile::compile(self.report, &input)
    }

    /// Where an import leads; what is new there waits.
    fn import(
        &mut self,
        importer: &Path,
        source: &Source,
        specifier: &str,
        at: usize,
        (require, tried): (bool, bool),
    ) -> Option<To> {
        if let Some((name, text)) = helpers::helper(specifier) {
            self.helper(&name, text);
            return Some(To::Module(name));
        }
        if self.full {
            return None;
        }
        let (path, module_package) = match self.resolver.resolve(importer, specifier, require) {
            Ok(Resolved::File { path, module_package }) => (path, module_package),
            Ok(Resolved::Builtin(name)) => return Some(To::Builtin(name)),
            Ok(Resolved::Nothing) => {
                self.nothing();
                return Some(To::Module(NOTHING.to_owned()));
            }
            // That it is not there is the program's to handle.
            Err(_) if tried => return None,
            Err(fault) => {
                self.report.wrong(source, at, format!("{} {fault}", named(specifier)));
                return None;
            }
        };
        let name = self.name(&path)?;
        let fault = match kinds::kind(&path, &name, &self.config.build) {
            Some(Kind::Wasm) => "cannot be imported: Berth cannot run WebAssembly".to_owned(),
            None => {
                let end = path.extension().map(|end| format!(" that ends in .{}", end.to_string_lossy()));
                let end = end.unwrap_or_else(|| " without an extension".to_owned());
                format!("cannot be imported: no rule of the configuration says what a file is{end}")
            }
            Some(_) if self.known.len() >= MAX_MODULES && !self.known.contains(&name) => {
                self.full = true;
                format!("is one too many: expected at most {MAX_MODULES} modules")
            }
            Some(kind) => {
                self.queue(Waiting { name: name.clone(), path, kind, module_package });
                return Some(To::Module(name));
            }
        };
        self.report.wrong(source, at, format!("{} {fault}", named(specifier)));
        None
    }

    fn helper(&mut self, name: &str, text: &'static str) {
        if self.known.insert(name.to_owned()) {
            let source = Source::new(Path::new(name), Arc::from(""));
            self.add(name.to_owned(), PathBuf::new(), source, Content::Helper(text), false);
        }
    }

    fn nothing(&mut self) {
        let program = kinds::Program { language: Language::JavaScript, format: Some(Format::CommonJs) };
        if self.known.insert(NOTHING.to_owned()) {
            let source = Source::new(Path::new(NOTHING), Arc::from(""));
            self.program(NOTHING.to_owned(), PathBuf::from(NOTHING), source, program, false);
        }
    }
}

/// Compiles modules again, without names that turned out to be types.
pub(super) fn recompile(mut loader: Loader<'_>, graph: &mut Graph, dropped: &BTreeMap<String, Dropped>) {
    for (name, dropped) in dropped {
        let Some(node) = graph.nodes.get_mut(name) else { continue };
        let compiled = loader.compile(name, &node.path, &node.source, node.program, dropped);
        if let Some(compiled) = compiled {
            node.content = Content::Program(Box::new(compiled));
        }
    }
}

/// A path as it is from a directory; both are without links.
fn relative(base: &Path, path: &Path) -> PathBuf {
    let (base, path): (Vec<Component<'_>>, Vec<Component<'_>>) =
        (base.components().collect(), path.components().collect());
    let shared = base.iter().zip(&path).take_while(|(a, b)| a == b).count();
    let ups = base[shared..].iter().map(|_| Component::ParentDir);
    ups.chain(path[shared..].iter().copied()).collect()
}
