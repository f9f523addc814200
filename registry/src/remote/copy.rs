//! Copies an image between registries, through this edge if it is neither source nor destination.

use std::str::FromStr;

use berth_common::image::{ImageNameError, Named, Pick, Reference};

use super::document::bytes_of;
use super::error::RemoteError;
use super::progress::Progress;
use super::pull::{Destination, Pull};
use super::push::Push;
use super::{Login, Moved, Remote};

/// The prefix of names of this edge's images.
const LOCAL_PREFIX: &str = "berth:";

/// The source or destination of a copy: `berth:repository:tag` for this edge, or a reference in another registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageLocation {
    /// An image of this edge.
    Local(Named),
    /// An image in another registry.
    Remote(Reference),
}

impl FromStr for ImageLocation {
    type Err = ImageNameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(LOCAL_PREFIX) {
            Some(named) => named.parse().map(Self::Local),
            None => text.parse().map(Self::Remote),
        }
    }
}

/// The copy to make.
#[derive(Debug, Clone)]
pub struct Copy {
    /// The source.
    pub from: ImageLocation,
    /// The destination.
    pub to: ImageLocation,
    /// The login for the source registry; by default the stored one.
    pub from_login: Option<Login>,
    /// The login for the destination registry; by default the stored one.
    pub to_login: Option<Login>,
}

impl Remote {
    /// Copies an image.
    pub async fn copy(&self, copy: Copy, progress: &Progress) -> Result<Moved, RemoteError> {
        let Copy { from, to, from_login, to_login } = copy;
        let pull = |from, into| Pull { from, login: from_login, platform: None, into };
        match (from, to) {
            (ImageLocation::Local(from), ImageLocation::Local(to)) => self.retag(&from, &to).await,
            (ImageLocation::Local(from), ImageLocation::Remote(to)) => {
                self.push(Push { from, to, login: to_login }, progress).await
            }
            (ImageLocation::Remote(from), ImageLocation::Local(to)) => {
                self.pull(pull(from, Destination::Named(to)), progress).await
            }
            (ImageLocation::Remote(from), ImageLocation::Remote(to)) => {
                let moved = self.pull(pull(from, Destination::Mirror { tag: false }), progress).await?;
                let name = |error| RemoteError::Name { name: moved.repository.clone(), error };
                let repository = moved.repository.parse().map_err(name)?;
                let from = Named { repository, pick: Pick::Digest(moved.digest) };
                self.push(Push { from, to, login: to_login }, progress).await
            }
        }
    }

    /// Gives an image of this edge another name.
    async fn retag(&self, from: &Named, to: &Named) -> Result<Moved, RemoteError> {
        let digest = self.images.resolve(from).await?;
        let digest = digest.ok_or_else(|| RemoteError::NotHere(from.to_string()))?;
        let (top, children) = self.documents(digest).await?;
        let tag = match &to.pick {
            Pick::Tag(tag) => Some(tag),
            Pick::Digest(wanted) if *wanted == digest => None,
            Pick::Digest(wanted) => {
                return Err(RemoteError::OtherDigest { found: digest, wanted: Box::new(*wanted) });
            }
        };
        let bytes = bytes_of(children.iter().chain([&top]));
        for child in children {
            let algorithm = child.digest.algorithm();
            self.images.put_manifest(&to.repository, &[], algorithm, child.bytes).await?;
        }
        let tags = Vec::from_iter(tag.cloned());
        self.images.put_manifest(&to.repository, &tags, digest.algorithm(), top.bytes).await?;
        Ok(Moved { repository: to.repository.to_string(), digest, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_local_or_remote() {
        assert!(
            matches!("berth:a/b:c".parse(), Ok(ImageLocation::Local(named)) if named.to_string() == "a/b:c")
        );
        assert!(
            matches!("alpine".parse(), Ok(ImageLocation::Remote(there)) if there.registry.as_str() == "docker.io")
        );
        assert!("berth:".parse::<ImageLocation>().is_err() && "berth:A".parse::<ImageLocation>().is_err());
    }
}
