//! Reads a Workers project in a directory: its wrangler configuration, and its modules as JavaScript that the runtime can
//! load. Gives a checked [`Project`], or all that is wrong with it at once, each with file, line and column.
//!
//! Reads files of the project and of the packages that it imports, and does nothing else: it writes nothing, runs nothing,
//! and knows neither edges nor networks. Bounded in whatever it is given.

use std::path::Path;

mod config;
mod report;
mod value;

pub use config::{
    Assets, ClassStorage, Compatibility, Config, Container, ExportedClass, HtmlHandling, Limits, Lineage,
    Main, Migration, NodeLoss, NotFoundHandling, ObjectBinding, Route, RunWorkerFirst, StoreSecret, Var,
};
pub use report::{Problem, Refused, Remark, Weight};

use report::Report;

/// Reads the configuration alone, for the default environment or the one that is named.
pub fn configuration(directory: &Path, environment: Option<&str>) -> Result<(Config, Vec<Remark>), Refused> {
    let mut report = Report::default();
    let files = config::find(&mut report, directory);
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
