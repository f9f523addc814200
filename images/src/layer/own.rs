//! Tracks the paths that a layer has unpacked, because whiteouts only apply to lower layers.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::path::Clean;

/// A set of paths as fingerprints, to save memory: an image may have a million long paths. The two hashes have random
/// keys, so that an image cannot cause collisions.
#[derive(Default)]
pub(super) struct Paths {
    keys: (RandomState, RandomState),
    prints: HashSet<(u64, u64)>,
}

impl Paths {
    fn print(&self, path: &[u8]) -> (u64, u64) {
        (self.keys.0.hash_one(path), self.keys.1.hash_one(path))
    }

    /// Whether it is new.
    pub(super) fn insert(&mut self, path: &[u8]) -> bool {
        let print = self.print(path);
        self.prints.insert(print)
    }

    pub(super) fn remove(&mut self, path: &[u8]) {
        if !self.prints.is_empty() {
            let print = self.print(path);
            self.prints.remove(&print);
        }
    }

    pub(super) fn contains(&self, path: &[u8]) -> bool {
        self.prints.contains(&self.print(path))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.prints.is_empty()
    }
}

/// The paths of a layer itself.
#[derive(Default)]
pub(super) struct Own {
    entries: Paths,
    /// Directories with such entries somewhere below.
    above: Paths,
}

impl Own {
    pub(super) fn insert(&mut self, path: &Clean) {
        self.entries.insert(path.bytes());
        // Where one is known, those above it are.
        for above in path.ancestors() {
            if !self.above.insert(above) {
                break;
            }
        }
    }

    /// How many directories it remembers for what is below them.
    pub(super) fn directories(&self) -> usize {
        self.above.prints.len()
    }

    /// Whether the layer has this path itself, or something in it.
    pub(super) fn has(&self, path: &Clean) -> bool {
        self.entries.contains(path.bytes()) || self.above.contains(path.bytes())
    }
}
