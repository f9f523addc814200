//! An app on disk: its `berth.toml`, the images that it names, and what an edge is given of them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use berth_common::manifest::{ClassManifest, DeclaredImage, ImageSource, Manifest, Problems};
use berth_common::spec::{AppSpec, ImageRef};

use crate::admin::{Admin, Deployed, Terms};
use crate::assets;
use crate::failure::{BadInput, bad_input};
use crate::image::layout::{self, Staging};
use crate::image::{self, Settings, Source, import};
use crate::progress::Steps;

/// The file that declares an app.
pub(crate) const MANIFEST: &str = "berth.toml";
/// Digits of a digest in the name of an image's directory: enough that two images of a class never meet.
const DIGEST_DIGITS: usize = 16;

/// A checked app.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) manifest: Manifest,
    /// Where the manifest's relative paths start.
    base: PathBuf,
}

impl App {
    /// Reads the app in a directory.
    pub(crate) fn in_directory(directory: &Path) -> Result<Self> {
        Self::load(&directory.join(MANIFEST))
    }

    /// Reads a file and looks at its images. Whatever is wrong is told at once.
    pub(crate) fn load(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file)
            .with_context(|| format!("cannot read {}; expected a file that declares an app", file.display()))
            .map_err(bad_input)?;
        let base = file.parent().unwrap_or(Path::new("")).to_owned();
        let manifest = check(file, &text, &base).map_err(|problems| BadInput(problems.to_string()))?;
        if let Some(declared) = &manifest.assets {
            assets::look_at(&base.join(&declared.directory))
                .with_context(|| format!("{}: the assets cannot be used", file.display()))
                .map_err(bad_input)?;
        }
        Ok(Self { manifest, base })
    }

    /// Packs the app's images to where nodes read them from, and gives it to the edge.
    pub(crate) async fn deploy(&self, admin: &Admin, terms: Terms) -> Result<Deployed> {
        let directory = admin.asset_directory().await?;
        let jobs = self.manifest.classes.iter().map(|class| self.packing(class, &directory));
        let jobs: Vec<Packing> = jobs.collect();
        // Packing reads and compresses files: it must not hold up what else is watched meanwhile.
        let packed = tokio::task::spawn_blocking(move || pack_all(&jobs));
        let packed = packed.await.context("packing was broken off")??;
        let mut spec = self.spec(packed)?;
        if let Some(assets) = &mut spec.assets {
            let (source, app) = (self.base.join(&assets.directory), spec.name.clone());
            let pack = move || assets::pack(&source, &app, &directory);
            assets.directory =
                tokio::task::spawn_blocking(pack).await.context("copying was broken off")??;
        }
        admin.deploy(&spec, terms).await
    }

    /// The files that it is made of, as far as they are files by themselves.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let images = self.manifest.classes.iter().map(|class| resolve(&class.image.source, &self.base));
        images
            .filter_map(|image| image.path().map(Path::to_owned))
            .chain([self.base.join(MANIFEST)])
            .collect()
    }

    fn packing(&self, class: &ClassManifest, directory: &Path) -> Packing {
        Packing {
            image: resolve(&class.image.source, &self.base),
            name: format!("{}-{}", self.manifest.name, class.name),
            directory: directory.to_owned(),
        }
    }

    /// The app as edges know it; the images are those of its classes, in order.
    fn spec(&self, images: Vec<ImageRef>) -> Result<AppSpec> {
        let names = self.manifest.classes.iter().map(|class| class.name.clone());
        let mut images: BTreeMap<_, _> = names.zip(images).collect();
        let missing = |class: &ClassManifest| anyhow!("the class {} has no packed image", class.name);
        self.manifest.to_spec(|class| images.remove(&class.name).ok_or_else(|| missing(class)))
    }
}

/// Packs one image after the other, and shows how far it is.
fn pack_all(jobs: &[Packing]) -> Result<Vec<ImageRef>> {
    let steps = Steps::new("packing", jobs.len());
    let pack = |job: &Packing| steps.run(job.name.clone(), || job.run());
    jobs.iter().map(pack).collect()
}

/// Reads the manifest and looks at what it names.
fn check(file: &Path, text: &str, base: &Path) -> Result<Manifest, Problems> {
    let mut reading = Manifest::read(file, text);
    for image in reading.images.clone() {
        if let Err(error) = look_at(&image, base) {
            reading.problems.add(image.position, format!("the image cannot be used: {error:#}"));
        }
    }
    reading.finish()
}

fn look_at(image: &DeclaredImage, base: &Path) -> Result<()> {
    let source = match resolve(&image.source, base) {
        ImageSource::Path(path) => Source::open(&path),
        ImageSource::Layout(path) => return import::choose(&path).map(drop),
        ImageSource::DockerArchive(_) | ImageSource::Registry(_) | ImageSource::Edge(_) => return Ok(()),
    };
    match source? {
        Source::Directory(path) if !image.has_entrypoint => bail!(
            "{} is a root directory and does not say which program to run; expected also an entrypoint, such as \
             entrypoint = [\"/bin/server\"]",
            path.display()
        ),
        Source::Directory(_) | Source::Binary { .. } => Ok(()),
    }
}

