//! Supplies an edge with the images that an app names: packed, built or read here and pushed, pulled by the edge from
//! another registry, or there already. Equal sources are made once; each tag is resolved once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use berth_common::ids::{AppName, ClassName};
use berth_common::image::{Named, Repository};
use berth_common::manifest::ImageSource;
use berth_common::spec::ImageRef;

use crate::admin::{self, Admin};
use crate::image::build::{Builder, Dockerfile};
use crate::image::files::Files;
use crate::image::{Image, Source, docker, elf, oci};
use crate::progress::Steps;
use crate::pull;
use crate::push::{self, Pushed};
use crate::stop::blocking;

/// Where builders keep what is built for apps.
const BUILT: &str = "berth-build";

/// An image as an app asks for it. Paths start at the current directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) source: ImageSource,
    /// How a Workers project has its Dockerfile built, which may have any name there.
    pub(crate) build: Option<BuildOptions>,
}

/// What a Workers project says of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BuildOptions {
    /// The directory that it is built in, where it is not the Dockerfile's.
    pub(crate) context: Option<PathBuf>,
    /// Arguments of the build.
    pub(crate) vars: BTreeMap<String, String>,
}

impl From<ImageSource> for Wanted {
    fn from(source: ImageSource) -> Self {
        Self { source, build: None }
    }
}

impl Wanted {
    /// The Dockerfile at a path, if there is one.
    fn dockerfile(&self, path: &Path) -> Result<Option<Dockerfile>> {
        let Some(build) = &self.build else { return Ok(Dockerfile::at(path)) };
        let any = || (path.is_file() && !elf::is_program(path)).then(|| Dockerfile::named(path));
        let Some(mut found) = Dockerfile::at(path).or_else(any) else { return Ok(None) };
        if let Some(context) = &build.context {
            ensure!(
                context.is_dir(),
                "there is no directory {}; expected that in which the image is built (image_build_context)",
                context.display()
            );
            found.context.clone_from(context);
        }
        found.vars = build.vars.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Ok(Some(found))
    }

    /// The files and directories that it is made of.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let Some(path) = self.source.path() else { return Vec::new() };
        // What cannot be looked at will be corrected in the configuration.
        let built = self.dockerfile(path).ok().flatten();
        built.into_iter().map(|found| found.context).chain([path.to_owned()]).collect()
    }
}

/// An image that is made of something on this machine.
#[derive(Debug, Clone)]
pub(crate) enum Local {
    /// A static binary or a root directory.
    Pack(PathBuf),
    Build(Dockerfile),
    Layout(PathBuf),
    Archive(PathBuf),
}

impl Local {
    /// Inspects a local source, as far as that is quick; `None` for one in a registry.
    pub(crate) fn look_at(wanted: &Wanted, has_entrypoint: bool) -> Result<Option<Self>> {
        let local = match &wanted.source {
            ImageSource::Registry(_) | ImageSource::Edge(_) => return Ok(None),
            ImageSource::Layout(path) => {
                oci::read(&Files::Directory(path.clone()))?;
                Self::Layout(path.clone())
            }
            ImageSource::DockerArchive(path) => {
                docker::look_at(path)?;
                Self::Archive(path.clone())
            }
            ImageSource::Path(path) => match wanted.dockerfile(path)? {
                Some(file) => Self::Build(file),
                None if !path.exists() => bail!(
                    "there is no {}; an image of a registry is written with its host, such as \
                     docker.io/library/alpine:3, or docker://alpine:3",
                    path.display()
                ),
                None => {
                    let root = matches!(Source::open(path)?, Source::Directory(_));
                    ensure!(
                        has_entrypoint || !root,
                        "{} is a root directory and does not say which program to run; expected also an entrypoint, \
                         such as entrypoint = [\"/bin/server\"]",
                        path.display()
                    );
                    Self::Pack(path.clone())
                }
            },
        };
        Ok(Some(local))
    }
}

/// Makes images, each once.
#[derive(Default)]
pub(crate) struct Maker {
    builder: Option<Builder>,
    args: Vec<OsString>,
    made: Vec<(Wanted, Arc<Image>)>,
}

impl Maker {
    /// One that gives builders these arguments too.
    pub(crate) fn with(args: &[OsString]) -> Self {
        Self { args: args.to_vec(), ..Self::default() }
    }

