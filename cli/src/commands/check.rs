//! `berth check`: reads a `berth.toml` and inspects its images, or reads and compiles a Workers project; changes nothing.

use std::path::Path;

use anyhow::Result;
use berth_project::{Mode, Remark};
use serde::Serialize;

use crate::app::{MANIFEST, in_directory};
use crate::args::Check;
use crate::deployable::Deployable;
use crate::output;
use crate::worker::Worker;

/// What `--json` prints of a `berth.toml`.
#[derive(Serialize)]
struct ShownApp<'a> {
    file: &'a Path,
    name: &'a str,
    classes: usize,
    routes: usize,
}

/// What `--json` prints of a Workers project.
#[derive(Serialize)]
struct ShownWorker<'a> {
    file: &'a Path,
    name: &'a str,
    environment: Option<&'a str>,
    modules: usize,
    static_files: usize,
    remarks: Vec<String>,
}

pub(crate) fn run(args: &Check) -> Result<()> {
    check(&args.file, args.env.as_deref(), args.json)
}

/// Checks an app, or refuses it with all that is wrong with it.
pub(crate) fn check(at: &Path, environment: Option<&str>, json: bool) -> Result<()> {
    let app = match Deployable::read(at, environment, Mode::Production)? {
        Deployable::Worker(worker) => return check_worker(&worker, json),
        Deployable::App(app) => app,
    };
    let file = if at.is_dir() { in_directory(at, MANIFEST) } else { at.to_owned() };
    let (name, classes, routes) = (&app.manifest.name, app.manifest.classes.len(), app.manifest.routes.len());
    if json {
        return output::json(&ShownApp { file: &file, name: name.as_str(), classes, routes });
    }
    output::line(format_args!("{}: app {name}, classes: {classes}, routes: {routes}", file.display()))?;
    Ok(())
}

fn check_worker(worker: &Worker, json: bool) -> Result<()> {
    let config = &worker.project.config;
    if json {
        return output::json(&ShownWorker {
            file: &worker.file(),
            name: config.name.as_str(),
            environment: config.environment.as_deref(),
            modules: worker.project.program.as_ref().map_or(0, |program| program.modules.len()),
            static_files: worker.assets()?,
            remarks: worker.project.remarks.iter().map(Remark::to_string).collect(),
        });
    }
    worker.remark();
    output::line(format_args!("{}: app {}, {}", worker.file().display(), config.name, worker.describe()?))?;
    Ok(())
}
