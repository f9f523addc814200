//! Reads a Workers project in a directory: its wrangler configuration, and its modules as JavaScript that the runtime can
//! load. Gives a checked [`Project`], or all that is wrong with it at once, each with file, line and column.
//!
//! Reads files of the project and of the packages that it imports, and does nothing else: it writes nothing, runs nothing,
//! and knows neither edges nor networks. Bounded in whatever it is given.

mod config;
mod modules;
mod report;
#[cfg(test)]
mod tests;
mod value;

use std::path::Path;

pub use config::{
    Assets, ClassStorage, Compatibility, Config, Container, ExportedClass, HtmlHandling, Limits, Lineage,
    Main, Migration, NotFoundHandling, ObjectBinding, Route, RunWorkerFirst, StoreSecret, Var,
};
pub use modules::{Base, EntryClass, Handlers, Mode, Module, Program, Target};
pub use report::{Problem, Refused, Remark, Weight};

use report::Report;

/// A checked project.
#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    /// What it is made of, by its configuration.
    pub config: Config,
    /// Its program. An app of assets alone has none.
    pub program: Option<Program>,
    /// What is worth saying of it.
    pub remarks: Vec<Remark>,
}

/// Whether a directory has a configuration of a Workers project.
pub fn is_project(directory: &Path) -> bool {
    config::is_there(directory)
}

/// The directory of a project that is named by it, or by a configuration in it.
pub fn directory_of(at: &Path) -> &Path {
    config::split(at).0
}

/// Reads a project for the default environment or the one that is named: that in a directory, or that of a configuration file,
/// whatever that is called. Its paths begin at the file's directory.
pub fn read(at: &Path, environment: Option<&str>, mode: Mode) -> Result<Project, Refused> {
    let mut report = Report::default();
    let directory = directory_of(at);
    let files = config::find(&mut report, at);
    let read = files.and_then(|files| {
        let config = config::read(&mut report, &files, environment)?;
        let source = (&config, files.source());
        let program =
            config.main.as_ref().map(|main| modules::load(&mut report, directory, source, main, mode));
        // None within is a program that cannot be used.
        Some((config, program.map_or(Some(None), |program| program.map(Some))?))
    });
    let ((config, program), remarks) = finish(report, read)?;
    Ok(Project { config, program, remarks })
}

/// Reads the configuration alone.
pub fn configuration(at: &Path, environment: Option<&str>) -> Result<(Config, Vec<Remark>), Refused> {
    let mut report = Report::default();
    let files = config::find(&mut report, at);
    let config = files.and_then(|files| config::read(&mut report, &files, environment));
    finish(report, config)
}

/// What was read, if nothing is wrong with it.
fn finish<T>(mut report: Report, read: Option<T>) -> Result<(T, Vec<Remark>), Refused> {
    if read.is_none() && report.is_sound() {
        // Whatever gives nothing has said why. Should one have forgotten, it is refused all the same.
        report.add(Problem { file: ".".into(), position: None, message: "cannot be read".to_owned() });
    }
    let remarks = report.finish()?;
    let read = read.ok_or_else(|| Refused { problems: Vec::new(), more: 0, remarks: remarks.clone() })?;
    Ok((read, remarks))
}
