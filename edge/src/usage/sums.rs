//! Sums up the usage of instances in a time window. Pure.
//!
//! The life of an instance that crosses a boundary of the window is cut there, and its usage taken in proportion.
//! Everything is counted in integers, so that adjacent windows add up exactly to the window over both.

use std::collections::BTreeMap;

use berth_api::usage::By;
use berth_common::ids::{AppName, ClassName, ObjectKey, ObjectName};
use berth_common::metering::STEP_MS;
use berth_engine::UsageRecord;

/// Most rows of a response: some tens of megabytes of memory, and more than anybody reads.
pub(crate) const MAX_ROWS: usize = 100_000;
/// The region of nodes without one.
const NO_REGION: &str = "unknown";

/// A time window, in milliseconds since 1970; its end is exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from_ms: u64,
    pub(crate) to_ms: u64,
}

/// The usage of one instance, ended or running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) key: ObjectKey,
    pub(crate) region: Option<String>,
    pub(crate) started_ms: u64,
    pub(crate) lived_ms: u64,
    pub(crate) cpu_us: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    pub(crate) estimated: bool,
    pub(crate) live: bool,
}

impl From<UsageRecord> for Life {
    fn from(record: UsageRecord) -> Self {
        Self {
            key: record.key,
            region: record.region,
            started_ms: record.started_ms,
            lived_ms: record.lived_cs.saturating_mul(STEP_MS),
            cpu_us: record.cpu_us,
            memory_bytes: record.memory_bytes,
            disk_bytes: record.disk_bytes,
            sent_bytes: record.sent_bytes,
            received_bytes: record.received_bytes,
            estimated: record.estimated,
            live: false,
        }
    }
}

impl Life {
    /// The same, with its end not after this time: the clocks of two machines differ a little.
    #[must_use]
    pub(crate) fn over_by(self, now_ms: u64) -> Self {
        let started_ms = self.started_ms.min(now_ms.saturating_sub(self.lived_ms));
        Self { started_ms, ..self }
    }
}

/// The part of an instance's life in a window, from and to, in milliseconds since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    from_ms: u64,
    to_ms: u64,
    of_ms: u64,
}

impl Window {
    fn part(self, life: &Life) -> Option<Part> {
        let end_ms = life.started_ms.saturating_add(life.lived_ms);
        let (from, to) = (self.from_ms.max(life.started_ms), self.to_ms.min(end_ms));
        // A life without duration counts where it began.
        let inside = if life.lived_ms == 0 {
            (self.from_ms..self.to_ms).contains(&life.started_ms)
        } else {
            from < to
        };
        let since_start = |at: u64| at.saturating_sub(life.started_ms);
        inside.then(|| Part { from_ms: since_start(from), to_ms: since_start(to), of_ms: life.lived_ms })
    }
}

impl Part {
    fn ms(self) -> u64 {
        self.to_ms.saturating_sub(self.from_ms)
    }

    /// The part's share of the whole usage: adjacent parts add up exactly to all of it.
    fn share(self, whole: u64) -> u64 {
        let Some(of) = Some(u128::from(self.of_ms)).filter(|of| *of > 0) else { return whole };
        let until = |ms: u64| u128::from(whole) * u128::from(ms) / of;
        u64::try_from(until(self.to_ms) - until(self.from_ms)).unwrap_or(whole)
    }
}

/// The sums.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) instances: u64,
    pub(crate) live: u64,
    pub(crate) estimated: u64,
    pub(crate) lived_ms: u128,
    pub(crate) cpu_us: u128,
    pub(crate) memory_byte_ms: u128,
    pub(crate) disk_byte_ms: u128,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: BTreeMap<String, u64>,
}

impl Sums {
    fn add(&mut self, life: &Life, part: Part) {
        let ms = u128::from(part.ms());
        self.instances += 1;
        self.live += u64::from(life.live);
        self.estimated += u64::from(life.estimated);
        self.lived_ms += ms;
        self.cpu_us += u128::from(part.share(life.cpu_us));
        self.memory_byte_ms += u128::from(life.memory_bytes) * ms;
        self.disk_byte_ms += u128::from(life.disk_bytes) * ms;
        self.received_bytes = self.received_bytes.saturating_add(part.share(life.received_bytes));
        let region = life.region.as_deref().unwrap_or(NO_REGION);
        match self.sent_bytes.get_mut(region) {
            Some(sent) => *sent = sent.saturating_add(part.share(life.sent_bytes)),
            None => drop(self.sent_bytes.insert(region.to_owned(), part.share(life.sent_bytes))),
        }
    }
}

/// The key of a row: an app, and if grouped so a class of it, and an object of that.
pub(crate) type RowKey = (AppName, Option<ClassName>, Option<ObjectName>);

/// There would be more rows than one response may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_ROWS} rows: ask for one app, for a shorter time, or by class or app")]
pub(crate) struct TooManyRows;

/// The rows of a response, and their sum.
#[derive(Debug)]
pub(crate) struct Table {
    window: Window,
    by: By,
    app: Option<AppName>,
    pub(crate) rows: BTreeMap<RowKey, Sums>,
    pub(crate) total: Sums,
}

