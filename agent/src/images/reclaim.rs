//! Makes room when the disk fills up: layers that nobody needs go, the one first that was used least recently. Never one of
//! a container, of an image on its way, or of one that an edge wants held.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::statvfs::statvfs;

use super::modes::wipe;
use super::{Image, Images, LayerName};

/// How often the disk is looked at without a reason.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long the bytes of a layer may lie there without any more coming.
const OLD_SPOOL: Duration = Duration::from_secs(600);

/// How full the disk of the node's state may become, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaterMarks {
    /// From here on room is made.
    pub high: u8,
    /// Until here, as far as there is something that nobody needs.
    pub low: u8,
}

impl Images {
    /// Tidies up after an earlier agent, and then looks after the disk for as long as the agent lives.
    pub(super) async fn keep_tidy(self: Rc<Self>) {
        if let Err(error) = self.layers.tidy().await {
            tracing::warn!(%error, "cannot remove what an earlier agent has left of images");
        }
        loop {
            if self.is_full() {
                self.make_room(self.marks.low).await;
            }
            if let Err(error) = self.layers.drop_old_spools(OLD_SPOOL) {
                tracing::warn!(%error, "cannot remove what came of layers that nobody fetches any more");
            }
            let _ = tokio::time::timeout(LOOK_EVERY, self.look.notified()).await;
        }
    }

    /// Whether the disk is as full as it may become.
    pub(super) fn is_full(&self) -> bool {
        self.used_percent().is_some_and(|used| used >= u64::from(self.marks.high))
    }

    /// Removes layers until the disk is no fuller than this, or nothing is left to remove; whether it removed any.
    pub(super) async fn make_room(&self, low: u8) -> bool {
        let mut removed = false;
        let layers = match self.layers.by_last_use() {
            Ok(layers) => layers,
            Err(error) => {
                tracing::error!(%error, "cannot look for layers to remove");
                return false;
            }
        };
        for name in layers {
            if self.unknown_in_use.get() || self.used_percent().is_none_or(|used| used <= u64::from(low)) {
                break;
            }
            // Between this look and the step that takes it away nobody can come.
            if self.needed().contains(&name) || self.unpacking.has(name.as_str()) {
                continue;
            }
            match self.layers.set_aside(&name) {
                Ok(None) => {}
                Ok(Some(trash)) => {
                    self.forget_images_with(&name);
                    removed = true;
                    self.counts.evicted.count();
                    tracing::info!(layer = name.as_str(), "removed a layer that nobody needs, to make room");
                    if let Err(error) = wipe(&trash).await {
                        tracing::error!(directory = %trash.display(), %error, "cannot remove a layer");
                    }
                }
                Err(error) => tracing::error!(layer = name.as_str(), %error, "cannot remove a layer"),
            }
        }
        self.drop_documents();
        removed
    }

    fn forget_images_with(&self, name: &LayerName) {
        let has = |image: &Image| {
            image.layers.iter().any(|files| self.layers.name_of(files).as_ref() == Some(name))
        };
        self.opened.borrow_mut().retain(|_, image| !has(image));
    }

    /// Removes what describes images that are not there any more.
    fn drop_documents(&self) {
        let mut kept = HashSet::new();
        let wanted = self.wanted.all();
        let (opened, coming) = (self.opened.borrow(), self.progress.borrow());
        for image in opened.keys().chain(coming.keys()).chain(&wanted) {
            kept.extend(self.documents_of(image));
        }
        if let Err(error) = self.documents.keep_only(&kept) {
            tracing::warn!(%error, "cannot remove manifests of images that are gone");
        }
    }

    fn used_percent(&self) -> Option<u64> {
        let disk = statvfs(self.layers.directory()).ok()?;
        let used = disk.blocks().checked_sub(disk.blocks_free())?;
        // What only root may use counts as used by nobody.
        (used * 100).div_ceil(1.max(used + disk.blocks_available())).into()
    }
}
