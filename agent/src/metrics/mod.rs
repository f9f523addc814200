//! The agent's counters, all on its one thread. `page` shows them together with current values of other modules.

mod show;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use berth_common::ids::EdgeId;
use berth_common::outcome::ExitReason;
use berth_common::spec::Resources;
use berth_common::wire::call::Phase;
use berth_monitor::cells::{Counter, Durations};

use crate::splice::Traffic;

/// Phases of instances, in the order of `phase`'s numbers.
pub(crate) const PHASES: [&str; 5] = ["starting", "running", "ready", "stopping", "exited"];
/// Reasons of ends, as the node sees them, in the order of `reason`'s numbers. Only the edge knows why it ended an
/// instance.
const REASONS: [&str; 7] = ["exit", "signal", "oom", "drained", "start_failed", "runtime_lost", "other"];

fn phase(phase: &Phase) -> usize {
    match phase {
        Phase::Starting => 0,
        Phase::Running => 1,
        Phase::Ready => 2,
        Phase::Stopping => 3,
        Phase::Exited(_) => 4,
    }
}

fn reason(reason: ExitReason) -> usize {
    match reason {
        ExitReason::Exit => 0,
        ExitReason::Signal => 1,
        ExitReason::Oom => 2,
        ExitReason::Drained => 3,
        ExitReason::StartFailed => 4,
        ExitReason::RuntimeLost => 5,
        ExitReason::Idle
        | ExitReason::Stopped
        | ExitReason::Destroyed
        | ExitReason::NodeLost
        | ExitReason::Unknown => 6,
    }
}

/// Counters of the lives of instances.
#[derive(Debug, Default)]
pub(crate) struct InstanceCounts {
    ready: Counter,
    failed: Counter,
    refused: Counter,
    /// Time from admission until ready.
    took: Durations,
    ends: [Counter; REASONS.len()],
}

impl InstanceCounts {
    /// Counts a refused start.
    pub(crate) fn refused(&self) {
        self.refused.count();
    }

    /// Counts an instance that reached a phase. `starting`: how long it took until it was ready or ended.
    pub(crate) fn note(&self, phase: &Phase, starting: Option<Duration>) {
        match phase {
            Phase::Ready => {
                if let Some(took) = starting {
                    self.ready.count();
                    self.took.note(took);
                }
            }
            Phase::Exited(outcome) => {
                if starting.is_some() {
                    self.failed.count();
                }
                self.ends[reason(outcome.reason)].count();
            }
            Phase::Starting | Phase::Running | Phase::Stopping => {}
        }
    }
}

/// The current instances.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// In the order of `PHASES`.
    pub(crate) phases: [u64; PHASES.len()],
    pub(crate) memory_bytes: u64,
    pub(crate) cpu_sixteenths: u32,
}

impl Census {
    /// Adds an instance. An ended one takes no resources.
    pub(crate) fn add(&mut self, in_phase: &Phase, resources: &Resources) {
        self.phases[phase(in_phase)] += 1;
        if !matches!(in_phase, Phase::Exited(_)) {
            self.memory_bytes = self.memory_bytes.saturating_add(resources.memory_bytes);
            self.cpu_sixteenths = self.cpu_sixteenths.saturating_add(resources.cpu_sixteenths);
        }
    }
}

/// Counters of connections and tunnels.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Tunnels that reached their port.
    pub(crate) tunnels: Counter,
    /// Tunnels that did not.
    pub(crate) tunnels_refused: Counter,
    /// Tunnels that were cut because too much in them was not read.
    pub(crate) tunnels_unread: Counter,
    /// Bytes of all tunnels.
    pub(crate) traffic: Traffic,
    /// Connections of each edge.
    edges: RefCell<BTreeMap<EdgeId, usize>>,
}

impl Counts {
    /// Counts a connection of an edge for as long as the result lives.
    pub(crate) fn connected(&self, edge: &EdgeId) -> Connection<'_> {
        *self.edges.borrow_mut().entry(edge.clone()).or_default() += 1;
        Connection { counts: self, edge: edge.clone() }
    }
}

/// One connection of an edge.
pub(crate) struct Connection<'a> {
    counts: &'a Counts,
    edge: EdgeId,
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        let mut edges = self.counts.edges.borrow_mut();
        if let Some(count) = edges.get_mut(&self.edge) {
            *count -= 1;
            if *count == 0 {
                edges.remove(&self.edge);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_common::outcome::Outcome;

    #[test]
    fn a_start_has_one_result_and_an_end_one_reason() {
        let counts = InstanceCounts::default();
        let took = Some(Duration::from_millis(7));
        counts.note(&Phase::Running, None);
        counts.note(&Phase::Ready, took);
        counts.note(&Phase::Exited(Outcome::because(ExitReason::Drained, "")), None);
        counts.note(&Phase::Exited(Outcome::exited(3)), took);
        // One of an earlier agent.
        counts.note(&Phase::Ready, None);
        assert_eq!((counts.ready.get(), counts.failed.get(), counts.took.read().count()), (1, 1, 1));
        assert_eq!((counts.ends[0].get(), counts.ends[3].get()), (1, 1));
    }

    #[test]
    fn an_edge_is_connected_until_its_last_connection_has_gone() {
        let counts = Counts::default();
        let (e, f) = ("e".parse().unwrap(), "f".parse().unwrap());
        let first = counts.connected(&e);
        let rest = [counts.connected(&e), counts.connected(&f)];
        drop(first);
        assert_eq!(counts.edges.borrow().values().copied().collect::<Vec<_>>(), [1, 1]);
        drop(rest);
        assert!(counts.edges.borrow().is_empty());
    }
}