    /// The image of a source on this machine; `None` if it is elsewhere. The name is for people and the builder's
    /// cache.
    pub(crate) async fn image(&mut self, wanted: &Wanted, name: &str) -> Result<Option<Arc<Image>>> {
        if let Some((_, image)) = self.made.iter().find(|(known, _)| known == wanted) {
            return Ok(Some(image.clone()));
        }
        // Whether there is an entrypoint was looked at before, where it matters.
        let Some(local) = Local::look_at(wanted, true)? else { return Ok(None) };
        let source = &wanted.source;
        let image =
            self.make(local, name).await.with_context(|| format!("cannot make an image of {source}"))?;
        for note in &image.contents.notes {
            crate::output::note!("note: {source}: {note}");
        }
        let image = Arc::new(image);
        self.made.push((wanted.clone(), image.clone()));
        Ok(Some(image))
    }

    async fn make(&mut self, local: Local, name: &str) -> Result<Image> {
        if let Local::Build(dockerfile) = local {
            let builder = match self.builder.take() {
                Some(builder) => builder,
                None => Builder::find().await?,
            };
            let builder = self.builder.insert(builder);
            crate::output::note!("building {name} from {} ...", dockerfile.file.display());
            return builder.build(&dockerfile, &format!("{BUILT}/{}", part(name)), &self.args).await;
        }
        let _shown = Steps::new("packing", 1).working_on(name);
        blocking(move |stop| match local {
            Local::Archive(path) => docker::import(&path, &stop),
            Local::Layout(path) => Image::of_layout(&path),
            Local::Pack(path) | Local::Build(Dockerfile { file: path, .. }) => {
                Image::packed(&Source::open(&path)?, &stop)
            }
        })
        .await
    }
}

/// Makes sure that an edge has the images that an app names.
pub(crate) struct Supply<'a> {
    admin: &'a Admin,
    maker: Maker,
    /// What is elsewhere, as it was when it was looked up.
    found: Vec<(Wanted, ImageRef)>,
}

impl<'a> Supply<'a> {
    pub(crate) fn of(admin: &'a Admin) -> Self {
        Self { admin, maker: Maker::default(), found: Vec::new() }
    }

    /// The image of a class, by its digest.
    pub(crate) async fn image(
        &mut self,
        wanted: &Wanted,
        app: &AppName,
        class: &ClassName,
    ) -> Result<ImageRef> {
        if let Some((_, image)) = self.found.iter().find(|(known, _)| known == wanted) {
            return Ok(image.clone());
        }
        let image = match &wanted.source {
            ImageSource::Registry(reference) => pull::image(self.admin, reference).await?,
            ImageSource::Edge(image) => of_edge(self.admin, image).await?,
            _ => {
                let image = self.maker.image(wanted, &format!("{app}-{class}")).await?;
                let image = image.context("it is not on this machine")?;
                let repository = repository_of(app, class)?;
                let pushed = push::push(self.admin, &image, &repository, None).await?;
                return report(ImageRef::new(repository, image.digest()?), &pushed);
            }
        };
        self.found.push((wanted.clone(), image.clone()));
        Ok(image)
    }
}

fn report(image: ImageRef, pushed: &Pushed) -> Result<ImageRef> {
    crate::output::note!("{}@{}: {}", image.repository, image.digest, pushed.describe());
    Ok(image)
}

/// An image that the edge has.
async fn of_edge(admin: &Admin, image: &Named) -> Result<ImageRef> {
    let digest = admin::resolve(admin, image).await?;
    let digest = digest.with_context(|| {
        format!(
            "the edge has no image {image}; `berth images push SOURCE {image}` puts one there, and `berth images list` shows \
             those that it has"
        )
    })?;
    Ok(ImageRef { name: Some(format!("berth:{image}")), ..ImageRef::new(image.repository.clone(), digest) })
}

/// The repository of what is pushed for a class.
pub(crate) fn repository_of(app: &AppName, class: &ClassName) -> Result<Repository> {
    Ok(format!("{}/{}", part(app.as_str()), part(class.as_str())).parse()?)
}

/// A name as a component of a repository's name, which allows fewer characters.
pub(crate) fn part(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let mut part = String::new();
    let mut separator = String::new();
    for c in name.chars() {
        if !c.is_ascii_alphanumeric() {
            separator.push(c);
            continue;
        }
        if !part.is_empty() && !separator.is_empty() {
            let sound = matches!(&*separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-');
            part.push_str(if sound { &separator } else { "-" });
        }
        separator.clear();
        part.push(c);
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_named_after_app_and_class() {
        let name = |app: &str, class: &str| {
            repository_of(&app.parse().unwrap(), &class.parse().unwrap()).unwrap().to_string()
        };
        assert_eq!(name("Shop", "Cart"), "shop/cart");
        assert_eq!(name("a.._b-", "C__d"), "a-b/c__d");
    }
}
