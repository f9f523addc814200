//! Makes OCI images without any other program: from a static binary or a root directory, one gzip layer, the same
//! bytes from the same input; or reads an existing one, or has a builder make one. Knows nothing of apps and edges.

mod archive;
pub(crate) mod build;
pub(crate) mod check;
pub(crate) mod docker;
pub(crate) mod elf;
pub(crate) mod files;
mod layer;
pub(crate) mod layout;
pub(crate) mod oci;
pub(crate) mod part;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::{Compression, GzBuilder};
use oci_spec::image::{
    Arch, Config, ConfigBuilder, Descriptor, ImageConfigurationBuilder, ImageManifestBuilder, MediaType, Os,
    PlatformBuilder, RootFsBuilder,
};

use berth_common::image::Digest;
use berth_images::manifest::Descriptor as Named;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use files::Files;
use layout::{Hashed, Staging};

use crate::stop::Stop;

const SCHEMA_VERSION: u32 = 2;
/// gzip's OS field (RFC 1952 §2.3.1): 255 is "unknown", so that the bytes are the same on every machine.
const GZIP_UNKNOWN_SYSTEM: u8 = 255;
const GZIP_LEVEL: u32 = 6;
/// Directory of large temporary files, unless TMPDIR is set.
const LARGE_SCRATCH: &str = "/var/tmp";
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an image's configuration says about running it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// Program and arguments. A binary's default is the binary; a root directory has none.
    pub(crate) entrypoint: Vec<String>,
    /// `NAME=VALUE` each.
    pub(crate) env: Vec<String>,
    /// User and group inside.
    pub(crate) user: Option<String>,
}

/// What an image is made of, after inspection.
#[derive(Debug)]
pub(crate) enum Source {
    /// A static binary.
    Binary { path: PathBuf, name: String, architecture: Arch },
    /// A root directory.
    Directory(PathBuf),
}

impl Source {
    /// Finds out what is at a path. Fails with a text for users if it is nothing that an image can be made of.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let metadata = path.metadata().with_context(|| format!("cannot look at {}", path.display()))?;
        if metadata.is_dir() {
            return Ok(Self::Directory(path.to_owned()));
        }
        if !metadata.is_file() {
            bail!("{} is neither a file nor a directory", path.display());
        }
        let architecture = elf::require_static(path)?;
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.with_context(|| format!("the name of {} is not UTF-8", path.display()))?;
        Ok(Self::Binary { path: path.to_owned(), name: name.to_owned(), architecture })
    }
}

/// An image that is ready to be pushed. Temporary files for it are removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) contents: oci::Contents,
    /// What its parts lie in.
    _files: Files,
    _directory: Option<TempDir>,
}

impl Image {
    fn of(contents: oci::Contents, files: Files) -> Self {
        Self { contents, _files: files, _directory: None }
    }

    /// The image of a staged layout.
    fn staged(staging: Staging, image: &Descriptor) -> Result<Self> {
        let named = Named {
            media_type: image.media_type().to_string(),
            digest: image.digest().to_string().parse()?,
            size: image.size(),
            platform: None,
        };
        let directory = staging.stay();
        let files = Files::Directory(directory.path().to_owned());
        let contents = oci::read_image(&files, &named)?;
        Ok(Self { contents, _files: files, _directory: Some(directory) })
    }

    /// The image of a layout.
    pub(crate) fn of_layout(layout: &Path) -> Result<Self> {
        let files = Files::Directory(layout.to_owned());
        Ok(Self::of(oci::read(&files)?, files))
    }

    /// The same, and a directory that it lies in, which is gone with it. One that it does not lie in is gone now.
    fn with_directory(self, directory: TempDir) -> Self {
        Self { _directory: self._directory.or(Some(directory)), ..self }
    }

    /// A static binary or a root directory as an image.
    pub(crate) fn packed(source: &Source, stop: &Stop) -> Result<Self> {
        let staging = Staging::temporary(stop)?;
        // Entrypoint and environment are the class's and travel with it, not in the image.
        let image = pack(source, &Settings::default(), &staging)?;
        Self::staged(staging, &image)
    }

