//! What a directory declares: an app by its `berth.toml`, or a Workers project. What both can, for those who need not know
//! which one it is.

use std::path::Path;

use anyhow::Result;
use berth_common::ids::AppName;
use berth_project::Mode;

use crate::admin::Admin;
use crate::app::App;
use crate::failure::BadInput;
use crate::prefetch::{Deployed, Terms};
use crate::urls;
use crate::worker::{self, Worker};

/// An app or a Workers project, checked.
#[derive(Debug)]
pub(crate) enum Deployable {
    App(Box<App>),
    Worker(Box<Worker>),
}

impl Deployable {
    /// Reads what is there. All errors are reported together. A `berth.toml` has no environments.
    pub(crate) fn read(at: &Path, environment: Option<&str>, mode: Mode) -> Result<Self> {
        if at.is_dir() && worker::is_there(at) {
            return Ok(Self::Worker(Box::new(Worker::read(at, environment, mode)?)));
        }
        if environment.is_some() {
            let text = "--env is for directories with a wrangler configuration".to_owned();
            return Err(BadInput(text).into());
        }
        Ok(Self::App(Box::new(App::in_directory(at)?)))
    }

    /// Its name.
    pub(crate) fn name(&self) -> &AppName {
        match self {
            Self::App(app) => &app.manifest.name,
            Self::Worker(worker) => &worker.project.config.name,
        }
    }

    /// Prints what is worth saying of it.
    pub(crate) fn remark(&self) {
        if let Self::Worker(worker) = self {
            worker.remark();
        }
    }

    /// Gives the edge what it lacks, and deploys it.
    pub(crate) async fn deploy(&self, admin: &Admin, terms: Terms) -> Result<Deployed> {
        match self {
            Self::App(app) => app.deploy(admin, terms).await,
            Self::Worker(worker) => worker.deploy(admin, terms).await,
        }
    }

    /// What was done, in one line.
    pub(crate) fn describe(&self, deployed: &Deployed) -> Result<String> {
        Ok(match self {
            Self::App(_) => deployed.describe("deployed"),
            Self::Worker(worker) => deployed.describe_worker(&worker.describe()?),
        })
    }

    /// Where it is reached, for people.
    pub(crate) fn places(&self, base: &str) -> Vec<String> {
        match self {
            Self::App(app) => urls::describe(&app.manifest, base),
            Self::Worker(worker) => urls::describe_worker(&worker.project.config.routes, base),
        }
    }

    /// The URLs alone.
    pub(crate) fn urls(&self, base: &str) -> Vec<String> {
        match self {
            Self::App(app) => urls::of(&app.manifest, base),
            Self::Worker(worker) => urls::of_worker(&worker.project.config.routes, base),
        }
    }
}
