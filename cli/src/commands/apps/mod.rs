//! `berth versions`, `berth rollback` and `berth apps`: current and earlier deployments.

mod delete;
mod info;

use std::time::SystemTime;

use anyhow::{Context, Result};
use berth_api::apps::{AppList, AppView, Rollback as RollbackOrder, VersionList, VersionView};
use berth_common::ids::{AppName, ClassName, Version};
use serde_json::Value;

use self::delete::Order;
use crate::admin::Admin;
use crate::args::{Apps, Rollback, Show, TermArgs, Versions};
use crate::output;
use crate::prefetch::{Deployed, Terms};

const VERSION_HEADINGS: [&str; 5] = ["VERSION", "CURRENT", "DEPLOYED", "CLASSES", "ROUTES"];
const APP_HEADINGS: [&str; 4] = ["APP", "VERSION", "DEPLOYED", "CLASSES"];

impl From<&TermArgs> for Terms {
    fn from(args: &TermArgs) -> Self {
        Self { expect: args.expect, now: args.now, ..Self::default() }
    }
}

pub(crate) async fn versions(args: &Versions) -> Result<()> {
    let admin = args.show.admin.edge()?;
    let answer: Value = admin.get(&path_of_versions(args.app.name()?)).await?;
    if args.show.json {
        return output::json(&answer);
    }
    let now = SystemTime::now();
    let list: VersionList = serde_json::from_value(answer)?;
    let rows = list.versions.iter().map(|view| version_row(view, now)).collect();
    Ok(output::table(&VERSION_HEADINGS, rows)?)
}

fn path_of_versions(app: &AppName) -> String {
    format!("/v1/apps/{app}/versions")
}

fn version_row(view: &VersionView, now: SystemTime) -> Vec<String> {
    vec![
        view.version.to_string(),
        if view.current { "yes" } else { "-" }.to_owned(),
        deployed(view.created_ms, now),
        view.classes.to_string(),
        view.routes.to_string(),
    ]
}

/// When something was deployed; the first versions of Berth did not record it.
fn deployed(created_ms: u64, now: SystemTime) -> String {
    if created_ms == 0 { "-".to_owned() } else { output::ago(created_ms, now) }
}

pub(crate) async fn roll_back(args: &Rollback) -> Result<()> {
    let admin = args.admin.edge()?;
    if args.dry_run {
        return show_plan(&admin, args).await;
    }
    let order = RollbackOrder { version: args.to, now: args.terms.now, ..RollbackOrder::default() };
    let done = Deployed(admin.roll_back(args.app.name()?, &order, args.terms.expect).await?);
    done.warn();
    Ok(output::line(done.describe("went back to"))?)
}

async fn show_plan(admin: &Admin, args: &Rollback) -> Result<()> {
    let app = args.app.name()?;
    let list: VersionList = admin.get(&path_of_versions(app)).await?;
    let current = list.versions.iter().find(|view| view.current).map_or(Version(0), |view| view.version);
    // The newest is first.
    let to = match args.to {
        Some(to) => list.versions.iter().find(|view| view.version == to),
        None => list.versions.iter().find(|view| view.version < current),
    };
    let to = to.context("there is no such version to go back to")?.version;
    Ok(output::line(format_args!("{app} would go from version {current} to version {to}"))?)
}

pub(crate) async fn run(command: Apps) -> Result<()> {
    match command {
        Apps::List(args) => list(&args).await,
        Apps::Info(args) => info::show(&args).await,
        Apps::Delete { app, purge, yes, dry_run, admin } => {
            let app = app.name()?.clone();
            delete::run(&Order { app, purge, yes, dry_run }, &admin.edge()?).await
        }
    }
}

async fn list(args: &Show) -> Result<()> {
    let answer: Value = args.admin.edge()?.get("/v1/apps").await?;
    if args.json {
        return output::json(&answer);
    }
    let now = SystemTime::now();
    let list: AppList = serde_json::from_value(answer)?;
    let row = |app: &AppView| {
        let classes: Vec<&str> = app.spec.classes.keys().map(ClassName::as_str).collect();
        vec![app.name.to_string(), app.version.to_string(), deployed(app.created_ms, now), classes.join(", ")]
    };
    Ok(output::table(&APP_HEADINGS, list.apps.iter().map(row).collect())?)
}