    /// The digest of its manifest, or index of manifests.
    pub(crate) fn digest(&self) -> Result<Digest> {
        let image = self.contents.documents.last().context("an image without a manifest")?;
        Ok(image.digest)
    }
}

/// The directory of temporary images. Not /tmp by default: images may be large, and /tmp is often in memory.
fn scratch() -> PathBuf {
    let usual = Path::new(LARGE_SCRATCH);
    match std::env::var_os("TMPDIR") {
        None if usual.is_dir() => usual.to_owned(),
        _ => std::env::temp_dir(),
    }
}

/// Packs an image into a staged layout; publish it with the descriptor that comes back.
pub(crate) fn pack(source: &Source, settings: &Settings, staging: &Staging) -> Result<Descriptor> {
    let (layer, diff_id) = write_layer(source, staging)?;
    let architecture = architecture(source, settings);
    let rootfs = RootFsBuilder::default().typ("layers").diff_ids(vec![diff_id]).build()?;
    let config = ImageConfigurationBuilder::default()
        .architecture(architecture.clone())
        .os(Os::Linux)
        .config(config(source, settings)?)
        .rootfs(rootfs)
        .build()?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageManifest)
        .config(staging.json(MediaType::ImageConfig, &config)?)
        .layers(vec![layer])
        .build()?;
    let mut descriptor = staging.json(MediaType::ImageManifest, &manifest)?;
    descriptor
        .set_platform(Some(PlatformBuilder::default().architecture(architecture).os(Os::Linux).build()?));
    Ok(descriptor)
}

/// The layer's descriptor, and the digest of its archive before compression.
fn write_layer(source: &Source, staging: &Staging) -> Result<(Descriptor, String)> {
    let mut archive = tar::Builder::new(Hashed::new(gzip(staging.blob()?)));
    match source {
        Source::Binary { path, name, .. } => layer::write_binary(&mut archive, path, name)?,
        Source::Directory(root) => layer::write_directory(&mut archive, root)?,
    }
    let mut hashed = archive.into_inner()?;
    hashed.flush()?;
    let (compressed, diff_hex, _) = hashed.finish();
    let layer = compressed.finish()?.finish(MediaType::ImageLayerGzip)?;
    Ok((layer, format!("sha256:{diff_hex}")))
}

/// A gzip writer whose output depends only on the input.
fn gzip<W: Write>(to: W) -> GzEncoder<W> {
    let gzip = GzBuilder::new().mtime(0).operating_system(GZIP_UNKNOWN_SYSTEM);
    gzip.write(to, Compression::new(GZIP_LEVEL))
}

fn config(source: &Source, settings: &Settings) -> Result<Config> {
    let mut env = vec![DEFAULT_PATH.to_owned()];
    if settings.env.iter().any(|variable| variable.starts_with("PATH=")) {
        env.clear();
    }
    env.extend(settings.env.iter().cloned());
    let entrypoint = match source {
        Source::Binary { name, .. } if settings.entrypoint.is_empty() => {
            vec![format!("/{}/{name}", layer::BINARY_DIRECTORY)]
        }
        _ => settings.entrypoint.clone(),
    };
    let mut config = ConfigBuilder::default().env(env).working_dir("/");
    if !entrypoint.is_empty() {
        config = config.entrypoint(entrypoint);
    }
    if let Some(user) = &settings.user {
        config = config.user(user);
    }
    Ok(config.build()?)
}

/// A root directory's architecture is that of its program, or this machine's if it cannot be determined.
fn architecture(source: &Source, settings: &Settings) -> Arch {
    match source {
        Source::Binary { architecture, .. } => architecture.clone(),
        Source::Directory(root) => {
            let candidates =
                settings.entrypoint.first().map(String::as_str).into_iter().chain(["bin/sh", "sbin/init"]);
            let mut programs =
                candidates.filter_map(|path| elf::inspect(&root.join(path.trim_start_matches('/'))).ok());
            programs.next().map_or_else(Arch::default, |program| program.architecture)
        }
    }
}