fn resolve(source: &ImageSource, base: &Path) -> ImageSource {
    match source {
        ImageSource::Path(path) => ImageSource::Path(base.join(path)),
        ImageSource::Layout(path) => ImageSource::Layout(base.join(path)),
        ImageSource::DockerArchive(path) => ImageSource::DockerArchive(base.join(path)),
        other => other.clone(),
    }
}

/// One image to pack.
struct Packing {
    image: ImageSource,
    name: String,
    directory: PathBuf,
}

impl Packing {
    fn run(&self) -> Result<ImageRef> {
        self.pack().with_context(|| format!("cannot pack {:?}", self.image))
    }

    fn pack(&self) -> Result<ImageRef> {
        let staging = Staging::in_directory(&self.directory)?;
        let image = match &self.image {
            // Entrypoint and environment are the class's and travel with it, not in the image.
            ImageSource::Path(path) => image::pack(&Source::open(path)?, &Settings::default(), &staging)?,
            ImageSource::DockerArchive(_) | ImageSource::Registry(_) | ImageSource::Edge(_) => {
                bail!("cannot be packed")
            }
            ImageSource::Layout(path) => {
                let image = import::choose(path)?;
                import::copy(path, &image, &staging)?;
                image
            }
        };
        let digits: String = image.digest().digest().chars().take(DIGEST_DIGITS).collect();
        let digest = image.digest().to_string();
        let layout = self.directory.join(format!("{}-{digits}", self.name));
        // The name holds the digest: what is there is the same, and may be in use.
        if layout::is_layout(&layout) {
            // Whoever put it there may have been killed before that was durable.
            File::open(&self.directory)?.sync_all()?;
        } else {
            staging.publish(image, &layout)?;
        }
        Ok(ImageRef::new(self.name.to_lowercase().parse()?, digest.parse()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::elf::tests::elf;

    fn write_app(dir: &Path, image: &str, more: &str) {
        let text = format!(
            "name = \"a\"\n[[containers]]\nclass_name = \"A\"\nimage = \"{image}\"\ndefault_port = 80\n\
             enable_internet = false\n{more}"
        );
        fs::write(dir.join(MANIFEST), text).unwrap();
    }

    fn refusal(dir: &Path) -> String {
        let error = App::in_directory(dir).unwrap_err();
        error.downcast_ref::<BadInput>().expect("bad input").to_string()
    }

    fn machine() -> u16 {
        if cfg!(target_arch = "aarch64") { 183 } else { 62 }
    }

    #[test]
    fn an_app_is_packed_into_a_spec_and_packing_again_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("hello"), elf(machine(), &[1])).unwrap();
        write_app(dir.path(), "./hello", "");
        let app = App::in_directory(dir.path()).unwrap();
        let images = dir.path().join("images");
        let packed = app.packing(&app.manifest.classes[0], &images).run().unwrap();
        assert_eq!(packed, app.packing(&app.manifest.classes[0], &images).run().unwrap());
        let names: Vec<_> = fs::read_dir(&images).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 1);
        let spec = app.spec(vec![packed.clone()]).unwrap();
        assert_eq!(spec.classes[&"A".parse().unwrap()].recipe.image, packed);
    }

    #[test]
    fn images_that_cannot_be_used_are_told_with_their_place_beside_other_errors() {
        let dir = tempfile::tempdir().unwrap();
        write_app(dir.path(), "./missing", "sleep_after = 0\n");
        let text = refusal(dir.path());
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].contains("berth.toml:4:9: the image cannot be used") && lines[0].contains("missing"),
            "{text}"
        );
        assert!(lines[1].contains("berth.toml:7:15:"), "{text}");

        fs::write(dir.path().join("dynamic"), elf(machine(), &[3])).unwrap();
        write_app(dir.path(), "./dynamic", "");
        assert!(refusal(dir.path()).contains("expected a static binary"));
        write_app(dir.path(), "oci:.", "");
        assert!(refusal(dir.path()).contains("no OCI image layout"));
    }

    #[test]
    fn a_root_directory_needs_an_entrypoint() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        write_app(dir.path(), "root", "");
        assert!(refusal(dir.path()).contains("expected also an entrypoint"));
        write_app(dir.path(), "root", "entrypoint = [\"/bin/server\"]\n");
        App::in_directory(dir.path()).unwrap();
    }

    #[test]
    fn a_missing_file_is_bad_input() {
        let dir = tempfile::tempdir().unwrap();
        assert!(refusal(dir.path()).contains(MANIFEST));
    }
}
