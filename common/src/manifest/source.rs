//! The sources of an image, as written in `image`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::image::{ImageNameError, Named, Reference};

/// The possible sources, for messages.
pub(super) const IMAGE_EXPECTED: &str = "a path (static binary, root directory, Dockerfile), \"oci:\" or \"docker-archive:\" and a \
                              path, a reference such as \"ghcr.io/me/app:1\", or \"berth:\" and an image of the edge";

/// The source of an image. Paths are as in the file; relative ones start at the file's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// A static binary, a root directory, a Dockerfile or a directory with one; the caller finds out which.
    Path(PathBuf),
    /// An OCI image layout directory (`oci:` before the path).
    Layout(PathBuf),
    /// An archive as `docker save` writes it (`docker-archive:` before the path).
    DockerArchive(PathBuf),
    /// An image in some registry (`host/repository:tag`, or `docker://` before Docker's short form).
    Registry(Reference),
    /// An image of the edge's own registry (`berth:` before repository and tag).
    Edge(Named),
}

impl ImageSource {
    /// Its path, if it has one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) | Self::Layout(path) | Self::DockerArchive(path) => Some(path),
            Self::Registry(_) | Self::Edge(_) => None,
        }
    }
}

impl FromStr for ImageSource {
    type Err = String;
    /// Parses the value of `image`.
    fn from_str(text: &str) -> Result<Self, String> {
        image_source(text).map_err(|fault| format!("{fault}; expected {}", IMAGE_EXPECTED))
    }
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Layout(path) => write!(f, "oci:{}", path.display()),
            Self::DockerArchive(path) => write!(f, "docker-archive:{}", path.display()),
            Self::Registry(reference) => reference.fmt(f),
            Self::Edge(image) => write!(f, "berth:{image}"),
        }
    }
}

/// Parses the value of `image`.
pub(super) fn image_source(text: &str) -> Result<ImageSource, String> {
    let path = |text: &str| match text {
        "" => Err("is not a path".to_owned()),
        text if text.contains('\0') => Err("is not a path".to_owned()),
        text => Ok(text.into()),
    };
    let said = |error: ImageNameError| error.to_string();
    match text.split_once(':') {
        Some(("oci", rest)) => path(rest).map(ImageSource::Layout),
        Some(("docker-archive", rest)) => path(rest).map(ImageSource::DockerArchive),
        Some(("berth", rest)) => rest.parse().map(ImageSource::Edge).map_err(said),
        Some(("docker", rest)) if rest.starts_with("//") => {
            rest[2..].parse().map(ImageSource::Registry).map_err(said)
        }
        _ if Reference::names_a_registry(text) => text.parse().map(ImageSource::Registry).map_err(said),
        _ => path(text).map(ImageSource::Path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_come_from_everywhere() {
        let source = |text: &str| text.parse::<ImageSource>();
        let registry = |text: &str| Ok(ImageSource::Registry(text.parse().unwrap()));
        assert_eq!(source("./a.b/c"), Ok(ImageSource::Path("./a.b/c".into())));
        assert_eq!(source("docker-archive:./x.tar"), Ok(ImageSource::DockerArchive("./x.tar".into())));
        assert_eq!(source("ghcr.io/me/app:1"), registry("ghcr.io/me/app:1"));
        assert_eq!(source("docker://alpine"), registry("docker.io/library/alpine:latest"));
        assert_eq!(source("berth:my/app:1"), Ok(ImageSource::Edge("my/app:1".parse().unwrap())));
        assert!(source("ghcr.io/Me/app").unwrap_err().contains("is not the name of a repository"));
    }
}
