//! How far a node is believed. Its certificate says who it is, not that it is well: what it reports is bounded in number, size
//! and rate by what an honest node can have to say, before any of it takes memory of the edge.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use berth_common::ids::{InstanceId, MAX_LABEL_BYTES};
use berth_common::spec::{MAX_LABELS, label_fault};
use berth_common::wire::call::{InstanceStatus, Phase, Room, Welcome};

/// Instances that a node may report at the beginning: an agent keeps as many, ended ones included.
const MAX_REPORTED: usize = 4096;
/// Bytes of messages that are kept of such a report, which may wait until it is complete; later ones are dropped.
const MAX_REPORT_TEXT_BYTES: usize = 2 << 20;
/// Longest report of one instance, in bytes. Its message, the only long part, is cut on both sides.
pub(crate) const MAX_STATUS_BYTES: usize = 64 << 10;
/// Instances that a node may report in a session though nobody has started them there: an honest one has none.
const MAX_STRANGERS: usize = 256;
/// Kinds of disk slots that a node may have.
const MAX_SLOT_SIZES: usize = 64;
/// Reports that may come at once, and the time between two beyond that: thousands of instances may end together, but no node
/// starts more than some in a second.
const BURST: u32 = 8192;
const INTERVAL: Duration = Duration::from_millis(1);

/// What no honest node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Excess {
    #[error("the node reports more than {MAX_REPORTED} instances")]
    Instances,
    #[error("the node keeps reporting instances that nobody has started on it (more than {MAX_STRANGERS})")]
    Strangers,
    #[error("the node names more than {MAX_SLOT_SIZES} sizes of disk slots")]
    Slots,
}

/// A Welcome with texts of a bounded length.
pub(super) fn welcome(mut welcome: Welcome) -> Result<Welcome, Excess> {
    if welcome.disk.slots.len() > MAX_SLOT_SIZES {
        return Err(Excess::Slots);
    }
    cut(&mut welcome.version);
    welcome.region.iter_mut().for_each(cut);
    // No honest agent takes others from its owner.
    welcome.labels.retain(|key, value| label_fault(key).is_none() && label_fault(value).is_none());
    while welcome.labels.len() > MAX_LABELS {
        welcome.labels.pop_last();
    }
    Ok(welcome)
}

/// What a node says of its room, if that is not too much.
pub(super) fn room(room: Room) -> Result<Room, Excess> {
    if room.slots.len() > MAX_SLOT_SIZES { Err(Excess::Slots) } else { Ok(room) }
}

/// A label of a node's own making.
fn cut(label: &mut String) {
    *label = label.chars().take(MAX_LABEL_BYTES).collect();
}

/// A report with texts of a bounded length.
pub(super) fn status(mut status: InstanceStatus) -> InstanceStatus {
    if let Phase::Exited(outcome) = status.phase {
        status.phase = Phase::Exited(outcome.bounded());
    }
    status.metered.iter_mut().filter_map(|metered| metered.region.as_mut()).for_each(cut);
    status
}

/// The report that a node makes of all its instances at the beginning.
#[derive(Debug, Default)]
pub(super) struct Report {
    all: Vec<InstanceStatus>,
    text_bytes: usize,
}

impl Report {
    pub(super) fn add(&mut self, mut status: InstanceStatus) -> Result<(), Excess> {
        if self.all.len() >= MAX_REPORTED {
            return Err(Excess::Instances);
        }
        if let Phase::Exited(outcome) = &mut status.phase {
            self.text_bytes += outcome.message.as_ref().map_or(0, String::len);
            if self.text_bytes > MAX_REPORT_TEXT_BYTES {
                outcome.message = None;
            }
        }
        self.all.push(status);
        Ok(())
    }

    pub(super) fn all(self) -> Vec<InstanceStatus> {
        self.all
    }
}

/// The instances that a node has a reason to report in a session.
#[derive(Debug, Default)]
pub(super) struct Known {
    instances: HashSet<InstanceId>,
    strangers: usize,
}

impl Known {
    /// It was reported at the beginning, or is being started.
    pub(super) fn add(&mut self, instance: InstanceId) {
        self.instances.insert(instance);
    }

