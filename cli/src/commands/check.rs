//! `berth check`: reads a `berth.toml` and inspects its images; changes nothing.

use anyhow::Result;

use crate::app::App;
use crate::args::Check;
use crate::output;

pub(crate) fn run(args: &Check) -> Result<()> {
    let app = App::load(&args.file)?;
    let manifest = &app.manifest;
    output::line(format_args!(
        "{}: app {}, classes: {}, routes: {}",
        args.file.display(),
        manifest.name,
        manifest.classes.len(),
        manifest.routes.len()
    ))?;
    Ok(())
}
