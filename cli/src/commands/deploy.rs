//! `berth deploy`: packs an app's images and gives it to a running edge.

use anyhow::Result;

use crate::admin::Admin;
use crate::app::App;
use crate::args::Deploy;
use crate::output;

pub(crate) async fn run(args: &Deploy) -> Result<()> {
    let app = App::in_directory(&args.dir)?;
    let deployed = app.deploy(&Admin::find(&args.admin)?).await?;
    output::line(format_args!(
        "deployed {}: classes: {}, routes: {}",
        deployed.app, deployed.classes, deployed.routes
    ))?;
    Ok(())
}
