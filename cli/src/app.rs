//! An app on disk: its `berth.toml`, the images that it names, and the specification that an edge gets.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use berth_common::image::Digest;
use berth_common::manifest::{ClassManifest, DeclaredImage, ImageSource, Manifest, Problems};
use berth_common::spec::{AppSpec, ImageRef};

use crate::admin::Admin;
use crate::assets;
use crate::content::Content;
use crate::failure::{BadInput, bad_input};
use crate::prefetch::Terms;
use crate::stop::blocking;
use crate::supply::{Local, Supply, Wanted};

/// The file that declares an app.
pub(crate) const MANIFEST: &str = "berth.toml";

/// A checked app.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) manifest: Manifest,
    /// Where the manifest's relative paths start.
    base: PathBuf,
}

impl App {
    /// Reads the app in a directory. Its `berth.toml` itself may be named, too.
    pub(crate) fn in_directory(directory: &Path) -> Result<Self> {
        if directory.is_file() {
            Self::load(directory)
        } else {
            Self::load(&in_directory(directory, MANIFEST))
        }
    }

    /// Reads a file and inspects its images. All errors are reported together.
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

    /// Makes sure that the edge has the app's images and static files, and returns the app as edges know it.
    pub(crate) async fn sent(&self, admin: &Admin, terms: Terms) -> Result<AppSpec> {
        let mut supply = Supply::of(admin);
        let mut images = Vec::new();
        for class in &self.manifest.classes {
            let image = supply.image(&self.source(class), &self.manifest.name, &class.name).await;
            images.push(image.with_context(|| format!("the image of the class {}", class.name))?);
        }
        let mut spec = self.spec(images)?;
        if let (Some(assets), Some(declared)) = (&mut spec.assets, &self.manifest.assets) {
            assets.files = send_assets(admin, self.base.join(&declared.directory), terms.resend).await?;
        }
        Ok(spec)
    }

    /// Where a class's image comes from, relative to the current directory.
    pub(crate) fn source(&self, class: &ClassManifest) -> Wanted {
        resolve(&class.image.source, &self.base).into()
    }

    /// The files and directories that it is made of.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let files = self.manifest.classes.iter().flat_map(|class| self.source(class).files());
        let assets = self.manifest.assets.iter().map(|declared| self.base.join(&declared.directory));
        files.chain(assets).chain([self.base.join(MANIFEST)]).collect()
    }

    /// The app as edges know it; the images are those of its classes, in order.
    fn spec(&self, images: Vec<ImageRef>) -> Result<AppSpec> {
        let names = self.manifest.classes.iter().map(|class| class.name.clone());
        let mut images: BTreeMap<_, _> = names.zip(images).collect();
        let missing = |class: &ClassManifest| anyhow!("the class {} has no packed image", class.name);
        self.manifest.to_spec(|class| images.remove(&class.name).ok_or_else(|| missing(class)))
    }
}

/// A file of a directory, without the directory where that is the current one.
pub(crate) fn in_directory(directory: &Path, name: impl AsRef<Path>) -> PathBuf {
    if directory == Path::new(".") { name.as_ref().to_owned() } else { directory.join(name) }
}

/// Gives an edge the static files in a directory, and returns their digests by path.
async fn send_assets(admin: &Admin, source: PathBuf, again: bool) -> Result<BTreeMap<String, Digest>> {
    let (content, files) = blocking(move |_| {
        let mut content = Content::default();
        let files = assets::pack(&source, &mut content)?;
        Ok((content, files))
    })
    .await?;
    let sent = content.send(admin, again).await.context("the static files")?;
    crate::output::note!("static files: {}", sent.describe());
    Ok(files)
}

/// Reads the manifest and inspects the images and files that it names.
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
    Local::look_at(&resolve(&image.source, base).into(), image.has_entrypoint).map(drop)
}

/// A source whose path starts at the current directory, and not at this one.
pub(crate) fn resolve(source: &ImageSource, base: &Path) -> ImageSource {
    // Rebuilt without `.` components, because it is shown to users.
    let at = |path: &Path| base.join(path).components().collect();
    match source {
        ImageSource::Path(path) => ImageSource::Path(at(path)),
        ImageSource::Layout(path) => ImageSource::Layout(at(path)),
        ImageSource::DockerArchive(path) => ImageSource::DockerArchive(at(path)),
        other => other.clone(),
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
    fn an_app_becomes_a_spec_with_the_images_of_its_classes() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("hello"), elf(machine(), &[1])).unwrap();
        write_app(dir.path(), "./hello", "");
        let app = App::in_directory(dir.path()).unwrap();
        let image = ImageRef::new("a/a".parse().unwrap(), Digest::of(b"x"));
        let spec = app.spec(vec![image.clone()]).unwrap();
        assert_eq!(spec.classes[&"A".parse().unwrap()].recipe.image, image);
        assert!(app.files().contains(&dir.path().join("./hello")));
    }

    #[test]
    fn images_that_cannot_be_used_are_reported_with_file_and_line_among_other_errors() {
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
