//! `berth check`: reads a `berth.toml` and inspects its images; changes nothing.

use anyhow::Result;

use crate::app::{App, MANIFEST};
use crate::args::Check;
use crate::output;

pub(crate) fn run(args: &Check) -> Result<()> {
    let file = if args.file.is_dir() { args.file.join(MANIFEST) } else { args.file.clone() };
    let app = App::load(&file)?;
    let manifest = &app.manifest;
    output::line(format_args!(
        "{}: app {}, classes: {}, routes: {}",
        file.display(),
        manifest.name,
        manifest.classes.len(),
        manifest.routes.len()
    ))?;
    Ok(())
}
