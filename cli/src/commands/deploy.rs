//! `berth deploy`: gives an app with its images to a running edge.

use anyhow::Result;

use crate::app::App;
use crate::args::Deploy;
use crate::output;
use crate::prefetch::{Prefetch, Terms};
use crate::stop::interruptible;

/// What an interrupt leaves behind.
const LEFT: &str = "what was pushed stays, and deploying again goes on from there. Once nodes fetch the images, the version \
                    may become current all the same: `berth versions` tells";

pub(crate) async fn run(args: &Deploy) -> Result<()> {
    let app = App::in_directory(&args.dir)?;
    let admin = args.admin.edge()?;
    // Without --admin-socket the edge was found by search: show which one is changed.
    output::note!("deploying {} to the edge at {} ...", app.manifest.name, admin);
    let prefetch = Prefetch { nodes: args.wait_for, timeout: args.wait_timeout };
    let terms = Terms { prefetch, ..(&args.terms).into() };
    let deployed = interruptible(app.deploy(&admin, terms), LEFT).await?;
    deployed.warn();
    Ok(output::line(deployed.describe("deployed"))?)
}
