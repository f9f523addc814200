//! `wrangler containers`: containers and images of an edge.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use berth_common::image::{Named, Pick};
use berth_common::manifest::ImageSource;

use super::not_there;
use crate::admin::Admin;
use crate::args::{
    AdminArgs, Containers, Images, ListContainers, WranglerContainers as Wanted, WranglerImages,
};
use crate::commands::{containers, images};
use crate::failure::bad_input;
use crate::image::Image;
use crate::image::build::Builder;
use crate::stop::interruptible;
use crate::supply::{self, BuildOptions, Maker};
use crate::{output, push};

/// What an interrupt leaves behind.
const LEFT: &str = "what has arrived stays, and doing it again goes on from there";

pub(super) async fn run(command: Wanted) -> Result<()> {
    match command {
        Wanted::List { app, show } | Wanted::Instances { app, show } => {
            containers::run(Containers::List(ListContainers { app, state: None, show })).await
        }
        Wanted::Info(one) => containers::run(Containers::Info(one)).await,
        Wanted::Build { directory, tag, push, admin } => {
            interruptible(build(directory, &tag, push.then_some(&admin)), LEFT).await
        }
        Wanted::Push { tag, admin } => interruptible(push_tag(&tag, &admin), LEFT).await,
        Wanted::Images(WranglerImages::List(show)) => images::run(Images::List(show)).await,
        Wanted::Images(WranglerImages::Delete { image, admin }) => {
            images::run(Images::Delete { image, force: false, dry_run: false, admin }).await
        }
        Wanted::Other(words) => Err(not_there("containers ", &words)),
    }
}

async fn build(directory: PathBuf, tag: &Named, push: Option<&AdminArgs>) -> Result<()> {
    let admin = push.map(AdminArgs::edge).transpose()?;
    let source = ImageSource::Path(directory);
    let wanted = supply::Wanted { source, build: Some(BuildOptions::default()) };
    let image = Maker::default().image(&wanted, &tag.repository.to_string()).await?;
    let image = image.context("it is not on this machine")?;
    match admin {
        Some(admin) => give(&admin, &image, tag).await,
        None => Ok(output::line(format_args!("{tag}@{}", image.digest()?))?),
    }
}

async fn push_tag(tag: &Named, admin: &AdminArgs) -> Result<()> {
    let admin = admin.edge()?;
    let text = format!("{}{}", tag.repository, tag.pick);
    let image = Builder::find().await?.taken(&text).await?;
    give(&admin, &image, tag).await
}

async fn give(admin: &Admin, image: &Image, name: &Named) -> Result<()> {
    let Pick::Tag(tag) = &name.pick else {
        return Err(bad_input(anyhow!(
            "{name}: an image gets its digest by itself; expected a name and a tag"
        )));
    };
    let pushed = push::push(admin, image, &name.repository, Some(tag)).await?;
    output::note!("{}", pushed.describe());
    Ok(output::line(format_args!("{name}@{}", image.digest()?))?)
}
