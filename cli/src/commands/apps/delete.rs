//! `berth apps delete`: asks, ends an app, and with `--purge` removes what it leaves.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use berth_api::apps::{Purge, Purged, VersionList};
use berth_common::ids::AppName;

use super::super::{containers, secret};
use super::path_of_versions;
use crate::admin::Admin;
use crate::failure::bad_input;
use crate::{ids, output, prompt};

/// How long `--purge` waits for containers to end; longer than most take, and shorter than the longest may.
const PURGE_TIMEOUT: Duration = Duration::from_secs(60);
/// How often it looks, meanwhile.
const PURGE_INTERVAL: Duration = Duration::from_millis(300);

/// What is asked for.
pub(super) struct Order {
    pub(super) app: AppName,
    pub(super) purge: bool,
    pub(super) yes: bool,
    pub(super) dry_run: bool,
}

pub(super) async fn run(order: &Order, admin: &Admin) -> Result<()> {
    let app = &order.app;
    let deployed = is_deployed(admin, app).await?;
    if !deployed && !order.purge {
        ids::expect_app(admin, app)
            .await
            .context("--purge removes what an app that was deleted before has left")?;
    }
    let plan = plan(admin, order, deployed).await?;
    if order.dry_run {
        return Ok(output::line(plan)?);
    }
    if !order.yes {
        confirm(&plan, app).await?;
    }
    if deployed {
        admin.delete(&format!("/v1/apps/{app}")).await?;
        if !order.purge {
            secret::tell_what_stays(admin, app).await;
        }
        output::line(format_args!("deleted {app}"))?;
    }
    if order.purge { purge(admin, app).await } else { Ok(()) }
}

async fn is_deployed(admin: &Admin, app: &AppName) -> Result<bool> {
    let list: berth_api::apps::AppList = admin.get("/v1/apps").await?;
    Ok(list.apps.iter().any(|known| known.name == *app))
}

/// What would be done, in a line or two.
async fn plan(admin: &Admin, order: &Order, deployed: bool) -> Result<String> {
    let app = &order.app;
    let mut lines = Vec::new();
    if deployed {
        let list: VersionList = admin.get(&path_of_versions(app)).await?;
        let running = containers::all(admin, &format!("&app={app}")).await?;
        let running = running.iter().filter(|view| !view["instance"].is_null()).count();
        let versions = list.versions.len();
        lines.push(format!("{app} would end: versions lost: {versions}, containers stopped: {running}"));
    }
    if order.purge {
        let Purged { secrets, objects, values, schedules, .. } =
            admin.post(&path_of_purge(app), &Purge { dry_run: true }).await?;
        lines.push(format!(
            "of {app} would be removed: secrets: {secrets}, objects: {objects}, values: {values}, schedules: {schedules}"
        ));
    }
    Ok(lines.join("\n"))
}

fn path_of_purge(app: &AppName) -> String {
    format!("/v1/apps/{app}/purge")
}

/// Asks for the name of the app, which nobody types by accident.
async fn confirm(plan: &str, app: &AppName) -> Result<()> {
    output::remark(plan);
    let answer = prompt::line("type the app's name to go on: ").await;
    let answer = answer.ok_or_else(|| {
        bad_input(anyhow!(
            "nothing was changed: there is no terminal to ask at; --yes does it without asking"
        ))
    })??;
    if answer.trim() == app.as_str() { Ok(()) } else { Err(anyhow!("nothing was changed")) }
}

/// Removes what is left, and waits a while for what still ends.
async fn purge(admin: &Admin, app: &AppName) -> Result<()> {
    let deadline = tokio::time::Instant::now() + PURGE_TIMEOUT;
    let mut all = Purged::default();
    loop {
        let Purged { secrets, objects, values, schedules, ending } = admin
            .post(&path_of_purge(app), &Purge { dry_run: false })
            .await
            .context("the app was deleted, and not purged")?;
        all = Purged {
            secrets: all.secrets + secrets,
            objects: all.objects + objects,
            values: all.values + values,
            schedules: all.schedules + schedules,
            ending,
        };
        if ending == 0 || tokio::time::Instant::now() >= deadline {
            break;
        }
        tokio::time::sleep(PURGE_INTERVAL).await;
    }
    let Purged { secrets, objects, values, schedules, ending } = all;
    output::line(format_args!(
        "removed of {app}: secrets: {secrets}, objects: {objects}, values: {values}, schedules: {schedules}"
    ))?;
    if ending == 0 {
        return Ok(());
    }
    Err(anyhow!(
        "{ending} objects of {app} stay for now, as their containers have not ended: do it again later"
    ))
}
