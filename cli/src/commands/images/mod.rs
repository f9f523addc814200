//! `berth images`: the images of the edge's registry.

mod show;
mod tidy;

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use berth_common::image::{Named, Pick, Reference, Repository};
use berth_common::manifest::ImageSource;

use crate::admin::Admin;
use crate::args::Images;
use crate::failure::bad_input;
use crate::pull::HERE;
use crate::stop::interruptible;
use crate::supply::{Local, Maker, part};
use crate::{ids, output, pull, push};

/// What an interrupt leaves behind.
const LEFT: &str = "what has arrived stays, and doing it again goes on from there";

pub(crate) async fn run(command: Images) -> Result<()> {
    match command {
        Images::List(args) => show::list(&args).await,
        Images::Info { image, show } => show::info(&image.image, &show).await,
        Images::Push { source, name, admin } => {
            let local = Local::look_at(&source.clone().into(), true).map_err(bad_input)?;
            local
                .with_context(|| format!("{source} is in a registry already: `berth images copy` copies it"))
                .map_err(bad_input)?;
            let name = name.map_or_else(|| name_of(&source), Ok)?;
            interruptible(push_one(&admin.edge()?, &source, &name), LEFT).await
        }
        Images::Pull { reference, admin } => {
            let text = reference.strip_prefix("docker://").unwrap_or(&reference);
            let reference: Reference =
                text.parse().map_err(|error| bad_input(anyhow!("{reference:?} {error}")))?;
            let moved = interruptible(pull::pull(&admin.edge()?, &reference, true), LEFT).await?;
            Ok(output::line(pull::describe(&moved))?)
        }
        Images::Copy { from, to, admin } => {
            let (from, to) = (side(&from)?, side(&to)?);
            let moved = interruptible(pull::copy(&admin.edge()?, &from, &to), LEFT).await?;
            Ok(output::line(pull::describe(&moved))?)
        }
        Images::Delete { image, force, dry_run, admin } => {
            let admin = admin.edge()?;
            let image = ids::image(&admin, &image.image).await?;
            tidy::delete(&admin, &image, force, dry_run).await
        }
        Images::Gc { dry_run, show } => tidy::gc(dry_run, &show).await,
    }
}

async fn push_one(admin: &Admin, source: &ImageSource, name: &Named) -> Result<()> {
    let Pick::Tag(tag) = &name.pick else {
        return Err(bad_input(anyhow!(
            "{name}: an image gets its digest by itself; expected a name and a tag"
        )));
    };
    let image = Maker::default().image(&source.clone().into(), &name.repository.to_string()).await?;
    let image = image.context("it is not on this machine")?;
    let pushed = push::push(admin, &image, &name.repository, Some(tag)).await?;
    crate::output::note!("{}", pushed.describe());
    Ok(output::line(format_args!("{name}@{}", image.digest()?))?)
}

/// The default name of an image: that of its file or directory.
fn name_of(source: &ImageSource) -> Result<Named> {
    let path = source.path().unwrap_or(Path::new(""));
    let absolute = path.canonicalize()?;
    let directory = absolute.parent().and_then(Path::file_name);
    let stem = absolute.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    // All Dockerfiles are called that.
    let stem = match stem.as_str() {
        "Dockerfile" | "Containerfile" => {
            directory.map(|name| name.to_string_lossy().into_owned()).unwrap_or(stem)
        }
        _ => stem,
    };
    let named = part(&stem).parse::<Repository>().and_then(|repository| repository.to_string().parse());
    named.map_err(|_| bad_input(anyhow!("{source} has no name that an image can have: give one after it")))
}

/// One side of a copy, as the edge understands it.
fn side(text: &str) -> Result<String> {
    let wrong = |error| bad_input(anyhow!("{text:?} {error}"));
    match text.strip_prefix(HERE) {
        Some(name) => name.parse().map(|name: Named| format!("{HERE}{name}")).map_err(wrong),
        None => {
            let text = text.strip_prefix("docker://").unwrap_or(text);
            text.parse().map(|reference: Reference| reference.to_string()).map_err(wrong)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_called_as_what_they_are_made_of() {
        let dir = tempfile::tempdir().unwrap();
        let web = dir.path().join("My Web");
        std::fs::create_dir(&web).unwrap();
        std::fs::write(web.join("Dockerfile"), "").unwrap();
        std::fs::write(web.join("api.tar"), "").unwrap();
        let name = |source: ImageSource| name_of(&source).unwrap().to_string();
        assert_eq!(name(ImageSource::Path(web.clone())), "my-web:latest");
        assert_eq!(name(ImageSource::Path(web.join("Dockerfile"))), "my-web:latest");
        assert_eq!(name(ImageSource::DockerArchive(web.join("api.tar"))), "api:latest");
    }

    #[test]
    fn both_sides_of_a_copy_are_named_in_full() {
        assert_eq!(side("berth:a").unwrap(), "berth:a:latest");
        assert_eq!(side("docker://alpine").unwrap(), "docker.io/library/alpine:latest");
        assert!(side("berth:A").is_err() && side("").is_err());
    }
}
