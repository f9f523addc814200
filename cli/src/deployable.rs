//! What a directory declares: an app by its `berth.toml`, or a Workers project. What both can, for those who need not know
//! which one it is.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use berth_common::ids::{AppName, ClassName};
use berth_common::spec::AppSpec;
use berth_project::Mode;

use crate::admin::Admin;
use crate::app::App;
use crate::failure::BadInput;
use crate::prefetch::{self, Deployed, Terms};
use crate::supply::Wanted;
use crate::urls;
use crate::worker::{self, Given, Worker};

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
            return Self::project(at, environment, mode);
        }
        if environment.is_some() {
            let text = "--env is for directories with a wrangler configuration".to_owned();
            return Err(BadInput(text).into());
        }
        Ok(Self::App(Box::new(App::in_directory(at)?)))
    }

    /// Reads a Workers project, which is named by its directory or by its configuration, whatever else is there.
    pub(crate) fn project(at: &Path, environment: Option<&str>, mode: Mode) -> Result<Self> {
        Ok(Self::Worker(Box::new(Worker::read(at, environment, mode)?)))
    }

    /// Gives a program variables, before all others of the same names. Other apps have none.
    pub(crate) fn set_vars(&mut self, vars: &BTreeMap<String, String>) {
        if let Self::Worker(worker) = self {
            vars.iter().for_each(|(name, value)| worker.set_var(name, value));
        }
    }

    /// Gives a Workers project another name.
    pub(crate) fn set_name(&mut self, name: AppName) {
        if let Self::Worker(worker) = self {
            worker.project.config.name = name;
        }
    }

    /// Whether its containers go on when only its program is another.
    pub(crate) fn keeps_containers(&self) -> bool {
        matches!(self, Self::Worker(_))
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
        let spec = self.sent(admin, terms).await?;
        prefetch::deploy(admin, &spec, terms).await
    }

    /// Gives the edge the secrets of whoever works on it, as far as it does not have them.
    pub(crate) async fn put_secrets(&self, admin: &Admin, given: &mut Given) -> Result<()> {
        match self {
            Self::App(_) => Ok(()),
            Self::Worker(worker) => worker.put_secrets(admin, given).await,
        }
    }

    /// Gives the edge what it lacks, and returns the app as edges know it.
    pub(crate) async fn sent(&self, admin: &Admin, terms: Terms) -> Result<AppSpec> {
        let mut spec = match self {
            Self::App(app) => app.sent(admin, terms).await?,
            Self::Worker(worker) => worker.spec(admin, terms).await?,
        };
        if let Some(longest) = terms.longest_stop_grace {
            spec.classes.values_mut().for_each(|class| class.stop_grace = class.stop_grace.min(longest));
        }
        Ok(spec)
    }

    /// The classes with the images that they ask for.
    pub(crate) fn images(&self) -> Vec<(ClassName, Wanted)> {
        match self {
            Self::App(app) => {
                let classes = app.manifest.classes.iter();
                classes.map(|class| (class.name.clone(), app.source(class))).collect()
            }
            Self::Worker(worker) => {
                worker.images().map(|(class, image)| (class.clone(), image.clone())).collect()
            }
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
