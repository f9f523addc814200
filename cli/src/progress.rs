//! Progress of long work, on standard error: bars on a terminal, elsewhere a line when something is done.

use std::fmt::Display;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use berth_common::shown::shown;
use bytesize::ByteSize;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the spinner moves without progress.
const TICK: Duration = Duration::from_millis(100);
/// A line for completed work is printed only if it took longer than this: for quick work it would be noise.
const LONG: Duration = Duration::from_secs(10);
/// The template of a progress bar.
const STYLE: &str = "{spinner} {prefix} {pos}/{len} {wide_msg} {elapsed}";

/// The template of a bar for transfers, which are counted in bytes.
const TRANSFER_STYLE: &str =
    "{prefix:12} [{bar:30}] {binary_bytes:>11}/{binary_total_bytes:11} {binary_bytes_per_sec:>13} {wide_msg}";

/// A number of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    ByteSize(count).display().iec().to_string()
}

/// Several transfers at once.
pub(crate) struct Transfers {
    bars: MultiProgress,
    terminal: bool,
}

/// One of them. Its bar is gone once this is.
pub(crate) struct Transfer {
    bar: ProgressBar,
    all: MultiProgress,
    name: String,
    terminal: bool,
    began: Instant,
}

impl Transfers {
    pub(crate) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { bars: MultiProgress::with_draw_target(target), terminal }
    }

    /// Shows one more.
    pub(crate) fn begin(&self, name: &str, total: u64) -> Transfer {
        let bar = self.bars.add(ProgressBar::new(total).with_prefix(shown(name).into_owned()));
        if let Ok(style) = ProgressStyle::with_template(TRANSFER_STYLE) {
            bar.set_style(style);
        }
        Transfer {
            bar,
            all: self.bars.clone(),
            name: name.to_owned(),
            terminal: self.terminal,
            began: Instant::now(),
        }
    }
}

impl Transfer {
    /// It is this far.
    pub(crate) fn set(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// There is so much in all.
    pub(crate) fn set_total(&self, total: u64) {
        self.bar.set_length(total);
    }

    /// What happens to it.
    pub(crate) fn say(&self, text: &str) {
        self.bar.set_message(shown(text).into_owned());
    }

    /// Moves the bar by the bytes of a report.
    pub(crate) fn reporter(&self) -> impl Fn(usize) + Send + 'static {
        let bar = self.bar.clone();
        move |count| bar.inc(u64::try_from(count).unwrap_or_default())
    }

    /// Removes the bar. If the work took long, a line with the result stays.
    pub(crate) fn done(self, text: &str) {
        if self.began.elapsed() < LONG {
            return;
        }
        let line = match self.bar.length() {
            Some(total) if total > 0 => format!("{}: {text} ({})", self.name, bytes(total)),
            _ => format!("{}: {text}", self.name),
        };
        if self.terminal {
            // A terminal that has gone away needs no line.
            let _ = self.all.println(shown(&line));
        } else {
            crate::output::note!("{line}");
        }
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Work of several steps. The bar is gone once this is.
pub(crate) struct Steps(ProgressBar);

impl Steps {
    pub(crate) fn new(what: &'static str, count: usize) -> Self {
        let bar = ProgressBar::new(count as u64).with_prefix(what);
        if let Ok(style) = ProgressStyle::with_template(STYLE) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Shows what is worked on now.
    pub(crate) fn working_on(self, what: impl Display) -> Self {
        self.0.set_message(shown(&what.to_string()).into_owned());
        self
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
