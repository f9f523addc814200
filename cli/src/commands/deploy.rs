//! `berth deploy`: gives an app with its images, or a Workers project, to a running edge.

use anyhow::Result;
use berth_api::apps::Deployed as Answer;
use berth_project::Mode;
use serde::Serialize;

use super::check::check;
use crate::admin::Admin;
use crate::args::Deploy;
use crate::deployable::Deployable;
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
    if args.dry_run {
        return check(&args.dir, args.env.as_deref(), args.show.json);
    }
    let app = Deployable::read(&args.dir, args.env.as_deref(), Mode::Production)?;
    app.remark();
    give(args, &app).await
}

/// Gives an app to an edge, and tells where it is reached.
pub(super) async fn give(args: &Deploy, app: &Deployable) -> Result<()> {
    let admin = args.show.admin.edge()?;
    // Without --admin-socket the edge was found by search: show which one is changed.
    output::note!("deploying {} to the edge at {} ...", app.name(), admin);
    let deployed = interruptible(app.deploy(&admin, terms(args)), LEFT).await?;
    deployed.warn();
    let base = base_url(&admin).await;
    if args.show.json {
        let urls = base.map(|base| app.urls(&base)).unwrap_or_default();
        return output::json(&Shown { answer: &deployed.0, urls });
    }
    output::line(app.describe(&deployed)?)?;
    for line in base.map(|base| app.places(&base)).unwrap_or_default() {
        output::line(line)?;
    }
    Ok(())
}

fn terms(args: &Deploy) -> Terms {
    let prefetch = Prefetch { nodes: args.wait_for, timeout: args.wait_timeout };
    let (force, allow_unplaceable) = (args.force, args.allow_unplaceable);
    Terms { prefetch, force, resend: force, allow_unplaceable, ..(&args.terms).into() }
}

/// Where the edge takes requests, as it is reached from here; behind a proxy that is not where its clients go. `None` from
/// an edge of an earlier version.
async fn base_url(admin: &Admin) -> Option<String> {
    let listen = admin.health().await.ok()?.listen?.parse().ok()?;
    Some(urls::base(listen, admin.host()))
}
