//! The terms of a node's instances: until when those of each edge may run without a further word of it. One page of a file,
//! which the agent writes, and which supervisor and shims read: each of them alone sees that a term is over.
//!
//! ```text
//! 0        8         24       32                       integers big-endian
//! | "BERTHT01" | boot id | zero | slot 0 | slot 1 | ...
//! slot: | key of the edge 16 | certificate's age 8 | epoch 8 | until 8 | until, inverted 8 |
//! ```
//!
//! Times are milliseconds of `CLOCK_BOOTTIME`. The agent only ever moves `until` forward.
//!
//! What fails, and what happens then:
//! * The agent is killed: its page stays, and terms end as written.
//! * The machine boots: the page is of another boot, and counts as empty; nothing of that boot runs any more.
//! * A reader comes between two halves of a write: `until` and its inverse do not match, and are read again. If they never
//!   match, the term is over.
//! * All slots are taken: another edge has none, and its starts are refused until the machine boots.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use berth_common::ids::EdgeId;
use berth_common::wire::term::{BootId, Stamp};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::clock_gettime;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How long after the end of a term processes may take to freeze before they are killed. A throttled process takes 80 ms.
pub const FREEZE_TIMEOUT: Duration = Duration::from_millis(500);
/// `until` of an edge whose version gives no terms: its instances run without end.
pub const UNBOUNDED: u64 = u64::MAX;

/// Where the kernel tells which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// The first bytes of the page.
const MAGIC: [u8; 8] = *b"BERTHT01";
const PAGE_BYTES: usize = 4096;
const HEAD_BYTES: usize = 32;
const SLOT_BYTES: usize = 48;
/// Edges that may have instances on one node in one boot: as many as fit into the page.
pub const SLOTS: usize = (PAGE_BYTES - HEAD_BYTES) / SLOT_BYTES;
const KEY_BYTES: usize = 16;
/// Places within a slot.
const FENCE_AT: usize = KEY_BYTES;
const UNTIL_AT: usize = FENCE_AT + 16;
/// How often a slot is read whose halves do not match: a write takes less than a microsecond.
const READS: usize = 64;

/// The place of an edge in the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Slot(u16);

impl Slot {
    fn at(self) -> usize {
        HEAD_BYTES + usize::from(self.0) * SLOT_BYTES
    }
}

/// The newest session of an edge: what is older has no say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence {
    /// When its certificate was issued, in seconds since 1970.
    pub issued_s: i64,
    /// Its epoch.
    pub epoch: u64,
}

/// The page.
#[derive(Debug)]
pub struct Terms {
    file: File,
    boot: BootId,
}

