//! `berth deploy`: gives an app with its images to a running edge.

use anyhow::Result;
use berth_api::apps::Deployed as Answer;
use serde::Serialize;

use crate::admin::Admin;
use crate::app::App;
use crate::args::Deploy;
use crate::output;
use crate::prefetch::{Prefetch, Terms};
use crate::stop::interruptible;
use crate::urls;

/// What an interrupt leaves behind.
const LEFT: &str = "what was pushed stays, and deploying again goes on from there. Once nodes fetch the images, the version \
                    may become current all the same: `berth versions` tells";

/// What `--json` prints: the edge's answer, and where the app is reached.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    answer: &'a Answer,
    urls: Vec<String>,
}

pub(crate) async fn run(args: &Deploy) -> Result<()> {
    let app = App::in_directory(&args.dir)?;
    let admin = args.show.admin.edge()?;
    // Without --admin-socket the edge was found by search: show which one is changed.
    output::note!("deploying {} to the edge at {} ...", app.manifest.name, admin);
    let prefetch = Prefetch { nodes: args.wait_for, timeout: args.wait_timeout };
    let (force, allow_unplaceable) = (args.force, args.allow_unplaceable);
    let terms = Terms { prefetch, force, allow_unplaceable, ..(&args.terms).into() };
    let deployed = interruptible(app.deploy(&admin, terms), LEFT).await?;
    deployed.warn();
    let base = base_url(&admin).await;
    if args.show.json {
        let urls = base.map(|base| urls::of(&app.manifest, &base)).unwrap_or_default();
        return output::json(&Shown { answer: &deployed.0, urls });
    }
    output::line(deployed.describe("deployed"))?;
    for line in base.map(|base| urls::describe(&app.manifest, &base)).unwrap_or_default() {
        output::line(line)?;
    }
    Ok(())
}

/// Where the edge takes requests, as it is reached from here; behind a proxy that is not where its clients go. `None` from
/// an edge of an earlier version.
async fn base_url(admin: &Admin) -> Option<String> {
    let listen = admin.health().await.ok()?.listen?.parse().ok()?;
    Some(urls::base(listen, admin.host()))
}
