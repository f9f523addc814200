//! Which app versions use which image: all kept versions, as each may become current again.

use std::collections::{BTreeSet, HashMap};

use berth_api::images::Use;
use berth_common::image::Digest;
use berth_images::manifest::Manifest;

use super::info::is_of_the_manifest;
use super::{Core, ImageError};

/// The app versions by the digest of the image that they use.
#[derive(Debug, Default)]
pub struct Uses(HashMap<Digest, BTreeSet<Use>>);

impl Uses {
    /// The app versions that use this image, directly or through an index that lists it.
    pub fn of(&self, digest: &Digest) -> Vec<Use> {
        self.0.get(digest).into_iter().flatten().cloned().collect()
    }

    pub(super) fn digests(&self) -> impl Iterator<Item = Digest> + '_ {
        self.0.keys().copied()
    }
}

impl Core {
    /// The uses by all kept versions in the store.
    pub(super) fn uses(&self) -> Result<Uses, ImageError> {
        let mut direct = Uses::default();
        for history in self.store.apps()? {
            for (version, current) in history.kept() {
                let user = Use { app: version.spec.name.clone(), version: version.version, current };
                for class in version.spec.classes.values() {
                    direct.0.entry(class.recipe.image.digest).or_default().insert(user.clone());
                }
            }
        }
        self.with_parts(direct)
    }

    /// Adds the images that an index lists, for the users of the index.
    fn with_parts(&self, direct: Uses) -> Result<Uses, ImageError> {
        let mut all = Uses(direct.0.clone());
        for (digest, users) in direct.0 {
            let manifest = match self.manifest(&digest) {
                Err(error) if is_of_the_manifest(&error) => None,
                manifest => manifest?,
            };
            if let Some((Manifest::Index(index), _)) = manifest {
                for part in index.manifests {
                    all.0.entry(part.digest).or_default().extend(users.iter().cloned());
                }
            }
        }
        Ok(all)
    }
}
