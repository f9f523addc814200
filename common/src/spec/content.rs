//! The content that an app's version names by digest: it lies with the edge before the version does, and for as long.

use std::fmt;

use super::AppSpec;
use crate::image::Digest;

/// Largest single content, in bytes: as long as one request may reasonably carry it.
pub const MAX_CONTENT_BYTES: u64 = 128 << 20;
/// Most bytes of all content of one version: so that one app does not fill what all share.
pub const MAX_APP_CONTENT_BYTES: u64 = 2 << 30;
/// Most bytes of all modules of a program together, without their source maps: they are compiled at once, which takes
/// eighty times as much memory.
pub const MAX_PROGRAM_BYTES: u64 = 10 << 20;

/// Most bytes of one source map: some times those of the largest program. Places in stacks are looked up in it.
pub const MAX_SOURCE_MAP_BYTES: u64 = 16 << 20;

/// The field of a version that names content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentField<'a> {
    /// The JavaScript of the module with this index.
    Module(usize),
    /// The source map of the module with this index.
    SourceMap(usize),
    /// The static file at this path.
    Asset(&'a str),
}

impl fmt::Display for ContentField<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Module(index) => write!(f, "program.modules[{index}].digest"),
            Self::SourceMap(index) => write!(f, "program.modules[{index}].map"),
            Self::Asset(path) => write!(f, "assets.files[{path:?}]"),
        }
    }
}

impl AppSpec {
    /// All content that this version names, with the fields that do. The same digest may come several times.
    pub fn content(&self) -> impl Iterator<Item = (ContentField<'_>, &Digest)> {
        let modules = self.program.iter().flat_map(|program| program.modules.iter().enumerate());
        let modules = modules.flat_map(|(index, module)| {
            let map = module.map.iter().map(move |map| (ContentField::SourceMap(index), map));
            std::iter::once((ContentField::Module(index), &module.digest)).chain(map)
        });
        let assets = self.assets.iter().flat_map(|assets| &assets.files);
        modules.chain(assets.map(|(path, digest)| (ContentField::Asset(path), digest)))
    }
}
