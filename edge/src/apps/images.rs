//! The images of an app that is deployed: they are there, they run, and they stay.

use berth_common::ids::ClassName;
use berth_common::spec::{AppSpec, ImageRef};
use berth_registry::content::ContentError;
use berth_registry::images::{ImageError, Images};

use super::Fault;

/// Makes sure that the images of all classes are there and stay, and notes what machines they run on. Gives what is wrong.
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
        return Ok(fault(format!("{repository}@{digest} is no image for linux/amd64 or linux/arm64")));
    }
    image.architectures = info.architectures;
    Ok(None)
}
