//! Disks that are about to be free, and the starts that wait for them. As many starts wait as there are disks for them, so
//! that none waits in vain.
//!
//! Does not know why a disk is about to be free, nor what is free already.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use berth_common::spec::Resources;
use berth_shim::disk::Disk;
use tokio::sync::oneshot;

/// The disks that are about to be free, with their sizes in bytes, and who waits.
#[derive(Debug, Default)]
pub(super) struct Leaving(RefCell<State>);

#[derive(Debug, Default)]
struct State {
    disks: BTreeMap<PathBuf, u64>,
    /// In the order in which they came.
    waiters: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    bytes: u64,
    sender: oneshot::Sender<Disk>,
}

impl Leaving {
    pub(super) fn add(&self, path: &Path, bytes: u64) {
        self.0.borrow_mut().disks.insert(path.to_owned(), bytes);
    }

    pub(super) fn gone(&self, path: &Path) {
        self.0.borrow_mut().disks.remove(path);
    }

    /// Has a start wait, if there is a disk for it beyond those that others wait for.
    pub(super) fn wait(&self, needs: &Resources) -> Option<oneshot::Receiver<Disk>> {
        let mut state = self.0.borrow_mut();
        state.waiters.retain(|waiter| !waiter.sender.is_closed());
        let (sender, receiver) = oneshot::channel();
        state.waiters.push_back(Waiter { bytes: needs.disk_bytes, sender });
        if state.is_enough_without(None) {
            return Some(receiver);
        }
        state.waiters.pop_back();
        None
    }

    /// Whether all who wait find a disk without this one.
    pub(super) fn can_stay(&self, path: &Path) -> bool {
        let mut state = self.0.borrow_mut();
        state.waiters.retain(|waiter| !waiter.sender.is_closed());
        state.is_enough_without(Some(path))
    }

    /// Gives disks to those who wait, first to who needs most, so that a large one is not wasted on who needs little. `take`
    /// takes a free one of at least a size; `give_back` returns one.
    pub(super) fn serve(&self, take: impl Fn(u64) -> Option<Disk>, give_back: impl Fn(&Path)) {
        let waiting = std::mem::take(&mut self.0.borrow_mut().waiters);
        let mut waiting: Vec<(usize, Waiter)> = waiting.into_iter().enumerate().collect();
        waiting.sort_by_key(|(_, waiter)| std::cmp::Reverse(waiter.bytes));
        let mut left = Vec::new();
        for (arrival, waiter) in waiting {
            if waiter.sender.is_closed() {
                continue;
            }
            match take(waiter.bytes) {
                // The start was cancelled in this moment; nothing was written to the disk.
                Some(disk) => {
                    if let Err(Disk::Directory { path }) = waiter.sender.send(disk) {
                        give_back(&path);
                    }
                }
                None => left.push((arrival, waiter)),
            }
        }
        left.sort_by_key(|(arrival, _)| *arrival);
        self.0.borrow_mut().waiters = left.into_iter().map(|(_, waiter)| waiter).collect();
    }

    /// Drops those for whom there is no disk any more beside those of who came before them: their starts fail.
    pub(super) fn drop_hopeless(&self) {
        let mut state = self.0.borrow_mut();
        for waiter in std::mem::take(&mut state.waiters) {
            if waiter.sender.is_closed() {
                continue;
            }
            state.waiters.push_back(waiter);
            if !state.is_enough_without(None) {
                state.waiters.pop_back();
            }
        }
    }
}