impl Terms {
    /// Opens the page, and makes or empties it if it is not of this boot.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let terms = Self { file, boot: boot()? };
        if !terms.is_of_this_boot()? {
            terms.file.write_all_at(&[0; PAGE_BYTES], 0)?;
            let head = [MAGIC.as_slice(), terms.boot.as_bytes()].concat();
            terms.file.write_all_at(&head, 0)?;
        }
        Ok(terms)
    }

    /// A page that the supervisor has opened.
    pub(crate) fn inherited(file: OwnedFd) -> io::Result<Self> {
        Ok(Self { file: File::from(file), boot: boot()? })
    }

    fn is_of_this_boot(&self) -> io::Result<bool> {
        let mut head = [0; MAGIC.len() + KEY_BYTES];
        match self.file.read_exact_at(&mut head, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
            Ok(()) => Ok(head[..MAGIC.len()] == MAGIC && head[MAGIC.len()..] == *self.boot.as_bytes()),
        }
    }

    /// The boot that its times are of.
    pub fn boot(&self) -> BootId {
        self.boot
    }

    /// What time it is.
    pub fn stamp(&self) -> Stamp {
        Stamp { boot: self.boot, ms: now_ms() }
    }

    /// The slot of an edge, which it gets if it has none; `None` if all are taken. Only for the agent.
    pub fn slot_of(&self, edge: &EdgeId) -> io::Result<Option<Slot>> {
        let key = key_of(edge);
        for slot in slots() {
            let mut known = [0; KEY_BYTES];
            self.file.read_exact_at(&mut known, slot.at() as u64)?;
            if known == key {
                return Ok(Some(slot));
            }
            if known == [0; KEY_BYTES] {
                self.write_until(slot, 0)?;
                self.file.write_all_at(&key, slot.at() as u64)?;
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    /// When the terms of this slot end. What cannot be read has ended.
    pub fn until_ms(&self, slot: Slot) -> u64 {
        let mut both = [0; 16];
        for _ in 0..READS {
            if self.file.read_exact_at(&mut both, (slot.at() + UNTIL_AT) as u64).is_err() {
                return 0;
            }
            let [until, inverse] = halves(&both);
            if until == !inverse {
                return until;
            }
        }
        0
    }

    /// Moves the end of the terms of this slot forward; never back, but to a first end from none. Only for the agent.
    pub fn prolong(&self, slot: Slot, until_ms: u64) -> io::Result<()> {
        let known = self.until_ms(slot);
        if known != UNBOUNDED && known >= until_ms {
            return Ok(());
        }
        self.write_until(slot, until_ms)
    }

    /// The end of each slot's terms, as far as slots are taken.
    pub(crate) fn all(&self) -> io::Result<Vec<(Slot, u64)>> {
        let mut page = [0; PAGE_BYTES];
        let length = self.file.read_at(&mut page, 0)?;
        let is_taken = |slot: &Slot| page[slot.at()..slot.at() + KEY_BYTES] != [0; KEY_BYTES];
        let within = slots().take_while(|slot| slot.at() + SLOT_BYTES <= length && is_taken(slot));
        Ok(within.map(|slot| (slot, self.until_ms(slot))).collect())
    }

    fn write_until(&self, slot: Slot, until_ms: u64) -> io::Result<()> {
        let both = [until_ms.to_be_bytes(), (!until_ms).to_be_bytes()].concat();
        self.file.write_all_at(&both, (slot.at() + UNTIL_AT) as u64)
    }

    /// The newest session that an edge has had in this boot.
    pub fn fence(&self, slot: Slot) -> io::Result<Fence> {
        let mut both = [0; 16];
        self.file.read_exact_at(&mut both, (slot.at() + FENCE_AT) as u64)?;
        let [issued_s, epoch] = halves(&both);
        Ok(Fence { issued_s: issued_s.cast_signed(), epoch })
    }

    /// Notes a newer session. Only for the agent.
    pub fn raise(&self, slot: Slot, fence: Fence) -> io::Result<()> {
        let both = [fence.issued_s.to_be_bytes(), fence.epoch.to_be_bytes()].concat();
        self.file.write_all_at(&both, (slot.at() + FENCE_AT) as u64)
    }
}

/// All slots, in order.
fn slots() -> impl Iterator<Item = Slot> {
    (0..SLOTS).filter_map(|slot| u16::try_from(slot).ok()).map(Slot)
}

fn halves(both: &[u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = *both;
    [[a, b, c, d, e, f, g, h], rest].map(u64::from_be_bytes)
}

/// Never zero, which is the key of a free slot: no hash that anybody finds is.
fn key_of(edge: &EdgeId) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    let name = edge.as_str().as_bytes();
    key.copy_from_slice(&Sha256::digest(name)[..KEY_BYTES]);
    key
}

/// Now, in milliseconds of `CLOCK_BOOTTIME`.
pub fn now_ms() -> u64 {
    // This clock exists on every Linux that Berth supports.
    let now = clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn boot() -> io::Result<BootId> {
    let text = std::fs::read_to_string(BOOT_ID)?;
    BootId::try_from(text.trim().to_owned()).map_err(io::Error::other)
}

/// A timer on the same clock, to wait for with other descriptors.
pub(crate) fn timer() -> io::Result<TimerFd> {
    Ok(TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?)
}

/// Sets it to this moment, at once if that has passed.
pub(crate) fn set(timer: &TimerFd, at_ms: u64) -> io::Result<()> {
    // Zero would turn it off; what the kernel cannot represent never comes.
    let at = Duration::from_millis(at_ms.clamp(1, i64::MAX.unsigned_abs() / 1_000_000));
    let at = Expiration::OneShot(TimeSpec::from_duration(at));
    Ok(timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn open(directory: &Path) -> Terms {
        Terms::open(&directory.join("terms")).unwrap()
    }

    #[test]
    fn a_term_moves_forward_only_and_outlives_the_agent() {
        let directory = tempfile::tempdir().unwrap();
        let terms = open(directory.path());
        let [one, other] =
            ["one", "other"].map(|edge| terms.slot_of(&edge.parse().unwrap()).unwrap().unwrap());
        assert_ne!(one, other);
        assert_eq!(terms.until_ms(one), 0, "nobody has given a term yet");
        for (until, now) in [(700, 700), (300, 700), (900, 900)] {
            terms.prolong(one, until).unwrap();
            assert_eq!((terms.until_ms(one), terms.until_ms(other)), (now, 0));
        }
        let fence = Fence { issued_s: -3, epoch: 9 };
        terms.raise(one, fence).unwrap();
        let again = open(directory.path());
        assert_eq!(again.slot_of(&"one".parse().unwrap()).unwrap(), Some(one));
        assert_eq!((again.until_ms(one), again.fence(one).unwrap()), (900, fence));
    }

    #[test]
    fn an_edge_that_gives_no_terms_may_begin_to() {
        let directory = tempfile::tempdir().unwrap();
        let terms = open(directory.path());
        let slot = terms.slot_of(&"e".parse().unwrap()).unwrap().unwrap();
        for until in [UNBOUNDED, 500, UNBOUNDED] {
            terms.prolong(slot, until).unwrap();
            assert_eq!(terms.until_ms(slot), until);
        }
    }

    #[test]
    fn the_page_of_another_boot_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let terms = open(directory.path());
        let slot = terms.slot_of(&"e".parse().unwrap()).unwrap().unwrap();
        terms.prolong(slot, 500).unwrap();
        terms.file.write_all_at(&[7], MAGIC.len() as u64).unwrap();
        assert_eq!(open(directory.path()).until_ms(slot), 0);
    }

    #[test]
    fn a_torn_term_is_over() {
        let directory = tempfile::tempdir().unwrap();
        let terms = open(directory.path());
        let slot = terms.slot_of(&"e".parse().unwrap()).unwrap().unwrap();
        terms.prolong(slot, 500).unwrap();
        terms.file.write_all_at(&[0xff], (slot.at() + UNTIL_AT) as u64).unwrap();
        assert_eq!(terms.until_ms(slot), 0);
    }

    #[test]
    fn there_is_a_slot_for_each_of_many_edges_and_none_for_more() {
        let directory = tempfile::tempdir().unwrap();
        let terms = open(directory.path());
        let slot = |number: usize| terms.slot_of(&format!("e{number}").parse().unwrap()).unwrap();
        let all: std::collections::BTreeSet<_> = (0..SLOTS).filter_map(slot).collect();
        assert_eq!((all.len(), slot(SLOTS)), (SLOTS, None));
        assert!(std::fs::metadata(directory.path().join("terms")).unwrap().len() <= PAGE_BYTES as u64);
    }

    #[test]
    fn a_timer_comes_when_its_moment_has() {
        let timer = timer().unwrap();
        set(&timer, now_ms() + 60_000).unwrap();
        assert!(timer.wait().is_err(), "it does not block");
        set(&timer, 1).unwrap();
        let ready = crate::wait::wait(&[Some(timer.as_fd())], None).unwrap();
        assert_eq!(ready, [true]);
    }
}
