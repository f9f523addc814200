//! Checks the images of an app at deployment: they exist, run on Berth's nodes, and are not removed.

use berth_common::ids::ClassName;
use berth_common::spec::{AppSpec, ImageRef};
use berth_registry::content::ContentError;
use berth_registry::images::{ImageError, Images};

use super::Fault;

/// Pins the images of all classes, so that they are not collected, and records their architectures. Returns what is
/// wrong.
pub(super) async fn pin(images: &Images, spec: &mut AppSpec) -> Result<Vec<Fault>, ImageError> {
    let mut faults = Vec::new();
    for (name, class) in &mut spec.classes {
        faults.extend(pin_one(images, name, &mut class.recipe.image).await?);
    }
    Ok(faults)
}

async fn pin_one(
    images: &Images,
    class: &ClassName,
    image: &mut ImageRef,
) -> Result<Option<Fault>, ImageError> {
    let fault = |message| Some(Fault { field: format!("classes.{class}.image.digest"), message });
    let info = match images.pin(image).await {
        Err(
            error @ (ImageError::MissingPart { .. }
            | ImageError::Manifest(_)
            | ImageError::Content(ContentError::Digest { .. } | ContentError::Unexpected(_))),
        ) => {
            return Ok(fault(format!("the image is not whole ({error}): push it again")));
        }
        pinned => pinned?,
    };
    let ImageRef { repository, digest, .. } = &*image;
    let Some(info) = info else {
        return Ok(fault(format!(
            "there is no image {repository}@{digest} here: push it to the edge's registry first (`berth deploy` does, and see \
             docs/registry.md)"
        )));
    };
    if info.architectures.is_empty() {
        return Ok(fault(format!("{repository}@{digest} is not an image for linux/amd64 or linux/arm64")));
    }
    image.architectures = info.architectures;
    Ok(None)
}