impl Table {
    /// A table of all apps, or of one.
    pub(crate) fn new(window: Window, by: By, app: Option<AppName>) -> Self {
        Self { window, by, app, rows: BTreeMap::new(), total: Sums::default() }
    }

    /// Adds the usage of an instance, as far as it is in the window and of the app.
    pub(crate) fn add(&mut self, life: &Life) -> Result<(), TooManyRows> {
        let Some(part) = self.window.part(life).filter(|_| self.wants(&life.key)) else { return Ok(()) };
        let key = self.row_of(&life.key);
        if self.rows.len() >= MAX_ROWS && !self.rows.contains_key(&key) {
            return Err(TooManyRows);
        }
        self.rows.entry(key).or_default().add(life, part);
        self.total.add(life, part);
        Ok(())
    }

    fn wants(&self, key: &ObjectKey) -> bool {
        self.app.as_ref().is_none_or(|app| *app == key.app)
    }

    fn row_of(&self, key: &ObjectKey) -> RowKey {
        let class = (self.by != By::App).then(|| key.class.clone());
        (key.app.clone(), class, (self.by == By::Object).then(|| key.name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use berth_store::fixtures::life;

    use super::*;

    fn of(n: u32, ended_ms: u64) -> Life {
        life(n, ended_ms).into()
    }

    fn sums(lives: &[Life], from_ms: u64, to_ms: u64) -> Sums {
        let mut table = Table::new(Window { from_ms, to_ms }, By::App, None);
        lives.iter().for_each(|life| table.add(life).unwrap());
        table.total
    }

    #[test]
    fn a_life_inside_the_window_counts_in_full() {
        let sums = sums(&[of(1, 5_000)], 4_000, 5_000);
        assert_eq!((sums.instances, sums.lived_ms, sums.cpu_us), (1, 1_000, 500_000));
        assert_eq!(sums.memory_byte_ms, 1_000 << 30);
        assert_eq!(sums.sent_bytes, BTreeMap::from([("unknown".to_owned(), 10)]));
    }

    #[test]
    fn adjacent_windows_add_up_to_the_window_over_both() {
        let lives: Vec<Life> = (0..40)
            .map(|n| {
                let ended_ms = 3_000 + u64::from(n) * 137;
                Life { cpu_us: 333_333 + u64::from(n), sent_bytes: 7, ..of(n, ended_ms) }
            })
            .collect();
        let whole = sums(&lives, 0, 100_000);
        for cut in (2_000..9_000).step_by(61) {
            let (left, right) = (sums(&lives, 0, cut), sums(&lives, cut, 100_000));
            assert_eq!(left.lived_ms + right.lived_ms, whole.lived_ms, "{cut}");
            assert_eq!(left.cpu_us + right.cpu_us, whole.cpu_us, "{cut}");
            assert_eq!(left.memory_byte_ms + right.memory_byte_ms, whole.memory_byte_ms, "{cut}");
            let sent = |sums: &Sums| sums.sent_bytes.values().sum::<u64>();
            assert_eq!(sent(&left) + sent(&right), sent(&whole), "{cut}");
        }
    }

    #[test]
    fn reported_usage_is_not_cut_by_a_differing_clock() {
        let ahead = of(1, 5_000).over_by(4_990);
        assert_eq!((ahead.started_ms, ahead.lived_ms), (3_990, 1_000));
        assert_eq!(sums(&[ahead], 0, 4_990).cpu_us, 500_000);
        assert_eq!(of(1, 5_000).over_by(6_000), of(1, 5_000));
    }

    #[test]
    fn a_life_without_duration_counts_once() {
        let none = Life { lived_ms: 0, started_ms: 5_000, cpu_us: 9, ..of(1, 6_000) };
        assert_eq!(sums(std::slice::from_ref(&none), 4_000, 5_000).instances, 0);
        let there = sums(std::slice::from_ref(&none), 5_000, 6_000);
        assert_eq!((there.instances, there.lived_ms, there.cpu_us), (1, 0, 9));
    }

    #[test]
    fn rows_are_grouped_as_requested_and_filtered_by_app() {
        let mut other = of(9, 5_000);
        other.key.app = "z".parse().unwrap();
        for (by, app, expected) in
            [(By::App, None, 2), (By::Class, None, 2), (By::Object, None, 4), (By::Object, Some("a"), 3)]
        {
            let window = Window { from_ms: 0, to_ms: 10_000 };
            let mut table = Table::new(window, by, app.map(|app| app.parse().unwrap()));
            (0..6).for_each(|n| table.add(&of(n, 5_000)).unwrap());
            table.add(&other).unwrap();
            assert_eq!(table.rows.len(), expected, "{by:?} {app:?}");
        }
    }

    #[test]
    fn too_many_rows_are_refused() {
        let mut table = Table::new(Window { from_ms: 0, to_ms: 10_000 }, By::Object, None);
        let mut life = of(0, 5_000);
        for n in 0..MAX_ROWS {
            life.key.name = n.to_string().parse().unwrap();
            table.add(&life).unwrap();
        }
        table.add(&life).unwrap();
        life.key.name = "one more".parse().unwrap();
        assert_eq!(table.add(&life), Err(TooManyRows));
    }
}
