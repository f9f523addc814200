//! How long the requests of one part of a bench took.

use std::time::Duration;

use super::report::Report;

/// Latencies, in milliseconds.
#[derive(Debug)]
pub struct Latencies {
    /// Half of the requests took no longer.
    pub p50_ms: f64,
    /// All but one of a hundred took no longer.
    pub p99_ms: f64,
    /// The longest.
    pub worst_ms: f64,
}

impl Latencies {
    /// Those of these requests.
    pub fn of(mut took: Vec<Duration>) -> Self {
        took.sort_unstable();
        let at = |hundredths: usize| {
            let index = (took.len() * hundredths / 100).min(took.len().saturating_sub(1));
            took.get(index).map_or(0.0, |took| took.as_secs_f64() * 1e3)
        };
        Self { p50_ms: at(50), p99_ms: at(99), worst_ms: at(100) }
    }

    /// Adds them to a report, under names that begin with the part's.
    pub fn add_to(&self, report: &mut Report, part: &str) {
        report.value(format!("{part}_p50_ms"), self.p50_ms);
        report.value(format!("{part}_p99_ms"), self.p99_ms);
        report.value(format!("{part}_worst_ms"), self.worst_ms);
    }
}