    /// The node has forgotten these.
    pub(super) fn remove(&mut self, instances: &[InstanceId]) {
        for instance in instances {
            self.instances.remove(instance);
        }
    }

    /// Whether this may be reported, or how it is too much.
    pub(super) fn expect(&mut self, instance: InstanceId) -> Result<(), Excess> {
        if !self.instances.contains(&instance) {
            self.strangers += 1;
        }
        if self.strangers > MAX_STRANGERS { Err(Excess::Strangers) } else { Ok(()) }
    }
}

/// The pace at which reports of a node are read: what comes faster waits on the node.
#[derive(Debug)]
pub(crate) struct Pace {
    /// When the next one is due, if they came one by one.
    due: Instant,
}

impl Pace {
    pub(crate) fn starting(now: Instant) -> Self {
        Self { due: now }
    }

    /// How long to wait before the next report is read.
    pub(crate) fn wait(&mut self, now: Instant) -> Duration {
        self.due = self.due.max(now) + INTERVAL;
        let allowed = self.due.checked_sub(INTERVAL * BURST);
        allowed.map_or(Duration::ZERO, |allowed| allowed.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use berth_common::ids::{Generation, ObjectId};
    use berth_common::outcome::{ExitReason, MAX_MESSAGE_CHARS, Outcome};

    use super::*;

    fn id(number: usize) -> InstanceId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        InstanceId::from_bytes(bytes)
    }

    fn ended(number: usize, message: &str) -> InstanceStatus {
        let outcome = Outcome { message: Some(message.to_owned()), ..Outcome::exited(1) };
        InstanceStatus {
            instance: id(number),
            object: ObjectId::from_bytes([1; 16]),
            generation: Generation(1),
            phase: Phase::Exited(outcome),
            frozen: false,
            metered: None,
        }
    }

    fn message(status: &InstanceStatus) -> Option<&str> {
        match &status.phase {
            Phase::Exited(outcome) => outcome.message.as_deref(),
            _ => None,
        }
    }

    #[test]
    fn messages_are_cut_one_by_one_and_dropped_once_there_are_too_many() {
        let long = status(ended(1, &"x".repeat(60_000)));
        assert_eq!(message(&long).unwrap().chars().count(), MAX_MESSAGE_CHARS + 1);
        let mut report = Report::default();
        for number in 0..MAX_REPORTED {
            report.add(InstanceStatus { instance: id(number), ..long.clone() }).unwrap();
        }
        assert_eq!(report.add(long), Err(Excess::Instances));
        let all = report.all();
        let kept: usize = all.iter().filter_map(message).map(str::len).sum();
        assert!(kept <= MAX_REPORT_TEXT_BYTES && kept > MAX_REPORT_TEXT_BYTES / 2, "{kept}");
        assert_eq!(all.len(), MAX_REPORTED);
    }

    #[test]
    fn what_nobody_started_is_heard_for_a_while_and_what_was_for_ever() {
        let mut known = Known::default();
        known.add(id(0));
        assert!((0..10_000).all(|_| known.expect(id(0)).is_ok()));
        assert!((1..=MAX_STRANGERS).all(|number| known.expect(id(number)).is_ok()));
        known.remove(&[id(0)]);
        assert_eq!(known.expect(id(0)), Err(Excess::Strangers));
    }

    #[test]
    fn a_burst_is_read_at_once_and_what_follows_at_a_pace() {
        let now = Instant::now();
        let mut pace = Pace::starting(now);
        assert!((0..BURST).all(|_| pace.wait(now).is_zero()));
        assert_eq!(pace.wait(now), INTERVAL);
        assert_eq!(pace.wait(now), INTERVAL * 2);
        assert!(pace.wait(now + Duration::from_secs(1)).is_zero());
    }

    #[test]
    fn outcomes_of_this_side_are_bounded_too() {
        let long = Outcome::because(ExitReason::StartFailed, "y".repeat(1 << 20));
        assert!(long.message.unwrap().len() < MAX_STATUS_BYTES / 6);
    }
}
