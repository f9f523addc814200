//! A container's `image`: a Dockerfile, an image of the edge's own registry under the reference's name for it, or one of
//! another registry.

use std::path::{Path, PathBuf};

use berth_common::manifest::ImageSource;

use super::section::Reading;
use super::values::relative_path;
use crate::report::quoted;
use crate::value::Node;

/// Where the reference keeps what `wrangler containers push` pushes.
const REGISTRY: &str = "registry.cloudflare.com/";

/// Where an image comes from. Paths are relative to the project's directory.
pub(super) fn image(reading: &mut Reading<'_>, node: &Node, path: &str) -> Option<ImageSource> {
    let text = reading.text(node, path)?;
    let source = text.strip_prefix(REGISTRY).map_or_else(|| text.to_owned(), of_the_edge);
    let source: ImageSource = match source.parse() {
        Ok(source) => source,
        Err(error) => {
            reading.wrong(node.at, format!("{path}: {} {error}", quoted(text)));
            return None;
        }
    };
    match source {
        ImageSource::Path(file) => clean(reading, &file, node.at, path).map(ImageSource::Path),
        other => Some(other),
    }
}

/// An image of the reference's registry by its name in the edge's: the first part is the account.
fn of_the_edge(rest: &str) -> String {
    let image = rest.split_once('/').map_or(rest, |(_, image)| image);
    format!("berth:{image}")
}

fn clean(reading: &mut Reading<'_>, file: &Path, at: usize, path: &str) -> Option<PathBuf> {
    let found = relative_path(reading, &file.to_string_lossy(), at, path)?;
    Some(if found.as_os_str().is_empty() { PathBuf::from(".") } else { found })
}
