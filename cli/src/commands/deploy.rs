//! `berth deploy`: packs an app's images and gives it to a running edge.

use anyhow::Result;

use crate::admin::Admin;
use crate::app::App;
use crate::args::Deploy;
use crate::output;

pub(crate) async fn run(args: &Deploy) -> Result<()> {
    let app = App::in_directory(&args.dir)?;
    let admin = Admin::find(&args.admin)?;
    // Without --admin-socket the edge was found, not named: say which one changes.
    eprintln!("packing and deploying {} to the edge at {} ...", app.manifest.name, admin.place());
    let deployed = app.deploy(&admin, (&args.terms).into()).await?;
    deployed.warn();
    Ok(output::line(deployed.describe("deployed"))?)
}
