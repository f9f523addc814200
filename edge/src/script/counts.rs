//! What scripts have done, over all apps, as metrics.

use std::time::{Duration, Instant};

use berth_monitor::Page;
use berth_monitor::cells::{Counter, Durations, Level};

use super::failure::Ended;

/// What was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Fetch,
    Scheduled,
    Method,
    Alarm,
}

impl Kind {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Fetch, "fetch"),
        (Self::Scheduled, "scheduled"),
        (Self::Method, "method"),
        (Self::Alarm, "alarm"),
    ];
}

/// Why a process or an isolate was lost.
const REASONS: [(Ended, &str); 5] = [
    (Ended::Memory, "memory"),
    (Ended::Cpu, "cpu"),
    (Ended::Died, "died"),
    (Ended::Silent, "silent"),
    (Ended::Lied, "lied"),
];

#[derive(Debug, Default)]
struct Outcomes {
    ok: Counter,
    failed: Counter,
}

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Counts {
    events: [Outcomes; Kind::ALL.len()],
    took: Durations,
    cpu_us: Counter,
    lost: [Counter; REASONS.len()],
    pub(super) resets: Counter,
    pub(super) objects: Level,
}

/// What the processes of scripts are now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Processes {
    pub(super) count: u64,
    pub(super) memory_bytes: u64,
}

impl Counts {
    /// An event has come to its end. One that was cut off has no CPU time that is known.
    pub(super) fn event(&self, kind: Kind, ok: bool, begun: Instant, cpu: Duration) {
        let outcomes = &self.events[kind as usize];
        if ok { &outcomes.ok } else { &outcomes.failed }.count();
        self.took.note(begun.elapsed());
        self.cpu(cpu);
    }

    /// CPU time that was used.
    pub(super) fn cpu(&self, cpu: Duration) {
        self.cpu_us.add(u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn lost(&self, why: Ended) {
        if let Some(index) = REASONS.iter().position(|(reason, _)| *reason == why) {
            self.lost[index].count();
        }
    }

    pub(super) fn add_to(&self, page: &mut Page, processes: Processes) {
        let events =
            page.counter("berth_edge_script_events_total", "Calls of handlers and methods of programs");
        for (kind, name) in Kind::ALL {
            let Outcomes { ok, failed } = &self.events[kind as usize];
            events.with(&[("event", name), ("outcome", "ok")], ok.get());
            events.with(&[("event", name), ("outcome", "failed")], failed.get());
        }
        page.histogram("berth_edge_script_event_duration_seconds", "Time until all of a call has ended")
            .with(&[], self.took.read());
        page.counter(
            "berth_edge_script_cpu_seconds_total",
            "CPU time of programs: of their calls, of loading them, and of what goes on beside",
        )
        .is(Duration::from_micros(self.cpu_us.get()));
        let lost = page.counter(
            "berth_edge_script_lost_total",
            "Isolates and processes of programs that were lost, with all that they did",
        );
        for ((_, name), count) in REASONS.iter().zip(&self.lost) {
            lost.with(&[("reason", name)], count.get());
        }
        page.counter(
            "berth_edge_script_object_resets_total",
            "Durable Objects that their own code has had reset",
        )
        .is(self.resets.get());
        page.gauge("berth_edge_script_objects", "Durable Objects in memory").is(self.objects.get());
        page.gauge("berth_edge_script_processes", "Processes of programs").is(processes.count);
        page.gauge("berth_edge_script_memory_bytes", "Memory of the processes of programs")
            .is(processes.memory_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_and_reason_has_its_own_counter() {
        for (index, (kind, _)) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
        let counts = Counts::default();
        counts.event(Kind::Alarm, false, Instant::now(), Duration::from_micros(7));
        counts.lost(Ended::Silent);
        counts.lost(Ended::Retired);
        assert_eq!(
            (counts.events[3].failed.get(), counts.events[3].ok.get(), counts.cpu_us.get()),
            (1, 0, 7)
        );
        assert_eq!(counts.lost.iter().map(Counter::get).collect::<Vec<_>>(), [0, 0, 0, 1, 0]);
    }
}