impl State {
    /// Whether each waiter finds a disk of its own, but this one: those who need most take the largest.
    fn is_enough_without(&self, path: Option<&Path>) -> bool {
        let kept = self.disks.iter().filter(|(disk, _)| Some(disk.as_path()) != path);
        let mut sizes: Vec<u64> = kept.map(|(_, bytes)| *bytes).collect();
        let mut needs: Vec<u64> = self.waiters.iter().map(|waiter| waiter.bytes).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        needs.sort_unstable_by(|a, b| b.cmp(a));
        needs.len() <= sizes.len() && needs.iter().zip(&sizes).all(|(need, size)| need <= size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(bytes: u64) -> Resources {
        Resources { cpu_sixteenths: 1, memory_bytes: 1, disk_bytes: bytes, disk_in_memory: false }
    }

    fn disk(path: &str) -> Disk {
        Disk::Directory { path: path.into() }
    }

    #[test]
    fn as_many_wait_as_there_are_disks_for_and_a_large_one_goes_to_who_needs_it() {
        let leaving = Leaving::default();
        assert!(leaving.wait(&needs(1)).is_none(), "nothing is about to be free");
        leaving.add(Path::new("/small"), 100);
        leaving.add(Path::new("/large"), 200);
        assert!(leaving.wait(&needs(201)).is_none());
        let mut little = leaving.wait(&needs(50)).unwrap();
        let mut much = leaving.wait(&needs(150)).unwrap();
        assert!(leaving.wait(&needs(150)).is_none(), "only one is as large");
        assert!(!leaving.can_stay(Path::new("/large")) && leaving.wait(&needs(1)).is_none());
        leaving.gone(Path::new("/large"));
        let free = RefCell::new(vec![disk("/large")]);
        leaving.serve(|_| free.borrow_mut().pop(), |_| panic!("it was taken"));
        assert_eq!(much.try_recv(), Ok(disk("/large")));
        assert!(little.try_recv().is_err());
        free.borrow_mut().push(disk("/small"));
        leaving.serve(|_| free.borrow_mut().pop(), |_| panic!("it was taken"));
        assert_eq!(little.try_recv(), Ok(disk("/small")));
    }

    #[test]
    fn a_disk_that_is_not_free_after_all_fails_only_who_came_last() {
        let leaving = Leaving::default();
        leaving.add(Path::new("/a"), 100);
        leaving.add(Path::new("/b"), 100);
        let mut first = leaving.wait(&needs(100)).unwrap();
        let mut last = leaving.wait(&needs(100)).unwrap();
        leaving.gone(Path::new("/a"));
        leaving.drop_hopeless();
        assert!(matches!(first.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
        assert!(matches!(last.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        // Those who have gone keep nobody from waiting, and what they get is returned.
        drop(first);
        assert!(leaving.can_stay(Path::new("/b")));
        let _waits = leaving.wait(&needs(100)).unwrap();
    }

    /// Whether a start still waits.
    fn waits(receiver: &mut oneshot::Receiver<Disk>) -> bool {
        matches!(receiver.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }

    fn leaving(disks: &[(&str, u64)]) -> Leaving {
        let leaving = Leaving::default();
        disks.iter().for_each(|(path, bytes)| leaving.add(Path::new(path), *bytes));
        leaving
    }

    #[test]
    fn who_needs_less_goes_on_waiting_when_the_large_disk_breaks() {
        let leaving = leaving(&[("/small", 100), ("/large", 200)]);
        let mut much = leaving.wait(&needs(150)).unwrap();
        let mut little = leaving.wait(&needs(50)).unwrap();
        leaving.gone(Path::new("/large"));
        leaving.drop_hopeless();
        assert!(!waits(&mut much) && waits(&mut little));
    }

    #[test]
    fn who_came_last_fails_whatever_it_needs_also_after_some_were_served() {
        let leaving = leaving(&[("/a", 100), ("/b", 100), ("/c", 300)]);
        let mut first = leaving.wait(&needs(50)).unwrap();
        let mut last = leaving.wait(&needs(100)).unwrap();
        leaving.serve(|_| None, |_| panic!("nothing was taken"));
        leaving.gone(Path::new("/a"));
        leaving.gone(Path::new("/b"));
        leaving.drop_hopeless();
        assert!(waits(&mut first) && !waits(&mut last));
    }

    #[test]
    fn who_has_gone_takes_nobodys_place() {
        let leaving = leaving(&[("/a", 100), ("/b", 100)]);
        drop(leaving.wait(&needs(100)).unwrap());
        let mut stays = leaving.wait(&needs(100)).unwrap();
        leaving.gone(Path::new("/a"));
        leaving.drop_hopeless();
        assert!(waits(&mut stays));
    }
}
