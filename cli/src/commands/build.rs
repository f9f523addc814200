//! `berth build`: builds the images of an app or a Workers project, and pushes them if asked to.

use anyhow::{Context, Result};
use berth_common::ids::{AppName, ClassName};
use berth_project::Mode;

use crate::admin::Admin;
use crate::args::Build;
use crate::deployable::Deployable;
use crate::output;
use crate::push::push;
use crate::stop::interruptible;
use crate::supply::{Maker, Wanted, repository_of};

const HEADINGS: [&str; 3] = ["CLASS", "SOURCE", "IMAGE"];

pub(crate) async fn run(args: &Build) -> Result<()> {
    let app = Deployable::read(&args.dir, None, Mode::Production)?;
    let admin = args.push.then(|| args.admin.edge()).transpose()?;
    let rows = interruptible(build(args, &app, admin.as_ref()), "what was pushed stays").await?;
    Ok(output::table(&HEADINGS, rows)?)
}

async fn build(args: &Build, app: &Deployable, admin: Option<&Admin>) -> Result<Vec<Vec<String>>> {
    let mut maker = Maker::with(&args.args);
    let mut rows = Vec::new();
    for (class, wanted) in app.images() {
        let image = one(&mut maker, args, (app.name(), &class), &wanted, admin).await;
        let image = image.with_context(|| format!("the image of the class {class}"))?;
        rows.push(vec![class.to_string(), wanted.source.to_string(), image]);
    }
    Ok(rows)
}

/// Builds the image of a class, and returns which one it is.
async fn one(
    maker: &mut Maker,
    args: &Build,
    (app, class): (&AppName, &ClassName),
    wanted: &Wanted,
    admin: Option<&Admin>,
) -> Result<String> {
    let Some(image) = maker.image(wanted, &format!("{app}-{class}")).await? else {
        return Ok("in a registry already".to_owned());
    };
    let digest = image.digest()?;
    let Some(admin) = admin else { return Ok(digest.to_string()) };
    let repository = repository_of(app, class)?;
    let pushed = push(admin, &image, &repository, args.tag.as_ref()).await?;
    output::note!("{repository}@{digest}: {}", pushed.describe());
    let tag = args.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
    Ok(format!("{repository}{tag}@{digest}"))
}
