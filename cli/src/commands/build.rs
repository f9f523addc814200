//! `berth build`: builds the images of an app, and pushes them if asked to.

use anyhow::{Context, Result};
use berth_common::manifest::ClassManifest;

use crate::admin::Admin;
use crate::app::App;
use crate::args::Build;
use crate::output;
use crate::push::push;
use crate::stop::interruptible;
use crate::supply::{Maker, repository_of};

const HEADINGS: [&str; 3] = ["CLASS", "SOURCE", "IMAGE"];

pub(crate) async fn run(args: &Build) -> Result<()> {
    let app = App::in_directory(&args.dir)?;
    let admin = args.push.then(|| args.admin.edge()).transpose()?;
    let rows = interruptible(build(args, &app, admin.as_ref()), "what was pushed stays").await?;
    Ok(output::table(&HEADINGS, rows)?)
}

async fn build(args: &Build, app: &App, admin: Option<&Admin>) -> Result<Vec<Vec<String>>> {
    let mut maker = Maker::with(&args.args);
    let mut rows = Vec::new();
    for class in &app.manifest.classes {
        let image = one(&mut maker, args, app, class, admin).await;
        let image = image.with_context(|| format!("the image of the class {}", class.name))?;
        rows.push(vec![class.name.to_string(), class.image.source.to_string(), image]);
    }
    Ok(rows)
}

/// Builds the image of a class, and returns which one it is.
async fn one(
    maker: &mut Maker,
    args: &Build,
    app: &App,
    class: &ClassManifest,
    admin: Option<&Admin>,
) -> Result<String> {
    let name = format!("{}-{}", app.manifest.name, class.name);
    let Some(image) = maker.image(&app.source(class), &name).await? else {
        return Ok("in a registry already".to_owned());
    };
    let digest = image.digest()?;
    let Some(admin) = admin else { return Ok(digest.to_string()) };
    let repository = repository_of(&app.manifest.name, &class.name)?;
    let pushed = push(admin, &image, &repository, args.tag.as_ref()).await?;
    output::note!("{repository}@{digest}: {}", pushed.describe());
    let tag = args.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
    Ok(format!("{repository}{tag}@{digest}"))
}
