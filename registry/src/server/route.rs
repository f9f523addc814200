//! Parses the paths below `/v2/`. Repository names contain slashes, so a path is parsed from its end.

use berth_common::image::{Digest, Pick, Repository};

use super::error::{Answered, RegistryError};

/// The resource of a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// The list of all repositories.
    Catalog,
    Tags(Repository),
    Manifest(Repository, Reference),
    Referrers(Repository, Digest),
    Blob(Repository, Digest),
    /// New uploads.
    Uploads(Repository),
    /// One upload.
    Upload(Repository, String),
}

/// A tag or a digest; or an invalid one, which names nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reference {
    Sound(Pick),
    Senseless,
}

impl Route {
    /// Parses what follows `/v2/`.
    pub(super) fn read(path: &str) -> Answered<Self> {
        if path == "_catalog" {
            return Ok(Self::Catalog);
        }
        if let Some(name) = path.strip_suffix("/tags/list") {
            return Ok(Self::Tags(repository(name)?));
        }
        if let Some(name) = path.strip_suffix("/blobs/uploads/").or(path.strip_suffix("/blobs/uploads")) {
            return Ok(Self::Uploads(repository(name)?));
        }
        let (rest, last) = path.rsplit_once('/').ok_or_else(RegistryError::no_route)?;
        if let Some(name) = rest.strip_suffix("/blobs/uploads") {
            return Ok(Self::Upload(repository(name)?, last.to_owned()));
        }
        match rest.rsplit_once('/') {
            Some((name, "blobs")) => Ok(Self::Blob(repository(name)?, digest(last)?)),
            Some((name, "manifests")) => Ok(Self::Manifest(repository(name)?, reference(last)?)),
            Some((name, "referrers")) => Ok(Self::Referrers(repository(name)?, digest(last)?)),
            _ => Err(RegistryError::no_route()),
        }
    }

    /// The repository, if the path has one.
    pub(super) fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Catalog => None,
            Self::Tags(name)
            | Self::Manifest(name, _)
            | Self::Referrers(name, _)
            | Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _) => Some(name),
        }
    }
}

fn repository(text: &str) -> Answered<Repository> {
    text.parse().map_err(|error| RegistryError::name("the repository", error))
}

/// Parses a digest of a request.
pub(super) fn digest(text: &str) -> Answered<Digest> {
    text.parse().map_err(|error| RegistryError::name("the digest", error))
}

/// What has a colon can only be meant as a digest.
fn reference(text: &str) -> Answered<Reference> {
    if text.contains(':') {
        return Ok(Reference::Sound(Pick::Digest(digest(text)?)));
    }
    Ok(text.parse().map_or(Reference::Senseless, |tag| Reference::Sound(Pick::Tag(tag))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_parsed() {
        let name = |text: &str| -> Repository { text.parse().unwrap() };
        let digest = Digest::of(b"x");
        let read = |path: &str| Route::read(path).ok();
        assert_eq!(read("_catalog"), Some(Route::Catalog));
        assert_eq!(read("a/b/tags/list"), Some(Route::Tags(name("a/b"))));
        assert_eq!(read("a/blobs/uploads/"), Some(Route::Uploads(name("a"))));
        assert_eq!(read("a/blobs/uploads"), Some(Route::Uploads(name("a"))));
        assert_eq!(read("a/blobs/uploads/1"), Some(Route::Upload(name("a"), "1".to_owned())));
        assert_eq!(read(&format!("blobs/blobs/{digest}")), Some(Route::Blob(name("blobs"), digest)));
        assert_eq!(read(&format!("a/referrers/{digest}")), Some(Route::Referrers(name("a"), digest)));
        let by_tag = Reference::Sound(Pick::Tag("v1".parse().unwrap()));
        assert_eq!(read("manifests/manifests/v1"), Some(Route::Manifest(name("manifests"), by_tag)));
        assert_eq!(read("a/manifests/.x"), Some(Route::Manifest(name("a"), Reference::Senseless)));
        for bad in [
            "",
            "a",
            "/blobs/uploads/",
            "A/tags/list",
            "../a/tags/list",
            "a/blobs/sha256:00",
            "a/manifests/sha256:00",
            "a/b/c",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
