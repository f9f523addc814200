//! The bytes of one file: as they are read, and as the platter has them.

use std::collections::BTreeSet;

use fastrand::Rng;

/// What a disk writes in one piece.
pub(super) const PAGE_BYTES: usize = 4096;

/// A file's bytes. What is written is only read until it is synced.
#[derive(Debug, Default)]
pub(super) struct Content {
    durable: Vec<u8>,
    volatile: Vec<u8>,
    /// Pages that differ between the two.
    dirty: BTreeSet<usize>,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.volatile.len() as u64
    }

    /// Pages that are not durable; at least one where only the length is not.
    pub(super) fn unsynced(&self) -> usize {
        self.dirty.len().max(usize::from(self.durable.len() != self.volatile.len()))
    }

    pub(super) fn read(&self, offset: usize, size: usize) -> &[u8] {
        let length = self.volatile.len();
        &self.volatile[offset.min(length)..offset.saturating_add(size).min(length)]
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if end > self.volatile.len() {
            self.resize(end);
        }
        self.volatile[offset..end].copy_from_slice(bytes);
        self.dirty.extend(pages(offset, end));
    }

    pub(super) fn resize(&mut self, length: usize) {
        let old = self.volatile.len();
        self.volatile.resize(length, 0);
        self.dirty.extend(pages(old.min(length), old.max(length)));
    }

    pub(super) fn sync(&mut self) {
        self.durable.resize(self.volatile.len(), 0);
        for page in std::mem::take(&mut self.dirty) {
            self.settle(page);
        }
    }

    /// A power cut that loses everything that was not synced.
    pub(super) fn drop_unsynced(&mut self) {
        self.volatile.clone_from(&self.durable);
        self.dirty.clear();
    }

    /// A power cut that keeps some of the unsynced pages; the length may be ahead of them, with zeros or old disk
    /// content.
    pub(super) fn tear(&mut self, chance: &mut Rng) {
        let survives = chance.f64();
        let filler = if chance.bool() { 0 } else { chance.u8(..) };
        if chance.bool() {
            self.durable.resize(self.volatile.len(), filler);
        }
        for page in std::mem::take(&mut self.dirty) {
            if chance.f64() < survives {
                let end = self.volatile.len().min((page + 1) * PAGE_BYTES);
                let length = self.durable.len().max(end);
                self.durable.resize(length, filler);
                self.settle(page);
            }
        }
        self.drop_unsynced();
    }

    /// Writes a page to where the durable bytes are long enough for it.
    fn settle(&mut self, page: usize) {
        let end = self.volatile.len().min(self.durable.len()).min((page + 1) * PAGE_BYTES);
        let begin = (page * PAGE_BYTES).min(end);
        self.durable[begin..end].copy_from_slice(&self.volatile[begin..end]);
    }
}

/// The pages that these bytes are in.
fn pages(begin: usize, end: usize) -> std::ops::Range<usize> {
    begin / PAGE_BYTES..end.div_ceil(PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(content: &Content) -> &[u8] {
        content.read(0, usize::MAX)
    }

    #[test]
    fn only_what_was_synced_outlives_a_power_cut() {
        let mut content = Content::default();
        content.write(2, b"old");
        assert_eq!(all(&content), b"\0\0old");
        content.sync();
        content.write(4, b"new, and longer");
        content.drop_unsynced();
        assert_eq!((all(&content), content.unsynced()), (&b"\0\0old"[..], 0));
        content.resize(1);
        content.resize(4);
        assert_eq!(all(&content), [0; 4]);
        content.sync();
        content.drop_unsynced();
        assert_eq!(all(&content), [0; 4]);
    }

    #[test]
    fn a_torn_file_has_whole_pages_of_the_old_and_the_new() {
        let (mut mixed, mut lengths) = (false, BTreeSet::new());
        for seed in 0..200 {
            let mut content = Content::default();
            content.write(0, &[1; 4 * PAGE_BYTES]);
            content.sync();
            content.write(0, &[2; 6 * PAGE_BYTES]);
            content.tear(&mut Rng::with_seed(seed));
            let pages: Vec<&[u8]> = all(&content).chunks(PAGE_BYTES).collect();
            assert!(pages.iter().all(|page| page.iter().all(|byte| *byte == page[0])), "seed {seed}");
            assert!(pages[..4].iter().all(|page| [1, 2].contains(&page[0])), "seed {seed}");
            mixed |= pages[0][0] != pages[1][0];
            lengths.insert(pages.len());
        }
        assert!(mixed && lengths == BTreeSet::from([4, 5, 6]), "{mixed} {lengths:?}");
    }
}
