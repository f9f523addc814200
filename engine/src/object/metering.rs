//! The usage of an ended instance: measured by its node, or estimated if the node cannot report it.

use std::time::Duration;

use berth_common::metering::Metered;
use berth_common::outcome::Outcome;

use super::Object;
use super::live::{Live, Stage};
use crate::input::Kept;
use crate::usage::UsageRecord;

impl Live {
    /// Records when its node first reported it running.
    pub(super) fn note_running(&mut self, now_ms: u64) {
        self.running_since_ms.get_or_insert(now_ms);
    }

    /// Since when it runs, as far as is known: for one that an earlier run of the edge placed, since its placement.
    pub(super) fn runs_since_ms(&self) -> Option<u64> {
        let recovering = matches!(self.stage, Stage::Recovering);
        self.running_since_ms.or_else(|| recovering.then_some(self.placed_ms))
    }

    /// Its usage as reported with its end; estimated if its node is of an earlier version, which does not measure.
    pub(super) fn metered(&self, reported: Option<Metered>, now_ms: u64) -> Option<Metered> {
        reported.or_else(|| self.running_since_ms.map(|_| self.estimate(now_ms)))
    }

    /// The estimated usage of an instance that its node does not know any more. None if it certainly never ran: it was
    /// not seen running, and was placed after the node last lost records.
    pub(super) fn lost(&self, kept: Kept, now_ms: u64) -> Option<Metered> {
        let may_be_lost = kept.since_ms.is_none_or(|since| self.placed_ms <= since);
        if self.running_since_ms.is_none() && !may_be_lost {
            return None;
        }
        let since = kept.since_ms.filter(|_| may_be_lost);
        let ends = [Some(now_ms), kept.heard_ms, since].into_iter().flatten();
        Some(self.estimate(ends.min().unwrap_or(now_ms)))
    }

    /// The estimated usage of an instance whose node is lost: until that was last heard of. Nothing, if it is not known to have
    /// run; but as its start was sent, it may have, and then its node comes back with what takes the place of this. None if it
    /// was not even started.
    pub(super) fn vanished(&self, heard_ms: u64, now_ms: u64) -> Option<Metered> {
        let end_ms = if self.runs_since_ms().is_some() { heard_ms.min(now_ms) } else { self.placed_ms };
        let is_started = !matches!(self.stage, Stage::Placing { .. });
        is_started.then(|| self.estimate(end_ms))
    }

    fn estimate(&self, end_ms: u64) -> Metered {
        let started_ms = self.running_since_ms.unwrap_or(self.placed_ms);
        Metered::estimate(started_ms, Duration::from_millis(end_ms.saturating_sub(started_ms)))
    }
}

impl Object {
    /// The usage record of an instance.
    pub(super) fn usage(&self, live: &Live, metered: Metered, outcome: &Outcome) -> Box<UsageRecord> {
        let resources = live.class.recipe.resources;
        Box::new(UsageRecord {
            key: self.key.clone(),
            instance: live.instance,
            generation: self.generation,
            node: live.node.clone(),
            region: metered.region,
            started_ms: metered.started_ms,
            lived_cs: metered.lived_cs,
            cpu_us: metered.cpu_us,
            memory_bytes: resources.memory_bytes,
            disk_bytes: resources.disk_bytes,
            cpu_sixteenths: resources.cpu_sixteenths,
            sent_bytes: metered.sent_bytes,
            received_bytes: metered.received_bytes,
            reason: outcome.reason,
            estimated: metered.estimated,
        })
    }
}
