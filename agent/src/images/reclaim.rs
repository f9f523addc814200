//! Evicts unused layers when the disk fills up, the least recently used first. Never one of a container, of an image in
//! progress, or of a wanted image.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::statvfs::statvfs;

use super::modes::wipe;
use super::{Failure, Image, Images, LayerName};

/// How often the disk's usage is checked.
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// How often it is checked while a layer is unpacked: a fast disk takes some tens of megabytes in between.
const WATCH_EVERY: Duration = Duration::from_millis(50);
/// Age at which a spool file that no longer grows is removed.
const OLD_SPOOL: Duration = Duration::from_secs(600);

/// How full the disk of the node's state may become, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaterMarks {
    /// Eviction starts here.
    pub high: u8,
    /// Eviction stops here, or when no layer is unused.
    pub low: u8,
}

impl Images {
    /// Cleans up after an earlier agent, and then evicts layers as needed for as long as the agent lives.
    pub(super) async fn keep_tidy(self: Rc<Self>) {
        if let Err(error) = self.layers.tidy().await {
            tracing::warn!(%error, "cannot clean up images of an earlier agent");
        }
        loop {
            if self.is_full() {
                self.make_room(self.marks.low).await;
            }
            if let Err(error) = self.layers.drop_old_spools(OLD_SPOOL, |name| self.turns.are_wanted(name)) {
                tracing::warn!(%error, "cannot remove old spool files");
            }
            let _ = tokio::time::timeout(CHECK_EVERY, self.look.notified()).await;
        }
    }

    /// Whether the disk has reached the high water mark.
    pub(super) fn is_full(&self) -> bool {
        self.used_percent().is_some_and(|used| used >= u64::from(self.marks.high))
    }

    /// Returns once the disk is so full that unpacking has to stop: at the high water mark, or, where it was beyond that
    /// before, once half of the rest is used up.
    pub(super) async fn until_full(&self) -> Failure {
        let stop_at = self.stop_at();
        loop {
            tokio::time::sleep(WATCH_EVERY).await;
            if let Some(used) = self.used_percent().filter(|used| *used >= stop_at) {
                return Failure::full(format!(
                    "unpacking stopped because the disk of the node's state is full ({used} %): make room, or raise \
                     --image-high-water"
                ));
            }
        }
    }

    fn stop_at(&self) -> u64 {
        stop_mark(self.used_percent().unwrap_or(0), u64::from(self.marks.high))
    }

    /// Evicts layers until the disk is no fuller than this or no unused layer is left. Returns whether it evicted any.
    pub(super) async fn make_room(&self, low: u8) -> bool {
        let mut removed = false;
        let layers = match self.layers.by_last_use() {
            Ok(layers) => layers,
            Err(error) => {
                tracing::error!(%error, "cannot list layers to evict");
                return false;
            }
        };
        for name in layers {
            if self.unknown_in_use.get() || self.used_percent().is_none_or(|used| used <= u64::from(low)) {
                break;
            }
            // No await between this check and the rename, so no container can start to use the layer.
            if self.needed().contains(&name) || self.unpacking.has(name.as_str()) {
                continue;
            }
            match self.layers.set_aside(&name) {
                Ok(None) => {}
                Ok(Some(trash)) => {
                    self.forget_images_with(&name);
                    removed = true;
                    self.counts.evicted.count();
                    tracing::info!(layer = name.as_str(), "evicted an unused layer");
                    if let Err(error) = wipe(&trash).await {
                        tracing::error!(directory = %trash.display(), %error, "cannot evict a layer");
                    }
                }
                Err(error) => tracing::error!(layer = name.as_str(), %error, "cannot evict a layer"),
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

    /// Removes the documents of images that are gone.
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
        // As `df` counts: blocks reserved for root are neither used nor available.
        (used * 100).div_ceil(1.max(used + disk.blocks_available())).into()
    }
}

/// The percentage at which unpacking stops that begins at this one.
fn stop_mark(used: u64, high: u64) -> u64 {
    if used < high { high } else { used + (100_u64.saturating_sub(used)).div_ceil(2).max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacking_stops_at_the_mark_or_half_way_from_there_to_full() {
        assert_eq!(stop_mark(19, 85), 85);
        assert_eq!(stop_mark(84, 85), 85);
        assert_eq!(stop_mark(85, 85), 93);
        assert_eq!(stop_mark(99, 85), 100);
        assert_eq!(stop_mark(100, 85), 101);
    }
}
