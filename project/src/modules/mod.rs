//! The modules of a project's program: from the entry to JavaScript with all that it imports. Knows of the configuration
//! only how modules are read.

mod absent;
mod builtins;
mod calls;
mod compile;
mod depth;
mod emit;
mod files;
mod graph;
mod helpers;
mod kinds;
mod link;
mod loader;
mod resolve;
mod scan;
mod surface;
mod types;
mod typescript;
mod wrap;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::{Config, Main};
use crate::report::{Problem, Report, Source};
use loader::Loader;

#[cfg(test)]
pub(crate) use depth::{MAX_LEVELS, too_deep};
pub use surface::{Base, EntryClass, Handlers};

/// The stack that the compiler has, in bytes. Only what is used of it takes memory.
pub(crate) const STACK_BYTES: usize = 128 << 20;

/// A program that the runtime can load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The name of the module to begin with.
    pub entry: String,
    /// All modules by name.
    pub modules: BTreeMap<String, Module>,
    /// What the entry handles, as far as syntax shows.
    pub handlers: Handlers,
    /// The classes that the entry exports, as far as syntax shows.
    pub classes: Vec<EntryClass>,
    /// The files that it is made of, relative to the project's directory.
    pub files: Vec<PathBuf>,
}

/// One module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// JavaScript with `import` and `export`.
    pub source: String,
    /// The way back to the file, as a source map in JSON, where the module was made of one.
    pub map: Option<String>,
    /// Where its imports lead, by specifier.
    pub imports: BTreeMap<String, Target>,
}

/// Where an import leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A module of the program, by its name.
    Module(String),
    /// A module that the runtime has, such as `cloudflare:workers`.
    Builtin(String),
}

/// What programs are made for: some look at it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// To be used.
    #[default]
    Production,
    /// To be worked on.
    Development,
}

/// Loads the program on a stack of its own, since the compiler calls itself for each level of what it reads.
pub(crate) fn load(
    report: &mut Report,
    directory: &Path,
    (config, source): (&Config, &Source),
    main: &Main,
    mode: Mode,
) -> Option<Program> {
    let current = loader::Current::default();
    let work = || load_here(report, directory, (config, source), main, mode, &current);
    let ended = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("compiler".to_owned()).stack_size(STACK_BYTES);
        thread.spawn_scoped(scope, work).map(|thread| thread.join().ok())
    });
    match ended {
        Ok(Some(program)) => program,
        Ok(None) => {
            let file = current.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
            let message = "the compiler failed on this module; that is a fault of Berth's, which it would be good to report";
            report.add(Problem { file, position: None, message: message.to_owned() });
            None
        }
        Err(error) => {
            let message = format!("no thread could be started to compile it: {error}");
            report.add(Problem { file: main.path.clone(), position: None, message });
            None
        }
    }
}

fn load_here(
    report: &mut Report,
    directory: &Path,
    (config, source): (&Config, &Source),
    main: &Main,
    mode: Mode,
    current: &loader::Current,
) -> Option<Program> {
    let (base, entry) = places(report, directory, source, config, main)?;
    let pairs = replacements(config, mode);
    let defines = match compile::defines(&pairs) {
        Ok(defines) => Some(defines),
        Err(fault) => {
            let message = format!("define: {fault}");
            report.add(Problem { file: config.file.clone(), position: None, message });
            None
        }
    };
    let mut graph = Loader::new(report, config, &base, defines.clone(), current).load(&entry)?;
    let linked = link::link(report, &mut graph);
    let loader = Loader::new(report, config, &base, defines, current);
    loader::recompile(loader, &mut graph, &linked.dropped);
    let surface = surface::read(report, &graph, (config, source));
    let modules = emit::emit(report, &graph, &linked);
    let node = graph.nodes.get(&graph.entry)?;
    let commonjs = node.is_commonjs();
    let entry = if commonjs { emit::facade_name(&graph.entry, node.as_node) } else { graph.entry.clone() };
    let files = graph.nodes.keys().filter(|name| !name.starts_with("berth:")).map(PathBuf::from).collect();
    Some(Program { entry, modules, handlers: surface.handlers, classes: surface.classes, files })
}

/// The project's directory and the entry, both without links.
fn places(
    report: &mut Report,
    directory: &Path,
    source: &Source,
    config: &Config,
    main: &Main,
) -> Option<(PathBuf, PathBuf)> {
    let found =
        directory.canonicalize().and_then(|base| Ok((directory.join(&main.path).canonicalize()?, base)));
    match found {
        Ok((entry, base)) if entry.is_file() => Some((base, entry)),
        _ => {
            let first = config
                .build_command
                .as_ref()
                .map(|command| format!("; run `{command}` first, which may make it"));
            let message =
                format!("main: there is no file {}{}", main.path.display(), first.unwrap_or_default());
            let (file, position) = (source.file.clone(), Some(main.position));
            report.add(Problem { file, position, message });
            None
        }
    }
}

/// What is put in the place of expressions: what packages for other places look at, too.
fn replacements(config: &Config, mode: Mode) -> Vec<(String, String)> {
    let mode = if mode == Mode::Production { "\"production\"" } else { "\"development\"" };
    let mut pairs = config.build.define.clone();
    if !pairs.iter().any(|(name, _)| name == "process.env.NODE_ENV") {
        pairs.push(("process.env.NODE_ENV".to_owned(), mode.to_owned()));
    }
    pairs
}
