//! `berth pack`: an image from a static binary or a root directory.

use std::path::Path;

use anyhow::Result;
use berth_images::manifest::user_of_containers;

use crate::args::Pack;
use crate::failure::bad_input;
use crate::image::layout::Staging;
use crate::image::{self, Settings, Source};
use crate::output;

pub(crate) fn run(args: &Pack) -> Result<()> {
    let source = Source::open(&args.source).map_err(bad_input)?;
    user_of_containers(args.user.as_deref().unwrap_or_default()).map_err(bad_input)?;
    let settings =
        Settings { entrypoint: args.entrypoint.clone(), env: args.env.clone(), user: args.user.clone() };
    let parent = args.output.parent().filter(|parent| !parent.as_os_str().is_empty());
    let staging = Staging::in_directory(parent.unwrap_or(Path::new(".")))?;
    let image = image::pack(&source, &settings, &staging)?;
    let digest = image.digest().to_string();
    staging.publish(image, &args.output)?;
    Ok(output::line(digest)?)
}
